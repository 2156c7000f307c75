//! The probe as a daemon: a thread that scans, and what tells what it saw, until
//! it is told to stop.

use std::sync::{Arc, Mutex, mpsc};

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use sd_notify::NotifyState;
use tokio::sync::watch;

use crate::agent::Plan;
use crate::agent::meter::Meter;
use crate::agent::metrics::{self, Sources};
use crate::agent::recorder::Recorder;
use crate::agent::scan::Scanner;
use crate::agent::telling::Telling;
use crate::daemon::{Signals, notify};
use crate::flow::tally::Tally;
use crate::probe::Probe;

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
    let recorder = recorder.map(Recorder::of_daemon);
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
    let spool = plan.spool.as_ref();
    let mut telling = Telling::start(&tally, &plan.cmdb, plan.flush, spool, Arc::clone(&meter))?;
    let sources = Sources { tally, meter, gauge: telling.gauge(), log: plan.log };
    if begun {
        tokio::select! {
            () = telling.go_on(&mut scans) => {}
            () = metrics::serve(listener, sources) => {}
            () = signals.stop() => {}
        }
    }
    notify(NotifyState::Stopping);
    drop(stop);
    tokio::task::spawn_blocking(move || thread.join()).await.ok();
    telling.finish(signals.stop()).await
}
