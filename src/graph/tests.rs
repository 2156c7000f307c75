//! Tests of the joining and the walk, and the notation they are written in.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod group;
mod join;
pub(crate) mod notation;
pub(crate) mod search;
mod silent;
mod sound;
pub(crate) mod truth;
mod walk;
