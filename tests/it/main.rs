//! The outer tests, in one binary: they drive `shawk` as a user does.

mod bpf;
mod cli;
mod cmdb;
mod lab;
mod postgres;
mod streaming;
