//! The one address that a node is known by, where an output has room for one.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::graph::search::Answer;
use crate::graph::{Identity, Node, NodeId, only_inside};

/// How well an address says who a node is, the least best: the one asked about
/// first, and one that others can reach before one that only its own host can.
fn rank(answer: &Answer, address: IpAddr) -> (bool, bool, IpAddr) {
    (answer.selector.address() != Some(address), only_inside(address), address)
}

/// The best of the addresses that a node's edges use, for each node.
pub(crate) fn used(answer: &Answer) -> HashMap<NodeId, IpAddr> {
    let mut used = HashMap::new();
    for step in &answer.walk.steps {
        let edge = &answer.graph.edges[step.edge];
        let ends = [(edge.active, edge.active_address), (edge.passive, edge.passive_address)];
        for (node, address) in ends {
            let best = used.entry(node).or_insert(address);
            if rank(answer, address) < rank(answer, *best) {
                *best = address;
            }
        }
    }
    used
}

/// An address to know a node by: the best of those its edges use and of the
/// one asked about if it waits there, else of those it listens on.
pub(crate) fn address(
    answer: &Answer,
    node: &Node,
    root: bool,
    used: Option<IpAddr>,
) -> Option<IpAddr> {
    if let Identity::Peer { address, .. } = node.identity {
        return Some(address);
    }
    let accepts = |asked: &IpAddr| node.listens.iter().any(|at| at.accepts(*asked, at.port));
    let asked_here = answer.selector.address().filter(|asked| root && accepts(asked));
    let listens = node.listens.iter().map(|listen| listen.address);
    let listens = listens.filter(|address| !address.is_unspecified());
    let best = |address: &IpAddr| rank(answer, *address);
    used.into_iter().chain(asked_here).min_by_key(best).or_else(|| listens.min_by_key(best))
}
