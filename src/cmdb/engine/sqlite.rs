//! SQLite: one row a call of a statement that is prepared once, everything
//! bound by reference. It must not know a table.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{OpenFlags, Statement, ffi};

use crate::cmdb::engine::{Access, Column, Each, Row, Value};
use crate::cmdb::fault::{Error, Trouble};
use crate::cmdb::spread;

/// An open connection.
pub(crate) struct Sqlite {
    connection: rusqlite::Connection,
    /// Statements in SQLite's words.
    worded: HashMap<&'static str, Arc<str>>,
    given_up: GiveUp,
}

/// Says to a connection that nobody waits for its answer any more. What it is
/// doing then fails, as an interrupted statement does.
#[derive(Clone, Default)]
pub(crate) struct GiveUp(Arc<AtomicBool>);

impl GiveUp {
    pub(crate) fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn was_said(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// After how many steps of SQLite's machine it looks whether it was given up:
/// about a millisecond.
const STEPS: i32 = 10_000;

/// Statements that stay prepared: all that there are.
const PREPARED: usize = 64;

/// Read-mostly settings. A write-ahead log: readers and one writer never wait
/// for each other. `synchronous = FULL` makes a commit survive a loss of power,
/// at the cost of one fsync each; there is one commit a flush. The log is
/// written back when it has 32 MiB, not at each large commit: the pages that
/// many reports touch are then written once. `cache_size` is in KiB, and used
/// only as far as the file is large.
const SETTINGS: &str = "PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 67108864;
    PRAGMA wal_autocheckpoint = 8192; PRAGMA cache_size = -65536";

impl Sqlite {
    /// Opens the file, which is there; none for a database in memory.
    /// `patience` is how long to wait for a lock.
    pub(crate) fn open(file: Option<&Path>, patience: Duration) -> Result<Sqlite, Error> {
        // Not as a URI: a name is a name.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = match file {
            Some(file) => rusqlite::Connection::open_with_flags(file, flags)?,
            None => rusqlite::Connection::open_in_memory_with_flags(flags)?,
        };
        connection.busy_timeout(patience)?;
        connection.set_prepared_statement_cache_capacity(PREPARED);
        connection.execute_batch(SETTINGS)?;
        let given_up = GiveUp::default();
        let asked = given_up.clone();
        connection.progress_handler(STEPS, Some(move || asked.was_said()))?;
        Ok(Sqlite { connection, worded: HashMap::new(), given_up })
    }

    pub(crate) fn close(self) -> Result<(), Error> {
        self.connection.close().map_err(|(_, error)| error.into())
    }

    /// To be called before each piece of work: what was said before is over.
    pub(crate) fn give_up(&self) -> GiveUp {
        self.given_up.0.store(false, Ordering::Relaxed);
        self.given_up.clone()
    }

    pub(crate) fn run(&mut self, sql: &str) -> Result<(), Error> {
        Ok(self.connection.execute_batch(&for_sqlite(sql))?)
    }

    pub(crate) fn begin(&mut self, access: Access) -> Result<(), Error> {
        self.run(match access {
            Access::Read => "BEGIN",
            Access::Write => "BEGIN IMMEDIATE",
        })
    }

    pub(crate) fn read(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
        each: &mut Each<'_>,
    ) -> Result<(), Trouble> {
        let sql = self.worded(sql, 0);
        let mut statement = self.connection.prepare_cached(&sql).map_err(Error::from)?;
        bind(&mut statement, values)?;
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next().map_err(Error::from)? {
            each(&Row::Sqlite(row))?;
        }
        Ok(())
    }

    pub(crate) fn change(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<u64, Error> {
        let sql = self.worded(sql, 0);
        let mut statement = self.connection.prepare_cached(&sql)?;
        bind(&mut statement, values)?;
        Ok(u64::try_from(statement.raw_execute()?).unwrap_or(u64::MAX))
    }

    pub(crate) fn store(
        &mut self,
        sql: &'static str,
        columns: &[Column],
        rows: &[usize],
    ) -> Result<u64, Error> {
        let sql = self.worded(sql, columns.len());
        self.change_each(&sql, columns, rows)
    }

    pub(crate) fn insert(
        &mut self,
        table: &'static str,
        columns: &[Column],
        rows: &[usize],
    ) -> Result<(), Error> {
        let sql = format!("INSERT INTO {table} {}", values(columns.len()));
        self.change_each(&sql, columns, rows).map(drop)
    }

    fn change_each(&self, sql: &str, columns: &[Column], rows: &[usize]) -> Result<u64, Error> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut changed = 0;
        for &row in rows {
            self.go_on()?;
            bind_row(&mut statement, columns, row)?;
            changed += statement.raw_execute()? as u64;
        }
        Ok(changed)
    }

    pub(crate) fn compare(
        &mut self,
        sql: &'static str,
        columns: &[Column],
        rows: &[usize],
        each: &mut Each<'_>,
    ) -> Result<(), Trouble> {
        let sql = self.worded(sql, columns.len());
        let mut statement = self.connection.prepare_cached(&sql).map_err(Error::from)?;
        for &row in rows {
            self.go_on()?;
            bind_row(&mut statement, columns, row)?;
            let mut rows = statement.raw_query();
            while let Some(row) = rows.next().map_err(Error::from)? {
                each(&Row::Sqlite(row))?;
            }
        }
        Ok(())
    }

    /// One row is too few steps for the machine to look of itself.
    fn go_on(&self) -> Result<(), Error> {
        if self.given_up.was_said() {
            let interrupted = ffi::Error::new(ffi::SQLITE_INTERRUPT);
            return Err(rusqlite::Error::SqliteFailure(interrupted, None).into());
        }
        Ok(())
    }

    fn worded(&mut self, sql: &'static str, columns: usize) -> Arc<str> {
        let worded = || for_sqlite(sql).replacen("ROWS", &values(columns), 1).into();
        Arc::clone(self.worded.entry(sql).or_insert_with(worded))
    }
}

fn values(columns: usize) -> String {
    format!("VALUES ({})", vec!["?"; columns].join(","))
}

fn bind_row(statement: &mut Statement<'_>, columns: &[Column], row: usize) -> Result<(), Error> {
    // A statement has placeholders only as far as the last column it uses.
    for (at, column) in columns.iter().enumerate().take(statement.parameter_count()) {
        statement.raw_bind_parameter(at + 1, stored(column, row))?;
    }
    Ok(())
}

fn stored(column: &Column, row: usize) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(match column {
        Column::Int(values) => values[row].map_or(ValueRef::Null, ValueRef::Integer),
        Column::Port(values) => {
            values[row].map_or(ValueRef::Null, |port| ValueRef::Integer(port.into()))
        }
        Column::Small(values) => ValueRef::Integer(values[row].into()),
        Column::Text(texts) => {
            texts.get(row).map_or(ValueRef::Null, |text| ValueRef::Text(text.as_bytes()))
        }
        Column::Address(values) => {
            values[row].as_ref().map_or(ValueRef::Null, |bytes| ValueRef::Blob(bytes))
        }
    })
}

