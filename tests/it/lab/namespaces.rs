//! Addresses that mean another thing in each network namespace.

use crate::lab::network::Lab;
use crate::lab::program::{python, redis, redis_cli};
use crate::lab::ss::listens;

#[test]
fn loopback_stays_inside_a_host() {
    let lab = Lab::new();
    for (name, number) in [("web-1", 10), ("web-2", 11)] {
        let host = lab.host(name, number);
        redis(&host, "127.0.0.1");
        listens(&host, "127.0.0.1:6379");
        redis_cli(&host, "127.0.0.1");
    }
    lab.check(&[
        "web-1/redis-cli 127.0.0.1 -> web-1/redis-server 127.0.0.1 tcp/6379 both",
        "web-2/redis-cli 127.0.0.1 -> web-2/redis-server 127.0.0.1 tcp/6379 both",
    ]);
}

#[test]
fn loopback_stays_inside_a_network_namespace() {
    let lab = Lab::new();
    let host = lab.host("box", 10);
    let blue = lab.netns(&host, "blue");
    let green = lab.netns(&host, "green");
    redis(&blue, "127.0.0.1");
    listens(&blue, "127.0.0.1:6379");
    redis_cli(&blue, "127.0.0.1");
    for place in [&host, &green] {
        python(place, &["serve", "127.0.0.1", "6379"]);
        listens(place, "127.0.0.1:6379");
        python(place, &["hold", "127.0.0.1", "6379"]);
    }
    lab.check(&[
        "box/python3 127.0.0.1 -> box/python3 127.0.0.1 tcp/6379 both",
        "box[netns:blue]/redis-cli 127.0.0.1 -> box[netns:blue]/redis-server 127.0.0.1 tcp/6379 both",
        "box[netns:green]/python3 127.0.0.1 -> box[netns:green]/python3 127.0.0.1 tcp/6379 both",
    ]);
}

#[test]
fn one_address_in_two_networks_of_a_host_is_two_ends() {
    let lab = Lab::new();
    let host = lab.host("box", 10);
    // As a container runtime has it: two networks that know nothing of one
    // another, each with its 10.77.9.2.
    let networks = ["blue", "green"].map(|color| {
        let server = lab.netns(&host, color);
        let client = lab.netns(&host, &format!("{color}-client"));
        let number = if color == "blue" { 3 } else { 4 };
        let wire = format!(
            "ip -n {color} link add eth0 type veth peer name eth0 netns {color}-client
             ip -n {color} addr add 10.77.9.2/24 dev eth0
             ip -n {color} link set eth0 up
             ip -n {color}-client addr add 10.77.9.{number}/24 dev eth0
             ip -n {color}-client link set eth0 up"
        );
        host.succeeds(&["sh", "-ec", &wire]);
        (server, client)
    });
    let [(blue, blue_client), (green, green_client)] = &networks;
    redis(blue, "10.77.9.2");
    python(green, &["serve", "10.77.9.2", "6379"]);
    listens(blue, "10.77.9.2:6379");
    listens(green, "10.77.9.2:6379");
    redis_cli(blue, "10.77.9.2");
    redis_cli(blue_client, "10.77.9.2");
    python(green, &["hold", "10.77.9.2", "6379"]);
    python(green_client, &["hold", "10.77.9.2", "6379"]);
    lab.check(&[
        "box[netns:blue]/redis-cli 10.77.9.2 -> box[netns:blue]/redis-server 10.77.9.2 tcp/6379 both",
        "box[netns:blue-client]/redis-cli 10.77.9.3 -> box[netns:blue]/redis-server 10.77.9.2 tcp/6379 both",
        "box[netns:green]/python3 10.77.9.2 -> box[netns:green]/python3 10.77.9.2 tcp/6379 both",
        "box[netns:green-client]/python3 10.77.9.4 -> box[netns:green]/python3 10.77.9.2 tcp/6379 both",
    ]);
}
