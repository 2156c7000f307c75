//! The CMDB's contract, the same tests on SQLite, on PostgreSQL 10, 15 and 18
//! and, when [`crate::citus`] is there, on Citus. Here: the places to test in, and how tests write reports.

mod claims;
mod contract;
mod engines;
mod failure;
mod finding;
mod forgetting;
mod identity;
mod order;
mod tokens;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use shawk::cmdb::Cmdb;
use shawk::cmdb::connect::Limits;
use shawk::cmdb::url::CmdbUrl;
use shawk::flow::host::{Coverage, Host, Rung};
use shawk::flow::key::{Counters, FlowKey, HostFlow};
use shawk::flow::process::{Instance, Process};
use shawk::flow::report::{FlowReport, Report, ScopedAddress};
use shawk::flow::socket::{Direction, Protocol};
use shawk::recall::{FlowRecord, HostKey, Records, Window};
use sqlx::{AssertSqlSafe, Executor, Row};

use crate::postgres;

/// Where a test's CMDB is.
pub(crate) struct Place {
    pub(crate) url: CmdbUrl,
    /// The same as the driver has it, to look behind the CMDB's back.
    raw: Raw,
    /// Removed when the test is over.
    pub(crate) directory: tempfile::TempDir,
}

#[derive(Clone)]
enum Raw {
    Sqlite(std::path::PathBuf),
    Postgres(String),
}

/// Runs a test in a new place: SQLite for no version.
pub(crate) fn run(version: Option<u32>, test: impl AsyncFn(Place)) {
    let directory = tempfile::tempdir().expect("make a directory");
    let raw = match version {
        None => Raw::Sqlite(directory.path().join("shawk.db")),
        Some(version) => Raw::Postgres(postgres::server(version).tcp_url_for_new_database()),
    };
    run_in(raw, directory, test);
}

/// Runs a test in a new database of the Citus cluster that is named.
#[cfg(citus)]
pub(crate) fn run_on_citus(test: impl AsyncFn(Place)) {
    let database = crate::citus::Database::new();
    let directory = tempfile::tempdir().expect("make a directory");
    run_in(Raw::Postgres(database.url()), directory, test);
}

fn run_in(raw: Raw, directory: tempfile::TempDir, test: impl AsyncFn(Place)) {
    let text = match &raw {
        Raw::Sqlite(path) => format!("sqlite:{}", path.display()),
        Raw::Postgres(url) => url.clone(),
    };
    let place = Place { url: CmdbUrl::parse(&text).expect("a test's own URL"), raw, directory };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(test(place));
}

