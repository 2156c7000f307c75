//! A collector before a fleet that is made up here: each agent is a tally and
//! what tells it, as in a probe, without the scans. Run by `bench/serve`:
//!
//!     serve CMDB steady AGENTS FLOWS SECONDS
//!     serve CMDB outage AGENTS FLOWS SECONDS
//!
//! *steady*: each tells all its flows every 30 seconds, of which two are new,
//! for so long. *outage*: the collector is killed for so long, and all come back
//! at once.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench may panic, and prints")]

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rustix::process::{Resource, getrlimit, setrlimit};
use shawk::agent::meter::Meter;
use shawk::agent::telling::Telling;
use shawk::cmdb::url::CmdbUrl;
use shawk::flow::host::{Coverage, Host, Namespace, Rung};
use shawk::flow::key::{Counters, FlowKey, HostFlow, Observation};
use shawk::flow::process::Process;
use shawk::flow::socket::{Direction, Protocol};
use shawk::flow::tally::Tally;
use tokio::sync::watch;
use tokio::time::sleep;

const FLUSH: Duration = Duration::from_secs(30);

/// Flows that are replaced in each interval.
const CHURN: u32 = 2;

/// Longest that anybody may have to wait after an outage.
const PATIENCE: Duration = Duration::from_secs(60);

/// One of the fleet, as this program sees it.
struct Agent {
    meter: Arc<Meter>,
    /// Deliveries so far, and when that last changed.
    seen: (u64, Instant),
    /// Longest time between two deliveries.
    longest: Duration,
}

/// What all of them share.
struct Fleet {
    processes: Vec<Arc<Process>>,
    flows: u32,
}

impl Fleet {
    fn observation(&self, host: u32, round: u32) -> Observation {
        let local = Ipv4Addr::from(0x0a00_0000 + host).into();
        let flow = |number: u32| {
            let process = &self.processes[number as usize % self.processes.len()];
            HostFlow {
                key: FlowKey {
                    scope: "".into(),
                    direction: Direction::Active,
                    protocol: Protocol::Tcp,
                    local,
                    local_port: None,
                    peer: Some(Ipv4Addr::from(0x0a80_0000 + (host * 31 + number) % 500_000).into()),
                    peer_port: Some(8000 + (number % 50) as u16),
                    process: Some(Arc::clone(process)),
                },
                owners: Vec::new(),
                owners_more: 0,
                counters: Counters {
                    open: 1 + round % 3,
                    opened: Some(u64::from(round)),
                    failed: Some(0),
                    bytes_sent: Some(u64::from(round) * 123_456 + u64::from(number)),
                    bytes_received: Some(u64::from(round) * 654_321),
                    retransmits: Some(0),
                    rtt_us: Some(300),
                    ..Counters::default()
                },
                tentative: false,
            }
        };
        let first = round * CHURN;
        Observation {
            taken: Timestamp::now(),
            host: Host { id: format!("id-{host}"), name: format!("host-{host}") },
            rung: Rung::Streaming,
            namespaces: vec![Namespace {
                scope: "".into(),
                addresses: vec![local],
                ephemeral_ports: None,
            }],
            flows: (first..first + self.flows).map(flow).collect(),
            coverage: Coverage::default(),
        }
    }
}

/// An agent for ever. The first scan is at the beginning.
async fn agent(fleet: Arc<Fleet>, host: u32, cmdb: CmdbUrl, meter: Arc<Meter>) {
    let linger = SignedDuration::try_from(FLUSH).unwrap();
    let mut tally = Tally::new(Timestamp::now(), linger);
    tally.observe(fleet.observation(host, 0));
    let tally = Arc::new(Mutex::new(tally));
    let (scanned, mut scans) = watch::channel(());
    let mut telling = Telling::start(&tally, &cmdb, FLUSH, None, meter).unwrap();
    let scanning = async {
        for round in 1.. {
            sleep(FLUSH).await;
            tally.lock().unwrap().observe(fleet.observation(host, round));
            scanned.send_replace(());
        }
    };
    tokio::select! {
        () = telling.go_on(&mut scans) => {}
        () = scanning => {}
    }
}

/// The collector under test.
struct Collector {
    child: Child,
    address: String,
}

impl Collector {
    fn start(cmdb: &str, address: &str) -> Collector {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shawk"));
        command.args(["serve", "--cmdb", cmdb, "--listen", address]);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let said = lines.by_ref().map_while(Result::ok).find(|line| line.contains("listening"));
        assert!(said.is_some(), "the collector did not start");
        // What else it says is for whoever reads the bench's own output.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| println!("{line}")));
        Collector { child, address: address.to_owned() }
    }

    /// Most MiB it had resident, and seconds of CPU.
    fn cost(&self) -> (u64, f64) {
        let pid = self.child.id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        (kib / 1024, cpu_of(&format!("/proc/{pid}/stat")))
    }

    fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.address
    }
}

/// CPU seconds of a process so far (proc(5): fields 14 and 15 of stat, in ticks
/// of 10 ms).
fn cpu_of(stat: &str) -> f64 {
    let Ok(stat) = std::fs::read_to_string(stat) else { return 0.0 };
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// Follows deliveries for a while.
async fn follow(agents: &mut [Agent], time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        sleep(Duration::from_millis(100)).await;
        let now = Instant::now();
        for agent in agents.iter_mut() {
            let deliveries = agent.meter.deliveries();
            agent.longest = agent.longest.max(now - agent.seen.1);
            if deliveries > agent.seen.0 {
                agent.seen = (deliveries, now);
            }
        }
    }
}

