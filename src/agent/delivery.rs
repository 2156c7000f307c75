//! The way to the CMDB, which may be away.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Result;
use jiff::Timestamp;
use tracing::{debug, info, warn};

use crate::agent::{lock, say_what_was_refused};
use crate::cmdb::Cmdb;
use crate::cmdb::connect::Limits;
use crate::cmdb::url::CmdbUrl;
use crate::flow::tally::Tally;

/// What of the tally is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All that the CMDB does not know; a heartbeat if that is nothing.
    Whole,
    /// New flows, and those that are over.
    News,
}

/// The way to the CMDB, which may be away.
pub(crate) struct Delivery {
    pub(crate) url: CmdbUrl,
    pub(crate) cmdb: Option<Cmdb>,
    /// The last report that was acknowledged.
    pub(crate) acknowledged: u64,
    pub(crate) failing_since: Option<Instant>,
}

impl Delivery {
    /// Tries to deliver what the tally holds; whether it is delivered. Says so
    /// once when that begins to fail and once when it works again.
    pub(crate) async fn flush(
        &mut self,
        tally: &Mutex<Tally>,
        part: Part,
        limit: Duration,
    ) -> bool {
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
