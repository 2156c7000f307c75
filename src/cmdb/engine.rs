//! One connection to either engine, and the few things in which they differ:
//! how a list is bound, how many rows are stored at once, how a transaction
//! begins. It must not know a table.
//!
//! Statements are written once, in PostgreSQL's words ([`crate::cmdb::sql`]).
//! [`for_sqlite`] turns the handful of words that SQLite lacks into its own.

use std::borrow::Cow;
use std::ops::Range;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, PgConnection, Row as _, SqliteConnection};

/// An open connection.
pub(crate) enum Connection {
    Sqlite(Box<SqliteConnection>),
    Postgres(Box<PgConnection>),
}

/// What a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Several statements that see one moment.
    Read,
    /// All or nothing. SQLite takes its write lock at once, or two that both
    /// began by reading could not both go on.
    Write,
}

/// A value for a placeholder.
#[derive(Clone, Debug)]
pub(crate) enum Value<'a> {
    Int(i64),
    Text(&'a str),
    Bytes([u8; 16]),
    Ints(Vec<i64>),
    Addresses(Vec<[u8; 16]>),
    /// Two placeholders, for two lists of one length.
    Pairs(Vec<(i64, i64)>),
}

/// A column of the rows to be stored.
#[derive(Clone, Debug)]
pub(crate) enum Column<'a> {
    Int(Vec<Option<i64>>),
    Text(Vec<Option<Cow<'a, str>>>),
    Address(Vec<Option<[u8; 16]>>),
}

impl<'a> Column<'a> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Column::Int(values) => values.len(),
            Column::Text(values) => values.len(),
            Column::Address(values) => values.len(),
        }
    }

    /// Some of its rows.
    pub(crate) fn pick(&self, rows: &[usize]) -> Column<'a> {
        match self {
            Column::Int(values) => Column::Int(rows.iter().map(|&row| values[row]).collect()),
            Column::Text(values) => {
                Column::Text(rows.iter().map(|&row| values[row].clone()).collect())
            }
            Column::Address(values) => {
                Column::Address(rows.iter().map(|&row| values[row]).collect())
            }
        }
    }
}

/// A row that was read. Columns are asked for by position.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// Most rows that one statement stores in PostgreSQL: what it can do in a
/// fraction of its time limit.
const POSTGRES_ROWS: usize = 4096;

/// How many rows one statement stores in SQLite, the largest that fits first.
/// A few fixed sizes, so that each statement is prepared once; 256 rows of 26
/// columns stay under SQLite's 32,766 placeholders.
const SQLITE_ROWS: [usize; 3] = [256, 16, 1];

