//! What is called and does not answer: which address, since when, and who
//! depends on it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;

use crate::flow::socket::Protocol;
use crate::graph::search::Answer;
use crate::graph::{Edge, EdgeId, NodeId, ToldBy, Traffic};
use crate::recall::FlowRecord;
use crate::study::listeners::Waiting;

/// An address and port that does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dead {
    /// Who is meant by the address.
    pub passive: NodeId,
    /// Transport protocol.
    pub protocol: Protocol,
    /// The address that is called.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// What is known to be there.
    pub there: There,
    /// Whether it ever answered anybody.
    pub answered: Answered,
    /// When the end that gave answers last told of one.
    pub answered_until: Option<Timestamp>,
    /// When it was first called by one of them.
    pub first_seen: Timestamp,
    /// When it was last called.
    pub last_seen: Timestamp,
    /// Attempts, where somebody counted them.
    pub attempts: Attempts,
    /// The edges of who calls it in vain.
    pub edges: Vec<EdgeId>,
}

/// Whether somebody was ever answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answered {
    /// Nobody, since their hosts' probes began to count.
    Never,
    /// Somebody, before.
    Before,
    /// Not every host counts.
    Unknown,
}

/// What is known to be where nobody answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum There {
    /// No probe.
    NoProbe,
    /// A probe, and nothing that listens.
    Nothing,
    /// Something that listens: what is between the two is to be asked.
    Listener,
}

/// Attempts of all who call, each where somebody counted it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// That failed, in the window asked about.
    pub failed: Option<u64>,
    /// That wait for an answer now.
    pub waiting: u64,
    /// Of all that failed since its host's probe began: refused.
    pub refused: Option<u64>,
    /// Nobody answered in time.
    pub timed_out: Option<u64>,
    /// Told that there is no way.
    pub unreachable: Option<u64>,
}

impl Answered {
    /// The word for it in output.
    pub const fn name(self) -> &'static str {
        match self {
            Answered::Never => "never",
            Answered::Before => "before",
            Answered::Unknown => "unknown",
        }
    }

    /// Of some edges.
    pub(crate) fn of<'e>(mut edges: impl Iterator<Item = &'e Edge> + Clone) -> Answered {
        let mut opened = edges.clone().map(|edge| edge.traffic.opened);
        if edges.any(|edge| edge.told_by != ToldBy::Active || edge.traffic.opened > Some(0)) {
            Answered::Before
        } else if opened.all(|opened| opened == Some(0)) {
            Answered::Never
        } else {
            Answered::Unknown
        }
    }
}

impl There {
    /// The word for it in output.
    pub const fn name(self) -> &'static str {
        match self {
            There::NoProbe => "no_probe",
            There::Nothing => "nothing_listens",
            There::Listener => "listens",
        }
    }
}

/// What does not answer, the one that most depend on first.
pub fn failing(answer: &Answer) -> Vec<Dead> {
    let meant: BTreeSet<EdgeId> = answer.walk.steps.iter().map(|step| step.edge).collect();
    let mut dead: BTreeMap<(NodeId, Protocol, IpAddr, u16), Vec<EdgeId>> = BTreeMap::new();
    for id in meant {
        let edge = &answer.graph.edges[id];
        if only_fails(edge) {
            let key = (edge.passive, edge.protocol, edge.passive_address, edge.port);
            dead.entry(key).or_default().push(id);
        }
    }
    // What waits now.
    let waits = |record: &FlowRecord| record.spans.last().is_some_and(|span| !span.ended);
    let waiting = Waiting::of(answer, waits);
    let called = called(answer);
    let dead = dead.into_iter().filter_map(|((passive, protocol, address, port), edges)| {
        let all = || edges.iter().map(|id| &answer.graph.edges[*id]);
        let called = called.get(&(protocol, address, port)).into_iter().flatten();
        let same = |id: &&EdgeId| is_same(answer, answer.graph.edges[**id].passive, passive);
        let called: Vec<EdgeId> = called.filter(same).copied().collect();
        let answered = Answered::of(called.iter().map(|id| &answer.graph.edges[*id]));
        let until = answered_until(answer, &called);
        Some(Dead {
            passive,
            protocol,
            address,
            port,
            there: there(answer, &waiting, passive, (protocol, address, port)),
            answered,
            answered_until: until.filter(|_| answered == Answered::Before),
            first_seen: all().map(|edge| edge.first_seen).min()?,
            last_seen: all().map(|edge| edge.last_seen).max()?,
            attempts: attempts(all()),
            edges,
        })
    });
    let mut dead: Vec<Dead> = dead.collect();
    dead.sort_by_key(|dead| (Reverse(dead.edges.len()), dead.address, dead.port, dead.passive));
    dead
}

/// The edges to each port of each address, whoever has it.
fn called(answer: &Answer) -> BTreeMap<(Protocol, IpAddr, u16), Vec<EdgeId>> {
    let mut called: BTreeMap<_, Vec<EdgeId>> = BTreeMap::new();
    for (id, edge) in answer.graph.edges.iter().enumerate().filter(|(_, edge)| edge.directed) {
        called.entry((edge.protocol, edge.passive_address, edge.port)).or_default().push(id);
    }
    called
}

/// Whether two nodes that an address leads to are at one place, whichever of
/// its processes answers; or are one address that nobody is known to have.
fn is_same(answer: &Answer, one: NodeId, other: NodeId) -> bool {
    let place = |node: NodeId| answer.graph.nodes[node].identity.place();
    one == other || place(one).is_some() && place(one) == place(other)
}

/// The last that the end which is called told of one of these.
fn answered_until(answer: &Answer, edges: &[EdgeId]) -> Option<Timestamp> {
    let tellers = edges.iter().flat_map(|id| &answer.graph.tellers[*id]);
    let passive = tellers.filter(|teller| !teller.by_active);
    let records = passive.filter_map(|teller| answer.flows.get(teller.record as usize));
    records.filter_map(|record| record.spans.last()).map(|span| span.until).max()
}

/// Whether no attempt was answered: as of the last word about it, or in the
/// window where attempts are counted.
fn only_fails(edge: &Edge) -> bool {
    let counted = edge
        .rise
        .filter(|rise| rise.by_active)
        .is_some_and(|rise| rise.opened == Some(0) && rise.failed.is_some_and(|failed| failed > 0));
    edge.directed && (edge.failing || counted)
}

fn there(
    answer: &Answer,
    waiting: &Waiting<'_>,
    passive: NodeId,
    (protocol, address, port): (Protocol, IpAddr, u16),
) -> There {
    let Some(place) = answer.graph.nodes[passive].identity.place() else { return There::NoProbe };
    let accepts = waiting.accepts(place, protocol, (address, port));
    if accepts { There::Listener } else { There::Nothing }
}

fn attempts<'e>(edges: impl Iterator<Item = &'e Edge>) -> Attempts {
    let mut attempts = Attempts::default();
    for edge in edges {
        let Traffic { connecting, failed, refused, timed_out, unreachable, .. } = edge.traffic;
        let risen = edge.rise.filter(|rise| rise.by_active).and_then(|rise| rise.failed);
        attempts.waiting += connecting;
        for (sum, more) in [
            (&mut attempts.failed, risen.or(failed)),
            (&mut attempts.refused, refused),
            (&mut attempts.timed_out, timed_out),
            (&mut attempts.unreachable, unreachable),
        ] {
            if let Some(more) = more {
                *sum = Some(sum.unwrap_or(0).saturating_add(more));
            }
        }
    }
    attempts
}
