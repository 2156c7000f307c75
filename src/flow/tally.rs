//! Observations over a window → the report of what the CMDB does not know yet.
//!
//! The tally keeps one entry for each flow, however long the CMDB is away: an
//! outage costs memory by flows, not by time. Nothing is taken out of it until
//! the CMDB has acknowledged it, so that a report which may or may not have
//! arrived is simply told again.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use smallvec::SmallVec;

use crate::flow::host::{Coverage, Host, Rung};
use crate::flow::key::{FlowKey, HostFlow, Observation};
use crate::flow::report::{FlowReport, Report, ScopedAddress};

/// Most flows that a tally keeps; a new one beyond it is dropped and counted.
pub const MAX_FLOWS: usize = 131_072;

/// Most spans of one flow that wait to be acknowledged. During an outage a
/// flow that comes and goes more often has its oldest spans joined: the gaps
/// between them are lost, no flow is.
pub const MAX_PENDING_SPANS: usize = 16;

/// Most flows in a report of news; the others are in the next.
pub const MAX_NEWS: usize = 4096;

/// What a host has seen, and how much of it has been acknowledged.
#[derive(Debug)]
pub struct Tally {
    epoch: Timestamp,
    linger: SignedDuration,
    sequence: u64,
    flows: HashMap<FlowKey, Entry>,
    addresses: HashMap<(Arc<str>, IpAddr), ScopedAddress>,
    addresses_version: Version,
    latest: Option<Latest>,
    /// Flows of the observation that found no room.
    dropped: u64,
}

/// What the last observation said of the host as a whole.
#[derive(Debug)]
struct Latest {
    host: Host,
    rung: Rung,
    coverage: Coverage,
    at: Timestamp,
}

#[derive(Debug)]
struct Entry {
    flow: HostFlow,
    /// The span it is in.
    since: Timestamp,
    seen: Timestamp,
    version: Version,
    /// Spans that are over and not acknowledged, oldest first.
    past: SmallVec<[(Timestamp, Timestamp); 1]>,
    /// How many of `past` the last report held.
    past_offered: usize,
    /// The last report said that this span is over, and it has not been seen
    /// since.
    end_offered: bool,
}

/// Counts changes, and remembers which were offered and acknowledged.
#[derive(Clone, Copy, Debug, Default)]
struct Version {
    now: u64,
    offered: u64,
    told: u64,
}

impl Version {
    fn change(&mut self) {
        self.now += 1;
    }

    fn is_told(self) -> bool {
        self.told == self.now
    }

    fn offer(&mut self) {
        self.offered = self.now;
    }

    /// It is not in the report that is being made, so that the acknowledgement
    /// of that one says nothing of it.
    fn withhold(&mut self) {
        self.offered = self.told;
    }

    fn acknowledge(&mut self) {
        self.told = self.offered;
    }
}

impl Tally {
    /// An empty tally. `epoch` names this run of the probe. A flow not seen for
    /// longer than `linger` has ended (at the moment it was last seen); one
    /// that comes back sooner, as a client polling every few seconds does, was
    /// never gone.
    pub fn new(epoch: Timestamp, linger: SignedDuration) -> Self {
        Tally {
            epoch,
            linger,
            sequence: 0,
            flows: HashMap::new(),
            addresses: HashMap::new(),
            addresses_version: Version::default(),
            latest: None,
            dropped: 0,
        }
    }

    /// Takes in what was seen. A clock that was set back is held at the latest
    /// moment already seen, so that no span ends before it began.
    pub fn observe(&mut self, observation: Observation) {
        let before = self.latest.as_ref().map_or(self.epoch, |latest| latest.at);
        let at = observation.taken.max(before);
        let mut addresses = Vec::new();
        for namespace in &observation.namespaces {
            for &address in &namespace.addresses {
                addresses.push((Arc::clone(&namespace.scope), address));
            }
        }
        self.observe_addresses(addresses, at);
        for flow in observation.flows {
            self.observe_flow(flow, at);
        }
        let mut coverage = observation.coverage;
        coverage.flows_dropped += std::mem::take(&mut self.dropped);
        let Observation { host, rung, .. } = observation;
        self.latest = Some(Latest { host, rung, coverage, at });
    }

    /// The key of the host that was observed, and the epoch.
    pub fn who(&self) -> Option<(i64, i64)> {
        Some((self.latest.as_ref()?.host.hash(), self.epoch.as_microsecond()))
    }

    /// The CMDB has lost what it acknowledged: all of it is to be told again.
    pub fn forget_told(&mut self) {
        self.addresses_version.told = 0;
        for entry in self.flows.values_mut() {
            entry.version.told = 0;
        }
    }

    fn observe_addresses(&mut self, present: Vec<(Arc<str>, IpAddr)>, at: Timestamp) {
        for (key, known) in &mut self.addresses {
            if known.ended.is_none() && !present.contains(key) {
                known.ended = Some(at);
                self.addresses_version.change();
            }
        }
        for (scope, address) in present {
            let new = ScopedAddress { scope, address, since: at, ended: None };
            let key = (Arc::clone(&new.scope), address);
            match self.addresses.get_mut(&key) {
                Some(known) if known.ended.is_none() => {}
                Some(known) => {
                    *known = new;
                    self.addresses_version.change();
                }
                None => {
                    self.addresses.insert(key, new);
                    self.addresses_version.change();
                }
            }
        }
    }

