//! Reports of many hosts, gathered into few transactions. Everybody is answered
//! after the commit of theirs.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, mpsc, oneshot};
use tokio::time::timeout;

use crate::cmdb::Cmdb;
use crate::cmdb::fault::Fault;
use crate::cmdb::write::Recorded;
use crate::daemon::lock;
use crate::flow::report::Report;
use crate::recall::{HostKey, Run};
use crate::serve::reply::Refusal;
use crate::serve::{State, claims};

/// Transactions at once. Reports of one host are never in two of them.
pub(crate) const WRITERS: usize = 2;

/// Most flows in one transaction, but for a single request with more.
const MAX_BATCH: usize = 16_384;

/// About what a flow takes.
const FLOW_BYTES: usize = 500;

/// Most flows that wait or are being recorded, at [`FLOW_BYTES`] each: a batch
/// for each writer, and the next one.
const MAX_WAITING: usize = 2 * WRITERS * MAX_BATCH;

/// Most requests in one transaction.
const MAX_REQUESTS: usize = 1024;

/// Requests that are unpacked and wait for room. The others wait as they came:
/// a fleet that comes back at once fills the room for bodies, not the memory.
const MAX_UNPACKED: usize = 2;

/// How long a request waits for room, and before that for its turn to be
/// unpacked. All wait in the order in which they came.
const ROOM_LIMIT: Duration = Duration::from_secs(8);

/// A request's reports, and who waits for what becomes of them.
pub(crate) struct Entry {
    reports: Vec<Report>,
    /// Sent by who may report about one host, whose word of its addresses is
    /// held against the others'.
    bound: bool,
    answer: oneshot::Sender<Result<Receipt, Refusal>>,
    _room: OwnedSemaphorePermit,
    _hosts: Hosts,
}

/// What became of a request's reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) recorded: u64,
    pub(crate) repeated: u64,
    /// Rows that the CMDB refused of these hosts.
    pub(crate) rows_refused: u64,
}

/// Where requests wait.
pub(crate) struct Queue {
    entries: Mutex<Option<mpsc::UnboundedSender<Entry>>>,
    turns: Semaphore,
    room: Arc<Semaphore>,
    busy: Arc<Mutex<HashSet<HostKey>>>,
}

/// A request may be unpacked, and then wait for room.
pub(crate) struct Turn<'a>(#[expect(dead_code, reason = "it is held")] SemaphorePermit<'a>);

/// The other end, which the writers share.
pub(crate) type Entries = Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Entry>>>;

/// The hosts that a request is about; no other about them is taken meanwhile.
struct Hosts {
    busy: Arc<Mutex<HashSet<HostKey>>>,
    own: HashSet<HostKey>,
}

impl Drop for Hosts {
    fn drop(&mut self) {
        let mut busy = lock(&self.busy);
        for host in &self.own {
            busy.remove(host);
        }
    }
}

pub(crate) fn new() -> (Queue, Entries) {
    // Bounded by the room that each entry takes with it.
    let (sender, receiver) = mpsc::unbounded_channel();
    let queue = Queue {
        entries: Mutex::new(Some(sender)),
        turns: Semaphore::new(MAX_UNPACKED),
        room: Arc::new(Semaphore::new(MAX_WAITING)),
        busy: Arc::default(),
    };
    (queue, Arc::new(tokio::sync::Mutex::new(receiver)))
}

impl Queue {
    /// Waits until a request may be unpacked.
    pub(crate) async fn turn(&self) -> Result<Turn<'_>, Refusal> {
        match timeout(ROOM_LIMIT, self.turns.acquire()).await {
            Ok(Ok(turn)) => Ok(Turn(turn)),
            _ => Err(full()),
        }
    }

    /// Waits for room, then for the commit.
    pub(crate) async fn record(
        &self,
        turn: Turn<'_>,
        reports: Vec<Report>,
        bound: bool,
    ) -> Result<Receipt, Refusal> {
        let hosts = self.claim(&reports)?;
        let size: usize = reports.iter().map(size).sum();
        let size = u32::try_from(size.min(MAX_WAITING)).unwrap_or(u32::MAX);
        let room = timeout(ROOM_LIMIT, Arc::clone(&self.room).acquire_many_owned(size)).await;
        let Ok(Ok(room)) = room else {
            return Err(full());
        };
        drop(turn);
        let (answer, answered) = oneshot::channel();
        let entry = Entry { reports, bound, answer, _room: room, _hosts: hosts };
        let sent = lock(&self.entries).as_ref().is_some_and(|entries| entries.send(entry).is_ok());
        if !sent {
            return Err(Refusal::busy("the collector is stopping"));
        }
        // A writer that is gone without an answer has recorded nothing of it,
        // or all: telling it again is right in both cases.
        answered.await.unwrap_or_else(|_| Err(Refusal::busy("the collector is stopping")))
    }

    fn claim(&self, reports: &[Report]) -> Result<Hosts, Refusal> {
        let own: HashSet<HostKey> = reports.iter().map(|report| report.host.hash()).collect();
        let mut busy = lock(&self.busy);
        if own.iter().any(|host| busy.contains(host)) {
            return Err(Refusal::busy("another report of this host is being recorded"));
        }
        busy.extend(&own);
        Ok(Hosts { busy: Arc::clone(&self.busy), own })
    }

    /// Takes no more; writers end when what is there is recorded.
    pub(crate) fn close(&self) {
        *lock(&self.entries) = None;
    }

    /// Flows and hosts that wait or are being recorded.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (MAX_WAITING.saturating_sub(self.room.available_permits()), lock(&self.busy).len())
    }
}

