//! The probe where it may not do all it wants to, or is short of something.
//! Each such test runs itself again in a process that is so confined.

use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shawk::flow::host::Rung;
use shawk::flow::socket::{Snapshot, State};

use crate::netns::{Netns, ip};
use crate::probe::{in_scope, owners, probe, scan};

/// Set in the process that a test runs itself in.
const INNER: &str = "SHAWK_TEST_INNER";

/// Runs the test of that name in a process of its own, through `wrapper`, in
/// which `inner` is true for it.
fn again(name: &str, wrapper: &[&str]) {
    let own = std::env::current_exe().unwrap();
    let own = own.to_str().unwrap();
    let test = format!("probe::limits::{name}");
    let all = [wrapper, &[own, "--exact", &test, "--nocapture", "--test-threads=1"]].concat();
    let output = Command::new(all[0]).args(&all[1..]).env(INNER, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{all:?}\n{said}\n{wrong}");
    print_to_test(&said);
}

/// Shown with `--nocapture`.
#[expect(clippy::print_stdout, reason = "figures for whoever asks")]
fn print_to_test(text: &str) {
    println!("{text}");
}

fn inner() -> bool {
    std::env::var_os(INNER).is_some()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Has found the listener of this process.
fn assert_listener(snapshot: &Snapshot, listener: &TcpListener) {
    let local = listener.local_addr().unwrap();
    let found = in_scope(snapshot, "")
        .into_iter()
        .find(|socket| socket.local == local && socket.state == State::Listen);
    let owners = owners(snapshot, found.unwrap());
    assert!(owners.iter().any(|owner| owner.pid == std::process::id()), "{owners:?}");
}

#[test]
fn without_descriptors_left_there_is_still_a_snapshot() {
    if !inner() {
        return again("without_descriptors_left_there_is_still_a_snapshot", &[]);
    }
    let netns = Netns::new("full");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut probe = probe();
    let whole = getrlimit(Resource::Nofile);
    let highest = std::fs::File::open("/dev/null").unwrap().as_raw_fd();
    let limit = u64::try_from(highest).unwrap();
    setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum: whole.maximum }).unwrap();
    let starved = probe.snapshot().unwrap();
    setrlimit(Resource::Nofile, whole).unwrap();
    let fed = probe.snapshot().unwrap();

    let local = listener.local_addr().unwrap();
    let there = starved.sockets.iter().find(|socket| socket.local == local).unwrap();
    assert!(there.owners.is_empty());
    assert_eq!(starved.coverage.processes, 0);
    assert!(starved.coverage.processes_unreadable > 0);
    assert!(starved.coverage.sockets_unattributed > 0);
    assert!(starved.coverage.namespaces_unreadable > 0);
    assert_listener(&fed, &listener);
    in_scope(&fed, &netns.scope());
}

#[test]
fn a_namespace_that_may_not_be_entered_is_counted() {
    if !inner() {
        let _closed = Netns::new("closed");
        let wrapper = ["setpriv", "--bounding-set=-sys_admin"];
        return again("a_namespace_that_may_not_be_entered_is_counted", &wrapper);
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let snapshot = scan();
    assert_eq!(snapshot.coverage.namespaces, 1);
    assert!(snapshot.coverage.namespaces_unreadable >= 1);
    assert_listener(&snapshot, &listener);
}

#[test]
fn a_probe_with_a_pid_namespace_of_its_own_says_so() {
    if !inner() {
        let _elsewhere = Netns::new("elsewhere");
        assert!(!scan().coverage.confined);
        let wrapper = ["unshare", "--pid", "--fork", "--net", "--mount-proc"];
        return again("a_probe_with_a_pid_namespace_of_its_own_says_so", &wrapper);
    }
    ip(&["link", "set", "lo", "up"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let snapshot = scan();
    assert!(snapshot.coverage.confined);
    assert_eq!((snapshot.coverage.namespaces, snapshot.coverage.processes), (1, 1));
    assert_eq!(snapshot.namespaces.len(), 1);
    assert_listener(&snapshot, &listener);
}

/// A sandbox without netlink (systemd's `RestrictAddressFamilies=`, some
/// containers): its filter is put up by Python, which then becomes the test.
#[test]
fn without_netlink_proc_net_stands_in() {
    if !inner() {
        let filter = r"
import ctypes, os, platform, struct, sys
call = {'x86_64': 41, 'aarch64': 198}[platform.machine()]
code = [(0x20, 0, 0, 0), (0x15, 0, 3, call), (0x20, 0, 0, 16), (0x15, 0, 1, 16),
        (0x06, 0, 0, 0x00050000 | 97), (0x06, 0, 0, 0x7fff0000)]
room = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *i) for i in code))
program = struct.pack('HxxxxxxP', len(code), ctypes.addressof(room))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.c_char_p(program)) == 0, ctypes.get_errno()
os.execv(sys.argv[1], sys.argv[1:])
";
        return again("without_netlink_proc_net_stands_in", &["python3", "-c", filter]);
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let snapshot = scan();
    assert_eq!(snapshot.rung, Rung::Procfs);
    assert!(snapshot.coverage.namespaces_unreadable >= 1);
    assert_eq!(snapshot.coverage.malformed, 0);
    assert!(snapshot.namespaces[0].addresses.contains(&"127.0.0.1".parse().unwrap()));
    assert_listener(&snapshot, &listener);
}

/// `SHAWK_TEST_SCANS=10000` makes it the long one.
#[test]
fn no_scan_fails_while_others_fork() {
    if !inner() {
        return again("no_scan_fails_while_others_fork", &[]);
    }
    let scans = std::env::var("SHAWK_TEST_SCANS").map_or(1500, |scans| scans.parse().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let forks = || -> u64 {
        let stat = std::fs::read_to_string("/proc/stat").unwrap();
        let line = stat.lines().find_map(|line| line.strip_prefix("processes ")).unwrap();
        line.parse().unwrap()
    };
    // One that becomes another program, and two that only fork.
    let script = "while :; do /bin/true & (:) & (:) & wait; done";
    let mut forking = Command::new("sh").args(["-c", script]).spawn().unwrap();
    let mut probe = probe();
    probe.snapshot().unwrap();
    let (open, before, start) = (descriptors(), forks(), Instant::now());
    let (mut vanished, mut longest) = (0, Duration::ZERO);
    for _ in 0..scans {
        let scan = Instant::now();
        let snapshot = probe.snapshot().unwrap();
        longest = longest.max(scan.elapsed());
        vanished += snapshot.coverage.processes_vanished;
        assert_listener(&snapshot, &listener);
        assert_eq!(snapshot.coverage.malformed, 0);
    }
    let (forked, took) = (forks() - before, start.elapsed());
    forking.kill().unwrap();
    forking.wait().unwrap();
    assert_eq!(descriptors(), open);
    assert!(forked > scans, "{forked} forks");
    let rate = u128::from(forked) * 60_000 / took.as_millis();
    print_to_test(&format!(
        "{scans} scans in {took:?}, the longest {longest:?}, {rate} forks a minute, {vanished} vanished"
    ));
}
