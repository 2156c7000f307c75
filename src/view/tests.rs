//! Every output, by its bytes, and every hostile name through every output.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use expect_test::{Expect, expect};
use jiff::SignedDuration;

use crate::flow::host::Coverage;
use crate::graph::search::{Answer, Otherwise, Question, Search};
use crate::graph::tests::notation::{host_key, records, second};
use crate::graph::walk::{Reach, Ways};
use crate::labels::Labels;
use crate::recall::{FlowRecord, Found, Records, Selector, Spot, Sums, Traffic, Window};
use crate::view::{Format, write};

mod finding;
mod hostile;
mod policy;

/// The answer, ten seconds after the last word of the hosts, of a CMDB that
/// has just these records.
pub(super) fn answer(records: Records, selector: Selector, depth: u32) -> Answer {
    labelled(records, selector, depth, "")
}

/// As [`answer`], with this file of labels.
fn labelled(records: Records, selector: Selector, depth: u32, labels: &str) -> Answer {
    let labels = Arc::new(Labels::parse(labels).expect("a file of labels"));
    let question = Question {
        selectors: vec![selector.clone()],
        window: Window::default(),
        reach: Reach { depth, ways: Ways::Both, edges: 1000 },
        hosts: 100,
        tolerance: SignedDuration::from_secs(30),
        labels,
    };
    let hosts = records.hosts.iter().map(|host| host.key).collect();
    let found = Found { hosts, ..Found::default() };
    let mut search = Search::begin(question, selector, found);
    while let Some(ask) = search.ask() {
        assert_eq!(ask.hosts.len(), records.hosts.len());
        search.take(records.clone());
    }
    search.answer(second(70), Some(&[]))
}

