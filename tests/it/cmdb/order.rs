//! Reports may come twice, late, in any order, in any batches, from many
//! writers at once: the CMDB is the same. And it is what a naive model says.

use std::collections::BTreeMap;
use std::sync::Arc;

use shawk::cmdb::Cmdb;
use shawk::flow::report::{FlowReport, Report, ScopedAddress};
use shawk::recall::Window;

use crate::cmdb::{LIMITS, Place, at, flow, ip, key, on_every_engine, report, run};

on_every_engine! {
    the_order_of_reports_does_not_matter,
    many_writers_of_the_same_hosts_do_not_stop_each_other,
    the_last_reports_of_many_epochs_are_told_at_once,
}

const HOSTS: [&str; 4] = ["a", "b", "c", "d"];

/// xorshift64* (Vigna 2016): tests must be the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let at = usize::try_from(self.below(last as u64 + 1)).expect("small");
            items.swap(last, at);
        }
    }
}

/// What an agent on a host tells over two lives: flows come, stay, change and
/// go; so does an address.
fn history(host: &str, chance: &mut Chance) -> Vec<Report> {
    let mut reports = Vec::new();
    for from in [0, 10_000] {
        let mut alive: BTreeMap<u64, i64> = BTreeMap::new();
        let mut address: Option<i64> = None;
        for sequence in 1..=6_i64 {
            let until = from + sequence * 1500;
            let mut told =
                report(host, from, u64::try_from(sequence).expect("small"), until, Vec::new());
            for port in 1..=6 {
                told.flows.extend(next(port, until, &mut alive, chance));
            }
            if chance.one_in(3) {
                let since = *address.get_or_insert(until - 3);
                let ended = chance.one_in(2).then(|| at(until - 1));
                let scoped = ScopedAddress {
                    scope: "".into(),
                    address: ip("10.0.0.1"),
                    since: at(since),
                    ended,
                };
                told.addresses.push(scoped);
                address = address.filter(|_| ended.is_none());
            }
            reports.push(told);
        }
    }
    reports
}

fn next(
    port: u64,
    until: i64,
    alive: &mut BTreeMap<u64, i64>,
    chance: &mut Chance,
) -> Vec<FlowReport> {
    let mut flow = flow(&format!("10.0.0.1 > 10.0.0.2:{port} p{}", port % 3));
    flow.counters.opened = Some(chance.below(1000));
    flow.counters.bytes_sent = (!chance.one_in(3)).then(|| chance.below(1 << 40));
    flow.owners[0].pid = u32::try_from(chance.below(9)).expect("small");
    let told = |since, seen, ended| FlowReport {
        flow: flow.clone(),
        since: at(since),
        seen: at(seen),
        ended,
    };
    match alive.get(&port).copied() {
        None if chance.one_in(2) => {
            alive.insert(port, until - 10);
            vec![told(until - 10, until, false)]
        }
        Some(since) if chance.one_in(3) => {
            alive.remove(&port);
            let mut all = vec![told(since, until - 20, true)];
            if chance.one_in(2) {
                alive.insert(port, until - 5);
                all.push(told(until - 5, until, false));
            }
            all
        }
        Some(since) if chance.one_in(2) => vec![told(since, until, false)],
        _ => Vec::new(),
    }
}

fn histories(chance: &mut Chance) -> Vec<Report> {
    HOSTS.iter().flat_map(|host| history(host, chance)).collect()
}

/// Which report's numbers are the newest: epoch, sequence, as of when.
type Age = (i64, u64, jiff::Timestamp);

/// since → (seen, ended, epoch).
type Spans = BTreeMap<jiff::Timestamp, (jiff::Timestamp, bool, i64)>;

