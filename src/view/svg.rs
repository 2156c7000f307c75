//! As a picture: who calls on the left of whom it calls, a column a step.
//!
//! It is plain shapes without a script or a style sheet, so that it is shown
//! under any policy, and escaped like every output. Where things stand depends
//! on nothing but what they are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::graph::search::Answer;
use crate::graph::walk::{Step, Way};
use crate::graph::{Identity, NodeId, ToldBy};
use crate::view::dot::{edge_label, label};
use crate::view::escape;
use crate::view::footer::{footer, nothing};
use crate::view::label::{self, told};
use crate::view::lines::State;

/// Most edges that are drawn. What is beyond is counted.
const MAX_EDGES: usize = 300;

/// Most roots that are drawn without an edge.
const MAX_ROOTS: usize = 50;

/// Characters of a line in a box.
const LETTERS: usize = 30;

/// Ports that are named in a box.
const PORTS: usize = 4;

const COLUMN: i64 = 300;
const ROW: i64 = 52;
const WIDTH: i64 = 214;
const HEIGHT: i64 = 38;
const MARGIN: i64 = 20;

/// What is drawn of an answer.
struct Picture<'a> {
    answer: &'a Answer,
    steps: &'a [Step],
    /// Column and row of each node.
    places: BTreeMap<NodeId, (i64, i64)>,
    rows: i64,
    left_out: Vec<String>,
}

/// An answer as one picture.
pub(crate) fn svg(answer: &Answer) -> String {
    let picture = picture(answer);
    let columns: BTreeSet<i64> = picture.places.values().map(|(column, _)| *column).collect();
    let first = columns.first().copied().unwrap_or(0);
    let span = columns.last().map_or(0, |last| last - first);
    let notes = notes(&picture);
    let width = (2 * MARGIN + span * COLUMN + WIDTH).max(640);
    let below = 2 * MARGIN + picture.rows * ROW;
    let lines = i64::try_from(notes.len()).unwrap_or(0);
    let height = below + MARGIN + 18 * lines;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>What talks to what</title>\n\
         <defs><marker id=\"to\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" \
         markerHeight=\"8\" orient=\"auto-start-reverse\" markerUnits=\"userSpaceOnUse\">\
         <path d=\"M0 0L8 4L0 8z\" fill=\"#445\"/></marker></defs>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    let at = |node: &NodeId| {
        let (column, row) = picture.places[node];
        (MARGIN + (column - first) * COLUMN, MARGIN + row * ROW)
    };
    for step in picture.steps {
        out.push_str(&line(answer, step, at));
    }
    for node in picture.places.keys() {
        out.push_str(&shape(&picture, *node, at(node)));
    }
    for (number, note) in notes.iter().enumerate() {
        let y = below + 18 * i64::try_from(number).unwrap_or(0);
        // Writing to a String cannot fail.
        writeln!(out, "<text x=\"{MARGIN}\" y=\"{y}\" fill=\"#556\">{}</text>", escape::xml(note))
            .ok();
    }
    out.push_str("</svg>\n");
    out
}

/// What is drawn, and where: the roots stand in column 0.
fn picture(answer: &Answer) -> Picture<'_> {
    let all = &answer.walk.steps;
    let steps = &all[..all.len().min(MAX_EDGES)];
    let mut columns: BTreeMap<NodeId, i64> = BTreeMap::new();
    let ends: BTreeSet<NodeId> = steps.iter().flat_map(|step| [step.from, step.to]).collect();
    let bare = answer.walk.roots.iter().filter(|root| !ends.contains(root));
    let roots_left_out = bare.clone().count().saturating_sub(MAX_ROOTS);
    columns.extend(bare.take(MAX_ROOTS).map(|root| (*root, 0)));
    let roots = answer.walk.roots.iter().filter(|root| ends.contains(root));
    columns.extend(roots.map(|root| (*root, 0)));
    // The nearest come first, so the first column is the shortest way.
    for step in steps {
        let depth = i64::from(step.depth);
        columns.entry(step.to).or_insert(if step.way == Way::Up { -depth } else { depth });
    }
    let (places, rows) = rows(answer, steps, &columns);
    let left_out = [
        (all.len() - steps.len(), "edges are not drawn: ask for less, or for a table"),
        (roots_left_out, "nodes without an edge are not drawn"),
    ];
    let left_out = left_out.iter().filter(|(count, _)| *count > 0);
    let left_out = left_out.map(|(count, what)| format!("{count} {what}")).collect();
    Picture { answer, steps, places, rows, left_out }
}

