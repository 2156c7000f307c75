//! Sockets as `ss` prints them → host flows as `shawk` would say them.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use expect_test::{Expect, expect};
use jiff::Timestamp;

use crate::flow::host::{Coverage, Host, Namespace, Rung};
use crate::flow::key::HostFlow;
use crate::flow::process::{Instance, Process};
use crate::flow::socket::{Direction, Protocol, Snapshot, Socket, State};

/// Reads lines of `[netns] proto STATE local peer owner,owner… flags…`, an
/// owner being `name/pid` or `name/pid/pgid`, the name perhaps `name@user`, a flag `active`, `passive`,
/// `v6only`, `chosen`; the peer `*` for none; the owner `-` for one that could
/// not be found, `0` for a socket no process holds.
fn snapshot(text: &str) -> Snapshot {
    let mut snapshot = Snapshot {
        taken: Timestamp::UNIX_EPOCH,
        host: Host { id: "h".into(), name: "h".into() },
        rung: Rung::Netlink,
        namespaces: Vec::new(),
        instances: Vec::new(),
        sockets: Vec::new(),
        coverage: Coverage::default(),
    };
    for scope in ["", "netns:blue"] {
        snapshot.namespaces.push(Namespace {
            scope: scope.into(),
            addresses: vec!["10.0.0.10".parse().unwrap(), "127.0.0.1".parse().unwrap()],
            ephemeral_ports: Some((32768, 60999)),
        });
    }
    let mut known = BTreeMap::new();
    for (number, line) in text.lines().filter(|l| !l.trim().is_empty()).enumerate() {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        let namespace = u32::from(words[0] == "blue");
        words.drain(..namespace as usize);
        let mut socket = Socket {
            namespace,
            protocol: if words[0] == "tcp" { Protocol::Tcp } else { Protocol::Udp },
            state: state(words[1]),
            local: address(words[2]),
            peer: (words[3] != "*").then(|| address(words[3])),
            v6_only: words.contains(&"v6only"),
            opened: Direction::Unknown,
            port_chosen: match words.last() {
                Some(&"chosen") => Some(true),
                Some(&"picked") => Some(false),
                _ => None,
            },
            rtt_us: None,
            inode: if words[4] == "0" { 0 } else { number as u64 + 100 },
            owners: Default::default(),
        };
        if words.contains(&"active") {
            socket.opened = Direction::Active;
        } else if words.contains(&"passive") {
            socket.opened = Direction::Passive;
        }
        for owner in words[4].split(',').filter(|o| !["-", "0"].contains(o)) {
            let index = *known.entry(owner.to_owned()).or_insert_with(|| {
                snapshot.instances.push(instance(owner));
                snapshot.instances.len() as u32 - 1
            });
            socket.owners.push(index);
        }
        snapshot.sockets.push(socket);
    }
    snapshot
}

fn instance(owner: &str) -> Instance {
    let parts: Vec<&str> = owner.split('/').collect();
    let pid = parts[1].parse().unwrap();
    let (name, user) = parts[0].split_once('@').unwrap_or((parts[0], ""));
    let process = Process {
        name: name.into(),
        exe: None,
        user: (!user.is_empty()).then(|| user.into()),
        unit: None,
        container: None,
        pod: None,
    };
    Instance {
        process: Arc::new(process),
        pid,
        pgid: parts.get(2).map_or(pid, |pgid| pgid.parse().unwrap()),
        started: Timestamp::from_second(i64::from(pid)).unwrap(),
    }
}

fn state(word: &str) -> State {
    match word {
        "ESTAB" => State::Established,
        "LISTEN" => State::Listen,
        "UNCONN" => State::Close,
        "SYN-SENT" => State::SynSent,
        "SYN-RECV" => State::SynRecv,
        "TIME-WAIT" => State::TimeWait,
        "CLOSE-WAIT" => State::CloseWait,
        other => panic!("no state {other}"),
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| panic!("no address {text}"))
}

