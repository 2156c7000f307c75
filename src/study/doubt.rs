//! What an answer cannot know: the reasons for which "nobody was seen" is not
//! "nobody was there".

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::flow::host::{Coverage, Rung};
use crate::flow::socket::Protocol;
use crate::graph::search::Answer;
use crate::graph::{Confidence, EdgeId, Identity, Listen, NodeId};
use crate::recall::{HostKey, HostRecord, Selector};

/// Why something may have been there and not been seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// The CMDB knows nothing of what was asked about.
    Unknown,
    /// Nobody looks where it is.
    NoProbe(NodeId),
    /// Its host was watched only since then.
    Young {
        /// Which.
        host: HostKey,
        /// Since when.
        since: Timestamp,
    },
    /// Its host has not spoken since then.
    Silent {
        /// Which.
        host: HostKey,
        /// Since when.
        since: Timestamp,
    },
    /// Nobody watched its host in this range.
    Gap {
        /// Which.
        host: HostKey,
        /// Beginning.
        since: Timestamp,
        /// End.
        until: Timestamp,
    },
    /// Its host's probe could not see all; in words.
    Unseen {
        /// Which.
        host: HostKey,
        /// What.
        what: String,
    },
    /// Its host is looked at from time to time: what is shorter is not seen.
    Polled(HostKey),
    /// A probe of its host polled until then, and streams now.
    WasPolled {
        /// Which.
        host: HostKey,
        /// Until when.
        until: Timestamp,
    },
    /// A probe of its host could not see all until then, and can now.
    WasUnseen {
        /// Which.
        host: HostKey,
        /// Until when.
        until: Timestamp,
    },
    /// The passive end of UDP sees its callers only where it is streamed.
    Datagrams {
        /// Who waits.
        node: NodeId,
        /// Where.
        listen: Listen,
    },
    /// Several probes report as its host at once.
    Rivals(HostKey),
    /// Its host's clock is wrong, so that times mean another thing there.
    Skewed(HostKey),
    /// The address that was called belongs to several hosts, its own among
    /// them.
    Ambiguous(EdgeId),
    /// Nothing tells who opened it.
    Undirected(EdgeId),
    /// A limit left something out, or a record was not understood.
    Cut,
}

/// What is asked of the eyes that watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// All had to be seen since then.
    pub since: Timestamp,
    /// It is enough that what lasts longer than a scan's interval was seen.
    pub polled: bool,
}

/// Every reason to doubt that all use of the roots since then was seen. Edges
/// that are doubtful themselves are among `touching`.
pub fn doubts(answer: &Answer, watch: Watch, touching: &[EdgeId]) -> BTreeSet<Doubt> {
    let mut doubts = BTreeSet::new();
    let graph = &answer.graph;
    if answer.walk.roots.is_empty() {
        doubts.insert(Doubt::Unknown);
    }
    let mut hosts: BTreeSet<HostKey> = BTreeSet::new();
    for root in &answer.walk.roots {
        let node = &graph.nodes[*root];
        let record = node.identity.place().and_then(|place| graph.hosts.get(&place.host));
        let Some(record) = record else {
            doubts.insert(Doubt::NoProbe(*root));
            continue;
        };
        hosts.insert(record.key);
        let datagrams = node.listens.iter().filter(|listen| listen.protocol == Protocol::Udp);
        let polled = record.rung != Rung::Streaming || record.dim.polled >= Some(watch.since);
        for listen in datagrams.filter(|_| polled) {
            doubts.insert(Doubt::Datagrams { node: *root, listen: *listen });
        }
    }
    for record in hosts.iter().filter_map(|host| graph.hosts.get(host)) {
        doubts.extend(of_host(answer, record, watch));
    }
    for id in touching {
        match graph.edges[*id].confidence {
            Confidence::Ambiguous => drop(doubts.insert(Doubt::Ambiguous(*id))),
            Confidence::DirectionUnknown => drop(doubts.insert(Doubt::Undirected(*id))),
            _ => {}
        }
    }
    doubts.extend(claimed(answer, &hosts, watch.since));
    let cut = &answer.cut;
    if cut.hosts + cut.addresses + cut.edges > 0 || graph.malformed > 0 {
        doubts.insert(Doubt::Cut);
    }
    doubts
}

