//! A way to the CMDB that falls silent: packets are dropped, nobody says so.
//! Everything is in a network namespace of its own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::postgres;
use crate::serve::collector::{said, shawk};
use crate::spool::{Probe, knows, scratch, traffic, until};

/// How soon a probe must have noticed, and have delivered over a new connection.
const NOTICED: Duration = Duration::from_secs(15);

/// A network namespace with loopback, and what runs in it.
struct Namespace {
    name: String,
    running: Vec<Child>,
}

impl Namespace {
    fn new(name: &str) -> Namespace {
        let name = format!("shawk-{name}-{}", std::process::id());
        let namespace = Namespace { name, running: Vec::new() };
        run(&["ip", "netns", "add", &namespace.name]);
        run(&["ip", "-n", &namespace.name, "link", "set", "lo", "up"]);
        namespace
    }

    /// What leads into it.
    fn lead(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.name]
    }

    fn run(&self, words: &[&str]) -> String {
        run(&[&self.lead(), words].concat())
    }

    fn start(&mut self, words: &[&str]) {
        let [first, rest @ ..] = self.lead();
        let mut command = Command::new(first);
        command.args(rest).args(words).stderr(Stdio::null());
        self.running.push(command.spawn().unwrap());
    }

    /// From now on no packet of the connections to a port arrives that are there
    /// now, in either direction.
    fn silence(&self, port: u16) {
        let filter = format!("dport = :{port}");
        let sockets = self.run(&["ss", "-Htn", "state", "established", &filter]);
        let mut rules = "add table inet drops
            add chain inet drops input { type filter hook input priority 0; }
            "
        .to_owned();
        let mut silenced = 0;
        for line in sockets.lines() {
            let own = line.split_whitespace().nth(2).and_then(|local| local.rsplit_once(':'));
            let own = own.unwrap_or_else(|| panic!("{line}")).1;
            for (from, to) in [(own, &*port.to_string()), (&*port.to_string(), own)] {
                rules.push_str(&format!(
                    "add rule inet drops input tcp sport {from} tcp dport {to} drop\n"
                ));
            }
            silenced += 1;
        }
        assert!(silenced > 0, "nobody is connected to {port}: {sockets}");
        self.run(&["nft", &rules]);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        for child in &mut self.running {
            child.kill().ok();
            child.wait().ok();
        }
        Command::new("ip").args(["netns", "del", &self.name]).status().ok();
    }
}

fn run(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The session is dropped under a probe: what is new is told within the limit.
fn check(namespace: &Namespace, cmdb: &str, port: u16, spool: &Path, look: &str) {
    let mut probe = Probe::start_by(&namespace.lead(), cmdb, spool);
    let before = traffic();
    until("the probe tells", || knows(look, before.0).then_some(()));
    namespace.silence(port);
    let silent = Instant::now();
    let after = traffic();
    until("the probe tells again", || knows(look, after.0).then_some(()));
    assert!(silent.elapsed() <= NOTICED, "{:?}", silent.elapsed());
    assert_eq!(probe.stop(), Some(0));
}

#[test]
fn a_session_with_a_collector_that_falls_silent_is_replaced() {
    let directory = scratch();
    let mut namespace = Namespace::new("collector");
    let cmdb = postgres::server(15).url_for_new_database();
    assert!(shawk(&["create-scheme", "--cmdb", &cmdb]).status().unwrap().success());
    let listen = "127.0.0.1:7717";
    namespace.start(&[env!("CARGO_BIN_EXE_shawk"), "serve", "--listen", listen, "--cmdb", &cmdb]);
    let url = format!("http://{listen}");
    check(&namespace, &url, 7717, &directory.path().join("spool"), &cmdb);
}

#[test]
fn a_session_with_postgresql_that_falls_silent_is_replaced() {
    let directory = scratch();
    let namespace = Namespace::new("postgres");
    let server = postgres::own_server(15, &namespace.lead());
    let (near, far) = server.urls_for_new_database();
    assert!(shawk(&["create-scheme", "--cmdb", &near]).status().unwrap().success());
    check(&namespace, &far, server.port, &directory.path().join("spool"), &near);
}
