//! A ruleset held against what was seen: which rules nothing needed, and what
//! would not have come through.
//!
//! Only what is understood is judged. A condition that is not (a mark, an
//! interface, a rate) leaves open whether its rule applies, and then what
//! depends on it is said to be unclear.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::flow::socket::Protocol;
use crate::graph::EdgeId;
use crate::study::policy::{Hook, Packet};

pub mod nft;

/// A ruleset, as far as it matters for the first packet of a connection over
/// TCP or UDP.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ruleset {
    /// By table and name.
    pub chains: BTreeMap<(String, String), Chain>,
}

/// A list of rules.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chain {
    /// Where packets enter it, and in which order among those that they do.
    pub hook: Option<(Hook, i64)>,
    /// Where it has a hook, at its end packets are refused.
    pub drops: bool,
    /// The one family that comes to it, `ipv4` or `ipv6`; else both.
    pub family: Option<&'static str>,
    /// In order.
    pub rules: Vec<Entry>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What to call it by.
    pub name: String,
    /// All have to hold.
    pub tests: Vec<Test>,
    /// What happens then.
    pub action: Action,
}

/// A condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    /// Of what.
    pub of: Field,
    /// It must not be so.
    pub not: bool,
    /// Any of these.
    pub values: Vec<Match>,
}

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The address it comes from.
    Source,
    /// The address it goes to.
    Destination,
    /// The port it goes to, of this protocol if one is said.
    Port(Option<Protocol>),
    /// The transport protocol.
    Protocol,
    /// The family of its addresses.
    Family,
    /// The state of its connection, which is new.
    State,
    /// The interface, by which what stays on the host is told apart.
    Interface,
    /// Something else.
    Unknown,
}

/// A value that a field may have.
#[derive(Clone, Debug, PartialEq)]
pub enum Match {
    /// A network.
    Network(IpNet),
    /// Addresses from one to another.
    Addresses(IpAddr, IpAddr),
    /// Ports from one to another.
    Ports(u16, u16),
    /// A word: of a protocol, a state, an interface.
    Word(String),
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Lets it pass this chain's hook.
    Accept,
    /// Refuses it.
    Drop,
    /// Goes on in another chain, and comes back.
    Jump(String),
    /// Goes on in another chain.
    Goto(String),
    /// Back to where it came from.
    Return,
    /// Goes on: counts, or logs.
    Nothing,
    /// Something that is not understood.
    Unknown,
}

/// What became of what was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Rules that accept, and that nothing needed.
    pub unused: Vec<String>,
    /// What would have been refused, and by which rule or chain.
    pub blocked: Vec<(Packet, EdgeId, String)>,
    /// What depends on a condition that is not understood, and on which rule.
    pub unclear: Vec<(Packet, EdgeId, String)>,
    /// How much was held against it.
    pub judged: usize,
}

/// Most rules that one packet meets: chains may jump to each other many times.
const MAX_STEPS: usize = 100_000;

/// Most chains that stand in each other: the kernel's own limit.
const MAX_JUMPS: usize = 16;

impl Audit {
    /// Holds what was seen against a ruleset.
    pub fn of(ruleset: &Ruleset, seen: Vec<(Packet, EdgeId)>) -> Audit {
        let mut audit = Audit { judged: seen.len(), ..Audit::default() };
        let mut used: BTreeSet<&str> = BTreeSet::new();
        for (packet, edge) in seen {
            let way = Way::through(ruleset, packet);
            used.extend(way.accepted);
            match way.fate {
                Fate::Passes => {}
                Fate::Blocked(by) => audit.blocked.push((packet, edge, by.to_owned())),
                Fate::Unclear(by) => audit.unclear.push((packet, edge, by.to_owned())),
            }
        }
        let hooked = ruleset.hooked();
        let rules = hooked.iter().flat_map(|key| &ruleset.chains[*key].rules);
        let unused = rules.filter(|rule| rule.is_of_calls() && !used.contains(rule.name.as_str()));
        audit.unused = unused.map(|rule| rule.name.clone()).collect();
        audit
    }

