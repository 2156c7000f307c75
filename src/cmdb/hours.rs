//! Hourly totals → sums over a window. It must not know a span.

use std::collections::BTreeMap;

use crate::cmdb::engine::{Connection, Row, Value};
use crate::cmdb::fault::{Error, Trouble};
use crate::cmdb::read::{MAX_ROWS, read};
use crate::cmdb::sql;
use crate::cmdb::text::number;
use crate::recall::{HostKey, Sums, Traffic, Window};

/// Microseconds.
const HOUR: i64 = 3_600_000_000;

/// The totals of one flow in one epoch.
#[derive(Default)]
struct Epoch {
    /// The flow was there before the epoch's first hour that is known.
    first_seen: i64,
    /// By hour; of two reports in one hour the newer (with its sequence).
    hours: BTreeMap<i64, (i64, Sums)>,
}

/// See [`crate::cmdb::Cmdb::traffic`].
pub(crate) async fn traffic(
    connection: &mut Connection,
    hosts: &[HostKey],
    window: &Window,
) -> Result<Vec<Traffic>, Trouble> {
    let hour = |at: Option<jiff::Timestamp>| at.map(|at| at.as_microsecond().div_euclid(HOUR));
    let since = hour(window.since).unwrap_or(i64::MIN);
    let until = hour(window.until).unwrap_or(i64::MAX);
    let values = [
        Value::Int(since),
        Value::Int(until),
        Value::Ints(hosts.to_vec()),
        Value::Int(MAX_ROWS + 1),
    ];
    let mut epochs: BTreeMap<(HostKey, i64, i64), Epoch> = BTreeMap::new();
    let add = &mut |row: &Row<'_>| {
        let total = |column| Ok::<_, Error>(row.optional_int(column)?.map(number));
        let sums = Sums {
            opened: total(6)?,
            failed: total(7)?,
            bytes_sent: total(8)?,
            bytes_received: total(9)?,
            retransmits: total(10)?,
        };
        let epoch = epochs.entry((row.int(0)?, row.int(1)?, row.int(3)?)).or_default();
        epoch.first_seen = row.int(2)?;
        let told = (row.int(5)?, sums);
        let known = epoch.hours.entry(row.int(4)?).or_insert(told);
        if told.0 > known.0 {
            *known = told;
        }
        Ok(())
    };
    read(connection, sql::HOURS_OF_HOSTS, &values, add).await?;
    let mut sums: BTreeMap<(HostKey, i64), Sums> = BTreeMap::new();
    for ((host, flow, began), epoch) in &epochs {
        if let Some(part) = epoch.within(*began, since, until) {
            let all = sums.entry((*host, *flow)).or_insert(part.zeroed());
            *all = all.plus(&part);
        }
    }
    Ok(sums.into_iter().map(|((host, flow), sums)| Traffic { host, flow, sums }).collect())
}

impl Epoch {
    /// What the totals rose by; none if nothing is known of that time.
    fn within(&self, began: i64, since: i64, until: i64) -> Option<Sums> {
        let (_, end) = self.hours.range(since..=until).next_back()?.1;
        if let Some((_, (_, before))) = self.hours.range(..since).next_back() {
            return Some(end.minus(before));
        }
        // Totals begin at nothing when the epoch or the flow does. Where both
        // are older than the window and nothing of before it is kept, the
        // difference is not known.
        let from_nothing = began.max(self.first_seen).div_euclid(HOUR) >= since;
        Some(if from_nothing { *end } else { Sums::default() })
    }
}

impl Sums {
    fn zip(&self, other: &Sums, with: impl Fn(u64, u64) -> u64) -> Sums {
        let both = |a: Option<u64>, b: Option<u64>| Some(with(a?, b?));
        Sums {
            opened: both(self.opened, other.opened),
            failed: both(self.failed, other.failed),
            bytes_sent: both(self.bytes_sent, other.bytes_sent),
            bytes_received: both(self.bytes_received, other.bytes_received),
            retransmits: both(self.retransmits, other.retransmits),
        }
    }

    fn plus(&self, other: &Sums) -> Sums {
        self.zip(other, u64::saturating_add)
    }

    fn minus(&self, other: &Sums) -> Sums {
        self.zip(other, u64::saturating_sub)
    }

    fn zeroed(&self) -> Sums {
        self.zip(self, |_, _| 0)
    }
}
