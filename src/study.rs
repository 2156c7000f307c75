//! What a joined graph says about one question: from an [`Inquiry`] and the
//! [`Answer`]s it needs to a finding. Pure, as the graph is.
//!
//! A file a question: plain functions of answers, with plain results. What is
//! asked of the CMDB for it is told by [`Inquiry::questions`]; how a finding
//! looks is a view's matter.

use jiff::SignedDuration;

use crate::graph::search::Answer;
use crate::graph::walk::Ways;
use crate::recall::{Selector, Window};
use crate::study::diff::{Difference, Moments};
use crate::study::drain::Drain;
use crate::study::failing::{Dead, failing};
use crate::study::impact::{Decommission, Impact};
use crate::study::listeners::Listening;
use crate::study::policy::{Plan, Policy};
use crate::study::unexplained::{Unexplained, unexplained};

pub mod audit;
pub mod diff;
pub mod doubt;
pub mod drain;
pub mod failing;
pub mod impact;
pub mod listeners;
pub mod period;
pub mod policy;
#[cfg(test)]
pub(crate) mod tests;
pub mod unexplained;

/// A question with a name of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Inquiry {
    /// About whom, likeliest first; not empty.
    pub selectors: Vec<Selector>,
    /// The range of time meant.
    pub window: Window,
    /// Which part of the finding is shown.
    pub page: Page,
    /// What is asked.
    pub about: About,
}

/// What is asked, with what it takes beside a selector and a window.
#[derive(Clone, Debug, PartialEq)]
pub enum About {
    /// What listens where, and who calls it.
    Listeners,
    /// What depends on it, over how many steps.
    Impact {
        /// Steps, at most.
        depth: u32,
        /// Whether it can be taken away is asked, too.
        decommission: Option<Decommission>,
    },
    /// Whether nobody has connected to it for so long.
    Drain(SignedDuration),
    /// What may come in and go out.
    Policy(Plan),
    /// What differs between two moments.
    Diff(Moments),
    /// What is called in vain; and whether the exit code tells of it.
    Failing(bool),
    /// Peers without a probe.
    Unexplained,
}

/// A part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Entries passed over.
    pub offset: usize,
    /// Entries shown, at most.
    pub limit: usize,
}

/// What an inquiry asks of the graph: a window, and how far to walk in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asking {
    /// The range of time.
    pub window: Window,
    /// Steps.
    pub depth: u32,
    /// Which way.
    pub ways: Ways,
}

/// An inquiry answered.
#[derive(Debug)]
pub struct Outcome {
    /// What was asked.
    pub inquiry: Inquiry,
    /// The answers to [`Inquiry::questions`], in their order.
    pub answers: Vec<Answer>,
    /// What they say.
    pub finding: Finding,
}

/// What answers say about a question.
#[derive(Debug)]
pub enum Finding {
    /// What listens.
    Listeners(Listening),
    /// What depends on it.
    Impact(Impact),
    /// Who connects.
    Drain(Drain),
    /// What may come in and go out.
    Policy(Policy),
    /// What differs.
    Diff(Moments, Difference),
    /// What is called in vain; and whether the exit code tells of it.
    Failing(bool, Vec<Dead>),
    /// Peers without a probe.
    Unexplained(Unexplained),
}

impl Inquiry {
    /// What is to be asked of the graph, in this order.
    pub fn questions(&self) -> Vec<Asking> {
        let asking = |depth, ways| vec![Asking { window: self.window, depth, ways }];
        match &self.about {
            About::Listeners | About::Drain(_) => asking(1, Ways::Up),
            About::Impact { depth, .. } => asking(*depth, Ways::Up),
            About::Policy(plan) => match (plan.inward, plan.outward) {
                (true, false) => asking(1, Ways::Up),
                (false, true) => asking(1, Ways::Down),
                _ => asking(1, Ways::Both),
            },
            About::Failing(_) | About::Unexplained => asking(1, Ways::Both),
            About::Diff(moments) => [moments.before(), moments.after()]
                .map(|around| Asking { window: around.into(), depth: 1, ways: Ways::Both })
                .to_vec(),
        }
    }

    /// The finding, from the answers to [`Inquiry::questions`], of which there
    /// are as many as those.
    pub fn conclude(self, answers: Vec<Answer>) -> Outcome {
        let finding = match &self.about {
            About::Listeners => Finding::Listeners(Listening::of(&answers[0])),
            About::Impact { decommission, .. } => {
                Finding::Impact(Impact::of(&answers[0], *decommission))
            }
            About::Drain(time) => Finding::Drain(Drain::of(&answers[0], *time)),
            About::Policy(plan) => Finding::Policy(Policy::of(&answers[0], plan)),
            About::Failing(exit_code) => Finding::Failing(*exit_code, failing(&answers[0])),
            About::Unexplained => Finding::Unexplained(unexplained(&answers[0])),
            About::Diff(moments) => {
                Finding::Diff(*moments, Difference::of(moments, &answers[0], &answers[1]))
            }
        };
        Outcome { inquiry: self, answers, finding }
    }
}

impl Outcome {
    /// The answer that the finding is mostly about.
    pub fn answer(&self) -> &Answer {
        &self.answers[self.answers.len() - 1]
    }

    /// The exit code of its command.
    pub fn exit_code(&self) -> u8 {
        match &self.finding {
            Finding::Impact(found) => {
                found.judgement.as_ref().map_or(0, |judged| judged.verdict.exit_code())
            }
            Finding::Drain(found) => found.state.exit_code(),
            Finding::Policy(found) => found.exit_code(),
            Finding::Listeners(_) | Finding::Unexplained(_) => 0,
            Finding::Failing(exit_code, dead) => {
                if *exit_code && !dead.is_empty() {
                    3
                } else {
                    0
                }
            }
            Finding::Diff(moments, found) => found.is_told_by(moments),
        }
    }
}

impl Page {
    /// The part of a list.
    pub fn of<'l, T>(&self, list: &'l [T]) -> &'l [T] {
        let from = self.offset.min(list.len());
        &list[from..list.len().min(from.saturating_add(self.limit))]
    }
}
