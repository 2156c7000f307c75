//! What listens where, who calls it, and what nobody was seen to call.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;

use crate::flow::socket::Protocol;
use crate::graph::search::Answer;
use crate::graph::{Listen, NodeId, Place};
use crate::recall::{FlowRecord, Selector, Span, Spot, Window};
use crate::study::doubt::watched_since;
use crate::study::reading;

/// What listens among the nodes asked about.
#[derive(Debug)]
pub struct Listening {
    /// By host, scope and process; then by protocol, address and port.
    pub listeners: Vec<Listener>,
    /// Those that have ended, left out where no window was asked about.
    pub ended: usize,
}

/// One service that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Who waits.
    pub node: NodeId,
    /// Where.
    pub listen: Listen,
    /// The process group of the node waited then, and is not that of a process
    /// which began later.
    pub group_known: bool,
    /// Who can reach it.
    pub bound: Bound,
    /// When it was first seen, be it before the window.
    pub first_seen: Timestamp,
    /// When it was last seen.
    pub last_seen: Timestamp,
    /// It was seen to end.
    pub ended: bool,
    /// Who called it.
    pub callers: BTreeSet<NodeId>,
    /// When a call was last seen.
    pub last_used: Option<Timestamp>,
    /// Nobody was seen to call it since then. Absent where somebody was, and
    /// of UDP: the passive end of it sees no caller.
    pub unused_since: Option<Timestamp>,
}

/// Who can reach a listener, by the address it is bound to. What a firewall
/// lets through is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bound {
    /// Its own host and scope only.
    Loopback,
    /// Who can reach this one address.
    Address,
    /// Who can reach any of its host's addresses.
    Any,
}

impl Bound {
    /// Of a listener.
    pub fn of(listen: &Listen) -> Bound {
        match listen.address {
            address if address.is_loopback() => Bound::Loopback,
            address if address.is_unspecified() => Bound::Any,
            _ => Bound::Address,
        }
    }

    /// The word for it in output.
    pub const fn name(self) -> &'static str {
        match self {
            Bound::Loopback => "loopback",
            Bound::Address => "address",
            Bound::Any => "any",
        }
    }
}

/// Who called, and when last.
type Calls = (BTreeSet<NodeId>, Option<Timestamp>);

impl Listening {
    /// What listens among the roots of an answer.
    pub fn of(answer: &Answer) -> Listening {
        let roots: BTreeSet<NodeId> = answer.walk.roots.iter().copied().collect();
        let mut calls = calls(answer, &roots);
        let mut listening = Listening { listeners: Vec::new(), ended: 0 };
        for ((node, listen), records) in asked_about(answer, &roots) {
            let called = calls.remove(&(node, listen)).unwrap_or_default();
            let Some(listener) = listener(answer, (node, listen), &records, called) else {
                continue;
            };
            if listener.ended && answer.question.window == Window::default() {
                listening.ended += 1;
            } else {
                listening.listeners.push(listener);
            }
        }
        let in_order = |one: &Listener| (reading(answer, one.node), one.listen);
        listening.listeners.sort_by_cached_key(in_order);
        listening
    }
}

/// Which of them those are that [`Listening`] lists, without all that is known of
/// each.
pub fn listed(answer: &Answer) -> impl Iterator<Item = (NodeId, Listen)> {
    let roots = answer.walk.roots.iter().copied().collect();
    let all = answer.question.window != Window::default();
    let listed =
        move |records: &[&FlowRecord]| all || last_span(records).is_some_and(|last| !last.ended);
    asked_about(answer, &roots).into_iter().filter(move |(_, of)| listed(of)).map(|(at, _)| at)
}

/// What is recorded of each listener of the roots that is asked about.
fn asked_about<'a>(
    answer: &'a Answer,
    roots: &BTreeSet<NodeId>,
) -> BTreeMap<(NodeId, Listen), Vec<&'a FlowRecord>> {
    let mut records: BTreeMap<_, Vec<&FlowRecord>> = BTreeMap::new();
    for listener in &answer.graph.listeners {
        if !roots.contains(&listener.node) || !is_meant(&answer.selector, &listener.listen) {
            continue;
        }
        if let Some(record) = answer.flows.get(listener.record as usize) {
            records.entry((listener.node, listener.listen)).or_default().push(record);
        }
    }
    records
}

/// The latest word about a listener. What it was cut off from by a new run of the
/// probe is the same one.
fn last_span<'a>(records: &[&'a FlowRecord]) -> Option<&'a Span> {
    let spans = records.iter().flat_map(|record| record.spans.iter().chain(&record.later));
    spans.max_by_key(|span| (span.until, !span.ended))
}

