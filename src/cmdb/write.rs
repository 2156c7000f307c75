//! Rows → one transaction: all of them, but for those that the CMDB refuses.
//! It must not know what is in a row.

use std::collections::HashSet;
use std::ops::Range;

use crate::cmdb::engine::{Access, Column, Connection, Row};
use crate::cmdb::fault::{Meaning, meaning};
use crate::cmdb::rows::Table;
use crate::cmdb::sql;

/// What became of reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Rows that the CMDB refused (a text it cannot store) and that were left
    /// out, so that the others are not lost. Nothing else is lost.
    pub refused: u64,
}

/// Stores all rows or none; but for rows that are refused, which are left out
/// and counted.
pub(crate) async fn store(
    connection: &mut Connection,
    tables: &[Table<'_>],
) -> Result<Recorded, sqlx::Error> {
    connection.begin(Access::Write).await?;
    match store_together(connection, tables).await {
        Ok(()) => {
            connection.run("COMMIT").await?;
            return Ok(Recorded::default());
        }
        Err(error) => {
            connection.run("ROLLBACK").await?;
            if meaning(&error) != Meaning::Row {
                return Err(error);
            }
        }
    }
    connection.begin(Access::Write).await?;
    match store_apart(connection, tables).await {
        Ok(recorded) => {
            connection.run("COMMIT").await?;
            Ok(recorded)
        }
        Err(error) => {
            connection.run("ROLLBACK").await?;
            Err(error)
        }
    }
}

async fn store_together(
    connection: &mut Connection,
    tables: &[Table<'_>],
) -> Result<(), sqlx::Error> {
    for table in tables {
        store_rows(connection, table, 0..table.rows).await?;
    }
    Ok(())
}

async fn store_rows(
    connection: &mut Connection,
    table: &Table<'_>,
    range: Range<usize>,
) -> Result<(), sqlx::Error> {
    if table.statement != sql::STORE_FLOWS {
        return connection.store(table.statement, &table.columns, range).await.map(drop);
    }
    let changes = &table.columns[..sql::FLOW_CHANGES];
    let done = connection.store(sql::CONTINUE_FLOWS, changes, range.clone()).await?;
    // Most often all; then nobody need know which.
    if done.len() == range.len() {
        return Ok(());
    }
    let done = keys(&done)?;
    let rest = pick(table, range, |key| !done.contains(key));
    let of_rest = 0..rest.first().map_or(0, Column::len);
    let known = connection.store(sql::KNOWN_FLOWS, &rest, of_rest.clone()).await?;
    if !known.is_empty() {
        let known = keys(&known)?;
        let rest = Table { columns: rest.clone(), rows: of_rest.len(), ..*table };
        let known = pick(&rest, of_rest.clone(), |key| known.contains(key));
        let of_known = 0..known.first().map_or(0, Column::len);
        connection.store(sql::LEAVE_SPANS, &known, of_known.clone()).await?;
        connection.store(sql::LEAVE_HOURS, &known, of_known).await?;
    }
    connection.store(sql::STORE_FLOWS, &rest, of_rest).await.map(drop)
}

/// The keys that a statement returned.
fn keys(rows: &[Row]) -> Result<HashSet<(i64, i64)>, sqlx::Error> {
    rows.iter().map(|row| Ok((row.int(0)?, row.int(1)?))).collect()
}

/// The rows of flows in a range with a key that is wanted.
fn pick<'a>(
    table: &Table<'a>,
    range: Range<usize>,
    wanted: impl Fn(&(i64, i64)) -> bool,
) -> Vec<Column<'a>> {
    let rows: Vec<usize> =
        range.filter(|&row| wanted(&(table.host(row), table.flow(row)))).collect();
    table.columns.iter().map(|column| column.pick(&rows)).collect()
}

/// Halves what is refused until the bad row stands alone. Nothing is stored of
/// a host whose own row is refused: its flows would be nobody's.
async fn store_apart(
    connection: &mut Connection,
    tables: &[Table<'_>],
) -> Result<Recorded, sqlx::Error> {
    let mut recorded = Recorded::default();
    let mut nobody = HashSet::new();
    for table in tables {
        let (mut left, left_out) = table.without(&nobody);
        recorded.refused += left_out;
        left.reverse();
        while let Some(range) = left.pop() {
            connection.run("SAVEPOINT part").await?;
            match store_rows(connection, table, range.clone()).await {
                Ok(()) => connection.run("RELEASE SAVEPOINT part").await?,
                Err(error) if meaning(&error) == Meaning::Row => {
                    connection.run("ROLLBACK TO SAVEPOINT part").await?;
                    connection.run("RELEASE SAVEPOINT part").await?;
                    if range.len() == 1 {
                        recorded.refused += 1;
                        let host = table.host(range.start);
                        tracing::warn!(table = table.name, host, %error, "the CMDB refused a row; it was left out");
                        if table.statement == sql::STORE_HOSTS {
                            nobody.insert(host);
                        }
                    } else {
                        let middle = range.start + range.len() / 2;
                        left.push(middle..range.end);
                        left.push(range.start..middle);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(recorded)
}
