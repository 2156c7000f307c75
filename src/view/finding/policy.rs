//! `shawk policy`: rules in the language of who keeps them, the evidence in
//! comments.
//!
//! Every name in a comment is another's: what would end a line is made visible
//! and what is long is cut, so that no comment ends but where this ends it.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;

use crate::flow::socket::Protocol;
use crate::graph::search::Answer;
use crate::graph::{EdgeId, NodeId};
use crate::study::audit::Audit;
use crate::study::doubt::{Watch, doubts, is_peer, watched_since};
use crate::study::policy::{Hook, Packet, Plan, Policy, Rule, Subject, Syntax};
use crate::study::{About, Outcome};
use crate::view::dot::label;
use crate::view::escape::terminal;
use crate::view::finding::evidence::{Evidence, connections, doubt_words, evidence};
use crate::view::finding::{BESIDE, Who, document, who};
use crate::view::json::{Count, count};
use crate::view::label::{end, place, told};

mod iptables;
mod kubernetes;
mod nftables;

/// Most characters of a comment.
const WIDTH: usize = 300;

/// Most lines of evidence of one rule, and most of a list in a heading.
const LISTED: usize = 12;

#[derive(Serialize)]
struct Item<'a> {
    hook: &'static str,
    protocol: &'static str,
    port: u16,
    peers: Vec<String>,
    evidence: Vec<EdgeView<'a>>,
    evidence_total: Count,
}

#[derive(Serialize)]
struct EdgeView<'a> {
    active: Who<'a>,
    passive: Who<'a>,
    #[serde(flatten)]
    evidence: Evidence,
}

#[derive(Serialize)]
struct More<'a> {
    format: &'static str,
    subject: &'static str,
    whole: bool,
    text: String,
    unused: Vec<Waiting<'a>>,
    unused_total: Count,
    failed: Vec<EdgeView<'a>>,
    failed_total: Count,
    unclear: Vec<UnclearView<'a>>,
    unclear_total: Count,
    inside: Count,
    elsewhere: Count,
    #[serde(skip_serializing_if = "Option::is_none")]
    audit: Option<AuditView<'a>>,
}

#[derive(Serialize)]
struct Waiting<'a> {
    who: Who<'a>,
    protocol: &'static str,
    address: IpAddr,
    port: u16,
}

#[derive(Serialize)]
struct UnclearView<'a> {
    protocol: &'static str,
    port: u16,
    evidence: EdgeView<'a>,
}

#[derive(Serialize)]
struct AuditView<'a> {
    judged: Count,
    unused_rules: &'a [String],
    blocked: Vec<Met<'a>>,
    unclear: Vec<Met<'a>>,
}

/// A connection and the rule that it would meet.
#[derive(Serialize)]
struct Met<'a> {
    hook: &'static str,
    protocol: &'static str,
    source: IpAddr,
    destination: IpAddr,
    port: u16,
    rule: &'a str,
    evidence: EdgeView<'a>,
}

/// The plan of a policy's inquiry.
fn plan(outcome: &Outcome) -> Option<&Plan> {
    match &outcome.inquiry.about {
        About::Policy(plan) => Some(plan),
        _ => None,
    }
}

pub(crate) fn json(outcome: &Outcome, found: &Policy) -> io::Result<String> {
    let answer = outcome.answer();
    let page = outcome.part().of(&found.rules);
    let edge = |id: &EdgeId| edge_view(answer, *id);
    let item = |rule: &Rule| Item {
        hook: hook(rule.hook),
        protocol: rule.protocol.name(),
        port: rule.port,
        peers: rule.peers.iter().map(ToString::to_string).collect(),
        evidence: rule.edges.iter().take(BESIDE).map(edge).collect(),
        evidence_total: count(rule.edges.len()),
    };
    let items: Vec<Item> = page.iter().map(item).collect();
    let unused = found.unused.iter().map(|(node, listen)| Waiting {
        who: who(answer, *node),
        protocol: listen.protocol.name(),
        address: listen.address,
        port: listen.port,
    });
    let more = More {
        format: plan(outcome).map_or("", |plan| plan.syntax.name()),
        subject: match found.subject {
            Subject::Place(_) => "place",
            Subject::Nobody => "nobody",
            Subject::Several(_) => "several",
        },
        whole: found.whole,
        text: rules(outcome, found),
        unused: unused.take(BESIDE).collect(),
        unused_total: count(found.unused.len()),
        failed: found.failed.iter().take(BESIDE).map(edge).collect(),
        failed_total: count(found.failed.len()),
        unclear: found
            .unclear
            .iter()
            .take(BESIDE)
            .map(|one| UnclearView {
                protocol: one.protocol.name(),
                port: one.port,
                evidence: edge_view(answer, one.edge),
            })
            .collect(),
        unclear_total: count(found.unclear.len()),
        inside: count(found.inside),
        elsewhere: count(found.elsewhere),
        audit: found.audit.as_ref().map(|audit| AuditView {
            judged: count(audit.judged),
            unused_rules: &audit.unused,
            blocked: met(answer, &audit.blocked),
            unclear: met(answer, &audit.unclear),
        }),
    };
    document(outcome, "shawk.policy/1", items, more)
}

