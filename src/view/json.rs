//! For programs. The schema is a promise: docs/look-json.md says what each
//! field means, and a test holds the bytes. What is not known is absent.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::flow::host::Coverage;
use crate::flow::process::Process;
use crate::graph::page::Part;
use crate::graph::search::{Answer, Cut, Otherwise};
use crate::graph::walk::{Step, Way, Ways};
use crate::graph::{Edge, Identity, Node, NodeId, Rise};
use crate::recall::{HostRecord, Selector};
use crate::view::escape::is_hidden;
use crate::view::footer::{Summary, nothing};
use crate::view::known::{address, used};
use crate::view::lines::{State, nodes};

pub(crate) mod groups;
pub(crate) mod search;

/// Name and version of the schema. A field may be added under the same
/// version; one that changes or goes raises it.
const SCHEMA: &str = "shawk.look/1";

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    generated: Timestamp,
    query: Query,
    #[serde(flatten)]
    part: PartView,
    nodes: Vec<NodeView<'a>>,
    edges: Vec<EdgeView>,
    hosts: Vec<HostView<'a>>,
    unprobed_peers: Count,
    unused_listeners: Count,
    malformed: Count,
    cut: CutView,
    notes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    otherwise: Option<OtherwiseView<'a>>,
}

/// Which part of a list a document has.
#[derive(Serialize)]
pub(crate) struct PartView {
    total: Count,
    offset: Count,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    moved: bool,
}

#[derive(Serialize)]
struct Query {
    selector: SelectorView,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    depth: u32,
    ways: &'static str,
}

#[derive(Serialize)]
pub(crate) struct SelectorView {
    kind: &'static str,
    value: String,
}

#[derive(Serialize)]
struct NodeView<'a> {
    id: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    probe: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<&'a Process>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pgid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owners_more: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    listens: Vec<ListenView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    claimed_by: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<LabelView<'a>>,
    root: bool,
}

#[derive(Serialize)]
pub(crate) struct LabelView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
}

#[derive(Serialize)]
struct ListenView {
    protocol: &'static str,
    address: IpAddr,
    port: u16,
}

#[derive(Serialize)]
struct EdgeView {
    active: usize,
    passive: usize,
    direction: &'static str,
    protocol: &'static str,
    port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    active_port: Option<u16>,
    active_address: IpAddr,
    passive_address: IpAddr,
    told_by: &'static str,
    confidence: &'static str,
    rungs: Vec<&'static str>,
    first_seen: Timestamp,
    last_seen: Timestamp,
    state: &'static str,
    failing: bool,
    open: Count,
    connecting: Count,
    #[serde(skip_serializing_if = "Option::is_none")]
    opened: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timed_out: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unreachable: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_to_passive: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_to_active: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retransmits: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_us: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shared: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<RiseView>,
    depth: u32,
    way: &'static str,
    cycle: bool,
}

#[derive(Serialize)]
struct RiseView {
    told_by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    opened: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_to_passive: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_to_active: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retransmits: Option<Count>,
}

#[derive(Serialize)]
pub(crate) struct HostView<'a> {
    name: &'a str,
    id: &'a str,
    rung: &'static str,
    first_seen: Timestamp,
    last_seen: Timestamp,
    coverage: CoverageView,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rivals: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_skew_s: Option<i64>,
}

#[derive(Serialize)]
struct CoverageView {
    confined: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    filtered: bool,
    namespaces: Count,
    namespaces_unreadable: Count,
    processes: Count,
    processes_vanished: Count,
    processes_unreadable: Count,
    sockets: Count,
    sockets_ownerless: Count,
    sockets_unattributed: Count,
    malformed: Count,
    flows_dropped: Count,
    updates_lost: Count,
    scans_skipped: Count,
    records_dropped: Count,
}

#[derive(Serialize)]
pub(crate) struct CutView {
    hosts: Count,
    addresses: Count,
    edges: Count,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    window: bool,
}

#[derive(Serialize)]
struct OtherwiseView<'a> {
    selector: SelectorView,
    hosts: Vec<HostView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_edge: Option<Timestamp>,
}

/// A number that is a string beyond 2^53, where readers with doubles (RFC
/// 8259, section 6) would change it.
pub(crate) struct Count(pub(crate) u64);

/// An answer as one document, on one line.
pub(crate) fn json(answer: &Answer) -> io::Result<String> {
    // About what an edge and its far node take.
    let size = 1024 * answer.walk.steps.len();
    one_line(&document(answer), size)
}

/// A document on one line that may be printed on a terminal; it takes about
/// this many bytes.
pub(crate) fn one_line(document: &impl Serialize, size: usize) -> io::Result<String> {
    let mut out = Vec::with_capacity(size);
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, Visible);
    document.serialize(&mut serializer)?;
    out.push(b'\n');
    String::from_utf8(out).map_err(io::Error::other)
}

