//! What stays the same of an end when it is restarted, redeployed or seen by
//! another of its owners.
//!
//! Process ids and groups, executables and the ids of containers change with
//! every restart and are no part of it. What is the same by its scope and unit
//! is matched first, and what is left by what outlives a container, too.

use std::net::IpAddr;
use std::sync::Arc;

use crate::flow::filter::is_private;
use crate::flow::process::Process;
use crate::flow::socket::Protocol;
use crate::graph::{Edge, Graph, Identity, Listen, NodeId};
use crate::recall::HostKey;

/// How much of an end is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grade {
    /// With its scope and unit, and a peer's address.
    Exact,
    /// Without what a restarted container has anew: the id in its scope, its
    /// unit, the address it is bound to; peers outside stand for one another.
    Loose,
}

/// What an edge is known by at both moments.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EdgeKey {
    pub(crate) active: End,
    /// Without a process: a port stays what it is when another process serves
    /// it.
    pub(crate) passive: End,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    pub(crate) active_port: Option<u16>,
}

/// What a listener is known by at both moments.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ListenerKey {
    pub(crate) place: (HostKey, Arc<str>),
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    pub(crate) bound: Bound,
}

/// An end that outlives what it runs as.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum End {
    /// On a host that reports.
    Here { host: HostKey, scope: Arc<str>, process: Option<Name> },
    /// Elsewhere.
    Peer(IpAddr),
    /// Somewhere in the internet: clients there come and go.
    Public,
}

/// A process by what outlives its restart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Its name (comm).
    pub name: String,
    /// Its systemd service, if it has one and that is compared.
    pub(crate) unit: Option<String>,
}

/// Where a listener is bound.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Bound {
    Loopback,
    Any,
    At(IpAddr),
    Somewhere,
}

impl EdgeKey {
    pub(crate) fn of(graph: &Graph, edge: &Edge) -> EdgeKey {
        let without_process = |end| match end {
            End::Here { host, scope, .. } => End::Here { host, scope, process: None },
            other => other,
        };
        let active = End::of(graph, edge.active);
        // A client's address in the internet means nobody; a service's does.
        let active = match active {
            End::Peer(address) if edge.directed && !is_private(address) => End::Public,
            other => other,
        };
        EdgeKey {
            active,
            passive: without_process(End::of(graph, edge.passive)),
            protocol: edge.protocol,
            port: edge.port,
            active_port: edge.active_port,
        }
    }

    /// What of it outlives a restart.
    pub(crate) fn loosened(&self) -> EdgeKey {
        let (active, passive) = (self.active.loosened(), self.passive.loosened());
        EdgeKey { active, passive, ..*self }
    }

    /// The same edge of whatever process.
    pub(crate) fn of_any_process(&self) -> EdgeKey {
        let active = match &self.active {
            End::Here { host, scope, .. } => {
                End::Here { host: *host, scope: Arc::clone(scope), process: None }
            }
            other => other.clone(),
        };
        EdgeKey { active, ..self.clone() }
    }

    /// Whether the process at its active end was not seen.
    pub(crate) fn is_unseen(&self) -> bool {
        matches!(self.active, End::Here { process: None, .. })
    }
}

impl End {
    fn of(graph: &Graph, node: NodeId) -> End {
        let identity = &graph.nodes[node].identity;
        let process = identity.process();
        match identity {
            Identity::Peer { address, .. } => End::Peer(*address),
            Identity::Process { place, .. } | Identity::Unseen { place, .. } => End::Here {
                host: place.host,
                scope: Arc::clone(&place.scope),
                process: process.map(|process| Name::of(process, Grade::Exact)),
            },
        }
    }

    fn loosened(&self) -> End {
        match self {
            End::Here { host, scope: of, process } => End::Here {
                host: *host,
                scope: scope(of, Grade::Loose),
                process: process.as_ref().map(|name| Name { name: name.name.clone(), unit: None }),
            },
            End::Peer(address) if !is_private(*address) => End::Public,
            End::Peer(_) | End::Public => self.clone(),
        }
    }

    /// The host that it is on, if that reports.
    pub(crate) fn host(&self) -> Option<HostKey> {
        match self {
            End::Here { host, .. } => Some(*host),
            End::Peer(_) | End::Public => None,
        }
    }

    /// Whether it is another one with each start.
    pub(crate) fn is_fleeting(&self) -> bool {
        matches!(self, End::Here { scope, .. } if is_fleeting(scope))
    }
}

impl ListenerKey {
    pub(crate) fn of(
        graph: &Graph,
        node: NodeId,
        listen: &Listen,
        grade: Grade,
    ) -> Option<ListenerKey> {
        let place = graph.nodes[node].identity.place()?;
        let bound = match (listen.address, grade) {
            (address, _) if address.is_loopback() => Bound::Loopback,
            (address, Grade::Loose) if address.is_unspecified() => Bound::Any,
            (_, Grade::Loose) => Bound::Somewhere,
            (address, Grade::Exact) => Bound::At(address),
        };
        Some(ListenerKey {
            place: (place.host, scope(&place.scope, grade)),
            protocol: listen.protocol,
            port: listen.port,
            bound,
        })
    }
}

impl Name {
    pub(crate) fn of(process: &Process, grade: Grade) -> Name {
        let unit = process.unit.as_deref().filter(|unit| {
            grade == Grade::Exact && unit.ends_with(".service") && !unit.starts_with("run-")
        });
        Name { name: process.name.clone(), unit: unit.map(str::to_owned) }
    }
}

/// A scope; loosely one without the id that a container or an unnamed
/// namespace has for its life.
fn scope(scope: &Arc<str>, grade: Grade) -> Arc<str> {
    match scope.split_once(':') {
        Some((kind, _)) if grade == Grade::Loose && is_fleeting(scope) => Arc::from(kind),
        _ => Arc::clone(scope),
    }
}

/// Whether a scope is another one after a restart.
pub(crate) fn is_fleeting(scope: &str) -> bool {
    scope.starts_with("container:") || scope.starts_with("net:")
}
