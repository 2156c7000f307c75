//! When something comes, on spans that are made to a known pattern.

use jiff::{SignedDuration, Timestamp};

use crate::graph::tests::notation::second;
use crate::graph::tests::truth::{Dice, rounds};
use crate::recall::Span;
use crate::study::period::{Pattern, Seen, pattern};

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;
const DAY: i64 = 86_400;

/// Spans of a job that begins at these seconds and takes so long.
fn job(begins: &[i64], takes: i64) -> Vec<Span> {
    let span =
        |begin: &i64| Span { since: second(*begin), until: second(begin + takes), ended: true };
    begins.iter().map(span).collect()
}

/// What they say, watched from 1000 seconds before the first until now.
fn said(spans: &[Span], now: i64) -> Option<Pattern> {
    let from = spans.first().map_or(second(0), |span| span.since);
    let from = from.checked_sub(SignedDuration::from_secs(1000)).unwrap();
    pattern(spans.iter().copied(), &[(from, second(now))], true, second(now))
}

/// It was seen to begin so often, from one second to another.
fn seen(times: usize, since: i64, last: i64) -> Seen {
    Seen { since: second(since), last: second(last), times }
}

fn every(spans: &[Span], now: i64) -> Option<i64> {
    match said(spans, now)? {
        Pattern::Periodic(found) => Some(found.every.as_secs()),
        _ => None,
    }
}

#[test]
fn a_nightly_job_comes_every_day() {
    let spans = job(&[0, DAY + 40, 2 * DAY - 300, 3 * DAY + 900], 20 * MINUTE);
    let Some(Pattern::Periodic(found)) = said(&spans, 3 * DAY + 14 * HOUR) else { panic!() };
    assert_eq!(
        (found.every, found.times, found.missed, found.last, found.next, found.overdue),
        (SignedDuration::from_hours(24), 4, 0, second(3 * DAY + 900), second(4 * DAY + 900), false)
    );
    let Some(Pattern::Periodic(late)) = said(&spans, 4 * DAY + 6 * HOUR) else { panic!() };
    assert!(late.overdue);
    assert_eq!(late.next, second(4 * DAY + 900));
}

#[test]
fn what_was_seen_once_or_twice_has_no_period() {
    assert_eq!(said(&[], 0), None);
    assert_eq!(said(&job(&[0], 60), DAY), Some(Pattern::Once(seen(1, 0, 60))));
    let twice = Pattern::Irregular(seen(2, 0, DAY + 60));
    assert_eq!(said(&job(&[0, DAY], 60), 2 * DAY), Some(twice));
    let open = [Span { since: second(0), until: second(DAY), ended: false }];
    assert_eq!(said(&open, DAY), Some(Pattern::Steady(seen(1, 0, DAY))));
    let silent = pattern(open.iter().copied(), &[(second(0), second(DAY))], false, second(9 * DAY));
    assert_eq!(silent, Some(Pattern::Once(seen(1, 0, DAY))));
}

#[test]
fn what_comes_twice_a_minute_came_more_than_once() {
    let begins: Vec<i64> = (0..13).map(|at| at * 31).collect();
    let often = Pattern::Irregular(seen(13, 0, 373));
    assert_eq!(said(&job(&begins, 1), 400), Some(often));
    // Two connections at once are one that is there, and so is one that is
    // seen by two.
    let mut spans = job(&[0, 20], 60);
    assert_eq!(said(&spans, 400), Some(Pattern::Once(seen(1, 0, 80))));
    // One that is there now was there with a pause.
    spans.push(Span { since: second(90), until: second(400), ended: false });
    assert_eq!(said(&spans, 400), Some(Pattern::Steady(seen(2, 0, 400))));
}

