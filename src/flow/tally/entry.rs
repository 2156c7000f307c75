//! One flow in a tally: its spans, and who has been told what of them.

use jiff::{SignedDuration, Timestamp};
use smallvec::SmallVec;

use crate::flow::key::HostFlow;
use crate::flow::report::FlowReport;
use crate::flow::tally::MAX_PENDING_SPANS;

/// What somebody knows of a span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Known {
    /// Nothing.
    #[default]
    No,
    /// That it began.
    Begun,
    /// That it is over.
    Over,
}

/// One range of time in which the flow was alive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) since: Timestamp,
    pub(crate) seen: Timestamp,
    /// What the CMDB has acknowledged, and what the last report says.
    pub(crate) told: Known,
    pub(crate) offered: Known,
    /// The same of the journal.
    pub(crate) journaled: Known,
    pub(crate) journal_offered: Known,
    /// It is on its way out of memory, into the spool, and in no report.
    pub(crate) leaving: bool,
}

impl Span {
    fn new(at: Timestamp) -> Self {
        let no = Known::No;
        let (told, offered, journaled, journal_offered) = (no, no, no, no);
        let (since, seen, leaving) = (at, at, false);
        Span { since, seen, told, offered, journaled, journal_offered, leaving }
    }

    /// It is longer than was said: nobody knows its end any more.
    fn reopen(&mut self) {
        for known in
            [&mut self.told, &mut self.offered, &mut self.journaled, &mut self.journal_offered]
        {
            *known = (*known).min(Known::Begun);
        }
    }

    /// Whether the CMDB learns of it for the first time.
    pub(crate) fn acknowledge(&mut self) -> bool {
        let new = self.told == Known::No && self.offered > Known::No;
        self.told = self.told.max(self.offered);
        self.offered = Known::No;
        new
    }

    pub(crate) fn journal(&mut self) {
        self.journaled = self.journaled.max(self.journal_offered);
        self.journal_offered = Known::No;
    }
}

/// Counts changes of the numbers, and remembers which were offered and taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Version {
    now: u64,
    offered: u64,
    pub(crate) told: u64,
    journal_offered: u64,
    journaled: u64,
}

impl Version {
    pub(crate) const fn new(now: u64) -> Self {
        Version { now, offered: 0, told: 0, journal_offered: 0, journaled: 0 }
    }

    pub(crate) fn change(&mut self) {
        self.now += 1;
    }

    pub(crate) fn is_told(self) -> bool {
        self.told == self.now
    }

    pub(crate) fn offer(&mut self) {
        self.offered = self.now;
    }

    /// It is not in the report that is being made, so that the acknowledgement
    /// of that one says nothing of it.
    pub(crate) fn withhold(&mut self) {
        self.offered = self.told;
    }

    pub(crate) fn acknowledge(&mut self) {
        self.told = self.offered;
    }

    pub(crate) fn is_journaled(self) -> bool {
        self.told.max(self.journaled) == self.now
    }

    pub(crate) fn offer_to_journal(&mut self) {
        self.journal_offered = self.now;
    }

    pub(crate) fn journal(&mut self) {
        self.journaled = self.journaled.max(self.journal_offered);
    }

    pub(crate) fn forget_journal(&mut self) {
        self.journal_offered = 0;
        self.journaled = 0;
    }

    /// The journal has what the CMDB has not.
    pub(crate) fn is_in_journal_alone(self) -> bool {
        self.journaled.max(self.journal_offered) > self.told
    }
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) flow: HostFlow,
    /// The span it is in.
    pub(crate) span: Span,
    /// Spans that are over and not acknowledged, oldest first.
    pub(crate) past: SmallVec<[Span; 1]>,
    pub(crate) version: Version,
    /// The span it is in may be told of: not of a UDP socket that may be a
    /// resolver's query and is younger than the linger.
    pub(crate) ripe: bool,
}

impl Entry {
    pub(crate) fn new(flow: HostFlow, at: Timestamp, linger: SignedDuration) -> Self {
        let mut entry = Entry {
            flow,
            span: Span::new(at),
            past: SmallVec::new(),
            version: Version::new(1),
            ripe: false,
        };
        entry.ripen(linger);
        entry
    }

    /// Whether it may be told of from now on.
    pub(crate) fn ripen(&mut self, linger: SignedDuration) -> bool {
        let before = self.ripe;
        let age = self.span.seen.duration_since(self.span.since);
        self.ripe |= !self.flow.tentative || age >= linger;
        self.ripe && !before
    }

    /// Spans, for who counts them.
    pub(crate) fn spans(&self) -> impl Iterator<Item = &Span> {
        self.past.iter().chain(self.ripe.then_some(&self.span))
    }

