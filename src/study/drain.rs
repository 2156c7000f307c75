//! Whether somebody still connects to something, or nobody has for a while.

use std::collections::BTreeSet;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};

use crate::graph::search::Answer;
use crate::graph::{EdgeId, NodeId};
use crate::recall::Selector;
use crate::study::doubt::{Doubt, Watch, doubts, hosts_of};
use crate::study::impact::leads_to_root;
use crate::study::reading;

/// What is asked of a drain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quiet {
    /// For how long nobody may have connected.
    pub time: SignedDuration,
    /// Who does not count: what each word may mean, likeliest first.
    pub except: Vec<Vec<Selector>>,
}

/// Who connects, and since when nobody does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// What it comes to.
    pub state: State,
    /// For how long nobody may have connected.
    pub time: SignedDuration,
    /// Who has a connection open, and then who had one within the time.
    pub callers: Vec<Caller>,
    /// Who does as well, and was said not to count.
    pub excepted: Vec<Caller>,
    /// Until when its hosts told, the earliest: nobody knows more.
    pub told_until: Option<Timestamp>,
    /// Since when nobody connected and its hosts were watched without a gap.
    pub quiet_since: Option<Timestamp>,
    /// For which `drained` cannot be said.
    pub blind: BTreeSet<Doubt>,
    /// What may have been missed all the same.
    pub notes: BTreeSet<Doubt>,
}

/// Whether it is drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Nobody connected for the whole time, and somebody watched.
    Drained,
    /// Nobody connects, but not for long enough.
    Quiet,
    /// Somebody connects.
    InUse,
    /// Nobody can tell.
    Unknown,
}

/// One way in which somebody connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who.
    pub node: NodeId,
    /// By which edge.
    pub edge: EdgeId,
    /// Whether it has connections open, as of the last word.
    pub open: bool,
}

impl State {
    /// The words for it in output.
    pub const fn name(self) -> &'static str {
        match self {
            State::Drained => "drained",
            State::Quiet => "quiet, not for long enough",
            State::InUse => "in use",
            State::Unknown => "not known",
        }
    }

    /// The exit code of a command that says it.
    pub const fn exit_code(self) -> u8 {
        match self {
            State::Drained => 0,
            State::Quiet | State::InUse => 3,
            State::Unknown => 4,
        }
    }
}

impl Drain {
    /// From an answer that walked up one step. Who is meant itself does not
    /// count: a host's own processes on a host.
    pub fn of(answer: &Answer, Quiet { time, except }: &Quiet) -> Drain {
        let time = *time;
        let told_until = told_until(answer);
        // What is not known yet is not quiet: the time ends at the last word.
        let end = told_until.unwrap_or(answer.now);
        let since = end.checked_sub(time).unwrap_or(Timestamp::MIN);
        let except = Except::of(answer, except);
        let calls = calls(answer).into_iter().map(|edge| caller(answer, edge));
        let (excepted, counted): (Vec<Caller>, Vec<Caller>) =
            calls.partition(|caller| except.means(answer, caller));
        let last_seen = |caller: &Caller| answer.graph.edges[caller.edge].last_seen;
        let last = counted.iter().map(last_seen).max();
        let recent = |callers: Vec<Caller>| -> Vec<Caller> {
            callers.into_iter().filter(|caller| last_seen(caller) >= since).collect()
        };
        let (excepted, mut callers) = (recent(excepted), recent(counted));
        callers.sort_by_cached_key(|one| (!one.open, reading(answer, one.node), one.edge));
        let edges: Vec<EdgeId> = callers.iter().map(|caller| caller.edge).collect();
        let all = doubts(answer, Watch { since: end, polled: false }, &edges);
        let (blind, notes): (BTreeSet<Doubt>, BTreeSet<Doubt>) = all
            .into_iter()
            .filter(|doubt| !is_of_history(doubt))
            .partition(|doubt| is_blind(answer, doubt));
        let quiet_since = watched_from(answer).map(|from| last.map_or(from, |last| last.max(from)));
        // Who connected before a host fell silent may be gone since; what the
        // callers' own hosts tell is as good as ever.
        let silent = blind.iter().any(|doubt| matches!(doubt, Doubt::Silent { .. }));
        let recently = answer.now.checked_sub(time).unwrap_or(Timestamp::MIN);
        let known = if silent { last.is_some_and(|last| last >= recently) } else { true };
        let state = if !callers.is_empty() && known {
            State::InUse
        } else if !blind.is_empty() {
            State::Unknown
        } else if quiet_since.is_some_and(|quiet| quiet <= since) {
            State::Drained
        } else {
            State::Quiet
        };
        Drain { state, time, callers, excepted, told_until, quiet_since, blind, notes }
    }
}