fn say(flow: &HostFlow) -> String {
    let port = |port: Option<u16>| port.map_or("many".into(), |port| port.to_string());
    let key = &flow.key;
    let mut line = String::new();
    if !key.scope.is_empty() {
        write!(line, "{} ", key.scope).unwrap();
    }
    write!(
        line,
        "{} {} {}:{}",
        key.protocol.name(),
        key.direction.name(),
        key.local,
        port(key.local_port)
    )
    .unwrap();
    match key.peer {
        Some(peer) => write!(line, " {peer}:{}", port(key.peer_port)).unwrap(),
        None => line.push_str(" *"),
    }
    write!(line, " ×{}", flow.counters.open).unwrap();
    if flow.counters.connecting > 0 {
        write!(line, " ({} connecting)", flow.counters.connecting).unwrap();
    }
    match &key.process {
        Some(process) => {
            write!(line, " {}", process.name).unwrap();
            process.user.iter().for_each(|user| write!(line, "@{user}").unwrap());
        }
        None => line.push_str(" ?"),
    }
    let owners: Vec<_> =
        flow.owners.iter().map(|o| format!("{}/{}/{}", o.process.name, o.pid, o.pgid)).collect();
    write!(line, " [{}]", owners.join(" ")).unwrap();
    if flow.owners_more > 0 {
        write!(line, " +{}", flow.owners_more).unwrap();
    }
    if flow.tentative {
        line.push_str(" tentative");
    }
    line
}

fn check(sockets: &str, expected: Expect) {
    let flows = snapshot(sockets).observe().flows;
    let lines: Vec<_> = flows.iter().map(say).collect();
    expected.assert_eq(&(lines.join("\n") + "\n"));
}

