//! An outage on a clock of its own: tally, journal and disk as the daemon uses
//! them, the CMDB in four lines.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::{SignedDuration, Timestamp};

use crate::agent::spool::disk::{Disk, Job, Reply};
use crate::agent::spool::figures::Figures;
use crate::agent::spool::format::{HEAD_BYTES, Kind};
use crate::agent::spool::payload::{RECORD_BYTES, RECORD_FLOWS};
use crate::flow::host::{Coverage, Host, Rung};
use crate::flow::key::{Counters, FlowKey, HostFlow, Observation};
use crate::flow::process::Process;
use crate::flow::report::{Report, merge};
use crate::flow::socket::{Direction, Protocol};
use crate::flow::tally::count::Dropped;
use crate::flow::tally::{MAX_FLOWS, Tally};

/// Seconds. The probe's own is 30; four times that makes the same day in a
/// quarter of the time.
pub(crate) const FLUSH: i64 = 120;

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

pub(crate) fn process() -> Arc<Process> {
    Arc::new(Process {
        name: "app".into(),
        exe: Some("/usr/bin/app".into()),
        user: Some("app".into()),
        unit: Some("app.service".into()),
        container: None,
        pod: None,
    })
}

/// What is seen of flows that have only a number.
pub(crate) fn observation(second: i64, flows: &[u32], process: &Arc<Process>) -> Observation {
    let flow = |&number: &u32| HostFlow {
        key: FlowKey {
            scope: "".into(),
            direction: Direction::Active,
            protocol: Protocol::Tcp,
            local: [10, 0, 0, 1].into(),
            local_port: None,
            peer: Some((0x0a01_0000 + number).to_be_bytes().into()),
            peer_port: Some(443),
            process: Some(Arc::clone(process)),
        },
        owners: Vec::new(),
        owners_more: 0,
        // A tenth of all count on in each interval.
        counters: Counters {
            open: 1,
            bytes_sent: Some(
                (second / FLUSH) as u64 / 10 * u64::from(number)
                    + u64::from(i64::from(number % 10) <= second / FLUSH % 10),
            ),
            ..Counters::default()
        },
        tentative: false,
    };
    Observation {
        taken: at(second),
        host: Host { id: "h".into(), name: "h".into() },
        rung: Rung::Streaming,
        namespaces: Vec::new(),
        flows: flows.iter().map(flow).collect(),
        coverage: Coverage::default(),
    }
}

/// The number of such a flow.
pub(crate) fn number(key: &FlowKey) -> u32 {
    let Some(std::net::IpAddr::V4(peer)) = key.peer else { panic!("an IPv4 address") };
    u32::from(peer) - 0x0a01_0000
}

/// One run of a probe.
struct Run {
    tally: Tally,
    disk: Disk,
    figures: Arc<Figures>,
    emptied: Arc<AtomicU64>,
    process: Arc<Process>,
}

/// Spans by flow and beginning: last seen, whether over, bytes, sequence.
#[derive(Default)]
struct Model(BTreeMap<(i64, FlowKey, Timestamp), (Timestamp, bool)>, BTreeMap<i64, u64>);

impl Model {
    fn record(&mut self, report: &Report) {
        let last = self.1.entry(report.epoch).or_default();
        assert!(report.sequence > *last, "a collector would refuse {}", report.sequence);
        *last = report.sequence;
        for told in &report.flows {
            let key = (report.epoch, told.flow.key.clone(), told.since);
            let known = self.0.entry(key).or_insert((told.seen, told.ended));
            *known = (known.0.max(told.seen), known.1 | told.ended);
        }
    }
}

impl Run {
    fn start(path: &Path, second: i64) -> Run {
        let tally = Tally::new(at(second), SignedDuration::from_secs(FLUSH));
        let host = Host { id: "h".into(), name: "h".into() };
        let who = (host.hash(), at(second).as_microsecond());
        let (figures, emptied) = (Arc::new(Figures::default()), Arc::new(AtomicU64::new(0)));
        let (counted, raised) = (Arc::clone(&figures), Arc::clone(&emptied));
        let mut disk = Disk::new(path.to_owned(), 64 << 20, who, counted, raised);
        let Reply::Found { spans, damaged } = disk.work(Job::Open).unwrap() else {
            panic!("no count")
        };
        let mut run = Run { tally, disk, figures, emptied, process: process() };
        run.tally.take_over(spans, damaged);
        run
    }

