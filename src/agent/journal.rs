//! When what the CMDB does not have is written to disk: as soon as a delivery
//! has failed, and from then on every flush interval until one succeeds.

use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::debug;

use crate::agent::spool::disk::{Job, Reply};
use crate::agent::spool::payload::{RECORD_BYTES, RECORD_FLOWS};
use crate::agent::spool::{Gauge, Spool};
use crate::daemon::lock;
use crate::flow::report::Report;
use crate::flow::tally::Tally;

/// Until a disk that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// So much later than expected a delivery may be done before the journal takes
/// it that it will not be.
const SLACK: Duration = Duration::from_secs(2);

/// How deliveries go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Going {
    /// When all was last delivered; at first, when the probe began.
    pub(crate) delivered: Instant,
    /// Since when it fails.
    pub(crate) failing: Option<Instant>,
}

/// The journal of a tally, and the backlog.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) spool: tokio::sync::Mutex<Spool>,
    pub(crate) gauge: Gauge,
}

impl Journal {
    /// Takes over what earlier runs left, and keeps the journal. Never ends.
    pub(crate) async fn keep(
        &self,
        tally: &Mutex<Tally>,
        flush: Duration,
        mut going: watch::Receiver<Going>,
    ) {
        let mut taken_over = false;
        let mut last: Option<Instant> = None;
        let mut not_before = Instant::now();
        loop {
            let due = due(*going.borrow_and_update(), last, flush);
            let due = if taken_over { due.max(not_before) } else { not_before };
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                Ok(()) = going.changed() => continue,
            }
            let done = if taken_over {
                self.write(tally).await.map(|()| last = Some(Instant::now()))
            } else {
                self.take_over(tally).await.map(|()| taken_over = true)
            };
            if let Err(error) = done {
                debug!("journal: {error:#}");
                not_before = Instant::now() + RETRY.min(flush);
            }
        }
    }

    /// Removes what the CMDB has.
    pub(crate) async fn tidy(&self) {
        self.spool.lock().await.ask(Job::Tidy).await.ok();
    }

    async fn take_over(&self, tally: &Mutex<Tally>) -> Result<()> {
        if let Reply::Found { spans, damaged } = self.spool.lock().await.ask(Job::Open).await? {
            lock(tally).take_over(spans, damaged);
        }
        Ok(())
    }

    /// Writes what neither the CMDB nor the journal has, and has memory freed
    /// of what is over, where that is much.
    pub(crate) async fn write(&self, tally: &Mutex<Tally>) -> Result<()> {
        let mut spool = self.spool.lock().await;
        if let Some(parts) = parts(tally, Tally::take_spill) {
            let spilled = spool.ask(Job::Spill(parts)).await;
            let spans = match &spilled {
                Ok(Reply::Done(spans)) => Some(*spans),
                _ => None,
            };
            lock(tally).spilled(spans);
            spilled?;
        }
        let anew = self.gauge.figures.journal_is_stale();
        write(&mut spool, tally, anew).await?;
        // That it is gone is found when something is added to it.
        if !anew && self.gauge.figures.journal_is_lost() {
            write(&mut spool, tally, true).await?;
        }
        Ok(())
    }

    /// Writes all that the CMDB does not have, under numbers higher than any
    /// that was taken, before something is told that is not all: if we die after
    /// it, the CMDB's last number is no proof that it has what was journaled.
    pub(crate) async fn renew(&self, tally: &Mutex<Tally>) -> Result<()> {
        let mut spool = self.spool.lock().await;
        write(&mut spool, tally, true).await
    }
}

/// Marks what was offered as not journaled, unless told otherwise: also when
/// nobody waits any more.
struct Offer<'a> {
    tally: &'a Mutex<Tally>,
    done: bool,
}

impl Drop for Offer<'_> {
    fn drop(&mut self) {
        lock(self.tally).journaled(self.done);
    }
}

async fn write(spool: &mut Spool, tally: &Mutex<Tally>, anew: bool) -> Result<()> {
    let reports = parts(tally, |tally| tally.take_unjournaled(anew));
    let reports = reports.context("there is nothing to keep")?;
    let mut offer = Offer { tally, done: false };
    spool.ask(Job::Journal { reports, anew }).await?;
    offer.done = true;
    Ok(())
}

/// What is taken of the tally as records, numbered while nobody else can take
/// a number.
fn parts(tally: &Mutex<Tally>, take: impl Fn(&mut Tally) -> Option<Report>) -> Option<Vec<Report>> {
    let mut tally = lock(tally);
    let report = take(&mut tally)?;
    Some(report.split(RECORD_FLOWS, RECORD_BYTES, &mut || tally.next_sequence()))
}

/// When the journal is to be written next.
fn due(going: Going, last: Option<Instant>, flush: Duration) -> Instant {
    let known = last.map_or(going.delivered, |last| last.max(going.delivered));
    match going.failing {
        Some(since) if last.is_none_or(|last| last < since) => since,
        Some(_) => known + flush,
        None => known + flush + SLACK,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_written_when_a_delivery_fails_and_every_interval_after() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let flush = Duration::from_secs(30);
        let well = Going { delivered: start, failing: None };
        assert_eq!(due(well, None, flush), after(32));
        let failing = Going { failing: Some(after(30)), ..well };
        assert_eq!(due(failing, None, flush), after(30));
        assert_eq!(due(failing, Some(after(31)), flush), after(61));
        // An older outage's last word does not count in this one.
        let again = Going { delivered: after(100), failing: Some(after(130)) };
        assert_eq!(due(again, Some(after(61)), flush), after(130));
        let back = Going { delivered: after(200), failing: None };
        assert_eq!(due(back, Some(after(190)), flush), after(232));
    }
}
