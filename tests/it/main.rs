//! The outer tests, in one binary: they drive `shawk` as a user does.

mod lab;
