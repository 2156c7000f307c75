//! The way to the CMDB, which may be away.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, anyhow};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use crate::agent::journal::{Going, Journal};
use crate::agent::meter::Meter;
use crate::agent::say_what_was_refused;
use crate::agent::spool::LIMIT;
use crate::agent::spool::disk::{Batch, Job, Reply};
use crate::agent::spool::format::Kind;
use crate::agent::spool::payload::{REPORT_BYTES, REPORT_FLOWS};
use crate::cmdb::Cmdb;
use crate::cmdb::connect::Limits;
use crate::cmdb::fault::is_refused;
use crate::cmdb::url::CmdbUrl;
use crate::daemon::lock;
use crate::flow::report::{Report, merge};
use crate::flow::tally::Tally;

/// What of the tally is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All that the CMDB does not know; a heartbeat if that is nothing.
    Whole,
    /// New flows, and those that are over.
    News,
}

/// The way to the CMDB.
pub(crate) struct Delivery {
    url: CmdbUrl,
    cmdb: Option<Cmdb>,
    tally: Arc<Mutex<Tally>>,
    journal: Option<Arc<Journal>>,
    meter: Arc<Meter>,
    going: watch::Sender<Going>,
    /// The last report that was acknowledged.
    acknowledged: u64,
    /// The backlog cannot be told.
    stuck: bool,
    /// What the CMDB said last was no.
    refused: bool,
    /// Which was said, since it last took something.
    said_refused: bool,
}

impl Delivery {
    pub(crate) fn new(
        url: CmdbUrl,
        tally: Arc<Mutex<Tally>>,
        journal: Option<Arc<Journal>>,
        meter: Arc<Meter>,
        going: watch::Sender<Going>,
    ) -> Delivery {
        Delivery {
            url,
            cmdb: None,
            tally,
            journal,
            meter,
            going,
            acknowledged: 0,
            stuck: false,
            refused: false,
            said_refused: false,
        }
    }

    /// Whether anything was ever acknowledged.
    pub(crate) fn has_told(&self) -> bool {
        self.acknowledged > 0
    }

