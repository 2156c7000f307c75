//! Rules for firewalls, by their bytes; and hostile names, of which none gets
//! out of its comment.

use std::sync::Arc;

use expect_test::{Expect, expect};

use crate::graph::tests::notation::{process, records, second};
use crate::labels::Label;
use crate::recall::{Records, Selector};
use crate::study::policy::{Plan, Syntax};
use crate::study::tests::{outcome, outcome_at};
use crate::study::{About, Outcome};
use crate::view::Format;
use crate::view::escape::is_hidden;
use crate::view::tests::finding::print;
use crate::view::tests::hostile::NAMES;

const WORLD: &str = "
    host web-1
    host wrk-1
    web-1 has 127.0.0.1 10.0.0.10 fd00::10
    wrk-1 has 10.0.0.11
    web-1 tcp 0.0.0.0:80 listens nginx/4
    web-1 tcp 0.0.0.0:22 listens sshd/5
    web-1 tcp 127.0.0.1:6379 listens redis/6
    web-1 tcp 127.0.0.1:6379 <- 127.0.0.1 redis/6
    web-1 tcp 10.0.0.10:80 <- 10.0.0.11 nginx/4 open=2
    web-1 tcp 10.0.0.10:80 <- 10.0.0.99 nginx/4 0-30.
    web-1 tcp [fd00::10]:80 <- fd00::99 nginx/4 0-30.
    wrk-1 tcp 10.0.0.11 -> 10.0.0.10:80 wrk/7 open=2
    wrk-1 tcp 10.0.0.11 -> 10.0.0.10:81 wrk/7 open=1 connecting=1
    web-1 udp 10.0.0.10 -> 10.0.0.53:53 nginx/4";

fn plan(syntax: Syntax) -> Plan {
    let (inward, outward) = (true, false);
    Plan { syntax, inward, outward, prefixes: (32, 128), enforce: false, audit: None }
}

fn policy(plan: Plan, selector: Selector) -> String {
    print(&outcome(WORLD, selector, About::Policy(plan)), Format::Table)
}

fn host() -> Selector {
    Selector::Host("web-1".to_owned())
}

#[track_caller]
fn check(text: &str, expected: Expect) {
    expected.assert_eq(text);
}

