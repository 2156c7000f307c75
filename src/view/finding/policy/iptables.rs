//! Rules for iptables-restore(8) and ip6tables-restore(8): chains of their
//! own, to which somebody has to lead.

use crate::study::policy::{Hook, Rule, Syntax};
use crate::view::finding::policy::{Text, comment};

/// The chains of one family.
pub(crate) fn rules(text: &Text<'_>) -> String {
    let v4 = text.plan.syntax == Syntax::Iptables;
    let program = if v4 { "iptables" } else { "ip6tables" };
    let other = if v4 { "ip6tables" } else { "iptables" };
    let enforced = if text.plan.enforce {
        "What has no rule is refused."
    } else {
        "What has no rule goes on in the chain it came from; --enforce refuses it."
    };
    let load = format!("Load it with: {program}-restore --noflush FILE, and lead to it once:");
    let leads =
        [Hook::Input, Hook::Output].into_iter().filter(|hook| text.has(*hook)).map(|hook| {
            let (chain, builtin) = names(hook);
            format!("  {program} -C {builtin} -j {chain} || {program} -I {builtin} -j {chain}")
        });
    let leads: Vec<String> = leads.collect();
    let family = format!("The rules of the other family are those of --format {other}.");
    let mut how = vec![enforced, &family, &load];
    how.extend(leads.iter().map(String::as_str));
    let mut out = text.heading(&how);
    out.push_str("*filter\n");
    for hook in [Hook::Input, Hook::Output].into_iter().filter(|hook| text.has(*hook)) {
        out.push_str(&format!(":{} - [0:0]\n", names(hook).0));
    }
    for hook in [Hook::Input, Hook::Output].into_iter().filter(|hook| text.has(*hook)) {
        out.push_str(&chain(text, hook, v4));
    }
    out.push_str("COMMIT\n");
    out
}

/// Our chain, and the one that leads to it.
fn names(hook: Hook) -> (&'static str, &'static str) {
    match hook {
        Hook::Input => ("SHAWK-IN", "INPUT"),
        Hook::Output => ("SHAWK-OUT", "OUTPUT"),
    }
}

fn chain(text: &Text<'_>, hook: Hook, v4: bool) -> String {
    let name = names(hook).0;
    let interface = if hook == Hook::Input { "-i" } else { "-o" };
    let icmp = if v4 { "icmp" } else { "ipv6-icmp" };
    let mut out = format!(
        "-A {name} -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n\
         -A {name} {interface} lo -j ACCEPT\n"
    );
    out.push_str(&comment("", "No probe sees these, and IPv6 does not work without."));
    out.push_str(&format!("-A {name} -p {icmp} -j ACCEPT\n"));
    for one in text.of(hook).filter(|rule| !text.peers(rule, v4).is_empty()) {
        out.push_str(&text.evidence("", one));
        out.push_str(&rule(text, one, v4));
    }
    if text.plan.enforce && text.policy.whole {
        out.push_str(&format!("-A {name} -j DROP\n"));
    } else if text.plan.enforce {
        for (protocol, ports) in text.ports(hook) {
            for port in ports {
                let protocol = protocol.name();
                out.push_str(&format!("-A {name} -p {protocol} --dport {port} -j DROP\n"));
            }
        }
    }
    out
}

fn rule(text: &Text<'_>, rule: &Rule, v4: bool) -> String {
    let name = names(rule.hook).0;
    let side = if rule.hook == Hook::Input { "-s" } else { "-d" };
    let (protocol, port) = (rule.protocol.name(), rule.port);
    let peers = text.peers(rule, v4).into_iter();
    peers
        .map(|peer| format!("-A {name} -p {protocol} --dport {port} {side} {peer} -j ACCEPT\n"))
        .collect()
}
