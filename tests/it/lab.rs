//! The lab: hosts made of Linux namespaces, real programs on them, a probe on
//! each, and the graph compared with the truth, edge for edge.
//!
//! A host is a network, pid, UTS and mount namespace with its own `/proc` and
//! `/run`. A veth pair ties it to a bridge in one more network namespace, so
//! all traffic stays inside and no name, address or port can meet another
//! lab's. Whatever becomes of the test process, the hosts go with it: each
//! host's first process ends when the pipe from the test does, and the kernel
//! ends the rest.
//!
//! A truth is written down as lines, one per edge:
//! `client-1/wrk 10.77.0.20 -> web-1/nginx 10.77.0.10 tcp/80 both`. It is held
//! against the sockets themselves first (`ss` in every namespace, see
//! [`ss`]), then against `shawk look`. So a lab that went wrong is told apart
//! from a shawk that did.
//!
//! The lab needs root and Debian's nginx, redis, PostgreSQL, haproxy, dnsmasq,
//! curl, wrk, python3, iproute2, nftables, iptables and util-linux. Where one is missing the tests
//! fail and say so.

mod cmdb;
mod host;
mod network;
mod program;
mod shawk;
mod ss;
mod truth;
mod wait;

mod addresses;
mod daemons;
mod failover;
mod fleet;
mod impact;
mod inquiries;
mod names;
mod namespaces;
mod owners;
mod page;
mod policy;
mod states;
