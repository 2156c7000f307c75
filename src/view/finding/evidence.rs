//! What an edge, a pattern and a doubt look like in findings that stand on
//! them.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::graph::search::Answer;
use crate::graph::{Edge, EdgeId, Traffic};
use crate::recall::HostKey;
use crate::study::doubt::Doubt;
use crate::study::period::{Pattern, Periodic, Seen};
use crate::view::dot::label;
use crate::view::json::{Count, count};
use crate::view::label::{age, end, host};
use crate::view::lines::State;

/// An edge as evidence, in a document.
#[derive(Serialize)]
pub(crate) struct Evidence {
    protocol: &'static str,
    port: u16,
    active_address: IpAddr,
    passive_address: IpAddr,
    direction: &'static str,
    told_by: &'static str,
    confidence: &'static str,
    state: &'static str,
    first_seen: Timestamp,
    last_seen: Timestamp,
    open: Count,
    #[serde(skip_serializing_if = "Option::is_none")]
    opened: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shared: Option<u32>,
}

pub(crate) fn evidence(answer: &Answer, edge: &Edge) -> Evidence {
    Evidence {
        protocol: edge.protocol.name(),
        port: edge.port,
        active_address: edge.active_address,
        passive_address: edge.passive_address,
        direction: if edge.directed { "known" } else { "unknown" },
        told_by: edge.told_by.name(),
        confidence: edge.confidence.words(),
        state: State::of(edge, answer).word(),
        first_seen: edge.first_seen,
        last_seen: edge.last_seen,
        open: Count(edge.traffic.open),
        opened: edge.traffic.opened.map(Count),
        shared: (edge.traffic.shared > 1).then_some(edge.traffic.shared),
    }
}

/// How many connections an edge stands for: those open, and those opened where
/// somebody counted; and how many edges these are the numbers of together.
pub(crate) fn connections(edge: &Edge) -> String {
    let Traffic { open, opened, shared, .. } = edge.traffic;
    let mut said = match opened {
        Some(opened) if open == 0 => format!("{opened} opened"),
        Some(opened) => format!("{open} open, {opened} opened"),
        None => format!("{open} open"),
    };
    if shared > 1 {
        said.push_str(&format!(", shared by {shared}"));
    }
    said
}

/// A pattern, in a document.
#[derive(Serialize)]
pub(crate) struct Comes {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    every_s: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missed: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    overdue: Option<bool>,
    words: String,
}

pub(crate) fn comes(pattern: &Pattern, now: Timestamp) -> Comes {
    let none = || Comes {
        kind: "",
        times: None,
        every_s: None,
        missed: None,
        since: None,
        last: None,
        next: None,
        overdue: None,
        words: pattern_words(pattern, now),
    };
    let seen = |kind, seen: &Seen| Comes {
        kind,
        since: Some(seen.since),
        last: Some(seen.last),
        times: Some(count(seen.times)),
        ..none()
    };
    match pattern {
        Pattern::Steady(found) => seen("steady", found),
        Pattern::Once(found) => seen("once", found),
        Pattern::Irregular(found) => seen("irregular", found),
        Pattern::Periodic(found) => Comes {
            kind: "periodic",
            times: Some(count(found.times)),
            every_s: Some(found.every.as_secs()),
            missed: Some(count(found.missed)),
            last: Some(found.last),
            next: Some(found.next),
            overdue: Some(found.overdue),
            ..none()
        },
    }
}

/// A pattern in words: `every day about 02:00 UTC, last 14h ago, next
/// 2026-01-31T02:00:00Z`.
pub(crate) fn pattern_words(pattern: &Pattern, now: Timestamp) -> String {
    match pattern {
        Pattern::Steady(Seen { since, times: 1, .. }) => {
            format!("without a pause for {}", age(now, *since))
        }
        Pattern::Steady(found) => format!("for {}, with short pauses", age(now, found.since)),
        Pattern::Once(Seen { since, last, .. }) if same_second(*since, *last) => {
            format!("once, {} ago", age(now, *last))
        }
        Pattern::Once(Seen { since, last, .. }) => {
            let time = length(last.duration_since(*since));
            format!("for {time} until {} ago", age(now, *last))
        }
        Pattern::Irregular(Seen { since, last, times }) => {
            let time = length(last.duration_since(*since));
            format!("{times} times in {time}, last {} ago", age(now, *last))
        }
        Pattern::Periodic(found) => {
            let due = if found.overdue { "was due" } else { "next" };
            let missed = match found.missed {
                0 => String::new(),
                missed => format!(", {missed} missed"),
            };
            format!(
                "{}, {} times{missed}, last {} ago, {due} {}",
                interval(found),
                found.times,
                age(now, found.last),
                minute(found.next)
            )
        }
    }
}

/// Whether less than a second lies between two moments, which is no length.
fn same_second(since: Timestamp, last: Timestamp) -> bool {
    last.duration_since(since) < SignedDuration::from_secs(1)
}

