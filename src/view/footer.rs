//! What an answer cannot show in its edges: how old it is, what no probe saw,
//! what a limit left out. "Could not see" is never left to look like absence.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::graph::page::Part;
use crate::graph::search::{Answer, Otherwise};
use crate::graph::{Identity, Listen, NodeId};
use crate::labels::Labels;
use crate::recall::{HostRecord, Selector, Window};
use crate::study::listeners::listed;
use crate::view::escape::{quoted, word};
use crate::view::label::{age, end, host, name};
use crate::view::lines::{is_silent, nodes};

/// Hosts, or services, that are listed one by one. The rest are counted.
const LISTED: usize = 5;

/// Numbers about an answer as a whole.
pub(crate) struct Summary<'a> {
    /// The hosts of its nodes, by name.
    pub(crate) hosts: Vec<&'a HostRecord>,
    /// Addresses of its nodes that belong to nobody who reports.
    pub(crate) unprobed_peers: usize,
    /// Listeners of its roots that nobody was seen to call.
    pub(crate) unused: Vec<(NodeId, Listen)>,
}

impl<'a> Summary<'a> {
    pub(crate) fn of(answer: &'a Answer) -> Self {
        let graph = &answer.graph;
        let nodes = nodes(answer);
        let unprobed: BTreeSet<IpAddr> = nodes
            .iter()
            .filter(|node| graph.nodes[**node].claimed_by.is_empty())
            .filter_map(|node| match graph.nodes[*node].identity {
                Identity::Peer { address, .. } => Some(address),
                Identity::Process { .. } | Identity::Unseen { .. } => None,
            })
            .collect();
        let hosts = hosts_of(answer, &nodes);
        Summary { hosts, unprobed_peers: unprobed.len(), unused: unused(answer) }
    }

    /// What stands below the answer.
    pub(crate) fn lines(&self, answer: &Answer) -> Vec<String> {
        let mut lines: Vec<String> = ages(answer, &self.hosts).into_iter().collect();
        match self.unprobed_peers {
            0 => {}
            1 => lines.push("1 peer has no probe".to_owned()),
            n => lines.push(format!("{n} peers have no probe")),
        }
        lines.extend(unused_line(answer, &self.unused));
        lines.extend(unseen(answer, &self.hosts));
        lines
    }
}

/// The hosts of an answer's nodes, by name.
pub(crate) fn hosts(answer: &Answer) -> Vec<&HostRecord> {
    hosts_of(answer, &nodes(answer))
}

fn hosts_of<'a>(answer: &'a Answer, nodes: &BTreeSet<NodeId>) -> Vec<&'a HostRecord> {
    let graph = &answer.graph;
    let of = |node: &NodeId| Some(graph.nodes[*node].identity.place()?.host);
    let keys: BTreeSet<_> = nodes.iter().filter_map(of).collect();
    let mut hosts: Vec<&HostRecord> = keys.iter().filter_map(|key| graph.hosts.get(key)).collect();
    hosts.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    hosts
}

/// Of the listeners that were asked about, as `shawk listeners` lists them, those
/// without an edge.
fn unused(answer: &Answer) -> Vec<(NodeId, Listen)> {
    let roots: BTreeSet<NodeId> = answer.walk.roots.iter().copied().collect();
    let mut used = BTreeSet::new();
    for edge in answer.graph.edges.iter().filter(|edge| roots.contains(&edge.passive)) {
        let listens = Listen::accepting(edge.protocol, edge.passive_address, edge.port);
        used.extend(listens.map(|listen| (edge.passive, listen)));
    }
    listed(answer).filter(|one| !used.contains(one)).collect()
}

/// The lines below a tree or a table.
pub(crate) fn footer(answer: &Answer) -> Vec<String> {
    Summary::of(answer).lines(answer)
}

/// The lines below a finding: how old it is and what it cannot know.
pub(crate) fn grounds(answer: &Answer) -> Vec<String> {
    let hosts = hosts(answer);
    ages(answer, &hosts).into_iter().chain(unseen(answer, &hosts)).collect()
}

/// What was not seen, what is odd, and what limits left out.
fn unseen(answer: &Answer, hosts: &[&HostRecord]) -> Vec<String> {
    let mut lines = unseen_lines(hosts);
    let odd: Vec<String> = hosts.iter().flat_map(|host| odd(host)).collect();
    lines.extend(odd.iter().take(LISTED).cloned());
    if odd.len() > LISTED {
        lines.push(format!("and {} more oddities of hosts and clocks", odd.len() - LISTED));
    }
    lines.extend(limits(answer));
    lines
}