    fn see(&mut self, second: i64, flows: &[u32]) {
        self.tally.observe(observation(second, flows, &self.process));
    }

    /// As `agent::journal` does.
    fn journal(&mut self) {
        let anew = self.figures.journal_is_stale();
        let report = self.tally.take_unjournaled(anew).unwrap();
        let tally = &mut self.tally;
        let reports = report.split(RECORD_FLOWS, RECORD_BYTES, &mut || tally.next_sequence());
        let done = self.disk.work(Job::Journal { reports, anew }).is_ok();
        self.tally.journaled(done);
        assert!(done && self.tally.spans().pending == 0 && self.tally.spans().add_up());
    }

    fn deliver(&mut self, model: &mut Model) {
        model.record(&self.tally.take().unwrap());
        self.tally.acknowledge();
        if self.tally.empty_journal() {
            self.emptied.fetch_add(1, Ordering::Relaxed);
            self.disk.work(Job::Tidy).unwrap();
        }
        assert!(self.tally.spans().add_up());
    }
}

/// What is acknowledged between two writes of the journal, at any time; with
/// kills at any time. What was journaled or acknowledged is there in the end.
#[test]
fn what_was_journaled_is_told_whatever_came_between() {
    for seed in 1..60_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("spool");
        let (mut model, mut safe) = (Model::default(), Vec::new());
        let mut second = 0;
        let mut run = Run::start(&path, second);
        run.see(second, &[1]);
        let mut fresh: Vec<(i64, u32)> = Vec::new();
        let mut epoch = second;
        for _ in 0..60 {
            second += 1 + random(150) as i64;
            let flows: Vec<u32> = (0..random(6)).map(|_| random(8) as u32).collect();
            run.see(second, &flows);
            fresh.extend(flows.iter().map(|flow| (epoch, *flow)));
            match random(8) {
                0 => {
                    run.deliver(&mut model);
                    safe.append(&mut fresh);
                }
                // Lost on its way.
                1 => drop(run.tally.take()),
                // Seen between report and acknowledgement.
                2 => {
                    model.record(&run.tally.take().unwrap());
                    safe.append(&mut fresh);
                    second += FLUSH + 5;
                    run.see(second, &[9]);
                    if random(2) == 0 {
                        run.journal();
                        safe.push((epoch, 9));
                    }
                    run.tally.acknowledge();
                    if run.tally.empty_journal() {
                        run.emptied.fetch_add(1, Ordering::Relaxed);
                    }
                }
                3..6 => {
                    run.journal();
                    safe.append(&mut fresh);
                }
                6 => while run.backlog_or_skip(&mut model) {},
                _ => {
                    drop(run);
                    fresh.clear();
                    second += 1;
                    epoch = second;
                    run = Run::start(&path, second);
                    run.see(second, &[1]);
                    fresh.push((epoch, 1));
                }
            }
            assert!(run.tally.spans().add_up(), "seed {seed}: {:?}", run.tally.spans());
        }
        drop(run);
        let mut run = Run::start(&path, second + 1);
        run.see(second + 1, &[]);
        while run.backlog_or_skip(&mut model) {}
        let known: Vec<(i64, u32)> = model
            .0
            .keys()
            .map(|(epoch, key, _)| ((epoch - at(0).as_microsecond()) / 1_000_000, number(key)))
            .collect();
        for flow in safe {
            assert!(known.contains(&flow), "seed {seed}: {flow:?} is lost");
        }
    }
}

