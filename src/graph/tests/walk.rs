//! The roots and the walk, case by case.

use expect_test::{Expect, expect};
use jiff::SignedDuration;

use crate::graph::Graph;
use crate::graph::join::join;
use crate::graph::tests::notation::{label, records};
use crate::graph::walk::{Reach, Walk, Way, Ways};
use crate::recall::{Selector, Spot};

fn graph(text: &str) -> Graph {
    join(&records(text), SignedDuration::from_secs(10))
}

pub(super) fn print(graph: &Graph, walk: &Walk) -> String {
    let steps = walk.steps.iter().enumerate().map(|(id, step)| {
        let name = |node: usize| label(graph, &graph.nodes[node]);
        let parent = step.parent.map_or(String::new(), |parent| format!(" after {parent}"));
        let way = if step.way == Way::Up { "<-" } else { "->" };
        let cycle = if step.cycle { " cycle" } else { "" };
        let repeated = if step.repeated { " repeated" } else { "" };
        format!("{id}: {} {way} {}{parent}{cycle}{repeated}\n", name(step.from), name(step.to))
    });
    steps.collect()
}

/// A chain of processes a → b → c …, each on a host of its name.
pub(super) fn chain(edges: &str) -> String {
    let mut text = String::new();
    for name in 'a'..='h' {
        let n = u32::from(name) - 96;
        text += &format!(
            "host {name}\n{name} has 10.0.0.{n}\n{name} tcp 0.0.0.0:{n} listens {name}/{n}\n"
        );
    }
    for edge in edges.split_whitespace() {
        let (from, to) = edge.split_once('>').unwrap();
        let n = |name: &str| u32::from(name.chars().next().unwrap()) - 96;
        text += &format!(
            "{from} tcp 10.0.0.{} -> 10.0.0.{}:{} {from}/{}\n",
            n(from),
            n(to),
            n(to),
            n(from)
        );
    }
    text
}

fn check(edges: &str, depth: u32, ways: Ways, expected: Expect) {
    let graph = graph(&chain(edges));
    let roots = graph.roots(&Selector::Process("a".to_owned()));
    let walk = graph.walk(&roots, Reach { depth, ways, edges: 100 });
    expected.assert_eq(&print(&graph, &walk));
}

