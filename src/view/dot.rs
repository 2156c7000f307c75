//! For Graphviz: a node or an edge a line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::graph::search::Answer;
use crate::graph::{Edge, Identity, NodeId};
use crate::view::escape;
use crate::view::footer::limits;
use crate::view::label::{end, name, place};
use crate::view::lines::{State, edges};

/// An answer as a directed graph.
pub(crate) fn dot(answer: &Answer) -> String {
    let mut out = String::from("digraph shawk {\n  rankdir=LR;\n  node [shape=box];\n");
    for note in limits(answer) {
        // Writing to a String cannot fail.
        writeln!(out, "  // {note}").ok();
    }
    let numbers = numbers(answer);
    for (id, number) in &numbers {
        let label = escape::dot(&label(answer, *id));
        let unknown = answer.graph.nodes[*id].identity.process().is_none();
        let style = if unknown { ", style=dashed" } else { "" };
        writeln!(out, "  n{number} [label={label}{style}];").ok();
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
        let (active, passive) = (numbers[&edge.active], numbers[&edge.passive]);
        writeln!(out, "  n{active} -> n{passive} [label={label}{style}];").ok();
    }
    out.push_str("}\n");
    out
}

/// The nodes that edges run between, numbered in order.
pub(crate) fn numbers(answer: &Answer) -> BTreeMap<NodeId, usize> {
    let ends = answer.walk.steps.iter().flat_map(|step| [step.from, step.to]);
    let ends: BTreeSet<NodeId> = ends.collect();
    ends.into_iter().enumerate().map(|(number, id)| (id, number)).collect()
}

/// A node in a picture: where, and who. Where nobody was seen, the port says
/// what it is.
pub(crate) fn label(answer: &Answer, id: NodeId) -> String {
    let node = &answer.graph.nodes[id];
    let at = match &node.identity {
        Identity::Process { place: at, .. } => place(&answer.graph, at),
        Identity::Unseen { place: at, port } => {
            let port = port.map_or(String::new(), |port| format!(" :{port}"));
            format!("{}{port}", place(&answer.graph, at))
        }
        Identity::Peer { address, port, .. } => end(*address, *port),
    };
    format!("{at} {}", name(node))
}

/// `tcp 10.0.0.10:80`.
pub(crate) fn edge_label(edge: &Edge) -> String {
    let at = end(edge.passive_address, Some(edge.port));
    format!("{} {at}", edge.protocol.name())
}