impl Run {
    /// As `agent::delivery` does: what the CMDB has a later word of is skipped.
    fn backlog_or_skip(&mut self, model: &mut Model) -> bool {
        let Reply::Batch(Some(batch)) = self.disk.work(Job::Next).unwrap() else { return false };
        for mut group in batch.groups {
            let known = model.1.get(&group[0].epoch).copied().unwrap_or(0);
            group.retain(|report| report.sequence > known);
            merge(group).iter().for_each(|report| model.record(report));
        }
        self.tally.backlog_done(batch.spans, batch.damaged);
        self.disk.work(Job::Remove(batch.name)).unwrap();
        true
    }
}

/// More clients than memory is for come and go while the CMDB is away.
#[test]
fn what_is_over_leaves_memory_for_the_disk_and_is_told_from_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spool");
    let (mut run, mut model) = (Run::start(&path, 0), Model::default());
    // One that the CMDB knows, and must learn the end of.
    run.see(0, &[7_000_000]);
    run.deliver(&mut model);
    let (wave, waves) = (9000, 5);
    let mut spilled = 0;
    for number in 0..waves {
        let flows: Vec<u32> = (number * wave..(number + 1) * wave).collect();
        run.see(i64::from(number + 1) * (FLUSH + 1), &flows);
        if let Some(report) = run.tally.take_spill() {
            let tally = &mut run.tally;
            let next = &mut || tally.next_sequence();
            let reports = report.split(RECORD_FLOWS, RECORD_BYTES, next);
            // What is on its way is in no report.
            let others = run.tally.take().unwrap().flows.len();
            assert_eq!(
                others,
                run.tally.flows() - reports.iter().map(|r| r.flows.len()).sum::<usize>()
            );
            let done = run.disk.work(Job::Spill(reports)).unwrap();
            let Reply::Done(spans) = done else { panic!("not written") };
            run.tally.spilled(Some(spans));
            spilled += spans;
        }
        assert!(run.tally.spans().add_up(), "{:?}", run.tally.spans());
        assert!(run.tally.flows() < 30_000, "{} flows in memory", run.tally.flows());
    }
    assert!(spilled >= u64::from(wave) * 2, "{spilled}");
    assert_eq!(run.tally.spans().spooled, spilled);
    run.deliver(&mut model);
    while let Reply::Batch(Some(batch)) = run.disk.work(Job::Next).unwrap() {
        assert_eq!(batch.kind, Kind::Spill);
        for group in batch.groups {
            let mut report = merge(group).unwrap();
            report.sequence = run.tally.next_sequence();
            model.record(&report);
        }
        run.tally.backlog_done(batch.spans, batch.damaged);
        run.disk.work(Job::Remove(batch.name)).unwrap();
    }
    let spans = run.tally.spans();
    assert_eq!((spans.pending, spans.spooled, spans.dropped), (0, 0, [0; 4]));
    assert!(spans.add_up());
    assert_eq!(model.0.len(), (wave * waves + 1) as usize);
    let over = model.0.values().filter(|(_, ended)| *ended).count();
    assert_eq!(over, (wave * (waves - 1) + 1) as usize);
}

/// Without a disk the oldest of what is over goes for what is alive, counted.
#[test]
fn without_a_disk_what_is_over_goes_for_what_is_alive() {
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::start(&directory.path().join("spool"), 0);
    let most = MAX_FLOWS as u32;
    run.see(0, &(0..most).collect::<Vec<u32>>());
    run.see(1, &[most]);
    let spans = run.tally.spans();
    assert_eq!((spans.dropped[Dropped::NoRoom as usize], spans.observed), (1, u64::from(most) + 1));
    run.see(2 + FLUSH, &[0]);
    run.see(3 + FLUSH, &[0, most + 1]);
    let spans = run.tally.spans();
    let gone = spans.dropped[Dropped::Memory as usize];
    assert!(gone > 0 && run.tally.flows() as u64 == u64::from(most) + 1 - gone);
    assert!(spans.add_up(), "{spans:?}");
    run.see(4 + FLUSH, &[0]);
    let report = run.tally.take().unwrap();
    assert_eq!(report.coverage.records_dropped, gone + 1);
    assert!(report.flows.iter().any(|told| !told.ended));
}

