//! `shawk serve`, driven as a probe, a person and a stranger would.

pub(crate) mod collector;
mod labels;
mod replicas;
mod schema;
mod stranger;
mod tls;

use std::net::{TcpListener, TcpStream};

use serde_json::Value;

use crate::postgres;
use crate::serve::collector::{Collector, said, shawk};

/// A SQLite file and a database of PostgreSQL 15, both with their scheme.
pub(crate) fn places(directory: &tempfile::TempDir) -> [String; 2] {
    let postgres = postgres::server(15).tcp_url_for_new_database();
    let created = shawk(&["create-scheme", "--cmdb", &postgres]).output().unwrap();
    assert!(created.status.success(), "{}", said(&created));
    [format!("sqlite:{}/cmdb.db", directory.path().display()), postgres]
}

/// The document that `look` prints, less when it was asked.
fn look(cmdb: &str, words: &[&str]) -> Value {
    let mut command = shawk(&["look", "--cmdb", cmdb, "-o", "json"]);
    let output = command.args(words).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let mut answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    answer.as_object_mut().unwrap().remove("generated");
    answer
}

fn edges_to(answer: &Value, port: u16) -> usize {
    answer["edges"].as_array().unwrap().iter().filter(|edge| edge["port"] == port).count()
}

/// A connection within this machine.
struct Connected {
    port: u16,
    _ends: (TcpStream, TcpStream),
}

fn connected() -> Connected {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    Connected { port, _ends: (client, listener.accept().unwrap().0) }
}

#[test]
fn through_a_collector_everything_is_as_in_the_database() {
    let directory = tempfile::tempdir().unwrap();
    for cmdb in places(&directory) {
        let connected = connected();
        let collector = Collector::start(&cmdb, &[]);
        let probe = shawk(&["probe", "--once", "--mode", "netlink", "--cmdb", &collector.url()]);
        let output = { probe }.output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        for words in [&["served"][..], &["127.0.0.1"], &["served", "--since", "1h", "--depth", "3"]]
        {
            let (mut through, mut direct) = (look(&collector.url(), words), look(&cmdb, words));
            for answer in [&mut through, &mut direct] {
                // A while ago is reckoned from when it was asked.
                answer["query"].as_object_mut().unwrap().remove("since");
            }
            assert_eq!(through, direct, "{words:?}");
            assert_eq!(edges_to(&direct, connected.port), 1, "{direct:#}");
        }
        let mut over_http = collector.get("/api/v1/look?host=served").json();
        over_http.as_object_mut().unwrap().remove("generated");
        assert_eq!(over_http, look(&cmdb, &["--host", "served"]));
        collector.terminate();
        let (status, log) = collector.ended();
        assert!(status.success(), "{log}");
        assert!(!log.contains(postgres::PASSWORD), "{log}");
    }
}

#[test]
fn each_inquiry_is_answered_over_http_as_by_its_command() {
    let directory = tempfile::tempdir().unwrap();
    let cmdb = format!("sqlite:{}/cmdb.db", directory.path().display());
    let _connected = connected();
    let collector = Collector::start(&cmdb, &[]);
    let probe = shawk(&["probe", "--once", "--mode", "netlink", "--cmdb", &collector.url()]);
    let output = { probe }.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    for (words, query, total) in [
        (&["listeners"][..], "listeners", 1..),
        (&["listeners", "served", "--limit", "1"], "listeners?what=served&limit=1", 1..),
    ] {
        for cmdb in [&cmdb, &collector.url()] {
            let mut command = shawk(words);
            let output = command.args(["-o", "json", "--cmdb", cmdb]).output().unwrap();
            assert!(output.status.success(), "{words:?}: {}", said(&output));
            let mut printed: Value = serde_json::from_slice(&output.stdout).unwrap();
            let mut answered = collector.get(&format!("/api/v1/{query}")).json();
            for document in [&mut printed, &mut answered] {
                document.as_object_mut().unwrap().remove("generated");
            }
            assert_eq!(printed, answered, "{words:?}");
            assert!(total.contains(&printed["total"].as_i64().unwrap()), "{printed:#}");
        }
    }
}

#[test]
fn a_collector_is_no_place_to_change_a_scheme_or_to_prune() {
    for arguments in [
        &["create-scheme", "--cmdb", "http://127.0.0.1:7717"][..],
        &["prune", "--older-than", "1h", "--cmdb", "http://127.0.0.1:7717"],
        &["serve", "--cmdb", "http://127.0.0.1:7717"],
        &["serve", "--listen", "0.0.0.0:0", "--cmdb", "sqlite::memory:"],
        &["serve", "--listen", "[::]:0", "--tls-cert", "c", "--tls-key", "k"],
    ] {
        let output = shawk(arguments).output().unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