    /// Whether the CMDB is there and will not have it: a token that is not
    /// known, an address that another host has. That takes somebody to mend.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused
    }

    /// Closes the connection.
    pub(crate) async fn close(&mut self) {
        if let Some(cmdb) = self.cmdb.take() {
            cmdb.close().await;
        }
    }

    /// Tries to deliver what the tally holds; whether it is delivered. Says so
    /// once when that begins to fail, once when it begins to be refused, and
    /// once when it works again. No step of it takes longer than `limit`.
    pub(crate) async fn flush(&mut self, part: Part, limit: Duration) -> bool {
        let done = self.deliver(part, limit).await;
        self.refused = done.as_ref().is_err_and(is_refused);
        let mut going = *self.going.borrow();
        if done.is_ok() && part == Part::Whole {
            going.delivered = Instant::now();
        }
        match &done {
            Ok(()) => {
                self.said_refused = false;
                if let Some(since) = going.failing.take() {
                    info!("the CMDB is back after {:.1?}", since.elapsed());
                }
            }
            Err(error) => {
                self.cmdb = None;
                self.meter.deliveries_failed.add(1);
                self.meter.deliveries_refused.add(u64::from(self.refused));
                let new = self.refused && !self.said_refused;
                self.said_refused |= self.refused;
                if going.failing.is_none() || new {
                    going.failing.get_or_insert_with(Instant::now);
                    warn!("the CMDB cannot be written, flows are kept and merged: {error:#}");
                }
            }
        }
        self.going.send_replace(going);
        done.is_ok()
    }

    async fn deliver(&mut self, part: Part, limit: Duration) -> Result<()> {
        let cmdb = self.connected(limit).await?;
        let (part, parts) = {
            let mut tally = lock(&self.tally);
            // What is told beside a journal is told whole, since the number it is
            // told under takes the place of all that was journaled before.
            let part = if self.has_journal(&tally) { Part::Whole } else { part };
            let report = match part {
                Part::Whole => tally.take(),
                Part::News => tally.take_news(),
            };
            let next = &mut || tally.next_sequence();
            let split = report.map(|report| report.split(REPORT_FLOWS, REPORT_BYTES, next));
            (part, split.unwrap_or_default())
        };
        if parts.len() > 1 {
            self.renew_journal().await;
        }
        let mut sequence = self.acknowledged;
        for mut report in parts {
            record(&cmdb, &mut report, limit, &self.meter).await?;
            sequence = report.sequence;
        }
        let mut tally = lock(&self.tally);
        tally.acknowledge();
        self.acknowledged = sequence;
        if part == Part::Whole
            && let Some(journal) = &self.journal
            && journal.gauge.has_journal()
            && tally.empty_journal()
        {
            journal.gauge.empty();
        }
        self.cmdb = Some(cmdb);
        Ok(())
    }

    /// Whether the disk has a journal of this run, or is getting one.
    fn has_journal(&self, tally: &Tally) -> bool {
        let journal = self.journal.as_ref();
        journal.is_some_and(|journal| journal.gauge.has_journal() || tally.is_journaling())
    }

    /// Before something is told that is not all: see [`Journal::renew`].
    async fn renew_journal(&self) {
        let Some(journal) = &self.journal else { return };
        if !self.has_journal(&lock(&self.tally)) {
            return;
        }
        let written = timeout(LIMIT, journal.renew(&self.tally)).await;
        if !matches!(written, Ok(Ok(()))) {
            debug!("the journal could not be written before a report that is not all");
        }
    }

    /// Connects. A CMDB that does not know what it acknowledged is another one
    /// (restored from a backup, or made anew), and is told everything again.
    async fn connected(&mut self, limit: Duration) -> Result<Cmdb> {
        if let Some(cmdb) = self.cmdb.take() {
            return Ok(cmdb);
        }
        let opening = async {
            let cmdb = Cmdb::open(&self.url, &Limits::STANDARD).await?;
            let who = lock(&self.tally).who();
            if let Some((host, epoch)) = who.filter(|_| self.acknowledged > 0) {
                let known = cmdb.last_sequence(host, epoch).await?;
                if known.is_none_or(|known| known < self.acknowledged) {
                    warn!("the CMDB has lost what it was told; all that is alive is told again");
                    lock(&self.tally).forget_told();
                }
            }
            Ok(cmdb)
        };
        timeout(limit, opening).await.unwrap_or_else(|_| Err(late(limit)))
    }

    /// Tells the next segment of the backlog; whether that worked. Said once
    /// when it begins to fail.
    pub(crate) async fn tell_backlog(&mut self, limit: Duration) -> bool {
        let Some(journal) = self.journal.clone() else { return true };
        match self.tell_segment(&journal, limit).await {
            Ok(()) => {
                self.stuck = false;
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.stuck, true) {
                    warn!("what an outage left cannot be told and is kept: {error:#}");
                }
                false
            }
        }
    }

    async fn tell_segment(&mut self, journal: &Journal, limit: Duration) -> Result<()> {
        let Some(batch) = next_segment(journal).await? else { return Ok(()) };
        let Batch { name, kind, groups, spans, damaged } = batch;
        let own = lock(&self.tally).who().is_some_and(|(_, epoch)| epoch == name.epoch);
        for group in groups {
            let told = self.tell_old(group, kind, own, limit).await;
            if told.is_err() {
                self.cmdb = None;
                timeout(LIMIT, ask(journal, Job::Later(name))).await.ok();
                return told;
            }
        }
        lock(&self.tally).backlog_done(spans, damaged);
        debug!("told {spans} spans of the backlog");
        if damaged > 0 {
            warn!("{damaged} spans that an outage left cannot be read any more and are lost");
        }
        timeout(LIMIT, ask(journal, Job::Remove(name))).await.map_err(|_| late(LIMIT))??;
        Ok(())
    }

    /// Tells reports of the backlog as one. What is of this run gets a new
    /// number; of an earlier one a journal keeps its numbers, and what the CMDB
    /// has a later report of is not told back to it.
    async fn tell_old(
        &mut self,
        mut group: Vec<Report>,
        kind: Kind,
        own: bool,
        limit: Duration,
    ) -> Result<()> {
        let Some(last) = group.last() else { return Ok(()) };
        let who = (last.host.hash(), last.epoch);
        let cmdb = self.connected(limit).await?;
        let known = if own {
            0
        } else {
            let asked = timeout(limit, cmdb.last_sequence(who.0, who.1)).await;
            asked.map_err(|_| late(limit))??.unwrap_or(0)
        };
        if kind == Kind::Journal {
            group.retain(|report| report.sequence > known);
        }
        if let Some(mut report) = merge(group) {
            if own {
                report.sequence = {
                    let mut tally = lock(&self.tally);
                    tally.refresh(&mut report);
                    tally.next_sequence()
                };
                self.renew_journal().await;
            } else {
                report.sequence = report.sequence.max(known + 1);
            }
            record(&cmdb, &mut report, limit, &self.meter).await?;
            if own {
                self.acknowledged = self.acknowledged.max(report.sequence);
            }
        }
        self.cmdb = Some(cmdb);
        Ok(())
    }
}

async fn record(cmdb: &Cmdb, report: &mut Report, limit: Duration, meter: &Meter) -> Result<()> {
    report.sent = Timestamp::now();
    let recorded = timeout(limit, cmdb.record(&[report])).await.map_err(|_| late(limit))??;
    say_what_was_refused(&recorded);
    meter.delivered(recorded.refused, report.sent);
    debug!("report {}: {} flows", report.sequence, report.flows.len());
    Ok(())
}

async fn next_segment(journal: &Journal) -> Result<Option<Batch>> {
    match timeout(LIMIT, ask(journal, Job::Next)).await.map_err(|_| late(LIMIT))?? {
        Reply::Batch(batch) => Ok(batch),
        Reply::Done(_) | Reply::Found { .. } => Ok(None),
    }
}

async fn ask(journal: &Journal, job: Job) -> Result<Reply> {
    journal.spool.lock().await.ask(job).await
}

fn late(limit: Duration) -> anyhow::Error {
    anyhow!("no answer within {limit:?}")
}

#[cfg(test)]
mod tests;
