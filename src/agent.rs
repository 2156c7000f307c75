//! The loop of a probe: scans at one interval, reports at another.
//!
//! Scans run on a thread of their own, so that a slow CMDB never delays one;
//! what they see is added up in a [`Tally`], and only from there it goes to the
//! CMDB. Whatever the CMDB has not acknowledged stays in the tally.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use tracing::warn;

use crate::agent::recorder::Recorder;
use crate::agent::scan::Scanner;
use crate::agent::spool::SpoolPlan;
use crate::agent::spool::payload::{REPORT_BYTES, REPORT_FLOWS};
use crate::cmdb::Cmdb;
use crate::cmdb::connect::Limits;
use crate::cmdb::url::CmdbUrl;
use crate::cmdb::write::Recorded;
use crate::daemon::log::Log;
use crate::flow::filter::Filter;
use crate::flow::report::Report;
use crate::flow::tally::Tally;
use crate::probe::Probe;

pub mod daemon;
mod delivery;
mod journal;
pub mod meter;
mod metrics;
pub mod recorder;
pub mod replay;
pub mod scan;
pub mod spool;
pub mod telling;

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
    /// Where what cannot be delivered is kept; nowhere if absent.
    pub spool: Option<SpoolPlan>,
    /// Where a daemon tells of itself.
    pub metrics: Option<SocketAddr>,
    /// Where it says what it has to say.
    pub log: Log,
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

pub(crate) async fn deliver(cmdb: &Cmdb, tally: &mut Tally) -> Result<Report> {
    let report = tally.take().context("there is nothing to report")?;
    let next = &mut || tally.next_sequence();
    let mut told: Option<Report> = None;
    for mut part in report.split(REPORT_FLOWS, REPORT_BYTES, next) {
        part.sent = Timestamp::now();
        say_what_was_refused(&cmdb.record(&[&part]).await?);
        match &mut told {
            Some(told) => told.flows.append(&mut part.flows),
            None => told = Some(part),
        }
    }
    tally.acknowledge();
    told.context("there is nothing to report")
}

/// A row the CMDB cannot store does not keep its neighbours out, nor pass
/// unseen.
pub(crate) fn say_what_was_refused(recorded: &Recorded) {
    if recorded.refused > 0 {
        warn!("the CMDB refused {} rows of a report; the others are in it", recorded.refused);
    }
}
