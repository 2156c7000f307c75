//! The thread that looks. It must not know the CMDB.

use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::agent::meter::Meter;
use crate::agent::recorder::Recorder;
use crate::daemon::lock;
use crate::flow::filter::Filter;
use crate::flow::key::Observation;
use crate::flow::tally::Tally;
use crate::probe::Probe;

/// Scans take at most one part in so many of one processor.
const MAX_SHARE: u32 = 4;

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
    /// longer than the interval delays the next; one that takes more than its
    /// share of a processor makes the interval longer. What was left out is
    /// counted, and two never run at once.
    pub(crate) fn run(
        mut self,
        tally: &Mutex<Tally>,
        interval: Duration,
        stopped: &mpsc::Receiver<()>,
        scanned: &watch::Sender<()>,
        meter: &Meter,
    ) {
        let mut due = Instant::now();
        let mut skipped = 0;
        let (mut failing, mut slow) = (false, false);
        loop {
            let (began, cpu_before) = (Instant::now(), cpu_time());
            match self.scan() {
                Ok(mut observation) => {
                    observation.coverage.scans_skipped = skipped;
                    lock(tally).observe(observation);
                    scanned.send_replace(());
                    if std::mem::take(&mut failing) {
                        info!("scans work again");
                    }
                }
                Err(error) => {
                    meter.scans_failed.add(1);
                    if std::mem::replace(&mut failing, true) {
                        debug!("scan: {error:#}");
                    } else {
                        warn!("a scan failed, the next is tried: {error:#}");
                    }
                }
            }
            let cpu = cpu_time().saturating_sub(cpu_before);
            meter.scans.add(1);
            meter.scan_us.add_us(began.elapsed());
            meter.scan_cpu_us.add_us(cpu);
            let paced = pace(interval, cpu);
            if paced > interval {
                meter.scans_slowed.add(1);
            }
            say_pace(&mut slow, interval, paced, cpu);
            let (next, missed) = next_scan(due, Instant::now(), interval, paced);
            due = next;
            skipped += missed;
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
                // A full disk for a recording must not cost the CMDB anything.
                if let Err(error) = recorder.record(&snapshot) {
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
    observation.coverage.filtered = filter != Filter::All;
    observation
}

/// Time from one scan to the next, so that scans take a quarter of one
/// processor at most.
fn pace(interval: Duration, cpu: Duration) -> Duration {
    interval.max(cpu.saturating_mul(MAX_SHARE))
}

/// When the next scan is due, and how many are left out that the interval would
/// have had.
fn next_scan(due: Instant, now: Instant, interval: Duration, paced: Duration) -> (Instant, u64) {
    let late = now.saturating_duration_since(due + paced);
    let wait = paced + interval.saturating_mul(steps(late, interval));
    (due + wait, u64::from(steps(wait, interval).saturating_sub(1)))
}

fn steps(time: Duration, interval: Duration) -> u32 {
    u32::try_from(time.as_nanos() / interval.as_nanos().max(1)).unwrap_or(u32::MAX)
}

/// Says once that scans are slowed, and once that they no longer are. In
/// between is room, so that a cost near the limit is not said at every scan.
fn say_pace(slow: &mut bool, interval: Duration, paced: Duration, cpu: Duration) {
    if paced > interval && !*slow {
        *slow = true;
        warn!(
            "a scan takes {cpu:.1?} of a processor; to take no more than a quarter of one, \
             the next are up to {paced:.1?} apart in place of {interval:?}"
        );
    } else if *slow && pace(interval, cpu * 2) == interval {
        *slow = false;
        info!("scans are {interval:?} apart again");
    }
}

/// What this thread has taken of a processor.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_that_costs_too_much_makes_the_interval_longer() {
        let ms = Duration::from_millis;
        assert_eq!(pace(ms(1000), ms(200)), ms(1000));
        assert_eq!(pace(ms(1000), ms(500)), ms(2000));
        let start = Instant::now();
        let next = |now, cpu| next_scan(start, start + ms(now), ms(1000), pace(ms(1000), ms(cpu)));
        assert_eq!(next(100, 100), (start + ms(1000), 0));
        assert_eq!(next(900, 600), (start + ms(2400), 1));
        assert_eq!(next(1600, 200), (start + ms(1000), 0));
        assert_eq!(next(5500, 200), (start + ms(5000), 4));
        assert_eq!(next(5500, 1500), (start + ms(6000), 5));
    }
}
