//! What goes wrong in the middle of something: a process that is killed while
//! it makes the scheme, a lost race, a server that sends its clients away,
//! damage found late.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use shawk::cmdb::scheme::Change;
use shawk::cmdb::{Cmdb, sql};
use shawk::recall::Window;
use sqlx::{AssertSqlSafe, Executor, Row};

use crate::cmdb::{LIMITS, Place, Raw, key, open, record, report, run};
use crate::postgres;

fn create_scheme(place: &Place, before: &[&str]) -> Command {
    let words = before.iter().copied().chain([env!("CARGO_BIN_EXE_shawk"), "create-scheme"]);
    let words: Vec<&str> = words.collect();
    let mut command = Command::new(words[0]);
    let url = match &place.raw {
        Raw::Sqlite(path) => format!("sqlite:{}", path.display()),
        Raw::Postgres(url) => url.clone(),
    };
    command.args(&words[1..]).env("SHAWK_CMDB_URL", url);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn kill(child: &mut std::process::Child) {
    child.kill().expect("send SIGKILL");
    child.wait().expect("wait for it");
}

/// The kernel kills a process that writes beyond RLIMIT_FSIZE (SIGXFSZ, and
/// nothing of ours runs after it): one process for each page that it would
/// write, so one for each place where it can be interrupted.
#[test]
fn a_process_killed_at_any_write_leaves_a_sqlite_scheme_old_or_new() {
    run(None, async |place: Place| {
        let path = place.directory.path().join("shawk.db");
        let (mut killed, mut between, mut done) = (0, 0, 0);
        for limit in (0..).map(|page: u64| page * 2048) {
            for left in ["shawk.db", "shawk.db-wal", "shawk.db-shm"] {
                let _ = std::fs::remove_file(place.directory.path().join(left));
            }
            let limit = format!("--fsize={limit}");
            let status = create_scheme(&place, &["prlimit", &limit, "--core=0"]).status();
            let lived = status.expect("run prlimit").success();
            assert!(lived || path.exists() || limit == "--fsize=0", "it did not begin");
            let created = Cmdb::create_scheme(&place.url, &LIMITS).await.expect("create");
            match created.change {
                Change::Created(_) => killed += 1,
                Change::Current(_) => done += 1,
                // After a step, none of the next: it is taken as if at leisure.
                Change::Migrated { from: 1.., .. } => between += 1,
                Change::Migrated { .. } => panic!("before the first step: {created}"),
            }
            Cmdb::open(&place.url, &LIMITS).await.expect("open").close().await;
            if lived {
                break;
            }
        }
        let times = format!("{killed} times old, {between} between, {done} new");
        assert!(killed > 20 && between > 0 && done > 0, "{times}");
    });
}

/// A table or index of the same name that somebody is about to make stops the
/// process at each of its statements in turn; there it is killed.
#[test]
fn a_process_killed_at_any_statement_leaves_a_postgres_scheme_at_a_step() {
    run(Some(15), async |place: Place| {
        let Raw::Postgres(url) = &place.raw else { unreachable!("it is PostgreSQL") };
        let mut watcher = postgres::connect(url).await;
        watcher.execute("CREATE SCHEMA shawk").await.expect("create");
        let steps = (0_i64..).zip(sql::STEPS.iter());
        let statements: Vec<(i64, &str)> =
            steps.flat_map(|(version, step)| step.iter().map(move |it| (version, *it))).collect();
        assert!(statements.len() > 10);
        for (version, statement) in statements {
            let words: Vec<&str> = statement.split_whitespace().collect();
            // What is in its way, and what it would leave.
            let (name, taken, made) = match words[..] {
                ["CREATE", "TABLE" | "INDEX", name, ..] => (
                    name,
                    format!("CREATE TABLE shawk.{name} (a int)"),
                    format!("AND c.relname = '{name}'"),
                ),
                ["ALTER", "TABLE", table, "ADD", "COLUMN", name, ..] => (
                    name,
                    format!("LOCK TABLE shawk.{table}"),
                    format!(
                        "AND EXISTS (SELECT FROM pg_attribute a
                            WHERE a.attrelid = c.oid AND a.attname = '{name}')"
                    ),
                ),
                _ => panic!("what is made here? {statement}"),
            };
            let mut blocker = postgres::connect(url).await;
            let taken = format!("BEGIN; {taken}");
            blocker.execute(sqlx::raw_sql(AssertSqlSafe(taken))).await.expect("take the name");
            let mut child = create_scheme(&place, &[]).spawn().expect("spawn");
            let waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'shawk'
                AND datname = current_database() AND wait_event_type = 'Lock'";
            until(&mut watcher, waits, 1).await;
            kill(&mut child);
            blocker.execute("ROLLBACK").await.expect("free the name");
            let gone = "SELECT count(*) FROM pg_stat_activity
                WHERE application_name = 'shawk' AND datname = current_database()";
            until(&mut watcher, gone, 0).await;
            // Nothing of this step, and all of those before it.
            let left =
                "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = 'shawk'";
            let left = if version == 0 { left.to_owned() } else { format!("{left} {made}") };
            assert_eq!(count(&mut watcher, &left).await, 0, "left after {name}");
            if version > 0 {
                let found = "SELECT value FROM shawk.meta WHERE name = 'version'";
                assert_eq!(count(&mut watcher, found).await, version);
            }
        }
        assert_eq!(
            Cmdb::create_scheme(&place.url, &LIMITS).await.expect("create").change,
            Change::Migrated { from: 2, to: 3 }
        );
        Cmdb::open(&place.url, &LIMITS).await.expect("open").close().await;
    });
}

