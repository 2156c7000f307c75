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

use crate::flow::host::{Coverage, Host, Rung};
use crate::flow::key::{FlowKey, HostFlow, Observation};
use crate::flow::report::{FlowReport, Report, ScopedAddress};
use crate::flow::tally::count::{Dropped, Ledger};
use crate::flow::tally::entry::{Entry, Known, Version};

pub mod count;
mod entry;
mod journal;

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
    no_room: u64,
    /// Something is on its way to the journal.
    journaling: bool,
    /// What became of all spans.
    ledger: Ledger,
}

/// What the last observation said of the host as a whole.
#[derive(Debug)]
struct Latest {
    host: Host,
    rung: Rung,
    coverage: Coverage,
    at: Timestamp,
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
            addresses_version: Version::new(0),
            latest: None,
            no_room: 0,
            journaling: false,
            ledger: Ledger::default(),
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
            self.observe_flow(flow, at, before);
        }
        let mut coverage = observation.coverage;
        coverage.flows_dropped += std::mem::take(&mut self.no_room);
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

    fn observe_flow(&mut self, flow: HostFlow, at: Timestamp, before: Timestamp) {
        let linger = self.linger;
        if let Some(entry) = self.flows.get_mut(&flow.key) {
            // What the last look saw as well was never gone, however long ago
            // that was: scans may be as far apart as flows linger, or slowed.
            let missed = entry.span.seen < before;
            if missed && entry.is_over(at, linger) && entry.begin_span(at) {
                self.ledger.drop(Dropped::Joined, 1);
            }
            entry.see(at);
            if entry.flow != flow {
                entry.flow = flow;
                entry.version.change();
            }
            self.ledger.observed += u64::from(entry.ripen(linger));
            return;
        }
        if self.flows.len() >= MAX_FLOWS && (self.no_room > 0 || !self.make_room()) {
            self.no_room += 1;
            if !flow.tentative {
                self.ledger.observed += 1;
                self.ledger.drop(Dropped::NoRoom, 1);
            }
            return;
        }
        let entry = Entry::new(flow, at, linger);
        self.ledger.observed += u64::from(entry.ripe);
        self.flows.insert(entry.flow.key.clone(), entry);
    }

    /// Drops what was over first of what the CMDB has never heard of, an
    /// eighth of all, so that what is alive finds room. What it has heard of
    /// stays: it would be alive there for ever.
    fn make_room(&mut self) -> bool {
        let Some(latest) = &self.latest else { return false };
        let (now, linger) = (latest.at, self.linger);
        let may_go = |entry: &Entry| entry.is_unheard() && entry.is_over(now, linger);
        let going = self.flows.values().filter(|entry| may_go(entry));
        let mut ends: Vec<Timestamp> = going.map(|entry| entry.span.seen).collect();
        if ends.is_empty() {
            return false;
        }
        let at = (MAX_FLOWS / 8).min(ends.len() - 1);
        let (_, &mut last, _) = ends.select_nth_unstable(at);
        let ledger = &mut self.ledger;
        self.flows.retain(|_, entry| {
            let stays = !may_go(entry) || entry.span.seen > last;
            if !stays {
                ledger.drop(Dropped::Memory, entry.spans().count() as u64);
            }
            stays
        });
        true
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
                entry.withhold();
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
            // Also what was lost since the latest scan.
            coverage: Coverage { records_dropped: self.ledger.lost(), ..latest.coverage.clone() },
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
        let (now, linger) = (latest.at, self.linger);
        let ledger = &mut self.ledger;
        self.flows.retain(|_, entry| {
            for span in entry.spans_mut() {
                ledger.stored += u64::from(span.acknowledge());
            }
            entry.past.retain(|span| span.told < Known::Over);
            entry.version.acknowledge();
            let untellable = entry.is_over(now, linger) && !entry.ripe;
            let forget = entry.span.told == Known::Over || untellable;
            !(forget && entry.past.is_empty())
        });
    }
}

#[cfg(test)]
mod tests;
