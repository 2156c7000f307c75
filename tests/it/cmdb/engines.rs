//! What is of one engine, and what is wrong with a CMDB: not there, slow,
//! restarted, damaged, somebody else's; and that the look-ups use indexes.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use shawk::cmdb::connect::Limits;
use shawk::cmdb::engine::sqlite::for_sqlite;
use shawk::cmdb::fault::{Fault, is_away};
use shawk::cmdb::spread::worded;
use shawk::cmdb::url::CmdbUrl;
use shawk::cmdb::{Cmdb, sql};
use shawk::recall::{Selector, Window};

use crate::cmdb::{
    LIMITS, Place, key, names, on_every_engine, open, record, report, run, sqlite, with_addresses,
};
use crate::postgres;

on_every_engine! {
    look_ups_use_an_index,
    readers_see_what_is_committed_while_somebody_writes,
}

/// A collector asks from tasks that may move between threads.
#[expect(dead_code, reason = "that it compiles is the test")]
fn every_call_may_move_between_threads(cmdb: &Cmdb, url: &CmdbUrl) {
    fn moves(_: impl Send) {}
    moves(Cmdb::open(url, &LIMITS));
    moves(Cmdb::create_scheme(url, &LIMITS));
    moves(cmdb.record(&[]));
    moves(cmdb.find(&Selector::Port(1), &Window::default()));
    moves(cmdb.around(&[], &[], &Window::default()));
}

async fn fleet(cmdb: &Cmdb) {
    let both = (0..2).flat_map(|round| (0..50).map(move |host| (round, host)));
    let reports: Vec<_> = both
        .map(|(round, host)| {
            let text = |n: i32| {
                format!("10.0.{host}.1 > 10.1.{}.{}:{} app{}", n / 200, n % 200, n % 50, n)
            };
            // Each flow has a span that is over and one that is not.
            let flows =
                (0..400).map(|n| open(&text(n), 1 + 100 * round, 10 + 100 * round)).collect();
            let addresses: Vec<String> = (1..=60).map(|n| format!("10.0.{host}.{n}")).collect();
            let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
            let sequence = 1 + u64::try_from(round).expect("small");
            let told = report(&format!("h{host}"), 0, sequence, 10 + 100 * round, flows);
            with_addresses(told, &addresses)
        })
        .collect();
    for report in &reports {
        cmdb.record(&[report]).await.expect("record");
    }
}

/// The tables are large enough that a planner reads a whole one only if it
/// must. Twice: without statistics, as a CMDB is at first, and with.
async fn look_ups_use_an_index(place: Place) {
    let cmdb = place.cmdb().await;
    place
        .raw(if place.is_sqlite() {
            "SELECT 1"
        } else {
            "ALTER TABLE flow SET (autovacuum_enabled = off)"
        })
        .await;
    fleet(&cmdb).await;
    check_plans(&place).await;
    place.raw("ANALYZE").await;
    check_plans(&place).await;
}

/// What the CMDB itself asks for.
const MOST: &str = "500001";

