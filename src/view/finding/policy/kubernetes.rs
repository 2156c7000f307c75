//! A NetworkPolicy of Kubernetes (networking.k8s.io/v1).
//!
//! Peers are blocks of addresses: which labels the pods have that had these
//! addresses, nobody here knows.

use crate::study::policy::{Hook, Rule, Subject};
use crate::view::finding::policy::Text;
use crate::view::label::host;

/// The longest name that Kubernetes takes (RFC 1123, a label).
const NAME: usize = 63;

/// The document.
pub(crate) fn rules(text: &Text<'_>) -> String {
    let mut out = text.heading(&[
        "The podSelector selects nothing as it stands: put the labels of the pods there. From then on, what has no rule is refused.",
    ]);
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
         \x20     shawk.example/replace-these-labels: \"true\"\n\
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
