//! From what a user names to where a walk begins, and what lies around it.

use std::collections::BTreeSet;

use shawk::cmdb::Cmdb;
use shawk::recall::{AddressRecord, Found, HostKey, Records, Selector, Spot, Window};

use crate::cmdb::{
    Place, at, between, ip, key, names, on_every_engine, open, over, record, report, with_addresses,
};

on_every_engine! {
    a_selector_means_hosts_or_addresses,
    nothing_is_found_outside_of_the_window,
    both_ends_and_their_listeners_lie_around_a_host,
    an_address_without_a_probe_has_those_who_talk_to_it_around,
    loopback_leads_to_no_other_host,
    what_a_silent_host_had_lies_around,
    a_part_of_a_name_is_enough,
}

/// web (10.0.0.1, 2001:db8::1) → db (10.0.0.2:5432) and 192.0.2.7:443, which
/// has no probe. Another database of db's is used by nobody.
async fn two_hosts(cmdb: &Cmdb) {
    let web = vec![
        open("10.0.0.1:80 . nginx", 1, 10),
        open("10.0.0.1 > 10.0.0.2:5432 app", 1, 10),
        over("10.0.0.1 > 192.0.2.7:443 app", 1, 5),
        open("127.0.0.1 > 127.0.0.1:6379 app", 1, 10),
        open("127.0.0.1:6379 < 127.0.0.1 redis", 1, 10),
    ];
    let db = vec![
        open("0.0.0.0:5432 . postgres", 1, 10),
        open("0.0.0.0:5433 . postgres", 1, 10),
        open("10.0.0.2:5432 < 10.0.0.1 postgres", 1, 10),
        open("127.0.0.1:6379 < 127.0.0.1 redis", 1, 10),
    ];
    let web =
        with_addresses(report("web", 0, 1, 10, web), &["10.0.0.1", "2001:db8::1", "127.0.0.1"]);
    let db = with_addresses(report("db", 0, 1, 10, db), &["10.0.0.2", "127.0.0.1"]);
    record(cmdb, &[web, db]).await;
}

fn found(hosts: &[&str], addresses: &[&str]) -> Found {
    Found {
        hosts: hosts.iter().map(|host| key(host)).collect(),
        addresses: addresses.iter().map(|address| ip(address)).collect(),
    }
}

async fn a_selector_means_hosts_or_addresses(place: Place) {
    let cmdb = place.cmdb().await;
    two_hosts(&cmdb).await;
    for (selector, expected) in [
        (Selector::Address(ip("10.0.0.1")), found(&["web"], &[])),
        (Selector::Address(ip("2001:db8::1")), found(&["web"], &[])),
        (Selector::Address(ip("192.0.2.7")), found(&[], &["192.0.2.7"])),
        (Selector::Address(ip("10.0.0.3")), found(&[], &[])),
        (Selector::Network("10.0.0.0/24".parse().expect("a network")), found(&["web", "db"], &[])),
        (Selector::Network("10.0.0.2/31".parse().expect("a network")), found(&["db"], &[])),
        (Selector::Network("192.0.2.0/24".parse().expect("a network")), found(&[], &["192.0.2.7"])),
        (
            Selector::Network("0.0.0.0/0".parse().expect("a network")),
            found(&["web", "db"], &["192.0.2.7"]),
        ),
        (Selector::Network("::/0".parse().expect("a network")), found(&["web"], &[])),
        (Selector::Host("web".to_owned()), found(&["web"], &[])),
        (Selector::Host("WEB".to_owned()), found(&["web"], &[])),
        (Selector::Host("id-of-db".to_owned()), found(&["db"], &[])),
        (Selector::Host("web' OR '1'='1".to_owned()), found(&[], &[])),
        (Selector::Host("%".to_owned()), found(&[], &[])),
        (Selector::Process("redis".to_owned()), found(&["web", "db"], &[])),
        (Selector::Process("nginx".to_owned()), found(&["web"], &[])),
        (Selector::Process("Nginx".to_owned()), found(&[], &[])),
        (Selector::Port(5432), found(&["web", "db"], &[])),
        (Selector::Port(5433), found(&["db"], &[])),
        (Selector::Port(443), found(&["web"], &["192.0.2.7"])),
        (Selector::Port(1), found(&[], &[])),
        // All of the place; the graph knows what is at the port.
        (Selector::Service(Spot::Address(ip("10.0.0.2")), 5432), found(&["db"], &[])),
        (Selector::Service(Spot::Address(ip("192.0.2.7")), 443), found(&[], &["192.0.2.7"])),
        (Selector::Service(Spot::Address(ip("10.0.0.3")), 80), found(&[], &[])),
        (Selector::Service(Spot::Host("WEB".to_owned()), 80), found(&["web"], &[])),
        (Selector::Service(Spot::Host("id-of-db".to_owned()), 1), found(&["db"], &[])),
        (Selector::Service(Spot::Host("nosuch".to_owned()), 80), found(&[], &[])),
        (Selector::All, found(&["web", "db"], &[])),
    ] {
        let answer = cmdb.find(&selector, &Window::default()).await.expect("find");
        assert_eq!(answer, expected, "{selector:?}");
    }
}

