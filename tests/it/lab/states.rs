//! Connections that are not open: not yet, no longer, or not taken.

use crate::lab::network::Lab;
use crate::lab::program::{curl, nginx_with_a_file, python};
use crate::lab::ss::{self, listens};
use crate::lab::wait::{self, LIMIT};

#[test]
fn an_attempt_without_an_answer_is_a_failing_edge_and_a_lone_listener_none() {
    let lab = Lab::new();
    let web = lab.host("web-1", 10);
    let client = lab.host("client-1", 20);
    web.succeeds(&["ip", "addr", "add", "10.77.0.30/24", "dev", "eth0"]);
    nginx_with_a_file(&web, &["80"]);
    listens(&web, "0.0.0.0:80");
    // With a link-layer address that nobody has, packets go out and are lost;
    // an unanswered ARP request would fail the attempt at once.
    for address in ["10.77.0.30", "10.77.0.99"] {
        client.succeeds(&[
            "ip",
            "neigh",
            "add",
            address,
            "lladdr",
            "02:00:00:00:00:99",
            "dev",
            "eth0",
            "nud",
            "permanent",
        ]);
    }
    curl(&client, "http://10.77.0.99:81/");
    python(&client, &["open", "10.77.0.99", "82"]);
    // To a host that reports: where nobody listens, and where somebody does.
    python(&client, &["open", "10.77.0.30", "83"]);
    python(&client, &["open", "10.77.0.30", "80"]);
    lab.check(&[
        "client-1/curl 10.77.0.20 -> 10.77.0.99 tcp/81 active failing",
        "client-1/python3 10.77.0.20 -> 10.77.0.99 tcp/82 active failing",
        "client-1/python3 10.77.0.20 -> web-1 10.77.0.30 tcp/83 active failing",
        "client-1/python3 10.77.0.20 -> web-1/nginx 10.77.0.30 tcp/80 active failing",
    ]);
}

#[test]
fn what_the_kernel_still_remembers_is_nobodys() {
    let lab = Lab::new();
    let web = lab.host("web-1", 10);
    let client = lab.host("client-1", 20);
    nginx_with_a_file(&web, &["80"]);
    listens(&web, "0.0.0.0:80");
    for _ in 0..3 {
        // With HTTP/1.0 the server closes first, else the client does; who
        // closes first has the socket in TIME_WAIT, and both have when their
        // FINs cross.
        for version in ["--http1.0", "--http1.1"] {
            client.succeeds(&["curl", "-s", version, "http://10.77.0.10/"]);
        }
    }
    for host in [&web, &client] {
        wait::until(&format!("TIME_WAIT on {}", host.name), LIMIT, || {
            let lines = ss::sockets(host);
            let waits = lines.iter().filter(|line| line.state == "TIME-WAIT").count();
            (waits > 0).then_some(()).ok_or(format!("{waits} sockets are"))
        });
    }
    lab.check(&[]);
}

#[test]
fn a_connection_that_was_not_accepted_is_told_by_its_active_end() {
    let lab = Lab::new();
    let web = lab.host("web-1", 10);
    let client = lab.host("client-1", 20);
    python(&web, &["stall", "10.77.0.10", "9000"]);
    listens(&web, "10.77.0.10:9000");
    python(&client, &["open", "10.77.0.10", "9000"]);
    lab.check(&["client-1/python3 10.77.0.20 -> web-1/python3 10.77.0.10 tcp/9000 active"]);
}
