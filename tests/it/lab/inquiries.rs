//! The questions with a name of their own, asked about real programs.

use jiff::Timestamp;
use serde_json::Value;

use crate::lab::cmdb::Cmdb;
use crate::lab::network::Lab;
use crate::lab::program::{curl, haproxy, nginx_with_a_file, python, redis, redis_cli};
use crate::lab::ss::listens;
use crate::lab::truth;
use crate::lab::wait::{self, LIMIT};

/// The items of an inquiry, a line each.
fn lines(cmdb: &Cmdb, words: &[&str], line: impl Fn(&Value) -> String) -> Vec<String> {
    let text = cmdb.succeeds(&[words, &["-o", "json"]].concat());
    let document: Value = serde_json::from_str(&text).expect("a document");
    let items = document["items"].as_array().expect("items");
    let mut lines: Vec<String> = items.iter().map(line).collect();
    lines.sort();
    lines
}

/// `web-1/nginx`, `web-1`, or an address.
fn end(who: &Value) -> String {
    match (who["host"].as_str(), who["process"]["name"].as_str()) {
        (Some(host), Some(process)) => format!("{host}/{process}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => who["address"].as_str().unwrap_or("?").to_owned(),
    }
}

fn ends(list: &Value) -> String {
    let ends = list.as_array().into_iter().flatten().map(end);
    ends.collect::<Vec<_>>().join(" ")
}

fn at(item: &Value) -> String {
    format!("{}:{}", item["address"].as_str().unwrap_or("?"), item["port"])
}

#[test]
fn what_listens_what_fails_and_what_has_no_probe_is_told() {
    let lab = Lab::new();
    let web = lab.host("web-1", 10);
    let store = lab.host("db-1", 12);
    let cache = lab.host("cache-1", 13);
    let client = lab.host("client-1", 20);
    nginx_with_a_file(&web, &["80"]);
    redis(&store, "10.77.0.12");
    redis(&cache, "10.77.0.13");
    listens(&web, "0.0.0.0:80");
    listens(&store, "10.77.0.12:6379");
    listens(&cache, "10.77.0.13:6379");
    web.succeeds(&["ip", "addr", "add", "10.77.0.30/24", "dev", "eth0"]);
    for address in ["10.77.0.30", "10.77.0.99"] {
        let link = ["lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "permanent"];
        client.succeeds(&[&["ip", "neigh", "add", address], &link[..]].concat());
    }
    curl(&client, "http://10.77.0.10/large");
    redis_cli(&web, "10.77.0.13");
    python(&client, &["open", "10.77.0.99", "82"]);
    python(&client, &["open", "10.77.0.30", "83"]);
    lab.settle(&[
        "client-1/curl 10.77.0.20 -> web-1/nginx 10.77.0.10 tcp/80 both",
        "client-1/python3 10.77.0.20 -> 10.77.0.99 tcp/82 active failing",
        "client-1/python3 10.77.0.20 -> web-1 10.77.0.30 tcp/83 active failing",
        "web-1/redis-cli 10.77.0.10 -> cache-1/redis-server 10.77.0.13 tcp/6379 both",
    ]);
    let mut hosts = lab.hosts();
    hosts.retain(|host| host.name != "cache-1");
    for cmdb in lab.recorded(&hosts) {
        let listeners = lines(&cmdb, &["listeners"], |item| {
            let (who, reach) = (end(&item["who"]), &item["reach"].as_str().unwrap_or("?"));
            let unused = if item["unused_since"].is_string() { "unused" } else { "used by" };
            format!("{who} {} {reach} {unused} {}", at(item), ends(&item["called_by"]))
        });
        assert_eq!(
            listeners,
            [
                "db-1/redis-server 10.77.0.12:6379 address unused ",
                "web-1/nginx 0.0.0.0:80 any used by client-1/curl",
            ],
            "{}",
            cmdb.name
        );
        let failing = lines(&cmdb, &["failing"], |item| {
            let there = item["there"].as_str().unwrap_or("?");
            format!("{} {there} {}", at(item), ends(&item["called_by"]))
        });
        assert_eq!(
            failing,
            [
                "10.77.0.30:83 nothing_listens client-1/python3",
                "10.77.0.99:82 no_probe client-1/python3",
            ],
            "{}",
            cmdb.name
        );
        let unexplained = lines(&cmdb, &["unexplained"], |item| {
            let offers: Vec<_> = item["offers"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|o| o["port"].clone())
                .collect();
            format!("{} {} {offers:?}", item["address"], item["edges"])
        });
        assert_eq!(
            unexplained,
            ["\"10.77.0.13\" 1 [Number(6379)]", "\"10.77.0.99\" 1 [Number(82)]"],
            "{}",
            cmdb.name
        );
    }
}

#[test]
fn a_difference_is_what_was_done_between_and_no_restart() {
    let lab = Lab::new();
    let web = lab.host("web-1", 10);
    let app = lab.host("app-1", 11);
    let store = lab.host("db-1", 12);
    let client = lab.host("client-1", 20);
    let server = nginx_with_a_file(&web, &["80"]);
    let cache = redis(&store, "10.77.0.12");
    listens(&web, "0.0.0.0:80");
    listens(&store, "10.77.0.12:6379");
    let visitor = curl(&client, "http://10.77.0.10/large");
    let asking = redis_cli(&app, "10.77.0.12");
    let before = [
        "app-1/redis-cli 10.77.0.11 -> db-1/redis-server 10.77.0.12 tcp/6379 both",
        "client-1/curl 10.77.0.20 -> web-1/nginx 10.77.0.10 tcp/80 both",
    ];
    lab.settle(&before);
    let cmdb = lab.fresh_postgres();
    cmdb.create_scheme();
    let hosts = lab.hosts();
    let _probes: Vec<_> = hosts.iter().map(|host| host.daemon(&cmdb)).collect();
    wait::until("the CMDB to tell the truth", LIMIT, || {
        truth::compare(&before, &cmdb.graph(&hosts))
    });
    let from = Timestamp::now().to_string();
    let code = |from: &str| cmdb.says(&["diff", "--from", from, "--exit-code"]).status.code();
    // What is stopped before a probe has looked again was last seen before the
    // moment, and may have ended before it.
    wait::until("every probe to have seen the moment", LIMIT, || match code(&from) {
        Some(0) => Ok(()),
        Some(4) => Err("not yet".to_owned()),
        other => panic!("nothing was done, and the exit code is {other:?}"),
    });

    // A restart, another server at the same port, a visitor that leaves, and
    // something new.
    app.stop(&asking);
    store.stop(&cache);
    redis(&store, "10.77.0.12");
    listens(&store, "10.77.0.12:6379");
    redis_cli(&app, "10.77.0.12");
    client.stop(&visitor);
    web.stop(&server);
    haproxy(&web, "0.0.0.0:80", "10.77.0.12:6379");
    listens(&web, "0.0.0.0:80");
    python(&store, &["serve", "10.77.0.12", "9000"]);
    listens(&store, "10.77.0.12:9000");
    python(&client, &["hold", "10.77.0.12", "9000"]);
    lab.settle(&[
        "app-1/redis-cli 10.77.0.11 -> db-1/redis-server 10.77.0.12 tcp/6379 both",
        "client-1/python3 10.77.0.20 -> db-1/python3 10.77.0.12 tcp/9000 both",
    ]);
    let differs = |from: &str| {
        lines(&cmdb, &["diff", "--from", from], |item| {
            let change = item["change"].as_str().unwrap_or("?");
            let active =
                if item["active"].is_object() { end(&item["active"]) + " " } else { String::new() };
            let host = item["passive"]["host"].as_str().unwrap_or("?");
            format!("{change} {active}{host} {}", at(item))
        })
    };
    let expected = [
        "gone client-1/curl web-1 10.77.0.10:80",
        "new client-1/python3 db-1 10.77.0.12:9000",
        "new db-1 10.77.0.12:9000",
        "process web-1 0.0.0.0:80",
    ];
    wait::until("the difference to be told", LIMIT, || {
        let found = differs(&from);
        if found == expected { Ok(()) } else { Err(format!("{found:#?}")) }
    });
    assert_eq!(code(&from), Some(3));
    let later = Timestamp::now().to_string();
    // Until every probe has spoken, it is not known whether anything differs;
    // never that something does.
    wait::until("every probe to have spoken since", LIMIT, || {
        assert_eq!(differs(&later), [""; 0]);
        match code(&later) {
            Some(0) => Ok(()),
            Some(4) => Err("not yet".to_owned()),
            other => panic!("nothing was done, and the exit code is {other:?}"),
        }
    });
    assert_eq!(differs(&from), expected);
}
