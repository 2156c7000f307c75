//! What the CMDB promises about what was recorded.

use std::sync::Arc;

use shawk::cmdb::Cmdb;
use shawk::cmdb::scheme::Change;
use shawk::flow::host::Coverage;
use shawk::flow::process::{Instance, Process};
use shawk::flow::report::{Report, ScopedAddress};
use shawk::flow::socket::{Direction, Protocol};
use shawk::recall::{Span, Window};

use crate::cmdb::{
    LIMITS, Place, at, between, flow, host, ip, key, names, on_every_engine, open, over, record,
    report, scoped, spans, with_addresses,
};

on_every_engine! {
    a_scheme_is_created_once_by_however_many,
    a_newer_scheme_is_refused_with_the_remedy,
    what_was_recorded_comes_back_as_it_was,
    a_flow_that_ended_and_came_back_has_two_spans,
    an_open_span_reaches_to_the_last_heartbeat_of_its_epoch,
    what_went_on_under_the_next_run_has_not_ended,
    a_window_holds_what_overlaps_it,
    a_heartbeat_writes_two_rows,
    the_newest_report_tells_the_numbers,
    an_address_moves,
    the_same_address_in_two_scopes_is_two,
    a_row_that_is_refused_loses_no_other,
}

async fn a_scheme_is_created_once_by_however_many(place: Place) {
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let url = place.url.clone();
        all.spawn(async move { Cmdb::create_scheme(&url, &LIMITS).await.expect("create").change });
    }
    let changes = all.join_all().await;
    let count = |wanted| changes.iter().filter(|change| **change == wanted).count();
    assert_eq!(count(Change::Created(3)), 1, "{changes:?}");
    // Others may have taken a later step.
    let migrated = [1, 2].map(|from| count(Change::Migrated { from, to: 3 }));
    assert!(migrated.iter().all(|times| *times <= 1), "{changes:?}");
    assert_eq!(count(Change::Current(3)), 7 - migrated[0] - migrated[1], "{changes:?}");
    let again = Cmdb::create_scheme(&place.url, &LIMITS).await.expect("create");
    assert_eq!(again.change, Change::Current(3));
    Cmdb::open(&place.url, &LIMITS).await.expect("open").close().await;
}

async fn a_newer_scheme_is_refused_with_the_remedy(place: Place) {
    place.cmdb().await.close().await;
    place.raw("UPDATE meta SET value = 99 WHERE name = 'version'").await;
    let before = place.dump().await;
    let open = Cmdb::open(&place.url, &LIMITS).await.err().expect("refused");
    let create = Cmdb::create_scheme(&place.url, &LIMITS).await.expect_err("refused");
    for refusal in [open, create] {
        let text = format!("{refusal:#}");
        assert!(text.contains("version 99") && text.contains("upgrade shawk"), "{text}");
    }
    assert_eq!(place.dump().await, before);
}

/// Everything a report can say, with text that means something to a shell, a
/// terminal, a page, a spreadsheet and SQL.
fn everything() -> Report {
    let hostile = "a) R 1 1\n2 (\u{202e}\x1b[31m'\";--\\xff<script>=cmd";
    let strange = Arc::new(Process {
        name: hostile.to_owned(),
        exe: Some(format!("/tmp/{hostile}")),
        user: Some("1000".to_owned()),
        unit: Some("nginx.service".to_owned()),
        container: Some("0123456789abcdef".repeat(4)),
        pod: Some("5f1c7a3e-0b1d-4d5c-9a6e-1c2d3e4f5a6b".to_owned()),
    });
    let instance = |process, pid| Instance { process, pid, pgid: 0, started: at(-60) };
    let mut full = open("10.0.0.1 > 10.0.0.2:80 curl", 0, 10);
    full.flow.key.process = Some(strange.clone());
    full.flow.owners = vec![instance(strange, u32::MAX), instance(crate::cmdb::process("sh"), 9)];
    full.flow.owners_more = 3;
    let counters = &mut full.flow.counters;
    (counters.open, counters.connecting, counters.rtt_us) = (u32::MAX, 2, Some(u32::MAX));
    (counters.opened, counters.failed, counters.retransmits) = (Some(1), Some(0), Some(5));
    (counters.bytes_sent, counters.bytes_received) = (Some(i64::MAX as u64), None);
    (counters.refused, counters.timed_out, counters.unreachable) = (Some(6), Some(7), Some(8));
    let mut six = open("[2001:db8::1]:443 < 2001:db8::2 nginx", 0, 10);
    (six.flow.key.protocol, six.flow.key.scope) = (Protocol::Udp, "netns:blue ' x".into());
    let mut unknown = open("10.0.0.1:9 > 10.0.0.2:10 x", 0, 10);
    (unknown.flow.key.direction, unknown.flow.key.process) = (Direction::Unknown, None);
    unknown.flow.owners.clear();
    let flows = vec![full, six, unknown, open("[::]:80 . nginx", 0, 10)];
    let addresses = ["10.0.0.1", "2001:db8::1", "127.0.0.1", "::1"];
    let mut told = with_addresses(report("web", 0, 1, 10, flows), &addresses);
    told.host.name = hostile.to_owned();
    told.coverage =
        Coverage { confined: true, sockets: 7, flows_dropped: 1, ..Coverage::default() };
    told
}