async fn check_plans(place: &Place) {
    let host = key("h1");
    let (hosts, address) = (format!("'{{{host}}}'"), "'\\x00000000000000000000ffff0a010001'");
    let addresses = "'{\"\\\\x00000000000000000000ffff0a010001\"}'";
    for (statement, third, fourth, fifth, index) in [
        (sql::FLOWS_TO_ADDRESSES, addresses, MOST, "", "flow_peer"),
        (sql::FLOWS_OF_HOSTS, hosts.as_str(), MOST, "", "flow_pkey"),
        (sql::address::OWNERS_OF_ADDRESSES, addresses, MOST, "", "address_owner"),
        (sql::claim::LIVE_OWNERS, MOST, "", "", "address_owner"),
        (sql::address::ADDRESSES_OF_HOSTS, hosts.as_str(), MOST, "", "address_pkey"),
        (sql::address::HOSTS_BY_ADDRESS, address, address, MOST, "address_owner"),
        (sql::PEERS_BY_ADDRESS, address, address, MOST, "flow_peer"),
        (sql::HOSTS_BY_PROCESS, "'redis'", MOST, "", "process_name"),
        (sql::HOSTS_BY_PORT, "5", MOST, "", "flow_local_port"),
        (sql::PEERS_BY_PORT, "77", MOST, "", "flow_peer_port"),
    ] {
        let first = if statement == sql::claim::LIVE_OWNERS { addresses } else { "0" };
        let values = [first, "9000000000000000", third, fourth, fifth];
        let plan = if place.is_sqlite() {
            sqlite_plan(place, statement)
        } else {
            let mut explained = worded(statement, place.is_spread().await);
            for (at, value) in values.iter().enumerate().rev() {
                explained = explained.replace(&format!("${}", at + 1), value);
            }
            let explained = explained.replace("CMDB_TIME", "1800000000000000");
            place
                .raw(&format!(
                    "SET join_collapse_limit = 1; SET random_page_cost = 1.1; EXPLAIN {explained}"
                ))
                .await
                .join("\n")
        };
        if place.is_spread().await {
            // A shard is small enough to be read whole; but it is to be one.
            let of_hosts = third == hosts;
            let mut counts = plan.lines().filter_map(|line| line.split_once("Task Count: "));
            let one_shard = counts.all(|(_, tasks)| tasks == "1");
            assert_eq!(one_shard, of_hosts, "{statement}\n{plan}");
            continue;
        }
        let index =
            if place.is_sqlite() && index.ends_with("_pkey") { "PRIMARY KEY" } else { index };
        assert!(plan.contains(index), "{statement}\n{plan}");
        for whole in [
            "Seq Scan on flow",
            "Seq Scan on span",
            "Seq Scan on address",
            "SCAN f",
            "SCAN s",
            "SCAN a",
            "SCAN n",
        ] {
            assert!(!plan.contains(whole), "{statement}\n{plan}");
        }
    }
}

fn sqlite_plan(place: &Place, statement: &str) -> String {
    let path = place.directory.path().join("shawk.db");
    let explained = format!("EXPLAIN QUERY PLAN {}", for_sqlite(statement));
    sqlite(&path, &explained, 3).join("\n")
}

/// With no time at all, any question to a server takes too long.
#[test]
fn a_question_that_takes_too_long_is_told_what_to_do() {
    run(Some(15), async |place: Place| {
        place.cmdb().await.close().await;
        let hasty = Limits { read: Duration::ZERO, ..LIMITS };
        let cmdb = Cmdb::open(&place.url, &hasty).await.expect("open");
        let asked = cmdb.around(&[key("a")], &[], &Window::default()).await;
        let error = asked.expect_err("is late");
        let text = format!("{error:#}");
        assert!(is_away(&error) && text.contains("narrow --since and --until"), "{text}");
    });
}

async fn readers_see_what_is_committed_while_somebody_writes(place: Place) {
    let cmdb = place.cmdb().await;
    record(&cmdb, &[report("a", 0, 1, 10, vec![open("10.0.0.1 > 10.0.0.2:80 curl", 1, 10)])]).await;
    let reader = Cmdb::open(&place.url, &LIMITS).await.expect("open");
    let begin = if place.is_sqlite() { "BEGIN IMMEDIATE" } else { "BEGIN" };
    let mut writer = Writer::begin(&place, begin).await;
    writer.run("UPDATE host SET name = 'half done'").await;
    let started = Instant::now();
    let records = reader.around(&[key("a")], &[], &Window::default()).await.expect("around");
    assert_eq!(records.hosts[0].name, "a");
    let another = Cmdb::open(&place.url, &LIMITS).await.expect("open");
    assert_eq!(
        another.around(&[key("a")], &[], &Window::default()).await.expect("around").flows.len(),
        1
    );
    assert!(started.elapsed() < Duration::from_secs(2), "nobody waited");
    writer.run("COMMIT").await;
    let records = reader.around(&[key("a")], &[], &Window::default()).await.expect("around");
    assert_eq!(records.hosts[0].name, "half done");
}

