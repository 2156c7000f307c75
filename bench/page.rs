//! A fleet to look at with the page, made up and the same each time: tiers of
//! services that call the next tier, a resolver that everybody asks, a
//! Prometheus that asks everybody, stores without a probe, a deploy half an
//! hour ago, calls that fail. Run by `bench/page`:
//!
//!     cargo bench --bench page -- sqlite:FILE.db HOSTS
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench may panic, and prints")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use shawk::cmdb::Cmdb;
use shawk::cmdb::connect::Limits;
use shawk::cmdb::url::CmdbUrl;
use shawk::flow::host::{Coverage, Host, Rung};
use shawk::flow::key::{Counters, FlowKey, HostFlow};
use shawk::flow::process::{Instance, Process};
use shawk::flow::report::{FlowReport, Report, ScopedAddress};
use shawk::flow::socket::{Direction, Protocol};

/// Services of the fleet, in four tiers.
const SERVICES: [&str; 16] = [
    "haproxy",
    "nginx",
    "envoy",
    "varnish",
    "shop",
    "cart",
    "search",
    "account",
    "billing",
    "mailer",
    "stock",
    "pricing",
    "postgres",
    "redis-server",
    "kafka",
    "mysqld",
];

const PORTS: [u16; 16] =
    [443, 80, 9901, 6081, 8080, 8081, 8082, 8083, 8084, 8085, 8086, 8087, 5432, 6379, 9092, 3306];

/// Services of a tier; a host runs those of one.
const TIER: usize = 4;

/// Calls of each service on a host to the next tier, or to the one after.
const CALLS: u32 = 8;

struct Fleet {
    hosts: u32,
    now: Timestamp,
    processes: BTreeMap<String, Arc<Process>>,
    flows: Vec<Vec<FlowReport>>,
    seed: u64,
}

fn address(host: u32) -> IpAddr {
    // Fifty to a network.
    Ipv4Addr::from(0x0a00_0000 + (host / 50 * 256) + host % 50 + 10).into()
}

