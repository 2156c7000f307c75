//! What a disk has of a tally, beside what the CMDB has.
//!
//! A second watermark: what was journaled need not be journaled again until it
//! changes, and stays in memory until the CMDB has it. Flows that are over and
//! that the CMDB has never heard of may leave memory for the disk.

use crate::flow::report::Report;
use crate::flow::tally::Tally;
use crate::flow::tally::count::Dropped;
use crate::flow::tally::entry::{Entry, Known};

/// Flows that are over and wait for the CMDB: so many together leave memory.
pub(crate) const SPILL_FLOWS: usize = 16_384;

impl Tally {
    /// The report of what neither the CMDB nor the journal has; with `all`, of
    /// what the CMDB has not, for a journal that is written anew. None before
    /// the first observation. Nothing else is offered to the journal until
    /// [`Tally::journaled`] has told of this.
    pub fn take_unjournaled(&mut self, all: bool) -> Option<Report> {
        let latest = self.latest.as_ref()?;
        let mut flows = Vec::new();
        for entry in self.flows.values_mut() {
            entry.offer_to_journal(latest.at, self.linger, all, &mut flows);
        }
        let mut addresses = Vec::new();
        let known = self.addresses_version;
        if (all && !known.is_told()) || !known.is_journaled() {
            addresses.extend(self.addresses.values().cloned());
            addresses.sort_unstable();
            self.addresses_version.offer_to_journal();
        }
        self.journaling = true;
        self.report(addresses, flows)
    }

    /// What was last taken for the journal is on the disk, or is not.
    pub fn journaled(&mut self, done: bool) {
        self.journaling = false;
        if !done {
            return;
        }
        self.addresses_version.journal();
        for entry in self.flows.values_mut() {
            entry.version.journal();
            entry.spans_mut().for_each(|span| span.journal());
        }
    }

    /// Whether something is on its way to the journal.
    pub fn is_journaling(&self) -> bool {
        self.journaling
    }

    /// Whether the journal has nothing that the CMDB has not, so that it may
    /// be emptied. If so, nothing counts as journaled any more.
    pub fn empty_journal(&mut self) -> bool {
        let alone = |entry: &Entry| {
            let past = entry.past.iter().any(|span| span.journaled > span.told);
            past || entry.version.is_in_journal_alone() || entry.span.journaled > entry.span.told
        };
        let holds = self.addresses_version.is_in_journal_alone() || self.flows.values().any(alone);
        if holds || self.journaling {
            return false;
        }
        self.addresses_version.forget_journal();
        for entry in self.flows.values_mut() {
            entry.version.forget_journal();
            for span in entry.spans_mut() {
                (span.journaled, span.journal_offered) = (Known::No, Known::No);
            }
        }
        true
    }

    /// The report of flows that are over and that the CMDB has never heard of,
    /// if they are many; they are in no other report until [`Tally::spilled`]
    /// has told what became of them.
    pub fn take_spill(&mut self) -> Option<Report> {
        let latest = self.latest.as_ref()?;
        let (now, linger) = (latest.at, self.linger);
        let may_go = |entry: &Entry| entry.is_unheard() && entry.is_over(now, linger);
        let waiting = self.flows.values().filter(|entry| may_go(entry)).count();
        if waiting < SPILL_FLOWS {
            return None;
        }
        let mut flows = Vec::new();
        for entry in self.flows.values_mut().filter(|entry| may_go(entry)) {
            entry.withhold();
            entry.tell_all(now, &mut flows);
            entry.spans_mut().for_each(|span| span.leaving = true);
        }
        self.report(Vec::new(), flows)
    }

    /// So many spans of the last spill are on the disk (and leave memory), or
    /// none (and they stay).
    pub fn spilled(&mut self, spans: Option<u64>) {
        let mut gone = 0;
        self.flows.retain(|_, entry| {
            if spans.is_none() {
                entry.spans_mut().for_each(|span| span.leaving = false);
                return true;
            }
            gone += entry.spans().filter(|span| span.leaving).count() as u64;
            entry.past.retain(|span| !span.leaving);
            !entry.span.leaving
        });
        let spans = spans.unwrap_or(0);
        self.ledger.backlog += spans;
        // A span that was joined to another meanwhile is told of twice.
        self.ledger.observed += spans.saturating_sub(gone);
    }

    /// Spans that an earlier run left on the disk, and how many more of what it
    /// left could not be read back: at least as many, where nobody can tell.
    pub fn take_over(&mut self, spans: u64, damaged: u64) {
        self.ledger.taken_over += spans + damaged;
        self.ledger.backlog += spans;
        self.ledger.drop(Dropped::Damaged, damaged);
    }

    /// Of the spans that are on the disk alone, the CMDB has so many more, and
    /// so many could not be read back.
    pub fn backlog_done(&mut self, stored: u64, damaged: u64) {
        self.ledger.backlog = self.ledger.backlog.saturating_sub(stored + damaged);
        self.ledger.stored += stored;
        self.ledger.drop(Dropped::Damaged, damaged);
    }

    /// The numbers of a flow that has come back since it left memory are newer
    /// than what the disk has of them.
    pub fn refresh(&self, report: &mut Report) {
        for told in &mut report.flows {
            if let Some(entry) = self.flows.get(&told.flow.key) {
                told.flow.counters = entry.flow.counters.clone();
                told.flow.owners = entry.flow.owners.clone();
                told.flow.owners_more = entry.flow.owners_more;
            }
        }
    }

    /// The next number of a report of this epoch.
    pub fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}
