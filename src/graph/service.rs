//! Which process serves a port of a place, and which process groups are one
//! service.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use jiff::{SignedDuration, Timestamp};
use smallvec::SmallVec;

use crate::flow::socket::Protocol;
use crate::graph::covers;
use crate::graph::index::{Index, Map, PlaceId, ProcessId, Side, Sighting};
use crate::graph::silence::Kept;
use crate::graph::times::Times;

/// A port of a place.
type Port = (PlaceId, Protocol, u16);

/// What listens, by port and the address it is bound to.
pub(crate) struct Listeners {
    bound: Map<(Port, IpAddr), Vec<usize>>,
    tolerance: SignedDuration,
}

/// Who serves an address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) process: ProcessId,
    /// Absent where the record names no owner.
    pub(crate) pgid: Option<u32>,
}

impl Server {
    /// A process by the first of the groups that a record names.
    pub(crate) fn of(process: ProcessId, groups: &[(u32, u32)]) -> Server {
        Server { process, pgid: groups.first().map(|group| group.0) }
    }
}

/// What serves, be it known from listeners or from flows that arrived.
pub(crate) struct Services {
    /// Flows that arrived at an address and port, by the process that had
    /// them.
    flows: Map<(Port, IpAddr), Map<ProcessId, Arrived>>,
    groups: Groups,
}

/// The flows of one process that arrived at one address and port.
#[derive(Default)]
struct Arrived {
    /// When there was any of them.
    times: Times,
    /// Sightings, the last to end first.
    flows: Vec<usize>,
}

impl Listeners {
    pub(crate) fn of(index: &Index<'_>, tolerance: SignedDuration) -> Self {
        let mut bound: Map<(Port, IpAddr), Vec<usize>> = Map::default();
        for (at, listener) in index.listeners.iter().enumerate() {
            let port = (listener.place, listener.protocol, listener.port);
            bound.entry((port, listener.address)).or_default().push(at);
        }
        Listeners { bound, tolerance }
    }

    /// What gets what is sent to an address and port, each with how well its
    /// own address fits, the better the greater.
    fn at(&self, port: Port, address: IpAddr) -> impl Iterator<Item = (u8, usize)> {
        let any = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)];
        let wild = any.into_iter().filter(move |any| *any != address && covers(*any, address));
        let wild = wild.map(move |any| (u8::from(any.is_ipv4() == address.is_ipv4()), any));
        [(2, address)].into_iter().chain(wild).flat_map(move |(fit, bound)| {
            self.bound.get(&(port, bound)).into_iter().flatten().map(move |at| (fit, *at))
        })
    }

    /// Whether anything, seen or not, waited at an address and port then.
    pub(crate) fn any(
        &self,
        index: &Index<'_>,
        port: Port,
        address: IpAddr,
        range: (Timestamp, Timestamp),
    ) -> bool {
        self.at(port, address).any(|(_, at)| {
            index.listeners[at].times.near(range.0, range.1, self.tolerance).is_some()
        })
    }

    /// The process that waited at an address and port then: overlapping
    /// before near, the exact address before its family's wildcard before
    /// `::`, and of several in turn the last one. Several at once tell
    /// nothing. Where nobody is known to have waited, it is who did when the
    /// host fell silent.
    fn server(
        &self,
        index: &Index<'_>,
        port: Port,
        address: IpAddr,
        range: (Timestamp, Timestamp),
        only: Option<ProcessId>,
    ) -> Option<Server> {
        let candidates = self.at(port, address).filter_map(|(fit, at)| {
            let listener = &index.listeners[at];
            let process =
                listener.process.filter(|process| only.is_none_or(|only| only == *process))?;
            let near = listener.times.near(range.0, range.1, self.tolerance)?;
            Some(((near, fit), &listener.times, Server::of(process, &listener.groups)))
        });
        let mut candidates = candidates.peekable();
        match candidates.peek() {
            Some(_) => last_of_best(candidates),
            None => self.kept(index, port, address, range),
        }
    }

    /// The process that waited there when its host fell silent, or when it was
    /// heard again; of two that did neither is known to have waited then.
    fn kept(
        &self,
        index: &Index<'_>,
        port: Port,
        address: IpAddr,
        range: (Timestamp, Timestamp),
    ) -> Option<Server> {
        let host = index.host(port.0);
        let kept = self.at(port, address).filter_map(|(fit, at)| {
            let listener = &index.listeners[at];
            let kept = index.heard.kept(host, &listener.times, range);
            let server = Server::of(listener.process?, &listener.groups);
            (kept != Kept::default()).then_some((fit, server))
        });
        let kept: SmallVec<[_; 2]> = kept.collect();
        let best = kept.iter().map(|(fit, _)| *fit).max()?;
        let mut best = kept.iter().filter(|(fit, _)| *fit == best).map(|(_, server)| *server);
        let first = best.next()?;
        best.all(|server| server.process == first.process).then_some(first)
    }
}