/// One `#[test]` for each engine and each of these functions.
macro_rules! on_every_engine {
    ($($name:ident),+ $(,)?) => {
        mod sqlite { $(#[test] fn $name() { crate::cmdb::run(None, super::$name); })+ }
        mod postgres_10 { $(#[test] fn $name() { crate::cmdb::run(Some(10), super::$name); })+ }
        mod postgres_15 { $(#[test] fn $name() { crate::cmdb::run(Some(15), super::$name); })+ }
        mod postgres_18 { $(#[test] fn $name() { crate::cmdb::run(Some(18), super::$name); })+ }
        #[cfg(citus)]
        mod citus { $(#[test] fn $name() { crate::cmdb::run_on_citus(super::$name); })+ }
    };
}
pub(crate) use on_every_engine;

pub(crate) const LIMITS: Limits = Limits {
    connect: Duration::from_secs(20),
    read: Duration::from_secs(20),
    write: Duration::from_secs(60),
    connections: 4,
};

impl Place {
    /// A CMDB with its scheme.
    pub(crate) async fn cmdb(&self) -> Cmdb {
        Cmdb::create_scheme(&self.url, &LIMITS).await.expect("create the scheme");
        Cmdb::open(&self.url, &LIMITS).await.expect("open")
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        matches!(self.raw, Raw::Sqlite(_))
    }

    pub(crate) async fn is_spread(&self) -> bool {
        let extension = "SELECT extname::text FROM pg_extension WHERE extname = 'citus'";
        !self.is_sqlite() && !self.raw(extension).await.is_empty()
    }

    /// All rows of a statement's first column, as text.
    pub(crate) async fn raw(&self, statement: &str) -> Vec<String> {
        match &self.raw {
            Raw::Sqlite(path) => sqlite(path, statement, 0),
            Raw::Postgres(url) => {
                let statement = sqlx::raw_sql(AssertSqlSafe(statement));
                let mut connection = postgres::connect(url).await;
                connection.execute("SET search_path = shawk").await.expect("set");
                let rows = connection.fetch_all(statement).await.expect("a test's own statement");
                rows.iter().map(|row| row.get_unchecked(0)).collect()
            }
        }
    }

    /// Every row of every table, in order.
    pub(crate) async fn dump(&self) -> Vec<String> {
        let mut all = Vec::new();
        for table in ["host", "epoch", "address", "process", "flow", "span", "hour"] {
            // All but the skew: it tells when a report arrived.
            let statement = if table == "epoch" {
                "SELECT host || ',' || epoch || ',' || since || ',' || until || ',' || sequence || ',' || name FROM epoch".to_owned()
            } else if self.is_sqlite() {
                let columns = self
                    .raw(&format!(
                        "SELECT 'quote(' || name || ')' FROM pragma_table_info('{table}')"
                    ))
                    .await;
                format!("SELECT {} FROM {table}", columns.join("||','||"))
            } else {
                format!("SELECT CAST(t AS text) FROM {table} t")
            };
            let mut rows = self.raw(&statement).await;
            rows.sort();
            all.extend(rows.into_iter().map(|row| format!("{table} {row}")));
        }
        all
    }
}

/// One column of all rows of a statement, as text.
pub(crate) fn sqlite(path: &std::path::Path, statement: &str, column: usize) -> Vec<String> {
    use rusqlite::types::ValueRef;
    let connection = rusqlite::Connection::open(path).expect("open the file");
    connection.busy_timeout(LIMITS.connect).expect("set");
    let mut statement = connection.prepare(statement).expect("a test's own statement");
    let text = |row: &rusqlite::Row<'_>| match row.get_ref(column)? {
        ValueRef::Integer(int) => Ok(int.to_string()),
        other => Ok(other.as_str()?.to_owned()),
    };
    // Of a plan no values are given.
    statement.raw_query().mapped(text).collect::<Result<_, _>>().expect("a test's own statement")
}

/// Seconds after a fixed moment.
/// In the past by any clock: what is yet to come is not to be pruned.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_763_971_200 + seconds).expect("in range")
}

pub(crate) fn between(since: i64, until: i64) -> Window {
    Window { since: Some(at(since)), until: Some(at(until)) }
}

pub(crate) fn host(name: &str) -> Host {
    Host { id: format!("id-of-{name}"), name: name.to_owned() }
}

pub(crate) fn key(name: &str) -> HostKey {
    host(name).hash()
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("a test's own address")
}

pub(crate) fn process(name: &str) -> Arc<Process> {
    Arc::new(Process {
        name: name.to_owned(),
        exe: Some(format!("/usr/bin/{name}")),
        user: Some("root".to_owned()),
        unit: None,
        container: None,
        pod: None,
    })
}

/// A report of the epoch that began at `from`.
pub(crate) fn report(
    name: &str,
    from: i64,
    sequence: u64,
    until: i64,
    flows: Vec<FlowReport>,
) -> Report {
    Report {
        host: host(name),
        epoch: at(from).as_microsecond(),
        sequence,
        rung: Rung::Netlink,
        from: at(from),
        until: at(until),
        sent: at(until),
        coverage: Coverage { sockets: sequence, ..Coverage::default() },
        addresses: Vec::new(),
        flows,
    }
}

/// With addresses that the host has since the report's epoch began.
pub(crate) fn with_addresses(mut report: Report, addresses: &[&str]) -> Report {
    report.addresses = addresses.iter().map(|address| scoped("", address, &report)).collect();
    report
}

pub(crate) fn scoped(scope: &str, address: &str, report: &Report) -> ScopedAddress {
    ScopedAddress { scope: scope.into(), address: ip(address), since: report.from, ended: None }
}

/// `10.0.0.1 > 10.0.0.2:80 curl`, `10.0.0.2:80 < 10.0.0.1 nginx`,
/// `10.0.0.2:80 . nginx` (a listener).
pub(crate) fn flow(text: &str) -> HostFlow {
    let mut words: Vec<&str> = text.split(' ').collect();
    let process = process(words.pop().expect("a process"));
    let (local, local_port) = end(words[0]);
    let peer = words.get(2).map(|word| end(word));
    HostFlow {
        owners: vec![Instance { process: process.clone(), pid: 7, pgid: 7, started: at(-100) }],
        key: FlowKey {
            scope: "".into(),
            direction: if words[1] == ">" { Direction::Active } else { Direction::Passive },
            protocol: Protocol::Tcp,
            local,
            local_port,
            peer: peer.map(|peer| peer.0),
            peer_port: peer.and_then(|peer| peer.1),
            process: Some(process),
        },
        owners_more: 0,
        tentative: false,
        counters: Counters { open: 1, ..Counters::default() },
    }
}

fn end(word: &str) -> (IpAddr, Option<u16>) {
    match word.parse::<SocketAddr>() {
        Ok(both) => (both.ip(), Some(both.port())),
        Err(_) => (ip(word), None),
    }
}

/// A span that is still open.
pub(crate) fn open(text: &str, since: i64, seen: i64) -> FlowReport {
    FlowReport { flow: flow(text), since: at(since), seen: at(seen), ended: false }
}

/// A span that is over.
pub(crate) fn over(text: &str, since: i64, seen: i64) -> FlowReport {
    FlowReport { ended: true, ..open(text, since, seen) }
}

pub(crate) async fn record(cmdb: &Cmdb, reports: &[Report]) {
    for report in reports {
        let recorded = cmdb.record(&[report]).await.expect("record");
        assert_eq!(recorded.refused, 0);
    }
}

/// What a flow is, in the form that [`flow`] reads.
pub(crate) fn name(record: &FlowRecord) -> String {
    let key = &record.flow.key;
    let side = |address: IpAddr, port: Option<u16>| match port {
        Some(port) => SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    };
    let arrow = match (key.peer, key.direction) {
        (None, _) => " . ".to_owned(),
        (Some(peer), Direction::Active) => format!(" > {} ", side(peer, key.peer_port)),
        (Some(peer), _) => format!(" < {} ", side(peer, key.peer_port)),
    };
    let process = key.process.as_ref().map_or("?", |process| process.name.as_str());
    format!("{}{arrow}{process}", side(key.local, key.local_port))
}

/// The flows' names, sorted.
pub(crate) fn names(records: &Records) -> Vec<String> {
    let mut names: Vec<String> = records.flows.iter().map(name).collect();
    names.sort();
    names
}

/// The spans of the one flow there is: since, until (seconds), over.
pub(crate) fn spans(records: &Records) -> Vec<(i64, i64, bool)> {
    assert_eq!(records.flows.len(), 1, "{records:?}");
    let seconds = |time: Timestamp| time.as_second() - at(0).as_second();
    records.flows[0]
        .spans
        .iter()
        .map(|span| (seconds(span.since), seconds(span.until), span.ended))
        .collect()
}
