//! `shawk diff`.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

use crate::graph::search::Answer;
use crate::graph::{EdgeId, Listen, NodeId};
use crate::recall::HostKey;
use crate::study::Outcome;
use crate::study::diff::identity::Name;
use crate::study::diff::{Change, Difference, Entry, Moments, Thing};
use crate::view::columns::{Column, Row, words};
use crate::view::dot::label;
use crate::view::escape::quoted;
use crate::view::finding::evidence::{length, listed};
use crate::view::finding::{BESIDE, Sheet, Who, document, who};
use crate::view::footer::limits;
use crate::view::json::{self, Count, CutView, count};
use crate::view::label::{age, end, host};
use crate::view::lines::reason;

const COLUMNS: [Column; 5] =
    [words("CHANGE"), words("ACTIVE"), words("PASSIVE"), words("AT"), words("WHAT")];

#[derive(Serialize)]
struct Item<'a> {
    kind: &'static str,
    change: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    active: Option<Who<'a>>,
    passive: Who<'a>,
    protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    active_address: Option<IpAddr>,
    address: IpAddr,
    port: u16,
    first_seen: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<Timestamp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    was: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    is: Vec<&'a str>,
}

#[derive(Serialize)]
struct More<'a> {
    from: Timestamp,
    to: Timestamp,
    window_s: i64,
    occasional: Count,
    undecided: Count,
    unheard: Vec<Unheard<'a>>,
    unheard_total: Count,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    forgotten: Vec<Forgotten<'a>>,
    cut_before: CutView,
}

#[derive(Serialize)]
struct Forgotten<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    since: Timestamp,
}

#[derive(Serialize)]
struct Unheard<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    at: Timestamp,
    things: Count,
}

pub(crate) fn json(outcome: &Outcome, moments: &Moments, found: &Difference) -> io::Result<String> {
    let page = outcome.part().of(&found.entries);
    let items: Vec<Item> = page.iter().map(|entry| item(outcome, entry)).collect();
    let unheard = found.unheard.iter().map(|((later, key), things)| Unheard {
        host: record(outcome, *key).map(|(_, name)| name),
        at: if *later { moments.to } else { moments.from },
        things: count(*things),
    });
    let more = More {
        from: moments.from,
        to: moments.to,
        window_s: moments.window.as_secs(),
        occasional: count(found.occasional),
        undecided: count(found.undecided),
        unheard: unheard.take(BESIDE).collect(),
        unheard_total: count(found.unheard.len()),
        forgotten: found
            .forgotten
            .iter()
            .take(BESIDE)
            .map(|(key, since)| Forgotten {
                host: record(outcome, *key).map(|(_, name)| name),
                since: *since,
            })
            .collect(),
        cut_before: json::cut(&outcome.answers[0].cut),
    };
    document(outcome, "shawk.diff/1", items, more)
}

/// A host by whichever answer has it, and its name.
fn record(outcome: &Outcome, key: HostKey) -> Option<(&Answer, &str)> {
    let known = |answer: &'_ Answer| answer.graph.hosts.contains_key(&key);
    let answer = outcome.answers.iter().rev().find(|answer| known(answer))?;
    Some((answer, answer.graph.hosts.get(&key)?.name.as_str()))
}

/// The two ends of what differs and where it is, in the answer that has it.
struct Shown<'a> {
    answer: &'a Answer,
    edge: Option<EdgeId>,
    active: Option<NodeId>,
    passive: NodeId,
    listen: Listen,
}

fn shown<'a>(outcome: &'a Outcome, entry: &Entry) -> Shown<'a> {
    let (answer, thing) = match (entry.change != Change::Gone, entry.after, entry.before) {
        (true, Some(thing), _) | (false, Some(thing), None) => (outcome.answer(), thing),
        (_, _, Some(thing)) => (&outcome.answers[0], thing),
        (true, None, None) | (false, None, None) => {
            unreachable!("what differs was at one of the moments")
        }
    };
    match thing {
        Thing::Listener(passive, listen) => {
            Shown { answer, edge: None, active: None, passive, listen }
        }
        Thing::Edge(id) => {
            let edge = &answer.graph.edges[id];
            let (protocol, address, port) = (edge.protocol, edge.passive_address, edge.port);
            Shown {
                answer,
                edge: Some(id),
                active: Some(edge.active),
                passive: edge.passive,
                listen: Listen { protocol, address, port },
            }
        }
    }
}

