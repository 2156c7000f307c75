//! What depends on something, held against a model that knows the world and
//! searches it in the plainest way.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use jiff::SignedDuration;

use crate::flow::host::Rung;
use crate::graph::search::Answer;
use crate::graph::tests::notation::{records, second};
use crate::graph::tests::truth::{Dice, rounds};
use crate::graph::{Graph, NodeId};
use crate::recall::{Dim, FlowRecord, Records, Selector, Span, Spot};
use crate::study::doubt::Doubt;
use crate::study::drain::{Quiet, State};
use crate::study::impact::{Decommission, Impact, Verdict};
use crate::study::period::{Pattern, Seen};
use crate::study::tests::outcome_at;
use crate::study::{About, Finding, Outcome};

const PROCESSES: usize = 14;

/// It is 1000; everything has been watched since 0, and has to have been
/// since 600.
const NOW: i64 = 1000;
const SINCE: i64 = 600;

/// A call from one process to another, in a range of time.
#[derive(Clone, Copy, Debug)]
struct Call {
    from: usize,
    to: usize,
    since: i64,
    until: i64,
    /// Who told: the active end, the passive end, both.
    told: usize,
}

/// Process n runs on host n / 2 and listens at 1000 + n.
fn line_of(call: &Call) -> String {
    let Call { from, to, since, until, told } = *call;
    let span = if until == NOW { format!("{since}-{until}") } else { format!("{since}-{until}.") };
    let address = |process: usize| format!("10.0.0.{}", process / 2 + 1);
    let (a, b, port) = (address(from), address(to), 1000 + to);
    let mut text = String::new();
    if told != 1 {
        writeln!(text, "h{} tcp {a} -> {b}:{port} p{from}/{} {span}", from / 2, 100 + from)
            .unwrap();
    }
    if told != 0 {
        writeln!(text, "h{} tcp {b}:{port} <- {a} p{to}/{} {span}", to / 2, 100 + to).unwrap();
    }
    text
}

fn world(calls: &[Call]) -> Records {
    let mut text = String::new();
    for host in 0..PROCESSES / 2 {
        writeln!(text, "host h{host}\nh{host} has 10.0.0.{} 0-{NOW}", host + 1).unwrap();
    }
    for process in 0..PROCESSES {
        let (host, port, pgid) = (process / 2, 1000 + process, 100 + process);
        writeln!(text, "h{host} tcp 0.0.0.0:{port} listens p{process}/{pgid} 0-{NOW}").unwrap();
    }
    text.extend(calls.iter().map(line_of));
    let mut records = records(&text);
    // A service sees one flow of all processes that call it from one host.
    let mut flows: BTreeMap<_, FlowRecord> = BTreeMap::new();
    for record in records.flows.drain(..) {
        match flows.entry((record.host, record.flow.key.clone())) {
            Entry::Vacant(entry) => drop(entry.insert(record)),
            Entry::Occupied(mut entry) => entry.get_mut().spans.extend(record.spans),
        }
    }
    records.flows = flows.into_values().collect();
    for host in &mut records.hosts {
        host.last_seen = second(NOW);
        host.watched = vec![(second(0), second(NOW))];
        host.rung = Rung::Streaming;
    }
    records
}

fn calls(dice: &mut Dice, told: impl Fn(&mut Dice) -> usize) -> Vec<Call> {
    let mut calls: BTreeMap<(usize, usize), Call> = BTreeMap::new();
    for _ in 0..2 + dice.below(22) {
        let (from, to) = (dice.below(PROCESSES), dice.below(PROCESSES));
        let since = i64::try_from(dice.below(900)).unwrap();
        let until = match dice.below(3) {
            0 => NOW,
            _ => (since + i64::try_from(dice.below(300)).unwrap()).min(NOW - 1),
        };
        // A probe sees both ends of a call within its host.
        let told = if from / 2 == to / 2 { 2 } else { told(dice) };
        calls.insert((from, to), Call { from, to, since, until, told });
    }
    calls.into_values().collect()
}

fn ask(records: &Records, selector: Selector, decommission: bool) -> Outcome {
    let watched = SignedDuration::from_secs(NOW - SINCE);
    let asked = Decommission { watched, polled: false };
    let decommission = decommission.then_some(asked);
    outcome_at(records, selector, About::Impact { depth: 100, decommission }, second(NOW))
}

fn impact(outcome: &Outcome) -> &Impact {
    let Finding::Impact(found) = &outcome.finding else { panic!("not an impact") };
    found
}