/// Everything once more, as simply as it can be said.
fn model(reports: &[Report]) -> Vec<String> {
    let mut epochs: BTreeMap<(i64, i64), jiff::Timestamp> = BTreeMap::new();
    let mut newest: BTreeMap<i64, i64> = BTreeMap::new();
    let mut flows: BTreeMap<(i64, i64), (Age, &FlowReport, Spans)> = BTreeMap::new();
    for report in reports {
        let host = report.host.hash();
        let last = newest.entry(host).or_insert(report.epoch);
        *last = report.epoch.max(*last);
        let until = epochs.entry((host, report.epoch)).or_insert(report.until);
        *until = report.until.max(*until);
        for told in &report.flows {
            let age = (report.epoch, report.sequence, told.seen);
            let row =
                flows.entry((host, told.flow.key.hash())).or_insert((age, told, Spans::new()));
            if age > row.0 {
                (row.0, row.1) = (age, told);
            }
            let span = row.2.entry(told.since).or_insert((told.seen, false, report.epoch));
            *span = (span.0.max(told.seen), span.1 || told.ended, report.epoch);
        }
    }
    let mut lines = Vec::new();
    for ((host, _), (_, told, spans)) in &flows {
        let ends = spans.iter().map(|(since, (seen, ended, epoch))| {
            let until = if *ended { *seen } else { epochs[&(*host, *epoch)].max(*seen) };
            (*since, until, *ended || *epoch < newest[host])
        });
        let first = spans.keys().next().expect("a flow has a span");
        lines.push(format!("{host} {:?} {:?} {first}", told.flow, ends.collect::<Vec<_>>()));
    }
    lines
}

async fn recalled(cmdb: &Cmdb) -> Vec<String> {
    let records = cmdb.around(&HOSTS.map(key), &[], &Window::default()).await.expect("around");
    let line = |record: &shawk::recall::FlowRecord| {
        let spans: Vec<_> =
            record.spans.iter().map(|span| (span.since, span.until, span.ended)).collect();
        format!("{} {:?} {spans:?} {}", record.host, record.flow, record.first_seen)
    };
    records.flows.iter().map(line).collect()
}

/// What was told of each flow's bytes in two ranges of hours, as simply as it
/// can be said: the last word in the range less the last word before it.
fn traffic(reports: &[Report], hours: (i64, i64)) -> Vec<(i64, i64, Option<u64>)> {
    /// By epoch, by sequence.
    type Told<'a> = BTreeMap<i64, BTreeMap<u64, &'a FlowReport>>;
    let mut told: BTreeMap<(i64, i64), Told<'_>> = BTreeMap::new();
    for report in reports {
        for flow in &report.flows {
            let flows = told.entry((report.host.hash(), flow.flow.key.hash())).or_default();
            let epoch = flows.entry(report.epoch).or_default();
            let last = epoch.entry(report.sequence).or_insert(flow);
            if flow.seen > last.seen {
                *last = flow;
            }
        }
    }
    let hour = |told: &FlowReport| told.seen.duration_since(at(0)).as_secs().div_euclid(3600);
    let mut sums = Vec::new();
    for ((host, flow), epochs) in &told {
        let mut all = None;
        for told in epochs.values() {
            let bytes = |last: &&FlowReport| last.flow.counters.bytes_sent;
            let before = told.values().rfind(|told| hour(told) < hours.0);
            let inside = (hours.0..=hours.1)
                .contains(&told.values().rfind(|t| hour(t) <= hours.1).map_or(-1, |t| hour(t)));
            if !inside {
                continue;
            }
            let end = told.values().rfind(|told| hour(told) <= hours.1).and_then(bytes);
            let part = match before {
                None => end,
                Some(before) => end.zip(bytes(before)).map(|(a, b)| a.saturating_sub(b)),
            };
            all = match all {
                None => Some(part),
                Some(sum) => Some(part.zip(sum).map(|(a, b)| a + b)),
            };
        }
        sums.extend(all.map(|all| (*host, *flow, all)));
    }
    sums
}

async fn check_traffic(cmdb: &Cmdb, reports: &[Report], seed: u64) {
    for hours in [(0, 1), (1, 2), (1, 4), (2, 5), (0, 9)] {
        let window = crate::cmdb::between(hours.0 * 3600, hours.1 * 3600 + 1);
        let found = cmdb.traffic(&HOSTS.map(key), &window).await.expect("traffic");
        let found: Vec<_> = found.iter().map(|t| (t.host, t.flow, t.sums.bytes_sent)).collect();
        assert_eq!(found, traffic(reports, hours), "seed {seed}, hours {hours:?}");
    }
}

