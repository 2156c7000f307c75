//! Rows in columns, for people: what every table has in common.

use crate::view::paint::Paint;

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    title: &'static str,
    /// Numbers stand at the right.
    right: bool,
}

/// A column of words.
pub(crate) const fn words(title: &'static str) -> Column {
    Column { title, right: false }
}

/// A column of numbers.
pub(crate) const fn number(title: &'static str) -> Column {
    Column { title, right: true }
}

/// A row, its cells escaped.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) cells: Vec<String>,
    /// The cell behind these, in pieces that stay whole: it stands below, in
    /// lines of its own, where the row would be too wide. Empty where there is
    /// none.
    pub(crate) pieces: Vec<String>,
    /// It is what a reader should see first.
    pub(crate) alarm: bool,
}

/// Most columns of a terminal that a row takes if it can be broken, whether
/// there is a terminal or not.
const WIDTH: usize = 120;

/// What stands before the lines that a row goes on with.
const INDENT: &str = "        ";

/// A table with its titles, if there are rows. What a row has beyond the
/// columns is left out.
pub(crate) fn table(columns: &[Column], rows: &[Row], paint: Paint) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let widths: Vec<usize> = (0..columns.len())
        .map(|at| {
            let cells = rows.iter().filter_map(|row| Some(row.cells.get(at)?.chars().count()));
            cells.chain([columns[at].title.len()]).max().unwrap_or(0)
        })
        .collect();
    let titles: Vec<String> = columns.iter().map(|column| column.title.to_owned()).collect();
    let mut out = paint.bold(line(columns, &titles, &widths).trim_end());
    out.push('\n');
    for row in rows {
        for text in broken(line(columns, &row.cells, &widths), &row.pieces) {
            out.push_str(&if row.alarm { paint.alarm(&text) } else { text });
            out.push('\n');
        }
    }
    out
}

/// A row as lines: one, if that is not too wide.
fn broken(line: String, pieces: &[String]) -> Vec<String> {
    let whole = format!("{line}{}", pieces.join(" "));
    if whole.chars().count() <= WIDTH {
        return vec![whole.trim_end().to_owned()];
    }
    let mut below: Vec<String> = Vec::new();
    for piece in pieces {
        let fits = |last: &&mut String| last.chars().count() + 1 + piece.chars().count() <= WIDTH;
        match below.last_mut().filter(fits) {
            Some(last) => last.extend([" ", piece]),
            None => below.push(format!("{INDENT}{piece}")),
        }
    }
    below.insert(0, line.trim_end().to_owned());
    below
}

fn line(columns: &[Column], cells: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for ((column, cell), width) in columns.iter().zip(cells).zip(widths) {
        let gap = " ".repeat(width - cell.chars().count());
        let (before, after) = if column.right { (gap.as_str(), "") } else { ("", gap.as_str()) };
        line.extend([before, cell, after, "  "]);
    }
    line
}
