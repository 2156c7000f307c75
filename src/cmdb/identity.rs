//! Runs of a host's probes → what is odd about who reports as that host: two
//! at once, a clock that is wrong, times at which nobody looked. It must not
//! know a flow.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::cmdb::engine::{Connection, Row, Value};
use crate::cmdb::fault::Trouble;
use crate::cmdb::read::{MAX_ROWS, read};
use crate::cmdb::sql::{epoch, meta};
use crate::cmdb::text::time;
use crate::recall::{Dim, HostKey};

/// Two probes of one name may overlap by so much, microseconds: one that is
/// stopped while its successor starts, a `probe --once` beside a daemon.
const OVERLAP: i64 = 60_000_000;

/// Most runs of one host that are compared with each other, the latest first.
const RUNS: usize = 64;

/// A probe that ran for less did not watch: `probe --once`. Microseconds; the
/// statement has the same.
const WATCH: i64 = 5_000_000;

/// How long before a host's last word its runs are compared, microseconds.
const COMPARED: i64 = 86_400_000_000;

/// What is odd about one host, and when it was watched.
#[derive(Clone, Debug, Default)]
pub(crate) struct Oddities {
    pub(crate) rivals: BTreeSet<String>,
    pub(crate) skew: SignedDuration,
    pub(crate) watched: Vec<(Timestamp, Timestamp)>,
    pub(crate) dim: Dim,
}

/// One run of a probe.
struct Run {
    epoch: i64,
    since: i64,
    until: i64,
    name: String,
    skew: i64,
    /// [`Dim`], 0 for never.
    dim: [i64; 3],
}

/// Of these hosts: what is odd by what ran in the day before each last spoke.
pub(crate) async fn oddities(
    connection: &mut Connection,
    hosts: Vec<HostKey>,
) -> Result<BTreeMap<HostKey, Oddities>, Trouble> {
    let mut runs: BTreeMap<HostKey, Vec<Run>> = BTreeMap::new();
    let run = &mut |row: &Row<'_>| {
        runs.entry(row.int(0)?).or_default().push(Run {
            epoch: row.int(1)?,
            since: row.int(2)?,
            until: row.int(3)?,
            skew: row.int(4)?,
            name: row.text(5)?.to_owned(),
            dim: [row.int(6)?, row.int(7)?, row.int(8)?],
        });
        Ok(())
    };
    let values = [Value::Ints(hosts), Value::Int(MAX_ROWS + 1)];
    read(connection, epoch::EPOCHS_OF_HOSTS, &values, run).await?;
    let forgotten = connection.fetch(meta::FORGOTTEN, &[], |row| row.int(0)).await?;
    let known_from = forgotten.first().copied().unwrap_or(i64::MIN);
    Ok(runs.into_iter().map(|(host, runs)| (host, of(runs, known_from))).collect())
}

fn of(mut runs: Vec<Run>, known_from: i64) -> Oddities {
    let watched = watched(&runs, known_from);
    let dim = dim(&runs);
    let last = runs.iter().map(|run| run.until).max().unwrap_or(i64::MAX);
    runs.retain(|run| run.until >= last.saturating_sub(COMPARED));
    runs.sort_by_key(|run| std::cmp::Reverse((run.since, run.epoch)));
    runs.truncate(RUNS);
    let newest = runs.iter().max_by_key(|run| run.epoch);
    let skew = newest.map_or(SignedDuration::ZERO, |run| SignedDuration::from_micros(run.skew));
    let own = newest.map_or("", |run| &run.name);
    let mut rivals = BTreeSet::new();
    for (at, later) in runs.iter().enumerate() {
        for earlier in &runs[at + 1..] {
            let overlap = earlier.until.min(later.until).saturating_sub(later.since);
            let one_name = earlier.name == later.name;
            if overlap > OVERLAP || (overlap > 0 && !one_name) {
                let names = [&earlier.name, &later.name];
                rivals.extend(names.into_iter().filter(|name| one_name || *name != own).cloned());
            }
        }
    }
    Oddities { rivals, skew, watched, dim }
}

/// Of the runs that watched.
fn dim(runs: &[Run]) -> Dim {
    let watching = || runs.iter().filter(|run| run.until.saturating_sub(run.since) >= WATCH);
    let latest = |at: usize| {
        let moments = watching().map(|run| run.dim[at]).filter(|moment| *moment > 0);
        moments.max().map(time)
    };
    Dim { polled: latest(0), blind: latest(1), unowned: latest(2) }
}

/// The ranges in which one of the runs went on, as far as what it saw is still
/// known. A run of a moment has looked once, and watched nothing.
fn watched(runs: &[Run], known_from: i64) -> Vec<(Timestamp, Timestamp)> {
    let mut ranges: Vec<(i64, i64)> = runs.iter().map(|run| (run.since, run.until)).collect();
    ranges.retain(|(since, until)| until.saturating_sub(*since) >= WATCH);
    ranges.sort_unstable();
    ranges.dedup_by(|next, range| {
        let touches = next.0 <= range.1;
        range.1 = if touches { range.1.max(next.1) } else { range.1 };
        touches
    });
    let known = ranges.into_iter().filter(|(_, until)| *until > known_from);
    known.map(|(since, until)| (time(since.max(known_from)), time(until))).collect()
}