fn full() -> Refusal {
    Refusal::busy("too many reports wait to be recorded")
}

/// As flows: one with a long scope, which stands once in a report and in each
/// of its rows, counts for several.
fn size(report: &Report) -> usize {
    let of = |scope: &str| 1 + scope.len() / FLOW_BYTES;
    let flows: usize = report.flows.iter().map(|flow| of(&flow.flow.key.scope)).sum();
    let addresses: usize = report.addresses.iter().map(|address| of(&address.scope)).sum();
    1 + flows + addresses
}

/// Records what is there until nothing can come any more.
pub(crate) async fn write(state: Arc<State>, entries: Entries) {
    loop {
        let batch = gather(&entries).await;
        if batch.is_empty() {
            return;
        }
        let began = Instant::now();
        let cmdb = match state.cmdb() {
            Ok(cmdb) => cmdb,
            Err(fault) => {
                refuse(&state, batch, &fault.into());
                continue;
            }
        };
        store(&state, &cmdb, batch).await;
        state.metrics.batch(began.elapsed());
    }
}

/// Waits for a request, and takes those behind it along; empty at the end.
async fn gather(entries: &Entries) -> Vec<Entry> {
    let mut entries = entries.lock().await;
    let mut batch = Vec::new();
    let mut flows = 0;
    let mut next = entries.recv().await;
    while let Some(entry) = next {
        flows += entry.reports.iter().map(size).sum::<usize>();
        batch.push(entry);
        let full = flows >= MAX_BATCH || batch.len() >= MAX_REQUESTS;
        next = if full { None } else { entries.try_recv().ok() };
    }
    batch
}

/// Records the reports that are new, in one transaction; if the CMDB refuses
/// that for a reason that may be one request's, each request for itself.
async fn store(state: &State, cmdb: &Cmdb, mut batch: Vec<Entry>) {
    let known = match known(cmdb, &batch).await {
        Ok(known) => known,
        Err(error) => return refuse(state, batch, &error),
    };
    let contested = match contested(state, cmdb, &mut batch, &known).await {
        Ok(contested) => contested,
        Err(error) => return refuse(state, batch, &error),
    };
    let mut new = Vec::with_capacity(batch.len());
    for (entry, contested) in batch.iter().zip(&contested) {
        // Nothing is new of who claims what another host has.
        let is_fresh = |report: &&Report| contested.is_none() && is_new(report, &known);
        new.push(entry.reports.iter().filter(is_fresh).collect::<Vec<_>>());
    }
    let all: Vec<&Report> = new.iter().flatten().copied().collect();
    let together =
        if all.is_empty() { Ok(Recorded::default()) } else { record(state, cmdb, &all).await };
    let mut outcomes = Vec::with_capacity(batch.len());
    for ((entry, new), contested) in batch.iter().zip(&new).zip(contested) {
        if let Some(refusal) = contested {
            state.metrics.reports_refused.add(entry.reports.len() as u64);
            outcomes.push(Err(refusal));
            continue;
        }
        let recorded = match &together {
            Ok(recorded) => Ok(rows_refused(recorded, entry)),
            Err(error) if batch.len() > 1 && is_refused(error) => {
                let alone = record(state, cmdb, new).await;
                alone.map(|alone| alone.refused).map_err(|error| Refusal::of_cmdb(&error))
            }
            Err(error) => Err(Refusal::of_cmdb(error)),
        };
        let outcome = recorded.and_then(|rows_refused| {
            let repeated = entry.reports.len() - new.len();
            state.metrics.reports_repeated.add(repeated as u64);
            state.metrics.reports_recorded.add(new.len() as u64);
            let flows: usize = new.iter().map(|report| report.flows.len()).sum();
            state.metrics.flows_recorded.add(flows as u64);
            if new.is_empty() {
                return Err(already_recorded());
            }
            let (recorded, repeated) = (new.len() as u64, repeated as u64);
            Ok(Receipt { recorded, repeated, rows_refused })
        });
        outcomes.push(outcome);
    }
    for (entry, outcome) in batch.into_iter().zip(outcomes) {
        // Who has gone away meanwhile will ask again.
        let _ = entry.answer.send(outcome);
    }
}

