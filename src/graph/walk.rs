//! Breadth first from the roots: who depends on them, what they depend on.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::graph::{EdgeId, Graph, NodeId};

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
    visited: HashSet<(NodeId, Way)>,
    step_of: HashMap<EdgeId, usize>,
    cut: HashSet<EdgeId>,
    queue: VecDeque<Visit>,
}

impl Graph {
    /// Walks from the roots. Each edge is taken once, each node followed once
    /// a way.
    pub fn walk(&self, roots: &[NodeId], reach: Reach) -> Walk {
        let (mut up, mut down) =
            (vec![Vec::new(); self.nodes.len()], vec![Vec::new(); self.nodes.len()]);
        for (id, edge) in self.edges.iter().enumerate() {
            up[edge.passive].push(id);
            down[edge.active].push(id);
            if !edge.directed && edge.active != edge.passive {
                up[edge.active].push(id);
                down[edge.passive].push(id);
            }
        }
        let mut walker = Walker {
            graph: self,
            reach,
            walk: Walk { roots: roots.to_vec(), ..Walk::default() },
            visited: HashSet::new(),
            step_of: HashMap::new(),
            cut: HashSet::new(),
            queue: VecDeque::new(),
        };
        for root in roots {
            let ways: &[Way] = match reach.ways {
                Ways::Up => &[Way::Up],
                Ways::Down => &[Way::Down],
                Ways::Both => &[Way::Up, Way::Down],
            };
            for way in ways {
                if walker.visited.insert((*root, *way)) {
                    walker.queue.push_back(Visit {
                        node: *root,
                        way: *way,
                        depth: 0,
                        anchor: None,
                    });
                }
            }
        }
        while let Some(visit) = walker.queue.pop_front() {
            let edges = if visit.way == Way::Up { &up } else { &down };
            if visit.depth < reach.depth {
                for edge in &edges[visit.node] {
                    walker.take(&visit, *edge);
                }
            }
        }
        walker.walk.edges_cut = walker.cut.len();
        walker.walk
    }
}

impl Walker<'_> {
    fn take(&mut self, visit: &Visit, edge: EdgeId) {
        let to = self.graph.edges[edge].other(visit.node);
        if visit.anchor.is_some_and(|anchor| self.walk.steps[anchor].edge == edge) {
            // An edge without a direction is not walked back.
            return;
        }
        let cycle = self.on_path(visit, to);
        let fresh = self.visited.insert((to, visit.way));
        let anchor = match self.step_of.get(&edge) {
            Some(known) => {
                let step = &mut self.walk.steps[*known];
                step.cycle |= cycle;
                // What follows hangs from wherever the node has its line: it
                // is one of this step's ends.
                if step.to == to { Some(*known) } else { step.parent }
            }
            None if self.walk.steps.len() >= self.reach.edges => {
                self.cut.insert(edge);
                None
            }
            None => {
                let depth = visit.depth + 1;
                let repeated = !fresh && !cycle && depth < self.reach.depth;
                let parent = visit.anchor;
                let (from, way) = (visit.node, visit.way);
                self.walk.steps.push(Step { edge, from, to, way, depth, parent, cycle, repeated });
                self.step_of.insert(edge, self.walk.steps.len() - 1);
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