/// What cannot be read any more is counted, and keeps nothing else back.
#[test]
fn a_segment_that_is_gone_or_damaged_is_counted_and_the_others_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spool");
    for second in 0..3 {
        let mut run = Run::start(&path, second);
        run.see(second, &[second as u32]);
        run.journal();
    }
    let mut run = Run::start(&path, 10);
    assert_eq!(run.tally.spans().taken_over, 3);
    let segments: Vec<_> = segments(&path).iter().map(|name| path.join(name)).collect();
    std::fs::remove_file(&segments[0]).unwrap();
    let mut bytes = std::fs::read(&segments[1]).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&segments[1], bytes).unwrap();
    let mut model = Model::default();
    while run.backlog_or_skip(&mut model) {}
    let spans = run.tally.spans();
    assert_eq!((spans.stored, spans.dropped[Dropped::Damaged as usize]), (1, 2));
    assert!(spans.add_up());
    assert_eq!(model.0.len(), 1);
}

/// What a run finds of what two reports left, 100 flows and 50 more, when that
/// was changed behind its back. Each loss is counted, once, and in its report;
/// what a kill leaves half written is none.
#[test]
fn what_was_lost_before_a_restart_is_counted_and_told() {
    // Back in this run, lost in this run, lost in the next before it told any.
    type Found = (u64, u64, u64);
    type Change = fn(&mut Vec<u8>, usize);
    let cases: [(&str, Change, Found); 8] = [
        ("nothing", |_, _| {}, (150, 0, 0)),
        ("a bit of the first payload", |bytes, _| bytes[HEAD_BYTES + 20] ^= 1, (50, 1, 1)),
        ("a bit of the last payload", |bytes, last| bytes[last + 20] ^= 1, (100, 1, 1)),
        ("a bit of the last frame", |bytes, last| bytes[last + 5] ^= 1, (100, 1, 1)),
        ("zeros at the end", |bytes, last| bytes[last..].fill(0), (100, 1, 1)),
        ("both heads", |bytes, _| (bytes[3], bytes[43]) = (0, 0), (0, 1, 0)),
        ("a last record half written", |bytes, last| bytes.truncate(last + 99), (100, 0, 0)),
        ("heads half written", |bytes, _| bytes.truncate(30), (0, 0, 0)),
    ];
    for (what, change, found) in cases {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("spool");
        let mut run = Run::start(&path, 0);
        run.see(0, &(0..100).collect::<Vec<u32>>());
        run.journal();
        let last = run.figures.bytes.get() as usize;
        run.see(1, &(0..150).collect::<Vec<u32>>());
        run.journal();
        drop(run);
        let segment = path.join(segments(&path).remove(0));
        let mut bytes = std::fs::read(&segment).unwrap();
        change(&mut bytes, last);
        std::fs::write(&segment, bytes).unwrap();
        let mut seen = (0, 0, 0);
        for (second, lost) in [(10, &mut seen.1), (11, &mut seen.2)] {
            let mut run = Run::start(&path, second);
            run.see(second, &[]);
            let spans = run.tally.spans();
            *lost = spans.dropped[Dropped::Damaged as usize];
            seen.0 = spans.spooled;
            assert!(spans.add_up() && spans.taken_over == spans.spooled + *lost, "{what}");
            assert_eq!(run.tally.take().unwrap().coverage.records_dropped, *lost, "{what}");
            assert_eq!(run.figures.damaged.get(), *lost, "{what}");
        }
        assert_eq!(seen, found, "{what}");
        let left = segments(&path);
        let aside = left.iter().filter(|name| name.ends_with(".damaged")).count();
        assert_eq!(
            (left.len(), aside),
            match what {
                "both heads" => (1, 1),
                "heads half written" => (0, 0),
                _ => (1, 0),
            }
        );
    }
}

fn segments(path: &Path) -> Vec<String> {
    let names = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name != "lock");
    names.sort();
    names
}

