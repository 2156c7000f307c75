//! The file of labels, with `look` and with a collector.

use std::fs;

use crate::cmdb::{open, over, report, with_addresses};
use crate::serve::collector::{Collector, said, shawk, until};

const FILE: &str =
    "[[label]]\nhost = 'we?'\ngroup = 'shop'\n\n[[label]]\ncidr = '10.0.0.2'\nname = 'ledger'\n";

#[test]
fn labels_are_shown_asked_for_and_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let cmdb = format!("sqlite:{}/cmdb.db", directory.path().display());
    let file = directory.path().join("labels.toml");
    fs::write(&file, FILE).unwrap();
    let labels = file.to_str().unwrap();
    let collector = Collector::start(&cmdb, &["--labels", labels]);
    let flows = vec![open("10.0.0.1 > 10.0.0.2:80 curl", 0, 60)];
    let told = with_addresses(report("web", 0, 1, 60, flows), &["10.0.0.1"]);
    assert_eq!(collector.report(&[&told]).status, 200);

    let groups = |query: &str| -> Vec<String> {
        let answer = collector.get(&format!("/api/v1/look?{query}")).json();
        let nodes = answer["nodes"].as_array().unwrap();
        nodes.iter().map(|node| node["label"].to_string()).collect()
    };
    let both = [r#"{"group":"shop"}"#, r#"{"name":"ledger"}"#];
    assert_eq!(groups("host=web"), both);
    assert_eq!(groups("what=ledger"), both);
    assert_eq!(groups("label=shop"), both);
    assert!(groups("label=nothing").is_empty());
    let found =
        |text: &str| collector.get(&format!("/api/v1/search?q={text}")).json()["found"].to_string();
    let shop = r#"[{"as":["group"],"kind":"label","name":"shop","value":"shop"}]"#;
    assert_eq!(found("SHO"), shop);
    assert_eq!(found("nothing"), "[]");
    // Two groups of so few nodes say less than the host itself.
    assert_eq!(collector.get("/api/v1/groups?by=auto").json()["by"], "host");

    let look = |words: &[&str]| {
        let output = shawk(&[&["look", "--cmdb", &cmdb][..], words].concat()).output().unwrap();
        let text = String::from_utf8(output.stdout.clone()).unwrap() + &said(&output);
        (output.status.code(), text)
    };
    let (code, text) = look(&["shop", "--labels", labels]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("(no probe) {ledger}") && text.contains("('curl', pgid=7) {shop}"),
        "{text}"
    );
    let (_, without) = look(&["shop"]);
    assert!(without.contains("nothing is known of host 'shop' or process 'shop'"), "{without}");

    let (code, text) = look(&["--label", "nosuch", "--labels", labels]);
    assert_eq!(
        (code, text.as_str()),
        (Some(0), "no label says 'nosuch'; there are: ledger, shop\n")
    );
    let (_, text) = look(&["--label", "shop"]);
    assert!(text.starts_with("no label says 'shop': there are none;"), "{text}");
    let nosuch = collector.get("/api/v1/look?label=nosuch").json();
    assert_eq!(nosuch["notes"][0], "no label says 'nosuch'; there are: ledger, shop");
    assert!(nosuch.get("otherwise").is_none_or(|it| it.is_null()), "{nosuch:#}");
    let (_, text) = look(&["shop", "--labels", labels, "--at", "2025-01-01T00:00:00Z"]);
    assert!(text.contains("from label 'shop' in the time asked about; it last was"), "{text}");

    // One that is wrong changes nothing; one that is right again does.
    fs::write(&file, "[[label]]\nhost = 'web'\n").unwrap();
    let (code, text) = look(&["web", "--labels", labels]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("number 1: it gives no name, role or group"), "{text}");
    assert_eq!(text.trim().lines().count(), 1, "{text}");
    assert_eq!(groups("host=web"), both);
    until("the labels are read again", || {
        fs::write(&file, FILE.replace("shop", "store")).unwrap();
        groups("host=web")[0].contains("store")
    });
    assert!(collector.log().contains("the labels stay as they were"), "{}", collector.log());
}

/// Whatever names something says what people call it.
#[test]
fn labels_stand_in_every_answer() {
    let directory = tempfile::tempdir().unwrap();
    let cmdb = format!("sqlite:{}/cmdb.db", directory.path().display());
    let file = directory.path().join("labels.toml");
    fs::write(&file, FILE).unwrap();
    let labels = file.to_str().unwrap();
    let collector = Collector::start(&cmdb, &["--labels", labels]);
    let mut dead = open("10.0.0.1 > 10.0.0.2:99 curl", 0, 60);
    dead.flow.counters.connecting = dead.flow.counters.open;
    let flows = vec![
        open("10.0.0.1:22 . sshd", 0, 60),
        open("10.0.0.1:22 < 10.0.0.2 sshd", 0, 60),
        over("10.0.0.1 > 10.0.0.2:98 wget", 0, 30),
        dead,
    ];
    let told = with_addresses(report("web", 0, 1, 60, flows), &["10.0.0.1"]);
    assert_eq!(collector.report(&[&told]).status, 200);
    let since = "2025-11-24T00:00:00Z";
    for (words, query) in [
        (&["listeners"][..], "listeners"),
        (&["failing", "--since", since], "failing?since=2025-11-24T00:00:00Z"),
        (&["unexplained", "--since", since], "unexplained?since=2025-11-24T00:00:00Z"),
        (&["impact", "shop"], "impact?what=shop"),
        (&["drain", "shop", "--for", "87600h"], "drain?what=shop&for=87600h"),
        (&["policy", "shop"], "policy?what=shop"),
        (
            &["diff", "--from", "2025-11-24T08:00:10Z", "--to", "2025-11-24T08:01:00Z"],
            "diff?from=2025-11-24T08:00:10Z&to=2025-11-24T08:01:00Z",
        ),
        (&["look", "shop"], "look?what=shop"),
        (&["export", "-o", "csv"], "export?output=csv"),
        (&["export", "-o", "dot"], "export?output=dot"),
        (&["export", "-o", "mermaid"], "export?output=mermaid"),
        (&["export", "-o", "graphml"], "export?output=graphml"),
        (&["export", "-o", "grafana"], "export?output=grafana"),
        (&["export"], "export"),
    ] {
        let asked = ["--labels", labels, "--cmdb", &cmdb];
        let output = shawk(&[words, &asked].concat()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("ledger"), "{words:?}: {text}");
        let answer = collector.get(&format!("/api/v1/{query}"));
        assert!(answer.text().contains("ledger"), "{query}: {}", answer.text());
    }
    let found = collector.get("/api/v1/search?q=Ledg").json()["found"].clone();
    let expected = serde_json::json!([
        {"kind": "label", "value": "ledger", "name": "ledger", "as": ["name"]}
    ]);
    assert_eq!(found, expected);
}
