//! Random histories, in which addresses move, are used again in several scopes
//! and mean nothing outside of one; each edge is held against what a look at
//! every record, one by one, says of it.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

use crate::flow::socket::Direction;
use crate::graph::join::join;
use crate::graph::tests::notation::{records, second};
use crate::graph::tests::truth::{Dice, rounds};
use crate::graph::{Confidence, Edge, Graph, Identity, NodeId, ToldBy, only_inside};
use crate::recall::{FlowRecord, Records, Span};

const TOLERANCE: SignedDuration = SignedDuration::from_secs(3);

const PLACES: [&str; 6] = ["a", "a@x", "a@y", "b", "b@x", "c"];
const HOSTS: [&str; 3] = ["a", "b", "c"];
const ADDRESSES: [&str; 8] =
    ["10.0.0.1", "10.0.0.2", "172.17.0.2", "172.17.0.3", "127.0.0.1", "fd00::1", "fe80::1", "::1"];

fn pick<'w>(dice: &mut Dice, words: &[&'w str]) -> &'w str {
    words[dice.below(words.len())]
}

/// From when until when each host is silent, if it is.
type Silent = [Option<(usize, usize)>; 3];

fn silent(dice: &mut Dice) -> Silent {
    [0; 3].map(|_| {
        let since = 10 + dice.below(30);
        dice.chance(5).then(|| (since, since + 2 + dice.below(30)))
    })
}

/// What a host may tell of at a place: nothing while it is silent.
fn range(dice: &mut Dice, place: &str, silent: &Silent) -> (usize, usize) {
    let since = dice.below(50);
    let until = since + dice.below(12);
    match silent[HOSTS.iter().position(|host| place.starts_with(host)).unwrap()] {
        Some((from, to)) if since < to && until > from => {
            if since <= from {
                (since, from)
            } else {
                (to, until.max(to))
            }
        }
        _ => (since, until),
    }
}

/// Where who had what when, and flows that need not fit it: a probe sees what
/// it sees.
fn history(dice: &mut Dice) -> String {
    let silent = silent(dice);
    let mut text = String::new();
    for (host, silent) in HOSTS.iter().zip(silent) {
        text += &match silent {
            Some((from, to)) => format!("host {host} 0-{from} {to}-75\n"),
            None => format!("host {host} 0-75\n"),
        };
    }
    for _ in 0..dice.below(12) {
        let (place, address) = (pick(dice, &PLACES), pick(dice, &ADDRESSES));
        let (since, until) = range(dice, place, &silent);
        text += &format!("{place} has {address} {since}-{until}\n");
    }
    for _ in 0..2 + dice.below(14) {
        let (local, peer) = (pick(dice, &ADDRESSES), pick(dice, &ADDRESSES));
        if local.contains(':') != peer.contains(':') {
            continue;
        }
        let end = |address: &str, port: usize| {
            if address.contains(':') {
                format!("[{address}]:{port}")
            } else {
                format!("{address}:{port}")
            }
        };
        let port = 80 + dice.below(2);
        let flow = match dice.below(7) {
            0 => format!("{} listens", end(local, port)),
            1 | 2 => format!("{} <- {peer}", end(local, port)),
            3 => format!("{} -- {}", end(local, port), end(peer, 80 + dice.below(2))),
            _ => format!("{local} -> {}", end(peer, port)),
        };
        let mut told = vec![(flow, pick(dice, &["web/1", "web/2", "app/3", "app/4+5", "-"]))];
        if told[0].0.contains("->") && dice.below(3) > 0 {
            // The other end saw it too, then or at another time.
            told.push((format!("{} <- {local}", end(peer, port)), pick(dice, &["web/1", "-"])));
        }
        for (flow, process) in told {
            let place = pick(dice, &PLACES);
            text += &format!("{place} tcp {flow} {process}");
            for _ in 0..1 + dice.below(2) {
                let (since, until) = range(dice, place, &silent);
                let ended = if dice.below(2) == 0 { "." } else { "" };
                text += &format!(" {since}-{until}{ended}");
            }
            text.push('\n');
        }
    }
    text
}

fn near(a: (Timestamp, Timestamp), b: (Timestamp, Timestamp)) -> bool {
    a.0 <= b.1 + TOLERANCE && b.0 <= a.1 + TOLERANCE
}

