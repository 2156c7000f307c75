//! Who still connects, and since when nobody does.

use jiff::SignedDuration;

use crate::flow::host::{Coverage, Rung};
use crate::graph::tests::notation::{records, second};
use crate::recall::{Records, Selector, Spot};
use crate::study::doubt::Doubt;
use crate::study::drain::{Drain, Quiet, State};
use crate::study::tests::outcome_at;
use crate::study::{About, Finding};

const WORLD: &str = "host a
    host b
    a has 10.0.0.1 0-600
    b has 10.0.0.2 0-600
    a tcp 10.0.0.1:80 listens nginx/4 0-600";

/// Both hosts watched from 0 to 600, and it is 610.
fn world(more: &str) -> Records {
    let mut records = records(&format!("{WORLD}\n{more}"));
    for host in &mut records.hosts {
        host.watched = vec![(second(0), second(600))];
        host.last_seen = second(600);
        host.rung = Rung::Streaming;
    }
    records
}

fn drain(records: &Records, seconds: i64) -> Drain {
    let about =
        About::Drain(Quiet { time: SignedDuration::from_secs(seconds), except: Vec::new() });
    let selector = Selector::Host("a".to_owned());
    let outcome = outcome_at(records, selector, about, second(610));
    assert_eq!(
        outcome.exit_code(),
        match &outcome.finding {
            Finding::Drain(found) => found.state.exit_code(),
            _ => panic!("not a drain"),
        }
    );
    let Finding::Drain(found) = outcome.finding else { panic!("not a drain") };
    found
}

fn drain_except(records: &Records, except: &[Vec<Selector>]) -> Drain {
    let quiet = Quiet { time: SignedDuration::from_secs(150), except: except.to_vec() };
    let selector = Selector::Host("a".to_owned());
    let outcome = outcome_at(records, selector, About::Drain(quiet), second(610));
    let Finding::Drain(found) = outcome.finding else { panic!("not a drain") };
    found
}

/// One of two services of a process; who calls the other is no matter.
#[test]
fn a_service_of_a_host_is_drained_whatever_its_other_port_does() {
    let records = world(
        "a tcp 10.0.0.1:443 listens nginx/4 0-600
        b tcp 10.0.0.2 -> 10.0.0.1:443 curl/9 100-600
        a tcp 10.0.0.1:443 <- 10.0.0.2 nginx/4 100-600",
    );
    for spot in [Spot::Host("a".to_owned()), Spot::Address([10, 0, 0, 1].into())] {
        let state = |port| {
            let quiet = Quiet { time: SignedDuration::from_secs(150), except: Vec::new() };
            let selector = Selector::Service(spot.clone(), port);
            match outcome_at(&records, selector, About::Drain(quiet), second(610)).finding {
                Finding::Drain(found) => found.state,
                _ => panic!("not a drain"),
            }
        };
        assert_eq!([80, 443, 81].map(state), [State::Drained, State::InUse, State::Unknown]);
    }
}

#[test]
fn a_health_check_that_does_not_count_keeps_nothing_from_being_drained() {
    let checked = world(
        "b tcp 10.0.0.2 -> 10.0.0.1:80 haproxy/9 100-600
        a tcp 10.0.0.1:80 <- 10.0.0.2 nginx/4 100-600
        a tcp 10.0.0.1:80 <- 10.0.0.50 nginx/4 0-600",
    );
    let network = |text: &str| vec![Selector::Network(text.parse().unwrap())];
    let word = |word: &str| {
        let meanings = [Selector::Label, Selector::Host, Selector::Process];
        meanings.map(|means| means(word.to_owned())).to_vec()
    };
    let balancer = word("haproxy");
    let found = drain_except(&checked, &[]);
    assert_eq!((found.state, found.callers.len(), found.excepted.len()), (State::InUse, 2, 0));
    // One of the two is left.
    let found = drain_except(&checked, std::slice::from_ref(&balancer));
    assert_eq!((found.state, found.callers.len(), found.excepted.len()), (State::InUse, 1, 1));
    for monitor in [network("10.0.0.48/28"), vec![Selector::Address([10, 0, 0, 50].into())]] {
        let found = drain_except(&checked, &[balancer.clone(), monitor]);
        assert_eq!(
            (found.state, found.callers.len(), found.excepted.len()),
            (State::Drained, 0, 2)
        );
    }
    // A host is meant with all that runs there, and a name of nobody is nobody.
    let found = drain_except(&checked, &[word("b"), network("10.0.0.50/32")]);
    assert_eq!(found.state, State::Drained);
    assert_eq!(drain_except(&checked, &[word("nobody")]).callers.len(), 2);
    // What it asks of others is none of its callers.
    assert_eq!(drain_except(&checked, &[network("10.0.0.1/32")]).callers.len(), 2);
}