    /// The exit code of a command that says it.
    pub fn exit_code(&self) -> u8 {
        match (self.blocked.is_empty(), self.unclear.is_empty()) {
            (false, _) => 3,
            (true, false) => 4,
            (true, true) => 0,
        }
    }
}

impl Ruleset {
    /// The chains that packets of a host come to, directly or by a jump.
    fn hooked(&self) -> BTreeSet<&(String, String)> {
        let based = self.chains.iter().filter(|(_, chain)| chain.hook.is_some());
        let mut known: BTreeSet<_> = based.map(|(key, _)| key).collect();
        let mut pending: Vec<_> = known.iter().copied().collect();
        while let Some(key) = pending.pop() {
            for rule in &self.chains[key].rules {
                let (Action::Jump(to) | Action::Goto(to)) = &rule.action else { continue };
                let target = self.chains.get_key_value(&(key.0.clone(), to.clone()));
                if let Some((target, _)) = target.filter(|(target, _)| known.insert(target)) {
                    pending.push(target);
                }
            }
        }
        known
    }
}

impl Entry {
    /// Whether it accepts calls over TCP or UDP, as far as its conditions are
    /// understood: not what was established before, what stays on the host, or
    /// another protocol.
    fn is_of_calls(&self) -> bool {
        let names_call =
            |test: &Test| matches!(test.of, Field::Source | Field::Destination | Field::Port(_));
        let other = |test: &Test| {
            let words = test.values.iter().filter_map(|value| match value {
                Match::Word(word) => Some(word.as_str()),
                _ => None,
            });
            let mut words = words.peekable();
            match test.of {
                Field::State => !test.not && !words.any(|word| word == "new"),
                Field::Interface => !test.not && words.all(|word| word == "lo"),
                Field::Protocol => !test.not && !words.any(|word| ["tcp", "udp"].contains(&word)),
                _ => false,
            }
        };
        self.action == Action::Accept
            && self.tests.iter().any(names_call)
            && !self.tests.iter().any(other)
    }
}