/// Another host's (a cloned disk), and a later version's.
#[test]
fn what_is_not_ours_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spool");
    let mut run = Run::start(&path, 0);
    run.see(0, &[1]);
    run.journal();
    drop(run);
    let (figures, emptied) = (Arc::new(Figures::default()), Arc::new(AtomicU64::new(0)));
    let mut other = Disk::new(path.clone(), 1 << 20, (1, 1), Arc::clone(&figures), emptied);
    let found = other.work(Job::Open).unwrap();
    assert!(matches!(found, Reply::Found { spans: 0, damaged: 0 }));
    assert!(matches!(other.work(Job::Next).unwrap(), Reply::Batch(None)));
    assert_eq!(figures.strangers.get(), 1);
    drop(other);
    assert_eq!(Run::start(&path, 5).tally.spans().taken_over, 1);
}

/// A directory that is removed with all in it, or moved away, is made again;
/// and what is removed from it is written again, and locked.
#[test]
fn what_is_removed_behind_its_back_is_made_again() {
    type Removal = fn(&Path);
    let cases: [(&str, Removal); 5] = [
        ("the directory", |path| std::fs::remove_dir_all(path).unwrap()),
        ("moved away", |path| std::fs::rename(path, path.with_extension("old")).unwrap()),
        ("all in it", |path| {
            let names = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
            names.for_each(|name| std::fs::remove_file(name).unwrap());
        }),
        ("a segment", |path| std::fs::remove_file(path.join(&segments(path)[0])).unwrap()),
        ("the lock", |path| std::fs::remove_file(path.join("lock")).unwrap()),
    ];
    for (what, remove) in cases {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("spool");
        let mut run = Run::start(&path, 0);
        run.see(0, &[1]);
        run.journal();
        remove(&path);
        run.see(1, &[1, 2]);
        run.journal();
        // That found it gone; all that was in it is written again by the next.
        assert_eq!(run.figures.journal_is_lost(), what != "the lock", "{what}");
        run.journal();
        let sizes =
            segments(&path).into_iter().map(|name| path.join(name).metadata().unwrap().len());
        assert_eq!(run.figures.bytes.get(), sizes.sum::<u64>(), "{what}");
        let mut other = Disk::new(path.clone(), 1 << 20, (1, 1), Arc::default(), Arc::default());
        let refusal = other.work(Job::Open).unwrap_err();
        assert!(refusal.to_string().contains("another process has it"), "{what}: {refusal}");
        drop(run);
        assert_eq!(Run::start(&path, 5).tally.spans().taken_over, 2, "{what}");
    }
}

/// A spool never grows beyond its limit, and what it holds stays.
#[test]
fn a_spool_that_is_full_keeps_what_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spool");
    let mut run = Run::start(&path, 0);
    let limit = 10_000;
    run.disk = {
        let who = run.tally_key();
        drop(std::mem::replace(
            &mut run.disk,
            Disk::new(path.clone(), 0, who, Arc::default(), Arc::default()),
        ));
        Disk::new(path.clone(), limit, who, Arc::clone(&run.figures), Arc::clone(&run.emptied))
    };
    let mut refused = 0;
    for tick in 0..40 {
        run.see(tick, &(0..(tick as u32 + 1) * 200).collect::<Vec<u32>>());
        let report = run.tally.take_unjournaled(false).unwrap();
        let tally = &mut run.tally;
        let reports = report.split(RECORD_FLOWS, RECORD_BYTES, &mut || tally.next_sequence());
        let done = run.disk.work(Job::Journal { reports, anew: false });
        run.tally.journaled(done.is_ok());
        refused += usize::from(done.is_err());
        assert!(run.figures.bytes.get() <= limit);
        assert!(run.tally.spans().add_up());
    }
    assert!(refused > 0 && refused < 40, "{refused}");
    let spooled = run.tally.spans().spooled;
    assert!(spooled > 0 && run.tally.spans().pending > 0);
    drop(run);
    assert_eq!(Run::start(&path, 50).tally.spans().taken_over, spooled);
}

impl Run {
    fn tally_key(&self) -> (i64, i64) {
        let host = Host { id: "h".into(), name: "h".into() };
        (host.hash(), at(0).as_microsecond())
    }
}
