//! What each end told, merged into edges.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use smallvec::SmallVec;

use crate::flow::host::Rung;
use crate::flow::key::Counters;
use crate::flow::socket::Protocol;
use crate::graph::index::{Side, Sighting};
use crate::graph::{Confidence, Edge, Identity, Node, NodeId, Teller, ToldBy, Traffic};
use crate::recall::Span;

/// What makes two tellings the same edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct EdgeKey {
    active: NodeId,
    passive: NodeId,
    protocol: Protocol,
    port: u16,
    active_port: Option<u16>,
    active_address: IpAddr,
    passive_address: IpAddr,
}

/// All that was told, edge by edge once it is sorted.
pub(crate) struct Merging<'r> {
    /// Sighting by sighting, and what one says by when it last was.
    told: Vec<Told<'r>>,
    /// How far apart in time two ends' words may be.
    tolerance: SignedDuration,
}

/// The records that told of an edge.
type Tellers = SmallVec<[Teller; 2]>;

/// What one sighting says of one edge.
struct Told<'r> {
    edge: EdgeKey,
    by_active: bool,
    /// Where its record stands.
    at: u32,
    counters: &'r Counters,
    rung: Option<Rung>,
    /// From the ranges in which it can mean no other edge.
    sure: Option<Life>,
    /// From all ranges.
    any: Life,
    /// It can mean other edges, but its end may be this one's.
    last: bool,
    met: bool,
    ambiguous: bool,
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
    said: SmallVec<[Said; 1]>,
    ranges: usize,
}

/// What it says of one edge in one range, or in several.
struct Said {
    edge: EdgeKey,
    by_active: bool,
    ranges: usize,
    sure: Option<Life>,
    any: Life,
    met: bool,
    ambiguous: bool,
}

impl EdgeKey {
    /// The edge between a node at a sighting's own end and one at the other;
    /// and whether the own end is the active one.
    fn of(sighting: &Sighting<'_>, own: NodeId, other: NodeId) -> (EdgeKey, bool) {
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

impl Told<'_> {
    /// Whether when it last was it can mean other edges, too.
    fn shares_end(&self) -> bool {
        self.sure.is_none_or(|sure| sure.last < self.any.last)
    }
}

impl Saying {
    /// In this range the sighting was one of the edges between these nodes at
    /// its own end and at the other.
    pub(crate) fn add(
        &mut self,
        sighting: &Sighting<'_>,
        (own, other): (&[NodeId], &[NodeId]),
        life: Life,
        (met, ambiguous): (bool, bool),
    ) {
        self.ranges += 1;
        let sure = (own.len() * other.len() == 1).then_some(life);
        for own in own {
            for other in other {
                let (edge, by_active) = EdgeKey::of(sighting, *own, *other);
                let said = Said { edge, by_active, ranges: 1, sure, any: life, met, ambiguous };
                self.said.push(said);
            }
        }
    }

    /// Each edge once.
    fn fold(mut self) -> SmallVec<[Said; 1]> {
        if self.said.len() > 1 {
            self.said.sort_by_key(|said| said.edge);
            self.said.dedup_by(|next, said| next.edge == said.edge && said.take(next));
        }
        self.said
    }
}

impl Said {
    /// Takes what was said of the same edge in another range.
    fn take(&mut self, other: &Said) -> bool {
        self.ranges += other.ranges;
        self.met |= other.met;
        self.ambiguous |= other.ambiguous;
        self.any = self.any.and(other.any);
        self.sure = self.sure.into_iter().chain(other.sure).reduce(Life::and);
        true
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

    /// From when it was, until when either was.
    fn until(self, other: Life) -> Life {
        Life { first: self.first, ..self.and(other) }
    }
}

impl<'r> Merging<'r> {
    /// Nothing yet.
    pub(crate) fn new(tolerance: SignedDuration) -> Self {
        Merging { told: Vec::new(), tolerance }
    }

    /// Takes what a sighting says.
    pub(crate) fn tell(&mut self, sighting: &Sighting<'r>, rung: Option<Rung>, saying: Saying) {
        let ranges = saying.ranges;
        let mut all = saying.fold();
        all.sort_by_key(|said| said.any.last);
        let shared = u32::try_from(all.len()).unwrap_or(u32::MAX);
        for said in all {
            let (mut any, mut sure) = (said.any, said.sure);
            if said.ranges == ranges {
                // All the time it was this edge, so also before the window.
                let first = sighting.record.first_seen;
                any.first = any.first.min(first);
                sure = sure.map(|sure| Life { first: sure.first.min(first), ..sure });
            }
            self.told.push(Told {
                edge: said.edge,
                by_active: said.by_active,
                at: sighting.at,
                counters: &sighting.record.flow.counters,
                rung,
                sure,
                any,
                last: false,
                met: said.met,
                ambiguous: said.ambiguous,
                shared,
            });
        }
    }

