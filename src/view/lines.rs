//! What the outputs have in common: the steps of a walk as ends that are
//! written, in an order that a reader can search.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;

use crate::graph::search::Answer;
use crate::graph::walk::{Step, Way};
use crate::graph::{Edge, Identity, NodeId, Traffic};
use crate::view::label::age;

/// An end as it is written: address and, where it is a service's, port.
pub(crate) type End = (IpAddr, Option<u16>);

/// What an edge is like now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Seen within the tolerance.
    Alive,
    /// Nobody answers.
    Failing,
    /// Seen to end.
    Ended,
    /// Not seen to end, but its hosts have been silent for long.
    Silent,
}

impl State {
    pub(crate) fn of(edge: &Edge, answer: &Answer) -> State {
        if edge.ended {
            State::Ended
        } else if is_silent(answer, edge.last_seen) {
            State::Silent
        } else if edge.failing {
            State::Failing
        } else {
            State::Alive
        }
    }

    /// For people, who are to notice.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            State::Failing => "FAILING",
            other => other.word(),
        }
    }

    /// In documents.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            State::Alive => "alive",
            State::Failing => "failing",
            State::Ended => "ended",
            State::Silent => "silent",
        }
    }

    /// When it was last seen, in words.
    pub(crate) fn when(self, edge: &Edge, now: Timestamp) -> String {
        let age = age(now, edge.last_seen);
        match self {
            State::Alive | State::Failing => format!("{age} ago"),
            State::Ended => format!("ended {age} ago"),
            State::Silent => format!("last heard {age} ago"),
        }
    }
}

/// Whether nothing was heard for longer than a reporting host is ever quiet.
pub(crate) fn is_silent(answer: &Answer, last: Timestamp) -> bool {
    answer.now.duration_since(last) > answer.question.tolerance
}

/// The two ends of an edge.
pub(crate) fn ends(edge: &Edge) -> (End, End) {
    ((edge.active_address, edge.active_port), (edge.passive_address, Some(edge.port)))
}

/// The end a step comes from, and the one it leads to.
pub(crate) fn from_and_to(edge: &Edge, step: &Step) -> (End, End) {
    let (active, passive) = ends(edge);
    let from_active = if edge.active == edge.passive || edge.directed {
        step.way == Way::Down
    } else {
        step.from == edge.active
    };
    if from_active { (active, passive) } else { (passive, active) }
}

/// Sorts ends as they are read: by address, by port with "many" last, then by
/// who it is.
pub(crate) fn order<'a>(answer: &'a Answer, end: End, node: NodeId) -> impl Ord + use<'a> {
    let identity = &answer.graph.nodes[node].identity;
    let pgid = match identity {
        Identity::Process { pgid, .. } => *pgid,
        Identity::Unseen { .. } | Identity::Peer { .. } => None,
    };
    let process = identity.process().map(|process| process.name.as_str());
    (end.0, end.1.map_or(u32::from(u16::MAX) + 1, u32::from), process, pgid, node)
}

/// The edges of an answer, sorted by their active end and then the other.
pub(crate) fn edges(answer: &Answer) -> Vec<&Edge> {
    let steps = answer.walk.steps.iter();
    let mut edges: Vec<&Edge> = steps.map(|step| &answer.graph.edges[step.edge]).collect();
    edges.sort_by_cached_key(|edge| {
        let (active, passive) = ends(edge);
        let passive = order(answer, passive, edge.passive);
        (order(answer, active, edge.active), passive, edge.protocol)
    });
    edges
}

/// The nodes of an answer: the roots, and the ends of its edges.
pub(crate) fn nodes(answer: &Answer) -> BTreeSet<NodeId> {
    let ends = answer.walk.steps.iter().flat_map(|step| [step.from, step.to]);
    answer.walk.roots.iter().copied().chain(ends).collect()
}

/// Why attempts fail, where somebody counted the reasons; the commonest first.
pub(crate) fn reason(traffic: &Traffic) -> String {
    let mut reasons: Vec<(u64, &str)> = [
        (traffic.refused, "refused"),
        (traffic.timed_out, "timed out"),
        (traffic.unreachable, "unreachable"),
    ]
    .into_iter()
    .filter_map(|(count, word)| Some((count.filter(|&count| count > 0)?, word)))
    .collect();
    reasons.sort_by_key(|&(count, _)| std::cmp::Reverse(count));
    match reasons[..] {
        [] => "no answer".to_owned(),
        _ => reasons
            .iter()
            .map(|(count, word)| format!("{word} {count}×"))
            .collect::<Vec<_>>()
            .join(", "),
    }
}
