//! PostgreSQL: lists are arrays, many rows are stored by one statement. It must
//! not know a table.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::ErrorKind;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgRow};
use sqlx::{
    Arguments, AssertSqlSafe, ConnectOptions as _, Connection as _, Decode, PgConnection, Row as _,
    Type,
};

use tokio::time::timeout;

use crate::cmdb::engine::{Access, Column, Each, Row, Value};
use crate::cmdb::fault::{Error, Trouble};
use crate::cmdb::spread;

/// An open connection.
pub(crate) struct Postgres {
    connection: PgConnection,
    /// Longest wait for the answer to one statement of a transaction that
    /// writes: longer than the server's own limit, so that nobody is there any
    /// more who would answer. The kernel goes on sending for a quarter of an
    /// hour, and the driver has no way to tell it not to.
    patience: Duration,
    /// Whether the tables are spread over several nodes.
    is_spread: bool,
    /// The shards of the hosts that this transaction wrote of.
    shards: HashMap<i64, i64>,
}

/// Most rows that one statement stores: what it can do in a fraction of its
/// time limit.
const ROWS: usize = 4096;

impl Postgres {
    pub(crate) async fn open(
        options: PgConnectOptions,
        patience: Duration,
    ) -> Result<Postgres, Error> {
        let connection = options.disable_statement_logging().connect().await?;
        Ok(Postgres { connection, patience, is_spread: false, shards: HashMap::new() })
    }

    /// From now on statements are worded for tables that are spread.
    pub(crate) fn spread(&mut self) {
        self.is_spread = true;
    }

    pub(crate) async fn close(self) -> Result<(), Error> {
        Ok(self.connection.close().await?)
    }

    pub(crate) async fn run(&mut self, sql: &str) -> Result<(), Error> {
        let running = sqlx::raw_sql(AssertSqlSafe(worded(sql))).execute(&mut self.connection);
        if sql == "COMMIT" {
            heard(self.patience, running).await?;
        } else {
            running.await?;
        }
        Ok(())
    }

    pub(crate) async fn begin(&mut self, access: Access) -> Result<(), Error> {
        self.shards.clear();
        let patience = self.patience;
        let running = self.run(match access {
            Access::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            // With one connection to each of Citus' nodes a transaction cannot
            // wait for itself; without Citus its setting means nothing.
            Access::Write => {
                "BEGIN ISOLATION LEVEL READ COMMITTED;
                SET LOCAL citus.max_adaptive_executor_pool_size = 1"
            }
        });
        timeout(patience, running).await.unwrap_or_else(|_| Err(silent().into()))
    }

    pub(crate) async fn read(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
        each: &mut Each<'_>,
    ) -> Result<(), Trouble> {
        let sql = worded(&spread::worded(sql, self.is_spread));
        let query = sqlx::query_with(AssertSqlSafe(sql), arguments(values)?);
        for row in query.fetch_all(&mut self.connection).await.map_err(Error::from)? {
            each(&Row::Postgres(&row))?;
        }
        Ok(())
    }

