//! Every finding, by its bytes.

use expect_test::{Expect, expect};

use crate::recall::Selector;
use crate::study::tests::outcome;
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
        HOST                PROTO  LISTENS AT      REACHED BY    PROCESS                      CALLERS                                                    LAST USED
        web-1               tcp    0.0.0.0:80      any address   ('nginx', pgid=4656)         2: wrk-1 ('wrk', pgid=5982), 10.0.0.99:many (no probe)           10s
        web-1               tcp    127.0.0.1:6379  itself only   ('redis-server', pgid=5000)                                                          never in 50s
        web-1 [netns:blue]  udp    10.1.0.1:53     that address  ('dnsmasq', pgid=6000)                                                                    unknown

        1 listener has ended; --since shows it
        data of 2 hosts: web-1 10s old, wrk-1 10s old
    "#]],
    );
    outcome.inquiry.page.offset = 1;
    outcome.inquiry.page.limit = 1;
    check(
        &outcome,
        Format::Table,
        expect![[r#"
            HOST   PROTO  LISTENS AT      REACHED BY   PROCESS                      CALLERS     LAST USED
            web-1  tcp    127.0.0.1:6379  itself only  ('redis-server', pgid=5000)           never in 50s

            lines 2 to 2 of 3; --offset 2 for more
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
        {"schema":"shawk.listeners/1","generated":"2026-05-28T20:27:50Z","query":{"selector":{"kind":"port","value":"80"},"limit":100},"total":1,"offset":0,"items":[{"who":{"probe":true,"host":"web-1","host_id":"web-1-id","scope":"","process":{"name":"nginx"},"pgid":4656},"protocol":"tcp","address":"0.0.0.0","port":80,"reach":"any","state":"alive","first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:27:40Z","callers":2,"called_by":[{"probe":true,"host":"wrk-1","host_id":"wrk-1-id","scope":"","process":{"name":"wrk"},"pgid":5982},{"probe":false,"address":"10.0.0.99"}],"last_used":"2026-05-28T20:27:40Z"}],"ended":0,"hosts":[{"name":"web-1","id":"web-1-id","rung":"netlink","first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:27:40Z","coverage":{"confined":false,"namespaces":0,"namespaces_unreadable":0,"processes":0,"processes_vanished":0,"processes_unreadable":0,"sockets":0,"sockets_ownerless":0,"sockets_unattributed":0,"malformed":0,"flows_dropped":0,"updates_lost":0,"scans_skipped":0,"records_dropped":0}},{"name":"wrk-1","id":"wrk-1-id","rung":"netlink","first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:27:40Z","coverage":{"confined":false,"namespaces":0,"namespaces_unreadable":0,"processes":0,"processes_vanished":0,"processes_unreadable":0,"sockets":0,"sockets_ownerless":0,"sockets_unattributed":0,"malformed":0,"flows_dropped":0,"updates_lost":0,"scans_skipped":0,"records_dropped":0}}],"malformed":0,"cut":{"hosts":0,"addresses":0,"edges":0}}
    "#]],
    );
    outcome.inquiry.page.limit = 0;
    check(
        &outcome,
        Format::Json,
        expect![[r#"
        {"schema":"shawk.listeners/1","generated":"2026-05-28T20:27:50Z","query":{"selector":{"kind":"port","value":"80"},"limit":0},"total":1,"offset":0,"items":[],"ended":0,"hosts":[{"name":"web-1","id":"web-1-id","rung":"netlink","first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:27:40Z","coverage":{"confined":false,"namespaces":0,"namespaces_unreadable":0,"processes":0,"processes_vanished":0,"processes_unreadable":0,"sockets":0,"sockets_ownerless":0,"sockets_unattributed":0,"malformed":0,"flows_dropped":0,"updates_lost":0,"scans_skipped":0,"records_dropped":0}},{"name":"wrk-1","id":"wrk-1-id","rung":"netlink","first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:27:40Z","coverage":{"confined":false,"namespaces":0,"namespaces_unreadable":0,"processes":0,"processes_vanished":0,"processes_unreadable":0,"sockets":0,"sockets_ownerless":0,"sockets_unattributed":0,"malformed":0,"flows_dropped":0,"updates_lost":0,"scans_skipped":0,"records_dropped":0}}],"malformed":0,"cut":{"hosts":0,"addresses":0,"edges":0}}
    "#]],
    );
}
