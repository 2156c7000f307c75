//! The CMDB at fleet size: how fast it takes reports, how fast it answers, how
//! large it is. Run by `bench/cmdb`; the arguments are addresses of empty CMDBs.
//!
//! The fleet: groups of 50 hosts in which each host calls each other one (2450
//! edges, 4900 flows a group), and one host that 30,000 addresses without a
//! probe call.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench may panic, and prints")]

use std::collections::hash_map::DefaultHasher;
use std::hash::{BuildHasher, BuildHasherDefault};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use shawk::cmdb::Cmdb;
use shawk::cmdb::connect::Limits;
use shawk::cmdb::url::CmdbUrl;
use shawk::flow::host::{Coverage, Host, Rung};
use shawk::flow::key::{Counters, FlowKey, HostFlow};
use shawk::flow::process::{Instance, Process};
use shawk::flow::report::{FlowReport, Report, ScopedAddress};
use shawk::flow::socket::{Direction, Protocol};
use shawk::graph::search::Question;
use shawk::graph::walk::{Reach, Ways};
use shawk::look;
use shawk::recall::{Selector, Window};

const GROUP: u32 = 50;
const HOT_FLOWS: u32 = 30_000;
/// Hosts whose reports make a batch of about 10,000 records.
const BATCH: usize = 102;
const LIMITS: Limits = Limits {
    connect: Duration::from_secs(60),
    read: Duration::from_secs(600),
    write: Duration::from_secs(600),
    connections: 1,
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn address(host: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + host).into()
}

fn process(number: u32) -> Arc<Process> {
    Arc::new(Process {
        name: format!("app{number}"),
        exe: Some(format!("/opt/app{number}/bin/app{number}")),
        user: Some("app".into()),
        unit: Some(format!("app{number}.service")),
        container: None,
        pod: None,
    })
}

struct Fleet {
    hosts: u32,
    processes: Vec<Arc<Process>>,
}

impl Fleet {
    /// What a host tells at a moment; its numbers have all changed since the
    /// sequence before.
    fn report(&self, host: u32, sequence: u64) -> Report {
        let until = i64::try_from(sequence).unwrap() * 30;
        let mut flows = Vec::new();
        if host == 0 {
            for peer in 0..HOT_FLOWS {
                let peer = Ipv4Addr::from(0x2d00_0000 + peer).into();
                flows.push(self.flow(host, Direction::Passive, peer, 443, sequence));
            }
        } else {
            let first = (host - 1) / GROUP * GROUP + 1;
            for peer in (first..first + GROUP).filter(|peer| *peer != host && *peer < self.hosts) {
                let to = 8000 + u16::try_from(peer % 5).unwrap();
                let from = 8000 + u16::try_from(host % 5).unwrap();
                flows.push(self.flow(host, Direction::Active, address(peer), to, sequence));
                flows.push(self.flow(host, Direction::Passive, address(peer), from, sequence));
            }
        }
        Report {
            host: Host { id: format!("id-{host}"), name: format!("host-{host}") },
            epoch: at(0).as_microsecond(),
            sequence,
            rung: Rung::Netlink,
            from: at(0),
            until: at(until),
            sent: at(until),
            coverage: Coverage::default(),
            addresses: if sequence == 1 {
                let address = address(host);
                vec![ScopedAddress { scope: "".into(), address, since: at(0), ended: None }]
            } else {
                Vec::new()
            },
            flows: flows
                .into_iter()
                .map(|flow| FlowReport { flow, since: at(1), seen: at(until), ended: false })
                .collect(),
        }
    }

    fn flow(
        &self,
        host: u32,
        direction: Direction,
        peer: IpAddr,
        port: u16,
        sequence: u64,
    ) -> HostFlow {
        let process = Arc::clone(&self.processes[usize::from(port) % self.processes.len()]);
        let (local_port, peer_port) = match direction {
            Direction::Active => (None, Some(port)),
            _ => (Some(port), None),
        };
        HostFlow {
            owners: vec![Instance {
                process: Arc::clone(&process),
                pid: 1000 + u32::from(port),
                pgid: 1000 + u32::from(port),
                started: at(-100),
            }],
            key: FlowKey {
                scope: "".into(),
                direction,
                protocol: Protocol::Tcp,
                local: address(host),
                local_port,
                peer: Some(peer),
                peer_port,
                process: Some(process),
            },
            owners_more: 0,
            counters: Counters {
                open: 1 + u32::try_from(sequence % 5).unwrap(),
                connecting: 0,
                opened: Some(sequence * 3),
                failed: Some(0),
                bytes_sent: Some(sequence * 123_456),
                bytes_received: Some(sequence * 654_321),
                retransmits: Some(sequence),
                rtt_us: Some(300),
                ..Counters::default()
            },
            tentative: false,
        }
    }

