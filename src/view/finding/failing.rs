//! `shawk failing`.

use std::io;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

use crate::graph::Traffic;
use crate::study::Outcome;
use crate::study::failing::{Dead, There};
use crate::view::columns::{Column, Row, number, words};
use crate::view::dot::label;
use crate::view::finding::{CALLERS, NoMore, Sheet, Who, document, named, who};
use crate::view::json::{Count, count};
use crate::view::label::{age, end, known_as};
use crate::view::lines::reason;

const COLUMNS: [Column; 8] = [
    words("CALLED IN VAIN"),
    words("THERE"),
    words("WHY"),
    number("ATTEMPTS"),
    number("FIRST"),
    number("LAST"),
    words("ANSWERED"),
    words("CALLERS"),
];

#[derive(Serialize)]
struct Item<'a> {
    passive: Who<'a>,
    protocol: &'static str,
    address: IpAddr,
    port: u16,
    there: &'static str,
    answered: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    answered_until: Option<Timestamp>,
    first_seen: Timestamp,
    last_seen: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<Count>,
    waiting: Count,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timed_out: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unreachable: Option<Count>,
    callers: Count,
    called_by: Vec<Who<'a>>,
}

pub(crate) fn json(outcome: &Outcome, found: &[Dead]) -> io::Result<String> {
    let items: Vec<Item> =
        outcome.part().of(found).iter().map(|dead| item(outcome, dead)).collect();
    document(outcome, "shawk.failing/1", items, NoMore {})
}

fn item<'a>(outcome: &'a Outcome, dead: &Dead) -> Item<'a> {
    let answer = outcome.answer();
    let callers = dead.edges.iter().map(|id| answer.graph.edges[*id].active);
    Item {
        passive: who(answer, dead.passive),
        protocol: dead.protocol.name(),
        address: dead.address,
        port: dead.port,
        there: dead.there.name(),
        answered: dead.answered.name(),
        answered_until: dead.answered_until,
        first_seen: dead.first_seen,
        last_seen: dead.last_seen,
        failed: dead.attempts.failed.map(Count),
        waiting: Count(dead.attempts.waiting),
        refused: dead.attempts.refused.map(Count),
        timed_out: dead.attempts.timed_out.map(Count),
        unreachable: dead.attempts.unreachable.map(Count),
        callers: count(dead.edges.len()),
        called_by: callers.take(CALLERS).map(|node| who(answer, node)).collect(),
    }
}

pub(crate) fn sheet(outcome: &Outcome, found: &[Dead]) -> Sheet {
    Sheet {
        columns: &COLUMNS,
        rows: outcome.part().of(found).iter().map(|dead| row(outcome, dead)).collect(),
        none: "nothing was seen to be called in vain",
        notes: Vec::new(),
    }
}

fn row(outcome: &Outcome, dead: &Dead) -> Row {
    let answer = outcome.answer();
    let attempts = &dead.attempts;
    let traffic = Traffic {
        refused: attempts.refused,
        timed_out: attempts.timed_out,
        unreachable: attempts.unreachable,
        ..Traffic::default()
    };
    let callers = dead.edges.iter().map(|id| label(answer, answer.graph.edges[*id].active));
    let cells = vec![
        format!(
            "{} {}{}",
            dead.protocol.name(),
            end(dead.address, Some(dead.port)),
            known_as(&answer.graph.nodes[dead.passive])
        ),
        match dead.there {
            There::NoProbe => "no probe",
            There::Nothing => "nothing listens",
            There::Listener => "something listens",
        }
        .to_owned(),
        reason(&traffic),
        attempts.failed.map_or("-".to_owned(), |failed| failed.to_string()),
        age(answer.now, dead.first_seen),
        age(answer.now, dead.last_seen),
        match dead.answered_until {
            Some(until) => format!("until {} ago", age(answer.now, until)),
            None => dead.answered.name().to_owned(),
        },
    ];
    Row { cells, pieces: named(callers), alarm: false }
}
