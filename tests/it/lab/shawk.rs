//! The program under test, as a user runs it: a probe on each host, `look`
//! anywhere, and what `look` says compared with the truth.

use std::collections::BTreeMap;
use std::process::Command;
use std::rc::Rc;

use serde::Deserialize;
use serde_json::Value;

use crate::lab::cmdb::Cmdb;
use crate::lab::host::{self, Host, Program};
use crate::lab::network::Lab;
use crate::lab::ss;
use crate::lab::truth::{self, Edge, End};
use crate::lab::wait::{self, LIMIT, Said};

pub(crate) const SHAWK: &str = env!("CARGO_BIN_EXE_shawk");

/// Looks at a count of bytes that find it unchanged between two scans.
const QUIET: u32 = 3;

/// So many scans begun, all but the last have surely ended.
const SCANS: u32 = 3;

/// What `look -o json` promises, as far as a truth needs it.
#[derive(Deserialize)]
pub(crate) struct Look {
    schema: String,
    pub(crate) nodes: Vec<Node>,
    edges: Vec<Connection>,
}

#[derive(Deserialize)]
pub(crate) struct Node {
    id: u64,
    pub(crate) host: Option<String>,
    #[serde(default)]
    scope: String,
    address: Option<String>,
    pub(crate) process: Option<Process>,
    pub(crate) pgid: Option<u32>,
}

#[derive(Deserialize)]
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) exe: Option<String>,
}

#[derive(Deserialize)]
struct Connection {
    active: u64,
    passive: u64,
    protocol: String,
    port: u16,
    active_address: Option<String>,
    passive_address: Option<String>,
    told_by: String,
    failing: bool,
    direction: String,
}

impl Lab {
    /// Waits until the sockets show exactly this truth.
    pub(crate) fn settle(&self, truth: &[&str]) {
        let places = self.places.borrow();
        wait::until("the sockets to be as the truth says", LIMIT, || {
            truth::compare(truth, &ss::edges(&places))
        });
    }

    /// The whole proof: the sockets are as the truth says; a probe on each
    /// host records them, in each kind of CMDB; `look` says the same.
    pub(crate) fn check(&self, truth: &[&str]) {
        self.settle(truth);
        for cmdb in self.recorded(&self.hosts()) {
            cmdb.expect(&self.hosts(), truth);
        }
        // Had the lab moved meanwhile, the comparison would be worth nothing.
        self.settle(truth);
    }

    /// Fresh CMDBs of each kind with one scan of each of these hosts.
    pub(crate) fn recorded(&self, hosts: &[Rc<Host>]) -> Vec<Cmdb> {
        let cmdbs = self.fresh_cmdbs();
        for cmdb in &cmdbs {
            cmdb.create_scheme();
            for host in hosts {
                host.probe_once(cmdb);
            }
        }
        cmdbs
    }
}

impl Host {
    /// Scans this host once.
    pub(crate) fn probe_once(&self, cmdb: &Cmdb) {
        let settings = self.settings(cmdb);
        let mut words = vec!["env"];
        words.extend(settings.iter().map(String::as_str));
        words.extend([SHAWK, "probe", "--once"]);
        let said = self.run(&words);
        assert!(
            said.status.success(),
            "probe --once on {} into {}: {}\n{}",
            self.name,
            cmdb.name,
            said.status,
            said.stderr
        );
    }

    /// Starts a probe that goes on, at a quick pace.
    pub(crate) fn daemon(&self, cmdb: &Cmdb) -> Program {
        self.daemon_that_flushes(cmdb, "1s")
    }

    /// Starts a probe that goes on and writes at this interval.
    pub(crate) fn daemon_that_flushes(&self, cmdb: &Cmdb, interval: &str) -> Program {
        let mut settings = self.settings(cmdb);
        settings.push("SHAWK_PROBE_INTERVAL=200ms".to_owned());
        settings.push(format!("SHAWK_FLUSH_INTERVAL={interval}"));
        let pairs: Vec<_> = settings.iter().filter_map(|setting| setting.split_once('=')).collect();
        self.start(&[SHAWK, "probe"], &pairs)
    }

