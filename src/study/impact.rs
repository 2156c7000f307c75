//! What depends on something, over how many steps, how often; and whether it
//! can be taken away.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

use crate::graph::search::Answer;
use crate::graph::{EdgeId, NodeId};
use crate::study::doubt::{Doubt, Watch, doubts, hosts_of, watched_since};
use crate::study::period::{Pattern, pattern};
use crate::study::reading;

/// What is asked of an impact beside who is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decommission {
    /// How long it has to have been watched, and unused.
    pub watched: SignedDuration,
    /// Polling is enough.
    pub polled: bool,
}

/// What depends on the nodes asked about.
#[derive(Debug)]
pub struct Impact {
    /// The nearest first.
    pub dependents: Vec<Dependent>,
    /// How many there are at each number of steps, from 1.
    pub by_depth: Vec<usize>,
    /// Since when its hosts were watched, the shortest.
    pub since: Option<Timestamp>,
    /// Whether it can be taken away, if that was asked.
    pub judgement: Option<Judgement>,
}

/// Something that depends on the nodes asked about.
#[derive(Debug)]
pub struct Dependent {
    /// Who.
    pub node: NodeId,
    /// By how many edges, at least.
    pub depth: usize,
    /// The shortest way down to a node asked about, from itself on; not empty.
    pub path: Vec<Hop>,
    /// Further edges by which it is as near.
    pub others: Vec<EdgeId>,
    /// When it comes, by the first edge of its path.
    pub pattern: Option<Pattern>,
}

/// An edge of a path, and where it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The edge.
    pub edge: EdgeId,
    /// The node it leads to: the passive one, where that is known.
    pub to: NodeId,
}

/// Whether something can be taken away, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// In a word.
    pub verdict: Verdict,
    /// Everything had to be seen since then.
    pub since: Timestamp,
    /// Who used it since, or is due to: places in [`Impact::dependents`].
    pub users: Vec<usize>,
    /// Who used it before, and is not known to come again.
    pub former: Vec<usize>,
    /// What was not, or may not have been, seen.
    pub doubts: BTreeSet<Doubt>,
}

/// Whether something can be taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nobody used it, and all that watched would have seen it.
    Safe,
    /// Nobody was seen to use it, which says little.
    NotEnough,
    /// Somebody uses it.
    Unsafe,
}

impl Verdict {
    /// The word for it in output.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Safe => "safe",
            Verdict::NotEnough => "not enough evidence",
            Verdict::Unsafe => "unsafe",
        }
    }

    /// The exit code of a command that says it.
    pub const fn exit_code(self) -> u8 {
        match self {
            Verdict::Safe => 0,
            Verdict::Unsafe => 3,
            Verdict::NotEnough => 4,
        }
    }
}

impl Impact {
    /// From an answer that walked up.
    pub fn of(answer: &Answer, decommission: Option<Decommission>) -> Impact {
        let dependents = dependents(answer);
        let mut by_depth = Vec::new();
        for dependent in &dependents {
            by_depth.resize(dependent.depth, 0);
            by_depth[dependent.depth - 1] += 1;
        }
        let hosts = hosts_of(answer, &answer.walk.roots);
        let records = hosts.iter().filter_map(|host| answer.graph.hosts.get(host));
        let since = records.filter_map(watched_since).max();
        let judgement = decommission.map(|asked| judge(answer, &dependents, asked));
        Impact { dependents, by_depth, since, judgement }
    }
}

/// The edges that lead to the nodes asked about. A port means what is called
/// at that port, whatever else its process does.
pub fn leads_to_root(answer: &Answer, edge: EdgeId) -> bool {
    let edge = &answer.graph.edges[edge];
    let port = answer.selector.port();
    port.is_none_or(|port| edge.port == port || edge.active_port == Some(port))
}