fn edge_view(answer: &Answer, id: EdgeId) -> EdgeView<'_> {
    let edge = &answer.graph.edges[id];
    EdgeView {
        active: who(answer, edge.active),
        passive: who(answer, edge.passive),
        evidence: evidence(answer, edge),
    }
}

fn met<'a>(answer: &'a Answer, list: &'a [(Packet, EdgeId, String)]) -> Vec<Met<'a>> {
    let met = |(packet, edge, rule): &'a (Packet, EdgeId, String)| Met {
        hook: hook(packet.hook),
        protocol: packet.protocol.name(),
        source: packet.source,
        destination: packet.destination,
        port: packet.port,
        rule,
        evidence: edge_view(answer, *edge),
    };
    list.iter().map(met).collect()
}

fn hook(hook: Hook) -> &'static str {
    match hook {
        Hook::Input => "input",
        Hook::Output => "output",
    }
}

/// For people and their tools: the rules, or what an audit found.
pub(crate) fn text(outcome: &Outcome, found: &Policy) -> String {
    match &found.audit {
        Some(audit) => audited(outcome.answer(), audit),
        None => rules(outcome, found),
    }
}

fn rules(outcome: &Outcome, found: &Policy) -> String {
    let Some(plan) = plan(outcome) else { return String::new() };
    let answer = outcome.answer();
    let text = Text { answer, plan, policy: found };
    match &found.subject {
        Subject::Place(_) => match plan.syntax {
            Syntax::Nftables => nftables::rules(&text),
            Syntax::Iptables | Syntax::Ip6tables => iptables::rules(&text),
            Syntax::Kubernetes => kubernetes::rules(&text),
        },
        Subject::Nobody => comment("", "no rules: no probe looks at what was asked about"),
        Subject::Several(hosts) => comment(
            "",
            &format!(
                "no rules: {hosts} hosts are meant, and each has rules of its own; use --host"
            ),
        ),
    }
}

/// What the languages have in common.
struct Text<'a> {
    answer: &'a Answer,
    plan: &'a Plan,
    policy: &'a Policy,
}

/// A line that says something and does nothing.
fn comment(indent: &str, text: &str) -> String {
    let mut visible: String = terminal(text).chars().take(WIDTH).collect();
    // In none of the languages does a comment go on after its line, and this
    // one would not even if it did.
    if visible.ends_with('\\') {
        visible.push('.');
    }
    format!("{indent}# {visible}\n")
}

