//! Folds a walk into a few groups: by host, unit, container, subnet,
//! process or label, for who begins at the whole. It must not know how they are shown.
//!
//! A group is named by what its nodes have in common, and so it stays the same
//! one when others come and go.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::graph::search::Answer;
use crate::graph::{EdgeId, Graph, Identity, NodeId, only_inside};
use crate::recall::HostKey;

/// What nodes are put together by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The host that reports.
    Host,
    /// The systemd unit, on whatever host.
    Unit,
    /// The container.
    Container,
    /// The network, /24 or /64, of the address that is used.
    Subnet,
    /// The name of the process, on whatever host.
    Process,
    /// What people put together: the group of the label, else its role, else
    /// its name.
    Label,
}

/// What the nodes of a group have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Common {
    /// This host. Also of nodes that have nothing narrower in common: outside
    /// of containers, or reached by loopback only.
    Host(HostKey),
    /// This systemd unit.
    Unit(String),
    /// This container.
    Container(String),
    /// This network.
    Subnet(IpNet),
    /// This name of a process.
    Process(String),
    /// This group, role or name of a label.
    Label(String),
    /// This address, which nobody reports for.
    Peer(IpAddr),
    /// Nothing: they belong to no unit, have no label, or their process was not
    /// seen.
    Nothing,
}

/// What a walk was folded into.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    /// By how many edges each has, the most first.
    pub groups: Vec<Group>,
    /// Nodes of the groups beyond the most, with how many groups that were.
    pub others: Option<(Vec<NodeId>, usize)>,
    /// What runs between them, by their places; the others stand behind the
    /// last.
    pub links: BTreeMap<(usize, usize), Vec<EdgeId>>,
}

/// Nodes that have something in common.
#[derive(Clone, Debug)]
pub struct Group {
    /// What.
    pub common: Common,
    /// Which.
    pub nodes: Vec<NodeId>,
}

impl By {
    /// All of them.
    pub const ALL: [By; 6] =
        [By::Host, By::Unit, By::Container, By::Subnet, By::Process, By::Label];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            By::Host => "host",
            By::Unit => "unit",
            By::Container => "container",
            By::Subnet => "subnet",
            By::Process => "process",
            By::Label => "label",
        }
    }
}

/// Most groups that are read at a glance.
const FEW: usize = 60;

/// Most hosts that are: each may call each, and services do not.
const FEW_HOSTS: usize = 30;

/// What to group an answer by where nobody said: the first that gives few
/// groups, what people named before what machines did; or else the fewest.
pub fn fitting(answer: &Answer) -> By {
    let labelled = answer.graph.nodes.iter().any(|node| node.label.is_some());
    let label = labelled.then_some((By::Label, FEW));
    let others = [(By::Host, FEW_HOSTS), (By::Unit, FEW), (By::Process, FEW), (By::Subnet, FEW)];
    let mut fewest: Option<(usize, By)> = None;
    for (by, few) in label.into_iter().chain(others) {
        let groups = commons(answer, by).into_values().collect::<BTreeSet<_>>().len();
        // One group of everything says nothing; of one host it is what is known.
        let says = groups > 2 || by == By::Host;
        if says && groups <= few {
            return by;
        }
        if says && fewest.is_none_or(|(known, _)| groups < known) {
            fewest = Some((groups, by));
        }
    }
    fewest.map_or(By::Host, |(_, by)| by)
}

