//! The probe as a daemon: when what is told, until it is told to stop.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::info;

use crate::agent::Plan;
use crate::agent::delivery::{Delivery, Part};
use crate::agent::journal::{Going, Journal};
use crate::agent::meter::Meter;
use crate::agent::metrics::{self, Sources};
use crate::agent::scan::{Recorder, Scanner};
use crate::agent::spool::Spool;
use crate::cmdb::jittered;
use crate::daemon::{Signals, lock, notify};
use crate::flow::tally::Tally;
use crate::probe::Probe;

/// Longest time one step of a delivery may take before it counts as failed.
const DELIVERY_LIMIT: Duration = Duration::from_secs(30);

/// Longest time the last delivery may take after the signal to stop, and after
/// that the journal: together less than the ten seconds that Docker and
/// Kubernetes' `preStop` grant at least.
const LAST_DELIVERY_LIMIT: Duration = Duration::from_secs(6);
const LAST_JOURNAL_LIMIT: Duration = Duration::from_secs(2);

/// Waits between two attempts to deliver while the CMDB is away: doubled from
/// the first to the last, so that a restart of it is noticed within seconds.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LAST: Duration = Duration::from_secs(3);

/// Until a backlog that could not be told is tried again.
const BACKLOG_RETRY: Duration = Duration::from_secs(10);

/// Scans and reports until SIGTERM or SIGINT; then the last report is
/// delivered, or kept on disk. An error means that it was neither.
pub async fn run(probe: Probe, recorder: Option<Recorder>, plan: Plan) -> Result<()> {
    let mut signals = Signals::watch()?;
    // Bound before anything else, as an address that is taken is a mistake.
    let listener = metrics::listen(plan.metrics).await?;
    let linger = SignedDuration::try_from(plan.flush)?;
    let tally = Arc::new(Mutex::new(Tally::new(Timestamp::now(), linger)));
    let meter = Arc::new(Meter::default());
    let (stop, stopped) = mpsc::channel();
    let (scanned, mut scans) = watch::channel(());
    let scanner = Scanner { probe, recorder, filter: plan.filter, unrecorded: None };
    let (shared, measured, interval) = (Arc::clone(&tally), Arc::clone(&meter), plan.interval);
    let thread = std::thread::Builder::new()
        .name("scan".into())
        .spawn(move || scanner.run(&shared, interval, &stopped, &scanned, &measured))
        .context("start the scan thread")?;

    let begun = tokio::select! {
        _ = scans.changed() => true,
        () = signals.stop() => false,
    };
    notify(NotifyState::Ready);
    let journal = start_journal(&plan, &tally)?;
    let (going, watched) = watch::channel(Going { delivered: Instant::now(), failing: None });
    let sources = Sources {
        tally: Arc::clone(&tally),
        meter: Arc::clone(&meter),
        gauge: journal.as_ref().map(|journal| journal.gauge.clone()),
    };
    let mut delivery =
        Delivery::new(plan.cmdb.clone(), Arc::clone(&tally), journal.clone(), meter, going);
    if begun {
        tokio::select! {
            () = deliver(&mut delivery, &tally, journal.as_deref(), &plan, &mut scans) => {}
            () = keep(journal.as_deref(), &tally, plan.flush, watched) => {}
            () = metrics::serve(listener, &sources) => {}
            () = signals.stop() => {}
        }
    }
    notify(NotifyState::Stopping);
    drop(stop);
    tokio::task::spawn_blocking(move || thread.join()).await.ok();
    finish(&mut delivery, &tally, journal.as_deref(), &mut signals).await
}

/// Nothing is kept on disk before it is known whose it is.
fn start_journal(plan: &Plan, tally: &Mutex<Tally>) -> Result<Option<Arc<Journal>>> {
    let (Some(spool), Some(who)) = (&plan.spool, lock(tally).who()) else { return Ok(None) };
    let (spool, gauge) = Spool::start(spool, who)?;
    Ok(Some(Arc::new(Journal { spool: tokio::sync::Mutex::new(spool), gauge })))
}

async fn keep(
    journal: Option<&Journal>,
    tally: &Mutex<Tally>,
    flush: Duration,
    going: watch::Receiver<Going>,
) {
    match journal {
        Some(journal) => journal.keep(tally, flush, going).await,
        None => std::future::pending().await,
    }
}

/// What is done next.
enum Next {
    Tell(Part),
    Backlog,
}

/// Delivers, for ever: what is new after the scan that saw it, all of it every
/// flush interval, and what an outage left when there is nothing else to do.
async fn deliver(
    delivery: &mut Delivery,
    tally: &Mutex<Tally>,
    journal: Option<&Journal>,
    plan: &Plan,
    scans: &mut watch::Receiver<()>,
) {
    let mut retry = RETRY_FIRST;
    let mut due = Instant::now();
    let mut backlog = Instant::now();
    let mut delivered = true;
    loop {
        let next = loop {
            let waits = delivered && journal.is_some_and(|journal| journal.gauge.has_backlog());
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(due) => break Next::Tell(Part::Whole),
                // There is at most one report of news a scan, and none while
                // the CMDB is away.
                Ok(()) = scans.changed(), if delivered => {
                    if lock(tally).has_news() {
                        break Next::Tell(Part::News);
                    }
                }
                () = tokio::time::sleep_until(backlog), if waits => break Next::Backlog,
            }
        };
        let Next::Tell(part) = next else {
            let told = delivery.tell_backlog(DELIVERY_LIMIT).await;
            backlog = Instant::now() + if told { Duration::ZERO } else { BACKLOG_RETRY };
            continue;
        };
        delivered = delivery.flush(part, DELIVERY_LIMIT).await;
        if part == Part::Whole || !delivered {
            let wait = if delivered { plan.flush } else { jittered(retry.min(plan.flush)) };
            due = Instant::now() + wait;
        }
        retry = if delivered { RETRY_FIRST } else { RETRY_LAST.min(retry * 2) };
    }
}

/// The last report, to the CMDB or to the disk.
async fn finish(
    delivery: &mut Delivery,
    tally: &Mutex<Tally>,
    journal: Option<&Journal>,
    signals: &mut Signals,
) -> Result<()> {
    // Nobody waits for the disk's answer any more.
    lock(tally).spilled(None);
    let last = delivery.flush(Part::Whole, LAST_DELIVERY_LIMIT);
    let delivered = tokio::select! {
        delivered = tokio::time::timeout(LAST_DELIVERY_LIMIT, last) => delivered.unwrap_or(false),
        () = signals.stop() => false,
    };
    if delivered {
        if let Some(journal) = journal {
            tokio::time::timeout(LAST_JOURNAL_LIMIT, journal.tidy()).await.ok();
        }
        delivery.close().await;
        let told = delivery.has_told();
        info!(
            "stopped; {}",
            if told { "the last report is in the CMDB" } else { "nothing was seen" }
        );
        return Ok(());
    }
    let lost = "stopped before the last report reached the CMDB";
    let journal = journal.context(lost)?;
    let written = tokio::time::timeout(LAST_JOURNAL_LIMIT, journal.write(tally)).await;
    written.context("the disk did not answer").and_then(|done| done).context(lost)?;
    info!("stopped; the last report did not reach the CMDB and waits in the spool");
    Ok(())
}
