//! Ranges of time, and how near two of them are.
//!
//! Two hosts never say the same microsecond: clocks differ, a scan comes once
//! a second, a heartbeat once in a while. So besides overlapping there is
//! being near enough, which the caller sizes.

use jiff::{SignedDuration, Timestamp};
use smallvec::SmallVec;

use crate::recall::Span;

/// Ranges with both ends in them, disjoint and in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(SmallVec<[(Timestamp, Timestamp); 1]>);

/// How two times meet, the weaker first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Near {
    /// Apart, by no more than the tolerance.
    Tolerated,
    /// They overlap.
    Overlap,
}

impl Times {
    pub(crate) fn of_spans(spans: &[Span]) -> Self {
        Times::of(spans.iter().map(|span| (span.since, span.until)).collect())
    }

    /// Ranges in any order, overlapping or not. One that ends before it begins
    /// is taken at its beginning.
    pub(crate) fn of(mut ranges: SmallVec<[(Timestamp, Timestamp); 1]>) -> Self {
        ranges.sort_unstable();
        let mut merged: SmallVec<[(Timestamp, Timestamp); 1]> = SmallVec::new();
        for (since, until) in ranges {
            match merged.last_mut() {
                Some(last) if since <= last.1 => last.1 = last.1.max(until),
                _ => merged.push((since, until.max(since))),
            }
        }
        Times(merged)
    }

    /// Whether one of them meets the range, and how.
    pub(crate) fn near(
        &self,
        since: Timestamp,
        until: Timestamp,
        tolerance: SignedDuration,
    ) -> Option<Near> {
        // The first range that does not end before this one begins overlaps
        // it or is the nearest one later; the one before is the nearest
        // earlier.
        let at = self.0.partition_point(|range| range.1 < since);
        let later = self.0.get(at).map(|range| range.0.duration_since(until));
        if later.is_some_and(|gap| !gap.is_positive()) {
            return Some(Near::Overlap);
        }
        let earlier = at
            .checked_sub(1)
            .and_then(|i| self.0.get(i))
            .map(|range| since.duration_since(range.1));
        let gap = later.into_iter().chain(earlier).min()?;
        (gap <= tolerance).then_some(Near::Tolerated)
    }

    /// Like [`Times::near`], of all of `other`: the nearest that any range gets.
    pub(crate) fn meet(&self, other: &Times, tolerance: SignedDuration) -> Option<Near> {
        other.0.iter().filter_map(|range| self.near(range.0, range.1, tolerance)).max()
    }

    /// The end of the last one that ends before a moment.
    pub(crate) fn last_before(&self, moment: Timestamp) -> Option<Timestamp> {
        let at = self.0.partition_point(|range| range.1 < moment);
        Some(self.0.get(at.checked_sub(1)?)?.1)
    }

    /// The beginning of the first one that begins after a moment.
    pub(crate) fn first_after(&self, moment: Timestamp) -> Option<Timestamp> {
        let at = self.0.partition_point(|range| range.0 <= moment);
        Some(self.0.get(at)?.0)
    }

    /// Whether any of them reaches between two moments, of which neither
    /// counts.
    pub(crate) fn any_within(&self, after: Timestamp, before: Timestamp) -> bool {
        let at = self.0.partition_point(|range| range.1 <= after);
        self.0.get(at).is_some_and(|range| range.0 < before)
    }

    /// Whether all of a range is in one of them.
    pub(crate) fn cover(&self, (since, until): (Timestamp, Timestamp)) -> bool {
        let at = self.0.partition_point(|range| range.1 < until);
        self.0.get(at).is_some_and(|range| range.0 <= since)
    }

    /// The ranges.
    pub(crate) fn ranges(&self) -> &[(Timestamp, Timestamp)] {
        &self.0
    }

    /// From the beginning of the first to the end of the last.
    pub(crate) fn hull(&self) -> Option<(Timestamp, Timestamp)> {
        Some((self.0.first()?.0, self.0.last()?.1))
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::{Near, Times};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a second in range")
    }

    #[test]
    fn times_meet_by_overlap_or_within_the_tolerance() {
        let times = Times::of(
            [(20, 30), (0, 5), (4, 10), (50, 40)]
                .map(|(a, b)| (at(a), at(b)))
                .into_iter()
                .collect(),
        );
        let near = |a, b| times.near(at(a), at(b), SignedDuration::from_secs(3));
        assert_eq!(near(10, 10), Some(Near::Overlap));
        assert_eq!(near(11, 12), Some(Near::Tolerated));
        assert_eq!(near(14, 16), None);
        assert_eq!(near(17, 17), Some(Near::Tolerated));
        assert_eq!(near(12, 21), Some(Near::Overlap));
        assert_eq!(near(50, 99), Some(Near::Overlap));
        assert_eq!(near(54, 99), None);
        assert_eq!(Times::default().near(at(0), at(9), SignedDuration::from_secs(3)), None);
    }
}