async fn nothing_is_found_outside_of_the_window(place: Place) {
    let cmdb = place.cmdb().await;
    two_hosts(&cmdb).await;
    for selector in [
        Selector::Address(ip("10.0.0.1")),
        Selector::Address(ip("192.0.2.7")),
        Selector::Host("web".to_owned()),
        Selector::Process("nginx".to_owned()),
        Selector::Port(443),
    ] {
        for (since, until) in [(-20, -10), (11, 99)] {
            let answer = cmdb.find(&selector, &between(since, until)).await.expect("find");
            assert_eq!(answer, Found::default(), "{selector:?} {since}..{until}");
        }
    }
    let after = cmdb.find(&Selector::Port(443), &between(6, 10)).await.expect("find");
    assert_eq!(after, Found::default(), "that flow was over");
}

fn hosts(records: &shawk::recall::Records) -> BTreeSet<HostKey> {
    records.hosts.iter().map(|host| host.key).collect()
}

async fn both_ends_and_their_listeners_lie_around_a_host(place: Place) {
    let cmdb = place.cmdb().await;
    two_hosts(&cmdb).await;
    let around_web = cmdb.around(&[key("web")], &[], &Window::default()).await.expect("around");
    let mut expected = [
        "10.0.0.1:80 . nginx",
        "10.0.0.1 > 10.0.0.2:5432 app",
        "10.0.0.1 > 192.0.2.7:443 app",
        "127.0.0.1 > 127.0.0.1:6379 app",
        "127.0.0.1:6379 < 127.0.0.1 redis",
        "0.0.0.0:5432 . postgres",
        "10.0.0.2:5432 < 10.0.0.1 postgres",
    ];
    expected.sort_unstable();
    assert_eq!(names(&around_web), expected);
    assert_eq!(hosts(&around_web), BTreeSet::from([key("web"), key("db")]));
    let owner = around_web.addresses.iter().find(|record| record.address == ip("10.0.0.2"));
    assert_eq!(owner.map(|record| record.host), Some(key("db")));

    let around_db = cmdb.around(&[key("db")], &[], &Window::default()).await.expect("around");
    let mut expected = [
        "0.0.0.0:5432 . postgres",
        "0.0.0.0:5433 . postgres",
        "10.0.0.2:5432 < 10.0.0.1 postgres",
        "127.0.0.1:6379 < 127.0.0.1 redis",
        "10.0.0.1 > 10.0.0.2:5432 app",
    ];
    expected.sort_unstable();
    assert_eq!(names(&around_db), expected);
    assert!(cmdb.around(&[], &[], &Window::default()).await.expect("around").flows.is_empty());
}

async fn an_address_without_a_probe_has_those_who_talk_to_it_around(place: Place) {
    let cmdb = place.cmdb().await;
    two_hosts(&cmdb).await;
    let records = cmdb.around(&[], &[ip("192.0.2.7")], &Window::default()).await.expect("around");
    assert_eq!(names(&records), ["10.0.0.1 > 192.0.2.7:443 app"]);
    assert_eq!(hosts(&records), BTreeSet::from([key("web")]));
}

async fn loopback_leads_to_no_other_host(place: Place) {
    let cmdb = place.cmdb().await;
    two_hosts(&cmdb).await;
    for local in ["127.0.0.1", "::1", "fe80::1", "169.254.1.1", "0.0.0.0"] {
        let records = cmdb.around(&[], &[ip(local)], &Window::default()).await.expect("around");
        assert!(records.flows.is_empty() && records.addresses.is_empty(), "{local}");
    }
}

