//! The probe: reads a host's sockets and says whose they are.
//!
//! It decides nothing about the fleet. Facts about the kernel stay here.
