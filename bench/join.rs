//! What a `look` costs beside the CMDB: records → graph → walk → text, over
//! fleets that are made up here. No database, no clock of another host.
//!
//!     cargo bench --bench join                  times, the best of a few runs
//!     cargo bench --bench join -- hot tree      one shape, once, and one format:
//!                                               for perf and callgrind
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench may panic, and prints")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use shawk::flow::host::{Coverage, Rung};
use shawk::flow::key::{Counters, FlowKey, HostFlow};
use shawk::flow::process::{Instance, Process};
use shawk::flow::socket::{Direction, Protocol};
use shawk::graph::search::{Answer, Ask, Question, Search};
use shawk::graph::walk::{Reach, Ways};
use shawk::recall::{
    AddressRecord, FlowRecord, Found, HostKey, HostRecord, Records, Selector, Span, Window,
};
use shawk::view::{self, Format};

/// Runs of which the best counts.
const RUNS: usize = 5;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn ip(number: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + number).into()
}

/// Addresses of nobody who reports.
fn stranger(number: u32) -> IpAddr {
    Ipv4Addr::from(0x2d00_0000 + number).into()
}

/// What a CMDB would hold.
#[derive(Default)]
struct Fleet {
    records: Records,
    processes: BTreeMap<u32, Arc<Process>>,
    scopes: BTreeMap<u32, Arc<str>>,
}

impl Fleet {
    fn process(&mut self, number: u32) -> Arc<Process> {
        let new = || {
            Arc::new(Process {
                name: format!("app{number}"),
                exe: Some(format!("/opt/app{number}/bin/app{number}")),
                user: Some("app".into()),
                unit: Some(format!("app{number}.service")),
                container: None,
                pod: None,
            })
        };
        Arc::clone(self.processes.entry(number).or_insert_with(new))
    }

    fn scope(&mut self, number: u32) -> Arc<str> {
        let new = || if number == 0 { "".into() } else { format!("netns:{number}").into() };
        Arc::clone(self.scopes.entry(number).or_insert_with(new))
    }

    fn host(&mut self, number: u32) {
        self.records.hosts.push(HostRecord {
            key: number.into(),
            id: format!("id-{number}"),
            name: format!("host-{number}"),
            rung: Rung::Netlink,
            coverage: Coverage::default(),
            first_seen: at(0),
            last_seen: at(90),
            rivals: BTreeSet::new(),
            skew: SignedDuration::ZERO,
            watched: Vec::new(),
            dim: shawk::recall::Dim::default(),
        });
    }

    fn has(&mut self, (host, scope): (u32, u32), address: IpAddr) {
        let scope = self.scope(scope);
        let (since, until) = (at(0), at(90));
        let record = AddressRecord { host: host.into(), scope, address, since, until };
        self.records.addresses.push(record);
    }

    fn flow(
        &mut self,
        (host, scope): (u32, u32),
        direction: Direction,
        (local, peer): (IpAddr, Option<IpAddr>),
        port: u16,
        process: u32,
    ) {
        let pid = 1000 + process;
        let process = self.process(process);
        let (local_port, peer_port) = match direction {
            Direction::Active => (None, Some(port)),
            _ => (Some(port), None),
        };
        let owner = Instance { process: Arc::clone(&process), pid, pgid: pid, started: at(-100) };
        let key = FlowKey {
            scope: self.scope(scope),
            direction,
            protocol: Protocol::Tcp,
            local,
            local_port,
            peer,
            peer_port,
            process: Some(process),
        };
        let counters = Counters {
            open: 2,
            opened: Some(3),
            failed: Some(0),
            bytes_sent: Some(123_456),
            bytes_received: Some(654_321),
            retransmits: Some(1),
            rtt_us: Some(300),
            ..Counters::default()
        };
        let owners = vec![owner];
        let flow = HostFlow { key, owners, owners_more: 0, counters, tentative: false };
        let spans = vec![Span { since: at(1), until: at(90), ended: false }];
        self.records.flows.push(FlowRecord {
            host: host.into(),
            flow,
            spans,
            first_seen: at(1),
            later: None,
        });
    }

