//! One of the two moments: what was there, and who was heard.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use jiff::{SignedDuration, Timestamp};

use crate::graph::search::Answer;
use crate::graph::{EdgeId, Graph, Listen, NodeId};
use crate::recall::{FlowRecord, HostKey, HostRecord, Span};
use crate::study::diff::identity::{EdgeKey, End, Grade, ListenerKey, Name, is_fleeting};
use crate::study::diff::presence::{Around, Kind, Presence};
use crate::study::diff::{Key, Thing};
use crate::study::listeners::is_meant;

/// What was there around a moment.
pub(crate) struct Side {
    pub(crate) edges: BTreeMap<EdgeKey, Fact>,
    pub(crate) listeners: BTreeMap<ListenerKey, Fact>,
    /// Hosts that said something about that moment.
    heard: BTreeSet<HostKey>,
    /// Hosts of which all was fetched that they told, and all that others told
    /// of their addresses.
    asked: BTreeSet<HostKey>,
}

/// What is known of an edge or a listener around a moment.
pub(crate) struct Fact {
    /// One that stands for all that are the same.
    pub(crate) thing: Thing,
    /// What of it outlives a restart.
    pub(crate) key: Key,
    pub(crate) presence: Presence,
    pub(crate) first_seen: Timestamp,
    /// It is about what was asked about, and not only fetched along with it.
    pub(crate) is_meant: bool,
    /// One of its ends is where everything is new with each start.
    fresh: bool,
    /// Hosts that told of it.
    tellers: BTreeSet<HostKey>,
    /// Hosts where it is.
    hosts: BTreeSet<HostKey>,
    /// Whether it was answered, where that is known.
    pub(crate) answered: Option<bool>,
    /// Of a listener: who listened at the moment.
    pub(crate) listening: BTreeSet<Name>,
}

/// What is there whatever its process: a flow that one end alone tells of has
/// no process at the other, and may be one that was seen with it before.
pub(crate) struct Loosely {
    all: BTreeSet<EdgeKey>,
    unseen: BTreeSet<EdgeKey>,
}

impl Fact {
    /// Whether it is worth telling if it was never there before, and is gone
    /// again: not a port that somebody opened for a moment, nor what runs in a
    /// container of its own each time, or comes from a new address of the
    /// internet, and so is never known from before.
    pub(crate) fn is_news(&self) -> bool {
        matches!(self.thing, Thing::Edge(_)) && !self.fresh
    }

    /// The most steadily there the greatest.
    pub(crate) fn rank(&self) -> u8 {
        match self.presence.kind {
            Kind::Absent => 0,
            Kind::Rare => 1,
            Kind::Regular => 2,
            Kind::Steady => 3,
        }
    }
}

impl Loosely {
    /// Whether what was at the other moment only is one of these, its process
    /// being seen at one moment only.
    pub(crate) fn explains(&self, key: &Key) -> bool {
        match key {
            Key::Edge(key) if key.is_unseen() => self.all.contains(key),
            Key::Edge(key) => self.unseen.contains(&key.of_any_process()),
            Key::Listener(_) => false,
        }
    }
}

/// The edges that are the same, by what they are known by.
pub(crate) type Same = BTreeMap<EdgeKey, Vec<EdgeId>>;

/// What is the same in each of two graphs. Where one process alone is known to
/// be the active end of something, it is so too where its host does not tell.
pub(crate) fn same(both: [&Graph; 2]) -> [Same; 2] {
    let mut same = both.map(|graph| {
        let mut same = Same::new();
        for (id, edge) in graph.edges.iter().enumerate() {
            same.entry(EdgeKey::of(graph, edge)).or_default().push(id);
        }
        same
    });
    let unseen: BTreeSet<EdgeKey> =
        same.iter().flat_map(Same::keys).filter(|key| key.is_unseen()).cloned().collect();
    let mut seen: BTreeMap<EdgeKey, BTreeSet<EdgeKey>> = BTreeMap::new();
    for key in same.iter().flat_map(Same::keys).filter(|key| !key.is_unseen()) {
        let anyones = key.of_any_process();
        if unseen.contains(&anyones) {
            seen.entry(anyones).or_default().insert(key.clone());
        }
    }
    for (unseen, mut seen) in seen {
        if let Some(only) = seen.pop_first().filter(|_| seen.is_empty()) {
            for same in &mut same {
                if let Some(ids) = same.remove(&unseen) {
                    same.entry(only.clone()).or_default().extend(ids);
                }
            }
        }
    }
    same
}

