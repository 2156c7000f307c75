//! What travels from a host to the CMDB.
//!
//! Everything in a report is *state*, not a difference: a total since the
//! epoch, the latest moment something was seen, the fact that it ended. So
//! applying one twice, late, or in another order gives the same CMDB, and two
//! reports of one host merge by taking the larger of each. "Only change
//! travels" holds because a flow without change is left out, not because the
//! numbers are relative.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use crate::flow::host::{Coverage, Host, Rung};
use crate::flow::key::{FlowKey, HostFlow};
use crate::flow::process::Process;

/// One host, one window.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Whose.
    pub host: Host,
    /// Which run of the probe: when it started, in microseconds of UTC.
    pub epoch: i64,
    /// Rises with each report of an epoch, beginning at 1; one that was never
    /// delivered leaves a gap.
    pub sequence: u64,
    /// How sockets were read.
    pub rung: Rung,
    /// When the epoch began.
    pub from: Timestamp,
    /// The last moment that was looked at. Every flow of this epoch that was
    /// reported and not said to have ended was alive until then.
    pub until: Timestamp,
    /// What the host's clock said when the report was sent: against the
    /// clock of whoever receives it, it tells a clock that is wrong. The one
    /// thing here that is not the same when the same is told again.
    pub sent: Timestamp,
    /// What was and was not seen, at the last scan of the window.
    pub coverage: Coverage,
    /// Addresses the host has, whole, in every report that has a change of
    /// them; empty where nothing changed.
    pub addresses: Vec<ScopedAddress>,
    /// New, changed and ended flows.
    pub flows: Vec<FlowReport>,
}

/// An address in a network namespace, for a range of time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopedAddress {
    /// [`crate::flow::host::Namespace::scope`].
    pub scope: Arc<str>,
    /// The address.
    pub address: IpAddr,
    /// When this epoch first saw it there.
    pub since: Timestamp,
    /// When it was found gone; absent while it is there.
    pub ended: Option<Timestamp>,
}

/// One span of one flow.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowReport {
    /// The flow, with the numbers as of `seen`.
    pub flow: HostFlow,
    /// When this span began.
    pub since: Timestamp,
    /// When the flow was last seen.
    pub seen: Timestamp,
    /// The span is over; it ended at `seen`.
    pub ended: bool,
}

/// Rough sizes on the wire: of a report without flows, of an address, of a
/// flow with its numbers, of an owner, and of a process beside its texts.
const HEAD_BYTES: usize = 512;
const ADDRESS_BYTES: usize = 48;
const FLOW_BYTES: usize = 160;
const OWNER_BYTES: usize = 32;
const PROCESS_BYTES: usize = 32;

impl Report {
    /// The report as one or more, of at most `flows` flows and about `bytes`
    /// bytes before compression, what is alive first. Addresses are in the
    /// first. Each further one takes a sequence from `next`.
    pub fn split(
        mut self,
        flows: usize,
        bytes: usize,
        next: &mut dyn FnMut() -> u64,
    ) -> Vec<Report> {
        let mut all = std::mem::take(&mut self.flows);
        all.sort_by_key(|told| told.ended);
        let mut parts = Vec::new();
        let mut part = Part::new(self.addresses.len());
        for told in all {
            let size = part.size_of(&told);
            if !self.flows.is_empty() && (self.flows.len() >= flows || part.bytes + size > bytes) {
                let further = Report { sequence: next(), ..self.clone_head() };
                parts.push(std::mem::replace(&mut self, further));
                part = Part::new(0);
                part.bytes += part.size_of(&told);
            } else {
                part.bytes += size;
            }
            part.know(&told);
            self.flows.push(told);
        }
        parts.push(self);
        parts
    }

    /// The report without what is in it.
    fn clone_head(&self) -> Report {
        Report {
            host: self.host.clone(),
            coverage: self.coverage.clone(),
            addresses: Vec::new(),
            flows: Vec::new(),
            ..*self
        }
    }
}

/// What is known of the size of a part that grows: a process is in it once.
struct Part {
    bytes: usize,
    processes: HashSet<*const Process>,
}

impl Part {
    fn new(addresses: usize) -> Self {
        Part { bytes: HEAD_BYTES + addresses * ADDRESS_BYTES, processes: HashSet::new() }
    }

    fn size_of(&self, told: &FlowReport) -> usize {
        let new = processes(told).filter(|process| !self.processes.contains(&Arc::as_ptr(process)));
        let processes: usize = new.map(|process| text_bytes(process) + PROCESS_BYTES).sum();
        let flow = &told.flow;
        FLOW_BYTES + flow.key.scope.len() + flow.owners.len() * OWNER_BYTES + processes
    }

    fn know(&mut self, told: &FlowReport) {
        self.processes.extend(processes(told).map(Arc::as_ptr));
    }
}

fn processes(told: &FlowReport) -> impl Iterator<Item = &Arc<Process>> {
    let owners = told.flow.owners.iter().map(|owner| &owner.process);
    told.flow.key.process.iter().chain(owners)
}

fn text_bytes(process: &Process) -> usize {
    let Process { name, exe, user, unit, container, pod } = process;
    let others = [exe, user, unit, container, pod];
    name.len() + others.into_iter().flatten().map(String::len).sum::<usize>()
}

/// Reports of one epoch as one: of each span the latest word, the numbers of
/// the report with the highest sequence. Sorted by key, so that the same
/// reports give the same one. None of nothing.
pub fn merge(mut reports: Vec<Report>) -> Option<Report> {
    reports.sort_by_key(|report| (report.epoch, report.sequence));
    let mut merged = reports.last()?.clone_head();
    let mut flows: BTreeMap<(FlowKey, Timestamp), FlowReport> = BTreeMap::new();
    let mut addresses: BTreeMap<(Arc<str>, IpAddr, Timestamp), ScopedAddress> = BTreeMap::new();
    for report in reports {
        merged.until = merged.until.max(report.until);
        for address in report.addresses {
            let key = (Arc::clone(&address.scope), address.address, address.since);
            let ended = addresses.get(&key).and_then(|known| known.ended);
            addresses.insert(key, ScopedAddress { ended: ended.max(address.ended), ..address });
        }
        for told in report.flows {
            match flows.entry((told.flow.key.clone(), told.since)) {
                Entry::Vacant(entry) => {
                    entry.insert(told);
                }
                Entry::Occupied(mut entry) => {
                    let known = entry.get();
                    let (seen, ended) = (known.seen.max(told.seen), known.ended | told.ended);
                    entry.insert(FlowReport { seen, ended, ..told });
                }
            }
        }
    }
    merged.addresses = addresses.into_values().collect();
    merged.flows = flows.into_values().collect();
    Some(merged)
}

#[cfg(test)]
mod tests;
