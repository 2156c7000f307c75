//! More connections than there is room for: who is known stays, and who comes
//! finds a place.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::serve::collector::{Collector, said, shawk, until};
use crate::serve::tokens::reader;

/// One with 32 places, and who may ask.
fn small(directory: &tempfile::TempDir) -> (Collector, String) {
    let cmdb = format!("sqlite:{}/cmdb.db", directory.path().display());
    let created = shawk(&["create-scheme", "--cmdb", &cmdb]).output().unwrap();
    assert!(created.status.success(), "{}", said(&created));
    let me = reader(&cmdb);
    let serve = shawk(&["serve", "--listen", "127.0.0.1:0", "--require-auth", "--cmdb", &cmdb]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 96; exec \"$0\" \"$@\""]);
    limited.arg(serve.get_program()).args(serve.get_args());
    for (name, value) in serve.get_envs() {
        value.map(|value| limited.env(name, value));
    }
    (Collector::start_as(limited), me)
}

/// The status of an answer on a connection that is kept.
fn ask(stream: &mut TcpStream, path: &str, more: &str) -> std::io::Result<u16> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{more}\r\n")?;
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(char::from(byte[0]));
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    stream.read_exact(&mut vec![0; length.parse().unwrap()])?;
    Ok(head.split(' ').nth(1).unwrap().parse().unwrap())
}

fn connect(collector: &Collector) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", collector.port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

#[test]
fn strangers_keep_nobody_out() {
    let directory = tempfile::tempdir().unwrap();
    let (collector, me) = small(&directory);
    let bearer = format!("Authorization: Bearer {me}\r\n");
    let mut known = connect(&collector);
    assert_eq!(ask(&mut known, "/metrics", &bearer).unwrap(), 200);
    // Twice as many as there are places, each after the other: with a request;
    // with nothing at all; with a token that is none.
    let mut strangers = Vec::new();
    for round in 0..3 {
        for _ in 0..64 {
            let mut stranger = connect(&collector);
            match round {
                0 => assert_eq!(ask(&mut stranger, "/healthz", "").unwrap(), 200),
                1 => {}
                _ => stranger.write_all(b"GET /metrics HTTP/1.1\r\nAuthor").unwrap(),
            }
            strangers.push(stranger);
        }
        assert_eq!(collector.get_as(&me, "/api/v1/look?host=x").status, 200, "{round}");
        assert_eq!(collector.get("/readyz").status, 200, "{round}");
        assert_eq!(ask(&mut known, "/metrics", &bearer).unwrap(), 200, "{round}");
    }
    // The first of them is gone, and the last is not.
    assert!(ask(&mut strangers[0], "/healthz", "").is_err());
    assert_eq!(collector.get("/healthz").status, 200);
    let text = collector.get_as(&me, "/metrics").text();
    let closed = Collector::metric_in(&text, "shawk_strangers_closed_total");
    assert!((160.0..=200.0).contains(&closed), "{closed}");
    assert!(Collector::metric_in(&text, "shawk_connections") <= 32.0, "{text}");
    let log = collector.log();
    assert_eq!(log.matches("all 32 connections that there may be are open").count(), 1, "{log}");
    assert!(log.contains("31 of them by strangers (31 from 127.0.0.1)"), "{log}");
}

#[test]
fn who_is_known_gives_way_to_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let (collector, me) = small(&directory);
    let bearer = format!("Authorization: Bearer {me}\r\n");
    let mut known: Vec<TcpStream> = (0..32).map(|_| connect(&collector)).collect();
    for known in &mut known {
        assert_eq!(ask(known, "/metrics", &bearer).unwrap(), 200);
    }
    assert!(ask(&mut connect(&collector), "/healthz", "").is_err());
    for known in &mut known {
        assert_eq!(ask(known, "/metrics", &bearer).unwrap(), 200);
    }
    assert!(collector.log().contains("new ones are closed"), "{}", collector.log());
    // Until the token is good no more: then the connection ends.
    let mut last = known.pop().unwrap();
    assert_eq!(ask(&mut last, "/metrics", "Authorization: Bearer x\r\n").unwrap(), 401);
    assert_eq!(last.read(&mut [0]).unwrap(), 0);
    until("there is a place", || ask(&mut connect(&collector), "/healthz", "").is_ok());
}

#[test]
fn a_stranger_is_not_waited_for_as_long_as_an_agent() {
    let directory = tempfile::tempdir().unwrap();
    let (collector, me) = small(&directory);
    let (mut stranger, mut known) = (connect(&collector), connect(&collector));
    let bearer = format!("Authorization: Bearer {me}\r\n");
    assert_eq!(ask(&mut known, "/metrics", &bearer).unwrap(), 200);
    let began = Instant::now();
    assert_eq!(ask(&mut stranger, "/healthz", "").unwrap(), 200);
    assert_eq!(stranger.read(&mut [0]).unwrap(), 0);
    let waited = began.elapsed().as_secs();
    assert!((9..20).contains(&waited), "{waited} s");
    assert_eq!(ask(&mut known, "/metrics", &bearer).unwrap(), 200);
}
