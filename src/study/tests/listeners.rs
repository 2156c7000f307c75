//! What listens, and who calls it.

use crate::graph::tests::notation::{records, second};
use crate::recall::{Selector, Spot, Window};
use crate::study::listeners::{Bound, Listener};
use crate::study::tests::{outcome, outcome_in};
use crate::study::{About, Finding};

fn listeners(text: &str, selector: Selector) -> (Vec<Listener>, usize) {
    let Finding::Listeners(listening) = outcome(text, selector, About::Listeners).finding else {
        panic!("another finding");
    };
    (listening.listeners, listening.ended)
}

#[test]
fn a_call_is_for_the_most_exact_listener() {
    let (found, _) = listeners(
        "host a
        host b
        a has 127.0.0.1 10.0.0.1 10.0.0.3
        b has 10.0.0.2
        a tcp 0.0.0.0:80 listens nginx/4
        a tcp 10.0.0.1:80 listens nginx/4
        a tcp [::]:80 listens nginx/4
        a tcp 10.0.0.1:80 <- 10.0.0.2 nginx/4 10-60
        a tcp 10.0.0.3:80 <- 10.0.0.2 nginx/4 10-50.
        b tcp 10.0.0.2 -> 10.0.0.1:80 wrk/9 10-60
        b tcp 10.0.0.2 -> 10.0.0.3:80 wrk/9 10-50.",
        Selector::All,
    );
    let said: Vec<_> = found
        .iter()
        .map(|l| (l.listen.address.to_string(), l.callers.len(), l.last_used, l.unused_since))
        .collect();
    assert_eq!(
        said,
        [
            ("0.0.0.0".to_owned(), 1, Some(second(50)), None),
            ("10.0.0.1".to_owned(), 1, Some(second(60)), None),
            ("::".to_owned(), 0, None, Some(second(0))),
        ]
    );
    assert_eq!(
        found.iter().map(|l| l.bound).collect::<Vec<_>>(),
        [Bound::Any, Bound::Address, Bound::Any]
    );
}

#[test]
fn what_nobody_called_is_unused_since_it_was_watched_but_not_udp() {
    let (found, ended) = listeners(
        "host a
        a has 127.0.0.1
        a tcp 127.0.0.1:6379 listens redis/7 20-60
        a udp 127.0.0.1:53 listens dnsmasq/8
        a tcp 127.0.0.1:1 listens old/9 0-30.",
        Selector::Host("a".to_owned()),
    );
    assert_eq!(ended, 1);
    let said: Vec<_> =
        found.iter().map(|l| (l.listen.port, l.unused_since, l.bound.name())).collect();
    assert_eq!(said, [(53, None, "loopback"), (6379, Some(second(20)), "loopback")]);
}

#[test]
fn a_port_or_an_address_means_the_listeners_there() {
    let text = "host a
        a has 127.0.0.1 10.0.0.1
        a tcp 0.0.0.0:80 listens nginx/4
        a tcp 127.0.0.1:81 listens nginx/4
        a tcp 10.0.0.1:443 listens nginx/4";
    let ports =
        |selector| listeners(text, selector).0.iter().map(|l| l.listen.port).collect::<Vec<_>>();
    assert_eq!(ports(Selector::Port(443)), [443]);
    assert_eq!(ports(Selector::Address("10.0.0.1".parse().unwrap())), [80, 443]);
    assert_eq!(ports(Selector::Network("127.0.0.0/8".parse().unwrap())), [80, 81]);
    let at = |spot, port| ports(Selector::Service(spot, port));
    assert_eq!(at(Spot::Address("10.0.0.1".parse().unwrap()), 80), [80]);
    assert!(at(Spot::Address("10.0.0.1".parse().unwrap()), 81).is_empty());
    assert_eq!(at(Spot::Host("a".to_owned()), 81), [81]);
    assert_eq!(ports(Selector::Process("nginx".to_owned())).len(), 3);
}

#[test]
fn what_a_later_run_of_the_probe_saw_go_on_has_not_ended() {
    let all = records(
        "host a 0-100 200-900
        a has 127.0.0.1 10.0.0.1 0-900
        a tcp 10.0.0.1:1 listens on/1 0-100 later=200-900
        a tcp 10.0.0.1:2 listens over/2 0-100 later=200-700. started=150
        a tcp 10.0.0.1:3 listens gone/3 0-100.
        a tcp 10.0.0.1:4 listens before/4 0-40. started=60",
    );
    let at = Window { since: Some(second(30)), until: Some(second(30)) };
    let selector = Selector::Host("a".to_owned());
    let outcome = outcome_in(&all, selector, About::Listeners, (at, second(905)));
    let Finding::Listeners(listening) = outcome.finding else { panic!("another finding") };
    let said: Vec<_> = listening
        .listeners
        .iter()
        .map(|l| (l.listen.port, l.ended, l.last_seen, l.group_known))
        .collect();
    assert_eq!(
        said,
        [
            (4, true, second(40), false),
            (3, true, second(100), true),
            (1, false, second(900), true),
            (2, true, second(700), false),
        ]
    );
}
