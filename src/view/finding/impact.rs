//! `shawk impact`.

use std::io;

use jiff::Timestamp;
use serde::Serialize;

use crate::graph::EdgeId;
use crate::graph::search::Answer;
use crate::study::Outcome;
use crate::study::impact::{Dependent, Hop, Impact, Judgement};
use crate::view::columns::{Column, Row, number, words};
use crate::view::dot::label;
use crate::view::finding::evidence::{
    Comes, DoubtView, Evidence, comes, connections, doubt, doubt_words, evidence, length, listed,
    pattern_words,
};
use crate::view::finding::{BESIDE, Sheet, Who, document, who};
use crate::view::json::{Count, count};
use crate::view::label::{age, told};
use crate::view::lines::State;

const COLUMNS: [Column; 8] = [
    number("STEPS"),
    words("WHO DEPENDS ON IT"),
    words("STATE"),
    number("CONNECTIONS"),
    words("TOLD BY"),
    number("FIRST"),
    number("LAST"),
    words("COMES; BY WAY OF"),
];

#[derive(Serialize)]
struct Item<'a> {
    who: Who<'a>,
    depth: Count,
    path: Vec<HopView<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    others: Vec<Evidence>,
    others_total: Count,
    #[serde(skip_serializing_if = "Option::is_none")]
    comes: Option<Comes>,
}

#[derive(Serialize)]
struct HopView<'a> {
    to: Who<'a>,
    #[serde(flatten)]
    evidence: Evidence,
}

#[derive(Serialize)]
struct More<'a> {
    by_depth: Vec<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    watched_since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decommission: Option<JudgementView<'a>>,
}

#[derive(Serialize)]
struct JudgementView<'a> {
    verdict: &'static str,
    since: Timestamp,
    used_by: Vec<Who<'a>>,
    users: Count,
    formerly_used_by: Vec<Who<'a>>,
    former_users: Count,
    doubts: Vec<DoubtView>,
    doubts_total: Count,
}

pub(crate) fn json(outcome: &Outcome, found: &Impact) -> io::Result<String> {
    let answer = outcome.answer();
    let page = outcome.part().of(&found.dependents);
    let items: Vec<Item> = page.iter().map(|dependent| item(answer, dependent)).collect();
    let more = More {
        by_depth: found.by_depth.iter().map(|number| count(*number)).collect(),
        watched_since: found.since,
        decommission: found.judgement.as_ref().map(|judged| {
            let who = |at: &usize| who(answer, found.dependents[*at].node);
            JudgementView {
                verdict: judged.verdict.name(),
                since: judged.since,
                used_by: judged.users.iter().take(BESIDE).map(who).collect(),
                users: count(judged.users.len()),
                formerly_used_by: judged.former.iter().take(BESIDE).map(who).collect(),
                former_users: count(judged.former.len()),
                doubts: {
                    let doubts = judged.doubts.iter().take(BESIDE);
                    doubts.map(|found| doubt(answer, found)).collect()
                },
                doubts_total: count(judged.doubts.len()),
            }
        }),
    };
    document(outcome, "shawk.impact/1", items, more)
}

fn item<'a>(answer: &'a Answer, dependent: &Dependent) -> Item<'a> {
    let told = |edge: EdgeId| evidence(answer, &answer.graph.edges[edge]);
    let hop = |hop: &Hop| HopView { to: who(answer, hop.to), evidence: told(hop.edge) };
    Item {
        who: who(answer, dependent.node),
        depth: count(dependent.depth),
        path: dependent.path.iter().map(hop).collect(),
        others: dependent.others.iter().take(BESIDE).map(|edge| told(*edge)).collect(),
        others_total: count(dependent.others.len()),
        comes: dependent.pattern.as_ref().map(|pattern| comes(pattern, answer.now)),
    }
}

