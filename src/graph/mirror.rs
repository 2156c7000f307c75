//! Which two sightings are the two ends of one flow.
//!
//! An active flow's mirror is a passive one with the two addresses exchanged
//! and the same service port, near in time. A mirror is the best evidence of
//! where an address leads: whoever has it was there.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use smallvec::SmallVec;

use crate::flow::socket::Protocol;
use crate::graph::address::Owners;
use crate::graph::index::{Index, Map, Pair, PlaceId, Side};
use crate::graph::times::Near;

/// The sightings at both ends of each pair of addresses and port.
pub(crate) struct Mirrors {
    pairs: Map<Pair, Ends>,
    unknown: Map<UnknownPair, Vec<u32>>,
    /// For each sighting of a known direction, the ones at the other end that
    /// may be its counterpart in some range of time.
    accepted: Vec<SmallVec<[u32; 1]>>,
    tolerance: SignedDuration,
}

/// Sightings in the order of their places.
#[derive(Default)]
pub(crate) struct Ends {
    pub(crate) active: SmallVec<[u32; 2]>,
    pub(crate) passive: SmallVec<[u32; 2]>,
}

/// Local and peer address and port, of sightings of unknown direction.
type UnknownPair = (Protocol, (IpAddr, u16), (IpAddr, u16), Option<PlaceId>);

/// Most hosts that one flow's other end is looked for on, and most places of
/// its own host. An address that more have is a default one, and what happened
/// elsewhere is no mirror.
const MAX_PLACES: usize = 64;

/// One or some sightings.
pub(crate) type Chosen = SmallVec<[u32; 2]>;

impl Mirrors {
    pub(crate) fn of(index: &Index<'_>, owners: &Owners, tolerance: SignedDuration) -> Self {
        let mut unknown: Map<UnknownPair, Vec<u32>> = Map::default();
        for (at, sighting) in (0..).zip(&index.sightings) {
            if let Side::Unknown(port, peer_port) = sighting.side {
                let ends = ((sighting.local, port), (sighting.peer, peer_port));
                let pair = (sighting.protocol, ends.0, ends.1, sighting.within());
                unknown.entry(pair).or_default().push(at);
            }
        }
        let mut mirrors = Mirrors { pairs: pairs(index), unknown, accepted: Vec::new(), tolerance };
        mirrors.accept(index, owners);
        mirrors
    }

    /// What was the other end of a sighting in a range of time.
    pub(crate) fn at(
        &self,
        index: &Index<'_>,
        owners: &Owners,
        me: u32,
        range: (Timestamp, Timestamp),
    ) -> Chosen {
        let sighting = &index.sightings[me as usize];
        if let Side::Unknown(port, peer_port) = sighting.side {
            let ends = ((sighting.peer, peer_port), (sighting.local, port));
            let pair = (sighting.protocol, ends.0, ends.1, sighting.within());
            let candidates = self.unknown.get(&pair).map_or(&[][..], Vec::as_slice);
            return self.choose(index, owners, me, range, candidates);
        }
        let accepted = self.accepted.get(me as usize).map_or(&[][..], SmallVec::as_slice);
        self.choose(index, owners, me, range, accepted)
    }

    /// The one sighting at a place that is the other end at whatever time.
    pub(crate) fn ever(&self, index: &Index<'_>, me: u32, place: PlaceId) -> Option<u32> {
        let sighting = &index.sightings[me as usize];
        let ends = self.pairs.get(&sighting.pair()?)?;
        let others =
            if matches!(sighting.side, Side::Active(_)) { &ends.passive } else { &ends.active };
        let mut there = others.iter().filter(|at| index.sightings[**at as usize].place == place);
        let only = there.next()?;
        there.next().is_none().then_some(*only)
    }

    /// Both ends must choose one another: where several labs are built with
    /// the same addresses, each flow has mirrors in all of them, and only the
    /// nearest pair belongs together. What is chosen is a place; all active
    /// flows at it share the one passive flow that their service sees.
    fn accept(&mut self, index: &Index<'_>, owners: &Owners) {
        let mut wanted: Vec<Chosen> = Vec::with_capacity(index.sightings.len());
        for (me, sighting) in (0..).zip(&index.sightings) {
            let mut wants = Chosen::new();
            if let Some(ends) = sighting.pair().and_then(|pair| self.pairs.get(&pair)) {
                let others = if matches!(sighting.side, Side::Active(_)) {
                    &ends.passive
                } else {
                    &ends.active
                };
                for range in sighting.times.ranges() {
                    wants.extend(self.choose(index, owners, me, *range, others));
                }
                wants.sort_unstable();
                wants.dedup();
            }
            wanted.push(wants);
        }
        self.accepted = (0..)
            .zip(&wanted)
            .map(|(me, wants)| {
                let mutual = |other: &&u32| wanted[**other as usize].binary_search(&me).is_ok();
                wants.iter().filter(mutual).copied().collect()
            })
            .collect();
    }

