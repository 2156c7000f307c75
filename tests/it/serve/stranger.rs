//! What comes from anybody: too large, too slow, not understood, hostile.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use shawk::cmdb::Cmdb;
use shawk::cmdb::connect::Limits;
use shawk::cmdb::fault::is_refused;
use shawk::cmdb::url::CmdbUrl;
use shawk::flow::report::FlowReport;
use shawk::recall::{Selector, Window};
use shawk::wire;

use crate::cmdb::{open, report, scoped, with_addresses};
use crate::postgres;
use crate::serve::collector::{Collector, said, shawk, until};

fn on_sqlite(directory: &tempfile::TempDir) -> (Collector, String) {
    let cmdb = format!("sqlite:{}/cmdb.db", directory.path().display());
    (Collector::start(&cmdb, &[]), cmdb)
}

fn post(headers: &str, length: usize) -> String {
    format!(
        "POST /v1/reports HTTP/1.1\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n"
    )
}

const PACKED: &str = "Content-Type: application/x-protobuf\r\nContent-Encoding: zstd\r\n";

#[test]
fn what_is_no_report_is_refused_by_its_code_and_nothing_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let (collector, _) = on_sqlite(&directory);
    let good = wire::encode(&[&report("web", 0, 1, 60, vec![open("10.0.0.1:22 . sshd", 0, 60)])]);
    let packed = wire::pack(&good);
    // The version is the first field: its tag, then the number.
    let mut newer = good.clone();
    newer[1] = 99;
    for (body, status, code) in [
        (&b""[..], 400, "malformed"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "malformed"),
        (&wire::pack(b"no protobuf at all"), 400, "malformed"),
        (&packed[..packed.len() - 1], 400, "malformed"),
        (&wire::pack(&newer), 400, "version"),
        (&vec![0; (4 << 20) + 1], 413, "too_large"),
        // A bomb: 33 MiB of nothing in some thousand bytes.
        (&wire::pack(&vec![0; 33 << 20]), 413, "too_large"),
    ] {
        let reply = collector.post("/v1/reports", body);
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{}", reply.text());
    }
    let length = packed.len();
    for (head, status, code) in [
        (post("Host: 127.0.0.1\r\n", length), 415, "media"),
        (post(&format!("Host: evil.example\r\n{PACKED}"), length), 421, "host"),
        (
            post(&format!("Host: 127.0.0.1\r\nOrigin: http://evil.example\r\n{PACKED}"), length),
            403,
            "origin",
        ),
        (
            post(&format!("Host: 127.0.0.1\r\nOrigin: https://127.0.0.1\r\n{PACKED}"), length),
            403,
            "origin",
        ),
        (post(&format!("Host: 127.0.0.1\r\nOrigin: null\r\n{PACKED}"), length), 403, "origin"),
    ] {
        let reply = collector.ask(&head, &packed);
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{head}");
    }
    // What is decided by stands there once, and is text.
    for (lines, status, code) in [
        ("Host: evil.example\r\nHost: 127.0.0.1\r\n", 400, "malformed"),
        ("Host: 127.0.0.1\r\nHost: evil.example\r\n", 400, "malformed"),
        ("Host: 127.0.0.1:x@evil.example\r\n", 421, "host"),
        ("Host: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\nOrigin: null\r\n", 400, "malformed"),
        ("Host: 127.0.0.1\r\nOrigin: \u{fc}\r\n", 403, "origin"),
        ("Host: 127.0.0.1\r\nAuthorization: \u{fc}\r\n", 401, "unauthenticated"),
        (
            "Host: 127.0.0.1\r\nAuthorization: Basic x\r\nAuthorization: Basic y\r\n",
            400,
            "malformed",
        ),
    ] {
        let reply = collector.ask(&post(&format!("{lines}{PACKED}"), length), &packed);
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{lines}");
    }
    let found = collector.get("/api/v1/look?host=web").json();
    assert_eq!(found["hosts"], serde_json::json!([]));
    assert_eq!(collector.metric("shawk_flows_recorded_total"), 0.0);

    // Then it takes what is good, once.
    assert_eq!(collector.post("/v1/reports", &packed).status, 200);
    let again = collector.post("/v1/reports", &packed);
    assert_eq!((again.status, again.code().as_str()), (409, "already_recorded"));
    assert_eq!(collector.metric("shawk_reports_total{outcome=\"recorded\"}"), 1.0);
}

