//! The kernel side on a real kernel, against the truth and against the rung
//! below. Where BPF is not to be had these fail; they are never skipped.
//!
//! They need root, python3, iproute2 and util-linux.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use expect_test::{Expect, expect};
use shawk::flow::host::Rung;
use shawk::flow::key::{HostFlow, Observation};
use shawk::flow::socket::{Direction, State};
use shawk::probe::ProbeConfig;
use shawk::probe::bpf::Kernel;
use shawk::probe::choose::{Mode, choose};
use shawk::probe::iterator::Iterator;
use shawk::probe::netlink::Netlink;
use shawk::probe::support::{Feature, Support};

pub(crate) fn config() -> ProbeConfig {
    ProbeConfig { host_id: Some("test".into()), hostname: None, proc: PathBuf::from("/proc") }
}

/// A process with sockets, and its network namespace. It ends with its input.
pub(crate) struct Holder {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    scope: String,
}

impl Holder {
    pub(crate) fn start(script: &str) -> Holder {
        let mut child = Command::new("unshare")
            .args(["--net", "python3", "-u", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        expect_line(&mut output, "ready\n");
        let namespace = std::fs::read_link(format!("/proc/{}/ns/net", child.id())).unwrap();
        let scope = namespace.to_str().unwrap().replace(['[', ']'], "");
        Holder { child, input, output, scope }
    }

    pub(crate) fn flows(&self, observation: &Observation) -> Vec<HostFlow> {
        assert_eq!(observation.coverage.malformed, 0);
        let flows = observation.flows.iter();
        flows.filter(|flow| *flow.key.scope == self.scope).cloned().collect()
    }

    /// Lets it go on, and waits until it has done what it does.
    pub(crate) fn act(&mut self) {
        writeln!(self.input.as_mut().unwrap()).unwrap();
        expect_line(&mut self.output, "done\n");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

fn expect_line(output: &mut BufReader<ChildStdout>, expected: &str) {
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, expected, "the script with sockets failed");
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.input.take());
        self.child.wait().unwrap();
    }
}

/// One line per flow; owners by what they are to the holder.
fn say(holder: &Holder, flows: &[HostFlow]) -> String {
    let mut text = String::new();
    for flow in flows {
        let key = &flow.key;
        let port = |port: Option<u16>| port.map_or("many".to_owned(), |port| port.to_string());
        let peer =
            key.peer.map_or("*".to_owned(), |peer| format!("{peer} {}", port(key.peer_port)));
        write!(
            text,
            "{} {} {} {} {peer} ×{}",
            key.protocol.name(),
            key.direction.name(),
            key.local,
            // The kernel's choice differs from run to run.
            match key.local_port {
                Some(32768..) => "any".to_owned(),
                other => port(other),
            },
            flow.counters.open
        )
        .unwrap();
        if flow.counters.connecting > 0 {
            write!(text, " ({} connecting)", flow.counters.connecting).unwrap();
        }
        let name = &key.process.as_ref().unwrap().name;
        assert!(name.starts_with("python3"), "{name}");
        assert_eq!(flow.owners.len(), 1, "one process and group");
        let own = flow.owners[0].pid == holder.pid();
        text.push_str(if own { " own\n" } else { " child\n" });
    }
    text
}

fn check(holder: &Holder, flows: &[HostFlow], expected: &Expect) {
    expected.assert_eq(&say(holder, flows));
}

const SOCKETS: &str = include_str!("bpf/sockets.py");
const BUSY: &str = include_str!("bpf/busy.py");

#[test]
fn a_host_that_runs_these_tests_has_all_that_bpf_needs() {
    let (support, _) = Support::read(&config(), Rung::Streaming).unwrap();
    for feature in [Feature::Btf, Feature::Bpf, Feature::FileIterator, Feature::OwnProc] {
        assert!(support.has(feature), "{}: {:?}", feature.name(), support.why(feature));
    }
    assert_eq!(choose(&support, Mode::Polling).unwrap().rung, Rung::Iterator);
}

#[test]
fn the_iterator_sees_the_flows_that_are_there() {
    let holder = Holder::start(SOCKETS);
    let mut iterator = Iterator::open(&config(), Kernel::load_iterator().unwrap()).unwrap();
    let expected = expect![[r#"
        tcp active 127.0.0.1 many 127.0.0.1 8001 ×5 own
        tcp active 127.0.0.1 many 127.0.0.1 8002 ×1 own
        tcp active 127.0.0.1 many 127.0.0.1 8005 ×1 own
        tcp active 127.0.0.1 many 127.0.0.1 8006 ×3 (2 connecting) own
        tcp active 127.0.0.2 many 127.0.0.1 8001 ×4 own
        tcp active 127.0.0.3 many 127.0.0.1 8001 ×2 own
        tcp active 127.0.0.4 many 127.0.0.1 8001 ×1 own
        tcp active 127.0.0.5 many 127.0.0.1 8001 ×1 own
        tcp active 127.0.0.6 many 127.0.0.1 8001 ×1 child
        tcp active ::1 many ::1 8002 ×1 own
        udp active 127.0.0.1 many 127.0.0.1 9001 ×2 own
        udp active ::1 many ::1 9003 ×1 own
        tcp passive 127.0.0.1 8001 * ×1 own
        tcp passive 127.0.0.1 8001 127.0.0.1 many ×5 own
        tcp passive 127.0.0.1 8001 127.0.0.2 many ×4 own
        tcp passive 127.0.0.1 8001 127.0.0.3 many ×2 own
        tcp passive 127.0.0.1 8001 127.0.0.4 many ×1 own
        tcp passive 127.0.0.1 8001 127.0.0.5 many ×1 own
        tcp passive 127.0.0.1 8001 127.0.0.6 many ×1 child
        tcp passive 127.0.0.1 8002 127.0.0.1 many ×1 own
        tcp passive 127.0.0.1 8004 * ×1 own
        tcp passive 127.0.0.1 8005 127.0.0.1 many ×1 own
        tcp passive 127.0.0.1 8006 * ×1 own
        tcp passive 127.0.0.1 8007 * ×1 own
        tcp passive :: 8002 * ×1 own
        tcp passive :: 8003 * ×1 own
        tcp passive ::1 8002 ::1 many ×1 own
        udp passive 0.0.0.0 any * ×1 own
        udp passive 127.0.0.1 9001 * ×1 own
        udp passive ::1 9003 * ×1 own
    "#]];
    check(&holder, &holder.flows(&iterator.observe().unwrap()), &expected);
    check(&holder, &holder.flows(&iterator.snapshot().unwrap().observe()), &expected);
}

#[test]
fn the_iterator_sees_what_netlink_sees() {
    let holder = Holder::start(SOCKETS);
    let mut iterator = Iterator::open(&config(), Kernel::load_iterator().unwrap()).unwrap();
    let mut netlink = Netlink::open(&config(), true).unwrap();
    let bundled = holder.flows(&iterator.observe().unwrap());
    let detailed = holder.flows(&iterator.snapshot().unwrap().observe());
    let dumped = holder.flows(&netlink.snapshot().unwrap().observe());
    assert_eq!(bundled, dumped);
    assert_eq!(bundled, detailed);
}

/// Against sockets that change under the reader: it may say that it does not
/// know, seldom, but not what is wrong.
#[test]
fn the_direction_of_a_busy_connection_is_never_wrong() {
    // A quarter are children of a listener without a backlog, of which there
    // is no proof.
    let known = directions_of_the_busy("DROPS = False\n");
    assert!(known > 0.7, "{known} known");
}

/// As above where packets are dropped: by a queue that is full, so that the
/// sender itself is told as well.
#[test]
fn nor_is_that_of_one_that_repeats_itself() {
    let known = directions_of_the_busy("DROPS = True\n");
    assert!(known > 0.2, "{known} known");
}

/// How many of them were known; none may be wrong.
fn directions_of_the_busy(setting: &str) -> f64 {
    let holder = Holder::start(&format!("{setting}{BUSY}"));
    let mut iterator = Iterator::open(&config(), Kernel::load_iterator().unwrap()).unwrap();
    let (mut known, mut unknown) = (0, 0);
    for _ in 0..400 {
        let snapshot = iterator.snapshot().unwrap();
        for socket in &snapshot.sockets {
            let namespace = &snapshot.namespaces[socket.namespace as usize];
            if *namespace.scope != holder.scope || socket.state == State::Listen {
                continue;
            }
            let active = socket.local.ip() == IpAddr::from([127, 0, 0, 2]);
            match socket.opened {
                Direction::Unknown => unknown += 1,
                Direction::Active => known += i32::from(active),
                Direction::Passive => known += i32::from(!active),
            }
        }
    }
    assert_eq!(known + unknown, 400 * 48, "the others were wrong");
    f64::from(known) / f64::from(known + unknown)
}
