//! From a question to an answer: what to fetch next, decided without fetching.
//!
//! Whoever has the CMDB runs it: ask what to fetch, fetch it, hand it over,
//! until nothing is asked any more.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

use crate::flow::key::FlowKey;
use crate::graph::join::join;
use crate::graph::walk::{Reach, Walk};
use crate::graph::{Graph, NodeId};
use crate::recall::{Found, HostKey, HostRecord, Records, Selector, Window};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// What the words may mean, likeliest first; not empty. The first that the
    /// CMDB knows anything of is meant.
    pub selectors: Vec<Selector>,
    /// The range of time meant.
    pub window: Window,
    /// How far to walk.
    pub reach: Reach,
    /// Hosts whose records are fetched, at most; those beyond are counted.
    pub hosts: usize,
    /// How far apart in time two hosts' words about one thing may be. A host
    /// silent for longer is not taken to be alive.
    pub tolerance: SignedDuration,
}

/// What to fetch: the records around these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// Hosts, each asked for once.
    pub hosts: Vec<HostKey>,
    /// Addresses that no host has.
    pub addresses: Vec<IpAddr>,
}

/// A search under way.
#[derive(Debug)]
pub struct Search {
    question: Question,
    selector: Selector,
    records: Gathered,
    asked: BTreeSet<HostKey>,
    addresses_cut: usize,
    begun: bool,
    found: Found,
    graph: Graph,
}

/// What a view prints.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What was asked.
    pub question: Question,
    /// What of it was meant.
    pub selector: Selector,
    /// When it was answered: what ages are counted to.
    pub now: Timestamp,
    /// Everything that was fetched, joined.
    pub graph: Graph,
    /// The part of it that answers.
    pub walk: Walk,
    /// What limits left out.
    pub cut: Cut,
    /// Where nothing was found: what is known of it at other times.
    pub otherwise: Option<Otherwise>,
}

/// What limits left out of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Hosts within reach that were not fetched.
    pub hosts: usize,
    /// Addresses asked about that were not fetched.
    pub addresses: usize,
    /// Edges within reach that are not shown.
    pub edges: usize,
}

/// What is known of something at whatever time.
#[derive(Clone, Debug, PartialEq)]
pub struct Otherwise {
    /// Which of the meanings is known.
    pub selector: Selector,
    /// The hosts that are meant, or have a process or port that is.
    pub hosts: Vec<HostRecord>,
    /// When an edge of it was last seen.
    pub last_edge: Option<Timestamp>,
}

/// Records of several fetches, each kept once.
#[derive(Debug, Default)]
struct Gathered {
    records: Records,
    hosts: HashSet<HostKey>,
    addresses: HashSet<(HostKey, std::sync::Arc<str>, IpAddr, Timestamp)>,
    flows: HashSet<(HostKey, FlowKey)>,
}

impl Search {
    /// Begins at what the CMDB found for the selector.
    pub fn begin(question: Question, selector: Selector, found: Found) -> Self {
        Search {
            question,
            selector,
            records: Gathered::default(),
            asked: BTreeSet::new(),
            addresses_cut: 0,
            begun: false,
            found,
            graph: Graph::default(),
        }
    }

    /// What to fetch next; nothing once the answer is complete or a limit is
    /// reached.
    pub fn ask(&mut self) -> Option<Ask> {
        let (hosts, addresses) = if self.begun {
            (self.unasked(), Vec::new())
        } else {
            let addresses = std::mem::take(&mut self.found.addresses);
            self.addresses_cut = addresses.len().saturating_sub(self.question.hosts);
            let hosts = self.found.hosts.iter().copied().collect();
            (hosts, addresses.into_iter().take(self.question.hosts).collect())
        };
        self.begun = true;
        let room = self.question.hosts.saturating_sub(self.asked.len());
        let hosts: Vec<HostKey> = hosts.into_iter().take(room).collect();
        self.asked.extend(&hosts);
        (!hosts.is_empty() || !addresses.is_empty()).then_some(Ask { hosts, addresses })
    }

    /// Takes what was fetched.
    pub fn take(&mut self, records: Records) {
        self.records.add(records);
        self.graph = join(&self.records.records, self.question.tolerance);
    }

    /// The answer, as of `now`.
    pub fn answer(self, now: Timestamp) -> Answer {
        let roots = self.roots();
        let walk = self.graph.walk(&roots, self.question.reach);
        let hosts: BTreeSet<HostKey> =
            self.found.hosts.iter().copied().chain(self.unasked()).collect();
        let cut = Cut {
            hosts: hosts.difference(&self.asked).count(),
            addresses: self.addresses_cut,
            edges: walk.edges_cut,
        };
        let Search { question, selector, graph, .. } = self;
        Answer { question, selector, now, graph, walk, cut, otherwise: None }
    }

    fn roots(&self) -> Vec<NodeId> {
        self.graph.roots(&self.selector)
    }

    /// Hosts whose own records the walk needs: those of every node but the
    /// last ones, nearest first.
    fn unasked(&self) -> Vec<HostKey> {
        let depth = self.question.reach.depth.saturating_sub(1);
        let roots = self.roots();
        let walk = self.graph.walk(&roots, Reach { depth, ..self.question.reach });
        let nodes = roots.into_iter().chain(walk.steps.iter().map(|step| step.to));
        let mut hosts = Vec::new();
        let mut new = HashSet::new();
        for node in nodes {
            if let Some(place) = self.graph.nodes[node].identity.place()
                && !self.asked.contains(&place.host)
                && new.insert(place.host)
            {
                hosts.push(place.host);
            }
        }
        hosts
    }
}

impl Otherwise {
    /// What records without regard to time say of a selector.
    pub fn of(
        selector: Selector,
        found: &Found,
        records: &Records,
        tolerance: SignedDuration,
    ) -> Self {
        let graph = join(records, tolerance);
        let roots: HashSet<NodeId> = graph.roots(&selector).into_iter().collect();
        let edges = graph.edges.iter();
        let last_edge = edges
            .filter(|edge| roots.contains(&edge.active) || roots.contains(&edge.passive))
            .map(|edge| edge.last_seen)
            .max();
        let meant = |host: &&HostRecord| found.hosts.contains(&host.key);
        Otherwise {
            selector,
            hosts: records.hosts.iter().filter(meant).cloned().collect(),
            last_edge,
        }
    }
}

impl Gathered {
    fn add(&mut self, more: Records) {
        let Records { hosts, addresses, flows } = more;
        let new = hosts.into_iter().filter(|host| self.hosts.insert(host.key));
        self.records.hosts.extend(new);
        for record in addresses {
            let key = (record.host, record.scope.clone(), record.address, record.since);
            if self.addresses.insert(key) {
                self.records.addresses.push(record);
            }
        }
        for record in flows {
            if self.flows.insert((record.host, record.flow.key.clone())) {
                self.records.flows.push(record);
            }
        }
    }
}