/// As balancers ask whether it is well: by HEAD, or in HTTP/1.0 without a name.
#[test]
fn head_is_get_without_its_body_and_a_host_is_missed_where_it_must_stand() {
    let directory = tempfile::tempdir().unwrap();
    let (collector, _) = on_sqlite(&directory);
    for path in ["/healthz", "/readyz", "/", "/metrics", "/api/v1/look?host=web"] {
        let ask = |method: &str| {
            let host = "Host: 127.0.0.1\r\nConnection: close";
            collector.ask(&format!("{method} {path} HTTP/1.1\r\n{host}\r\n\r\n"), b"")
        };
        let (get, head) = (ask("GET"), ask("HEAD"));
        assert_eq!((get.status, head.status), (200, 200), "{path}");
        assert!(head.body.is_empty() && !get.body.is_empty(), "{path}");
        let kind = |head: &str| {
            head.lines().find(|line| line.starts_with("content-type: ")).map(str::to_owned)
        };
        assert_eq!(kind(&head.head), kind(&get.head), "{path}");
    }
    for (asked, status, code) in [
        ("HEAD /v1/reports HTTP/1.1\r\nHost: 127.0.0.1", 405, ""),
        ("GET /healthz HTTP/1.1", 400, "malformed"),
        ("GET http://127.0.0.1/healthz HTTP/1.1", 400, "malformed"),
        ("GET / HTTP/1.1", 400, "malformed"),
        ("GET /metrics HTTP/1.1", 400, "malformed"),
        ("GET /metrics HTTP/1.1\r\nHost:", 421, "host"),
        // It may be missing, but then nobody says that we are meant.
        ("GET /metrics HTTP/1.0", 421, "host"),
        ("GET / HTTP/1.0", 421, "host"),
        ("GET /metrics HTTP/1.0\r\nHost: 127.0.0.1", 200, ""),
        ("GET /healthz HTTP/1.0", 200, ""),
        ("HEAD /readyz HTTP/1.0", 200, ""),
    ] {
        let reply = collector.ask(&format!("{asked}\r\nConnection: close\r\n\r\n"), b"");
        assert_eq!(reply.status, status, "{asked}");
        assert!(code.is_empty() || reply.code() == code, "{asked}: {}", reply.text());
    }
}

#[test]
fn a_report_that_was_recorded_counts_as_delivered() {
    let directory = tempfile::tempdir().unwrap();
    let (collector, _) = on_sqlite(&directory);
    let told = report("web", 0, 1, 60, vec![open("10.0.0.1:22 . sshd", 0, 60)]);
    let url = CmdbUrl::parse(&collector.url()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let cmdb = Cmdb::open(&url, &Limits::STANDARD).await.unwrap();
        for _ in 0..2 {
            assert_eq!(cmdb.record(&[&told]).await.unwrap().refused, 0);
        }
        assert_eq!(cmdb.last_sequence(told.host.hash(), told.epoch).await.unwrap(), Some(1));
    });
    assert_eq!(collector.metric("shawk_reports_total{outcome=\"recorded\"}"), 1.0);
    assert_eq!(collector.metric("shawk_reports_total{outcome=\"already_recorded\"}"), 1.0);
}

/// What a probe tells at once is taken at once, and what is too much is refused
/// as a whole: no part of a report is ever taken for all of it.
#[test]
fn a_report_is_recorded_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let (collector, _) = on_sqlite(&directory);
    let flows = |count: u32| -> Vec<FlowReport> {
        let flow = |number| {
            let peer = Ipv4Addr::from(0x0a01_0000 + number);
            open(&format!("10.0.0.1 -> {peer}:443 app{number}"), 0, 60)
        };
        (0..count).map(flow).collect()
    };
    let url = CmdbUrl::parse(&collector.url()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let cmdb = Cmdb::open(&url, &Limits::STANDARD).await.unwrap();
        let most = report("web", 0, 1, 60, flows(16_384));
        assert_eq!(cmdb.record(&[&most]).await.unwrap().refused, 0);
        assert_eq!(collector.metric("shawk_reports_total{outcome=\"recorded\"}"), 1.0);
        assert_eq!(collector.metric("shawk_flows_recorded_total"), 16_384.0);

        let more = report("web", 0, 2, 60, flows(65_537));
        let refused = cmdb.record(&[&more]).await.unwrap_err();
        assert!(is_refused(&refused), "{refused:#}");
        assert_eq!(cmdb.last_sequence(more.host.hash(), more.epoch).await.unwrap(), Some(1));
    });
    assert_eq!(collector.metric("shawk_flows_recorded_total"), 16_384.0);
}

#[test]
fn headers_that_come_byte_by_byte_are_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let (collector, _) = on_sqlite(&directory);
    let mut stream = TcpStream::connect(("127.0.0.1", collector.port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(250))).unwrap();
    let began = Instant::now();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nX: ").unwrap();
    loop {
        assert!(began.elapsed() < Duration::from_secs(20), "it still waits");
        // The wait between two bytes is the reader's.
        match stream.read(&mut [0; 512]) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
        if stream.write_all(b"x").is_err() {
            break;
        }
    }
    assert!(began.elapsed() > Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!(collector.get("/healthz").status, 200);
}

