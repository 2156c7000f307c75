//! Several collectors before one CMDB, and one that is told to stop.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use sqlx::{Connection, Executor, PgConnection};

use crate::cmdb::{open, report};
use crate::postgres;
use crate::serve::collector::{Collector, said, shawk, until};
use crate::serve::{connected, edges_to, look};

fn database() -> String {
    let cmdb = postgres::server(15).tcp_url_for_new_database();
    let created = shawk(&["create-scheme", "--cmdb", &cmdb]).output().unwrap();
    assert!(created.status.success(), "{}", said(&created));
    cmdb
}

/// Hands connections on to the port that is written there at the time.
fn balancer(to: &Arc<AtomicU16>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let to = Arc::clone(to);
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(("127.0.0.1", to.load(Ordering::SeqCst))) else {
                continue;
            };
            let (from, back) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || carry(from, server));
            std::thread::spawn(move || carry(back, client));
        }
    });
    port
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

#[test]
fn a_probe_goes_from_one_replica_to_another() {
    let cmdb = database();
    let (first, second) = (Collector::start(&cmdb, &[]), Collector::start(&cmdb, &[]));
    let to = Arc::new(AtomicU16::new(first.port));
    let url = format!("http://127.0.0.1:{}", balancer(&to));
    let mut probe = shawk(&["probe", "--mode", "netlink", "--interval", "100ms"]);
    let spool = tempfile::tempdir().unwrap();
    probe.args(["--flush-interval", "200ms", "--cmdb", &url]);
    probe.env("XDG_STATE_HOME", spool.path()).env("STATE_DIRECTORY", spool.path());
    let mut probe = probe.stderr(Stdio::null()).spawn().unwrap();
    let early = connected();
    until("the first has told of a connection", || {
        first.metric("shawk_reports_total{outcome=\"recorded\"}") > 0.0
            && edges_to(&look(&cmdb, &["served"]), early.port) == 1
    });
    to.store(second.port, Ordering::SeqCst);
    first.terminate();
    let (status, log) = first.ended();
    assert!(status.success(), "{log}");
    let late = connected();
    until("the second has told of another", || {
        edges_to(&look(&second.url(), &["served"]), late.port) == 1
    });
    let answer = look(&cmdb, &["served"]);
    assert_eq!(edges_to(&answer, early.port), 1, "{answer:#}");
    // Not told anew as another host, or as another run of the probe.
    assert!(answer["hosts"][0].get("rivals").is_none(), "{answer:#}");
    assert!(second.metric("shawk_reports_total{outcome=\"recorded\"}") > 0.0);
    let pid = rustix::process::Pid::from_child(&probe);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(probe.wait().unwrap().success());
}

/// A database whose hosts nobody can write until it is dropped.
struct Held {
    runtime: tokio::runtime::Runtime,
    connection: Option<PgConnection>,
}

impl Held {
    fn new(cmdb: &str) -> Held {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connection = runtime.block_on(async {
            let mut connection = postgres::connect(cmdb).await;
            connection.execute("BEGIN").await.unwrap();
            connection.execute("LOCK TABLE shawk.host IN SHARE MODE").await.unwrap();
            connection
        });
        Held { runtime, connection: Some(connection) }
    }

    /// Whether somebody waits for it to be let go.
    fn is_waited_for(&mut self) -> bool {
        let connection = self.connection.as_mut().unwrap();
        // In this database: other tests hold others of the same server.
        let waiting = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
            WHERE NOT l.granted AND d.datname = current_database()";
        let count = sqlx::query_scalar::<_, i64>(waiting).fetch_one(connection);
        self.runtime.block_on(count).unwrap() > 0
    }

    fn let_go(mut self) {
        let connection = self.connection.take().unwrap();
        self.runtime.block_on(async { connection.close().await.unwrap() });
    }
}

#[test]
fn what_was_accepted_is_finished_after_sigterm() {
    let cmdb = database();
    let collector = Collector::start(&cmdb, &[]);
    let told = report("web", 0, 1, 60, vec![open("10.0.0.1:22 . sshd", 0, 60)]);
    let later = report("web", 0, 2, 90, vec![open("10.0.0.1:22 . sshd", 0, 90)]);
    let mut held = Held::new(&cmdb);
    std::thread::scope(|scope| {
        let reporting = scope.spawn(|| collector.report(&[&told]));
        until("the report is being recorded", || held.is_waited_for());
        // One request of a host at a time: no host takes the others' room.
        let second = collector.report(&[&later]);
        assert_eq!((second.status, second.code().as_str()), (503, "busy"));
        assert!(second.head.to_ascii_lowercase().contains("retry-after: "), "{}", second.head);
        collector.terminate();
        until("nobody is let in any more", || {
            TcpStream::connect(("127.0.0.1", collector.port)).is_err()
        });
        assert!(!reporting.is_finished());
        held.let_go();
        let reply = reporting.join().unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
    });
    let (status, log) = collector.ended();
    assert!(status.success(), "{log}");
    assert_eq!(look(&cmdb, &["web"])["hosts"][0]["name"], "web");
}

#[test]
fn a_full_queue_sends_away_and_loses_nothing() {
    // Fourteen times this is more than may wait; thirteen times is not.
    const FLOWS: u16 = 10_000;
    const HOSTS: usize = 14;
    let cmdb = database();
    let collector = Collector::start(&cmdb, &[]);
    let held = Held::new(&cmdb);
    let began = Instant::now();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..HOSTS)
            .map(|number| {
                let collector = &collector;
                scope.spawn(move || {
                    let flows = (1..=FLOWS)
                        .map(|port| open(&format!("10.0.0.1:{port} . x"), 0, 60))
                        .collect();
                    let told = report(&format!("host-{number}"), 0, 1, 60, flows);
                    let reply = collector.report(&[&told]);
                    if reply.status == 503 {
                        // A machine that is busy itself may not write in time.
                        assert!(["busy", "away"].contains(&reply.code().as_str()));
                        assert!(reply.head.to_ascii_lowercase().contains("retry-after: "));
                    }
                    reply.status
                })
            })
            .collect();
        until("one is sent away", || asked.iter().any(|asked| asked.is_finished()));
        held.let_go();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    let recorded = statuses.iter().filter(|status| **status == 200).count();
    let sent_away = statuses.iter().filter(|status| **status == 503).count();
    assert_eq!(recorded + sent_away, HOSTS, "{statuses:?} after {:?}", began.elapsed());
    assert!(sent_away > 0 && recorded > 0, "{statuses:?}");
    let flows = collector.metric("shawk_flows_recorded_total");
    assert_eq!(flows, recorded as f64 * f64::from(FLOWS));
    assert_eq!(collector.metric("shawk_queue_flows"), 0.0);
    assert!(began.elapsed() < Duration::from_secs(120));
}

#[test]
fn a_file_that_is_removed_under_a_collector_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cmdb.db");
    let cmdb = format!("sqlite:{}", path.display());
    let collector = Collector::start(&cmdb, &[]);
    let told = report("web", 0, 1, 60, vec![open("10.0.0.1:22 . sshd", 0, 60)]);
    assert_eq!(collector.report(&[&told]).status, 200);
    for entry in std::fs::read_dir(directory.path()).unwrap().map(Result::unwrap) {
        std::fs::remove_file(entry.path()).unwrap();
    }
    until("it takes reports again", || collector.report(&[&told]).status == 200);
    until("it is ready again", || collector.get("/readyz").status == 200);
    assert_eq!(look(&cmdb, &["web"])["hosts"][0]["name"], "web");
}
