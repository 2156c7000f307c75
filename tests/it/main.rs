//! The outer tests, in one binary: they drive `shawk` as a user does.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod bpf;
#[cfg(citus)]
mod citus;
mod cli;
mod cmdb;
mod history;
mod killed;
mod lab;
mod netns;
mod page;
mod postgres;
mod probe;
mod serve;
mod silence;
mod spool;
mod streaming;
mod unheard;
