//! Every finding, by its bytes.

use expect_test::{Expect, expect};
use jiff::SignedDuration;

use crate::graph::tests::notation::{records, second};
use crate::recall::Selector;
use crate::study::diff::Moments;
use crate::study::drain::Quiet;
use crate::study::impact::Decommission;
use crate::study::tests::{outcome, outcome_at};
use crate::study::{About, Outcome};
use crate::view::Format;
use crate::view::finding::write;

pub(super) fn print(outcome: &Outcome, format: Format) -> String {
    let mut out = Vec::new();
    write(outcome, format, false, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[track_caller]
fn check(outcome: &Outcome, format: Format, expected: Expect) {
    expected.assert_eq(&print(outcome, format));
}

const LISTENERS: &str = "
    host web-1
    host wrk-1
    web-1 has 127.0.0.1 10.0.0.10
    wrk-1 has 127.0.0.1 10.0.0.11
    web-1 tcp 0.0.0.0:80 listens nginx/4656
    web-1 tcp 127.0.0.1:6379 listens redis-server/5000 20-60
    web-1@netns:blue udp 10.1.0.1:53 listens dnsmasq/6000
    web-1 tcp 10.0.0.10:81 listens - 5-10.
    web-1 tcp 10.0.0.10:80 <- 10.0.0.11 nginx/4656 open=12
    web-1 tcp 10.0.0.10:80 <- 10.0.0.99 nginx/4656 0-30.
    wrk-1 tcp 10.0.0.11 -> 10.0.0.10:80 wrk/5982 open=12";

#[test]
fn listeners_in_columns() {
    let mut outcome = outcome(LISTENERS, Selector::All, About::Listeners);
    check(
        &outcome,
        Format::Table,
        expect![[r#"
            HOST                PROTO  LISTENS AT      REACHED BY    PROCESS                         LAST USED  CALLERS
            web-1               tcp    0.0.0.0:80      any address   ('nginx', pgid=4656)                  10s
                    2: wrk-1 ('wrk', pgid=5982), 10.0.0.99:many (no probe)
            web-1               tcp    127.0.0.1:6379  itself only   ('redis-server', pgid=5000)  never in 50s
            web-1 [netns:blue]  udp    10.1.0.1:53     that address  ('dnsmasq', pgid=6000)            unknown

            1 listener has ended; --since shows it
            data of 2 hosts: web-1 10s old, wrk-1 10s old
        "#]],
    );
    outcome.inquiry.page.limit = 1;
    outcome.inquiry.page.after = outcome.part().next;
    check(
        &outcome,
        Format::Table,
        expect![[r#"
            HOST   PROTO  LISTENS AT      REACHED BY   PROCESS                         LAST USED  CALLERS
            web-1  tcp    127.0.0.1:6379  itself only  ('redis-server', pgid=5000)  never in 50s

            lines 2 to 2 of 3; --after 2-069c16b9f6faaff1-1780000070000000 for more
            1 listener has ended; --since shows it
            data of 2 hosts: web-1 10s old, wrk-1 10s old
        "#]],
    );
}

#[test]
fn listeners_for_programs() {
    let mut outcome = outcome(LISTENERS, Selector::Port(80), About::Listeners);
    check(
        &outcome,
        Format::Json,
        expect![[r#"
            {"schema":"shawk.listeners/1","generated":"2026-05-28T20:27:50Z","query":{"selector":{"kind":"port","value":"80"},"limit":100},"total":1,"offset":0,"items":[{"who":{"probe":true,"host":"web-1","host_id":"web-1-id","scope":"","process":{"name":"nginx"},"pgid":4656},"protocol":"tcp","address":"0.0.0.0","port":80,"reach":"any","state":"alive","first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:27:40Z","callers":2,"called_by":[{"probe":true,"host":"wrk-1","host_id":"wrk-1-id","scope":"","process":{"name":"wrk"},"pgid":5982},{"probe":false,"address":"10.0.0.99"}],"last_used":"2026-05-28T20:27:40Z"}],"ended":0,"hosts":[{"name":"web-1","id":"web-1-id","rung":"netlink","first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:27:40Z","coverage":{"confined":false,"namespaces":0,"namespaces_unreadable":0,"processes":0,"processes_vanished":0,"processes_unreadable":0,"sockets":0,"sockets_ownerless":0,"sockets_unattributed":0,"malformed":0,"flows_dropped":0,"updates_lost":0,"scans_skipped":0,"records_dropped":0}},{"name":"wrk-1","id":"wrk-1-id","rung":"netlink","first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:27:40Z","coverage":{"confined":false,"namespaces":0,"namespaces_unreadable":0,"processes":0,"processes_vanished":0,"processes_unreadable":0,"sockets":0,"sockets_ownerless":0,"sockets_unattributed":0,"malformed":0,"flows_dropped":0,"updates_lost":0,"scans_skipped":0,"records_dropped":0}}],"malformed":0,"cut":{"hosts":0,"addresses":0,"edges":0},"notes":["data of 2 hosts: web-1 10s old, wrk-1 10s old"]}
        "#]],
    );
    outcome.inquiry.page.limit = 0;
    check(
        &outcome,
        Format::Json,
        expect![[r#"
            {"schema":"shawk.listeners/1","generated":"2026-05-28T20:27:50Z","query":{"selector":{"kind":"port","value":"80"},"limit":0},"total":1,"offset":0,"items":[],"ended":0,"hosts":[{"name":"web-1","id":"web-1-id","rung":"netlink","first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:27:40Z","coverage":{"confined":false,"namespaces":0,"namespaces_unreadable":0,"processes":0,"processes_vanished":0,"processes_unreadable":0,"sockets":0,"sockets_ownerless":0,"sockets_unattributed":0,"malformed":0,"flows_dropped":0,"updates_lost":0,"scans_skipped":0,"records_dropped":0}},{"name":"wrk-1","id":"wrk-1-id","rung":"netlink","first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:27:40Z","coverage":{"confined":false,"namespaces":0,"namespaces_unreadable":0,"processes":0,"processes_vanished":0,"processes_unreadable":0,"sockets":0,"sockets_ownerless":0,"sockets_unattributed":0,"malformed":0,"flows_dropped":0,"updates_lost":0,"scans_skipped":0,"records_dropped":0}}],"malformed":0,"cut":{"hosts":0,"addresses":0,"edges":0},"notes":["data of 2 hosts: web-1 10s old, wrk-1 10s old"]}
        "#]],
    );
}

const CHANGED: &str = "
    host web-1
    host wrk-1
    host db-1
    web-1 has 127.0.0.1 10.0.0.10 0-2000
    wrk-1 has 127.0.0.1 10.0.0.11 0-2000
    db-1 has 127.0.0.1 10.0.0.12 0-2000
    web-1 tcp 0.0.0.0:80 listens nginx/4656 0-1200.
    web-1 tcp 0.0.0.0:80 listens haproxy/4700 1202-2000
    web-1 tcp 0.0.0.0:9100 listens node_exporter/4701 1300-2000
    web-1 tcp 10.0.0.10:80 <- 10.0.0.11 nginx/4656 0-1200.
    web-1 tcp 10.0.0.10:80 <- 10.0.0.11 haproxy/4700 1202-2000
    web-1 tcp 10.0.0.10 -> 10.0.0.99:5432 nginx/4656 0-1200.
    web-1 tcp 10.0.0.10 -> 10.0.0.98:5432 haproxy/4700 1210-2000
    web-1 tcp 10.0.0.10 -> 10.0.0.97:53 nginx/4656 300-301.
    wrk-1 tcp 10.0.0.11 -> 10.0.0.10:80 wrk/5982 0-2000
    db-1 tcp 0.0.0.0:5432 listens postgres/7 0-1100";

fn changed() -> Outcome {
    let window = SignedDuration::from_secs(900);
    let moments = Moments { from: second(1000), to: second(2000), window, exit_code: true };
    let mut records = records(CHANGED);
    for host in &mut records.hosts {
        host.last_seen = second(if host.name == "db-1" { 1100 } else { 2000 });
    }
    outcome_at(&records, Selector::All, About::Diff(moments), second(2010))
}

#[test]
fn a_difference_in_columns() {
    check(
        &changed(),
        Format::Table,
        expect![[r#"
            CHANGE   ACTIVE                        PASSIVE                             AT                  WHAT
            new      web-1 ('haproxy', pgid=4700)  10.0.0.98:5432 (no probe)           tcp 10.0.0.98:5432  first seen 13m ago
            new      (listens)                     web-1 ('node_exporter', pgid=4701)  tcp 0.0.0.0:9100    first seen 11m ago
            gone     web-1 ('nginx', pgid=4656)    10.0.0.99:5432 (no probe)           tcp 10.0.0.99:5432
                    last seen 13m ago, first seen 33m ago
            process  (listens)                     web-1 ('haproxy', pgid=4700)        tcp 0.0.0.0:80
                    was 'nginx', now 'haproxy'

            between 2026-05-28T20:43:20Z and 2026-05-28T21:00:00Z, each by the 15m before it, as far as they are not shared
              - unknown: 1 of db-1, of which nothing was heard at 2026-05-28T21:00:00Z
            1 edges or listeners come and go so rarely that one moment says nothing
            data of 3 hosts: db-1 15m old (silent), web-1 10s old, wrk-1 10s old
        "#]],
    );
    assert_eq!(changed().exit_code(), 3);
}

#[test]
fn a_difference_for_programs() {
    check(
        &changed(),
        Format::Json,
        expect![[r#"
            {"schema":"shawk.diff/1","generated":"2026-05-28T21:00:10Z","query":{"selector":{"kind":"all","value":"*"},"limit":100},"total":4,"offset":0,"items":[{"kind":"edge","change":"new","active":{"probe":true,"host":"web-1","host_id":"web-1-id","scope":"","process":{"name":"haproxy"},"pgid":4700},"passive":{"probe":false,"address":"10.0.0.98","port":5432},"protocol":"tcp","active_address":"10.0.0.10","address":"10.0.0.98","port":5432,"first_seen":"2026-05-28T20:46:50Z","last_seen":"2026-05-28T21:00:00Z"},{"kind":"listener","change":"new","passive":{"probe":true,"host":"web-1","host_id":"web-1-id","scope":"","process":{"name":"node_exporter"},"pgid":4701},"protocol":"tcp","address":"0.0.0.0","port":9100,"first_seen":"2026-05-28T20:48:20Z","last_seen":"2026-05-28T21:00:00Z"},{"kind":"edge","change":"gone","active":{"probe":true,"host":"web-1","host_id":"web-1-id","scope":"","process":{"name":"nginx"},"pgid":4656},"passive":{"probe":false,"address":"10.0.0.99","port":5432},"protocol":"tcp","active_address":"10.0.0.10","address":"10.0.0.99","port":5432,"first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:46:40Z"},{"kind":"listener","change":"process","passive":{"probe":true,"host":"web-1","host_id":"web-1-id","scope":"","process":{"name":"haproxy"},"pgid":4700},"protocol":"tcp","address":"0.0.0.0","port":80,"first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T21:00:00Z","was":["nginx"],"is":["haproxy"]}],"from":"2026-05-28T20:43:20Z","to":"2026-05-28T21:00:00Z","window_s":900,"occasional":1,"undecided":0,"unheard":[{"host":"db-1","at":"2026-05-28T21:00:00Z","things":1}],"unheard_total":1,"cut_before":{"hosts":0,"addresses":0,"edges":0},"hosts":[{"name":"db-1","id":"db-1-id","rung":"netlink","first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:45:00Z","coverage":{"confined":false,"namespaces":0,"namespaces_unreadable":0,"processes":0,"processes_vanished":0,"processes_unreadable":0,"sockets":0,"sockets_ownerless":0,"sockets_unattributed":0,"malformed":0,"flows_dropped":0,"updates_lost":0,"scans_skipped":0,"records_dropped":0}},{"name":"web-1","id":"web-1-id","rung":"netlink","first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T21:00:00Z","coverage":{"confined":false,"namespaces":0,"namespaces_unreadable":0,"processes":0,"processes_vanished":0,"processes_unreadable":0,"sockets":0,"sockets_ownerless":0,"sockets_unattributed":0,"malformed":0,"flows_dropped":0,"updates_lost":0,"scans_skipped":0,"records_dropped":0}},{"name":"wrk-1","id":"wrk-1-id","rung":"netlink","first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T21:00:00Z","coverage":{"confined":false,"namespaces":0,"namespaces_unreadable":0,"processes":0,"processes_vanished":0,"processes_unreadable":0,"sockets":0,"sockets_ownerless":0,"sockets_unattributed":0,"malformed":0,"flows_dropped":0,"updates_lost":0,"scans_skipped":0,"records_dropped":0}}],"malformed":0,"cut":{"hosts":0,"addresses":0,"edges":0},"notes":["data of 3 hosts: db-1 15m old (silent), web-1 10s old, wrk-1 10s old"]}
        "#]],
    );
}

const BROKEN: &str = "
    host web-1
    host wrk-1
    host db-1
    web-1 has 127.0.0.1 10.0.0.10
    wrk-1 has 127.0.0.1 10.0.0.11
    db-1 has 127.0.0.1 10.0.0.12
    web-1 tcp 0.0.0.0:80 listens nginx/4656
    web-1 tcp 10.0.0.10:80 <- 10.0.0.11 nginx/4656
    web-1 tcp 10.0.0.10:80 <- 8.8.8.8 nginx/4656
    web-1 tcp 10.0.0.10 -> 10.0.0.12:5432 nginx/4656 connecting=1
    wrk-1 tcp 10.0.0.11 -> 10.0.0.12:5432 wrk/5982 20-50. open=0 opened=0 failed=7
    wrk-1 tcp 10.0.0.11 -> 10.0.0.12:22 ssh/5983 connecting=1
    wrk-1 tcp 10.0.0.11 -> 10.0.0.99:25 exim4/5984 connecting=1 opened=3 failed=2
    wrk-1 tcp 10.0.0.11 -> 10.0.0.98:25 exim4/5984
    wrk-1 udp 10.0.0.11 -> 10.0.0.98:53 exim4/5984
    wrk-1 tcp 10.0.0.11 -> 10.0.0.10:80 wrk/5982
    db-1 tcp 127.0.0.1:5432 listens postgres/7
    db-1 tcp 0.0.0.0:22 listens sshd/8";

#[test]
fn what_is_called_in_vain() {
    let failing = outcome(BROKEN, Selector::All, About::Failing(true));
    check(
        &failing,
        Format::Table,
        expect![[r#"
            CALLED IN VAIN      THERE              WHY        ATTEMPTS  FIRST  LAST  ANSWERED  CALLERS
            tcp 10.0.0.12:5432  nothing listens    no answer         7    70s   10s  unknown
                    2: wrk-1 ('wrk', pgid=5982), web-1 ('nginx', pgid=4656)
            tcp 10.0.0.12:22    something listens  no answer         -    70s   10s  unknown   1: wrk-1 ('ssh', pgid=5983)
            tcp 10.0.0.99:25    no probe           no answer         2    70s   10s  before    1: wrk-1 ('exim4', pgid=5984)

            data of 3 hosts: db-1 10s old, web-1 10s old, wrk-1 10s old
        "#]],
    );
    check(
        &failing,
        Format::Json,
        expect![[r#"
            {"schema":"shawk.failing/1","generated":"2026-05-28T20:27:50Z","query":{"selector":{"kind":"all","value":"*"},"limit":100},"total":3,"offset":0,"items":[{"passive":{"probe":true,"host":"db-1","host_id":"db-1-id","scope":"","port":5432},"protocol":"tcp","address":"10.0.0.12","port":5432,"there":"nothing_listens","answered":"unknown","first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:27:40Z","failed":7,"waiting":1,"callers":2,"called_by":[{"probe":true,"host":"wrk-1","host_id":"wrk-1-id","scope":"","process":{"name":"wrk"},"pgid":5982},{"probe":true,"host":"web-1","host_id":"web-1-id","scope":"","process":{"name":"nginx"},"pgid":4656}]},{"passive":{"probe":true,"host":"db-1","host_id":"db-1-id","scope":"","process":{"name":"sshd"},"pgid":8},"protocol":"tcp","address":"10.0.0.12","port":22,"there":"listens","answered":"unknown","first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:27:40Z","waiting":1,"callers":1,"called_by":[{"probe":true,"host":"wrk-1","host_id":"wrk-1-id","scope":"","process":{"name":"ssh"},"pgid":5983}]},{"passive":{"probe":false,"address":"10.0.0.99","port":25},"protocol":"tcp","address":"10.0.0.99","port":25,"there":"no_probe","answered":"before","first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:27:40Z","failed":2,"waiting":1,"callers":1,"called_by":[{"probe":true,"host":"wrk-1","host_id":"wrk-1-id","scope":"","process":{"name":"exim4"},"pgid":5984}]}],"hosts":[{"name":"db-1","id":"db-1-id","rung":"netlink","first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:27:40Z","coverage":{"confined":false,"namespaces":0,"namespaces_unreadable":0,"processes":0,"processes_vanished":0,"processes_unreadable":0,"sockets":0,"sockets_ownerless":0,"sockets_unattributed":0,"malformed":0,"flows_dropped":0,"updates_lost":0,"scans_skipped":0,"records_dropped":0}},{"name":"web-1","id":"web-1-id","rung":"netlink","first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:27:40Z","coverage":{"confined":false,"namespaces":0,"namespaces_unreadable":0,"processes":0,"processes_vanished":0,"processes_unreadable":0,"sockets":0,"sockets_ownerless":0,"sockets_unattributed":0,"malformed":0,"flows_dropped":0,"updates_lost":0,"scans_skipped":0,"records_dropped":0}},{"name":"wrk-1","id":"wrk-1-id","rung":"netlink","first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:27:40Z","coverage":{"confined":false,"namespaces":0,"namespaces_unreadable":0,"processes":0,"processes_vanished":0,"processes_unreadable":0,"sockets":0,"sockets_ownerless":0,"sockets_unattributed":0,"malformed":0,"flows_dropped":0,"updates_lost":0,"scans_skipped":0,"records_dropped":0}}],"malformed":0,"cut":{"hosts":0,"addresses":0,"edges":0},"notes":["data of 3 hosts: db-1 10s old, web-1 10s old, wrk-1 10s old"]}
        "#]],
    );
    assert_eq!(failing.exit_code(), 3);
    let fine = outcome(LISTENERS, Selector::All, About::Failing(true));
    assert_eq!(fine.exit_code(), 0);
    check(
        &fine,
        Format::Table,
        expect![[r#"
        nothing was seen to be called in vain
        data of 2 hosts: web-1 10s old, wrk-1 10s old
    "#]],
    );
}

#[test]
fn who_has_no_probe() {
    let unexplained = outcome(BROKEN, Selector::All, About::Unexplained);
    check(
        &unexplained,
        Format::Table,
        expect![[r#"
            NO PROBE AT       EDGES  HOSTS  FIRST SEEN  LAST SEEN  IS CALLED AT       CALLS
            10.0.0.98             2  wrk-1         70s        10s  2: tcp 25, udp 53
            10.0.0.99             1  wrk-1         70s        10s  1: tcp 25
            8.8.8.8 (public)      1  web-1         70s        10s                     1: web-1 ('nginx', pgid=4656) tcp 80

            data of 3 hosts: db-1 10s old, web-1 10s old, wrk-1 10s old
        "#]],
    );
    check(
        &unexplained,
        Format::Json,
        expect![[r#"
            {"schema":"shawk.unexplained/1","generated":"2026-05-28T20:27:50Z","query":{"selector":{"kind":"all","value":"*"},"limit":100},"total":3,"offset":0,"items":[{"address":"10.0.0.98","public":false,"edges":2,"hosts":1,"host_names":["wrk-1"],"offers":[{"protocol":"tcp","port":25,"edges":1},{"protocol":"udp","port":53,"edges":1}],"uses":[],"first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:27:40Z"},{"address":"10.0.0.99","public":false,"edges":1,"hosts":1,"host_names":["wrk-1"],"offers":[{"protocol":"tcp","port":25,"edges":1}],"uses":[],"first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:27:40Z"},{"address":"8.8.8.8","public":true,"edges":1,"hosts":1,"host_names":["web-1"],"offers":[],"uses":[{"who":{"probe":true,"host":"web-1","host_id":"web-1-id","scope":"","process":{"name":"nginx"},"pgid":4656},"protocol":"tcp","port":80,"edges":1}],"first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:27:40Z"}],"ambiguous":0,"hosts":[{"name":"db-1","id":"db-1-id","rung":"netlink","first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:27:40Z","coverage":{"confined":false,"namespaces":0,"namespaces_unreadable":0,"processes":0,"processes_vanished":0,"processes_unreadable":0,"sockets":0,"sockets_ownerless":0,"sockets_unattributed":0,"malformed":0,"flows_dropped":0,"updates_lost":0,"scans_skipped":0,"records_dropped":0}},{"name":"web-1","id":"web-1-id","rung":"netlink","first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:27:40Z","coverage":{"confined":false,"namespaces":0,"namespaces_unreadable":0,"processes":0,"processes_vanished":0,"processes_unreadable":0,"sockets":0,"sockets_ownerless":0,"sockets_unattributed":0,"malformed":0,"flows_dropped":0,"updates_lost":0,"scans_skipped":0,"records_dropped":0}},{"name":"wrk-1","id":"wrk-1-id","rung":"netlink","first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:27:40Z","coverage":{"confined":false,"namespaces":0,"namespaces_unreadable":0,"processes":0,"processes_vanished":0,"processes_unreadable":0,"sockets":0,"sockets_ownerless":0,"sockets_unattributed":0,"malformed":0,"flows_dropped":0,"updates_lost":0,"scans_skipped":0,"records_dropped":0}}],"malformed":0,"cut":{"hosts":0,"addresses":0,"edges":0},"notes":["data of 3 hosts: db-1 10s old, web-1 10s old, wrk-1 10s old"]}
        "#]],
    );
}

/// app calls redis and is called by web; a job came once, and an address
/// without a probe calls, too.
const DEPENDING: &str = "
    host db-1
    host app-1
    host web-1
    db-1 has 10.0.0.1
    app-1 has 10.0.0.2
    web-1 has 10.0.0.3
    db-1 tcp 0.0.0.0:6379 listens redis-server/5
    db-1 tcp 10.0.0.1:6379 <- 10.0.0.2 redis-server/5 open=3
    db-1 tcp 10.0.0.1:6379 <- 10.0.0.99 redis-server/5 20-30.
    app-1 tcp 0.0.0.0:8080 listens app/6
    app-1 tcp 10.0.0.2 -> 10.0.0.1:6379 app/6 open=3 opened=17
    app-1 tcp 10.0.0.2:8080 <- 10.0.0.3 app/6
    web-1 tcp 10.0.0.3 -> 10.0.0.2:8080 nginx/7";

#[test]
fn what_is_open_counts_and_so_does_what_two_share() {
    // Open since before the probe began to count, by a flow of two groups.
    let world = DEPENDING.replace("app/6 open=3 opened=17", "app/6+9 open=2 opened=0");
    let about = About::Impact { depth: 1, decommission: None };
    let outcome = outcome(&world, redis(), about);
    let text = print(&outcome, Format::Table);
    let lines = text.lines().map(str::trim).filter(|line| line.contains("app-1 ('app'"));
    let told = expect![[r#"
        1  app-1 ('app', pgid=6)      alive  2 open, 0 opened, shared by 2  both ends           70s   10s
        1  app-1 ('app', pgid=9)      alive  2 open, 0 opened, shared by 2  both ends           70s   10s"#]];
    told.assert_eq(&lines.collect::<Vec<_>>().join("\n"));
    let document: serde_json::Value = serde_json::from_str(&print(&outcome, Format::Json)).unwrap();
    let told = |at: usize| {
        let edge = &document["items"][at]["path"][0];
        [&edge["open"], &edge["opened"], &edge["shared"]].map(|number| number.as_u64())
    };
    let together = [Some(2), Some(0), Some(2)];
    assert_eq!((told(0), told(1), told(2)), (together, together, [Some(0), None, None]));
}

fn redis() -> Selector {
    Selector::Process("redis-server".to_owned())
}

#[test]
fn an_impact_with_its_verdict() {
    let asked = Decommission { watched: SignedDuration::from_secs(30), polled: false };
    let about = About::Impact { depth: 100, decommission: Some(asked) };
    let outcome = outcome(DEPENDING, redis(), about);
    check(
        &outcome,
        Format::Table,
        expect![[r#"
            STEPS  WHO DEPENDS ON IT          STATE        CONNECTIONS  TOLD BY           FIRST  LAST  COMES; BY WAY OF
                1  app-1 ('app', pgid=6)      alive  3 open, 17 opened  both ends           70s   10s
                    without a pause for 70s; > db-1 ('redis-server', pgid=5) tcp/6379
                1  10.0.0.99:many (no probe)  ended             0 open  passive end only    50s   40s
                    for 10s until 40s ago; > db-1 ('redis-server', pgid=5) tcp/6379
                2  web-1 ('nginx', pgid=7)    alive             1 open  both ends           70s   10s
                    without a pause for 70s; > app-1 ('app', pgid=6) tcp/8080 > db-1 ('redis-server', pgid=5) tcp/6379

            3 depend on it: 2 at 1 step, 1 at 2
            verdict: UNSAFE
              - app-1 ('app', pgid=6) uses it: 10s ago; without a pause for 70s
              - 10.0.0.99:many (no probe) used it before that: for 10s until 40s ago
            what may not have been seen:
              - db-1 is polled: connections shorter than its scans' interval are not seen (--mode streaming sees them)
            judged by the last 30s, watched for 70s
            data of 3 hosts: app-1 10s old, db-1 10s old, web-1 10s old
        "#]],
    );
    assert_eq!(outcome.exit_code(), 3);
}

#[test]
fn an_impact_for_programs() {
    let about = About::Impact { depth: 1, decommission: None };
    check(
        &outcome(DEPENDING, redis(), about),
        Format::Json,
        expect![[r#"
            {"schema":"shawk.impact/1","generated":"2026-05-28T20:27:50Z","query":{"selector":{"kind":"process","value":"redis-server"},"limit":100},"total":2,"offset":0,"items":[{"who":{"probe":true,"host":"app-1","host_id":"app-1-id","scope":"","process":{"name":"app"},"pgid":6},"depth":1,"path":[{"to":{"probe":true,"host":"db-1","host_id":"db-1-id","scope":"","process":{"name":"redis-server"},"pgid":5},"protocol":"tcp","port":6379,"active_address":"10.0.0.2","passive_address":"10.0.0.1","direction":"known","told_by":"both","confidence":"confirmed","state":"alive","first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:27:40Z","open":3,"opened":17}],"others_total":0,"comes":{"kind":"steady","times":1,"since":"2026-05-28T20:26:40Z","last":"2026-05-28T20:27:40Z","words":"without a pause for 70s"}},{"who":{"probe":false,"address":"10.0.0.99"},"depth":1,"path":[{"to":{"probe":true,"host":"db-1","host_id":"db-1-id","scope":"","process":{"name":"redis-server"},"pgid":5},"protocol":"tcp","port":6379,"active_address":"10.0.0.99","passive_address":"10.0.0.1","direction":"known","told_by":"passive","confidence":"one end, no probe at the other","state":"ended","first_seen":"2026-05-28T20:27:00Z","last_seen":"2026-05-28T20:27:10Z","open":0}],"others_total":0,"comes":{"kind":"once","times":1,"since":"2026-05-28T20:27:00Z","last":"2026-05-28T20:27:10Z","words":"for 10s until 40s ago"}}],"by_depth":[2],"watched_since":"2026-05-28T20:26:40Z","hosts":[{"name":"app-1","id":"app-1-id","rung":"netlink","first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:27:40Z","coverage":{"confined":false,"namespaces":0,"namespaces_unreadable":0,"processes":0,"processes_vanished":0,"processes_unreadable":0,"sockets":0,"sockets_ownerless":0,"sockets_unattributed":0,"malformed":0,"flows_dropped":0,"updates_lost":0,"scans_skipped":0,"records_dropped":0}},{"name":"db-1","id":"db-1-id","rung":"netlink","first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:27:40Z","coverage":{"confined":false,"namespaces":0,"namespaces_unreadable":0,"processes":0,"processes_vanished":0,"processes_unreadable":0,"sockets":0,"sockets_ownerless":0,"sockets_unattributed":0,"malformed":0,"flows_dropped":0,"updates_lost":0,"scans_skipped":0,"records_dropped":0}}],"malformed":0,"cut":{"hosts":0,"addresses":0,"edges":0},"notes":["data of 2 hosts: app-1 10s old, db-1 10s old"]}
        "#]],
    );
}

#[test]
fn a_drain_with_what_it_cannot_tell() {
    let about = || About::Drain(Quiet { time: SignedDuration::from_secs(20), except: Vec::new() });
    check(
        &outcome(DEPENDING, redis(), about()),
        Format::Table,
        expect![[r#"
        WHO CONNECTS           TO                                      STATE  OPEN  TOLD BY    LAST SEEN
        app-1 ('app', pgid=6)  db-1 ('redis-server', pgid=5) tcp/6379  alive     3  both ends        10s

        not drained: 1 connected, 0 more within 20s
        what may have been missed:
          - db-1 is polled: connections shorter than its scans' interval are not seen (--mode streaming sees them)
        data of 2 hosts: app-1 10s old, db-1 10s old
    "#]],
    );
    let nobody = outcome(DEPENDING, Selector::Process("nginx".to_owned()), about());
    check(
        &nobody,
        Format::Table,
        expect![[r#"
        nobody was seen to connect to it in that time
        DRAINED: nobody connected for 60s (asked for 20s)
        what may have been missed:
          - web-1 is polled: connections shorter than its scans' interval are not seen (--mode streaming sees them)
        data of 1 host: web-1 10s old
    "#]],
    );
    check(
        &nobody,
        Format::Json,
        expect![[r#"
            {"schema":"shawk.drain/1","generated":"2026-05-28T20:27:50Z","query":{"selector":{"kind":"process","value":"nginx"},"limit":100},"total":0,"offset":0,"items":[],"state":"drained","for_s":20,"told_until":"2026-05-28T20:27:40Z","quiet_since":"2026-05-28T20:26:40Z","blind":[],"blind_total":0,"missed":[{"kind":"polled","words":"web-1 is polled: connections shorter than its scans' interval are not seen (--mode streaming sees them)"}],"missed_total":1,"hosts":[{"name":"web-1","id":"web-1-id","rung":"netlink","first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:27:40Z","coverage":{"confined":false,"namespaces":0,"namespaces_unreadable":0,"processes":0,"processes_vanished":0,"processes_unreadable":0,"sockets":0,"sockets_ownerless":0,"sockets_unattributed":0,"malformed":0,"flows_dropped":0,"updates_lost":0,"scans_skipped":0,"records_dropped":0}}],"malformed":0,"cut":{"hosts":0,"addresses":0,"edges":0},"notes":["data of 1 host: web-1 10s old"]}
        "#]],
    );
    let news = crate::view::finding::news(&outcome(DEPENDING, redis(), about()));
    check_text(
        &news.line,
        expect![
            "2026-05-28T20:27:50Z not drained: 1 connected, 0 more within 20s; 1: app-1 ('app', pgid=6) (3 open, 17 opened so far)"
        ],
    );
    assert!(!news.what.contains("10s"), "what it says has no time in it: {}", news.what);
}

#[track_caller]
fn check_text(text: &str, expected: Expect) {
    expected.assert_eq(text);
}