/// Breadth first over the edges of the walk, so that each is reached by its
/// shortest way. The walk itself may have come to a node by a port that is not
/// meant.
fn dependents(answer: &Answer) -> Vec<Dependent> {
    let mut callers: HashMap<NodeId, Vec<(EdgeId, NodeId)>> = HashMap::new();
    for step in &answer.walk.steps {
        callers.entry(step.from).or_default().push((step.edge, step.to));
        if !answer.graph.edges[step.edge].directed {
            callers.entry(step.to).or_default().push((step.edge, step.from));
        }
    }
    let roots: BTreeSet<NodeId> = answer.walk.roots.iter().copied().collect();
    let mut depths: HashMap<NodeId, usize> = roots.iter().map(|root| (*root, 0)).collect();
    let mut ways: BTreeMap<(usize, NodeId), Vec<Hop>> = BTreeMap::new();
    let mut queue: VecDeque<NodeId> = roots.iter().copied().collect();
    while let Some(to) = queue.pop_front() {
        let depth = depths[&to] + 1;
        for (edge, caller) in callers.get(&to).into_iter().flatten() {
            if depth == 1 && !leads_to_root(answer, *edge) {
                continue;
            }
            let known = *depths.entry(*caller).or_insert_with(|| {
                queue.push_back(*caller);
                depth
            });
            if known == depth {
                ways.entry((depth, *caller)).or_default().push(Hop { edge: *edge, to });
            }
        }
    }
    // Of several ways the one that was used last stands for all.
    for hops in ways.values_mut() {
        hops.sort_by_key(|hop| {
            let edge = &answer.graph.edges[hop.edge];
            (std::cmp::Reverse(edge.last_seen), hop.edge)
        });
    }
    let path = |depth: usize, node: NodeId| {
        let (mut at, mut path) = (node, Vec::with_capacity(depth));
        for depth in (1..=depth).rev() {
            let hop = ways[&(depth, at)][0];
            path.push(hop);
            at = hop.to;
        }
        path
    };
    let dependents = ways.iter().map(|(&(depth, node), hops)| Dependent {
        node,
        depth,
        path: path(depth, node),
        others: hops[1..].iter().map(|hop| hop.edge).collect(),
        pattern: pattern_of(answer, hops[0].edge),
    });
    let mut dependents: Vec<Dependent> = dependents.collect();
    dependents.sort_by_cached_key(|one| (one.depth, reading(answer, one.node)));
    dependents
}

/// When an edge comes: by the spans of its active end where that told, else of
/// the passive one.
pub fn pattern_of(answer: &Answer, edge: EdgeId) -> Option<Pattern> {
    let tellers = &answer.graph.tellers[edge];
    let by_active = tellers.iter().any(|teller| teller.by_active);
    let told = tellers.iter().filter(|teller| teller.by_active == by_active);
    let records: Vec<_> =
        told.filter_map(|teller| answer.flows.get(teller.record as usize)).collect();
    let host = answer.graph.hosts.get(&records.first()?.host)?;
    let alive = !answer.is_silent(host.last_seen);
    let spans = records.iter().flat_map(|record| record.spans.iter().copied());
    pattern(spans, &host.watched, alive, answer.now)
}

fn judge(answer: &Answer, dependents: &[Dependent], asked: Decommission) -> Judgement {
    let since = answer.now.checked_sub(asked.watched).unwrap_or(Timestamp::MIN);
    let (mut users, mut former) = (Vec::new(), Vec::new());
    let mut touching: Vec<EdgeId> = Vec::new();
    let direct = dependents.iter().enumerate().filter(|(_, dependent)| dependent.depth == 1);
    for (at, dependent) in direct {
        let edges = dependent.path.iter().map(|hop| hop.edge).chain(dependent.others.clone());
        let used: Vec<EdgeId> = edges.filter(|edge| is_used(answer, *edge, since)).collect();
        let known = used.iter().any(|edge| answer.graph.edges[*edge].directed);
        touching.extend(used.iter().copied());
        match (known, used.is_empty()) {
            (true, _) => users.push(at),
            (false, true) => former.push(at),
            // Whether it called is a doubt of its own.
            (false, false) => {}
        }
    }
    let doubts = doubts(answer, Watch { since, polled: asked.polled }, &touching);
    let verdict = match (users.is_empty(), doubts.is_empty()) {
        (false, _) => Verdict::Unsafe,
        (true, false) => Verdict::NotEnough,
        (true, true) => Verdict::Safe,
    };
    Judgement { verdict, since, users, former, doubts }
}

/// Whether an edge was used since then, or comes at intervals and is due: a
/// job that missed one turn may come at the next.
fn is_used(answer: &Answer, edge: EdgeId, since: Timestamp) -> bool {
    let last = answer.graph.edges[edge].last_seen;
    if last >= since {
        return true;
    }
    match pattern_of(answer, edge) {
        Some(Pattern::Periodic(found)) => {
            let turns = found.every.saturating_mul(2);
            answer.now.duration_since(found.last) <= turns
        }
        _ => false,
    }
}
