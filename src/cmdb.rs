//! The CMDB: keeps what each host saw, with time, and gives it back.
//!
//! It knows no graph: it never decides that two hosts' flows are one edge.
//! Two calls write and read it, [`Cmdb::record`] and [`Cmdb::around`]; a third,
//! [`Cmdb::find`], turns what a user named into the hosts to begin from.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;

use crate::flow::host::{Coverage, Rung};
use crate::flow::key::HostFlow;

/// A host's key in the CMDB: [`crate::flow::host::Host::hash`].
pub type HostKey = i64;

/// What a user asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// One address, canonical (never IPv4-mapped).
    Address(IpAddr),
    /// All addresses of a network.
    Network(IpNet),
    /// A host by name or by id.
    Host(String),
    /// A process by name (comm), on any host.
    Process(String),
    /// A service by port, on any host.
    Port(u16),
}

/// The range of time asked about. A flow is in it when one of its spans
/// overlaps it; both ends are inclusive, an absent one is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Beginning.
    pub since: Option<Timestamp>,
    /// End.
    pub until: Option<Timestamp>,
}

/// Where a walk begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Hosts with a probe that the selector means, or that have a flow it
    /// means.
    pub hosts: BTreeSet<HostKey>,
    /// Addresses without a host that the selector means, seen as a peer by
    /// somebody.
    pub addresses: BTreeSet<IpAddr>,
}

/// What was recorded around some hosts and addresses: their own flows, what
/// any host saw of them, and what is needed to join the two.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// Every host that is named below.
    pub hosts: Vec<HostRecord>,
    /// Who had which address, and when.
    pub addresses: Vec<AddressRecord>,
    /// The flows.
    pub flows: Vec<FlowRecord>,
}

/// A host that reports, or did.
#[derive(Clone, Debug, PartialEq)]
pub struct HostRecord {
    /// Key.
    pub key: HostKey,
    /// [`crate::flow::host::Host::id`].
    pub id: String,
    /// The name it last reported.
    pub name: String,
    /// The rung it last reported from.
    pub rung: Rung,
    /// What its last report did and did not see.
    pub coverage: Coverage,
    /// First report.
    pub first_seen: Timestamp,
    /// End of the last window it reported.
    pub last_seen: Timestamp,
}

/// An address that a host had in a scope, for a range of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressRecord {
    /// Whose.
    pub host: HostKey,
    /// In which network namespace.
    pub scope: Arc<str>,
    /// The address.
    pub address: IpAddr,
    /// From when.
    pub since: Timestamp,
    /// Until when it was surely there.
    pub until: Timestamp,
}

/// A host flow with its spans of time.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowRecord {
    /// Who saw it.
    pub host: HostKey,
    /// The flow, with its latest numbers.
    pub flow: HostFlow,
    /// The spans that overlap the window asked about, oldest first; not empty.
    pub spans: Vec<Span>,
    /// When it was first seen, be it before the window.
    pub first_seen: Timestamp,
}

/// A range of time in which a flow was alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First seen.
    pub since: Timestamp,
    /// Last seen, or for a span that has not ended: the end of the last window
    /// its host reported in that epoch.
    pub until: Timestamp,
    /// It was said to be over; else its host has just not spoken since.
    pub ended: bool,
}