    /// The edges, sorted by what they are. `ids` are the nodes' numbers in the
    /// graph by those that they had so far.
    pub(crate) fn edges(mut self, ids: &[NodeId], nodes: &[Node]) -> (Vec<Edge>, Vec<Tellers>) {
        for told in &mut self.told {
            let edge = &mut told.edge;
            (edge.active, edge.passive) = (ids[edge.active], ids[edge.passive]);
        }
        let mut order: Vec<(EdgeKey, usize)> =
            self.told.iter().enumerate().map(|(at, told)| (told.edge, at)).collect();
        order.sort_unstable();
        self.share_ends(&order);
        let edges = order.chunk_by(|a, b| a.0 == b.0);
        edges
            .filter_map(|told| {
                let told = told.iter().map(|(_, at)| &self.told[*at]).collect();
                let parts = Parts { told };
                Some((parts.edge(nodes)?, parts.tellers()))
            })
            .unzip()
    }

    /// Says whose the end of a flow is that stands for several edges: theirs
    /// whose other ends spoke last. Where a service saw it for longer than all
    /// its callers told, each may have fallen silent and be there still, so it
    /// is everyone's; but of processes that serve one port the last one has it.
    fn share_ends(&mut self, order: &[(EdgeKey, usize)]) {
        if !self.told.iter().any(Told::shares_end) {
            return;
        }
        // When the other end of each telling's edge last spoke.
        let mut others: Vec<Option<Timestamp>> = vec![None; self.told.len()];
        for edge in order.chunk_by(|a, b| a.0 == b.0) {
            let told = || edge.iter().map(|(_, at)| (*at, &self.told[*at]));
            let last_of = |by_active| {
                let told = told().filter(|(_, told)| told.by_active == by_active);
                told.map(|(_, told)| told.any.last).max()
            };
            let [active, passive] = [true, false].map(last_of);
            for (at, told) in told().filter(|(_, told)| told.shares_end()) {
                others[at] = if told.by_active { passive } else { active };
            }
        }
        let mut others = &others[..];
        for same in self.told.chunk_by_mut(|a, b| (a.at, a.any.last) == (b.at, b.any.last)) {
            let (here, rest) = others.split_at(same.len());
            others = rest;
            let Some(latest) = here.iter().copied().flatten().max() else { continue };
            let later = same[0].any.last.duration_since(latest) > self.tolerance;
            let everyones = later && !same[0].by_active;
            for (told, other) in same.iter_mut().zip(here) {
                told.last = told.shares_end() && (everyones || *other == Some(latest));
            }
        }
    }
}

/// All that was told of one edge.
struct Parts<'m, 'r> {
    told: SmallVec<[&'m Told<'r>; 2]>,
}

impl Parts<'_, '_> {
    fn tellers(&self) -> Tellers {
        let teller = |told: &&Told<'_>| Teller { record: told.at, by_active: told.by_active };
        self.told.iter().map(teller).collect()
    }

    fn edge(&self, nodes: &[Node]) -> Option<Edge> {
        let key = self.told.first()?.edge;
        // A long passive flow that stands for several processes' connections
        // says nothing of when each of them had its own, but for its end.
        let sure = self.told.iter().filter_map(|told| told.sure).reduce(Life::and);
        let any = self.told.iter().map(|told| told.any).reduce(Life::and);
        let last = self.told.iter().filter(|told| told.last).map(|told| told.any);
        let life = sure.map(|sure| last.fold(sure, Life::until)).or(any)?;
        let by_active = self.told.iter().any(|told| told.by_active);
        let by_passive = self.told.iter().any(|told| !told.by_active);
        let told_by = match (by_active, by_passive) {
            (true, true) => ToldBy::Both,
            (true, false) => ToldBy::Active,
            (false, _) => ToldBy::Passive,
        };
        let directed = key.active_port.is_none();
        Some(Edge {
            active: key.active,
            passive: key.passive,
            directed,
            protocol: key.protocol,
            port: key.port,
            active_port: key.active_port,
            active_address: key.active_address,
            passive_address: key.passive_address,
            told_by,
            confidence: self.confidence(&key, told_by, nodes),
            rungs: self.told.iter().filter_map(|told| told.rung).collect::<BTreeSet<Rung>>(),
            first_seen: life.first,
            last_seen: life.last,
            ended: life.ended,
            failing: directed && self.failing(),
            traffic: self.traffic(by_active, life.ended),
            rise: None,
        })
    }

    fn confidence(&self, key: &EdgeKey, told_by: ToldBy, nodes: &[Node]) -> Confidence {
        let peer = |node: NodeId| matches!(nodes[node].identity, Identity::Peer { .. });
        if key.active_port.is_some() {
            Confidence::DirectionUnknown
        } else if self.told.iter().any(|told| told.ambiguous) {
            Confidence::Ambiguous
        } else if told_by == ToldBy::Both {
            let met = self.told.iter().any(|told| told.met);
            if met { Confidence::Confirmed } else { Confidence::Apart }
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
            let same = |told: &&&Told<'_>| {
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
