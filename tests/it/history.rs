//! Questions about the past, put to the program: thirty days as probes would
//! have told them, with a job that comes every night.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use shawk::cmdb::Cmdb;
use shawk::cmdb::url::CmdbUrl;
use shawk::flow::host::{Coverage, Host, Rung};
use shawk::flow::key::{Counters, FlowKey, HostFlow};
use shawk::flow::process::{Instance, Process};
use shawk::flow::report::{FlowReport, Report, ScopedAddress};
use shawk::flow::socket::{Direction, Protocol};

use crate::cmdb::LIMITS;
use crate::serve::collector::{Collector, said, shawk};

const DAYS: i64 = 30;

/// So long ago.
fn ago(now: Timestamp, length: SignedDuration) -> Timestamp {
    now.checked_sub(length).expect("not that long ago")
}

fn flow(name: &str, direction: Direction, local: &str, peer: Option<&str>, port: u16) -> HostFlow {
    let (exe, user, unit, container, pod) = Default::default();
    let process = Arc::new(Process { name: name.to_owned(), exe, user, unit, container, pod });
    let passive = direction == Direction::Passive;
    let started = Timestamp::UNIX_EPOCH;
    HostFlow {
        key: FlowKey {
            scope: "".into(),
            direction,
            protocol: Protocol::Tcp,
            local: local.parse().expect("an address"),
            local_port: passive.then_some(port),
            peer: peer.map(|peer| peer.parse().expect("an address")),
            peer_port: (!passive).then_some(port),
            process: Some(Arc::clone(&process)),
        },
        owners: vec![Instance { process, pid: 7, pgid: 7, started }],
        owners_more: 0,
        counters: Counters { open: 1, opened: Some(1), ..Counters::default() },
        tentative: false,
    }
}

/// A host that was streamed for all the time, by one run of a probe.
fn report(name: &str, address: &str, now: Timestamp, flows: Vec<FlowReport>) -> Report {
    let from = ago(now, SignedDuration::from_hours(24 * DAYS));
    let addresses = vec![ScopedAddress {
        scope: "".into(),
        address: address.parse().expect("an address"),
        since: from,
        ended: None,
    }];
    Report {
        host: Host { id: name.to_owned(), name: name.to_owned() },
        epoch: from.as_microsecond(),
        sequence: 1,
        rung: Rung::Streaming,
        from,
        until: now,
        sent: now,
        coverage: Coverage::default(),
        addresses,
        flows,
    }
}

/// A flow that is there all the time.
fn always(flow: HostFlow, now: Timestamp) -> FlowReport {
    let since = ago(now, SignedDuration::from_hours(24 * DAYS));
    FlowReport { flow, since, seen: now, ended: false }
}

/// db-1 has a PostgreSQL that app-1 calls for an hour and twenty minutes every
/// night, some fourteen hours ago; idle-1 has one that nobody calls.
fn history(now: Timestamp) -> Vec<Report> {
    let nightly = |flow: &HostFlow| -> Vec<FlowReport> {
        (0..DAYS - 1)
            .map(|day| {
                let since = ago(now, SignedDuration::from_hours(24 * day + 14));
                let seen = since.checked_add(SignedDuration::from_mins(80)).expect("in range");
                FlowReport { flow: flow.clone(), since, seen, ended: true }
            })
            .collect()
    };
    let listens = |address| flow("postgres", Direction::Passive, address, None, 5432);
    let passive = flow("postgres", Direction::Passive, "10.9.0.1", Some("10.9.0.2"), 5432);
    let active = flow("pg_dump", Direction::Active, "10.9.0.2", Some("10.9.0.1"), 5432);
    let mut of_db = nightly(&passive);
    of_db.push(always(listens("10.9.0.1"), now));
    vec![
        report("db-1", "10.9.0.1", now, of_db),
        report("app-1", "10.9.0.2", now, nightly(&active)),
        report("idle-1", "10.9.0.3", now, vec![always(listens("10.9.0.3"), now)]),
    ]
}

