//! Which process serves a port of a place, and which process groups are one
//! service.

use std::collections::HashMap;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

use crate::flow::socket::Protocol;
use crate::graph::covers;
use crate::graph::index::{Index, PlaceId, ProcessId, Side, Sighting, groups};
use crate::graph::times::{Near, Times};

/// A port of a place.
type Port = (PlaceId, Protocol, u16);

/// What listens, by port.
pub(crate) struct Listeners {
    by_port: HashMap<Port, Vec<usize>>,
    tolerance: SignedDuration,
}

/// Who serves an address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) process: ProcessId,
    /// Absent where the record names no owner.
    pub(crate) pgid: Option<u32>,
}

/// What serves, be it known from listeners or from flows that arrived.
pub(crate) struct Services {
    flows: HashMap<Port, Vec<usize>>,
    groups: Groups,
}

impl Listeners {
    pub(crate) fn of(index: &Index<'_>, tolerance: SignedDuration) -> Self {
        let mut by_port: HashMap<Port, Vec<usize>> = HashMap::new();
        for (at, listener) in index.listeners.iter().enumerate() {
            let port = (listener.place, listener.protocol, listener.port);
            by_port.entry(port).or_default().push(at);
        }
        Listeners { by_port, tolerance }
    }

    /// Whether anything, seen or not, waited at an address and port then.
    pub(crate) fn any(
        &self,
        index: &Index<'_>,
        port: Port,
        address: IpAddr,
        range: (Timestamp, Timestamp),
    ) -> bool {
        let mut candidates = self.by_port.get(&port).into_iter().flatten();
        candidates.any(|at| {
            let listener = &index.listeners[*at];
            covers(listener.address, address)
                && listener.times.near(range.0, range.1, self.tolerance).is_some()
        })
    }

    /// The process that waited at an address and port then: overlapping
    /// before near, the exact address before its family's wildcard before
    /// `::`, and of several in turn the last one. Several at once tell
    /// nothing.
    fn server(
        &self,
        index: &Index<'_>,
        port: Port,
        address: IpAddr,
        range: (Timestamp, Timestamp),
        only: Option<ProcessId>,
    ) -> Option<Server> {
        let candidates = self.by_port.get(&port).into_iter().flatten().filter_map(|at| {
            let listener = &index.listeners[*at];
            let process =
                listener.process.filter(|process| only.is_none_or(|only| only == *process))?;
            let near = listener.times.near(range.0, range.1, self.tolerance)?;
            let fit = fit(listener.address, address)?;
            let pgid = groups(listener.record).first().map(|group| group.0);
            Some(((near, fit), &listener.times, Server { process, pgid }))
        });
        last_of_best(candidates)
    }
}

/// How well a bound address fits, the better the greater.
fn fit(bound: IpAddr, address: IpAddr) -> Option<u8> {
    if bound == address {
        Some(2)
    } else if covers(bound, address) {
        Some(u8::from(bound.is_ipv4() == address.is_ipv4()))
    } else {
        None
    }
}

/// Of the candidates with the best score, the process whose time ended last;
/// nothing where two processes share that end.
fn last_of_best<'t, S: Ord + Copy>(
    candidates: impl Iterator<Item = (S, &'t Times, Server)>,
) -> Option<Server> {
    let mut candidates: Vec<_> = candidates
        .map(|(score, times, server)| ((score, times.hull().map(|hull| hull.1)), server))
        .collect();
    let best = candidates.iter().map(|candidate| candidate.0).max()?;
    candidates.retain(|candidate| candidate.0 == best);
    let first = candidates.first()?.1;
    candidates.iter().all(|candidate| candidate.1.process == first.process).then_some(first)
}

