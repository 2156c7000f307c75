//! Tests of the questions, on records that are written down.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod audit;
mod diff;
mod drain;
mod failing;
mod history;
mod impact;
mod listeners;
mod period;
mod policy;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::graph::page::Page;
use crate::graph::search::{Answer, Question, Search};
use crate::graph::tests::notation::{records, second};
use crate::graph::tests::search::around;
use crate::graph::walk::Reach;
use crate::recall::{AddressRecord, Found, HostRecord, Records, Selector, Window};
use crate::study::{About, Inquiry, Outcome};

/// What is found of a CMDB that has just these records, ten seconds after the
/// last word of its hosts.
pub(crate) fn outcome(text: &str, selector: Selector, about: About) -> Outcome {
    outcome_at(&records(text), selector, about, second(70))
}

/// The same of any records, at any time.
pub(crate) fn outcome_at(
    records: &Records,
    selector: Selector,
    about: About,
    now: Timestamp,
) -> Outcome {
    outcome_in(records, selector, about, (Window::default(), now))
}

/// The same of a window.
pub(crate) fn outcome_in(
    records: &Records,
    selector: Selector,
    about: About,
    (window, now): (Window, Timestamp),
) -> Outcome {
    let page = Page::first(100, now);
    let inquiry = Inquiry { selectors: vec![selector], window, page, about };
    let answers = inquiry.questions().into_iter().map(|asking| {
        let reach = Reach { depth: asking.depth, ways: asking.ways, edges: 1000 };
        answer(records, inquiry.selectors[0].clone(), (asking.window, reach), now)
    });
    let answers = answers.collect();
    inquiry.conclude(answers)
}

fn answer(
    records: &Records,
    selector: Selector,
    (window, reach): (Window, Reach),
    now: Timestamp,
) -> Answer {
    let tolerance = SignedDuration::from_secs(30);
    let selectors = vec![selector.clone()];
    let labels = Arc::default();
    let question = Question { selectors, window, reach, hosts: 100, tolerance, labels };
    let meant = |host: &&HostRecord| match &selector {
        Selector::Host(name) => host.id == *name || host.name.to_lowercase() == name.to_lowercase(),
        _ => true,
    };
    let hosts = records.hosts.iter().filter(meant);
    let found = Found { hosts: hosts.map(|host| host.key).collect(), ..Found::default() };
    let mut search = Search::begin(question, selector, found);
    let kept = within(records, window);
    while let Some(ask) = search.ask() {
        search.take(around(&kept, &ask));
    }
    search.answer(now, Some(&[]))
}

/// What a CMDB gives of a window: flows with the spans that overlap it, and
/// addresses that it overlaps or that are next to it, their hosts being silent.
fn within(records: &Records, window: Window) -> Records {
    let mut records = records.clone();
    for record in &mut records.flows {
        record.spans.retain(|span| {
            window.since.is_none_or(|since| span.until >= since)
                && window.until.is_none_or(|until| span.since <= until)
        });
    }
    records.flows.retain(|record| !record.spans.is_empty());
    let hosts = &records.hosts;
    let heard = |record: &AddressRecord, after, before| {
        let host = hosts.iter().find(|host| host.key == record.host).unwrap();
        host.watched.iter().any(|(since, until)| *until > after && *since < before)
    };
    records.addresses.retain(|record| {
        let (begin, end) = (record.since, record.until);
        window.since.is_none_or(|since| end >= since || !heard(record, end, since))
            && window.until.is_none_or(|until| begin <= until || !heard(record, until, begin))
    });
    records
}
