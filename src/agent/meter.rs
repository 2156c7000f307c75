//! What scans and deliveries count as they go, for whoever scrapes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;

/// Numbers of a running probe.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(crate) scans: AtomicU64,
    pub(crate) scans_failed: AtomicU64,
    /// Microseconds, of all scans.
    pub(crate) scan_us: AtomicU64,
    pub(crate) scan_cpu_us: AtomicU64,
    /// Scans that came later than the interval says, to spare the processor.
    pub(crate) scans_slowed: AtomicU64,
    pub(crate) deliveries: AtomicU64,
    pub(crate) deliveries_failed: AtomicU64,
    pub(crate) rows_refused: AtomicU64,
    /// Microseconds of UTC; 0 before the first.
    pub(crate) last_delivery: AtomicU64,
}

impl Meter {
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add(counter: &AtomicU64, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        counter.fetch_add(us, Ordering::Relaxed);
    }

    pub(crate) fn delivered(&self, refused: u64, now: Timestamp) {
        Meter::count(&self.deliveries);
        self.rows_refused.fetch_add(refused, Ordering::Relaxed);
        let now = u64::try_from(now.as_microsecond()).unwrap_or(0);
        self.last_delivery.store(now, Ordering::Relaxed);
    }
}
