//! Everything that is tested from outside: on a kernel, as root.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod netns;
mod probe;
