//! What is new, gone or changed between two moments.
//!
//! A moment stands for the time before it: what comes and goes is compared by
//! how it was in a window, what is there all along by the moment itself. Where
//! nobody who could tell was heard, nothing is concluded.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::graph::search::Answer;
use crate::graph::{EdgeId, Listen, NodeId};
use crate::recall::{HostKey, Window};
use crate::study::diff::identity::{EdgeKey, ListenerKey, Name};
use crate::study::diff::presence::Around;
use crate::study::diff::side::{Fact, Side, same};
use crate::study::doubt::{hosts_of, watched_since};

pub mod identity;
pub mod presence;
mod side;

/// How long a host may go on without a word: four reports at the standard
/// interval.
pub(crate) const REPORTS: SignedDuration = SignedDuration::from_secs(120);

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moments {
    /// The earlier moment.
    pub from: Timestamp,
    /// The later one.
    pub to: Timestamp,
    /// How much time before each stands for it. What is before `from` never
    /// stands for `to`.
    pub window: SignedDuration,
    /// Differences are told by the exit code.
    pub exit_code: bool,
}

/// What differs.
#[derive(Debug, Default)]
pub struct Difference {
    /// Each difference once.
    pub entries: Vec<Entry>,
    /// Edges and listeners that were at one moment only and come and go so
    /// rarely that this says nothing.
    pub occasional: usize,
    /// Those that come and go, and have not been gone for longer than they
    /// were before.
    pub undecided: usize,
    /// Those that were at one moment only, and nobody who could tell of them
    /// was heard at the other: how many, by host and whether it is the later
    /// moment.
    pub unheard: BTreeMap<(bool, HostKey), usize>,
    /// Hosts that had spoken by the earlier moment, and of which all is known
    /// only from then on: what ended before may be forgotten.
    pub forgotten: BTreeMap<HostKey, Timestamp>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What became of it.
    pub change: Change,
    /// As it was at the earlier moment, in the first answer.
    pub before: Option<Thing>,
    /// As it is at the later moment, in the second one.
    pub after: Option<Thing>,
    /// When it was first seen.
    pub first_seen: Timestamp,
    /// When it was last seen, up to the later moment.
    pub last_seen: Option<Timestamp>,
}

/// What became of an edge or a listener.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// It was not, and is.
    New,
    /// It was, and is not.
    Gone,
    /// It was answered, and is not any more.
    Fails,
    /// It was not answered, and is.
    Works,
    /// Another process listens.
    Process {
        /// Who did.
        was: BTreeSet<Name>,
        /// Who does.
        is: BTreeSet<Name>,
    },
}

/// What is compared; numbers mean something in their own answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    /// One of the edges that are the same.
    Edge(EdgeId),
    /// A service that waits.
    Listener(NodeId, Listen),
}

/// What two presences say.
enum Verdict {
    Same,
    New,
    Gone,
    Occasional,
    Undecided,
}

impl Moments {
    /// The time that stands for the earlier moment.
    pub fn before(&self) -> Around {
        let since = self.from.checked_sub(self.window).unwrap_or(Timestamp::MIN);
        Around { since, at: self.from }
    }

    /// The time that stands for the later one.
    pub fn after(&self) -> Around {
        let since = self.to.checked_sub(self.window).unwrap_or(Timestamp::MIN);
        Around { since: since.max(self.from), at: self.to }
    }

    /// Whether what was there at the earlier moment has been quiet at the later
    /// one for more than twice its longest pause before.
    fn is_over(&self, old: &Fact, new: Option<&Fact>) -> bool {
        let is_there = new.is_some_and(|new| new.presence.is_there);
        let last = new.unwrap_or(old).presence.last;
        let quiet = last.map(|last| self.to.duration_since(last));
        !is_there && quiet.is_some_and(|quiet| quiet > old.presence.pause * 2)
    }

    fn verdict(&self, before: Option<&Fact>, after: Option<&Fact>) -> Verdict {
        use crate::study::diff::presence::Kind::{Absent, Rare, Regular, Steady};
        let kind = |fact: Option<&Fact>| fact.map_or(Absent, |fact| fact.presence.kind);
        let first_seen = after.map_or(Timestamp::MIN, |fact| fact.first_seen);
        let first_ever = first_seen > self.from;
        match (kind(before), kind(after)) {
            (Absent, Absent) => Verdict::Same,
            // What never was before is news, however short.
            (Absent, Rare) if first_ever && after.is_some_and(Fact::is_news) => Verdict::New,
            (Absent, Rare) => Verdict::Occasional,
            (Absent, Regular | Steady) if first_ever => Verdict::New,
            // What was known long ago may be a job of the night.
            (Absent, Steady | Regular) => {
                let all = self.to.duration_since(self.after().since) >= self.window;
                if all { Verdict::New } else { Verdict::Occasional }
            }
            (Steady | Regular, _) if before.is_some_and(|old| self.is_over(old, after)) => {
                Verdict::Gone
            }
            (Steady | Regular, Absent) => Verdict::Undecided,
            (Rare, Absent) => Verdict::Occasional,
            (Rare | Regular | Steady, _) => Verdict::Same,
        }
    }
}