    /// Waits until a probe has read its sockets several times over. That shows
    /// in nothing but the bytes it has read: a scan is a burst of them after
    /// some quiet.
    pub(crate) fn has_scanned(&self, probe: &Program) {
        let path = format!("/proc/{}/io", probe.pid);
        let (mut last, mut quiet, mut scans) = (String::new(), 0, 0);
        wait::until("a probe to scan and scan again", LIMIT, || {
            let io = self.succeeds(&["cat", &path]);
            let read = io.lines().next().unwrap_or("").to_owned();
            if read == last {
                quiet += 1;
            } else {
                scans += u32::from(quiet >= QUIET);
                quiet = 0;
            }
            last = read;
            (scans >= SCANS).then_some(()).ok_or(format!("{scans} scans"))
        });
    }

    fn settings(&self, cmdb: &Cmdb) -> Vec<String> {
        vec![
            format!("SHAWK_CMDB_URL={}", cmdb.url),
            format!("SHAWK_PROBE_MODE={}", cmdb.mode),
            "SHAWK_SPOOL=none".to_owned(),
            format!("SHAWK_HOST_ID={}", self.name),
            format!("SHAWK_HOSTNAME={}", self.name),
        ]
    }
}

impl Cmdb {
    /// Prepares it, where its kind needs that.
    pub(crate) fn create_scheme(&self) {
        if self.needs_scheme {
            self.succeeds(&["create-scheme"]);
        }
    }

    /// Asks it, with the graph as JSON.
    pub(crate) fn look(&self, arguments: &[&str]) -> Look {
        let words = [&["look"], arguments, &["-o", "json"]].concat();
        let text = self.succeeds(&words);
        let mut look: Look = serde_json::from_str(&text).unwrap_or_else(|error| {
            panic!("{}: {words:?} gave no graph: {error}\n{text}", self.name)
        });
        assert_eq!(look.schema, "shawk.look/1");
        // A server that answers datagrams from one socket for all can tell of a
        // peer only when it streams, and a datagram passes while it does: with
        // a single scan that is chance, and both is as true as active.
        if self.mode == "streaming" {
            for edge in look.edges.iter_mut().filter(|edge| edge.protocol == "udp") {
                if edge.told_by == "both" {
                    "active".clone_into(&mut edge.told_by);
                }
            }
        }
        look
    }

    /// Every edge it has around these hosts.
    ///
    /// An edge between two of them comes with the answer about either, and
    /// must not come twice in one: so each line counts as often as in the
    /// answer that has it most.
    pub(crate) fn graph(&self, hosts: &[Rc<Host>]) -> Vec<String> {
        let mut most: BTreeMap<String, usize> = BTreeMap::new();
        for host in hosts {
            let lines = self.look(&["--host", &host.name, "--depth", "1"]).lines();
            for line in &lines {
                let times = lines.iter().filter(|other| *other == line).count();
                let entry = most.entry(line.clone()).or_default();
                *entry = times.max(*entry);
            }
        }
        let lines = most.into_iter();
        lines.flat_map(|(line, times)| vec![line; times]).collect()
    }

    /// Compares what it has around these hosts with the truth.
    pub(crate) fn expect(&self, hosts: &[Rc<Host>], truth: &[&str]) {
        if let Err(difference) = truth::compare(truth, &self.graph(hosts)) {
            panic!("the graph in {} is not the truth:{difference}", self.name);
        }
    }

    /// Compares one answer with the truth.
    pub(crate) fn expect_look(&self, arguments: &[&str], truth: &[&str]) {
        if let Err(difference) = truth::compare(truth, &self.look(arguments).lines()) {
            panic!("look {arguments:?} in {} is not the truth:{difference}", self.name);
        }
    }

    /// Runs `shawk` with this CMDB, outside of all hosts; it has to succeed.
    pub(crate) fn succeeds(&self, arguments: &[&str]) -> String {
        wait::success(&mut self.command(arguments), LIMIT)
    }