async fn what_was_recorded_comes_back_as_it_was(place: Place) {
    let cmdb = place.cmdb().await;
    let told = everything();
    record(&cmdb, std::slice::from_ref(&told)).await;

    let records = cmdb.around(&[key("web")], &[], &Window::default()).await.expect("around");
    let mut expected: Vec<_> = told.flows.iter().map(|reported| reported.flow.clone()).collect();
    expected.sort_by_key(|flow| flow.key.hash());
    let flows: Vec<_> = records.flows.iter().map(|record| record.flow.clone()).collect();
    assert_eq!(flows, expected);
    assert!(
        records.flows.iter().all(|record| record.first_seen == at(0) && record.host == key("web"))
    );
    let [web] = &records.hosts[..] else { panic!("{:?}", records.hosts) };
    assert_eq!((&web.id, &web.name, web.rung), (&told.host.id, &told.host.name, told.rung));
    assert_eq!((&web.coverage, web.first_seen, web.last_seen), (&told.coverage, at(0), at(10)));
    let mut addresses: Vec<_> =
        records.addresses.iter().map(|a| (a.address, a.since, a.until)).collect();
    addresses.sort();
    let mut had: Vec<_> = told.addresses.iter().map(|a| (a.address, at(0), at(10))).collect();
    had.sort();
    assert_eq!(addresses, had);
}

async fn a_flow_that_ended_and_came_back_has_two_spans(place: Place) {
    let cmdb = place.cmdb().await;
    let text = "10.0.0.1 > 10.0.0.2:80 curl";
    record(
        &cmdb,
        &[
            report("a", 0, 1, 10, vec![over(text, 1, 5), open(text, 8, 10)]),
            report("a", 0, 2, 30, vec![over(text, 8, 20)]),
        ],
    )
    .await;
    let records = cmdb.around(&[key("a")], &[], &Window::default()).await.expect("around");
    assert_eq!(spans(&records), [(1, 5, true), (8, 20, true)]);
    assert_eq!(records.flows[0].first_seen, at(1));
    let later = cmdb.around(&[key("a")], &[], &between(6, 40)).await.expect("around");
    assert_eq!(spans(&later), [(8, 20, true)]);
    assert_eq!(later.flows[0].first_seen, at(1), "also when that was before the window");
}

async fn an_open_span_reaches_to_the_last_heartbeat_of_its_epoch(place: Place) {
    let cmdb = place.cmdb().await;
    let all = Window::default();
    record(&cmdb, &[report("a", 0, 1, 10, vec![open("10.0.0.1 > 10.0.0.2:80 curl", 1, 10)])]).await;
    assert_eq!(
        spans(&cmdb.around(&[key("a")], &[], &all).await.expect("around")),
        [(1, 10, false)]
    );
    record(&cmdb, &[report("a", 0, 2, 40, vec![])]).await;
    assert_eq!(
        spans(&cmdb.around(&[key("a")], &[], &all).await.expect("around")),
        [(1, 40, false)]
    );
    // The probe starts again: what it saw before reaches no further, and is
    // over, although nobody lived to say so.
    record(&cmdb, &[report("a", 100, 1, 110, vec![])]).await;
    assert_eq!(spans(&cmdb.around(&[key("a")], &[], &all).await.expect("around")), [(1, 40, true)]);
    assert!(
        cmdb.around(&[key("a")], &[], &between(41, 200)).await.expect("around").flows.is_empty()
    );
}