impl Side {
    /// What an answer says; of whom it knows nothing, the other may.
    pub(crate) fn of(
        [answer, other]: [&Answer; 2],
        same: Same,
        around: Around,
        window: SignedDuration,
    ) -> Side {
        let mut side = Side {
            edges: BTreeMap::new(),
            listeners: BTreeMap::new(),
            heard: heard([answer, other], around),
            asked: answer.asked.clone(),
        };
        let present = |spans: Vec<Span>, first_seen| {
            let tolerance = answer.question.tolerance;
            Presence::of(spans.into_iter(), first_seen, around, window, tolerance)
        };
        let walked: HashSet<EdgeId> = answer.walk.steps.iter().map(|step| step.edge).collect();
        let roots: HashSet<NodeId> = answer.walk.roots.iter().copied().collect();
        for (key, ids) in same {
            let spans = ids.iter().flat_map(|id| side.spans(answer, *id)).collect();
            let first_seen = ids.iter().map(|id| answer.graph.edges[*id].first_seen).min();
            let latest = ids.iter().max_by_key(|id| answer.graph.edges[**id].last_seen);
            let Some((first_seen, id)) = first_seen.zip(latest) else { continue };
            let tellers =
                ids.iter().flat_map(|id| tellers(answer, *id).map(|(record, _)| record.host));
            let fresh =
                key.active == End::Public || key.active.is_fleeting() || key.passive.is_fleeting();
            let fact = Fact {
                is_meant: ids.iter().any(|id| walked.contains(id)),
                fresh,
                thing: Thing::Edge(*id),
                key: Key::Edge(key.loosened()),
                presence: present(spans, first_seen),
                first_seen,
                tellers: tellers.collect(),
                hosts: [&key.active, &key.passive].into_iter().filter_map(End::host).collect(),
                answered: answered(answer, around.at, &ids),
                listening: BTreeSet::new(),
            };
            side.edges.insert(key, fact);
        }
        let mut listeners: BTreeMap<ListenerKey, Vec<(NodeId, Listen, &FlowRecord)>> =
            BTreeMap::new();
        for told in &answer.graph.listeners {
            let key = ListenerKey::of(&answer.graph, told.node, &told.listen, Grade::Exact);
            let record = answer.flows.get(told.record as usize);
            if let Some((key, record)) = key.zip(record) {
                listeners.entry(key).or_default().push((told.node, told.listen, record));
            }
        }
        for (key, told) in listeners {
            let spans = told.iter().flat_map(|(.., record)| record.spans.clone()).collect();
            let first_seen = told.iter().map(|(.., record)| record.first_seen).min();
            let latest =
                told.iter().max_by_key(|(.., record)| record.spans.last().map(|s| s.until));
            let Some((first_seen, (node, listen, _))) = first_seen.zip(latest) else {
                continue;
            };
            let now = told.iter().filter(|(.., record)| is_at(record, around.at, answer));
            let names = now.filter_map(|(.., record)| record.flow.key.process.as_deref());
            let fact = Fact {
                is_meant: told.iter().any(|(node, listen, _)| {
                    roots.contains(node) && is_meant(&answer.selector, listen)
                }),
                fresh: is_fleeting(&key.place.1),
                thing: Thing::Listener(*node, *listen),
                key: Key::Listener(ListenerKey::of(&answer.graph, *node, listen, Grade::Loose)),
                presence: present(spans, first_seen),
                first_seen,
                tellers: BTreeSet::from([key.place.0]),
                hosts: BTreeSet::from([key.place.0]),
                answered: None,
                listening: names.map(|process| Name::of(process, Grade::Loose)).collect(),
            };
            side.listeners.insert(key, fact);
        }
        side
    }

    /// A host that could tell of what is not there, if none of those that
    /// could was heard. What a host told that was not asked is known where the
    /// other end was, and said whose its addresses are.
    pub(crate) fn unheard(&self, fact: &Fact) -> Option<HostKey> {
        let known = |host: &HostKey| self.heard.contains(host) && self.asked.contains(host);
        let all = fact.hosts.iter().any(known);
        let heard = fact.tellers.iter().any(|host| known(host) || all && self.heard.contains(host));
        fact.tellers.first().copied().filter(|_| !heard)
    }

