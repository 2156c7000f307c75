//! Rows → one transaction: all of them, but for those that the CMDB refuses.
//! It must not know what is in a row.

use std::collections::HashSet;

use crate::cmdb::engine::{Access, Connection};
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
        connection.store(table.statement, &table.columns, 0..table.rows).await?;
    }
    Ok(())
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
            match connection.store(table.statement, &table.columns, range.clone()).await {
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
