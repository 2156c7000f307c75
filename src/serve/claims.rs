//! Addresses that hosts say they have, against what other hosts have: whoever
//! could say that it has another's address would stand in its place in every
//! answer. It must not know who asks, nor SQL.
//!
//! The rule: what another host has now, and has spoken of within a minute, is
//! that host's. An address that moves (a failover, a machine made anew) is the
//! new one's as soon as the old one says that it is gone, or says nothing for a
//! minute; until then the new one keeps what it has to tell. Only what is new
//! to a host is held against others: what it had before, and never said is gone,
//! may be shared in a way that nobody told us of, and must not keep a host out
//! after an outage. One question a batch, and a heartbeat has none.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Result;
use hyper::StatusCode;
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use tracing::warn;

use crate::cmdb::Cmdb;
use crate::cmdb::owners::{Claim, Owner};
use crate::daemon::lock;
use crate::flow::report::{Report, ScopedAddress};
use crate::graph::only_inside;
use crate::recall::HostKey;
use crate::serve::State;
use crate::serve::reply::Refusal;
use crate::view::escape;

/// Within which a host must have spoken to keep its addresses from others: two
/// standard heartbeats.
const HEARD: Duration = Duration::from_secs(60);
const HEARD_SIGNED: SignedDuration = SignedDuration::from_secs(HEARD.as_secs() as i64);

/// Most pairs of hosts of which it was said that both claim an address; of
/// more nothing is said, and all are counted.
const MAX_SAID: usize = 1024;

/// What was said of whom.
pub(crate) type Said = Mutex<HashSet<(HostKey, HostKey, IpAddr)>>;

/// Which hosts have an address now, with those of this batch; and whose claims
/// are nothing new.
#[derive(Default)]
struct Known {
    owners: HashMap<IpAddr, Vec<Owner>>,
    claims: HashSet<Claim>,
}

/// Why some of these requests are refused, each of which has these reports that
/// are new. What is taken, and was had before the other had it, is over: a
/// heartbeat would else make it go on until now, without being asked.
pub(crate) async fn contested(
    state: &State,
    cmdb: &Cmdb,
    requests: &mut [Vec<&mut Report>],
) -> Result<Vec<Option<Refusal>>> {
    let shared = &state.plan.shared_addresses;
    let mut known = Known::default();
    let asked: Vec<Claim> = requests
        .iter()
        .flatten()
        .flat_map(|report| {
            let host = report.host.hash();
            claims(report, shared).map(move |claim| (host, claim.address))
        })
        .collect();
    if !asked.is_empty() {
        let found = cmdb.owners(asked, HEARD).await?;
        known.claims = found.known;
        for owner in found.live {
            known.owners.entry(owner.address).or_default().push(owner);
        }
    }
    let mut refusals = Vec::with_capacity(requests.len());
    for reports in requests {
        let rival = reports
            .iter()
            .find_map(|report| rival(report, shared, &known).map(|owner| (&**report, owner)));
        if let Some((report, owner)) = rival {
            say(state, report, &owner);
            refusals.push(Some(refusal(owner.address)));
            continue;
        }
        // Of two in one batch, the first.
        for report in reports {
            end_what_is_anothers(report, shared, &known);
            for claim in claims(report, shared).filter(|claim| claim.ended.is_none()) {
                known.owners.entry(claim.address).or_default().push(Owner {
                    host: report.host.hash(),
                    name: report.host.name.clone(),
                    address: claim.address,
                    since: claim.since,
                });
            }
        }
        refusals.push(None);
    }
    Ok(refusals)
}

/// The addresses of a report that can be one host's only.
fn claims<'a>(
    report: &'a Report,
    shared: &'a [IpNet],
) -> impl Iterator<Item = &'a ScopedAddress> + 'a {
    let own = report.addresses.iter().filter(|claim| claim.scope.is_empty());
    let own = own.filter(|claim| !only_inside(claim.address));
    own.filter(|claim| !shared.iter().any(|network| network.contains(&claim.address)))
}

/// Who has an address that a report claims, if that is another.
fn rival(report: &Report, shared: &[IpNet], known: &Known) -> Option<Owner> {
    claims(report, shared).find_map(|claim| {
        let mut others = known.others(report, claim.address).iter();
        others.find(|owner| collides(report, claim, owner.since)).cloned()
    })
}

/// Claims of a report that are told late, of what another has by now, end with
/// what was looked at.
fn end_what_is_anothers(report: &mut Report, shared: &[IpNet], known: &Known) {
    let is_open = |claim: &&ScopedAddress| claim.ended.is_none();
    let is_anothers = |claim: &&ScopedAddress| !known.others(report, claim.address).is_empty();
    let over: HashSet<IpAddr> = claims(report, shared)
        .filter(is_open)
        .filter(is_anothers)
        .map(|claim| claim.address)
        .collect();
    let until = report.until;
    let own = report.addresses.iter_mut().filter(|claim| claim.scope.is_empty());
    for claim in own.filter(|claim| claim.ended.is_none() && over.contains(&claim.address)) {
        claim.ended = Some(until.max(claim.since));
    }
}

