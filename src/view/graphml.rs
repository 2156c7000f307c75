//! For yEd, Gephi, Cytoscape and networkx: GraphML
//! (graphml.graphdrawing.org), an element a line.

use std::fmt::Write;

use crate::graph::search::Answer;
use crate::graph::{Edge, NodeId};
use crate::view::dot::{edge_label, label, numbers};
use crate::view::escape;
use crate::view::footer::limits;
use crate::view::known::{address, used};
use crate::view::lines::{State, edges};

const NODE_KEYS: [&str; 10] =
    ["label", "host", "scope", "process", "unit", "container", "address", "probe", "role", "group"];

const EDGE_KEYS: [&str; 14] = [
    "label",
    "protocol",
    "port",
    "active_address",
    "passive_address",
    "state",
    "told_by",
    "confidence",
    "first_seen",
    "last_seen",
    "open",
    "opened",
    "failed",
    "bytes",
];

/// An answer as a graph of nodes and edges with their facts as attributes.
pub(crate) fn graphml(answer: &Answer) -> String {
    let mut out = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <graphml xmlns=\"http://graphml.graphdrawing.org/xmlns\">\n",
    );
    for (kind, keys) in [("node", &NODE_KEYS[..]), ("edge", &EDGE_KEYS[..])] {
        for key in keys {
            // Writing to a String cannot fail.
            writeln!(
                out,
                "  <key id=\"{kind}_{key}\" for=\"{kind}\" attr.name=\"{key}\" attr.type=\"string\"/>"
            )
            .ok();
        }
    }
    out.push_str("  <graph edgedefault=\"directed\">\n");
    // A note names flags, and two hyphens may not stand in a comment of XML.
    let notes: Vec<String> = limits(answer).iter().map(|note| escape::xml(note)).collect();
    if !notes.is_empty() {
        writeln!(out, "    <desc>{}</desc>", notes.join("\n")).ok();
    }
    let numbers = numbers(answer);
    let used = used(answer);
    for (id, number) in &numbers {
        let known = address(answer, &answer.graph.nodes[*id], false, used.get(id).copied());
        let known = known.map(|address| address.to_string());
        let data = data("node", &NODE_KEYS, node(answer, *id, known));
        writeln!(out, "    <node id=\"n{number}\">{data}</node>").ok();
    }
    for edge in edges(answer) {
        let (active, passive) = (numbers[&edge.active], numbers[&edge.passive]);
        let data = data("edge", &EDGE_KEYS, facts(answer, edge));
        let undirected = if edge.directed { "" } else { " directed=\"false\"" };
        writeln!(
            out,
            "    <edge source=\"n{active}\" target=\"n{passive}\"{undirected}>{data}</edge>"
        )
        .ok();
    }
    out.push_str("  </graph>\n</graphml>\n");
    out
}

/// What is known of the values, each under its key.
fn data<const N: usize>(kind: &str, keys: &[&str; N], values: [Option<String>; N]) -> String {
    let mut out = String::new();
    for (key, value) in keys.iter().zip(values) {
        if let Some(value) = value {
            write!(out, "<data key=\"{kind}_{key}\">{}</data>", escape::xml(&value)).ok();
        }
    }
    out
}

fn node(answer: &Answer, id: NodeId, address: Option<String>) -> [Option<String>; 10] {
    let node = &answer.graph.nodes[id];
    let place = node.identity.place();
    let host = place.and_then(|place| answer.graph.hosts.get(&place.host));
    let process = node.identity.process();
    [
        Some(label(answer, id)),
        host.map(|host| host.name.clone()),
        place.map(|place| place.scope.to_string()),
        process.map(|process| process.name.clone()),
        process.and_then(|process| process.unit.clone()),
        process.and_then(|process| process.container.clone()),
        address,
        Some(place.is_some().to_string()),
        node.label.as_ref().and_then(|label| label.role.as_deref().map(str::to_owned)),
        node.label.as_ref().and_then(|label| label.group.as_deref().map(str::to_owned)),
    ]
}

fn facts(answer: &Answer, edge: &Edge) -> [Option<String>; 14] {
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    let traffic = &edge.traffic;
    let bytes = [traffic.bytes_to_passive, traffic.bytes_to_active].into_iter().flatten();
    [
        Some(edge_label(edge)),
        Some(edge.protocol.name().to_owned()),
        Some(edge.port.to_string()),
        Some(edge.active_address.to_string()),
        Some(edge.passive_address.to_string()),
        Some(State::of(edge, answer).name().to_lowercase()),
        Some(edge.told_by.name().to_owned()),
        Some(edge.confidence.words().to_owned()),
        Some(edge.first_seen.to_string()),
        Some(edge.last_seen.to_string()),
        Some(traffic.open.to_string()),
        number(traffic.opened),
        number(traffic.failed),
        number(bytes.reduce(u64::saturating_add)),
    ]
}
