//! What a joined graph says about one question: from an [`Inquiry`] and the
//! [`Answer`]s it needs to a finding. Pure, as the graph is.
//!
//! A file a question: plain functions of answers, with plain results. What is
//! asked of the CMDB for it is told by [`Inquiry::questions`]; how a finding
//! looks is a view's matter.

use crate::graph::page::{Page, Part, lasting, mark};
use crate::graph::search::Answer;
use crate::graph::walk::Ways;
use crate::graph::{EdgeId, NodeId};
use crate::recall::{Selector, Window};
use crate::study::diff::{Difference, Moments, Thing};
use crate::study::doubt::hosts_of;
use crate::study::drain::{Drain, Quiet};
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
    Drain(Quiet),
    /// What may come in and go out.
    Policy(Plan),
    /// What differs between two moments.
    Diff(Moments),
    /// What is called in vain; and whether the exit code tells of it.
    Failing(bool),
    /// Peers without a probe.
    Unexplained,
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

/// In which order people read nodes: by host and process, then addresses.
pub(crate) fn reading(answer: &Answer, node: NodeId) -> impl Ord + use<> {
    let identity = &answer.graph.nodes[node].identity;
    let place = identity.place();
    let host = place.and_then(|place| answer.graph.hosts.get(&place.host));
    let host = host.map(|host| (host.name.clone(), host.id.clone()));
    let process = identity.process().map(|process| process.name.clone());
    (place.is_none(), host, place.map(|place| place.scope.to_string()), process, node)
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
            About::Drain(quiet) => Finding::Drain(Drain::of(&answers[0], quiet)),
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

    /// The part of the finding that is shown.
    pub fn part(&self) -> Part {
        let answer = self.answer();
        let of = |node| lasting(answer, node);
        let edge = |id: EdgeId| {
            let edge = &answer.graph.edges[id];
            (of(edge.active), of(edge.passive), edge.protocol, edge.port)
        };
        let page = |total, mark: &dyn Fn(usize) -> u64| self.inquiry.page.part(total, mark);
        match &self.finding {
            Finding::Listeners(Listening { listeners: list, .. }) => {
                page(list.len(), &|at| mark((of(list[at].node), list[at].listen)))
            }
            Finding::Impact(Impact { dependents: list, .. }) => {
                page(list.len(), &|at| mark((of(list[at].node), list[at].depth)))
            }
            Finding::Drain(Drain { callers: list, .. }) => {
                page(list.len(), &|at| mark(edge(list[at].edge)))
            }
            Finding::Policy(Policy { rules: list, .. }) => {
                page(list.len(), &|at| mark((list[at].hook, list[at].protocol, list[at].port)))
            }
            Finding::Failing(_, list) => {
                page(list.len(), &|at| mark((list[at].protocol, list[at].address, list[at].port)))
            }
            Finding::Unexplained(Unexplained { peers: list, .. }) => {
                page(list.len(), &|at| mark(list[at].address))
            }
            Finding::Diff(_, Difference { entries: list, .. }) => page(list.len(), &|at| {
                let entry = &list[at];
                let thing = entry.after.map(|thing| (answer, thing));
                let thing = thing.or(entry.before.map(|thing| (&self.answers[0], thing)));
                let name = thing.map(|(answer, thing)| match thing {
                    Thing::Edge(id) => {
                        let edge = &answer.graph.edges[id];
                        let ends = (lasting(answer, edge.active), lasting(answer, edge.passive));
                        mark((ends, edge.protocol, edge.port))
                    }
                    Thing::Listener(node, listen) => mark((lasting(answer, node), listen)),
                });
                mark((&entry.change, name))
            }),
        }
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
            Finding::Failing(false, _) => 0,
            Finding::Failing(true, dead) => match (dead.is_empty(), self.is_told()) {
                (false, _) => 3,
                (true, true) => 0,
                (true, false) => 4,
            },
            Finding::Diff(moments, found) => match found.is_told_by(moments) {
                0 if moments.exit_code && !self.is_known() => 4,
                code => code,
            },
        }
    }

    /// Whether anything is known of what was asked about.
    fn is_known(&self) -> bool {
        self.answers.iter().any(|answer| !answer.walk.roots.is_empty())
    }

    /// Whether all hosts that are meant have told, up to the end of the window,
    /// and nothing was left out.
    fn is_told(&self) -> bool {
        let answer = self.answer();
        let end = answer.question.window.until.map_or(answer.now, |until| until.min(answer.now));
        let hosts = hosts_of(answer, &answer.walk.roots);
        let records = hosts.iter().filter_map(|host| answer.graph.hosts.get(host));
        let mut silent =
            records.filter(|host| end.duration_since(host.last_seen) > answer.question.tolerance);
        let cut = &answer.cut;
        self.is_known()
            && silent.next().is_none()
            && cut.hosts + cut.addresses + cut.edges == 0
            && !cut.rises
    }
}
