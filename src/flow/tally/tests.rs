//! What a CMDB knows after a history of observations, lost reports and all.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::flow::host::{Coverage, Host, Namespace, Rung};
use crate::flow::key::{Counters, FlowKey, HostFlow, Observation};
use crate::flow::report::{FlowReport, Report};
use crate::flow::socket::{Direction, Protocol};
use crate::flow::tally::{MAX_NEWS, MAX_PENDING_SPANS, Tally};

const LINGER: SignedDuration = SignedDuration::from_secs(30);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn tally() -> Tally {
    Tally::new(at(0), LINGER)
}

fn flow(port: u16, open: u32) -> HostFlow {
    HostFlow {
        key: FlowKey {
            scope: "".into(),
            direction: Direction::Active,
            protocol: Protocol::Tcp,
            local: [10, 0, 0, 1].into(),
            local_port: None,
            peer: Some([10, 0, 0, 2].into()),
            peer_port: Some(port),
            process: None,
        },
        owners: Vec::new(),
        owners_more: 0,
        counters: Counters { open, ..Counters::default() },
        tentative: false,
    }
}

fn observation(second: i64, flows: Vec<HostFlow>, addresses: &[[u8; 4]]) -> Observation {
    Observation {
        taken: at(second),
        host: Host { id: "h".into(), name: "h".into() },
        rung: Rung::Netlink,
        namespaces: vec![Namespace {
            scope: "".into(),
            addresses: addresses.iter().map(|&address| address.into()).collect(),
            ephemeral_ports: None,
        }],
        flows,
        coverage: Coverage::default(),
    }
}

fn see(tally: &mut Tally, second: i64, flows: &[HostFlow]) {
    tally.observe(observation(second, flows.to_vec(), &[]));
}

/// `port since–seen` of each flow in a report, `.` behind one that ended.
fn say(report: &Report) -> String {
    let second = |t: Timestamp| t.as_second() - 1_000_000;
    let mut lines: Vec<_> = report
        .flows
        .iter()
        .map(|f| {
            let port = f.flow.key.peer_port.unwrap();
            let end = if f.ended { "." } else { "" };
            format!("{port} {}–{} ×{}{end}", second(f.since), second(f.seen), f.flow.counters.open)
        })
        .collect();
    lines.sort();
    lines.join(", ")
}

#[test]
fn only_change_is_told() {
    let mut tally = tally();
    assert!(tally.take().is_none());
    see(&mut tally, 1, &[flow(80, 1), flow(81, 1)]);
    assert_eq!(say(&tally.take().unwrap()), "80 1–1 ×1, 81 1–1 ×1");
    tally.acknowledge();
    see(&mut tally, 2, &[flow(80, 1), flow(81, 2)]);
    assert_eq!(say(&tally.take().unwrap()), "81 1–2 ×2");
    tally.acknowledge();
    see(&mut tally, 3, &[flow(80, 1), flow(81, 2)]);
    let report = tally.take().unwrap();
    assert_eq!((say(&report).as_str(), report.until, report.sequence), ("", at(3), 3));
}

#[test]
fn news_are_new_and_ended_flows_and_the_rest_waits() {
    let mut tally = tally();
    see(&mut tally, 1, &[flow(80, 1), flow(81, 1)]);
    assert!(tally.has_news());
    assert_eq!(say(&tally.take_news().unwrap()), "80 1–1 ×1, 81 1–1 ×1");
    tally.acknowledge();
    assert!(!tally.has_news());
    see(&mut tally, 2, &[flow(80, 2), flow(81, 1), flow(82, 1)]);
    assert_eq!(say(&tally.take_news().unwrap()), "82 2–2 ×1");
    tally.acknowledge();
    see(&mut tally, 20, &[flow(80, 2), flow(81, 1)]);
    assert!(!tally.has_news());
    see(&mut tally, 33, &[flow(80, 2), flow(81, 1)]);
    assert_eq!(say(&tally.take_news().unwrap()), "82 2–2 ×0.");
    tally.acknowledge();
    // What only counted on was in none of them, nor was it lost.
    assert_eq!(say(&tally.take().unwrap()), "80 1–33 ×2");
}

