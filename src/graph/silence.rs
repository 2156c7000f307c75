//! What stays so while nobody could say otherwise.
//!
//! A host whose probe is silent, or not there yet, has what it was last, or
//! first, known to have. Else its addresses would be a stranger's as soon as
//! its probe dies, and all that others tell of it with them.

use jiff::{SignedDuration, Timestamp};
use smallvec::SmallVec;

use crate::graph::index::Map;
use crate::graph::times::Times;
use crate::recall::{HostKey, Records};

/// A run looks for the first time a moment after it began.
const FIRST_LOOK: SignedDuration = SignedDuration::from_secs(5);

/// When each host was heard.
#[derive(Default)]
pub(crate) struct Heard(Map<HostKey, Times>);

/// Until when something was known before a range of time, and from when on
/// after it, where its host was silent in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) before: Option<Timestamp>,
    pub(crate) after: Option<Timestamp>,
}

impl Heard {
    /// When a probe watched, and whatever else a host said.
    pub(crate) fn of(records: &Records) -> Self {
        let mut heard: Map<HostKey, Times> = Map::default();
        for host in &records.hosts {
            let moments = [host.first_seen, host.last_seen].map(|moment| (moment, moment));
            let ranges = host.watched.iter().copied().chain(moments);
            heard.insert(host.key, Times::of(ranges.collect()));
        }
        let of_addresses =
            records.addresses.iter().map(|record| (record.host, (record.since, record.until)));
        let of_flows = records.flows.iter().flat_map(|record| {
            record.spans.iter().map(|span| (record.host, (span.since, span.until)))
        });
        // All of it was told by a watch, but for looks of a moment.
        let mut more: Map<HostKey, SmallVec<[_; 1]>> = Map::default();
        for (host, range) in of_addresses.chain(of_flows) {
            if heard.get(&host).is_some_and(|heard| !heard.cover(range)) {
                more.entry(host).or_default().push(range);
            }
        }
        for (host, mut ranges) in more {
            let heard = heard.entry(host).or_default();
            ranges.extend(heard.ranges().iter().copied());
            *heard = Times::of(ranges);
        }
        Heard(heard)
    }

    /// What a host had at some times it has in a range of others, too, if it
    /// said nothing in between: it would have said otherwise.
    pub(crate) fn kept(
        &self,
        host: HostKey,
        times: &Times,
        (since, until): (Timestamp, Timestamp),
    ) -> Kept {
        let Some(heard) = self.0.get(&host) else { return Kept::default() };
        let before = times.last_before(since).filter(|last| !heard.any_within(*last, until));
        let after = times.first_after(until).filter(|next| {
            let looked = next.checked_sub(FIRST_LOOK).unwrap_or(Timestamp::MIN);
            !heard.any_within(since, looked)
        });
        Kept { before, after }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use smallvec::SmallVec;

    use super::Heard;
    use crate::graph::tests::notation::{host_key, records, second};
    use crate::graph::times::Times;

    fn kept(text: &str, had: &[(i64, i64)], range: (i64, i64)) -> [Option<i64>; 2] {
        let heard = Heard::of(&records(text));
        let ranges: SmallVec<_> = had.iter().map(|had| (second(had.0), second(had.1))).collect();
        let range = (second(range.0), second(range.1));
        let kept = heard.kept(host_key("a"), &Times::of(ranges), range);
        let seconds = |at: Timestamp| at.duration_since(second(0)).as_secs();
        [kept.before.map(seconds), kept.after.map(seconds)]
    }

    #[test]
    fn a_host_keeps_what_it_had_until_it_speaks_again() {
        let silent = "host a 10-100 300-400";
        // Its last word, and its next one.
        assert_eq!(kept(silent, &[(10, 100), (302, 400)], (150, 160)), [Some(100), Some(302)]);
        assert_eq!(kept(silent, &[(10, 100)], (150, 160)), [Some(100), None]);
        assert_eq!(kept(silent, &[(302, 400)], (150, 160)), [None, Some(302)]);
        // It gave it up before, took it later, or spoke without it meanwhile.
        assert_eq!(kept(silent, &[(10, 99)], (150, 160)), [None; 2]);
        assert_eq!(kept(silent, &[(310, 400)], (150, 160)), [None; 2]);
        assert_eq!(kept(silent, &[(10, 100)], (150, 310)), [None; 2]);
        assert_eq!(kept(silent, &[(10, 100)], (450, 460)), [None; 2]);
        // Before the first word and after the last one.
        assert_eq!(kept(silent, &[(10, 100)], (1, 2)), [None, Some(10)]);
        assert_eq!(kept(silent, &[(300, 400)], (450, 460)), [Some(400), None]);
        // Nobody who reports.
        assert_eq!(kept("host b", &[(0, 60)], (100, 110)), [None; 2]);
    }

    #[test]
    fn a_look_of_a_moment_is_a_word_too() {
        let once = "host a 0-0 600-600
            a has 10.0.0.1 0-0
            a has 10.0.0.2 300-300";
        assert_eq!(kept(once, &[(0, 0)], (200, 210)), [Some(0), None]);
        assert_eq!(kept(once, &[(0, 0)], (400, 410)), [None; 2]);
        let once = "host a 0-0 600-600
            a tcp 10.0.0.2 -> 10.0.0.9:80 curl/1 300-300";
        assert_eq!(kept(once, &[(0, 0)], (400, 410)), [None; 2]);
    }
}
