//! Random truths: what is really there is told as the probes of both ends
//! would, and the joined graph must be the truth again, no edge more or less.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use jiff::SignedDuration;

use crate::graph::join::join;
use crate::graph::tests::notation::{print, records};

/// xorshift64: a truth is its seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    pub(crate) fn chance(&mut self, of_ten: usize) -> bool {
        self.below(10) < of_ten
    }
}

/// How many are tried: SHAWK_TEST_TIMES=30 makes it so many times as many.
pub(crate) fn rounds(of: u64) -> u64 {
    of * std::env::var("SHAWK_TEST_TIMES").map_or(1, |times| times.parse::<u64>().unwrap())
}

/// A place with its own loopback and one address.
struct Place {
    name: String,
    address: String,
    /// Whether a probe reports for it.
    probe: bool,
    services: Vec<Service>,
    /// Name and process groups of what calls.
    callers: Vec<(String, Vec<usize>)>,
}

struct Service {
    name: String,
    pgid: usize,
    port: usize,
    protocol: &'static str,
    bound: String,
}

/// Hosts with their own scope, some without a probe, and two hosts with the
/// same three container addresses each.
fn places(dice: &mut Dice) -> Vec<Place> {
    let mut places = Vec::new();
    for host in 0..3 + dice.below(4) {
        let probe = host == 0 || dice.chance(8);
        let v6 = dice.chance(3);
        let own = if v6 { format!("fd00::{}", host + 1) } else { format!("10.0.0.{}", host + 1) };
        let mut scopes = vec![(format!("h{host}"), own)];
        if host < 2 {
            scopes.extend((2..5).map(|n| (format!("h{host}@net{n}"), format!("172.17.0.{n}"))));
        }
        for (name, address) in scopes {
            let probe = probe || host < 2;
            places.push(Place { name, address, probe, services: Vec::new(), callers: Vec::new() });
        }
    }
    for (at, place) in places.iter_mut().enumerate() {
        for n in 0..1 + dice.below(3) {
            let any = if place.address.contains(':') { "::" } else { "0.0.0.0" };
            place.services.push(Service {
                // Two services may be one program in two process groups.
                name: format!("svc{}", dice.below(2)),
                pgid: 100 + 10 * at + n,
                port: [80, 443, 51_000][n],
                protocol: if dice.chance(2) { "udp" } else { "tcp" },
                bound: if dice.chance(5) { any.to_owned() } else { place.address.clone() },
            });
        }
        for n in 0..1 + dice.below(3) {
            let base = 1000 + 10 * at + 2 * n;
            let groups = if dice.chance(2) { vec![base, base + 1] } else { vec![base] };
            place.callers.push((format!("cli{n}"), groups));
        }
    }
    places
}

/// Addresses and ports in the notation.
fn with_port(address: &str, port: usize) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// What is told, and what is true.
struct Truth {
    told: String,
    edges: BTreeSet<String>,
}

impl Truth {
    fn declare(&mut self, places: &[Place]) {
        let hosts: BTreeSet<&str> = places
            .iter()
            .filter(|place| place.probe)
            .map(|place| place.name.split('@').next().unwrap())
            .collect();
        for host in hosts {
            writeln!(self.told, "host {host}").unwrap();
        }
        for place in places.iter().filter(|place| place.probe) {
            writeln!(self.told, "{} has 127.0.0.1 ::1 {}", place.name, place.address).unwrap();
            for service in &place.services {
                let Service { name, pgid, port, protocol, bound } = service;
                let bound = with_port(bound, *port);
                writeln!(self.told, "{} {protocol} {bound} listens {name}/{pgid}", place.name)
                    .unwrap();
            }
        }
    }

    /// One process calls one service, from and at these addresses.
    fn call(&mut self, dice: &mut Dice, from: &Place, to: &Place, addresses: (&str, &str)) {
        let (caller, groups) = &from.callers[dice.below(from.callers.len())];
        let service = &to.services[dice.below(to.services.len())];
        let Service { name, pgid, port, protocol, bound } = service;
        let (local, peer) = addresses;
        let reachable = bound == peer || bound == "::" || bound == "0.0.0.0";
        if !reachable {
            return;
        }
        // A UDP service sees no flows, a TCP one may be seen at one end only.
        let by_active = from.probe && dice.chance(9);
        let by_passive = to.probe && *protocol == "tcp" && (!by_active || dice.chance(8));
        let at = with_port(peer, *port);
        let groups_text: Vec<String> = groups.iter().map(ToString::to_string).collect();
        if by_active {
            let groups = groups_text.join("+");
            let line = format!("{} {protocol} {local} -> {at} {caller}/{groups}", from.name);
            self.tell(&line);
        }
        if by_passive {
            self.tell(&format!("{} {protocol} {at} <- {local} {name}/{pgid}", to.name));
        }
        if by_active || by_passive {
            let passive =
                if to.probe { format!("{} {name}/{pgid}", to.name) } else { "nobody".to_owned() };
            let ends = match (from.probe, to.probe) {
                _ if by_active && by_passive => "both, confirmed",
                (true, true) if by_active => "active, one end",
                (true, true) => "passive, one end",
                (true, false) => "active, one end, no probe at the other",
                (false, _) => "passive, one end, no probe at the other",
            };
            let edge = |active: String| {
                format!("{active} {local} -> {passive} {peer}:{port} {protocol} {ends} 0-60")
            };
            if by_active {
                let edges =
                    groups.iter().map(|group| edge(format!("{} {caller}/{group}", from.name)));
                self.edges.extend(edges);
            } else if from.probe {
                self.edges.insert(edge(format!("{} ?", from.name)));
            } else {
                self.edges.insert(edge("nobody".to_owned()));
            }
        }
    }

