//! One connection to either engine, and the few things in which they differ:
//! how a list is bound, how many rows are stored at once, how a transaction
//! begins. It must not know a table.
//!
//! Statements are written once, in PostgreSQL's words ([`crate::cmdb::sql`]).
//! Each engine turns the handful of words that it lacks into its own.
//!
//! SQLite is called at once and never waits for anything but a disk or a lock:
//! whoever uses it stays on a thread that may block (`cmdb::store`).

pub(crate) mod postgres;
pub mod sqlite;

use crate::cmdb::engine::postgres::Postgres;
use crate::cmdb::engine::sqlite::Sqlite;
use crate::cmdb::fault::{Error, Trouble};

/// An open connection.
pub(crate) enum Connection {
    Sqlite(Box<Sqlite>),
    Postgres(Box<Postgres>),
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

/// A column of the rows to be stored. It owns what it holds, so that rows can
/// go to the thread that stores them.
#[derive(Clone, Debug)]
pub(crate) enum Column {
    Int(Vec<Option<i64>>),
    /// 32 bits: a port.
    Port(Vec<Option<u16>>),
    /// 16 bits: a number of ours.
    Small(Vec<u8>),
    Text(Texts),
    Address(Vec<Option<[u8; 16]>>),
}

/// Texts, one after the other in one piece of memory: a batch has ten thousand
/// short ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Texts {
    all: String,
    /// Where each begins and ends.
    places: Vec<Option<(usize, usize)>>,
}

impl Texts {
    pub(crate) fn get(&self, row: usize) -> Option<&str> {
        let (from, to) = self.places[row]?;
        Some(&self.all[from..to])
    }
}

impl<T: AsRef<str>> FromIterator<Option<T>> for Texts {
    fn from_iter<I: IntoIterator<Item = Option<T>>>(items: I) -> Texts {
        let mut texts = Texts::default();
        for item in items {
            let from = texts.all.len();
            texts.all.push_str(item.as_ref().map_or("", AsRef::as_ref));
            texts.places.push(item.map(|_| (from, texts.all.len())));
        }
        texts
    }
}

/// A row that was read, for as long as it is looked at. Columns are asked for
/// by position.
pub(crate) enum Row<'a> {
    Sqlite(&'a rusqlite::Row<'a>),
    Postgres(&'a sqlx::postgres::PgRow),
}

/// What is done with each row.
pub(crate) type Each<'a> = dyn FnMut(&Row<'_>) -> Result<(), Trouble> + Send + 'a;

impl Connection {
    /// Runs statements without placeholders.
    pub(crate) async fn run(&mut self, sql: &str) -> Result<(), Error> {
        match self {
            Connection::Sqlite(sqlite) => sqlite.run(sql),
            Connection::Postgres(postgres) => postgres.run(sql).await,
        }
    }

    pub(crate) async fn begin(&mut self, access: Access) -> Result<(), Error> {
        match self {
            Connection::Sqlite(sqlite) => sqlite.begin(access),
            Connection::Postgres(postgres) => postgres.begin(access).await,
        }
    }

    /// Reads all rows of a statement, and gives what is made of each.
    pub(crate) async fn fetch<T: Send>(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
        mut make: impl FnMut(&Row<'_>) -> Result<T, Error> + Send,
    ) -> Result<Vec<T>, Error> {
        let mut made = Vec::new();
        let each = &mut |row: &Row<'_>| {
            made.push(make(row)?);
            Ok(())
        };
        self.read(sql, values, each).await.map_err(Trouble::driver)?;
        Ok(made)
    }

    /// Reads all rows of a statement, one after the other.
    pub(crate) async fn read(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
        each: &mut Each<'_>,
    ) -> Result<(), Trouble> {
        match self {
            Connection::Sqlite(sqlite) => sqlite.read(sql, values, each),
            Connection::Postgres(postgres) => postgres.read(sql, values, each).await,
        }
    }

    /// Runs a statement that changes rows; how many it changed.
    pub(crate) async fn change(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<u64, Error> {
        match self {
            Connection::Sqlite(sqlite) => sqlite.change(sql, values),
            Connection::Postgres(postgres) => postgres.change(sql, values).await,
        }
    }

    /// Runs a statement in which ROWS stands for some rows of `columns`; how
    /// many rows it changed. It may be done in parts.
    pub(crate) async fn store(
        &mut self,
        sql: &'static str,
        columns: &[Column],
        rows: &[usize],
    ) -> Result<u64, Error> {
        match self {
            Connection::Sqlite(sqlite) => sqlite.store(sql, columns, rows),
            Connection::Postgres(postgres) => postgres.store(sql, columns, rows).await,
        }
    }

    /// As [`Connection::store`], and gives what the statement reads.
    pub(crate) async fn compare(
        &mut self,
        sql: &'static str,
        columns: &[Column],
        rows: &[usize],
        each: &mut Each<'_>,
    ) -> Result<(), Trouble> {
        match self {
            Connection::Sqlite(sqlite) => sqlite.compare(sql, columns, rows, each),
            Connection::Postgres(postgres) => postgres.compare(sql, columns, rows, each).await,
        }
    }

    /// Adds rows to a table, said as `table (column, …)`, that has none of them.
    pub(crate) async fn insert(
        &mut self,
        table: &'static str,
        columns: &[Column],
        rows: &[usize],
    ) -> Result<(), Error> {
        match self {
            Connection::Sqlite(sqlite) => sqlite.insert(table, columns, rows),
            Connection::Postgres(postgres) => postgres.insert(table, columns, rows).await,
        }
    }

    /// Hosts in lists that one statement each may be said of, so that it goes
    /// to one node where the tables are spread over several.
    pub(crate) async fn together(&mut self, hosts: Vec<i64>) -> Result<Vec<Vec<i64>>, Error> {
        match self {
            Connection::Sqlite(_) => Ok(vec![hosts]),
            Connection::Postgres(postgres) => postgres.together(hosts).await,
        }
    }
}

impl Row<'_> {
    /// An integer of any width.
    pub(crate) fn int(&self, column: usize) -> Result<i64, Error> {
        match self {
            Row::Sqlite(row) => sqlite::int(row, column),
            Row::Postgres(row) => postgres::get(row, column),
        }
    }

    pub(crate) fn optional_int(&self, column: usize) -> Result<Option<i64>, Error> {
        match self {
            Row::Sqlite(row) => sqlite::optional_int(row, column),
            Row::Postgres(row) => postgres::get(row, column),
        }
    }

    pub(crate) fn text(&self, column: usize) -> Result<&str, Error> {
        match self {
            Row::Sqlite(row) => sqlite::text(row, column),
            Row::Postgres(row) => postgres::get(row, column),
        }
    }

    pub(crate) fn optional_text(&self, column: usize) -> Result<Option<&str>, Error> {
        match self {
            Row::Sqlite(row) => sqlite::optional_text(row, column),
            Row::Postgres(row) => postgres::get(row, column),
        }
    }

    pub(crate) fn optional_bytes(&self, column: usize) -> Result<Option<&[u8]>, Error> {
        match self {
            Row::Sqlite(row) => sqlite::optional_bytes(row, column),
            Row::Postgres(row) => postgres::get(row, column),
        }
    }
}