fn document(answer: &Answer) -> Document<'_> {
    let summary = Summary::of(answer);
    // Numbers of its own, so that they stay the same whatever else was read.
    let ids: BTreeMap<NodeId, usize> =
        nodes(answer).into_iter().enumerate().map(|(new, old)| (old, new)).collect();
    let roots: HashSet<NodeId> = answer.walk.roots.iter().copied().collect();
    let used = used(answer);
    let mut edges: Vec<EdgeView> =
        answer.walk.steps.iter().map(|step| edge(answer, step, &ids)).collect();
    edges.sort_by_key(|edge| {
        let ends = (edge.active, edge.passive, edge.protocol, edge.port, edge.active_port);
        (ends, edge.active_address, edge.passive_address)
    });
    Document {
        schema: SCHEMA,
        generated: answer.now,
        query: query(answer),
        part: part(&answer.part.unwrap_or(Part::whole(answer.walk.steps.len()))),
        nodes: ids
            .iter()
            .map(|(old, new)| {
                let root = roots.contains(old);
                let used = used.get(old).copied();
                NodeView { id: *new, ..node(answer, *old, root, used) }
            })
            .collect(),
        edges,
        hosts: summary.hosts.iter().map(|record| host(record)).collect(),
        unprobed_peers: count(summary.unprobed_peers),
        unused_listeners: count(summary.unused.len()),
        malformed: Count(answer.graph.malformed),
        cut: cut(&answer.cut),
        notes: notes(answer, &summary),
        otherwise: answer.otherwise.as_ref().map(otherwise),
    }
}

fn query(answer: &Answer) -> Query {
    let window = answer.question.window;
    let reach = answer.question.reach;
    Query {
        selector: selector(&answer.selector),
        since: window.since,
        until: window.until,
        depth: reach.depth,
        ways: match reach.ways {
            Ways::Up => "up",
            Ways::Down => "down",
            Ways::Both => "both",
        },
    }
}

/// What people are told below a tree.
fn notes(answer: &Answer, summary: &Summary<'_>) -> Vec<String> {
    let none = answer.walk.steps.is_empty();
    let nothing = none.then(|| nothing(answer)).into_iter().flatten();
    nothing.chain(summary.lines(answer)).collect()
}

pub(crate) fn selector(selector: &Selector) -> SelectorView {
    let (kind, value) = match selector {
        Selector::Address(address) => ("address", address.to_string()),
        Selector::Network(network) => ("network", network.to_string()),
        Selector::Host(name) => ("host", name.clone()),
        Selector::Process(name) => ("process", name.clone()),
        Selector::Port(port) => ("port", port.to_string()),
        Selector::Service(spot, port) => ("service", spot.at(*port)),
        Selector::All => ("all", "*".to_owned()),
        Selector::Label(word) => ("label", word.clone()),
    };
    SelectorView { kind, value }
}

/// A node without its number; `used` is the address its edges know it by.
fn node(answer: &Answer, id: NodeId, root: bool, used: Option<IpAddr>) -> NodeView<'_> {
    let node = &answer.graph.nodes[id];
    let place = node.identity.place();
    let host = place.and_then(|place| answer.graph.hosts.get(&place.host));
    let (process, pgid, port) = match &node.identity {
        Identity::Process { process, pgid, .. } => (Some(process.as_ref()), *pgid, None),
        Identity::Unseen { port, .. } | Identity::Peer { port, .. } => (None, None, *port),
    };
    let claimed = node.claimed_by.iter().filter_map(|key| answer.graph.hosts.get(key));
    NodeView {
        id,
        host: host.map(|host| host.name.as_str()),
        host_id: host.map(|host| host.id.as_str()),
        scope: place.map(|place| place.scope.as_ref()),
        address: address(answer, node, root, used),
        port,
        probe: place.is_some(),
        process,
        pid: node.pid,
        pgid,
        owners_more: (node.owners_more > 0).then_some(node.owners_more),
        listens: node
            .listens
            .iter()
            .map(|listen| ListenView {
                protocol: listen.protocol.name(),
                address: listen.address,
                port: listen.port,
            })
            .collect(),
        claimed_by: claimed.map(|host| host.name.as_str()).collect(),
        label: label(node),
        root,
    }
}

pub(crate) fn label(node: &Node) -> Option<LabelView<'_>> {
    node.label.as_ref().map(|label| LabelView {
        name: label.name.as_deref(),
        role: label.role.as_deref(),
        group: label.group.as_deref(),
    })
}