pub(super) fn print(answer: &Answer, format: Format) -> String {
    let mut out = Vec::new();
    write(answer, format, false, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

const FLEET: &str = "
    host web-1
    host wrk-1
    host app-1
    host log-1
    web-1 has 127.0.0.1 10.0.0.10 10.0.1.10
    wrk-1 has 127.0.0.1 10.0.0.11
    app-1 has 127.0.0.1 10.0.0.12 fd00::12
    log-1 has 127.0.0.1 10.0.0.13
    web-1 tcp 0.0.0.0:80 listens nginx/4656
    web-1 tcp 0.0.0.0:22 listens sshd/700
    web-1 tcp 10.0.0.10:80 <- 10.0.0.11 nginx/4656 open=12
    web-1 tcp 10.0.0.10 -> 10.0.0.12:8080 nginx/4656
    web-1 tcp 127.0.0.1 -> 127.0.0.1:6379 nginx/4656
    web-1 tcp 127.0.0.1:6379 <- 127.0.0.1 redis-server/5000
    web-1 tcp 127.0.0.1:6379 listens redis-server/5000
    web-1 tcp 10.0.0.10 -> 10.0.0.13:24224 fluentd/2127 more=2
    web-1 udp 10.0.0.10 -> 10.0.0.2:53 nginx/4656 40-50.
    wrk-1 tcp 10.0.0.11 -> 10.0.0.10:80 wrk/5982 open=12
    app-1 tcp 10.0.0.12:8080 <- 10.0.0.10 python/6111
    app-1 tcp 0.0.0.0:8080 listens python/6111
    app-1 tcp 10.0.0.12 -> 10.0.0.99:5432 python/6111 connecting=1
    log-1 tcp 10.0.0.13:24224 <- 10.0.0.10 fluentd/2001
    log-1 tcp 0.0.0.0:24224 listens fluentd/2001";

fn check(text: &str, selector: Selector, depth: u32, format: Format, expected: Expect) {
    let answer = answer(records(text), selector, depth);
    expected.assert_eq(&print(&answer, format));
}

fn host(name: &str) -> Selector {
    Selector::Host(name.to_owned())
}

#[test]
fn a_tree_has_the_form_of_the_original() {
    let address = Selector::Address("10.0.0.10".parse().unwrap());
    check(
        FLEET,
        address,
        1,
        Format::Tree,
        expect![[r#"
        10.0.0.10:80 ('nginx', pgid=4656)  web-1
        └<-- 10.0.0.11:many ('wrk', pgid=5982)  wrk-1, tcp, both ends, 10s ago
        └--> 10.0.0.2:53 (no probe)  udp, active end only, ended 20s ago
        └--> 10.0.0.12:8080 ('python', pgid=6111)  app-1, tcp, both ends, 10s ago
        └--> 127.0.0.1:6379 ('redis-server', pgid=5000)  tcp, from 127.0.0.1, both ends, 10s ago
        10.0.0.10:many ('fluentd', pgid=2127)  web-1, +2 owners
        └--> 10.0.0.13:24224 ('fluentd', pgid=2001)  log-1, tcp, both ends, 10s ago

        data of 4 hosts: app-1 10s old, log-1 10s old, web-1 10s old, wrk-1 10s old
        1 peer has no probe
        1 listener that nobody called
    "#]],
    );
}

#[test]
fn a_deeper_tree_is_indented_and_marks_cycles() {
    check(
        FLEET,
        host("app-1"),
        3,
        Format::Tree,
        expect![[r#"
        10.0.0.12:8080 ('python', pgid=6111)  app-1
        └<-- 10.0.0.10:many ('nginx', pgid=4656)  web-1, tcp, both ends, 10s ago
            └<-- 10.0.0.11:many ('wrk', pgid=5982)  wrk-1, tcp, at 10.0.0.10:80, both ends, 10s ago
        └--> 10.0.0.99:5432 (no probe)  FAILING: no answer, tcp, active end only, 10s ago

        data of 3 hosts: app-1 10s old, web-1 10s old, wrk-1 10s old
        1 peer has no probe
    "#]],
    );
    check(
        "host a
        host b
        host c
        a has 10.0.0.1 fd00::1
        b has 10.0.0.2
        c@container:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef has fd00::3
        a tcp 10.0.0.1 -> 10.0.0.2:90 one/1
        b tcp 0.0.0.0:90 listens two/2
        b tcp 10.0.0.2 -> 10.0.0.1:80 two/2
        a tcp 10.0.0.1:80 <- 10.0.0.2 one/1
        a tcp fd00::1 -> [fd00::3]:443 one/1
        c@container:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef tcp [::]:443 listens three/3
        a tcp 10.0.0.1:5000 -- 10.0.0.77:6000 one/1
        a tcp 10.0.0.1 -> 10.0.0.66:1 gone/9 0-1.",
        Selector::Process("one".to_owned()),
        3,
        Format::Tree,
        expect![[r#"
            10.0.0.1:80 ('one', pgid=1)  a
            └<-- 10.0.0.2:many ('two', pgid=2)  b, tcp, both ends, 10s ago, (cycle)
            └--> 10.0.0.2:90 ('two', pgid=2)  b, tcp, active end only, 10s ago, (cycle)
            └--> [fd00::3]:443 ('three', pgid=3)  c [container:0123456789ab], tcp, from fd00::1, active end only, 10s ago
            └<-> 10.0.0.77:6000 (no probe)  tcp, at 10.0.0.1:5000, direction unknown, one end only, 10s ago

            data of 3 hosts: a 10s old, b 10s old, c 10s old
            1 peer has no probe
        "#]],
    );
}

#[test]
fn a_table_has_columns() {
    check(
        FLEET,
        host("web-1"),
        1,
        Format::Table,
        expect![[r#"
        ACTIVE                                  PASSIVE                                      PROTO   PORT  STATE  CONNS  TOLD BY          FIRST SEEN  LAST SEEN
        web-1 10.0.0.10 ('fluentd', pgid=2127)  log-1 10.0.0.13 ('fluentd', pgid=2001)       tcp    24224  alive      1  both ends               70s        10s
        web-1 10.0.0.10 ('nginx', pgid=4656)    10.0.0.2 (no probe)                          udp       53  ended      0  active end only         30s        20s
        web-1 10.0.0.10 ('nginx', pgid=4656)    app-1 10.0.0.12 ('python', pgid=6111)        tcp     8080  alive      1  both ends               70s        10s
        wrk-1 10.0.0.11 ('wrk', pgid=5982)      web-1 10.0.0.10 ('nginx', pgid=4656)         tcp       80  alive     12  both ends               70s        10s
        web-1 127.0.0.1 ('nginx', pgid=4656)    web-1 127.0.0.1 ('redis-server', pgid=5000)  tcp     6379  alive      1  both ends               70s        10s

        data of 4 hosts: app-1 10s old, log-1 10s old, web-1 10s old, wrk-1 10s old
        1 peer has no probe
        1 listener that nobody called
    "#]],
    );
}

#[test]
fn csv_dot_and_mermaid_have_an_edge_a_line() {
    check(
        FLEET,
        host("app-1"),
        1,
        Format::Csv,
        expect![[r#"
            active_host,active_scope,active_address,active_port,active_process,active_pgid,passive_host,passive_scope,passive_address,passive_port,passive_process,passive_pgid,direction,protocol,state,failing,told_by,confidence,open,connecting,opened,failed,first_seen,last_seen,active_name,active_role,active_group,passive_name,passive_role,passive_group
            web-1,,10.0.0.10,,nginx,4656,app-1,,10.0.0.12,8080,python,6111,known,tcp,alive,false,both,confirmed,1,0,,,2026-05-28T20:26:40Z,2026-05-28T20:27:40Z,,,,,,
            app-1,,10.0.0.12,,python,6111,,,10.0.0.99,5432,,,known,tcp,failing,true,active,"one end, no probe at the other",1,1,,,2026-05-28T20:26:40Z,2026-05-28T20:27:40Z,,,,,,
        "#]],
    );
    check(
        FLEET,
        host("app-1"),
        1,
        Format::Dot,
        expect![[r#"
        digraph shawk {
          rankdir=LR;
          node [shape=box];
          n0 [label="app-1 ('python', pgid=6111)"];
          n1 [label="web-1 ('nginx', pgid=4656)"];
          n2 [label="10.0.0.99:5432 (no probe)", style=dashed];
          n1 -> n0 [label="tcp 10.0.0.12:8080"];
          n0 -> n2 [label="tcp 10.0.0.99:5432", color=red];
        }
    "#]],
    );
    check(
        FLEET,
        host("app-1"),
        1,
        Format::Mermaid,
        expect![[r#"
        flowchart LR
          n0["app-1 ('python', pgid=6111)"]
          n1["web-1 ('nginx', pgid=4656)"]
          n2["10.0.0.99:5432 (no probe)"]
          n1 -->|"tcp 10.0.0.12:8080"| n0
          n0 --x|"tcp 10.0.0.99:5432"| n2
    "#]],
    );
}

#[test]
fn json_keeps_its_promise() {
    check(
        FLEET,
        host("app-1"),
        1,
        Format::Json,
        expect![[r#"
            {"schema":"shawk.look/1","generated":"2026-05-28T20:27:50Z","query":{"selector":{"kind":"host","value":"app-1"},"depth":1,"ways":"both"},"total":2,"offset":0,"nodes":[{"id":0,"host":"app-1","host_id":"app-1-id","scope":"","address":"10.0.0.12","probe":true,"process":{"name":"python"},"pid":6111,"pgid":6111,"listens":[{"protocol":"tcp","address":"0.0.0.0","port":8080}],"root":true},{"id":1,"host":"web-1","host_id":"web-1-id","scope":"","address":"10.0.0.10","probe":true,"process":{"name":"nginx"},"pid":4656,"pgid":4656,"listens":[{"protocol":"tcp","address":"0.0.0.0","port":80}],"root":false},{"id":2,"address":"10.0.0.99","port":5432,"probe":false,"root":false}],"edges":[{"active":0,"passive":2,"direction":"known","protocol":"tcp","port":5432,"active_address":"10.0.0.12","passive_address":"10.0.0.99","told_by":"active","confidence":"one end, no probe at the other","rungs":["netlink"],"first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:27:40Z","state":"failing","failing":true,"open":1,"connecting":1,"depth":1,"way":"down","cycle":false},{"active":1,"passive":0,"direction":"known","protocol":"tcp","port":8080,"active_address":"10.0.0.10","passive_address":"10.0.0.12","told_by":"both","confidence":"confirmed","rungs":["netlink"],"first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:27:40Z","state":"alive","failing":false,"open":1,"connecting":0,"depth":1,"way":"up","cycle":false}],"hosts":[{"name":"app-1","id":"app-1-id","rung":"netlink","first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:27:40Z","coverage":{"confined":false,"namespaces":0,"namespaces_unreadable":0,"processes":0,"processes_vanished":0,"processes_unreadable":0,"sockets":0,"sockets_ownerless":0,"sockets_unattributed":0,"malformed":0,"flows_dropped":0,"updates_lost":0,"scans_skipped":0,"records_dropped":0}},{"name":"web-1","id":"web-1-id","rung":"netlink","first_seen":"2026-05-28T20:26:40Z","last_seen":"2026-05-28T20:27:40Z","coverage":{"confined":false,"namespaces":0,"namespaces_unreadable":0,"processes":0,"processes_vanished":0,"processes_unreadable":0,"sockets":0,"sockets_ownerless":0,"sockets_unattributed":0,"malformed":0,"flows_dropped":0,"updates_lost":0,"scans_skipped":0,"records_dropped":0}}],"unprobed_peers":1,"unused_listeners":0,"malformed":0,"cut":{"hosts":0,"addresses":0,"edges":0},"notes":["data of 2 hosts: app-1 10s old, web-1 10s old","1 peer has no probe"]}
        "#]],
    );
}

#[test]
fn what_was_not_seen_and_what_was_cut_is_said() {
    let mut records = records(FLEET);
    for host in &mut records.hosts {
        host.coverage.sockets_unattributed = 3;
        if host.key == host_key("app-1") {
            host.coverage.confined = true;
            host.last_seen = second(10);
        }
    }
    let mut cut = answer(records, host("web-1"), 1);
    assert!(print(&cut, Format::Tree).contains("not seen on app-1: anything outside"));
    cut.question.reach.edges = 2;
    cut.walk = cut.graph.walk(&cut.walk.roots.clone(), cut.question.reach);
    cut.cut.edges = cut.walk.edges_cut;
    cut.cut.hosts = 4;
    expect![[r#"
        10.0.0.10:80 ('nginx', pgid=4656)  web-1
        └<-- 10.0.0.11:many ('wrk', pgid=5982)  wrk-1, tcp, both ends, 10s ago
        10.0.0.10:many ('fluentd', pgid=2127)  web-1, +2 owners
        └--> 10.0.0.13:24224 ('fluentd', pgid=2001)  log-1, tcp, both ends, 10s ago

        data of 3 hosts: log-1 10s old, web-1 10s old, wrk-1 10s old
        1 listener that nobody called
        not seen on log-1, web-1, wrk-1: 3 sockets without a known owner
        cut: 4 hosts within reach were not looked at: too many
        cut: 3 edges within reach are not shown: too many
    "#]]
    .assert_eq(&print(&cut, Format::Tree));
    expect![[r#"
        flowchart LR
          %% cut: 4 hosts within reach were not looked at: too many
          %% cut: 3 edges within reach are not shown: too many
          n0["wrk-1 ('wrk', pgid=5982)"]
          n1["log-1 ('fluentd', pgid=2001)"]
          n2["web-1 ('fluentd', pgid=2127)"]
          n3["web-1 ('nginx', pgid=4656)"]
          n2 -->|"tcp 10.0.0.13:24224"| n1
          n0 -->|"tcp 10.0.0.10:80"| n3
    "#]]
    .assert_eq(&print(&cut, Format::Mermaid));
}

#[test]
fn colour_only_if_asked_for() {
    let answer = answer(records(FLEET), host("app-1"), 1);
    for format in Format::ALL {
        assert!(!print(&answer, format).contains('\u{1b}'));
    }
    let mut out = Vec::new();
    write(&answer, Format::Tree, true, &mut out).unwrap();
    expect![[r#"
        ^[1m10.0.0.12:8080 ('python', pgid=6111)^[0m  ^[2mapp-1^[0m
        └<-- 10.0.0.10:many ('nginx', pgid=4656)  ^[2mweb-1, tcp, both ends, 10s ago^[0m
        └--> 10.0.0.99:5432 (no probe)  ^[1;31mFAILING: no answer^[0m, ^[2mtcp, active end only, 10s ago^[0m

        ^[2mdata of 2 hosts: app-1 10s old, web-1 10s old^[0m
        ^[2m1 peer has no probe^[0m
    "#]].assert_eq(&String::from_utf8(out).unwrap().replace('\u{1b}', "^"));
}

#[test]
fn listeners_that_have_ended_or_were_not_asked_about_are_not_counted() {
    let text = "host a\na has 10.0.0.1\na tcp 0.0.0.0:80 listens web/1
        a tcp 0.0.0.0:81 listens web/1\na tcp 0.0.0.0:82 listens web/1 0-10.";
    let footer = |selector| print(&answer(records(text), selector, 1), Format::Tree);
    for (selector, count) in [
        (host("a"), Some("2 listeners")),
        (Selector::Port(81), Some("1 listener")),
        (Selector::Port(82), None),
    ] {
        let said = footer(selector);
        let line = said.lines().find(|line| line.contains("nobody called"));
        let counted = line.and_then(|line| line.split(" that").next());
        assert_eq!(counted, count, "{said}");
    }
}

#[test]
fn an_empty_answer_says_what_is_known() {
    let idle = "host a\nhost b\na has 10.0.0.1\na tcp 0.0.0.0:80 listens web/1\na tcp [::]:443 listens web/1";
    let idle = |selector| answer(records(idle), selector, 1);
    let address: Selector = Selector::Address("10.0.0.1".parse().unwrap());
    let mut known = idle(address.clone());
    let found = Found { hosts: [host_key("a")].into(), ..Found::default() };
    let all = records("host a\na has 10.0.0.1\na tcp 10.0.0.1 -> 10.0.0.9:1 x/1 0-5.");
    known.question.window.since = Some(second(60));
    let question = known.question.clone();
    known.otherwise = Some(Otherwise::of(address.clone(), &found, &all, &question));
    expect![[r#"
        nothing was seen to talk to or from address 10.0.0.1 in the time asked about; it last was 65s ago (2026-05-28T20:26:45Z)
        host a was last heard of 10s ago (2026-05-28T20:27:40Z)
        data of 1 host: a 10s old
        2 listeners that nobody called: tcp 10.0.0.1:80 ('web', pgid=1), tcp 10.0.0.1:443 ('web', pgid=1)
    "#]].assert_eq(&print(&known, Format::Tree));
    known.otherwise =
        Some(Otherwise::of(address, &found, &records("host a\na has 10.0.0.1"), &question));
    expect![[r#"
        address 10.0.0.1 is known, but nothing was ever seen to talk to or from it
        host a was last heard of 10s ago (2026-05-28T20:27:40Z)
        data of 1 host: a 10s old
        2 listeners that nobody called: tcp 10.0.0.1:80 ('web', pgid=1), tcp 10.0.0.1:443 ('web', pgid=1)
    "#]].assert_eq(&print(&known, Format::Table));
    let service = Selector::Service(Spot::Host("a".to_owned()), 81);
    let mut nowhere = idle(service.clone());
    nowhere.otherwise = Some(Otherwise::of(service, &found, &all, &question));
    expect![[r#"
        nothing was ever seen at port 81 of host 'a'
        host a was last heard of 10s ago (2026-05-28T20:27:40Z)
    "#]]
    .assert_eq(&print(&nowhere, Format::Tree));
    let mut unknown = idle(host("nginx"));
    unknown.question.selectors.push(Selector::Process("nginx".to_owned()));
    expect![[r#"
        nothing is known of host 'nginx' or process 'nginx': no probe ever reported it; 'shawk listeners' names what is known
    "#]]
    .assert_eq(&print(&unknown, Format::Tree));
}

#[test]
fn a_label_that_nothing_has_is_not_known() {
    let labelled = |word: &str, text: &str| {
        let mut answer = answer(records("host a\na has 10.0.0.1"), host("a"), 1);
        let selector = Selector::Label(word.to_owned());
        answer.question.labels = Arc::new(Labels::parse(text).unwrap());
        answer.question.selectors = vec![selector.clone()];
        // The CMDB knows no labels, and finds every host.
        let found = Found { hosts: [host_key("a"), host_key("b")].into(), ..Found::default() };
        let all =
            "host a\nhost b\na has 10.0.0.1\nb has 10.0.0.2\na tcp 10.0.0.1 -> 10.0.0.9:1 x/1 0-5.";
        let known = Otherwise::of(selector, &found, &records(all), &answer.question);
        let hosts = known.hosts.len();
        answer.otherwise = Some(known).filter(|known| !known.hosts.is_empty());
        format!("{hosts}: {}", print(&answer, Format::Tree).lines().next().unwrap())
    };
    let rules =
        "[[label]]\nhost = 'a'\nname = 'shop'\n[[label]]\nhost = 'c'\ngroup = 'store'\nrole = 'db'";
    for (word, text, said) in [
        (
            "nosuch",
            "",
            "0: no label says 'nosuch': there are none; name a file of them with --labels",
        ),
        ("nosuch", rules, "0: no label says 'nosuch'; there are: db, shop, store"),
        ("store", rules, "0: label 'store' is given, but nothing that was seen has it"),
        (
            "shop",
            rules,
            "1: nothing was seen to talk to or from label 'shop'; it last was 65s ago (2026-05-28T20:26:45Z)",
        ),
    ] {
        assert_eq!(labelled(word, text), said);
    }
}

#[test]
fn a_closed_pipe_is_an_error_of_the_writer() {
    struct Closed;
    impl std::io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let answer = answer(records(FLEET), host("app-1"), 1);
    for format in Format::ALL {
        let error = write(&answer, format, false, &mut Closed).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    }
}

#[test]
fn graphml_and_grafana_have_every_fact() {
    let small = "
        host a
        host b
        a has 10.0.0.1
        b has 10.0.0.2
        a tcp 10.0.0.1 -> 10.0.0.2:80 wrk/1
        b tcp 10.0.0.2:80 <- 10.0.0.1 nginx/2
        b tcp 10.0.0.2 -> 10.0.0.9:5432 nginx/2 connecting=1 failed=4
        b tcp 10.0.0.2:4000 -- 10.0.0.8:4001 nginx/2 0-20.";
    check(
        small,
        host("b"),
        1,
        Format::GraphMl,
        expect![[r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <graphml xmlns="http://graphml.graphdrawing.org/xmlns">
          <key id="node_label" for="node" attr.name="label" attr.type="string"/>
          <key id="node_host" for="node" attr.name="host" attr.type="string"/>
          <key id="node_scope" for="node" attr.name="scope" attr.type="string"/>
          <key id="node_process" for="node" attr.name="process" attr.type="string"/>
          <key id="node_unit" for="node" attr.name="unit" attr.type="string"/>
          <key id="node_container" for="node" attr.name="container" attr.type="string"/>
          <key id="node_address" for="node" attr.name="address" attr.type="string"/>
          <key id="node_probe" for="node" attr.name="probe" attr.type="string"/>
          <key id="node_role" for="node" attr.name="role" attr.type="string"/>
          <key id="node_group" for="node" attr.name="group" attr.type="string"/>
          <key id="edge_label" for="edge" attr.name="label" attr.type="string"/>
          <key id="edge_protocol" for="edge" attr.name="protocol" attr.type="string"/>
          <key id="edge_port" for="edge" attr.name="port" attr.type="string"/>
          <key id="edge_active_address" for="edge" attr.name="active_address" attr.type="string"/>
          <key id="edge_passive_address" for="edge" attr.name="passive_address" attr.type="string"/>
          <key id="edge_state" for="edge" attr.name="state" attr.type="string"/>
          <key id="edge_told_by" for="edge" attr.name="told_by" attr.type="string"/>
          <key id="edge_confidence" for="edge" attr.name="confidence" attr.type="string"/>
          <key id="edge_first_seen" for="edge" attr.name="first_seen" attr.type="string"/>
          <key id="edge_last_seen" for="edge" attr.name="last_seen" attr.type="string"/>
          <key id="edge_open" for="edge" attr.name="open" attr.type="string"/>
          <key id="edge_opened" for="edge" attr.name="opened" attr.type="string"/>
          <key id="edge_failed" for="edge" attr.name="failed" attr.type="string"/>
          <key id="edge_bytes" for="edge" attr.name="bytes" attr.type="string"/>
          <graph edgedefault="directed">
            <node id="n0"><data key="node_label">b (&apos;nginx&apos;, pgid=2)</data><data key="node_host">b</data><data key="node_scope"></data><data key="node_process">nginx</data><data key="node_address">10.0.0.2</data><data key="node_probe">true</data></node>
            <node id="n1"><data key="node_label">a (&apos;wrk&apos;, pgid=1)</data><data key="node_host">a</data><data key="node_scope"></data><data key="node_process">wrk</data><data key="node_address">10.0.0.1</data><data key="node_probe">true</data></node>
            <node id="n2"><data key="node_label">10.0.0.8:4001 (no probe)</data><data key="node_address">10.0.0.8</data><data key="node_probe">false</data></node>
            <node id="n3"><data key="node_label">10.0.0.9:5432 (no probe)</data><data key="node_address">10.0.0.9</data><data key="node_probe">false</data></node>
            <edge source="n1" target="n0"><data key="edge_label">tcp 10.0.0.2:80</data><data key="edge_protocol">tcp</data><data key="edge_port">80</data><data key="edge_active_address">10.0.0.1</data><data key="edge_passive_address">10.0.0.2</data><data key="edge_state">alive</data><data key="edge_told_by">both</data><data key="edge_confidence">confirmed</data><data key="edge_first_seen">2026-05-28T20:26:40Z</data><data key="edge_last_seen">2026-05-28T20:27:40Z</data><data key="edge_open">1</data></edge>
            <edge source="n0" target="n2" directed="false"><data key="edge_label">tcp 10.0.0.8:4001</data><data key="edge_protocol">tcp</data><data key="edge_port">4001</data><data key="edge_active_address">10.0.0.2</data><data key="edge_passive_address">10.0.0.8</data><data key="edge_state">ended</data><data key="edge_told_by">active</data><data key="edge_confidence">unresolved, direction unknown</data><data key="edge_first_seen">2026-05-28T20:26:40Z</data><data key="edge_last_seen">2026-05-28T20:27:00Z</data><data key="edge_open">0</data></edge>
            <edge source="n0" target="n3"><data key="edge_label">tcp 10.0.0.9:5432</data><data key="edge_protocol">tcp</data><data key="edge_port">5432</data><data key="edge_active_address">10.0.0.2</data><data key="edge_passive_address">10.0.0.9</data><data key="edge_state">failing</data><data key="edge_told_by">active</data><data key="edge_confidence">one end, no probe at the other</data><data key="edge_first_seen">2026-05-28T20:26:40Z</data><data key="edge_last_seen">2026-05-28T20:27:40Z</data><data key="edge_open">1</data><data key="edge_failed">4</data></edge>
          </graph>
        </graphml>
    "#]],
    );
    check(
        small,
        host("b"),
        1,
        Format::Grafana,
        expect![[r#"
            {"nodes":[{"id":"n0","title":"nginx","subTitle":"b","mainStat":"1 in","secondaryStat":"2 out","arc__failing":0.3333333333333333,"arc__alive":0.3333333333333333,"arc__quiet":0.3333333333333333,"detail__probe":true,"detail__label":""},{"id":"n1","title":"wrk","subTitle":"a","mainStat":"0 in","secondaryStat":"1 out","arc__failing":0.0,"arc__alive":1.0,"arc__quiet":0.0,"detail__probe":true,"detail__label":""},{"id":"n2","title":"10.0.0.8:4001 (no probe)","subTitle":"","mainStat":"1 in","secondaryStat":"0 out","arc__failing":0.0,"arc__alive":0.0,"arc__quiet":1.0,"detail__probe":false,"detail__label":""},{"id":"n3","title":"10.0.0.9:5432 (no probe)","subTitle":"","mainStat":"1 in","secondaryStat":"0 out","arc__failing":1.0,"arc__alive":0.0,"arc__quiet":0.0,"detail__probe":false,"detail__label":""}],"edges":[{"id":"e0","source":"n1","target":"n0","mainStat":"tcp 10.0.0.2:80","secondaryStat":"1 open","detail__told_by":"both","detail__confidence":"confirmed","detail__first_seen":"2026-05-28T20:26:40Z"},{"id":"e1","source":"n0","target":"n2","mainStat":"tcp 10.0.0.8:4001","secondaryStat":"ended 50s ago","detail__told_by":"active","detail__confidence":"unresolved, direction unknown","detail__first_seen":"2026-05-28T20:26:40Z"},{"id":"e2","source":"n0","target":"n3","mainStat":"tcp 10.0.0.9:5432","secondaryStat":"FAILING: no answer","detail__told_by":"active","detail__confidence":"one end, no probe at the other","detail__first_seen":"2026-05-28T20:26:40Z"}]}
        "#]],
    );
}

#[test]
fn grafana_is_told_each_field_that_it_gets() {
    let told: serde_json::Value = serde_json::from_str(crate::view::grafana::FIELDS).unwrap();
    let answer = answer(records(FLEET), host("web-1"), 1);
    let printed: serde_json::Value =
        serde_json::from_str(&print(&answer, Format::Grafana)).unwrap();
    for (fields, list) in [("nodes_fields", "nodes"), ("edges_fields", "edges")] {
        let told: Vec<&str> = told[fields]
            .as_array()
            .unwrap()
            .iter()
            .map(|field| field["field_name"].as_str().unwrap())
            .collect();
        let mut told = told;
        told.sort_unstable();
        let first = printed[list][0].as_object().unwrap();
        let mut known: Vec<&str> = first.keys().map(String::as_str).collect();
        known.sort_unstable();
        assert_eq!(told, known);
    }
}

#[test]
fn a_format_is_known_by_its_name() {
    for format in Format::ALL {
        assert_eq!(format.name().parse(), Ok(format));
    }
    let error = "yaml".parse::<Format>().unwrap_err().to_string();
    expect![
        "'yaml' is not a format; choose from tree, table, json, csv, dot, mermaid, graphml, grafana, svg"
    ]
    .assert_eq(&error);
}

#[test]
fn every_count_of_a_scan_is_printed_and_documented() {
    // Serde leaves a zero of a later version out, so each must be something.
    let mut all = serde_json::to_value(Coverage {
        filtered: true,
        updates_lost: 1,
        records_dropped: 1,
        ..Coverage::default()
    })
    .unwrap();
    let names: Vec<String> = all.as_object().unwrap().keys().cloned().collect();
    for (number, name) in names
        .iter()
        .enumerate()
        .filter(|(_, name)| !["confined", "filtered"].contains(&name.as_str()))
    {
        all[name] = (number + 1).into();
    }
    let mut records = records(FLEET);
    for host in &mut records.hosts {
        host.coverage = serde_json::from_value(all.clone()).unwrap();
    }
    let printed = print(&answer(records, host("app-1"), 1), Format::Json);
    let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed["hosts"][0]["coverage"], all);
    let page = include_str!("../../docs/look-json.md");
    for name in names {
        assert!(page.contains(&format!("`{name}`")), "{name} is not in docs/look-json.md");
    }
}

#[test]
fn what_rose_in_a_window_is_told_by_who_counted() {
    let all = records(
        "host a
        host b
        a has 10.0.0.1
        b has 10.0.0.2
        a tcp 10.0.0.1 -> 10.0.0.2:80 curl/1
        b tcp 10.0.0.2:80 <- 10.0.0.1 nginx/2
        a tcp 10.0.0.1 -> 10.0.0.2:81 curl/1
        b tcp 10.0.0.2:81 <- 10.0.0.1 nginx/2
        a tcp 10.0.0.1 -> 10.0.0.2:82 curl/1",
    );
    let sums = |opened, bytes_sent, bytes_received| Sums {
        opened,
        bytes_sent,
        bytes_received,
        ..Sums::default()
    };
    // Of the first edge both counted, of the second the passive end alone, of
    // the third nobody.
    let told = [
        (0, sums(Some(3), Some(1000), Some(250_000))),
        (1, sums(Some(9), Some(9), Some(9))),
        (3, sums(None, Some(700), Some(70))),
    ];
    let traffic = told.map(|(at, sums)| {
        let record: &FlowRecord = &all.flows[at];
        Traffic { host: record.host, flow: record.flow.key.hash(), sums }
    });
    let asked = |since| {
        let mut question = answer(all.clone(), host("b"), 1).question;
        question.window.since = since;
        let hosts = all.hosts.iter().map(|host| host.key).collect();
        let mut search = Search::begin(question, host("b"), Found { hosts, ..Found::default() });
        search.ask().unwrap();
        search.take(all.clone());
        assert_eq!(search.ask(), None);
        search
    };
    assert!(asked(None).counted().is_empty(), "no window, no question");
    let search = asked(Some(second(0)));
    assert_eq!(search.counted().len(), 2);
    let found = search.answer(second(70), Some(&traffic));
    expect![[r#"
        ACTIVE                       PASSIVE                        PROTO  PORT  STATE  CONNS  TOLD BY          FIRST SEEN  LAST SEEN  IN THAT TIME
        a 10.0.0.1 ('curl', pgid=1)  b 10.0.0.2 ('nginx', pgid=2)   tcp      80  alive      1  both ends               70s        10s  3 opened, 251.0 kB
        a 10.0.0.1 ('curl', pgid=1)  b 10.0.0.2 ('nginx', pgid=2)   tcp      81  alive      1  both ends               70s        10s  770 B
        a 10.0.0.1 ('curl', pgid=1)  b 10.0.0.2 (process not seen)  tcp      82  alive      1  active end only         70s        10s

        data of 2 hosts: a 10s old, b 10s old
    "#]]
    .assert_eq(&print(&found, Format::Table));
    assert!(print(&found, Format::Tree).contains("10s ago, in that time 3 opened, 251.0 kB\n"));
    let json = |answer: &Answer| -> serde_json::Value {
        serde_json::from_str(&print(answer, Format::Json)).unwrap()
    };
    let windows: Vec<String> = json(&found)["edges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|edge| format!("{} {}", edge["port"], edge["window"]))
        .collect();
    expect![[r#"
        80 {"bytes_to_active":250000,"bytes_to_passive":1000,"opened":3,"told_by":"active"}
        81 {"bytes_to_active":700,"bytes_to_passive":70,"told_by":"passive"}
        82 null"#]]
    .assert_eq(&windows.join("\n"));
    assert_eq!(json(&found)["cut"]["window"], serde_json::Value::Null);
    let cut = asked(Some(second(0))).answer(second(70), None);
    assert_eq!(json(&cut)["cut"]["window"], true);
    assert!(print(&cut, Format::Tree).contains("cut: what was counted in the time asked about"));
}

#[test]
fn what_people_call_a_node_is_written_with_it_and_can_be_asked_for() {
    let labels = r#"
        [[label]]
        cidr = "10.0.0.2"
        name = "resolver {1}"

        [[label]]
        host = "web-*"
        process = "nginx"
        role = "proxy"
        group = "shop"

        [[label]]
        cidr = "10.0.0.0/24"
        group = "rack 7"
    "#;
    let asked = Selector::Label("proxy".to_owned());
    let answer = labelled(records(FLEET), asked, 1, labels);
    expect![[r#"
        10.0.0.10:80 ('nginx', pgid=4656) {proxy, shop}  web-1
        └<-- 10.0.0.11:many ('wrk', pgid=5982) {'rack 7'}  wrk-1, tcp, both ends, 10s ago
        └--> 10.0.0.2:53 (no probe) {'resolver {1}', 'rack 7'}  udp, active end only, ended 20s ago
        └--> 10.0.0.12:8080 ('python', pgid=6111) {'rack 7'}  app-1, tcp, both ends, 10s ago
        └--> 127.0.0.1:6379 ('redis-server', pgid=5000) {'rack 7'}  tcp, from 127.0.0.1, both ends, 10s ago

        data of 3 hosts: app-1 10s old, web-1 10s old, wrk-1 10s old
        1 peer has no probe
    "#]]
    .assert_eq(&print(&answer, Format::Tree));
    let json: serde_json::Value = serde_json::from_str(&print(&answer, Format::Json)).unwrap();
    let labels: Vec<String> = json["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| format!("{} {}", node["address"], node["label"]))
        .collect();
    expect![[r#"
        "10.0.0.11" {"group":"rack 7"}
        "10.0.0.12" {"group":"rack 7"}
        "10.0.0.10" {"group":"shop","role":"proxy"}
        "127.0.0.1" {"group":"rack 7"}
        "10.0.0.2" {"group":"rack 7","name":"resolver {1}"}"#]]
    .assert_eq(&labels.join("\n"));
}
