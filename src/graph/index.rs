//! Records, sorted and numbered: what the joining looks things up in.
//!
//! Places and processes get small numbers, so that a join of a million flows
//! compares integers and not names.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;
use smallvec::SmallVec;

use crate::flow::process::Process;
use crate::flow::socket::{Direction, Protocol};
use crate::graph::silence::Heard;
use crate::graph::times::Times;
use crate::graph::{Place, only_inside};
use crate::recall::{FlowRecord, HostKey, Records};

/// Number of a place.
pub(crate) type PlaceId = u32;
/// Number of a process identity.
pub(crate) type ProcessId = u32;

/// Maps of a join: some ten look-ups a flow, which with the standard library's
/// hasher took most of its time.
pub(crate) type Map<K, V> = HashMap<K, V, RandomState>;

/// Process groups, each with the lowest pid in it.
pub(crate) type Groups = SmallVec<[(u32, u32); 1]>;

/// All records, read once.
pub(crate) struct Index<'r> {
    pub(crate) places: Numbers<Place>,
    pub(crate) processes: Numbers<Arc<Process>>,
    /// Flows with a peer, sorted by host and scope, and so by place.
    pub(crate) sightings: Vec<Sighting<'r>>,
    /// Passive flows without a peer.
    pub(crate) listeners: Vec<Listener<'r>>,
    /// When each host said anything.
    pub(crate) heard: Heard,
    /// Records that no probe writes.
    pub(crate) malformed: u64,
}

/// A flow with a peer, as its host saw it.
pub(crate) struct Sighting<'r> {
    pub(crate) record: &'r FlowRecord,
    /// Where the record stands in [`Records::flows`].
    pub(crate) at: u32,
    pub(crate) place: PlaceId,
    pub(crate) process: Option<ProcessId>,
    /// The process groups of its owners, in their order.
    pub(crate) groups: Groups,
    pub(crate) protocol: Protocol,
    pub(crate) local: IpAddr,
    pub(crate) peer: IpAddr,
    pub(crate) side: Side,
    pub(crate) times: Times,
}

/// Which end of the edge a sighting is, and the port or ports that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// It opened the flow, to this port.
    Active(u16),
    /// It was opened, at this port.
    Passive(u16),
    /// Nothing tells; its own port and its peer's.
    Unknown(u16, u16),
}

/// A service that waits.
pub(crate) struct Listener<'r> {
    pub(crate) record: &'r FlowRecord,
    /// Where the record stands in [`Records::flows`].
    pub(crate) at: u32,
    pub(crate) place: PlaceId,
    pub(crate) process: Option<ProcessId>,
    /// The process groups of its owners, in their order.
    pub(crate) groups: Groups,
    pub(crate) protocol: Protocol,
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) times: Times,
}

/// What the two ends of one flow have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pair {
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    pub(crate) active: IpAddr,
    pub(crate) passive: IpAddr,
    /// The one place both must be in, where the addresses mean nothing
    /// outside of it.
    pub(crate) within: Option<PlaceId>,
}

impl<'r> Index<'r> {
    pub(crate) fn of(records: &'r Records) -> Self {
        let mut flows: Vec<(u32, &FlowRecord)> = (0..).zip(&records.flows).collect();
        flows.sort_by(|(_, a), (_, b)| (a.host, &a.flow.key).cmp(&(b.host, &b.flow.key)));
        let mut index = Index {
            places: Numbers::default(),
            processes: Numbers::default(),
            sightings: Vec::with_capacity(flows.len()),
            listeners: Vec::new(),
            heard: Heard::of(records),
            malformed: 0,
        };
        let mut known = Known::default();
        for (at, record) in flows {
            index.read(record, at, &mut known);
        }
        index
    }