fn edge(answer: &Answer, step: &Step, ids: &BTreeMap<NodeId, usize>) -> EdgeView {
    let edge: &Edge = &answer.graph.edges[step.edge];
    let traffic = &edge.traffic;
    EdgeView {
        active: ids[&edge.active],
        passive: ids[&edge.passive],
        direction: if edge.directed { "known" } else { "unknown" },
        protocol: edge.protocol.name(),
        port: edge.port,
        active_port: edge.active_port,
        active_address: edge.active_address,
        passive_address: edge.passive_address,
        told_by: edge.told_by.name(),
        confidence: edge.confidence.words(),
        rungs: edge.rungs.iter().map(|rung| rung.name()).collect(),
        first_seen: edge.first_seen,
        last_seen: edge.last_seen,
        state: State::of(edge, answer).word(),
        failing: edge.failing,
        open: Count(traffic.open),
        connecting: Count(traffic.connecting),
        opened: traffic.opened.map(Count),
        failed: traffic.failed.map(Count),
        refused: traffic.refused.map(Count),
        timed_out: traffic.timed_out.map(Count),
        unreachable: traffic.unreachable.map(Count),
        bytes_to_passive: traffic.bytes_to_passive.map(Count),
        bytes_to_active: traffic.bytes_to_active.map(Count),
        retransmits: traffic.retransmits.map(Count),
        rtt_us: traffic.rtt_us,
        shared: (traffic.shared > 1).then_some(traffic.shared),
        window: edge.rise.as_ref().map(rise),
        depth: step.depth,
        way: if step.way == Way::Up { "up" } else { "down" },
        cycle: step.cycle,
    }
}

fn rise(rise: &Rise) -> RiseView {
    RiseView {
        told_by: if rise.by_active { "active" } else { "passive" },
        opened: rise.opened.map(Count),
        failed: rise.failed.map(Count),
        bytes_to_passive: rise.bytes_to_passive.map(Count),
        bytes_to_active: rise.bytes_to_active.map(Count),
        retransmits: rise.retransmits.map(Count),
    }
}

pub(crate) fn host(host: &HostRecord) -> HostView<'_> {
    HostView {
        name: &host.name,
        id: &host.id,
        rung: host.rung.name(),
        first_seen: host.first_seen,
        last_seen: host.last_seen,
        coverage: coverage(&host.coverage),
        rivals: host.rivals.iter().map(String::as_str).collect(),
        clock_skew_s: host.is_skewed().then(|| host.skew.as_secs()),
    }
}

/// Taken apart by name, so that a field that is added cannot be forgotten.
fn coverage(coverage: &Coverage) -> CoverageView {
    let Coverage {
        confined,
        filtered,
        namespaces,
        namespaces_unreadable,
        processes,
        processes_vanished,
        processes_unreadable,
        sockets,
        sockets_ownerless,
        sockets_unattributed,
        malformed,
        flows_dropped,
        updates_lost,
        scans_skipped,
        records_dropped,
    } = *coverage;
    CoverageView {
        confined,
        filtered,
        namespaces: Count(namespaces),
        namespaces_unreadable: Count(namespaces_unreadable),
        processes: Count(processes),
        processes_vanished: Count(processes_vanished),
        processes_unreadable: Count(processes_unreadable),
        sockets: Count(sockets),
        sockets_ownerless: Count(sockets_ownerless),
        sockets_unattributed: Count(sockets_unattributed),
        malformed: Count(malformed),
        flows_dropped: Count(flows_dropped),
        updates_lost: Count(updates_lost),
        scans_skipped: Count(scans_skipped),
        records_dropped: Count(records_dropped),
    }
}

pub(crate) fn part(part: &Part) -> PartView {
    PartView {
        total: count(part.total),
        offset: count(part.offset),
        next: part.next.map(|next| next.to_string()),
        moved: part.moved,
    }
}

pub(crate) fn cut(cut: &Cut) -> CutView {
    CutView {
        hosts: count(cut.hosts),
        addresses: count(cut.addresses),
        edges: count(cut.edges),
        window: cut.rises,
    }
}

fn otherwise(otherwise: &Otherwise) -> OtherwiseView<'_> {
    OtherwiseView {
        selector: selector(&otherwise.selector),
        hosts: otherwise.hosts.iter().map(host).collect(),
        last_edge: otherwise.last_edge,
    }
}

pub(crate) fn count(count: usize) -> Count {
    Count(u64::try_from(count).unwrap_or(u64::MAX))
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 <= 1 << 53 {
            serializer.serialize_u64(self.0)
        } else {
            serializer.collect_str(&self.0)
        }
    }
}

/// Writes what is hidden as `\uXXXX`, so that a document may be printed on a
/// terminal; a parser reads the same string back.
struct Visible;

impl serde_json::ser::Formatter for Visible {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + Write,
    {
        if fragment.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return writer.write_all(fragment.as_bytes());
        }
        for character in fragment.chars() {
            if is_hidden(character) {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            } else {
                writer.write_all(character.encode_utf8(&mut [0; 4]).as_bytes())?;
            }
        }
        Ok(())
    }
}
