//! From a question to an answer: what to fetch next, decided without fetching.
//!
//! Whoever has the CMDB runs it: ask what to fetch, fetch it, hand it over,
//! until nothing is asked any more.

use std::collections::{BTreeSet, HashSet};
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::graph::join::join;
use crate::graph::page::Part;
use crate::graph::rise;
use crate::graph::walk::{Reach, Walk};
use crate::graph::{Graph, NodeId};
use crate::labels::Labels;
use crate::recall::{
    AddressRecord, FlowRecord, Found, HostKey, HostRecord, Records, Selector, Traffic, Window,
};

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
    /// What people call things.
    pub labels: Arc<Labels>,
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
    records: Records,
    asked: BTreeSet<HostKey>,
    addresses_cut: usize,
    begun: bool,
    found: Found,
    graph: Graph,
    roots: Vec<NodeId>,
    /// What [`Search::unasked`] said of this graph, once it has been asked.
    unasked: Option<Vec<HostKey>>,
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
    /// The records that told of it, which the graph refers to.
    pub flows: Vec<FlowRecord>,
    /// The hosts whose own records were fetched.
    pub asked: BTreeSet<HostKey>,
    /// What limits left out.
    pub cut: Cut,
    /// Which part of its edges are these; all, unless said otherwise.
    pub part: Option<Part>,
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
    /// What rose in the window could not be fetched: too many hours of too
    /// many flows.
    pub rises: bool,
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

impl Search {
    /// Begins at what the CMDB found for the selector.
    pub fn begin(question: Question, selector: Selector, found: Found) -> Self {
        Search {
            question,
            selector,
            records: Records::default(),
            asked: BTreeSet::new(),
            addresses_cut: 0,
            begun: false,
            found,
            graph: Graph::default(),
            roots: Vec::new(),
            unasked: None,
        }
    }

    /// What to fetch next; nothing once the answer is complete or a limit is
    /// reached.
    pub fn ask(&mut self) -> Option<Ask> {
        let room = self.question.hosts.saturating_sub(self.asked.len());
        let (hosts, addresses): (Vec<HostKey>, _) = if self.begun {
            (self.unasked().iter().copied().take(room).collect(), Vec::new())
        } else {
            let addresses = mem::take(&mut self.found.addresses);
            self.addresses_cut = addresses.len().saturating_sub(self.question.hosts);
            let hosts = self.found.hosts.iter().copied().take(room).collect();
            (hosts, addresses.into_iter().take(self.question.hosts).collect())
        };
        self.begun = true;
        self.asked.extend(&hosts);
        (!hosts.is_empty() || !addresses.is_empty()).then_some(Ask { hosts, addresses })
    }

    /// Takes what was fetched.
    pub fn take(&mut self, records: Records) {
        add(&mut self.records, records);
        self.graph = join(&self.records, self.question.tolerance);
        self.graph.label(&self.question.labels);
        self.roots = self.graph.roots(&self.selector);
        self.unasked = None;
    }

    /// The hosts of which it matters what their flows' totals rose by: where a
    /// window was asked about, those whose own records were fetched. Each edge
    /// of the answer is one of theirs.
    pub fn counted(&self) -> Vec<HostKey> {
        let windowed = self.question.window != Window::default();
        self.asked.iter().copied().filter(|_| windowed).collect()
    }

    /// The answer, as of `now`; `traffic` is of [`Search::counted`], or absent
    /// if it is more than can be fetched.
    pub fn answer(mut self, now: Timestamp, traffic: Option<&[Traffic]>) -> Answer {
        let walk = self.graph.walk(&self.roots, self.question.reach);
        if let Some(traffic) = traffic.filter(|traffic| !traffic.is_empty()) {
            rise::tell(&mut self.graph, &walk, &self.records.flows, traffic);
        }
        let left = self.unasked().to_vec();
        let hosts: BTreeSet<HostKey> = self.found.hosts.iter().copied().chain(left).collect();
        let cut = Cut {
            hosts: hosts.difference(&self.asked).count(),
            addresses: self.addresses_cut,
            edges: walk.edges_cut,
            rises: traffic.is_none(),
        };
        let Search { question, selector, graph, records, asked, .. } = self;
        let flows = records.flows;
        Answer {
            question,
            selector,
            now,
            graph,
            walk,
            flows,
            asked,
            cut,
            part: None,
            otherwise: None,
        }
    }

    /// Hosts whose own records the walk needs: those of every node but the
    /// last ones, nearest first.
    fn unasked(&mut self) -> &[HostKey] {
        let (question, graph, asked) = (&self.question, &self.graph, &self.asked);
        let roots = &self.roots;
        self.unasked.get_or_insert_with(|| {
            let depth = question.reach.depth.saturating_sub(1);
            let walk = graph.walk(roots, Reach { depth, ..question.reach });
            let nodes = roots.iter().copied().chain(walk.steps.iter().map(|step| step.to));
            let hosts = nodes.filter_map(|node| Some(graph.nodes[node].identity.place()?.host));
            let mut new = HashSet::new();
            hosts.filter(|host| !asked.contains(host) && new.insert(*host)).collect()
        })
    }
}

impl Answer {
    /// Whether who was last heard of then has been quiet for longer than a host
    /// that reports ever is.
    pub fn is_silent(&self, last: Timestamp) -> bool {
        self.now.duration_since(last) > self.question.tolerance
    }
}

/// Adds the records of another fetch, each kept once.
fn add(records: &mut Records, more: Records) {
    if records.hosts.is_empty() && records.flows.is_empty() && records.addresses.is_empty() {
        *records = more;
        return;
    }
    // What is there is one run that is sorted, which makes this a merge.
    records.hosts.extend(more.hosts);
    records.hosts.sort_by_key(|record| record.key);
    records.hosts.dedup_by_key(|record| record.key);
    records.addresses.extend(more.addresses);
    records.addresses.sort_by(|a, b| address_key(a).cmp(&address_key(b)));
    records.addresses.dedup_by(|a, b| address_key(a) == address_key(b));
    records.flows.extend(more.flows);
    records.flows.sort_by(|a, b| (a.host, &a.flow.key).cmp(&(b.host, &b.flow.key)));
    records.flows.dedup_by(|a, b| (a.host, &a.flow.key) == (b.host, &b.flow.key));
}

fn address_key(record: &AddressRecord) -> (HostKey, &str, IpAddr, Timestamp) {
    (record.host, &record.scope, record.address, record.since)
}

impl Otherwise {
    /// What records without regard to time say of a selector.
    pub fn of(selector: Selector, found: &Found, records: &Records, question: &Question) -> Self {
        let mut graph = join(records, question.tolerance);
        graph.label(&question.labels);
        let roots: HashSet<NodeId> = graph.roots(&selector).into_iter().collect();
        let edges = graph.edges.iter();
        let last_edge = edges
            .filter(|edge| roots.contains(&edge.active) || roots.contains(&edge.passive))
            .map(|edge| edge.last_seen)
            .max();
        // The CMDB finds every host for a label.
        let host = |root: &NodeId| Some(graph.nodes[*root].identity.place()?.host);
        let having: BTreeSet<HostKey> = roots.iter().filter_map(host).collect();
        let meant = |host: &&HostRecord| match selector {
            Selector::Label(_) => having.contains(&host.key),
            _ => found.hosts.contains(&host.key),
        };
        let hosts = records.hosts.iter().filter(meant).cloned().collect();
        Otherwise { selector, hosts, last_edge }
    }
}
