//! How something was there in a window of time: all along, again and again,
//! now and then, or not.

use jiff::{SignedDuration, Timestamp};

use crate::recall::Span;

/// The time before a moment that stands for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Around {
    /// Its beginning.
    pub since: Timestamp,
    /// The moment.
    pub at: Timestamp,
}

/// How something was there in the time before a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Presence {
    pub(crate) kind: Kind,
    /// When it was last there, up to the moment.
    pub(crate) last: Option<Timestamp>,
    /// It was there at the moment, or its host has not yet said otherwise.
    pub(crate) is_there: bool,
    /// Its longest pause, those within the tolerance and those before it and
    /// after it included.
    pub(crate) pause: SignedDuration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Not there.
    Absent,
    /// Once, or now and then.
    Rare,
    /// Again and again, with short pauses.
    Regular,
    /// All along, and at the moment.
    Steady,
}

/// Part of a comparison's window that a pause must not exceed for what comes
/// and goes to be regular.
const PAUSES: i32 = 4;

impl Presence {
    /// Of what has these spans, is known since `first_seen`, and is compared
    /// over windows of length `window`. Pauses within the tolerance make it no
    /// less steady.
    pub(crate) fn of(
        spans: impl Iterator<Item = Span>,
        first_seen: Timestamp,
        around: Around,
        window: SignedDuration,
        tolerance: SignedDuration,
    ) -> Presence {
        let runs = runs(spans, tolerance);
        // Two hosts never see a beginning at the same moment.
        let longer = |pause| if pause > tolerance { pause } else { SignedDuration::ZERO };
        let begins = around.since.max(first_seen);
        let inside = runs.iter().filter(|run| run.since <= around.at && run.until >= around.since);
        let (mut count, mut last) = (0, None);
        let (mut pause, mut short) = (SignedDuration::ZERO, SignedDuration::ZERO);
        let mut quiet_from = begins;
        let mut is_there = false;
        for run in inside {
            count += 1;
            pause = pause.max(longer(run.since.duration_since(quiet_from)));
            short = short.max(run.pause);
            quiet_from = run.until.min(around.at);
            last = Some(quiet_from);
            let silent_for = around.at.duration_since(run.until);
            let goes_on = run.has_paused() || run.until.duration_since(run.open) <= tolerance;
            is_there = !silent_for.is_positive() || goes_on && silent_for <= tolerance;
        }
        let whole = pause.max(if is_there {
            SignedDuration::ZERO
        } else {
            longer(around.at.duration_since(quiet_from))
        });
        let kind = match count {
            0 => Kind::Absent,
            1 if is_there && pause.is_zero() => Kind::Steady,
            1 => Kind::Rare,
            _ if whole <= window / PAUSES => Kind::Regular,
            _ => Kind::Rare,
        };
        Presence { kind, last, is_there, pause: whole.max(short) }
    }

    pub(crate) fn is_absent(&self) -> bool {
        self.kind == Kind::Absent
    }
}

/// Spans with no pause between them that is longer than the tolerance.
struct Run {
    since: Timestamp,
    until: Timestamp,
    /// Its longest pause.
    pause: SignedDuration,
    /// When it was last seen by a host that has not said that it ended.
    open: Timestamp,
}

impl Run {
    /// What has paused may do so again.
    fn has_paused(&self) -> bool {
        self.pause.is_positive()
    }
}

fn runs(spans: impl Iterator<Item = Span>, tolerance: SignedDuration) -> Vec<Run> {
    let mut spans: Vec<Span> = spans.collect();
    spans.sort_by_key(|span| (span.since, span.until, span.ended));
    let mut runs: Vec<Run> = Vec::new();
    for Span { since, until, ended } in spans {
        let open = if ended { Timestamp::MIN } else { until };
        match runs.last_mut() {
            Some(run) if since.duration_since(run.until) <= tolerance => {
                run.pause = run.pause.max(since.duration_since(run.until));
                run.until = run.until.max(until);
                run.open = run.open.max(open);
            }
            _ => runs.push(Run { since, until, pause: SignedDuration::ZERO, open }),
        }
    }
    runs
}