fn times(span: &Span) -> (Timestamp, Timestamp) {
    (span.since, span.until.max(span.since))
}

fn meet(a: &FlowRecord, b: &FlowRecord) -> bool {
    a.spans.iter().any(|a| b.spans.iter().any(|b| near(times(a), times(b))))
}

/// One history's records and graph.
struct Check<'h> {
    all: &'h Records,
    graph: &'h Graph,
    /// Ends that are known only because their hosts were silent.
    silent: Cell<usize>,
}

impl Check<'_> {
    fn tellers(&self, at: usize, by_active: bool) -> impl Iterator<Item = &FlowRecord> {
        let tellers = self.graph.tellers[at].iter();
        let by = tellers.filter(move |teller| teller.by_active == by_active);
        by.map(|teller| &self.all.flows[teller.record as usize])
    }

    /// The node is an end on the teller's own place, under its own process.
    fn is_own(&self, node: NodeId, record: &FlowRecord) -> bool {
        let identity = &self.graph.nodes[node].identity;
        let here = identity
            .place()
            .is_some_and(|place| place.host == record.host && place.scope == record.flow.key.scope);
        here && match (identity, &record.flow.key.process) {
            (Identity::Process { process, .. }, Some(own)) => process == own,
            // A listener may name it.
            (_, own) => own.is_none(),
        }
    }

    /// Whether anybody who reports had an address about then, be it that a
    /// passive flow used it.
    fn owned(&self, address: IpAddr, spans: &[Span]) -> bool {
        let then = |range| spans.iter().any(|span| near(times(span), range));
        self.all.addresses.iter().any(|had| had.address == address && then((had.since, had.until)))
            || self.all.flows.iter().any(|record| {
                let key = &record.flow.key;
                let used = key.direction == Direction::Passive && key.peer.is_some();
                used && key.local == address && record.spans.iter().any(|span| then(times(span)))
            })
    }

    /// Whether a host, or any but the one that tells, had an address before or
    /// after, and said nothing from then until it was told of.
    fn kept(
        &self,
        host: Option<i64>,
        address: IpAddr,
        record: &FlowRecord,
        spans: &[Span],
    ) -> bool {
        let said = |host: i64| {
            let record = self.all.hosts.iter().find(|record| record.key == host).unwrap();
            let addresses = self.all.addresses.iter().filter(move |had| had.host == host);
            let flows = self.all.flows.iter().filter(move |flow| flow.host == host);
            let flows = flows.flat_map(|flow| flow.spans.iter().map(times));
            let ranges = record.watched.iter().copied().chain(flows);
            ranges.chain(addresses.map(|had| (had.since, had.until)))
        };
        let between =
            |host, after, before| said(host).any(|(since, until)| until > after && since < before);
        let had = || self.all.addresses.iter().filter(|had| had.address == address);
        spans.iter().map(times).any(|(since, until)| {
            // Whoever had it later, or earlier, took it from the others.
            let last = had().map(|had| had.until).filter(|end| *end < since).max();
            let next = had().map(|had| had.since).filter(|begin| *begin > until).min();
            had().any(|had| {
                let first = had.since - SignedDuration::from_secs(5);
                let before = last.is_some_and(|last| had.until >= last - TOLERANCE)
                    && had.until < since
                    && !between(had.host, had.until, until);
                let after = next.is_some_and(|next| had.since <= next + TOLERANCE)
                    && had.since > until
                    && !between(had.host, since, first);
                let owner = had.host != record.host && host.is_none_or(|host| host == had.host);
                owner && (before || after)
            })
        })
    }

    fn edge(&self, at: usize, edge: &Edge) {
        let told = [true, false].map(|by_active| self.tellers(at, by_active).count() > 0);
        let expected = match told {
            [true, true] => ToldBy::Both,
            [true, false] => ToldBy::Active,
            [false, true] => ToldBy::Passive,
            [false, false] => panic!("nobody told of {edge:?}"),
        };
        assert_eq!(edge.told_by, expected);
        for by_active in [true, false] {
            let ends = [(edge.active, edge.active_address), (edge.passive, edge.passive_address)];
            let [own, other] = if by_active { ends } else { [ends[1], ends[0]] };
            for record in self.tellers(at, by_active) {
                let key = &record.flow.key;
                assert_eq!((key.local, key.peer), (own.1, Some(other.1)), "{edge:?}");
                assert!(self.is_own(own.0, record), "{edge:?} {record:?}");
                self.other(edge, other, record);
            }
        }
        if edge.told_by == ToldBy::Both && edge.confidence == Confidence::Confirmed {
            let mut passive = self.tellers(at, false);
            assert!(
                passive.any(|passive| self.tellers(at, true).any(|active| meet(active, passive))),
                "{edge:?}"
            );
        }
    }

    /// What a teller's other end may be.
    fn other(&self, edge: &Edge, (node, address): (NodeId, IpAddr), record: &FlowRecord) {
        let node = &self.graph.nodes[node];
        match &node.identity {
            Identity::Peer { link: None, .. } if node.claimed_by.is_empty() => {
                // Nobody had it, or kept it in silence, in at least one span, or
                // whoever did was out of reach.
                let bound = record.flow.key.local.is_loopback();
                let whose = |span: &[Span]| {
                    self.owned(address, span) || self.kept(None, address, record, span)
                };
                let some = |span: &Span| bound || !whose(&[*span]);
                assert!(record.spans.iter().any(some), "{edge:?}");
            }
            Identity::Peer { .. } => {}
            Identity::Process { place, .. } | Identity::Unseen { place, .. } => {
                let here = place.host == record.host && place.scope == record.flow.key.scope;
                let inside = only_inside(address) || record.flow.key.local.is_loopback();
                assert!(here || !inside, "left its place: {edge:?}");
                let known = self.owned(address, &record.spans) || self.seen(place.host, record);
                let kept = self.kept(Some(place.host), address, record, &record.spans);
                assert!(here || known || kept, "{edge:?}");
                self.silent.set(self.silent.get() + usize::from(!here && !known));
            }
        }
    }

    /// Each flow was last seen as late as its end saw it, by one edge at least.
    fn last_words(&self, text: &str) {
        for (at, record) in (0..).zip(&self.all.flows) {
            let edges = self.graph.edges.iter().zip(&self.graph.tellers);
            let mut told = edges.filter(|(_, by)| by.iter().any(|teller| teller.record == at));
            let last = record.spans.iter().map(|span| times(span).1).max();
            let known = |(edge, _): (&Edge, _)| Some(edge.last_seen) >= last;
            assert!(record.flow.key.peer.is_none() || told.any(known), "{record:?}\n{text}");
        }
    }

    /// Whether a host saw the other end of a flow at about that time.
    fn seen(&self, host: i64, record: &FlowRecord) -> bool {
        self.all.flows.iter().any(|other| {
            let (own, key) = (&record.flow.key, &other.flow.key);
            other.host == host
                && (Some(key.local), key.peer) == (own.peer, Some(own.local))
                && meet(record, other)
        })
    }
}