    pub(crate) async fn change(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<u64, Error> {
        let sql = worded(&spread::worded(sql, self.is_spread));
        let query = sqlx::query_with(AssertSqlSafe(sql), arguments(values)?);
        Ok(query.execute(&mut self.connection).await?.rows_affected())
    }

    pub(crate) async fn store(
        &mut self,
        sql: &'static str,
        columns: &[Column],
        rows: &[usize],
    ) -> Result<u64, Error> {
        let sql = with_rows(&spread::worded(sql, self.is_spread), columns);
        let mut changed = 0;
        for part in self.parts(columns, rows).await? {
            let query =
                sqlx::query_with(AssertSqlSafe(sql.as_str()), arrays(&sql, columns, &part)?);
            let running = query.execute(&mut self.connection);
            changed += heard(self.patience, running).await?.rows_affected();
        }
        Ok(changed)
    }

    pub(crate) async fn compare(
        &mut self,
        sql: &'static str,
        columns: &[Column],
        rows: &[usize],
        each: &mut Each<'_>,
    ) -> Result<(), Trouble> {
        let sql = with_rows(&spread::worded(sql, self.is_spread), columns);
        for part in self.parts(columns, rows).await? {
            let query =
                sqlx::query_with(AssertSqlSafe(sql.as_str()), arrays(&sql, columns, &part)?);
            let running = query.fetch_all(&mut self.connection);
            for row in heard(self.patience, running).await.map_err(Error::from)? {
                each(&Row::Postgres(&row))?;
            }
        }
        Ok(())
    }

    /// By COPY, which writes many rows to a page, and to the log, at once.
    pub(crate) async fn insert(
        &mut self,
        table: &'static str,
        columns: &[Column],
        rows: &[usize],
    ) -> Result<(), Error> {
        for part in rows.chunks(ROWS) {
            let copy = format!("COPY {table} FROM STDIN (FORMAT binary)");
            let copying = async {
                let mut copying = self.connection.copy_in_raw(&copy).await?;
                copying.send(binary_copy(columns, part)).await?;
                copying.finish().await
            };
            heard(self.patience, copying).await?;
        }
        Ok(())
    }

    /// The rows that one statement takes, in their order: those of the hosts of
    /// one shard, so that no other node has a part in it.
    async fn parts(
        &mut self,
        columns: &[Column],
        rows: &[usize],
    ) -> Result<Vec<Vec<usize>>, Error> {
        let mut apart = vec![rows.to_vec()];
        if let (true, Some(Column::Int(hosts))) = (self.is_spread, columns.first()) {
            let host = |row: &usize| hosts[*row].unwrap_or_default();
            let hosts: BTreeSet<i64> = rows.iter().map(host).collect();
            self.look_for_shards(&hosts.into_iter().collect::<Vec<_>>()).await?;
            apart = self.apart(rows, host);
        }
        Ok(apart.iter().flat_map(|rows| rows.chunks(ROWS)).map(<[usize]>::to_vec).collect())
    }

    /// Hosts that are kept together, as one list each.
    pub(crate) async fn together(&mut self, hosts: Vec<i64>) -> Result<Vec<Vec<i64>>, Error> {
        if !self.is_spread {
            return Ok(vec![hosts]);
        }
        self.look_for_shards(&hosts).await?;
        Ok(self.apart(&hosts, |host| *host))
    }

    /// By shard, in the order in which all writers take them.
    fn apart<T: Copy>(&self, items: &[T], host: impl Fn(&T) -> i64) -> Vec<Vec<T>> {
        let mut apart: BTreeMap<Option<i64>, Vec<T>> = BTreeMap::new();
        for item in items {
            apart.entry(self.shards.get(&host(item)).copied()).or_default().push(*item);
        }
        apart.into_values().collect()
    }

    /// Asks for those that are not known. One that moved since is still found,
    /// at the cost of a statement that goes to two nodes.
    async fn look_for_shards(&mut self, hosts: &[i64]) -> Result<(), Error> {
        let new: Vec<i64> =
            hosts.iter().copied().filter(|host| !self.shards.contains_key(host)).collect();
        if new.is_empty() {
            return Ok(());
        }
        for row in sqlx::query(spread::SHARDS).bind(new).fetch_all(&mut self.connection).await? {
            self.shards.insert(get(&row, 0)?, get(&row, 1)?);
        }
        Ok(())
    }
}

/// What the server answers, if it does.
async fn heard<T>(
    patience: Duration,
    running: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    timeout(patience, running).await.unwrap_or_else(|_| Err(silent()))
}

fn silent() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(ErrorKind::TimedOut, "the server has fallen silent"))
}

/// Rows as COPY takes them: "File Formats" of the manual's page on COPY.
fn binary_copy(columns: &[Column], rows: &[usize]) -> Vec<u8> {
    const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
    // Flags and the length of an extension of the header; the end of the rows.
    const NONE: [u8; 8] = [0; 8];
    const END: [u8; 2] = (-1_i16).to_be_bytes();
    let width = i16::try_from(columns.len()).expect("a table has fewer than 1,600 columns");
    let mut copy = [SIGNATURE, &NONE].concat();
    for &row in rows {
        copy.extend(width.to_be_bytes());
        for column in columns {
            match column {
                Column::Int(values) => field(&mut copy, values[row].map(i64::to_be_bytes)),
                Column::Port(values) => {
                    field(&mut copy, values[row].map(|port| i32::from(port).to_be_bytes()));
                }
                Column::Small(values) => {
                    field(&mut copy, Some(i16::from(values[row]).to_be_bytes()));
                }
                Column::Text(texts) => field(&mut copy, texts.get(row)),
                Column::Address(values) => field(&mut copy, values[row]),
            }
        }
    }
    copy.extend(END);
    copy
}