    fn listens(&mut self, place: (u32, u32), address: IpAddr, port: u16, process: u32) {
        self.flow(place, Direction::Passive, (address, None), port, process);
    }

    /// Both ends of a call.
    fn calls(&mut self, from: (u32, u32, IpAddr), to: (u32, u32, IpAddr), port: u16) {
        let process = u32::from(port % 20);
        self.flow((from.0, from.1), Direction::Active, (from.2, Some(to.2)), port, process);
        self.flow((to.0, to.1), Direction::Passive, (to.2, Some(from.2)), port, process);
    }
}

/// One host that `n` strangers call.
fn hot(n: u32) -> Fleet {
    let mut fleet = Fleet::default();
    fleet.host(1);
    fleet.has((1, 0), ip(1));
    for peer in 0..n {
        fleet.flow((1, 0), Direction::Passive, (ip(1), Some(stranger(peer))), 443, 1);
    }
    fleet
}

/// The same, of hosts that report: told by both ends.
fn hot_known(n: u32) -> Fleet {
    let mut fleet = Fleet::default();
    fleet.listens((1, 0), ip(0), 443, 3);
    for host in 1..=n {
        fleet.host(host);
        fleet.has((host, 0), ip(host));
        if host > 1 {
            fleet.calls((host, 0, ip(host)), (1, 0, ip(1)), 443);
        }
    }
    fleet
}

/// Hosts that all call each other, as in `bench/cmdb`.
fn dense(n: u32) -> Fleet {
    let mut fleet = Fleet::default();
    for host in 1..=n {
        fleet.host(host);
        fleet.has((host, 0), ip(host));
        for to in (1..=n).filter(|to| *to != host) {
            let port = 8000 + u16::try_from(to % 5).unwrap();
            fleet.calls((host, 0, ip(host)), (to, 0, ip(to)), port);
        }
    }
    fleet
}

/// One process that calls `n` strangers.
fn caller(n: u32) -> Fleet {
    let mut fleet = Fleet::default();
    fleet.host(1);
    fleet.has((1, 0), ip(1));
    for peer in 0..n {
        fleet.flow((1, 0), Direction::Active, (ip(1), Some(stranger(peer))), 443, 1);
    }
    fleet
}

/// `n` processes that each listen on an address of one host, at one port,
/// and are called there by another host, which alone tells of it.
fn listeners(n: u32) -> Fleet {
    let mut fleet = Fleet::default();
    (1..=2).for_each(|host| fleet.host(host));
    fleet.has((2, 0), stranger(1));
    for number in 0..n {
        fleet.has((1, 0), ip(number));
        fleet.listens((1, 0), ip(number), 53, number);
        let ends = (stranger(1), Some(ip(number)));
        fleet.flow((2, 0), Direction::Active, ends, 53, 1);
    }
    fleet
}

/// `n` scopes, all on one host or each on its own, that have the same two
/// addresses, of which one calls the other; told by both ends, or by one.
fn scopes(n: u32, one_host: bool, both: bool) -> Fleet {
    let mut fleet = Fleet::default();
    for number in 1..=n {
        let host = if one_host { 1 } else { number };
        if host == number {
            fleet.host(host);
        }
        let (active, passive) = ((host, 2 * number), (host, 2 * number + 1));
        fleet.has(active, ip(2));
        fleet.has(passive, ip(3));
        fleet.listens(passive, ip(3), 80, 0);
        if both {
            fleet.calls((active.0, active.1, ip(2)), (passive.0, passive.1, ip(3)), 80);
        } else {
            fleet.flow(active, Direction::Active, (ip(2), Some(ip(3))), 80, 1);
        }
    }
    fleet
}

