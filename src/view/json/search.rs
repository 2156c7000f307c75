//! What a search found, for programs and for the page: docs/groups-json.md.

use std::collections::BTreeSet;
use std::io;

use serde::Serialize;

use crate::labels::Called;
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
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    kinds: Option<&'a BTreeSet<&'static str>>,
}

/// Selectors, with how many hosts each means, labels and names, as one
/// document.
pub(crate) fn search(
    meant: &[(Selector, usize)],
    labels: &[Called],
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
        kinds: None,
    });
    let labels = labels.iter().map(|(word, kinds)| FoundView {
        kind: "label",
        value: word.to_string(),
        name: word,
        hosts: None,
        kinds: Some(kinds),
    });
    let hosts = names.hosts.iter().map(|(name, id)| FoundView {
        kind: "host",
        value: id.clone(),
        name,
        hosts: None,
        kinds: None,
    });
    let processes = names.processes.iter().map(|(name, hosts)| FoundView {
        kind: "process",
        value: name.clone(),
        name,
        hosts: Some(Count(*hosts)),
        kinds: None,
    });
    let found: Vec<FoundView<'_>> = meant.chain(labels).chain(hosts).chain(processes).collect();
    let size = 128 * found.len();
    one_line(&Document { schema: SCHEMA, found, more: names.more }, size)
}
