//! A probe, a collector, or the way between them, ended at any moment: what was
//! acknowledged or synced is there in the end, and sums are those of the truth.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use shawk::cmdb::Cmdb;
use shawk::cmdb::url::CmdbUrl;
use shawk::flow::key::{FlowKey, HostFlow};
use shawk::flow::socket::Direction;
use shawk::recall::{FlowRecord, Selector, Sums, Window};

use crate::cmdb::LIMITS;
use crate::netns::Netns;
use crate::postgres;
use crate::serve::collector::Collector;
use crate::serve::places;
use crate::spool::{Probe, away, free_port, kills, scratch, seed, segments, until};
use crate::streaming::FILLING;

/// A network namespace whose only traffic is ours. In a run of a thousand lives
/// a service would else get a port from the kernel that was the metrics' or the
/// absent CMDB's of an earlier life, and their connections stand beside its own.
struct Apart(Netns);

impl Apart {
    fn new() -> Apart {
        Apart(Netns::new("killed"))
    }

    /// Sockets that are made meanwhile are in it, and stay there.
    fn within<T: Send>(&self, make: impl FnOnce() -> T + Send) -> T {
        let file = std::fs::File::open(format!("/run/netns/{}", self.0.name)).unwrap();
        std::thread::scope(|scope| {
            let making = scope.spawn(move || {
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(file.as_fd(), network).unwrap();
                make()
            });
            making.join().unwrap()
        })
    }
}

/// Below those that the kernel picks itself.
const FIRST_PORT: u16 = 10_000;

/// A service whose only client is this test, so that everything is known.
struct Service<'a> {
    apart: &'a Apart,
    listener: TcpListener,
    port: u16,
    /// Connections, bytes to the service and back: the truth.
    done: (u64, u64, u64),
}

impl Service<'_> {
    fn new(apart: &Apart, port: u16) -> Service<'_> {
        let listener = apart.within(|| TcpListener::bind(("127.0.0.1", port)).unwrap());
        Service { apart, listener, port, done: (0, 0, 0) }
    }

    /// One connection, from its beginning to its end.
    fn exchange(&mut self, there: usize, back: usize) {
        let port = self.port;
        let connect = || TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut client = self.apart.within(connect);
        let (mut server, _) = self.listener.accept().unwrap();
        let mut room = vec![0; there.max(back)];
        client.write_all(&vec![1; there]).unwrap();
        server.read_exact(&mut room[..there]).unwrap();
        server.write_all(&vec![2; back]).unwrap();
        client.read_exact(&mut room[..back]).unwrap();
        self.done.0 += 1;
        self.done.1 += there as u64;
        self.done.2 += back as u64;
    }
}

