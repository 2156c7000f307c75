//! What hosts saw, joined into edges: an active process depends on a passive
//! one at a port.
//!
//! From here on it is `active` and `passive`, no longer `local` and `peer`.
//! All of it is pure: no clock, no file, no query. What is said about an edge
//! is what was seen; what could not be told is a value of its own and never a
//! guess, least of all from a port number.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use jiff::Timestamp;
use smallvec::SmallVec;

use crate::flow::host::Rung;
use crate::flow::process::Process;
use crate::flow::socket::Protocol;
use crate::labels::Label;
use crate::recall::{AddressRecord, HostKey, HostRecord};

mod address;
pub mod group;
mod index;
pub mod join;
mod label;
mod merge;
mod mirror;
pub mod page;
mod resolve;
mod rise;
pub mod roots;
pub mod search;
mod service;
mod silence;
#[cfg(test)]
pub(crate) mod tests;
mod times;
mod unknown;
pub mod walk;

/// Index into [`Graph::nodes`].
pub type NodeId = usize;

/// Index into [`Graph::edges`].
pub type EdgeId = usize;

/// Nodes and edges, in an order that depends on nothing but what was seen.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// What edges run between, and every service that waits.
    pub nodes: Vec<Node>,
    /// Each edge once, whoever told of it.
    pub edges: Vec<Edge>,
    /// The records that told of each edge, in the order of the edges.
    pub tellers: Vec<SmallVec<[Teller; 2]>>,
    /// Every service that waits, with the record that told of it, by node.
    pub listeners: Vec<Listener>,
    /// The hosts that report.
    pub hosts: BTreeMap<HostKey, HostRecord>,
    /// Who had which address.
    pub addresses: Vec<AddressRecord>,
    /// Records that no probe of ours writes (an active flow without a peer,
    /// say), passed over.
    pub malformed: u64,
}

/// A network namespace of a host: where an address and a port mean something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The host.
    pub host: HostKey,
    /// [`crate::flow::host::Namespace::scope`].
    pub scope: Arc<str>,
}

/// What makes two ends the same node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// A process that was seen.
    Process {
        /// Where it has its sockets.
        place: Place,
        /// Which.
        process: Arc<Process>,
        /// Its process group: two applications that one supervisor runs from
        /// one program are two nodes. Absent where no owner was recorded.
        pgid: Option<u32>,
    },
    /// An end on a host that reports, whose process was not seen.
    Unseen {
        /// Where.
        place: Place,
        /// The port, where it is a service's.
        port: Option<u16>,
    },
    /// An address that no one host is known to have.
    Peer {
        /// The address.
        address: IpAddr,
        /// The port, where it is a service's.
        port: Option<u16>,
        /// For a link-local address, the place whose link it is on.
        link: Option<Place>,
    },
}

/// One end of edges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub identity: Identity,
    /// Process id of the owner that names it.
    pub pid: Option<u32>,
    /// Owners that its host saw beyond those it named.
    pub owners_more: u32,
    /// Where it waits to be called.
    pub listens: BTreeSet<Listen>,
    /// For an address that several hosts have: these.
    pub claimed_by: BTreeSet<HostKey>,
    /// What people call it.
    pub label: Option<Label>,
}

/// A port that a process listens at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listen {
    /// Transport protocol.
    pub protocol: Protocol,
    /// The address it is bound to; may be unspecified.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

/// A record that told of a service that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// Who waits.
    pub node: NodeId,
    /// Where.
    pub listen: Listen,
    /// Where it stands in [`crate::recall::Records::flows`].
    pub record: u32,
}

/// The active node depends on the passive one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Who opened it. Where `directed` is false, the end with the lower
    /// address and port, which says nothing about who did.
    pub active: NodeId,
    /// Who was opened.
    pub passive: NodeId,
    /// It is known who opened it.
    pub directed: bool,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port of the passive end.
    pub port: u16,
    /// Port of the active end, which matters only where `directed` is false.
    pub active_port: Option<u16>,
    /// The address the active end used.
    pub active_address: IpAddr,
    /// The address the passive end used.
    pub passive_address: IpAddr,
    /// Which ends told of it.
    pub told_by: ToldBy,
    /// How far it can be believed.
    pub confidence: Confidence,
    /// How the hosts that told of it read their sockets.
    pub rungs: BTreeSet<Rung>,
    /// When it was first seen, be it before the window asked about.
    pub first_seen: Timestamp,
    /// When it was last seen.
    pub last_seen: Timestamp,
    /// It was seen to end. Otherwise it is alive if its hosts still report.
    pub ended: bool,
    /// As of `last_seen`, every attempt of the active end is without answer.
    pub failing: bool,
    /// Numbers.
    pub traffic: Traffic,
    /// What its numbers rose by in the window asked about, where that was
    /// asked for and somebody counted.
    pub rise: Option<Rise>,
}

/// A record that told of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Teller {
    /// Where it stands in [`crate::recall::Records::flows`].
    pub record: u32,
    /// It is the active end's.
    pub by_active: bool,
}

