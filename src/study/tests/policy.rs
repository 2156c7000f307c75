//! What gets a rule.

use crate::graph::tests::notation::{records, second};
use crate::recall::Selector;
use crate::study::policy::{Hook, Plan, Policy, Rule, Syntax};
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

#[test]
fn a_port_that_is_refused_lets_through_what_other_processes_need_there() {
    let text = "host app
        app has 10.0.0.2 10.0.0.3
        app tcp 10.0.0.2:80 listens nginx/4
        app tcp 10.0.0.2:80 <- 10.0.0.6 nginx/4
        app tcp 10.0.0.2:8443 listens nginx/4
        app tcp 10.0.0.3:80 listens haproxy/5
        app tcp 10.0.0.3:80 <- 10.0.0.7 haproxy/5
        app tcp 10.0.0.3:8443 listens haproxy/5
        app tcp 10.0.0.3:8443 <- 10.0.0.8 haproxy/5
        app tcp 0.0.0.0:22 listens sshd/6
        app tcp 10.0.0.2:22 <- 10.0.0.8 sshd/6
        app tcp 10.0.0.2 -> 10.0.0.5:443 nginx/4
        app tcp 10.0.0.2 -> 10.0.0.9:443 apt/7
        app tcp 10.0.0.2 -> 10.0.0.9:444 apt/7
        app tcp 127.0.0.1:443 listens stub/8
        app tcp 127.0.0.1 -> 127.0.0.1:443 apt/7
        app udp 10.0.0.2 -> 10.0.0.9:443 apt/7
        app tcp 10.0.0.2 -> 10.0.0.10:443 scan/9 connecting=1 opened=0 failed=7";
    let rules = |selector| {
        let policy = policy(text, selector, 0);
        let rule = |rule: &Rule| {
            let peers: Vec<String> =
                rule.peers.iter().map(|peer| peer.addr().to_string()).collect();
            (rule.hook, rule.port, peers.join(" "), rule.edges.len())
        };
        let rules: Vec<_> = policy.rules.iter().map(rule).collect();
        (rules, policy.unused.len(), policy.failed.len(), policy.inside)
    };
    let peers = |hook, port, peers: &str| (hook, port, peers.to_owned(), peers.split(' ').count());
    let nginx = [
        peers(Hook::Input, 80, "10.0.0.6 10.0.0.7"),
        // nginx itself is not called there; the port is refused all the same.
        peers(Hook::Input, 8443, "10.0.0.8"),
        peers(Hook::Output, 443, "10.0.0.5 10.0.0.9"),
    ];
    assert_eq!(rules(Selector::Process("nginx".to_owned())), (nginx.to_vec(), 0, 0, 0));
    let apt = [
        peers(Hook::Output, 443, "10.0.0.5 10.0.0.9"),
        peers(Hook::Output, 444, "10.0.0.9"),
        peers(Hook::Output, 443, "10.0.0.9"),
    ];
    assert_eq!(rules(Selector::Process("apt".to_owned())), (apt.to_vec(), 0, 0, 1));
}

#[test]
fn a_port_that_a_client_sends_from_is_no_service() {
    // A resolver binds a port of its choice for each question, connected or
    // not, and is gone by the next look; what it asks has its rule. A service
    // that was seen to wait is called, and so is whom a caller says it calls.
    let text = "host app
        host web
        app has 10.0.0.2
        web has 10.0.0.5
        app udp 10.0.0.2:4898 -- 10.0.0.9:53 unbound/7 30-30.
        app udp 10.0.0.2:33382 <- 10.0.0.9 getent/8 31-31.
        app udp 0.0.0.0:5000 listens getent/8 31-31.
        app udp 10.0.0.2:5000 <- 10.0.0.9 getent/8 31-31.
        app udp 0.0.0.0:8125 listens statsd/9 10-40.
        app udp 10.0.0.2:8125 <- 10.0.0.7 statsd/9 20-20.
        app udp 0.0.0.0:8126 listens statsd/9 60-60
        app udp 10.0.0.2:8126 <- 10.0.0.7 statsd/9 60-60
        web udp 10.0.0.5 -> 10.0.0.2:514 logger/6
        app tcp 10.0.0.2:4000 -- 10.0.0.9:5432 old/10";
    let told = |selector| {
        let policy = policy(text, selector, 0);
        let rules = policy.rules.iter().map(|rule| (rule.hook, rule.port));
        let unclear = policy.unclear.iter().map(|one| one.port);
        (rules.collect::<Vec<_>>(), unclear.collect::<Vec<_>>(), policy.unused.len())
    };
    let inward = [514, 8125, 8126].map(|port| (Hook::Input, port));
    // Over TCP first.
    let outward = [5432, 53].map(|port| (Hook::Output, port));
    let rules = [&inward[..], &outward[..]].concat();
    assert_eq!(told(Selector::Host("app".to_owned())), (rules, vec![4000, 4898, 5000, 33382], 0));
    let getent = Selector::Process("getent".to_owned());
    assert_eq!(told(getent), (vec![], vec![5000, 33382], 0));
}