    /// All that is known.
    pub(crate) fn facts(&self) -> impl Iterator<Item = &Fact> {
        self.edges.values().chain(self.listeners.values())
    }

    /// What is there, loosely: at any time, or so that it still goes on.
    pub(crate) fn loosely(&self, going_on: bool) -> Loosely {
        let mut loosely = Loosely { all: BTreeSet::new(), unseen: BTreeSet::new() };
        let there = |fact: &&Fact| {
            let presence = &fact.presence;
            let goes_on = presence.is_there || presence.kind == Kind::Regular;
            !presence.is_absent() && (goes_on || !going_on)
        };
        for fact in self.edges.values().filter(there) {
            let Key::Edge(key) = &fact.key else { continue };
            loosely.all.insert(key.of_any_process());
            if key.is_unseen() {
                loosely.unseen.insert(key.clone());
            }
        }
        loosely
    }

    /// When an edge was there: by the word of its active end where that was
    /// heard, since a passive flow may stand for several processes.
    fn spans(&self, answer: &Answer, id: EdgeId) -> Vec<Span> {
        let edge = &answer.graph.edges[id];
        let told: Vec<(&FlowRecord, bool)> = tellers(answer, id).collect();
        let by_active =
            told.iter().any(|(record, by_active)| *by_active && self.heard.contains(&record.host));
        let spans = told
            .iter()
            .filter(|(_, active)| *active || !by_active)
            .flat_map(|(record, _)| record.spans.iter().copied());
        spans.filter(|span| span.since <= edge.last_seen && span.until >= edge.first_seen).collect()
    }
}

fn tellers(answer: &Answer, id: EdgeId) -> impl Iterator<Item = (&FlowRecord, bool)> {
    answer.graph.tellers[id]
        .iter()
        .filter_map(|teller| Some((answer.flows.get(teller.record as usize)?, teller.by_active)))
}

/// The hosts that said something about a moment: a probe watched then, or last
/// spoke then, or a flow was alive then. Who last spoke before the time that
/// stands for it said nothing about it: what goes on there is not told yet.
fn heard(answers: [&Answer; 2], Around { since, at }: Around) -> BTreeSet<HostKey> {
    let answer = answers[0];
    let flows = answer.flows.iter().filter(|record| is_at(record, at, answer));
    let spoke: BTreeSet<HostKey> = flows.map(|record| record.host).collect();
    let tolerance = answer.question.tolerance;
    let said = |host: &HostRecord| {
        let watched = host.watched.iter().any(|(since, until)| (*since..=*until).contains(&at));
        let last = host.last_seen.duration_since(at).abs() <= tolerance && host.first_seen <= at;
        watched || last || spoke.contains(&host.key)
    };
    let hosts = answers.into_iter().flat_map(|answer| answer.graph.hosts.values());
    hosts.filter(|host| host.last_seen >= since && said(host)).map(|host| host.key).collect()
}

/// Whether a flow was there at a moment.
fn is_at(record: &FlowRecord, at: Timestamp, answer: &Answer) -> bool {
    let tolerance = answer.question.tolerance;
    record.spans.iter().any(|span| {
        let quiet = at.duration_since(span.until);
        span.since <= at && (!quiet.is_positive() || !span.ended && quiet <= tolerance)
    })
}

/// Whether one of the edges was answered around a moment. Numbers are of the
/// newest report, so without hourly ones only a moment that is now tells.
fn answered(answer: &Answer, at: Timestamp, ids: &[EdgeId]) -> Option<bool> {
    let is_now = answer.now.duration_since(at) <= answer.question.tolerance;
    let one = |id: &EdgeId| {
        let edge = &answer.graph.edges[*id];
        let arrived =
            tellers(answer, *id).any(|(record, by_active)| !by_active && is_at(record, at, answer));
        let rise = edge.rise.filter(|rise| rise.by_active);
        let opened = rise.and_then(|rise| rise.opened);
        let failed = rise.and_then(|rise| rise.failed).unwrap_or(0);
        if arrived || opened.is_some_and(|opened| opened > 0) {
            Some(true)
        } else if is_now && edge.failing || opened == Some(0) && failed > 0 {
            Some(false)
        } else {
            None
        }
    };
    ids.iter().filter_map(one).reduce(|a, b| a || b)
}