/// `every day about 02:00 UTC`, `every Sunday about 03:10 UTC`, `every 15 min`.
fn interval(found: &Periodic) -> String {
    let at = found.last;
    let minutes = found.every.as_mins();
    match (minutes, minutes % 60) {
        (10_080, _) => format!("every {} about {} UTC", at.strftime("%A"), at.strftime("%H:%M")),
        (1_440, _) => format!("every day about {} UTC", at.strftime("%H:%M")),
        (60, _) => format!("every hour about :{}", at.strftime("%M")),
        (_, 0) => format!("every {} h", minutes / 60),
        _ => format!("every {minutes} min"),
    }
}

fn minute(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// A doubt, in a document.
#[derive(Serialize)]
pub(crate) struct DoubtView {
    kind: &'static str,
    words: String,
}

pub(crate) fn doubt(answer: &Answer, doubt: &Doubt) -> DoubtView {
    DoubtView { kind: kind(doubt), words: doubt_words(answer, doubt) }
}

/// The word for it in a document.
pub(crate) fn kind(doubt: &Doubt) -> &'static str {
    match doubt {
        Doubt::Unknown => "unknown",
        Doubt::NoProbe(_) => "no_probe",
        Doubt::Young { .. } => "young",
        Doubt::Silent { .. } => "silent",
        Doubt::Gap { .. } => "gap",
        Doubt::Unseen { .. } | Doubt::WasUnseen { .. } => "unseen",
        Doubt::Polled(_) | Doubt::WasPolled { .. } => "polled",
        Doubt::Datagrams { .. } => "datagrams",
        Doubt::Rivals(_) => "rivals",
        Doubt::Skewed(_) => "skewed",
        Doubt::Ambiguous(_) => "ambiguous",
        Doubt::Undirected(_) => "undirected",
        Doubt::Cut => "cut",
    }
}

/// A doubt in words, with the remedy where there is one.
pub(crate) fn doubt_words(answer: &Answer, doubt: &Doubt) -> String {
    let name = |key: &HostKey| host(&answer.graph, *key);
    let ago = |then: &Timestamp| age(answer.now, *then);
    match doubt {
        Doubt::Unknown => "the CMDB knows nothing of it".to_owned(),
        Doubt::NoProbe(node) => format!("no probe looks at {}", label(answer, *node)),
        Doubt::Young { host, since } => {
            format!(
                "{} was watched for {} only, or 'shawk prune' forgot what was before",
                name(host),
                ago(since)
            )
        }
        Doubt::Silent { host, since } => {
            format!("{} has not spoken for {}", name(host), ago(since))
        }
        Doubt::Gap { host, since, until } => format!(
            "nobody watched {} for {}, until {} ago",
            name(host),
            length(until.duration_since(*since)),
            ago(until)
        ),
        Doubt::Unseen { host, what } => format!("not seen on {}: {what}", name(host)),
        Doubt::Polled(host) => format!(
            "{} is polled: connections shorter than its scans' interval are not seen (--mode streaming sees them)",
            name(host)
        ),
        Doubt::WasPolled { host, until } => format!(
            "{} was polled until {} ago: connections shorter than its scans' interval were not seen",
            name(host),
            ago(until)
        ),
        Doubt::WasUnseen { host, until } => {
            format!("not everything was seen on {} until {} ago", name(host), ago(until))
        }
        Doubt::Datagrams { node, listen } => format!(
            "{} at udp {}: who sends to it is seen by streaming only",
            label(answer, *node),
            end(listen.address, Some(listen.port))
        ),
        Doubt::Rivals(host) => format!("more than one probe reports as {}", name(host)),
        Doubt::Skewed(host) => format!("the clock of {} is wrong", name(host)),
        Doubt::Ambiguous(edge) => format!("{}: several hosts have the address", way(answer, *edge)),
        Doubt::Undirected(edge) => format!("{}: nothing tells who opened it", way(answer, *edge)),
        Doubt::Cut => "limits left something out; see below".to_owned(),
    }
}

/// The two ends of an edge.
fn way(answer: &Answer, edge: EdgeId) -> String {
    let edge = &answer.graph.edges[edge];
    let between = if edge.directed { "to" } else { "and" };
    format!(
        "{} {between} {} {}/{}",
        label(answer, edge.active),
        label(answer, edge.passive),
        edge.protocol.name(),
        edge.port
    )
}

/// A length of time, as an age is written.
pub(crate) fn length(length: SignedDuration) -> String {
    let then = Timestamp::UNIX_EPOCH;
    age(then.checked_add(length).unwrap_or(Timestamp::MAX), then)
}

/// Most reasons of a kind that are listed for people.
const LISTED: usize = 8;

/// Lines, the first of them; the rest is counted.
pub(crate) fn listed(lines: impl ExactSizeIterator<Item = String>) -> Vec<String> {
    let count = lines.len();
    let mut listed: Vec<String> = lines.take(LISTED).map(|line| format!("  - {line}")).collect();
    if count > LISTED {
        listed.push(format!("  - and {} more", count - LISTED));
    }
    listed
}
