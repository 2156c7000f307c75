//! For spreadsheets and scripts: an edge a record, the first one the names of
//! the fields (RFC 4180, but for its line ends: a record ends as a line of
//! text does everywhere on Linux, which every reader of CSV takes).

use crate::graph::search::Answer;
use crate::graph::{Edge, Identity, NodeId};
use crate::view::escape;
use crate::view::lines::{State, edges};

const FIELDS: [&str; 30] = [
    "active_host",
    "active_scope",
    "active_address",
    "active_port",
    "active_process",
    "active_pgid",
    "passive_host",
    "passive_scope",
    "passive_address",
    "passive_port",
    "passive_process",
    "passive_pgid",
    "direction",
    "protocol",
    "state",
    "failing",
    "told_by",
    "confidence",
    "open",
    "connecting",
    "opened",
    "failed",
    "first_seen",
    "last_seen",
    "active_name",
    "active_role",
    "active_group",
    "passive_name",
    "passive_role",
    "passive_group",
];

/// An answer's edges as records.
pub(crate) fn csv(answer: &Answer) -> String {
    let mut out = FIELDS.join(",") + "\n";
    for edge in edges(answer) {
        let fields = record(answer, edge).map(|field| escape::csv(&field));
        out.push_str(&fields.join(","));
        out.push('\n');
    }
    out
}

fn record(answer: &Answer, edge: &Edge) -> [String; 30] {
    let [active_host, active_scope, active_process, active_pgid] = node(answer, edge.active);
    let [passive_host, passive_scope, passive_process, passive_pgid] = node(answer, edge.passive);
    let [active_name, active_role, active_group] = label(answer, edge.active);
    let [passive_name, passive_role, passive_group] = label(answer, edge.passive);
    let number = |number: Option<u64>| number.map_or(String::new(), |number| number.to_string());
    [
        active_host,
        active_scope,
        edge.active_address.to_string(),
        number(edge.active_port.map(u64::from)),
        active_process,
        active_pgid,
        passive_host,
        passive_scope,
        edge.passive_address.to_string(),
        edge.port.to_string(),
        passive_process,
        passive_pgid,
        if edge.directed { "known" } else { "unknown" }.to_owned(),
        edge.protocol.name().to_owned(),
        State::of(edge, answer).name().to_lowercase(),
        edge.failing.to_string(),
        edge.told_by.name().to_owned(),
        edge.confidence.words().to_owned(),
        edge.traffic.open.to_string(),
        edge.traffic.connecting.to_string(),
        number(edge.traffic.opened),
        number(edge.traffic.failed),
        edge.first_seen.to_string(),
        edge.last_seen.to_string(),
        active_name,
        active_role,
        active_group,
        passive_name,
        passive_role,
        passive_group,
    ]
}

/// Name, role and group that people gave a node; empty where none.
fn label(answer: &Answer, id: NodeId) -> [String; 3] {
    let label = answer.graph.nodes[id].label.clone().unwrap_or_default();
    [label.name, label.role, label.group]
        .map(|text| text.map_or(String::new(), |text| text.to_string()))
}

/// Host, scope, process and process group of a node; empty where unknown.
fn node(answer: &Answer, id: NodeId) -> [String; 4] {
    let identity = &answer.graph.nodes[id].identity;
    let place = identity.place();
    let host = place.and_then(|place| answer.graph.hosts.get(&place.host));
    let pgid = match identity {
        Identity::Process { pgid: Some(pgid), .. } => pgid.to_string(),
        _ => String::new(),
    };
    [
        host.map_or(String::new(), |host| host.name.clone()),
        place.map_or(String::new(), |place| place.scope.to_string()),
        identity.process().map_or(String::new(), |process| process.name.clone()),
        pgid,
    ]
}
