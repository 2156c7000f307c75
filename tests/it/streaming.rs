//! Streaming on a real kernel, against traffic of known size.
//!
//! As the tests of the iterator, these need root and fail where BPF is not to
//! be had.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use expect_test::expect;
use libbpf_rs::query::{LinkInfoIter, MapInfoIter, ProgInfoIter};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, getpgid, getpid, pidfd_getfd, pidfd_open};
use shawk::flow::host::Rung;
use shawk::flow::key::{Counters, HostFlow};
use shawk::flow::socket::Protocol;
use shawk::probe::bpf::misses::misses;
use shawk::probe::bpf::{Kernel, Losses};
use shawk::probe::iterator::Iterator;
use shawk::probe::streaming::Streaming;
use shawk::probe::support::{Feature, Loaded, Support};

use crate::bpf::{Holder, config};

const TRAFFIC: &str = include_str!("bpf/traffic.py");
const WAITING: &str = r#"
import socket, subprocess, sys
subprocess.run("ip link set lo up".split(), check=True)
listener = socket.create_server(("127.0.0.1", 8001), backlog=16)
waiting = [socket.create_connection(listener.getsockname()) for _ in range(10)]
print("ready", flush=True)
if sys.stdin.readline():
    for _ in range(4):
        listener.accept()[0].close()
    print("done", flush=True)
    sys.stdin.read()
"#;
/// The peer takes nothing more, and so the last of it, with the FIN, stays.
const LEFT: &str = r#"
import socket, subprocess, sys
subprocess.run("ip link set lo up".split(), check=True)
listener = socket.create_server(("127.0.0.1", 8001))
left = socket.create_connection(listener.getsockname())
peer, _ = listener.accept()
left.setblocking(False)
try:
    while True:
        left.send(bytes(65536))
except BlockingIOError:
    pass
left.close()
print("ready", flush=True)
sys.stdin.readline()
peer.close()
print("done", flush=True)
sys.stdin.read()
"#;
const MANY: &str = include_str!("bpf/many.py");

/// A test that fills the maps of every probe on this machine, and one that
/// would see it, take turns.
pub(crate) static FILLING: Mutex<()> = Mutex::new(());

pub(crate) fn open() -> Streaming {
    let (support, loaded) = Support::read(&config(), Rung::Streaming).unwrap();
    for feature in Feature::ALL {
        assert!(support.has(feature), "{}: {:?}", feature.name(), support.why(feature));
    }
    match loaded {
        Loaded::Streaming(kernel, events) => Streaming::open(&config(), *kernel, events).unwrap(),
        other => panic!("{other:?} was loaded"),
    }
}

/// One line per flow with a peer: what is open and the totals.
fn say(flows: &[HostFlow]) -> String {
    let mut text = String::new();
    for flow in flows {
        let (key, counters) = (&flow.key, &flow.counters);
        let Some(peer) = key.peer else { continue };
        let port = |port: Option<u16>| match port {
            // The kernel's choice differs from run to run.
            Some(32768..) => "any".to_owned(),
            Some(port) => port.to_string(),
            None => "many".to_owned(),
        };
        write!(
            text,
            "{} {} {} {} {peer} {}: {}",
            key.protocol.name(),
            key.direction.name(),
            key.local,
            port(key.local_port),
            port(key.peer_port),
            key.process.as_ref().map_or("?", |process| &process.name),
        )
        .unwrap();
        let mut number = |word: &str, number: Option<u64>| {
            if number != Some(0) {
                let number = number.map_or("?".to_owned(), |number| number.to_string());
                write!(text, ", {word} {number}").unwrap();
            }
        };
        number("open", Some(counters.open.into()));
        number("connecting", Some(counters.connecting.into()));
        number("opened", counters.opened);
        if key.protocol == Protocol::Tcp {
            number("failed", counters.failed);
            number("refused", counters.refused);
            number("timed out", counters.timed_out);
            number("unreachable", counters.unreachable);
        }
        number("sent", counters.bytes_sent);
        number("received", counters.bytes_received);
        text.push('\n');
    }
    text.replace(":, ", ": ")
}