/// `p7` → 7; the host of a process whose end nobody told of is no process.
fn process(graph: &Graph, node: NodeId) -> usize {
    graph.nodes[node].identity.process().unwrap().name[1..].parse().unwrap()
}

fn selector(process: usize) -> Selector {
    Selector::Process(format!("p{process}"))
}

/// The least number of calls from each process to the root, by trying all
/// lengths.
fn model(calls: &[Call], root: usize) -> BTreeMap<usize, usize> {
    let mut steps = BTreeMap::from([(root, 0)]);
    for length in 1..=PROCESSES {
        for call in calls {
            if steps.get(&call.to).is_some_and(|to| *to == length - 1) {
                steps.entry(call.from).or_insert(length);
            }
        }
    }
    steps.remove(&root);
    steps
}

#[test]
fn generated_worlds_have_the_dependents_that_a_model_finds() {
    let mut dice = Dice(21);
    let (mut cycles, mut deepest) = (0, 0);
    for round in 0..rounds(400) {
        // The active end is always told, so that a caller is known by name.
        let calls = calls(&mut dice, |dice| 2 * dice.below(2));
        let root = dice.below(PROCESSES);
        let outcome = ask(&world(&calls), selector(root), false);
        let answer = outcome.answer();
        let found = impact(&outcome);
        let expected = model(&calls, root);
        let dependents: BTreeMap<usize, usize> = found
            .dependents
            .iter()
            .map(|dependent| (process(&answer.graph, dependent.node), dependent.depth))
            .collect();
        assert_eq!(dependents, expected, "round {round}: root {root}, {calls:?}");
        assert_eq!(found.dependents.len(), expected.len());
        let counted = |depth: usize| expected.values().filter(|steps| **steps == depth).count();
        let by_depth: Vec<usize> = (1..=found.by_depth.len()).map(counted).collect();
        assert_eq!(found.by_depth, by_depth);
        assert!(found.dependents.is_sorted_by_key(|dependent| dependent.depth));
        paths_lead_to_the_root(answer, found, root, &calls);
        cycles += usize::from(calls.iter().any(|call| call.from == root));
        deepest = deepest.max(found.by_depth.len());
    }
    assert!(cycles > 50 && deepest > 5, "{cycles} {deepest}: a world that proves nothing");
}

fn paths_lead_to_the_root(answer: &Answer, found: &Impact, root: usize, calls: &[Call]) {
    let known: BTreeSet<(usize, usize)> = calls.iter().map(|call| (call.from, call.to)).collect();
    for dependent in &found.dependents {
        assert_eq!(dependent.path.len(), dependent.depth);
        let mut at = process(&answer.graph, dependent.node);
        for hop in &dependent.path {
            let to = process(&answer.graph, hop.to);
            assert!(known.contains(&(at, to)), "{at} does not call {to}");
            assert_eq!(usize::from(answer.graph.edges[hop.edge].port), 1000 + to);
            at = to;
        }
        assert_eq!(at, root);
    }
}

/// A way in which less is seen on a host.
const BLINDNESS: usize = 10;

fn blind(records: &mut Records, host: usize, how: usize) {
    let name = format!("h{host}");
    if how == 9 {
        // No probe at all.
        let key = records.hosts.iter().find(|host| host.name == name).unwrap().key;
        records.hosts.retain(|host| host.key != key);
        records.addresses.retain(|record| record.host != key);
        records.flows.retain(|flow| flow.host != key);
        return;
    }
    let host = records.hosts.iter_mut().find(|host| host.name == name).unwrap();
    match how {
        0 => host.watched = vec![(second(700), second(NOW))],
        1 => host.watched = vec![(second(0), second(650)), (second(720), second(NOW))],
        2 => {
            host.last_seen = second(900);
            host.watched = vec![(second(0), second(900))];
        }
        3 => host.rung = Rung::Iterator,
        4 => host.coverage.namespaces_unreadable = 1,
        5 => host.coverage.flows_dropped = 1,
        8 => host.coverage.filtered = true,
        6 => drop(host.rivals.insert("twin".to_owned())),
        _ => host.skew = SignedDuration::from_secs(90),
    }
}

