//! `shawk drain`.

use std::collections::BTreeSet;
use std::io;

use jiff::Timestamp;
use serde::Serialize;

use crate::graph::NodeId;
use crate::graph::search::Answer;
use crate::study::Outcome;
use crate::study::drain::{Caller, Drain, State};
use crate::view::columns::{Column, Row, number, words};
use crate::view::dot::label;
use crate::view::finding::evidence::{
    DoubtView, Evidence, doubt, doubt_words, evidence, kind, length, listed,
};
use crate::view::finding::{BESIDE, CALLERS, Sheet, Who, document, named, who};
use crate::view::json::{Count, count};
use crate::view::label::{age, told};
use crate::view::lines;

const COLUMNS: [Column; 6] = [
    words("WHO CONNECTS"),
    words("TO"),
    words("STATE"),
    number("OPEN"),
    words("TOLD BY"),
    number("LAST SEEN"),
];

#[derive(Serialize)]
struct Item<'a> {
    who: Who<'a>,
    open_now: bool,
    #[serde(flatten)]
    evidence: Evidence,
}

#[derive(Serialize)]
struct More<'a> {
    state: &'static str,
    for_s: Count,
    #[serde(skip_serializing_if = "Option::is_none")]
    told_until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quiet_since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_counted: Vec<Who<'a>>,
    blind: Vec<DoubtView>,
    blind_total: Count,
    missed: Vec<DoubtView>,
    missed_total: Count,
}

pub(crate) fn json(outcome: &Outcome, found: &Drain) -> io::Result<String> {
    let answer = outcome.answer();
    let page = outcome.part().of(&found.callers);
    let item = |caller: &Caller| Item {
        who: who(answer, caller.node),
        open_now: caller.open,
        evidence: evidence(answer, &answer.graph.edges[caller.edge]),
    };
    let items: Vec<Item> = page.iter().map(item).collect();
    let more = More {
        state: found.state.name(),
        for_s: Count(u64::try_from(found.time.as_secs()).unwrap_or(0)),
        told_until: found.told_until,
        quiet_since: found.quiet_since,
        not_counted: found
            .excepted
            .iter()
            .map(|caller| who(answer, caller.node))
            .take(CALLERS)
            .collect(),
        blind: found.blind.iter().take(BESIDE).map(|found| doubt(answer, found)).collect(),
        blind_total: count(found.blind.len()),
        missed: found.notes.iter().take(BESIDE).map(|found| doubt(answer, found)).collect(),
        missed_total: count(found.notes.len()),
    };
    document(outcome, "shawk.drain/1", items, more)
}

pub(crate) fn sheet(outcome: &Outcome, found: &Drain) -> Sheet {
    let answer = outcome.answer();
    let page = outcome.part().of(&found.callers);
    let mut notes = vec![summary(answer, found)];
    notes.extend(not_counted(answer, found));
    notes.extend(listed(found.blind.iter().map(|doubt| doubt_words(answer, doubt))));
    if !found.notes.is_empty() {
        notes.push("what may have been missed:".to_owned());
        notes.extend(listed(found.notes.iter().map(|doubt| doubt_words(answer, doubt))));
    }
    Sheet {
        columns: &COLUMNS,
        rows: page.iter().map(|caller| row(answer, caller)).collect(),
        none: "nobody was seen to connect to it in that time",
        notes,
    }
}

fn row(answer: &Answer, caller: &Caller) -> Row {
    let edge = &answer.graph.edges[caller.edge];
    let to = edge.other(caller.node);
    let cells = vec![
        label(answer, caller.node),
        format!("{} {}/{}", label(answer, to), edge.protocol.name(), edge.port),
        lines::State::of(edge, answer).name().to_owned(),
        edge.traffic.open.to_string(),
        told(edge).to_owned(),
        age(answer.now, edge.last_seen),
    ];
    Row { cells, pieces: Vec::new(), alarm: false }
}

/// Who connects and does not count is told all the same.
fn not_counted(answer: &Answer, found: &Drain) -> Option<String> {
    let nodes: BTreeSet<NodeId> = found.excepted.iter().map(|caller| caller.node).collect();
    let names = named(nodes.into_iter().map(|node| label(answer, node))).join(" ");
    (!names.is_empty()).then(|| format!("not counted, as asked: {names}"))
}

/// One line: the state, and since when.
fn summary(answer: &Answer, found: &Drain) -> String {
    let time = length(found.time);
    let quiet = found.quiet_since.map(|since| {
        let until = found.told_until.unwrap_or(answer.now);
        length(until.duration_since(since))
    });
    let quiet = quiet.unwrap_or_else(|| "an unknown time".to_owned());
    let nobody = if found.excepted.is_empty() { "nobody" } else { "nobody who counts" };
    match found.state {
        State::Drained => format!("DRAINED: {nobody} connected for {quiet} (asked for {time})"),
        State::Quiet => format!("not drained: {nobody} connected for {quiet} so far, of {time}"),
        State::InUse => {
            let open = found.callers.iter().filter(|caller| caller.open).count();
            let recent = found.callers.len() - open;
            format!("not drained: {open} connected, {recent} more within {time}")
        }
        State::Unknown => "not known: nobody who looks can tell".to_owned(),
    }
}

/// What there is to say, without and with how long it has been so. Of a
/// connection that was over at once, only that one more was opened is left.
pub(crate) fn news(answer: &Answer, found: &Drain) -> (String, String) {
    let caller = |caller: &Caller| {
        let traffic = &answer.graph.edges[caller.edge].traffic;
        let open = if caller.open { format!("{} open", traffic.open) } else { "closed".to_owned() };
        let opened = traffic.opened.map_or(String::new(), |n| format!(", {n} opened so far"));
        format!("{} ({open}{opened})", label(answer, caller.node))
    };
    let names = named(found.callers.iter().map(caller)).join(" ");
    let kinds: Vec<&str> = found.blind.iter().map(kind).collect();
    let reasons = named(found.blind.iter().map(|doubt| doubt_words(answer, doubt))).join(" ");
    let after = |text: &str| if text.is_empty() { String::new() } else { format!("; {text}") };
    let what = format!("{}{}{}", found.state.name(), after(&names), kinds.concat());
    (what, format!("{}{}{}", summary(answer, found), after(&names), after(&reasons)))
}
