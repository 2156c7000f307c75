//! Prints findings: a table for people, a document for programs
//! (docs/commands-json.md). A file for each of them; what they share is here.

use std::io::{self, Write};

use jiff::Timestamp;
use serde::Serialize;

use crate::flow::process::Process;
use crate::graph::search::Answer;
use crate::graph::{Identity, NodeId};
use crate::recall::Window;
use crate::study::{Finding, Outcome};
use crate::view::Format;
use crate::view::columns::{self, Column, Row};
use crate::view::footer::{grounds, hosts, nothing, pages};
use crate::view::json::{
    self, Count, CutView, HostView, LabelView, PartView, SelectorView, one_line,
};
use crate::view::paint::Paint;

mod diff;
mod drain;
mod evidence;
mod failing;
mod impact;
mod listeners;
mod policy;
mod unexplained;

/// Prints a finding, as JSON or else for people. `colour` is the caller's
/// decision. The errors are those of `to`.
pub fn write(
    outcome: &Outcome,
    format: Format,
    colour: bool,
    to: &mut impl Write,
) -> io::Result<()> {
    let text = match (&outcome.finding, format) {
        (Finding::Listeners(found), Format::Json) => listeners::json(outcome, found)?,
        (Finding::Listeners(found), _) => text(outcome, &listeners::sheet(outcome, found), colour),
        (Finding::Impact(found), Format::Json) => impact::json(outcome, found)?,
        (Finding::Impact(found), _) => text(outcome, &impact::sheet(outcome, found), colour),
        (Finding::Drain(found), Format::Json) => drain::json(outcome, found)?,
        (Finding::Policy(found), Format::Json) => policy::json(outcome, found)?,
        (Finding::Policy(found), _) => policy::text(outcome, found),
        (Finding::Drain(found), _) => text(outcome, &drain::sheet(outcome, found), colour),
        (Finding::Failing(_, found), Format::Json) => failing::json(outcome, found)?,
        (Finding::Failing(_, found), _) => text(outcome, &failing::sheet(outcome, found), colour),
        (Finding::Unexplained(found), Format::Json) => unexplained::json(outcome, found)?,
        (Finding::Unexplained(found), _) => {
            text(outcome, &unexplained::sheet(outcome, found), colour)
        }
        (Finding::Diff(moments, found), Format::Json) => diff::json(outcome, moments, found)?,
        (Finding::Diff(moments, found), _) => {
            text(outcome, &diff::sheet(outcome, moments, found), colour)
        }
    };
    to.write_all(text.as_bytes())
}

/// A finding in one line, for who asks again and again.
#[derive(Debug)]
pub struct News {
    /// Equal for findings that say the same but for the time.
    pub what: String,
    /// With the time.
    pub line: String,
}

/// A finding in one line.
pub fn news(outcome: &Outcome) -> News {
    let (what, line) = match &outcome.finding {
        Finding::Drain(found) => drain::news(outcome.answer(), found),
        _ => Default::default(),
    };
    News { what, line: format!("{:.0} {line}", outcome.answer().now) }
}

/// A page of a finding, for people.
struct Sheet {
    columns: &'static [Column],
    rows: Vec<Row>,
    /// What is said where there is none.
    none: &'static str,
    /// Lines below the table, before those on what it stands on.
    notes: Vec<String>,
}

fn text(outcome: &Outcome, sheet: &Sheet, colour: bool) -> String {
    let paint = Paint(colour);
    let mut out = columns::table(sheet.columns, &sheet.rows, paint);
    let mut notes = Vec::new();
    let answer = outcome.answer();
    let part = outcome.part();
    if answer.walk.roots.is_empty() {
        notes.extend(nothing(answer));
    } else if part.total == 0 {
        notes.push(sheet.none.to_owned());
    } else if !sheet.rows.is_empty() {
        notes.push(String::new());
    }
    notes.extend(pages("lines", &part));
    notes.extend(sheet.notes.iter().cloned());
    notes.extend(outcome.answers.iter().rev().take(1).flat_map(grounds));
    for note in notes {
        out.push_str(&paint.dim(&note));
        out.push('\n');
    }
    out
}

/// What every document has around its items.
#[derive(Serialize)]
struct Document<'a, I: Serialize, M: Serialize> {
    schema: &'static str,
    generated: Timestamp,
    query: Query,
    #[serde(flatten)]
    part: PartView,
    items: Vec<I>,
    #[serde(flatten)]
    more: M,
    hosts: Vec<HostView<'a>>,
    malformed: Count,
    cut: CutView,
    notes: Vec<String>,
}

/// No further fields.
#[derive(Serialize)]
struct NoMore {}

#[derive(Serialize)]
struct Query {
    selector: SelectorView,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    limit: Count,
}

/// A document of these items, which are of the page asked for; `more` are its
/// further fields.
fn document<I: Serialize, M: Serialize>(
    outcome: &Outcome,
    schema: &'static str,
    items: Vec<I>,
    more: M,
) -> io::Result<String> {
    let answer = outcome.answer();
    let Window { since, until } = outcome.inquiry.window;
    let size = 512 * items.len();
    let document = Document {
        schema,
        generated: answer.now,
        query: Query {
            selector: json::selector(&answer.selector),
            since,
            until,
            limit: json::count(outcome.inquiry.page.limit),
        },
        part: json::part(&outcome.part()),
        items,
        more,
        hosts: hosts(answer).iter().map(|record| json::host(record)).collect(),
        malformed: Count(answer.graph.malformed),
        cut: json::cut(&answer.cut),
        notes: match answer.walk.roots.is_empty() {
            true => nothing(answer),
            false => grounds(answer),
        },
    };
    one_line(&document, size)
}

/// An end of edges, in a document.
#[derive(Serialize)]
struct Who<'a> {
    probe: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<&'a Process>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pgid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<std::net::IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<LabelView<'a>>,
}

fn who(answer: &Answer, node: NodeId) -> Who<'_> {
    let identity = &answer.graph.nodes[node].identity;
    let place = identity.place();
    let host = place.and_then(|place| answer.graph.hosts.get(&place.host));
    let (pgid, address, port) = match identity {
        Identity::Process { pgid, .. } => (*pgid, None, None),
        Identity::Unseen { port, .. } => (None, None, *port),
        Identity::Peer { address, port, .. } => (None, Some(*address), *port),
    };
    Who {
        probe: place.is_some(),
        host: host.map(|host| host.name.as_str()),
        host_id: host.map(|host| host.id.as_str()),
        scope: place.map(|place| place.scope.as_ref()),
        process: identity.process(),
        pgid,
        address,
        port,
        label: json::label(&answer.graph.nodes[node]),
    }
}

/// Most entries of a list beside the items of a document; all are counted.
const BESIDE: usize = 1000;

/// Most callers of one item that a document names; all are counted.
const CALLERS: usize = 20;

/// Most names in one cell; those beyond are counted.
const NAMED: usize = 3;

/// Names in one cell, in pieces: `3: a, b, c`, `9: a, b, c and 6 more`.
fn named(names: impl ExactSizeIterator<Item = String>) -> Vec<String> {
    let count = names.len();
    let mut pieces: Vec<String> = names.take(NAMED).collect();
    let last = pieces.len().saturating_sub(1);
    for piece in pieces.iter_mut().take(last) {
        piece.push(',');
    }
    if let Some(first) = pieces.first_mut() {
        first.insert_str(0, &format!("{count}: "));
    }
    if count > NAMED {
        pieces.push(format!("and {} more", count - NAMED));
    }
    pieces
}
