//! Connections: opens them, keeps the few that are idle, limits how long
//! anybody waits. It knows SQLite's file; it must not know a statement.

use std::fs::{DirBuilder, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::cmdb::engine::Connection;
use crate::cmdb::engine::postgres::Postgres;
use crate::cmdb::engine::sqlite::Sqlite;
use crate::cmdb::fault::{Fault, fault};
use crate::cmdb::spread::is_spread;
use crate::cmdb::url::{CmdbUrl, Place};

/// How long and how wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For a connection: name look-up, handshake, the check of the scheme.
    /// Also for SQLite's locks.
    pub connect: Duration,
    /// For one statement, and for one whole question.
    pub read: Duration,
    /// For one call of `record`.
    pub write: Duration,
    /// Connections at once, at least 1.
    pub connections: usize,
}

impl Limits {
    /// What the commands use: an answer, or a reason, within five seconds.
    pub const STANDARD: Limits = Limits {
        connect: Duration::from_millis(4500),
        read: Duration::from_secs(5),
        write: Duration::from_secs(30),
        connections: 2,
    };
}

/// So much later than the server gives up a statement its word of that must be
/// here, or the way to it is broken.
const SILENCE: Duration = Duration::from_secs(3);

/// The connections to one CMDB.
pub(crate) struct Pool {
    url: CmdbUrl,
    limits: Limits,
    idle: Mutex<Vec<Connection>>,
    /// Device and inode of the file, where it is one, as of the last look.
    file: Mutex<Option<(u64, u64)>>,
    free: Arc<Semaphore>,
}

/// A connection in use. It is closed when dropped: a call that failed or was
/// given up has left it in a state nobody knows. [`Lease::give_back`] keeps it.
pub(crate) struct Lease<'a> {
    pool: &'a Pool,
    held: Held,
}

/// What is leased: it can go to another thread and come back.
pub(crate) struct Held {
    pub(crate) connection: Connection,
    _free: OwnedSemaphorePermit,
}

impl Pool {
    pub(crate) fn new(url: &CmdbUrl, limits: &Limits) -> Pool {
        // Each connection to memory is a database of its own.
        let connections = match url.place() {
            Place::Memory => 1,
            _ => limits.connections.max(1),
        };
        Pool {
            url: url.clone(),
            limits: *limits,
            idle: Mutex::new(Vec::new()),
            file: Mutex::new(None),
            free: Arc::new(Semaphore::new(connections)),
        }
    }

