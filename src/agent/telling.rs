//! All of a daemon but its scans: when what of a tally is told to the CMDB, and
//! when it is kept on disk. It must not know where a tally has it from.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::info;

use crate::agent::delivery::{Delivery, Part};
use crate::agent::journal::{Going, Journal};
use crate::agent::meter::Meter;
use crate::agent::spool::{Gauge, Spool, SpoolPlan};
use crate::cmdb::jittered;
use crate::cmdb::url::CmdbUrl;
use crate::daemon::lock;
use crate::flow::tally::Tally;

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

/// The same while the CMDB refuses what it is told: nothing of it is lost, and
/// somebody has to mend that.
const REFUSED_RETRY: Duration = Duration::from_secs(15);

/// Until a backlog that could not be told is tried again.
const BACKLOG_RETRY: Duration = Duration::from_secs(10);

/// What tells a tally.
pub struct Telling {
    tally: Arc<Mutex<Tally>>,
    delivery: Delivery,
    journal: Option<Arc<Journal>>,
    going: watch::Receiver<Going>,
    flush: Duration,
}

impl Telling {
    /// Of a tally that has been told to nobody. Nothing is kept on disk before
    /// it has an observation: it is not known whose it would be.
    pub fn start(
        tally: &Arc<Mutex<Tally>>,
        cmdb: &CmdbUrl,
        flush: Duration,
        spool: Option<&SpoolPlan>,
        meter: Arc<Meter>,
    ) -> Result<Telling> {
        let who = lock(tally).who();
        let journal = match spool.zip(who) {
            Some((spool, who)) => {
                let (spool, gauge) = Spool::start(spool, who)?;
                Some(Arc::new(Journal { spool: tokio::sync::Mutex::new(spool), gauge }))
            }
            None => None,
        };
        let (goes, going) = watch::channel(Going { delivered: Instant::now(), failing: None });
        let delivery = Delivery::new(cmdb.clone(), Arc::clone(tally), journal.clone(), meter, goes);
        Ok(Telling { tally: Arc::clone(tally), delivery, journal, going, flush })
    }

    /// What there is to say of the spool, if there is one.
    pub(crate) fn gauge(&self) -> Option<Gauge> {
        self.journal.as_ref().map(|journal| journal.gauge.clone())
    }

    /// Goes on for ever; `scans` changes after each scan.
    pub async fn go_on(&mut self, scans: &mut watch::Receiver<()>) {
        let (tally, journal) = (&self.tally, self.journal.as_deref());
        let keeping = async {
            match journal {
                Some(journal) => journal.keep(tally, self.flush, self.going.clone()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = deliver(&mut self.delivery, tally, journal, self.flush, scans) => {}
            () = keeping => {}
        }
    }

    /// The last report, to the CMDB or, in a hurry, to the disk.
    pub async fn finish(mut self, hurry: impl Future<Output = ()>) -> Result<()> {
        let (tally, delivery, journal) = (&self.tally, &mut self.delivery, self.journal.as_deref());
        // Nobody waits for the disk's answer any more.
        lock(tally).spilled(None);
        let last = delivery.flush(Part::Whole, LAST_DELIVERY_LIMIT);
        let delivered = tokio::select! {
            delivered = tokio::time::timeout(LAST_DELIVERY_LIMIT, last) => delivered.unwrap_or(false),
            () = hurry => false,
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
    flush: Duration,
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
            let again = if delivery.is_refused() { REFUSED_RETRY } else { retry };
            let wait = if delivered { flush } else { jittered(again.min(flush)) };
            due = Instant::now() + wait;
        }
        retry = if delivered { RETRY_FIRST } else { RETRY_LAST.min(retry * 2) };
    }
}

#[cfg(test)]
mod tests;