impl From<Around> for Window {
    /// With a little of what was before: a host that has not spoken since is
    /// still known by its addresses and flows, or what others tell of it would
    /// be told of somebody else.
    fn from(around: Around) -> Window {
        let since = around.since.checked_sub(REPORTS).unwrap_or(Timestamp::MIN);
        Window { since: Some(since), until: Some(around.at) }
    }
}

impl Difference {
    /// What differs between the graph before a moment and before another.
    pub fn of(moments: &Moments, before: &Answer, after: &Answer) -> Difference {
        let [of_before, of_after] = same([&before.graph, &after.graph]);
        let was = Side::of([before, after], of_before, moments.before(), moments.window);
        let is = Side::of([after, before], of_after, moments.after(), moments.window);
        let mut difference = Difference::default();
        let mut left: BTreeMap<Key, Left> = BTreeMap::new();
        let edges = was.edges.keys().chain(is.edges.keys()).collect::<BTreeSet<_>>();
        let edges = edges.into_iter().map(|key| (was.edges.get(key), is.edges.get(key)));
        let listeners = was.listeners.keys().chain(is.listeners.keys()).collect::<BTreeSet<_>>();
        let listeners =
            listeners.into_iter().map(|key| (was.listeners.get(key), is.listeners.get(key)));
        for (old, new) in edges.chain(listeners) {
            let there = |fact: &&Fact| !fact.presence.is_absent();
            let (old, new) = (old.filter(there), new.filter(there));
            match (old, new) {
                (Some(old), Some(new)) if !moments.is_over(old, Some(new)) => {
                    difference.compare(old, new);
                    // It may be in a pause, or go on as another.
                    if !new.presence.is_there {
                        left.entry(new.key.clone()).or_default().paused += 1;
                    }
                }
                // What ended after the first moment may go on as another.
                (Some(old), new) => {
                    left.entry(old.key.clone()).or_default().old.push((old, new));
                }
                (None, Some(new)) => left.entry(new.key.clone()).or_default().new.push(new),
                (None, None) => {}
            }
        }
        difference.forgotten = forgotten(moments, [before, after]);
        difference.judge_left(moments, (&was, &is), left);
        difference.sort(before, after);
        difference
    }

    /// What has no counterpart by its exact key may have one that outlives a
    /// restart.
    fn judge_left(
        &mut self,
        moments: &Moments,
        (was, is): (&Side, &Side),
        left: BTreeMap<Key, Left>,
    ) {
        let (was_loosely, is_loosely) = (was.loosely(false), is.loosely(true));
        let at_first = was.facts().filter(|fact| fact.presence.is_there);
        let at_first: BTreeSet<Key> = at_first.map(|fact| fact.key.clone()).collect();
        for (key, Left { mut old, mut new, paused }) in left {
            // What had ended by the first moment and went on as another.
            old.retain(|(fact, _)| fact.presence.is_there || !at_first.contains(&key));
            old.sort_by_key(|(fact, _)| std::cmp::Reverse(fact.rank()));
            new.sort_by_key(|fact| std::cmp::Reverse(fact.rank()));
            new.truncate(new.len().saturating_sub(paused).max(old.len()));
            for at in 0..old.len().max(new.len()) {
                let (pair, explained) = match (old.get(at), new.get(at)) {
                    (Some((old, _)), Some(new)) => ((Some(*old), Some(*new)), false),
                    (Some((old, own)), None) => ((Some(*old), *own), is_loosely.explains(&key)),
                    (None, new) => ((None, new.copied()), was_loosely.explains(&key)),
                };
                if !explained {
                    self.judge(moments, (was, is), pair);
                }
            }
        }
    }

    /// Whether anything differs, or cannot be told.
    pub fn is_told_by(&self, moments: &Moments) -> u8 {
        let known = self.unheard.is_empty() && self.forgotten.is_empty();
        match (moments.exit_code, self.entries.is_empty(), known) {
            (false, ..) | (true, true, true) => 0,
            (true, false, _) => 3,
            (true, true, false) => 4,
        }
    }