/// One host with `n` addresses, called at and calling from each.
fn addresses(n: u32) -> Fleet {
    let mut fleet = Fleet::default();
    (1..=2).for_each(|host| fleet.host(host));
    fleet.has((2, 0), stranger(1));
    for number in 0..n {
        fleet.has((1, 0), ip(number));
        fleet.listens((1, 0), ip(number), 80, 100);
        fleet.calls((2, 0, stranger(1)), (1, 0, ip(number)), 80);
        fleet.flow((1, 0), Direction::Active, (ip(number), Some(stranger(2))), 443, 100);
    }
    fleet
}

/// Hosts in a ring, each calling the next one.
fn ring(n: u32) -> Fleet {
    let mut fleet = Fleet::default();
    for host in 1..=n {
        fleet.host(host);
        fleet.has((host, 0), ip(host));
        let next = host % n + 1;
        let process = 100 + next;
        fleet.flow((host, 0), Direction::Active, (ip(host), Some(ip(next))), 80, 100 + host);
        fleet.flow((next, 0), Direction::Passive, (ip(next), Some(ip(host))), 80, process);
    }
    fleet
}

/// What the CMDB gives for an ask. Its time is not counted.
struct Recall<'f> {
    fleet: &'f Records,
    by_host: BTreeMap<HostKey, Vec<usize>>,
    by_peer: BTreeMap<IpAddr, Vec<usize>>,
    owners: BTreeMap<IpAddr, BTreeSet<HostKey>>,
}

impl<'f> Recall<'f> {
    fn of(fleet: &'f Records) -> Self {
        let mut recall = Recall {
            fleet,
            by_host: BTreeMap::new(),
            by_peer: BTreeMap::new(),
            owners: BTreeMap::new(),
        };
        for (id, record) in fleet.flows.iter().enumerate() {
            recall.by_host.entry(record.host).or_default().push(id);
            if let Some(peer) = record.flow.key.peer {
                recall.by_peer.entry(peer).or_default().push(id);
            }
        }
        for record in &fleet.addresses {
            recall.owners.entry(record.address).or_default().insert(record.host);
        }
        recall
    }

    fn around(&self, ask: &Ask) -> Records {
        let asked: BTreeSet<HostKey> = ask.hosts.iter().copied().collect();
        let flows = |host: &HostKey| self.by_host.get(host).into_iter().flatten().copied();
        let mut wanted: BTreeSet<usize> = asked.iter().flat_map(flows).collect();
        let own = self.fleet.addresses.iter().filter(|record| asked.contains(&record.host));
        let own: BTreeSet<IpAddr> =
            own.map(|record| record.address).chain(ask.addresses.iter().copied()).collect();
        let key = |id: &usize| &self.fleet.flows[*id].flow.key;
        let ports: BTreeSet<u16> = wanted.iter().filter_map(|id| key(id).peer_port).collect();
        let named: BTreeSet<IpAddr> =
            wanted.iter().filter_map(|id| key(id).peer).chain(own.iter().copied()).collect();
        wanted.extend(own.iter().filter_map(|address| self.by_peer.get(address)).flatten());
        let owners: BTreeSet<HostKey> = named
            .iter()
            .filter_map(|address| self.owners.get(address))
            .flatten()
            .copied()
            .collect();
        let waits = |id: &usize| {
            key(id).is_listener() && key(id).local_port.is_some_and(|port| ports.contains(&port))
        };
        wanted.extend(owners.iter().flat_map(flows).filter(waits));
        let addresses = self.fleet.addresses.iter();
        let theirs = |record: &&AddressRecord| {
            asked.contains(&record.host) || named.contains(&record.address)
        };
        let flows: Vec<FlowRecord> =
            wanted.iter().map(|id| self.fleet.flows[*id].clone()).collect();
        let addresses: Vec<AddressRecord> = addresses.filter(theirs).cloned().collect();
        let hosts: BTreeSet<HostKey> = (flows.iter().map(|record| record.host))
            .chain(addresses.iter().map(|record| record.host))
            .collect();
        let hosts = self.fleet.hosts.iter().filter(|host| hosts.contains(&host.key));
        Records { hosts: hosts.cloned().collect(), addresses, flows }
    }
}