/// Folds what an answer walked into at most `most` groups, the others being
/// one of them.
pub fn fold(answer: &Answer, by: By, most: usize) -> Groups {
    let commons = commons(answer, by);
    let mut edges_of: HashMap<&Common, usize> =
        commons.values().map(|common| (common, 0)).collect();
    for step in &answer.walk.steps {
        let edge = &answer.graph.edges[step.edge];
        for common in BTreeSet::from([&commons[&edge.active], &commons[&edge.passive]]) {
            *edges_of.entry(common).or_default() += 1;
        }
    }
    let mut ranked: Vec<(&Common, usize)> = edges_of.into_iter().collect();
    ranked.sort_by(|a, b| (Reverse(a.1), a.0).cmp(&(Reverse(b.1), b.0)));
    let shown = if ranked.len() > most { most.saturating_sub(1) } else { ranked.len() };
    let place_of: HashMap<&Common, usize> =
        ranked.iter().enumerate().map(|(place, (common, _))| (*common, place.min(shown))).collect();

    let mut groups: Vec<Group> = ranked[..shown]
        .iter()
        .map(|(common, _)| Group { common: (*common).clone(), nodes: Vec::new() })
        .collect();
    let mut rest = Vec::new();
    for (node, common) in &commons {
        groups.get_mut(place_of[common]).map_or(&mut rest, |group| &mut group.nodes).push(*node);
    }
    let mut links: BTreeMap<(usize, usize), Vec<EdgeId>> = BTreeMap::new();
    for step in &answer.walk.steps {
        let edge = &answer.graph.edges[step.edge];
        let ends = (place_of[&commons[&edge.active]], place_of[&commons[&edge.passive]]);
        links.entry(ends).or_default().push(step.edge);
    }
    let folded = ranked.len() - shown;
    Groups { groups, others: (folded > 0).then_some((rest, folded)), links }
}

/// Leaves of an answer what belongs to a group: walks again, from its nodes.
/// False if there is no such group.
pub fn narrow(answer: &mut Answer, by: By, means: impl Fn(&Graph, &Common) -> bool) -> bool {
    let commons = commons(answer, by);
    let in_group = |(_, common): &(&NodeId, &Common)| means(&answer.graph, common);
    let roots: Vec<NodeId> = commons.iter().filter(in_group).map(|(node, _)| *node).collect();
    answer.walk = answer.graph.walk(&roots, answer.question.reach);
    answer.cut.edges = answer.walk.edges_cut;
    !roots.is_empty()
}

/// What each node of the walk has in common with others.
fn commons(answer: &Answer, by: By) -> BTreeMap<NodeId, Common> {
    let graph = &answer.graph;
    let mut used: BTreeMap<NodeId, Option<IpAddr>> =
        answer.walk.roots.iter().map(|root| (*root, None)).collect();
    for step in &answer.walk.steps {
        let edge = &graph.edges[step.edge];
        for (node, address) in
            [(edge.active, edge.active_address), (edge.passive, edge.passive_address)]
        {
            let best = used.entry(node).or_default();
            let rank = |address: IpAddr| (only_inside(address), address);
            if best.is_none_or(|best| rank(address) < rank(best)) {
                *best = Some(address);
            }
        }
    }
    used.into_iter().map(|(node, address)| (node, common(graph, node, by, address))).collect()
}

fn common(graph: &Graph, node: NodeId, by: By, used: Option<IpAddr>) -> Common {
    let node = &graph.nodes[node];
    if by == By::Label
        && let Some(label) = &node.label
    {
        let word = label.group.as_ref().or(label.role.as_ref()).or(label.name.as_ref());
        return word.map_or(Common::Nothing, |word| Common::Label(word.to_string()));
    }
    let host = match &node.identity {
        Identity::Peer { address, .. } if by == By::Subnet && !only_inside(*address) => {
            return Common::Subnet(subnet(*address));
        }
        Identity::Peer { address, .. } => return Common::Peer(*address),
        Identity::Process { place, .. } | Identity::Unseen { place, .. } => place.host,
    };
    let process = node.identity.process();
    match by {
        By::Host => Common::Host(host),
        By::Unit => {
            process.and_then(|process| process.unit.clone()).map_or(Common::Nothing, Common::Unit)
        }
        By::Container => process
            .and_then(|process| process.container.clone())
            .map_or(Common::Host(host), Common::Container),
        By::Label => Common::Nothing,
        By::Process => {
            process.map_or(Common::Nothing, |process| Common::Process(process.name.clone()))
        }
        By::Subnet => {
            let bound = node.listens.iter().map(|listen| listen.address);
            used.into_iter()
                .chain(bound)
                .find(|address| !only_inside(*address))
                .map_or(Common::Host(host), |address| Common::Subnet(subnet(address)))
        }
    }
}

/// The network that an address is likely to share with its neighbours.
fn subnet(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(v4) => IpNet::from(Ipv4Net::new_assert(v4, 24).trunc()),
        IpAddr::V6(v6) => IpNet::from(Ipv6Net::new_assert(v6, 64).trunc()),
    }
}
