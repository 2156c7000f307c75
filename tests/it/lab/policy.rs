//! Rules for firewalls, loaded where they are for: what was seen goes on to
//! pass, and nothing else does.

use std::rc::Rc;

use serde_json::Value;

use crate::lab::cmdb::Cmdb;
use crate::lab::host::Host;
use crate::lab::network::Lab;
use crate::lab::program::{curl, nginx_with_a_file, redis};
use crate::lab::ss::listens;
use crate::lab::wait::Said;

/// web-1 serves HTTP and redis; client-1 uses both over IPv4 and IPv6,
/// client-2 nothing.
struct World {
    lab: Lab,
    web: Rc<Host>,
    seen: Rc<Host>,
    other: Rc<Host>,
}

fn world() -> World {
    let lab = Lab::new();
    let web = lab.host("web-1", 10);
    let seen = lab.host("client-1", 20);
    let other = lab.host("client-2", 21);
    nginx_with_a_file(&web, &["80", "[::]:80"]);
    redis(&web, "10.77.0.10");
    listens(&web, "0.0.0.0:80");
    listens(&web, "10.77.0.10:6379");
    curl(&seen, "http://10.77.0.10/large");
    curl(&seen, "http://[fd77::10]/large");
    lab.settle(&[
        "client-1/curl 10.77.0.20 -> web-1/nginx 10.77.0.10 tcp/80 both",
        "client-1/curl fd77::20 -> web-1/nginx fd77::10 tcp/80 both",
    ]);
    World { lab, web, seen, other }
}

/// Whether a host gets an answer.
fn gets(host: &Host, url: &str) -> bool {
    let said: Said = host.run(&[
        "curl",
        "-g",
        "-s",
        "-o",
        "/dev/null",
        "--connect-timeout",
        "1",
        "-r",
        "0-9",
        "--max-time",
        "5",
        url,
    ]);
    said.status.success()
}

fn only(cmdbs: Vec<Cmdb>, mode: &str) -> Cmdb {
    cmdbs.into_iter().find(|cmdb| cmdb.mode == mode).expect("one of each kind")
}

#[test]
fn nftables_rules_let_through_what_was_seen_and_refuse_the_rest() {
    let World { lab, web, seen, other } = world();
    let cmdb = only(lab.recorded(&lab.hosts()), "netlink");
    let rules = cmdb.succeeds(&["policy", "--host", "web-1", "--enforce"]);
    let path = web.file("policy.nft", &rules);
    web.succeeds(&["nft", "-c", "-f", &path]);
    let http = ["http://10.77.0.10/large", "http://[fd77::10]/large"];
    for url in http {
        assert!(gets(&seen, url) && gets(&other, url), "before there are rules, all pass");
    }
    // Twice: it takes the place of itself.
    for _ in 0..2 {
        web.succeeds(&["nft", "-f", &path]);
    }
    for url in http {
        assert!(gets(&seen, url), "what was seen passes: {url}\n{rules}");
        assert!(!gets(&other, url), "what was not is refused: {url}\n{rules}");
    }
    // redis was never called, and is named as such.
    assert!(!gets(&seen, "telnet://10.77.0.10:6379"));
    assert!(rules.contains("no rule for tcp 10.77.0.10:6379"), "{rules}");
    // Connections that were there stay, and the host reaches itself.
    lab.settle(&[
        "client-1/curl 10.77.0.20 -> web-1/nginx 10.77.0.10 tcp/80 both",
        "client-1/curl fd77::20 -> web-1/nginx fd77::10 tcp/80 both",
    ]);
    assert!(gets(&web, "http://127.0.0.1/large") && gets(&web, "http://10.77.0.10/large"));

    // Without --enforce it only counts.
    let rules = cmdb.succeeds(&["policy", "--host", "web-1"]);
    let path = web.file("counting.nft", &rules);
    web.succeeds(&["nft", "-f", &path]);
    assert!(gets(&other, http[0]) && gets(&other, http[1]), "{rules}");
}

#[test]
fn a_ruleset_is_held_against_what_was_seen() {
    let World { lab, web, .. } = world();
    let cmdb = only(lab.recorded(&lab.hosts()), "netlink");
    let audit = |rules: &str| {
        let path = web.file("rules.nft", rules);
        web.succeeds(&["nft", "flush", "ruleset"]);
        web.succeeds(&["nft", "-f", &path]);
        let listed = web.file("rules.json", &web.succeeds(&["nft", "-j", "list", "ruleset"]));
        let (document, code) = cmdb.asks(&["policy", "--host", "web-1", "--audit", &listed]);
        let text = cmdb.says(&["policy", "--host", "web-1", "--audit", &listed]);
        assert_eq!(text.status.code(), Some(code));
        (document["audit"].clone(), code)
    };
    let count = |audit: &Value, field: &str| audit[field].as_array().expect("a list").len();

    // Its own rules refuse nothing that was seen, and none of them is idle.
    let (own, code) = audit(&cmdb.succeeds(&["policy", "--host", "web-1", "--enforce"]));
    assert_eq!((code, count(&own, "unused_rules")), (0, 0), "{own:#}");
    assert_eq!((count(&own, "blocked"), count(&own, "unclear"), &own["judged"]), (0, 0, &2.into()));

    let (found, code) = audit(
        "table inet mine {
            set friends { type ipv4_addr; flags interval; elements = { 10.77.0.16/28 } }
            chain in {
                type filter hook input priority 0; policy drop;
                ct state established,related accept
                tcp dport { 80, 443 } ip saddr @friends accept
                tcp dport 22 accept comment \"remote shells\"
            }
        }",
    );
    // IPv6 was forgotten, and nobody needed the shell.
    assert_eq!((code, count(&found, "blocked")), (3, 1), "{found:#}");
    assert_eq!(found["blocked"][0]["source"], "fd77::20");
    assert_eq!(count(&found, "unused_rules"), 1);
    assert!(found["unused_rules"][0].as_str().expect("text").contains("remote shells"));

    let (unclear, code) = audit(
        "table inet mine { chain in {
            type filter hook input priority 0; policy drop;
            tcp dport 80 meta mark 7 accept;
        }; }",
    );
    assert_eq!((code, count(&unclear, "unclear"), count(&unclear, "blocked")), (4, 2, 0));
}

#[test]
fn iptables_rules_are_taken_and_do_the_same() {
    let World { lab, web, seen, other } = world();
    let cmdb = only(lab.recorded(&lab.hosts()), "procfs");
    for (program, url) in
        [("iptables", "http://10.77.0.10/large"), ("ip6tables", "http://[fd77::10]/large")]
    {
        let words = ["policy", "--host", "web-1", "--enforce", "--format", program];
        let rules = cmdb.succeeds(&words);
        let path = web.file(program, &rules);
        let restore = format!("{program}-restore");
        web.succeeds(&[&restore, "--test", "--noflush", &path]);
        web.succeeds(&[&restore, "--noflush", &path]);
        web.succeeds(&[program, "-I", "INPUT", "-j", "SHAWK-IN"]);
        assert!(gets(&seen, url), "{rules}");
        assert!(!gets(&other, url), "{rules}");
    }
}
