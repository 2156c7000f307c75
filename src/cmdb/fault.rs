//! What can be wrong with a CMDB, told apart where somebody acts on it. It
//! knows the drivers' error codes, so that nobody else has to.
//!
//! A [`Fault`] is the root of the `anyhow::Error`s that this room returns.

use std::fmt;

/// What a driver says.
#[derive(Debug)]
pub(crate) enum Error {
    Sqlite(rusqlite::Error),
    Postgres(sqlx::Error),
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        Error::Sqlite(error)
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Error {
        Error::Postgres(error)
    }
}

/// The driver's words without its preamble, in one line. Messages of a server
/// may have several lines, and quote names that are not ours.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Error::Sqlite(error) => error.to_string(),
            Error::Postgres(sqlx::Error::Database(told)) => told.message().to_owned(),
            Error::Postgres(sqlx::Error::Io(io)) => io.to_string(),
            Error::Postgres(error) => error.to_string(),
        };
        f.write_str(&text.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

/// Why the CMDB did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not there, gone, busy or too slow: the same call may work later.
    Away(String),
    /// Its scheme is missing, older or newer; the text says what to do.
    Scheme(String),
    /// It refused, and will refuse again: permission, a damaged file, a text
    /// it cannot store.
    Refused(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Fault::Away(text) | Fault::Scheme(text) | Fault::Refused(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for Fault {}

/// Whether trying again later may help: the agent then keeps what it has.
pub fn is_away(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<Fault>(), Some(Fault::Away(_)))
}

/// Whether it will be refused again until somebody does something about it.
pub fn is_refused(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<Fault>(), Some(Fault::Refused(_)))
}

/// What a driver's error means for the transaction it happened in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The transaction lost against another: do it again at once.
    Again,
    /// The connection is of no use any more, or the server is overloaded: the
    /// same with another connection, a little later.
    Away,
    /// It took longer than it may. Trying again at once would only add to it.
    Slow,
    /// One of the rows cannot be stored.
    Row,
    /// There is no such table.
    NoScheme,
    /// Anything else.
    Refused,
}

// SQLite's primary result codes: https://www.sqlite.org/rescode.html
const SQLITE_BUSY: i32 = 5;
const SQLITE_LOCKED: i32 = 6;
const SQLITE_INTERRUPT: i32 = 9;
const SQLITE_IOERR: i32 = 10;
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_FULL: i32 = 13;
const SQLITE_TOOBIG: i32 = 18;
const SQLITE_CONSTRAINT: i32 = 19;
const SQLITE_MISMATCH: i32 = 20;
const SQLITE_NOTADB: i32 = 26;

pub(crate) fn meaning(error: &Error) -> Meaning {
    use sqlx::Error::{Database, Io, Protocol, Tls, WorkerCrashed};
    match error {
        Error::Sqlite(error) => of_sqlite(sqlite_code(error)),
        Error::Postgres(Database(told)) => of_sqlstate(&told.code().unwrap_or_default()),
        Error::Postgres(Io(_) | Tls(_) | Protocol(_) | WorkerCrashed) => Meaning::Away,
        Error::Postgres(_) => Meaning::Refused,
    }
}

/// The extended result code; 0 for what is none of the engine's.
fn sqlite_code(error: &rusqlite::Error) -> i32 {
    error.sqlite_error().map_or(0, |error| error.extended_code)
}

/// PostgreSQL's codes: appendix A of its manual.
fn of_sqlstate(code: &str) -> Meaning {
    match code {
        // Serialization failure, deadlock.
        "40001" | "40P01" => Meaning::Again,
        // A statement or a lock took too long.
        "57014" | "55P03" => Meaning::Slow,
        // A session that was ended for being idle.
        "25P02" | "25P03" => Meaning::Away,
        // Undefined table, schema that does not exist.
        "42P01" | "3F000" => Meaning::NoScheme,
        _ => match code.get(..2) {
            // Connection, insufficient resources, shut down or starting up,
            // transaction rolled back, I/O.
            Some("08" | "53" | "57" | "40" | "58") => Meaning::Away,
            // Data, integrity, program limit (an index row that is too long).
            Some("22" | "23" | "54") => Meaning::Row,
            _ => Meaning::Refused,
        },
    }
}

