//! Who has an address now: what a claim is held against.

use std::collections::HashSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use shawk::cmdb::owners::Owner;
use shawk::flow::report::Report;

use crate::cmdb::{Place, ip, key, on_every_engine, record, report, scoped, with_addresses};

on_every_engine! {
    a_claim_is_held_against_who_lives_and_has_it,
}

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// Sent now, of a run that was last heard so long ago.
fn told(name: &str, addresses: &[&str], ago: SignedDuration) -> Report {
    let now = Timestamp::now();
    let mut told = report(name, 0, 1, 60, Vec::new());
    (told.from, told.until, told.sent) = (now - 60 * MINUTE, now - ago, now);
    told.epoch = told.from.as_microsecond();
    with_addresses(told, addresses)
}

async fn a_claim_is_held_against_who_lives_and_has_it(place: Place) {
    let cmdb = place.cmdb().await;
    let now = SignedDuration::ZERO;
    let mut reports = vec![
        told("old", &["10.0.0.1"], now),
        told("same", &["10.0.0.1"], now),
        told("silent", &["10.0.0.2"], 5 * MINUTE),
        told("gave-up", &["10.0.0.3"], now),
        told("apart", &[], now),
    ];
    reports[3].addresses[0].ended = Some(reports[3].until);
    let inside = scoped("netns:blue", "10.0.0.4", &reports[4]);
    reports[4].addresses = vec![inside];
    // So many that there are some on each node of a cluster.
    let others = (0..20).map(|number| (format!("h{number}"), format!("10.0.1.{number}")));
    let others: Vec<_> = others.collect();
    reports.extend(others.iter().map(|(name, address)| told(name, &[address], now)));
    record(&cmdb, &reports).await;

    let mut claims: Vec<_> =
        (1..5).map(|number| (key("new"), ip(&format!("10.0.0.{number}")))).collect();
    claims.push((key("same"), ip("10.0.0.1")));
    claims.extend(others.iter().map(|(name, address)| (key(name), ip(address))));
    claims.extend(others.iter().map(|(_, address)| (key("new"), ip(address))));
    let found = cmdb.owners(claims, Duration::from_secs(60)).await.expect("owners");

    let said = |owner: &Owner| format!("{} {}", owner.name, owner.address);
    let mut live: Vec<_> = found.live.iter().map(said).collect();
    live.sort();
    let mut expected: Vec<_> =
        others.iter().map(|(name, address)| format!("{name} {address}")).collect();
    expected.extend(["old 10.0.0.1", "same 10.0.0.1"].map(str::to_owned));
    expected.sort();
    assert_eq!(live, expected);
    let since = |owner: &Owner| {
        let report = reports.iter().find(|report| report.host.hash() == owner.host);
        report.is_some_and(|report| owner.since.as_microsecond() == report.from.as_microsecond())
    };
    assert!(found.live.iter().all(since), "{:?}", found.live);
    // A host's own claim is no news where others have the address, too.
    assert_eq!(found.known, HashSet::from([(key("same"), ip("10.0.0.1"))]));
}
