//! Prints an answer. It cannot query, and it knows no clock: ages are counted
//! to the moment the answer has in it.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use crate::graph::search::Answer;

mod columns;
mod csv;
mod dot;
pub mod escape;
pub mod finding;
mod footer;
mod json;
mod known;
mod label;
mod lines;
mod mermaid;
mod paint;
mod table;
#[cfg(test)]
mod tests;
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
}

/// A word that names no format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFormat(String);

impl Format {
    /// All formats.
    pub const ALL: [Format; 6] =
        [Format::Tree, Format::Table, Format::Json, Format::Csv, Format::Dot, Format::Mermaid];

    /// The word for it on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Tree => "tree",
            Format::Table => "table",
            Format::Json => "json",
            Format::Csv => "csv",
            Format::Dot => "dot",
            Format::Mermaid => "mermaid",
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
    };
    to.write_all(text.as_bytes())
}