    /// Runs `shawk` with this CMDB; how it ended and what it said.
    pub(crate) fn says(&self, arguments: &[&str]) -> Said {
        wait::output(&mut self.command(arguments), LIMIT)
    }

    /// Asks a question with a name of its own; the document, and the exit code.
    pub(crate) fn asks(&self, arguments: &[&str]) -> (Value, i32) {
        let said = self.says(&[arguments, &["-o", "json"]].concat());
        let text = String::from_utf8_lossy(&said.stdout);
        let document = serde_json::from_str(&text).unwrap_or_else(|error| {
            panic!("{}: {arguments:?} gave no document: {error}\n{text}{}", self.name, said.stderr)
        });
        (document, said.status.code().unwrap_or(-1))
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(SHAWK);
        host::clean(&mut command);
        command.env("SHAWK_CMDB_URL", &self.url).args(arguments);
        command
    }
}

impl Look {
    /// The edges as sorted lines.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines_with(Node::label)
    }

    /// The same with process groups: `client-1/python3#7`.
    pub(crate) fn lines_with_groups(&self) -> Vec<String> {
        self.lines_with(|node| match node.pgid {
            Some(pgid) => format!("{}#{pgid}", node.label()),
            None => node.label(),
        })
    }

    fn lines_with(&self, label: impl Fn(&Node) -> String) -> Vec<String> {
        let mut lines: Vec<String> =
            self.edges.iter().map(|edge| self.edge(edge, &label).line()).collect();
        lines.sort();
        lines
    }

    fn edge(&self, edge: &Connection, label: impl Fn(&Node) -> String) -> Edge {
        let end = |id: u64, address: &Option<String>| {
            let node = self.nodes.iter().find(|node| node.id == id);
            let node =
                node.unwrap_or_else(|| panic!("an edge names node {id}, which is not there"));
            End {
                label: label(node),
                address: address.clone().or_else(|| node.address.clone()).unwrap_or_default(),
            }
        };
        Edge {
            active: end(edge.active, &edge.active_address),
            passive: end(edge.passive, &edge.passive_address),
            protocol: edge.protocol.clone(),
            port: edge.port,
            told_by: edge.told_by.clone(),
            failing: edge.failing,
            direction_unknown: edge.direction != "known",
        }
    }
}

impl Node {
    fn label(&self) -> String {
        let place = match &self.host {
            Some(host) if self.scope.is_empty() => host.clone(),
            Some(host) => format!("{host}[{}]", self.scope),
            None => return String::new(),
        };
        match &self.process {
            Some(process) => format!("{place}/{}", process.name),
            None => place,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_becomes_lines() {
        let text = r#"{"schema": "shawk.look/1", "nodes": [
            {"id": 0, "host": "web-1", "scope": "", "address": "10.77.0.10", "probe": true,
             "process": {"name": "nginx", "exe": "/usr/sbin/nginx"}, "pgid": 5},
            {"id": 1, "host": "box", "scope": "netns:blue", "process": {"name": "wrk"}, "pgid": 7},
            {"id": 2, "address": "10.77.0.99", "probe": false}], "edges": [
            {"active": 1, "passive": 0, "protocol": "tcp", "port": 80, "told_by": "both",
             "active_address": "10.77.0.20", "passive_address": "10.77.0.10",
             "failing": false, "direction": "known"},
            {"active": 0, "passive": 2, "protocol": "udp", "port": 53, "told_by": "active",
             "active_address": "10.77.0.10", "passive_address": "10.77.0.99",
             "failing": true, "direction": "unknown"}]}"#;
        let look: Look = serde_json::from_str(text).expect("the schema is as promised");
        assert_eq!(
            look.lines_with_groups(),
            [
                "box[netns:blue]/wrk#7 10.77.0.20 -> web-1/nginx#5 10.77.0.10 tcp/80 both",
                "web-1/nginx#5 10.77.0.10 -> 10.77.0.99 udp/53 active failing direction-unknown",
            ]
        );
    }
}
