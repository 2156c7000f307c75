//! What each end told, merged into edges.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use jiff::Timestamp;

use crate::flow::host::Rung;
use crate::flow::key::Counters;
use crate::flow::socket::Protocol;
use crate::graph::index::{Side, Sighting};
use crate::graph::resolve::Key;
use crate::graph::{Confidence, Edge, NodeId, ToldBy, Traffic};
use crate::recall::Span;

/// What makes two tellings the same edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EdgeKey {
    pub(crate) active: Key,
    pub(crate) passive: Key,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    pub(crate) active_port: Option<u16>,
    pub(crate) active_address: IpAddr,
    pub(crate) passive_address: IpAddr,
}

/// Edges while they are being told of.
#[derive(Default)]
pub(crate) struct Merging<'r> {
    edges: HashMap<EdgeKey, Parts<'r>>,
}

#[derive(Default)]
struct Parts<'r> {
    told: Vec<Told<'r>>,
    met: bool,
    ambiguous: bool,
}

/// What one sighting says of one edge.
struct Told<'r> {
    by_active: bool,
    counters: &'r Counters,
    rung: Option<Rung>,
    /// From the ranges in which it can mean no other edge.
    sure: Option<Life>,
    /// From all ranges.
    any: Life,
    /// Edges that share its numbers.
    shared: u32,
}

/// From when until when, and whether that was the end.
#[derive(Clone, Copy)]
pub(crate) struct Life {
    first: Timestamp,
    last: Timestamp,
    ended: bool,
}

/// What one sighting says, range by range, before it is told.
#[derive(Default)]
pub(crate) struct Saying {
    edges: HashMap<EdgeKey, Said>,
    ranges: usize,
}

#[derive(Default)]
struct Said {
    ranges: usize,
    sure: Option<Life>,
    any: Option<Life>,
    met: bool,
    ambiguous: bool,
}

impl EdgeKey {
    /// The edge between a node at a sighting's own end and one at the other;
    /// and whether the own end is the active one.
    pub(crate) fn of(sighting: &Sighting<'_>, own: Key, other: Key) -> (EdgeKey, bool) {
        let (port, active_port, own_active) = match sighting.side {
            Side::Active(port) => (port, None, true),
            Side::Passive(port) => (port, None, false),
            Side::Unknown(port, peer_port) => {
                // The same order at both ends, which says nothing else.
                let own_low = (sighting.local, port) <= (sighting.peer, peer_port);
                let (low, high) = if own_low { (port, peer_port) } else { (peer_port, port) };
                (high, Some(low), own_low)
            }
        };
        let ends = ((own, sighting.local), (other, sighting.peer));
        let (active, passive) = if own_active { ends } else { (ends.1, ends.0) };
        let key = EdgeKey {
            active: active.0,
            passive: passive.0,
            protocol: sighting.protocol,
            port,
            active_port,
            active_address: active.1,
            passive_address: passive.1,
        };
        (key, own_active)
    }
}

impl Saying {
    /// In this range the sighting was one of these edges.
    pub(crate) fn add(&mut self, edges: &[EdgeKey], life: Life, met: bool, ambiguous: bool) {
        self.ranges += 1;
        for key in edges {
            let said = self.edges.entry(*key).or_default();
            said.ranges += 1;
            said.met |= met;
            said.ambiguous |= ambiguous;
            said.any = Some(said.any.map_or(life, |before| before.and(life)));
            if edges.len() == 1 {
                said.sure = Some(said.sure.map_or(life, |before| before.and(life)));
            }
        }
    }
}

impl Life {
    /// One range of a sighting. It has ended unless it is the last one, and
    /// the last span is still going on.
    pub(crate) fn of(range: (Timestamp, Timestamp), spans: &[Span]) -> Self {
        let last = spans.iter().max_by_key(|span| (span.until, !span.ended));
        let ended = last.is_none_or(|last| last.ended || last.until > range.1);
        Life { first: range.0, last: range.1, ended }
    }

    /// Both; whichever was seen later knows whether it has ended.
    fn and(self, other: Life) -> Life {
        let later = if (other.last, other.ended) > (self.last, self.ended) { other } else { self };
        Life { first: self.first.min(other.first), ..later }
    }
}

impl<'r> Merging<'r> {
    /// Takes what a sighting says.
    pub(crate) fn tell(&mut self, sighting: &Sighting<'r>, rung: Option<Rung>, saying: Saying) {
        let shared = u32::try_from(saying.edges.len()).unwrap_or(u32::MAX);
        for (key, said) in saying.edges {
            let Some(mut any) = said.any else { continue };
            let mut sure = said.sure;
            if said.ranges == saying.ranges {
                // All the time it was this edge, so also before the window.
                let first = sighting.record.first_seen;
                any.first = any.first.min(first);
                sure = sure.map(|sure| Life { first: sure.first.min(first), ..sure });
            }
            let parts = self.edges.entry(key).or_default();
            parts.met |= said.met;
            parts.ambiguous |= said.ambiguous;
            let own_low = |port, peer_port| (sighting.local, port) <= (sighting.peer, peer_port);
            let by_active = match sighting.side {
                Side::Active(_) => true,
                Side::Passive(_) => false,
                Side::Unknown(port, peer_port) => own_low(port, peer_port),
            };
            let counters = &sighting.record.flow.counters;
            parts.told.push(Told { by_active, counters, rung, sure, any, shared });
        }
    }

