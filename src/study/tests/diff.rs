//! What differs between two moments, case by case.
