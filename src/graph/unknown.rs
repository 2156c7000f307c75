//! Flows whose own host could not tell who opened them: the other end's
//! record may.

use jiff::SignedDuration;

use crate::graph::address::{Owners, Whose};
use crate::graph::index::{Index, Pair, Side, Sighting};
use crate::graph::mirror::{Ends, pairs};
use crate::graph::service::Listeners;

/// Gives a direction to every sighting without one that the other end, or a
/// listener at either end, decides. Evidence for both directions decides
/// nothing, and port numbers are no evidence.
pub(crate) fn settle(
    index: &mut Index<'_>,
    owners: &Owners,
    listeners: &Listeners,
    tolerance: SignedDuration,
) {
    if !index.sightings.iter().any(|sighting| matches!(sighting.side, Side::Unknown(..))) {
        return;
    }
    let pairs = pairs(index);
    let met = |me: &Sighting<'_>, pair: Pair, end: fn(&Ends) -> &[u32]| {
        let others = pairs.get(&pair).map(end).into_iter().flatten();
        others.into_iter().any(|at| {
            let other = &index.sightings[*at as usize];
            other.times.meet(&me.times, tolerance).is_some()
        })
    };
    let settled: Vec<Side> = index
        .sightings
        .iter()
        .map(|me| {
            let (Side::Unknown(port, peer_port), Some(range)) = (me.side, me.times.hull()) else {
                return me.side;
            };
            let within = me.within();
            let (protocol, local, peer) = (me.protocol, me.local, me.peer);
            let opened = Pair { protocol, port: peer_port, active: local, passive: peer, within };
            let called = Pair { protocol, port, active: peer, passive: local, within };
            let heard = match owners.whose(index, (me.place, local), peer, range) {
                Whose::Place(place) => {
                    listeners.any(index, (place, protocol, peer_port), peer, range)
                }
                Whose::Nobody(_) | Whose::Several(_) => false,
            };
            let active = heard || met(me, opened, |ends| ends.passive.as_slice());
            let passive = met(me, called, |ends| ends.active.as_slice())
                || listeners.any(index, (me.place, protocol, port), local, range);
            match (active, passive) {
                (true, false) => Side::Active(peer_port),
                (false, true) => Side::Passive(port),
                _ => me.side,
            }
        })
        .collect();
    for (sighting, side) in index.sightings.iter_mut().zip(settled) {
        sighting.side = side;
    }
}