impl Connection {
    /// Runs statements without placeholders.
    pub(crate) async fn run(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        match self {
            Connection::Sqlite(sqlite) => {
                sqlx::raw_sql(AssertSqlSafe(for_sqlite(sql))).execute(&mut **sqlite).await?;
            }
            Connection::Postgres(postgres) => {
                sqlx::raw_sql(AssertSqlSafe(for_postgres(sql))).execute(&mut **postgres).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn begin(&mut self, access: Access) -> Result<(), sqlx::Error> {
        match (self, access) {
            (sqlite @ Connection::Sqlite(_), Access::Read) => sqlite.run("BEGIN").await,
            (sqlite @ Connection::Sqlite(_), Access::Write) => sqlite.run("BEGIN IMMEDIATE").await,
            (postgres, Access::Read) => {
                postgres.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await
            }
            // Rows to be written are looked up one by one, by their keys: for
            // a few thousand, a planner may find reading the table cheaper.
            (postgres, Access::Write) => {
                postgres
                    .run(
                        "BEGIN ISOLATION LEVEL READ COMMITTED;
                        SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off",
                    )
                    .await
            }
        }
    }

    /// Reads all rows of a statement.
    pub(crate) async fn fetch(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, sqlx::Error> {
        match self {
            Connection::Sqlite(sqlite) => {
                let mut arguments = SqliteArguments::default();
                for value in values {
                    bind_sqlite(&mut arguments, value)?;
                }
                let query = sqlx::query_with(AssertSqlSafe(for_sqlite(sql)), arguments);
                Ok(query.fetch_all(&mut **sqlite).await?.into_iter().map(Row::Sqlite).collect())
            }
            Connection::Postgres(postgres) => {
                let mut arguments = PgArguments::default();
                for value in values {
                    bind_postgres(&mut arguments, value)?;
                }
                let query = sqlx::query_with(sql, arguments);
                Ok(query.fetch_all(&mut **postgres).await?.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// Runs a statement that changes rows; how many it changed.
    pub(crate) async fn change(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<u64, sqlx::Error> {
        match self {
            Connection::Sqlite(sqlite) => {
                let mut arguments = SqliteArguments::default();
                for value in values {
                    bind_sqlite(&mut arguments, value)?;
                }
                let query = sqlx::query_with(AssertSqlSafe(for_sqlite(sql)), arguments);
                Ok(query.execute(&mut **sqlite).await?.rows_affected())
            }
            Connection::Postgres(postgres) => {
                let mut arguments = PgArguments::default();
                for value in values {
                    bind_postgres(&mut arguments, value)?;
                }
                Ok(sqlx::query_with(sql, arguments).execute(&mut **postgres).await?.rows_affected())
            }
        }
    }

    /// Runs a statement in which ROWS stands for the rows of `columns` in
    /// `range`, and gives all that it returns. It may be done in parts.
    pub(crate) async fn store(
        &mut self,
        sql: &'static str,
        columns: &[Column<'_>],
        range: Range<usize>,
    ) -> Result<Vec<Row>, sqlx::Error> {
        let mut returned = Vec::new();
        let mut from = range.start;
        while from < range.end {
            let left = range.end - from;
            match self {
                Connection::Sqlite(sqlite) => {
                    let rows = SQLITE_ROWS.into_iter().find(|&rows| rows <= left).unwrap_or(1);
                    let values = sqlite_values(columns.len(), rows);
                    let query = sqlx::query_with(
                        AssertSqlSafe(for_sqlite(sql).replacen("ROWS", &values, 1)),
                        sqlite_rows(columns, from..from + rows)?,
                    );
                    let rows_back = query.fetch_all(&mut **sqlite).await?;
                    returned.extend(rows_back.into_iter().map(Row::Sqlite));
                    from += rows;
                }
                Connection::Postgres(postgres) => {
                    let rows = left.min(POSTGRES_ROWS);
                    let query = sqlx::query_with(
                        AssertSqlSafe(for_postgres(sql).replacen(
                            "ROWS",
                            &postgres_unnest(columns),
                            1,
                        )),
                        postgres_rows(columns, from..from + rows)?,
                    );
                    let rows_back = query.fetch_all(&mut **postgres).await?;
                    returned.extend(rows_back.into_iter().map(Row::Postgres));
                    from += rows;
                }
            }
        }
        Ok(returned)
    }
}

impl Row {
    /// An integer of any width.
    pub(crate) fn int(&self, column: usize) -> Result<i64, sqlx::Error> {
        match self {
            Row::Sqlite(row) => row.try_get_unchecked(column),
            Row::Postgres(row) => row.try_get_unchecked(column),
        }
    }

    pub(crate) fn optional_int(&self, column: usize) -> Result<Option<i64>, sqlx::Error> {
        match self {
            Row::Sqlite(row) => row.try_get_unchecked(column),
            Row::Postgres(row) => row.try_get_unchecked(column),
        }
    }

    pub(crate) fn text(&self, column: usize) -> Result<&str, sqlx::Error> {
        match self {
            Row::Sqlite(row) => row.try_get_unchecked(column),
            Row::Postgres(row) => row.try_get_unchecked(column),
        }
    }

    pub(crate) fn optional_text(&self, column: usize) -> Result<Option<&str>, sqlx::Error> {
        match self {
            Row::Sqlite(row) => row.try_get_unchecked(column),
            Row::Postgres(row) => row.try_get_unchecked(column),
        }
    }

    pub(crate) fn optional_bytes(&self, column: usize) -> Result<Option<&[u8]>, sqlx::Error> {
        match self {
            Row::Sqlite(row) => row.try_get_unchecked(column),
            Row::Postgres(row) => row.try_get_unchecked(column),
        }
    }
}

/// Two lists of one length as rows. For SQLite they come as one list of pairs:
/// it would look through the whole second list for each row of the first.
const PAIRS: &str = "unnest($1::bigint[], $2::bigint[]) AS k(host, process)";
const SQLITE_PAIRS: &str =
    "(SELECT value ->> 0 AS host, value ->> 1 AS process FROM json_each($1)) AS k";

/// A statement in SQLite's words. SQLite has no arrays: a list comes as JSON.
pub fn for_sqlite(sql: &str) -> String {
    let mut sql = sql
        .replace(PAIRS, SQLITE_PAIRS)
        .replace("CMDB_TIME", "CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)")
        .replace("RETURNING f.host, f.flow", "RETURNING host, flow")
        .replace(" FOR UPDATE", "")
        .replace("BYTEA", "BLOB")
        .replace(" ROOMY", "")
        .replace(") CLUSTERED", ") WITHOUT ROWID")
        .replace("LEAST(", "MIN(")
        .replace("GREATEST(", "MAX(");
    for (postgres, before, after) in [
        ("::bigint[])", "IN (SELECT value FROM json_each(", "))"),
        ("::bytea[])", "IN (SELECT unhex(value) FROM json_each(", "))"),
    ] {
        while let Some(end) = sql.find(postgres) {
            let Some(begin) = sql[..end].rfind("= ANY(") else {
                break;
            };
            let placeholder = sql[begin + "= ANY(".len()..end].to_owned();
            sql.replace_range(
                begin..end + postgres.len(),
                &format!("{before}{placeholder}{after}"),
            );
        }
    }
    sql
}

/// A statement in PostgreSQL's words, for the words that are ours.
fn for_postgres(sql: &str) -> String {
    let time = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";
    sql.replace("CMDB_TIME", time)
        .replace(") CLUSTERED", ")")
        .replace(") ROOMY", ") WITH (fillfactor = 70)")
}

fn bind_sqlite(arguments: &mut SqliteArguments, value: &Value<'_>) -> Result<(), sqlx::Error> {
    match value {
        Value::Int(int) => arguments.add(*int),
        Value::Text(text) => arguments.add((*text).to_owned()),
        Value::Bytes(bytes) => arguments.add(bytes.to_vec()),
        Value::Ints(ints) => {
            let list: Vec<String> = ints.iter().map(i64::to_string).collect();
            arguments.add(format!("[{}]", list.join(",")))
        }
        Value::Pairs(pairs) => {
            let list: Vec<String> = pairs.iter().map(|(a, b)| format!("[{a},{b}]")).collect();
            arguments.add(format!("[{}]", list.join(",")))
        }
        Value::Addresses(addresses) => {
            let hex = |bytes: &[u8; 16]| format!("\"{:032x}\"", u128::from_be_bytes(*bytes));
            let list: Vec<String> = addresses.iter().map(hex).collect();
            arguments.add(format!("[{}]", list.join(",")))
        }
    }
    .map_err(sqlx::Error::Encode)
}

fn bind_postgres(arguments: &mut PgArguments, value: &Value<'_>) -> Result<(), sqlx::Error> {
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
    .map_err(sqlx::Error::Encode)
}

fn sqlite_values(columns: usize, rows: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(","));
    format!("VALUES {}", vec![row.as_str(); rows].join(","))
}

fn sqlite_rows(
    columns: &[Column<'_>],
    range: Range<usize>,
) -> Result<SqliteArguments, sqlx::Error> {
    let mut arguments = SqliteArguments::default();
    arguments.reserve(columns.len() * range.len(), 0);
    for row in range {
        for column in columns {
            match column {
                Column::Int(values) => arguments.add(values[row]),
                Column::Text(values) => arguments.add(values[row].as_deref().map(str::to_owned)),
                Column::Address(values) => arguments.add(values[row].map(|bytes| bytes.to_vec())),
            }
            .map_err(sqlx::Error::Encode)?;
        }
    }
    Ok(arguments)
}

fn postgres_unnest(columns: &[Column<'_>]) -> String {
    let array = |(at, column): (usize, &Column<'_>)| {
        let of = match column {
            Column::Int(_) => "bigint",
            Column::Text(_) => "text",
            Column::Address(_) => "bytea",
        };
        format!("${}::{of}[]", at + 1)
    };
    let arrays: Vec<String> = columns.iter().enumerate().map(array).collect();
    format!("SELECT * FROM unnest({})", arrays.join(","))
}

fn postgres_rows(columns: &[Column<'_>], range: Range<usize>) -> Result<PgArguments, sqlx::Error> {
    let mut arguments = PgArguments::default();
    for column in columns {
        match column {
            Column::Int(values) => arguments.add(&values[range.clone()]),
            Column::Text(values) => arguments.add(&values[range.clone()]),
            Column::Address(values) => arguments.add(&values[range.clone()]),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_comes_to_sqlite_as_json() {
        assert_eq!(
            for_sqlite("a = ANY($1::bigint[]) AND b = ANY($12::bytea[])"),
            "a IN (SELECT value FROM json_each($1)) AND b IN (SELECT unhex(value) FROM json_each($12))"
        );
    }

    #[test]
    fn each_engine_clusters_as_it_can() {
        let table = "CREATE TABLE t (a BYTEA) CLUSTERED ROOMY";
        assert_eq!(for_sqlite(table), "CREATE TABLE t (a BLOB) WITHOUT ROWID");
        assert_eq!(for_postgres(table), "CREATE TABLE t (a BYTEA) WITH (fillfactor = 70)");
    }
}
