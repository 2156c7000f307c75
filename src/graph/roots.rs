//! Which nodes a question means.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::graph::{Graph, Node, NodeId, Place};
use crate::recall::{HostKey, HostRecord, Selector, Spot};

impl Graph {
    /// The nodes a selector means, in their order.
    ///
    /// An address means the processes that use it: with an edge from or to
    /// it, or listening on it, be it through a wildcard where their host has
    /// it. All their edges belong to the answer, at whatever address. A service
    /// means those of them, or of a host, that do so at its port.
    pub fn roots(&self, selector: &Selector) -> Vec<NodeId> {
        match selector {
            Selector::All => (0..self.nodes.len()).collect(),
            Selector::Label(word) => {
                self.nodes_where(|node| node.label.as_ref().is_some_and(|label| label.is(word)))
            }
            Selector::Address(address) => self.at(|other| other == *address, None),
            Selector::Network(network) => self.at(|address| network.contains(&address), None),
            Selector::Service(Spot::Address(address), port) => {
                self.at(|other| other == *address, Some(*port))
            }
            Selector::Service(spot, port) => {
                let here: BTreeSet<NodeId> = self.roots(&spot.whole()).into_iter().collect();
                let mut roots = self.roots(&Selector::Port(*port));
                roots.retain(|root| here.contains(root));
                roots
            }
            Selector::Host(name) => {
                // Names of hosts have no case (RFC 4343); ids do.
                let lower = name.to_lowercase();
                let means =
                    |host: &&HostRecord| host.id == *name || host.name.to_lowercase() == lower;
                let meant: BTreeSet<HostKey> =
                    self.hosts.values().filter(means).map(|host| host.key).collect();
                self.nodes_where(|node| {
                    node.identity.place().is_some_and(|place| meant.contains(&place.host))
                })
            }
            Selector::Process(name) => self.nodes_where(|node| {
                node.identity.process().is_some_and(|process| process.name == *name)
            }),
            Selector::Port(port) => {
                let mut roots =
                    self.nodes_where(|node| node.listens.iter().any(|listen| listen.port == *port));
                for edge in &self.edges {
                    if edge.port == *port {
                        roots.push(edge.passive);
                    }
                    if edge.active_port == Some(*port) {
                        roots.push(edge.active);
                    }
                }
                in_order(roots)
            }
        }
    }

    /// Those at an address that is meant, at this port if one is.
    fn at(&self, means: impl Fn(IpAddr) -> bool, port: Option<u16>) -> Vec<NodeId> {
        let meant = |other: u16| port.is_none_or(|port| port == other);
        let owned = self.owned(&means);
        let mut roots = self.nodes_where(|node| {
            let here = node.identity.place().and_then(|place| owned.get(place));
            node.listens.iter().filter(|listen| meant(listen.port)).any(|listen| {
                // An exact address is meant itself; for a wildcard one of each
                // family stands for all.
                means(listen.address)
                    || listen.address.is_unspecified()
                        && here.is_some_and(|here| {
                            here.iter().any(|address| listen.accepts(*address, listen.port))
                        })
            })
        });
        for edge in &self.edges {
            // "Many" is no port that could be meant.
            let active = edge.active_port.map_or(port.is_none(), meant);
            if active && means(edge.active_address) {
                roots.push(edge.active);
            }
            if meant(edge.port) && means(edge.passive_address) {
                roots.push(edge.passive);
            }
        }
        in_order(roots)
    }

    /// Which of the addresses that are meant each place has, or had.
    pub(crate) fn owned(&self, means: impl Fn(IpAddr) -> bool) -> BTreeMap<Place, Vec<IpAddr>> {
        let mut owned: BTreeMap<Place, Vec<IpAddr>> = BTreeMap::new();
        for record in self.addresses.iter().filter(|record| means(record.address)) {
            let place = Place { host: record.host, scope: record.scope.clone() };
            owned.entry(place).or_default().push(record.address);
        }
        owned
    }

    fn nodes_where(&self, means: impl Fn(&Node) -> bool) -> Vec<NodeId> {
        let nodes = self.nodes.iter().enumerate();
        nodes.filter(|(_, node)| means(node)).map(|(id, _)| id).collect()
    }
}

fn in_order(roots: Vec<NodeId>) -> Vec<NodeId> {
    roots.into_iter().collect::<BTreeSet<NodeId>>().into_iter().collect()
}