/// Of the candidates with the best score, the process whose time ended last;
/// nothing where two processes share that end.
fn last_of_best<'t, S: Ord + Copy>(
    candidates: impl Iterator<Item = (S, &'t Times, Server)>,
) -> Option<Server> {
    let mut candidates: SmallVec<[_; 2]> = candidates
        .map(|(score, times, server)| ((score, times.hull().map(|hull| hull.1)), server))
        .collect();
    let best = candidates.iter().map(|candidate| candidate.0).max()?;
    candidates.retain(|candidate| candidate.0 == best);
    let first = candidates.first()?.1;
    candidates.iter().all(|candidate| candidate.1.process == first.process).then_some(first)
}

impl Services {
    pub(crate) fn of(index: &Index<'_>, listeners: &Listeners) -> Self {
        let mut services = Services { flows: Map::default(), groups: Groups::default() };
        for listener in &index.listeners {
            if let Some(process) = listener.process {
                services.groups.unite((listener.place, process), None, &listener.groups, true);
            }
        }
        for (at, sighting) in index.sightings.iter().enumerate() {
            if let (Side::Passive(number), Some(process), Some(range)) =
                (sighting.side, sighting.process, sighting.times.hull())
            {
                let port = (sighting.place, sighting.protocol, number);
                let arrived = services.flows.entry((port, sighting.local)).or_default();
                arrived.entry(process).or_default().flows.push(at);
                let server = listeners.server(index, port, sighting.local, range, Some(process));
                let with = server.and_then(|server| server.pgid);
                services.groups.unite((sighting.place, process), with, &sighting.groups, false);
            }
        }
        for arrived in services.flows.values_mut().flat_map(Map::values_mut) {
            let end = |at: &usize| Reverse(index.sightings[*at].times.hull().map(|hull| hull.1));
            arrived.flows.sort_by_key(end);
            let times = arrived.flows.iter().map(|at| index.sightings[*at].times.ranges());
            arrived.times = Times::of(times.flatten().copied().collect());
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
            let arrived = self.flows.get(&(port, address)).into_iter().flatten();
            last_of_best(arrived.filter_map(|(process, arrived)| {
                let near = arrived.times.near(range.0, range.1, listeners.tolerance)?;
                let meets = |flow: &&Sighting<'_>| {
                    flow.times.near(range.0, range.1, listeners.tolerance) == Some(near)
                };
                let flow = arrived.flows.iter().map(|at| &index.sightings[*at]).find(meets)?;
                Some((near, &flow.times, Server::of(*process, &flow.groups)))
            }))
        })?;
        Some(self.whole(port.0, server))
    }

    /// Who serves a flow that arrived, by its own word.
    pub(crate) fn server_of(&self, sighting: &Sighting<'_>) -> Option<Server> {
        Some(self.whole(sighting.place, Server::of(sighting.process?, &sighting.groups)))
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
struct Groups(Map<(PlaceId, ProcessId, u32), Member>);

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
        let all: SmallVec<[u32; 4]> =
            with.into_iter().chain(owners.iter().map(|owner| owner.0)).collect();
        for pair in all.windows(2).filter(|pair| pair[0] != pair[1]) {
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