    fn judge(
        &mut self,
        moments: &Moments,
        (was, is): (&Side, &Side),
        (old, new): (Option<&Fact>, Option<&Fact>),
    ) {
        if !old.into_iter().chain(new).any(|fact| fact.is_meant) {
            return;
        }
        match (moments.verdict(old, new), old, new) {
            (Verdict::New, _, Some(fact)) => match was.unheard(fact) {
                None => self.add(Change::New, None, Some(fact)),
                Some(host) => *self.unheard.entry((false, host)).or_default() += 1,
            },
            (Verdict::Gone, Some(fact), _) => match is.unheard(fact) {
                None => self.add(Change::Gone, Some(fact), new),
                Some(host) => *self.unheard.entry((true, host)).or_default() += 1,
            },
            (Verdict::Occasional, ..) => self.occasional += 1,
            (Verdict::Undecided, Some(fact), _) => match is.unheard(fact) {
                None => self.undecided += 1,
                Some(host) => *self.unheard.entry((true, host)).or_default() += 1,
            },
            (_, Some(old), Some(new)) => self.compare(old, new),
            _ => {}
        }
    }

    /// What is at both moments.
    fn compare(&mut self, old: &Fact, new: &Fact) {
        if !old.is_meant && !new.is_meant {
            return;
        }
        match (old.answered, new.answered) {
            (Some(true), Some(false)) => self.add(Change::Fails, Some(old), Some(new)),
            (Some(false), Some(true)) => self.add(Change::Works, Some(old), Some(new)),
            _ => {}
        }
        let (was, is) = (&old.listening, &new.listening);
        if !was.is_empty() && !is.is_empty() && was.is_disjoint(is) {
            let change = Change::Process { was: was.clone(), is: is.clone() };
            self.add(change, Some(old), Some(new));
        }
    }

    fn add(&mut self, change: Change, old: Option<&Fact>, new: Option<&Fact>) {
        let both = || old.into_iter().chain(new);
        self.entries.push(Entry {
            change,
            before: old.map(|fact| fact.thing),
            after: new.map(|fact| fact.thing),
            first_seen: both().map(|fact| fact.first_seen).min().unwrap_or_default(),
            last_seen: both().filter_map(|fact| fact.presence.last).max(),
        });
    }

    /// By what became of it, then by host and port, in words.
    fn sort(&mut self, before: &Answer, after: &Answer) {
        self.entries.sort_by_cached_key(|entry| {
            let (answer, thing) = match (entry.after, entry.before) {
                (Some(thing), _) => (after, Some(thing)),
                (None, thing) => (before, thing),
            };
            let words = |node: NodeId| {
                let identity = &answer.graph.nodes[node].identity;
                let host = identity.place().and_then(|place| answer.graph.hosts.get(&place.host));
                let process = identity.process().map(|process| process.name.clone());
                (host.map(|host| host.name.clone()), process, node)
            };
            let key = thing.map(|thing| match thing {
                Thing::Edge(id) => {
                    let edge = &answer.graph.edges[id];
                    (false, words(edge.passive), edge.port, Some(words(edge.active)))
                }
                Thing::Listener(node, listen) => (true, words(node), listen.port, None),
            });
            (entry.change.clone(), key)
        });
    }
}

/// Of the hosts that are meant, those that `prune` may have taken something
/// from since the earlier moment.
fn forgotten(moments: &Moments, answers: [&Answer; 2]) -> BTreeMap<HostKey, Timestamp> {
    let hosts = answers.into_iter().flat_map(|answer| {
        let meant = hosts_of(answer, &answer.walk.roots).into_iter();
        meant.filter_map(|host| answer.graph.hosts.get(&host))
    });
    let tolerance = answers[0].question.tolerance;
    let young = hosts.filter_map(|host| Some((host, watched_since(host)?)));
    let young = young.filter(|(host, since)| {
        host.first_seen <= moments.from && since.duration_since(moments.from) > tolerance
    });
    young.map(|(host, since)| (host.key, since)).collect()
}

/// What is at one moment only by its exact key, or ended after the first one:
/// then with what was seen of it since.
#[derive(Default)]
struct Left<'f> {
    old: Vec<(&'f Fact, Option<&'f Fact>)>,
    new: Vec<&'f Fact>,
    /// How many that are at both are not there at the second moment.
    paused: usize,
}

/// What is matched loosely.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Edge(EdgeKey),
    Listener(Option<ListenerKey>),
}
