//! What differs between two moments, case by case. The window is 600 s and the
//! tolerance 30 s; moments are 1000 s and 2000 s.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};
use jiff::SignedDuration;

use crate::graph::tests::notation::{host_key, records, second};
use crate::recall::Selector;
use crate::study::diff::{Change, Difference, Moments};
use crate::study::tests::outcome_at;
use crate::study::{About, Finding};

fn difference(text: &str) -> (Moments, Difference) {
    difference_of(text, Selector::All)
}

fn difference_of(text: &str, selector: Selector) -> (Moments, Difference) {
    difference_since(1000, text, selector)
}

fn difference_since(from: i64, text: &str, selector: Selector) -> (Moments, Difference) {
    difference_between(from, 2000, text, selector)
}

fn difference_between(from: i64, to: i64, text: &str, selector: Selector) -> (Moments, Difference) {
    let window = SignedDuration::from_secs(600);
    let moments = Moments { from: second(from), to: second(to), window, exit_code: true };
    let mut records = records(text);
    for host in &mut records.hosts {
        let told = records.flows.iter().filter(|record| record.host == host.key);
        let spans = || told.clone().flat_map(|record| &record.spans);
        host.first_seen = spans().map(|span| span.since).min().unwrap();
        host.last_seen = spans().map(|span| span.until).max().unwrap();
        host.watched = vec![(host.first_seen, host.last_seen)];
    }
    let outcome = outcome_at(&records, selector, About::Diff(moments), second(2000));
    match outcome.finding {
        Finding::Diff(moments, difference) => (moments, difference),
        other => panic!("another finding: {other:?}"),
    }
}

#[track_caller]
fn check(text: &str, expected: Expect) {
    let (_, difference) = difference(text);
    let mut lines: Vec<String> = difference
        .entries
        .iter()
        .map(|entry| match &entry.change {
            Change::Process { was, is } => {
                let names = |names: &std::collections::BTreeSet<_>| {
                    let names = names.iter().map(|n: &crate::study::diff::identity::Name| &*n.name);
                    names.collect::<Vec<_>>().join("+")
                };
                format!("{} became {}", names(was), names(is))
            }
            change => {
                format!("{change:?} since {}", entry.first_seen.duration_since(second(0)).as_secs())
            }
        })
        .collect();
    lines.push(format!(
        "{} occasional, {} undecided, {} unheard",
        difference.occasional,
        difference.undecided,
        difference.unheard.values().sum::<usize>()
    ));
    expected.assert_eq(&lines.join("\n"));
}

#[test]
fn what_one_end_saw_end_is_gone_though_the_other_fell_silent_before() {
    check(
        "host a
        host b
        a has 10.0.0.1 0-1300
        b has 10.0.0.2 0-2000
        a tcp 10.0.0.1 -> 10.0.0.2:80 cli/7 0-1300
        b tcp 10.0.0.2:80 <- 10.0.0.1 nginx/9 0-1985.
        b tcp 0.0.0.0:80 listens nginx/9 0-2000",
        expect!["Gone since 0\n0 occasional, 0 undecided, 0 unheard"],
    );
    // It was there when the caller was last heard: its word may be on its way.
    check(
        "host a
        host b
        a has 10.0.0.1 0-1970
        b has 10.0.0.2 0-2000
        a tcp 10.0.0.1 -> 10.0.0.2:80 cli/7 0-1970
        b tcp 10.0.0.2:80 <- 10.0.0.1 nginx/9 0-1985.
        b tcp 0.0.0.0:80 listens nginx/9 0-2000",
        expect!["0 occasional, 0 undecided, 0 unheard"],
    );
}

#[test]
fn a_restart_under_other_numbers_is_no_difference() {
    check(
        "host a
        a has 10.0.0.1 0-2000
        a tcp 0.0.0.0:80 listens nginx/4 0-1200. 1205-2000
        a@container:1 tcp 172.17.0.2 -> 10.0.0.9:5432 app/7 0-1500.
        a@container:2 tcp 172.17.0.3 -> 10.0.0.9:5432 app/8 1510-2000
        a@container:1 tcp 172.17.0.2:8080 listens app/7 0-1500.
        a@container:2 tcp 172.17.0.3:8080 listens app/8 1510-2000",
        expect!["0 occasional, 0 undecided, 0 unheard"],
    );
}

