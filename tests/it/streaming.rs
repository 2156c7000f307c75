//! Streaming on a real kernel, against traffic of known size.
//!
//! As the tests of the iterator, these need root and fail where BPF is not to
//! be had.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fmt::Write as _;

use expect_test::expect;
use shawk::flow::key::HostFlow;
use shawk::probe::streaming::Streaming;
use shawk::probe::support::{Feature, Support};

use crate::bpf::{Holder, config};

const TRAFFIC: &str = include_str!("bpf/traffic.py");

pub(crate) fn open() -> Streaming {
    let support = Support::read(&config()).unwrap();
    for feature in Feature::ALL {
        assert!(support.has(feature), "{}: {:?}", feature.name(), support.why(feature));
    }
    Streaming::open(&config(), support.events(&config()).unwrap()).unwrap()
}

/// One line per flow with a peer: what is open and the totals.
fn say(flows: &[HostFlow]) -> String {
    let mut text = String::new();
    for flow in flows {
        let (key, counters) = (&flow.key, &flow.counters);
        let Some(peer) = key.peer else { continue };
        let port = |port: Option<u16>| match port {
            // The kernel's choice differs from run to run.
            Some(32768..) => "any".to_owned(),
            Some(port) => port.to_string(),
            None => "many".to_owned(),
        };
        write!(
            text,
            "{} {} {} {} {peer} {}: {}",
            key.protocol.name(),
            key.direction.name(),
            key.local,
            port(key.local_port),
            port(key.peer_port),
            key.process.as_ref().map_or("?", |process| &process.name),
        )
        .unwrap();
        let mut number = |word: &str, number: Option<u64>| {
            if number != Some(0) {
                let number = number.map_or("?".to_owned(), |number| number.to_string());
                write!(text, ", {word} {number}").unwrap();
            }
        };
        number("open", Some(counters.open.into()));
        number("connecting", Some(counters.connecting.into()));
        number("opened", counters.opened);
        if key.protocol == shawk::flow::socket::Protocol::Tcp {
            number("failed", counters.failed);
            number("refused", counters.refused);
            number("timed out", counters.timed_out);
            number("unreachable", counters.unreachable);
        }
        number("sent", counters.bytes_sent);
        number("received", counters.bytes_received);
        text.push('\n');
    }
    text.replace(":, ", ": ")
}

#[test]
fn every_connection_and_every_byte_is_counted() {
    let mut holder = Holder::start(TRAFFIC);
    let mut streaming = open();
    for _ in 0..2 {
        let before = holder.flows(streaming.observe().unwrap());
        for flow in before.iter().filter(|flow| !flow.key.is_listener()) {
            assert_eq!(flow.counters.bytes_sent, Some(0), "{flow:?}");
        }
    }
    holder.act();
    let expected = expect![[r#"
        tcp active 10.9.9.1 many 10.9.9.2 80: python3, failed 3, unreachable 3
        tcp active 127.0.0.1 many 127.0.0.1 8001: python3, opened 1, sent 123
        tcp active 127.0.0.1 many 127.0.0.1 8003: python3, opened 40, sent 1600, received 2000
        tcp active 127.0.0.1 many 127.0.0.1 8004: python3, open 1, failed 3, timed out 2
        tcp active 127.0.0.1 many 127.0.0.1 8099: python3, failed 7, refused 7
        tcp active 127.0.0.2 many 127.0.0.1 8001: python3, opened 300, sent 30000, received 3000
        tcp active 127.0.0.3 many 127.0.0.1 8001: python3, opened 5
        tcp active 127.0.0.4 many 127.0.0.1 8001: python3, open 1, opened 1, sent 3000001, received 2000003
        tcp active 127.0.0.9 many 127.0.0.1 8000: python3, open 1, sent 1000, received 2000
        tcp active ::1 many ::1 8002: python3, opened 20, sent 140, received 160
        udp active 0.0.0.0 many 127.0.0.1 9001: python3, opened 1, sent 1000, received 2000
        udp active 127.0.0.1 many 127.0.0.1 9001: python3, opened 1, sent 33, received 36
        udp active ::1 many ::1 9002: python3, open 1, opened 1, sent 33, received 36
        tcp passive 127.0.0.1 8000 127.0.0.9 many: python3, open 1, sent 2000, received 1000
        tcp passive 127.0.0.1 8001 127.0.0.1 many: python3, opened 1, received 123
        tcp passive 127.0.0.1 8001 127.0.0.2 many: python3, opened 300, sent 3000, received 30000
        tcp passive 127.0.0.1 8001 127.0.0.3 many: python3, opened 5
        tcp passive 127.0.0.1 8001 127.0.0.4 many: python3, open 1, opened 1, sent 2000003, received 3000001
        tcp passive 127.0.0.1 8003 127.0.0.1 many: python3, opened 40, sent 2000, received 1600
        tcp passive ::1 8002 ::1 many: python3, opened 20, sent 160, received 140
        udp passive 127.0.0.1 9001 127.0.0.1 many: python3, opened 2, sent 2036, received 1033
        udp passive ::1 9002 ::1 many: python3, opened 1, sent 36, received 33
    "#]];
    let observation = streaming.observe().unwrap();
    assert_eq!(observation.coverage.updates_lost, 0);
    let after = holder.flows(observation);
    expected.assert_eq(&say(&after));
    // The workers accept what the master listens for.
    let shared = after.iter().filter(|flow| flow.key.local_port == Some(8003));
    for flow in shared.filter(|flow| flow.key.peer.is_some()) {
        assert!(flow.owners.iter().all(|owner| owner.pid != holder.pid()), "{flow:?}");
    }
    // Nothing is counted twice.
    let open = |flow: &&HostFlow| flow.counters.open > 0 && flow.key.peer.is_some();
    let again = holder.flows(streaming.observe().unwrap());
    let (after, again): (Vec<_>, Vec<_>) =
        (after.iter().filter(open).collect(), again.iter().filter(open).collect());
    assert_eq!(after, again);
}
