//! `shawk serve`, driven as a probe, a person and a stranger would.

mod claims;
pub(crate) mod collector;
mod crowd;
mod labels;
mod pages;
mod questions;
mod replicas;
mod schema;
mod stranger;
mod tls;
pub(crate) mod tokens;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::cmdb::{open, report, with_addresses};
use crate::postgres;
use crate::serve::collector::{Collector, said, shawk, until};

/// A SQLite file and a database of PostgreSQL 15, both with their scheme.
pub(crate) fn places(directory: &tempfile::TempDir) -> [String; 2] {
    let postgres = postgres::server(15).tcp_url_for_new_database();
    let created = shawk(&["create-scheme", "--cmdb", &postgres]).output().unwrap();
    assert!(created.status.success(), "{}", said(&created));
    [format!("sqlite:{}/cmdb.db", directory.path().display()), postgres]
}

/// A document less when it was asked, and what is reckoned from that.
fn timeless(mut answer: Value) -> Value {
    answer.as_object_mut().unwrap().remove("generated");
    for note in answer["notes"].as_array_mut().unwrap() {
        let text = note.as_str().unwrap();
        let word = |word: &str| {
            let age = word.strip_suffix('s').is_some_and(|age| age.parse::<u32>().is_ok());
            if age { "AGE".to_owned() } else { word.to_owned() }
        };
        *note = text.split(' ').map(word).collect::<Vec<_>>().join(" ").into();
    }
    answer
}

/// The document that `look` prints, timeless.
fn look(cmdb: &str, words: &[&str]) -> Value {
    let mut command = shawk(&["look", "--cmdb", cmdb, "-o", "json"]);
    let output = command.args(words).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    timeless(serde_json::from_slice(&output.stdout).unwrap())
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
        let over_http = timeless(collector.get("/api/v1/look?host=served").json());
        assert_eq!(over_http, look(&cmdb, &["--host", "served"]));
        collector.terminate();
        let (status, log) = collector.ended();
        assert!(status.success(), "{log}");
        assert!(!log.contains(postgres::PASSWORD), "{log}");
    }
}

/// A collector that was told of this machine's sockets.
fn with_this_host(cmdb: &str) -> Collector {
    let collector = Collector::start(cmdb, &[]);
    let probe = shawk(&["probe", "--once", "--mode", "netlink", "--cmdb", &collector.url()]);
    let output = { probe }.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    collector
}

#[test]
fn each_inquiry_is_answered_over_http_as_by_its_command() {
    let directory = tempfile::tempdir().unwrap();
    let cmdb = format!("sqlite:{}/cmdb.db", directory.path().display());
    let _connected = connected();
    let collector = with_this_host(&cmdb);
    for (words, query, total) in [
        (&["listeners"][..], "listeners", 1..),
        (&["impact", "--host", "served"], "impact?host=served", 0..),
        (
            &["policy", "--host", "served", "--direction", "both"],
            "policy?host=served&direction=both",
            0..,
        ),
        (&["diff", "--from", "2026-01-31T12:00:00Z"], "diff?from=2026-01-31T12:00:00Z", 0..),
        (&["failing"], "failing", 0..),
        (
            &["unexplained", "--since", "2026-01-31T12:00:00Z"],
            "unexplained?since=2026-01-31T12:00:00Z",
            0..,
        ),
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
                // What is asked about as of now differs by when it was asked.
                document.as_object_mut().unwrap().remove("to");
                if let Some(next) = document["next"].as_str() {
                    let (place, _moment) = next.rsplit_once('-').unwrap();
                    document["next"] = place.into();
                }
                for note in document["notes"].as_array_mut().into_iter().flatten() {
                    *note = note.as_str().unwrap().replace(|c: char| c.is_ascii_digit(), "").into();
                }
                if let Some(text) = document["text"].as_str() {
                    let lines = text.lines().filter(|line| !line.contains(" was watched for "));
                    document["text"] = lines.collect::<Vec<_>>().join("\n").into();
                }
                if words == ["failing"] {
                    document["query"].as_object_mut().unwrap().remove("since");
                }
                if let Some(text) = document["text"].as_str() {
                    let lines = text.lines().filter(|line| {
                        !line.starts_with("# shawk policy of served, from what was seen until ")
                            && !line.starts_with("# may have missed: served was watched for ")
                    });
                    document["text"] = lines.collect::<Vec<_>>().join("\n").into();
                }
            }
            assert_eq!(printed, answered, "{words:?}");
            assert!(total.contains(&printed["total"].as_i64().unwrap()), "{printed:#}");
        }
    }
}

