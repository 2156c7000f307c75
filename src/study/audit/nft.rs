//! What `nft -j list ruleset` prints → a ruleset (libnftables-json(5)).
//!
//! What it does not know becomes a condition or an action that is not
//! understood, never one that is left out.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use crate::flow::socket::Protocol;
use crate::study::audit::{Action, Chain, Entry, Field, Match, Ruleset, Test};
use crate::study::policy::Hook;

/// Named sets, by table and name.
type Sets = BTreeMap<(String, String), Vec<Match>>;

/// Reads a ruleset. The error says what the text is not.
pub fn parse(text: &str) -> Result<Ruleset, String> {
    let document: Value = serde_json::from_str(text)
        .map_err(|_| "it is no JSON; write it with 'nft -j list ruleset'".to_owned())?;
    let objects = document.get("nftables").and_then(Value::as_array);
    let objects =
        objects.ok_or("it is no ruleset of nftables; write it with 'nft -j list ruleset'")?;
    let mut ruleset = Ruleset::default();
    let mut sets = Sets::new();
    for set in objects.iter().filter_map(|object| object.get("set")) {
        if let Some(key) = key(set, "name") {
            let elements = set.get("elem").and_then(Value::as_array).into_iter().flatten();
            // A set with an element that is not understood is not known whole.
            if let Some(elements) = elements.map(element).collect() {
                sets.insert(key, elements);
            }
        }
    }
    for found in objects.iter().filter_map(|object| object.get("chain")) {
        if let Some((key, chain)) = key(found, "name").zip(chain(found)) {
            ruleset.chains.insert(key, chain);
        }
    }
    for rule in objects.iter().filter_map(|object| object.get("rule")) {
        if let Some(key) = key(rule, "chain")
            && let Some(chain) = ruleset.chains.get_mut(&key)
        {
            chain.rules.push(entry(rule, &key, &sets));
        }
    }
    Ok(ruleset)
}

fn word<'v>(value: &'v Value, field: &str) -> Option<&'v str> {
    value.get(field)?.as_str()
}

/// The table with its family, and a name in it.
fn key(object: &Value, name: &str) -> Option<(String, String)> {
    let table = format!("{} {}", word(object, "family")?, word(object, "table")?);
    Some((table, word(object, name)?.to_owned()))
}

/// A chain that TCP and UDP come to; others (ARP, bridges, translation of
/// addresses) are left out.
fn chain(chain: &Value) -> Option<Chain> {
    let family = match word(chain, "family")? {
        "inet" => None,
        "ip" => Some("ipv4"),
        "ip6" => Some("ipv6"),
        _ => return None,
    };
    let hook = match word(chain, "hook") {
        Some("input" | "prerouting") => Some(Hook::Input),
        Some("output" | "postrouting") => Some(Hook::Output),
        _ => None,
    };
    let filters = word(chain, "type").is_none_or(|kind| kind == "filter");
    let priority = chain.get("prio").and_then(Value::as_i64).unwrap_or(0);
    let drops = word(chain, "policy") == Some("drop");
    let hook = hook.filter(|_| filters).map(|hook| (hook, priority));
    Some(Chain { hook, drops, family, rules: Vec::new() })
}

fn entry(rule: &Value, (table, chain): &(String, String), sets: &Sets) -> Entry {
    let handle = rule.get("handle").and_then(Value::as_i64).unwrap_or(0);
    let comment = word(rule, "comment").map_or(String::new(), |text| format!(" ({text})"));
    let mut entry = Entry {
        name: format!("{table} {chain} handle {handle}{comment}"),
        tests: Vec::new(),
        action: Action::Nothing,
    };
    let statements = rule.get("expr").and_then(Value::as_array).into_iter().flatten();
    for (kind, value) in statements.filter_map(Value::as_object).flatten() {
        let target = || word(value, "target").unwrap_or("").to_owned();
        match kind.as_str() {
            "match" => entry.tests.extend(tests(value, table, sets)),
            "accept" => entry.action = Action::Accept,
            "drop" | "reject" => entry.action = Action::Drop,
            "return" => entry.action = Action::Return,
            "jump" => entry.action = Action::Jump(target()),
            "goto" => entry.action = Action::Goto(target()),
            "counter" | "log" | "notrack" | "mangle" => {}
            // A set that is full ends the rule, as does what it asks of each
            // element.
            "limit" | "quota" | "ct count" | "xt" | "set" | "meter" => {
                entry.tests.push(unknown());
            }
            // A verdict may follow, which it may keep from being reached.
            _ => {
                entry.tests.push(unknown());
                entry.action = Action::Unknown;
            }
        }
    }
    entry
}

fn unknown() -> Test {
    Test { of: Field::Unknown, not: false, values: Vec::new() }
}

