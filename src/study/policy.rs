//! What may come in and go out, by what was seen to: allow rules of one
//! network namespace of one host.
//!
//! A rule is made of addresses and ports, which are values; names are evidence
//! and are left to the view.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::flow::socket::Protocol;
use crate::graph::search::Answer;
use crate::graph::{Edge, EdgeId, Listen, NodeId, Place, ToldBy};
use crate::recall::{FlowRecord, Selector};
use crate::study::audit::{Audit, Ruleset};
use crate::study::failing::Answered;
use crate::study::impact::leads_to_root;
use crate::study::listeners::Waiting;

/// What is asked of a policy beside whom it is for.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What it is written as.
    pub syntax: Syntax,
    /// What comes in.
    pub inward: bool,
    /// What goes out.
    pub outward: bool,
    /// Peers are widened to networks of these prefixes, of IPv4 and of IPv6.
    pub prefixes: (u8, u8),
    /// What was not seen is refused, and not only counted.
    pub enforce: bool,
    /// A ruleset that is held against what was seen.
    pub audit: Option<Ruleset>,
}

/// What rules are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// nft(8).
    Nftables,
    /// iptables-restore(8).
    Iptables,
    /// ip6tables-restore(8).
    Ip6tables,
    /// A NetworkPolicy of Kubernetes.
    Kubernetes,
}

impl Syntax {
    /// All of them.
    pub const ALL: [Syntax; 4] =
        [Syntax::Nftables, Syntax::Iptables, Syntax::Ip6tables, Syntax::Kubernetes];

    /// The word for it on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Syntax::Nftables => "nftables",
            Syntax::Iptables => "iptables",
            Syntax::Ip6tables => "ip6tables",
            Syntax::Kubernetes => "k8s-networkpolicy",
        }
    }
}

/// Which way a connection is opened, seen from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// To it.
    Input,
    /// From it.
    Output,
}

/// The rules for one place.
#[derive(Debug)]
pub struct Policy {
    /// Whose.
    pub subject: Subject,
    /// By hook, protocol and port.
    pub rules: Vec<Rule>,
    /// It is about all that its host does, so that what has no rule may be
    /// refused. Otherwise it is about these ports only.
    pub whole: bool,
    /// Where something waits that nobody was seen to call.
    pub unused: Vec<(NodeId, Listen)>,
    /// Attempts that surely were never answered: no rule is made of them.
    pub failed: Vec<EdgeId>,
    /// What came to ports where nothing is known to wait for calls: no rule is
    /// made for these ports, as it may have been answers only.
    pub unclear: Vec<Unclear>,
    /// Connections inside of the place, which no rule is needed for.
    pub inside: usize,
    /// Edges of other network namespaces of the host, which have rules of
    /// their own.
    pub elsewhere: usize,
    /// What a ruleset would do to what was seen.
    pub audit: Option<Audit>,
}

/// Whom rules are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One place.
    Place(Place),
    /// No probe looks there.
    Nobody,
    /// Several hosts, which need rules each.
    Several(usize),
}

/// What is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which way.
    pub hook: Hook,
    /// Transport protocol.
    pub protocol: Protocol,
    /// The port that is called.
    pub port: u16,
    /// By whom, or who is.
    pub peers: BTreeSet<IpNet>,
    /// What was seen.
    pub edges: Vec<EdgeId>,
}

/// What came to a port of the place, and may have been answers to what the
/// place sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unclear {
    /// Transport protocol.
    pub protocol: Protocol,
    /// The port of the place.
    pub port: u16,
    /// What was seen.
    pub edge: EdgeId,
}

/// A connection that was seen, as its first packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Packet {
    /// Which way.
    pub hook: Hook,
    /// Transport protocol.
    pub protocol: Protocol,
    /// From whom.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// The port that is called.
    pub port: u16,
}

impl Packet {
    fn call(&self) -> Call {
        (self.hook, self.protocol, self.port)
    }
}

impl Unclear {
    fn call(&self) -> Call {
        (Hook::Input, self.protocol, self.port)
    }
}