/// What becomes of a packet.
enum Fate<'r> {
    Passes,
    Blocked(&'r str),
    Unclear(&'r str),
}

/// What a chain says of a packet.
enum Said<'r> {
    Accept,
    Drop(&'r str),
    /// Its end was reached, or a return.
    Nothing,
    Unclear(&'r str),
}

/// The way of a packet through a ruleset.
struct Way<'r> {
    ruleset: &'r Ruleset,
    packet: Packet,
    accepted: Vec<&'r str>,
    steps: usize,
    fate: Fate<'r>,
}

impl<'r> Way<'r> {
    /// Through all chains of its hook: one that accepts does not keep another
    /// from refusing.
    fn through(ruleset: &'r Ruleset, packet: Packet) -> Way<'r> {
        let mut way = Way { ruleset, packet, accepted: Vec::new(), steps: 0, fate: Fate::Passes };
        let hooked = ruleset.chains.iter().filter_map(|(key, chain)| {
            let (hook, priority) = chain.hook?;
            let family = chain.family.is_none_or(|family| family == family_of(&packet));
            (hook == packet.hook && family).then_some((priority, key, chain))
        });
        let mut hooked: Vec<_> = hooked.collect();
        hooked.sort_by_key(|(priority, key, _)| (*priority, *key));
        for (_, key, chain) in hooked {
            match way.chain(&key.0, chain, 0) {
                Said::Drop(by) => {
                    way.fate = Fate::Blocked(by);
                    return way;
                }
                Said::Unclear(by) if matches!(way.fate, Fate::Passes) => {
                    way.fate = Fate::Unclear(by);
                }
                Said::Accept | Said::Nothing | Said::Unclear(_) => {}
            }
        }
        way
    }

    fn chain(&mut self, table: &str, chain: &'r Chain, jumps: usize) -> Said<'r> {
        let mut open = Open::default();
        for rule in &chain.rules {
            self.steps += 1;
            if self.steps > MAX_STEPS {
                return Said::Unclear(&rule.name);
            }
            let applies = rule.applies(&self.packet);
            if applies == Some(false) {
                continue;
            }
            let said = match &rule.action {
                Action::Nothing => continue,
                Action::Accept => Said::Accept,
                Action::Drop => Said::Drop(&rule.name),
                Action::Return => Said::Nothing,
                Action::Unknown => Said::Unclear(&rule.name),
                Action::Jump(to) | Action::Goto(to) => {
                    let target = self.ruleset.chains.get(&(table.to_owned(), to.clone()));
                    let said = match target {
                        Some(target) if jumps < MAX_JUMPS => self.chain(table, target, jumps + 1),
                        _ => Said::Unclear(&rule.name),
                    };
                    if matches!((&rule.action, &said), (Action::Jump(_), Said::Nothing)) {
                        continue;
                    }
                    said
                }
            };
            if matches!(said, Said::Accept) {
                self.accepted.push(&rule.name);
            }
            match applies {
                Some(_) if matches!(said, Said::Nothing) => return open.settle(chain.end()),
                Some(_) => return open.settle(said),
                // Whether it ends here is open.
                None => open.add(&said, &rule.name),
            }
        }
        open.settle(chain.end())
    }
}

impl Chain {
    /// What is said where no rule says anything.
    fn end(&self) -> Said<'static> {
        match self.hook {
            Some(_) if self.drops => Said::Drop("the policy of its chain"),
            Some(_) => Said::Accept,
            None => Said::Nothing,
        }
    }
}

/// What may have happened on the way, by rules of which it is not known
/// whether they apply.
#[derive(Default)]
struct Open<'r> {
    accept: Option<&'r str>,
    drop: Option<&'r str>,
    other: Option<&'r str>,
}

impl<'r> Open<'r> {
    fn add(&mut self, said: &Said<'r>, rule: &'r str) {
        let place = match said {
            Said::Accept => &mut self.accept,
            Said::Drop(_) => &mut self.drop,
            Said::Nothing | Said::Unclear(_) => &mut self.other,
        };
        place.get_or_insert(rule);
    }

    /// What is said at last, if all that may have happened says the same.
    fn settle(&self, said: Said<'r>) -> Said<'r> {
        let against = match said {
            Said::Accept => self.drop.or(self.other),
            Said::Drop(_) => self.accept.or(self.other),
            Said::Nothing | Said::Unclear(_) => self.drop.or(self.accept).or(self.other),
        };
        against.map_or(said, Said::Unclear)
    }
}

fn family_of(packet: &Packet) -> &'static str {
    if packet.source.is_ipv4() { "ipv4" } else { "ipv6" }
}

impl Entry {
    /// Whether all its conditions hold; none where that is not known.
    fn applies(&self, packet: &Packet) -> Option<bool> {
        let held: Vec<Option<bool>> = self.tests.iter().map(|test| test.holds(packet)).collect();
        if held.contains(&Some(false)) {
            return Some(false);
        }
        held.into_iter().collect::<Option<Vec<bool>>>().map(|_| true)
    }
}

impl Test {
    fn holds(&self, packet: &Packet) -> Option<bool> {
        let protocol = packet.protocol.name();
        let word = |known: &[&str]| {
            self.values
                .iter()
                .any(|value| matches!(value, Match::Word(word) if known.contains(&word.as_str())))
        };
        let holds = match self.of {
            Field::Source => self.has(packet.source),
            Field::Destination => self.has(packet.destination),
            Field::Port(Some(of)) if of != packet.protocol => return Some(false),
            Field::Port(_) => self.values.iter().any(|value| {
                matches!(value, Match::Ports(from, to) if (*from..=*to).contains(&packet.port))
            }),
            Field::Protocol => word(&[protocol]),
            Field::Family => word(&[family_of(packet)]),
            Field::State => word(&["new"]),
            // What was seen came from another host, by whichever interface.
            Field::Interface if self.values == [Match::Word("lo".to_owned())] => false,
            Field::Interface | Field::Unknown => return None,
        };
        Some(holds != self.not)
    }

    fn has(&self, address: IpAddr) -> bool {
        self.values.iter().any(|value| match value {
            Match::Network(network) => network.contains(&address),
            Match::Addresses(from, to) => {
                from.is_ipv4() == address.is_ipv4() && (*from..=*to).contains(&address)
            }
            Match::Ports(..) | Match::Word(_) => false,
        })
    }
}