#[test]
fn it_is_drained_once_nobody_connected_for_the_time() {
    let ended = world("a tcp 10.0.0.1:80 <- 10.0.0.2 nginx/4 100-400.");
    assert_eq!(drain(&ended, 150).state, State::Drained);
    assert_eq!(drain(&ended, 200).state, State::InUse, "a moment ago is within the time");
    assert_eq!(drain(&ended, 150).quiet_since, Some(second(400)));

    let open = world("a tcp 10.0.0.1:80 <- 10.0.0.2 nginx/4 100-600");
    let found = drain(&open, 150);
    assert_eq!((found.state, found.callers[0].open), (State::InUse, true));
    // The other end alone tells of it, too.
    let open = world("b tcp 10.0.0.2 -> 10.0.0.1:80 wrk/9 100-600");
    assert_eq!(drain(&open, 150).state, State::InUse);
    // Its own processes do not count.
    let own = world("a tcp 10.0.0.1 -> 10.0.0.1:80 curl/9 100-600");
    assert_eq!(drain(&own, 150).state, State::Drained);
}

#[test]
fn a_probe_that_is_silent_or_was_down_drains_nothing() {
    let mut silent = world("");
    assert_eq!(drain(&silent, 500).state, State::Drained);
    let a = silent.hosts.iter().position(|host| host.name == "a").unwrap();
    silent.hosts[a].last_seen = second(560);
    silent.hosts[a].watched = vec![(second(0), second(560))];
    let found = drain(&silent, 100);
    assert_eq!(found.state, State::Unknown);
    assert!(matches!(found.blind.first(), Some(Doubt::Silent { .. })), "{:?}", found.blind);

    // Who was there at its last word may be gone; but not if they say so.
    let mut silent = world("a tcp 10.0.0.1:80 <- 10.0.0.9 nginx/4 100-430");
    silent.hosts[a].last_seen = second(430);
    silent.hosts[a].watched = vec![(second(0), second(430))];
    let found = drain(&silent, 100);
    assert_eq!((found.state, found.callers.len()), (State::Unknown, 1));
    let mut silent = world("b tcp 10.0.0.2 -> 10.0.0.1:80 wrk/9 100-600");
    silent.hosts[a].last_seen = second(430);
    silent.hosts[a].watched = vec![(second(0), second(430))];
    assert_eq!(drain(&silent, 100).state, State::InUse);

    let mut gap = world("");
    for host in &mut gap.hosts {
        host.watched = vec![(second(0), second(300)), (second(400), second(600))];
    }
    assert_eq!(drain(&gap, 150).state, State::Drained);
    let found = drain(&gap, 250);
    assert_eq!((found.state, found.quiet_since), (State::Quiet, Some(second(400))));
}

