//! Records in, graph out.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::SignedDuration;

use crate::graph::address::Owners;
use crate::graph::index::{Index, groups};
use crate::graph::merge::{EdgeKey, Life, Merging, Saying};
use crate::graph::mirror::Mirrors;
use crate::graph::resolve::{Key, Keys, Resolver};
use crate::graph::service::{Listeners, Server, Services};
use crate::graph::unknown;
use crate::graph::{Graph, Identity, Listen, Node};
use crate::recall::{HostKey, Records};

/// Joins what both ends saw. `tolerance` is how far apart in time two hosts'
/// words about the same thing may be: a heartbeat and the clocks' difference.
pub fn join(records: &Records, tolerance: SignedDuration) -> Graph {
    let mut index = Index::of(records);
    let owners = Owners::of(&records.addresses, &mut index, tolerance);
    let listeners = Listeners::of(&index, tolerance);
    unknown::settle(&mut index, &owners, &listeners, tolerance);
    let services = Services::of(&index, &listeners);
    let mirrors = Mirrors::of(&index, &owners, tolerance);
    let resolver = Resolver { index: &index, owners, listeners, services, mirrors };

    let rungs: HashMap<HostKey, _> =
        records.hosts.iter().map(|host| (host.key, host.rung)).collect();
    let mut merging = Merging::default();
    let mut seen = Seen::default();
    for (me, sighting) in (0..).zip(&index.sightings) {
        let own = resolver.own(sighting);
        for key in &own {
            seen.owners(*key, sighting.record);
        }
        let rung = rungs.get(&sighting.record.host).copied();
        merging.tell(sighting, rung, saying(&resolver, me, &own, &mut seen));
    }
    for listener in &index.listeners {
        let key = match listener.process {
            Some(process) => {
                let pgid = groups(listener.record).first().map(|group| group.0);
                let server = resolver.services.whole(listener.place, Server { process, pgid });
                Key::Process { place: listener.place, process, pgid: server.pgid }
            }
            None => Key::Unseen { place: listener.place, port: Some(listener.port) },
        };
        seen.owners(key, listener.record);
        seen.listens.entry(key).or_default().insert(Listen {
            protocol: listener.protocol,
            address: listener.address,
            port: listener.port,
        });
    }
    build(records, &index, merging, seen)
}

/// What a sighting says, range by range of its time, of the edges it may be.
fn saying(resolver: &Resolver<'_, '_>, me: u32, own: &Keys, seen: &mut Seen) -> Saying {
    let sighting = &resolver.index.sightings[me as usize];
    let mut saying = Saying::default();
    for range in sighting.times.ranges() {
        let other = resolver.other(me, *range);
        let mut edges: Vec<EdgeKey> = Vec::with_capacity(own.len() * other.keys.len());
        for own in own {
            edges.extend(other.keys.iter().map(|other| EdgeKey::of(sighting, *own, *other).0));
        }
        let ambiguous = !other.claimed.is_empty();
        if ambiguous {
            let hosts = other.claimed.iter().map(|place| resolver.index.host(*place));
            for key in &other.keys {
                seen.claimed.entry(*key).or_default().extend(hosts.clone());
            }
        }
        let life = Life::of(*range, &sighting.record.spans);
        saying.add(&edges, life, other.met, ambiguous);
    }
    saying
}

/// What is known of nodes beside their edges.
#[derive(Default)]
struct Seen {
    keys: HashSet<Key>,
    pids: HashMap<Key, u32>,
    owners_more: HashMap<Key, u32>,
    listens: HashMap<Key, BTreeSet<Listen>>,
    claimed: HashMap<Key, BTreeSet<HostKey>>,
}

impl Seen {
    fn owners(&mut self, key: Key, record: &crate::recall::FlowRecord) {
        self.keys.insert(key);
        if record.flow.owners_more > 0 {
            let more = self.owners_more.entry(key).or_default();
            *more = (*more).max(record.flow.owners_more);
        }
        let Key::Process { pgid: Some(pgid), .. } = key else { return };
        for (_, pid) in groups(record).iter().filter(|group| group.0 == pgid) {
            let least = self.pids.entry(key).or_insert(*pid);
            *least = (*least).min(*pid);
        }
    }

    fn node(&mut self, key: Key, index: &Index<'_>) -> Node {
        let place = |place| index.places.get(place).clone();
        let identity = match key {
            Key::Process { place: at, process, pgid } => Identity::Process {
                place: place(at),
                process: Arc::clone(index.processes.get(process)),
                pgid,
            },
            Key::Unseen { place: at, port } => Identity::Unseen { place: place(at), port },
            Key::Peer { address, port, link } => {
                Identity::Peer { address, port, link: link.map(place) }
            }
        };
        Node {
            identity,
            pid: self.pids.get(&key).copied(),
            owners_more: self.owners_more.get(&key).copied().unwrap_or(0),
            listens: self.listens.remove(&key).unwrap_or_default(),
            claimed_by: self.claimed.remove(&key).unwrap_or_default(),
        }
    }
}

/// Numbers the nodes and sorts everything by what it is, never by the order in
/// which it came.
fn build(records: &Records, index: &Index<'_>, merging: Merging<'_>, mut seen: Seen) -> Graph {
    let keys: HashSet<Key> = merging.keys().chain(seen.keys.iter().copied()).collect();
    let mut nodes: Vec<(Key, Node)> =
        keys.into_iter().map(|key| (key, seen.node(key, index))).collect();
    nodes.sort_by(|a, b| a.1.identity.cmp(&b.1.identity));
    let ids: HashMap<Key, usize> =
        nodes.iter().enumerate().map(|(id, (key, _))| (*key, id)).collect();
    let mut edges = merging.edges(|key| ids[&key]);
    edges.sort_by_key(|edge| {
        let ends = (edge.active, edge.passive, edge.protocol, edge.port, edge.active_port);
        (ends, edge.active_address, edge.passive_address)
    });
    Graph {
        nodes: nodes.into_iter().map(|(_, node)| node).collect(),
        edges,
        hosts: records
            .hosts
            .iter()
            .map(|host| (host.key, host.clone()))
            .collect::<BTreeMap<_, _>>(),
        addresses: records.addresses.clone(),
        malformed: index.malformed,
    }
}