impl Text<'_> {
    /// Whether a hook is asked about.
    fn has(&self, hook: Hook) -> bool {
        if hook == Hook::Input { self.plan.inward } else { self.plan.outward }
    }

    fn of(&self, hook: Hook) -> impl Iterator<Item = &Rule> {
        self.policy.rules.iter().filter(move |rule| rule.hook == hook)
    }

    /// What stands above all rules: what they are, what they stand on, and
    /// what they cannot know.
    fn heading(&self, how: &[&str]) -> String {
        let answer = self.answer;
        let Subject::Place(at) = &self.policy.subject else { return String::new() };
        let subject = place(&answer.graph, at);
        let mut lines = vec![
            format!("shawk policy of {subject}, from what was seen"),
            "What was not seen is not in it, and may be needed all the same: a job once a year, a backup that was never restored.".to_owned(),
        ];
        let record = answer.graph.hosts.get(&at.host);
        if let Some(record) = record {
            let since = watched_since(record).map_or("never for long".to_owned(), moment);
            lines
                .push(format!("watched since {since}, last heard of {}", moment(record.last_seen)));
        }
        let since = record.and_then(watched_since).unwrap_or(answer.now);
        let unseen = doubts(answer, Watch { since, polled: false }, &[]);
        lines.extend(first(
            unseen.iter().map(|doubt| format!("may have missed: {}", doubt_words(answer, doubt))),
        ));
        if !self.policy.whole {
            lines.push(self.beside());
        }
        if self.policy.elsewhere > 0 {
            lines.push(format!(
                "{} connections of the host's other network namespaces are not in it",
                self.policy.elsewhere
            ));
        }
        lines.extend(first(self.policy.unused.iter().map(|(node, listen)| {
            format!(
                "no rule for {} {} of {}: no other host was seen to call it",
                listen.protocol.name(),
                end(listen.address, Some(listen.port)),
                label(answer, *node)
            )
        })));
        lines.extend(first(
            self.policy
                .failed
                .iter()
                .map(|edge| format!("no rule for what only ever failed: {}", self.seen(*edge))),
        ));
        lines.extend(first(self.policy.unclear.iter().map(|one| {
            format!(
                "unclear, no rule for {} {}, where nothing was seen to wait: {}",
                one.protocol.name(),
                one.port,
                self.seen(one.edge)
            )
        })));
        lines.extend(how.iter().map(|line| (*line).to_owned()));
        lines.iter().map(|line| comment("", line)).collect()
    }

    /// What becomes of what was not asked about, where it is not the whole host.
    fn beside(&self) -> String {
        let ways = match (self.plan.inward, self.plan.outward) {
            (true, true) => "comes in and goes out",
            (true, false) => "comes in",
            (false, _) => "goes out",
        };
        match self.plan.syntax {
            // It refuses all else in its direction, whatever it is made of.
            Syntax::Kubernetes => format!(
                "Of these pods it is about all that {ways}: what the other processes in them need has no rule, and is refused, too."
            ),
            _ => "It is about the ports below only; other ports are left as they are.".to_owned(),
        }
    }

    /// Comments that say what a rule stands on.
    fn evidence(&self, indent: &str, rule: &Rule) -> String {
        let lines = first(rule.edges.iter().map(|edge| self.seen(*edge)));
        lines.iter().map(|line| comment(indent, line)).collect()
    }

    fn seen(&self, id: EdgeId) -> String {
        let edge = &self.answer.graph.edges[id];
        let unknown = if edge.directed { "" } else { ", direction unknown" };
        // An address without a probe is its own name.
        let end = |node: NodeId, address: IpAddr| match is_peer(self.answer, node) {
            true => label(self.answer, node),
            false => format!("{address} {}", label(self.answer, node)),
        };
        format!(
            "{} -> {}: {} to {}, {}, {}{unknown}",
            end(edge.active, edge.active_address),
            end(edge.passive, edge.passive_address),
            moment(edge.first_seen),
            moment(edge.last_seen),
            connections(edge),
            told(edge)
        )
    }

    /// The peers of a rule of one family, as this language writes them.
    fn peers(&self, rule: &Rule, v4: bool) -> Vec<String> {
        let family = rule.peers.iter().filter(|peer| peer.addr().is_ipv4() == v4);
        let text = |peer: &IpNet| match peer.prefix_len() == peer.max_prefix_len() {
            true => peer.addr().to_string(),
            false => peer.to_string(),
        };
        family.map(text).collect()
    }

    /// The ports that are refused where it is not the whole host.
    fn ports(&self, hook: Hook) -> BTreeMap<Protocol, Vec<String>> {
        let ports = self.policy.ports(hook).into_iter();
        let text = |ports: std::collections::BTreeSet<u16>| {
            ports.iter().map(ToString::to_string).collect()
        };
        ports.map(|(protocol, list)| (protocol, text(list))).collect()
    }
}

/// The first of some lines, and how many more there are.
fn first(lines: impl ExactSizeIterator<Item = String>) -> Vec<String> {
    let count = lines.len();
    let mut first: Vec<String> = lines.take(LISTED).collect();
    if count > LISTED {
        first.push(format!("and {} more", count - LISTED));
    }
    first
}

fn moment(at: Timestamp) -> String {
    format!("{at:.0}")
}

/// What a ruleset would have done.
fn audited(answer: &Answer, audit: &Audit) -> String {
    let met = |(packet, edge, rule): &(Packet, EdgeId, String)| {
        let seen = &answer.graph.edges[*edge];
        format!(
            "{} {} {} -> {} by {}: {} -> {}, last seen {}",
            hook(packet.hook),
            packet.protocol.name(),
            packet.source,
            end(packet.destination, Some(packet.port)),
            terminal(rule),
            label(answer, seen.active),
            label(answer, seen.passive),
            moment(seen.last_seen)
        )
    };
    let parts: [(&str, Vec<String>); 3] = [
        ("would have been refused", audit.blocked.iter().map(met).collect()),
        ("depends on what is not understood here", audit.unclear.iter().map(met).collect()),
        (
            "was needed by nothing that was seen",
            audit.unused.iter().map(|rule| terminal(rule)).collect(),
        ),
    ];
    let mut out = String::new();
    for (what, lines) in &parts {
        for line in lines {
            out.push_str(&format!("{what}: {line}\n"));
        }
    }
    out.push_str(&format!(
        "{} of {} would have been refused, {} are unclear, {} rules were never needed\n",
        audit.blocked.len(),
        audit.judged,
        audit.unclear.len(),
        audit.unused.len()
    ));
    out
}
