//! A NetworkPolicy of Kubernetes (networking.k8s.io/v1).
//!
//! Peers are blocks of addresses: which labels the pods have that had these
//! addresses, nobody here knows.

use std::collections::BTreeSet;

use crate::labels::Label;
use crate::study::policy::{Hook, Rule, Subject};
use crate::view::finding::policy::Text;
use crate::view::label::host;

/// The longest name that Kubernetes takes (RFC 1123, a label).
const NAME: usize = 63;

/// The document.
pub(crate) fn rules(text: &Text<'_>) -> String {
    let labels = pod_labels(text);
    let mut out = text.heading(&[match labels.is_empty() {
        true => "The podSelector selects nothing as it stands: put the labels of the pods there. From then on, what has no rule is refused.",
        false => "The podSelector is made of what the file of labels calls it: see that these pods have these labels, and no others do. What has no rule is refused of them.",
    }]);
    let labels = match labels.is_empty() {
        true => "      shawk.example/replace-these-labels: \"true\"\n".to_owned(),
        false => labels.iter().map(|(key, value)| format!("      {key}: \"{value}\"\n")).collect(),
    };
    let types: Vec<&str> = [(Hook::Input, "Ingress"), (Hook::Output, "Egress")]
        .into_iter()
        .filter(|(hook, _)| text.has(*hook))
        .map(|(_, name)| name)
        .collect();
    out.push_str(&format!(
        "apiVersion: networking.k8s.io/v1\n\
         kind: NetworkPolicy\n\
         metadata:\n\
         \x20 name: {}\n\
         spec:\n\
         \x20 podSelector:\n\
         \x20   matchLabels:\n\
         {labels}\
         \x20 policyTypes: [{}]\n",
        name(text),
        types.join(", ")
    ));
    for (hook, key, peers) in [(Hook::Input, "ingress", "from"), (Hook::Output, "egress", "to")] {
        if !text.has(hook) {
            continue;
        }
        if text.of(hook).next().is_none() {
            out.push_str(&format!("  {key}: []\n"));
            continue;
        }
        out.push_str(&format!("  {key}:\n"));
        for one in text.of(hook) {
            out.push_str(&text.evidence("    ", one));
            out.push_str(&rule(one, peers));
        }
    }
    out
}

/// What people call it, where that is one thing, by the keys that Kubernetes
/// recommends (kubernetes.io/docs, recommended labels).
fn pod_labels(text: &Text<'_>) -> Vec<(&'static str, String)> {
    let Subject::Place(place) = &text.policy.subject else { return Vec::new() };
    let nodes = text.answer.walk.roots.iter().map(|root| &text.answer.graph.nodes[*root]);
    let here = nodes.filter(|node| node.identity.place() == Some(place));
    let called: BTreeSet<Option<&Label>> = here.map(|node| node.label.as_ref()).collect();
    let Some(Some(label)) = called.first().filter(|_| called.len() == 1) else { return Vec::new() };
    let parts = [
        ("app.kubernetes.io/name", &label.name),
        ("app.kubernetes.io/component", &label.role),
        ("app.kubernetes.io/part-of", &label.group),
    ];
    let values = parts.into_iter().filter_map(|(key, value)| Some((key, value.as_deref()?)));
    let values: Vec<(&str, &str)> = values.collect();
    // Another value than it is called would select other pods.
    match values.iter().all(|(_, value)| is_label(value)) {
        true => values.into_iter().map(|(key, value)| (key, value.to_owned())).collect(),
        false => Vec::new(),
    }
}

/// Whether Kubernetes takes it as a label's value.
fn is_label(value: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let ends = [value.bytes().next(), value.bytes().last()];
    value.len() <= NAME
        && value.bytes().all(inner)
        && ends.into_iter().all(|end| end.is_some_and(|byte| byte.is_ascii_alphanumeric()))
}

fn rule(rule: &Rule, key: &str) -> String {
    let mut out = format!("    - {key}:\n");
    for peer in &rule.peers {
        out.push_str(&format!("        - ipBlock:\n            cidr: \"{peer}\"\n"));
    }
    out.push_str(&format!(
        "      ports:\n        - protocol: {}\n          port: {}\n",
        rule.protocol.name().to_uppercase(),
        rule.port
    ));
    out
}

/// A name of letters, digits and dashes, whatever the host is called.
fn name(text: &Text<'_>) -> String {
    let called = match &text.policy.subject {
        Subject::Place(place) => host(&text.answer.graph, place.host),
        Subject::Nobody | Subject::Several(_) => String::new(),
    };
    let called = called.to_ascii_lowercase();
    let safe = called.chars().map(|character| match character {
        'a'..='z' | '0'..='9' => character,
        _ => '-',
    });
    let name: String = "shawk-".chars().chain(safe).take(NAME).collect();
    name.trim_end_matches('-').to_owned()
}