    pub(crate) fn spans_mut(&mut self) -> impl Iterator<Item = &mut Span> {
        self.past.iter_mut().chain(Some(&mut self.span))
    }

    /// It was seen again.
    pub(crate) fn see(&mut self, at: Timestamp) {
        self.span.reopen();
        self.span.seen = at;
    }

    /// Another span begins. Returns whether one that the CMDB has not heard of
    /// was joined to another for want of room.
    pub(crate) fn begin_span(&mut self, at: Timestamp) -> bool {
        let mut joined = false;
        self.span.reopen();
        if self.ripe {
            self.past.push(self.span);
        }
        if self.past.len() > MAX_PENDING_SPANS {
            // The oldest may be on its way to the CMDB as it is. Joining it to
            // the next only makes it longer, and the longer one is told again.
            let later = self.past.remove(1);
            self.past[0].seen = later.seen;
            self.past[0].reopen();
            joined = later.told == Known::No;
        }
        self.span = Span::new(at);
        self.ripe = false;
        self.version.change();
        joined
    }

    /// The CMDB has never been told of it, so that it may leave memory: of one
    /// that the CMDB takes to be alive, the end must not be lost.
    pub(crate) fn is_unheard(&self) -> bool {
        let unheard = |span: &Span| span.told == Known::No && !span.leaving;
        self.version.told == 0 && self.spans().all(unheard)
    }

    pub(crate) fn is_over(&self, now: Timestamp, linger: SignedDuration) -> bool {
        now.duration_since(self.span.seen) > linger
    }

    /// It is new to the CMDB, or it or a span of it is over.
    pub(crate) fn is_news(&self, now: Timestamp, linger: SignedDuration) -> bool {
        let past = self.past.iter().any(|span| !span.leaving);
        let new = self.version.told == 0 || self.is_over(now, linger);
        past || (new && self.ripe && !self.span.leaving)
    }

    /// It is not in the report that is being made.
    pub(crate) fn withhold(&mut self) {
        self.version.withhold();
        for span in self.spans_mut() {
            span.offered = Known::No;
        }
    }

    pub(crate) fn offer(
        &mut self,
        now: Timestamp,
        linger: SignedDuration,
        flows: &mut Vec<FlowReport>,
    ) {
        self.withhold();
        for span in self.past.iter_mut().filter(|span| !span.leaving) {
            span.offered = Known::Over;
            flows.push(tell(&self.flow, span, true));
        }
        if !self.ripe || self.span.leaving {
            return;
        }
        let ended = self.is_over(now, linger);
        if ended || !self.version.is_told() {
            flows.push(self.tell_last(now, ended));
            self.span.offered = if ended { Known::Over } else { Known::Begun };
        }
        self.version.offer();
    }

    /// The same for the journal: what neither it nor the CMDB has, or where
    /// `all` is wanted, what the CMDB has not.
    pub(crate) fn offer_to_journal(
        &mut self,
        now: Timestamp,
        linger: SignedDuration,
        all: bool,
        flows: &mut Vec<FlowReport>,
    ) {
        for span in &mut self.past {
            span.journal_offered = Known::No;
            if all || span.journaled < Known::Over {
                span.journal_offered = Known::Over;
                flows.push(tell(&self.flow, span, true));
            }
        }
        self.span.journal_offered = Known::No;
        if !self.ripe {
            return;
        }
        let ended = self.is_over(now, linger);
        let missing = if all {
            ended || !self.version.is_told()
        } else {
            (ended && self.span.journaled < Known::Over) || !self.version.is_journaled()
        };
        if missing {
            flows.push(self.tell_last(now, ended));
            self.span.journal_offered = if ended { Known::Over } else { Known::Begun };
            self.version.offer_to_journal();
        }
    }

    /// All of it, for one that leaves.
    pub(crate) fn tell_all(&self, now: Timestamp, flows: &mut Vec<FlowReport>) {
        flows.extend(self.past.iter().map(|span| tell(&self.flow, span, true)));
        if self.ripe {
            flows.push(self.tell_last(now, true));
        }
    }

    fn tell_last(&self, now: Timestamp, ended: bool) -> FlowReport {
        let mut last = tell(&self.flow, &self.span, ended);
        if self.span.seen < now {
            last.flow.counters.open = 0;
            last.flow.counters.connecting = 0;
        }
        last
    }
}

fn tell(flow: &HostFlow, span: &Span, ended: bool) -> FlowReport {
    FlowReport { flow: flow.clone(), since: span.since, seen: span.seen, ended }
}
