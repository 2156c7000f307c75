//! Prints an answer. It cannot query, and it knows no clock: ages are counted
//! to the moment the answer has in it.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use crate::graph::Graph;
use crate::graph::group::{By, Common, Groups};
use crate::graph::search::Answer;
use crate::labels::Called;
use crate::recall::{Names, Selector};

mod columns;
mod csv;
mod dot;
pub mod escape;
pub mod finding;
mod footer;
pub mod grafana;
mod graphml;
mod json;
mod known;
mod label;
mod lines;
mod mermaid;
mod paint;
mod svg;
mod table;
#[cfg(test)]
mod tests;
pub mod tokens;
mod tree;

/// What an answer is printed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people: what depends on what, indented.
    Tree,
    /// For people: an edge a line, in columns.
    Table,
    /// For programs: see docs/look-json.md.
    Json,
    /// For spreadsheets: an edge a line, RFC 4180.
    Csv,
    /// For Graphviz.
    Dot,
    /// For Mermaid.
    Mermaid,
    /// For yEd, Gephi, Cytoscape and networkx.
    GraphMl,
    /// For the node graph panel of Grafana.
    Grafana,
    /// For browsers and documents: a picture.
    Svg,
}

/// What there is to say of a part of a graph to who reads it by a program: that
/// nothing is known of it, or what is left out.
pub fn remarks(answer: &Answer) -> Vec<String> {
    let nothing = answer.walk.roots.is_empty() && answer.part.is_none_or(|part| part.total == 0);
    let nothing = nothing.then(|| footer::nothing(answer)).into_iter().flatten();
    nothing.chain(footer::limits(answer)).collect()
}

/// A word that names no format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFormat(String);

impl Format {
    /// All formats.
    pub const ALL: [Format; 9] = [
        Format::Tree,
        Format::Table,
        Format::Json,
        Format::Csv,
        Format::Dot,
        Format::Mermaid,
        Format::GraphMl,
        Format::Grafana,
        Format::Svg,
    ];

    /// The word for it on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Tree => "tree",
            Format::Table => "table",
            Format::Json => "json",
            Format::Csv => "csv",
            Format::Dot => "dot",
            Format::Mermaid => "mermaid",
            Format::GraphMl => "graphml",
            Format::Grafana => "grafana",
            Format::Svg => "svg",
        }
    }

    /// What it is called in HTTP. Nothing that a browser would run: a picture
    /// is sent with a policy that forbids it.
    pub const fn media_type(self) -> &'static str {
        match self {
            Format::Json | Format::Grafana => "application/json",
            Format::Csv => "text/csv; charset=utf-8",
            Format::Dot => "text/vnd.graphviz; charset=utf-8",
            Format::GraphMl => "application/graphml+xml",
            Format::Svg => "image/svg+xml",
            Format::Tree | Format::Table | Format::Mermaid => "text/plain; charset=utf-8",
        }
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(word: &str) -> Result<Self, UnknownFormat> {
        let known = Format::ALL.into_iter().find(|format| format.name() == word);
        known.ok_or_else(|| UnknownFormat(word.to_owned()))
    }
}

impl fmt::Display for UnknownFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = Format::ALL.into_iter().map(Format::name).collect();
        write!(f, "'{}' is not a format; choose from {}", self.0, names.join(", "))
    }
}

impl std::error::Error for UnknownFormat {}

/// Prints an answer. `colour` is the caller's decision, and means something
/// to tree and table only. The errors are those of `to`.
pub fn write(answer: &Answer, format: Format, colour: bool, to: &mut impl Write) -> io::Result<()> {
    let text = match format {
        Format::Tree => tree::tree(answer, colour),
        Format::Table => table::table(answer, colour),
        Format::Json => json::json(answer)?,
        Format::Csv => csv::csv(answer),
        Format::Dot => dot::dot(answer),
        Format::Mermaid => mermaid::mermaid(answer),
        Format::GraphMl => graphml::graphml(answer),
        Format::Grafana => grafana::grafana(answer)?,
        Format::Svg => svg::svg(answer),
    };
    to.write_all(text.as_bytes())
}

/// What an answer was folded into, as JSON.
pub fn groups(answer: &Answer, by: By, groups: &Groups) -> io::Result<String> {
    json::groups::groups(answer, by, groups)
}

/// The words by which a group is asked for: `unit:nginx.service`.
pub fn group_word(graph: &Graph, common: &Common) -> String {
    let (kind, value) = json::groups::key(graph, common);
    format!("{kind}:{value}")
}

/// What a search found, as JSON: selectors with how many hosts each means, and
/// names.
pub fn search(meant: &[(Selector, usize)], labels: &[Called], names: &Names) -> io::Result<String> {
    json::search::search(meant, labels, names)
}