    fn batch(&self, hosts: &[u32], sequence: u64) -> Vec<Report> {
        hosts.iter().map(|host| self.report(*host, sequence)).collect()
    }
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// CPU seconds of this process so far, user and system, all threads
/// (proc(5): fields 14 and 15 of stat, in ticks of 10 ms).
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// Records of one batch, a second.
async fn take(cmdb: &Cmdb, reports: &[Report]) -> f64 {
    let flows: usize = reports.iter().map(|report| report.flows.len()).sum();
    let reports: Vec<&Report> = reports.iter().collect();
    let began = Instant::now();
    let recorded = cmdb.record(&reports).await.unwrap();
    assert_eq!(recorded.refused, 0);
    flows as f64 / began.elapsed().as_secs_f64()
}

fn question(host: u32, depth: u32) -> Question {
    Question {
        selectors: vec![Selector::Host(format!("host-{host}"))],
        window: Window::default(),
        reach: Reach { depth, ways: Ways::Both, edges: 100_000 },
        hosts: 1000,
        tolerance: SignedDuration::from_secs(120),
        labels: Default::default(),
    }
}

async fn ask(cmdb: &Cmdb, host: u32, depth: u32) -> (f64, usize) {
    let began = Instant::now();
    let answer = look::look(cmdb, question(host, depth), at(100)).await.unwrap();
    (began.elapsed().as_secs_f64() * 1000.0, answer.walk.steps.len())
}

async fn many(cmdb: &Cmdb, what: &str, hosts: &[u32], depth: u32) {
    let mut times = Vec::new();
    let mut edges = 0;
    let before = cpu();
    for host in hosts {
        let (time, steps) = ask(cmdb, *host, depth).await;
        times.push(time);
        edges = steps;
    }
    let each = (cpu() - before) * 1000.0 / hosts.len() as f64;
    println!("| {what} | {:.1} ms | {edges} edges, {each:.1} ms CPU here |", median(times));
}

/// All rounds into all databases: first all new, then all changed.
async fn ingest(cmdb: &Cmdb, fleet: &Fleet) {
    let hosts: Vec<u32> = (1..fleet.hosts).collect();
    let hot = fleet.report(0, 1);
    take(cmdb, &[hot]).await;
    for (what, sequence) in [("new", 1), ("changed", 2), ("changed again", 3)] {
        let mut speeds = Vec::new();
        let mut flows = 0;
        let (mut inside, mut busy) = (0.0, 0.0);
        for hosts in hosts.chunks(BATCH) {
            let reports = fleet.batch(hosts, sequence);
            let records: usize = reports.iter().map(|report| report.flows.len()).sum();
            flows += records;
            let before = cpu();
            let speed = take(cmdb, &reports).await;
            busy += cpu() - before;
            inside += records as f64 / speed;
            speeds.push(speed);
        }
        let all = flows as f64 / inside;
        println!(
            "| ingest, flows {what} | {:.0} records/s (median of a batch), {all:.0} over all | {flows} records, {:.1} µs CPU here each |",
            median(speeds),
            busy * 1e6 / flows as f64
        );
    }
}

/// Everybody at once tells the newest of the same hosts, each in an order of
/// its own, as agents do whose reports were kept while the CMDB was away.
async fn together(url: &CmdbUrl, fleet: &Arc<Fleet>, writers: u64) {
    let hosts = 1..fleet.hosts.min(101);
    let mut tasks = tokio::task::JoinSet::new();
    let began = Instant::now();
    for writer in 0..writers {
        let (url, fleet, hosts) = (url.clone(), Arc::clone(fleet), hosts.clone());
        tasks.spawn(async move {
            let order = BuildHasherDefault::<DefaultHasher>::default();
            let mut hosts: Vec<u32> = hosts.collect();
            hosts.sort_by_key(|host| order.hash_one((writer, host)));
            let cmdb = Cmdb::open(&url, &LIMITS).await.unwrap();
            let mut flows = 0;
            for hosts in hosts.chunks(10) {
                let mut reports = fleet.batch(hosts, 4);
                for report in &mut reports {
                    let key = |flow: &FlowReport| (writer, flow.flow.key.hash_with(None));
                    report.flows.sort_by_cached_key(|flow| order.hash_one(key(flow)));
                    flows += report.flows.len();
                }
                take(&cmdb, &reports).await;
            }
            cmdb.close().await;
            flows
        });
    }
    let flows: usize = tasks.join_all().await.into_iter().sum();
    println!(
        "| ingest, {writers} writers of the same 100 hosts | {:.0} records/s over all | {flows} records |",
        flows as f64 / began.elapsed().as_secs_f64()
    );
}

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let hosts = std::env::var("HOSTS").map_or(10_000, |hosts| hosts.parse().unwrap());
    let fleet = Arc::new(Fleet { hosts: hosts + 1, processes: (0..20).map(process).collect() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for text in arguments {
        let url = CmdbUrl::parse(&text).unwrap();
        println!(
            "\n| {} | {hosts} hosts | |\n|---|---|---|",
            if url.is_embedded() { "SQLite" } else { "PostgreSQL" }
        );
        runtime.block_on(async {
            Cmdb::create_scheme(&url, &LIMITS).await.unwrap();
            let cmdb = Cmdb::open(&url, &LIMITS).await.unwrap();
            ingest(&cmdb, &fleet).await;
            // SQLite lets one write at a time, and each waits for a disk.
            together(&url, &fleet, if url.is_embedded() { 8 } else { 50 }).await;
            let some: Vec<u32> = (0..51).map(|n| 1 + n * 7919 % hosts).collect();
            many(&cmdb, "look, a random host", &some, 1).await;
            many(&cmdb, "look, the hottest host (30,000 flows)", &[0; 7], 1).await;
            many(&cmdb, "look --depth 4, 50 hosts that all call each other", &some[..15], 4).await;
            cmdb.close().await;
        });
    }
}