#[test]
fn generated_verdicts_are_the_models_and_blindness_never_makes_it_safe() {
    let mut dice = Dice(22);
    let mut verdicts: BTreeMap<Verdict, usize> = BTreeMap::new();
    for round in 0..rounds(400) {
        let told = |dice: &mut Dice| dice.below(3);
        let calls: Vec<Call> =
            calls(&mut dice, told).into_iter().filter(|_| round % 3 != 0).collect();
        let root = dice.below(PROCESSES);
        let mut records = world(&calls);
        let used = |call: &Call| call.to == root && call.from != root && call.until >= SINCE;
        let used = calls.iter().any(used);
        let judge = |records: &Records| {
            let outcome = ask(records, selector(root), true);
            let judged = impact(&outcome).judgement.clone().unwrap();
            assert_eq!(outcome.exit_code(), judged.verdict.exit_code());
            judged
        };
        let mut before = judge(&records);
        let expected = if used { Verdict::Unsafe } else { Verdict::Safe };
        assert_eq!(before.verdict, expected, "round {round}: {root} {calls:?} {before:?}");
        *verdicts.entry(before.verdict).or_default() += 1;
        for _ in 0..3 {
            let (host, how) = (dice.below(PROCESSES / 2), dice.below(BLINDNESS));
            if !records.hosts.iter().any(|record| record.name == format!("h{host}")) {
                continue;
            }
            blind(&mut records, host, how);
            let after = judge(&records);
            // What nobody told but a host that has no probe now.
            let untold = |call: &Call| how == 9 && call.told == 0 && call.from / 2 == host;
            let known = before.verdict != Verdict::Safe && !calls.iter().any(untold);
            if known || host == root / 2 {
                assert_ne!(after.verdict, Verdict::Safe, "round {round}: {how} on h{host}");
            }
            *verdicts.entry(after.verdict).or_default() += 1;
            before = after;
        }
    }
    assert!(verdicts.len() == 3 && verdicts.values().all(|count| *count > 50), "{verdicts:?}");
}

/// Nothing is known of a host from then on.
fn silence(records: &mut Records, host: usize, at: i64) {
    let name = format!("h{host}");
    let record = records.hosts.iter_mut().find(|host| host.name == name).unwrap();
    record.last_seen = second(at);
    record.watched = vec![(second(0), second(at))];
    let key = record.key;
    for record in records.addresses.iter_mut().filter(|record| record.host == key) {
        record.until = second(at);
    }
    for record in records.flows.iter_mut().filter(|record| record.host == key) {
        record.spans.retain(|span| span.since <= second(at));
        for span in record.spans.iter_mut().filter(|span| span.until > second(at)) {
            *span = Span { until: second(at), ended: false, ..*span };
        }
    }
    records.flows.retain(|record| !record.spans.is_empty());
}

#[test]
fn who_calls_is_known_of_the_host_that_is_called_whichever_callers_are_silent() {
    let mut dice = Dice(23);
    let (mut used_by_silent, mut unused) = (0, 0);
    for round in 0..rounds(400) {
        let root = dice.below(PROCESSES);
        // From two hosts, so that several share what the root's host sees.
        let calls = calls(&mut dice, |_| 2).into_iter().take(1 + dice.below(3));
        let calls = calls.map(|call| Call { from: call.from % 4, to: root, ..call });
        let calls: Vec<Call> = calls.collect();
        let mut records = world(&calls);
        let mut silent = BTreeSet::new();
        for host in (0..PROCESSES / 2).filter(|host| *host != root / 2) {
            if dice.chance(6) {
                silent.insert(host);
                silence(&mut records, host, i64::try_from(100 + dice.below(880)).unwrap());
            }
        }
        let others = calls.iter().filter(|call| call.from != root);
        let users: Vec<&Call> = others.filter(|call| call.until >= SINCE).collect();
        let expected = match users.is_empty() {
            false => (Verdict::Unsafe, State::InUse),
            true => (Verdict::Safe, State::Drained),
        };
        let outcome = ask(&records, selector(root), true);
        let verdict = impact(&outcome).judgement.as_ref().unwrap().verdict;
        let time = SignedDuration::from_secs(NOW - SINCE);
        let quiet = Quiet { time, except: Vec::new() };
        let outcome = outcome_at(&records, selector(root), About::Drain(quiet), second(NOW));
        let Finding::Drain(found) = &outcome.finding else { panic!("not a drain") };
        let said = (verdict, found.state);
        assert_eq!(said, expected, "round {round}: {root} {calls:?} {silent:?}");
        let all_silent = users.iter().all(|call| silent.contains(&(call.from / 2)));
        used_by_silent += usize::from(!users.is_empty() && all_silent);
        unused += usize::from(users.is_empty());
    }
    assert!(used_by_silent > 50 && unused > 50, "{used_by_silent} {unused}: proves nothing");
}