fn of_sqlite(extended: i32) -> Meaning {
    match extended & 0xff {
        // The engine has already waited for the lock as long as it may.
        SQLITE_BUSY | SQLITE_LOCKED | SQLITE_INTERRUPT | SQLITE_IOERR | SQLITE_FULL => {
            Meaning::Slow
        }
        SQLITE_TOOBIG | SQLITE_CONSTRAINT | SQLITE_MISMATCH => Meaning::Row,
        _ => Meaning::Refused,
    }
}

/// What a piece of work with a connection fails with: the driver's error, from
/// which it may be tried again, or a fault that is known for what it is.
#[derive(Debug)]
pub(crate) enum Trouble {
    Driver(Error),
    Known(Fault),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Driver(error)
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Trouble {
        Trouble::Known(fault)
    }
}

impl Trouble {
    pub(crate) fn meaning(&self) -> Meaning {
        match self {
            Trouble::Driver(error) => meaning(error),
            Trouble::Known(Fault::Away(_)) => Meaning::Away,
            Trouble::Known(Fault::Scheme(_)) => Meaning::NoScheme,
            Trouble::Known(Fault::Refused(_)) => Meaning::Refused,
        }
    }

    /// For work that only a driver can fail.
    pub(crate) fn driver(self) -> Error {
        match self {
            Trouble::Driver(error) => error,
            Trouble::Known(fault) => unreachable!("a driver fails with its own error: {fault}"),
        }
    }

    pub(crate) fn fault(self) -> Fault {
        match self {
            Trouble::Driver(error) => fault(&error),
            Trouble::Known(fault) => fault,
        }
    }
}

/// A driver's error as the fault it is, in one line.
pub(crate) fn fault(error: &Error) -> Fault {
    let mut text = error.to_string();
    if is_of_tls(error) {
        text += ": name its authority with sslrootcert=FILE, and the server as its certificate does; or choose another sslmode, if the way to it is safe without";
    }
    match meaning(error) {
        Meaning::Again | Meaning::Away | Meaning::Slow => Fault::Away(text),
        Meaning::NoScheme => {
            Fault::Scheme(format!("it has no scheme of shawk's ({text}): run shawk create-scheme"))
        }
        Meaning::Row | Meaning::Refused => Fault::Refused(match damaged(error) {
            Some(damage) => {
                format!("{damage}; it was left as it is: move it away or restore a copy")
            }
            None => text,
        }),
    }
}

/// The server has no TLS, or no certificate that is to be trusted.
fn is_of_tls(error: &Error) -> bool {
    match error {
        Error::Postgres(sqlx::Error::Tls(_)) => true,
        Error::Postgres(sqlx::Error::Io(io)) => {
            let inner = io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
        }
        _ => false,
    }
}

fn damaged(error: &Error) -> Option<&'static str> {
    let Error::Sqlite(error) = error else { return None };
    match sqlite_code(error) & 0xff {
        SQLITE_NOTADB => Some("the file is no SQLite database"),
        SQLITE_CORRUPT => Some("the file is damaged"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_race_is_not_a_bad_row_is_not_an_absence() {
        for (code, means) in [
            ("40001", Meaning::Again),
            ("40P01", Meaning::Again),
            ("08006", Meaning::Away),
            ("57P01", Meaning::Away),
            ("57P03", Meaning::Away),
            ("53300", Meaning::Away),
            ("57014", Meaning::Slow),
            ("55P03", Meaning::Slow),
            ("57P05", Meaning::Away),
            ("22021", Meaning::Row),
            ("23505", Meaning::Row),
            ("54000", Meaning::Row),
            ("42P01", Meaning::NoScheme),
            ("42501", Meaning::Refused),
            ("28P01", Meaning::Refused),
            ("", Meaning::Refused),
        ] {
            assert_eq!(of_sqlstate(code), means, "{code}");
        }
        // SQLITE_BUSY_SNAPSHOT, SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_NOTADB.
        assert_eq!(of_sqlite(517), Meaning::Slow);
        assert_eq!(of_sqlite(1555), Meaning::Row);
        assert_eq!(of_sqlite(26), Meaning::Refused);
    }

    #[test]
    fn a_fault_is_found_under_its_context() {
        let away = anyhow::Error::new(Fault::Away("gone".to_owned())).context("record a report");
        assert!(is_away(&away));
        assert!(!is_away(&anyhow::anyhow!("gone")));
    }
}