#[test]
fn every_connection_and_every_byte_is_counted() {
    let _turn = FILLING.lock().unwrap_or_else(PoisonError::into_inner);
    // What is lost is counted for the whole machine, and a connection that
    // waits to be accepted when the probe begins, taken and closed before the
    // next pass, is a loss. Another test may have one; ours has none.
    let mut losses = Vec::new();
    while losses.len() < 3 {
        losses.push(count_traffic());
        if losses.last() == Some(&Losses::default()) {
            return;
        }
    }
    panic!("{losses:?}");
}

/// Holds what is counted against what was made, and says what was lost.
fn count_traffic() -> Losses {
    // Two, whose addresses and ports are the same and whose flows are not.
    let mut holder = Holder::start(TRAFFIC);
    let mut other = Holder::start(TRAFFIC);
    let mut streaming = open();
    for _ in 0..2 {
        let before = holder.flows(&streaming.observe().unwrap());
        for flow in before.iter().filter(|flow| !flow.key.is_listener()) {
            assert_eq!(flow.counters.bytes_sent, Some(0), "{flow:?}");
        }
    }
    holder.act();
    other.act();
    let expected = expect![[r#"
        tcp active 10.9.9.1 many 10.9.9.2 80: python3, failed 3, unreachable 3
        tcp active 127.0.0.1 many 127.0.0.1 8001: bash, opened 1, sent 123
        tcp active 127.0.0.1 many 127.0.0.1 8003: python3, opened 40, sent 1600, received 2000
        tcp active 127.0.0.1 many 127.0.0.1 8004: python3, open 1, failed 3, timed out 2
        tcp active 127.0.0.1 many 127.0.0.1 8099: python3, failed 7, refused 7
        tcp active 127.0.0.2 many 127.0.0.1 8001: python3, opened 300, sent 30000, received 3000
        tcp active 127.0.0.3 many 127.0.0.1 8001: python3, opened 5
        tcp active 127.0.0.4 many 127.0.0.1 8001: python3, open 1, opened 1, sent 3000001, received 2000003
        tcp active 127.0.0.9 many 127.0.0.1 8000: python3, open 1, sent 1000, received 2000
        tcp active ::1 many ::1 8002: python3, opened 20, sent 140, received 160
        udp active 10.9.9.1 many 10.9.9.3 53: python3, open 2, opened 3, sent 39
        udp active 127.0.0.1 many 127.0.0.1 9001: python3, opened 2, sent 1033, received 2036
        udp active 127.0.0.1 many 127.0.0.1 9003: python3, opened 5, sent 65, received 70
        udp active ::1 many ::1 9002: python3, open 1, opened 1, sent 33, received 36
        tcp passive 127.0.0.1 8000 127.0.0.9 many: python3, open 1, sent 2000, received 1000
        tcp passive 127.0.0.1 8001 127.0.0.1 many: python3, opened 1, received 123
        tcp passive 127.0.0.1 8001 127.0.0.2 many: python3, opened 300, sent 3000, received 30000
        tcp passive 127.0.0.1 8001 127.0.0.3 many: python3, opened 5
        tcp passive 127.0.0.1 8001 127.0.0.4 many: python3, open 1, opened 1, sent 2000003, received 3000001
        tcp passive 127.0.0.1 8003 127.0.0.1 many: python3, opened 40, sent 2000, received 1600
        tcp passive ::1 8002 ::1 many: python3, opened 20, sent 160, received 140
        udp passive 127.0.0.1 9001 127.0.0.1 many: python3, opened 2, sent 2036, received 1033
        udp passive 127.0.0.1 9003 127.0.0.1 many: python3, opened 5, sent 70, received 65
        udp passive ::1 9002 ::1 many: python3, opened 1, sent 36, received 33
    "#]];
    let observation = streaming.observe().unwrap();
    let losses = streaming.losses();
    assert!(observation.coverage.updates_lost <= losses.total());
    let after = holder.flows(&observation);
    expected.assert_eq(&say(&after));
    assert_eq!(say(&other.flows(&observation)), say(&after));
    // The kernel's word is all there is of a process that is gone.
    let brief = |flow: &&HostFlow| flow.counters.bytes_sent == Some(123);
    let brief = after.iter().find(brief).unwrap();
    let group = getpgid(Pid::from_raw(holder.pid().cast_signed())).unwrap();
    assert_eq!(brief.owners[0].pgid, group.as_raw_nonzero().get().cast_unsigned());
    let brief = brief.key.process.clone().unwrap();
    let bash = std::fs::canonicalize("/bin/bash").unwrap();
    assert_eq!(brief.exe.as_deref(), bash.to_str());
    assert_eq!(brief.user.as_deref(), Some("root"));
    // The workers accept what the master listens for.
    let shared = after.iter().filter(|flow| flow.key.local_port == Some(8003));
    for flow in shared.filter(|flow| flow.key.peer.is_some()) {
        assert!(flow.owners.iter().all(|owner| owner.pid != holder.pid()), "{flow:?}");
    }
    // Nothing is counted twice.
    let open = |flow: &&HostFlow| flow.counters.open > 0 && flow.key.peer.is_some();
    let again = holder.flows(&streaming.observe().unwrap());
    let (after, again): (Vec<_>, Vec<_>) =
        (after.iter().filter(open).collect(), again.iter().filter(open).collect());
    assert_eq!(after, again);
    losses
}

#[test]
fn what_is_open_is_what_the_iterator_finds() {
    let holder = Holder::start(include_str!("bpf/sockets.py"));
    let mut iterator = Iterator::open(&config(), Kernel::load_iterator().unwrap()).unwrap();
    let mut streaming = open();
    let found = holder.flows(&iterator.observe().unwrap());
    let mut streamed = holder.flows(&streaming.observe().unwrap());
    for flow in &mut streamed {
        let Counters { open, connecting, rtt_us, .. } = flow.counters;
        flow.counters = Counters { open, connecting, rtt_us, ..Counters::default() };
    }
    assert_eq!(streamed, found);
}

/// Far more peers than the map has room for, in one tick. What was there
/// before stays right, and what found no room is counted.
#[test]
fn a_full_map_is_counted_and_no_more_than_full() {
    const PEERS: usize = 1_000_000;
    let _turn = FILLING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut holder = Holder::start(&format!("PEERS = {PEERS}\n{MANY}"));
    let mut streaming = open();
    streaming.observe().unwrap();
    holder.act();
    let observation = streaming.observe().unwrap();
    let flows = holder.flows(&observation);
    let lost = usize::try_from(observation.coverage.updates_lost).unwrap();
    let udp = |flow: &&HostFlow| flow.key.protocol == Protocol::Udp && !flow.key.is_listener();
    let kept = flows.iter().filter(udp).count();
    // Others of this machine are in the map as well.
    assert!(kept <= 65_536 && kept > 60_000, "{kept} kept");
    assert!(kept + lost >= PEERS, "{kept} kept, {lost} lost");
    let open = flows.iter().filter(|flow| flow.key.local_port == Some(8001));
    assert_eq!(open.map(|flow| flow.counters.open).collect::<Vec<_>>(), [1, 1]);
    // The next tick has room again.
    holder.act();
    let observation = streaming.observe().unwrap();
    let more = usize::try_from(observation.coverage.updates_lost).unwrap() - lost;
    assert_eq!(more, 0);
    let flows = holder.flows(&observation);
    let tcp = flows.iter().find(|flow| flow.key.peer_port == Some(8001)).unwrap();
    assert_eq!(tcp.counters.bytes_sent, Some(5));
}

/// How many sockets count as lost while a process does something; a probe
/// began to stream beside it before.
fn lost_while<T>(process: &str, acts: impl FnOnce(Holder) -> T) -> u64 {
    let _turn = FILLING.lock().unwrap_or_else(PoisonError::into_inner);
    let holder = Holder::start(process);
    let mut streaming = open();
    for _ in 0..2 {
        streaming.observe().unwrap();
    }
    let before = streaming.losses().sockets;
    let _after = acts(holder);
    streaming.losses().sockets - before
}

fn act(mut holder: Holder) -> Holder {
    holder.act();
    holder
}

/// A connection that waits to be accepted is in no process's hands, and if it
/// began before the probe no pass and no tracepoint has come to it.
#[test]
fn what_nobody_ever_accepted_is_no_loss() {
    // Its listener and all that waits there end with it.
    assert_eq!(lost_while(WAITING, drop), 0);
}

/// The same, if a process takes one and closes it before a pass comes by.
#[test]
fn what_came_and_went_between_two_passes_unknown_is_a_loss() {
    // Other tests may lose some as well meanwhile.
    assert!(lost_while(WAITING, act) >= 4);
}

/// What its process closed before the probe began is in no process's hands
/// either, however long the kernel goes on sending it.
#[test]
fn what_was_closed_before_the_probe_began_is_no_loss() {
    // What was sent and nobody read becomes a reset.
    assert_eq!(lost_while(LEFT, act), 0);
}

/// What the kernel prints of each program and what it tells by a system call.
#[test]
fn calls_that_were_left_out_are_read_of_programs_and_of_nothing_else() {
    let streaming = open();
    assert_eq!(streaming.losses().calls, 0);
    assert_eq!(misses(std::fs::File::open("/dev/null").unwrap().as_fd()), None);
    let own = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let mut programs = 0;
    for entry in std::fs::read_dir("/proc/self/fdinfo").unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let Some(line) = text.lines().find(|line| line.starts_with("recursion_misses")) else {
            continue;
        };
        let number = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        // Others' tests close theirs while this one runs.
        let Ok(program) = pidfd_getfd(&own, number, PidfdGetfdFlags::empty()) else { continue };
        let Some(told) = misses(program.as_fd()) else { continue };
        assert!(told >= line.rsplit('\t').next().unwrap().parse().unwrap(), "{line}");
        programs += 1;
    }
    assert!(programs >= 3, "{programs} programs");
    drop(streaming);
}

/// Programs, maps and links end with the process that loaded them.
#[test]
fn a_probe_that_is_killed_leaves_nothing_in_the_kernel() {
    let directory = tempfile::tempdir().unwrap();
    let cmdb = format!("sqlite:{}/cmdb.db", directory.path().display());
    let mut objects = BTreeSet::new();
    for number in 0..100 {
        let mut probe = Command::new(env!("CARGO_BIN_EXE_shawk"))
            .args(["probe", "--mode", "streaming", "--cmdb", &cmdb])
            .env("SHAWK_HOST_ID", "killed")
            .env("SHAWK_SPOOL", "none")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while objects_of(probe.id()).is_empty() {
            assert!(Instant::now() < deadline, "the probe loads nothing");
            std::thread::sleep(Duration::from_millis(1));
        }
        // Some while they load, some after.
        std::thread::sleep(Duration::from_millis(number * 7 % 250));
        objects.extend(objects_of(probe.id()));
        probe.kill().unwrap();
        probe.wait().unwrap();
    }
    assert!(objects.len() > 100, "{} objects were seen", objects.len());
    // The kernel takes them away after a grace period.
    let deadline = Instant::now() + Duration::from_secs(10);
    let left = || objects.intersection(&all_objects()).cloned().collect::<Vec<_>>();
    while !left().is_empty() {
        assert!(Instant::now() < deadline, "left behind: {:?}", left());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Kind and number of every BPF object that a process holds.
fn objects_of(pid: u32) -> Vec<(String, u32)> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return Vec::new() };
    let texts = entries.flatten().filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    texts
        .flat_map(|text| {
            let line = |line: &str| {
                let (kind, number) = line.split_once(":\t")?;
                let known = ["prog_id", "map_id", "link_id"].contains(&kind);
                Some((kind.to_owned(), number.trim().parse().ok()?)).filter(|_| known)
            };
            text.lines().filter_map(line).collect::<Vec<_>>()
        })
        .collect()
}

/// Kind and number of every BPF object there is.
fn all_objects() -> BTreeSet<(String, u32)> {
    let programs = ProgInfoIter::default().map(|program| ("prog_id".to_owned(), program.id));
    let maps = MapInfoIter::default().map(|map| ("map_id".to_owned(), map.id));
    let links = LinkInfoIter::default().map(|link| ("link_id".to_owned(), link.id));
    programs.chain(maps).chain(links).collect()
}
