//! What a search found, for programs and for the page: docs/groups-json.md.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use serde::Serialize;

use crate::recall::{Names, Selector};
use crate::view::json::{Count, count, one_line, selector};

const SCHEMA: &str = "shawk.search/1";

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    found: Vec<FoundView<'a>>,
    more: bool,
}

#[derive(Serialize)]
struct FoundView<'a> {
    kind: &'static str,
    value: String,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hosts: Option<Count>,
}

/// Most labels that are told.
const LABELS: usize = 20;

/// Selectors, with how many hosts each means, labels and names, as one document.
pub(crate) fn search(
    meant: &[(Selector, usize)],
    labels: &BTreeSet<Arc<str>>,
    names: &Names,
) -> io::Result<String> {
    let selectors: Vec<_> = meant
        .iter()
        .map(|(meant, hosts)| (selector(meant), *hosts))
        .map(|(view, hosts)| (view.kind, view.value, hosts))
        .collect();
    let meant = selectors.iter().map(|(kind, value, hosts)| FoundView {
        kind,
        value: value.clone(),
        name: value,
        hosts: Some(count(*hosts)),
    });
    let called = labels.iter().take(LABELS).map(|word| FoundView {
        kind: "label",
        value: word.to_string(),
        name: word,
        hosts: None,
    });
    let hosts = names.hosts.iter().map(|(name, id)| FoundView {
        kind: "host",
        value: id.clone(),
        name,
        hosts: None,
    });
    let processes = names.processes.iter().map(|(name, hosts)| FoundView {
        kind: "process",
        value: name.clone(),
        name,
        hosts: Some(Count(*hosts)),
    });
    let found: Vec<FoundView<'_>> = meant.chain(called).chain(hosts).chain(processes).collect();
    let size = 128 * found.len();
    one_line(&Document { schema: SCHEMA, found, more: names.more || labels.len() > LABELS }, size)
}