#[test]
fn hostile_names_do_not_cost_the_good_ones() {
    let directory = tempfile::tempdir().unwrap();
    let postgres = postgres::server(15).tcp_url_for_new_database();
    let created = shawk(&["create-scheme", "--cmdb", &postgres]).output().unwrap();
    assert!(created.status.success(), "{}", said(&created));
    for cmdb in [format!("sqlite:{}/cmdb.db", directory.path().display()), postgres] {
        let collector = Collector::start(&cmdb, &[]);
        let awful = [
            "\0",
            "\u{1b}[2J",
            "'; DROP TABLE flow; --",
            "\u{202e}",
            "a\r\nb: c",
            "{}\\",
            "%00",
            "\u{10ffff}",
        ];
        let mut told = Vec::new();
        for number in 0..200 {
            let bad = format!("{}{number}{}", awful[number % awful.len()], "y".repeat(number * 20));
            let mut hostile = report(&bad, 0, 1, 60, vec![open("10.1.0.1:22 . x", 0, 60)]);
            let process = crate::cmdb::process(&bad);
            hostile.flows[0].flow.key.process = Some(process.clone());
            hostile.flows[0].flow.owners[0].process = process;
            hostile.flows[0].flow.key.scope = bad.as_str().into();
            told.push(hostile);
            let good = report(
                &format!("good-{number}"),
                0,
                1,
                60,
                vec![open("10.0.0.1:22 . sshd", 0, 60)],
            );
            told.push(with_addresses(good, &["10.0.0.1"]));
        }
        // Eight at once, good and bad in one request.
        std::thread::scope(|scope| {
            for some in told.chunks(50) {
                let collector = &collector;
                scope.spawn(move || {
                    let reply = collector.report(&some.iter().collect::<Vec<_>>());
                    assert_eq!(reply.status, 200, "{}", reply.text());
                });
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let cmdb =
                Cmdb::open(&CmdbUrl::parse(&cmdb).unwrap(), &Limits::STANDARD).await.unwrap();
            for number in 0..200 {
                let good = Selector::Host(format!("id-of-good-{number}"));
                let found = cmdb.find(&good, &Window::default()).await.unwrap();
                let hosts: Vec<_> = found.hosts.iter().copied().collect();
                let records = cmdb.around(&hosts, &[], &Window::default()).await.unwrap();
                let own = records.flows.iter().filter(|flow| hosts.contains(&flow.host));
                assert_eq!((hosts.len(), own.count()), (1, 1), "good-{number}");
            }
        });
    }
}

/// Nothing that a database could make shorter.
fn noise() -> String {
    let mut state = 1_u64;
    let letter = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'a' + u8::try_from((state >> 33) % 26).unwrap())
    };
    (0..4000).map(letter).collect()
}

/// A name that no database has room for in an index would cost a transaction of
/// its own, and a line of the log, for each of thousands.
#[test]
fn names_of_kilobytes_are_left_out_before_the_database_sees_them() {
    let postgres = postgres::server(15).tcp_url_for_new_database();
    let created = shawk(&["create-scheme", "--cmdb", &postgres]).output().unwrap();
    assert!(created.status.success(), "{}", said(&created));
    let collector = Collector::start(&postgres, &[]);
    let noise = noise();
    let flows = (0..100).map(|number| {
        let mut told = open(&format!("10.0.0.1:{number} . x"), 0, 60);
        told.flow.key.process = Some(crate::cmdb::process(&format!("{number}{noise}")));
        told.flow.owners.clear();
        told
    });
    let mut told = report("web", 0, 1, 60, flows.collect());
    told.flows.push(open("10.0.0.1:443 . nginx", 0, 60));
    let reply = collector.report(&[&told]).json();
    let refused = (&reply["refused_flows"], &reply["refused_rows"]);
    assert_eq!(refused, (&100.into(), &0.into()), "{reply}");
    let found = collector.get("/api/v1/listeners?host=web").json();
    assert_eq!(found["total"], 1, "{found:#}");
    // A host's is for people, who read its beginning.
    told.host.name.clone_from(&noise);
    told.sequence = 2;
    let reply = collector.report(&[&told]).json();
    assert_eq!((&reply["recorded"], &reply["refused_rows"]), (&1.into(), &0.into()), "{reply}");
    let found = collector.get("/api/v1/look?host=id-of-web").json();
    let name = found["hosts"][0]["name"].as_str().unwrap();
    assert!(
        name.len() == 1024 && name.starts_with(&noise[..1000]) && name.ends_with('…'),
        "{name}"
    );
    assert!(!collector.log().contains("refused a row"), "{}", collector.log());
}

