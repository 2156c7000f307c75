//! Real answers against the document at /openapi.json.

use serde_json::{Map, Value, json};

use crate::cmdb::{open, report, with_addresses};
use crate::serve::collector::{Collector, Reply, shawk};

/// What is wrong with a value, in the words of JSON Schema that the document
/// uses; a word that is not known here is wrong, too.
fn wrong(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).expect("what is referred to"),
        None => schema,
    };
    let none = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&none);
    let mut found = Vec::new();
    for (word, rule) in schema.as_object().expect("a schema") {
        let good = match word.as_str() {
            "type" => match rule.as_array() {
                Some(types) => types.iter().any(|kind| is(kind, value)),
                None => is(rule, value),
            },
            "enum" => rule.as_array().unwrap().contains(value),
            "const" => rule == value,
            "minimum" => value.as_i64().is_none_or(|number| number >= rule.as_i64().unwrap()),
            "format" => value.as_str().unwrap().parse::<jiff::Timestamp>().is_ok(),
            "required" => rule
                .as_array()
                .unwrap()
                .iter()
                .all(|name| value.get(name.as_str().unwrap()).is_some()),
            "items" => {
                for (place, item) in value.as_array().unwrap().iter().enumerate() {
                    found.extend(wrong(document, rule, item, &format!("{at}/{place}")));
                }
                true
            }
            "properties" => {
                for (name, rule) in properties {
                    if let Some(value) = value.get(name) {
                        found.extend(wrong(document, rule, value, &format!("{at}/{name}")));
                    }
                }
                true
            }
            "additionalProperties" => {
                for (name, value) in value.as_object().unwrap() {
                    let at = format!("{at}/{name}");
                    match (properties.contains_key(name), rule.as_bool()) {
                        (true, _) => {}
                        (false, Some(_)) => found.push(format!("{at} is not in the document")),
                        (false, None) => found.extend(wrong(document, rule, value, &at)),
                    }
                }
                true
            }
            "description" => true,
            _ => false,
        };
        if !good {
            found.push(format!("{at}: {word} {rule}, but {value}"));
        }
    }
    found
}

fn is(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => false,
    }
}

