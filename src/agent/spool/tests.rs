//! An outage on a clock of its own: tally, journal and disk as the daemon uses
//! them, the CMDB in four lines.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::{SignedDuration, Timestamp};

use crate::agent::spool::disk::{Batch, Disk, Job, Reply};
use crate::agent::spool::figures::Figures;
use crate::agent::spool::format::Kind;
use crate::agent::spool::payload::{RECORD_BYTES, RECORD_FLOWS};
use crate::flow::host::{Coverage, Host, Rung};
use crate::flow::key::{Counters, FlowKey, HostFlow, Observation};
use crate::flow::process::Process;
use crate::flow::report::Report;
use crate::flow::socket::{Direction, Protocol};
use crate::flow::tally::Tally;

/// Seconds. The probe's own is 30; four times that makes the same day in a
/// quarter of the time.
const FLUSH: i64 = 120;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
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
        let process = Process {
            name: "app".into(),
            exe: Some("/usr/bin/app".into()),
            user: Some("app".into()),
            unit: Some("app.service".into()),
            container: None,
            pod: None,
        };
        let tally = Tally::new(at(second), SignedDuration::from_secs(FLUSH));
        let host = Host { id: "h".into(), name: "h".into() };
        let who = (host.hash(), at(second).as_microsecond());
        let (figures, emptied) = (Arc::new(Figures::default()), Arc::new(AtomicU64::new(0)));
        let (counted, raised) = (Arc::clone(&figures), Arc::clone(&emptied));
        let mut disk = Disk::new(path.to_owned(), 64 << 20, who, counted, raised);
        let Reply::Done(spans) = disk.work(Job::Open).unwrap() else { panic!("no count") };
        let mut run = Run { tally, disk, figures, emptied, process: Arc::new(process) };
        run.tally.take_over(spans);
        run
    }

    fn see(&mut self, second: i64, flows: &[u32]) {
        let flow = |&number: &u32| HostFlow {
            key: FlowKey {
                scope: "".into(),
                direction: Direction::Active,
                protocol: Protocol::Tcp,
                local: [10, 0, 0, 1].into(),
                local_port: None,
                peer: Some((0x0a01_0000 + number).to_be_bytes().into()),
                peer_port: Some(443),
                process: Some(Arc::clone(&self.process)),
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
        self.tally.observe(Observation {
            taken: at(second),
            host: Host { id: "h".into(), name: "h".into() },
            rung: Rung::Streaming,
            namespaces: Vec::new(),
            flows: flows.iter().map(flow).collect(),
            coverage: Coverage::default(),
        });
    }

    /// As `agent::journal` does.
    fn journal(&mut self) {
        let base = self.figures.journal_base.load(Ordering::Relaxed);
        let anew = self.figures.journal_bytes.load(Ordering::Relaxed) > (2 * base).max(256 << 10);
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

    /// One segment of the backlog; false if there is none.
    fn backlog(&mut self, model: &mut Model) -> bool {
        let Reply::Batch(Some(batch)) = self.disk.work(Job::Next).unwrap() else { return false };
        let Batch { name, kind, reports, spans, damaged } = batch;
        assert_eq!((kind, damaged), (Kind::Journal, 0));
        for report in &reports {
            model.record(report);
        }
        self.tally.backlog_done(spans, damaged);
        self.disk.work(Job::Remove(name)).unwrap();
        true
    }
}

/// 24 hours without a CMDB for a host with 1,000 flows, of which 100 count on
/// and eight are replaced in each interval, and a kill in the middle of it.
#[test]
fn a_day_without_a_cmdb_costs_less_than_a_mebibyte_and_no_flow() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spool");
    let day = 86_400 / FLUSH;
    let mut run = Run::start(&path, 0);
    let (mut truth, mut largest) = (BTreeMap::new(), 0);
    for tick in 0..day {
        if tick == day / 2 {
            // SIGKILL: nothing is done any more. Then it starts again.
            drop(run);
            run = Run::start(&path, tick * FLUSH);
            assert!(run.tally.spans().taken_over > 1000);
        }
        let first = tick as u32 * 8;
        let flows: Vec<u32> = (first..first + 1000).collect();
        run.see(tick * FLUSH, &flows);
        for number in flows {
            let epoch = if tick < day / 2 { 0 } else { day / 2 * FLUSH };
            truth.insert((epoch, number), tick * FLUSH);
        }
        run.journal();
        largest = largest.max(run.figures.bytes.load(Ordering::Relaxed));
    }
    assert!(largest < 1 << 20, "{largest} bytes");

    // The CMDB is back: what is alive first, then the backlog, all of it.
    let mut model = Model::default();
    run.deliver(&mut model);
    let alive = model.0.iter().filter(|(_, (_, ended))| !ended).count();
    assert!(alive >= 1000, "{alive} of what is alive came first");
    assert_eq!(model.1.len(), 1, "an earlier run came before what is alive");
    let mut segments = 0;
    while run.backlog(&mut model) {
        segments += 1;
        assert!(run.tally.spans().add_up());
    }
    assert!(segments > 0);
    assert_eq!(run.figures.bytes.load(Ordering::Relaxed), 0);
    let spans = run.tally.spans();
    assert_eq!((spans.pending, spans.spooled, spans.dropped), (0, 0, [0; 4]));
    assert_eq!(model.0.len(), truth.len());
    for ((epoch, key, _), (seen, _)) in model.0 {
        let std::net::IpAddr::V4(peer) = key.peer.unwrap() else { panic!("an IPv4 address") };
        let number = u32::from(peer) - 0x0a01_0000;
        let epoch = (epoch - at(0).as_microsecond()) / 1_000_000;
        // Of one whose end was not seen before the run was killed, or has not
        // come yet, the CMDB knows by the report's own time.
        let last = truth[&(epoch, number)];
        let end = if epoch == 0 { day / 2 } else { day };
        let alive = last >= (end - 2) * FLUSH;
        assert!(seen == at(last) || alive, "{number} of {epoch}: {seen}, not {}", at(last));
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
            .map(|(epoch, key, _)| {
                let std::net::IpAddr::V4(peer) = key.peer.unwrap() else { panic!("IPv4") };
                ((epoch - at(0).as_microsecond()) / 1_000_000, u32::from(peer) - 0x0a01_0000)
            })
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
        for report in &batch.reports {
            if report.sequence > model.1.get(&report.epoch).copied().unwrap_or(0) {
                model.record(report);
            }
        }
        self.tally.backlog_done(batch.spans, batch.damaged);
        self.disk.work(Job::Remove(batch.name)).unwrap();
        true
    }
}
