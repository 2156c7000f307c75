//! For Mermaid: a node or an edge a line.

use std::fmt::Write;

use crate::graph::search::Answer;
use crate::view::dot::{edge_label, label, numbers};
use crate::view::escape;
use crate::view::footer::limits;
use crate::view::lines::{State, edges};

/// An answer as a flowchart.
pub(crate) fn mermaid(answer: &Answer) -> String {
    let mut out = String::from("flowchart LR\n");
    for note in limits(answer) {
        // Writing to a String cannot fail.
        writeln!(out, "  %% {note}").ok();
    }
    let numbers = numbers(answer);
    for (id, number) in &numbers {
        writeln!(out, "  n{number}[{}]", escape::mermaid(&label(answer, *id))).ok();
    }
    for edge in edges(answer) {
        let arrow = match (edge.directed, State::of(edge, answer)) {
            (false, _) => "<-->",
            (true, State::Alive) => "-->",
            (true, State::Failing) => "--x",
            (true, State::Ended | State::Silent) => "-.->",
        };
        let label = escape::mermaid(&edge_label(edge));
        let (active, passive) = (numbers[&edge.active], numbers[&edge.passive]);
        writeln!(out, "  n{active} {arrow}|{label}| n{passive}").ok();
    }
    out
}
