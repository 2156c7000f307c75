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
    /// It is there, and was not seen to be away for longer than a moment.
    Steady(Seen),
    /// It was there once, and is no more.
    Once(Seen),
    /// It comes at intervals.
    Periodic(Periodic),
    /// It came more than once, and nothing tells when again.
    Irregular(Seen),
}

/// How something was there, from first to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When it began, or was first seen.
    pub since: Timestamp,
    /// When it was last seen.
    pub last: Timestamp,
    /// How often it was seen to begin, be it after a moment's pause.
    pub times: usize,
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
    let since = runs.first()?.since;
    let (last, times) = (runs.last()?.last, runs.iter().map(|run| run.times).sum());
    // What was there when a probe began to look had begun before.
    let begins: Vec<i64> = runs
        .iter()
        .filter(|run| !watched.iter().any(|range| near(range.0, run.since)))
        .map(|run| run.since.as_second())
        .collect();
    if let Some(found) = periodic(&begins, now) {
        return Some(Pattern::Periodic(found));
    }
    let seen = Seen { since, last, times };
    Some(match runs.len() {
        1 if goes_on => Pattern::Steady(seen),
        1 if times == 1 => Pattern::Once(seen),
        _ => Pattern::Irregular(seen),
    })
}

fn near(a: Timestamp, b: Timestamp) -> bool {
    a.duration_since(b).abs() <= EDGE
}

/// Spans as runs: those with hardly a pause between them are one, and so are
/// those between which nobody looked.
fn runs(spans: &[Span], watched: &[(Timestamp, Timestamp)]) -> Vec<Seen> {
    let mut runs: Vec<Seen> = Vec::new();
    for span in spans {
        let (mut joined, mut anew) = (false, true);
        if let Some(run) = runs.last() {
            let pause = span.since.duration_since(run.last);
            let unwatched = watched.windows(2).any(|ranges| {
                let (gone, back) = (ranges[0].1, ranges[1].0);
                near(gone, run.last) && near(back, span.since)
            });
            joined = pause <= PAUSE || unwatched;
            anew = pause.is_positive() && !unwatched;
        }
        match runs.last_mut() {
            Some(run) if joined => {
                run.last = run.last.max(span.until);
                run.times += usize::from(anew);
            }
            _ => runs.push(Seen { since: span.since, last: span.until, times: 1 }),
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
