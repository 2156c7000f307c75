//! What gets a rule.

use crate::graph::tests::notation::{records, second};
use crate::recall::Selector;
use crate::study::policy::{Plan, Policy, Syntax};
use crate::study::tests::outcome_at;
use crate::study::{About, Finding};

/// The policy of what goes both ways, from records of hosts that were watched
/// since a second.
fn policy(text: &str, selector: Selector, watched: i64) -> Policy {
    let (inward, outward, prefixes) = (true, true, (32, 128));
    let syntax = Syntax::Nftables;
    let plan = Plan { syntax, inward, outward, prefixes, enforce: true, audit: None };
    let mut records = records(text);
    for host in &mut records.hosts {
        host.watched = vec![(second(watched), second(60))];
    }
    let outcome = outcome_at(&records, selector, About::Policy(plan), second(70));
    let Finding::Policy(policy) = outcome.finding else { panic!("another finding") };
    policy
}

/// The ports that get a rule, and how many edges do not.
fn ports(text: &str, watched: i64) -> (Vec<u16>, usize) {
    let policy = policy(text, Selector::Host("app".to_owned()), watched);
    (policy.rules.iter().map(|rule| rule.port).collect(), policy.failed.len())
}

#[test]
fn what_was_answered_before_an_outage_has_a_rule() {
    // db-1 is down: its end told of the connection before, and nobody counts;
    // or a probe counts that was started since.
    for numbers in ["connecting=1", "connecting=1 opened=0 failed=7"] {
        let text = format!(
            "host app
            host db
            app has 10.0.0.2
            db has 10.0.0.1
            app tcp 10.0.0.2 -> 10.0.0.1:5432 php/7 0-60 {numbers}
            db tcp 0.0.0.0:5432 listens postgres/4 0-30.
            db tcp 10.0.0.1:5432 <- 10.0.0.2 postgres/4 0-30."
        );
        assert_eq!(ports(&text, 0), (vec![5432], 0), "{numbers}");
    }
}

#[test]
fn only_what_surely_never_was_answered_has_no_rule() {
    let call = |numbers: &str| {
        format!(
            "host app
            app has 10.0.0.2
            app tcp 10.0.0.2 -> 10.0.0.9:5432 php/7 0-60 {numbers}"
        )
    };
    let counted = "connecting=1 opened=0 failed=7";
    assert_eq!(ports(&call(counted), 0), (vec![], 1));
    assert_eq!(ports(&call(counted), 20), (vec![5432], 0), "counted since 20 only");
    assert_eq!(ports(&call("connecting=1"), 0), (vec![5432], 0), "nobody counted");
    // Where a probe sees that nothing listens, nobody could have answered.
    let at_db = |listens: &str| {
        let text = call("connecting=1");
        format!("{text}\nhost db\ndb has 10.0.0.9\ndb tcp 0.0.0.0:22 listens sshd/1\n{listens}")
    };
    assert_eq!(ports(&at_db(""), 0), (vec![], 1));
    assert_eq!(ports(&at_db(""), 20), (vec![5432], 0), "seen since 20 only");
    let listened = at_db("db tcp 0.0.0.0:5432 listens postgres/4 0-10.");
    assert_eq!(ports(&listened, 0), (vec![5432], 0));
}