impl Services {
    pub(crate) fn of(index: &Index<'_>, listeners: &Listeners) -> Self {
        let mut services = Services { flows: HashMap::new(), groups: Groups::default() };
        for listener in &index.listeners {
            if let Some(process) = listener.process {
                services.groups.unite(
                    (listener.place, process),
                    None,
                    &groups(listener.record),
                    true,
                );
            }
        }
        for (at, sighting) in index.sightings.iter().enumerate() {
            let Side::Passive(number) = sighting.side else { continue };
            let port = (sighting.place, sighting.protocol, number);
            services.flows.entry(port).or_default().push(at);
            if let (Some(process), Some(range)) = (sighting.process, sighting.times.hull()) {
                let server = listeners.server(index, port, sighting.local, range, Some(process));
                let with = server.and_then(|server| server.pgid);
                let owners = groups(sighting.record);
                services.groups.unite((sighting.place, process), with, &owners, false);
            }
        }
        services
    }

    /// Who serves an address and port of a place at a time: whoever listened
    /// there, else whoever had flows arrive there.
    pub(crate) fn server(
        &self,
        index: &Index<'_>,
        listeners: &Listeners,
        port: Port,
        address: IpAddr,
        range: (Timestamp, Timestamp),
    ) -> Option<Server> {
        let server = listeners.server(index, port, address, range, None).or_else(|| {
            let flows = self.flows.get(&port).into_iter().flatten().filter_map(|at| {
                let flow = &index.sightings[*at];
                let near = flow.times.near(range.0, range.1, listeners.tolerance)?;
                let process = flow.process.filter(|_| flow.local == address)?;
                let pgid = groups(flow.record).first().map(|group| group.0);
                Some((near, &flow.times, Server { process, pgid }))
            });
            last_of_best::<Near>(flows)
        })?;
        Some(self.whole(port.0, server))
    }

    /// Who serves a flow that arrived, by its own word.
    pub(crate) fn server_of(&self, sighting: &Sighting<'_>) -> Option<Server> {
        let pgid = groups(sighting.record).first().map(|group| group.0);
        Some(self.whole(sighting.place, Server { process: sighting.process?, pgid }))
    }

    /// The same with the process group that stands for its whole service.
    pub(crate) fn whole(&self, place: PlaceId, server: Server) -> Server {
        let pgid = server.pgid.map(|pgid| self.groups.name((place, server.process), pgid));
        Server { pgid, ..server }
    }
}

/// Process groups that share a port are one service: workers, forks, two
/// instances on one port. Union-find, each set named by the group of its
/// listener's lowest owner.
#[derive(Default)]
struct Groups(HashMap<(PlaceId, ProcessId, u32), Member>);

struct Member {
    parent: u32,
    /// Not from a listener, pid, pgid: the least names the set.
    name: (bool, u32, u32),
}

impl Groups {
    fn unite(
        &mut self,
        (place, process): (PlaceId, ProcessId),
        with: Option<u32>,
        owners: &[(u32, u32)],
        listening: bool,
    ) {
        for (pgid, pid) in owners {
            let name = (!listening, *pid, *pgid);
            self.0.entry((place, process, *pgid)).or_insert(Member { parent: *pgid, name });
            let root = self.root((place, process), *pgid);
            if let Some(member) = self.0.get_mut(&(place, process, root)) {
                member.name = member.name.min(name);
            }
        }
        let all: Vec<u32> = with.into_iter().chain(owners.iter().map(|owner| owner.0)).collect();
        for pair in all.windows(2) {
            let (a, b) =
                (self.root((place, process), pair[0]), self.root((place, process), pair[1]));
            let name = self.0.get(&(place, process, b)).map(|member| member.name);
            if let Some(member) = self.0.get_mut(&(place, process, b)) {
                member.parent = a;
            }
            if let (Some(member), Some(name)) = (self.0.get_mut(&(place, process, a)), name) {
                member.name = member.name.min(name);
            }
        }
    }

    fn root(&self, (place, process): (PlaceId, ProcessId), mut pgid: u32) -> u32 {
        while let Some(member) = self.0.get(&(place, process, pgid)) {
            if member.parent == pgid {
                break;
            }
            pgid = member.parent;
        }
        pgid
    }

    fn name(&self, (place, process): (PlaceId, ProcessId), pgid: u32) -> u32 {
        let root = self.root((place, process), pgid);
        self.0.get(&(place, process, root)).map_or(pgid, |member| member.name.2)
    }
}
