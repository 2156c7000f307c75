//! The outer tests, in one binary: they drive real servers and the public
//! functions as the commands do.

mod cmdb;
mod postgres;
