//! What depends on something and who still connects to it, in a fleet whose
//! truth is known.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::cmdb::Cmdb;
use crate::lab::fleet::fleet;
use crate::lab::network::Lab;
use crate::lab::program::{nginx_with_a_file, python, redis, redis_cli};
use crate::lab::ss::listens;
use crate::lab::wait::{self, LIMIT};

/// `host/process`, as it stands in a document.
fn name(who: &Value) -> String {
    let host = who["host"].as_str().unwrap_or("");
    let process = who["process"]["name"].as_str().unwrap_or("");
    format!("{host}/{process}")
}

/// A dependent as a line: steps, who, and the path down with its ports.
fn line(item: &Value) -> String {
    let hops = item["path"].as_array().expect("a path");
    let hops: Vec<String> =
        hops.iter().map(|hop| format!("{}:{}", name(&hop["to"]), hop["port"])).collect();
    format!("{} {} > {}", item["depth"], name(&item["who"]), hops.join(" > "))
}

fn items(document: &Value) -> &Vec<Value> {
    document["items"].as_array().expect("items")
}

fn kinds(doubts: &Value) -> BTreeSet<&str> {
    let doubts = doubts.as_array().expect("doubts").iter();
    doubts.map(|doubt| doubt["kind"].as_str().expect("a kind")).collect()
}

#[test]
fn what_depends_on_a_store_is_exactly_who_calls_it_over_all_steps() {
    let lab = fleet();
    let via_app = "app-1/python3:8080 > db-1/redis-server:6379";
    let truth = [
        "1 app-1/python3 > db-1/redis-server:6379".to_owned(),
        format!("2 web-1/nginx > {via_app}"),
        format!("3 client-1/wrk > web-1/nginx:80 > {via_app}"),
        format!("3 lb-1/haproxy > web-1/nginx:80 > {via_app}"),
        format!("4 client-1/curl > lb-1/haproxy:8000 > web-1/nginx:80 > {via_app}"),
    ];
    for cmdb in lab.recorded(&lab.hosts()) {
        let (document, code) = cmdb.asks(&["impact", "redis-server"]);
        assert_eq!(code, 0);
        let mut lines: Vec<String> = items(&document).iter().map(line).collect();
        lines.sort();
        assert_eq!(lines, truth, "{}", cmdb.name);
        assert_eq!(document["by_depth"], serde_json::json!([1, 1, 2, 1]));

        let (near, _) = cmdb.asks(&["impact", "6379", "--depth", "1"]);
        assert_eq!(items(&near).iter().map(line).collect::<Vec<_>>(), truth[..1]);

        // One look is enough to say that somebody uses it, and never enough to
        // say that nobody does.
        let (judged, code) = cmdb.asks(&["impact", "redis-server", "--decommission"]);
        assert_eq!((code, &judged["decommission"]["verdict"]), (3, &"unsafe".into()));
        assert_eq!(name(&judged["decommission"]["used_by"][0]), "app-1/python3");
        let (judged, code) = cmdb.asks(&["impact", "--process", "wrk", "--decommission"]);
        assert_eq!((code, &judged["decommission"]["verdict"]), (4, &"not enough evidence".into()));
        assert!(kinds(&judged["decommission"]["doubts"]).contains("young"), "{judged:#}");
    }
}

#[test]
fn what_nobody_called_is_told_from_what_nobody_could_see() {
    let lab = Lab::new();
    let db = lab.host("db-1", 12);
    let client = lab.host("client-1", 20);
    redis(&db, "10.77.0.12");
    python(&db, &["serve", "10.77.0.12", "9000"]);
    listens(&db, "10.77.0.12:6379");
    listens(&db, "10.77.0.12:9000");
    let cmdb = streaming(&lab);
    let probe = db.daemon(&cmdb);
    let judge = |port: &str| {
        let (document, code) = cmdb.asks(&["impact", port, "--decommission", "--watched", "7s"]);
        (document["decommission"].clone(), code)
    };
    wait::until("the port to be known", LIMIT, || {
        let (judged, _) = judge("6379");
        if kinds(&judged["doubts"]).contains("unknown") {
            Err(format!("{judged:#}"))
        } else {
            Ok(())
        }
    });
    assert!(kinds(&judge("6379").0["doubts"]).contains("young"));
    // A host of the lab is a pid namespace, outside of which its probe cannot
    // see; that is all that is left to doubt, and enough.
    wait::until("the probe to have watched for long enough", LIMIT, || {
        let (judged, code) = judge("6379");
        assert_eq!(code, 4, "{judged:#}");
        let confined = judged["doubts"][0]["words"].as_str().is_some_and(|words| {
            words == "not seen on db-1: anything outside the probe's own pid namespace"
        });
        let only = kinds(&judged["doubts"]).len() == 1;
        if confined && only { Ok(()) } else { Err(format!("{judged:#}")) }
    });
    // A connection that no scan can see: only streaming tells. Its peer has no
    // probe, and is somebody all the same.
    let connect = "import socket; socket.create_connection(('10.77.0.12', 6379)).close()";
    client.succeeds(&["/usr/bin/python3", "-c", connect]);
    wait::until("the short connection to be told", LIMIT, || {
        let (judged, code) = judge("6379");
        if code == 3 { Ok(()) } else { Err(format!("{judged:#}")) }
    });
    assert_eq!(judge("9000").1, 4, "another port of the same host is another matter");
    // The probe ends; what is known is not forgotten at once, and it is never
    // safe on the word of nobody.
    db.stop(&probe);
    assert_ne!(judge("6379").1, 0);
}