impl Known {
    /// Who has an address that a report claims; nobody where the claim is
    /// nothing new.
    fn others(&self, report: &Report, address: IpAddr) -> &[Owner] {
        let host = report.host.hash();
        let owners = self.owners.get(&address).map_or(&[][..], Vec::as_slice);
        let own = owners.iter().any(|owner| owner.host == host);
        if own || self.claims.contains(&(host, address)) { &[] } else { owners }
    }
}

/// Whether a claim cannot be true beside another host's, that has the address
/// since then. What a host had once (it tells of an outage, or that an address
/// is gone) takes nothing from who has it now; it was not there while the other
/// had it, but for what two clocks may differ.
fn collides(report: &Report, claim: &ScopedAddress, since: Timestamp) -> bool {
    let (end, is_past) = match claim.ended {
        Some(ended) => (ended, ended <= report.until),
        None => (report.until, report.sent.duration_since(report.until) >= HEARD_SIGNED),
    };
    !is_past || end.duration_since(since) >= HEARD_SIGNED
}

/// Once for each pair.
fn say(state: &State, report: &Report, owner: &Owner) {
    let pair = (report.host.hash(), owner.host, owner.address);
    let mut said = lock(&state.said);
    if said.len() < MAX_SAID && said.insert(pair) {
        let (host, other) = (escape::word(&report.host.name), escape::word(&owner.name));
        warn!(
            "{host} claims {}, which {other} has: its reports are refused until {other} gives it up; \
             if both have it by design, name it in --shared-addresses",
            owner.address
        );
    }
}

/// Whose it is, is told to the collector's log alone.
fn refusal(address: IpAddr) -> Refusal {
    Refusal::new(
        StatusCode::CONFLICT,
        "address_claimed",
        format!("another host that lives has the address {address}"),
        "nothing was recorded; keep it and tell it again. If both have it by design, name it in the collector's --shared-addresses",
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    use crate::flow::host::{Coverage, Host, Rung};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    /// Sent at 1000, of an address since 0.
    fn told(scope: &str, address: &str, until: i64, ended: Option<i64>) -> Report {
        Report {
            host: Host { id: "new".to_owned(), name: "new".to_owned() },
            epoch: 0,
            sequence: 1,
            rung: Rung::Netlink,
            from: at(0),
            until: at(until),
            sent: at(1000),
            coverage: Coverage::default(),
            addresses: vec![ScopedAddress {
                scope: scope.into(),
                address: address.parse().unwrap(),
                since: at(0),
                ended: ended.map(at),
            }],
            flows: Vec::new(),
        }
    }

    fn refused(report: &Report, owners: &[(&str, i64)]) -> bool {
        rival(report, &["172.17.0.1/32".parse().unwrap()], &known(report, owners)).is_some()
    }

    fn known(report: &Report, owners: &[(&str, i64)]) -> Known {
        let mut known = Known::default();
        for (name, since) in owners {
            let host = Host { id: (*name).to_owned(), name: (*name).to_owned() };
            let address = report.addresses[0].address;
            let owner = Owner { host: host.hash(), name: host.name, address, since: at(*since) };
            known.owners.entry(address).or_default().push(owner);
        }
        known
    }

    #[test]
    fn what_another_has_now_is_refused() {
        let now = told("", "10.0.0.1", 1000, None);
        assert!(!refused(&now, &[]));
        assert!(refused(&now, &[("old", 0)]));
        assert!(refused(&now, &[("old", 999)]));
        // It was there already, or is this very host.
        assert!(!refused(&now, &[("old", 0), ("new", 500)]));
        // A namespace of its own, or an address of every host.
        for everywhere in ["127.0.0.1", "::1", "fe80::1", "169.254.0.1"] {
            assert!(!refused(&told("", everywhere, 1000, None), &[("old", 0)]));
        }
        assert!(!refused(&told("blue", "10.0.0.1", 1000, None), &[("old", 0)]));
        assert!(!refused(&told("", "172.17.0.1", 1000, None), &[("old", 0)]));
    }

    #[test]
    fn what_was_had_before_the_other_is_told_late_and_taken() {
        // An outage is told of: the other has it since 700.
        assert!(!refused(&told("", "10.0.0.1", 600, None), &[("other", 700)]));
        assert!(!refused(&told("", "10.0.0.1", 720, None), &[("other", 700)]));
        assert!(refused(&told("", "10.0.0.1", 800, None), &[("other", 700)]));
        // It went over to the other, and this host says so.
        assert!(!refused(&told("", "10.0.0.1", 1000, Some(990)), &[("other", 985)]));
        assert!(refused(&told("", "10.0.0.1", 1000, Some(990)), &[("other", 100)]));
        // What it was told of late is over, as the other has it now; not what
        // nobody has, or who tells it has.
        let ended = |owners| {
            let mut late = told("", "10.0.0.1", 600, None);
            let known = known(&late, owners);
            end_what_is_anothers(&mut late, &[], &known);
            late.addresses[0].ended
        };
        assert_eq!(ended(&[("other", 700)]), Some(at(600)));
        assert_eq!(ended(&[]), None);
        assert_eq!(ended(&[("other", 700), ("new", 500)]), None);
        // An end that is still to come is none.
        assert!(refused(&told("", "10.0.0.1", 1000, Some(5000)), &[("other", 999)]));
    }
}
