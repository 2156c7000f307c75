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
use crate::flow::socket::{Protocol, Snapshot, Socket, State};
use crate::probe::bpf::record::{Descriptor, Key, Sum};
use crate::probe::bpf::{Kernel, Pass};
use crate::probe::owner::InodeHasher;
use crate::probe::surroundings::{Around, Surroundings};
use crate::probe::{ProbeConfig, diag};

/// Most sockets that come one by one; at about 100 bytes each.
const SOCKETS: usize = 4_000_000;

/// The rung, and what it keeps from scan to scan.
#[derive(Debug)]
pub struct Iterator {
    kernel: Kernel,
    surroundings: Surroundings,
}

/// What one pass found.
pub(crate) struct Scan {
    pub(crate) taken: Timestamp,
    pub(crate) around: Around,
    pub(crate) sockets: Sockets,
    pub(crate) sums: Vec<(Key, Sum)>,
    pub(crate) pass: Pass,
}

/// Sockets that came one by one, each once.
#[derive(Debug, Default)]
pub struct Sockets {
    sockets: Vec<Socket>,
    at: HashMap<u64, u32, BuildHasherDefault<InodeHasher>>,
    malformed: u64,
    dropped: u64,
}

impl Iterator {
    /// A probe over a kernel side that was loaded.
    pub fn open(config: &ProbeConfig, kernel: Kernel) -> Result<Iterator> {
        Ok(Iterator { kernel, surroundings: Surroundings::open(config)? })
    }

    /// One scan, bundled in the kernel.
    pub fn observe(&mut self) -> Result<Observation> {
        let surroundings = &mut self.surroundings;
        let Scan { taken, mut around, sockets, sums, pass } = scan(&mut self.kernel, surroundings)?;
        let mut bundles = Vec::with_capacity(sums.len());
        for (key, sum) in sums {
            // Those of a process that has ended since are closed by now, for
            // they had no other owner.
            let owner = surroundings.instance(&mut around, key.pid);
            let counters = Counters {
                open: sum.open,
                connecting: sum.connecting,
                rtt_us: sum.rtt_us,
                ..Counters::default()
            };
            bundles.extend(owner.map(|owner| bundle(key, Some(owner), counters, &mut around)));
        }
        surroundings.end();
        around.coverage.sockets += pass.bundled;
        let snapshot = sockets.snapshot(taken, Rung::Iterator, surroundings, around, pass);
        Ok(snapshot.observe_with(&bundles))
    }

    /// One scan, socket by socket.
    pub fn snapshot(&mut self) -> Result<Snapshot> {
        list(&mut self.kernel, &mut self.surroundings, Rung::Iterator)
    }
}

/// One pass, bundled in the kernel but for what it leaves to us.
pub(crate) fn scan(kernel: &mut Kernel, surroundings: &mut Surroundings) -> Result<Scan> {
    let taken = Timestamp::now();
    let mut around = surroundings.look()?;
    let mut sockets = Sockets::default();
    let mut sums = Vec::new();
    let pass = kernel.bundle(
        |descriptor| sockets.add(descriptor, surroundings, &mut around),
        |key, sum| sums.push((key, sum)),
    )?;
    Ok(Scan { taken, around, sockets, sums, pass })
}

/// All sockets that descriptors lead to, one by one.
pub fn list(kernel: &mut Kernel, surroundings: &mut Surroundings, rung: Rung) -> Result<Snapshot> {
    let taken = Timestamp::now();
    let mut around = surroundings.look()?;
    let mut sockets = Sockets::default();
    let pass = kernel.list(|descriptor| sockets.add(descriptor, surroundings, &mut around))?;
    surroundings.end();
    Ok(sockets.snapshot(taken, rung, surroundings, around, pass))
}

impl Sockets {
    /// What a pass found, as a snapshot.
    pub fn snapshot(
        self,
        taken: Timestamp,
        rung: Rung,
        surroundings: &Surroundings,
        around: Around,
        pass: Pass,
    ) -> Snapshot {
        let mut coverage = around.coverage;
        coverage.processes += pass.processes;
        coverage.sockets += self.sockets.len() as u64;
        coverage.malformed += self.malformed + pass.malformed;
        coverage.flows_dropped += self.dropped;
        let unattributed = self.sockets.iter().filter(|socket| socket.owners.is_empty());
        coverage.sockets_unattributed += unattributed.count() as u64;
        Snapshot {
            taken,
            host: surroundings.host.clone(),
            rung,
            namespaces: around.namespaces,
            instances: around.instances,
            sockets: self.sockets,
            coverage,
        }
    }

    /// Takes in a descriptor.
    pub fn add(&mut self, found: Descriptor, surroundings: &mut Surroundings, around: &mut Around) {
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

/// The sockets of one key as one, with the owner given.
pub fn bundle(key: Key, owner: Option<u32>, counters: Counters, around: &mut Around) -> Bundle {
    let socket = Socket {
        namespace: around.namespace(key.netns),
        protocol: key.protocol,
        state: State::Established,
        local: SocketAddr::from(key.local),
        peer: Some(SocketAddr::from(key.peer)),
        v6_only: false,
        opened: key.opened,
        port_chosen: (key.protocol == Protocol::Udp).then_some(key.port_chosen),
        rtt_us: counters.rtt_us,
        // Any but 0, which would be nobody's.
        inode: u64::MAX,
        owners: owner.into_iter().collect(),
    };
    Bundle { socket, counters }
}