/// What the hosts' last scans could not see, a line for all that say the same.
fn unseen_lines(hosts: &[&HostRecord]) -> Vec<String> {
    let mut hosts_of: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for host in hosts {
        if let Some(unseen) = host.coverage.unseen() {
            hosts_of.entry(unseen).or_default().push(word(&host.name));
        }
    }
    let mut said: Vec<(String, Vec<String>)> = hosts_of.into_iter().collect();
    said.sort_by(|a, b| a.1.cmp(&b.1));
    let mut lines: Vec<String> = said
        .iter()
        .take(LISTED)
        .map(|(unseen, names)| {
            let more = names.len().saturating_sub(LISTED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("not seen on {}{more}: {unseen}", names[..names.len().min(LISTED)].join(", "))
        })
        .collect();
    if said.len() > LISTED {
        let rest = said[LISTED..].iter().map(|(_, names)| names.len()).sum::<usize>();
        lines.push(format!("not everything was seen on {rest} more hosts"));
    }
    lines
}

/// What is odd about who reports as this host.
fn odd(host: &HostRecord) -> Vec<String> {
    let name = word(&host.name);
    let mut lines = Vec::new();
    if host.is_skewed() {
        let by = host.skew.unsigned_abs().as_secs();
        let way = if host.skew.is_negative() { "behind" } else { "ahead of" };
        lines.push(format!("the clock of {name} is {by} s {way} the CMDB's"));
    }
    if !host.rivals.is_empty() {
        let rivals: Vec<_> = host.rivals.iter().take(LISTED).map(|name| word(name)).collect();
        lines.push(format!(
            "more than one probe reports as {name} at the same time (also named {}): a cloned machine id?",
            rivals.join(", ")
        ));
    }
    lines
}

/// Which part of a list this is, where it is not all of it.
pub(crate) fn pages(what: &str, part: &Part) -> Vec<String> {
    let Part { offset, count, total, next, moved } = *part;
    let mut lines = Vec::new();
    if moved {
        lines.push(format!(
            "the list has changed since the page before: {what} may be missing, or there twice"
        ));
    }
    if !part.is_whole() {
        let next = next.map_or(String::new(), |next| format!("; --after {next} for more"));
        lines.push(match count {
            0 => format!("there are {total} {what}, and none after that"),
            _ => format!("{what} {} to {} of {total}{next}", offset + 1, offset + count),
        });
    }
    lines
}

/// What limits left out, and what could not be understood.
pub(crate) fn limits(answer: &Answer) -> Vec<String> {
    let cut = &answer.cut;
    [
        (cut.hosts, "hosts within reach were not looked at: too many"),
        (cut.addresses, "addresses without a probe were not looked at: too many"),
        (cut.edges, "edges within reach are not shown: too many"),
        (
            usize::try_from(answer.graph.malformed).unwrap_or(usize::MAX),
            "records were not understood",
        ),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("cut: {count} {what}"))
    .chain(cut.rises.then(|| {
        "cut: what was counted in the time asked about is too much; ask for less of it".to_owned()
    }))
    .chain(answer.part.iter().flat_map(|part| pages("edges", part)))
    .collect()
}

fn ages(answer: &Answer, hosts: &[&HostRecord]) -> Option<String> {
    let said = |host: &HostRecord| {
        let silent = if is_silent(answer, host.last_seen) { " (silent)" } else { "" };
        format!("{} {} old{silent}", word(&host.name), age(answer.now, host.last_seen))
    };
    let youngest = hosts.iter().max_by_key(|host| host.last_seen)?;
    let oldest = hosts.iter().min_by_key(|host| host.last_seen)?;
    let words: Vec<String> = if hosts.len() <= LISTED {
        hosts.iter().map(|host| said(host)).collect()
    } else {
        let silent = hosts.iter().filter(|host| is_silent(answer, host.last_seen)).count();
        let silent = (silent > 0).then(|| format!("{silent} silent"));
        let ends = [format!("youngest {}", said(youngest)), format!("oldest {}", said(oldest))];
        ends.into_iter().chain(silent).collect()
    };
    let count =
        if hosts.len() == 1 { "1 host".to_owned() } else { format!("{} hosts", hosts.len()) };
    Some(format!("data of {count}: {}", words.join(", ")))
}

/// Listeners without an edge are counted; where there is nothing else to show,
/// they are named.
fn unused_line(answer: &Answer, unused: &[(NodeId, Listen)]) -> Option<String> {
    let count = match unused.len() {
        0 => return None,
        1 => "1 listener that nobody called".to_owned(),
        n => format!("{n} listeners that nobody called"),
    };
    if !answer.walk.steps.is_empty() {
        return Some(count);
    }
    let asked = answer.selector.address();
    let mut names: Vec<String> = unused
        .iter()
        .take(LISTED)
        .map(|(node, listen)| {
            let asked = asked.filter(|asked| listen.accepts(*asked, listen.port));
            let at = end(asked.unwrap_or(listen.address), Some(listen.port));
            format!("{} {at} {}", listen.protocol.name(), name(&answer.graph.nodes[*node]))
        })
        .collect();
    if unused.len() > LISTED {
        names.push(format!("and {} more", unused.len() - LISTED));
    }
    Some(format!("{count}: {}", names.join(", ")))
}

/// What to say where no edge was found.
pub(crate) fn nothing(answer: &Answer) -> Vec<String> {
    let asked = answer.question.selectors.iter().map(selector).collect::<Vec<_>>().join(" or ");
    let when = window(&answer.question.window);
    let labels = &answer.question.labels;
    let Some(otherwise) = &answer.otherwise else {
        if let [Selector::Label(word)] = &answer.question.selectors[..] {
            return vec![unlabelled(word, labels, when)];
        }
        let remedy = match answer.question.selectors[..] {
            [Selector::All] => "",
            _ => "; 'shawk listeners' names what is known",
        };
        return vec![format!("nothing is known of {asked}: no probe ever reported it{remedy}")];
    };
    known(answer, otherwise, &selector(&otherwise.selector), when)
}

/// What to say of a label that nothing has.
fn unlabelled(label: &str, labels: &Labels, when: &str) -> String {
    let said = quoted(label);
    if labels.gives(label) {
        return format!("label {said} is given, but nothing that was seen{when} has it");
    }
    if labels.is_empty() {
        return format!("no label says {said}: there are none; name a file of them with --labels");
    }
    let all = labels.called("");
    let mut words: Vec<String> = all.iter().take(LISTED).map(|(text, _)| word(text)).collect();
    if all.len() > LISTED {
        words.push(format!("{} more", all.len() - LISTED));
    }
    format!("no label says {said}; there are: {}", words.join(", "))
}

fn known(answer: &Answer, otherwise: &Otherwise, asked: &str, when: &str) -> Vec<String> {
    let is_nowhere = answer.walk.roots.is_empty();
    let mut lines = vec![match otherwise.last_edge {
        Some(last) => format!(
            "nothing was seen to talk to or from {asked}{when}; it last was {} ago ({last})",
            age(answer.now, last)
        ),
        // Its host was found, and nothing there.
        None if matches!(otherwise.selector, Selector::Service(..)) && is_nowhere => {
            format!("nothing was ever seen at {asked}")
        }
        None => format!("{asked} is known, but nothing was ever seen to talk to or from it"),
    }];
    for known in otherwise.hosts.iter().take(LISTED) {
        let age = age(answer.now, known.last_seen);
        let name = word(&known.name);
        lines.push(format!("host {name} was last heard of {age} ago ({})", known.last_seen));
    }
    if otherwise.hosts.len() > LISTED {
        lines.push(format!("and {} more hosts", otherwise.hosts.len() - LISTED));
    }
    lines
}

fn window(window: &Window) -> &'static str {
    match window {
        Window { since: None, until: None } => "",
        Window { .. } => " in the time asked about",
    }
}