#[test]
fn up_goes_further_up_and_down_further_down() {
    check(
        "b>a c>b b>d a>e e>f g>e",
        3,
        Ways::Both,
        expect![[r#"
        0: a a/1 <- b b/2
        1: a a/1 -> e e/5
        2: b b/2 <- c c/3 after 0
        3: e e/5 -> f f/6 after 1
    "#]],
    );
    check(
        "b>a c>b b>d a>e e>f g>e",
        3,
        Ways::Up,
        expect![[r#"
        0: a a/1 <- b b/2
        1: b b/2 <- c c/3 after 0
    "#]],
    );
    check(
        "b>a c>b b>d a>e e>f g>e",
        1,
        Ways::Down,
        expect![[r#"
        0: a a/1 -> e e/5
    "#]],
    );
}

#[test]
fn a_cycle_is_marked_and_ends() {
    check(
        "a>b b>c c>a",
        9,
        Ways::Down,
        expect![[r#"
        0: a a/1 -> b b/2
        1: b b/2 -> c c/3 after 0
        2: c c/3 -> a a/1 after 1 cycle
    "#]],
    );
    check(
        "a>b b>a",
        9,
        Ways::Both,
        expect![[r#"
        0: a a/1 <- b b/2 cycle
        1: a a/1 -> b b/2 cycle
    "#]],
    );
    check(
        "a>a",
        2,
        Ways::Both,
        expect![[r#"
        0: a a/1 <- a a/1 cycle
    "#]],
    );
}

#[test]
fn a_node_reached_twice_is_followed_once() {
    check(
        "a>b a>c b>d c>d d>e",
        9,
        Ways::Down,
        expect![[r#"
        0: a a/1 -> b b/2
        1: a a/1 -> c c/3
        2: b b/2 -> d d/4 after 0
        3: c c/3 -> d d/4 after 1 repeated
        4: d d/4 -> e e/5 after 2
    "#]],
    );
}

#[test]
fn each_edge_is_taken_once_and_what_follows_hangs_from_its_line() {
    // b is above a and below it; d is only below b.
    check(
        "b>a a>b b>d c>b",
        9,
        Ways::Both,
        expect![[r#"
        0: a a/1 <- b b/2 cycle
        1: a a/1 -> b b/2 cycle
        2: b b/2 <- c c/3 after 0
        3: b b/2 -> d d/4 after 1
    "#]],
    );
}

#[test]
fn a_limit_on_edges_is_counted() {
    let graph = graph(&chain("a>b a>c a>d b>e"));
    let roots = graph.roots(&Selector::Process("a".to_owned()));
    let walk = graph.walk(&roots, Reach { depth: 5, ways: Ways::Down, edges: 2 });
    assert_eq!((walk.steps.len(), walk.edges_cut), (2, 2));
}

#[test]
fn an_edge_without_a_direction_is_walked_either_way_but_not_back() {
    let graph = graph(
        "host a
        host b
        a has 10.0.0.1
        b has 10.0.0.2
        a tcp 10.0.0.1:1000 -- 10.0.0.2:2000 a/1
        b tcp 10.0.0.2:2000 -- 10.0.0.1:1000 b/2
        b tcp 10.0.0.2 -> 10.0.0.9:80 b/2",
    );
    let roots = graph.roots(&Selector::Process("a".to_owned()));
    let walk = graph.walk(&roots, Reach { depth: 5, ways: Ways::Both, edges: 100 });
    expect![[r#"
        0: a a/1 <- b b/2
        1: b b/2 -> nobody after 0
    "#]]
    .assert_eq(&print(&graph, &walk));
}

#[test]
fn a_selector_means_the_nodes_that_use_it() {
    let graph = graph(
        "host web-1
        host db-1
        web-1 has 127.0.0.1 10.0.0.10 fd00::10
        web-1@pod has 10.1.0.10
        db-1 has 10.0.0.20
        web-1 tcp 0.0.0.0:80 listens nginx/1
        web-1 tcp [::]:81 listens dual/2
        web-1 tcp 127.0.0.1:82 listens local/3
        web-1 tcp 10.0.0.10 -> 10.0.0.20:5432 app/4
        web-1 tcp 127.0.0.1 -> 127.0.0.1:82 cli/5
        web-1@pod tcp 0.0.0.0:80 listens nginx/6
        db-1 tcp 0.0.0.0:5432 listens postgres/7
        db-1 tcp 10.0.0.20 -> 10.0.0.99:53 postgres/7
        db-1 tcp 10.0.0.20:4000 -- 10.0.0.99:5000 odd/8",
    );
    let check = |selector: Selector, expected: Expect| {
        let roots = graph.roots(&selector);
        let labels: Vec<String> =
            roots.iter().map(|root| label(&graph, &graph.nodes[*root])).collect();
        expected.assert_eq(&labels.join(", "));
    };
    let address = |text: &str| Selector::Address(text.parse().unwrap());
    check(address("10.0.0.10"), expect!["web-1 app/4, web-1 dual/2, web-1 nginx/1"]);
    check(address("fd00::10"), expect!["web-1 dual/2"]);
    check(address("127.0.0.1"), expect!["web-1 cli/5, web-1 dual/2, web-1 local/3, web-1 nginx/1"]);
    check(address("10.1.0.10"), expect!["web-1@pod nginx/6"]);
    check(address("10.0.0.99"), expect!["nobody, nobody"]);
    check(address("10.0.0.77"), expect![[""]]);
    check(
        Selector::Network("10.0.0.0/28".parse().unwrap()),
        expect!["web-1 app/4, web-1 dual/2, web-1 nginx/1"],
    );
    check(Selector::Host("db-1".to_owned()), expect!["db-1 odd/8, db-1 postgres/7"]);
    check(Selector::Host("db-1-id".to_owned()), expect!["db-1 odd/8, db-1 postgres/7"]);
    check(Selector::Process("nginx".to_owned()), expect!["web-1 nginx/1, web-1@pod nginx/6"]);
    check(Selector::Port(5432), expect!["db-1 postgres/7"]);
    check(Selector::Port(53), expect!["nobody"]);
    check(Selector::Port(4000), expect!["db-1 odd/8"]);
    let at = |place: &str, port: u16| {
        let spot = place.parse().map_or(Spot::Host(place.to_owned()), Spot::Address);
        Selector::Service(spot, port)
    };
    check(at("10.0.0.10", 80), expect!["web-1 nginx/1"]);
    check(at("10.1.0.10", 80), expect!["web-1@pod nginx/6"]);
    check(at("fd00::10", 80), expect![[""]]);
    check(at("fd00::10", 81), expect!["web-1 dual/2"]);
    check(at("10.0.0.10", 82), expect![[""]]);
    check(at("127.0.0.1", 82), expect!["web-1 local/3"]);
    // A caller's port is none that was meant.
    check(at("10.0.0.10", 5432), expect![[""]]);
    check(at("10.0.0.20", 5432), expect!["db-1 postgres/7"]);
    check(at("10.0.0.20", 4000), expect!["db-1 odd/8"]);
    check(at("10.0.0.20", 5000), expect![[""]]);
    check(at("10.0.0.99", 53), expect!["nobody"]);
    check(at("10.0.0.99", 80), expect![[""]]);
    check(at("WEB-1", 80), expect!["web-1 nginx/1, web-1@pod nginx/6"]);
    check(at("db-1-id", 5432), expect!["db-1 postgres/7"]);
    check(at("db-1", 53), expect![[""]]);
    check(at("nosuch", 80), expect![[""]]);
}
