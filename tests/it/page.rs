//! The page, in a real browser: `web/e2e` has what is done there, this has what
//! the CMDB knows. The fleet of real programs is in the lab.

use std::process::{Command, Stdio};

use jiff::Timestamp;
use serde_json::Value;
use shawk::flow::report::Report;

use crate::cmdb::{at, open, over, process, report, with_addresses};
use crate::serve::collector::Collector;
use crate::serve::tokens::reader;

/// Runs a scenario of `web/e2e`, to its end.
pub(crate) fn browse(scenario: &str, arguments: &[&str]) {
    let web = concat!(env!("CARGO_MANIFEST_DIR"), "/web");
    let modules = format!("{web}/node_modules/playwright-core");
    assert!(
        std::path::Path::new(&modules).exists(),
        "the browser's driver is missing; run: scripts/install-deps test"
    );
    let mut command = Command::new("node");
    command.arg(format!("e2e/{scenario}.mjs")).args(arguments).current_dir(web);
    let output = command.stdin(Stdio::null()).output().expect("node is there");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{scenario}: {said}");
}

fn on_sqlite(directory: &tempfile::TempDir) -> Collector {
    Collector::start(&format!("sqlite:{}/cmdb.db", directory.path().display()), &[])
}

/// What a browser could run, or show as something else than it is.
const NAMES: [&str; 9] = [
    "<script>window.__pwned=1</script>",
    "<img src=x onerror=window.__pwned=1>",
    "\"><svg onload=window.__pwned=1>",
    "javascript:window.__pwned=1",
    "'-window.__pwned=1-'${window.__pwned=1}",
    "{{constructor.constructor('window.__pwned=1')()}}",
    "\u{202e}gnp.exe\u{2066}\u{200b}",
    "__proto__",
    "</style></title><iframe src=javascript:window.__pwned=1>",
];

#[test]
fn no_name_is_run_by_the_page() {
    let directory = tempfile::tempdir().unwrap();
    let collector = on_sqlite(&directory);
    let mut told = Vec::new();
    for (number, name) in NAMES.iter().enumerate() {
        let own = format!("10.0.0.{}", number + 1);
        let next = format!("10.0.0.{}", (number + 1) % NAMES.len() + 1);
        let before = format!("10.0.0.{}", (number + NAMES.len() - 1) % NAMES.len() + 1);
        let mut flows = vec![
            open(&format!("{own} > {next}:80 x"), 0, 60),
            open(&format!("{own}:80 < {before} x"), 0, 60),
            open(&format!("{own} > 192.0.2.1:443 x"), 0, 60),
        ];
        for flow in &mut flows {
            let mut process = process(name).as_ref().clone();
            process.exe = Some((*name).to_owned());
            process.user = Some((*name).to_owned());
            process.unit = Some((*name).to_owned());
            process.container = Some((*name).to_owned());
            let process = std::sync::Arc::new(process);
            flow.flow.key.process = Some(std::sync::Arc::clone(&process));
            flow.flow.owners[0].process = process;
        }
        told.push(with_addresses(report(name, 0, 1, 60, flows), &[&own]));
    }
    let reply = collector.report(&told.iter().collect::<Vec<_>>());
    assert_eq!(reply.status, 200, "{}", reply.text());
    browse("hostile", &[&collector.url()]);
}

