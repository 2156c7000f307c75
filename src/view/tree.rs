//! For people: a heading for every service of a root, who calls it, and what
//! it calls.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::search::Answer;
use crate::graph::walk::{Step, Way};
use crate::graph::{NodeId, Place};
use crate::view::footer::{claimants, footer, nothing};
use crate::view::label::{end, name, place, rise, told};
use crate::view::lines::{End, State, from_and_to, order, reason};
use crate::view::paint::Paint;

/// A step by its number in the walk.
type StepId = usize;

struct Tree<'a> {
    answer: &'a Answer,
    paint: Paint,
    children: BTreeMap<StepId, Vec<StepId>>,
    out: String,
}

/// An answer as a tree with its footer.
pub(crate) fn tree(answer: &Answer, colour: bool) -> String {
    let mut children: BTreeMap<StepId, Vec<StepId>> = BTreeMap::new();
    let mut own: BTreeMap<NodeId, Vec<StepId>> = BTreeMap::new();
    for (id, step) in answer.walk.steps.iter().enumerate() {
        match step.parent {
            Some(parent) => children.entry(parent).or_default().push(id),
            None => own.entry(step.from).or_default().push(id),
        }
    }
    let mut tree = Tree { answer, paint: Paint(colour), children, out: String::new() };
    let mut headings: Vec<(End, NodeId, Vec<StepId>)> = Vec::new();
    for (root, steps) in own {
        let under = tree.headings(&steps);
        headings.extend(under.into_iter().map(|(end, steps)| (end, root, steps)));
    }
    headings.sort_by_cached_key(|(end, root, _)| order(answer, *end, *root));
    for (end, root, steps) in headings {
        tree.heading(end, root);
        tree.lines(end, steps);
    }
    let mut notes = if answer.walk.steps.is_empty() { nothing(answer) } else { Vec::new() };
    notes.extend(footer(answer));
    if !tree.out.is_empty() && !notes.is_empty() {
        tree.out.push('\n');
    }
    for note in notes {
        tree.out.push_str(&tree.paint.dim(&note));
        tree.out.push('\n');
    }
    tree.out
}