/// A transaction behind the CMDB's back.
enum Writer {
    Sqlite(rusqlite::Connection),
    Postgres(sqlx::PgConnection),
}

impl Writer {
    async fn begin(place: &Place, begin: &'static str) -> Writer {
        let mut writer = if place.is_sqlite() {
            let path = place.directory.path().join("shawk.db");
            Writer::Sqlite(rusqlite::Connection::open(path).expect("open the file"))
        } else {
            let crate::cmdb::Raw::Postgres(url) = &place.raw else {
                unreachable!("it is no SQLite")
            };
            let mut writer = Writer::Postgres(postgres::connect(url).await);
            writer.run("SET search_path = shawk").await;
            writer
        };
        writer.run(begin).await;
        writer
    }

    async fn run(&mut self, statement: &'static str) {
        match self {
            Writer::Sqlite(sqlite) => sqlite.execute_batch(statement).expect("a test's own"),
            Writer::Postgres(postgres) => {
                sqlx::raw_sql(statement).execute(postgres).await.expect("a test's own");
            }
        }
    }
}

#[test]
fn a_database_without_a_scheme_names_the_command_that_makes_it() {
    run(Some(15), async |place: Place| {
        let error = Cmdb::open(&place.url, &LIMITS).await.err().expect("refused");
        assert!(matches!(error.downcast_ref(), Some(Fault::Scheme(_))), "{error:?}");
        assert!(format!("{error:#}").contains("run shawk create-scheme"), "{error:#}");
        // Half of the scheme is no scheme.
        place.cmdb().await.close().await;
        place.raw("DELETE FROM meta").await;
        let error = Cmdb::open(&place.url, &LIMITS).await.err().expect("refused");
        assert!(format!("{error:#}").contains("run shawk create-scheme"), "{error:#}");
    });
}

/// Each of these fails within the time limit, in one line, without the
/// password.
#[test]
fn a_cmdb_that_cannot_be_reached_is_said_in_time_and_without_the_password() {
    let there = postgres::server(15).tcp_url_for_new_database();
    // Accepts, and never says a word.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
    let mute = mute.local_addr().expect("bound");
    let secret = postgres::PASSWORD;
    for (url, away) in [
        (there.replace(secret, "wrong-s3cr3t"), false),
        (there.replace("cmdb_", "no_such_"), false),
        (format!("postgres://shawk:{secret}@127.0.0.1:1/cmdb"), true),
        (format!("postgres://shawk:{secret}@{mute}/cmdb?sslmode=disable"), true),
        (format!("postgres://shawk:{secret}@host.invalid/cmdb"), true),
        (format!("postgres://shawk:{secret}@localhost/cmdb?host=/nonexistent"), true),
        (there.replace("sslmode=disable", "sslmode=require"), true),
        ("sqlite:/proc/shawk.db".to_owned(), false),
        ("sqlite:/tmp".to_owned(), false),
    ] {
        let limits = Limits { connect: Duration::from_secs(2), ..Limits::STANDARD };
        let url = CmdbUrl::parse(&url).expect("a good URL");
        let started = Instant::now();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let error = runtime.block_on(Cmdb::open(&url, &limits)).err().expect("cannot be opened");
        let (short, long) = (format!("{error:#}"), format!("{error:?} {url} {url:?}"));
        assert!(started.elapsed() < Duration::from_secs(4), "{short}: {:?}", started.elapsed());
        assert!(!short.contains("s3cr3t") && !long.contains("s3cr3t"), "{long}");
        assert!(short.contains(&url.to_string()) && !short.contains('\n'), "{short}");
        assert_eq!(is_away(&error), away, "{short}");
        let has_no_tls = long.contains("sslmode=require");
        assert_eq!(short.contains("sslrootcert=FILE"), has_no_tls, "{short}");
        runtime.shutdown_background();
    }
}