#[test]
fn a_nightly_caller_that_is_not_there_now_makes_it_unsafe() {
    const DAY: i64 = 86_400;
    let call = Call { from: 2, to: 0, since: 0, until: 10, told: 2 };
    let mut records = world(&[call]);
    let now = 6 * DAY + 50_000;
    for host in &mut records.hosts {
        host.last_seen = second(now);
        host.first_seen = second(-5000);
        host.watched = vec![(second(-5000), second(now))];
    }
    for record in &mut records.addresses {
        record.until = second(now);
    }
    let span =
        |day: i64| Span { since: second(day * DAY), until: second(day * DAY + 300), ended: true };
    for flow in records.flows.iter_mut().filter(|flow| flow.flow.key.peer.is_some()) {
        flow.spans = (0..7).map(span).collect();
    }
    // An hour without a call: only its period tells.
    let judge = |records: &Records| {
        let decommission = Decommission { watched: SignedDuration::from_hours(1), polled: false };
        let about = About::Impact { depth: 100, decommission: Some(decommission) };
        let outcome = outcome_at(records, selector(0), about, second(now));
        let found = impact(&outcome);
        let judged = found.judgement.clone().unwrap();
        (judged.verdict, judged.former.len(), found.dependents[0].pattern.clone())
    };
    let (verdict, _, pattern) = judge(&records);
    let Some(Pattern::Periodic(found)) = pattern else { panic!("{pattern:?}") };
    assert_eq!(
        (verdict, found.every, found.times),
        (Verdict::Unsafe, SignedDuration::from_hours(24), 7)
    );
    // The same, seen but once, is over; and is said.
    for flow in records.flows.iter_mut().filter(|flow| flow.flow.key.peer.is_some()) {
        flow.spans = vec![span(6)];
    }
    let (verdict, former, pattern) = judge(&records);
    assert_eq!((verdict, former), (Verdict::Safe, 1));
    let (since, last) = (second(6 * DAY), second(6 * DAY + 300));
    assert_eq!(pattern, Some(Pattern::Once(Seen { since, last, times: 1 })));
}

#[test]
fn what_cannot_be_told_is_a_doubt() {
    let doubts = |more: &str, selector: Selector| {
        let mut records = records(more);
        for host in &mut records.hosts {
            host.last_seen = second(NOW);
            host.watched = vec![(second(0), second(NOW))];
            host.rung = Rung::Streaming;
        }
        let outcome = ask(&records, selector, true);
        let judged = impact(&outcome).judgement.clone().unwrap();
        (judged.verdict, judged.doubts.into_iter().collect::<Vec<Doubt>>())
    };
    let host = |name: &str| Selector::Host(name.to_owned());
    let address = |text: &str| Selector::Address(text.parse().unwrap());
    let hosts = "host a\nhost b\na has 10.0.0.1 0-1000\nb has 10.0.0.2 0-1000\n";

    let (verdict, said) = doubts(hosts, host("nobody"));
    assert_eq!((verdict, said), (Verdict::NotEnough, vec![Doubt::Unknown]));

    let undirected = format!("{hosts}a tcp 10.0.0.1:9 -- 10.0.0.2:7 x/1 0-1000");
    let (verdict, said) = doubts(&undirected, host("a"));
    assert!(
        matches!((verdict, &said[..]), (Verdict::NotEnough, [Doubt::Undirected(_)])),
        "{said:?}"
    );

    let unprobed = format!("{hosts}a tcp 10.0.0.1 -> 10.0.0.9:80 x/1 0-100.");
    let (verdict, said) = doubts(&unprobed, address("10.0.0.9"));
    assert!(matches!((verdict, &said[..]), (Verdict::NotEnough, [Doubt::NoProbe(_)])), "{said:?}");

    // A listener that an unprobed peer uses is in use.
    let peer = format!("{hosts}a tcp 10.0.0.1:80 <- 10.0.0.9 x/1 0-1000");
    assert_eq!(doubts(&peer, host("a")).0, Verdict::Unsafe);

    // Two hosts have the address that was called.
    let both = "host a\nhost b\nhost c\na has 10.0.0.1 0-1000\nb has 10.0.0.1 0-1000
        c has 10.0.0.3 0-1000\nc tcp 10.0.0.3 -> 10.0.0.1:80 x/1 0-1000
        a tcp 0.0.0.0:22 listens sshd/7 0-1000";
    let (verdict, said) = doubts(both, host("a"));
    assert!(
        matches!((verdict, &said[..]), (Verdict::NotEnough, [Doubt::Ambiguous(_)])),
        "{said:?}"
    );

    let mut datagrams = records(&format!("{hosts}a udp 10.0.0.1:53 listens dns/7 0-1000"));
    for host in &mut datagrams.hosts {
        host.last_seen = second(NOW);
        host.watched = vec![(second(0), second(NOW))];
    }
    let asked = Decommission { watched: SignedDuration::from_secs(400), polled: true };
    let about = About::Impact { depth: 9, decommission: Some(asked) };
    let outcome = outcome_at(&datagrams, host("a"), about, second(NOW));
    let judged = impact(&outcome).judgement.clone().unwrap();
    assert!(matches!(judged.doubts.first(), Some(Doubt::Datagrams { .. })), "{judged:?}");
    assert_eq!(judged.verdict, Verdict::NotEnough);
}

