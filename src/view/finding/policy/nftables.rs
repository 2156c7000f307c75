//! Rules for nft(8): a table of its own.

use crate::study::policy::{Hook, Rule};
use crate::view::finding::policy::Text;

/// The table, which takes the place of an older one of its name.
pub(crate) fn rules(text: &Text<'_>) -> String {
    let enforced = if text.plan.enforce {
        "What has no rule is refused."
    } else {
        "What has no rule is counted and let through; --enforce refuses it."
    };
    let mut out = text.heading(&[
        enforced,
        "Load it with: nft -f FILE. Another table that refuses something goes on doing so.",
    ]);
    out.push_str("table inet shawk_policy\ndelete table inet shawk_policy\n");
    out.push_str("table inet shawk_policy {\n");
    for hook in [Hook::Input, Hook::Output] {
        if text.has(hook) {
            out.push_str(&chain(text, hook));
        }
    }
    out.push_str("}\n");
    out
}

fn chain(text: &Text<'_>, hook: Hook) -> String {
    let (name, interface) = match hook {
        Hook::Input => ("input", "iifname"),
        Hook::Output => ("output", "oifname"),
    };
    let mut out = format!(
        "\tchain {name} {{\n\
         \t\ttype filter hook {name} priority 0; policy accept;\n\
         \t\tct state established,related accept\n\
         \t\t{interface} \"lo\" accept\n\
         \t\t# No probe sees these, and IPv6 does not work without.\n\
         \t\tmeta l4proto {{ icmp, ipv6-icmp }} accept\n"
    );
    for one in text.of(hook) {
        out.push_str(&text.evidence("\t\t", one));
        out.push_str(&rule(text, one));
    }
    let verdict = if text.plan.enforce { "counter drop" } else { "counter" };
    if text.policy.whole {
        out.push_str(&format!("\t\t{verdict}\n"));
    } else {
        for (protocol, ports) in text.ports(hook) {
            let (protocol, ports) = (protocol.name(), ports.join(", "));
            out.push_str(&format!("\t\t{protocol} dport {{ {ports} }} {verdict}\n"));
        }
    }
    out.push_str("\t}\n");
    out
}

/// A rule for each family that has peers.
fn rule(text: &Text<'_>, rule: &Rule) -> String {
    let side = if rule.hook == Hook::Input { "saddr" } else { "daddr" };
    let mut out = String::new();
    for (family, v4) in [("ip", true), ("ip6", false)] {
        let peers = text.peers(rule, v4).join(", ");
        if !peers.is_empty() {
            let (protocol, port) = (rule.protocol.name(), rule.port);
            out.push_str(&format!(
                "\t\t{protocol} dport {port} {family} {side} {{ {peers} }} counter accept\n"
            ));
        }
    }
    out
}
