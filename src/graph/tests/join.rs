//! The joining, case by case.

use expect_test::{Expect, expect};
use jiff::SignedDuration;

use crate::graph::ToldBy;
use crate::graph::join::join;
use crate::graph::tests::notation::{print, records};

fn check(text: &str, expected: Expect) {
    let mut forwards = records(text);
    let graph = join(&forwards, SignedDuration::from_secs(10));
    assert_eq!(graph.malformed, 0);
    expected.assert_eq(&print(&graph));
    // The order in which records come decides nothing.
    forwards.flows.reverse();
    forwards.addresses.reverse();
    let again = join(&forwards, SignedDuration::from_secs(10));
    assert_eq!((again.nodes, again.edges), (graph.nodes, graph.edges));
}

#[test]
fn an_edge_that_both_ends_reported_is_one() {
    check(
        "host web-1
        host wrk-1
        web-1 has 10.0.0.10
        wrk-1 has 10.0.0.11
        web-1 tcp 0.0.0.0:80 listens nginx/4656
        web-1 tcp 10.0.0.10:80 <- 10.0.0.11 nginx/4656 5-50
        wrk-1 tcp 10.0.0.11 -> 10.0.0.10:80 wrk/5982 4-49.",
        expect![[r#"
            wrk-1 wrk/5982 10.0.0.11 -> web-1 nginx/4656 10.0.0.10:80 tcp both, confirmed 4-50
        "#]],
    );
}

/// Nobody stands in another's place by telling of flows from its address, in
/// whatever namespace.
#[test]
fn between_hosts_an_address_leads_to_who_has_it() {
    let truth = "host db
        host app
        host liar
        db has 10.0.0.5
        app has 10.0.0.7
        liar has 10.0.0.6
        db tcp 0.0.0.0:5432 listens postgres/1
        app tcp 10.0.0.7 -> 10.0.0.5:5432 app/2";
    for lie in [
        "liar tcp 10.0.0.5:5432 <- 10.0.0.7 evil/3",
        "liar@pod has 10.0.0.5
        liar@pod tcp 10.0.0.5:5432 <- 10.0.0.7 evil/3",
    ] {
        let mut found = records(&format!("{truth}\n{lie}"));
        for _ in 0..2 {
            let graph = print(&join(&found, SignedDuration::from_secs(10)));
            let edge = "app app/2 10.0.0.7 -> db postgres/1 10.0.0.5:5432 tcp active, one end 0-60";
            assert!(graph.contains(edge), "{graph}");
            assert!(!graph.contains("confirmed"), "{graph}");
            found.flows.reverse();
        }
    }
    // Who has the address told of it, too.
    let edge = "app app/2 10.0.0.7 -> db postgres/1 10.0.0.5:5432 tcp both, confirmed 0-60";
    for lie in
        ["liar tcp 10.0.0.5:5432 <- 10.0.0.7 evil/3", "liar tcp 10.0.0.7 -> 10.0.0.5:5432 evil/3"]
    {
        let told = format!("{truth}\ndb tcp 10.0.0.5:5432 <- 10.0.0.7 postgres/1\n{lie}");
        let graph = print(&join(&records(&told), SignedDuration::from_secs(10)));
        assert!(graph.contains(edge) && graph.matches("confirmed").count() == 1, "{graph}");
    }
}

#[test]
fn one_end_is_enough_and_the_listener_names_the_other() {
    check(
        "host web-1
        host wrk-1
        web-1 has 10.0.0.10 fd00::10
        wrk-1 has 10.0.0.11 fd00::11
        web-1 tcp 0.0.0.0:80 listens nginx/4656
        web-1 tcp 10.0.0.10:81 listens python/7
        web-1 tcp 0.0.0.0:81 listens caddy/8
        web-1 tcp [::]:82 listens dual/9
        wrk-1 tcp 10.0.0.11 -> 10.0.0.10:80 wrk/5982
        wrk-1 tcp 10.0.0.11 -> 10.0.0.10:81 wrk/5982
        wrk-1 tcp 10.0.0.11 -> 10.0.0.10:82 wrk/5982
        wrk-1 tcp fd00::11 -> [fd00::10]:80 wrk/5982
        wrk-1 tcp fd00::11 -> [fd00::10]:82 wrk/5982
        web-1 tcp 10.0.0.10:81 <- 10.0.0.11 -
        web-1 tcp 10.0.0.10:99 <- 10.0.0.77 nginx/4656
        wrk-1 tcp 10.0.0.11 -> 10.0.0.78:5432 wrk/5982",
        expect![[r#"
            nobody 10.0.0.77 -> web-1 nginx/4656 10.0.0.10:99 tcp passive, one end, no probe at the other 0-60
            wrk-1 wrk/5982 10.0.0.11 -> nobody 10.0.0.78:5432 tcp active, one end, no probe at the other 0-60
            wrk-1 wrk/5982 10.0.0.11 -> web-1 dual/9 10.0.0.10:82 tcp active, one end 0-60
            wrk-1 wrk/5982 10.0.0.11 -> web-1 nginx/4656 10.0.0.10:80 tcp active, one end 0-60
            wrk-1 wrk/5982 10.0.0.11 -> web-1 python/7 10.0.0.10:81 tcp both, confirmed 0-60
            wrk-1 wrk/5982 fd00::11 -> web-1 ? fd00::10:80 tcp active, one end 0-60
            wrk-1 wrk/5982 fd00::11 -> web-1 dual/9 fd00::10:82 tcp active, one end 0-60
        "#]],
    );
}

#[test]
fn loopback_and_link_local_stay_in_their_place() {
    check(
        "host a
        host b
        a has 127.0.0.1 10.0.0.1 fe80::1
        a@pod has 127.0.0.1
        b has 127.0.0.1 10.0.0.2 fe80::2
        a tcp 127.0.0.1:6379 listens redis/1
        a tcp 127.0.0.1:6379 <- 127.0.0.1 redis/1
        a tcp 127.0.0.1 -> 127.0.0.1:6379 app/2
        a@pod tcp 127.0.0.1:6379 listens valkey/3
        a@pod tcp 127.0.0.1:6379 <- 127.0.0.1 valkey/3
        a@pod tcp 127.0.0.1 -> 127.0.0.1:6379 app/4
        b tcp 127.0.0.1 -> 127.0.0.1:6379 app/5
        b tcp fe80::2 -> [fe80::1]:22 ssh/6
        a tcp fe80::1 -> [fe80::1]:22 ssh/7
        a tcp [::]:22 listens sshd/8",
        expect![[r#"
            a app/2 127.0.0.1 -> a redis/1 127.0.0.1:6379 tcp both, confirmed 0-60
            a ssh/7 fe80::1 -> a sshd/8 fe80::1:22 tcp active, one end 0-60
            a@pod app/4 127.0.0.1 -> a@pod valkey/3 127.0.0.1:6379 tcp both, confirmed 0-60
            b app/5 127.0.0.1 -> b ? 127.0.0.1:6379 tcp active, one end 0-60
            b ssh/6 fe80::2 -> nobody near b fe80::1:22 tcp active, one end, no probe at the other 0-60
        "#]],
    );
}

#[test]
fn process_groups_that_open_stay_apart_and_those_that_serve_are_one() {
    check(
        "host a
        host b
        a has 10.0.0.1
        b has 10.0.0.2
        a tcp 10.0.0.1 -> 10.0.0.2:5432 python3/100+200
        b tcp 0.0.0.0:5432 listens postgres/10
        b tcp 10.0.0.2:5432 <- 10.0.0.1 postgres/11+12
        b tcp 10.0.0.2 -> 10.0.0.1:514 postgres/12
        b tcp 0.0.0.0:80 listens node/50+51
        b tcp 0.0.0.0:81 listens node/60
        b tcp 10.0.0.2 -> 10.0.0.1:514 node/51+60",
        expect![[r#"
            a python3/100 10.0.0.1 -> b postgres/10 10.0.0.2:5432 tcp both, confirmed 0-60
            a python3/200 10.0.0.1 -> b postgres/10 10.0.0.2:5432 tcp both, confirmed 0-60
            b node/50 10.0.0.2 -> a ? 10.0.0.1:514 tcp active, one end 0-60
            b node/60 10.0.0.2 -> a ? 10.0.0.1:514 tcp active, one end 0-60
            b postgres/10 10.0.0.2 -> a ? 10.0.0.1:514 tcp active, one end 0-60
        "#]],
    );
}

#[test]
fn two_processes_share_the_one_passive_flow_but_not_its_time() {
    check(
        "host a
        host b
        a has 10.0.0.1
        b has 10.0.0.2
        a tcp 10.0.0.1 -> 10.0.0.2:80 curl/1 0-5.
        a tcp 10.0.0.1 -> 10.0.0.2:80 wget/2 3-60
        b tcp 10.0.0.2:80 <- 10.0.0.1 nginx/3 0-60",
        expect![[r#"
            a curl/1 10.0.0.1 -> b nginx/3 10.0.0.2:80 tcp both, confirmed 0-5.
            a wget/2 10.0.0.1 -> b nginx/3 10.0.0.2:80 tcp both, confirmed 3-60
        "#]],
    );
}

#[test]
fn what_a_service_saw_after_its_callers_last_words_may_be_any_of_them() {
    // At 80 nobody spoke any more, at 81 one did, at 82 just before; at 83 and
    // 84 one called earlier, too, and alone.
    check(
        "host a
        host b
        a has 10.0.0.1
        b has 10.0.0.2
        a tcp 10.0.0.1 -> 10.0.0.2:80 curl/1 0-5.
        a tcp 10.0.0.1 -> 10.0.0.2:80 wget/2 3-20
        b tcp 10.0.0.2:80 <- 10.0.0.1 nginx/3 0-60
        a tcp 10.0.0.1 -> 10.0.0.2:81 curl/1 0-5.
        a tcp 10.0.0.1 -> 10.0.0.2:81 wget/2 3-60
        b tcp 10.0.0.2:81 <- 10.0.0.1 nginx/3 0-40.
        a tcp 10.0.0.1 -> 10.0.0.2:82 curl/1 0-56.
        a tcp 10.0.0.1 -> 10.0.0.2:82 wget/2 3-58
        b tcp 10.0.0.2:82 <- 10.0.0.1 nginx/3 0-60
        a tcp 10.0.0.1 -> 10.0.0.2:83 curl/1 30-35.
        a tcp 10.0.0.1 -> 10.0.0.2:83 wget/2 0-10. 30-60
        b tcp 10.0.0.2:83 <- 10.0.0.1 nginx/3 0-10. 30-60
        a tcp 10.0.0.1 -> 10.0.0.2:84 curl/1 30-35.
        a tcp 10.0.0.1 -> 10.0.0.2:84 wget/2 0-10. 30-40
        b tcp 10.0.0.2:84 <- 10.0.0.1 nginx/3 0-10. 30-60",
        expect![[r#"
            a curl/1 10.0.0.1 -> b nginx/3 10.0.0.2:80 tcp both, confirmed 0-60
            a curl/1 10.0.0.1 -> b nginx/3 10.0.0.2:81 tcp both, confirmed 0-5.
            a curl/1 10.0.0.1 -> b nginx/3 10.0.0.2:82 tcp both, confirmed 0-56.
            a curl/1 10.0.0.1 -> b nginx/3 10.0.0.2:83 tcp both, confirmed 30-35.
            a curl/1 10.0.0.1 -> b nginx/3 10.0.0.2:84 tcp both, confirmed 30-60
            a wget/2 10.0.0.1 -> b nginx/3 10.0.0.2:80 tcp both, confirmed 3-60
            a wget/2 10.0.0.1 -> b nginx/3 10.0.0.2:81 tcp both, confirmed 3-60
            a wget/2 10.0.0.1 -> b nginx/3 10.0.0.2:82 tcp both, confirmed 3-60
            a wget/2 10.0.0.1 -> b nginx/3 10.0.0.2:83 tcp both, confirmed 0-60
            a wget/2 10.0.0.1 -> b nginx/3 10.0.0.2:84 tcp both, confirmed 0-60
        "#]],
    );
}

#[test]
fn what_a_caller_saw_after_its_services_last_words_is_of_the_latest() {
    check(
        "host a
        host b
        a has 10.0.0.1
        b has 10.0.0.2
        a tcp 10.0.0.1 -> 10.0.0.2:80 app/1 0-60
        b tcp 10.0.0.2:80 <- 10.0.0.1 nginx/3 0-20.
        b tcp 10.0.0.2:80 <- 10.0.0.1 haproxy/4 21-40",
        expect![[r#"
            a app/1 10.0.0.1 -> b haproxy/4 10.0.0.2:80 tcp both, confirmed 21-60
            a app/1 10.0.0.1 -> b nginx/3 10.0.0.2:80 tcp both, confirmed 0-20.
        "#]],
    );
}

#[test]
fn flows_too_short_for_both_scans_are_still_one_edge() {
    check(
        "host a
        host b
        a has 10.0.0.1
        b has 10.0.0.2
        a tcp 10.0.0.1 -> 10.0.0.2:80 curl/1 0-1.
        b tcp 10.0.0.2:80 <- 10.0.0.1 nginx/3 40-41.
        a tcp 10.0.0.1 -> 10.0.0.2:81 curl/1 0-1.
        b tcp 10.0.0.2:81 <- 10.0.0.1 nginx/3 9-10.",
        expect![[r#"
            a curl/1 10.0.0.1 -> b nginx/3 10.0.0.2:80 tcp both, both ends, at different times 0-41.
            a curl/1 10.0.0.1 -> b nginx/3 10.0.0.2:81 tcp both, confirmed 0-10.
        "#]],
    );
}

#[test]
fn an_address_is_whose_it_was_at_the_time() {
    check(
        "host a
        host b
        host c
        a has 10.0.0.1
        b@pod-1 has 10.0.0.9 0-20
        c@pod-2 has 10.0.0.9 40-60
        b@pod-1 tcp 0.0.0.0:80 listens old/1 0-20.
        c@pod-2 tcp 0.0.0.0:80 listens new/2 40-60
        a tcp 10.0.0.1 -> 10.0.0.9:80 app/3 5-10. 45-60
        a tcp 10.0.0.1 -> 10.0.0.9:80 gap/4 33-34.
        a tcp 10.0.0.1 -> 10.0.0.9:80 nowhere/5 30-30.",
        expect![[r#"
            a app/3 10.0.0.1 -> b@pod-1 old/1 10.0.0.9:80 tcp active, one end 5-10.
            a app/3 10.0.0.1 -> c@pod-2 new/2 10.0.0.9:80 tcp active, one end 45-60
            a gap/4 10.0.0.1 -> c@pod-2 new/2 10.0.0.9:80 tcp active, one end 33-34.
            a nowhere/5 10.0.0.1 -> one of 2 10.0.0.9:80 tcp active, unresolved, several hosts have the address 30-30.
        "#]],
    );
}

#[test]
fn of_several_that_have_an_address_the_one_that_answered_is_meant() {
    check(
        "host a
        host b
        host c
        a has 10.0.0.1
        b has 10.0.0.9
        c has 10.0.0.9
        b tcp 0.0.0.0:80 listens one/1
        c tcp 0.0.0.0:80 listens two/2
        c tcp 10.0.0.9:80 <- 10.0.0.1 two/2
        a tcp 10.0.0.1 -> 10.0.0.9:80 app/3
        a tcp 10.0.0.1 -> 10.0.0.9:81 app/3
        b tcp 10.0.0.9 -> 10.0.0.9:80 own/4",
        expect![[r#"
            a app/3 10.0.0.1 -> c two/2 10.0.0.9:80 tcp both, confirmed 0-60
            a app/3 10.0.0.1 -> one of 2 10.0.0.9:81 tcp active, unresolved, several hosts have the address 0-60
            b own/4 10.0.0.9 -> b one/1 10.0.0.9:80 tcp active, one end 0-60
        "#]],
    );
}

#[test]
fn the_same_lab_on_two_hosts_never_crosses() {
    check(
        "host a
        host b
        host c
        a@x has 172.17.0.2
        a@y has 172.17.0.3
        b@x has 172.17.0.2
        b@y has 172.17.0.3
        c@x has 172.17.0.2
        a@x tcp 172.17.0.2 -> 172.17.0.3:80 app/1 0-9.
        a@y tcp 172.17.0.3:80 <- 172.17.0.2 web/2 12-15.
        b@x tcp 172.17.0.2 -> 172.17.0.3:80 app/3
        b@y tcp 172.17.0.3:80 <- 172.17.0.2 web/4
        c@x tcp 172.17.0.2 -> 172.17.0.3:80 app/5",
        expect![[r#"
            a@x app/1 172.17.0.2 -> a@y web/2 172.17.0.3:80 tcp both, confirmed 0-15.
            b@x app/3 172.17.0.2 -> b@y web/4 172.17.0.3:80 tcp both, confirmed 0-60
            c@x app/5 172.17.0.2 -> one of 2 172.17.0.3:80 tcp active, unresolved, several hosts have the address 0-60
        "#]],
    );
}

#[test]
fn a_virtual_address_belongs_to_whoever_answers_at_it() {
    check(
        "host a
        host b
        a has 10.0.0.1
        b has 10.0.0.2
        b tcp 10.9.9.9:443 <- 10.0.0.77 haproxy/1
        b tcp 0.0.0.0:443 listens haproxy/1
        a tcp 10.0.0.1 -> 10.9.9.9:443 curl/2",
        expect![[r#"
            a curl/2 10.0.0.1 -> b haproxy/1 10.9.9.9:443 tcp active, one end 0-60
            nobody 10.0.0.77 -> b haproxy/1 10.9.9.9:443 tcp passive, one end, no probe at the other 0-60
        "#]],
    );
}

#[test]
fn the_other_end_settles_an_unknown_direction() {
    check(
        "host a
        host b
        a has 10.0.0.1
        b has 10.0.0.2
        a tcp 10.0.0.1:4001 -- 10.0.0.2:50500 app/1
        a tcp 10.0.0.1:4002 -- 10.0.0.2:50500 app/1
        b tcp 10.0.0.2:50500 <- 10.0.0.1 svc/2
        b tcp 10.0.0.2:4003 -- 10.0.0.1:700 app/3
        a tcp 0.0.0.0:700 listens late/4
        a tcp 10.0.0.1:5000 -- 10.0.0.2:6000 peer/5
        b tcp 10.0.0.2:6000 -- 10.0.0.1:5000 peer/6
        a tcp 10.0.0.1:80 -- 10.0.0.99:40000 web/7
        a tcp 10.0.0.1:81 -- 10.0.0.1:81 self/8",
        expect![[r#"
            a app/1 10.0.0.1 -> b svc/2 10.0.0.2:50500 tcp both, confirmed 0-60
            a peer/5 10.0.0.1:5000 -- b peer/6 10.0.0.2:6000 tcp both, unresolved, direction unknown 0-60
            a self/8 10.0.0.1:81 -- a self/8 10.0.0.1:81 tcp active, unresolved, direction unknown 0-60
            a web/7 10.0.0.1:80 -- nobody 10.0.0.99:40000 tcp active, unresolved, direction unknown 0-60
            b app/3 10.0.0.2 -> a late/4 10.0.0.1:700 tcp active, one end 0-60
        "#]],
    );
}

#[test]
fn a_service_that_does_not_answer_is_failing() {
    check(
        "host a
        host b
        a has 10.0.0.1
        b has 10.0.0.2
        b tcp 10.0.0.2:80 <- 10.0.0.1 web/3 0-20.
        a tcp 10.0.0.1 -> 10.0.0.2:80 app/1 0-60 open=2 connecting=2
        a tcp 10.0.0.1 -> 10.0.0.2:81 app/1 0-60 open=2 connecting=1
        a tcp 10.0.0.1 -> 10.0.0.2:82 app/1 0-60 open=0 opened=0 failed=7
        a tcp 10.0.0.1 -> 10.0.0.2:83 app/1 0-60 open=0 opened=1 failed=7",
        expect![[r#"
            a app/1 10.0.0.1 -> b ? 10.0.0.2:81 tcp active, one end 0-60
            a app/1 10.0.0.1 -> b ? 10.0.0.2:82 tcp active, one end 0-60 failing
            a app/1 10.0.0.1 -> b ? 10.0.0.2:83 tcp active, one end 0-60
            a app/1 10.0.0.1 -> b web/3 10.0.0.2:80 tcp both, confirmed 0-60 failing
        "#]],
    );
}

#[test]
fn a_restart_under_another_identity_is_told_apart_by_time() {
    check(
        "host a
        host b
        a has 10.0.0.1
        b has 10.0.0.2
        b tcp 0.0.0.0:80 listens nginx/1 0-30.
        b tcp 0.0.0.0:80 listens caddy/2 32-60
        a tcp 10.0.0.1 -> 10.0.0.2:80 app/3 10-29. 40-60
        a tcp 10.0.0.1 -> 10.0.0.2:80 long/4 0-60
        b tcp 0.0.0.0:81 listens one/5
        b tcp 0.0.0.0:81 listens two/6
        a tcp 10.0.0.1 -> 10.0.0.2:81 app/3",
        expect![[r#"
            a app/3 10.0.0.1 -> b ? 10.0.0.2:81 tcp active, one end 0-60
            a app/3 10.0.0.1 -> b caddy/2 10.0.0.2:80 tcp active, one end 40-60
            a app/3 10.0.0.1 -> b nginx/1 10.0.0.2:80 tcp active, one end 10-29.
            a long/4 10.0.0.1 -> b caddy/2 10.0.0.2:80 tcp active, one end 0-60
        "#]],
    );
}

#[test]
fn a_default_address_on_a_whole_fleet_never_crosses() {
    // Each host's container calls another one of its own. One end in two was
    // seen, so every flow's only mirrors are on other hosts.
    for with_addresses in [true, false] {
        let mut text = String::new();
        for n in 0..150 {
            text += &format!("host h{n}\nh{n}@y tcp 0.0.0.0:80 listens web/2\n");
            if with_addresses {
                text += &format!("h{n}@x has 172.17.0.2\nh{n}@y has 172.17.0.3\n");
            }
            text += &match n % 2 {
                0 => format!("h{n}@x tcp 172.17.0.2 -> 172.17.0.3:80 app/1\n"),
                _ => format!("h{n}@y tcp 172.17.0.3:80 <- 172.17.0.2 web/2\n"),
            };
        }
        let graph = join(&records(&text), SignedDuration::from_secs(10));
        assert_eq!(graph.edges.len(), 150);
        for edge in &graph.edges {
            let host = |node: usize| graph.nodes[node].identity.place().map(|place| place.host);
            let crosses = match (host(edge.active), host(edge.passive)) {
                (Some(active), Some(passive)) => active != passive,
                _ => false,
            };
            assert!(!crosses, "{edge:?}");
            assert_ne!(edge.told_by, ToldBy::Both);
        }
    }
}
