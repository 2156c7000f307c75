//! Whose an address was, at a time.
//!
//! An address belongs to a place for a range of time only: DHCP leases move,
//! pod addresses are used again. Several places may have one at once: every
//! docker0, two namespaces, a floating address.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use smallvec::SmallVec;

use crate::graph::index::{Index, Map, PlaceId, Side};
use crate::graph::times::{Near, Times};
use crate::graph::{Place, link_local, only_inside};
use crate::recall::{AddressRecord, HostKey};

/// Who has which address.
pub(crate) struct Owners {
    by_address: Map<IpAddr, SmallVec<[Owned; 1]>>,
    /// Hosts that have an address in their own namespace: where it leads on the
    /// network between hosts.
    on_the_network: Map<IpAddr, SmallVec<[(HostKey, Times); 1]>>,
    tolerance: SignedDuration,
}

/// An address at a place.
struct Owned {
    host: HostKey,
    place: PlaceId,
    /// It is an interface's. Otherwise a passive flow used it as its own: a
    /// transparent proxy does that with addresses of the whole world, so it
    /// counts only where no interface has the address.
    interface: bool,
    times: Times,
}

/// Where an address leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// To this place.
    Place(PlaceId),
    /// To nobody who reports; a link-local one stays on the link of a place.
    Nobody(Option<PlaceId>),
    /// To one of several, and nothing tells which.
    Several(SmallVec<[PlaceId; 2]>),
}

impl Owners {
    pub(crate) fn of(
        addresses: &[AddressRecord],
        index: &mut Index<'_>,
        tolerance: SignedDuration,
    ) -> Self {
        let mut ranges: Map<(IpAddr, PlaceId, bool), SmallVec<[_; 1]>> = Map::default();
        for record in addresses {
            let place = Place { host: record.host, scope: Arc::clone(&record.scope) };
            let place = index.places.number(&place);
            let range = (record.since, record.until);
            ranges.entry((record.address, place, true)).or_default().push(range);
        }
        for sighting in &index.sightings {
            if matches!(sighting.side, Side::Passive(_)) && !only_inside(sighting.local) {
                let spans = sighting.record.spans.iter().map(|span| (span.since, span.until));
                ranges.entry((sighting.local, sighting.place, false)).or_default().extend(spans);
            }
        }
        let mut by_address: Map<IpAddr, SmallVec<[Owned; 1]>> = Map::default();
        let mut on_the_network: Map<IpAddr, SmallVec<[_; 1]>> = Map::default();
        for ((address, place, interface), ranges) in ranges {
            let times = Times::of(ranges);
            let host = index.host(place);
            if interface && index.is_own(place) && !only_inside(address) {
                on_the_network.entry(address).or_default().push((host, times.clone()));
            }
            by_address.entry(address).or_default().push(Owned { host, place, interface, times });
        }
        for owned in by_address.values_mut() {
            owned.sort_by_key(|owned| (owned.host, owned.place, !owned.interface));
        }
        for had in on_the_network.values_mut() {
            had.sort_by_key(|(host, _)| *host);
        }
        Owners { by_address, on_the_network, tolerance }
    }

    /// Whether an interface at a place surely had the address in that range.
    pub(crate) fn had(
        &self,
        index: &Index<'_>,
        place: PlaceId,
        address: IpAddr,
        (since, until): (Timestamp, Timestamp),
    ) -> bool {
        self.at_place(address, index.host(place), place).iter().any(|owned| {
            owned.interface && owned.times.near(since, until, self.tolerance) == Some(Near::Overlap)
        })
    }

    /// Whether an interface anywhere on a host had the address in that range,
    /// or may have.
    pub(crate) fn on_host(
        &self,
        host: HostKey,
        address: IpAddr,
        (since, until): (Timestamp, Timestamp),
    ) -> bool {
        self.at_host(address, host).iter().any(|owned| {
            owned.interface && owned.times.near(since, until, self.tolerance).is_some()
        })
    }

    /// Whether an address is surely another host's in that range, and not this
    /// one's, as far as the network between hosts goes.
    pub(crate) fn is_anothers(
        &self,
        host: HostKey,
        address: IpAddr,
        (since, until): (Timestamp, Timestamp),
    ) -> bool {
        let had = self.on_the_network.get(&address).map_or(&[][..], SmallVec::as_slice);
        let near = |times: &Times| times.near(since, until, self.tolerance);
        // Every host may have it, as docker0's.
        let own = had.binary_search_by_key(&host, |(owner, _)| *owner).ok();
        own.is_none_or(|at| near(&had[at].1).is_none())
            && had.iter().any(|(_, times)| near(times) == Some(Near::Overlap))
    }

