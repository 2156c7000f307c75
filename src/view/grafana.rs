//! For the node graph panel of Grafana: nodes and edges with the names that
//! its data frames have, as the Infinity and the Node Graph API data sources
//! read them (grafana.com/docs, panels, node graph).

use std::io;

use serde::Serialize;

use crate::graph::search::Answer;
use crate::graph::{Edge, NodeId};
use crate::view::dot::{edge_label, label, numbers};
use crate::view::escape::visible;
use crate::view::footer::limits;
use crate::view::json::one_line;
use crate::view::label::{age, known_as, place};
use crate::view::lines::{State, edges, reason};

#[derive(Serialize)]
struct Document {
    nodes: Vec<NodeView>,
    edges: Vec<EdgeView>,
    /// Not Grafana's: what limits left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

#[derive(Serialize)]
struct NodeView {
    id: String,
    title: String,
    #[serde(rename = "subTitle")]
    sub_title: String,
    #[serde(rename = "mainStat")]
    main_stat: String,
    #[serde(rename = "secondaryStat")]
    secondary_stat: String,
    #[serde(rename = "arc__failing")]
    arc_failing: f64,
    #[serde(rename = "arc__alive")]
    arc_alive: f64,
    #[serde(rename = "arc__quiet")]
    arc_quiet: f64,
    #[serde(rename = "detail__probe")]
    detail_probe: bool,
    #[serde(rename = "detail__label")]
    detail_label: String,
}

#[derive(Serialize)]
struct EdgeView {
    id: String,
    source: String,
    target: String,
    #[serde(rename = "mainStat")]
    main_stat: String,
    #[serde(rename = "secondaryStat")]
    secondary_stat: String,
    #[serde(rename = "detail__told_by")]
    detail_told_by: &'static str,
    #[serde(rename = "detail__confidence")]
    detail_confidence: &'static str,
    #[serde(rename = "detail__first_seen")]
    detail_first_seen: String,
}

/// The fields of both, which the Node Graph API data source asks for first.
pub const FIELDS: &str = r#"{"nodes_fields":[{"field_name":"id","type":"string"},{"field_name":"title","type":"string"},{"field_name":"subTitle","type":"string"},{"field_name":"mainStat","type":"string"},{"field_name":"secondaryStat","type":"string"},{"field_name":"arc__failing","type":"number","color":"red","displayName":"Failing"},{"field_name":"arc__alive","type":"number","color":"green","displayName":"Alive"},{"field_name":"arc__quiet","type":"number","color":"gray","displayName":"Ended or silent"},{"field_name":"detail__probe","type":"boolean","displayName":"Has a probe"},{"field_name":"detail__label","type":"string","displayName":"Known as"}],"edges_fields":[{"field_name":"id","type":"string"},{"field_name":"source","type":"string"},{"field_name":"target","type":"string"},{"field_name":"mainStat","type":"string"},{"field_name":"secondaryStat","type":"string"},{"field_name":"detail__told_by","type":"string","displayName":"Told by"},{"field_name":"detail__confidence","type":"string","displayName":"Confidence"},{"field_name":"detail__first_seen","type":"string","displayName":"First seen"}]}
"#;

/// How many edges of a node are in which state, and go which way.
#[derive(Clone, Copy, Default)]
struct Count {
    failing: u32,
    alive: u32,
    quiet: u32,
    callers: u32,
    called: u32,
}

/// An answer as two frames.
pub(crate) fn grafana(answer: &Answer) -> io::Result<String> {
    let numbers = numbers(answer);
    let edges = edges(answer);
    let mut counts = vec![Count::default(); answer.graph.nodes.len()];
    for edge in &edges {
        counts[edge.active].called += 1;
        counts[edge.passive].callers += 1;
        for node in [edge.active, edge.passive] {
            match State::of(edge, answer) {
                State::Failing => counts[node].failing += 1,
                State::Alive => counts[node].alive += 1,
                State::Ended | State::Silent => counts[node].quiet += 1,
            }
        }
    }
    let document = Document {
        nodes: numbers.iter().map(|(id, number)| node(answer, *id, *number, counts[*id])).collect(),
        edges: (0..)
            .zip(edges)
            .map(|(at, edge)| {
                self::edge(answer, edge, at, (numbers[&edge.active], numbers[&edge.passive]))
            })
            .collect(),
        notes: limits(answer),
    };
    one_line(&document, 512 * document.edges.len())
}

fn node(answer: &Answer, id: NodeId, number: usize, count: Count) -> NodeView {
    let known = &answer.graph.nodes[id];
    let at = known.identity.place();
    let all = f64::from((count.failing + count.alive + count.quiet).max(1));
    let part = |part: u32| f64::from(part) / all;
    NodeView {
        id: format!("n{number}"),
        title: match known.identity.process() {
            Some(process) => visible(&process.name),
            None => label(answer, id),
        },
        sub_title: at.map_or(String::new(), |at| place(&answer.graph, at)),
        main_stat: format!("{} in", count.callers),
        secondary_stat: format!("{} out", count.called),
        arc_failing: part(count.failing),
        arc_alive: part(count.alive),
        arc_quiet: part(count.quiet),
        detail_probe: at.is_some(),
        detail_label: known_as(known).trim_start().to_owned(),
    }
}

fn edge(answer: &Answer, edge: &Edge, at: usize, (active, passive): (usize, usize)) -> EdgeView {
    let state = State::of(edge, answer);
    EdgeView {
        id: format!("e{at}"),
        source: format!("n{active}"),
        target: format!("n{passive}"),
        main_stat: edge_label(edge),
        secondary_stat: match state {
            State::Alive => format!("{} open", edge.traffic.open),
            State::Failing => format!("FAILING: {}", reason(&edge.traffic)),
            State::Ended | State::Silent => {
                format!("{} {} ago", state.name(), age(answer.now, edge.last_seen))
            }
        },
        detail_told_by: edge.told_by.name(),
        detail_confidence: edge.confidence.words(),
        detail_first_seen: edge.first_seen.to_string(),
    }
}