fn check(document: &Value, method: &str, path: &str, reply: &Reply) {
    let status = reply.status.to_string();
    let response = &document["paths"][path][method]["responses"][&status];
    assert!(response.is_object(), "{method} {path} answers {status}, which is not told");
    let content = response["content"].as_object().unwrap();
    let kind = reply.head.to_ascii_lowercase();
    let (kind, rules) = content
        .iter()
        .find(|(name, _)| kind.contains(&format!("content-type: {name}")))
        .unwrap_or_else(|| panic!("{path}: {kind}"));
    if kind == "application/json" {
        let wrong = wrong(document, &rules["schema"], &reply.json(), path);
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

#[test]
fn answers_are_as_the_document_says() {
    let directory = tempfile::tempdir().unwrap();
    let collector =
        Collector::start(&format!("sqlite:{}/cmdb.db", directory.path().display()), &[]);
    let document = collector.get("/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    let told = with_addresses(
        report(
            "web",
            0,
            1,
            60,
            vec![open("10.0.0.1 > 10.0.0.2:80 curl", 0, 60), open("10.0.0.1:22 . sshd", 0, 60)],
        ),
        &["10.0.0.1"],
    );
    let answering = report("app", 0, 1, 60, vec![open("10.0.0.2:80 < 10.0.0.1 nginx", 0, 60)]);
    let answering = with_addresses(answering, &["10.0.0.2"]);
    let recorded = collector.report(&[&told, &answering]);
    assert_eq!(recorded.status, 200, "{recorded:?}");
    assert_eq!(recorded.json()["recorded"], 2);
    check(&document, "post", "/v1/reports", &recorded);
    check(&document, "post", "/v1/reports", &collector.report(&[&told]));
    check(&document, "post", "/v1/reports", &collector.post("/v1/reports", b"x"));
    check(&document, "post", "/v1/recall", &collector.post("/v1/recall", b"x"));
    for (path, query, status) in [
        ("/api/v1/look", "?host=web&depth=2", 200),
        ("/api/v1/look", "?ip=10.0.0.0/8&since=2025-11-24T00:00:00Z", 200),
        ("/api/v1/look", "?what=nobody", 200),
        ("/api/v1/look", "?bogus=1", 400),
        ("/api/v1/look", "?host=web&depth=0", 400),
        ("/api/v1/impact", "?host=web&depth=3", 200),
        ("/api/v1/impact", "?host=web&decommission=true&watched=1h", 200),
        ("/api/v1/impact", "?what=nobody&decommission=true", 200),
        ("/api/v1/impact", "", 400),
        ("/api/v1/impact", "?host=web&decommission=true&since=1h", 400),
        ("/api/v1/drain", "?host=web&for=1m", 200),
        ("/api/v1/drain", "?host=web&for=0s", 400),
        ("/api/v1/drain", "?host=web&watch=true", 400),
        ("/api/v1/policy", "?host=web", 200),
        ("/api/v1/policy", "?host=web&direction=both&format=k8s-networkpolicy&enforce=true", 200),
        ("/api/v1/policy", "?host=web&audit=/etc/passwd", 400),
        ("/api/v1/listeners", "", 200),
        ("/api/v1/listeners", "?host=web&limit=1&since=1h", 200),
        ("/api/v1/diff", "?from=2025-11-24T00:00:00Z&to=2025-11-24T08:01:00Z", 200),
        (
            "/api/v1/diff",
            "?host=web&from=2025-11-24T00:00:00Z&to=2025-11-25T00:00:00Z&window=2h",
            200,
        ),
        ("/api/v1/diff", "", 400),
        ("/api/v1/diff", "?from=1h&to=2h", 400),
        ("/api/v1/failing", "?since=2025-11-24T00:00:00Z", 200),
        ("/api/v1/unexplained", "?since=2025-11-24T00:00:00Z&until=2025-11-24T09:00:00Z", 200),
        ("/api/v1/unexplained", "?host=web&at=2025-11-24T08:00:30Z", 200),
        ("/api/v1/export", "", 200),
        ("/api/v1/export", "?host=web&output=csv&limit=1", 200),
        ("/api/v1/export", "?at=2025-11-24T08:00:30Z&output=graphml", 200),
        ("/api/v1/export", "?output=dot", 200),
        ("/api/v1/export", "?output=mermaid", 200),
        ("/api/v1/export", "?output=tree", 400),
        ("/api/v1/export", "?labels=x", 400),
        ("/api/v1/grafana/api/health", "", 200),
        ("/api/v1/grafana/api/graph/fields", "", 200),
        ("/api/v1/grafana/api/graph/data", "?port=80", 200),
        ("/api/v1/listeners", "?what=nobody", 200),
        ("/api/v1/listeners", "?env-file=x", 400),
        ("/api/v1/look", "?what=*&by=process&group=process:curl", 200),
        ("/api/v1/look", "?what=*&by=colour", 400),
        ("/api/v1/look.svg", "?host=web&depth=2", 200),
        ("/api/v1/look.svg", "", 400),
        ("/api/v1/groups", "", 200),
        ("/api/v1/groups", "?by=process&host=web&depth=2&since=2025-11-24T00:00:00Z", 200),
        ("/api/v1/groups", "?by=colour", 400),
        ("/api/v1/search", "?q=w", 200),
        ("/api/v1/search", "?q=10.0.0.", 200),
        ("/api/v1/search", "?q=80", 200),
        ("/api/v1/look", "?host=web&limit=1", 200),
        ("/api/v1/drain", "?host=web&for=1m&except=10.0.0.2&except=curl", 200),
        ("/api/v1/drain", "?host=web&except=80", 400),
        ("/api/v1/search", "", 400),
        ("/metrics", "", 200),
        ("/healthz", "", 200),
        ("/readyz", "", 200),
        ("/openapi.json", "", 200),
    ] {
        let reply = collector.get(&format!("{path}{query}"));
        assert_eq!(reply.status, status, "{path}{query}: {}", reply.text());
        check(&document, "get", path, &reply);
    }
    let edges = collector.get("/api/v1/look?host=web").json()["edges"].clone();
    assert_eq!(edges.as_array().map(Vec::len), Some(1), "{edges:#}");
}

#[test]
fn refusals_for_who_asks_are_as_the_document_says() {
    let directory = tempfile::tempdir().unwrap();
    let cmdb = format!("sqlite:{}/cmdb.db", directory.path().display());
    let collector = Collector::start(&cmdb, &["--require-auth"]);
    let document = collector.get("/openapi.json").json();
    let enrolled = shawk(&["enrol", "web", "--host-id", "id-of-web", "--cmdb", &cmdb]).output();
    let token = String::from_utf8(enrolled.unwrap().stdout).unwrap();
    let told = report("app", 0, 1, 60, Vec::new());
    for path in ["/metrics", "/api/v1/look"] {
        for (reply, status) in
            [(collector.get(path), 401), (collector.get_as(token.trim_end(), path), 403)]
        {
            assert_eq!(reply.status, status, "{}", reply.text());
            check(&document, "get", path, &reply);
        }
    }
    let forged = collector.report_as(token.trim_end(), &[&told]);
    assert_eq!(forged.status, 403, "{}", forged.text());
    check(&document, "post", "/v1/reports", &forged);
    check(&document, "post", "/v1/reports", &collector.report(&[&told]));
    check(&document, "post", "/v1/recall", &collector.post("/v1/recall", b"x"));
}

#[test]
fn the_check_finds_what_is_wrong() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}},
        "required": ["n"], "additionalProperties": false});
    for (value, good) in [
        (json!({"n": 1}), true),
        (json!({"n": "1"}), false),
        (json!({}), false),
        (json!({"n": 1, "m": 1}), false),
    ] {
        assert_eq!(wrong(&json!({}), &schema, &value, "").is_empty(), good, "{value}");
    }
}
