//! A recording, delivered as the probe that made it would have.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result};
use jiff::SignedDuration;

use crate::agent::scan::filtered;
use crate::agent::{Plan, deliver};
use crate::cmdb::Cmdb;
use crate::cmdb::connect::Limits;
use crate::flow::report::Report;
use crate::flow::tally::Tally;
use crate::probe::record;

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
