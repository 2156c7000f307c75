//! What became of what was seen, in spans of flows.
//!
//! The unit is one span of one flow (key, and when it began), from the moment
//! it may be told of. Each is in one place at any moment, so that
//!
//! ```text
//! observed + taken_over = stored + pending + spooled + dropped
//! ```
//!
//! The left side and `stored` and `dropped` are counted as it happens;
//! `pending` and `spooled` by looking at what is there.

use crate::flow::host::{Coverage, Rung};
use crate::flow::tally::Tally;
use crate::flow::tally::entry::Known;

/// Why a span was given up before the CMDB had heard of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// A new flow found no room in the tally; counted at each scan that saw it.
    NoRoom,
    /// One flow came and went so often that two of its spans were made one.
    Joined,
    /// It was over, and had to go for what is alive.
    Memory,
    /// What the spool had of it could not be read back.
    Damaged,
}

impl Dropped {
    /// All of them.
    pub const ALL: [Dropped; 4] =
        [Dropped::NoRoom, Dropped::Joined, Dropped::Memory, Dropped::Damaged];

    /// The word for it in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Dropped::NoRoom => "no_room",
            Dropped::Joined => "joined",
            Dropped::Memory => "memory",
            Dropped::Damaged => "damaged",
        }
    }
}

/// What is counted as it happens.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) observed: u64,
    pub(crate) taken_over: u64,
    pub(crate) stored: u64,
    dropped: [u64; Dropped::ALL.len()],
    /// Spans that are in the spool and no longer here.
    pub(crate) backlog: u64,
}

impl Ledger {
    pub(crate) fn drop(&mut self, why: Dropped, spans: u64) {
        self.dropped[why as usize] += spans;
    }

    /// What is lost to whoever looks. Two spans joined are not: the flow is
    /// there, only the gap is not.
    pub(crate) fn lost(&self) -> u64 {
        let lost = Dropped::ALL.into_iter().filter(|why| *why != Dropped::Joined);
        lost.map(|why| self.dropped[why as usize]).sum()
    }
}

/// Where all spans are, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spans {
    /// Seen by this run of the probe.
    pub observed: u64,
    /// Found in the spool, left by earlier runs.
    pub taken_over: u64,
    /// The CMDB has acknowledged that they began, at least.
    pub stored: u64,
    /// In memory alone.
    pub pending: u64,
    /// On disk, and not stored.
    pub spooled: u64,
    /// Given up, by [`Dropped::ALL`].
    pub dropped: [u64; Dropped::ALL.len()],
}

impl Spans {
    /// Whether every span is somewhere.
    pub fn add_up(&self) -> bool {
        let places = self.stored + self.pending + self.spooled + self.dropped.iter().sum::<u64>();
        self.observed + self.taken_over == places
    }
}

impl Tally {
    /// Counts them.
    pub fn spans(&self) -> Spans {
        let Ledger { observed, taken_over, stored, dropped, backlog } = self.ledger;
        let (mut pending, mut spooled) = (0, backlog);
        let untold = self.flows.values().flat_map(|entry| entry.spans());
        for span in untold.filter(|span| span.told == Known::No) {
            *if span.journaled == Known::No { &mut pending } else { &mut spooled } += 1;
        }
        Spans { observed, taken_over, stored, pending, spooled, dropped }
    }

    /// How the last observation was made, and what it saw.
    pub fn latest(&self) -> Option<(Rung, &Coverage)> {
        self.latest.as_ref().map(|latest| (latest.rung, &latest.coverage))
    }

    /// Flows in memory, alive or waiting to be told of.
    pub fn flows(&self) -> usize {
        self.flows.len()
    }
}