/// A question and the milliseconds its parts took.
#[derive(Clone, Debug, Default)]
struct Took {
    join: f64,
    walk: f64,
}

fn search(recall: &Recall<'_>, depth: u32) -> (Answer, Took) {
    let selector = Selector::Host("host-1".to_owned());
    let question = Question {
        selectors: vec![selector.clone()],
        window: Window::default(),
        reach: Reach { depth, ways: Ways::Both, edges: 100_000 },
        hosts: 1000,
        tolerance: SignedDuration::from_secs(120),
        labels: Default::default(),
    };
    let found = Found { hosts: [1].into(), ..Found::default() };
    let mut took = Took::default();
    let mut search = Search::begin(question, selector, found);
    loop {
        let began = Instant::now();
        let ask = search.ask();
        took.walk += began.elapsed().as_secs_f64() * 1000.0;
        let Some(ask) = ask else { break };
        let records = recall.around(&ask);
        let began = Instant::now();
        search.take(records);
        took.join += began.elapsed().as_secs_f64() * 1000.0;
    }
    let began = Instant::now();
    let answer = search.answer(at(100), Some(&[]));
    took.walk += began.elapsed().as_secs_f64() * 1000.0;
    (answer, took)
}

fn least(times: impl Iterator<Item = f64>) -> f64 {
    times.fold(f64::INFINITY, f64::min)
}

fn print(name: &str, fleet: &Fleet, depth: u32) {
    let recall = Recall::of(&fleet.records);
    let runs: Vec<(Answer, Took)> = (0..RUNS).map(|_| search(&recall, depth)).collect();
    let answer = &runs[0].0;
    let views = Format::ALL.map(|format| {
        let write = |_| {
            let mut out = Vec::new();
            let began = Instant::now();
            view::write(answer, format, false, &mut out).unwrap();
            began.elapsed().as_secs_f64() * 1000.0
        };
        format!("{:.1}", least((0..RUNS).map(write)))
    });
    println!(
        "| {name} | {} | {:.1} | {:.1} | {} |",
        answer.walk.steps.len(),
        least(runs.iter().map(|run| run.1.join)),
        least(runs.iter().map(|run| run.1.walk)),
        views.join(" | ")
    );
}

type Shape = (&'static str, &'static str, fn() -> Fleet, u32);

const SHAPES: [Shape; 11] = [
    ("hot", "30,000 strangers call one host", || hot(30_000), 1),
    ("hot-known", "10,000 hosts that report call one", || hot_known(10_000), 1),
    ("random", "a host of 50 that all call each other", || dense(50), 1),
    ("dense", "the same, --depth 4", || dense(50), 4),
    ("caller", "one process calls 50,000 strangers", || caller(50_000), 1),
    ("listeners", "2,000 listeners at one port, one end tells", || listeners(2000), 1),
    (
        "scopes",
        "500 scopes of a host, same addresses, both ends tell",
        || scopes(500, true, true),
        1,
    ),
    ("scopes-one", "the same, one end tells", || scopes(500, true, false), 1),
    ("labs", "500 hosts, same addresses, both ends tell", || scopes(500, false, true), 1),
    ("addresses", "a host with 10,000 addresses", || addresses(10_000), 1),
    ("ring", "1,000 hosts in a ring, --depth 100", || ring(1000), 100),
];

fn main() {
    let words: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let named = |shape: &&Shape| words.first().is_none_or(|word| word == shape.0);
    if let [_, format, ..] = &words[..] {
        for (_, _, fleet, depth) in SHAPES.iter().filter(named) {
            let fleet = fleet();
            let (answer, _) = search(&Recall::of(&fleet.records), *depth);
            let mut out = Vec::new();
            view::write(&answer, format.parse().unwrap(), false, &mut out).unwrap();
            println!("{} bytes", out.len());
        }
        return;
    }
    println!(
        "| milliseconds | edges | join | walk | {} |",
        Format::ALL.map(Format::name).join(" | ")
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for (_, name, fleet, depth) in SHAPES.iter().filter(named) {
        print(name, &fleet(), *depth);
    }
}
