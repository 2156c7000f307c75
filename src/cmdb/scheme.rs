//! Creates the tables, brings older ones up to date, and refuses newer ones.
//! It must not know what is in them.
//!
//! Each step is one transaction under a lock that all who create hold, and
//! the version is written in it: a process that is killed at any point leaves
//! the scheme before the step or after it, and any number may run at once.

use std::fmt;

use crate::cmdb::engine::{Access, Column, Connection, Value};
use crate::cmdb::fault::{Error, Fault, fault};
use crate::cmdb::spread::{self, Spread};
use crate::cmdb::sql;

/// What creating the scheme, and spreading it over a cluster, did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    /// To the tables.
    pub change: Change,
    /// Where they are spread over several nodes.
    pub spread: Option<Spread>,
}

impl fmt::Display for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.change.fmt(f)?;
        self.spread.map_or(Ok(()), |spread| write!(f, "; {spread}"))
    }
}

/// What was done to the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// There was nothing; now there is this version.
    Created(i64),
    /// There was an older one.
    Migrated {
        /// The version found.
        from: i64,
        /// The version left.
        to: i64,
    },
    /// There was nothing to do.
    Current(i64),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Created(version) => write!(f, "scheme version {version} created"),
            Change::Migrated { from, to } => {
                write!(f, "scheme migrated from version {from} to {to}")
            }
            Change::Current(version) => write!(f, "scheme is current, version {version}"),
        }
    }
}

/// Steps to a scheme, as [`sql::STEPS`].
pub(crate) type Steps = [&'static [&'static str]];

/// "SHWK" in the header of a SQLite file says whose it is.
const APPLICATION: i64 = 0x5348_574b;

/// The lock that those who create a scheme in PostgreSQL hold, one at a time:
/// a number that nobody else uses, "shawkcmd" in ASCII.
pub(crate) const LOCK: &str = "SELECT pg_advisory_xact_lock(8315163859083226468)";

/// A migration may rewrite a table; no reader waits for it in the meantime.
const STEP_TIMEOUT: &str = "SET LOCAL statement_timeout = '10min'";

/// Whether the scheme is the one that `steps` lead to. In an embedded CMDB it
/// is made so, since there is nobody else to do it.
pub(crate) async fn check(connection: &mut Connection, steps: &Steps) -> Result<(), Fault> {
    let known = version_of(steps);
    match version(connection).await? {
        Some(found) if found == known => Ok(()),
        Some(found) if found > known => Err(newer(found, known)),
        _ if matches!(connection, Connection::Sqlite(_)) => {
            create(connection, steps).await.map(|_| ())
        }
        Some(found) => Err(Fault::Scheme(format!(
            "its scheme is version {found} and this shawk needs {known}: run shawk create-scheme"
        ))),
        None => {
            Err(Fault::Scheme("it has no scheme of shawk's: run shawk create-scheme".to_owned()))
        }
    }
}

/// The tables as they are to be, where they are to be.
pub(crate) async fn create_spread(
    connection: &mut Connection,
    steps: &Steps,
) -> Result<Created, Fault> {
    let change = create(connection, steps).await?;
    Ok(Created { change, spread: spread::create(connection).await? })
}

/// Takes the steps that have not been taken.
pub(crate) async fn create(connection: &mut Connection, steps: &Steps) -> Result<Change, Fault> {
    let known = version_of(steps);
    let found = version(connection).await?;
    if found == Some(known) {
        return Ok(Change::Current(known));
    }
    if found.is_none() && matches!(connection, Connection::Sqlite(_)) {
        // Stays with the file. Not possible within a transaction.
        connection.run("PRAGMA journal_mode = WAL").await.map_err(|e| fault(&e))?;
    }
    let mut first = None;
    loop {
        match take_step(connection, steps).await {
            Ok(Step { before, after }) => {
                let first = *first.get_or_insert(before);
                if after == known {
                    return Ok(match first {
                        None => Change::Created(known),
                        Some(from) if from == known => Change::Current(known),
                        Some(from) => Change::Migrated { from, to: known },
                    });
                }
            }
            Err(why) => {
                // The connection may be gone; then there is nothing to undo.
                let _ = connection.run("ROLLBACK").await;
                return Err(why);
            }
        }
    }
}

struct Step {
    before: Option<i64>,
    after: i64,
}