    /// The nodes that edges run between.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> {
        self.edges.keys().flat_map(|key| [key.active, key.passive])
    }

    /// The edges, unsorted; `id` numbers the nodes.
    pub(crate) fn edges(self, id: impl Fn(Key) -> NodeId) -> Vec<Edge> {
        self.edges
            .into_iter()
            .filter_map(|(key, parts)| parts.edge(&key, id(key.active), id(key.passive)))
            .collect()
    }
}

impl Parts<'_> {
    fn edge(self, key: &EdgeKey, active: NodeId, passive: NodeId) -> Option<Edge> {
        // A long passive flow that stands for several processes' connections
        // says nothing of when each of them had its own.
        let sure: Vec<Life> = self.told.iter().filter_map(|told| told.sure).collect();
        let any = self.told.iter().map(|told| told.any);
        let life = if sure.is_empty() {
            any.reduce(Life::and)?
        } else {
            sure.into_iter().reduce(Life::and)?
        };
        let by_active = self.told.iter().any(|told| told.by_active);
        let by_passive = self.told.iter().any(|told| !told.by_active);
        let told_by = match (by_active, by_passive) {
            (true, true) => ToldBy::Both,
            (true, false) => ToldBy::Active,
            (false, _) => ToldBy::Passive,
        };
        let directed = key.active_port.is_none();
        Some(Edge {
            active,
            passive,
            directed,
            protocol: key.protocol,
            port: key.port,
            active_port: key.active_port,
            active_address: key.active_address,
            passive_address: key.passive_address,
            told_by,
            confidence: self.confidence(key, told_by),
            rungs: self.told.iter().filter_map(|told| told.rung).collect::<BTreeSet<Rung>>(),
            first_seen: life.first,
            last_seen: life.last,
            ended: life.ended,
            failing: directed && self.failing(),
            traffic: self.traffic(by_active, life.ended),
        })
    }

    fn confidence(&self, key: &EdgeKey, told_by: ToldBy) -> Confidence {
        let peer = |key: Key| matches!(key, Key::Peer { .. });
        if key.active_port.is_some() {
            Confidence::DirectionUnknown
        } else if self.ambiguous {
            Confidence::Ambiguous
        } else if told_by == ToldBy::Both {
            if self.met { Confidence::Confirmed } else { Confidence::Apart }
        } else if peer(key.active) || peer(key.passive) {
            Confidence::NoProbe
        } else {
            Confidence::OneEnd
        }
    }

    /// Whether the latest word of the active end is that nobody answers. Only
    /// that end knows: a passive flow exists once it was answered.
    fn failing(&self) -> bool {
        let latest = self
            .told
            .iter()
            .filter(|told| told.by_active)
            .max_by_key(|told| (!told.any.ended, told.any.last));
        latest.is_some_and(|latest| {
            let same = |told: &&Told<'_>| {
                told.by_active
                    && told.any.ended == latest.any.ended
                    && (!told.any.ended || told.any.last == latest.any.last)
            };
            self.told.iter().filter(same).all(|told| unanswered(told.counters))
        })
    }

    fn traffic(&self, by_active: bool, ended: bool) -> Traffic {
        let mut traffic = Traffic { shared: 1, ..Traffic::default() };
        for told in self.told.iter().filter(|told| told.by_active == by_active) {
            let counters = told.counters;
            if !ended && !told.any.ended {
                traffic.open += u64::from(counters.open);
                traffic.connecting += u64::from(counters.connecting);
            }
            let (to_passive, to_active) = if by_active {
                (counters.bytes_sent, counters.bytes_received)
            } else {
                (counters.bytes_received, counters.bytes_sent)
            };
            add(&mut traffic.opened, counters.opened);
            add(&mut traffic.failed, counters.failed);
            add(&mut traffic.refused, counters.refused);
            add(&mut traffic.timed_out, counters.timed_out);
            add(&mut traffic.unreachable, counters.unreachable);
            add(&mut traffic.bytes_to_passive, to_passive);
            add(&mut traffic.bytes_to_active, to_active);
            add(&mut traffic.retransmits, counters.retransmits);
            traffic.rtt_us = traffic.rtt_us.into_iter().chain(counters.rtt_us).min();
            traffic.shared = traffic.shared.max(told.shared);
        }
        traffic
    }
}

/// No connection is or ever was established.
fn unanswered(counters: &Counters) -> bool {
    let waiting = counters.open > 0 && counters.open == counters.connecting;
    let refused = counters.failed.is_some_and(|failed| failed > 0)
        && counters.opened == Some(0)
        && counters.open == counters.connecting;
    waiting || refused
}

fn add(total: &mut Option<u64>, more: Option<u64>) {
    if let Some(more) = more {
        *total = Some(total.unwrap_or(0).saturating_add(more));
    }
}
