//! Sockets with several owners, owners with several sockets, and owners that
//! are not this host's.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use crate::lab::host::{self, Host};
use crate::lab::network::Lab;
use crate::lab::program::{curl, nginx_with_a_file, python, python_words};
use crate::lab::ss::{self, listens};
use crate::lab::wait::{self, LIMIT};

#[test]
fn several_servers_on_one_port_are_one_service() {
    let lab = Lab::new();
    let web = lab.host("web-1", 10);
    let client = lab.host("client-1", 20);
    python(&web, &["serve", "0.0.0.0", "9000", "reuseport"]);
    python(&web, &["serve", "0.0.0.0", "9000", "reuseport"]);
    python(&web, &["serve", "0.0.0.0", "9001", "prefork=3"]);
    nginx_with_a_file(&web, &["80 reuseport"]);
    for address in ["0.0.0.0:9000", "0.0.0.0:9001", "0.0.0.0:80"] {
        listens(&web, address);
    }
    // The kernel picks a server by a hash of the addresses: of so many
    // connections, none stays without some.
    python(&client, &["hold", "10.77.0.10", "9000", "count=32"]);
    python(&client, &["hold", "10.77.0.10", "9001", "count=8"]);
    curl(&client, "http://10.77.0.10/large");
    wait::until("both servers to have connections", LIMIT, || {
        let holders = ss::holders(&web, |line| line.local.port() == 9000);
        (holders.len() == 2).then_some(()).ok_or(format!("{holders:?} have"))
    });
    lab.check(&[
        "client-1/python3 10.77.0.20 -> web-1/python3 10.77.0.10 tcp/9000 both",
        "client-1/python3 10.77.0.20 -> web-1/python3 10.77.0.10 tcp/9001 both",
        "client-1/curl 10.77.0.20 -> web-1/nginx 10.77.0.10 tcp/80 both",
    ]);
}

#[test]
fn one_program_in_two_process_groups_stays_two_nodes() {
    let lab = Lab::new();
    let web = lab.host("web-1", 10);
    let client = lab.host("client-1", 20);
    let server = python(&web, &["serve", "10.77.0.10", "9000"]);
    listens(&web, "10.77.0.10:9000");
    let one = python(&client, &["hold", "10.77.0.10", "9000"]);
    let other = python(&client, &["hold", "10.77.0.10", "9000"]);
    wait::until("both clients to be connected", LIMIT, || {
        let holders = ss::holders(&client, |line| line.peer.port() == 9000);
        (holders.len() == 2).then_some(()).ok_or(format!("{holders:?} are"))
    });
    let mut truth = [&one, &other].map(|program| {
        format!(
            "client-1/python3#{} 10.77.0.20 -> web-1/python3#{} 10.77.0.10 tcp/9000 both",
            program.pid, server.pid
        )
    });
    truth.sort();
    for cmdb in lab.recorded(&lab.hosts()) {
        for host in ["client-1", "web-1"] {
            let look = cmdb.look(&["--host", host]);
            assert_eq!(look.lines_with_groups(), truth, "{host} in {}", cmdb.name);
        }
    }
}

#[test]
fn a_probe_inside_a_host_reports_that_hosts_processes_only() {
    let lab = Lab::new();
    let web = lab.host("web-1", 10);
    let client = lab.host("client-1", 20);
    python(&web, &["serve", "10.77.0.10", "9000"]);
    listens(&web, "10.77.0.10:9000");
    python(&client, &["hold", "10.77.0.10", "9000"]);

    // In the host's network, but not among its processes.
    let _server = Outsider::start(&web, &["serve", "10.77.0.10", "9100"]);
    listens(&web, "10.77.0.10:9100");
    let _client = Outsider::start(&web, &["hold", "10.77.0.10", "9100"]);
    wait::until("the outsiders to be connected", LIMIT, || {
        let lines = ss::sockets(&web);
        let mut ends = lines.iter().filter(|line| line.state == "ESTAB");
        let end = ends.find(|line| line.peer.port() == 9100);
        end.map(|_| ()).ok_or_else(|| "they are not".to_owned())
    });
    // On the machine that the lab is on: this very process.
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    let _active = TcpStream::connect(address).expect("a listener can be connected to");
    let _passive = listener.accept().expect("a connection waits");

    let truth = ["client-1/python3 10.77.0.20 -> web-1/python3 10.77.0.10 tcp/9000 both"];
    lab.check(&truth);
    for cmdb in lab.recorded(&lab.hosts()) {
        cmdb.expect_look(&["10.77.0.0/24"], &truth);
        for port in [9100, address.port()] {
            let look = cmdb.look(&["--port", &port.to_string()]);
            assert_eq!(look.lines(), [""; 0]);
            assert!(look.nodes.is_empty(), "port {port} is nobody's in the lab");
        }
    }
}

/// A process in a host's network namespace and in no other of its namespaces.
struct Outsider(Child);

impl Outsider {
    fn start(host: &Host, words: &[&str]) -> Outsider {
        let mut command = Command::new(host::program("setpriv"));
        // It is not in the host's pid namespace and would outlive the host.
        command.args(["--pdeathsig", "KILL", "nsenter"]);
        command.arg(format!("--net=/proc/{}/ns/net", host.anchor()));
        command.arg("--").args(python_words(host, words));
        host::clean(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Outsider(command.spawn().expect("a process can be started"))
    }
}

impl Drop for Outsider {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
