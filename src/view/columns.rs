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
    /// It is what a reader should see first.
    pub(crate) alarm: bool,
}

/// A table with its titles, if there are rows. What a row has beyond the
/// columns is left out.
pub(crate) fn table(columns: &[Column], rows: &[Row], paint: Paint) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let widths: Vec<usize> = (0..columns.len())
        .map(|at| {
            let cells = rows.iter().map(|row| row.cells[at].chars().count());
            cells.chain([columns[at].title.len()]).max().unwrap_or(0)
        })
        .collect();
    let titles: Vec<String> = columns.iter().map(|column| column.title.to_owned()).collect();
    let mut out = paint.bold(&line(columns, &titles, &widths));
    out.push('\n');
    for row in rows {
        let text = line(columns, &row.cells, &widths);
        out.push_str(&if row.alarm { paint.alarm(&text) } else { text });
        out.push('\n');
    }
    out
}

fn line(columns: &[Column], cells: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for ((column, cell), width) in columns.iter().zip(cells).zip(widths) {
        let gap = " ".repeat(width - cell.chars().count());
        let (before, after) = if column.right { (gap.as_str(), "") } else { ("", gap.as_str()) };
        line.extend([before, cell, after, "  "]);
    }
    line.trim_end().to_owned()
}
