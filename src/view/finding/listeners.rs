//! `shawk listeners`.

use std::io;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

use crate::graph::Identity;
use crate::graph::search::Answer;
use crate::study::Outcome;
use crate::study::listeners::{Bound, Listener, Listening};
use crate::view::columns::{Column, Row, number, words};
use crate::view::dot::label;
use crate::view::escape::word;
use crate::view::finding::{CALLERS, Sheet, Who, document, named, who};
use crate::view::json::{Count, count};
use crate::view::label::{age, end, name, place};
use crate::view::lines::is_silent;

const COLUMNS: [Column; 7] = [
    words("HOST"),
    words("PROTO"),
    words("LISTENS AT"),
    words("REACHED BY"),
    words("PROCESS"),
    number("LAST USED"),
    words("CALLERS"),
];

#[derive(Serialize)]
struct Item<'a> {
    who: Who<'a>,
    protocol: &'static str,
    address: IpAddr,
    port: u16,
    reach: &'static str,
    state: &'static str,
    first_seen: Timestamp,
    last_seen: Timestamp,
    callers: Count,
    called_by: Vec<Who<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unused_since: Option<Timestamp>,
}

#[derive(Serialize)]
struct More {
    ended: Count,
}

pub(crate) fn json(outcome: &Outcome, found: &Listening) -> io::Result<String> {
    let items: Vec<Item> =
        outcome.part().of(&found.listeners).iter().map(|one| item(outcome, one)).collect();
    let more = More { ended: count(found.ended) };
    document(outcome, "shawk.listeners/1", items, more)
}

fn item<'a>(outcome: &'a Outcome, listener: &Listener) -> Item<'a> {
    let answer = outcome.answer();
    Item {
        who: waiting(answer, listener),
        protocol: listener.listen.protocol.name(),
        address: listener.listen.address,
        port: listener.listen.port,
        reach: listener.bound.name(),
        state: match (listener.ended, is_silent(answer, listener.last_seen)) {
            (true, _) => "ended",
            (false, true) => "silent",
            (false, false) => "alive",
        },
        first_seen: listener.first_seen,
        last_seen: listener.last_seen,
        callers: count(listener.callers.len()),
        called_by: listener.callers.iter().take(CALLERS).map(|id| who(answer, *id)).collect(),
        last_used: listener.last_used,
        unused_since: listener.unused_since,
    }
}

/// Who waits, without a process group that did not yet.
fn waiting<'a>(answer: &'a Answer, listener: &Listener) -> Who<'a> {
    let who = who(answer, listener.node);
    Who { pgid: who.pgid.filter(|_| listener.group_known), ..who }
}

pub(crate) fn sheet(outcome: &Outcome, found: &Listening) -> Sheet {
    let page = outcome.part().of(&found.listeners);
    let mut notes = Vec::new();
    match found.ended {
        0 => {}
        1 => notes.push("1 listener has ended; --since shows it".to_owned()),
        n => notes.push(format!("{n} listeners have ended; --since shows them")),
    }
    Sheet {
        columns: &COLUMNS,
        rows: page.iter().map(|listener| row(outcome, listener)).collect(),
        none: "nothing was seen to listen",
        notes,
    }
}

fn row(outcome: &Outcome, listener: &Listener) -> Row {
    let answer = outcome.answer();
    let mut node = answer.graph.nodes[listener.node].clone();
    if let Identity::Process { pgid, .. } = &mut node.identity {
        *pgid = pgid.filter(|_| listener.group_known);
    }
    let at = node.identity.place();
    let unit = node.identity.process().and_then(|process| process.unit.as_deref());
    let unit = unit.map_or(String::new(), |unit| format!(" {}", word(unit)));
    let state = if listener.ended {
        format!(", ended {} ago", age(answer.now, listener.last_seen))
    } else if is_silent(answer, listener.last_seen) {
        format!(", last heard {} ago", age(answer.now, listener.last_seen))
    } else {
        String::new()
    };
    let since = |since| format!("never in {}", age(answer.now, since));
    let used = listener.last_used.map(|last| age(answer.now, last));
    let unused = listener.unused_since.map(since);
    let cells = vec![
        at.map_or(String::new(), |at| place(&answer.graph, at)),
        listener.listen.protocol.name().to_owned(),
        end(listener.listen.address, Some(listener.listen.port)),
        match listener.bound {
            Bound::Loopback => "itself only",
            Bound::Address => "that address",
            Bound::Any => "any address",
        }
        .to_owned(),
        format!("{}{unit}{state}", name(&node)),
        used.or(unused).unwrap_or_else(|| "unknown".to_owned()),
    ];
    let callers = listener.callers.iter().map(|id| label(answer, *id));
    Row { cells, pieces: named(callers), alarm: false }
}