    pub(crate) fn url(&self) -> &CmdbUrl {
        &self.url
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// A connection, idle or new.
    pub(crate) async fn take(&self) -> Result<Lease<'_>, Fault> {
        let waiting = timeout(self.limits.connect, Arc::clone(&self.free).acquire_owned()).await;
        let free = match waiting {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(Fault::Refused("it was closed".to_owned())),
            Err(_) => return Err(late("all its connections were in use", self.limits.connect)),
        };
        if !self.is_in_place() {
            self.forget();
            return Err(Fault::Away("its file was removed or replaced".to_owned()));
        }
        let idle = self.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => timeout(self.limits.connect, connect(&self.url, &self.limits))
                .await
                .unwrap_or_else(|_| Err(late("no connection", self.limits.connect)))?,
        };
        Ok(Lease { pool: self, held: Held { connection, _free: free } })
    }

    /// Whether the file that idle connections have open is still the one at its
    /// path. SQLite goes on writing to a file that was removed or replaced, and
    /// nobody would ever read that again.
    fn is_in_place(&self) -> bool {
        let Place::File(path) = self.url.place() else { return true };
        let found = std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
        let mut known = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let in_place = known.is_none() || *known == found;
        *known = found;
        in_place
    }

    /// Closes what is idle, and waits for it: SQLite then has its log written
    /// back into the one file.
    pub(crate) async fn close(self) {
        self.free.close();
        let idle = std::mem::take(&mut *self.lock());
        for connection in idle {
            // A failure to say goodbye changes nothing that was committed.
            let _ = match connection {
                Connection::Sqlite(sqlite) => spawn_blocking(|| sqlite.close()).await.is_ok(),
                Connection::Postgres(postgres) => postgres.close().await.is_ok(),
            };
        }
    }

    /// Forgets the idle connections: the server they led to is gone.
    pub(crate) fn forget(&self) {
        if !matches!(self.url.place(), Place::Memory) {
            self.lock().clear();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Lease<'a> {
    pub(crate) fn connection(&mut self) -> &mut Connection {
        &mut self.held.connection
    }

    /// Lets go of what is held, for [`Lease::again`].
    pub(crate) fn apart(self) -> (&'a Pool, Held) {
        (self.pool, self.held)
    }

    pub(crate) fn again(pool: &'a Pool, held: Held) -> Lease<'a> {
        Lease { pool, held }
    }

    /// Keeps the connection for the next who asks. No transaction is open.
    pub(crate) fn give_back(self) {
        self.pool.lock().push(self.held.connection);
    }
}

/// The words for a wait that was too long.
pub(crate) fn late(what: &str, limit: Duration) -> Fault {
    Fault::Away(format!("{what} within {} s", limit.as_secs_f64()))
}

async fn connect(url: &CmdbUrl, limits: &Limits) -> Result<Connection, Fault> {
    match url.place() {
        Place::Memory => sqlite(None, limits.connect).await,
        Place::File(path) => sqlite(Some(path.clone()), limits.connect).await,
        Place::Postgres(options) => postgres(options, limits).await,
        Place::Remote(_) => Err(Fault::Refused("it is behind a collector".to_owned())),
    }
}

async fn sqlite(file: Option<PathBuf>, patience: Duration) -> Result<Connection, Fault> {
    let opening = spawn_blocking(move || {
        if let Some(file) = &file {
            create_file(file).map_err(|error| Fault::Refused(error.to_string()))?;
        }
        Sqlite::open(file.as_deref(), patience).map_err(|error| fault(&error))
    });
    let opened = opening.await.unwrap_or_else(|error| Err(Fault::Away(error.to_string())))?;
    Ok(Connection::Sqlite(Box::new(opened)))
}

/// The file says who talks to whom, so it and the directories made for it are
/// the owner's alone. SQLite gives its log the mode of the file.
fn create_file(path: &Path) -> std::io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// The settings are made by a statement rather than in the start-up message,
/// which a connection pooler in between may refuse. `join_collapse_limit`:
/// tables are joined in the order in which [`crate::cmdb::sql`] writes them.
/// `random_page_cost`: the default is a spinning disk's, for which reading all
/// spans of all hosts is often cheaper than looking some up. `enable_hashjoin`,
/// `enable_mergejoin`: rows are looked up one by one, by their keys; a planner
/// may find reading a table of all hosts cheaper, which it is until there are
/// more of them. `max_parallel_workers_per_gather`: to start a worker takes ten
/// times as long as the answer. `jit`: compiling a
/// statement takes longer than all of ours do, and before version 17 a server
/// keeps some memory of each until the connection ends; version 10 has none.
/// A writer that falls silent in the middle of a transaction holds the rows of
/// its hosts until the server gives it up, and whoever takes its place waits for
/// them: so after five seconds between two statements, and where the server
/// waits for the rest of one, after eight without a sign from the way to it
/// (`tcp_user_timeout` is of version 12; all of these mean nothing to a socket
/// of the same machine).
async fn postgres(options: &PgConnectOptions, limits: &Limits) -> Result<Connection, Fault> {
    let mut options = options.clone();
    if options.get_application_name().is_none() {
        options = options.application_name("shawk");
    }
    let opening = Postgres::open(options, limits.read + SILENCE);
    let mut connected = opening.await.map_err(|error| fault(&error))?;
    let settings = format!(
        "SET search_path = shawk; SET join_collapse_limit = 1; SET random_page_cost = 1.1; \
        SET enable_hashjoin = off; SET enable_mergejoin = off; \
        SET max_parallel_workers_per_gather = 0; \
        SELECT set_config('jit', 'off', false) WHERE current_setting('jit', true) IS NOT NULL; \
        SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 3; \
        SELECT set_config('tcp_user_timeout', '8s', false) \
        WHERE current_setting('tcp_user_timeout', true) IS NOT NULL; \
        SET statement_timeout = {0}; SET idle_in_transaction_session_timeout = {0}",
        limits.read.as_millis()
    );
    connected.run(&settings).await.map_err(|error| fault(&error))?;
    let mut connection = Connection::Postgres(Box::new(connected));
    if is_spread(&mut connection).await?
        && let Connection::Postgres(postgres) = &mut connection
    {
        postgres.spread();
    }
    Ok(connection)
}