#[test]
fn a_probe_that_starts_every_night_makes_no_nightly_job() {
    // One connection that stays open, and a probe that is stopped for ten
    // minutes at two o'clock.
    let runs: Vec<(Timestamp, Timestamp)> =
        (0..9).map(|day| (second(day * DAY), second((day + 1) * DAY - 600))).collect();
    let spans: Vec<Span> =
        runs.iter().map(|run| Span { since: run.0, until: run.1, ended: true }).collect();
    let found = pattern(spans.iter().copied(), &runs, true, second(9 * DAY));
    assert_eq!(found, Some(Pattern::Once(seen(1, 0, 9 * DAY - 600))));
    // The probe is down for the day: what is there each time it begins to look
    // is not known to have begun then.
    let runs: Vec<(Timestamp, Timestamp)> =
        (0..9).map(|day| (second(day * DAY), second(day * DAY + HOUR))).collect();
    let spans: Vec<Span> = runs
        .iter()
        .map(|run| Span { since: run.0, until: run.0 + SignedDuration::from_mins(5), ended: true })
        .collect();
    let found = pattern(spans.iter().copied(), &runs, true, second(9 * DAY));
    assert_eq!(found, Some(Pattern::Irregular(seen(9, 0, 8 * DAY + 5 * MINUTE))));
}

#[test]
fn a_job_keeps_its_period_over_missed_and_odd_turns() {
    // Monday to Friday, three weeks.
    let weekdays: Vec<i64> = (0..21).filter(|day| day % 7 < 5).map(|day| day * DAY).collect();
    let Some(Pattern::Periodic(found)) = said(&job(&weekdays, 60), 21 * DAY) else { panic!() };
    assert_eq!((found.every.as_secs(), found.times, found.missed), (DAY, 15, 4));
    // The clock is set for the summer in the middle.
    let summer: Vec<i64> = (0..14).map(|day| day * DAY - if day > 6 { HOUR } else { 0 }).collect();
    assert_eq!(every(&job(&summer, 60), 14 * DAY), Some(DAY));
    // Each turn connects five times in ten minutes.
    let bursts: Vec<i64> =
        (0..5).flat_map(|day| (0..5).map(move |at| day * DAY + at * 2 * MINUTE)).collect();
    assert_eq!(every(&job(&bursts, 20), 5 * DAY), Some(DAY));
}

#[test]
fn generated_jobs_have_the_period_they_were_made_with() {
    let mut dice = Dice(11);
    let periods = [
        7 * DAY,
        DAY,
        12 * HOUR,
        6 * HOUR,
        HOUR,
        30 * MINUTE,
        15 * MINUTE,
        10 * MINUTE,
        5 * MINUTE,
    ];
    for round in 0..rounds(300) {
        let period = periods[dice.below(periods.len())];
        // A job of minutes begins within seconds, a nightly one within minutes.
        let noise = usize::try_from(period / 60).unwrap().clamp(5, 900);
        let count = 4 + dice.below(20);
        let begins: Vec<i64> = (0..count)
            .map(|at| {
                let jitter = i64::try_from(dice.below(noise)).unwrap();
                i64::try_from(at).unwrap() * period + jitter
            })
            .collect();
        let spans = job(&begins, 1 + i64::try_from(dice.below(20)).unwrap());
        let now = begins[begins.len() - 1] + period / 2;
        assert_eq!(every(&spans, now), Some(period), "round {round}: {begins:?}");
    }
}

#[test]
fn what_comes_by_chance_has_hardly_ever_a_period() {
    let mut dice = Dice(12);
    let mut found = 0;
    for _ in 0..1000 {
        let count = 3 + dice.below(12);
        let mut begins: Vec<i64> =
            (0..count).map(|_| i64::try_from(dice.below(14 * 86_400)).unwrap()).collect();
        begins.sort_unstable();
        found += usize::from(every(&job(&begins, 5), 14 * DAY).is_some());
    }
    // What three beginnings happen to say cannot be told from a job; that is
    // rare, and errs on the side of "somebody comes again".
    assert!(found <= 10, "{found} of 1000");
}

#[test]
fn a_period_that_nobody_would_choose_needs_more_evidence() {
    let begins = |count: i64| (0..count).map(|at| at * 37 * MINUTE).collect::<Vec<_>>();
    assert_eq!(every(&job(&begins(4), 5), 5 * HOUR), None);
    assert_eq!(every(&job(&begins(8), 5), 5 * HOUR), Some(37 * MINUTE));
}