/// A selector as the user wrote it, with what it was taken for.
pub(crate) fn selector(meant: &Selector) -> String {
    match meant {
        Selector::Address(address) => format!("address {address}"),
        Selector::Network(network) => format!("network {network}"),
        Selector::Host(name) => format!("host {}", quoted(name)),
        Selector::Process(name) => format!("process {}", quoted(name)),
        Selector::Port(port) => format!("port {port}"),
        Selector::Service(spot, port) => format!("port {port} of {}", selector(&spot.whole())),
        Selector::All => "any host".to_owned(),
        Selector::Label(word) => format!("label {}", quoted(word)),
    }
}

/// The hosts that have an address which cannot be resolved.
pub(crate) fn claimants(answer: &Answer, node: NodeId) -> Option<String> {
    let claimed = &answer.graph.nodes[node].claimed_by;
    let names: Vec<String> =
        claimed.iter().take(LISTED).map(|key| host(&answer.graph, *key)).collect();
    let more = if claimed.len() > LISTED { ", …" } else { "" };
    (!claimed.is_empty()).then(|| format!("may be on {}{more}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::flow::host::Coverage;

    #[test]
    fn a_wrong_clock_and_a_clone_are_told_and_escaped() {
        let mut host = HostRecord {
            key: 1,
            id: "id".to_owned(),
            name: "web".to_owned(),
            rung: crate::flow::host::Rung::Netlink,
            coverage: Coverage::default(),
            first_seen: Timestamp::UNIX_EPOCH,
            last_seen: Timestamp::UNIX_EPOCH,
            rivals: BTreeSet::new(),
            skew: SignedDuration::from_secs(30),
            watched: Vec::new(),
            dim: crate::recall::Dim::default(),
        };
        assert!(odd(&host).is_empty());
        host.skew = SignedDuration::from_secs(-45);
        host.rivals.insert("we\x1bb".to_owned());
        let lines = odd(&host);
        assert_eq!(lines[0], "the clock of web is 45 s behind the CMDB's");
        assert!(lines[1].starts_with("more than one probe reports as web at the same time"));
        assert!(!lines[1].contains('\x1b'), "{lines:?}");
    }
}
