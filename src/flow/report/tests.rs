//! Reports that are made one, and one that is made several.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use jiff::Timestamp;

use crate::flow::host::{Coverage, Host, Rung};
use crate::flow::key::{Counters, FlowKey, HostFlow};
use crate::flow::process::Process;
use crate::flow::report::{FlowReport, Report, merge};
use crate::flow::socket::{Direction, Protocol};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn told(port: u16, since: i64, seen: i64, ended: bool, bytes: u64) -> FlowReport {
    let key = FlowKey {
        scope: "".into(),
        direction: Direction::Active,
        protocol: Protocol::Tcp,
        local: [10, 0, 0, 1].into(),
        local_port: None,
        peer: Some([10, 0, 0, 2].into()),
        peer_port: Some(port),
        process: None,
    };
    let counters = Counters { bytes_sent: Some(bytes), ..Counters::default() };
    let flow = HostFlow { key, owners: Vec::new(), owners_more: 0, counters, tentative: false };
    FlowReport { flow, since: at(since), seen: at(seen), ended }
}

fn report(sequence: u64, flows: Vec<FlowReport>) -> Report {
    Report {
        host: Host { id: "h".into(), name: "h".into() },
        epoch: 1,
        sequence,
        rung: Rung::Netlink,
        from: at(0),
        until: at(sequence as i64),
        sent: at(sequence as i64),
        coverage: Coverage { sockets: sequence, ..Coverage::default() },
        addresses: Vec::new(),
        flows,
    }
}

#[test]
fn of_each_span_the_latest_word_stays_in_whatever_order_it_came() {
    let one = report(1, vec![told(80, 1, 1, false, 10), told(81, 1, 1, false, 1)]);
    let two = report(2, vec![told(80, 1, 9, true, 20), told(80, 40, 40, false, 21)]);
    let merged = merge(vec![two.clone(), one.clone()]).unwrap();
    assert_eq!(merged, merge(vec![one, two.clone()]).unwrap());
    let flows =
        vec![told(80, 1, 9, true, 20), told(80, 40, 40, false, 21), told(81, 1, 1, false, 1)];
    assert_eq!(merged, Report { flows, ..two });
    assert_eq!(merge(Vec::new()), None);
}

#[test]
fn a_report_is_split_with_what_is_alive_first_and_nothing_lost() {
    let mut flows: Vec<_> = (1..=100).map(|port| told(port, 1, 2, port % 2 == 0, 0)).collect();
    let whole = report(7, flows.clone());
    let mut sequence = 7;
    let mut next = || {
        sequence += 1;
        sequence
    };
    let parts = whole.clone().split(30, usize::MAX, &mut next);
    let sizes: Vec<_> = parts.iter().map(|part| (part.sequence, part.flows.len())).collect();
    assert_eq!(sizes, [(7, 30), (8, 30), (9, 30), (10, 10)]);
    let all: Vec<_> = parts.into_iter().flat_map(|part| part.flows).collect();
    flows.sort_by_key(|told| told.ended);
    assert_eq!(all, flows);
    assert_eq!(report(7, Vec::new()).split(30, 1, &mut || unreachable!()).len(), 1);
}

/// A path is up to 4,096 bytes, and each flow may have another one.
#[test]
fn long_names_count() {
    let flow = |port: u16| {
        let exe = Some(format!("/{port}{}", "x".repeat(4000)));
        let none = || None;
        let (name, user, unit) = ("a".into(), none(), none());
        let (container, pod) = (none(), none());
        let process = Process { name, exe, user, unit, container, pod };
        let mut told = told(port, 1, 2, false, 0);
        told.flow.key.process = Some(Arc::new(process));
        told
    };
    let mut next = || 0;
    let parts = report(1, (1..=100).map(flow).collect()).split(1000, 50_000, &mut next);
    assert_eq!(parts.len(), 10);
    let same = flow(1);
    let parts = report(1, vec![same; 100]).split(1000, 50_000, &mut next);
    assert_eq!(parts.len(), 1);
}
