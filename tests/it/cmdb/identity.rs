//! Who a host is, over time: clones, new names, reused pids, clocks.

use jiff::{SignedDuration, Timestamp};
use shawk::cmdb::Cmdb;
use shawk::flow::host::{Coverage, Rung};
use shawk::flow::report::Report;
use shawk::recall::{Dim, HostRecord, Window};

use crate::cmdb::{Place, at, key, on_every_engine, open, record, report};

on_every_engine! {
    a_cloned_machine_id_is_noticed,
    a_new_name_or_a_new_start_is_no_clone,
    what_a_probe_watched_is_known_with_its_gaps,
    what_a_probe_could_not_see_is_known_when_it_can_again,
    a_clock_that_is_wrong_is_noticed,
    a_clock_set_back_makes_no_negative_span,
    a_run_that_began_before_the_newest_counts_as_over,
    a_reused_pid_is_another_instance,
}

async fn host(cmdb: &Cmdb) -> HostRecord {
    let records = cmdb.around(&[key("a")], &[], &Window::default()).await.expect("around");
    records.hosts.into_iter().next().expect("it reports")
}

fn named(name: &str, report: Report) -> Report {
    let host = shawk::flow::host::Host { name: name.to_owned(), ..report.host };
    Report { host, ..report }
}

async fn a_cloned_machine_id_is_noticed(place: Place) {
    let cmdb = place.cmdb().await;
    // Another name: told at once. They speak in turns.
    record(&cmdb, &[named("original", report("a", 0, 1, 30, vec![]))]).await;
    assert!(host(&cmdb).await.rivals.is_empty());
    record(&cmdb, &[named("clone", report("a", 20, 1, 31, vec![]))]).await;
    record(&cmdb, &[named("original", report("a", 0, 2, 60, vec![]))]).await;
    let rivals = host(&cmdb).await.rivals;
    assert_eq!(rivals.into_iter().collect::<Vec<_>>(), ["original"]);
    // The same name: told when it is no restart.
    let other = Cmdb::open(&place.url, &crate::cmdb::LIMITS).await.expect("open");
    let twin = |from, until| {
        let mut told = report("b", from, 1, until, vec![]);
        told.host.name = "twin".to_owned();
        told
    };
    record(&other, &[twin(0, 300), twin(100, 300)]).await;
    let records = other.around(&[key("b")], &[], &Window::default()).await.expect("around");
    assert!(records.hosts[0].rivals.contains("twin"));
}

async fn a_new_name_or_a_new_start_is_no_clone(place: Place) {
    let cmdb = place.cmdb().await;
    record(&cmdb, &[named("before", report("a", 0, 1, 30, vec![]))]).await;
    record(&cmdb, &[named("after", report("a", 0, 2, 60, vec![]))]).await;
    // Stopped, started, and once beside it.
    record(&cmdb, &[named("after", report("a", 60, 1, 300, vec![]))]).await;
    record(&cmdb, &[named("after", report("a", 200, 1, 200, vec![]))]).await;
    let host = host(&cmdb).await;
    assert!(host.rivals.is_empty(), "{:?}", host.rivals);
    assert_eq!((host.name.as_str(), host.first_seen), ("after", at(0)));
}

async fn what_a_probe_watched_is_known_with_its_gaps(place: Place) {
    const DAY: i64 = 86_400;
    let cmdb = place.cmdb().await;
    record(
        &cmdb,
        &[
            report("a", 0, 1, 100, vec![]),
            // At once after it, and one that looked for a moment.
            report("a", 100, 1, 300, vec![]),
            report("a", 500, 1, 503, vec![]),
            // So long after that it has nothing to do with clones.
            report("a", 5 * DAY, 1, 6 * DAY, vec![]),
            report("a", 5 * DAY, 2, 7 * DAY, vec![]),
        ],
    )
    .await;
    let host = host(&cmdb).await;
    assert_eq!(host.watched, [(at(0), at(300)), (at(5 * DAY), at(7 * DAY))]);
    assert!(host.rivals.is_empty());
}

async fn a_clock_that_is_wrong_is_noticed(place: Place) {
    let cmdb = place.cmdb().await;
    for (sequence, wrong) in [(1, 45), (2, -3600), (3, 0)] {
        let mut told = report("a", 0, sequence, 30, vec![]);
        told.sent = Timestamp::now() + SignedDuration::from_secs(wrong);
        record(&cmdb, &[told]).await;
        let skew = host(&cmdb).await.skew.as_secs();
        assert!((wrong - 20..=wrong + 2).contains(&skew), "{skew} s in place of {wrong}");
    }
}

/// A report that says a flow ended before it began: no agent's, but anybody may
/// write to a CMDB.
async fn a_clock_set_back_makes_no_negative_span(place: Place) {
    let cmdb = place.cmdb().await;
    let mut told = report("a", 0, 1, 30, vec![open("10.0.0.1 > 10.0.0.2:80 curl", 20, 10)]);
    told.flows[0].ended = true;
    record(&cmdb, &[told]).await;
    // Its clock was set back, and its probe started again.
    let again = vec![open("10.0.0.1 > 10.0.0.2:80 curl", -500, -400)];
    record(&cmdb, &[report("a", -600, 1, -400, again)]).await;
    let records = cmdb.around(&[key("a")], &[], &Window::default()).await.expect("around");
    let spans = &records.flows[0].spans;
    assert_eq!(spans.len(), 2, "no window was lost");
    assert!(spans.iter().all(|span| span.since <= span.until), "{spans:?}");
}