/// Which requests claim what another host has.
async fn contested(
    state: &State,
    cmdb: &Cmdb,
    batch: &mut [Entry],
    known: &HashMap<Run, u64>,
) -> anyhow::Result<Vec<Option<Refusal>>> {
    let mut asked: Vec<Vec<&mut Report>> = Vec::with_capacity(batch.len());
    for entry in batch {
        let Entry { reports, bound, .. } = entry;
        let is_asked = |report: &&mut Report| *bound && is_new(report, known);
        asked.push(reports.iter_mut().filter(is_asked).collect());
    }
    claims::contested(state, cmdb, &mut asked).await
}

fn is_refused(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<Fault>(), Some(Fault::Refused(_)) | None)
}

async fn record(state: &State, cmdb: &Cmdb, reports: &[&Report]) -> anyhow::Result<Recorded> {
    let recorded = cmdb.record(reports).await;
    match &recorded {
        Ok(recorded) => state.metrics.rows_refused.add(recorded.refused),
        Err(_) => state.metrics.batches_failed.add(1),
    }
    recorded
}

/// Those of a request's hosts; no other request has any of them.
fn rows_refused(recorded: &Recorded, entry: &Entry) -> u64 {
    let hosts: BTreeSet<HostKey> = entry.reports.iter().map(|report| report.host.hash()).collect();
    hosts.iter().filter_map(|host| recorded.refused_of.get(host)).sum()
}

/// The last sequence that the CMDB has of each epoch in a batch.
async fn known(cmdb: &Cmdb, batch: &[Entry]) -> anyhow::Result<HashMap<Run, u64>> {
    let reports = batch.iter().flat_map(|entry| &entry.reports);
    let runs: BTreeSet<Run> = reports.map(|report| (report.host.hash(), report.epoch)).collect();
    cmdb.last_sequences(runs.into_iter().collect()).await
}

/// Whether the CMDB does not have a report.
fn is_new(report: &Report, known: &HashMap<Run, u64>) -> bool {
    known.get(&(report.host.hash(), report.epoch)).is_none_or(|last| report.sequence > *last)
}

fn already_recorded() -> Refusal {
    let error = "a report with this sequence, or a later one, is recorded";
    Refusal::new(StatusCode::CONFLICT, "already_recorded", error, "count it as delivered")
}

fn refuse(state: &State, batch: Vec<Entry>, error: &anyhow::Error) {
    state.metrics.batches_failed.add(1);
    let refusal = Refusal::of_cmdb(error);
    for entry in batch {
        let _ = entry.answer.send(Err(refusal.clone()));
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use jiff::Timestamp;

    use super::*;
    use crate::flow::host::{Coverage, Host, Rung};
    use crate::flow::report::ScopedAddress;

    fn told(scope: &str, addresses: usize) -> Report {
        let at = Timestamp::from_second(1_800_000_000).unwrap();
        let address = ScopedAddress {
            scope: scope.into(),
            address: [10, 0, 0, 1].into(),
            since: at,
            ended: None,
        };
        Report {
            host: Host { id: "web".to_owned(), name: "web".to_owned() },
            epoch: 0,
            sequence: 1,
            rung: Rung::Netlink,
            from: at,
            until: at,
            sent: at,
            coverage: Coverage::default(),
            addresses: vec![address; addresses],
            flows: Vec::new(),
        }
    }

    #[test]
    fn a_long_scope_takes_the_room_of_its_rows() {
        assert_eq!(size(&told("container:3f2a0c9d4b6e", 1000)), 1001);
        let long = size(&told(&"x".repeat(1000), 1000));
        assert!(long * FLOW_BYTES >= 1000 * (FLOW_BYTES + 1000), "{long}");
    }
}
