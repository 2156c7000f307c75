//! Tests of the questions, on records that are written down.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod listeners;

use jiff::SignedDuration;

use crate::graph::search::{Answer, Question, Search};
use crate::graph::tests::notation::{records, second};
use crate::graph::walk::Reach;
use crate::recall::{Found, Selector, Window};
use crate::study::{About, Inquiry, Outcome, Page};

/// What is found of a CMDB that has just these records, ten seconds after the
/// last word of its hosts.
pub(crate) fn outcome(text: &str, selector: Selector, about: About) -> Outcome {
    let window = Window::default();
    let page = Page { offset: 0, limit: 100 };
    let inquiry = Inquiry { selectors: vec![selector], window, page, about };
    let answers = inquiry.questions().into_iter().map(|asking| {
        let reach = Reach { depth: asking.depth, ways: asking.ways, edges: 1000 };
        answer(text, inquiry.selectors[0].clone(), asking.window, reach)
    });
    let answers = answers.collect();
    inquiry.conclude(answers)
}

fn answer(text: &str, selector: Selector, window: Window, reach: Reach) -> Answer {
    let tolerance = SignedDuration::from_secs(30);
    let selectors = vec![selector.clone()];
    let question =
        Question { selectors, window, reach, hosts: 100, tolerance, labels: Default::default() };
    let records = records(text);
    let hosts = records.hosts.iter().map(|host| host.key).collect();
    let found = Found { hosts, ..Found::default() };
    let mut search = Search::begin(question, selector, found);
    while search.ask().is_some() {
        search.take(records.clone());
    }
    search.answer(second(70), Some(&[]))
}
