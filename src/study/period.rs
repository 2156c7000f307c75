//! When a flow comes: always, once, at intervals, or without a pattern.
//!
//! What the spans of a flow say, less what the probe's own comings and goings
//! made of them: a connection that was open before a probe began, or after it
//! stopped, neither began nor ended there.

use jiff::{SignedDuration, Timestamp};

use crate::recall::Span;

/// When something came, and whether it will again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// It is there, and was not seen to begin again.
    Steady {
        /// Since when.
        since: Timestamp,
    },
    /// It was there once, and is no more.
    Once {
        /// When it began.
        at: Timestamp,
    },
    /// It comes at intervals.
    Periodic(Periodic),
    /// It came more than once, and nothing tells when again.
    Irregular {
        /// How often.
        times: usize,
    },
}

/// What comes at intervals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Periodic {
    /// From one beginning to the next, to the minute.
    pub every: SignedDuration,
    /// How often it was seen to begin.
    pub times: usize,
    /// How often it should have, and was not seen to.
    pub missed: usize,
    /// When it last began.
    pub last: Timestamp,
    /// When it should begin again, in the future unless it is overdue.
    pub next: Timestamp,
    /// It should have begun since, and did not.
    pub overdue: bool,
}

/// Fewest beginnings that make a pattern, of the periods that people choose,
/// and of any other.
const FEWEST: usize = 3;
const FEWEST_ODD: usize = 6;

/// Pauses shorter than this are within one run of a job.
const PAUSE: SignedDuration = SignedDuration::from_secs(60);

/// How far the clock may be off when a probe begins or ends, and something is
/// seen to begin or end at its first or last look.
const EDGE: SignedDuration = SignedDuration::from_secs(30);

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// Periods that people choose, the longest first: a week, a day, and what
/// divides a day or an hour.
const CHOSEN: [i64; 17] = [
    7 * DAY,
    DAY,
    12 * HOUR,
    8 * HOUR,
    6 * HOUR,
    4 * HOUR,
    3 * HOUR,
    2 * HOUR,
    HOUR,
    30 * MINUTE,
    20 * MINUTE,
    15 * MINUTE,
    12 * MINUTE,
    10 * MINUTE,
    6 * MINUTE,
    5 * MINUTE,
    4 * MINUTE,
];

/// The shortest period that is not among these: below it, what begins again
/// is one that goes on.
const SHORTEST: i64 = 4 * MINUTE;

/// What spans say, as of `now`. `watched` is when a probe looked, in order,
/// and `alive` whether a span that has not ended goes on.
pub fn pattern(
    spans: impl Iterator<Item = Span>,
    watched: &[(Timestamp, Timestamp)],
    alive: bool,
    now: Timestamp,
) -> Option<Pattern> {
    let mut spans: Vec<Span> = spans.collect();
    spans.sort_unstable_by_key(|span| (span.since, span.until));
    let goes_on = alive && spans.iter().any(|span| !span.ended);
    let runs = runs(&spans, watched);
    let (first, last) = (runs.first()?, runs.last()?);
    // What was there when a probe began to look had begun before.
    let begins: Vec<i64> = runs
        .iter()
        .filter(|run| !watched.iter().any(|range| near(range.0, run.0)))
        .map(|run| run.0.as_second())
        .collect();
    if let Some(found) = periodic(&begins, now) {
        return Some(Pattern::Periodic(found));
    }
    Some(match runs.len() {
        1 if goes_on => Pattern::Steady { since: first.0 },
        1 => Pattern::Once { at: last.0 },
        times => Pattern::Irregular { times },
    })
}

fn near(a: Timestamp, b: Timestamp) -> bool {
    a.duration_since(b).abs() <= EDGE
}

/// Spans as runs: those with hardly a pause between them are one, and so are
/// those between which nobody looked.
fn runs(spans: &[Span], watched: &[(Timestamp, Timestamp)]) -> Vec<(Timestamp, Timestamp)> {
    let mut runs: Vec<(Timestamp, Timestamp)> = Vec::new();
    for span in spans {
        let joined = runs.last().is_some_and(|last| {
            let pause = span.since.duration_since(last.1);
            let unwatched = watched.windows(2).any(|ranges| {
                let (gone, back) = (ranges[0].1, ranges[1].0);
                near(gone, last.1) && near(back, span.since)
            });
            pause <= PAUSE || unwatched
        });
        match runs.last_mut() {
            Some(last) if joined => last.1 = last.1.max(span.until),
            _ => runs.push((span.since, span.until)),
        }
    }
    runs
}

/// The longest period that fits when it began.
fn periodic(begins: &[i64], now: Timestamp) -> Option<Periodic> {
    if begins.len() < FEWEST {
        return None;
    }
    let chosen = CHOSEN.into_iter().find_map(|every| fits(begins, every, FEWEST));
    let fitted = chosen.or_else(|| {
        let every = median(begins.windows(2).map(|pair| pair[1] - pair[0]).collect())?;
        let every = (every + MINUTE / 2) / MINUTE * MINUTE;
        (every >= SHORTEST).then(|| fits(begins, every, FEWEST_ODD)).flatten()
    });
    let Fitted { every, times, missed, last } = fitted?;
    let time = |second| Timestamp::from_second(second).ok();
    let passed = (now.as_second() - last - slack(every)).max(0) / every;
    let overdue = passed > 0;
    Some(Periodic {
        every: SignedDuration::from_secs(every),
        times,
        missed,
        last: time(last)?,
        next: time(last + every)?,
        overdue,
    })
}

struct Fitted {
    every: i64,
    times: usize,
    missed: usize,
    last: i64,
}

/// How far from its time a job may begin: jobs are spread at random, wait for
/// each other, and hosts are seen once a second.
fn slack(every: i64) -> i64 {
    (every / 48).clamp(5, 30 * MINUTE)
}

/// Whether nearly all beginnings are this far apart, or a few times as far
/// where it did not come.
fn fits(begins: &[i64], every: i64, fewest: usize) -> Option<Fitted> {
    // A job that connects several times begins with the first of them.
    let mut firsts: Vec<i64> = Vec::new();
    for begin in begins {
        if firsts.last().is_none_or(|first| begin - first > every / 8) {
            firsts.push(*begin);
        }
    }
    if firsts.len() < fewest {
        return None;
    }
    let gaps = firsts.len() - 1;
    let (mut odd, mut skipped, mut missed) = (0, 0, 0);
    for pair in firsts.windows(2) {
        let gap = pair[1] - pair[0];
        let times = (gap + every / 2) / every;
        if times == 0 || (gap - times * every).abs() > 2 * slack(every) {
            odd += 1;
        } else if times > 1 {
            skipped += 1;
            missed += usize::try_from(times - 1).unwrap_or(0);
        }
    }
    // One in five may be off: a clock that is changed for the summer, a run by
    // hand. One in three may be missing, on weekends say.
    let fit = odd * 5 <= gaps && skipped * 3 <= gaps && (gaps > 2 || odd + skipped == 0);
    let last = *firsts.last()?;
    fit.then_some(Fitted { every, times: firsts.len(), missed, last })
}

fn median(mut values: Vec<i64>) -> Option<i64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}
