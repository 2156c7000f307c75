//! The loop of a probe: scans at one interval, reports at another.
//!
//! Scans run on a thread of their own, so that a slow CMDB never delays one;
//! what they see is added up in a [`Tally`], and only from there it goes to the
//! CMDB. Whatever the CMDB has not acknowledged stays in the tally.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::cmdb::connect::Limits;
use crate::cmdb::url::CmdbUrl;
use crate::cmdb::write::Recorded;
use crate::cmdb::{Cmdb, jittered};
use crate::flow::filter::Filter;
use crate::flow::key::Observation;
use crate::flow::report::Report;
use crate::flow::tally::Tally;
use crate::probe::{Probe, record};

/// Longest time one delivery to the CMDB may take before it counts as failed.
const DELIVERY_LIMIT: Duration = Duration::from_secs(30);

/// Longest time the last delivery may take after the signal to stop: less than
/// the ten seconds that Docker and Kubernetes' `preStop` grant at least.
const LAST_DELIVERY_LIMIT: Duration = Duration::from_secs(8);

/// Waits between two attempts to deliver while the CMDB is away: doubled from
/// the first to the last, so that a restart of it is noticed within seconds.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LAST: Duration = Duration::from_secs(3);

/// How a probe is to run.
#[derive(Debug)]
pub struct Plan {
    /// Where reports go.
    pub cmdb: CmdbUrl,
    /// Between scans.
    pub interval: Duration,
    /// Between reports.
    pub flush: Duration,
    /// Which peers are reported.
    pub filter: Filter,
}

/// Where `--record` writes every snapshot.
pub type Recorder = Box<dyn Write + Send>;

/// Opens the file that `--record` names; `-` is standard output.
pub fn open_recorder(path: &Path) -> Result<Recorder> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdout()));
    }
    let file = File::create(path).with_context(|| format!("create '{}'", path.display()))?;
    Ok(Box::new(BufWriter::new(file)))
}

/// Scans once, delivers, and returns what was delivered.
pub async fn once(probe: Probe, recorder: Option<Recorder>, plan: &Plan) -> Result<Report> {
    let cmdb = Cmdb::open(&plan.cmdb, &Limits::STANDARD).await?;
    // A thread, as a scan moves the thread it runs on through the namespaces.
    let mut scanner = Scanner { probe, recorder, filter: plan.filter, unrecorded: None };
    let scan = std::thread::Builder::new().name("scan".into());
    let scan = scan.spawn(move || scanner.scan().map(|seen| (seen, scanner.unrecorded)));
    let scan = scan.context("start the scan thread")?;
    let (observation, unrecorded) =
        scan.join().map_err(|_| anyhow::anyhow!("the scan panicked"))??;
    let mut tally = Tally::new(observation.taken, SignedDuration::ZERO);
    tally.observe(observation);
    let report = deliver(&cmdb, &mut tally).await?;
    cmdb.close().await;
    unrecorded.map_or(Ok(report), Err)
}

/// Delivers what a recording holds, as the probe that made it would have. The
/// first snapshot's time names the epoch, so that replaying a file twice
/// changes nothing. Returns the last report.
pub async fn replay(recording: &Path, plan: &Plan) -> Result<Report> {
    let name = recording.display();
    let file = File::open(recording).with_context(|| format!("open '{name}'"))?;
    let mut snapshots = record::Reader::new(BufReader::new(file));
    let mut next = || snapshots.read_next().with_context(|| format!("read '{name}'"));
    let first = next()?.with_context(|| format!("'{name}' is no recording of shawk's"))?;
    let mut coming = next()?;
    // A single snapshot is what `--once` saw, and was told at once.
    let single = coming.is_none();
    let linger = if single { SignedDuration::ZERO } else { plan.flush.try_into()? };
    let cmdb = Cmdb::open(&plan.cmdb, &Limits::STANDARD).await?;
    let mut tally = Tally::new(first.taken, linger);
    let mut told = first.taken;
    tally.observe(filtered(first.observe(), plan.filter));
    while let Some(snapshot) = coming {
        if snapshot.taken.duration_since(told) >= linger {
            told = snapshot.taken;
            deliver(&cmdb, &mut tally).await?;
        }
        tally.observe(filtered(snapshot.observe(), plan.filter));
        coming = next()?;
    }
    let report = deliver(&cmdb, &mut tally).await?;
    cmdb.close().await;
    Ok(report)
}

