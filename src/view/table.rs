//! For people: an edge a line, in columns.

use crate::graph::Node;
use crate::graph::search::Answer;
use crate::recall::Window;
use crate::view::columns::{self, Column, Row, number, words};
use crate::view::footer::{claimants, footer, nothing};
use crate::view::label::{age, end, name, place, rise, told};
use crate::view::lines::{State, edges};
use crate::view::paint::Paint;

/// The last one only where a window was asked about.
const COLUMNS: [Column; 10] = [
    words("ACTIVE"),
    words("PASSIVE"),
    words("PROTO"),
    number("PORT"),
    words("STATE"),
    number("CONNS"),
    words("TOLD BY"),
    number("FIRST SEEN"),
    number("LAST SEEN"),
    words("IN THAT TIME"),
];

/// An answer as a table with its footer.
pub(crate) fn table(answer: &Answer, colour: bool) -> String {
    let paint = Paint(colour);
    let windowed = answer.question.window != Window::default();
    let columns = if windowed { COLUMNS.len() } else { COLUMNS.len() - 1 };
    let rows: Vec<Row> = edges(answer)
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
            let state = State::of(edge, answer);
            let cells = [
                cell(active, edge.active),
                cell(edge.passive_address.to_string(), edge.passive),
                edge.protocol.name().to_owned(),
                edge.port.to_string(),
                state.name().to_owned(),
                edge.traffic.open.to_string(),
                format!("{}{unknown}", told(edge)),
                age(answer.now, edge.first_seen),
                age(answer.now, edge.last_seen),
                edge.rise.as_ref().and_then(rise).unwrap_or_default(),
            ];
            Row { cells: cells.into(), pieces: Vec::new(), alarm: state == State::Failing }
        })
        .collect();
    let mut out = columns::table(&COLUMNS[..columns], &rows, paint);
    let mut notes = if rows.is_empty() { nothing(answer) } else { vec![String::new()] };
    notes.extend(footer(answer));
    for note in notes {
        out.push_str(&paint.dim(&note));
        out.push('\n');
    }
    out
}