async fn count(connection: &mut sqlx::PgConnection, statement: &str) -> i64 {
    let row = connection
        .fetch_one(sqlx::raw_sql(AssertSqlSafe(statement.to_owned())))
        .await
        .expect("a test's own statement");
    row.get_unchecked(0)
}

async fn until(connection: &mut sqlx::PgConnection, statement: &'static str, wanted: i64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while count(connection, statement).await != wanted {
        assert!(Instant::now() < deadline, "waited in vain for {wanted} of {statement}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const WRITER_WAITS: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'shawk' AND datname = current_database() AND wait_event_type = 'Lock'";

/// Somebody holds the later of two hosts and wants the earlier: the writer
/// loses (40P01) and wins the next time. Then its connection is taken away in
/// the middle of a transaction (57P01).
#[test]
fn a_lost_race_and_a_lost_connection_are_tried_again() {
    run(Some(15), async |place: Place| {
        let Raw::Postgres(url) = &place.raw else { unreachable!("it is PostgreSQL") };
        let cmdb = place.cmdb().await;
        let told = |sequence| {
            let until = i64::try_from(sequence).expect("small") * 10;
            ["a", "b"].map(|name| {
                let flows = vec![open("10.0.0.1 > 10.0.0.2:80 curl", 1, until)];
                report(name, 0, sequence, until, flows)
            })
        };
        record(&cmdb, &told(1)).await;
        let (first, last) = (key("a").min(key("b")), key("a").max(key("b")));
        let mut other = postgres::connect(url).await;
        let mut watcher = postgres::connect(url).await;
        let hold =
            |host| AssertSqlSafe(format!("UPDATE shawk.host SET rung = rung WHERE host = {host}"));
        other.execute("BEGIN").await.expect("begin");
        other.execute(sqlx::raw_sql(hold(last))).await.expect("hold the later");
        let [a, b] = told(2);
        let against = async {
            until(&mut watcher, WRITER_WAITS, 1).await;
            other.execute(sqlx::raw_sql(hold(first))).await.expect("the writer gives way");
            other.execute("COMMIT").await.expect("commit");
        };
        let reports = [&a, &b];
        let (recorded, ()) = tokio::join!(cmdb.record(&reports), against);
        recorded.expect("recorded at a later try");
        let lost = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
        until(&mut watcher, lost, 1).await;

        other.execute("BEGIN").await.expect("begin");
        other.execute(sqlx::raw_sql(hold(last))).await.expect("hold the later");
        let [a, b] = told(3);
        let against = async {
            until(&mut watcher, WRITER_WAITS, 1).await;
            let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE application_name = 'shawk' AND datname = current_database() AND state <> 'idle'";
            assert_eq!(count(&mut watcher, end).await, 1);
            until(&mut watcher, WRITER_WAITS, 1).await;
            other.execute("COMMIT").await.expect("commit");
        };
        let reports = [&a, &b];
        let (recorded, ()) = tokio::join!(cmdb.record(&reports), against);
        recorded.expect("recorded through another connection");
        let records = cmdb.around(&[first, last], &[], &Window::default()).await.expect("around");
        assert_eq!(records.hosts.len(), 2);
        assert!(records.hosts.iter().all(|host| host.last_seen == b.until));
    });
}

/// Pages in the middle of the file, found by whoever gets there.
#[test]
fn damage_that_is_found_late_is_said_and_left_alone() {
    run(None, async |place: Place| {
        let cmdb = place.cmdb().await;
        let flows = |n: i64| {
            (1..=2000)
                .map(|port| open(&format!("10.0.0.1 > 10.0.0.2:{port} curl"), 1, n * 10))
                .collect()
        };
        record(&cmdb, &[report("a", 0, 1, 10, flows(1))]).await;
        cmdb.close().await;
        let path = place.directory.path().join("shawk.db");
        damage(&path);
        let before = std::fs::read(&path).expect("read");
        let cmdb = Cmdb::open(&place.url, &LIMITS).await.expect("its first pages are whole");
        let read = cmdb.around(&[key("a")], &[], &Window::default()).await;
        let written = cmdb.record(&[&report("a", 0, 2, 20, flows(2))]).await;
        for error in [read.expect_err("damaged"), written.expect_err("damaged")] {
            let text = format!("{error:#}");
            assert!(text.contains("is damaged") && text.contains("left as it is"), "{text}");
        }
        cmdb.close().await;
        assert!(std::fs::read(&path).expect("read").len() >= before.len(), "it was not made anew");
    });
}

/// Overwrites all but the first pages, where the scheme and the roots of the
/// tables are.
fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).expect("read");
    let from = 24 * 4096;
    assert!(bytes.len() > 2 * from);
    bytes[from..].fill(0xa5);
    std::fs::write(path, bytes).expect("write");
}

/// As a process leaves it that is killed between two tables.
#[cfg(citus)]
#[test]
fn tables_that_are_not_spread_yet_are_spread_with_what_is_in_them() {
    crate::cmdb::run_on_citus(async |place: Place| {
        let cmdb = place.cmdb().await;
        record(&cmdb, &[report("a", 0, 1, 10, vec![open("10.0.0.1 > 10.0.0.2:80 curl", 1, 10)])])
            .await;
        let before = place.dump().await;
        for table in ["flow", "span", "hour"] {
            place.raw(&format!("SELECT undistribute_table('shawk.{table}')::text")).await;
        }
        let again = Cmdb::create_scheme(&place.url, &LIMITS).await.expect("create");
        assert_eq!(again.spread.expect("there is Citus").distributed, 3);
        assert_eq!(place.dump().await, before);
        let again = Cmdb::create_scheme(&place.url, &LIMITS).await.expect("create");
        assert_eq!(again.spread.expect("there is Citus").distributed, 0);
        record(&cmdb, &[report("a", 0, 2, 20, vec![open("10.0.0.1 > 10.0.0.2:80 curl", 1, 20)])])
            .await;
    });
}
