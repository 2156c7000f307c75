//! What a CMDB is asked and what it gives back: who, when, and the records.
//!
//! Plain values that `cmdb`, `wire` and `graph` share; nothing here knows how
//! they are stored, sent or joined.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};

use crate::flow::host::{Coverage, Rung};
use crate::flow::key::HostFlow;

/// A host's key in the CMDB: [`crate::flow::host::Host::hash`].
pub type HostKey = i64;

/// One run of a probe: its host, and its epoch.
pub type Run = (HostKey, i64);

/// What a user asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// Every host that reports.
    All,
    /// What people call so: a name, role or group. The CMDB knows none of them,
    /// and is asked for all.
    Label(String),
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
    /// What is offered at a port of one place.
    Service(Spot, u16),
}

/// The place of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spot {
    /// One address, canonical.
    Address(IpAddr),
    /// A host by name or by id.
    Host(String),
}

impl Selector {
    /// The one port that is meant.
    pub fn port(&self) -> Option<u16> {
        match self {
            Selector::Port(port) | Selector::Service(_, port) => Some(*port),
            _ => None,
        }
    }

    /// The one address that is meant.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Selector::Address(address) | Selector::Service(Spot::Address(address), _) => {
                Some(*address)
            }
            _ => None,
        }
    }
}

impl Spot {
    /// All of it, whatever the port: what a CMDB is asked for. Which of it is at
    /// the port is known by the edges, and so in the graph.
    pub fn whole(&self) -> Selector {
        match self {
            Spot::Address(address) => Selector::Address(*address),
            Spot::Host(name) => Selector::Host(name.clone()),
        }
    }

    /// With a port, as people write it.
    pub fn at(&self, port: u16) -> String {
        match self {
            Spot::Address(address) => SocketAddr::new(*address, port).to_string(),
            Spot::Host(name) => format!("{name}:{port}"),
        }
    }
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

impl Window {
    /// The least range of time that both are in.
    pub fn hull(self, other: Window) -> Window {
        Window {
            since: self.since.zip(other.since).map(|(a, b)| a.min(b)),
            until: self.until.zip(other.until).map(|(a, b)| a.max(b)),
        }
    }
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

/// What has a text in its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Names and ids of hosts.
    pub hosts: Vec<(String, String)>,
    /// Names of processes, and on how many hosts there are such.
    pub processes: Vec<(String, u64)>,
    /// There are more hosts or processes.
    pub more: bool,
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
    /// Names under which probes report as this host at the same time: a
    /// cloned machine id, or two probes on one machine.
    pub rivals: BTreeSet<String>,
    /// Its clock less the CMDB's, when it last spoke.
    pub skew: SignedDuration,
    /// When a probe ran there for five seconds or longer: ranges in order, none
    /// touching the next. Between them nobody looked, or `prune` forgot what was
    /// seen.
    pub watched: Vec<(Timestamp, Timestamp)>,
    /// Until when they saw less than they might.
    pub dim: Dim,
}

/// The latest moments at which a probe that watched a host saw less than one
/// might; none where none ever did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dim {
    /// It polled.
    pub polled: Option<Timestamp>,
    /// It did not see everything.
    pub blind: Option<Timestamp>,
    /// That, or not whose all of it was.
    pub unowned: Option<Timestamp>,
}

impl HostRecord {
    /// Whether its clock differs so much that windows of time mean another
    /// thing there: 30 s, the standard time between two reports.
    pub fn is_skewed(&self) -> bool {
        self.skew.unsigned_abs() > std::time::Duration::from_secs(30)
    }
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
    /// Where the last of the spans was cut off with the run of the probe that
    /// saw it, and a later run saw it go on after the window: the latest span.
    pub later: Option<Span>,
}

/// A range of time in which a flow was alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First seen.
    pub since: Timestamp,
    /// Last seen, or for a span that has not ended: the end of the last window
    /// its host reported in that epoch.
    pub until: Timestamp,
    /// It was said to be over, or its host's probe has started again since and
    /// did not see it any more; else its host has just not spoken since.
    pub ended: bool,
}

/// What a flow's totals rose by in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Who saw it.
    pub host: HostKey,
    /// The flow: [`crate::flow::key::FlowKey::hash`].
    pub flow: i64,
    /// The sums.
    pub sums: Sums,
}

/// Sums over time. A number that its host could not know, or whose beginning
/// is no longer kept, is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Connections opened.
    pub opened: Option<u64>,
    /// Attempts to connect that failed.
    pub failed: Option<u64>,
    /// Bytes of payload sent and acknowledged.
    pub bytes_sent: Option<u64>,
    /// Bytes of payload received.
    pub bytes_received: Option<u64>,
    /// TCP segments retransmitted.
    pub retransmits: Option<u64>,
}

/// What somebody may do with a CMDB behind a collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Report, about one host.
    Write,
    /// Ask.
    Read,
    /// Everything.
    Admin,
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 3] = [Role::Write, Role::Read, Role::Admin];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Write => "write",
            Role::Read => "read",
            Role::Admin => "admin",
        }
    }

    /// What a word means.
    pub fn of(word: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == word)
    }
}

/// A token that was made, without what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// The beginning of its hash.
    pub id: String,
    /// Whose it is, in the words of who made it.
    pub name: String,
    /// What it is good for.
    pub role: Role,
    /// The id of the one host that it may report about.
    pub host: Option<String>,
    /// When it was made, by the CMDB's clock, as the two below.
    pub created: Timestamp,
    /// When it ends by itself.
    pub expires: Option<Timestamp>,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
}