/// Who does not count, in a graph.
struct Except {
    networks: Vec<IpNet>,
    nodes: BTreeSet<NodeId>,
}

impl Except {
    fn of(answer: &Answer, words: &[Vec<Selector>]) -> Except {
        let mut except = Except { networks: Vec::new(), nodes: BTreeSet::new() };
        for meanings in words {
            // An address means who calls from it, and not all that uses it.
            match meanings[..] {
                [Selector::Address(address)] => except.networks.push(address.into()),
                [Selector::Network(network)] => except.networks.push(network),
                _ => {
                    let mut meant = meanings.iter().map(|meaning| answer.graph.roots(meaning));
                    except.nodes.extend(meant.find(|nodes| !nodes.is_empty()).unwrap_or_default());
                }
            }
        }
        except
    }

    fn means(&self, answer: &Answer, caller: &Caller) -> bool {
        let edge = &answer.graph.edges[caller.edge];
        let from =
            if caller.node == edge.active { edge.active_address } else { edge.passive_address };
        self.nodes.contains(&caller.node)
            || self.networks.iter().any(|network| network.contains(&from))
    }
}

/// The edges that lead to the nodes asked about from others.
fn calls(answer: &Answer) -> Vec<EdgeId> {
    let roots: BTreeSet<NodeId> = answer.walk.roots.iter().copied().collect();
    let steps = answer.walk.steps.iter();
    let calls = steps.filter(|step| roots.contains(&step.from) && !roots.contains(&step.to));
    calls.map(|step| step.edge).filter(|edge| leads_to_root(answer, *edge)).collect()
}

fn caller(answer: &Answer, id: EdgeId) -> Caller {
    let edge = &answer.graph.edges[id];
    let roots = &answer.walk.roots;
    let node = if roots.contains(&edge.passive) { edge.active } else { edge.passive };
    Caller { node, edge: id, open: !edge.ended && edge.traffic.open > 0 }
}

/// The last word of that host of the nodes asked about which spoke first.
fn told_until(answer: &Answer) -> Option<Timestamp> {
    let hosts = hosts_of(answer, &answer.walk.roots);
    let records = hosts.iter().filter_map(|host| answer.graph.hosts.get(host));
    records.map(|host| host.last_seen).min()
}

/// Since when all their hosts are watched without a gap, as of their last
/// words; none where one is not.
fn watched_from(answer: &Answer) -> Option<Timestamp> {
    let tolerance = answer.question.tolerance;
    let mut from = None;
    for host in hosts_of(answer, &answer.walk.roots) {
        let record = answer.graph.hosts.get(&host)?;
        let mut until = record.last_seen;
        let mut since = None;
        for range in record.watched.iter().rev() {
            if until.duration_since(range.1) > tolerance {
                break;
            }
            until = range.0;
            since = Some(range.0);
        }
        from = from.max(Some(since?));
    }
    from
}

/// What is said of the past, which [`watched_from`] says better.
fn is_of_history(doubt: &Doubt) -> bool {
    matches!(doubt, Doubt::Young { .. } | Doubt::Gap { .. })
}

/// Whether a doubt means that nobody looks, and not just that somebody may
/// have missed something.
fn is_blind(answer: &Answer, doubt: &Doubt) -> bool {
    match doubt {
        Doubt::Unseen { host, .. } => {
            answer.graph.hosts.get(host).is_some_and(|host| host.coverage.is_partial())
        }
        Doubt::Unknown
        | Doubt::NoProbe(_)
        | Doubt::Silent { .. }
        | Doubt::Rivals(_)
        | Doubt::Skewed(_)
        | Doubt::Ambiguous(_)
        | Doubt::Undirected(_)
        | Doubt::Cut => true,
        Doubt::Young { .. }
        | Doubt::Gap { .. }
        | Doubt::Polled(_)
        | Doubt::WasPolled { .. }
        | Doubt::WasUnseen { .. }
        | Doubt::Datagrams { .. } => false,
    }
}
