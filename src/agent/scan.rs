//! The thread that looks, and the recording of what it saw. It must not know
//! the CMDB.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::agent::lock;
use crate::flow::filter::Filter;
use crate::flow::key::Observation;
use crate::flow::tally::Tally;
use crate::probe::{Probe, record};

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

/// The thread that looks: everything it needs, and nothing that can wait for a
/// network.
pub(crate) struct Scanner {
    pub(crate) probe: Probe,
    pub(crate) recorder: Option<Recorder>,
    pub(crate) filter: Filter,
    /// Why nothing is recorded any more.
    pub(crate) unrecorded: Option<anyhow::Error>,
}

impl Scanner {
    /// Scans at the interval until `stopped` is closed. A scan that takes
    /// longer than the interval delays the next, and what was skipped is
    /// counted; two never run at once.
    pub(crate) fn run(
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

    pub(crate) fn scan(&mut self) -> Result<Observation> {
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

pub(crate) fn filtered(mut observation: Observation, filter: Filter) -> Observation {
    observation.flows.retain(|flow| filter.keeps(flow));
    observation
}
