//! What is old is forgotten, what goes on is not, and nobody is stopped.

use jiff::{SignedDuration, Timestamp};
use shawk::cmdb::Cmdb;
use shawk::cmdb::fault::is_refused;
use shawk::cmdb::prune::Pruned;
use shawk::recall::Window;

use crate::cmdb::{
    LIMITS, Place, at, between, key, names, on_every_engine, open, over, record, report, spans,
    with_addresses,
};

on_every_engine! {
    what_is_old_is_forgotten_and_what_goes_on_is_not,
    what_is_forgotten_was_not_watched,
    what_is_yet_to_come_is_not_forgotten,
    writers_go_on_while_much_is_forgotten,
}

async fn what_is_old_is_forgotten_and_what_goes_on_is_not(place: Place) {
    let cmdb = place.cmdb().await;
    let counted = |since, seen, bytes| {
        let mut told = open("10.0.0.1 > 10.0.0.2:80 curl", since, seen);
        told.flow.counters.bytes_sent = Some(bytes);
        told
    };
    let hour = 3600;
    let mut first = report(
        "a",
        0,
        1,
        10,
        vec![
            counted(1, 10, 5),
            over("10.0.0.1 > 10.0.0.2:81 wget", 1, 10),
            open("10.0.0.1 > 10.0.0.2:82 idle", 1, 10),
        ],
    );
    first = with_addresses(first, &["10.0.0.1", "10.0.0.9"]);
    first.addresses[1].ended = Some(at(10));
    let mut hours = vec![first];
    for n in 1..=5_u64 {
        let seen = i64::try_from(n).expect("small") * hour;
        // It ends once in between and comes back.
        let since = if n < 2 { 1 } else { 2 * hour };
        let mut told = counted(since, seen, n * 100);
        told.ended = n == 1;
        hours.push(report("a", 0, n + 1, seen, vec![told]));
    }
    record(&cmdb, &hours).await;
    let silent = vec![open("10.0.1.1 > 10.0.0.2:80 nginx", 1, 10)];
    record(&cmdb, &[with_addresses(report("b", 0, 1, 20, silent), &["10.0.1.1"])]).await;

    let pruned = cmdb.prune(at(4 * hour + 5)).await.expect("prune");
    let expected =
        Pruned { flows: 2, spans: 1, hours: 3, addresses: 2, others: 3, hosts: 1, tokens: 0 };
    assert_eq!(pruned, expected);
    let records =
        cmdb.around(&[key("a"), key("b")], &[], &Window::default()).await.expect("around");
    let kept = ["10.0.0.1 > 10.0.0.2:80 curl", "10.0.0.1 > 10.0.0.2:82 idle"];
    assert_eq!(names(&records), kept, "the idle one is alive: its host said so");
    assert_eq!((records.hosts.len(), records.addresses.len()), (1, 1));
    let window = between(5 * hour, 5 * hour + 1);
    let sums = cmdb.traffic(&[key("a")], &window).await.expect("traffic");
    assert_eq!(sums.len(), 1);
    assert_eq!(sums[0].sums.bytes_sent, Some(100), "the hour before is kept for the difference");
    assert_eq!(cmdb.prune(at(4 * hour + 5)).await.expect("prune"), Pruned::default());

    let alive = cmdb.around(&[key("a")], &[], &between(5 * hour, 5 * hour)).await.expect("around");
    assert_eq!(alive.flows.len(), 2);
    let pruned = cmdb.prune(at(9 * hour)).await.expect("prune");
    assert_eq!((pruned.flows, pruned.hosts), (2, 1));
    for table in ["host", "epoch", "address", "process", "flow", "span", "hour"] {
        let left = place.raw(&format!("SELECT CAST(count(*) AS text) FROM {table}")).await;
        assert_eq!(left, ["0"], "{table}");
    }
}