/// What the numbers of an edge rose by, told by one end. What that could not
/// count is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rise {
    /// The active end told.
    pub by_active: bool,
    /// Connections opened.
    pub opened: Option<u64>,
    /// Attempts that failed.
    pub failed: Option<u64>,
    /// Payload bytes from the active to the passive end.
    pub bytes_to_passive: Option<u64>,
    /// Payload bytes from the passive to the active end.
    pub bytes_to_active: Option<u64>,
    /// TCP segments retransmitted by the end that told.
    pub retransmits: Option<u64>,
}

/// Which ends told of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ToldBy {
    /// The one that opened it.
    Active,
    /// The one that was opened.
    Passive,
    /// Both.
    Both,
}

/// How far an edge can be believed, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Confidence {
    /// Both ends saw it at the same time.
    Confirmed,
    /// Both ends saw it, but never within the tolerance of one another.
    Apart,
    /// One end saw it; the other one's host reports, and did not, or was silent
    /// then.
    OneEnd,
    /// One end saw it; the other one's address belongs to nobody who reports.
    NoProbe,
    /// The other end's address belongs to several hosts, and nothing tells
    /// which one is meant.
    Ambiguous,
    /// Nothing tells which end opened it.
    DirectionUnknown,
}

/// Numbers of an edge, told by its active end where that one reports, else by
/// the passive one. What nobody could count is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections open when last seen; none if it has ended.
    pub open: u64,
    /// Of these, the ones without an answer so far.
    pub connecting: u64,
    /// Connections opened, in total.
    pub opened: Option<u64>,
    /// Attempts that failed, in total.
    pub failed: Option<u64>,
    /// Of these, the ones that were refused.
    pub refused: Option<u64>,
    /// Of these, the ones that nobody answered in time.
    pub timed_out: Option<u64>,
    /// Of these, the ones that were told there is no way.
    pub unreachable: Option<u64>,
    /// Payload bytes from the active to the passive end.
    pub bytes_to_passive: Option<u64>,
    /// Payload bytes from the passive to the active end.
    pub bytes_to_active: Option<u64>,
    /// TCP segments retransmitted by the end that told.
    pub retransmits: Option<u64>,
    /// Smallest smoothed round-trip time, microseconds.
    pub rtt_us: Option<u32>,
    /// How many edges these same numbers stand for: a host flow that belongs
    /// to two process groups has its numbers once. 1 for an edge of its own.
    pub shared: u32,
}

impl Identity {
    /// Where it is, if a host that reports has it.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Identity::Process { place, .. } | Identity::Unseen { place, .. } => Some(place),
            Identity::Peer { .. } => None,
        }
    }

    /// The process, if it was seen.
    pub fn process(&self) -> Option<&Process> {
        match self {
            Identity::Process { process, .. } => Some(process),
            Identity::Unseen { .. } | Identity::Peer { .. } => None,
        }
    }
}

impl Edge {
    /// The node at the other end of it.
    pub fn other(&self, node: NodeId) -> NodeId {
        if node == self.active { self.passive } else { self.active }
    }
}

impl Listen {
    /// Whether a connection to this address and port arrives here.
    pub fn accepts(&self, address: IpAddr, port: u16) -> bool {
        self.port == port && covers(self.address, address)
    }

    /// All that accept a connection to this address and port, the most exact
    /// first.
    pub fn accepting(protocol: Protocol, address: IpAddr, port: u16) -> impl Iterator<Item = Self> {
        let v4 = address.is_ipv4().then_some(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let bound = [Some(address), v4, Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED))];
        bound.into_iter().flatten().map(move |address| Listen { protocol, address, port })
    }
}

impl ToldBy {
    /// The word for it in output.
    pub const fn name(self) -> &'static str {
        match self {
            ToldBy::Active => "active",
            ToldBy::Passive => "passive",
            ToldBy::Both => "both",
        }
    }
}

impl Confidence {
    /// The words for it in output.
    pub const fn words(self) -> &'static str {
        match self {
            Confidence::Confirmed => "confirmed",
            Confidence::Apart => "both ends, at different times",
            Confidence::OneEnd => "one end",
            Confidence::NoProbe => "one end, no probe at the other",
            Confidence::Ambiguous => "unresolved, several hosts have the address",
            Confidence::DirectionUnknown => "unresolved, direction unknown",
        }
    }
}

/// Whether a socket bound to `bound` gets what is sent to `address`. A
/// listener on `::` also accepts IPv4, unless it was told not to, which a flow
/// does not record; the caller asks the IPv4 wildcard first.
pub(crate) fn covers(bound: IpAddr, address: IpAddr) -> bool {
    bound == address
        || (bound.is_unspecified() && (bound.is_ipv6() || bound.is_ipv4() == address.is_ipv4()))
}

/// Whether an address means something only inside one place: loopback,
/// unspecified and link-local (RFC 4291 2.4, RFC 3927).
pub(crate) fn only_inside(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified() || link_local(address)
}

/// Link-local, of either family.
pub(crate) fn link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
