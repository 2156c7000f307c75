//! What scans and deliveries count as they go, for whoever scrapes.

use jiff::Timestamp;

use crate::prometheus::Count;

/// Numbers of a running probe.
#[derive(Debug, Default)]
pub struct Meter {
    pub(crate) scans: Count,
    pub(crate) scans_failed: Count,
    /// Microseconds, of all scans.
    pub(crate) scan_us: Count,
    pub(crate) scan_cpu_us: Count,
    /// Scans that came later than the interval says, to spare the processor.
    pub(crate) scans_slowed: Count,
    pub(crate) deliveries: Count,
    pub(crate) deliveries_failed: Count,
    /// Of these, what the CMDB refused: a token, an address, a right.
    pub(crate) deliveries_refused: Count,
    pub(crate) rows_refused: Count,
    /// Microseconds of UTC; 0 before the first.
    pub(crate) last_delivery: Count,
}

impl Meter {
    /// Reports delivered so far.
    pub fn deliveries(&self) -> u64 {
        self.deliveries.get()
    }

    pub(crate) fn delivered(&self, refused: u64, now: Timestamp) {
        self.deliveries.add(1);
        self.rows_refused.add(refused);
        let now = u64::try_from(now.as_microsecond()).unwrap_or(0);
        self.last_delivery.set(now);
    }
}