/// Connections that stay, each a flow of its own, and that some bytes go over
/// again and again.
struct Crowd {
    port: u16,
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Crowd {
    fn new(apart: &Apart, port: u16, size: usize) -> Crowd {
        // Two files a connection; the soft limit may be 1,024.
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit).unwrap();
        let mut pairs: Vec<_> = apart.within(|| {
            let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
            let pair = |number| {
                let address = [127, 9, (number / 250) as u8, (number % 250 + 1) as u8];
                let client = TcpStream::connect((std::net::IpAddr::from(address), port)).unwrap();
                (client, listener.accept().unwrap().0)
            };
            (0..size).map(pair).collect()
        });
        let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, stopped) = (Arc::clone(&sent), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut room = [0; 8];
            while !stopped.load(Ordering::Relaxed) {
                for (client, server) in &mut pairs {
                    client.write_all(&[7]).unwrap();
                    assert_eq!(server.read(&mut room).unwrap(), 1);
                    counted.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Crowd { port, sent, stop, thread: Some(thread) }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// What a CMDB says of the flows in a network namespace, over all runs of the
/// probe.
struct Told {
    flows: Vec<(HostFlow, Sums)>,
}

impl Told {
    fn of(cmdb: &str, apart: &Apart) -> Told {
        let url = CmdbUrl::parse(cmdb).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (records, traffic) = runtime.block_on(async {
            let cmdb = Cmdb::open(&url, &LIMITS).await.unwrap();
            let window = Window::default();
            let host = Selector::Host("spooled".to_owned());
            let found = cmdb.find(&host, &window).await.unwrap();
            let hosts: Vec<_> = found.hosts.into_iter().collect();
            let records = cmdb.around(&hosts, &[], &window).await.unwrap();
            let traffic = cmdb.traffic(&hosts, &window).await.unwrap();
            cmdb.close().await;
            (records, traffic)
        });
        let scope = apart.0.scope();
        let flows = records.flows.into_iter().filter(|record| *record.flow.key.scope == *scope);
        let mut sums: HashMap<_, _> =
            traffic.into_iter().map(|risen| ((risen.host, risen.flow), risen.sums)).collect();
        let with_sums = |record: FlowRecord| {
            let sums = sums.remove(&(record.host, record.flow.key.hash()));
            let sums = sums.unwrap_or_else(|| panic!("no sums of {:?}", record.flow.key));
            (record.flow, sums)
        };
        let with_peer = flows.filter(|record| record.flow.key.peer.is_some());
        Told { flows: with_peer.map(with_sums).collect() }
    }

    /// Of a service: the sums that its clients told and those that it told
    /// itself, and how many flows of each.
    fn sums(&self, port: u16) -> [(usize, Sums); 2] {
        let told = |direction, is_at: &dyn Fn(&HostFlow) -> Option<u16>| {
            let mut all = Sums {
                opened: Some(0),
                bytes_sent: Some(0),
                bytes_received: Some(0),
                ..Sums::default()
            };
            let mut count = 0;
            let of_direction = |(flow, _): &&(HostFlow, Sums)| flow.key.direction == direction;
            for (flow, sums) in self.flows.iter().filter(of_direction) {
                if is_at(flow) != Some(port) {
                    continue;
                }
                count += 1;
                let add = |sum: &mut Option<u64>, more: Option<u64>| {
                    *sum = Some(sum.unwrap() + more.unwrap())
                };
                add(&mut all.opened, sums.opened);
                add(&mut all.bytes_sent, sums.bytes_sent);
                add(&mut all.bytes_received, sums.bytes_received);
            }
            (count, all)
        };
        [
            told(Direction::Active, &|flow| flow.key.peer_port),
            told(Direction::Passive, &|flow| flow.key.local_port),
        ]
    }

    /// For a failure: all that is told of a service.
    fn say(&self, port: u16) -> String {
        let ports = |key: &FlowKey| [key.local_port, key.peer_port];
        let about = self.flows.iter().filter(|(flow, _)| ports(&flow.key).contains(&Some(port)));
        about.map(|(flow, sums)| format!("{:?}: {sums:?}\n", flow.key)).collect()
    }
}

/// Neither less nor more than there was, told by both ends.
fn expect(cmdb: &str, service: &Service) {
    let (connections, there, back) = service.done;
    let all = |sent, received| Sums {
        opened: Some(connections),
        bytes_sent: Some(sent),
        bytes_received: Some(received),
        ..Sums::default()
    };
    let told = Told::of(cmdb, service.apart);
    let sums = told.sums(service.port);
    let truth = [(1, all(there, back)), (1, all(back, there))];
    assert_eq!(sums, truth, "{}", told.say(service.port));
}

fn streaming(cmdb: &str, spool: &Path) -> Probe {
    Probe::start_in("streaming", "100ms", &[], cmdb, spool).unheard()
}

/// Waits until a whole scan has seen what is done.
fn look_again(probe: &Probe) {
    let begun = probe.until("it looks", |_| true).get("scans_total");
    probe.until("it looks again", |metrics| metrics.get("scans_total") > begun + 1.0);
}

/// Waits until nothing is in the spool any more, and all in memory was told.
fn all_is_told(probe: &Probe, spool: &Path) {
    probe.until("it delivers", |metrics| metrics.get("deliveries_total") > 0.0);
    probe.until("the backlog is told", |metrics| {
        segments(spool).is_empty()
            && metrics.get("spans_pending") + metrics.get("spans_spooled") == 0.0
    });
}

/// Numbers that look like chance and are the same in each run with the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn rest(&mut self, milliseconds: u64) {
        std::thread::sleep(Duration::from_millis(self.below(milliseconds)));
    }
}

/// A collector is killed while reports come in, and started again, over and
/// over. The probe lives, so nothing may be missing, and nothing doubled.
#[test]
fn a_collector_that_is_killed_loses_and_doubles_nothing() {
    let _turn = FILLING.lock().unwrap_or_else(PoisonError::into_inner);
    let (directory, apart) = (scratch(), Apart::new());
    for (number, cmdb) in places(&directory).into_iter().enumerate() {
        let listen = format!("127.0.0.1:{}", free_port());
        let mut collector = Collector::start_at(&listen, &cmdb, &[]);
        let mut probe =
            streaming(&collector.url(), &directory.path().join(format!("spool{number}")));
        probe.until("it delivers", |metrics| metrics.get("deliveries_total") > 0.0);
        let (mut service, mut chance) = (Service::new(&apart, FIRST_PORT), Chance(seed() + 1));
        for _ in 0..kills().div_ceil(2) {
            service.exchange(chance.below(5000) as usize + 1, chance.below(5000) as usize + 1);
            chance.rest(400);
            // Killed by its end; the next one must be able to start.
            drop(collector);
            service.exchange(1, 1);
            collector = Collector::start_at(&listen, &cmdb, &[]);
        }
        look_again(&probe);
        assert_eq!(probe.stop(), Some(0));
        expect(&cmdb, &service);
        expect(&collector.url(), &service);
    }
}

/// Probe and collector are killed at any moment, also while the journal goes on
/// in another segment and the one before it is removed. Each life of the probe
/// has a service that no other has; if it was told or synced, it is there.
#[test]
fn whoever_is_killed_what_was_told_or_synced_is_there_once() {
    let _turn = FILLING.lock().unwrap_or_else(PoisonError::into_inner);
    let (directory, apart) = (scratch(), Apart::new());
    let crowd = Crowd::new(&apart, FIRST_PORT - 1, 1200);
    for (number, cmdb) in places(&directory).into_iter().enumerate() {
        let spool = directory.path().join(format!("spool{number}"));
        let listen = format!("127.0.0.1:{}", free_port());
        let mut collector = Collector::start_at(&listen, &cmdb, &[]);
        let mut chance = Chance(seed() + number as u64);
        let mut lives = Vec::new();
        for life in 0..kills().div_ceil(2) {
            let mut service = Service::new(&apart, FIRST_PORT + life as u16);
            let is_there = chance.below(3) > 0;
            let probe = streaming(&if is_there { collector.url() } else { away() }, &spool);
            probe.until("it looks", |metrics| metrics.get("scans_total") > 1.0);
            service.exchange(chance.below(3000) as usize + 1, chance.below(3000) as usize + 1);
            let safe = chance.below(4) > 0;
            if safe {
                look_again(&probe);
                probe.until("all is told or synced", |m| m.get("spans_pending") == 0.0);
                if !is_there {
                    until("the journal turns over", || has_turned(&spool).then_some(()));
                }
            }
            chance.rest(500);
            let kill_collector = chance.below(3) == 0;
            if kill_collector && chance.below(2) == 0 {
                drop(collector);
                chance.rest(100);
                drop(probe);
                collector = Collector::start_at(&listen, &cmdb, &[]);
            } else {
                drop(probe);
                if kill_collector {
                    drop(collector);
                    collector = Collector::start_at(&listen, &cmdb, &[]);
                }
            }
            lives.push((service, safe));
        }
        let mut probe = streaming(&collector.url(), &spool);
        all_is_told(&probe, &spool);
        assert_eq!(probe.stop(), Some(0));
        let all = Told::of(&cmdb, &apart);
        for (service, safe) in &lives {
            let [(clients, told), (services, own)] = all.sums(service.port);
            let (connections, there, back) = service.done;
            let said = all.say(service.port);
            assert!(!safe || (clients, services) == (1, 1), "not there once: {said}");
            for (sums, sent, received) in [(told, there, back), (own, back, there)] {
                let within = |sum: Option<u64>, truth| sum.unwrap() <= truth;
                assert!(
                    within(sums.opened, connections)
                        && within(sums.bytes_sent, sent)
                        && within(sums.bytes_received, received),
                    "in truth {:?}: {said}",
                    service.done
                );
            }
        }
        let [(_, told), (_, own)] = all.sums(crowd.port);
        let sent = crowd.sent.load(Ordering::Relaxed);
        assert!(told.bytes_sent.unwrap() <= sent && own.bytes_received.unwrap() <= sent);
        assert!(told.bytes_sent.unwrap() > 0);
    }
}

/// Whether the run that wrote last is beyond its first segment.
fn has_turned(spool: &Path) -> bool {
    let names = segments(spool);
    let last = names.last().and_then(|path| path.file_stem()?.to_str());
    last.is_some_and(|name| !name.ends_with("-00000000"))
}

/// Between a client of PostgreSQL and its server: passes everything on, but for
/// the answer to every second COMMIT. There the connection breaks.
fn cut_after_commit(server: u16) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (cuts, commits) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&cuts);
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let (cuts, commits) = (Arc::clone(&counted), Arc::clone(&commits));
            let upstream = TcpStream::connect(("127.0.0.1", server)).unwrap();
            std::thread::spawn(move || carry(client, upstream, &commits, &cuts));
        }
    });
    (port, cuts)
}

