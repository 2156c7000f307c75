//! Rows → one transaction: all of them, but for those that the CMDB refuses.
//! It must not know what is in a row.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::cmdb::engine::{Access, Connection, Row};
use crate::cmdb::fault::{Error, Meaning, Trouble, meaning};
use crate::cmdb::rows::Table;
use crate::cmdb::sql;
use crate::recall::HostKey;

/// What became of reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Rows that the CMDB refused (a text it cannot store) and that were left
    /// out, so that the others are not lost. Nothing else is lost.
    pub refused: u64,
    /// Whose they were; a collector tells only how many.
    pub refused_of: BTreeMap<HostKey, u64>,
}

impl Recorded {
    fn refuse(&mut self, host: HostKey) {
        self.refused += 1;
        *self.refused_of.entry(host).or_default() += 1;
    }
}

/// Stores all rows or none; but for rows that are refused, which are left out
/// and counted.
pub(crate) async fn store(
    connection: &mut Connection,
    tables: &[Table],
) -> Result<Recorded, Error> {
    connection.begin(Access::Write).await?;
    match store_together(connection, tables).await {
        Ok(()) => {
            connection.run("COMMIT").await?;
            return Ok(Recorded::default());
        }
        // Who does not answer is not asked again.
        Err(error) if meaning(&error) == Meaning::Away => return Err(error),
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
        Err(error) if meaning(&error) == Meaning::Away => Err(error),
        Err(error) => {
            connection.run("ROLLBACK").await?;
            Err(error)
        }
    }
}

async fn store_together(connection: &mut Connection, tables: &[Table]) -> Result<(), Error> {
    for table in tables {
        let rows: Vec<usize> = (0..table.rows).collect();
        store_rows(connection, table, &rows).await?;
    }
    Ok(())
}

async fn store_rows(
    connection: &mut Connection,
    table: &Table,
    rows: &[usize],
) -> Result<(), Error> {
    let columns = &table.columns[..];
    if table.statement != sql::STORE_FLOWS {
        return connection.store(table.statement, columns, rows).await.map(|_| ());
    }
    let changes = &columns[..sql::FLOW_CHANGES];
    let changed = connection.store(sql::CONTINUE_FLOWS, changes, rows).await?;
    if changed == rows.len() as u64 {
        return Ok(());
    }
    let (known, new) = others(connection, table, rows).await?;
    if !known.is_empty() {
        connection.store(sql::LEAVE_SPANS, columns, &known).await?;
        connection.store(sql::LEAVE_HOURS, columns, &known).await?;
        connection.store(sql::STORE_FLOWS, columns, &known).await?;
    }
    // Nobody else writes flows of these hosts: the rows of the hosts, which
    // come first, are locked.
    connection.insert(sql::NEW_FLOWS, columns, &new).await
}

/// Of rows of flows that are not stored as they are: those of known flows and
/// those of new ones.
async fn others(
    connection: &mut Connection,
    table: &Table,
    rows: &[usize],
) -> Result<(Vec<usize>, Vec<usize>), Error> {
    let changes = &table.columns[..sql::FLOW_CHANGES];
    let mut stored: HashMap<(i64, i64), bool> = HashMap::new();
    let compare = &mut |row: &Row<'_>| {
        stored.insert((row.int(0)?, row.int(1)?), row.int(2)? == 1);
        Ok(())
    };
    connection.compare(sql::KNOWN_FLOWS, changes, rows, compare).await.map_err(Trouble::driver)?;
    let (mut known, mut new) = (Vec::new(), Vec::new());
    for &row in rows {
        match stored.get(&(table.host(row), table.flow(row))) {
            Some(true) => (),
            Some(false) => known.push(row),
            None => new.push(row),
        }
    }
    Ok((known, new))
}

/// Halves what is refused until the bad row stands alone. Nothing is stored of
/// a host whose own row is refused: its flows would be nobody's.
async fn store_apart(connection: &mut Connection, tables: &[Table]) -> Result<Recorded, Error> {
    let mut recorded = Recorded::default();
    let mut nobody = HashSet::new();
    for table in tables {
        let rows = table.without(&nobody);
        let left_out = (0..table.rows).filter(|row| nobody.contains(&table.host(*row)));
        left_out.for_each(|row| recorded.refuse(table.host(row)));
        let mut left = vec![&rows[..]];
        while let Some(rows) = left.pop() {
            connection.run("SAVEPOINT part").await?;
            match store_rows(connection, table, rows).await {
                Ok(()) => connection.run("RELEASE SAVEPOINT part").await?,
                Err(error) if meaning(&error) == Meaning::Row => {
                    connection.run("ROLLBACK TO SAVEPOINT part").await?;
                    connection.run("RELEASE SAVEPOINT part").await?;
                    if let [row] = *rows {
                        let host = table.host(row);
                        recorded.refuse(host);
                        tracing::warn!(table = table.name, host, %error, "the CMDB refused a row; it was left out");
                        if table.statement == sql::STORE_HOSTS {
                            nobody.insert(host);
                        }
                    } else {
                        let (first, second) = rows.split_at(rows.len() / 2);
                        left.extend([second, first]);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(recorded)
}
