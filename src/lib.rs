//! shawk: what talks to what, on a fleet of plain Linux hosts.
//!
//! This library exists for the binary, the benches and the fuzz targets; it
//! is not an API that others are promised. The rooms stand in the order in
//! which data walks through them, and no room may know one further down:
//! kernel → `probe` → `flow` → `agent` → `cmdb` → `graph` → `view`.
//! `ARCHITECTURE.md` has the map.

pub mod agent;
pub mod ask;
pub mod cli;
pub mod cmdb;
pub mod daemon;
pub mod flow;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod graph;
pub mod labels;
pub mod look;
pub mod probe;
pub mod prometheus;
pub mod recall;
pub mod run;
pub mod serve;
pub mod study;
pub mod view;
pub mod wire;