#[test]
fn the_page_tells_two_times_apart() {
    let directory = tempfile::tempdir().unwrap();
    let collector = on_sqlite(&directory);
    let flow = |text: &str| format!("10.0.0.1 > {text} nginx");
    // From the beginning of an hour on, and recent enough for a step of the slider
    // to be less than what is told apart.
    let past = Timestamp::now().duration_since(at(0)).as_secs() - 4 * 3600;
    let begun = past - past % 3600;
    let (soon, later, late) = (begun + 300, begun + 1800, begun + 3 * 3600);
    let counted = |until: i64, opened: u64, failed: u64| {
        let mut told = open(&flow("192.0.2.9:5432"), begun, until);
        told.flow.counters.connecting = u32::from(failed > 0);
        told.flow.counters.opened = Some(opened);
        told.flow.counters.failed = Some(failed);
        told
    };
    let then = vec![
        counted(soon, 5, 0),
        open(&flow("192.0.2.1:8081"), begun, soon),
        open("10.0.0.1:80 < 192.0.2.200 nginx", begun, soon),
    ];
    let now = vec![
        counted(late, 5, 50),
        over(&flow("192.0.2.1:8081"), begun, later),
        open(&flow("192.0.2.2:8082"), later, late),
        open("10.0.0.1:80 < 192.0.2.200 nginx", begun, late),
    ];
    for (sequence, until, flows) in [(1, soon, then), (2, late, now)] {
        let told = with_addresses(report("web", begun, sequence, until, flows), &["10.0.0.1"]);
        let reply = collector.report(&[&told]);
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    // Somebody looked at another once, and watches it only since.
    for (since, until) in [(begun, begun + 1), (later, late)] {
        let flows = vec![open("10.0.0.2 > 192.0.2.3:53 named", since, until)];
        let told = with_addresses(report("db", since, 1, until, flows), &["10.0.0.2"]);
        assert_eq!(collector.report(&[&told]).status, 200);
    }
    let (then, now) = (at(soon).to_string(), at(late).to_string());
    browse("times", &[&collector.url(), &then, &now]);
}

#[test]
fn who_is_not_known_is_asked_for_a_token() {
    let directory = tempfile::tempdir().unwrap();
    let cmdb = format!("sqlite:{}/cmdb.db", directory.path().display());
    let open_to_all = Collector::start(&cmdb, &[]);
    let told = report("web", 0, 1, 60, vec![open("10.0.0.1 > 192.0.2.9:5432 nginx", 0, 60)]);
    let told = with_addresses(told, &["10.0.0.1"]);
    assert_eq!(open_to_all.report(&[&told]).status, 200);
    let token = reader(&cmdb);
    let collector = Collector::start(&cmdb, &["--require-auth"]);
    assert_eq!(collector.get("/api/v1/look?host=web").status, 401);
    browse("token", &[&collector.url(), &token]);
}

/// Each host calls the next one, for a minute.
fn ring(hosts: usize, since: i64) -> Vec<Report> {
    let until = since + 60;
    let address = |host: usize| format!("10.0.0.{}", host % hosts + 1);
    let name = |host: usize| format!("p{}", host % hosts % 5);
    let told = |host: usize| {
        let (own, next, before) = (address(host), address(host + 1), address(host + hosts - 1));
        let flows = vec![
            open(&format!("{own} > {next}:80 {}", name(host)), since, until),
            open(&format!("{own}:80 < {before} {}", name(host)), since, until),
        ];
        with_addresses(report(&format!("h{host}"), since, 1, until, flows), &[&own])
    };
    (0..hosts).map(told).collect()
}

#[test]
fn the_page_stays_true_while_it_is_open() {
    let directory = tempfile::tempdir().unwrap();
    let collector = on_sqlite(&directory);
    let two_days_ago = Timestamp::now().as_second() - at(0).as_second() - 2 * 86_400;
    let told = ring(120, two_days_ago);
    let reply = collector.report(&told.iter().collect::<Vec<_>>());
    assert_eq!(reply.status, 200, "{}", reply.text());
    browse("open", &[&collector.url()]);
}

#[test]
fn a_question_about_all_hosts_is_answered_as_those_about_each() {
    let directory = tempfile::tempdir().unwrap();
    let collector = on_sqlite(&directory);
    let told = ring(100, 0);
    let reply = collector.report(&told.iter().collect::<Vec<_>>());
    assert_eq!(reply.status, 200, "{}", reply.text());
    let edges = |query: &str| -> Vec<String> {
        let answer = collector.get(&format!("/api/v1/look?{query}")).json();
        let edges = answer["edges"].as_array().unwrap();
        let word = |edge: &Value| {
            format!("{} {} {}", edge["active_address"], edge["passive_address"], edge["told_by"])
        };
        edges.iter().map(word).collect()
    };
    let mut all = edges("what=*");
    let mut each: Vec<String> =
        (0..100).flat_map(|host| edges(&format!("host=h{host}&ways=down"))).collect();
    all.sort();
    each.sort();
    assert_eq!(all.len(), 100);
    assert!(all.iter().all(|edge| edge.ends_with("\"both\"")), "{all:#?}");
    assert_eq!(all, each);

    // So many hosts are not read at a glance; the programs on them are.
    let by = |query: &str| collector.get(&format!("/api/v1/groups?{query}")).json()["by"].clone();
    assert_eq!(by("by=auto"), "process");
    assert_eq!(by("by=auto&host=h1"), "host");
    assert_eq!(by(""), "host");
}

#[test]
fn an_answer_is_packed_for_who_can_unpack_it() {
    let directory = tempfile::tempdir().unwrap();
    let collector = on_sqlite(&directory);
    let ask = |path: &str, encodings: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n");
        collector.ask(&format!("{head}Accept-Encoding: {encodings}\r\n\r\n"), b"")
    };
    let plain = collector.get("/openapi.json");
    assert!(!plain.head.contains("content-encoding"), "{}", plain.head);
    let packed = ask("/openapi.json", "gzip, deflate, br, zstd");
    for line in ["content-encoding: zstd", "vary: accept-encoding"] {
        assert!(packed.head.contains(line), "{}", packed.head);
    }
    assert!(packed.body.len() < plain.body.len() / 5, "{}", packed.body.len());
    assert_eq!(zstd::decode_all(&*packed.body).unwrap(), plain.body);
    for encodings in ["gzip, br", "zstd;q=0", "*"] {
        assert_eq!(ask("/openapi.json", encodings).body, plain.body, "{encodings}");
    }
    // Not worth it, or kept by the browser under its tag.
    for path in ["/healthz", "/assets/app.js"] {
        let reply = ask(path, "zstd");
        assert!(!reply.head.contains("content-encoding"), "{path}: {}", reply.head);
    }
}