impl Policy {
    /// From an answer that walked one step, up for what comes in and down for
    /// what goes out.
    pub fn of(answer: &Answer, plan: &Plan) -> Policy {
        let subject = subject(answer);
        let mut policy = Policy {
            subject,
            rules: Vec::new(),
            whole: matches!(answer.selector, Selector::Host(_)),
            unused: Vec::new(),
            failed: Vec::new(),
            unclear: Vec::new(),
            inside: 0,
            elsewhere: 0,
            audit: None,
        };
        let Subject::Place(place) = policy.subject.clone() else { return policy };
        let listening = Waiting::of(answer, waits);
        let seen = packets(answer, &place, &listening, &mut policy);
        if !plan.inward {
            policy.unclear.clear();
        }
        let answered: BTreeSet<Call> = policy.unclear.iter().map(Unclear::call).collect();
        let wanted = |hook| if hook == Hook::Input { plan.inward } else { plan.outward };
        let asked = || seen.iter().filter(|(packet, _)| wanted(packet.hook)).copied();
        let unused = |called: &BTreeSet<Call>| match plan.inward {
            true => unused(answer, &place, &called.union(&answered).copied().collect()),
            false => Vec::new(),
        };
        let mut calls: BTreeSet<Call> = asked().map(|(packet, _)| packet.call()).collect();
        let waiting = unused(&calls);
        let mut allowed: BTreeSet<(Packet, EdgeId)> = asked().collect();
        if !policy.whole {
            // What is refused at a port is refused to every process.
            let refused = waiting.iter().map(|(_, listen)| listen);
            let refused = refused.map(|listen| (Hook::Input, listen.protocol, listen.port));
            let ports = calls.iter().copied().chain(refused).collect();
            allowed.extend(of_others(answer, &place, &listening, &ports));
            calls.extend(allowed.iter().map(|(packet, _)| packet.call()));
        }
        let mut rules: BTreeMap<Call, Allowed> = BTreeMap::new();
        for (packet, edge) in allowed {
            let peer = if packet.hook == Hook::Input { packet.source } else { packet.destination };
            let rule = rules.entry(packet.call()).or_default();
            rule.0.insert(widened(peer, plan.prefixes));
            rule.1.push(edge);
        }
        let rule =
            |((hook, protocol, port), (peers, edges))| Rule { hook, protocol, port, peers, edges };
        policy.rules = rules.into_iter().map(rule).collect();
        policy.unused = unused(&calls);
        policy.audit = plan.audit.as_ref().map(|ruleset| {
            let seen = seen.into_iter().filter(|(packet, _)| wanted(packet.hook));
            Audit::of(ruleset, seen.collect())
        });
        policy
    }

    /// The exit code of its command.
    pub fn exit_code(&self) -> u8 {
        match (&self.subject, &self.audit) {
            (Subject::Place(_), Some(audit)) => audit.exit_code(),
            (Subject::Place(_), None) => 0,
            (Subject::Nobody, _) => 4,
            (Subject::Several(_), _) => 2,
        }
    }

    /// The ports that the rules of a hook are about, and those of what waits
    /// without a rule.
    pub fn ports(&self, hook: Hook) -> BTreeMap<Protocol, BTreeSet<u16>> {
        let mut ports: BTreeMap<Protocol, BTreeSet<u16>> = BTreeMap::new();
        for rule in self.rules.iter().filter(|rule| rule.hook == hook) {
            ports.entry(rule.protocol).or_default().insert(rule.port);
        }
        for (_, listen) in self.unused.iter().filter(|_| hook == Hook::Input) {
            ports.entry(listen.protocol).or_default().insert(listen.port);
        }
        ports
    }
}

/// Which way, over which protocol, at which port.
type Call = (Hook, Protocol, u16);

/// Peers of a rule, and what was seen of them.
type Allowed = (BTreeSet<IpNet>, Vec<EdgeId>);

