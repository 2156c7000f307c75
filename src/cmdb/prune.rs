//! Forgets what is older than it needs to be, a little at a time. It must not
//! know what a flow is for.
//!
//! Each step is a transaction of its own over a few hosts: writers of other
//! hosts never wait for it, and a writer of one of them no longer than one
//! step. Every statement says of itself what is old, so it may be stopped and
//! started again anywhere, and any number may run at once.

use jiff::Timestamp;

use crate::cmdb::engine::{Access, Column, Connection, Value};
use crate::cmdb::fault::{Error, Fault, Trouble};
use crate::cmdb::scheme::single;
use crate::cmdb::sql::{meta, prune as sql};
use crate::recall::HostKey;

/// How much the clocks of who asks and of the CMDB may differ, microseconds.
const SKEW: i64 = 60_000_000;

/// Hosts in one step.
const HOSTS: i64 = 32;

/// What was forgotten, in rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Flows that ended before, with all that was kept of them.
    pub flows: u64,
    /// Spans that ended before, of flows that are kept.
    pub spans: u64,
    /// Hours before, of flows that are kept.
    pub hours: u64,
    /// Addresses that were gone before.
    pub addresses: u64,
    /// Processes without a flow, and runs of probes without anything.
    pub others: u64,
    /// Hosts that last spoke before, and of which nothing is left.
    pub hosts: u64,
    /// Tokens that were over before.
    pub tokens: u64,
}

impl Pruned {
    pub(crate) fn add(&mut self, other: Pruned) {
        self.flows += other.flows;
        self.spans += other.spans;
        self.hours += other.hours;
        self.addresses += other.addresses;
        self.others += other.others;
        self.hosts += other.hosts;
        self.tokens += other.tokens;
    }
}

/// Writes down from when on everything is known, before any of it goes: what is
/// forgotten must not look like what never was. What lives is never old, so a
/// moment that is yet to come by the CMDB's clock is refused: whoever asks may
/// have a clock that is wrong.
pub(crate) async fn begin(connection: &mut Connection, before: Timestamp) -> Result<(), Trouble> {
    let before = before.as_microsecond();
    if single(connection, meta::NOW).await?.is_none_or(|now| before > now.saturating_add(SKEW)) {
        let text = "by its clock that is in the future, and all would be forgotten: \
                    set the clock of this host";
        return Err(Fault::Refused(text.to_owned()).into());
    }
    let row =
        [Column::Text([Some("forgotten")].into_iter().collect()), Column::Int(vec![Some(before)])];
    Ok(connection.store(meta::RAISE, &row, &[0]).await.map(drop)?)
}

/// One step: the hosts after `after`. The last of them, or none if there are
/// no more; what was forgotten is added to `pruned`.
pub(crate) async fn step(
    connection: &mut Connection,
    after: HostKey,
    before: Timestamp,
    pruned: &mut Pruned,
) -> Result<Option<HostKey>, Error> {
    connection.begin(Access::Write).await?;
    match forget(connection, after, before).await {
        Ok((last, forgotten)) => {
            connection.run("COMMIT").await?;
            pruned.add(forgotten);
            Ok(last)
        }
        Err(error) => {
            connection.run("ROLLBACK").await?;
            Err(error)
        }
    }
}

async fn forget(
    connection: &mut Connection,
    after: HostKey,
    before: Timestamp,
) -> Result<(Option<HostKey>, Pruned), Error> {
    let values = [Value::Int(after), Value::Int(HOSTS)];
    let hosts = connection.fetch(sql::NEXT_HOSTS, &values, |row| row.int(0)).await?;
    let last = hosts.last().copied();
    let mut pruned = Pruned::default();
    if hosts.is_empty() {
        return Ok((None, pruned));
    }
    for hosts in connection.together(hosts).await? {
        // In the order in which a writer locks them.
        connection.fetch(sql::LOCK_HOSTS, &[Value::Ints(hosts.clone())], |row| row.int(0)).await?;
        let values = [Value::Int(before.as_microsecond()), Value::Ints(hosts)];
        let mut count = async |statement| connection.change(statement, &values).await;
        pruned.spans += count(sql::PRUNE_SPANS).await?;
        pruned.flows += count(sql::PRUNE_FLOWS).await?;
        count(sql::PRUNE_SPANS_OF_NONE).await?;
        count(sql::PRUNE_HOURS_OF_NONE).await?;
        pruned.hours += count(sql::PRUNE_HOURS).await?;
        pruned.addresses += count(sql::PRUNE_ADDRESSES).await?;
        pruned.others += count(sql::PRUNE_PROCESSES).await?;
        pruned.others += count(sql::PRUNE_EPOCHS).await?;
        pruned.hosts += count(sql::PRUNE_HOSTS).await?;
    }
    Ok((last, pruned))
}