    fn read(&mut self, record: &'r FlowRecord, at: u32, known: &mut Known<'r>) {
        let key = &record.flow.key;
        let side = match (key.direction, key.local_port, key.peer_port) {
            (Direction::Active, _, Some(port)) => Side::Active(port),
            (Direction::Passive, Some(port), _) => Side::Passive(port),
            (Direction::Unknown, Some(port), Some(peer_port)) => Side::Unknown(port, peer_port),
            _ => return self.malformed += 1,
        };
        if record.spans.is_empty() {
            return self.malformed += 1;
        }
        let place = known.place(record, &mut self.places);
        let process = known.process(record, &mut self.processes);
        let groups = groups(record);
        let times = Times::of_spans(&record.spans);
        let (protocol, local) = (key.protocol, key.local);
        match (key.peer, side) {
            (Some(peer), _) => self.sightings.push(Sighting {
                record,
                at,
                place,
                process,
                groups,
                protocol,
                local,
                peer,
                side,
                times,
            }),
            (None, Side::Passive(port)) => self.listeners.push(Listener {
                record,
                at,
                place,
                process,
                groups,
                protocol,
                address: local,
                port,
                times,
            }),
            (None, Side::Active(_) | Side::Unknown(..)) => self.malformed += 1,
        }
    }

    /// Whether a place is a host's own namespace.
    pub(crate) fn is_own(&self, place: PlaceId) -> bool {
        self.places.get(place).scope.is_empty()
    }

    pub(crate) fn host(&self, place: PlaceId) -> HostKey {
        self.places.get(place).host
    }
}

impl Sighting<'_> {
    /// What it shares with what the other end saw; absent while its direction
    /// is unknown.
    pub(crate) fn pair(&self) -> Option<Pair> {
        let (port, active, passive) = match self.side {
            Side::Active(port) => (port, self.local, self.peer),
            Side::Passive(port) => (port, self.peer, self.local),
            Side::Unknown(..) => return None,
        };
        Some(Pair { protocol: self.protocol, port, active, passive, within: self.within() })
    }

    /// The place that the other end must share, if it must.
    pub(crate) fn within(&self) -> Option<PlaceId> {
        (only_inside(self.local) || only_inside(self.peer)).then_some(self.place)
    }
}

/// Numbers given so far, by what is cheap to compare: the names of places and
/// processes are compared once each, not once a flow.
#[derive(Default)]
struct Known<'r> {
    /// The place of the flow before.
    place: Option<(HostKey, &'r str, PlaceId)>,
    /// Processes by where they stand in memory: their flows share them.
    processes: Map<*const Process, ProcessId>,
}

impl<'r> Known<'r> {
    fn place(&mut self, record: &'r FlowRecord, places: &mut Numbers<Place>) -> PlaceId {
        let scope = &record.flow.key.scope;
        match self.place {
            Some((host, known, place)) if (host, known) == (record.host, &**scope) => place,
            _ => {
                let scope_of_record: &'r str = scope;
                let place = Place { host: record.host, scope: Arc::clone(scope) };
                let place = places.number(&place);
                self.place = Some((record.host, scope_of_record, place));
                place
            }
        }
    }

    fn process(
        &mut self,
        record: &'r FlowRecord,
        processes: &mut Numbers<Arc<Process>>,
    ) -> Option<ProcessId> {
        let process = record.flow.key.process.as_ref()?;
        let number = || processes.number(process);
        Some(*self.processes.entry(Arc::as_ptr(process)).or_insert_with(number))
    }
}

/// The process groups of a flow's owners that are instances of its process,
/// in the owners' order.
fn groups(record: &FlowRecord) -> Groups {
    let mut groups = Groups::new();
    let owners = record.flow.owners.iter();
    for owner in owners.filter(|owner| Some(&owner.process) == record.flow.key.process.as_ref()) {
        match groups.iter_mut().find(|group| group.0 == owner.pgid) {
            Some(group) => group.1 = group.1.min(owner.pid),
            None => groups.push((owner.pgid, owner.pid)),
        }
    }
    groups
}

/// Values by number, and numbers by value.
pub(crate) struct Numbers<T> {
    values: Vec<T>,
    numbers: Map<T, u32>,
}

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Numbers { values: Vec::new(), numbers: Map::default() }
    }
}

impl<T: Clone + Eq + Hash> Numbers<T> {
    pub(crate) fn number(&mut self, value: &T) -> u32 {
        if let Some(number) = self.numbers.get(value) {
            return *number;
        }
        let number =
            u32::try_from(self.values.len()).expect("fewer than 2^32 of anything in memory");
        self.values.push(value.clone());
        self.numbers.insert(value.clone(), number);
        number
    }

    pub(crate) fn get(&self, number: u32) -> &T {
        &self.values[number as usize]
    }

    /// The values in the order of their numbers.
    pub(crate) fn values(&self) -> &[T] {
        &self.values
    }
}