#[test]
fn a_policy_for_nftables() {
    let plan = Plan { outward: true, enforce: true, ..plan(Syntax::Nftables) };
    check(
        &policy(plan, host()),
        expect![[r##"
            # shawk policy of web-1, from what was seen
            # What was not seen is not in it, and may be needed all the same: a job once a year, a backup that was never restored.
            # watched since 2026-05-28T20:26:40Z, last heard of 2026-05-28T20:27:40Z
            # may have missed: web-1 is polled: connections shorter than its scans' interval are not seen (--mode streaming sees them)
            # no rule for tcp 0.0.0.0:22 of web-1 ('sshd', pgid=5): no other host was seen to call it
            # no rule for what only ever failed: 10.0.0.11 wrk-1 ('wrk', pgid=7) -> 10.0.0.10 web-1 :81 (process not seen): 2026-05-28T20:26:40Z to 2026-05-28T20:27:40Z, 1 open, active end only
            # What has no rule is refused.
            # Load it with: nft -f FILE. Another table that refuses something goes on doing so.
            table inet shawk_policy
            delete table inet shawk_policy
            table inet shawk_policy {
            	chain input {
            		type filter hook input priority 0; policy accept;
            		ct state established,related accept
            		iifname "lo" accept
            		# No probe sees these, and IPv6 does not work without.
            		meta l4proto { icmp, ipv6-icmp } accept
            		# 10.0.0.11 wrk-1 ('wrk', pgid=7) -> 10.0.0.10 web-1 ('nginx', pgid=4): 2026-05-28T20:26:40Z to 2026-05-28T20:27:40Z, 2 open, both ends
            		# 10.0.0.99:many (no probe) -> 10.0.0.10 web-1 ('nginx', pgid=4): 2026-05-28T20:26:40Z to 2026-05-28T20:27:10Z, 0 open, passive end only
            		# [fd00::99]:many (no probe) -> fd00::10 web-1 ('nginx', pgid=4): 2026-05-28T20:26:40Z to 2026-05-28T20:27:10Z, 0 open, passive end only
            		tcp dport 80 ip saddr { 10.0.0.11, 10.0.0.99 } counter accept
            		tcp dport 80 ip6 saddr { fd00::99 } counter accept
            		counter drop
            	}
            	chain output {
            		type filter hook output priority 0; policy accept;
            		ct state established,related accept
            		oifname "lo" accept
            		# No probe sees these, and IPv6 does not work without.
            		meta l4proto { icmp, ipv6-icmp } accept
            		# 10.0.0.10 web-1 ('nginx', pgid=4) -> 10.0.0.53:53 (no probe): 2026-05-28T20:26:40Z to 2026-05-28T20:27:40Z, 1 open, active end only
            		udp dport 53 ip daddr { 10.0.0.53 } counter accept
            		counter drop
            	}
            }
        "##]],
    );
}

#[test]
fn what_is_unclear_is_a_comment_and_no_rule() {
    let world = format!("{WORLD}\n    web-1 udp 10.0.0.10:4898 -- 10.0.0.53:53 unbound/8 30-30.");
    let plan = Plan { enforce: true, ..plan(Syntax::Nftables) };
    let text = print(&outcome(&world, host(), About::Policy(plan)), Format::Table);
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("4898")).collect();
    check(
        &lines.join("\n"),
        expect![
            "# unclear, no rule for udp 4898, where nothing was seen to wait: 10.0.0.10 web-1 ('unbound', pgid=8) -> 10.0.0.53:53 (no probe): 2026-05-28T20:27:10Z to 2026-05-28T20:27:10Z, 0 open, one end only, direction unknown"
        ],
    );
}

#[test]
fn a_policy_of_a_port_refuses_at_that_port_only() {
    let plan = Plan { enforce: true, prefixes: (24, 64), ..plan(Syntax::Nftables) };
    let text = policy(plan, Selector::Port(80));
    let rules = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    check(
        &rules.collect::<Vec<_>>().join("\n"),
        expect![[r#"
        table inet shawk_policy
        delete table inet shawk_policy
        table inet shawk_policy {
        	chain input {
        		type filter hook input priority 0; policy accept;
        		ct state established,related accept
        		iifname "lo" accept
        		meta l4proto { icmp, ipv6-icmp } accept
        		tcp dport 80 ip saddr { 10.0.0.0/24 } counter accept
        		tcp dport 80 ip6 saddr { fd00::/64 } counter accept
        		tcp dport { 80 } counter drop
        	}
        }"#]],
    );
}

#[test]
fn a_policy_for_iptables_has_one_family() {
    check(
        &policy(plan(Syntax::Iptables), host()),
        expect![[r#"
            # shawk policy of web-1, from what was seen
            # What was not seen is not in it, and may be needed all the same: a job once a year, a backup that was never restored.
            # watched since 2026-05-28T20:26:40Z, last heard of 2026-05-28T20:27:40Z
            # may have missed: web-1 is polled: connections shorter than its scans' interval are not seen (--mode streaming sees them)
            # no rule for tcp 0.0.0.0:22 of web-1 ('sshd', pgid=5): no other host was seen to call it
            # no rule for what only ever failed: 10.0.0.11 wrk-1 ('wrk', pgid=7) -> 10.0.0.10 web-1 :81 (process not seen): 2026-05-28T20:26:40Z to 2026-05-28T20:27:40Z, 1 open, active end only
            # What has no rule goes on in the chain it came from; --enforce refuses it.
            # The rules of the other family are those of --format ip6tables.
            # Load it with: iptables-restore --noflush FILE, and lead to it once:
            #   iptables -C INPUT -j SHAWK-IN || iptables -I INPUT -j SHAWK-IN
            *filter
            :SHAWK-IN - [0:0]
            -A SHAWK-IN -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
            -A SHAWK-IN -i lo -j ACCEPT
            # No probe sees these, and IPv6 does not work without.
            -A SHAWK-IN -p icmp -j ACCEPT
            # 10.0.0.11 wrk-1 ('wrk', pgid=7) -> 10.0.0.10 web-1 ('nginx', pgid=4): 2026-05-28T20:26:40Z to 2026-05-28T20:27:40Z, 2 open, both ends
            # 10.0.0.99:many (no probe) -> 10.0.0.10 web-1 ('nginx', pgid=4): 2026-05-28T20:26:40Z to 2026-05-28T20:27:10Z, 0 open, passive end only
            # [fd00::99]:many (no probe) -> fd00::10 web-1 ('nginx', pgid=4): 2026-05-28T20:26:40Z to 2026-05-28T20:27:10Z, 0 open, passive end only
            -A SHAWK-IN -p tcp --dport 80 -s 10.0.0.11 -j ACCEPT
            -A SHAWK-IN -p tcp --dport 80 -s 10.0.0.99 -j ACCEPT
            COMMIT
        "#]],
    );
    let text = policy(Plan { enforce: true, ..plan(Syntax::Ip6tables) }, host());
    let rules = text.lines().filter(|line| !line.starts_with('#'));
    check(
        &rules.collect::<Vec<_>>().join("\n"),
        expect![[r#"
            *filter
            :SHAWK-IN - [0:0]
            -A SHAWK-IN -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
            -A SHAWK-IN -i lo -j ACCEPT
            -A SHAWK-IN -p ipv6-icmp -j ACCEPT
            -A SHAWK-IN -p tcp --dport 80 -s fd00::99 -j ACCEPT
            -A SHAWK-IN -j DROP
            COMMIT"#]],
    );
}

#[test]
fn a_policy_for_kubernetes_is_of_the_pods_that_labels_name() {
    let selector = |name: Option<&str>, role: Option<&str>| {
        let about = About::Policy(plan(Syntax::Kubernetes));
        let mut outcome = outcome(WORLD, Selector::Process("nginx".to_owned()), about);
        let text = |text: Option<&str>| text.map(Arc::from);
        let label = Label { name: text(name), role: text(role), group: None };
        let answer = &mut outcome.answers[0];
        for root in &answer.walk.roots {
            answer.graph.nodes[*root].label = Some(label.clone());
        }
        let text = print(&outcome, Format::Table);
        let (_, after) = text.split_once("matchLabels:\n").unwrap();
        let (labels, _) = after.split_once("  policyTypes").unwrap();
        labels.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        selector(Some("shop"), Some("web")),
        r#"app.kubernetes.io/name: "shop" app.kubernetes.io/component: "web""#
    );
    // Kubernetes takes no such value, and half of a name selects others.
    for name in ["my shop", "shop\"\n", "-shop", "é", &"a".repeat(64)] {
        let placeholder = r#"shawk.example/replace-these-labels: "true""#;
        assert_eq!(selector(Some(name), Some("web")), placeholder, "{name}");
    }
}

#[test]
fn a_policy_for_kubernetes() {
    let plan = Plan { outward: true, ..plan(Syntax::Kubernetes) };
    check(
        &policy(plan, host()),
        expect![[r##"
            # shawk policy of web-1, from what was seen
            # What was not seen is not in it, and may be needed all the same: a job once a year, a backup that was never restored.
            # watched since 2026-05-28T20:26:40Z, last heard of 2026-05-28T20:27:40Z
            # may have missed: web-1 is polled: connections shorter than its scans' interval are not seen (--mode streaming sees them)
            # no rule for tcp 0.0.0.0:22 of web-1 ('sshd', pgid=5): no other host was seen to call it
            # no rule for what only ever failed: 10.0.0.11 wrk-1 ('wrk', pgid=7) -> 10.0.0.10 web-1 :81 (process not seen): 2026-05-28T20:26:40Z to 2026-05-28T20:27:40Z, 1 open, active end only
            # The podSelector selects nothing as it stands: put the labels of the pods there. From then on, what has no rule is refused.
            apiVersion: networking.k8s.io/v1
            kind: NetworkPolicy
            metadata:
              name: shawk-web-1
            spec:
              podSelector:
                matchLabels:
                  shawk.example/replace-these-labels: "true"
              policyTypes: [Ingress, Egress]
              ingress:
                # 10.0.0.11 wrk-1 ('wrk', pgid=7) -> 10.0.0.10 web-1 ('nginx', pgid=4): 2026-05-28T20:26:40Z to 2026-05-28T20:27:40Z, 2 open, both ends
                # 10.0.0.99:many (no probe) -> 10.0.0.10 web-1 ('nginx', pgid=4): 2026-05-28T20:26:40Z to 2026-05-28T20:27:10Z, 0 open, passive end only
                # [fd00::99]:many (no probe) -> fd00::10 web-1 ('nginx', pgid=4): 2026-05-28T20:26:40Z to 2026-05-28T20:27:10Z, 0 open, passive end only
                - from:
                    - ipBlock:
                        cidr: "10.0.0.11/32"
                    - ipBlock:
                        cidr: "10.0.0.99/32"
                    - ipBlock:
                        cidr: "fd00::99/128"
                  ports:
                    - protocol: TCP
                      port: 80
              egress:
                # 10.0.0.10 web-1 ('nginx', pgid=4) -> 10.0.0.53:53 (no probe): 2026-05-28T20:26:40Z to 2026-05-28T20:27:40Z, 1 open, active end only
                - to:
                    - ipBlock:
                        cidr: "10.0.0.53/32"
                  ports:
                    - protocol: UDP
                      port: 53
        "##]],
    );
}

#[test]
fn a_policy_for_kubernetes_never_says_that_it_leaves_other_ports_alone() {
    let nginx = || Selector::Process("nginx".to_owned());
    let text = policy(plan(Syntax::Kubernetes), nginx());
    assert!(!text.contains("are left as they are"), "{text}");
    let only = "# Of these pods it is about all that comes in: what the other processes in them need has no rule, and is refused, too.";
    assert!(text.contains(only), "{text}");
    let text = policy(Plan { outward: true, ..plan(Syntax::Kubernetes) }, nginx());
    assert!(text.contains("about all that comes in and goes out:"), "{text}");
    assert!(!policy(plan(Syntax::Kubernetes), host()).contains("Of these pods"));
    assert!(policy(plan(Syntax::Nftables), nginx()).contains("are left as they are"));
}

#[test]
fn a_policy_is_one_hosts() {
    check(
        &policy(plan(Syntax::Nftables), Selector::All),
        expect![[r#"
        # no rules: 2 hosts are meant, and each has rules of its own; use --host
    "#]],
    );
    let unknown =
        outcome(WORLD, Selector::Host("x".to_owned()), About::Policy(plan(Syntax::Nftables)));
    assert_eq!(unknown.exit_code(), 4);
}

#[test]
fn a_policy_as_json() {
    let plan = plan(Syntax::Nftables);
    let outcome = outcome(WORLD, host(), About::Policy(plan));
    let text = print(&outcome, Format::Json);
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["schema"], "shawk.policy/1");
    assert_eq!(document["items"][0]["peers"].as_array().unwrap().len(), 3);
    assert_eq!(document["unused"][0]["port"], 22);
    assert_eq!(document["failed"][0]["port"], 81);
    assert_eq!(document["text"], print(&outcome, Format::Table));
}

/// All processes and the hosts have the name.
fn named(name: &str) -> Records {
    let mut records = records(WORLD);
    for (number, host) in records.hosts.iter_mut().enumerate() {
        host.name = name.to_owned();
        host.id = format!("{number}{name}");
    }
    for record in &mut records.flows {
        let process = process(name);
        record.flow.key.process = Some(Arc::clone(&process));
        record.flow.owners[0].process = process;
    }
    records
}

fn of_named(name: &str, plan: Plan) -> Outcome {
    let first = Selector::Host(format!("0{name}"));
    outcome_at(&named(name), first, About::Policy(plan), second(70))
}

#[test]
fn no_name_gets_out_of_its_comment() {
    let long = "\\\u{7f}x".repeat(2000);
    let more = [
        "x\n\t\taccept",
        "x\r}\rdelete table inet shawk_policy",
        "x\u{85}- evil: [",
        "x\u{2028}COMMIT",
        "*/ --- %YAML \\",
        &long,
    ];
    for syntax in Syntax::ALL {
        let plan = Plan { outward: true, enforce: true, ..plan(syntax) };
        let lines = |name: &str| {
            let text = print(&of_named(name, plan.clone()), Format::Table);
            assert!(text.contains("# 10.0.0.99:many"), "{text}");
            let hidden = text.chars().find(|c| !matches!(c, '\n' | '\t') && is_hidden(*c));
            assert_eq!(hidden, None, "{name:?}: {text:?}");
            let rules = text.lines().filter(|line| !line.trim_start().starts_with('#'));
            let rules = rules.filter(|line| !line.starts_with("  name: shawk"));
            rules.map(str::to_owned).collect::<Vec<_>>()
        };
        let plain = lines("plain");
        assert!(plain.len() > 8, "{plain:?}");
        for name in NAMES.into_iter().chain(more) {
            assert_eq!(lines(name), plain, "{name:?} in {}", syntax.name());
        }
    }
}

#[test]
fn the_name_of_an_object_is_made_of_letters_digits_and_dashes() {
    for name in NAMES {
        let text = print(&of_named(name, plan(Syntax::Kubernetes)), Format::Table);
        let object = text.lines().find_map(|line| line.strip_prefix("  name: ")).unwrap();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(
            object.chars().all(plain) && object.len() <= 63 && !object.ends_with('-'),
            "{object}"
        );
    }
}
