//! How ends, names and ages are written, in every output for people alike.

use std::net::IpAddr;

use jiff::Timestamp;

use crate::graph::{Confidence, Edge, Graph, Identity, Node, Place, Rise, ToldBy};
use crate::labels::Label;
use crate::recall::HostKey;
use crate::view::escape::{quoted, word};

/// `10.0.0.10:80`, `[fd00::1]:many`: a port that was not chosen is many.
pub(crate) fn end(address: IpAddr, port: Option<u16>) -> String {
    let port = port.map_or("many".to_owned(), |port| port.to_string());
    match address {
        IpAddr::V4(v4) => format!("{v4}:{port}"),
        IpAddr::V6(v6) => format!("[{v6}]:{port}"),
    }
}

/// `('nginx', pgid=4656)`, or why there is no name, and what people call it:
/// `{ledger, database, payments}`.
pub(crate) fn name(node: &Node) -> String {
    format!("{}{}", own_name(node), known_as(node))
}

/// ` {ledger, database, payments}`: what people call it; nothing if nothing.
pub(crate) fn known_as(node: &Node) -> String {
    let Some(Label { name, role, group }) = &node.label else { return String::new() };
    let words: Vec<String> =
        [name, role, group].into_iter().flatten().map(|text| word(text)).collect();
    format!(" {{{}}}", words.join(", "))
}

fn own_name(node: &Node) -> String {
    match &node.identity {
        Identity::Process { process, pgid: Some(pgid), .. } => {
            format!("({}, pgid={pgid})", quoted(&process.name))
        }
        Identity::Process { process, pgid: None, .. } => format!("({})", quoted(&process.name)),
        Identity::Unseen { .. } => "(process not seen)".to_owned(),
        Identity::Peer { .. } if !node.claimed_by.is_empty() => "(address of several)".to_owned(),
        Identity::Peer { .. } => "(no probe)".to_owned(),
    }
}

/// The name of a host, or its key where the CMDB has no more of it.
pub(crate) fn host(graph: &Graph, key: HostKey) -> String {
    match graph.hosts.get(&key) {
        Some(host) if !host.name.is_empty() => word(&host.name),
        Some(host) => word(&host.id),
        None => format!("host {key:x}"),
    }
}

/// The host, and the scope where it is not the host's own.
pub(crate) fn place(graph: &Graph, place: &Place) -> String {
    let host = host(graph, place.host);
    if place.scope.is_empty() { host } else { format!("{host} [{}]", scope(&place.scope)) }
}

/// A scope; of a container's 64 digits twelve are enough, as everywhere.
fn scope(scope: &str) -> String {
    match scope.split_once(':') {
        Some(("container", id)) if id.len() == 64 && id.is_ascii() => {
            word(&format!("container:{}", &id[..12]))
        }
        _ => word(scope),
    }
}

/// `12s`, `5m`, `3h`, `9d`: the age of a moment, in the largest unit that it
/// has two of. A moment to come, by another host's clock, is `0s`.
pub(crate) fn age(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// What an edge rose by in the window asked about: `12 opened, 3 failed,
/// 1.2 MB`; the bytes are those of both ways. What nobody counted is not said.
pub(crate) fn rise(rise: &Rise) -> Option<String> {
    let count = |count: Option<u64>, word| Some(format!("{} {word}", count?));
    let failed = rise.failed.filter(|failed| *failed > 0);
    let both = [rise.bytes_to_passive, rise.bytes_to_active].into_iter().flatten();
    let words: Vec<String> = [
        count(rise.opened, "opened"),
        count(failed, "failed"),
        both.reduce(u64::saturating_add).map(bytes),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// `999 B`, `1.2 MB`: powers of 1000, a digit after the point, cut off.
fn bytes(bytes: u64) -> String {
    let mut scale = 1;
    let mut unit = "B";
    for larger in ["kB", "MB", "GB", "TB", "PB", "EB"] {
        if bytes / scale < 1000 {
            break;
        }
        scale *= 1000;
        unit = larger;
    }
    match scale {
        1 => format!("{bytes} B"),
        _ => format!("{}.{} {unit}", bytes / scale, bytes % scale / (scale / 10)),
    }
}

/// Which ends told of an edge.
pub(crate) fn told(edge: &Edge) -> &'static str {
    match (edge.told_by, edge.confidence) {
        (ToldBy::Both, Confidence::Apart) => "both ends, at different times",
        (ToldBy::Both, _) => "both ends",
        (_, _) if !edge.directed => "one end only",
        (ToldBy::Active, _) => "active end only",
        (ToldBy::Passive, _) => "passive end only",
    }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn bytes_have_the_largest_unit_they_fill() {
        let cases = [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_299_999, "1.2 MB")];
        for (number, text) in cases {
            assert_eq!(bytes(number), text);
        }
        assert_eq!(bytes(u64::MAX), "18.4 EB");
    }
}