impl Fleet {
    /// Numbers that look like chance (PCG's multiplier), the same each time.
    fn chance(&mut self, below: u32) -> u32 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_041);
        ((self.seed >> 33) % u64::from(below)) as u32
    }

    fn process(&mut self, name: &str) -> Arc<Process> {
        let new = || {
            Arc::new(Process {
                name: name.chars().take(15).collect(),
                exe: Some(format!("/usr/sbin/{name}")),
                user: Some(name.to_owned()),
                unit: Some(format!("{name}.service")),
                container: None,
                pod: None,
            })
        };
        Arc::clone(self.processes.entry(name.to_owned()).or_insert_with(new))
    }

    /// An edge, told by both ends unless one of them has no probe.
    fn call(&mut self, from: (u32, &str), to: (u32, &str), port: u16, protocol: Protocol) {
        let minutes = match self.chance(50) {
            0 => 30,
            _ => 60 * 24,
        };
        let since = self.now - SignedDuration::from_mins(minutes);
        let (seen, ended) = match self.chance(40) {
            0 => (self.now - SignedDuration::from_mins(45), minutes > 45),
            _ => (self.now, false),
        };
        let seen = if ended { seen } else { self.now };
        let failing = !ended && self.chance(100) == 0;
        let sent = u64::from(self.chance(1 << 30));
        let counters = Counters {
            open: if ended { 0 } else { 1 + self.chance(20) },
            connecting: 0,
            opened: Some(1 + u64::from(self.chance(10_000))),
            failed: Some(0),
            bytes_sent: Some(sent),
            bytes_received: Some(sent * 3),
            retransmits: Some(u64::from(self.chance(50))),
            rtt_us: Some(80 + self.chance(2_000)),
            ..Counters::default()
        };
        let active = self.process(from.1);
        let key = FlowKey {
            scope: "".into(),
            direction: Direction::Active,
            protocol,
            local: address(from.0),
            local_port: None,
            peer: Some(address(to.0)),
            peer_port: Some(port),
            process: Some(Arc::clone(&active)),
        };
        let mut told = counters.clone();
        if failing {
            told.connecting = told.open;
            told.failed = told.opened;
            told.timed_out = told.opened;
        }
        self.tell(from.0, key, told, (since, seen, ended));
        if to.0 >= self.hosts || failing {
            return;
        }
        let passive = self.process(to.1);
        let key = FlowKey {
            scope: "".into(),
            direction: Direction::Passive,
            protocol,
            local: address(to.0),
            local_port: Some(port),
            peer: Some(address(from.0)),
            peer_port: None,
            process: Some(passive),
        };
        let (sent, received) = (counters.bytes_received, counters.bytes_sent);
        let counters = Counters { bytes_sent: sent, bytes_received: received, ..counters };
        self.tell(to.0, key, counters, (since, seen, ended));
    }

    fn tell(
        &mut self,
        host: u32,
        key: FlowKey,
        counters: Counters,
        (since, seen, ended): (Timestamp, Timestamp, bool),
    ) {
        let process = key.process.clone().unwrap();
        let pid = 1000 + u32::from(key.local_port.or(key.peer_port).unwrap());
        let pid = if key.direction == Direction::Passive { pid } else { 900 };
        let owner = Instance { process, pid, pgid: 900, started: self.now };
        let flow =
            HostFlow { key, owners: vec![owner], owners_more: 0, counters, tentative: false };
        self.flows[host as usize].push(FlowReport { flow, since, seen, ended });
    }

    fn fill(&mut self) {
        for host in 0..self.hosts {
            let tier = host as usize % TIER;
            for nth in (0..TIER).filter(|_| tier < TIER - 1) {
                for _ in 0..CALLS {
                    let below = if tier < 2 && self.chance(5) == 0 { tier + 2 } else { tier + 1 };
                    let wanted = below * TIER + self.chance(4) as usize;
                    // The last addresses have no probe.
                    let far = self.chance((self.hosts + self.hosts / 20 + 4) / 4) * 4;
                    let from = (host, SERVICES[tier * TIER + nth]);
                    let to = (far + below as u32, SERVICES[wanted]);
                    self.call(from, to, PORTS[wanted], Protocol::Tcp);
                }
            }
            self.call((host, "systemd-resolve"), (0, "dnsmasq"), 53, Protocol::Udp);
            self.call((1, "prometheus"), (host, "node_exporter"), 9100, Protocol::Tcp);
        }
    }

    fn report(&mut self, host: u32) -> Report {
        let from = self.now - SignedDuration::from_hours(48);
        let mut flows = std::mem::take(&mut self.flows[host as usize]);
        // Two calls of one process to one port of one host are one flow.
        flows.sort_by(|a, b| a.flow.key.cmp(&b.flow.key));
        flows.dedup_by(|a, b| a.flow.key == b.flow.key);
        let silent = host % 50 == 49;
        let until = if silent { self.now - SignedDuration::from_hours(3) } else { self.now };
        Report {
            host: Host { id: format!("id-{host}"), name: format!("node-{host:03}") },
            epoch: from.as_microsecond(),
            sequence: 1,
            rung: Rung::Streaming,
            from,
            until,
            sent: self.now,
            coverage: Coverage {
                processes: 120,
                processes_unreadable: u64::from(host % 100 == 7),
                ..Coverage::default()
            },
            addresses: vec![ScopedAddress {
                scope: "".into(),
                address: address(host),
                since: from,
                ended: None,
            }],
            flows,
        }
    }
}

fn main() {
    let words: Vec<String> = std::env::args().filter(|word| word != "--bench").collect();
    let [_, url, hosts] = words.as_slice() else { panic!("say where, and how many hosts") };
    let hosts: u32 = hosts.parse().unwrap();
    let mut fleet = Fleet {
        hosts,
        now: Timestamp::now(),
        processes: BTreeMap::new(),
        flows: vec![Vec::new(); hosts as usize],
        seed: 7,
    };
    fleet.fill();
    let reports: Vec<Report> = (0..hosts).map(|host| fleet.report(host)).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let cmdb = Cmdb::open(&CmdbUrl::parse(url).unwrap(), &Limits::STANDARD).await.unwrap();
        for some in reports.chunks(50) {
            cmdb.record(&some.iter().collect::<Vec<_>>()).await.unwrap();
        }
        cmdb.close().await;
    });
    let flows: usize = reports.iter().map(|report| report.flows.len()).sum();
    println!("{hosts} hosts, {flows} flows");
}
