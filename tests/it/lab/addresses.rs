//! Addresses and ports that are easy to get wrong.

use crate::lab::network::Lab;
use crate::lab::program::{curl, nginx_with_a_file, python};
use crate::lab::ss::listens;

#[test]
fn ipv6_and_ipv4_within_ipv6_are_joined() {
    let lab = Lab::new();
    let web = lab.host("web-1", 10);
    let client = lab.host("client-1", 20);
    nginx_with_a_file(&web, &["[::]:80 ipv6only=on"]);
    // One socket for both families; its IPv4 peers are ::ffff:10.77.0.20.
    python(&web, &["serve", "::", "8081"]);
    python(&web, &["serve", "0.0.0.0", "8082"]);
    python(&web, &["serve", "::", "5300", "udp"]);
    for address in ["[::]:80", "[::]:8081", "0.0.0.0:8082"] {
        listens(&web, address);
    }
    curl(&client, "http://[fd77::10]/large");
    python(&client, &["hold", "10.77.0.10", "8081"]);
    python(&client, &["hold", "fd77::10", "8081"]);
    python(&client, &["hold", "::ffff:10.77.0.10", "8082"]);
    python(&client, &["hold", "10.77.0.10", "5300", "udp"]);
    python(&client, &["hold", "fd77::10", "5300", "udp"]);
    lab.check(&[
        "client-1/curl fd77::20 -> web-1/nginx fd77::10 tcp/80 both",
        "client-1/python3 10.77.0.20 -> web-1/python3 10.77.0.10 tcp/8081 both",
        "client-1/python3 fd77::20 -> web-1/python3 fd77::10 tcp/8081 both",
        "client-1/python3 10.77.0.20 -> web-1/python3 10.77.0.10 tcp/8082 both",
        "client-1/python3 10.77.0.20 -> web-1/python3 10.77.0.10 udp/5300 active",
        "client-1/python3 fd77::20 -> web-1/python3 fd77::10 udp/5300 active",
    ]);
}

#[test]
fn a_listener_in_the_ephemeral_range_is_no_client_and_a_client_on_its_port_no_listener() {
    let lab = Lab::new();
    let web = lab.host("web-1", 10);
    let app = lab.host("app-1", 11);
    let client = lab.host("client-1", 20);
    for host in [&web, &client] {
        let narrow = "echo 50480 50520 >/proc/sys/net/ipv4/ip_local_port_range";
        host.succeeds(&["sh", "-c", narrow]);
    }
    web.succeeds(&["ip", "addr", "add", "10.77.0.30/24", "dev", "eth0"]);
    python(&web, &["serve", "10.77.0.10", "50500"]);
    python(&app, &["serve", "10.77.0.11", "50500"]);
    nginx_with_a_file(&app, &["10.77.0.11:8080"]);
    listens(&web, "10.77.0.10:50500");
    listens(&app, "10.77.0.11:50500");
    listens(&app, "10.77.0.11:8080");
    // Both ends have port 50500.
    let own = "from=10.77.0.20/50500";
    python(&client, &["hold", "10.77.0.10", "50500", own]);
    // As above, and the port is that of the listener beside it, on another
    // address.
    let own = "from=10.77.0.30/50500";
    python(&web, &["hold", "10.77.0.11", "50500", own]);
    // Client and server on one host, one address, and one range of ports.
    python(&web, &["hold", "10.77.0.10", "50500", "count=8"]);
    curl(&web, "http://10.77.0.11:8080/large");
    lab.check(&[
        "client-1/python3 10.77.0.20 -> web-1/python3 10.77.0.10 tcp/50500 both",
        "web-1/python3 10.77.0.30 -> app-1/python3 10.77.0.11 tcp/50500 both",
        "web-1/python3 10.77.0.10 -> web-1/python3 10.77.0.10 tcp/50500 both",
        "web-1/curl 10.77.0.10 -> app-1/nginx 10.77.0.11 tcp/8080 both",
    ]);
}
