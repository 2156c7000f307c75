//! Rulesets as nft prints them, held against packets.

use crate::flow::socket::Protocol;
use crate::study::audit::{Audit, Ruleset, nft};
use crate::study::policy::{Hook, Packet};

/// Rules of an input chain that refuses at its end, as JSON.
fn ruleset(policy: &str, rules: &[&str]) -> Ruleset {
    let rules: Vec<String> = rules
        .iter()
        .enumerate()
        .map(|(handle, expr)| {
            format!(
                r#"{{"rule":{{"family":"inet","table":"t","chain":"in","handle":{handle},"expr":[{expr}]}}}}"#
            )
        })
        .collect();
    let text = format!(
        r#"{{"nftables":[{{"metainfo":{{}}}},
        {{"set":{{"family":"inet","table":"t","name":"s","elem":["10.0.0.7",{{"range":["10.1.0.0","10.1.0.9"]}}]}}}},
        {{"chain":{{"family":"inet","table":"t","name":"in","type":"filter","hook":"input","prio":0,"policy":"{policy}"}}}},
        {{"chain":{{"family":"inet","table":"t","name":"sub"}}}},
        {{"rule":{{"family":"inet","table":"t","chain":"sub","handle":90,"expr":[{PORT_80},{{"accept":null}}]}}}},
        {}]}}"#,
        rules.join(",")
    );
    nft::parse(&text).unwrap()
}

const PORT_80: &str =
    r#"{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":80}}"#;
const FROM_SET: &str =
    r#"{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":"@s"}}"#;
const NOT_FROM_TEN: &str = r#"{"match":{"op":"!=","left":{"payload":{"protocol":"ip","field":"saddr"}},
    "right":{"prefix":{"addr":"10.0.0.0","len":8}}}}"#;
const ESTABLISHED: &str =
    r#"{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":["established","related"]}}"#;
const LOOPBACK: &str = r#"{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"lo"}}"#;
const WIRE: &str = r#"{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"eth0"}}"#;
const ICMP: &str = r#"{"match":{"op":"==","left":{"meta":{"key":"l4proto"}},"right":{"set":["icmp","ipv6-icmp"]}}}"#;