fn item<'a>(outcome: &'a Outcome, entry: &'a Entry) -> Item<'a> {
    let Shown { answer, edge, active, passive, listen } = shown(outcome, entry);
    fn list(names: &BTreeSet<Name>) -> Vec<&str> {
        names.iter().map(|name| name.name.as_str()).collect()
    }
    let (was, is) = match &entry.change {
        Change::Process { was, is } => (list(was), list(is)),
        _ => (Vec::new(), Vec::new()),
    };
    Item {
        kind: if active.is_some() { "edge" } else { "listener" },
        change: name(&entry.change),
        active: active.map(|node| who(answer, node)),
        passive: who(answer, passive),
        protocol: listen.protocol.name(),
        active_address: edge.map(|id| answer.graph.edges[id].active_address),
        address: listen.address,
        port: listen.port,
        first_seen: entry.first_seen,
        last_seen: entry.last_seen,
        was,
        is,
    }
}

const fn name(change: &Change) -> &'static str {
    match change {
        Change::New => "new",
        Change::Gone => "gone",
        Change::Fails => "fails",
        Change::Works => "works",
        Change::Process { .. } => "process",
    }
}

pub(crate) fn sheet(outcome: &Outcome, moments: &Moments, found: &Difference) -> Sheet {
    let page = outcome.part().of(&found.entries);
    let Moments { from, to, window, .. } = moments;
    let time = length(*window);
    let mut notes = vec![format!(
        "between {from:.0} and {to:.0}, each by the {time} before it, as far as they are not shared"
    )];
    let mut unheard: Vec<(bool, String, usize)> = found
        .unheard
        .iter()
        .map(|((later, key), things)| {
            let name = match record(outcome, *key) {
                Some((answer, _)) => host(&answer.graph, *key),
                None => format!("host {key:x}"),
            };
            (*later, name, *things)
        })
        .collect();
    unheard.sort();
    notes.extend(listed(unheard.into_iter().map(|(later, name, things)| {
        let at = if later { to } else { from };
        format!("unknown: {things} of {name}, of which nothing was heard at {at:.0}")
    })));
    let forgotten = found.forgotten.iter().map(|(key, since)| {
        let name = record(outcome, *key).map_or_else(
            || format!("host {key:x}"),
            |(answer, _)| host(&answer.graph, *key),
        );
        format!("all is known of {name} from {since:.0} on only: nobody watched before, or 'shawk prune' forgot it")
    });
    let forgotten: BTreeSet<String> = forgotten.collect();
    notes.extend(listed(forgotten.into_iter()));
    for (count, what) in [
        (found.occasional, "come and go so rarely that one moment says nothing"),
        (found.undecided, "come and go, and may still come again"),
    ] {
        if count > 0 {
            notes.push(format!("{count} edges or listeners {what}"));
        }
    }
    notes.extend(limits(&outcome.answers[0]).into_iter().map(|line| format!("earlier, {line}")));
    Sheet {
        columns: &COLUMNS,
        rows: page.iter().map(|entry| row(outcome, entry)).collect(),
        none: if found.unheard.is_empty() && found.forgotten.is_empty() {
            "no difference"
        } else {
            "nothing is known to differ"
        },
        notes,
    }
}

fn row(outcome: &Outcome, entry: &Entry) -> Row {
    let Shown { answer, edge, active, passive, listen } = shown(outcome, entry);
    let edge = edge.map(|id| &answer.graph.edges[id]);
    let now = outcome.answer().now;
    let first = format!("first seen {} ago", age(now, entry.first_seen));
    let list = |names: &BTreeSet<Name>| {
        names.iter().map(|name| quoted(&name.name)).collect::<Vec<_>>().join(", ")
    };
    let mut said = Vec::new();
    let what = match &entry.change {
        Change::New => first,
        Change::Gone => {
            said.extend(entry.last_seen.map(|last| format!("last seen {} ago,", age(now, last))));
            first
        }
        Change::Fails => {
            let why = edge.map_or("no answer".to_owned(), |edge| reason(&edge.traffic));
            format!("was answered; now {why}")
        }
        Change::Works => "was not answered; now it is".to_owned(),
        Change::Process { was, is } => format!("was {}, now {}", list(was), list(is)),
    };
    let cells = vec![
        name(&entry.change).to_owned(),
        active.map_or("(listens)".to_owned(), |node| label(answer, node)),
        label(answer, passive),
        format!("{} {}", listen.protocol.name(), end(listen.address, Some(listen.port))),
    ];
    said.push(what);
    let alarm = matches!(entry.change, Change::Gone | Change::Fails);
    Row { cells, pieces: said, alarm }
}