/// A server that is stopped, killed and started again under an open CMDB.
#[test]
fn a_restarted_server_is_written_to_again_at_once() {
    let server = postgres::own_server(18, &[]);
    let url = CmdbUrl::parse(&server.url_for_new_database()).expect("a good URL");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        Cmdb::create_scheme(&url, &LIMITS).await.expect("create");
        let cmdb = Cmdb::open(&url, &LIMITS).await.expect("open");
        let told = |sequence: i64| {
            let until = sequence * 10;
            let text = format!("10.0.0.1 > 10.0.0.2:{sequence} curl");
            report(
                "a",
                0,
                u64::try_from(sequence).expect("small"),
                until,
                vec![open(&text, 1, until)],
            )
        };
        record(&cmdb, &[told(1)]).await;
        server.stop();
        let error = cmdb.record(&[&told(2)]).await.expect_err("it is away");
        assert!(is_away(&error), "{error:#}");
        let error =
            cmdb.around(&[key("a")], &[], &Window::default()).await.expect_err("it is away");
        assert!(is_away(&error), "{error:#}");
        server.start_again();
        record(&cmdb, &[told(2)]).await;
        server.kill();
        server.start_again();
        // Its connection died unnoticed; that is nobody's concern.
        record(&cmdb, &[told(3)]).await;
        let records = cmdb.around(&[key("a")], &[], &Window::default()).await.expect("around");
        assert_eq!(records.flows.len(), 3, "{:?}", names(&records));
    });
}

#[test]
fn an_embedded_cmdb_makes_itself_for_its_owner_alone() {
    run(None, async |place: Place| {
        let path = place.directory.path().join("new/deep/shawk.db");
        let url = CmdbUrl::parse(&format!("sqlite:{}", path.display())).expect("a good URL");
        let cmdb = Cmdb::open(&url, &LIMITS).await.expect("open");
        record(&cmdb, &[report("a", 0, 1, 10, vec![])]).await;
        let mode = |path: &std::path::Path| {
            path.metadata().expect("is there").permissions().mode() & 0o777
        };
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&path.with_extension("db-wal")), 0o600);
        assert_eq!(mode(path.parent().expect("has one")), 0o700);
        cmdb.close().await;
        assert!(!path.with_extension("db-wal").exists(), "the last to close leaves one file");
        let memory = CmdbUrl::parse("sqlite::memory:").expect("a good URL");
        let memory = Cmdb::open(&memory, &LIMITS).await.expect("open");
        record(&memory, &[report("a", 0, 1, 10, vec![open("10.0.0.1 > 10.0.0.2:80 curl", 1, 10)])])
            .await;
        assert_eq!(
            memory.around(&[key("a")], &[], &Window::default()).await.expect("around").flows.len(),
            1
        );
    });
}

/// Each file is refused, by all who would open it, and left as it is.
#[test]
fn a_foreign_or_damaged_file_is_said_and_left_alone() {
    run(None, async |place: Place| {
        place.cmdb().await.close().await;
        let ours = std::fs::read(place.directory.path().join("shawk.db")).expect("read");
        let mut damaged = ours.clone();
        damaged[100..].fill(0xa5);
        let foreign = place.directory.path().join("foreign.db");
        rusqlite::Connection::open(&foreign)
            .and_then(|connection| connection.execute_batch("CREATE TABLE host (name TEXT)"))
            .expect("create");
        let foreign = std::fs::read(foreign).expect("read");
        for (bytes, says) in [
            (
                b"#!/bin/sh\necho this is no database, but longer than its header is\n".repeat(9),
                "no SQLite database",
            ),
            (damaged, "damaged"),
            (foreign, "another program"),
        ] {
            let path = place.directory.path().join("some.db");
            std::fs::write(&path, &bytes).expect("write");
            let url = CmdbUrl::parse(&format!("sqlite:{}", path.display())).expect("a good URL");
            let open = Cmdb::open(&url, &LIMITS).await.err().expect("refused");
            let create = Cmdb::create_scheme(&url, &LIMITS).await.expect_err("refused");
            for error in [open, create] {
                let text = format!("{error:#}");
                assert!(text.contains(says) && text.contains("left as it is"), "{text}");
                assert!(!is_away(&error), "{text}");
            }
            assert_eq!(std::fs::read(&path).expect("read"), bytes, "{says}");
        }
    });
}
