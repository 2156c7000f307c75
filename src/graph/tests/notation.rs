//! Records written down for tests, and graphs printed back.
//!
//! One line each; `SCOPE` is the namespace, none for the host's own, times are
//! seconds:
//! ```text
//! host NAME [0-60 ..]                       reports, in these times
//! NAME[@SCOPE] has ADDRESS.. [0-99]         addresses
//! NAME[@SCOPE] tcp 0.0.0.0:80 listens nginx/4656
//! NAME[@SCOPE] tcp 10.0.0.11 -> 10.0.0.10:80 wrk/5982
//! NAME[@SCOPE] tcp 10.0.0.10:80 <- 10.0.0.11 nginx/4656
//! NAME[@SCOPE] tcp 10.0.0.10:80 -- 10.0.0.11:4000 nginx/4656
//! ```
//! A process is `-` where none was seen, else `NAME[/PGID[+PGID..]]`, and
//! words may follow: spans as `0-60` (goes on) or `0-60.` (ended), and
//! `open=`, `connecting=`, `opened=`, `failed=`, `more=`, `started=`
//! (its owners), `later=` (a span).

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use crate::flow::host::{Coverage, Host, Rung};
use crate::flow::key::{Counters, FlowKey, HostFlow};
use crate::flow::process::{Instance, Process};
use crate::flow::socket::{Direction, Protocol};
use crate::graph::{Graph, Identity, Node, Place};
use crate::recall::{AddressRecord, FlowRecord, HostKey, HostRecord, Records, Span};

/// A second after the time that tests begin at.
pub(crate) fn second(second: i64) -> Timestamp {
    Timestamp::from_second(1_780_000_000 + second).expect("a test's second is in range")
}

/// The key of a host by name; its id is the name with `-id`.
pub(crate) fn host_key(name: &str) -> HostKey {
    Host { id: format!("{name}-id"), name: name.to_owned() }.hash()
}

/// A process that has nothing but a name.
pub(crate) fn process(name: &str) -> Arc<Process> {
    Arc::new(Process {
        name: name.to_owned(),
        exe: None,
        user: None,
        unit: None,
        container: None,
        pod: None,
    })
}

/// Reads the notation. Panics on a line it does not understand.
pub(crate) fn records(text: &str) -> Records {
    let mut records = Records::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["host", name, ref heard @ ..] => records.hosts.push(host(name, heard)),
            [at, "has", ref rest @ ..] => has(&mut records, place(at), rest),
            [at, protocol, local, "listens", ref rest @ ..] => {
                let protocol = parse_protocol(protocol);
                let key = (Direction::Passive, protocol, end(local), (None, None));
                records.flows.push(flow(place(at), key, rest));
            }
            [at, protocol, local, arrow, peer, ref rest @ ..] => {
                let direction = match arrow {
                    "->" => Direction::Active,
                    "<-" => Direction::Passive,
                    "--" => Direction::Unknown,
                    _ => panic!("no arrow in {line}"),
                };
                let peer = end(peer);
                let key = (direction, parse_protocol(protocol), end(local), (Some(peer.0), peer.1));
                records.flows.push(flow(place(at), key, rest));
            }
            _ => panic!("not understood: {line}"),
        }
    }
    records
}

fn host(name: &str, heard: &[&str]) -> HostRecord {
    let range = |word: &&str| {
        let (from, to) = word.split_once('-').expect("a range");
        (at(from), at(to))
    };
    let mut watched: Vec<_> = heard.iter().map(range).collect();
    if watched.is_empty() {
        watched.push((second(0), second(60)));
    }
    let (first_seen, last_seen) = (watched[0].0, watched[watched.len() - 1].1);
    // A look of a moment is no watch.
    watched.retain(|(since, until)| since < until);
    HostRecord {
        key: host_key(name),
        id: format!("{name}-id"),
        name: name.to_owned(),
        rung: Rung::Netlink,
        coverage: Coverage::default(),
        first_seen,
        last_seen,
        rivals: std::collections::BTreeSet::new(),
        skew: jiff::SignedDuration::ZERO,
        watched,
        dim: crate::recall::Dim::default(),
    }
}

fn has(records: &mut Records, place: Place, words: &[&str]) {
    let (mut since, mut until) = (second(0), second(60));
    for word in words.iter().filter(|word| word.parse::<IpAddr>().is_err()) {
        let (from, to) = word.split_once('-').expect("a range");
        (since, until) = (at(from), at(to));
    }
    for address in words.iter().filter_map(|word| word.parse().ok()) {
        let (host, scope) = (place.host, Arc::clone(&place.scope));
        records.addresses.push(AddressRecord { host, scope, address, since, until });
    }
}

type Key = (Direction, Protocol, (IpAddr, Option<u16>), (Option<IpAddr>, Option<u16>));

