//! For Graphviz: a node or an edge a line.

use std::fmt::Write;

use crate::graph::search::Answer;
use crate::graph::{Edge, NodeId};
use crate::view::escape;
use crate::view::footer::limits;
use crate::view::label::{name, place};
use crate::view::lines::{State, edges};

/// An answer as a directed graph.
pub(crate) fn dot(answer: &Answer) -> String {
    let mut out = String::from("digraph shawk {\n  rankdir=LR;\n  node [shape=box];\n");
    for note in limits(answer) {
        // Writing to a String cannot fail.
        writeln!(out, "  // {note}").ok();
    }
    for id in ends(answer) {
        let label = escape::dot(&label(answer, id));
        let unknown = answer.graph.nodes[id].identity.process().is_none();
        let style = if unknown { ", style=dashed" } else { "" };
        writeln!(out, "  n{id} [label={label}{style}];").ok();
    }
    for edge in edges(answer) {
        let mut style = match State::of(edge, answer) {
            State::Alive => String::new(),
            State::Failing => ", color=red".to_owned(),
            State::Ended | State::Silent => ", style=dashed".to_owned(),
        };
        if !edge.directed {
            style.push_str(", dir=both");
        }
        let label = escape::dot(&edge_label(edge));
        writeln!(out, "  n{} -> n{} [label={label}{style}];", edge.active, edge.passive).ok();
    }
    out.push_str("}\n");
    out
}

/// The nodes that edges run between, in order.
pub(crate) fn ends(answer: &Answer) -> Vec<NodeId> {
    let ends = answer.walk.steps.iter().flat_map(|step| [step.from, step.to]);
    ends.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

/// A node in a picture: where, and who. An address is the edges' matter, but
/// for one that is all there is.
pub(crate) fn label(answer: &Answer, id: NodeId) -> String {
    let node = &answer.graph.nodes[id];
    let place = match (&node.identity, node.identity.place()) {
        (_, Some(at)) => place(&answer.graph, at),
        (crate::graph::Identity::Peer { address, .. }, None) => address.to_string(),
        (_, None) => String::new(),
    };
    format!("{place} {}", name(node))
}

/// `tcp 10.0.0.10:80`.
pub(crate) fn edge_label(edge: &Edge) -> String {
    let at = crate::view::label::end(edge.passive_address, Some(edge.port));
    format!("{} {at}", edge.protocol.name())
}