async fn what_went_on_under_the_next_run_has_not_ended(place: Place) {
    let cmdb = place.cmdb().await;
    let texts = ["0.0.0.0:1 . on", "0.0.0.0:2 . over", "0.0.0.0:3 . gone", "0.0.0.0:4 . again"];
    let [on, ended, gone, again] = texts;
    let first = vec![open(on, 1, 10), open(ended, 1, 10), open(gone, 1, 10), over(again, 1, 10)];
    let second = vec![open(on, 101, 110), over(ended, 101, 120), open(again, 101, 110)];
    record(&cmdb, &[report("a", 0, 1, 40, first), report("a", 100, 1, 140, second)]).await;
    let seconds = |span: &Span| {
        let second = |time: jiff::Timestamp| time.as_second() - at(0).as_second();
        (second(span.since), second(span.until), span.ended)
    };
    for (window, expected) in [
        (
            between(0, 50),
            [
                (on, vec![(1, 40, false)], Some((101, 140, false))),
                (ended, vec![(1, 40, false)], Some((101, 120, true))),
                (gone, vec![(1, 40, true)], None),
                (again, vec![(1, 10, true)], None),
            ],
        ),
        (
            Window::default(),
            [
                (on, vec![(1, 40, true), (101, 140, false)], None),
                (ended, vec![(1, 40, true), (101, 120, true)], None),
                (gone, vec![(1, 40, true)], None),
                (again, vec![(1, 10, true), (101, 140, false)], None),
            ],
        ),
    ] {
        let records = cmdb.around(&[key("a")], &[], &window).await.expect("around");
        for (text, spans, later) in expected {
            let mut flows = records.flows.iter();
            let flow = flows.find(|flow| crate::cmdb::name(flow) == text).expect("it is known");
            assert_eq!(flow.spans.iter().map(seconds).collect::<Vec<_>>(), spans, "{text}");
            assert_eq!(flow.later.as_ref().map(seconds), later, "{text}");
        }
    }
}

async fn a_window_holds_what_overlaps_it(place: Place) {
    let cmdb = place.cmdb().await;
    let flows = vec![
        over("10.0.0.1 > 10.0.0.2:1 early", 10, 20),
        open("10.0.0.1 > 10.0.0.2:2 late", 30, 40),
    ];
    record(&cmdb, &[report("a", 0, 1, 60, flows)]).await;
    let (early, late) = ("10.0.0.1 > 10.0.0.2:1 early", "10.0.0.1 > 10.0.0.2:2 late");
    let both = [early, late];
    let none: [&str; 0] = [];
    for (since, until, expected) in [
        (0, 9, &none[..]),
        (0, 10, &both[..1]),
        (15, 15, &both[..1]),
        (20, 25, &both[..1]),
        (21, 29, &none[..]),
        (20, 30, &both[..]),
        (50, 50, &both[1..]),
        (60, 99, &both[1..]),
        (61, 99, &none[..]),
    ] {
        let records = cmdb.around(&[key("a")], &[], &between(since, until)).await.expect("around");
        assert_eq!(names(&records), expected, "{since}..{until}");
    }
    let since = Window { since: Some(at(25)), until: None };
    assert_eq!(names(&cmdb.around(&[key("a")], &[], &since).await.expect("around")), [late]);
    let until = Window { since: None, until: Some(at(25)) };
    assert_eq!(names(&cmdb.around(&[key("a")], &[], &until).await.expect("around")), [early]);
}

async fn a_heartbeat_writes_two_rows(place: Place) {
    let cmdb = place.cmdb().await;
    let flows =
        (1..=1000).map(|port| open(&format!("10.0.0.1 > 10.0.0.2:{port} curl"), 1, 10)).collect();
    record(&cmdb, &[with_addresses(report("a", 0, 1, 10, flows), &["10.0.0.1"])]).await;
    let before = place.dump().await;
    record(&cmdb, &[report("a", 0, 2, 40, vec![])]).await;
    let after = place.dump().await;
    let changed: Vec<_> = after.iter().filter(|row| !before.contains(row)).collect();
    assert_eq!((before.len(), after.len(), changed.len()), (1004, 1004, 2), "{changed:?}");
    let records = cmdb.around(&[key("a")], &[], &between(40, 40)).await.expect("around");
    assert_eq!(records.flows.len(), 1000, "all of them were alive until then");
}

async fn the_newest_report_tells_the_numbers(place: Place) {
    let cmdb = place.cmdb().await;
    let numbered = |from, sequence, seen, opened, name: &str| {
        let mut flow = open("10.0.0.1 > 10.0.0.2:80 curl", from + 1, seen);
        flow.flow.counters.opened = Some(opened);
        flow.flow.owners[0].pid = u32::try_from(opened).expect("small");
        let mut told = report("a", from, sequence, seen, vec![flow]);
        told.host.name = name.to_owned();
        told
    };
    // A new epoch counts from nothing; a late report of the one before it
    // changes neither its numbers nor the name.
    let reports = [
        numbered(0, 1, 10, 50, "old"),
        numbered(100, 1, 110, 3, "new"),
        numbered(100, 2, 120, 4, "newer"),
        numbered(0, 2, 20, 60, "late"),
    ];
    record(&cmdb, &reports).await;
    let records = cmdb.around(&[key("a")], &[], &Window::default()).await.expect("around");
    assert_eq!(records.flows[0].flow.counters.opened, Some(4));
    assert_eq!(records.flows[0].flow.owners[0].pid, 4);
    assert_eq!((records.hosts[0].name.as_str(), records.hosts[0].last_seen), ("newer", at(120)));
    assert_eq!(records.hosts[0].coverage.sockets, 2);
    assert_eq!(spans(&records), [(1, 20, true), (101, 120, false)]);
}

