//! What a joined graph says about one question: from an [`Inquiry`] and the
//! [`Answer`]s it needs to a finding. Pure, as the graph is.
//!
//! A file a question: plain functions of answers, with plain results. What is
//! asked of the CMDB for it is told by [`Inquiry::questions`]; how a finding
//! looks is a view's matter.

use crate::graph::search::Answer;
use crate::graph::walk::Ways;
use crate::recall::{Selector, Window};
use crate::study::listeners::Listening;

pub mod listeners;
#[cfg(test)]
pub(crate) mod tests;

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
}

impl Inquiry {
    /// What is to be asked of the graph, in this order.
    pub fn questions(&self) -> Vec<Asking> {
        let asking = |depth, ways| vec![Asking { window: self.window, depth, ways }];
        match self.about {
            About::Listeners => asking(1, Ways::Up),
        }
    }

    /// The finding, from the answers to [`Inquiry::questions`], of which there
    /// is one at least.
    pub fn conclude(self, answers: Vec<Answer>) -> Outcome {
        let finding = match self.about {
            About::Listeners => Finding::Listeners(Listening::of(&answers[0])),
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
            Finding::Listeners(_) => 0,
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
