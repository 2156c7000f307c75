//! Addresses that talk to hosts with a probe and have none, and how much a
//! probe there would explain.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;

use crate::flow::filter::is_private;
use crate::flow::socket::Protocol;
use crate::graph::search::Answer;
use crate::graph::{Edge, Identity, NodeId};
use crate::recall::HostKey;

/// Peers without a probe.
#[derive(Debug, Default)]
pub struct Unexplained {
    /// The one with the most edges first.
    pub peers: Vec<Peer>,
    /// Addresses that several hosts with a probe have, where nothing tells
    /// which is meant: another probe would not tell.
    pub ambiguous: usize,
}

/// An address without a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The address.
    pub address: IpAddr,
    /// One of its nodes: what people call an address, they call all of them.
    pub node: NodeId,
    /// It is of the internet, and perhaps nobody's here.
    pub public: bool,
    /// Edges of which a probe there would name the process.
    pub edges: usize,
    /// The hosts that it talks to.
    pub hosts: BTreeSet<HostKey>,
    /// What it is called for: edges by protocol and port.
    pub offers: BTreeMap<(Protocol, u16), usize>,
    /// What it calls: edges by who is called, protocol and port.
    pub uses: BTreeMap<(NodeId, Protocol, u16), usize>,
    /// When an edge of it was first seen.
    pub first_seen: Timestamp,
    /// When one was last seen.
    pub last_seen: Timestamp,
}

/// Peers without a probe among the ends of an answer's edges.
pub fn unexplained(answer: &Answer) -> Unexplained {
    let mut peers: BTreeMap<IpAddr, Peer> = BTreeMap::new();
    let mut ambiguous = BTreeSet::new();
    let edges: BTreeSet<_> = answer.walk.steps.iter().map(|step| step.edge).collect();
    for edge in edges.into_iter().map(|id| &answer.graph.edges[id]) {
        for node in [edge.active, edge.passive] {
            let known = &answer.graph.nodes[node];
            let Identity::Peer { address, .. } = known.identity else { continue };
            if known.claimed_by.is_empty() {
                let peer = peers.entry(address).or_insert_with(|| Peer::new(address, node, edge));
                peer.add(answer, node, edge);
            } else {
                ambiguous.insert(address);
            }
        }
    }
    let mut peers: Vec<Peer> = peers.into_values().collect();
    peers.sort_by_key(|peer| (Reverse(peer.edges), peer.public, peer.address));
    Unexplained { peers, ambiguous: ambiguous.len() }
}

impl Peer {
    fn new(address: IpAddr, node: NodeId, edge: &Edge) -> Peer {
        Peer {
            address,
            node,
            public: !is_private(address),
            edges: 0,
            hosts: BTreeSet::new(),
            offers: BTreeMap::new(),
            uses: BTreeMap::new(),
            first_seen: edge.first_seen,
            last_seen: edge.last_seen,
        }
    }

    fn add(&mut self, answer: &Answer, node: NodeId, edge: &Edge) {
        self.edges += 1;
        self.first_seen = self.first_seen.min(edge.first_seen);
        self.last_seen = self.last_seen.max(edge.last_seen);
        let other = answer.graph.nodes[edge.other(node)].identity.place();
        self.hosts.extend(other.map(|place| place.host));
        if node == edge.passive {
            *self.offers.entry((edge.protocol, edge.port)).or_default() += 1;
        } else {
            *self.uses.entry((edge.passive, edge.protocol, edge.port)).or_default() += 1;
        }
    }
}
