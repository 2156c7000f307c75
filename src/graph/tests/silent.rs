//! What others tell of a host whose probe is silent.

use expect_test::{Expect, expect};
use jiff::SignedDuration;

use crate::graph::join::join;
use crate::graph::tests::notation::{print, records};

/// As [`print`] says it, with ten seconds of tolerance.
fn check(text: &str, expected: Expect) {
    expected.assert_eq(&print(&join(&records(text), SignedDuration::from_secs(10))));
}

#[test]
fn a_silent_host_keeps_its_addresses_and_what_listened_there() {
    check(
        "host app 0-900
        host db 0-100 500-900
        app has 10.0.0.1 0-900
        db has 10.0.0.2 0-100
        db has 10.0.0.2 501-900
        db tcp 0.0.0.0:5432 listens postgres/1 0-100. 501-900
        db tcp 0.0.0.0:80 listens was/2 0-50.
        db tcp 0.0.0.0:81 listens was/3 0-100.
        db tcp 0.0.0.0:81 listens is/4 501-900
        db tcp 0.0.0.0:82 listens later/5 510-900
        db tcp 10.0.0.2 -> 10.0.0.1:443 backup/6 0-100.
        app tcp 10.0.0.1:443 <- 10.0.0.2 nginx/8 0-900
        app tcp 10.0.0.1 -> 10.0.0.2:5432 held/7 0-900
        app tcp 10.0.0.1 -> 10.0.0.2:5432 called/7 300-310.
        app tcp 10.0.0.1 -> 10.0.0.2:80 called/7 300-310.
        app tcp 10.0.0.1 -> 10.0.0.2:81 called/7 300-310.
        app tcp 10.0.0.1 -> 10.0.0.2:82 called/7 300-310.",
        expect![[r#"
            app called/7 10.0.0.1 -> db ? 10.0.0.2:80 tcp active, one end 300-310.
            app called/7 10.0.0.1 -> db ? 10.0.0.2:81 tcp active, one end 300-310.
            app called/7 10.0.0.1 -> db ? 10.0.0.2:82 tcp active, one end 300-310.
            app called/7 10.0.0.1 -> db postgres/1 10.0.0.2:5432 tcp active, one end 300-310.
            app held/7 10.0.0.1 -> db postgres/1 10.0.0.2:5432 tcp active, one end 0-900
            db backup/6 10.0.0.2 -> app nginx/8 10.0.0.1:443 tcp both, confirmed 0-900
        "#]],
    );
}

#[test]
fn before_the_first_word_and_after_the_last_one() {
    check(
        "host app 0-900
        host db 400-500
        app has 10.0.0.1 0-900
        db has 10.0.0.2 402-500
        app tcp 10.0.0.1 -> 10.0.0.2:1 early/1 5-5.
        app tcp 10.0.0.1 -> 10.0.0.2:2 late/1 899-900",
        expect![[r#"
            app early/1 10.0.0.1 -> db ? 10.0.0.2:1 tcp active, one end 5-5.
            app late/1 10.0.0.1 -> db ? 10.0.0.2:2 tcp active, one end 899-900
        "#]],
    );
}

#[test]
fn who_spoke_without_it_or_is_not_the_last_does_not_keep_it() {
    check(
        "host app 0-900
        host gone 0-100
        host moved 0-300
        host next 50-200 600-900
        app has 10.0.0.1 0-900
        gone has 10.0.0.2 0-100
        next has 10.0.0.2 150-200
        next has 10.0.0.8 600-900
        moved has 10.0.0.3 0-100
        app tcp 10.0.0.1 -> 10.0.0.2:80 first/1 120-121.
        app tcp 10.0.0.1 -> 10.0.0.2:80 then/1 300-301.
        app tcp 10.0.0.1 -> 10.0.0.2:80 again/1 700-701.
        app tcp 10.0.0.1 -> 10.0.0.3:80 moved/1 150-500",
        expect![[r#"
            app again/1 10.0.0.1 -> nobody 10.0.0.2:80 tcp active, one end, no probe at the other 700-701.
            app first/1 10.0.0.1 -> gone ? 10.0.0.2:80 tcp active, one end 120-121.
            app moved/1 10.0.0.1 -> nobody 10.0.0.3:80 tcp active, one end, no probe at the other 150-500
            app then/1 10.0.0.1 -> next ? 10.0.0.2:80 tcp active, one end 300-301.
        "#]],
    );
}

#[test]
fn of_several_that_may_keep_it_none_is_meant() {
    check(
        "host app 0-900
        host old 0-100
        host new 400-900
        host b 0-100
        host c 0-103
        app has 10.0.0.1 0-900
        old has 10.0.0.2 0-100
        new has 10.0.0.2 401-900
        b has 10.0.0.3 0-100
        c has 10.0.0.3 0-103
        b has 10.0.0.4 0-100
        b@pod has 10.0.0.4 0-100
        app tcp 10.0.0.1 -> 10.0.0.2:80 between/1 250-250.
        app tcp 10.0.0.1 -> 10.0.0.3:80 floating/1 250-250.
        app tcp 10.0.0.1 -> 10.0.0.4:80 own/1 250-250.",
        expect![[r#"
            app between/1 10.0.0.1 -> one of 2 10.0.0.2:80 tcp active, unresolved, several hosts have the address 250-250.
            app floating/1 10.0.0.1 -> one of 2 10.0.0.3:80 tcp active, unresolved, several hosts have the address 250-250.
            app own/1 10.0.0.1 -> b ? 10.0.0.4:80 tcp active, one end 250-250.
        "#]],
    );
}