/// The place that the roots are in: the host's own, if there are several.
fn subject(answer: &Answer) -> Subject {
    let nodes = answer.walk.roots.iter().map(|root| &answer.graph.nodes[*root]);
    let places: BTreeSet<&Place> = nodes.filter_map(|node| node.identity.place()).collect();
    let hosts: BTreeSet<_> = places.iter().map(|place| place.host).collect();
    match (hosts.len(), places.first()) {
        (1, Some(first)) => {
            let own = places.iter().find(|place| place.scope.is_empty());
            Subject::Place((*own.unwrap_or(first)).clone())
        }
        (0, _) | (_, None) => Subject::Nobody,
        (hosts, _) => Subject::Several(hosts),
    }
}

/// What was seen to come to the place's roots and to go from them.
fn packets(
    answer: &Answer,
    place: &Place,
    listening: &Waiting<'_>,
    policy: &mut Policy,
) -> Vec<(Packet, EdgeId)> {
    let roots: BTreeSet<NodeId> = answer.walk.roots.iter().copied().collect();
    let edges: BTreeSet<EdgeId> = answer.walk.steps.iter().map(|step| step.edge).collect();
    let mut packets = Vec::new();
    for id in edges {
        let edge = &answer.graph.edges[id];
        let here = |node: NodeId| answer.graph.nodes[node].identity.place() == Some(place);
        let is_root = |node: NodeId| roots.contains(&node);
        if here(edge.active) && here(edge.passive) {
            policy.inside += 1;
            continue;
        }
        let comes = is_root(edge.passive) && leads_to_root(answer, id);
        let goes = is_root(edge.active) && !by_port(&answer.selector);
        let (into, out) = (comes && here(edge.passive), goes && here(edge.active));
        if edge.failing && never_answered(answer, edge) {
            if into || out {
                policy.failed.push(id);
            }
            continue;
        }
        policy.elsewhere += usize::from((comes || goes) && !into && !out);
        let (clear, unclear): (Vec<_>, Vec<_>) = first_packets(answer, place, id, (comes, goes))
            .into_iter()
            .partition(|(packet, _)| is_clear(place, listening, packet, edge));
        policy.unclear.extend(unclear.into_iter().map(|(packet, edge)| Unclear {
            protocol: packet.protocol,
            port: packet.port,
            edge,
        }));
        packets.extend(clear);
    }
    packets.sort_unstable();
    policy.unclear.sort_unstable();
    packets
}

/// Whether it was seen to wait by two looks at least, or waits now: a UDP socket
/// that sends from a port of its choice is over by the next look.
fn waits(record: &FlowRecord) -> bool {
    record.spans.iter().any(|span| !span.ended || span.until > span.since)
}

/// Whether it is known to be a call. Where nothing tells who opened something,
/// nothing listened at the place, so that nobody could be called there; and a
/// UDP port where nothing was seen to wait is one that its process sends from,
/// unless the caller's own host tells of the call. What the place sends opens
/// the way for the answers.
fn is_clear(place: &Place, listening: &Waiting<'_>, packet: &Packet, edge: &Edge) -> bool {
    let waits = || listening.accepts(place, packet.protocol, (packet.destination, packet.port));
    match packet.hook {
        Hook::Output => true,
        Hook::Input if packet.protocol == Protocol::Udp => {
            edge.directed && (edge.told_by != ToldBy::Passive || waits())
        }
        Hook::Input => edge.directed,
    }
}

/// What was seen at the place at some ports, by whatever process.
fn of_others(
    answer: &Answer,
    place: &Place,
    listening: &Waiting<'_>,
    ports: &BTreeSet<Call>,
) -> Vec<(Packet, EdgeId)> {
    let mut packets = Vec::new();
    for (id, edge) in answer.graph.edges.iter().enumerate() {
        let here = |node: NodeId| answer.graph.nodes[node].identity.place() == Some(place);
        if here(edge.active) == here(edge.passive) {
            continue;
        }
        let mut found = first_packets(answer, place, id, (true, true));
        found.retain(|(packet, _)| {
            ports.contains(&packet.call()) && is_clear(place, listening, packet, edge)
        });
        if found.is_empty() || edge.failing && never_answered(answer, edge) {
            continue;
        }
        packets.extend(found);
    }
    packets
}

