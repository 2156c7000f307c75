//! The iterator rung: one pass over all tasks' files, in the kernel.
//!
//! It turns what the kernel side hands over into the words of `flow`. It sees
//! sockets by their descriptors, so those that no process holds (TIME_WAIT,
//! waiting to be accepted, orphaned) are not there, and
//! `coverage.sockets_ownerless` stays 0. Not found either is what only
//! io_uring holds, or a message under way between two processes.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::net::SocketAddr;

use anyhow::Result;
use jiff::Timestamp;
use smallvec::SmallVec;

use crate::flow::bundle::Bundle;
use crate::flow::host::Rung;
use crate::flow::key::{Counters, Observation};
use crate::flow::socket::{Direction, Protocol, Snapshot, Socket, State};
use crate::probe::bpf::{Descriptor, Files, Key, Sum};
use crate::probe::owner::InodeHasher;
use crate::probe::surroundings::{Around, Surroundings};
use crate::probe::{ProbeConfig, diag};

/// Most sockets that come one by one; at about 100 bytes each.
const SOCKETS: usize = 4_000_000;

/// The rung, and what it keeps from scan to scan.
#[derive(Debug)]
pub struct Iterator {
    files: Files,
    surroundings: Surroundings,
}

/// Sockets that came one by one, each once.
#[derive(Debug, Default)]
struct Sockets {
    sockets: Vec<Socket>,
    at: HashMap<u64, u32, BuildHasherDefault<InodeHasher>>,
    malformed: u64,
    dropped: u64,
}

impl Iterator {
    /// Loads the kernel side.
    pub fn open(config: &ProbeConfig) -> Result<Iterator> {
        Ok(Iterator { files: Files::load()?, surroundings: Surroundings::open(config)? })
    }

    /// One scan, bundled in the kernel.
    pub fn observe(&mut self) -> Result<Observation> {
        let taken = Timestamp::now();
        let mut around = self.surroundings.look()?;
        let mut sockets = Sockets::default();
        let mut sums: Vec<(Key, Sum)> = Vec::new();
        let surroundings = &mut self.surroundings;
        let pass = self.files.bundle(
            |descriptor| sockets.add(descriptor, surroundings, &mut around),
            |key, sum| sums.push((key, sum)),
        )?;
        let bundles: Vec<Bundle> = sums
            .into_iter()
            .filter_map(|(key, sum)| bundle(key, sum, surroundings, &mut around))
            .collect();
        surroundings.end();
        around.coverage.processes += pass.processes;
        around.coverage.sockets += pass.bundled;
        around.coverage.malformed += pass.malformed;
        Ok(self.snapshot_of(taken, around, sockets).observe_with(&bundles))
    }

    /// One scan, socket by socket.
    pub fn snapshot(&mut self) -> Result<Snapshot> {
        let taken = Timestamp::now();
        let mut around = self.surroundings.look()?;
        let mut sockets = Sockets::default();
        let surroundings = &mut self.surroundings;
        let add = |descriptor| sockets.add(descriptor, surroundings, &mut around);
        let pass = self.files.list(add)?;
        self.surroundings.end();
        around.coverage.processes += pass.processes;
        around.coverage.malformed += pass.malformed;
        Ok(self.snapshot_of(taken, around, sockets))
    }

    fn snapshot_of(&self, taken: Timestamp, around: Around, sockets: Sockets) -> Snapshot {
        let mut coverage = around.coverage;
        coverage.sockets += sockets.sockets.len() as u64;
        coverage.malformed += sockets.malformed;
        coverage.flows_dropped += sockets.dropped;
        let unattributed = sockets.sockets.iter().filter(|socket| socket.owners.is_empty());
        coverage.sockets_unattributed += unattributed.count() as u64;
        Snapshot {
            taken,
            host: self.surroundings.host.clone(),
            rung: Rung::Iterator,
            namespaces: around.namespaces,
            instances: around.instances,
            sockets: sockets.sockets,
            coverage,
        }
    }
}

impl Sockets {
    fn add(&mut self, found: Descriptor, surroundings: &mut Surroundings, around: &mut Around) {
        let owner = surroundings.instance(around, found.pid);
        let at = match self.at.get(&found.inode) {
            Some(&at) => at as usize,
            None => {
                let Some(socket) = socket(&found, around) else {
                    self.malformed += 1;
                    return;
                };
                if self.sockets.len() == SOCKETS {
                    self.dropped += 1;
                    return;
                }
                self.at.insert(found.inode, self.sockets.len() as u32);
                self.sockets.push(socket);
                self.sockets.len() - 1
            }
        };
        // A process's descriptors come together, so a repeated owner is last.
        let owners = &mut self.sockets[at].owners;
        if let Some(owner) = owner
            && owners.last() != Some(&owner)
        {
            owners.push(owner);
        }
    }
}

fn socket(found: &Descriptor, around: &mut Around) -> Option<Socket> {
    Some(Socket {
        namespace: around.namespace(found.netns),
        protocol: found.protocol,
        state: diag::state(found.state)?,
        local: SocketAddr::from(found.local),
        peer: diag::present(SocketAddr::from(found.peer)),
        v6_only: found.v6_only,
        opened: found.opened,
        port_chosen: (found.protocol == Protocol::Udp).then_some(found.port_chosen),
        rtt_us: found.rtt_us,
        inode: found.inode,
        owners: SmallVec::new(),
    })
}

/// The sockets of one key as one. Those of a process that has ended since are
/// closed by now, for they had no other owner.
fn bundle(
    key: Key,
    sum: Sum,
    surroundings: &mut Surroundings,
    around: &mut Around,
) -> Option<Bundle> {
    let owner = surroundings.instance(around, key.pid);
    let (local, peer) = match key.direction {
        Direction::Passive => ((key.local, key.port), (key.peer, 0)),
        Direction::Active | Direction::Unknown => ((key.local, 0), (key.peer, key.port)),
    };
    let socket = Socket {
        namespace: around.namespace(key.netns),
        protocol: key.protocol,
        state: State::Established,
        local: SocketAddr::from(local),
        peer: Some(SocketAddr::from(peer)),
        v6_only: false,
        opened: key.direction,
        port_chosen: None,
        rtt_us: sum.rtt_us,
        // Any but 0, which would be nobody's.
        inode: u64::MAX,
        owners: owner.into_iter().collect(),
    };
    let counters = Counters {
        open: sum.open,
        connecting: sum.connecting,
        rtt_us: sum.rtt_us,
        ..Counters::default()
    };
    Some(Bundle { socket, counters })
}
