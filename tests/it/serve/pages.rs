//! Every list that may be long, a page at a time.

use serde_json::Value;

use crate::cmdb::{open, over, report, with_addresses};
use crate::serve::collector::{Collector, Reply};
use crate::serve::read_xml;

/// What a page's things are, without what differs from page to page: the
/// numbers of nodes.
fn things(reply: &Reply) -> Vec<String> {
    let document = reply.json();
    if let Some(items) = document["items"].as_array() {
        return items.iter().map(Value::to_string).collect();
    }
    let node = |number: &Value| {
        let nodes = document["nodes"].as_array().expect("nodes").iter();
        let mut node = nodes.clone().find(|node| &node["id"] == number).expect("an end").clone();
        node.as_object_mut().expect("an object").remove("id");
        node
    };
    let edges = document["edges"].as_array().expect("edges").iter();
    let mut edges: Vec<String> = edges
        .map(|edge| {
            let mut edge = edge.clone();
            edge["active"] = node(&edge["active"]);
            edge["passive"] = node(&edge["passive"]);
            edge.to_string()
        })
        .collect();
    edges.sort();
    edges
}

/// The address of the next page, as any client of RFC 8288 reads it.
fn next(reply: &Reply) -> Option<String> {
    let line = reply.head.lines().find(|line| line.to_ascii_lowercase().starts_with("link: "))?;
    let (address, relation) = line[6..].split_once('>').expect("an address in brackets");
    assert_eq!(relation, "; rel=\"next\"");
    Some(address.strip_prefix('<').expect("a bracket").to_owned())
}

fn recorded() -> (tempfile::TempDir, Collector) {
    let directory = tempfile::tempdir().expect("a directory");
    let cmdb = format!("sqlite:{}/cmdb.db", directory.path().display());
    let collector = Collector::start(&cmdb, &[]);
    let mut flows = vec![open("10.0.0.1:22 . sshd", 0, 60)];
    for port in 80..85 {
        flows.push(open(&format!("10.0.0.1:{port} . nginx"), 0, 60));
        flows.push(open(&format!("10.0.0.1:{port} < 10.0.0.{port} nginx"), 0, 60));
        let mut dead = open(&format!("10.0.0.1 > 10.0.9.{port}:99 curl"), 0, 60);
        dead.flow.counters.connecting = dead.flow.counters.open;
        flows.push(dead);
        flows.push(over(&format!("10.0.0.1 > 10.0.8.{port}:98 wget"), 0, 30));
    }
    let told = with_addresses(report("web", 0, 1, 60, flows), &["10.0.0.1"]);
    assert_eq!(collector.report(&[&told]).status, 200);
    (directory, collector)
}

#[test]
fn all_pages_of_a_list_are_the_list() {
    let (_directory, collector) = recorded();
    for (question, least) in [
        ("/api/v1/look?host=web", 15),
        ("/api/v1/export?since=2025-11-24T00:00:00Z", 15),
        ("/api/v1/listeners?host=web", 6),
        ("/api/v1/impact?host=web", 5),
        ("/api/v1/drain?host=web&for=87600h", 5),
        ("/api/v1/policy?host=web&direction=both", 6),
        ("/api/v1/failing?since=2025-11-24T00:00:00Z", 5),
        ("/api/v1/unexplained?since=2025-11-24T00:00:00Z", 15),
        ("/api/v1/diff?from=2025-11-24T08:00:10Z&to=2025-11-24T08:01:00Z", 5),
    ] {
        let whole = collector.get(question);
        assert_eq!(whole.status, 200, "{question}: {}", whole.text());
        let mut expected = things(&whole);
        assert!(expected.len() >= least, "{question}: {}", expected.len());
        assert_eq!((next(&whole), &whole.json()["next"]), (None, &Value::Null));
        let (mut given, mut pages) = (Vec::new(), 0);
        let mut address = Some(format!("{question}&limit=2"));
        while let Some(page) = address {
            let reply = collector.get(&page);
            assert_eq!(reply.status, 200, "{page}: {}", reply.text());
            let document = reply.json();
            let here = things(&reply);
            assert!(here.len() <= 2, "{page}");
            assert_eq!(document["offset"], given.len(), "{page}");
            assert_eq!(document["total"], expected.len(), "{page}");
            assert_eq!(document["moved"], Value::Null, "{page}");
            given.extend(here);
            pages += 1;
            address = next(&reply);
            if let Some(address) = &address {
                let after = document["next"].as_str().expect("next, too");
                assert!(address.contains(&format!("after={after}")), "{address}");
            }
        }
        if question.contains("look") || question.contains("export") {
            // Within a page, edges are sorted by their ends.
            given.sort();
            expected.sort();
        }
        assert_eq!(given, expected, "{question}");
        assert_eq!(pages, expected.len().div_ceil(2), "{question}");
    }
}

#[test]
fn pages_of_any_format_lead_on_and_a_list_that_changed_says_so() {
    let (_directory, collector) = recorded();
    for format in ["csv", "dot", "mermaid", "graphml", "grafana"] {
        let reply = collector.get(&format!("/api/v1/export?output={format}&limit=14"));
        let rest = collector.get(&next(&reply).expect("a next page"));
        assert_eq!((rest.status, next(&rest)), (200, None), "{format}: {}", rest.text());
    }
    // What a page says of itself is XML, too.
    let page = collector.get("/api/v1/export?output=graphml&limit=3");
    assert!(page.text().contains("; --after "), "{}", page.text());
    assert!(read_xml(&page.body).ends_with(" 3\n"), "{}", page.text());
    let page = collector.get("/api/v1/look.svg?host=web&limit=3");
    assert!(page.text().contains("; --after "), "{}", page.text());
    read_xml(&page.body);
    // What has no edge is on the first page, and there only.
    let nodes = |reply: &Reply| reply.json()["nodes"].as_array().map(Vec::len);
    let first = collector.get("/api/v1/export?limit=1");
    let second = collector.get(&next(&first).expect("a next page"));
    assert_eq!((nodes(&first), nodes(&second)), (Some(3), Some(2)), "{}", first.text());

    let first = collector.get("/api/v1/listeners?host=web&limit=5");
    let told = report("web", 0, 2, 70, vec![open("10.0.0.1:21 . ftpd", 65, 70)]);
    assert_eq!(collector.report(&[&told]).status, 200);
    let second = collector.get(&next(&first).expect("a next page")).json();
    assert_eq!((&second["moved"], &second["total"]), (&Value::Bool(true), &Value::from(7)));
    let ports: Vec<_> = second["items"].as_array().into_iter().flatten().collect();
    assert_eq!(ports.len(), 1, "{second:#}");
    assert_eq!(ports[0]["who"]["process"]["name"], "sshd");
    for query in ["listeners?after=x", "listeners?offset=1", "export?after=1", "groups?limit=1"] {
        assert_eq!(collector.get(&format!("/api/v1/{query}")).status, 400, "{query}");
    }
}
