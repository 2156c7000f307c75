//! The pure middle: sockets become host flows, host flows become reports.
//!
//! Nothing here knows a kernel, a file, a clock, a database or a network.

pub mod bundle;
pub mod filter;
pub mod host;
pub mod key;
pub mod process;
pub mod report;
pub mod socket;
pub mod tally;