/// SQLite has no arrays: a list comes as JSON.
fn bind(statement: &mut Statement<'_>, values: &[Value<'_>]) -> Result<(), Error> {
    let list = |items: Vec<String>| format!("[{}]", items.join(","));
    for (at, value) in values.iter().enumerate() {
        let at = at + 1;
        match value {
            Value::Int(int) => statement.raw_bind_parameter(at, int),
            Value::Text(text) => statement.raw_bind_parameter(at, text),
            Value::Bytes(bytes) => statement.raw_bind_parameter(at, &bytes[..]),
            Value::Ints(ints) => {
                statement.raw_bind_parameter(at, list(ints.iter().map(i64::to_string).collect()))
            }
            Value::Pairs(pairs) => {
                let pair = |(a, b): &(i64, i64)| format!("[{a},{b}]");
                statement.raw_bind_parameter(at, list(pairs.iter().map(pair).collect()))
            }
            Value::Addresses(addresses) => {
                let hex = |bytes: &[u8; 16]| format!("\"{:032x}\"", u128::from_be_bytes(*bytes));
                statement.raw_bind_parameter(at, list(addresses.iter().map(hex).collect()))
            }
        }?;
    }
    Ok(())
}

pub(crate) fn int(row: &rusqlite::Row<'_>, column: usize) -> Result<i64, Error> {
    Ok(row.get_ref(column)?.as_i64().map_err(|_| strange(column))?)
}

pub(crate) fn optional_int(row: &rusqlite::Row<'_>, column: usize) -> Result<Option<i64>, Error> {
    Ok(row.get_ref(column)?.as_i64_or_null().map_err(|_| strange(column))?)
}

pub(crate) fn text<'a>(row: &'a rusqlite::Row<'_>, column: usize) -> Result<&'a str, Error> {
    Ok(row.get_ref(column)?.as_str().map_err(|_| strange(column))?)
}

pub(crate) fn optional_text<'a>(
    row: &'a rusqlite::Row<'_>,
    column: usize,
) -> Result<Option<&'a str>, Error> {
    Ok(row.get_ref(column)?.as_str_or_null().map_err(|_| strange(column))?)
}