async fn deliver(cmdb: &Cmdb, tally: &mut Tally) -> Result<Report> {
    let mut report = tally.take().context("there is nothing to report")?;
    report.sent = Timestamp::now();
    let recorded = cmdb.record(&[&report]).await?;
    tally.acknowledge();
    say_what_was_refused(&recorded);
    Ok(report)
}

/// A row the CMDB cannot store does not keep its neighbours out, nor pass
/// unseen.
fn say_what_was_refused(recorded: &Recorded) {
    if recorded.refused > 0 {
        warn!("the CMDB refused {} rows of a report; the others are in it", recorded.refused);
    }
}

/// Scans and reports until SIGTERM or SIGINT; then the last report is
/// delivered. An error means that it could not be.
pub async fn run(probe: Probe, recorder: Option<Recorder>, plan: Plan) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("watch for SIGINT")?;
    let linger = SignedDuration::try_from(plan.flush)?;
    let tally = Arc::new(Mutex::new(Tally::new(Timestamp::now(), linger)));
    let (stop, stopped) = mpsc::channel();
    let (scanned, mut scans) = watch::channel(());
    let scanner = Scanner { probe, recorder, filter: plan.filter, unrecorded: None };
    let (shared, interval) = (Arc::clone(&tally), plan.interval);
    let thread = std::thread::Builder::new()
        .name("scan".into())
        .spawn(move || scanner.run(&shared, interval, &stopped, &scanned))
        .context("start the scan thread")?;

    let mut delivery =
        Delivery { url: plan.cmdb.clone(), cmdb: None, acknowledged: 0, failing_since: None };
    let mut stopping = tokio::select! {
        _ = scans.changed() => false,
        _ = terminate.recv() => true,
        _ = interrupt.recv() => true,
    };
    notify(&[sd_notify::NotifyState::Ready]);
    let mut retry = RETRY_FIRST;
    let mut due = tokio::time::Instant::now();
    while !stopping {
        let whole = tokio::time::Instant::now() >= due;
        let part = if whole { Part::Whole } else { Part::News };
        let delivered = tokio::select! {
            delivered = delivery.flush(&tally, part, DELIVERY_LIMIT) => delivered,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        };
        if whole || !delivered {
            let wait = if delivered { plan.flush } else { jittered(retry.min(plan.flush)) };
            due = tokio::time::Instant::now() + wait;
        }
        retry = if delivered { RETRY_FIRST } else { RETRY_LAST.min(retry * 2) };
        // A new flow is told after the scan that saw it, unless the CMDB is
        // away; so there is at most one report a scan.
        stopping = loop {
            tokio::select! {
                () = tokio::time::sleep_until(due) => break false,
                Ok(()) = scans.changed(), if delivered => {
                    if lock(&tally).has_news() {
                        break false;
                    }
                }
                _ = terminate.recv() => break true,
                _ = interrupt.recv() => break true,
            }
        };
    }
    notify(&[sd_notify::NotifyState::Stopping]);
    drop(stop);
    tokio::task::spawn_blocking(move || thread.join()).await.ok();
    let last = delivery.flush(&tally, Part::Whole, LAST_DELIVERY_LIMIT);
    let delivered = tokio::select! {
        delivered = last => delivered,
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
    };
    anyhow::ensure!(delivered, "stopped before the last report reached the CMDB");
    if let Some(cmdb) = delivery.cmdb.take() {
        cmdb.close().await;
    }
    let said = if delivery.acknowledged > 0 {
        "the last report is in the CMDB"
    } else {
        "nothing was seen"
    };
    info!("stopped; {said}");
    Ok(())
}

/// Tells a service manager, where there is one. Its absence is the common case.
fn notify(states: &[sd_notify::NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!("the service manager cannot be told: {error}");
    }
}

/// The thread that looks: everything it needs, and nothing that can wait for a
/// network.
struct Scanner {
    probe: Probe,
    recorder: Option<Recorder>,
    filter: Filter,
    /// Why nothing is recorded any more.
    unrecorded: Option<anyhow::Error>,
}