fn deliveries(agents: &[Agent]) -> u64 {
    agents.iter().map(|agent| agent.meter.deliveries()).sum()
}

fn percentile(times: &[Duration], part: f64) -> f64 {
    times[((times.len() - 1) as f64 * part) as usize].as_secs_f64()
}

/// Starts all of them, evenly over the time given.
async fn start(fleet: &Arc<Fleet>, agents: u32, url: &CmdbUrl, over: Duration) -> Vec<Agent> {
    let mut started = Vec::new();
    for host in 0..agents {
        let meter = Arc::new(Meter::default());
        tokio::spawn(agent(Arc::clone(fleet), host, url.clone(), Arc::clone(&meter)));
        started.push(Agent { meter, seen: (0, Instant::now()), longest: Duration::ZERO });
        sleep(over / agents).await;
    }
    // Until each was heard.
    let begun = Instant::now();
    while started.iter().any(|agent| agent.meter.deliveries() == 0) {
        assert!(begun.elapsed() < Duration::from_secs(60), "some are never heard");
        sleep(Duration::from_millis(100)).await;
    }
    started
}

async fn steady(collector: &Collector, fleet: &Fleet, agents: &mut [Agent], time: Duration) {
    for agent in agents.iter_mut() {
        agent.seen = (agent.meter.deliveries(), Instant::now());
    }
    let recorded = metric(collector, "shawk_flows_recorded_total").await;
    let (before, began, told) = (collector.cost().1, Instant::now(), deliveries(agents));
    let own = cpu_of("/proc/self/stat");
    follow(agents, time).await;
    let seconds = began.elapsed().as_secs_f64();
    let rows = metric(collector, "shawk_flows_recorded_total").await - recorded;
    let (peak, cpu) = collector.cost();
    let mut longest: Vec<Duration> = agents.iter().map(|agent| agent.longest).collect();
    longest.sort();
    println!(
        "| steady | {} agents × {} flows / {FLUSH:?} | {:.0} of {:.0} flows/s recorded | {:.0} requests/s | \
         longest between two deliveries of an agent: median {:.1} s, 99 % {:.1} s, worst {:.1} s | \
         collector {peak} MiB, {:.0} % of a processor | agents {:.0} % |",
        agents.len(),
        fleet.flows,
        rows as f64 / seconds,
        agents.len() as f64 * f64::from(fleet.flows) / FLUSH.as_secs_f64(),
        (deliveries(agents) - told) as f64 / seconds,
        percentile(&longest, 0.5),
        percentile(&longest, 0.99),
        percentile(&longest, 1.0),
        (cpu - before) / seconds * 100.0,
        (cpu_of("/proc/self/stat") - own) / seconds * 100.0,
    );
}

/// One number of the collector's.
async fn metric(collector: &Collector, name: &str) -> u64 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(&collector.address).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

async fn outage(
    cmdb: &str,
    collector: Collector,
    agents: &mut [Agent],
    time: Duration,
) -> Collector {
    let address = collector.kill();
    sleep(time).await;
    let told: Vec<u64> = agents.iter().map(|agent| agent.meter.deliveries()).collect();
    let back = Instant::now();
    let collector = Collector::start(cmdb, &address);
    let mut waited: Vec<Option<Duration>> = vec![None; agents.len()];
    while waited.contains(&None) && back.elapsed() < PATIENCE * 2 {
        sleep(Duration::from_millis(50)).await;
        for (at, agent) in agents.iter().enumerate() {
            if waited[at].is_none() && agent.meter.deliveries() > told[at] {
                waited[at] = Some(back.elapsed());
            }
        }
    }
    let never = waited.iter().filter(|waited| waited.is_none()).count();
    let mut times: Vec<Duration> = waited.into_iter().flatten().collect();
    times.sort();
    let (peak, cpu) = collector.cost();
    println!(
        "| outage of {time:?} | {} agents | first delivery after it: median {:.1} s, 99 % {:.1} s, \
         last {:.1} s; never {never} | collector {peak} MiB, {cpu:.1} s of a processor |",
        agents.len(),
        percentile(&times, 0.5),
        percentile(&times, 0.99),
        percentile(&times, 1.0),
    );
    assert!(never == 0 && times.iter().all(|time| *time <= PATIENCE), "some were starved");
    collector
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    // Cargo adds "--bench".
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let [cmdb, what, agents, flows, seconds] = &words[..] else {
        println!("usage: serve CMDB steady|outage AGENTS FLOWS SECONDS");
        return;
    };
    let time = Duration::from_secs(seconds.parse().unwrap());
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let process = |number| Process {
        name: format!("app{number}"),
        exe: Some(format!("/opt/app{number}/bin/app{number}")),
        user: Some("app".into()),
        unit: Some(format!("app{number}.service")),
        container: None,
        pod: None,
    };
    let processes = (0..10).map(|number| Arc::new(process(number))).collect();
    let fleet = Arc::new(Fleet { processes, flows: flows.parse().unwrap() });
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let collector = Collector::start(cmdb, &format!("127.0.0.1:{port}"));
    let url = CmdbUrl::parse(&format!("http://127.0.0.1:{port}")).unwrap();
    let mut agents = start(&fleet, agents.parse().unwrap(), &url, FLUSH).await;
    let collector = match what.as_str() {
        "steady" => {
            steady(&collector, &fleet, &mut agents, time).await;
            collector
        }
        "outage" => outage(cmdb, collector, &mut agents, time).await,
        other => panic!("{other}: neither steady nor outage"),
    };
    collector.kill();
}