/// The host of db is silent from 100 to 300 and from 400 to 500.
async fn what_a_silent_host_had_lies_around(place: Place) {
    let cmdb = place.cmdb().await;
    let mut first = with_addresses(report("db", 0, 1, 100, vec![]), &["10.0.0.2", "10.0.0.3"]);
    first.addresses[1].ended = Some(at(50));
    let second = with_addresses(report("db", 300, 1, 400, vec![]), &["10.0.0.2", "10.0.0.4"]);
    let third = with_addresses(report("db", 500, 1, 600, vec![]), &["10.0.0.2"]);
    let called = over("10.0.0.1 > 10.0.0.2:5432 app", 150, 160);
    let app = with_addresses(report("app", 0, 1, 600, vec![called]), &["10.0.0.1"]);
    record(&cmdb, &[third, first, app, second]).await;

    let seconds = |moment: jiff::Timestamp| moment.as_second() - at(0).as_second();
    let had = |records: &Records| -> Vec<String> {
        let of_db = records.addresses.iter().filter(|record| record.host == key("db"));
        let had = of_db.map(|record| {
            let AddressRecord { address, since, until, .. } = record;
            format!("{address} {}-{}", seconds(*since), seconds(*until))
        });
        let mut had: Vec<String> = had.collect();
        had.sort();
        had
    };
    for (since, until, expected) in [
        (120, 200, &["10.0.0.2 0-100", "10.0.0.2 300-400", "10.0.0.4 300-400"][..]),
        (80, 90, &["10.0.0.2 0-100", "10.0.0.2 300-400", "10.0.0.4 300-400"]),
        (450, 460, &["10.0.0.2 300-400", "10.0.0.2 500-600", "10.0.0.4 300-400"]),
        (350, 550, &["10.0.0.2 300-400", "10.0.0.2 500-600", "10.0.0.4 300-400"]),
        (700, 710, &["10.0.0.2 500-600"]),
    ] {
        let records = cmdb.around(&[key("db")], &[], &between(since, until)).await.expect("around");
        assert_eq!(had(&records), expected, "{since}..{until}");
    }
    let silent = between(120, 200);
    let around = cmdb.around(&[key("db")], &[], &silent).await.expect("around");
    assert_eq!(names(&around), ["10.0.0.1 > 10.0.0.2:5432 app"]);
    let around = cmdb.around(&[key("app")], &[], &silent).await.expect("around");
    assert_eq!(had(&around), ["10.0.0.2 0-100", "10.0.0.2 300-400"]);

    for (selector, window, expected) in [
        (Selector::Host("db".to_owned()), silent, found(&["db"], &[])),
        (Selector::Host("id-of-db".to_owned()), silent, found(&["db"], &[])),
        (Selector::Host("db".to_owned()), between(450, 460), found(&[], &[])),
        (Selector::Host("nobody".to_owned()), silent, found(&[], &[])),
        (Selector::Port(5432), silent, found(&["app", "db"], &[])),
        (Selector::Address(ip("10.0.0.2")), silent, found(&[], &["10.0.0.2"])),
    ] {
        let answer = cmdb.find(&selector, &window).await.expect("find");
        assert_eq!(answer, expected, "{selector:?} {window:?}");
    }
}

async fn a_part_of_a_name_is_enough(place: Place) {
    let cmdb = place.cmdb().await;
    let mut told = Vec::new();
    for (number, host) in ["web-1", "WEB-2", "old-web", "db%_!1", "x"].into_iter().enumerate() {
        let flows = vec![
            open(&format!("10.0.0.{number}:80 . nginx"), 1, 10),
            open(&format!("10.0.0.{number}:81 . p{number}"), 1, 10),
        ];
        told.push(report(host, 0, 1, 10, flows));
    }
    told[0].flows.push(open("10.0.0.0:82 . Webalizer", 1, 10));
    record(&cmdb, &told).await;
    for (text, hosts, processes) in [
        ("web", vec!["web-1", "WEB-2", "old-web"], vec![("Webalizer", 1)]),
        ("OLD-WEB", vec!["old-web"], vec![]),
        ("id-of-x", vec!["x"], vec![]),
        ("nginx", vec![], vec![("nginx", 5)]),
        ("ginx", vec![], vec![("nginx", 5)]),
        // These stand for nothing but themselves.
        ("%", vec!["db%_!1"], vec![]),
        ("_", vec!["db%_!1"], vec![]),
        ("%_!", vec!["db%_!1"], vec![]),
        ("'; DROP TABLE host; --", vec![], vec![]),
    ] {
        let names = cmdb.names(text).await.expect("names");
        let found: Vec<&str> = names.hosts.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(found, hosts, "{text}");
        let found: Vec<(&str, u64)> =
            names.processes.iter().map(|(name, hosts)| (name.as_str(), *hosts)).collect();
        assert_eq!(found, processes, "{text}");
        assert!(!names.more);
    }

    let many = (0..25).map(|number| report(&format!("many-{number:02}"), 0, 1, 10, Vec::new()));
    record(&cmdb, &many.collect::<Vec<_>>()).await;
    let names = cmdb.names("many").await.expect("names");
    assert_eq!((names.hosts.len(), names.more), (20, true));
    assert_eq!(names.hosts[0].0, "many-00");
}