/// A whole report that got lost is not made good by news that arrived.
#[test]
fn news_acknowledge_nothing_but_themselves() {
    let mut tally = tally();
    tally.observe(observation(1, vec![flow(80, 1)], &[[10, 0, 0, 1]]));
    tally.take().unwrap();
    tally.acknowledge();
    tally.observe(observation(2, vec![flow(80, 2)], &[[10, 0, 0, 2]]));
    tally.take().unwrap();
    tally.observe(observation(3, vec![flow(80, 2), flow(81, 1)], &[[10, 0, 0, 2]]));
    assert_eq!(say(&tally.take_news().unwrap()), "81 3–3 ×1");
    tally.acknowledge();
    let report = tally.take().unwrap();
    assert_eq!((say(&report).as_str(), report.addresses.len()), ("80 1–3 ×2", 2));
}

#[test]
fn news_are_bounded_and_the_others_follow() {
    let mut tally = tally();
    let flows: Vec<_> = (1..=u16::try_from(MAX_NEWS + 10).unwrap()).map(|p| flow(p, 1)).collect();
    see(&mut tally, 1, &flows);
    assert_eq!(tally.take_news().unwrap().flows.len(), MAX_NEWS);
    tally.acknowledge();
    assert_eq!(tally.take_news().unwrap().flows.len(), 10);
    tally.acknowledge();
    assert!(!tally.has_news());
}

/// A minute of a host with 1,000 flows of which none changed, told every 30 s:
/// what is in its reports, with numbers of as many bytes as they need, and
/// texts as they are behind a byte of length.
#[test]
fn a_host_without_change_says_little() {
    let mut tally = tally();
    let flows: Vec<_> = (1..=1000).map(|port| flow(port, 1)).collect();
    let see = |tally: &mut Tally, second| {
        let mut seen = observation(second, flows.clone(), &[[10, 0, 0, 1]]);
        seen.host.id = "0123456789abcdef0123456789abcdef".into();
        seen.host.name = "a-host-with-quite-a-long-name.example.net".into();
        seen.coverage.sockets = 2000;
        tally.observe(seen);
    };
    see(&mut tally, 1);
    assert!(content(&tally.take().unwrap()) > 10_000);
    tally.acknowledge();
    let mut told = 0;
    for second in 2..=61 {
        see(&mut tally, second);
        assert!(!tally.has_news());
        if second % 30 == 1 {
            told += content(&tally.take().unwrap());
            tally.acknowledge();
        }
    }
    assert!(told > 100 && told <= 1024, "{told} bytes");
}

fn content(report: &Report) -> usize {
    let number = |number: u64| (64 - number.leading_zeros() as usize).div_ceil(7).max(1);
    let moment = |at: Timestamp| number(u64::try_from(at.as_microsecond()).unwrap());
    let coverage = serde_json::to_value(&report.coverage).unwrap();
    let coverage = coverage.as_object().unwrap().values();
    let head = report.host.id.len() + 1 + report.host.name.len() + 1 + 1;
    let head = head + 2 * moment(report.from) + moment(report.until) + number(report.sequence);
    let head = head + coverage.map(|v| number(v.as_u64().unwrap_or(1))).sum::<usize>();
    let addresses: usize = report.addresses.iter().map(|a| 1 + 4 + moment(a.since)).sum();
    // Scope, direction, protocol, two addresses, a port, two times, the open.
    let flow = |f: &FlowReport| {
        1 + 1
            + 1
            + 4
            + 4
            + 2
            + moment(f.since)
            + moment(f.seen)
            + number(f.flow.counters.open.into())
    };
    head + addresses + report.flows.iter().map(flow).sum::<usize>()
}

