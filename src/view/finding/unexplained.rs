//! `shawk unexplained`.

use std::io;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

use crate::study::Outcome;
use crate::study::unexplained::{Peer, Unexplained};
use crate::view::columns::{Column, Row, number, words};
use crate::view::dot::label;
use crate::view::finding::{Sheet, Who, document, named, who};
use crate::view::json::{self, Count, LabelView, count};
use crate::view::label::{age, host, known_as};

/// Most ports and services that a document names of one address.
const PORTS: usize = 20;

const COLUMNS: [Column; 7] = [
    words("NO PROBE AT"),
    number("EDGES"),
    number("HOSTS"),
    number("FIRST SEEN"),
    number("LAST SEEN"),
    words("IS CALLED AT"),
    words("CALLS"),
];

#[derive(Serialize)]
struct Item<'a> {
    address: IpAddr,
    public: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<LabelView<'a>>,
    edges: Count,
    hosts: Count,
    host_names: Vec<String>,
    offers: Vec<Offer>,
    uses: Vec<Use<'a>>,
    first_seen: Timestamp,
    last_seen: Timestamp,
}

#[derive(Serialize)]
struct Offer {
    protocol: &'static str,
    port: u16,
    edges: Count,
}

#[derive(Serialize)]
struct Use<'a> {
    who: Who<'a>,
    protocol: &'static str,
    port: u16,
    edges: Count,
}

#[derive(Serialize)]
struct More {
    ambiguous: Count,
}

pub(crate) fn json(outcome: &Outcome, found: &Unexplained) -> io::Result<String> {
    let page = outcome.part().of(&found.peers);
    let items: Vec<Item> = page.iter().map(|peer| item(outcome, peer)).collect();
    let more = More { ambiguous: count(found.ambiguous) };
    document(outcome, "shawk.unexplained/1", items, more)
}

fn item<'a>(outcome: &'a Outcome, peer: &Peer) -> Item<'a> {
    let answer = outcome.answer();
    let hosts = peer.hosts.iter().filter_map(|key| answer.graph.hosts.get(key));
    let offers = peer.offers.iter().take(PORTS);
    let uses = peer.uses.iter().take(PORTS);
    Item {
        address: peer.address,
        public: peer.public,
        label: json::label(&answer.graph.nodes[peer.node]),
        edges: count(peer.edges),
        hosts: count(peer.hosts.len()),
        host_names: hosts.take(PORTS).map(|host| host.name.clone()).collect(),
        offers: offers
            .map(|((protocol, port), edges)| Offer {
                protocol: protocol.name(),
                port: *port,
                edges: count(*edges),
            })
            .collect(),
        uses: uses
            .map(|((node, protocol, port), edges)| Use {
                who: who(answer, *node),
                protocol: protocol.name(),
                port: *port,
                edges: count(*edges),
            })
            .collect(),
        first_seen: peer.first_seen,
        last_seen: peer.last_seen,
    }
}

pub(crate) fn sheet(outcome: &Outcome, found: &Unexplained) -> Sheet {
    let page = outcome.part().of(&found.peers);
    let ambiguous = match found.ambiguous {
        0 => None,
        n => {
            Some(format!("{n} addresses belong to several hosts with a probe: no other would help"))
        }
    };
    Sheet {
        columns: &COLUMNS,
        rows: page.iter().map(|peer| row(outcome, peer)).collect(),
        none: "every peer has a probe",
        notes: ambiguous.into_iter().collect(),
    }
}

fn row(outcome: &Outcome, peer: &Peer) -> Row {
    let answer = outcome.answer();
    let public = if peer.public { " (public)" } else { "" };
    let hosts = match peer.hosts.first() {
        Some(only) if peer.hosts.len() == 1 => host(&answer.graph, *only),
        _ => peer.hosts.len().to_string(),
    };
    let port = |protocol: &str, port: u16| format!("{protocol} {port}");
    let offers = peer.offers.keys().map(|(protocol, number)| port(protocol.name(), *number));
    let uses = peer.uses.keys().map(|(node, protocol, number)| {
        format!("{} {}", label(answer, *node), port(protocol.name(), *number))
    });
    let cells = vec![
        format!("{}{public}{}", peer.address, known_as(&answer.graph.nodes[peer.node])),
        peer.edges.to_string(),
        hosts,
        age(answer.now, peer.first_seen),
        age(answer.now, peer.last_seen),
        named(offers).join(" "),
    ];
    Row { cells, pieces: named(uses), alarm: false }
}