fn field(copy: &mut Vec<u8>, value: Option<impl AsRef<[u8]>>) {
    let Some(value) = value else {
        copy.extend((-1_i32).to_be_bytes());
        return;
    };
    let bytes = value.as_ref();
    // One that is too long is cut by nobody: PostgreSQL refuses it (1 GiB).
    copy.extend(i32::try_from(bytes.len()).unwrap_or(i32::MAX).to_be_bytes());
    copy.extend(bytes);
}

/// A value of a row, by position.
pub(crate) fn get<'a, T>(row: &'a PgRow, column: usize) -> Result<T, Error>
where
    T: Decode<'a, sqlx::Postgres> + Type<sqlx::Postgres>,
{
    Ok(row.try_get_unchecked(column)?)
}

/// A statement in PostgreSQL's words, for the words that are ours.
fn worded(sql: &str) -> String {
    let time = "CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000000 AS BIGINT)";
    sql.replace("CMDB_TIME", time)
        .replace(") CLUSTERED", ")")
        .replace(") ROOMY", ") WITH (fillfactor = 70)")
        .replace(") DOUBLE", ") WITH (fillfactor = 50)")
}

/// Rows come as one array a column.
fn with_rows(sql: &str, columns: &[Column]) -> String {
    let array = |(at, column): (usize, &Column)| {
        let of = match column {
            Column::Int(_) => "bigint",
            Column::Port(_) => "int",
            Column::Small(_) => "smallint",
            Column::Text(_) => "text",
            Column::Address(_) => "bytea",
        };
        format!("${}::{of}[]", at + 1)
    };
    let arrays: Vec<String> = columns.iter().enumerate().map(array).collect();
    let rows = format!("SELECT * FROM unnest({})", arrays.join(","));
    let hosts = format!("${}::bigint[]", columns.len() + 1);
    worded(sql).replacen("ROWS", &rows, 1).replace("HOSTS", &hosts)
}

/// The rows as one array a column and, where the statement asks for them, their
/// hosts, each once.
fn arrays(sql: &str, columns: &[Column], rows: &[usize]) -> Result<PgArguments, Error> {
    let mut arguments = PgArguments::default();
    for column in columns {
        match column {
            Column::Int(values) => {
                arguments.add(rows.iter().map(|&row| values[row]).collect::<Vec<_>>())
            }
            Column::Port(values) => {
                let port = |&row: &usize| values[row].map(i32::from);
                arguments.add(rows.iter().map(port).collect::<Vec<_>>())
            }
            Column::Small(values) => {
                arguments.add(rows.iter().map(|&row| i16::from(values[row])).collect::<Vec<_>>())
            }
            Column::Text(texts) => {
                arguments.add(rows.iter().map(|&row| texts.get(row)).collect::<Vec<_>>())
            }
            Column::Address(values) => {
                arguments.add(rows.iter().map(|&row| values[row]).collect::<Vec<_>>())
            }
        }
        .map_err(sqlx::Error::Encode)?;
    }
    if let Some(Column::Int(hosts)) = columns.first()
        && sql.contains(&format!("${}::", columns.len() + 1))
    {
        let mut hosts: Vec<Option<i64>> = rows.iter().map(|&row| hosts[row]).collect();
        hosts.dedup();
        arguments.add(hosts).map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

fn arguments(values: &[Value<'_>]) -> Result<PgArguments, Error> {
    let mut arguments = PgArguments::default();
    for value in values {
        match value {
            Value::Int(int) => arguments.add(*int),
            Value::Text(text) => arguments.add(*text),
            Value::Bytes(bytes) => arguments.add(bytes.as_slice()),
            Value::Ints(ints) => arguments.add(ints),
            Value::Addresses(addresses) => arguments.add(addresses),
            Value::Pairs(pairs) => {
                let (first, second): (Vec<i64>, Vec<i64>) = pairs.iter().copied().unzip();
                arguments.add(first).and_then(|()| arguments.add(second))
            }
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_left_where_rows_are_often_changed() {
        let table = "CREATE TABLE t (a BYTEA) CLUSTERED ROOMY";
        assert_eq!(worded(table), "CREATE TABLE t (a BYTEA) WITH (fillfactor = 70)");
    }
}