/// A match, with what it tacitly asks for as well.
fn tests(found: &Value, table: &str, sets: &Sets) -> Vec<Test> {
    let (of, tacit) = found.get("left").map_or((Field::Unknown, None), field);
    let not = match word(found, "op") {
        Some("==" | "in") => false,
        Some("!=") => true,
        _ => return vec![unknown()],
    };
    let values = found.get("right").and_then(|right| values(right, table, sets));
    let test = match (of, values) {
        (Field::Unknown, _) | (_, None) => unknown(),
        (of, Some(values)) if fits(of, &values) => Test { of, not, values },
        _ => unknown(),
    };
    let tacit =
        tacit.map(|(of, word)| Test { of, not: false, values: vec![Match::Word(word.to_owned())] });
    tacit.into_iter().chain([test]).collect()
}

/// Whether values are of the kind that a field has.
fn fits(of: Field, values: &[Match]) -> bool {
    values.iter().all(|value| match of {
        Field::Source | Field::Destination => {
            matches!(value, Match::Network(_) | Match::Addresses(..))
        }
        Field::Port(_) => matches!(value, Match::Ports(..)),
        _ => matches!(value, Match::Word(_)),
    })
}

/// What the left side of a match is about, and what it tacitly asks for.
fn field(left: &Value) -> (Field, Option<(Field, &'static str)>) {
    if let Some(payload) = left.get("payload") {
        let protocol = word(payload, "protocol").unwrap_or("");
        let field = word(payload, "field").unwrap_or("");
        let family = match protocol {
            "ip" => Some((Field::Family, "ipv4")),
            "ip6" => Some((Field::Family, "ipv6")),
            _ => None,
        };
        return match (protocol, field) {
            ("ip" | "ip6", "saddr") => (Field::Source, family),
            ("ip" | "ip6", "daddr") => (Field::Destination, family),
            ("ip", "protocol") | ("ip6", "nexthdr") => (Field::Protocol, family),
            ("tcp", "dport") => (Field::Port(Some(Protocol::Tcp)), None),
            ("udp", "dport") => (Field::Port(Some(Protocol::Udp)), None),
            ("th", "dport") => (Field::Port(None), None),
            ("tcp", _) => (Field::Unknown, Some((Field::Protocol, "tcp"))),
            ("udp", _) => (Field::Unknown, Some((Field::Protocol, "udp"))),
            ("icmp" | "icmpv6" | "igmp" | "sctp" | "dccp" | "esp" | "ah", _) => {
                (Field::Unknown, Some((Field::Protocol, "another")))
            }
            _ => (Field::Unknown, family),
        };
    }
    let meta = left.get("meta").and_then(|meta| word(meta, "key"));
    let ct = left.get("ct").and_then(|ct| word(ct, "key"));
    let field = match (meta, ct) {
        (Some("l4proto"), _) => Field::Protocol,
        (Some("nfproto"), _) => Field::Family,
        (Some("iif" | "iifname" | "oif" | "oifname"), _) => Field::Interface,
        (_, Some("state")) => Field::State,
        _ => Field::Unknown,
    };
    (field, None)
}

fn values(right: &Value, table: &str, sets: &Sets) -> Option<Vec<Match>> {
    let list = right.get("set").unwrap_or(right);
    match list {
        Value::Array(list) => list.iter().map(element).collect(),
        Value::String(name) if name.starts_with('@') => {
            sets.get(&(table.to_owned(), name[1..].to_owned())).cloned()
        }
        one => element(one).map(|one| vec![one]),
    }
}

fn element(value: &Value) -> Option<Match> {
    if let Some(inner) = value.get("elem") {
        return element(inner.get("val")?);
    }
    if let Some(prefix) = value.get("prefix") {
        let address: IpAddr = word(prefix, "addr")?.parse().ok()?;
        let length = prefix.get("len")?.as_u64().and_then(|length| u8::try_from(length).ok())?;
        return IpNet::new(address, length).ok().map(Match::Network);
    }
    if let Some(range) = value.get("range").and_then(Value::as_array) {
        return match (element(range.first()?)?, element(range.get(1)?)?) {
            (Match::Network(from), Match::Network(to)) => {
                Some(Match::Addresses(from.addr(), to.addr()))
            }
            (Match::Ports(from, _), Match::Ports(to, _)) => Some(Match::Ports(from, to)),
            _ => None,
        };
    }
    if let Some(number) = value.as_u64() {
        return u16::try_from(number).ok().map(|port| Match::Ports(port, port));
    }
    let text = value.as_str()?;
    Some(match text.parse::<IpAddr>() {
        Ok(address) => Match::Network(address.into()),
        Err(_) => Match::Word(text.to_owned()),
    })
}