    /// Where an address leads from an address at a place, in that range of time:
    /// among those that had it then, the same place comes first, then the same
    /// host. Where nobody is known to have had it, it is theirs who keep it in
    /// silence. Nothing that comes from a loopback address leaves its place.
    pub(crate) fn whose(
        &self,
        index: &Index<'_>,
        (from, local): (PlaceId, IpAddr),
        address: IpAddr,
        (since, until): (Timestamp, Timestamp),
    ) -> Whose {
        if link_local(address) {
            let here = self.at(address).iter().any(|owned| owned.place == from);
            return if here { Whose::Place(from) } else { Whose::Nobody(Some(from)) };
        }
        if only_inside(address) {
            return Whose::Place(from);
        }
        // Nothing comes before the own place, and a host may have a thousand
        // scopes with one address.
        if self.had(index, from, address, (since, until)) {
            return Whose::Place(from);
        }
        if local.is_loopback() {
            return Whose::Nobody(None);
        }
        for (interface, near) in [
            (true, Near::Overlap),
            (true, Near::Tolerated),
            (false, Near::Overlap),
            (false, Near::Tolerated),
        ] {
            let had = |owned: &&Owned| {
                owned.interface == interface
                    && owned.times.near(since, until, self.tolerance) == Some(near)
            };
            // The default addresses of containers are on every host of a
            // fleet; the own host's answer needs no look at the others.
            for owned in [self.at_host(address, index.host(from)), self.at(address)] {
                let places: SmallVec<[PlaceId; 2]> =
                    owned.iter().filter(had).map(|owned| owned.place).collect();
                match places[..] {
                    [] => {}
                    [place] => return Whose::Place(place),
                    _ if places.contains(&from) => return Whose::Place(from),
                    _ => return between(index, from, places),
                }
            }
        }
        let places = self.kept(index, from, address, (since, until));
        match places[..] {
            [] => Whose::Nobody(None),
            [place] => Whose::Place(place),
            _ => between(index, from, places),
        }
    }

    /// The places that keep an address which nobody is known to have had in
    /// that range: who had it last before it and who had it first after it, if
    /// they are silent meanwhile. Who tells of it is not.
    fn kept(
        &self,
        index: &Index<'_>,
        from: PlaceId,
        address: IpAddr,
        (since, until): (Timestamp, Timestamp),
    ) -> SmallVec<[PlaceId; 2]> {
        let had = || self.at(address).iter().filter(|owned| owned.interface);
        // Several that had it at about the same time had it at once.
        let last = had().filter_map(|owned| owned.times.last_before(since)).max();
        let last = last.map(|last| last.checked_sub(self.tolerance).unwrap_or(Timestamp::MIN));
        let next = had().filter_map(|owned| owned.times.first_after(until)).min();
        let next = next.map(|next| next.checked_add(self.tolerance).unwrap_or(Timestamp::MAX));
        let keeps = |owned: &&Owned| {
            let kept = index.heard.kept(owned.host, &owned.times, (since, until));
            let (before, after) = (kept.before, kept.after);
            owned.host != index.host(from)
                && (before.is_some() && before >= last
                    || after.is_some_and(|after| Some(after) <= next))
        };
        had().filter(keeps).map(|owned| owned.place).collect()
    }

    fn at(&self, address: IpAddr) -> &[Owned] {
        self.by_address.get(&address).map_or(&[], SmallVec::as_slice)
    }

    fn at_host(&self, address: IpAddr, host: HostKey) -> &[Owned] {
        let owned = self.at(address);
        let from = owned.partition_point(|owned| owned.host < host);
        let to = owned.partition_point(|owned| owned.host <= host);
        &owned[from..to]
    }

    fn at_place(&self, address: IpAddr, host: HostKey, place: PlaceId) -> &[Owned] {
        let owned = self.at_host(address, host);
        let from = owned.partition_point(|owned| owned.place < place);
        let to = owned.partition_point(|owned| owned.place <= place);
        &owned[from..to]
    }
}

/// Of several places that have an address the one that the network between
/// hosts leads to, if one is a host's own; what is in a namespace may be on
/// another network.
fn between(index: &Index<'_>, from: PlaceId, places: SmallVec<[PlaceId; 2]>) -> Whose {
    let mut own = places.iter().filter(|place| index.is_own(**place));
    match (own.next(), own.next()) {
        (Some(only), None) if index.is_own(from) => Whose::Place(*only),
        _ => Whose::Several(places),
    }
}