fn join(parts: &[&str], verdict: &str) -> String {
    let mut all: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
    all.push(format!(r#"{{"{verdict}":null}}"#));
    all.join(",")
}

fn packet(source: &str, port: u16) -> Packet {
    Packet {
        hook: Hook::Input,
        protocol: Protocol::Tcp,
        source: source.parse().unwrap(),
        destination: if source.contains(':') { "fd00::1" } else { "10.0.0.1" }.parse().unwrap(),
        port,
    }
}

/// Blocked, unclear, unused.
fn counts(ruleset: &Ruleset, packets: &[Packet]) -> (usize, usize, usize) {
    let audit = Audit::of(ruleset, packets.iter().map(|packet| (*packet, 0)).collect());
    (audit.blocked.len(), audit.unclear.len(), audit.unused.len())
}

#[test]
fn a_packet_goes_through_rules_as_in_the_kernel() {
    let check = |policy: &str, rules: &[String], packets: &[Packet], expected| {
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        assert_eq!(counts(&ruleset(policy, &rules), packets), expected, "{policy} {rules:?}");
    };
    let web = packet("10.9.9.9", 80);
    let six = packet("fd00::9", 80);
    // What is established, stays on the host or is no TCP lets no call in.
    let common =
        [join(&[ESTABLISHED], "accept"), join(&[LOOPBACK], "accept"), join(&[ICMP], "accept")];
    check("drop", &common, &[web, six], (2, 0, 0));
    check("accept", &common, &[web, six], (0, 0, 0));
    let port = [join(&[PORT_80], "accept")];
    check("drop", &port, &[web, six, packet("10.9.9.9", 81)], (1, 0, 0));
    check("drop", &port, &[], (0, 0, 1));
    let udp = Packet { protocol: Protocol::Udp, ..web };
    check("drop", &port, &[udp], (1, 0, 1));
    // A named set, with a range; and a condition that asks for IPv4 tacitly.
    let set = [join(&[FROM_SET], "accept")];
    check("drop", &set, &[packet("10.1.0.5", 1), packet("10.1.0.10", 1), six], (2, 0, 0));
    let not = [join(&[NOT_FROM_TEN], "drop")];
    check("accept", &not, &[web, packet("192.168.0.1", 80), six], (1, 0, 0));
    // The first that applies decides.
    let both = [join(&[PORT_80], "drop"), join(&[PORT_80], "accept")];
    check("accept", &both, &[web], (1, 0, 1));
    // A jump comes back, a goto does not.
    let jump = [r#"{"jump":{"target":"sub"}}"#.to_owned(), join(&[FROM_SET], "accept")];
    check("drop", &jump, &[web, packet("10.0.0.7", 5), packet("10.2.0.1", 5)], (1, 0, 0));
    let goto = [r#"{"goto":{"target":"sub"}}"#.to_owned(), join(&[FROM_SET], "accept")];
    check("drop", &goto, &[web, packet("10.0.0.7", 5)], (1, 0, 1));
    // What passes one chain may be refused by the next.
    let nested = [r#"{"jump":{"target":"in"}}"#.to_owned()];
    check("drop", &nested, &[web], (0, 1, 0));
}

#[test]
fn what_is_not_understood_leaves_open_what_depends_on_it_and_nothing_else() {
    let unknown = r#"{"match":{"op":"==","left":{"meta":{"key":"mark"}},"right":7}}"#;
    let web = packet("10.9.9.9", 80);
    let check = |policy: &str, rules: &[String], expected| {
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        assert_eq!(counts(&ruleset(policy, &rules), &[web]), expected, "{policy} {rules:?}");
    };
    for test in [unknown, WIRE, r#"{"limit":{"rate":4,"per":"minute"}}"#] {
        let maybe = [join(&[PORT_80, test], "accept")];
        check("drop", &maybe, (0, 1, 0));
        check("accept", &maybe, (0, 0, 0));
        check("drop", &[maybe[0].clone(), join(&[PORT_80], "accept")], (0, 0, 0));
        check("accept", &[join(&[PORT_80, test], "drop")], (0, 1, 0));
        check("drop", &[join(&[PORT_80, test], "drop")], (1, 0, 0));
    }
    // What may keep a packet from the verdict that follows it.
    let set = r#"{"set":{"op":"add","elem":{"payload":{"protocol":"ip","field":"saddr"}},
        "set":"@m","stmt":[{"limit":{"rate":10,"per":"minute","inv":true}}]}}"#;
    let meter = r#"{"meter":{"name":"m","key":{"payload":{"protocol":"ip","field":"saddr"}},
        "stmt":{"limit":{"rate":10,"per":"minute","inv":true}}}}"#;
    for test in [set, meter, r#"{"something":"new"}"#] {
        check("accept", &[join(&[PORT_80, test], "drop")], (0, 1, 0));
        check("drop", &[join(&[PORT_80, test], "accept")], (0, 1, 0));
        check("drop", &[join(&[PORT_80, test], "drop")], (1, 0, 0));
        // A statement that is not known may be a verdict itself.
        let unclear = usize::from(test.contains("something"));
        check("accept", &[[PORT_80, test].join(",")], (0, unclear, 0));
    }
    check("accept", &[r#"{"queue":{"num":1}}"#.to_owned()], (0, 1, 0));
    check("accept", &[r#"{"vmap":{"key":1,"data":2}}"#.to_owned()], (0, 1, 0));
}

#[test]
fn what_is_no_ruleset_is_refused() {
    for text in ["", "table inet x {}", "[]", "{}", r#"{"nftables":7}"#] {
        assert!(nft::parse(text).is_err(), "{text}");
    }
    assert_eq!(nft::parse(r#"{"nftables":[]}"#), Ok(Ruleset::default()));
    // Whatever is in it, it is read.
    for object in
        ["7", "null", r#"{"rule":null}"#, r#"{"chain":{"family":3}}"#, r#"{"set":{"elem":3}}"#]
    {
        assert!(nft::parse(&format!(r#"{{"nftables":[{object}]}}"#)).is_ok(), "{object}");
    }
}