#[test]
fn a_connection_that_its_host_sees_is_in_use_whichever_silent_caller_has_it() {
    let silent = |more: &str| {
        let mut records = world(&format!(
            "a tcp 10.0.0.1:80 <- 10.0.0.2 nginx/4 0-600
            b tcp 10.0.0.2 -> 10.0.0.1:80 wrk/9 100-200{more}"
        ));
        let b = records.hosts.iter().position(|host| host.name == "b").unwrap();
        records.hosts[b].last_seen = second(200);
        records.hosts[b].watched = vec![(second(0), second(200))];
        records
    };
    let found = drain(&silent(""), 150);
    assert_eq!((found.state, found.callers.len()), (State::InUse, 1));
    // The one flow that the host sees may be of either.
    for curl in ["100-200", "100-150."] {
        let either = silent(&format!("\nb tcp 10.0.0.2 -> 10.0.0.1:80 curl/8 {curl}"));
        let found = drain(&either, 150);
        assert_eq!((found.state, found.callers.len()), (State::InUse, 2), "{curl}");
        let except = vec![Selector::Process("wrk".to_owned())];
        assert_eq!(drain_except(&either, &[except]).state, State::InUse, "{curl}");
    }
    // Nor is a caller silent whose clock is behind.
    let mut behind = silent("\nb tcp 10.0.0.2 -> 10.0.0.1:80 curl/8 100-200");
    let b = behind.hosts.iter().position(|host| host.name == "b").unwrap();
    behind.hosts[b].skew = SignedDuration::from_secs(-400);
    assert_eq!(drain(&behind, 150).state, State::InUse);
}

#[test]
fn what_nobody_looks_at_is_not_drained() {
    let mut records = world("");
    records.hosts.clear();
    let about = About::Drain(Quiet { time: SignedDuration::from_secs(60), except: Vec::new() });
    let address = Selector::Address("10.9.9.9".parse().unwrap());
    let outcome = outcome_at(&records, address, about, second(610));
    assert_eq!(outcome.exit_code(), 4);
    // An address without a probe, of which others tell.
    let records = world("b tcp 10.0.0.2 -> 10.0.0.9:80 wrk/9 100-200.");
    let about = About::Drain(Quiet { time: SignedDuration::from_secs(60), except: Vec::new() });
    let address = Selector::Address("10.0.0.9".parse().unwrap());
    let outcome = outcome_at(&records, address, about, second(610));
    assert_eq!(outcome.exit_code(), 4);
    // Polling is said, and is no reason to wait for ever.
    let mut polled = world("");
    for host in &mut polled.hosts {
        host.rung = Rung::Netlink;
    }
    let found = drain(&polled, 60);
    assert_eq!(found.state, State::Drained);
    assert!(matches!(found.notes.first(), Some(Doubt::Polled(_))), "{:?}", found.notes);
}

#[test]
fn a_probe_that_leaves_out_a_kind_of_caller_drains_nothing() {
    let with = |change: fn(&mut Coverage)| {
        let mut records = world("");
        let a = records.hosts.iter_mut().find(|host| host.name == "a").unwrap();
        change(&mut a.coverage);
        drain(&records, 150)
    };
    let blind: [fn(&mut Coverage); 3] = [
        |coverage| coverage.filtered = true,
        |coverage| coverage.namespaces_unreadable = 1,
        |coverage| coverage.flows_dropped = 1,
    ];
    for change in blind {
        let found = with(change);
        assert_eq!(found.state, State::Unknown);
        let said: Vec<&Doubt> = found.blind.iter().collect();
        assert!(matches!(said[..], [Doubt::Unseen { .. }]) && found.notes.is_empty(), "{said:?}");
    }
    // What may have been missed now and then is said, and that a host is a pid
    // namespace.
    let missed: [fn(&mut Coverage); 3] = [
        |coverage| coverage.scans_skipped = 1,
        |coverage| coverage.updates_lost = 1,
        |coverage| coverage.confined = true,
    ];
    for change in missed {
        let found = with(change);
        assert_eq!((found.state, found.blind.len(), found.notes.len()), (State::Drained, 0, 1));
    }
    // Who is seen is seen.
    let mut used = world("a tcp 10.0.0.1:80 <- 10.0.0.9 nginx/4 100-600");
    used.hosts[0].coverage.filtered = true;
    used.hosts[1].coverage.filtered = true;
    assert_eq!(drain(&used, 150).state, State::InUse);
}