/// One step in one transaction, or none if there is none left.
async fn take_step(connection: &mut Connection, steps: &Steps) -> Result<Step, Fault> {
    let failed = |error: Error| fault(&error);
    connection.begin(Access::Write).await.map_err(failed)?;
    if let Connection::Postgres(_) = connection {
        connection.run(STEP_TIMEOUT).await.map_err(failed)?;
        connection.run(LOCK).await.map_err(failed)?;
    }
    let before = version(connection).await?;
    if before.is_none() {
        match connection {
            Connection::Postgres(_) => connection.run("CREATE SCHEMA IF NOT EXISTS shawk").await,
            Connection::Sqlite(_) => {
                connection.run(&format!("PRAGMA application_id = {APPLICATION}")).await
            }
        }
        .map_err(failed)?;
        connection.run(sql::CREATE_META).await.map_err(failed)?;
    }
    let taken = before.unwrap_or(0);
    let known = version_of(steps);
    if taken > known {
        return Err(newer(taken, known));
    }
    let mut after = taken;
    if let Some(step) = usize::try_from(taken).ok().and_then(|taken| steps.get(taken)) {
        for statement in *step {
            connection.run(statement).await.map_err(failed)?;
        }
        after += 1;
        let row =
            [Column::Text([Some("version")].into_iter().collect()), Column::Int(vec![Some(after)])];
        connection.store(sql::SET_VERSION, &row, &[0]).await.map_err(failed)?;
    }
    connection.run("COMMIT").await.map_err(failed)?;
    Ok(Step { before, after })
}

/// The version found; none where nothing is.
async fn version(connection: &mut Connection) -> Result<Option<i64>, Fault> {
    let there = match connection {
        // Not to_regclass: it may answer from a cache that is older than the
        // lock that was just waited for.
        Connection::Postgres(_) => {
            "SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = 'shawk' AND c.relname = 'meta' AND c.relkind IN ('r', 'p')"
        }
        Connection::Sqlite(_) => {
            of_this_program(connection).await?;
            "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'meta'"
        }
    };
    if single(connection, there).await?.unwrap_or(0) == 0 {
        return Ok(None);
    }
    single(connection, sql::VERSION).await
}

/// A SQLite file with tables and without our mark is not ours to write to.
async fn of_this_program(connection: &mut Connection) -> Result<(), Fault> {
    // In this order: who creates the scheme at this moment commits the mark and
    // the tables together, so a table that is seen has its mark.
    let tables = single(connection, "SELECT count(*) FROM sqlite_schema").await?.unwrap_or(0);
    let application = single(connection, "PRAGMA application_id").await?.unwrap_or(0);
    if application == APPLICATION || (application == 0 && tables == 0) {
        return Ok(());
    }
    Err(Fault::Refused(
        "the file is a database of another program; it was left as it is: name another file"
            .to_owned(),
    ))
}

/// The number that a statement gives.
pub(crate) async fn single(
    connection: &mut Connection,
    statement: &'static str,
) -> Result<Option<i64>, Fault> {
    let none: [Value<'_>; 0] = [];
    let first = connection.fetch(statement, &none, |row| row.int(0)).await;
    Ok(first.map_err(|e| fault(&e))?.first().copied())
}

fn version_of(steps: &Steps) -> i64 {
    i64::try_from(steps.len()).unwrap_or(i64::MAX)
}

fn newer(found: i64, known: i64) -> Fault {
    Fault::Scheme(format!(
        "its scheme is version {found} and this shawk knows {known}: upgrade shawk on this machine"
    ))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::cmdb::connect::{Limits, Pool};
    use crate::cmdb::url::CmdbUrl;

    const ONE: &[&str] = &["CREATE TABLE first (a BIGINT)", "INSERT INTO first VALUES (1)"];
    const TWO: &[&str] = &["ALTER TABLE first ADD COLUMN b BIGINT"];
    const THREE: &[&str] = &["UPDATE first SET b = 3", "SELECT no_such_column FROM first"];

    #[tokio::test]
    async fn steps_are_taken_once_and_whole() {
        let url = CmdbUrl::parse("sqlite::memory:").unwrap();
        let pool = Pool::new(&url, &Limits::STANDARD);
        let mut lease = pool.take().await.unwrap();
        let connection = lease.connection();
        assert_eq!(create(connection, &[ONE]).await, Ok(Change::Created(1)));
        assert_eq!(create(connection, &[ONE]).await, Ok(Change::Current(1)));
        assert_eq!(create(connection, &[ONE, TWO]).await, Ok(Change::Migrated { from: 1, to: 2 }));
        assert!(matches!(create(connection, &[ONE]).await, Err(Fault::Scheme(_))));

        // A step that fails in its middle leaves nothing of it.
        assert!(create(connection, &[ONE, TWO, THREE]).await.is_err());
        assert_eq!(version(connection).await, Ok(Some(2)));
        assert_eq!(
            single(connection, "SELECT count(*) FROM first WHERE b IS NULL").await,
            Ok(Some(1))
        );
        assert_eq!(check(connection, &[ONE, TWO]).await, Ok(()));
    }
}
