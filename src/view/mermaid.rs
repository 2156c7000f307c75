//! For Mermaid: a node or an edge a line.

use std::fmt::Write;

use crate::graph::search::Answer;
use crate::view::dot::{edge_label, ends, label};
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
    for id in ends(answer) {
        writeln!(out, "  n{id}[{}]", escape::mermaid(&label(answer, id))).ok();
    }
    for edge in edges(answer) {
        let arrow = match (edge.directed, State::of(edge, answer)) {
            (false, _) => "<-->",
            (true, State::Alive) => "-->",
            (true, State::Failing) => "--x",
            (true, State::Ended | State::Silent) => "-.->",
        };
        let label = escape::mermaid(&edge_label(edge));
        writeln!(out, "  n{} {arrow}|{label}| n{}", edge.active, edge.passive).ok();
    }
    out
}