async fn the_order_of_reports_does_not_matter(place: Place) {
    let rounds = if place.is_sqlite() { 20 } else { 10 };
    for seed in 1..=rounds {
        let mut chance = Chance(seed);
        let reports = histories(&mut chance);
        let cmdb = emptied(&place).await;
        for report in &reports {
            cmdb.record(&[report]).await.expect("record");
        }
        let in_order = place.dump().await;
        assert_eq!(recalled(&cmdb).await, model(&reports), "seed {seed}");
        check_traffic(&cmdb, &reports, seed).await;

        let mut shuffled: Vec<&Report> = reports.iter().chain(&reports).collect();
        chance.shuffle(&mut shuffled);
        let cmdb = emptied(&place).await;
        let mut left = &shuffled[..];
        while !left.is_empty() {
            let batch = usize::try_from(1 + chance.below(7)).expect("small").min(left.len());
            cmdb.record(&left[..batch]).await.expect("record");
            left = &left[batch..];
        }
        assert_eq!(place.dump().await, in_order, "seed {seed}");
    }
}

async fn emptied(place: &Place) -> Cmdb {
    let cmdb = place.cmdb().await;
    for table in ["host", "epoch", "address", "process", "flow", "span", "hour"] {
        place.raw(&format!("DELETE FROM {table}")).await;
    }
    cmdb
}

async fn many_writers_of_the_same_hosts_do_not_stop_each_other(place: Place) {
    let mut chance = Chance(7);
    let reports = Arc::new(histories(&mut chance));
    let alone = emptied(&place).await;
    for report in &*reports {
        alone.record(&[report]).await.expect("record");
    }
    let expected = place.dump().await;
    emptied(&place).await.close().await;

    let mut writers = tokio::task::JoinSet::new();
    // SQLite lets one write at a time, and each waits for a disk; Citus' nodes
    // are asked one after the other.
    let few = place.is_sqlite() || place.is_spread().await;
    for writer in 0..if few { 8 } else { 50 } {
        let (url, reports) = (place.url.clone(), reports.clone());
        writers.spawn(async move {
            let cmdb = Cmdb::open(&url, &LIMITS).await.expect("open");
            let mut mine: Vec<&Report> = reports.iter().collect();
            Chance(100 + writer).shuffle(&mut mine);
            for batch in mine.chunks(5) {
                cmdb.record(batch).await.expect("record");
            }
            cmdb.close().await;
        });
    }
    writers.join_all().await;
    assert_eq!(place.dump().await, expected);
    if !place.is_sqlite() {
        let deadlocks = "SELECT CAST(deadlocks AS text) FROM pg_stat_database WHERE datname = current_database()";
        assert_eq!(place.raw(deadlocks).await, ["0"]);
    }
}

/// The model itself can fail: a report that is not told is missed.
#[test]
fn the_model_notices_a_lost_report() {
    run(None, async |place: Place| {
        let reports = histories(&mut Chance(3));
        let cmdb = place.cmdb().await;
        for report in reports.iter().filter(|report| report.sequence != 4) {
            cmdb.record(&[report]).await.expect("record");
        }
        assert_ne!(recalled(&cmdb).await, model(&reports));
    });
}

async fn the_last_reports_of_many_epochs_are_told_at_once(place: Place) {
    let cmdb = place.cmdb().await;
    let numbered = |host: &str, from, sequence| report(host, from, sequence, from + 5, Vec::new());
    let told = [numbered("a", 0, 7), numbered("a", 20, 3), numbered("b", 0, 9)];
    for report in &told {
        cmdb.record(&[report]).await.expect("record");
    }
    let run = |host, from| (key(host), at(from).as_microsecond());
    let asked = vec![run("a", 0), run("a", 20), run("b", 0), run("b", 20), run("c", 0)];
    let known = cmdb.last_sequences(asked).await.expect("ask");
    let expected = [(run("a", 0), 7), (run("a", 20), 3), (run("b", 0), 9)];
    assert_eq!(known, expected.into_iter().collect());
    assert!(cmdb.last_sequences(Vec::new()).await.expect("ask").is_empty());
}