fn carry(
    mut client: TcpStream,
    mut upstream: TcpStream,
    commits: &AtomicUsize,
    cuts: &AtomicUsize,
) {
    let mut answers = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
    let back = std::thread::spawn(move || {
        std::io::copy(&mut answers.0, &mut answers.1).ok();
        answers.1.shutdown(std::net::Shutdown::Both).ok();
    });
    let mut piece = [0; 65536];
    while let Ok(read @ 1..) = client.read(&mut piece) {
        let commit = piece[..read].windows(7).any(|word| word == b"COMMIT\0");
        if commit && commits.fetch_add(1, Ordering::Relaxed) % 2 == 1 {
            // The client hears nothing more; the server is done when it has
            // closed its end.
            client.shutdown(std::net::Shutdown::Write).ok();
            upstream.write_all(&piece[..read]).ok();
            upstream.shutdown(std::net::Shutdown::Write).ok();
            cuts.fetch_add(1, Ordering::Relaxed);
            break;
        }
        if upstream.write_all(&piece[..read]).is_err() {
            break;
        }
    }
    back.join().unwrap();
    client.shutdown(std::net::Shutdown::Both).ok();
}

/// What was committed and not acknowledged is told again, and is there once:
/// by a probe itself, and by a collector for it.
#[test]
fn a_commit_without_an_answer_counts_once() {
    let _turn = FILLING.lock().unwrap_or_else(PoisonError::into_inner);
    for through_a_collector in [false, true] {
        let (directory, apart) = (scratch(), Apart::new());
        let [_, direct] = places(&directory);
        let (user, rest) = direct.split_once("127.0.0.1:").unwrap();
        let (server, rest) = rest.split_once('/').unwrap();
        let (proxy, cuts) = cut_after_commit(server.parse().unwrap());
        let cut = format!("{user}127.0.0.1:{proxy}/{rest}");
        let collector = through_a_collector.then(|| Collector::start(&cut, &[]));
        let cmdb = collector.as_ref().map_or(cut, Collector::url);
        let mut probe = streaming(&cmdb, &directory.path().join("spool"));
        probe.until("it looks", |metrics| metrics.get("scans_total") > 1.0);
        let (mut service, mut chance) = (Service::new(&apart, FIRST_PORT), Chance(seed() + 7));
        let mut done = 0;
        while done < kills().div_ceil(2) {
            service.exchange(chance.below(5000) as usize + 1, chance.below(5000) as usize + 1);
            let enough = done + 1;
            until("another is cut", || {
                done = cuts.load(Ordering::Relaxed);
                (done >= enough).then_some(())
            });
        }
        look_again(&probe);
        // The last report may be cut as well: then it is told by the next run.
        probe.stop();
        let spool = directory.path().join("spool");
        let mut last = streaming(&direct, &spool);
        all_is_told(&last, &spool);
        assert_eq!(last.stop(), Some(0));
        expect(&direct, &service);
        if let Some(collector) = collector {
            assert!(!collector.log().contains(postgres::PASSWORD), "{}", collector.log());
        }
    }
}