/// What docs/reliability.md says of a probe that starts by a wrong clock.
async fn a_run_that_began_before_the_newest_counts_as_over(place: Place) {
    const DAY: i64 = 86_400;
    let cmdb = place.cmdb().await;
    let told = async |name: &str, from, until, flow: &str| {
        record(&cmdb, &[named(name, report("a", from, 1, until, vec![open(flow, from, until)]))])
            .await;
        let records = cmdb.around(&[key("a")], &[], &Window::default()).await.expect("around");
        let process = flow.rsplit(' ').next().expect("a process");
        let is_it = |name: &str| name == process;
        let found = records.flows.iter().find(|found| {
            found.flow.key.process.as_ref().is_some_and(|process| is_it(&process.name))
        });
        let host = records.hosts[0].clone();
        (found.expect("it is kept").spans.clone(), host)
    };
    told("first", 0, 100, "10.0.0.1:22 . sshd").await;
    // Its clock was behind when it began, and was set soon after.
    let (spans, host) = told("second", -600, 200, "10.0.0.1:80 . nginx").await;
    assert_eq!((spans[0].since, spans[0].until, spans[0].ended), (at(-600), at(200), true));
    assert_eq!((host.name.as_str(), host.last_seen), ("first", at(200)));
    assert_eq!(host.rivals.into_iter().collect::<Vec<_>>(), ["second"]);
    // The next run mends it, unless that one was ahead.
    let (spans, host) = told("third", 300, 400, "10.0.0.1:81 . nginz").await;
    assert_eq!((spans[0].ended, host.name.as_str()), (false, "third"));
    told("ahead", 9 * DAY, 9 * DAY, "10.0.0.1:82 . curl").await;
    let (spans, host) = told("fourth", 500, 600, "10.0.0.1:83 . wget").await;
    assert_eq!((spans[0].ended, host.name.as_str()), (true, "ahead"));
    let (spans, host) = told("fifth", 10 * DAY, 10 * DAY + 9, "10.0.0.1:84 . php").await;
    assert_eq!((spans[0].ended, host.name.as_str()), (false, "fifth"));
}

async fn a_reused_pid_is_another_instance(place: Place) {
    let cmdb = place.cmdb().await;
    let mut first = open("10.0.0.1 > 10.0.0.2:80 curl", 0, 10);
    first.flow.owners[0].started = at(-10);
    let mut second = open("10.0.0.1 > 10.0.0.2:80 wget", 20, 30);
    second.flow.owners[0].started = at(15);
    assert_eq!(first.flow.owners[0].pid, second.flow.owners[0].pid);
    record(&cmdb, &[report("a", 0, 1, 30, vec![first, second])]).await;
    let records = cmdb.around(&[key("a")], &[], &Window::default()).await.expect("around");
    let mut owners: Vec<_> = records.flows.iter().map(|flow| flow.flow.owners[0].clone()).collect();
    owners.sort_by_key(|owner| owner.started);
    assert_eq!(owners.len(), 2);
    assert_eq!((owners[0].process.name.as_str(), owners[0].started), ("curl", at(-10)));
    assert_eq!((owners[1].process.name.as_str(), owners[1].started), ("wget", at(15)));
}

async fn what_a_probe_could_not_see_is_known_when_it_can_again(place: Place) {
    let cmdb = place.cmdb().await;
    let dim = async || {
        let records = cmdb.around(&[key("a")], &[], &Window::default()).await.expect("around");
        records.hosts[0].dim
    };
    let told = |from, sequence, until, rung, coverage: Coverage| Report {
        rung,
        coverage,
        ..report("a", from, sequence, until, Vec::new())
    };
    let whole = Coverage::default();
    let dropped = Coverage { flows_dropped: 1, ..Coverage::default() };
    let unowned = Coverage { sockets_unattributed: 1, ..Coverage::default() };
    record(&cmdb, &[told(1000, 1, 1100, Rung::Streaming, whole.clone())]).await;
    assert_eq!(dim().await, Dim::default());
    // It is polled for a while, and drops something at the beginning.
    record(&cmdb, &[told(2000, 1, 2010, Rung::Netlink, dropped)]).await;
    record(&cmdb, &[told(2000, 2, 2100, Rung::Netlink, unowned.clone())]).await;
    // A look that did not watch says nothing of what was watched.
    record(&cmdb, &[told(2500, 1, 2502, Rung::Procfs, unowned.clone())]).await;
    record(&cmdb, &[told(3000, 2, 3100, Rung::Streaming, whole)]).await;
    let expected = Dim { polled: Some(at(2100)), blind: Some(at(2010)), unowned: Some(at(2100)) };
    assert_eq!(dim().await, expected);
    // What is told late, and of an earlier moment than is known, counts as well.
    record(&cmdb, &[told(3000, 1, 3050, Rung::Streaming, unowned)]).await;
    assert_eq!(dim().await, Dim { unowned: Some(at(3050)), ..expected });
}