impl Scanner {
    /// Scans at the interval until `stopped` is closed. A scan that takes
    /// longer than the interval delays the next, and what was skipped is
    /// counted; two never run at once.
    fn run(
        mut self,
        tally: &Mutex<Tally>,
        interval: Duration,
        stopped: &mpsc::Receiver<()>,
        scanned: &watch::Sender<()>,
    ) {
        let mut due = Instant::now();
        let mut skipped = 0;
        let mut failing = false;
        loop {
            match self.scan() {
                Ok(mut observation) => {
                    observation.coverage.scans_skipped = skipped;
                    lock(tally).observe(observation);
                    scanned.send_replace(());
                    if std::mem::take(&mut failing) {
                        info!("scans work again");
                    }
                }
                Err(error) if failing => debug!("scan: {error:#}"),
                Err(error) => {
                    warn!("a scan failed, the next is tried: {error:#}");
                    failing = true;
                }
            }
            due += interval;
            let late = Instant::now().saturating_duration_since(due);
            let missed = late.as_nanos() / interval.as_nanos();
            if missed > 0 {
                let missed = u32::try_from(missed).unwrap_or(u32::MAX);
                skipped += u64::from(missed);
                due += interval.saturating_mul(missed);
            }
            let wait = due.saturating_duration_since(Instant::now());
            if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    fn scan(&mut self) -> Result<Observation> {
        let started = Instant::now();
        // Sockets one by one only where they are asked for: the kernel may add
        // them up at a fraction of the cost.
        let observation = match &mut self.recorder {
            Some(recorder) => {
                let snapshot = self.probe.snapshot()?;
                let written = record::write(&snapshot, &mut *recorder)
                    .and_then(|()| recorder.flush().context("flush"))
                    .context("record the snapshot");
                // A full disk for a recording must not cost the CMDB anything.
                if let Err(error) = written {
                    warn!("recording ends here: {error:#}");
                    self.recorder = None;
                    self.unrecorded = Some(error);
                }
                snapshot.observe()
            }
            None => self.probe.observe()?,
        };
        let observation = filtered(observation, self.filter);
        debug!("scanned {} host flows in {:?}", observation.flows.len(), started.elapsed());
        Ok(observation)
    }
}

fn filtered(mut observation: Observation, filter: Filter) -> Observation {
    observation.flows.retain(|flow| filter.keeps(flow));
    observation
}

/// A panic elsewhere ends the process (see `main`), so a poisoned lock is only
/// ever seen on the way out, and its tally is still worth delivering.
fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What of the tally is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// All that the CMDB does not know; a heartbeat if that is nothing.
    Whole,
    /// New flows, and those that are over.
    News,
}

/// The way to the CMDB, which may be away.
struct Delivery {
    url: CmdbUrl,
    cmdb: Option<Cmdb>,
    /// The last report that was acknowledged.
    acknowledged: u64,
    failing_since: Option<Instant>,
}

impl Delivery {
    /// Tries to deliver what the tally holds; whether it is delivered. Says so
    /// once when that begins to fail and once when it works again.
    async fn flush(&mut self, tally: &Mutex<Tally>, part: Part, limit: Duration) -> bool {
        let attempt = tokio::time::timeout(limit, self.deliver(tally, part)).await;
        match attempt.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {limit:?}"))) {
            Ok(()) => {
                if let Some(since) = self.failing_since.take() {
                    info!("the CMDB is back after {:.1?}", since.elapsed());
                }
                true
            }
            Err(error) => {
                self.cmdb = None;
                if self.failing_since.is_none() {
                    self.failing_since = Some(Instant::now());
                    warn!("the CMDB cannot be written, flows are kept and merged: {error:#}");
                }
                false
            }
        }
    }

    async fn deliver(&mut self, tally: &Mutex<Tally>, part: Part) -> Result<()> {
        let cmdb = match self.cmdb.take() {
            Some(cmdb) => cmdb,
            None => self.open(tally).await?,
        };
        let report = match part {
            Part::Whole => lock(tally).take(),
            Part::News => lock(tally).take_news(),
        };
        if let Some(mut report) = report {
            report.sent = Timestamp::now();
            say_what_was_refused(&cmdb.record(&[&report]).await?);
            lock(tally).acknowledge();
            self.acknowledged = report.sequence;
            debug!("report {}: {} flows", report.sequence, report.flows.len());
        }
        self.cmdb = Some(cmdb);
        Ok(())
    }

    /// Connects. A CMDB that does not know what it acknowledged is another one
    /// (restored from a backup, or made anew), and is told everything again.
    async fn open(&self, tally: &Mutex<Tally>) -> Result<Cmdb> {
        let cmdb = Cmdb::open(&self.url, &Limits::STANDARD).await?;
        let who = lock(tally).who();
        if let Some((host, epoch)) = who.filter(|_| self.acknowledged > 0) {
            let known = cmdb.last_sequence(host, epoch).await?;
            if known.is_none_or(|known| known < self.acknowledged) {
                warn!("the CMDB has lost what it was told; all that is alive is told again");
                lock(tally).forget_told();
            }
        }
        Ok(cmdb)
    }
}