fn flow(place: Place, key: Key, words: &[&str]) -> FlowRecord {
    let (direction, protocol, (local, local_port), (peer, peer_port)) = key;
    let (name, pgids) = words[0].split_once('/').unwrap_or((words[0], ""));
    let process = (name != "-").then(|| process(name));
    let owners = pgids.split('+').filter_map(|pgid| pgid.parse().ok()).map(|pgid: u32| Instance {
        process: process.clone().expect("groups are a process's"),
        pid: pgid,
        pgid,
        started: second(0),
    });
    let owners = owners.collect();
    let scope = place.scope;
    let key = FlowKey { scope, direction, protocol, local, local_port, peer, peer_port, process };
    let counters = Counters { open: 1, ..Counters::default() };
    let flow = HostFlow { key, owners, owners_more: 0, counters, tentative: false };
    let mut record = FlowRecord {
        host: place.host,
        flow,
        spans: Vec::new(),
        first_seen: second(0),
        later: None,
    };
    for word in &words[1..] {
        match word.split_once('=') {
            Some(("open", n)) => record.flow.counters.open = number(n),
            Some(("connecting", n)) => record.flow.counters.connecting = number(n),
            Some(("opened", n)) => record.flow.counters.opened = Some(number(n).into()),
            Some(("failed", n)) => record.flow.counters.failed = Some(number(n).into()),
            Some(("sent", n)) => record.flow.counters.bytes_sent = Some(number(n).into()),
            Some(("started", n)) => {
                record.flow.owners.iter_mut().for_each(|owner| owner.started = at(n));
            }
            Some(("later", later)) => record.later = Some(span(later)),
            Some(("more", n)) => record.flow.owners_more = number(n),
            Some(_) => panic!("not understood: {word}"),
            None => record.spans.push(span(word)),
        }
    }
    if record.spans.is_empty() {
        record.spans.push(span("0-60"));
    }
    record.first_seen = record.spans[0].since;
    record
}

fn span(word: &str) -> Span {
    let ended = word.ends_with('.');
    let (since, until) = word.trim_end_matches('.').split_once('-').expect("a span");
    Span { since: at(since), until: at(until), ended }
}

fn at(word: &str) -> Timestamp {
    second(word.parse().expect("a second"))
}

fn number(word: &str) -> u32 {
    word.parse().expect("a number")
}

fn place(word: &str) -> Place {
    let (name, scope) = word.split_once('@').unwrap_or((word, ""));
    Place { host: host_key(name), scope: Arc::from(scope) }
}

fn parse_protocol(word: &str) -> Protocol {
    if word == "udp" { Protocol::Udp } else { Protocol::Tcp }
}

/// `10.0.0.1:80`, `[::1]:80`, or an address alone.
fn end(word: &str) -> (IpAddr, Option<u16>) {
    if let Ok(end) = word.parse::<std::net::SocketAddr>() {
        return (end.ip(), Some(end.port()));
    }
    (word.parse().expect("an address"), None)
}

/// A graph, an edge a line: `web-2 wrk/5982 10.0.0.11 -> web-1 nginx/4656
/// 10.0.0.10:80 tcp both confirmed 0-60`.
pub(crate) fn print(graph: &Graph) -> String {
    let mut lines: Vec<String> = graph
        .edges
        .iter()
        .map(|edge| {
            let seconds = |at: Timestamp| at.duration_since(second(0)).as_secs();
            let active_port = edge.active_port.map_or(String::new(), |port| format!(":{port}"));
            let state = if edge.failing { " failing" } else { "" };
            format!(
                "{} {}{active_port} {} {} {}:{} {} {}, {} {}-{}{}{state}",
                label(graph, &graph.nodes[edge.active]),
                edge.active_address,
                if edge.directed { "->" } else { "--" },
                label(graph, &graph.nodes[edge.passive]),
                edge.passive_address,
                edge.port,
                edge.protocol.name(),
                edge.told_by.name(),
                edge.confidence.words(),
                seconds(edge.first_seen),
                seconds(edge.last_seen),
                if edge.ended { "." } else { "" },
            )
        })
        .collect();
    lines.sort();
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// A node: `web-1@scope nginx/4656`, `web-1 ?`, `nobody`.
pub(crate) fn label(graph: &Graph, node: &Node) -> String {
    let place = |place: &Place| {
        let name = graph.hosts.get(&place.host).map_or("?", |host| host.name.as_str());
        if place.scope.is_empty() { name.to_owned() } else { format!("{name}@{}", place.scope) }
    };
    match &node.identity {
        Identity::Process { place: at, process, pgid } => {
            let pgid = pgid.map_or(String::new(), |pgid| format!("/{pgid}"));
            format!("{} {}{pgid}", place(at), process.name)
        }
        Identity::Unseen { place: at, .. } => format!("{} ?", place(at)),
        Identity::Peer { link: Some(link), .. } => format!("nobody near {}", place(link)),
        Identity::Peer { .. } if !node.claimed_by.is_empty() => {
            format!("one of {}", node.claimed_by.len())
        }
        Identity::Peer { .. } => "nobody".to_owned(),
    }
}