#[test]
fn a_listener_owns_the_flows_to_its_port() {
    check(
        "tcp LISTEN 0.0.0.0:80 * nginx/10,nginx/11/10
         tcp ESTAB 10.0.0.10:80 10.0.0.11:40000 nginx/11/10
         tcp ESTAB 10.0.0.10:80 10.0.0.11:40001 nginx/12/10
         tcp ESTAB 10.0.0.10:40002 10.0.0.12:8080 nginx/11/10",
        expect![[r#"
            tcp active 10.0.0.10:many 10.0.0.12:8080 ×1 nginx [nginx/11/10]
            tcp passive 0.0.0.0:80 * ×1 nginx [nginx/10/10]
            tcp passive 10.0.0.10:80 10.0.0.11:many ×2 nginx [nginx/11/10]
        "#]],
    );
}

#[test]
fn a_listener_on_one_address_does_not_own_another_addresss_port() {
    check(
        "tcp LISTEN 127.0.0.1:50001 * a/1000
         tcp ESTAB 127.0.0.1:50001 127.0.0.1:40000 a/1000
         tcp ESTAB 127.0.0.1:40000 127.0.0.1:50001 b/2000
         tcp ESTAB 10.0.0.10:50001 10.0.0.12:443 c/3000",
        expect![[r#"
            tcp active 10.0.0.10:many 10.0.0.12:443 ×1 c [c/3000/3000]
            tcp active 127.0.0.1:many 127.0.0.1:50001 ×1 b [b/2000/2000]
            tcp passive 127.0.0.1:50001 * ×1 a [a/1000/1000]
            tcp passive 127.0.0.1:50001 127.0.0.1:many ×1 a [a/1000/1000]
        "#]],
    );
}

#[test]
fn namespaces_do_not_lend_each_other_their_listeners() {
    check(
        "tcp LISTEN 127.0.0.1:40000 * a/10
         blue tcp ESTAB 127.0.0.1:40000 127.0.0.1:80 b/20
         blue tcp LISTEN 127.0.0.1:80 * c/30
         blue tcp ESTAB 127.0.0.1:80 127.0.0.1:40000 c/30",
        expect![[r#"
            tcp passive 127.0.0.1:40000 * ×1 a [a/10/10]
            netns:blue tcp active 127.0.0.1:many 127.0.0.1:80 ×1 b [b/20/20]
            netns:blue tcp passive 127.0.0.1:80 * ×1 c [c/30/30]
            netns:blue tcp passive 127.0.0.1:80 127.0.0.1:many ×1 c [c/30/30]
        "#]],
    );
}

#[test]
fn a_dual_stack_listener_takes_ipv4_and_a_v6only_one_does_not() {
    check(
        "tcp LISTEN [::]:8080 * a/10
         tcp ESTAB 10.0.0.10:8080 10.0.0.11:40000 a/10
         tcp LISTEN [::]:35000 * b/20 v6only
         tcp ESTAB 10.0.0.10:35000 10.0.0.11:80 c/30",
        expect![[r#"
            tcp active 10.0.0.10:many 10.0.0.11:80 ×1 c [c/30/30]
            tcp passive 10.0.0.10:8080 10.0.0.11:many ×1 a [a/10/10]
            tcp passive :::8080 * ×1 a [a/10/10]
            tcp passive :::35000 * ×1 b [b/20/20]
        "#]],
    );
}

#[test]
fn the_kernels_own_count_goes_before_the_listeners() {
    check(
        "tcp LISTEN 0.0.0.0:4001 * p2p/10
         tcp ESTAB 10.0.0.10:4001 10.0.0.11:4001 p2p/10 active
         tcp ESTAB 10.0.0.10:9999 10.0.0.11:40000 nc/20 passive",
        expect![[r#"
            tcp active 10.0.0.10:many 10.0.0.11:4001 ×1 p2p [p2p/10/10]
            tcp passive 0.0.0.0:4001 * ×1 p2p [p2p/10/10]
            tcp passive 10.0.0.10:9999 10.0.0.11:many ×1 nc [nc/20/20]
        "#]],
    );
}

#[test]
fn a_chosen_port_without_a_listener_tells_nothing() {
    check(
        "tcp ESTAB 10.0.0.10:9999 10.0.0.11:40000 nc/20
         udp ESTAB 10.0.0.10:5060 10.0.0.11:5060 sip/30
         udp ESTAB 10.0.0.10:41000 10.0.0.11:53 dig/40",
        expect![[r#"
            udp active 10.0.0.10:many 10.0.0.11:53 ×1 dig [dig/40/40]
            tcp unknown 10.0.0.10:9999 10.0.0.11:40000 ×1 nc [nc/20/20]
            udp unknown 10.0.0.10:5060 10.0.0.11:5060 ×1 sip [sip/30/30] tentative
        "#]],
    );
}

/// Nobody heard how they began: a socket with a peer on a port that the kernel
/// picked asked; one on a port of its process's choice is told by a socket that
/// waits on it, or at the other end, and else by nothing.
#[test]
fn a_udp_conversation_under_way_has_a_direction_only_where_something_tells_it() {
    check(
        "udp ESTAB 10.0.0.10:41000 10.0.0.11:53 dig/40 picked
         udp ESTAB 10.0.0.10:1024 10.0.0.11:53 dig/41 picked
         udp ESTAB 10.0.0.10:41001 10.0.0.11:5004 call/42 chosen
         udp ESTAB 10.0.0.10:123 10.0.0.12:123 ntp/43 chosen
         udp UNCONN 0.0.0.0:69 * tftp/44 chosen
         udp ESTAB 10.0.0.10:69 10.0.0.13:41002 tftp/44 chosen
         udp ESTAB 127.0.0.1:500 127.0.0.1:69 ask/45 chosen
         blue udp ESTAB 10.0.0.10:69 10.0.0.13:41003 tftp/46 chosen",
        expect![[r#"
            udp active 10.0.0.10:many 10.0.0.11:53 ×2 dig [dig/40/40 dig/41/41]
            udp active 127.0.0.1:many 127.0.0.1:69 ×1 ask [ask/45/45]
            udp passive 0.0.0.0:69 * ×1 tftp [tftp/44/44] tentative
            udp passive 10.0.0.10:69 10.0.0.13:many ×1 tftp [tftp/44/44]
            udp unknown 10.0.0.10:123 10.0.0.12:123 ×1 ntp [ntp/43/43] tentative
            udp unknown 10.0.0.10:41001 10.0.0.11:5004 ×1 call [call/42/42] tentative
            netns:blue udp unknown 10.0.0.10:69 10.0.0.13:41003 ×1 tftp [tftp/46/46] tentative
        "#]],
    );
}

#[test]
fn sockets_nobody_holds_are_nobodys_connections() {
    check(
        "tcp LISTEN 0.0.0.0:80 * nginx/10
         tcp TIME-WAIT 10.0.0.10:80 10.0.0.11:40000 0
         tcp SYN-RECV 10.0.0.10:80 10.0.0.11:40001 0
         tcp ESTAB 10.0.0.10:80 10.0.0.11:40002 0
         tcp ESTAB 10.0.0.10:80 10.0.0.11:40003 -",
        expect![[r#"
            tcp passive 0.0.0.0:80 * ×1 nginx [nginx/10/10]
            tcp passive 10.0.0.10:80 10.0.0.11:many ×1 ? []
        "#]],
    );
}

#[test]
fn a_socket_that_is_its_own_peer_talks_to_nobody() {
    check(
        "udp ESTAB 127.0.0.1:40001 127.0.0.1:40001 postgres/10 chosen
         udp ESTAB 127.0.0.1:40002 127.0.0.1:40001 dig/11",
        expect![[r#"
            udp active 127.0.0.1:many 127.0.0.1:40001 ×1 dig [dig/11/11]
        "#]],
    );
}

#[test]
fn a_confined_probe_leaves_out_what_belongs_to_processes_outside() {
    let mut snapshot = snapshot("tcp ESTAB 10.0.0.10:40000 10.0.0.11:80 -");
    snapshot.coverage.confined = true;
    assert!(snapshot.observe().flows.is_empty());
}

#[test]
fn an_unanswered_connect_is_a_failing_flow() {
    check(
        "tcp SYN-SENT 10.0.0.10:40000 10.0.0.99:80 curl/10",
        expect![[r#"
            tcp active 10.0.0.10:many 10.0.0.99:80 ×1 (1 connecting) curl [curl/10/10]
        "#]],
    );
}

#[test]
fn a_backend_that_leads_its_own_group_is_shown_under_its_service() {
    check(
        "tcp LISTEN 0.0.0.0:5432 * postgres/100
         tcp ESTAB 10.0.0.10:5432 10.0.0.11:40000 postgres/201
         tcp ESTAB 10.0.0.10:5432 10.0.0.11:40001 postgres/202",
        expect![[r#"
            tcp passive 0.0.0.0:5432 * ×1 postgres [postgres/100/100]
            tcp passive 10.0.0.10:5432 10.0.0.11:many ×2 postgres [postgres/201/100]
        "#]],
    );
}

#[test]
fn init_holds_sockets_for_others() {
    check(
        "tcp LISTEN 0.0.0.0:22 * systemd/1,sshd/500",
        expect![[r#"
            tcp passive 0.0.0.0:22 * ×1 sshd [sshd/500/500 systemd/1/1]
        "#]],
    );
}

#[test]
fn two_clients_of_one_program_stay_two_owners_and_many_are_counted() {
    let mut sockets = String::new();
    for pid in 100..110 {
        writeln!(sockets, "tcp ESTAB 10.0.0.10:{} 10.0.0.11:80 python3/{pid}", 40000 + pid)
            .unwrap();
    }
    check(
        &sockets,
        expect![[r#"
            tcp active 10.0.0.10:many 10.0.0.11:80 ×10 python3 [python3/100/100 python3/101/101 python3/102/102 python3/103/103 python3/104/104 python3/105/105 python3/106/106 python3/107/107] +2
        "#]],
    );
}

#[test]
fn reuseport_sockets_of_one_program_are_one_service() {
    check(
        "tcp LISTEN 0.0.0.0:80 * srv/10
         tcp LISTEN 0.0.0.0:80 * srv/11
         tcp ESTAB 10.0.0.10:80 10.0.0.11:40000 srv/11",
        expect![[r#"
            tcp passive 0.0.0.0:80 * ×2 srv [srv/10/10 srv/11/11]
            tcp passive 10.0.0.10:80 10.0.0.11:many ×1 srv [srv/11/10]
        "#]],
    );
}

#[test]
fn a_udp_socket_of_which_is_not_known_who_begins_may_be_a_query() {
    check(
        "udp UNCONN 0.0.0.0:53 * dnsmasq/10
         udp UNCONN 0.0.0.0:40000 * dnsmasq/10
         udp UNCONN 0.0.0.0:51820 * wg/20 chosen
         udp ESTAB 10.0.0.10:53 10.0.0.11:40000 dnsmasq/10",
        expect![[r#"
            udp passive 0.0.0.0:53 * ×1 dnsmasq [dnsmasq/10/10] tentative
            udp passive 0.0.0.0:40000 * ×1 dnsmasq [dnsmasq/10/10] tentative
            udp passive 0.0.0.0:51820 * ×1 wg [wg/20/20] tentative
            udp passive 10.0.0.10:53 10.0.0.11:many ×1 dnsmasq [dnsmasq/10/10]
        "#]],
    );
}

#[test]
fn workers_under_another_user_are_the_service() {
    check(
        "tcp LISTEN 0.0.0.0:80 * nginx@root/10,nginx@www/11/10,nginx@www/12/10
         tcp ESTAB 10.0.0.10:80 10.0.0.11:40000 nginx@www/12/10",
        expect![[r#"
            tcp passive 0.0.0.0:80 * ×1 nginx@www [nginx/11/10 nginx/10/10]
            tcp passive 10.0.0.10:80 10.0.0.11:many ×1 nginx@www [nginx/12/10]
        "#]],
    );
}
