//! The probe: reads a host's sockets and says whose they are.
//!
//! It decides nothing about the fleet. Facts about the kernel stay here: what
//! leaves this room is a [`Snapshot`], and nobody further down sees a message
//! of the kernel or a path of `/proc`.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::flow::host::Rung;
use crate::flow::key::Observation;
use crate::flow::socket::Snapshot;
use crate::probe::iterator::Iterator;
use crate::probe::netlink::Netlink;
use crate::probe::streaming::Streaming;
use crate::probe::support::Loaded;

pub mod bpf;
pub mod cgroup;
pub mod channel;
pub mod choose;
pub mod diag;
pub mod identity;
pub mod iterator;
pub mod machine;
pub mod message;
pub mod namespace;
pub mod netlink;
pub mod owner;
pub mod procfs;
pub mod procnet;
pub mod record;
pub mod rights;
pub mod streaming;
pub mod support;
pub mod surroundings;
pub mod tcp_info;

/// What a probe is told from outside.
#[derive(Clone, Debug)]
pub struct ProbeConfig {
    /// The host's id, in place of the one derived from the machine id.
    pub host_id: Option<String>,
    /// The host's name, in place of the kernel's.
    pub hostname: Option<String>,
    /// Where procfs is mounted: `/proc`, but for tests and odd containers.
    pub proc: PathBuf,
}

/// A source of snapshots.
#[derive(Debug)]
pub enum Probe {
    /// Tracepoints between such passes.
    Streaming(Box<Streaming>),
    /// One pass of the kernel over all tasks' files.
    Iterator(Box<Iterator>),
    /// sock_diag or `/proc/net`, and `/proc`.
    Netlink(Box<Netlink>),
}

impl Probe {
    /// A probe on a rung that was chosen (see [`choose::choose`]) from the facts
    /// that came with `loaded`.
    pub fn open(config: &ProbeConfig, rung: Rung, loaded: Loaded) -> Result<Probe> {
        Ok(match (rung, loaded) {
            (Rung::Streaming, Loaded::Streaming(kernel, events)) => {
                Probe::Streaming(Box::new(Streaming::open(config, *kernel, events)?))
            }
            (Rung::Iterator, Loaded::Iterator(kernel)) => {
                Probe::Iterator(Box::new(Iterator::open(config, *kernel)?))
            }
            (Rung::Streaming | Rung::Iterator, _) => {
                bail!("nothing was loaded for the rung {}", rung.name())
            }
            (Rung::Netlink, _) => Probe::Netlink(Box::new(Netlink::open(config, true)?)),
            (Rung::Procfs, _) => Probe::Netlink(Box::new(Netlink::open(config, false)?)),
        })
    }

    /// Reads all sockets once. Blocks for as long as that takes, and moves
    /// the calling thread through the host's network namespaces meanwhile, so
    /// it wants a thread of its own. What could not be seen does not fail it;
    /// it is counted in [`Snapshot::coverage`].
    pub fn snapshot(&mut self) -> Result<Snapshot> {
        match self {
            Probe::Streaming(streaming) => streaming.snapshot(),
            Probe::Iterator(iterator) => iterator.snapshot(),
            Probe::Netlink(netlink) => netlink.snapshot(),
        }
    }

    /// Reads all host flows once, as [`Probe::snapshot`] does the sockets, and
    /// where the kernel adds them up, for a fraction of the cost.
    pub fn observe(&mut self) -> Result<Observation> {
        match self {
            Probe::Streaming(streaming) => streaming.observe(),
            Probe::Iterator(iterator) => iterator.observe(),
            Probe::Netlink(netlink) => Ok(netlink.snapshot()?.observe()),
        }
    }
}