#[test]
fn the_files_of_the_page_may_be_kept_and_run_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let collector = on_sqlite(&directory);
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/?host=web", "text/html; charset=utf-8"),
        ("/assets/app.js", "text/javascript; charset=utf-8"),
        ("/assets/draw.js", "text/javascript; charset=utf-8"),
        ("/assets/app.css", "text/css; charset=utf-8"),
        ("/assets/icon.svg", "image/svg+xml"),
    ] {
        let reply = collector.get(path);
        assert_eq!(reply.status, 200, "{path}");
        let header = |name: &str| {
            let wanted = format!("{name}: ");
            let line = reply.head.lines().find_map(|line| line.strip_prefix(&*wanted));
            line.unwrap_or_else(|| panic!("{path} has no {name}: {}", reply.head)).to_owned()
        };
        assert_eq!(header("content-type"), kind);
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert_eq!(header("x-frame-options"), "DENY");
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
        let tag = header("etag");
        let ask = |tag: &str| {
            collector.ask(
                &format!(
                    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nIf-None-Match: {tag}\r\n\r\n"
                ),
                b"",
            )
        };
        let again = ask(&format!("\"other\", {tag}"));
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
        assert_eq!(ask("\"other\"").status, 200, "{path}");
    }
    // Who has a copy that is good did nothing wrong.
    let status = |class: &str| format!("shawk_http_requests_total{{status=\"{class}\"}}");
    let counts = ["3xx", "4xx"].map(|class| collector.metric(&status(class)));
    assert_eq!(counts, [6.0, 0.0]);
    assert_eq!(collector.get("/assets/").status, 404);
    assert_eq!(collector.get("/assets/../Cargo.toml").status, 404);
    assert_eq!(collector.post("/", b"").status, 405);
    let foreign = "GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(collector.ask(foreign, b"").status, 421);
}