/// Puts the nodes of each column in an order: from the roots outwards, near to
/// those that they hang from, then by who they are.
fn rows(
    answer: &Answer,
    steps: &[Step],
    columns: &BTreeMap<NodeId, i64>,
) -> (BTreeMap<NodeId, (i64, i64)>, i64) {
    let mut hangs_from: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
    for step in steps {
        hangs_from.entry(step.to).or_default().push(step.from);
    }
    let mut inside: BTreeMap<i64, Vec<NodeId>> = BTreeMap::new();
    for (node, column) in columns {
        inside.entry(*column).or_default().push(*node);
    }
    let height = inside.values().map(Vec::len).max().unwrap_or(0);
    let mut outwards: Vec<(i64, Vec<NodeId>)> = inside.into_iter().collect();
    outwards.sort_by_key(|(column, _)| column.abs());
    let mut places: BTreeMap<NodeId, (i64, i64)> = BTreeMap::new();
    for (column, mut nodes) in outwards {
        nodes.sort_by_cached_key(|node| {
            let from = hangs_from.get(node).map_or(&[][..], Vec::as_slice);
            let rows: Vec<i64> = from.iter().filter_map(|from| Some(places.get(from)?.1)).collect();
            let middle =
                100 * rows.iter().sum::<i64>() / i64::try_from(rows.len()).unwrap_or(1).max(1);
            (middle, label(answer, *node), *node)
        });
        let above = (height - nodes.len()) / 2;
        for (row, node) in nodes.into_iter().enumerate() {
            let row = i64::try_from(above + row).unwrap_or(i64::MAX);
            places.insert(node, (column, row));
        }
    }
    (places, i64::try_from(height).unwrap_or(i64::MAX))
}

/// An edge: from the right of who calls to the left of whom it calls, or the
/// other way round where that stands further left.
fn line(answer: &Answer, step: &Step, at: impl Fn(&NodeId) -> (i64, i64)) -> String {
    let edge = &answer.graph.edges[step.edge];
    let ((ax, ay), (px, py)) = (at(&edge.active), at(&edge.passive));
    let middle = HEIGHT / 2;
    let (from, to, bend) = match ax.cmp(&px) {
        std::cmp::Ordering::Less => (ax + WIDTH, px, 60),
        std::cmp::Ordering::Greater => (ax, px + WIDTH, -60),
        std::cmp::Ordering::Equal => (ax + WIDTH, px + WIDTH, 60),
    };
    let turn = if ax == px { to + bend } else { to - bend };
    let state = State::of(edge, answer);
    let colour = match (state, edge.told_by) {
        (State::Failing, _) => "#c22",
        (_, ToldBy::Both) => "#26a",
        (_, ToldBy::Active | ToldBy::Passive) => "#889",
    };
    let dashes = match state {
        State::Alive | State::Failing => "",
        State::Ended | State::Silent => " stroke-dasharray=\"2 4\"",
    };
    let both = if edge.directed { "" } else { " marker-start=\"url(#to)\"" };
    let said = format!(
        "{} → {}: {}, {}, {}",
        label(answer, edge.active),
        label(answer, edge.passive),
        edge_label(edge),
        told(edge),
        state.when(edge, answer.now)
    );
    format!(
        "<path d=\"M{from} {}C{} {} {turn} {} {to} {}\" fill=\"none\" stroke=\"{colour}\" \
         stroke-width=\"1.5\"{dashes} marker-end=\"url(#to)\"{both}><title>{}</title></path>\n",
        ay + middle,
        from + bend,
        ay + middle,
        py + middle,
        py + middle,
        escape::xml(&said)
    )
}

/// A node: its process, then where it is and the ports that it is called at.
fn shape(picture: &Picture<'_>, id: NodeId, (x, y): (i64, i64)) -> String {
    let answer = picture.answer;
    let node = &answer.graph.nodes[id];
    let root = answer.walk.roots.binary_search(&id).is_ok();
    let (stroke, dashes) = match node.identity {
        Identity::Process { .. } => ("#445", ""),
        Identity::Unseen { .. } | Identity::Peer { .. } => ("#889", " stroke-dasharray=\"5 3\""),
    };
    let fill = if root { "#e4eefb" } else { "#fff" };
    let name = match &node.identity {
        Identity::Process { process, .. } => process.name.clone(),
        Identity::Unseen { .. } | Identity::Peer { .. } => label::name(node),
    };
    let at = match &node.identity {
        Identity::Process { place, .. } | Identity::Unseen { place, .. } => {
            label::place(&answer.graph, place)
        }
        Identity::Peer { address, .. } => address.to_string(),
    };
    let called = picture.steps.iter().map(|step| &answer.graph.edges[step.edge]);
    let ports: BTreeSet<u16> =
        called.filter(|edge| edge.passive == id).map(|edge| edge.port).collect();
    let mut below = at;
    for port in ports.iter().take(PORTS) {
        // Writing to a String cannot fail.
        write!(below, " :{port}").ok();
    }
    if ports.len() > PORTS {
        below.push_str(" …");
    }
    format!(
        "<g><title>{}</title><rect x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"4\" \
         fill=\"{fill}\" stroke=\"{stroke}\"{dashes}/>\
         <text x=\"{}\" y=\"{}\" fill=\"#112\" font-weight=\"bold\">{}</text>\
         <text x=\"{}\" y=\"{}\" fill=\"#445\">{}</text></g>\n",
        escape::xml(&label(answer, id)),
        x + 8,
        y + 16,
        escape::xml(&short(&escape::terminal(&name))),
        x + 8,
        y + 31,
        escape::xml(&short(&below)),
    )
}

fn short(text: &str) -> String {
    if text.chars().count() <= LETTERS {
        return text.to_owned();
    }
    text.chars().take(LETTERS - 1).chain(['…']).collect()
}

/// What stands below: what is not drawn comes first.
fn notes(picture: &Picture<'_>) -> Vec<String> {
    let answer = picture.answer;
    let mut notes = picture.left_out.clone();
    if answer.walk.steps.is_empty() {
        notes.extend(nothing(answer));
    }
    notes.extend(footer(answer));
    notes
}