/// Calls to an address that one of these hosts has beside others.
fn claimed(
    answer: &Answer,
    hosts: &BTreeSet<HostKey>,
    since: Timestamp,
) -> impl Iterator<Item = Doubt> {
    let edges = answer.graph.edges.iter().enumerate();
    let ours = edges.filter(move |(_, edge)| {
        let node = &answer.graph.nodes[edge.passive];
        edge.last_seen >= since && !node.claimed_by.is_disjoint(hosts)
    });
    ours.map(|(id, _)| Doubt::Ambiguous(id))
}

fn of_host(answer: &Answer, host: &HostRecord, watch: Watch) -> Vec<Doubt> {
    let tolerance = answer.question.tolerance;
    let key = host.key;
    let mut doubts = Vec::new();
    match watched_since(host) {
        Some(since) if since <= watch.since => {}
        since => doubts.push(Doubt::Young { host: key, since: since.unwrap_or(host.last_seen) }),
    }
    if answer.is_silent(host.last_seen) {
        doubts.push(Doubt::Silent { host: key, since: host.last_seen });
    }
    doubts.extend(
        gaps(host, watch.since, tolerance).into_iter().map(|(since, until)| Doubt::Gap {
            host: key,
            since,
            until,
        }),
    );
    let by_process = matches!(answer.selector, Selector::Process(_) | Selector::Label(_));
    let earlier = |until: Option<Timestamp>| until.filter(|until| *until >= watch.since);
    let dim = if by_process { host.dim.unowned } else { host.dim.blind };
    if let Some(what) = blind(&host.coverage, by_process).unseen() {
        doubts.push(Doubt::Unseen { host: key, what });
    } else if let Some(until) = earlier(dim) {
        doubts.push(Doubt::WasUnseen { host: key, until });
    }
    if host.rung != Rung::Streaming && !watch.polled {
        doubts.push(Doubt::Polled(key));
    } else if let Some(until) = earlier(host.dim.polled).filter(|_| !watch.polled) {
        doubts.push(Doubt::WasPolled { host: key, until });
    }
    if !host.rivals.is_empty() {
        doubts.push(Doubt::Rivals(key));
    }
    if host.is_skewed() {
        doubts.push(Doubt::Skewed(key));
    }
    doubts
}

/// What of a coverage matters: a socket whose owner was not found is told of
/// by its address and port all the same.
fn blind(coverage: &Coverage, by_process: bool) -> Coverage {
    if by_process { coverage.clone() } else { coverage.of_flows() }
}

/// Since when a probe was seen to watch, gaps or not; none where none ever ran
/// for longer than a look.
pub fn watched_since(host: &HostRecord) -> Option<Timestamp> {
    host.watched.first().map(|range| range.0)
}

/// The times since a moment at which nobody watched, longer than the
/// tolerance. The time before the first watch is not among them, and neither
/// is the one after the last word.
pub fn gaps(
    host: &HostRecord,
    since: Timestamp,
    tolerance: SignedDuration,
) -> Vec<(Timestamp, Timestamp)> {
    let ranges = host.watched.windows(2).map(|pair| (pair[0].1, pair[1].0));
    // After the last run, a probe that looked for a moment only is none.
    let last = host.watched.last().map(|range| (range.1, host.last_seen));
    let all = ranges.chain(last);
    all.filter(|(gone, back)| *back > since && back.duration_since(*gone) > tolerance).collect()
}

/// The nodes that are on the hosts of these.
pub fn hosts_of(answer: &Answer, nodes: &[NodeId]) -> BTreeSet<HostKey> {
    let places = nodes.iter().filter_map(|node| answer.graph.nodes[*node].identity.place());
    places.map(|place| place.host).collect()
}

/// Whether a node is an address that no one host is known to have.
pub fn is_peer(answer: &Answer, node: NodeId) -> bool {
    matches!(answer.graph.nodes[node].identity, Identity::Peer { .. })
}