/// The first packets of an edge that comes to the place or goes from it, as far
/// as these matter.
fn first_packets(
    answer: &Answer,
    place: &Place,
    id: EdgeId,
    (comes, goes): (bool, bool),
) -> Vec<(Packet, EdgeId)> {
    let edge = &answer.graph.edges[id];
    let here = |node: NodeId| answer.graph.nodes[node].identity.place() == Some(place);
    let (into, out) = (comes && here(edge.passive), goes && here(edge.active));
    let packet = |hook| Packet {
        hook,
        protocol: edge.protocol,
        source: edge.active_address,
        destination: edge.passive_address,
        port: edge.port,
    };
    // Where nothing tells who opened it, both may have.
    let turned = |hook, port| Packet {
        source: edge.passive_address,
        destination: edge.active_address,
        port,
        ..packet(hook)
    };
    let other = edge.active_port;
    let all = [
        into.then(|| packet(Hook::Input)),
        out.then(|| packet(Hook::Output)),
        other.filter(|_| out).map(|port| turned(Hook::Input, port)),
        other.filter(|_| into).map(|port| turned(Hook::Output, port)),
    ];
    all.into_iter().flatten().map(|packet| (packet, id)).collect()
}

/// Whether nobody was ever answered, which says nothing of what should be. A
/// rule that is missing breaks what worked before an outage, so it must be
/// surely so: the active end counted for all the time, or the probe of the
/// other saw for all the time that nothing listens there.
fn never_answered(answer: &Answer, edge: &Edge) -> bool {
    let place = |node: NodeId| answer.graph.nodes[node].identity.place();
    // What was counted, or seen, before a probe's last start is not known.
    let all_along = |node| {
        let host = place(node).and_then(|place| answer.graph.hosts.get(&place.host));
        let run = host.and_then(|host| host.watched.last());
        run.is_some_and(|(since, _)| *since <= edge.first_seen)
    };
    let listened = || {
        answer.graph.listeners.iter().any(|listener| {
            place(listener.node) == place(edge.passive)
                && listener.listen.protocol == edge.protocol
                && listener.listen.accepts(edge.passive_address, edge.port)
        })
    };
    match Answered::of(std::iter::once(edge)) {
        Answered::Before => false,
        Answered::Never if all_along(edge.active) => true,
        Answered::Never | Answered::Unknown => {
            let since = answer.question.window.since;
            let whole = since.is_none_or(|since| since <= edge.first_seen);
            whole && all_along(edge.passive) && !listened()
        }
    }
}

/// A port that is asked about is one that is called; what its process calls
/// itself is another matter.
fn by_port(selector: &Selector) -> bool {
    selector.port().is_some()
}

fn widened(address: IpAddr, (v4, v6): (u8, u8)) -> IpNet {
    let prefix = if address.is_ipv4() { v4 } else { v6 };
    let whole = IpNet::from(address);
    IpNet::new(address, prefix).map_or(whole, |network| network.trunc())
}

/// What waits at the place for others than itself, and has no rule.
fn unused(answer: &Answer, place: &Place, called: &BTreeSet<Call>) -> Vec<(NodeId, Listen)> {
    let roots = answer.walk.roots.iter();
    let here = roots.filter(|root| answer.graph.nodes[**root].identity.place() == Some(place));
    let listens = here.flat_map(|root| {
        answer.graph.nodes[*root].listens.iter().map(move |listen| (*root, *listen))
    });
    let meant = |listen: &Listen| answer.selector.port().is_none_or(|port| listen.port == port);
    listens
        .filter(|(_, listen)| !listen.address.is_loopback() && meant(listen))
        .filter(|(_, listen)| !called.contains(&(Hook::Input, listen.protocol, listen.port)))
        .collect()
}