#[test]
fn one_of_two_containers_that_is_gone_is_missed() {
    check(
        "host a
        a has 10.0.0.1 0-2000
        a@container:1 tcp 172.17.0.2 -> 10.0.0.9:5432 app/7 0-1500.
        a@container:2 tcp 172.17.0.3 -> 10.0.0.9:5432 app/8 0-2000",
        expect![[r#"
            Gone since 0
            0 occasional, 0 undecided, 0 unheard"#]],
    );
}

#[test]
fn another_process_behind_a_port_is_one_line_and_its_callers_stay() {
    check(
        "host a
        host b
        a has 10.0.0.1 0-2000
        b has 10.0.0.2 0-2000
        a tcp 0.0.0.0:80 listens nginx/4 0-1200.
        a tcp 0.0.0.0:80 listens haproxy/5 1205-2000
        a tcp 10.0.0.1:80 <- 10.0.0.2 nginx/4 0-1200.
        a tcp 10.0.0.1:80 <- 10.0.0.2 haproxy/5 1205-2000
        b tcp 10.0.0.2 -> 10.0.0.1:80 wrk/6 0-2000",
        expect![[r#"
            nginx became haproxy
            0 occasional, 0 undecided, 0 unheard"#]],
    );
}

#[test]
fn a_service_that_stops_to_answer_fails() {
    check(
        "host a
        host b
        a has 10.0.0.1 0-2000
        b has 10.0.0.2 0-2000
        a tcp 0.0.0.0:80 listens nginx/4 0-1200.
        a tcp 0.0.0.0:22 listens sshd/1 0-2000
        a tcp 10.0.0.1:80 <- 10.0.0.2 nginx/4 0-1200.
        b tcp 10.0.0.2 -> 10.0.0.1:80 wrk/6 0-2000 connecting=1",
        expect![[r#"
            Gone since 0
            Fails since 0
            0 occasional, 0 undecided, 0 unheard"#]],
    );
}

#[test]
fn the_nightly_job_and_the_dns_client_are_occasional() {
    check(
        "host a
        a has 10.0.0.1 0-2000
        a tcp 0.0.0.0:22 listens sshd/1 0-2000
        a tcp 10.0.0.1 -> 10.0.0.9:873 rsync/7 700-720.
        a tcp 10.0.0.1 -> 10.0.0.8:873 rsync/7 0-20. 1950-1980.
        a udp 0.0.0.0:40000 listens dig/8 1600-1700.",
        expect!["3 occasional, 0 undecided, 0 unheard"],
    );
}

#[test]
fn what_comes_every_few_minutes_is_gone_when_it_has_stayed_away_for_longer() {
    let told = |until: i64| {
        let spans: Vec<String> =
            (0..until / 100).map(|n| format!("{}-{}.", n * 100, n * 100 + 5)).collect();
        format!(
            "host a
            a has 10.0.0.1 0-2000
            a tcp 0.0.0.0:22 listens sshd/1 0-2000
            a tcp 10.0.0.1 -> 10.0.0.9:80 curl/7 {}",
            spans.join(" ")
        )
    };
    check(&told(2000), expect!["0 occasional, 0 undecided, 0 unheard"]);
    check(
        &told(1300),
        expect![[r#"
            Gone since 0
            0 occasional, 0 undecided, 0 unheard"#]],
    );
}

#[test]
fn what_comes_again_within_the_tolerance_may_be_in_a_pause_in_however_short_a_time() {
    // Its 48th call is the last before the first moment, at 987.
    let told = |calls: i64| {
        let spans: Vec<String> = (0..calls).map(|n| format!("{0}-{0}.", n * 21)).collect();
        format!(
            "host a
            a has 10.0.0.1 0-2000
            a tcp 0.0.0.0:22 listens sshd/1 0-2000
            a tcp 10.0.0.1 -> 10.0.0.9:80 curl/7 {}",
            spans.join(" ")
        )
    };
    let found = |calls: i64, to: i64| {
        let (_, found) = difference_between(1000, to, &told(calls), Selector::All);
        (found.entries.len(), found.undecided)
    };
    assert_eq!(found(48, 1005), (0, 1));
    assert_eq!(found(49, 1012), (0, 0), "it came");
    assert_eq!(found(48, 1028), (0, 1), "it missed a turn");
    assert_eq!(found(48, 1030), (1, 0), "it stays away");
}

#[test]
fn the_edges_of_a_silent_host_are_unknown_and_not_gone() {
    let text = "host a
        host b
        a has 10.0.0.1 0-2000
        b has 10.0.0.2 0-2000
        a tcp 0.0.0.0:22 listens sshd/1 0-1300
        a tcp 10.0.0.1 -> 10.0.0.9:80 curl/7 0-1300
        b tcp 0.0.0.0:22 listens sshd/1 1500-2000
        b tcp 10.0.0.2 -> 10.0.0.9:80 curl/7 1500-2000";
    check(text, expect!["0 occasional, 0 undecided, 4 unheard"]);
    let (moments, difference) = difference(text);
    let unheard: Vec<_> = difference.unheard.into_iter().collect();
    assert_eq!(unheard, [((false, host_key("b")), 2), ((true, host_key("a")), 2)]);
    let empty = Difference { unheard: unheard.into_iter().collect(), ..Difference::default() };
    assert_eq!(empty.is_told_by(&moments), 4);
    assert_eq!(empty.is_told_by(&Moments { exit_code: false, ..moments }), 0);
    assert_eq!(Difference::default().is_told_by(&moments), 0);
}

#[test]
fn who_has_not_spoken_since_the_first_moment_has_lost_nothing() {
    // Both report every half minute, a has not done so yet; b's listener is gone.
    let text = "host a
        host b
        a has 10.0.0.1 0-1985
        b has 10.0.0.2 0-1995
        a tcp 0.0.0.0:80 listens nginx/4 0-1985
        a tcp 10.0.0.1 -> 10.0.0.9:80 curl/7 0-1985
        b tcp 0.0.0.0:22 listens sshd/1 0-1995
        b tcp 0.0.0.0:81 listens redis/5 0-1988.";
    let (moments, difference) = difference_since(1990, text, Selector::All);
    assert_eq!(difference.entries, []);
    let unheard: Vec<_> = difference.unheard.iter().map(|(key, count)| (*key, *count)).collect();
    assert_eq!(unheard, [((true, host_key("a")), 2)]);
    assert_eq!(difference.is_told_by(&moments), 4);
    // What a tells of b's callers, and b of a's, is of those who were there before.
    let both = format!(
        "{text}
        b tcp 0.0.0.0:90 listens nginx/8 0-1995
        b tcp 10.0.0.2:90 <- 10.0.0.1 nginx/8 0-1995
        a tcp 10.0.0.1 -> 10.0.0.2:90 wrk/9 0-1985
        a tcp 10.0.0.1:80 <- 10.0.0.2 nginx/4 0-1985
        b tcp 10.0.0.2 -> 10.0.0.1:80 wrk/9 0-1995"
    );
    let (_, with_calls) = difference_since(1990, &both, Selector::All);
    assert_eq!(with_calls.entries, []);
    assert_eq!(with_calls.occasional, difference.occasional);
    let text = text.replace("1988.", "1993.");
    let (moments, difference) = difference_since(1990, &text, Selector::All);
    assert_eq!(difference.entries.len(), 1, "{difference:?}");
    assert_eq!(difference.is_told_by(&moments), 3);
}

/// An application that calls a database for all the time, as the probes of
/// both tell of it.
fn call(app: &str, db: &str, more: &str) -> String {
    format!(
        "host app
        host db
        app has 10.0.0.2 {app}
        db has 10.0.0.1 {db}
        app tcp 0.0.0.0:22 listens sshd/1 {app}
        app tcp 10.0.0.2 -> 10.0.0.1:5432 php/7 {app} {more}
        db tcp 0.0.0.0:5432 listens postgres/4 {db}
        db tcp 10.0.0.1:5432 <- 10.0.0.2 postgres/4 {db}"
    )
}

#[test]
fn a_probe_that_dies_makes_no_edge_gone() {
    check(&call("0-2000", "0-1200", ""), expect!["0 occasional, 0 undecided, 1 unheard"]);
    check(&call("0-1200", "0-2000", ""), expect!["0 occasional, 0 undecided, 1 unheard"]);
    // Nor where the one who tells calls again and again, and goes on doing so.
    let often: Vec<String> = (0..20).map(|n| format!("{}-{}.", n * 100, n * 100 + 5)).collect();
    let text =
        call("0-2000", "0-750", "").replace("php/7 0-2000", &format!("php/7 {}", often.join(" ")));
    check(&text, expect!["1 occasional, 0 undecided, 0 unheard"]);
}

#[test]
fn a_host_that_dies_is_called_in_vain() {
    check(
        &call("0-2000", "0-1200", "connecting=1"),
        expect![[r#"
            Fails since 0
            0 occasional, 0 undecided, 1 unheard"#]],
    );
}

#[test]
fn a_probe_that_is_installed_makes_no_edge_new_or_gone() {
    check(&call("0-2000", "1200-2000", ""), expect!["0 occasional, 0 undecided, 1 unheard"]);
    check(&call("1200-2000", "0-2000", ""), expect!["0 occasional, 0 undecided, 1 unheard"]);
}

#[test]
fn an_address_that_its_host_gives_up_is_anothers() {
    let text = "host app
        host db
        app has 10.0.0.2 0-2000
        db has 10.0.0.1 0-1200
        db has 10.0.0.3 1200-2000
        app tcp 10.0.0.2 -> 10.0.0.1:5432 php/7 0-2000
        db tcp 0.0.0.0:5432 listens postgres/4 0-2000
        db tcp 10.0.0.1:5432 <- 10.0.0.2 postgres/4 0-1200.";
    let moved = expect![[r#"
        New since 0
        Gone since 0
        0 occasional, 0 undecided, 0 unheard"#]];
    check(text, moved);
    // One that is silent has it until another host does.
    let text = call("0-2000", "0-1200", "")
        + "
        host new
        new has 10.0.0.1 1300-2000
        new tcp 0.0.0.0:5432 listens postgres/4 0-2000";
    let taken_over = expect![[r#"
        New since 0
        Gone since 0
        0 occasional, 0 undecided, 1 unheard"#]];
    check(&text, taken_over);
}

#[test]
fn a_caller_whose_process_is_seen_at_one_moment_only_is_the_same() {
    check(
        "host a
        host b
        a has 10.0.0.1 0-2000
        b has 10.0.0.2 0-2000
        b tcp 0.0.0.0:22 listens sshd/1 0-2000
        a tcp 0.0.0.0:80 listens nginx/4 0-2000
        a tcp 10.0.0.1:80 <- 10.0.0.2 nginx/4 0-2000
        b tcp 10.0.0.2 -> 10.0.0.1:80 wrk/6 1500-2000",
        expect!["0 occasional, 0 undecided, 0 unheard"],
    );
}

#[test]
fn a_listener_that_others_can_reach_now_is_news() {
    check(
        "host a
        a has 10.0.0.1 127.0.0.1 0-2000
        a tcp 127.0.0.1:6379 listens redis/4 0-1500.
        a tcp 0.0.0.0:6379 listens redis/4 1502-2000",
        expect![[r#"
            New since 1502
            Gone since 0
            0 occasional, 0 undecided, 0 unheard"#]],
    );
}

#[test]
fn only_what_was_asked_about_is_told() {
    let text = "host a
        host b
        a has 10.0.0.1 0-2000
        b has 10.0.0.2 0-2000
        a tcp 0.0.0.0:80 listens nginx/4 0-1200.
        b tcp 0.0.0.0:81 listens redis/5 0-1200.
        a tcp 10.0.0.1:80 <- 10.0.0.2 nginx/4 0-1200.
        b tcp 10.0.0.2 -> 10.0.0.1:80 wrk/6 0-1200.
        b tcp 10.0.0.2 -> 10.0.0.9:53 wrk/6 0-1200.
        a tcp 0.0.0.0:22 listens sshd/1 0-2000
        b tcp 0.0.0.0:22 listens sshd/1 0-2000";
    let count = |selector| difference_of(text, selector).1.entries.len();
    assert_eq!(count(Selector::All), 4);
    assert_eq!(count(Selector::Host("a".to_owned())), 2);
    assert_eq!(count(Selector::Process("redis".to_owned())), 1);
    assert_eq!(count(Selector::Port(80)), 2);
    assert_eq!(count(Selector::Process("wrk".to_owned())), 2);
}

#[test]
fn a_host_is_heard_while_its_probe_watches_whatever_it_calls_then() {
    // Of the caller nothing is fetched but what it calls there.
    let text = "host app
        host db
        app has 10.0.0.2 0-2000
        db has 10.0.0.1 0-2000
        db tcp 0.0.0.0:22 listens sshd/1 0-2000
        app tcp 10.0.0.2 -> 10.0.0.1:9998 curl/8 0-1. 1990-1991.
        app tcp 10.0.0.2 -> 10.0.0.1:6379 redis-cli/7 1500-1501. connecting=1";
    let told = |selector| {
        let (_, found) = difference_of(text, selector);
        (found.entries.iter().map(|entry| entry.first_seen).collect::<Vec<_>>(), found.unheard)
    };
    let new = (vec![second(1500)], BTreeMap::new());
    assert_eq!(told(Selector::Host("db".to_owned())), new);
    assert_eq!(told(Selector::Host("app".to_owned())), new);
    assert_eq!(told(Selector::All), new);
}

#[test]
fn of_what_nobody_knows_nothing_is_green() {
    let text = "host a
        a has 10.0.0.1 0-2000
        a tcp 0.0.0.0:22 listens sshd/1 0-2000";
    let window = SignedDuration::from_secs(600);
    let moments = Moments { from: second(1000), to: second(2000), window, exit_code: true };
    let code = |about: &About, name: &str, now| {
        let selector = Selector::Host(name.to_owned());
        outcome_at(&records(text), selector, about.clone(), second(now)).exit_code()
    };
    let diff = About::Diff(moments);
    assert_eq!((code(&diff, "a", 2000), code(&diff, "b", 2000)), (0, 4));
    let quiet = About::Diff(Moments { exit_code: false, ..moments });
    assert_eq!(code(&quiet, "b", 2000), 0);
    let failing = About::Failing(true);
    assert_eq!((code(&failing, "a", 70), code(&failing, "b", 70)), (0, 4));
    // Its last word was at 60.
    assert_eq!(code(&failing, "a", 2100), 4, "a silent host may fail");
    assert_eq!(code(&About::Failing(false), "a", 2100), 0);
}

#[test]
fn what_was_forgotten_since_the_first_moment_is_not_called_the_same() {
    let text = "host a
        a has 10.0.0.1 0-2000
        a tcp 0.0.0.0:22 listens sshd/1 0-2000";
    let window = SignedDuration::from_secs(600);
    let moments = Moments { from: second(1000), to: second(2000), window, exit_code: true };
    let since = |from: i64| {
        let mut records = records(text);
        for host in &mut records.hosts {
            host.watched = vec![(second(from), second(2000))];
            host.last_seen = second(2000);
        }
        let outcome = outcome_at(&records, Selector::All, About::Diff(moments), second(2000));
        let code = outcome.exit_code();
        let Finding::Diff(_, found) = outcome.finding else { panic!("another finding") };
        (code, found.forgotten.len())
    };
    assert_eq!(since(900), (0, 0));
    assert_eq!(since(1020), (0, 0), "as near as a probe's restart");
    assert_eq!(since(1500), (4, 1));
}
