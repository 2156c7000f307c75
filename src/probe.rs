//! The probe: reads a host's sockets and says whose they are.
//!
//! It decides nothing about the fleet. Facts about the kernel stay here: what
//! leaves this room is a [`Snapshot`], and nobody further down sees a message
//! of the kernel or a path of `/proc`.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::flow::socket::Snapshot;
use crate::probe::netlink::Netlink;
use crate::probe::record::Replay;

pub mod cgroup;
pub mod channel;
pub mod diag;
pub mod identity;
pub mod machine;
pub mod message;
pub mod namespace;
pub mod netlink;
pub mod owner;
pub mod procfs;
pub mod procnet;
pub mod record;
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
    /// sock_diag and `/proc`.
    Netlink(Box<Netlink>),
    /// A file that was recorded before.
    Replay(Box<Replay>),
}

impl Probe {
    /// A probe of this host's kernel. Fails where the host has no id, or no
    /// `/proc`.
    pub fn netlink(config: &ProbeConfig) -> Result<Probe> {
        Ok(Probe::Netlink(Box::new(Netlink::open(config)?)))
    }

    /// A probe of the file at `path`: each snapshot in it once and in order,
    /// then the last again and again.
    pub fn replay(path: &Path) -> Result<Probe> {
        Ok(Probe::Replay(Box::new(Replay::open(path)?)))
    }

    /// Reads all sockets once. Blocks for as long as that takes, and moves
    /// the calling thread through the host's network namespaces meanwhile, so
    /// it wants a thread of its own. What could not be seen does not fail it;
    /// it is counted in [`Snapshot::coverage`].
    pub fn snapshot(&mut self) -> Result<Snapshot> {
        match self {
            Probe::Netlink(netlink) => netlink.snapshot(),
            Probe::Replay(replay) => replay.snapshot(),
        }
    }
}