#[test]
fn a_probe_that_sees_well_now_and_did_not_before_is_a_doubt() {
    let doubts = |dim: Dim, selector: Selector| {
        let mut records =
            records("host a\na has 10.0.0.1 0-1000\na tcp 10.0.0.1:80 listens nginx/1 0-1000");
        for host in &mut records.hosts {
            host.last_seen = second(NOW);
            host.watched = vec![(second(0), second(NOW))];
            host.rung = Rung::Streaming;
            host.dim = dim;
        }
        let outcome = ask(&records, selector, true);
        let judged = impact(&outcome).judgement.clone().unwrap();
        (judged.verdict, judged.doubts.into_iter().collect::<Vec<Doubt>>(), judged.since)
    };
    let host = || Selector::Host("a".to_owned());
    let process = || Selector::Process("nginx".to_owned());
    let (verdict, said, since) = doubts(Dim::default(), host());
    assert_eq!((verdict, said.len()), (Verdict::Safe, 0), "{said:?}");
    let before = since.checked_sub(SignedDuration::from_secs(1)).ok();
    let within = Some(since);
    let polled = |polled| Dim { polled, ..Dim::default() };
    assert_eq!(doubts(polled(before), host()).0, Verdict::Safe);
    let (verdict, said, _) = doubts(polled(within), host());
    assert!(
        matches!((verdict, &said[..]), (Verdict::NotEnough, [Doubt::WasPolled { .. }])),
        "{said:?}"
    );
    let (verdict, said, _) = doubts(Dim { blind: within, unowned: within, polled: None }, host());
    assert!(
        matches!((verdict, &said[..]), (Verdict::NotEnough, [Doubt::WasUnseen { .. }])),
        "{said:?}"
    );
    // Whose a flow is matters to who asks by the process.
    let unowned = Dim { unowned: within, ..Dim::default() };
    assert_eq!(doubts(unowned, host()).0, Verdict::Safe);
    assert_eq!(doubts(unowned, process()).0, Verdict::NotEnough);
}

#[test]
fn a_port_means_what_is_called_there() {
    let text = "host a\nhost b\nhost c\na has 10.0.0.1\nb has 10.0.0.2\nc has 10.0.0.3
        a tcp 0.0.0.0:80 listens nginx/1\na tcp 0.0.0.0:443 listens nginx/1
        b tcp 0.0.0.0:9 listens b/2
        b tcp 10.0.0.2 -> 10.0.0.1:80 b/2
        c tcp 10.0.0.3 -> 10.0.0.1:443 c/3
        c tcp 10.0.0.3 -> 10.0.0.2:9 c/3";
    let depths = |selector: Selector| {
        let about = About::Impact { depth: 9, decommission: None };
        let outcome = outcome_at(&records(text), selector, about, second(70));
        let graph = &outcome.answer().graph;
        let found = impact(&outcome).dependents.iter();
        let name = |node: NodeId| graph.nodes[node].identity.process().unwrap().name.clone();
        found.map(|found| (name(found.node), found.depth)).collect::<Vec<_>>()
    };
    let service = |port| Selector::Service(Spot::Host("a".to_owned()), port);
    let address = |port| Selector::Service(Spot::Address([10, 0, 0, 1].into()), port);
    for selector in [Selector::Port(80), service(80), address(80)] {
        assert_eq!(depths(selector), [("b".to_owned(), 1), ("c".to_owned(), 2)]);
    }
    for selector in [Selector::Port(443), service(443), address(443)] {
        assert_eq!(depths(selector), [("c".to_owned(), 1)]);
    }
    assert!(depths(service(9)).is_empty());
}