impl Tree<'_> {
    /// A root's own steps, by the heading they stand under. Those that come in
    /// have a service's. Those that go out have the one of the process, if it
    /// has but one there; else nothing tells which service they are for.
    fn headings(&self, steps: &[StepId]) -> BTreeMap<End, Vec<StepId>> {
        let mut under: BTreeMap<End, Vec<StepId>> = BTreeMap::new();
        let comes_in = |id: &&StepId| {
            let step = &self.answer.walk.steps[**id];
            step.way == Way::Up && self.answer.graph.edges[step.edge].directed
        };
        for id in steps.iter().filter(comes_in) {
            under.entry(self.ends(*id).0).or_default().push(*id);
        }
        let services: BTreeSet<End> = under.keys().copied().collect();
        for id in steps.iter().filter(|id| !comes_in(id)) {
            let address = self.ends(*id).0.0;
            let mut here = services.range((address, None)..=(address, Some(u16::MAX)));
            let heading = match (here.next(), here.next(), services.first()) {
                (Some(only), None, _) => *only,
                (None, _, Some(only)) if services.len() == 1 => *only,
                _ => (address, None),
            };
            under.entry(heading).or_default().push(*id);
        }
        under
    }

    fn ends(&self, id: StepId) -> (End, End) {
        let step = &self.answer.walk.steps[id];
        from_and_to(&self.answer.graph.edges[step.edge], step)
    }

    fn heading(&mut self, at: End, root: NodeId) {
        let node = &self.answer.graph.nodes[root];
        let text = format!("{} {}", end(at.0, at.1), name(node));
        self.out.push_str(&self.paint.bold(&text));
        let place = node.identity.place().map(|at| place(&self.answer.graph, at));
        let more = (node.owners_more > 0).then(|| format!("+{} owners", node.owners_more));
        let notes: Vec<String> =
            place.into_iter().chain(more).chain(claimants(self.answer, root)).collect();
        self.note(&notes.join(", "));
    }

    fn note(&mut self, text: &str) {
        if !text.is_empty() {
            self.out.push_str("  ");
            self.out.push_str(&self.paint.dim(text));
        }
        self.out.push('\n');
    }

    /// Lines under a heading, each followed by what hangs from it. A walk may
    /// be deep, so the way back is kept here and not on the stack.
    fn lines(&mut self, heading: End, mut steps: Vec<StepId>) {
        self.sort(&mut steps);
        let mut pending: Vec<(StepId, End, usize)> =
            steps.into_iter().rev().map(|id| (id, heading, 0)).collect();
        while let Some((id, shown, depth)) = pending.pop() {
            self.line(id, shown, depth);
            let mut below = self.children.remove(&id).unwrap_or_default();
            self.sort(&mut below);
            let to = self.ends(id).1;
            pending.extend(below.into_iter().rev().map(|child| (child, to, depth + 1)));
        }
    }

    /// What comes in before what goes out, each by address.
    fn sort(&self, steps: &mut [StepId]) {
        let way =
            |step: &Step| (!self.answer.graph.edges[step.edge].directed, step.way == Way::Down);
        steps.sort_by_cached_key(|id| {
            let step = &self.answer.walk.steps[*id];
            let protocol = self.answer.graph.edges[step.edge].protocol;
            let (from, to) = self.ends(*id);
            (
                way(step),
                order(self.answer, to, step.to),
                protocol,
                order(self.answer, from, step.from),
            )
        });
    }

    fn line(&mut self, id: StepId, shown: End, depth: usize) {
        let step = self.answer.walk.steps[id];
        let edge = &self.answer.graph.edges[step.edge];
        let arrow = match (edge.directed, step.way) {
            (false, _) => "<->",
            (true, Way::Up) => "<--",
            (true, Way::Down) => "-->",
        };
        let to = self.ends(id).1;
        let node = &self.answer.graph.nodes[step.to];
        let indent = "    ".repeat(depth);
        let text = format!("{indent}└{arrow} {} {}", end(to.0, to.1), name(node));
        self.out.push_str(&text);
        let failing = State::of(edge, self.answer) == State::Failing;
        if failing {
            self.out.push_str("  ");
            let why = format!("FAILING: {}", reason(&edge.traffic));
            self.out.push_str(&self.paint.alarm(&why));
        }
        let notes = self.notes(id, shown).join(", ");
        if failing {
            self.out.push(',');
            self.out.push(' ');
            self.out.push_str(&self.paint.dim(&notes));
            self.out.push('\n');
        } else {
            self.note(&notes);
        }
    }

    /// What is to be said of a line. `shown` is the end that the line above
    /// shows for the node it hangs from.
    fn notes(&self, id: StepId, shown: End) -> Vec<String> {
        let answer = self.answer;
        let step = &answer.walk.steps[id];
        let edge = &answer.graph.edges[step.edge];
        let node = &answer.graph.nodes[step.to];
        let from = self.ends(id).0;
        let mut notes = Vec::new();
        let near: Option<&Place> = answer.graph.nodes[step.from].identity.place();
        if let Some(there) = node.identity.place().filter(|there| Some(*there) != near) {
            notes.push(place(&answer.graph, there));
        }
        notes.push(edge.protocol.name().to_owned());
        match from.1 {
            Some(_) if from != shown => notes.push(format!("at {}", end(from.0, from.1))),
            None if from.0 != shown.0 => notes.push(format!("from {}", from.0)),
            _ => {}
        }
        if !edge.directed {
            notes.push("direction unknown".to_owned());
        }
        notes.push(told(edge).to_owned());
        notes.extend(claimants(answer, step.to));
        let state = State::of(edge, answer);
        if edge.failing && state != State::Failing {
            notes.push("no answer".to_owned());
        }
        notes.push(state.when(edge, answer.now));
        notes.extend(edge.rise.as_ref().and_then(rise).map(|rise| format!("in that time {rise}")));
        if node.owners_more > 0 {
            notes.push(format!("+{} owners", node.owners_more));
        }
        if step.cycle {
            notes.push("(cycle)".to_owned());
        } else if step.repeated {
            notes.push("(followed elsewhere)".to_owned());
        }
        notes
    }
}