#[test]
fn a_service_is_drained_once_its_clients_are_gone_and_its_probe_went_on() {
    let lab = Lab::new();
    let web = lab.host("web-1", 10);
    let client = lab.host("client-1", 20);
    nginx_with_a_file(&web, &["80"]);
    redis(&web, "10.77.0.10");
    listens(&web, "0.0.0.0:80");
    listens(&web, "10.77.0.10:6379");
    let first = redis_cli(&client, "10.77.0.10");
    let second = python(&client, &["hold", "10.77.0.10", "6379"]);
    lab.settle(&[
        "client-1/python3 10.77.0.20 -> web-1/redis-server 10.77.0.10 tcp/6379 both",
        "client-1/redis-cli 10.77.0.20 -> web-1/redis-server 10.77.0.10 tcp/6379 both",
    ]);
    let cmdb = streaming(&lab);
    let probe = web.daemon(&cmdb);
    client.daemon(&cmdb);
    let drain = |more: &[&str]| {
        let (document, code) = cmdb.asks(&[&["drain", "6379", "--for", "6s"], more].concat());
        let open = items(&document).iter().filter(|item| item["open_now"] == true);
        let names: BTreeSet<String> = open.map(|item| name(&item["who"])).collect();
        (names, code)
    };
    let both = BTreeSet::from(["client-1/python3".to_owned(), "client-1/redis-cli".to_owned()]);
    wait::until("both clients to be told", LIMIT, || {
        let (names, code) = drain(&[]);
        if names == both && code == 3 { Ok(()) } else { Err(format!("{names:?} {code}")) }
    });

    // One of two does not count; then neither, though both are there.
    let (names, code) = drain(&["--except", "redis-cli"]);
    assert_eq!((names, code), (BTreeSet::from(["client-1/python3".to_owned()]), 3));
    wait::until("it to be drained but for a host", LIMIT, || {
        let words = ["drain", "6379", "--for", "2s", "--except", "client-1"];
        let (document, code) = cmdb.asks(&words);
        let left = document["not_counted"].as_array().map_or(0, Vec::len);
        if (code, left) == (0, 2) { Ok(()) } else { Err(format!("{code} {document:#}")) }
    });

    let mut watching =
        cmdb.command(&["drain", "6379", "--for", "6s", "--watch", "--interval", "300ms"]);
    let watching = thread::spawn(move || wait::output(&mut watching, LIMIT));
    client.stop(&first);
    wait::until("one client to be told", LIMIT, || {
        let (names, code) = drain(&[]);
        if names.len() == 1 && code == 3 { Ok(()) } else { Err(format!("{names:?} {code}")) }
    });
    assert!(!watching.is_finished(), "it is drained with a client on it");
    client.stop(&second);
    let gone = Instant::now();
    let said = watching.join().expect("it ends by itself");
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert_eq!(said.status.code(), Some(0), "{text}{}", said.stderr);
    // The last word of the probe may be older than the client's end by little.
    assert!(gone.elapsed() > Duration::from_secs(5), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.iter().any(|line| line.contains("'python3'")), "{text}");
    assert!(lines.last().is_some_and(|line| line.contains("DRAINED")), "{text}");
    assert!(lines.len() >= 3, "every change is a line: {text}");

    // A probe that has stopped says nothing of what came since.
    web.stop(&probe);
    let told = cmdb.asks(&["drain", "6379", "--for", "6s"]).0["told_until"].clone();
    let said = cmdb.says(&[
        "drain",
        "6379",
        "--for",
        "60s",
        "--watch",
        "--interval",
        "300ms",
        "--timeout",
        "2s",
    ]);
    assert_eq!(said.status.code(), Some(3), "{}", said.stderr);
    assert_eq!(cmdb.asks(&["drain", "6379", "--for", "6s"]).0["told_until"], told);
}

/// A CMDB that probes fill by streaming.
fn streaming(lab: &Lab) -> Cmdb {
    let cmdb = lab.fresh_cmdbs().into_iter().find(|cmdb| cmdb.mode == "streaming");
    let cmdb = cmdb.expect("one of each kind");
    cmdb.succeeds(&["create-scheme"]);
    cmdb
}