/// Reads XML, and says how many of each element there are.
const READ_XML: &str = "
import sys, collections, xml.etree.ElementTree as tree
found = collections.Counter(e.tag.split('}')[1] for e in tree.parse(sys.stdin).iter())
print(found['graphml'], found['graph'], found['node'], found['edge'])";

/// What another program reads in it; what is no XML fails.
fn read_xml(document: &[u8]) -> String {
    let mut python = Command::new("python3");
    let mut python =
        python.args(["-c", READ_XML]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    python.stdin.take().unwrap().write_all(document).unwrap();
    let read = python.wait_with_output().unwrap();
    assert!(read.status.success(), "no XML: {}", String::from_utf8_lossy(document));
    String::from_utf8(read.stdout).unwrap()
}

#[test]
fn an_export_is_the_same_by_both_ways_and_other_programs_read_it() {
    let directory = tempfile::tempdir().unwrap();
    let cmdb = format!("sqlite:{}/cmdb.db", directory.path().display());
    let _connected = connected();
    let collector = with_this_host(&cmdb);
    let export = |format: &str| {
        let mut command = shawk(&["export", "--host", "served", "-o", format, "--cmdb", &cmdb]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let path = format!("/api/v1/export?host=served&output={format}");
        (output.stdout, collector.get(&path))
    };
    for format in ["csv", "dot", "mermaid", "graphml"] {
        let (printed, answered) = export(format);
        // Ages are of when it was asked; there are none in these.
        assert_eq!(String::from_utf8(printed).unwrap(), String::from_utf8(answered.body).unwrap());
    }
    let (printed, _) = export("json");
    let graph: Value = serde_json::from_slice(&printed).unwrap();
    let edges = graph["edges"].as_array().unwrap().len();
    assert!(edges > 0, "{graph:#}");
    let grafana = collector.get("/api/v1/grafana/api/graph/data?host=served").json();
    assert_eq!(grafana["edges"].as_array().unwrap().len(), edges);
    let all: Value = serde_json::from_slice(&export("grafana").0).unwrap();
    assert_eq!(all["edges"].as_array().unwrap().len(), edges);
    let read = read_xml(&export("graphml").0);
    let nodes = grafana["nodes"].as_array().unwrap().len();
    assert_eq!(read, format!("1 1 {nodes} {edges}\n"));
}

#[test]
fn a_collector_is_no_place_to_change_a_scheme_or_to_prune() {
    for arguments in [
        &["create-scheme", "--cmdb", "http://127.0.0.1:7717"][..],
        &["prune", "--older-than", "1h", "--cmdb", "http://127.0.0.1:7717"],
        &["serve", "--cmdb", "http://127.0.0.1:7717"],
        &["serve", "--listen", "0.0.0.0:0", "--cmdb", "sqlite::memory:"],
        &["serve", "--listen", "[::]:0", "--require-auth", "--cmdb", "sqlite::memory:"],
        &["enrol", "me", "--role", "read", "--cmdb", "https://collector.example"],
        &["tokens", "--cmdb", "https://collector.example"],
        &["revoke", "me", "--cmdb", "https://collector.example"],
    ] {
        let output = shawk(arguments).output().unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn whoever_watches_says_once_that_the_collector_is_away_and_once_that_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let cmdb = format!("sqlite:{}/cmdb.db", directory.path().display());
    let collector = Collector::start(&cmdb, &[]);
    let told = report("web", 0, 1, 60, vec![open("10.0.0.1:80 . nginx", 0, 60)]);
    assert_eq!(collector.report(&[&told]).status, 200);

    let files = ["stdout", "stderr"].map(|name| directory.path().join(name));
    let [stdout, stderr] = files.each_ref().map(|path| std::fs::File::create(path).unwrap());
    let read = |at: usize| std::fs::read_to_string(&files[at]).unwrap();
    let mut watching = shawk(&["drain", "web", "--watch", "--interval", "50ms"]);
    watching.args(["--cmdb", &collector.url()]).stdout(stdout).stderr(stderr);
    let mut watching = watching.spawn().unwrap();
    until("it has an answer", || !read(0).is_empty());
    let listen = format!("127.0.0.1:{}", collector.port);
    collector.terminate();
    collector.ended();
    until("it says that nobody answers", || read(1).contains("WARN"));
    // Long enough for several more attempts, which must pass in silence.
    std::thread::sleep(Duration::from_millis(500));
    let collector = Collector::start_at(&listen, &cmdb, &[]);
    until("it says that somebody does", || read(1).contains("the CMDB answers again"));
    watching.kill().unwrap();
    watching.wait().unwrap();
    let said = read(1);
    assert_eq!((said.matches("WARN").count(), said.lines().count()), (1, 2), "{said}");
    assert_eq!(read(0).lines().count(), 1, "nothing has changed: {}", read(0));
    drop(collector);
}

/// A port of an address or of a host, as trees print it.
#[test]
fn one_service_is_asked_about_by_every_way() {
    let directory = tempfile::tempdir().unwrap();
    let cmdb = format!("sqlite:{}/cmdb.db", directory.path().display());
    let collector = Collector::start(&cmdb, &[]);
    let flows = vec![
        open("10.0.0.1:80 . nginx", 0, 60),
        open("10.0.0.1:443 . envoy", 0, 60),
        open("10.0.0.1:80 < 10.0.0.7 nginx", 0, 60),
        open("10.0.0.1:443 < 10.0.0.8 envoy", 0, 60),
        open("10.0.0.1 > 10.0.0.9:5432 app", 0, 60),
    ];
    let told = with_addresses(report("web", 0, 1, 60, flows), &["10.0.0.1"]);
    assert_eq!(collector.report(&[&told]).status, 200);
    let over_http = |what: &str| look(&collector.url(), &[what]);
    for (what, kind, ends) in [
        ("10.0.0.1:80", "service", &["10.0.0.7"][..]),
        ("web:80", "service", &["10.0.0.7"]),
        ("WEB:443", "service", &["10.0.0.8"]),
        ("10.0.0.9:5432", "service", &["10.0.0.1"]),
        ("10.0.0.9:80", "service", &[]),
        ("10.0.0.1:5432", "service", &[]),
    ] {
        let mut answer = collector.get(&format!("/api/v1/look?what={what}")).json();
        let edges = answer["edges"].as_array().unwrap();
        let callers: Vec<_> = edges.iter().map(|edge| edge["active_address"].clone()).collect();
        assert_eq!(callers, ends, "{what}");
        let selector = &answer["query"]["selector"];
        assert_eq!((&selector["kind"], &selector["value"]), (&kind.into(), &what.into()));
        answer = timeless(answer);
        assert_eq!(answer["edges"], look(&cmdb, &[what])["edges"], "{what}");
        assert_eq!(answer["notes"], over_http(what)["notes"], "{what}");
    }
    let items = |path: &str| collector.get(path).json()["items"].as_array().unwrap().len();
    assert_eq!(items("/api/v1/listeners?what=web:80"), 1);
    assert_eq!(items("/api/v1/listeners?what=10.0.0.1:443"), 1);
    assert_eq!(items("/api/v1/impact?what=10.0.0.1:443"), 1);
    assert_eq!(items("/api/v1/drain?what=web:80"), 1);
    let nothing = collector.get("/api/v1/look?what=web:81").json();
    assert_eq!(nothing["notes"][0], "nothing was ever seen at port 81 of host 'web'");
    for what in ["10.0.0.1:0", "web:70000", "web:"] {
        assert_eq!(collector.get(&format!("/api/v1/look?what={what}")).status, 400, "{what}");
    }
}
