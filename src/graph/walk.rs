//! Breadth first from the roots: who depends on them, what they depend on.

use std::collections::VecDeque;

use crate::graph::{Edge, EdgeId, Graph, NodeId};

/// Which way to walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ways {
    /// To what depends on the roots: what breaks if they do.
    Up,
    /// To what the roots depend on.
    Down,
    /// Both, each from the roots on: what is above goes further up and what is
    /// below further down. Never up and then down, which would be everything.
    Both,
}

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// To the active end.
    Up,
    /// To the passive end.
    Down,
}

/// How far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Edges from a root, at most.
    pub depth: u32,
    /// Which way.
    pub ways: Ways,
    /// Steps in all, at most; edges beyond are counted.
    pub edges: usize,
}

/// What was walked.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    /// Where it began.
    pub roots: Vec<NodeId>,
    /// Each edge once, the nearest first.
    pub steps: Vec<Step>,
    /// Edges within reach that the limit left out.
    pub edges_cut: usize,
}

/// One edge, walked from one end to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The edge.
    pub edge: EdgeId,
    /// The end it was come from.
    pub from: NodeId,
    /// The end it leads to.
    pub to: NodeId,
    /// Which way. An edge without a direction is walked either way.
    pub way: Way,
    /// Edges from the root: 1 for the root's own.
    pub depth: u32,
    /// The step it continues; absent at a root.
    pub parent: Option<usize>,
    /// It leads back to where it came from, over this or more steps.
    pub cycle: bool,
    /// It leads to a node that is followed elsewhere.
    pub repeated: bool,
}

/// A node about to be followed, and the step it hangs from.
struct Visit {
    node: NodeId,
    way: Way,
    depth: u32,
    anchor: Option<usize>,
}

struct Walker<'g> {
    graph: &'g Graph,
    reach: Reach,
    walk: Walk,
    /// By node, up and down.
    visited: Vec<[bool; 2]>,
    /// By edge.
    taken: Vec<Taken>,
    queue: VecDeque<Visit>,
}

/// What became of an edge.
#[derive(Clone, Copy)]
enum Taken {
    NotYet,
    /// It is this step.
    Step(usize),
    /// The limit left it out.
    Cut,
}

/// The edges at each node, in their order: those of node `n` are
/// `edges[from[n]..from[n + 1]]`.
struct Adjacent {
    from: Vec<usize>,
    edges: Vec<EdgeId>,
}

impl Adjacent {
    /// The edges that lead on from each node that way. One without a direction
    /// leads on from both its ends.
    fn of(graph: &Graph, way: Way) -> Self {
        let ends = |edge: &Edge| {
            let (near, far) = match way {
                Way::Up => (edge.passive, edge.active),
                Way::Down => (edge.active, edge.passive),
            };
            let both = !edge.directed && near != far;
            [Some(near), both.then_some(far)].into_iter().flatten()
        };
        let mut from = vec![0; graph.nodes.len() + 1];
        for node in graph.edges.iter().flat_map(ends) {
            from[node + 1] += 1;
        }
        for node in 1..from.len() {
            from[node] += from[node - 1];
        }
        let mut next = from.clone();
        let mut edges = vec![0; next.last().copied().unwrap_or(0)];
        for (id, edge) in graph.edges.iter().enumerate() {
            for node in ends(edge) {
                edges[next[node]] = id;
                next[node] += 1;
            }
        }
        Adjacent { from, edges }
    }

    fn at(&self, node: NodeId) -> &[EdgeId] {
        &self.edges[self.from[node]..self.from[node + 1]]
    }
}

impl Graph {
    /// Walks from the roots. Each edge is taken once, each node followed once
    /// a way.
    pub fn walk(&self, roots: &[NodeId], reach: Reach) -> Walk {
        let walk = Walk { roots: roots.to_vec(), ..Walk::default() };
        if reach.depth == 0 {
            return walk;
        }
        let ways: &[Way] = match reach.ways {
            Ways::Up => &[Way::Up],
            Ways::Down => &[Way::Down],
            Ways::Both => &[Way::Up, Way::Down],
        };
        let adjacent = |way| ways.contains(&way).then(|| Adjacent::of(self, way));
        let (up, down) = (adjacent(Way::Up), adjacent(Way::Down));
        let mut walker = Walker {
            graph: self,
            reach,
            walk,
            visited: vec![[false; 2]; self.nodes.len()],
            taken: vec![Taken::NotYet; self.edges.len()],
            queue: VecDeque::new(),
        };
        for root in roots {
            for way in ways {
                if walker.visit(*root, *way) {
                    let (node, way) = (*root, *way);
                    walker.queue.push_back(Visit { node, way, depth: 0, anchor: None });
                }
            }
        }
        while let Some(visit) = walker.queue.pop_front() {
            let adjacent = if visit.way == Way::Up { &up } else { &down };
            if let Some(adjacent) = adjacent.as_ref().filter(|_| visit.depth < reach.depth) {
                for edge in adjacent.at(visit.node) {
                    walker.take(&visit, *edge);
                }
            }
        }
        walker.walk
    }
}

impl Walker<'_> {
    /// Whether a node is now visited for the first time that way.
    fn visit(&mut self, node: NodeId, way: Way) -> bool {
        !std::mem::replace(&mut self.visited[node][way as usize], true)
    }

    fn take(&mut self, visit: &Visit, edge: EdgeId) {
        let to = self.graph.edges[edge].other(visit.node);
        if visit.anchor.is_some_and(|anchor| self.walk.steps[anchor].edge == edge) {
            // An edge without a direction is not walked back.
            return;
        }
        // The path to a visit was visited, whichever way, so what is new is
        // not on it.
        let known = self.visited[to] != [false; 2];
        let cycle = known && self.on_path(visit, to);
        let fresh = self.visit(to, visit.way);
        let anchor = match self.taken[edge] {
            Taken::Step(known) => {
                let step = &mut self.walk.steps[known];
                step.cycle |= cycle;
                // What follows hangs from wherever the node has its line: it
                // is one of this step's ends.
                if step.to == to { Some(known) } else { step.parent }
            }
            Taken::Cut => None,
            Taken::NotYet if self.walk.steps.len() >= self.reach.edges => {
                self.taken[edge] = Taken::Cut;
                self.walk.edges_cut += 1;
                None
            }
            Taken::NotYet => {
                let depth = visit.depth + 1;
                let repeated = !fresh && !cycle && depth < self.reach.depth;
                let parent = visit.anchor;
                let (from, way) = (visit.node, visit.way);
                self.taken[edge] = Taken::Step(self.walk.steps.len());
                self.walk.steps.push(Step { edge, from, to, way, depth, parent, cycle, repeated });
                Some(self.walk.steps.len() - 1)
            }
        };
        if fresh {
            self.queue.push_back(Visit {
                node: to,
                way: visit.way,
                depth: visit.depth + 1,
                anchor,
            });
        }
    }

    /// Whether a node is on the way by which a visit came.
    fn on_path(&self, visit: &Visit, node: NodeId) -> bool {
        let mut at = visit.node;
        let mut anchor = visit.anchor;
        loop {
            if at == node {
                return true;
            }
            let Some(step) = anchor.map(|anchor| self.walk.steps[anchor]) else { return false };
            (at, anchor) = (step.from, step.parent);
        }
    }
}