    fn observe_flow(&mut self, flow: HostFlow, at: Timestamp) {
        let linger = self.linger;
        if let Some(entry) = self.flows.get_mut(&flow.key) {
            entry.end_offered = false;
            if at.duration_since(entry.seen) > linger {
                entry.end_span(linger);
                entry.since = at;
                entry.version.change();
            }
            entry.seen = at;
            if entry.flow != flow {
                entry.flow = flow;
                entry.version.change();
            }
            return;
        }
        if self.flows.len() >= MAX_FLOWS {
            self.dropped += 1;
            return;
        }
        let version = Version { now: 1, ..Version::default() };
        let entry = Entry {
            since: at,
            seen: at,
            version,
            past: SmallVec::new(),
            past_offered: 0,
            end_offered: false,
            flow,
        };
        self.flows.insert(entry.flow.key.clone(), entry);
    }

    /// The report of all that is not acknowledged: new and changed flows, ended
    /// spans, and the moment until which the rest was alive. None before the
    /// first observation.
    ///
    /// Taking changes nothing: without [`Tally::acknowledge`] the next report
    /// holds all of it again.
    pub fn take(&mut self) -> Option<Report> {
        let latest = self.latest.as_ref()?;
        let mut flows = Vec::new();
        for entry in self.flows.values_mut() {
            entry.offer(latest.at, self.linger, &mut flows);
        }
        let mut addresses = Vec::new();
        if !self.addresses_version.is_told() {
            addresses.extend(self.addresses.values().cloned());
            addresses.sort_unstable();
        }
        self.addresses_version.offer();
        self.report(addresses, flows)
    }

    /// Whether something is there that the CMDB should know at once: a flow it
    /// has never been told of, or one that is over.
    pub fn has_news(&self) -> bool {
        let Some(latest) = &self.latest else { return false };
        self.flows.values().any(|entry| entry.is_news(latest.at, self.linger))
    }

    /// As [`Tally::take`], but of new flows and those that are over only: what
    /// merely counted on waits for the next whole report.
    pub fn take_news(&mut self) -> Option<Report> {
        let latest = self.latest.as_ref()?;
        let mut flows = Vec::new();
        for entry in self.flows.values_mut() {
            if flows.len() < MAX_NEWS && entry.is_news(latest.at, self.linger) {
                entry.offer(latest.at, self.linger, &mut flows);
            } else {
                entry.version.withhold();
                entry.past_offered = 0;
                entry.end_offered = false;
            }
        }
        self.addresses_version.withhold();
        self.report(Vec::new(), flows)
    }

    fn report(&mut self, addresses: Vec<ScopedAddress>, flows: Vec<FlowReport>) -> Option<Report> {
        let latest = self.latest.as_ref()?;
        self.sequence += 1;
        Some(Report {
            host: latest.host.clone(),
            epoch: self.epoch.as_microsecond(),
            sequence: self.sequence,
            rung: latest.rung,
            from: self.epoch,
            until: latest.at,
            // Whoever sends it has a clock.
            sent: latest.at,
            coverage: latest.coverage.clone(),
            addresses,
            flows,
        })
    }

    /// The CMDB has the last report that was taken. What has changed since then
    /// stays to be told; what has ended is forgotten.
    pub fn acknowledge(&mut self) {
        self.addresses_version.acknowledge();
        if self.addresses_version.is_told() {
            self.addresses.retain(|_, address| address.ended.is_none());
        }
        let Some(latest) = &self.latest else { return };
        let linger = self.linger;
        self.flows.retain(|_, entry| {
            entry.past.drain(..entry.past_offered);
            entry.past_offered = 0;
            entry.version.acknowledge();
            let over = latest.at.duration_since(entry.seen) > linger;
            let forget = entry.end_offered || (over && entry.waits(linger));
            !(forget && entry.past.is_empty())
        });
    }
}

impl Entry {
    fn end_span(&mut self, linger: SignedDuration) {
        if self.waits(linger) {
            return;
        }
        self.past.push((self.since, self.seen));
        if self.past.len() > MAX_PENDING_SPANS {
            // The oldest may be on its way to the CMDB as it is. Joining it to
            // the next only makes it longer, and the longer one is told again.
            let (_, later_end) = self.past.remove(1);
            self.past[0].1 = later_end;
            self.past_offered = 0;
        }
    }

    /// Not to be told of yet: a UDP socket that may be a resolver's query and
    /// is younger than `linger`.
    fn waits(&self, linger: SignedDuration) -> bool {
        self.flow.tentative && self.seen.duration_since(self.since) < linger
    }

    /// It is new to the CMDB, or it or a span of it is over.
    fn is_news(&self, now: Timestamp, linger: SignedDuration) -> bool {
        if self.waits(linger) {
            return !self.past.is_empty();
        }
        let never_told = self.version.told == 0;
        never_told || !self.past.is_empty() || now.duration_since(self.seen) > linger
    }

    fn offer(&mut self, now: Timestamp, linger: SignedDuration, flows: &mut Vec<FlowReport>) {
        let span = |since, seen, ended| FlowReport { flow: self.flow.clone(), since, seen, ended };
        flows.extend(self.past.iter().map(|&(since, seen)| span(since, seen, true)));
        self.past_offered = self.past.len();
        if self.waits(linger) {
            return;
        }
        let ended = now.duration_since(self.seen) > linger;
        if ended || !self.version.is_told() {
            let mut last = span(self.since, self.seen, ended);
            if self.seen < now {
                last.flow.counters.open = 0;
                last.flow.counters.connecting = 0;
            }
            flows.push(last);
        }
        self.end_offered = ended;
        self.version.offer();
    }
}

#[cfg(test)]
mod tests;
