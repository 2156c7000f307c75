//! Which node a sighting is an end of, and which node is at the other.

use jiff::{SignedDuration, Timestamp};
use smallvec::SmallVec;
use std::net::IpAddr;

use crate::graph::address::{Owners, Whose};
use crate::graph::index::{Index, PlaceId, ProcessId, Side, Sighting};
use crate::graph::mirror::Mirrors;
use crate::graph::service::{Listeners, Server, Services};

/// A node by numbers; [`crate::graph::Identity`] says what each means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Key {
    Process { place: PlaceId, process: ProcessId, pgid: Option<u32> },
    Unseen { place: PlaceId, port: Option<u16> },
    Peer { address: IpAddr, port: Option<u16>, link: Option<PlaceId> },
}

/// Nodes at one end of a sighting.
pub(crate) type Keys = SmallVec<[Key; 1]>;

/// Everything that tells where a sighting leads.
pub(crate) struct Resolver<'i, 'r> {
    pub(crate) index: &'i Index<'r>,
    pub(crate) owners: Owners,
    pub(crate) listeners: Listeners,
    pub(crate) services: Services,
    pub(crate) mirrors: Mirrors,
    /// The nodes each sighting is an end of.
    own: Vec<Keys>,
}

/// The other end of a sighting, in a range of time.
pub(crate) struct Other {
    pub(crate) keys: Keys,
    /// It saw the flow too, at about that time.
    pub(crate) met: bool,
    /// Several places have its address: these.
    pub(crate) claimed: SmallVec<[PlaceId; 2]>,
}

impl<'i, 'r> Resolver<'i, 'r> {
    pub(crate) fn of(
        index: &'i Index<'r>,
        owners: Owners,
        listeners: Listeners,
        tolerance: SignedDuration,
    ) -> Self {
        let services = Services::of(index, &listeners);
        let mirrors = Mirrors::of(index, &owners, tolerance);
        let own = Vec::new();
        let mut resolver = Resolver { index, owners, listeners, services, mirrors, own };
        resolver.own = index.sightings.iter().map(|sighting| resolver.ends(sighting)).collect();
        resolver
    }

    /// The nodes a sighting is an end of: one for each process group that
    /// opened it; always one that was opened, for its service is one.
    pub(crate) fn own(&self, me: u32) -> &Keys {
        &self.own[me as usize]
    }

    fn ends(&self, sighting: &Sighting<'_>) -> Keys {
        let place = sighting.place;
        match (sighting.side, sighting.process) {
            (Side::Passive(_), Some(_)) => self
                .services
                .server_of(sighting)
                .map(|server| server_key(place, server))
                .into_iter()
                .collect(),
            (Side::Passive(port), None) => {
                let range = sighting.times.hull();
                let at = (place, sighting.protocol, port);
                let server = range.and_then(|range| {
                    self.services.server(self.index, &self.listeners, at, sighting.local, range)
                });
                let unseen = Key::Unseen { place, port: Some(port) };
                [server.map_or(unseen, |server| server_key(place, server))].into_iter().collect()
            }
            (Side::Active(_), None) => [Key::Unseen { place, port: None }].into_iter().collect(),
            (Side::Unknown(port, _), None) => {
                [Key::Unseen { place, port: Some(port) }].into_iter().collect()
            }
            (Side::Active(_) | Side::Unknown(..), Some(process)) => {
                let mut keys: Keys = sighting
                    .groups
                    .iter()
                    .map(|group| Server { process, pgid: Some(group.0) })
                    .map(|server| server_key(place, self.services.whole(place, server)))
                    .collect();
                keys.sort_unstable();
                keys.dedup();
                if keys.is_empty() {
                    keys.push(Key::Process { place, process, pgid: None });
                }
                keys
            }
        }
    }

    /// The nodes at the other end of a sighting in a range of its time.
    pub(crate) fn other(&self, me: u32, range: (Timestamp, Timestamp)) -> Other {
        let sighting = &self.index.sightings[me as usize];
        let mirrors = self.mirrors.at(self.index, &self.owners, me, range);
        if let [first, rest @ ..] = &mirrors[..] {
            let mut keys = self.own(*first).clone();
            if !rest.is_empty() {
                keys.extend(rest.iter().flat_map(|at| self.own(*at)).copied());
                keys.sort_unstable();
                keys.dedup();
            }
            return Other { keys, met: true, claimed: SmallVec::new() };
        }
        if let Side::Unknown(port, peer_port) = sighting.side
            && (sighting.local, port) == (sighting.peer, peer_port)
        {
            // A TCP socket may connect to itself (RFC 9293 3.5, simultaneous
            // open); there is no other end.
            return Other { keys: self.own(me).clone(), met: false, claimed: SmallVec::new() };
        }
        let port = match sighting.side {
            Side::Active(port) | Side::Unknown(_, port) => Some(port),
            Side::Passive(_) => None,
        };
        let from = (sighting.place, sighting.local);
        let (link, claimed) = match self.owners.whose(self.index, from, sighting.peer, range) {
            Whose::Place(place) => {
                let keys = self.at_place(me, place, range);
                return Other { keys, met: false, claimed: SmallVec::new() };
            }
            Whose::Nobody(link) => (link, SmallVec::new()),
            Whose::Several(places) => (None, places),
        };
        let peer = Key::Peer { address: sighting.peer, port, link };
        Other { keys: [peer].into_iter().collect(), met: false, claimed }
    }

    /// The process at a place that is the other end of a sighting which it did
    /// not itself see at that time.
    fn at_place(&self, me: u32, place: PlaceId, range: (Timestamp, Timestamp)) -> Keys {
        let sighting = &self.index.sightings[me as usize];
        let unseen = match sighting.side {
            Side::Active(port) => {
                let at = (place, sighting.protocol, port);
                let server =
                    self.services.server(self.index, &self.listeners, at, sighting.peer, range);
                if let Some(server) = server {
                    return [server_key(place, server)].into_iter().collect();
                }
                Key::Unseen { place, port: Some(port) }
            }
            Side::Passive(_) => Key::Unseen { place, port: None },
            Side::Unknown(_, port) => Key::Unseen { place, port: Some(port) },
        };
        // Flows that are shorter than a scan's interval are seen now at one
        // end and then at the other. If only one process there ever was the
        // other end, it is this one's too, and the edge says how it is known.
        if let Some(only) = self.mirrors.ever(self.index, me, place) {
            let keys = self.own(only);
            if keys.len() == 1 {
                return keys.clone();
            }
        }
        [unseen].into_iter().collect()
    }
}

fn server_key(place: PlaceId, server: Server) -> Key {
    Key::Process { place, process: server.process, pgid: server.pgid }
}
