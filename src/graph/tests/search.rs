//! Searching a CMDB that is a list of records: what is fetched, and that it is
//! enough.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::SignedDuration;

use crate::graph::join::join;
use crate::graph::search::{Answer, Ask, Question, Search};
use crate::graph::tests::notation::{host_key, print as print_graph, records, second};
use crate::graph::tests::truth::{Dice, rounds};
use crate::graph::tests::walk::{chain, print};
use crate::graph::walk::{Reach, Ways};
use crate::recall::{Found, HostKey, Records, Selector, Window};

/// What the CMDB promises to give for hosts: their flows, what others saw of
/// their addresses, who had those addresses and their peers', and what listens
/// at the ports they call.
pub(crate) fn around(all: &Records, ask: &Ask) -> Records {
    let asked: BTreeSet<HostKey> = ask.hosts.iter().copied().collect();
    let own: BTreeSet<IpAddr> = all
        .addresses
        .iter()
        .filter(|record| asked.contains(&record.host))
        .map(|record| record.address)
        .chain(ask.addresses.iter().copied())
        .collect();
    let of_hosts = all.flows.iter().filter(|record| asked.contains(&record.host));
    let peers: BTreeSet<IpAddr> =
        of_hosts.clone().filter_map(|record| record.flow.key.peer).chain(own.clone()).collect();
    let ports: BTreeSet<u16> = of_hosts.filter_map(|record| record.flow.key.peer_port).collect();
    let owners: BTreeSet<HostKey> = all
        .addresses
        .iter()
        .filter(|record| peers.contains(&record.address))
        .map(|record| record.host)
        .collect();
    let wanted = all.flows.iter().filter(|record| {
        let key = &record.flow.key;
        let port = key.local_port.is_some_and(|port| ports.contains(&port));
        asked.contains(&record.host)
            || key.peer.is_some_and(|peer| own.contains(&peer))
            || key.is_listener() && owners.contains(&record.host) && port
    });
    let addresses = all.addresses.iter();
    Records {
        hosts: all.hosts.clone(),
        addresses: addresses.filter(|record| owners.contains(&record.host)).cloned().collect(),
        flows: wanted.cloned().collect(),
    }
}

/// The answer, and the hosts in the order in which they were asked for.
fn search(all: &Records, from: &str, depth: u32, hosts: usize) -> (Answer, Vec<HostKey>) {
    let selector = Selector::Host(from.to_owned());
    let question = Question {
        selectors: vec![selector.clone()],
        window: Window::default(),
        reach: Reach { depth, ways: Ways::Both, edges: 1000 },
        hosts,
        tolerance: SignedDuration::from_secs(10),
        labels: Arc::default(),
    };
    let found = Found { hosts: [host_key(from)].into(), ..Found::default() };
    let mut search = Search::begin(question, selector, found);
    let mut asked = Vec::new();
    while let Some(ask) = search.ask() {
        asked.extend(&ask.hosts);
        search.take(around(all, &ask));
    }
    (search.answer(second(60), Some(&[])), asked)
}

#[test]
fn hosts_are_fetched_level_by_level_and_once() {
    let all = records(&chain("a>b b>c c>d d>a e>f"));
    let keys = |names: &str| names.chars().map(|name| host_key(&name.to_string())).collect();
    let asked = |depth| {
        let (_, mut asked) = search(&all, "a", depth, 100);
        asked[1..].sort_unstable();
        asked
    };
    let sorted = |names: &str| {
        let mut keys: Vec<HostKey> = keys(names);
        keys[1..].sort_unstable();
        keys
    };
    assert_eq!(asked(1), sorted("a"));
    assert_eq!(asked(2), sorted("abd"));
    assert_eq!(asked(9), sorted("abdc"));
}

#[test]
fn a_limit_on_hosts_is_counted() {
    let all = records(&chain("a>b a>c a>d b>e"));
    let (answer, asked) = search(&all, "a", 2, 2);
    assert_eq!(asked.len(), 2);
    assert_eq!(answer.cut.hosts, 2);
    let (answer, _) = search(&all, "a", 2, 4);
    assert_eq!(answer.cut.hosts, 0);
    // What is on hosts that were not asked is still an edge of one that was.
    assert_eq!(search(&all, "a", 1, 1).0.walk.steps.len(), 3);
}

#[test]
fn addresses_without_a_host_are_asked_for_too() {
    let all = records("host a\na has 10.0.0.1\na tcp 10.0.0.1 -> 10.0.0.9:80 x/1");
    let selector = Selector::Address("10.0.0.9".parse().unwrap());
    let (answer, _) = search(&all, "a", 1, 1);
    let found = Found {
        hosts: BTreeSet::new(),
        addresses: (1..=9).map(|n| IpAddr::from([10, 0, 0, n])).collect(),
    };
    let question = Question { hosts: 9, ..answer.question.clone() };
    let mut search = Search::begin(question, selector.clone(), found.clone());
    let ask = search.ask().unwrap();
    assert_eq!((ask.hosts.len(), ask.addresses.len()), (0, 9));
    search.take(around(&all, &ask));
    // The one who called it is only the other end, and so is not asked.
    assert_eq!(search.ask(), None);
    let answer = search.answer(second(60), Some(&[]));
    assert_eq!(print(&answer.graph, &answer.walk), "0: nobody <- a x/1\n");
    let question = Question { hosts: 4, ..answer.question };
    let mut search = Search::begin(question, selector, found);
    assert_eq!(search.ask().unwrap().addresses.len(), 4);
    assert_eq!(search.answer(second(60), Some(&[])).cut.addresses, 5);
}

#[test]
fn what_is_fetched_level_by_level_is_enough() {
    let mut edges = 0;
    for seed in 1..=rounds(200) {
        let mut dice = Dice(0x2545_F491_4F6C_DD1D_u64.wrapping_mul(seed));
        let name = |n: usize| char::from(b'a' + u8::try_from(n).unwrap());
        let text: Vec<String> = (0..dice.below(14))
            .map(|_| format!("{}>{}", name(dice.below(8)), name(dice.below(8))))
            .collect();
        let mut all = records(&chain(&text.join(" ")));
        let mut seen = BTreeSet::new();
        all.flows.retain(|record| seen.insert((record.host, record.flow.key.clone())));
        for depth in 1..5 {
            let (answer, _) = search(&all, "a", depth, 100);
            let whole = join(&all, answer.question.tolerance);
            let roots = whole.roots(&answer.selector);
            let walk = whole.walk(&roots, answer.question.reach);
            let lines = |text: String| {
                let words = text.lines().map(|line| line.split_once(": ").unwrap().1.to_owned());
                words
                    .map(|line| line.split(" after").next().unwrap().to_owned())
                    .collect::<BTreeSet<_>>()
            };
            let found = lines(print(&answer.graph, &answer.walk));
            assert_eq!(found, lines(print(&whole, &walk)), "{text:?} {depth}");
            edges += answer.walk.steps.len();
        }
        assert!(
            print_graph(&join(&all, SignedDuration::from_secs(10))).lines().count() <= text.len()
        );
    }
    assert!(edges > 1000, "{edges} edges");
}