#[test]
fn what_was_not_acknowledged_is_told_again() {
    let mut tally = tally();
    see(&mut tally, 1, &[flow(80, 1)]);
    assert_eq!(say(&tally.take().unwrap()), "80 1–1 ×1");
    see(&mut tally, 2, &[flow(80, 1)]);
    assert_eq!(say(&tally.take().unwrap()), "80 1–2 ×1");
    see(&mut tally, 3, &[flow(80, 7)]);
    tally.acknowledge();
    assert_eq!(say(&tally.take().unwrap()), "80 1–3 ×7");
}

#[test]
fn a_flow_ends_when_it_was_last_seen_and_is_then_forgotten() {
    let mut tally = tally();
    see(&mut tally, 1, &[flow(80, 1)]);
    see(&mut tally, 5, &[]);
    assert_eq!(say(&tally.take().unwrap()), "80 1–1 ×0");
    tally.acknowledge();
    see(&mut tally, 32, &[]);
    assert_eq!(say(&tally.take().unwrap()), "80 1–1 ×0.");
    tally.acknowledge();
    assert_eq!(say(&tally.take().unwrap()), "");
    assert!(tally.flows.is_empty());
}

#[test]
fn an_end_between_report_and_acknowledgement_is_told() {
    let mut tally = tally();
    see(&mut tally, 1, &[flow(80, 1)]);
    tally.take().unwrap();
    see(&mut tally, 40, &[]);
    tally.acknowledge();
    assert_eq!(say(&tally.take().unwrap()), "80 1–1 ×0.");
}

#[test]
fn a_flow_that_comes_back_has_two_spans() {
    let mut tally = tally();
    see(&mut tally, 1, &[flow(80, 1)]);
    see(&mut tally, 20, &[flow(80, 1)]);
    see(&mut tally, 40, &[]);
    see(&mut tally, 60, &[flow(80, 1)]);
    assert_eq!(say(&tally.take().unwrap()), "80 1–20 ×1., 80 60–60 ×1");
}

#[test]
fn a_flow_that_every_look_sees_is_one_span_however_far_apart_they_are() {
    let mut tally = tally();
    for second in [0, 31, 100] {
        see(&mut tally, second, &[flow(80, 1)]);
        tally.take().unwrap();
    }
    assert_eq!(say(&tally.take().unwrap()), "80 0–100 ×1");
    see(&mut tally, 101, &[]);
    see(&mut tally, 132, &[flow(80, 1)]);
    assert_eq!(say(&tally.take().unwrap()), "80 0–100 ×1., 80 132–132 ×1");
}

#[test]
fn a_flow_that_comes_back_before_its_end_is_acknowledged_stays() {
    let mut tally = tally();
    see(&mut tally, 1, &[flow(80, 1)]);
    see(&mut tally, 40, &[]);
    assert_eq!(say(&tally.take().unwrap()), "80 1–1 ×0.");
    see(&mut tally, 41, &[flow(80, 1)]);
    tally.acknowledge();
    assert_eq!(say(&tally.take().unwrap()), "80 1–1 ×1., 80 41–41 ×1");
}

#[test]
fn a_long_outage_joins_the_oldest_spans_and_loses_no_flow() {
    let mut tally = tally();
    for second in (0..100 * 60).step_by(60) {
        see(&mut tally, second, &[flow(80, 1)]);
        see(&mut tally, second + 30, &[]);
    }
    let report = tally.take().unwrap();
    assert_eq!(report.flows.len(), MAX_PENDING_SPANS + 1);
    assert_eq!(report.flows[0].since, at(0));
    assert_eq!(report.flows.last().unwrap().seen, at(99 * 60));
}

#[test]
fn a_query_of_a_resolver_is_not_told_and_a_service_is() {
    let mut tally = tally();
    let tentative = |port| HostFlow { tentative: true, ..flow(port, 1) };
    see(&mut tally, 1, &[tentative(40000), tentative(51820)]);
    assert_eq!(say(&tally.take().unwrap()), "");
    tally.acknowledge();
    see(&mut tally, 31, &[tentative(51820)]);
    see(&mut tally, 40, &[tentative(51820)]);
    assert_eq!(say(&tally.take().unwrap()), "51820 1–40 ×1");
    tally.acknowledge();
    assert_eq!(tally.flows.len(), 1);
}

