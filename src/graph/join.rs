//! Records in, graph out.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::SignedDuration;
use smallvec::SmallVec;

use crate::flow::host::Rung;
use crate::graph::address::Owners;
use crate::graph::index::{Groups, Index, Map, Numbers};
use crate::graph::merge::{Life, Merging, Saying};
use crate::graph::resolve::{Key, Resolver};
use crate::graph::service::{Listeners, Server};
use crate::graph::unknown;
use crate::graph::{Graph, Identity, Listen, Listener, Node, NodeId};
use crate::recall::{FlowRecord, HostKey, Records};

/// Joins what both ends saw. `tolerance` is how far apart in time two hosts'
/// words about the same thing may be: a heartbeat and the clocks' difference.
pub fn join(records: &Records, tolerance: SignedDuration) -> Graph {
    let mut index = Index::of(records);
    let owners = Owners::of(&records.addresses, &mut index, tolerance);
    let listeners = Listeners::of(&index, tolerance);
    unknown::settle(&mut index, &owners, &listeners, tolerance);
    let resolver = Resolver::of(&index, owners, listeners, tolerance);

    let rungs: Map<HostKey, Rung> =
        records.hosts.iter().map(|host| (host.key, host.rung)).collect();
    let mut merging = Merging::new(tolerance);
    let mut seen = Seen::default();
    for (me, sighting) in (0..).zip(&index.sightings) {
        let rung = rungs.get(&sighting.record.host).copied();
        merging.tell(sighting, rung, saying(&resolver, me, &mut seen));
    }
    for listener in &index.listeners {
        let key = match listener.process {
            Some(process) => {
                let server = Server::of(process, &listener.groups);
                let server = resolver.services.whole(listener.place, server);
                Key::Process { place: listener.place, process, pgid: server.pgid }
            }
            None => Key::Unseen { place: listener.place, port: Some(listener.port) },
        };
        let node = seen.owners(key, listener.record, &listener.groups);
        let (protocol, address, port) = (listener.protocol, listener.address, listener.port);
        let listen = Listen { protocol, address, port };
        seen.facts[node].listens.insert(listen);
        seen.listeners.push(Listener { node, listen, record: listener.at });
    }
    build(records, &index, merging, seen)
}

/// What a sighting says, range by range of its time, of the edges it may be.
fn saying(resolver: &Resolver<'_, '_>, me: u32, seen: &mut Seen) -> Saying {
    let sighting = &resolver.index.sightings[me as usize];
    let mut saying = Saying::default();
    let mut own: Ids = SmallVec::new();
    for key in resolver.own(me) {
        own.push(seen.owners(*key, sighting.record, &sighting.groups));
    }
    for range in sighting.times.ranges() {
        let other = resolver.other(me, *range);
        let life = Life::of(*range, &sighting.record.spans);
        let ambiguous = !other.claimed.is_empty();
        let others: Ids = other.keys.iter().map(|key| seen.node(*key)).collect();
        if ambiguous {
            let hosts = other.claimed.iter().map(|place| resolver.index.host(*place));
            let hosts: BTreeSet<HostKey> = hosts.collect();
            for node in &others {
                seen.facts[*node].claimed_by.extend(&hosts);
            }
        }
        saying.add(sighting, (&own, &others), life, (other.met, ambiguous));
    }
    saying
}

/// Nodes by the numbers they have while the graph is being made.
type Ids = SmallVec<[NodeId; 2]>;

/// The nodes so far, and what is known of them beside their edges.
#[derive(Default)]
struct Seen {
    keys: Numbers<Key>,
    /// By number.
    facts: Vec<Facts>,
    listeners: Vec<Listener>,
}

#[derive(Default)]
struct Facts {
    pid: Option<u32>,
    owners_more: u32,
    listens: BTreeSet<Listen>,
    claimed_by: BTreeSet<HostKey>,
}

impl Seen {
    fn node(&mut self, key: Key) -> NodeId {
        let node = self.keys.number(&key) as NodeId;
        if node == self.facts.len() {
            self.facts.push(Facts::default());
        }
        node
    }

    fn owners(&mut self, key: Key, record: &FlowRecord, groups: &Groups) -> NodeId {
        let node = self.node(key);
        let facts = &mut self.facts[node];
        facts.owners_more = facts.owners_more.max(record.flow.owners_more);
        if let Key::Process { pgid: Some(pgid), .. } = key {
            let pids = groups.iter().filter(|group| group.0 == pgid).map(|group| group.1);
            facts.pid = facts.pid.into_iter().chain(pids).min();
        }
        node
    }
}

fn identity(key: Key, index: &Index<'_>) -> Identity {
    let place = |place| index.places.get(place).clone();
    match key {
        Key::Process { place: at, process, pgid } => Identity::Process {
            place: place(at),
            process: Arc::clone(index.processes.get(process)),
            pgid,
        },
        Key::Unseen { place: at, port } => Identity::Unseen { place: place(at), port },
        Key::Peer { address, port, link } => {
            Identity::Peer { address, port, link: link.map(place) }
        }
    }
}

/// Numbers the nodes and sorts everything by what it is, never by the order in
/// which it came.
fn build(records: &Records, index: &Index<'_>, merging: Merging<'_>, seen: Seen) -> Graph {
    let keys = seen.keys.values().iter();
    let mut nodes: Vec<(NodeId, Node)> = keys
        .zip(seen.facts)
        .map(|(key, facts)| Node {
            identity: identity(*key, index),
            pid: facts.pid,
            owners_more: facts.owners_more,
            listens: facts.listens,
            claimed_by: facts.claimed_by,
            label: None,
        })
        .enumerate()
        .collect();
    nodes.sort_by(|a, b| a.1.identity.cmp(&b.1.identity));
    let mut ids: Vec<NodeId> = vec![0; nodes.len()];
    for (new, (old, _)) in nodes.iter().enumerate() {
        ids[*old] = new;
    }
    let nodes: Vec<Node> = nodes.into_iter().map(|(_, node)| node).collect();
    let (edges, tellers) = merging.edges(&ids, &nodes);
    let mut listeners = seen.listeners;
    for listener in &mut listeners {
        listener.node = ids[listener.node];
    }
    listeners.sort_unstable();
    Graph {
        nodes,
        edges,
        tellers,
        listeners,
        hosts: records.hosts.iter().map(|host| (host.key, host.clone())).collect(),
        addresses: records.addresses.clone(),
        malformed: index.malformed,
    }
}
