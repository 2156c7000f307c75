//! `POST /v1/recall` by who means harm: what one asks costs nobody else much.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use shawk::wire;
use shawk::wire::recall::{Question, encode_question};

use crate::cmdb::{open, report};
use crate::serve::collector::{Collector, Reply};
use crate::serve::tokens::{reader, writer};

fn head(token: &str, length: usize) -> String {
    format!(
        "POST /v1/recall HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nConnection: close\r\nContent-Type: application/x-protobuf\r\nContent-Encoding: zstd\r\nContent-Length: {length}\r\n\r\n"
    )
}

fn ask(collector: &Collector, token: &str, question: &[u8]) -> Reply {
    let body = wire::pack(question);
    collector.ask(&head(token, body.len()), &body)
}

/// `Question.around.addresses`, each of no bytes: two bytes that were made a
/// list of 24.
fn empty_addresses(bytes: usize) -> Vec<u8> {
    let mut question = vec![0x08, 1, 5 << 3 | 2];
    let mut length = bytes;
    while length >= 0x80 {
        question.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    question.push(u8::try_from(length).unwrap());
    question.extend([3 << 3 | 2, 0].repeat(bytes / 2));
    question
}

/// The most memory it has had, in MiB.
fn peak(collector: &Collector) -> usize {
    let path = format!("/proc/{}/status", collector.pid());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() >> 10
}

fn started(directory: &tempfile::TempDir) -> (Collector, String, String) {
    let cmdb = format!("sqlite:{}/cmdb.db", directory.path().display());
    let collector = Collector::start(&cmdb, &["--require-auth"]);
    (collector, writer(&cmdb, "web"), reader(&cmdb))
}

#[test]
fn a_small_question_that_inflates_costs_little_memory() {
    let directory = tempfile::tempdir().unwrap();
    let (collector, host, me) = started(&directory);
    let before = peak(&collector);
    let bomb = empty_addresses(30 << 20);
    assert!(wire::pack(&bomb).len() < 4096, "{}", wire::pack(&bomb).len());
    // A host asks of its own only, and who reads, of not so much.
    for (token, question, status, code) in [
        (&host, &bomb, 413, "too_large"),
        (&me, &bomb, 413, "too_large"),
        (&me, &empty_addresses(4_000_000), 400, "malformed"),
    ] {
        let reply = ask(&collector, token, question);
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{}", reply.text());
    }
    let grown = peak(&collector) - before;
    assert!(grown < 30, "{grown} MiB");
}

#[test]
fn who_asks_and_does_not_go_on_keeps_no_probe_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let (collector, host, me) = started(&directory);
    let slow: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", collector.port)).unwrap();
            stream.write_all(head(&me, 4 << 20).as_bytes()).unwrap();
            stream.write_all(b"x").unwrap();
            stream
        })
        .collect();
    // They are accepted in their order: those came before this one.
    assert_eq!(collector.get_as(&me, "/metrics").status, 200);
    let began = Instant::now();
    let reply = ask(&collector, &host, &encode_question(&Question::Check));
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    drop(slow);
}

#[test]
fn questions_by_the_dozen_keep_no_report_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let (collector, host, me) = started(&directory);
    let bomb = wire::pack(&empty_addresses(30 << 20));
    let head = head(&me, bomb.len());
    let asked: Vec<TcpStream> = (0..48)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", collector.port)).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&bomb).unwrap();
            stream
        })
        .collect();
    let began = Instant::now();
    let mut told = report("web", 0, 1, 60, vec![open("10.0.0.1:22 . sshd", 0, 60)]);
    told.host.id = "web".to_owned();
    let reply = collector.report_as(&host, &[&told]);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    drop(asked);
}