#[test]
fn a_clock_set_back_makes_no_negative_span() {
    let mut tally = tally();
    see(&mut tally, 100, &[flow(80, 1)]);
    see(&mut tally, 50, &[flow(80, 1), flow(81, 1)]);
    assert_eq!(say(&tally.take().unwrap()), "80 100–100 ×1, 81 100–100 ×1");
}

#[test]
fn addresses_are_told_whole_when_one_changed() {
    let mut tally = tally();
    let mut see = |second, addresses: &[[u8; 4]]| {
        tally.observe(observation(second, Vec::new(), addresses));
        let report = tally.take().unwrap();
        tally.acknowledge();
        report.addresses.iter().map(|a| (a.address.to_string(), a.ended)).collect::<Vec<_>>()
    };
    let one = || "10.0.0.1".to_owned();
    let two = || "10.0.0.2".to_owned();
    assert_eq!(see(1, &[[10, 0, 0, 1]]), [(one(), None)]);
    assert_eq!(see(2, &[[10, 0, 0, 1]]), []);
    assert_eq!(see(3, &[[10, 0, 0, 2]]), [(one(), Some(at(3))), (two(), None)]);
    assert_eq!(see(4, &[[10, 0, 0, 2]]), []);
}

/// A CMDB in four lines: the latest word on each span of each flow.
#[derive(Default)]
struct Model(BTreeMap<(u16, Timestamp), (Timestamp, bool)>);

impl Model {
    fn apply(&mut self, report: &Report) {
        for f in &report.flows {
            let told = self.0.entry((f.flow.key.peer_port.unwrap(), f.since));
            let told = told.or_insert((f.seen, f.ended));
            *told = (told.0.max(f.seen), told.1 | f.ended);
        }
    }
}

/// Random histories, with reports lost, applied without being acknowledged, and
/// observations between the two: in the end the CMDB has the spans that a naive
/// reading of the history has.
#[test]
fn any_history_of_losses_leaves_the_true_spans() {
    for seed in 1..400_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = move |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let (mut tally, mut model) = (tally(), Model::default());
        let mut seen: BTreeMap<u16, Vec<i64>> = BTreeMap::new();
        let mut second = 0;
        for _ in 0..40 {
            second += 1 + random(25) as i64;
            let ports: BTreeSet<u16> = (0..random(4)).map(|_| random(5) as u16).collect();
            for &port in &ports {
                seen.entry(port).or_default().push(second);
            }
            let open = 1 + random(3) as u32;
            see(&mut tally, second, &ports.iter().map(|&p| flow(p, open)).collect::<Vec<_>>());
            match random(6) {
                4 => {
                    model.apply(&tally.take_news().unwrap());
                    tally.acknowledge();
                }
                5 => {
                    let report = tally.take_news().unwrap();
                    if random(2) == 0 {
                        model.apply(&report);
                    }
                }
                0 => {
                    let report = tally.take().unwrap();
                    if random(2) == 0 {
                        model.apply(&report);
                    }
                }
                1 => {
                    model.apply(&tally.take().unwrap());
                    tally.acknowledge();
                }
                2 => {
                    model.apply(&tally.take().unwrap());
                    second += 1;
                    see(&mut tally, second, &[]);
                    tally.acknowledge();
                }
                _ => {}
            }
        }
        see(&mut tally, second + 100, &[]);
        model.apply(&tally.take().unwrap());
        tally.acknowledge();
        assert!(tally.flows.is_empty(), "seed {seed}: something is not told");
        let mut truth = BTreeMap::new();
        for (port, seconds) in seen {
            let mut since = seconds[0];
            for pair in seconds.windows(2) {
                if pair[1] - pair[0] > LINGER.as_secs() {
                    truth.insert((port, at(since)), (at(pair[0]), true));
                    since = pair[1];
                }
            }
            truth.insert((port, at(since)), (at(seconds[seconds.len() - 1]), true));
        }
        assert_eq!(model.0, truth, "seed {seed}");
    }
}
