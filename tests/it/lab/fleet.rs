//! A small fleet as it could be anywhere: proxies, an application, its stores,
//! a resolver, users.

use crate::lab::cmdb::{Server, binary};
use crate::lab::network::Lab;
use crate::lab::program::{curl, dnsmasq, haproxy, large_file, nginx, python, redis, wrk};
use crate::lab::ss::listens;

/// What the sockets show. dnsmasq answers datagrams from one socket for all,
/// so its end cannot tell of a peer: only the asking end does.
const TRUTH: &[&str] = &[
    "app-1/psql 10.77.0.11 -> db-1/postgres 10.77.0.12 tcp/5432 both",
    "app-1/python3 10.77.0.11 -> db-1/postgres 10.77.0.12 tcp/5432 both",
    "app-1/python3 10.77.0.11 -> db-1/redis-server 10.77.0.12 tcp/6379 both",
    "app-1/python3 10.77.0.11 -> dns-1/dnsmasq 10.77.0.13 tcp/53 both",
    "app-1/python3 10.77.0.11 -> dns-1/dnsmasq 10.77.0.13 udp/53 active",
    "client-1/curl 10.77.0.20 -> lb-1/haproxy 10.77.0.14 tcp/8000 both",
    "client-1/wrk 10.77.0.20 -> web-1/nginx 10.77.0.10 tcp/80 both",
    "lb-1/haproxy 10.77.0.14 -> web-1/nginx 10.77.0.10 tcp/80 both",
    "web-1/nginx 10.77.0.10 -> app-1/python3 10.77.0.11 tcp/8080 both",
];

/// Makes the fleet and waits until all of it talks.
pub(crate) fn fleet() -> Lab {
    let lab = Lab::new();
    let web = lab.host("web-1", 10);
    let app = lab.host("app-1", 11);
    let db = lab.host("db-1", 12);
    let dns = lab.host("dns-1", 13);
    let balancer = lab.host("lb-1", 14);
    let client = lab.host("client-1", 20);

    redis(&db, "10.77.0.12");
    Server::start(&db, "10.77.0.12", "10.77.0.0/24");
    dnsmasq(&dns, "10.77.0.13");
    listens(&db, "10.77.0.12:6379");
    listens(&db, "10.77.0.12:5432");
    listens(&dns, "10.77.0.13:53");
    python(&app, &["app", "10.77.0.11", "8080", "10.77.0.12", "10.77.0.12"]);
    python(&app, &["dns", "10.77.0.13"]);
    listens(&app, "10.77.0.11:8080");
    app.start(
        &[&binary("psql"), "-h", "10.77.0.12", "-U", "postgres", "-c", "select pg_sleep(120)"],
        &[],
    );
    let file = large_file(&web);
    nginx(
        &web,
        &format!(
            "upstream app {{ server 10.77.0.11:8080; keepalive 4; }}
             server {{
                 listen 80;
                 {file}
                 location / {{
                     proxy_pass http://app;
                     proxy_http_version 1.1;
                     proxy_set_header Connection '';
                 }}
             }}"
        ),
    );
    listens(&web, "0.0.0.0:80");
    haproxy(&balancer, "10.77.0.14:8000", "10.77.0.10:80");
    listens(&balancer, "10.77.0.14:8000");
    wrk(&client, "http://10.77.0.10/");
    curl(&client, "http://10.77.0.14:8000/large");
    lab.settle(TRUTH);
    lab
}

#[test]
fn a_fleet_is_seen_as_it_is() {
    let lab = fleet();
    let hosts = lab.hosts();
    for cmdb in lab.recorded(&hosts) {
        cmdb.expect(&hosts, TRUTH);
        // A walk follows processes, not hosts: psql and the asker of names run
        // on app-1 as well, and nothing that client-1 uses depends on them.
        let behind_client: Vec<&str> = TRUTH
            .iter()
            .filter(|line| !line.contains("/psql ") && !line.contains("dns-1/"))
            .copied()
            .collect();
        cmdb.expect_look(&["--host", "client-1", "--depth", "9"], &behind_client);
        let around_web: Vec<&str> =
            TRUTH.iter().filter(|line| line.contains("web-1/")).copied().collect();
        cmdb.expect_look(&["--host", "web-1", "--depth", "1"], &around_web);
        cmdb.expect_look(&["--ipv4", "10.77.0.10", "--depth", "1"], &around_web);

        let look = cmdb.look(&["--host", "web-1"]);
        let nginx = look.nodes.iter().find(|node| {
            node.host.as_deref() == Some("web-1")
                && node.process.as_ref().is_some_and(|process| process.name == "nginx")
        });
        let process = nginx.and_then(|node| node.process.as_ref());
        let process = process.expect("nginx is a node");
        assert_eq!(process.exe.as_deref(), Some("/usr/sbin/nginx"));
    }
    lab.settle(TRUTH);
}

#[test]
fn a_host_without_a_probe_stays_an_address() {
    let lab = fleet();
    let mut hosts = lab.hosts();
    hosts.retain(|host| host.name != "db-1");
    let truth: Vec<String> = TRUTH
        .iter()
        .map(|line| match line.split_once("db-1/") {
            Some((before, after)) => {
                let (_, after) = after.split_once(' ').expect("an address follows");
                format!("{before}{after}").replace(" both", " active")
            }
            None => (*line).to_owned(),
        })
        .collect();
    let mut truth: Vec<&str> = truth.iter().map(String::as_str).collect();
    // Both stores' clients stay apart; nothing tells the stores apart but the port.
    truth.sort_unstable();
    for cmdb in lab.recorded(&hosts) {
        cmdb.expect(&hosts, &truth);
    }
    lab.settle(TRUTH);
}
