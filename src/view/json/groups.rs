//! The folded graph for programs, and for the page: docs/groups-json.md says
//! what each field means.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;

use jiff::Timestamp;
use serde::Serialize;

use crate::flow::socket::Protocol;
use crate::graph::group::{By, Common, Groups};
use crate::graph::search::Answer;
use crate::graph::{Edge, EdgeId, Graph, NodeId, ToldBy};
use crate::view::footer::Summary;
use crate::view::json::{Count, CutView, Query, count, cut, notes, one_line, query};
use crate::view::lines::{State, is_silent};

const SCHEMA: &str = "shawk.groups/1";

/// Names of processes that are listed of a group, the commonest first.
const PROCESSES: usize = 8;

/// Ports that are listed of a link, the commonest first.
const PORTS: usize = 32;

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    generated: Timestamp,
    query: Query,
    by: &'static str,
    groups: Vec<GroupView>,
    links: Vec<LinkView>,
    hosts: HostsView,
    notes: Vec<String>,
    malformed: Count,
    cut: CutView,
}

#[derive(Serialize)]
struct GroupView {
    id: usize,
    kind: &'static str,
    /// What it is known by, also in another answer; absent for the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    name: String,
    probe: bool,
    nodes: Count,
    hosts: Count,
    processes: Vec<Counted>,
    processes_more: Count,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<Count>,
}

#[derive(Serialize)]
struct Counted {
    name: String,
    nodes: Count,
}

#[derive(Serialize)]
struct LinkView {
    active: usize,
    passive: usize,
    edges: Count,
    alive: Count,
    failing: Count,
    ended: Count,
    silent: Count,
    told_by_active: Count,
    told_by_passive: Count,
    told_by_both: Count,
    direction_unknown: Count,
    ports: Vec<PortView>,
    ports_more: Count,
    first_seen: Timestamp,
    last_seen: Timestamp,
}

#[derive(Serialize)]
struct PortView {
    protocol: &'static str,
    port: u16,
    edges: Count,
}

#[derive(Serialize)]
struct HostsView {
    count: Count,
    silent: Count,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_seen: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<Timestamp>,
}

/// What an answer was folded into, as one document on one line.
pub(crate) fn groups(answer: &Answer, by: By, groups: &Groups) -> io::Result<String> {
    let summary = Summary::of(answer);
    let hosts = &summary.hosts;
    let silent = hosts.iter().filter(|host| is_silent(answer, host.last_seen)).count();
    let document = Document {
        schema: SCHEMA,
        generated: answer.now,
        query: query(answer),
        by: by.name(),
        groups: views(answer, groups),
        links: groups.links.iter().map(|(ends, edges)| link(answer, *ends, edges)).collect(),
        hosts: HostsView {
            count: count(hosts.len()),
            silent: count(silent),
            first_seen: hosts.iter().map(|host| host.first_seen).min(),
            last_seen: hosts.iter().map(|host| host.last_seen).max(),
        },
        notes: notes(answer, &summary),
        malformed: Count(answer.graph.malformed),
        cut: cut(&answer.cut),
    };
    one_line(&document, 512 * groups.links.len())
}

fn views(answer: &Answer, groups: &Groups) -> Vec<GroupView> {
    let mut views: Vec<GroupView> = groups
        .groups
        .iter()
        .enumerate()
        .map(|(id, group)| {
            let (kind, value) = key(&answer.graph, &group.common);
            GroupView {
                kind,
                name: name(&answer.graph, &group.common),
                value: Some(value),
                ..members(answer, id, &group.nodes)
            }
        })
        .collect();
    if let Some((nodes, folded)) = &groups.others {
        views.push(GroupView {
            groups: Some(count(*folded)),
            ..members(answer, groups.groups.len(), nodes)
        });
    }
    views
}

/// A group of the others, until it has a name.
fn members(answer: &Answer, id: usize, nodes: &[NodeId]) -> GroupView {
    let graph = &answer.graph;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut hosts = BTreeSet::new();
    for node in nodes {
        let identity = &graph.nodes[*node].identity;
        hosts.extend(identity.place().map(|place| place.host));
        if let Some(process) = identity.process() {
            *counts.entry(&process.name).or_default() += 1;
        }
    }
    let (processes, more) = commonest(counts.into_iter(), PROCESSES);
    GroupView {
        id,
        kind: "others",
        value: None,
        name: String::new(),
        probe: !hosts.is_empty(),
        nodes: count(nodes.len()),
        hosts: count(hosts.len()),
        processes: processes
            .into_iter()
            .map(|(name, nodes)| Counted { name: name.to_owned(), nodes: count(nodes) })
            .collect(),
        processes_more: count(more),
        groups: None,
    }
}

/// The commonest ones, and how many there are beyond.
fn commonest<T: Ord>(
    counts: impl Iterator<Item = (T, usize)>,
    most: usize,
) -> (Vec<(T, usize)>, usize) {
    let mut counts: Vec<(T, usize)> = counts.collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let more = counts.len().saturating_sub(most);
    counts.truncate(most);
    (counts, more)
}

fn link(answer: &Answer, (active, passive): (usize, usize), edges: &[EdgeId]) -> LinkView {
    let edges = || edges.iter().map(|id| &answer.graph.edges[*id]);
    let with = |is: &dyn Fn(&Edge) -> bool| count(edges().filter(|edge| is(edge)).count());
    let state = |state: State| with(&|edge| State::of(edge, answer) == state);
    let told = |told: ToldBy| with(&|edge| edge.told_by == told);
    let mut counts: HashMap<(Protocol, u16), usize> = HashMap::new();
    for edge in edges() {
        *counts.entry((edge.protocol, edge.port)).or_default() += 1;
    }
    let (ports, more) = commonest(counts.into_iter(), PORTS);
    LinkView {
        active,
        passive,
        edges: count(edges().count()),
        alive: state(State::Alive),
        failing: state(State::Failing),
        ended: state(State::Ended),
        silent: state(State::Silent),
        told_by_active: told(ToldBy::Active),
        told_by_passive: told(ToldBy::Passive),
        told_by_both: told(ToldBy::Both),
        direction_unknown: with(&|edge| !edge.directed),
        ports: ports
            .into_iter()
            .map(|((protocol, port), edges)| PortView {
                protocol: protocol.name(),
                port,
                edges: count(edges),
            })
            .collect(),
        ports_more: count(more),
        // A link has an edge, or it would not be.
        first_seen: edges().map(|edge| edge.first_seen).min().unwrap_or(answer.now),
        last_seen: edges().map(|edge| edge.last_seen).max().unwrap_or(answer.now),
    }
}

/// Kind and value of what a group has in common, by which it is asked for.
pub(crate) fn key(graph: &Graph, common: &Common) -> (&'static str, String) {
    match common {
        Common::Host(key) => {
            let id = graph.hosts.get(key).map(|host| host.id.clone());
            ("host", id.unwrap_or_else(|| format!("{key:x}")))
        }
        Common::Unit(unit) => ("unit", unit.clone()),
        Common::Container(id) => ("container", id.clone()),
        Common::Subnet(network) => ("subnet", network.to_string()),
        Common::Process(name) => ("process", name.clone()),
        Common::Label(name) => ("label", name.clone()),
        Common::Peer(address) => ("address", address.to_string()),
        Common::Nothing => ("none", String::new()),
    }
}

fn name(graph: &Graph, common: &Common) -> String {
    let host = match common {
        Common::Host(key) => graph.hosts.get(key).filter(|host| !host.name.is_empty()),
        _ => None,
    };
    host.map_or_else(|| key(graph, common).1, |host| host.name.clone())
}
