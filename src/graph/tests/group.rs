//! A walk folded into groups.

use expect_test::{Expect, expect};
use jiff::SignedDuration;

use crate::graph::group::{By, Common, fold, narrow};
use crate::graph::search::{Answer, Question, Search};
use crate::graph::tests::notation::{records, second};
use crate::graph::walk::{Reach, Ways};
use crate::labels::Labels;
use crate::recall::{Found, Selector, Window};

const FLEET: &str = "
    host web
    host app
    host db
    web has 127.0.0.1 10.0.0.10
    app has 127.0.0.1 10.0.0.11
    db has 127.0.0.1 10.0.1.12 fd00::12
    web tcp 0.0.0.0:80 listens nginx/1
    web tcp 10.0.0.10 -> 10.0.0.11:8080 nginx/1
    web tcp 127.0.0.1 -> 127.0.0.1:6379 nginx/1
    web tcp 127.0.0.1:6379 <- 127.0.0.1 redis/2
    app tcp 10.0.0.11:8080 <- 10.0.0.10 python/3
    app tcp 10.0.0.11 -> 10.0.1.12:5432 python/3
    app tcp 10.0.0.11 -> 192.0.2.7:443 python/3
    app tcp 10.0.0.11 -> 192.0.2.8:443 python/3
    app udp 10.0.0.11 -> 192.0.2.8:53 -
    db tcp 10.0.1.12:5432 <- 10.0.0.11 postgres/4
    db tcp [fd00::12]:22 listens sshd/5";

fn all(text: &str) -> Answer {
    let records = records(text);
    let question = Question {
        selectors: vec![Selector::All],
        window: Window::default(),
        reach: Reach { depth: 1, ways: Ways::Both, edges: 1000 },
        hosts: 100,
        tolerance: SignedDuration::from_secs(30),
        labels: Labels::default().into(),
    };
    let hosts = records.hosts.iter().map(|host| host.key).collect();
    let mut search = Search::begin(question, Selector::All, Found { hosts, ..Found::default() });
    while search.ask().is_some() {
        search.take(records.clone());
    }
    search.answer(second(70), Some(&[]))
}

fn name(answer: &Answer, common: &Common) -> String {
    match common {
        Common::Host(key) => answer.graph.hosts[key].name.clone(),
        Common::Unit(text)
        | Common::Container(text)
        | Common::Process(text)
        | Common::Label(text) => text.clone(),
        Common::Subnet(network) => network.to_string(),
        Common::Peer(address) => format!("peer {address}"),
        Common::Nothing => "nothing".to_owned(),
    }
}

fn check(by: By, most: usize, expected: Expect) {
    let answer = all(FLEET);
    let groups = fold(&answer, by, most);
    let mut names: Vec<String> =
        groups.groups.iter().map(|group| name(&answer, &group.common)).collect();
    let mut lines: Vec<String> = groups
        .groups
        .iter()
        .zip(&names)
        .map(|(group, name)| format!("{name}: {} nodes", group.nodes.len()))
        .collect();
    if let Some((nodes, folded)) = &groups.others {
        lines.push(format!("others, {folded} groups: {} nodes", nodes.len()));
        names.push("others".to_owned());
    }
    for ((active, passive), edges) in &groups.links {
        lines.push(format!("{} -> {} {}", names[*active], names[*passive], edges.len()));
    }
    expected.assert_eq(&lines.join("\n"));
    let edges: usize = groups.links.values().map(Vec::len).sum();
    assert_eq!(edges, answer.walk.steps.len(), "each edge is in one link");
    let nodes: usize = groups.groups.iter().map(|group| group.nodes.len()).sum();
    let others = groups.others.as_ref().map_or(0, |(nodes, _)| nodes.len());
    let ends = answer.walk.steps.iter().flat_map(|step| [step.from, step.to]);
    let known: std::collections::BTreeSet<_> =
        answer.walk.roots.iter().copied().chain(ends).collect();
    assert_eq!(nodes + others, known.len(), "each node is in one group");
}

#[test]
fn hosts_are_groups_and_so_are_addresses_without_a_probe() {
    check(
        By::Host,
        10,
        expect![[r#"
        app: 2 nodes
        web: 2 nodes
        peer 192.0.2.8: 2 nodes
        db: 2 nodes
        peer 192.0.2.7: 1 nodes
        app -> peer 192.0.2.8 2
        app -> db 1
        app -> peer 192.0.2.7 1
        web -> app 1
        web -> web 1"#]],
    );
}

#[test]
fn a_subnet_has_the_addresses_that_are_used() {
    check(
        By::Subnet,
        10,
        expect![[r#"
        10.0.0.0/24: 3 nodes
        192.0.2.0/24: 3 nodes
        web: 1 nodes
        10.0.1.0/24: 1 nodes
        fd00::/64: 1 nodes
        10.0.0.0/24 -> 10.0.0.0/24 1
        10.0.0.0/24 -> 192.0.2.0/24 3
        10.0.0.0/24 -> web 1
        10.0.0.0/24 -> 10.0.1.0/24 1"#]],
    );
}

#[test]
fn processes_of_one_name_are_a_group_on_whatever_host() {
    check(
        By::Process,
        10,
        expect![[r#"
        python: 1 nodes
        nginx: 1 nodes
        peer 192.0.2.8: 2 nodes
        postgres: 1 nodes
        redis: 1 nodes
        peer 192.0.2.7: 1 nodes
        nothing: 1 nodes
        sshd: 1 nodes
        python -> peer 192.0.2.8 1
        python -> postgres 1
        python -> peer 192.0.2.7 1
        nginx -> python 1
        nginx -> redis 1
        nothing -> peer 192.0.2.8 1"#]],
    );
}

#[test]
fn what_is_beyond_the_most_groups_is_one_of_others() {
    check(
        By::Host,
        3,
        expect![[r#"
        app: 2 nodes
        web: 2 nodes
        others, 3 groups: 5 nodes
        app -> others 4
        web -> app 1
        web -> web 1"#]],
    );
    check(
        By::Host,
        5,
        expect![[r#"
        app: 2 nodes
        web: 2 nodes
        peer 192.0.2.8: 2 nodes
        db: 2 nodes
        peer 192.0.2.7: 1 nodes
        app -> peer 192.0.2.8 2
        app -> db 1
        app -> peer 192.0.2.7 1
        web -> app 1
        web -> web 1"#]],
    );
}

#[test]
fn a_group_alone_has_what_touches_it() {
    let mut answer = all(FLEET);
    let found = narrow(&mut answer, By::Process, |_, common| {
        *common == Common::Process("nginx".to_owned())
    });
    assert!(found);
    let mut ports: Vec<u16> =
        answer.walk.steps.iter().map(|step| answer.graph.edges[step.edge].port).collect();
    ports.sort_unstable();
    assert_eq!(ports, [6379, 8080]);
    assert!(!narrow(&mut answer, By::Process, |_, _| false));
    assert!(answer.walk.steps.is_empty());
}