async fn recorded(url: &str, reports: &[Report]) {
    let url = CmdbUrl::parse(url).expect("a test's own URL");
    let cmdb = Cmdb::open(&url, &LIMITS).await.expect("open");
    cmdb.record(&reports.iter().collect::<Vec<_>>()).await.expect("record");
    cmdb.close().await;
}

#[test]
fn a_nightly_job_makes_it_unsafe_and_thirty_quiet_days_make_it_safe() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/cmdb.db", directory.path().display());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let now = Timestamp::now();
    runtime.block_on(recorded(&url, &history(now)));
    let collector = Collector::start(&url, &[]);
    // A database and a collector before it say the same.
    for cmdb in [&url, &collector.url()] {
        let ask = |words: &[&str]| {
            let output = shawk(words).args(["--cmdb", cmdb]).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            (text, output.status.code().unwrap_or_else(|| panic!("{}", said(&output))))
        };
        let judge = |words: &[&str]| {
            let all = [&["impact"], words, &["--decommission", "-o", "json"]].concat();
            let (text, code) = ask(&all);
            (serde_json::from_str::<Value>(&text).unwrap_or_else(|_| panic!("{text}")), code)
        };
        // Nobody has called for fourteen hours; the window is shorter.
        let (found, code) = judge(&["db-1", "--watched", "6h"]);
        assert_eq!((code, &found["decommission"]["verdict"]), (3, &"unsafe".into()), "{found:#}");
        let comes = &found["items"][0]["comes"];
        assert_eq!(
            (&comes["kind"], &comes["every_s"], &comes["times"], &comes["overdue"]),
            (&"periodic".into(), &86_400.into(), &29.into(), &false.into())
        );
        let (text, code) = ask(&["impact", "db-1", "--decommission", "--watched", "6h"]);
        let begun = ago(now, SignedDuration::from_hours(14)).strftime("%H:%M").to_string();
        let words = format!("every day about {begun} UTC, 29 times, last 14h ago, next ");
        assert!(code == 3 && text.contains(&words) && text.contains("UNSAFE"), "{text}");

        let (found, code) = judge(&["idle-1"]);
        assert_eq!((code, &found["decommission"]["verdict"]), (0, &"safe".into()), "{found:#}");
        assert_eq!(found["decommission"]["doubts"].as_array().unwrap().len(), 0);
        let (found, code) = judge(&["idle-1", "--watched", "1000h"]);
        assert_eq!((code, &found["decommission"]["doubts"][0]["kind"]), (4, &"young".into()));

        assert_eq!(ask(&["drain", "idle-1", "--for", "24h"]).1, 0);
        assert_eq!(ask(&["drain", "db-1", "--for", "12h"]).1, 0);
        assert_eq!(ask(&["drain", "db-1", "--for", "24h"]).1, 3);
        assert_eq!(ask(&["drain", "db-2"]).1, 4);
        let (rules, code) = ask(&["policy", "--host", "db-1", "--enforce"]);
        let rule = "tcp dport 5432 ip saddr { 10.9.0.2 } counter accept";
        assert!(code == 0 && rules.contains(rule) && rules.contains("app-1 ('pg_dump'"), "{rules}");
    }
}

