//! The walk and the roots, case by case.