#[test]
fn each_edge_stands_up_to_a_look_at_every_record() {
    let (mut of, mut silent) = ([0; 6], 0);
    for seed in 1..=rounds(1500) {
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed));
        let text = history(&mut dice);
        let mut all = records(&text);
        // A host tells of a flow once.
        let mut told = BTreeSet::new();
        all.flows.retain(|record| told.insert((record.host, record.flow.key.clone())));
        let graph = join(&all, TOLERANCE);
        assert_eq!(graph.malformed, 0);
        let check = Check { all: &all, graph: &graph, silent: Cell::new(0) };
        for (at, edge) in graph.edges.iter().enumerate() {
            check.edge(at, edge);
            of[edge.confidence as usize] += 1;
        }
        silent += check.silent.get();
        // Nothing that was seen is lost.
        let telling: BTreeSet<u32> =
            graph.tellers.iter().flatten().map(|teller| teller.record).collect();
        let with_peer = all.flows.iter().filter(|record| record.flow.key.peer.is_some());
        assert_eq!(telling.len(), with_peer.count(), "{text}");
        check.last_words(&text);
        let mut backwards = all.clone();
        backwards.flows.reverse();
        backwards.addresses.reverse();
        let again = join(&backwards, TOLERANCE);
        assert_eq!((&again.nodes, &again.edges), (&graph.nodes, &graph.edges), "{text}");
        assert!(graph.edges.iter().all(|edge| edge.last_seen >= second(0)));
    }
    assert!(of.iter().all(|edges| *edges > 5), "each kind of edge came up: {of:?}");
    assert!(silent > 20, "{silent} ends of silent hosts came up");
}