#[test]
fn a_probe_that_leaves_peers_out_is_no_witness() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/cmdb.db", directory.path().display());
    let doubts = |filter: &str| {
        let words = ["probe", "--once", "--mode", "netlink", "--filter", filter, "--cmdb", &url];
        let output = shawk(&words).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let words = ["impact", "--host", "served", "--decommission", "--cmdb", &url];
        let output = shawk(&words).output().unwrap();
        assert!(matches!(output.status.code(), Some(3 | 4)), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(!doubts("all").contains("--filter"));
    assert!(doubts("public").contains("peers that --filter leaves out"));
}

/// What only a name could do: end a line, a comment, a string, a document.
const HOSTILE: [&str; 12] = [
    "x\n\t\taccept",
    "x\r}\rdelete table inet shawk_policy",
    "x\u{85}- evil: [",
    "x\u{2028}COMMIT\u{2029}",
    "x\n-A INPUT -j ACCEPT",
    "*/ --- %YAML 9.9 \\",
    "\"; include \"/etc/passwd\"",
    "{{ evil }} &a *a !!python/object:os.system",
    "$(reboot) `reboot` ${x}",
    "\\",
    "\u{1b}[2J\u{202e}",
    "#\n#\n",
];

/// Runs a parser on rules, in a network namespace of its own.
fn parses(words: &[&str], rules: &str) -> String {
    use std::io::Write;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(rules.as_bytes()).unwrap();
    let mut command = std::process::Command::new("unshare");
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").arg("--net").args(words);
    let output = command.arg(file.path()).output().expect("util-linux is installed");
    assert!(output.status.success(), "{words:?}: {}\n{rules}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_real_parsers_find_no_more_in_hostile_names_than_comments() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let now = Timestamp::now();
    let rules = |format: &str, names: &[&str]| {
        let kind = if names == HOSTILE { "hostile" } else { "plain" };
        let url = format!("sqlite:{}/{format}-{kind}.db", directory.path().display());
        let mut reports = Vec::new();
        let mut of_server = Vec::new();
        for (number, name) in names.iter().enumerate() {
            for address in [format!("10.9.1.{number}"), format!("fd99::{number}")] {
                let own = if address.contains(':') { "fd99::ff" } else { "10.9.0.1" };
                let passive = flow(name, Direction::Passive, own, Some(&address), 5432);
                of_server.push(always(passive, now));
            }
            let client = format!("10.9.1.{number}");
            let active = flow(name, Direction::Active, &client, Some("10.9.0.1"), 5432);
            let mut told =
                report(&format!("client-{number}"), &client, now, vec![always(active, now)]);
            told.host.name = (*name).to_owned();
            reports.push(told);
        }
        let mut server = report("server", "10.9.0.1", now, of_server);
        server.host.name = names.concat();
        reports.push(server);
        runtime.block_on(recorded(&url, &reports));
        let words = ["policy", "--host", "server", "--enforce", "--format", format];
        let output = shawk(&words).args(["--cmdb", &url]).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let plain: Vec<String> = (0..HOSTILE.len()).map(|number| format!("n{number}")).collect();
    let plain: Vec<&str> = plain.iter().map(String::as_str).collect();
    // nft prints back what it would load, without comments.
    let nft = ["sh", "-c", "nft -c -f \"$0\" && nft -f \"$0\" && nft list ruleset"];
    let loaded = parses(&nft, &rules("nftables", &HOSTILE));
    assert_eq!(loaded, parses(&nft, &rules("nftables", &plain)));
    assert_eq!(loaded.matches("accept").count(), 6, "{loaded}");
    for program in ["iptables", "ip6tables"] {
        let script =
            format!("{program}-restore --test \"$0\" && {program}-restore \"$0\" && {program} -S");
        let loaded = parses(&["sh", "-c", &script], &rules(program, &HOSTILE));
        assert_eq!(loaded, parses(&["sh", "-c", &script], &rules(program, &plain)));
        assert_eq!(loaded.matches("--dport 5432").count(), HOSTILE.len(), "{loaded}");
    }
    let read =
        "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    let document = |names: &[&str]| -> Value {
        let text = parses(&["/usr/bin/python3", "-c", read], &rules("k8s-networkpolicy", names));
        serde_json::from_str(&text).unwrap()
    };
    let (hostile, plain) = (document(&HOSTILE), document(&plain));
    assert_eq!(hostile.as_array().map(Vec::len), Some(1));
    assert_eq!(hostile[0]["spec"], plain[0]["spec"]);
    let ingress = &hostile[0]["spec"]["ingress"][0];
    assert_eq!(ingress["ports"], serde_json::json!([{"protocol": "TCP", "port": 5432}]));
    assert_eq!(ingress["from"].as_array().map(Vec::len), Some(2 * HOSTILE.len()));
    assert_eq!(ingress["from"][0]["ipBlock"]["cidr"], "10.9.1.0/32");
    assert_eq!(
        (&hostile[0]["apiVersion"], &hostile[0]["kind"]),
        (&"networking.k8s.io/v1".into(), &"NetworkPolicy".into())
    );
}
