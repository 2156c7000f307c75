//! For people: an edge a line, in columns.

use crate::graph::Node;
use crate::graph::search::Answer;
use crate::recall::Window;
use crate::view::footer::{claimants, footer, nothing};
use crate::view::label::{age, end, name, place, rise, told};
use crate::view::lines::{State, edges};
use crate::view::paint::Paint;

/// The last one only where a window was asked about.
const TITLES: [&str; 10] = [
    "ACTIVE",
    "PASSIVE",
    "PROTO",
    "PORT",
    "STATE",
    "CONNS",
    "TOLD BY",
    "FIRST SEEN",
    "LAST SEEN",
    "IN THAT TIME",
];

/// An answer as a table with its footer.
pub(crate) fn table(answer: &Answer, colour: bool) -> String {
    let paint = Paint(colour);
    let windowed = answer.question.window != Window::default();
    let columns = if windowed { TITLES.len() } else { TITLES.len() - 1 };
    let rows: Vec<[String; 10]> = edges(answer)
        .into_iter()
        .map(|edge| {
            let cell = |at, id: usize| {
                let node: &Node = &answer.graph.nodes[id];
                let place = node.identity.place().map(|at| place(&answer.graph, at));
                let place =
                    place.or_else(|| claimants(answer, id)).map_or(String::new(), |p| p + " ");
                format!("{place}{at} {}", name(node))
            };
            let active = match edge.active_port {
                Some(port) => end(edge.active_address, Some(port)),
                None => edge.active_address.to_string(),
            };
            let unknown = if edge.directed { "" } else { ", direction unknown" };
            [
                cell(active, edge.active),
                cell(edge.passive_address.to_string(), edge.passive),
                edge.protocol.name().to_owned(),
                edge.port.to_string(),
                State::of(edge, answer).name().to_owned(),
                edge.traffic.open.to_string(),
                format!("{}{unknown}", told(edge)),
                age(answer.now, edge.first_seen),
                age(answer.now, edge.last_seen),
                edge.rise.as_ref().and_then(rise).unwrap_or_default(),
            ]
        })
        .collect();
    let mut out = String::new();
    if !rows.is_empty() {
        let cells: Vec<&[String]> = rows.iter().map(|row| &row[..columns]).collect();
        let mut lines = columns_of(&TITLES[..columns], &cells).into_iter();
        out.push_str(&paint.bold(&lines.next().unwrap_or_default()));
        out.push('\n');
        for (row, text) in rows.iter().zip(lines) {
            let failing = row[4] == State::Failing.name();
            out.push_str(&if failing { paint.alarm(&text) } else { text });
            out.push('\n');
        }
    }
    let mut notes = if rows.is_empty() { nothing(answer) } else { vec![String::new()] };
    notes.extend(footer(answer));
    for note in notes {
        out.push_str(&paint.dim(&note));
        out.push('\n');
    }
    out
}

/// The titles and then each row as a line, in columns as wide as they need be.
pub(crate) fn columns_of(titles: &[&str], rows: &[&[String]]) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([titles[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let first: Vec<String> = titles.iter().map(|title| (*title).to_owned()).collect();
    let rows = std::iter::once(&first[..]).chain(rows.iter().copied());
    rows.map(|row| line(titles, row, &widths)).collect()
}

/// One line; numbers stand at the right of their column.
fn line(titles: &[&str], cells: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for ((title, cell), width) in titles.iter().zip(cells).zip(widths) {
        let gap = " ".repeat(width - cell.chars().count());
        let number = matches!(*title, "PORT" | "CONNS" | "FIRST SEEN" | "LAST SEEN");
        let (before, after) = if number { (gap.as_str(), "") } else { ("", gap.as_str()) };
        line.extend([before, cell, after, "  "]);
    }
    line.trim_end().to_owned()
}
