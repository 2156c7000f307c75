//! The probe as a daemon: when what is told, until it is told to stop.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{debug, info};

use crate::agent::delivery::{Delivery, Part};
use crate::agent::scan::{Recorder, Scanner};
use crate::agent::{Plan, lock};
use crate::cmdb::jittered;
use crate::flow::tally::Tally;
use crate::probe::Probe;

/// Longest time one delivery to the CMDB may take before it counts as failed.
const DELIVERY_LIMIT: Duration = Duration::from_secs(30);

/// Longest time the last delivery may take after the signal to stop: less than
/// the ten seconds that Docker and Kubernetes' `preStop` grant at least.
const LAST_DELIVERY_LIMIT: Duration = Duration::from_secs(8);

/// Waits between two attempts to deliver while the CMDB is away: doubled from
/// the first to the last, so that a restart of it is noticed within seconds.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LAST: Duration = Duration::from_secs(3);

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