async fn an_address_moves(place: Place) {
    let cmdb = place.cmdb().await;
    let mut had = report("a", 0, 1, 50, vec![]);
    had.addresses = vec![ScopedAddress {
        scope: "".into(),
        address: ip("10.0.0.9"),
        since: at(0),
        ended: Some(at(20)),
    }];
    let mut has = report("b", 10, 1, 50, vec![]);
    has.addresses = vec![ScopedAddress {
        scope: "".into(),
        address: ip("10.0.0.9"),
        since: at(30),
        ended: None,
    }];
    let told_first = with_addresses(report("a", 0, 2, 60, vec![]), &["10.0.0.9"]);
    record(&cmdb, &[had, has, told_first]).await;
    for (since, until, owners) in [
        (0, 20, vec!["a"]),
        (21, 29, vec![]),
        (30, 50, vec!["b"]),
        // It is silent, and nobody else said that it has it.
        (51, 60, vec!["b"]),
        (20, 30, vec!["a", "b"]),
    ] {
        let records =
            cmdb.around(&[], &[ip("10.0.0.9")], &between(since, until)).await.expect("around");
        let mut named: Vec<_> = records.hosts.iter().map(|host| host.name.as_str()).collect();
        named.sort_unstable();
        assert_eq!(named, owners, "{since}..{until}");
    }
    let all = cmdb.around(&[], &[ip("10.0.0.9")], &Window::default()).await.expect("around");
    let mut ranges: Vec<_> = all.addresses.iter().map(|a| (a.since, a.until)).collect();
    ranges.sort();
    assert_eq!(ranges, [(at(0), at(20)), (at(30), at(50))]);
}

async fn the_same_address_in_two_scopes_is_two(place: Place) {
    let cmdb = place.cmdb().await;
    let [mut blue, mut green] =
        ["blue", "green"].map(|_| open("10.9.0.1:80 < 10.9.0.2 nginx", 1, 10));
    blue.flow.key.scope = "netns:blue".into();
    green.flow.key.scope = "netns:green".into();
    let mut told = report("a", 0, 1, 10, vec![blue, green]);
    told.addresses =
        vec![scoped("netns:blue", "10.9.0.1", &told), scoped("netns:green", "10.9.0.1", &told)];
    record(&cmdb, &[told]).await;
    let records = cmdb.around(&[key("a")], &[], &Window::default()).await.expect("around");
    let mut scopes: Vec<_> =
        records.flows.iter().map(|record| record.flow.key.scope.to_string()).collect();
    scopes.sort();
    assert_eq!(scopes, ["netns:blue", "netns:green"]);
    let mut scopes: Vec<_> =
        records.addresses.iter().map(|record| record.scope.to_string()).collect();
    scopes.sort();
    assert_eq!(scopes, ["netns:blue", "netns:green"]);
}

/// PostgreSQL's text has no NUL; SQLite's has.
async fn a_row_that_is_refused_loses_no_other(place: Place) {
    let cmdb = place.cmdb().await;
    let mut flows: Vec<_> =
        (1..=100).map(|port| open(&format!("10.0.0.1 > 10.0.0.2:{port} curl"), 1, 10)).collect();
    flows[40].flow.key.scope = "a\0b".into();
    flows[77].flow.key.scope = "\0".into();
    let mut nobody = report("nobody", 0, 1, 10, vec![open("10.0.0.5 > 10.0.0.2:80 curl", 1, 10)]);
    nobody.host = shawk::flow::host::Host { name: "no\0body".to_owned(), ..host("nobody") };
    let good: Report = report("a", 0, 1, 10, flows);
    let recorded = cmdb.record(&[&nobody, &good]).await.expect("record");
    let records =
        cmdb.around(&[key("a"), key("nobody")], &[], &Window::default()).await.expect("around");
    if place.is_sqlite() {
        assert_eq!((recorded.refused, records.flows.len()), (0, 101));
    } else {
        // Two flows, and all four rows of the host that has no row: host,
        // epoch, process, flow.
        assert_eq!((recorded.refused, records.flows.len()), (6, 98));
        assert_eq!(recorded.refused_of, [(key("a"), 2), (key("nobody"), 4)].into());
        assert_eq!(records.hosts.iter().map(|host| host.key).collect::<Vec<_>>(), [key("a")]);
    }
    assert!(names(&records).contains(&crate::cmdb::name(&shawk::recall::FlowRecord {
        host: key("a"),
        flow: flow("10.0.0.1 > 10.0.0.2:100 curl"),
        spans: vec![],
        first_seen: at(1),
        later: None,
    })));
}
