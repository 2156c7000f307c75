//! Observations over a window → the report of what changed.