/// What waits at places, by place, protocol and port.
pub(crate) struct Waiting<'a>(BTreeMap<(&'a Place, Protocol, u16), Vec<Listen>>);

impl<'a> Waiting<'a> {
    /// Of an answer, as far as the record of it says so.
    pub(crate) fn of(answer: &'a Answer, waits: impl Fn(&FlowRecord) -> bool) -> Self {
        let mut waiting: BTreeMap<_, Vec<Listen>> = BTreeMap::new();
        for listener in &answer.graph.listeners {
            let waits = answer.flows.get(listener.record as usize).is_some_and(&waits);
            let place = answer.graph.nodes[listener.node].identity.place();
            if let Some(place) = place.filter(|_| waits) {
                let key = (place, listener.listen.protocol, listener.listen.port);
                waiting.entry(key).or_default().push(listener.listen);
            }
        }
        Waiting(waiting)
    }

    /// Whether any of it gets what is sent to an address and port of a place.
    pub(crate) fn accepts(
        &self,
        place: &Place,
        protocol: Protocol,
        (address, port): (IpAddr, u16),
    ) -> bool {
        let listens = self.0.get(&(place, protocol, port)).into_iter().flatten();
        listens.into_iter().any(|listen| listen.accepts(address, port))
    }
}

/// A selector means nodes; of their listeners, one that names a port or an
/// address means those there.
pub(crate) fn is_meant(selector: &Selector, listen: &Listen) -> bool {
    match selector {
        Selector::Port(port) => listen.port == *port,
        Selector::Address(address) => listen.accepts(*address, listen.port),
        Selector::Network(network) => {
            listen.address.is_unspecified() || network.contains(&listen.address)
        }
        Selector::Service(Spot::Address(address), port) => listen.accepts(*address, *port),
        Selector::Service(Spot::Host(_), port) => listen.port == *port,
        Selector::All | Selector::Host(_) | Selector::Process(_) | Selector::Label(_) => true,
    }
}

/// Who called each listener of the roots. What arrives at an address is for
/// the listener bound to it, before those bound to all addresses. Each is looked
/// up: a media proxy has sockets and callers by the ten thousand.
fn calls(answer: &Answer, roots: &BTreeSet<NodeId>) -> BTreeMap<(NodeId, Listen), Calls> {
    let mut calls: BTreeMap<(NodeId, Listen), Calls> = BTreeMap::new();
    for edge in answer.graph.edges.iter().filter(|edge| edge.directed) {
        if !roots.contains(&edge.passive) {
            continue;
        }
        let listens = &answer.graph.nodes[edge.passive].listens;
        let mut accepting = Listen::accepting(edge.protocol, edge.passive_address, edge.port);
        if let Some(listen) = accepting.find(|listen| listens.contains(listen)) {
            let call = calls.entry((edge.passive, listen)).or_default();
            call.0.insert(edge.active);
            call.1 = call.1.max(Some(edge.last_seen));
        }
    }
    calls
}

fn listener(
    answer: &Answer,
    (node, listen): (NodeId, Listen),
    records: &[&FlowRecord],
    (callers, last_used): Calls,
) -> Option<Listener> {
    let first_seen = records.iter().map(|record| record.first_seen).min()?;
    let last = last_span(records)?;
    let host = answer.graph.nodes[node].identity.place().map(|place| place.host);
    let host = host.and_then(|host| answer.graph.hosts.get(&host));
    let (heard, watched) = (host.map(|host| host.first_seen), host.and_then(watched_since));
    // Nobody is known to have called it since it began, but no longer than its
    // host was watched, that is remembered, and the question goes back.
    let since = [Some(first_seen), heard, watched, answer.question.window.since];
    let told = listen.protocol == Protocol::Tcp && callers.is_empty();
    Some(Listener {
        node,
        listen,
        group_known: records.iter().any(|record| had_owner(record)),
        bound: Bound::of(&listen),
        first_seen,
        last_seen: last.until,
        ended: last.ended,
        callers,
        last_used,
        unused_since: since.into_iter().flatten().max().filter(|_| told),
    })
}

/// Whether a process that is said to have it now, or when it was last seen at
/// all, was there already when it was last seen in the window.
fn had_owner(record: &FlowRecord) -> bool {
    let last = record.spans.iter().map(|span| span.until).max();
    record.flow.owners.iter().any(|owner| Some(owner.started) <= last)
}
