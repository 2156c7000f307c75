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
use crate::view::footer::{Summary, grounds, nothing};
use crate::view::json::{self, Count, CutView, HostView, SelectorView, one_line};
use crate::view::paint::Paint;

mod listeners;

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
    };
    to.write_all(text.as_bytes())
}

/// A page of a finding, for people.
struct Sheet {
    columns: &'static [Column],
    rows: Vec<Row>,
    /// How many rows there are on all pages.
    total: usize,
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
    if answer.walk.roots.is_empty() {
        notes.extend(nothing(answer));
    } else if sheet.total == 0 {
        notes.push(sheet.none.to_owned());
    } else if !sheet.rows.is_empty() {
        notes.push(String::new());
    }
    if sheet.rows.len() < sheet.total {
        let offset = outcome.inquiry.page.offset;
        let last = offset + sheet.rows.len();
        let (first, total) = (offset + 1, sheet.total);
        let next = if last < total { format!("; --offset {last} for more") } else { String::new() };
        match sheet.rows.len() {
            0 => notes.push(format!("there are {total} lines, and none from --offset {offset}")),
            _ => notes.push(format!("lines {first} to {last} of {total}{next}")),
        }
    }
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
    total: Count,
    offset: Count,
    items: Vec<I>,
    #[serde(flatten)]
    more: M,
    hosts: Vec<HostView<'a>>,
    malformed: Count,
    cut: CutView,
}

#[derive(Serialize)]
struct Query {
    selector: SelectorView,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    limit: Count,
}

/// A document of these items; `total` is their number on all pages, `more` its
/// further fields.
fn document<I: Serialize, M: Serialize>(
    outcome: &Outcome,
    schema: &'static str,
    (total, items): (usize, Vec<I>),
    more: M,
) -> io::Result<String> {
    let answer = outcome.answer();
    let Window { since, until } = outcome.inquiry.window;
    let page = outcome.inquiry.page;
    let size = 512 * items.len();
    let document = Document {
        schema,
        generated: answer.now,
        query: Query {
            selector: json::selector(&answer.selector),
            since,
            until,
            limit: json::count(page.limit),
        },
        total: json::count(total),
        offset: json::count(page.offset),
        items,
        more,
        hosts: Summary::of(answer).hosts.iter().map(|record| json::host(record)).collect(),
        malformed: Count(answer.graph.malformed),
        cut: json::cut(&answer.cut),
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
    }
}

/// Most names in one cell; those beyond are counted.
const NAMED: usize = 3;

/// Names in one cell: `3: a, b, c`, `9: a, b, c and 6 more`.
fn named(names: impl ExactSizeIterator<Item = String>) -> String {
    let count = names.len();
    let names: Vec<String> = names.take(NAMED).collect();
    match count {
        0 => String::new(),
        count if count > NAMED => {
            format!("{count}: {} and {} more", names.join(", "), count - NAMED)
        }
        count => format!("{count}: {}", names.join(", ")),
    }
}
