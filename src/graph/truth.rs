//! Random truths.