/// As of names; and one scope, which stands once on the wire, stands in each of
/// a report's rows.
#[test]
fn scopes_of_kilobytes_are_left_out_before_the_database_sees_them() {
    let postgres = postgres::server(15).tcp_url_for_new_database();
    let created = shawk(&["create-scheme", "--cmdb", &postgres]).output().unwrap();
    assert!(created.status.success(), "{}", said(&created));
    let collector = Collector::start(&postgres, &[]);
    let noise = noise();
    let mut told = report("web", 0, 1, 60, vec![open("10.0.0.1:443 . nginx", 0, 60)]);
    for number in 0..100 {
        told.addresses.push(scoped(&format!("{number}{noise}"), "10.0.0.2", &told));
    }
    let mut flow = open("10.0.0.1:80 . nginx", 0, 60);
    flow.flow.key.scope = noise.as_str().into();
    told.flows.push(flow);
    // The longest that a host may truly have: a name of 255 bytes, none of them
    // text.
    let longest = format!("container:{}", "\\xff".repeat(255));
    told.addresses.push(scoped(&longest, "10.0.0.2", &told));
    let reply = collector.report(&[&told]).json();
    let refused = (&reply["refused_flows"], &reply["refused_rows"]);
    assert_eq!(refused, (&101.into(), &0.into()), "{reply}");
    assert!(!collector.log().contains("refused a row"), "{}", collector.log());
}

/// /readyz says that the log says why.
#[test]
fn a_cmdb_that_is_away_is_told_of_once_for_each_reason() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let cmdb = format!("postgres://shawk:c4n4ry-Passw0rd@127.0.0.1:{port}/x?sslmode=disable");
    let collector = Collector::start(&cmdb, &[]);
    let said = || -> Vec<String> {
        let log = collector.log();
        let reasons = log.lines().filter_map(|line| line.split_once("the CMDB cannot be used: "));
        reasons.map(|(_, why)| why.to_owned()).collect()
    };
    until("it says so", || said().len() == 1);
    assert!(said()[0].contains("refused"), "{:?}", said());
    // Somebody is there now, who is no database.
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    for _ in 0..2 {
        drop(listener.accept().unwrap());
    }
    until("it says another reason", || said().len() > 1);
    // Again as before, as often as it asks in this time.
    drop(listener);
    let began = Instant::now();
    until("it has asked again", || began.elapsed() > Duration::from_secs(5));
    let mut reasons = said();
    reasons.sort();
    reasons.dedup();
    let log = collector.log();
    assert!(reasons.len() == said().len() && !log.contains("c4n4ry"), "{log}");
}

#[test]
fn no_password_is_told_to_anybody() {
    const CANARY: &str = "c4n4ry-Passw0rd";
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let running = postgres::server(15).tcp_url_for_new_database();
    let running = running.replace(postgres::PASSWORD, CANARY);
    // They wait for it, and tell whoever asks that it is away.
    for cmdb in [
        format!("postgres://shawk:{CANARY}@127.0.0.1:{closed}/x"),
        format!("postgres://shawk:{CANARY}@127.0.0.1:{closed}/x?sslrootcert=/no/such/file"),
    ] {
        let collector = Collector::start(&cmdb, &["--debug"]);
        let told = report("web", 0, 1, 60, Vec::new());
        for reply in [
            collector.report(&[&told]),
            collector.get("/readyz"),
            collector.get("/metrics"),
            collector.get("/api/v1/look?host=web"),
        ] {
            assert!(!reply.text().contains(CANARY), "{}", reply.text());
        }
        assert_eq!(collector.get("/readyz").status, 503);
        assert_eq!(collector.report(&[&told]).status, 503);
        assert_eq!(collector.metric("shawk_cmdb_up"), 0.0);
        collector.terminate();
        let (status, log) = collector.ended();
        assert!(status.success() && !log.contains(CANARY), "{log}");
    }
    for cmdb in [
        running,
        format!("postgres://shawk:{CANARY}@127.0.0.1:{closed}/x?sslmode=bogus"),
        format!("postgres://shawk:{CANARY}@127.0.0.1:port/x"),
        format!("postgres://127.0.0.1:{closed}/x?password={CANARY}&bogus=1"),
        format!("http://user:{CANARY}@127.0.0.1:{closed}"),
        format!("https://127.0.0.1:{closed}/?token={CANARY}"),
        format!("mysql://root:{CANARY}@localhost/x"),
        format!("sqlite:/no/such/cmdb.db?password={CANARY}"),
    ] {
        for arguments in [
            &["serve", "--listen", "127.0.0.1:0", "--cmdb", &cmdb][..],
            &["look", "web", "--debug", "--cmdb", &cmdb],
        ] {
            let output = shawk(arguments).output().unwrap();
            let text = said(&output);
            assert!(!output.status.success(), "{arguments:?}: {text}");
            assert!(!text.contains(CANARY), "{arguments:?}: {text}");
        }
    }
}