async fn what_is_forgotten_was_not_watched(place: Place) {
    let cmdb = place.cmdb().await;
    let hour = 3600;
    let idle = |seen| vec![open("10.0.0.1 > 10.0.0.2:80 idle", 1, seen)];
    record(&cmdb, &[report("a", 0, 1, hour, idle(hour))]).await;
    record(&cmdb, &[report("a", 0, 2, 9 * hour, idle(9 * hour))]).await;
    record(&cmdb, &[report("b", 0, 1, hour, idle(hour))]).await;
    let watched = async || {
        let records =
            cmdb.around(&[key("a"), key("b")], &[], &Window::default()).await.expect("around");
        let mut hosts: Vec<_> = records.hosts.into_iter().map(|h| (h.name, h.watched)).collect();
        hosts.sort();
        hosts
    };
    let before = watched().await;
    assert_eq!(before[0].1, [(at(0), at(9 * hour))]);
    assert_eq!(before[1].1, [(at(0), at(hour))]);
    cmdb.prune(at(4 * hour)).await.expect("prune");
    let after = watched().await;
    assert_eq!(after, [("a".to_owned(), vec![(at(4 * hour), at(9 * hour))])]);
    // A shorter memory once is no longer one later.
    cmdb.prune(at(2 * hour)).await.expect("prune");
    assert_eq!(watched().await, after);
}

async fn what_is_yet_to_come_is_not_forgotten(place: Place) {
    let cmdb = place.cmdb().await;
    let now = Timestamp::now();
    let (hour, begun) = (SignedDuration::from_hours(1), now.duration_since(at(0)).as_secs() - 7200);
    let long = 14_400;
    let idle = |seen| vec![open("10.0.0.1 > 10.0.0.2:80 idle", begun, seen)];
    record(&cmdb, &[report("a", begun, 1, begun + long, idle(begun + long))]).await;
    let watched = async || {
        let records = cmdb.around(&[key("a")], &[], &Window::default()).await.expect("around");
        records.hosts[0].watched.clone()
    };
    let whole = watched().await;
    assert_eq!(whole, [(at(begun), at(begun + long))]);
    let before = place.dump().await;
    let refused = cmdb.prune(now + hour).await.expect_err("it is yet to come");
    assert!(
        is_refused(&refused) && format!("{refused:#}").contains("in the future"),
        "{refused:#}"
    );
    assert_eq!((place.dump().await, watched().await), (before, whole));

    // A CMDB that was told so all the same knows nothing of before now.
    let far = "INSERT INTO meta (name, value) VALUES ('forgotten', 32472144000000000)";
    place.raw(far).await;
    let known = watched().await;
    assert!(now - hour < known[0].0 && known[0].0 < now + hour, "{known:?}");
    // Once it is told another, that is when it was told.
    cmdb.prune(at(0)).await.expect("prune");
    let mended = watched().await;
    assert!(known[0].0 <= mended[0].0 && mended[0].0 < now + hour, "{mended:?}");
    assert_eq!(watched().await, mended, "it stays");
}

async fn writers_go_on_while_much_is_forgotten(place: Place) {
    let cmdb = place.cmdb().await;
    for host in 0..100 {
        let flows =
            (1..=50).map(|port| over(&format!("10.0.0.1 > 10.0.0.2:{port} curl"), 1, 10)).collect();
        record(&cmdb, &[report(&format!("old{host}"), 0, 1, 10, flows)]).await;
    }
    let writer = Cmdb::open(&place.url, &LIMITS).await.expect("open");
    let writing = async {
        for n in 1..=40 {
            let since = 1000 + n;
            let flow = open("10.0.0.1 > 10.0.0.2:80 curl", since, since);
            let name = format!("old{}", n * 2);
            record(&writer, &[report(&name, 1000, 1, since, vec![flow])]).await;
        }
    };
    let (pruned, ()) = tokio::join!(cmdb.prune(at(500)), writing);
    pruned.expect("prune");
    let pruned = cmdb.prune(at(500)).await.expect("prune");
    assert_eq!(pruned.hosts, 0, "the first time all were seen");
    assert_eq!(place.raw("SELECT CAST(count(*) AS text) FROM host").await, ["40"]);
    let records = cmdb.around(&[key("old2")], &[], &Window::default()).await.expect("around");
    assert_eq!(spans(&records), [(1001, 1001, false)]);
}