pub(crate) fn sheet(outcome: &Outcome, found: &Impact) -> Sheet {
    let answer = outcome.answer();
    let page = outcome.part().of(&found.dependents);
    let mut notes = Vec::new();
    if !found.dependents.is_empty() {
        let counts = found.by_depth.iter().enumerate();
        let counts: Vec<String> = counts
            .map(|(at, number)| match at {
                0 => format!("{number} at 1 step"),
                at => format!("{number} at {}", at + 1),
            })
            .collect();
        let many = found.dependents.len();
        let depend = if many == 1 { "depends" } else { "depend" };
        notes.push(format!("{many} {depend} on it: {}", counts.join(", ")));
    }
    notes.extend(found.judgement.iter().flat_map(|judged| verdict(answer, found, judged)));
    Sheet {
        columns: &COLUMNS,
        rows: page.iter().map(|dependent| row(answer, dependent)).collect(),
        none: "nothing was seen to depend on it",
        notes,
    }
}

fn row(answer: &Answer, dependent: &Dependent) -> Row {
    let first = &answer.graph.edges[dependent.path[0].edge];
    let state = State::of(first, answer);
    let cells = vec![
        dependent.depth.to_string(),
        label(answer, dependent.node),
        state.name().to_owned(),
        connections(first),
        told(first).to_owned(),
        age(answer.now, first.first_seen),
        age(answer.now, first.last_seen),
    ];
    let comes = dependent.pattern.as_ref().map(|pattern| pattern_words(pattern, answer.now));
    let mut pieces: Vec<String> = comes.into_iter().map(|comes| format!("{comes};")).collect();
    pieces.extend(path(answer, dependent));
    pieces.extend((!first.directed).then(|| "(direction unknown)".to_owned()));
    match dependent.others.len() {
        0 => {}
        1 => pieces.push("and 1 more way".to_owned()),
        more => pieces.push(format!("and {more} more ways")),
    }
    Row { cells, pieces, alarm: state == State::Failing }
}

/// `> web-1 ('nginx', pgid=5) tcp/80`, `> db-1 ('redis', pgid=7) tcp/6379`
fn path(answer: &Answer, dependent: &Dependent) -> impl Iterator<Item = String> {
    dependent.path.iter().map(|hop| {
        let edge = &answer.graph.edges[hop.edge];
        let between = if edge.directed { ">" } else { "-" };
        format!("{between} {} {}/{}", label(answer, hop.to), edge.protocol.name(), edge.port)
    })
}

/// The verdict, its reasons, and what it stands on.
fn verdict(answer: &Answer, found: &Impact, judged: &Judgement) -> Vec<String> {
    let mut lines = vec![format!("verdict: {}", judged.verdict.name().to_uppercase())];
    let user = |at: &usize| {
        let dependent = &found.dependents[*at];
        let edge = &answer.graph.edges[dependent.path[0].edge];
        let when = State::of(edge, answer).when(edge, answer.now);
        let comes = dependent.pattern.as_ref().map(|pattern| pattern_words(pattern, answer.now));
        let comes = comes.map_or(String::new(), |comes| format!("; {comes}"));
        format!("{} uses it: {when}{comes}", label(answer, dependent.node))
    };
    lines.extend(listed(judged.users.iter().map(user)));
    let former = |at: &usize| {
        let dependent = &found.dependents[*at];
        let edge = &answer.graph.edges[dependent.path[0].edge];
        let comes = dependent.pattern.as_ref().map(|pattern| pattern_words(pattern, answer.now));
        let comes =
            comes.unwrap_or_else(|| format!("last {} ago", age(answer.now, edge.last_seen)));
        format!("{} used it before that: {comes}", label(answer, dependent.node))
    };
    lines.extend(listed(judged.former.iter().map(former)));
    if !judged.doubts.is_empty() {
        lines.push("what may not have been seen:".to_owned());
        lines.extend(listed(judged.doubts.iter().map(|doubt| doubt_words(answer, doubt))));
    }
    let asked = length(answer.now.duration_since(judged.since));
    let watched = found.since.map_or("never watched".to_owned(), |since| {
        format!("watched for {}", age(answer.now, since))
    });
    lines.push(format!("judged by the last {asked}, {watched}"));
    lines
}