pub(crate) fn optional_bytes<'a>(
    row: &'a rusqlite::Row<'_>,
    column: usize,
) -> Result<Option<&'a [u8]>, Error> {
    Ok(row.get_ref(column)?.as_blob_or_null().map_err(|_| strange(column))?)
}

/// SQLite keeps a value of any type in any column.
fn strange(column: usize) -> rusqlite::Error {
    rusqlite::Error::InvalidColumnIndex(column)
}

/// Two lists of one length as rows. For SQLite they come as one list of pairs:
/// it would look through the whole second list for each row of the first.
const PAIRS: &str = "unnest($1::bigint[], $2::bigint[]) AS k(host, other)";
const SQLITE_PAIRS: &str =
    "(SELECT value ->> 0 AS host, value ->> 1 AS other FROM json_each($1)) AS k";

/// A statement in SQLite's words.
pub fn for_sqlite(sql: &str) -> String {
    let mut sql = one_row(&spread::worded(sql, false))
        .replace(PAIRS, SQLITE_PAIRS)
        .replace("CMDB_TIME", "CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)")
        .replace(" FOR UPDATE", "")
        .replace("BYTEA", "BLOB")
        .replace(" ROOMY", "")
        .replace(" DOUBLE", "")
        .replace(") CLUSTERED", ") WITHOUT ROWID")
        // Here `$1` would be a name, and numbered as it comes.
        .replace('$', "?")
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

/// Of `WITH s(a, b) AS (ROWS) …`, the rest, in which `s.b` is `?2`.
fn one_row(sql: &str) -> String {
    let parts = sql.strip_prefix("WITH s(").and_then(|rest| rest.split_once(") AS (ROWS)"));
    let Some((names, body)) = parts else { return sql.to_owned() };
    let names: Vec<&str> = names.split(',').map(str::trim).collect();
    let body =
        body.replace("FROM s JOIN flow f ON", "FROM flow f WHERE").replace("FROM s WHERE", "WHERE");
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut one = String::new();
    let mut rest = body.as_str();
    while let Some(at) = rest.find("s.") {
        let (before, after) = rest.split_at(at);
        one.push_str(before);
        let name: String = after[2..].chars().take_while(|&c| is_name(c)).collect();
        match names.iter().position(|known| *known == name) {
            Some(place) if !before.ends_with(is_name) => {
                one.push_str(&format!("?{}", place + 1));
            }
            _ => one.push_str(&after[..2 + name.len()]),
        }
        rest = &after[2 + name.len()..];
    }
    one + rest
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::cmdb::fault::{Meaning, meaning};

    #[test]
    fn a_list_comes_to_sqlite_as_json() {
        assert_eq!(
            for_sqlite("a = ANY($1::bigint[]) AND b = ANY($12::bytea[])"),
            "a IN (SELECT value FROM json_each(?1)) AND b IN (SELECT unhex(value) FROM json_each(?12))"
        );
    }

    #[test]
    fn one_row_needs_no_table() {
        assert_eq!(
            for_sqlite(
                "WITH s(host, b) AS (ROWS) UPDATE flow AS f SET b = s.b FROM s WHERE f.host = s.host"
            ),
            " UPDATE flow AS f SET b = ?2 WHERE f.host = ?1"
        );
        assert_eq!(
            for_sqlite(
                "WITH s(host, b) AS (ROWS) SELECT f.b FROM s JOIN flow f ON f.host = s.host AND hours.b < s.b"
            ),
            " SELECT f.b FROM flow f WHERE f.host = ?1 AND hours.b < ?2"
        );
    }

    #[test]
    fn rows_are_kept_in_the_order_of_their_key() {
        let table = "CREATE TABLE t (a BYTEA) CLUSTERED ROOMY";
        assert_eq!(for_sqlite(table), "CREATE TABLE t (a BLOB) WITHOUT ROWID");
    }

    #[test]
    fn who_is_given_up_stops_in_the_middle_of_a_statement() {
        let mut sqlite = Sqlite::open(None, Duration::ZERO).unwrap();
        let give_up = sqlite.give_up();
        let endless =
            "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n) SELECT n FROM n";
        let mut rows = 0;
        let error = sqlite
            .read(endless, &[], &mut |_| {
                rows += 1;
                if rows == 10 {
                    give_up.now();
                }
                Ok(())
            })
            .unwrap_err();
        assert_eq!(error.meaning(), Meaning::Slow);
        assert!(rows < 100_000, "{rows}");
        sqlite.run("CREATE TABLE t (a BIGINT)").unwrap();
        let column = [Column::Int(vec![Some(1)])];
        let error = sqlite.store("INSERT INTO t ROWS", &column, &[0]).unwrap_err();
        assert_eq!(meaning(&error), Meaning::Slow);
    }
}