    /// Of the candidates near in time, those at the best places: overlapping
    /// before near, the same place before the same host before elsewhere.
    fn choose(
        &self,
        index: &Index<'_>,
        owners: &Owners,
        me: u32,
        range: (Timestamp, Timestamp),
        candidates: &[u32],
    ) -> Chosen {
        if candidates.is_empty() {
            return Chosen::new();
        }
        let place = index.sightings[me as usize].place;
        let host = index.host(place);
        // The default addresses of containers are on every host of a fleet,
        // and in a thousand scopes of one. Nothing beats an overlapping flow
        // at the own place, and then on the own host, so that is asked first
        // and the fleet only if need be.
        let here = within(candidates, |at| index.sightings[at as usize].place, place);
        let own = within(candidates, |at| index.host(index.sightings[at as usize].place), host);
        let few_here = groups(own, |at| index.sightings[at as usize].place) <= MAX_PLACES;
        let few = few_here
            && groups(candidates, |at| index.host(index.sightings[at as usize].place))
                <= MAX_PLACES;
        let wider = [(here, !few_here), (own, !few), (candidates, true)];
        for (candidates, last) in wider {
            let scored: SmallVec<[_; 2]> = candidates
                .iter()
                .filter(|at| **at != me)
                .filter_map(|at| self.score(index, owners, me, range, *at))
                .collect();
            if let Some(best) = scored.iter().map(|scored| scored.score).max()
                && (last || best.0 == Near::Overlap)
            {
                return at_best(index, me, &scored, best);
            }
            if last {
                break;
            }
        }
        Chosen::new()
    }

    fn score(
        &self,
        index: &Index<'_>,
        owners: &Owners,
        me: u32,
        range: (Timestamp, Timestamp),
        at: u32,
    ) -> Option<Scored> {
        let (own, other) = (&index.sightings[me as usize], &index.sightings[at as usize]);
        let near = other.times.near(range.0, range.1, self.tolerance)?;
        let had = || owners.had(index, other.place, other.local, range);
        let there = if near == Near::Overlap || had() { Near::Overlap } else { near };
        let (host, other_host) = (index.host(own.place), index.host(other.place));
        // Where both hosts have both addresses, each flow stayed at home, be
        // its true other end seen or not.
        if host != other_host
            && owners.on_host(host, other.local, range)
            && owners.on_host(other_host, own.local, range)
        {
            return None;
        }
        // Between hosts an address leads to who has it, whoever else tells of
        // flows from it: a transparent proxy, or one that lies.
        if host != other_host
            && index.is_own(own.place)
            && owners.is_anothers(other_host, other.local, range)
        {
            return None;
        }
        let locality = if other.place == own.place { 2 } else { u8::from(host == other_host) };
        Some(Scored { at, near, score: (there, locality) })
    }
}

fn at_best(index: &Index<'_>, me: u32, scored: &[Scored], best: (Near, u8)) -> Chosen {
    let place = |scored: &Scored| index.sightings[scored.at as usize].place;
    let places: SmallVec<[PlaceId; 2]> =
        scored.iter().filter(|scored| scored.score == best).map(place).collect();
    let there = scored.iter().filter(|scored| places.contains(&place(scored)));
    if matches!(index.sightings[me as usize].side, Side::Passive(_)) {
        return there.map(|scored| scored.at).collect();
    }
    // A port is served by one process at a time, so of two that served it
    // in turn the one that overlaps is meant.
    let near = there.clone().map(|scored| scored.near).max();
    there.filter(|scored| Some(scored.near) == near).map(|scored| scored.at).collect()
}

/// Those of some sightings that are of one group; they are sorted by it.
fn within<G: Ord>(candidates: &[u32], of: impl Fn(u32) -> G, group: G) -> &[u32] {
    let from = candidates.partition_point(|at| of(*at) < group);
    let to = candidates.partition_point(|at| of(*at) <= group);
    &candidates[from..to]
}

/// How many groups sightings are of, counted to one beyond [`MAX_PLACES`].
fn groups<G: Ord>(mut candidates: &[u32], of: impl Fn(u32) -> G) -> usize {
    let mut groups = 0;
    while let Some(first) = candidates.first().filter(|_| groups <= MAX_PLACES) {
        let group = of(*first);
        candidates = &candidates[candidates.partition_point(|at| of(*at) <= group)..];
        groups += 1;
    }
    groups
}

/// A candidate for the other end.
struct Scored {
    at: u32,
    /// How its flow meets the time asked about.
    near: Near,
    /// How its place meets it, and how local it is.
    score: (Near, u8),
}

/// The sightings at both ends of each pair.
pub(crate) fn pairs(index: &Index<'_>) -> Map<Pair, Ends> {
    let mut pairs: Map<Pair, Ends> = Map::default();
    for (at, sighting) in (0..).zip(&index.sightings) {
        let Some(pair) = sighting.pair() else { continue };
        let ends = pairs.entry(pair).or_default();
        match sighting.side {
            Side::Active(_) => ends.active.push(at),
            Side::Passive(_) | Side::Unknown(..) => ends.passive.push(at),
        }
    }
    pairs
}