    /// A host reports a flow once, however often it is called.
    fn tell(&mut self, line: &str) {
        if !self.told.lines().any(|told| told == line) {
            writeln!(self.told, "{line}").unwrap();
        }
    }
}

/// Both ends of an edge may have been told in different calls; then it is one
/// edge that both told of. So is an edge of which the passive end alone told
/// while another call from there was seen at both.
fn fold(edges: &BTreeSet<String>) -> BTreeSet<String> {
    let mut folded: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for edge in edges {
        let (what, rest) = edge.split_once(" tcp ").or_else(|| edge.split_once(" udp ")).unwrap();
        let protocol = if edge.contains(" tcp ") { "tcp" } else { "udp" };
        let told = rest.trim_end_matches(" 0-60").to_owned();
        folded.entry((what.to_owned(), protocol.to_owned())).or_default().insert(told);
    }
    // Ends and addresses without the active process: what a passive end sees.
    let passive_sight = |what: &str| {
        let (active, passive) = what.split_once(" -> ").unwrap();
        let words: Vec<&str> = active.split(' ').collect();
        (words[0].to_owned(), words[words.len() - 1].to_owned(), passive.to_owned())
    };
    let seen_by_passive: BTreeSet<_> = folded
        .iter()
        .filter(|(_, told)| {
            told.iter().any(|told| told.starts_with("both") || told.starts_with("passive"))
        })
        .map(|((what, _), _)| passive_sight(what))
        .collect();
    let named: BTreeSet<_> = folded
        .keys()
        .filter(|(what, _)| what.contains('/') && !what.split(" -> ").next().unwrap().contains('?'))
        .filter(|(what, _)| what.split(" -> ").next().unwrap().contains('/'))
        .map(|(what, _)| passive_sight(what))
        .collect();
    folded
        .into_iter()
        .filter(|((what, _), _)| {
            let unseen = what.split(" -> ").next().unwrap().contains('?');
            !(unseen && named.contains(&passive_sight(what)))
        })
        .map(|((what, protocol), told)| {
            let both = !what.starts_with("nobody")
                && !what.contains("-> nobody")
                && !what.split(" -> ").next().unwrap().contains('?')
                && protocol == "tcp"
                && seen_by_passive.contains(&passive_sight(&what));
            let told =
                if both { "both, confirmed".to_owned() } else { told.into_iter().next().unwrap() };
            format!("{what} {protocol} {told} 0-60")
        })
        .collect()
}

#[test]
fn the_joined_graph_is_the_truth() {
    let (mut edges, mut both) = (0, 0);
    for seed in 1..=rounds(400) {
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed));
        let places = places(&mut dice);
        let mut truth = Truth { told: String::new(), edges: BTreeSet::new() };
        truth.declare(&places);
        for _ in 0..5 + dice.below(40) {
            let from = &places[dice.below(places.len())];
            let to = &places[dice.below(places.len())];
            let own = from.name == to.name;
            let family = from.address.contains(':') == to.address.contains(':');
            // Containers are reached from their own host only.
            let host = |place: &Place| place.name.split('@').next().unwrap().to_owned();
            let reached =
                host(from) == host(to) || !(from.name.contains('@') || to.name.contains('@'));
            if own && from.probe && dice.chance(5) {
                let loopback = if from.address.contains(':') { "::1" } else { "127.0.0.1" };
                truth.call(&mut dice, from, to, (loopback, loopback));
            } else if family && reached && (from.probe || to.probe) && (!own || from.probe) {
                truth.call(&mut dice, from, to, (&from.address, &to.address));
            }
        }
        let graph = join(&records(&truth.told), SignedDuration::from_secs(10));
        let expected: String = fold(&truth.edges).iter().map(|edge| format!("{edge}\n")).collect();
        assert_eq!(print(&graph), expected, "seed {seed}:\n{}", truth.told);
        edges += graph.edges.len();
        both += expected.matches("both").count();
    }
    // Truths without edges would prove nothing.
    assert!(edges > 3000 && both > 1000, "{edges} edges, {both} told by both");
}
