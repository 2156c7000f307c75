//! The probe on this machine's own kernel. Runs as root, with iproute2,
//! util-linux and Python 3; without any of them it fails.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};

use expect_test::{Expect, expect};
use shawk::flow::host::Rung;
use shawk::flow::process::Instance;
use shawk::flow::socket::{Direction, Protocol, Snapshot, Socket, State};
use shawk::probe::support::Support;
use shawk::probe::{Probe, ProbeConfig, procnet, record};

use crate::netns::{Netns, script};

mod limits;

pub(crate) fn probe() -> Probe {
    let config = ProbeConfig {
        host_id: Some("test".to_owned()),
        hostname: Some("tester".to_owned()),
        proc: PathBuf::from("/proc"),
    };
    let (_, loaded) = Support::read(&config, Rung::Netlink).unwrap();
    Probe::open(&config, Rung::Netlink, loaded).unwrap()
}

pub(crate) fn scan() -> Snapshot {
    probe().snapshot().unwrap()
}

pub(crate) fn in_scope<'a>(snapshot: &'a Snapshot, scope: &str) -> Vec<&'a Socket> {
    let at = snapshot.namespaces.iter().position(|namespace| *namespace.scope == *scope);
    let at = at.unwrap_or_else(|| panic!("no {scope} in {:?}", snapshot.namespaces));
    snapshot.sockets.iter().filter(|socket| socket.namespace as usize == at).collect()
}

pub(crate) fn owners<'a>(snapshot: &'a Snapshot, socket: &Socket) -> Vec<&'a Instance> {
    socket.owners.iter().map(|&at| &snapshot.instances[at as usize]).collect()
}

/// As `ss -tuna` has them: protocol, state, local, peer, who opened it, whose.
fn render(snapshot: &Snapshot, sockets: &[&Socket]) -> String {
    let mut lines: Vec<String> = sockets
        .iter()
        .map(|socket| {
            let peer = socket.peer.map_or("*".to_owned(), |peer| peer.to_string());
            let only = if socket.v6_only { " v6only" } else { "" };
            let names = owners(snapshot, socket);
            let names: Vec<&str> = names.iter().map(|owner| owner.process.name.as_str()).collect();
            let (protocol, opened) = (socket.protocol.name(), socket.opened.name());
            format!(
                "{protocol} {:?} {} {peer} {opened} ({}){only}\n",
                socket.state,
                socket.local,
                names.join(" ")
            )
        })
        .collect();
    lines.sort();
    lines.concat()
}

fn check(name: &str, script: &str, expected: &Expect) -> Snapshot {
    let netns = Netns::new(name);
    let _held = netns.python(script);
    let snapshot = scan();
    expected.assert_eq(&render(&snapshot, &in_scope(&snapshot, &netns.scope())));
    snapshot
}

#[test]
fn own_sockets_are_found_with_their_owner() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let before = jiff::Timestamp::now();
    let snapshot = scan();

    let find = |local: std::net::SocketAddr, protocol: Protocol, peer| {
        let mut found = in_scope(&snapshot, "").into_iter().filter(|socket| {
            socket.local == local && socket.protocol == protocol && socket.peer == peer
        });
        found.next().unwrap().clone()
    };
    let (here, there) = (near.local_addr().unwrap(), near.peer_addr().unwrap());
    let listening = find(there, Protocol::Tcp, None);
    let active = find(here, Protocol::Tcp, Some(there));
    let passive = find(far.local_addr().unwrap(), Protocol::Tcp, Some(here));
    let datagram = find(udp.local_addr().unwrap(), Protocol::Udp, None);
    assert_eq!((listening.state, listening.rtt_us), (State::Listen, None));
    assert_eq!((active.state, active.opened), (State::Established, Direction::Active));
    assert_eq!((passive.state, passive.opened), (State::Established, Direction::Passive));
    assert_eq!((datagram.state, datagram.port_chosen), (State::Close, None));
    assert!(active.rtt_us.unwrap() > 0);

    let own = owners(&snapshot, &active);
    for socket in [&listening, &passive, &datagram] {
        assert_eq!(owners(&snapshot, socket), own);
    }
    let [own] = own[..] else { panic!("{own:?}") };
    assert_eq!(own.pid, std::process::id());
    assert_eq!(own.pgid, rustix::process::getpgrp().as_raw_nonzero().get().cast_unsigned());
    assert_eq!(own.process.exe.as_deref(), std::env::current_exe().unwrap().to_str());
    assert_eq!(own.process.user.as_deref(), Some("root"));
    let age = snapshot.taken.duration_since(own.started);
    assert!(!age.is_negative() && age.as_secs() < 3600, "{age:?}");
    assert!(snapshot.taken >= before && snapshot.rung == Rung::Netlink);
    assert_eq!((snapshot.host.id.as_str(), snapshot.host.name.as_str()), ("test", "tester"));
    let home = &snapshot.namespaces[0];
    assert!(home.scope.is_empty() && home.addresses.contains(&"127.0.0.1".parse().unwrap()));
    let coverage = &snapshot.coverage;
    assert_eq!((coverage.malformed, coverage.sockets), (0, snapshot.sockets.len() as u64));
    assert!(coverage.processes > 1 && coverage.namespaces >= 1);
}

#[test]
fn another_namespace_is_read_whole() {
    let body = r#"
def text(address):
    ip, port = address.split(':')
    return '%08X:%04X' % (int.from_bytes(socket.inet_aton(ip), sys.byteorder), int(port))
def until(local, peer, state):
    while True:
        lines = [line.split() for line in open('/proc/net/tcp')]
        states = [int(line[3], 16) for line in lines if line[1:3] == [text(local), text(peer)]]
        if states == [state] * (state is not None): return
a = tcp(); a.bind(('127.0.0.1', 80)); a.listen()
b = tcp(); b.bind(('127.0.0.1', 5001)); b.connect(('127.0.0.1', 80)); c, _ = a.accept()
d = tcp(socket.AF_INET6); d.bind(('::', 443)); d.listen()
e = tcp(); e.bind(('127.0.0.1', 5002)); e.connect(('127.0.0.1', 443)); f, _ = d.accept()
g = tcp(socket.AF_INET6); g.bind(('::1', 5003)); g.connect(('::1', 443)); h, _ = d.accept()
i = tcp(socket.AF_INET6); i.setsockopt(41, 26, 1); i.bind(('::', 80)); i.listen()
j = tcp(); j.setblocking(False); j.bind(('10.99.0.1', 5004)); j.connect_ex(('10.99.0.2', 9))
k = udp(); k.bind(('0.0.0.0', 53))
l = udp(); l.bind(('127.0.0.1', 5005)); l.connect(('127.0.0.1', 53))
m = udp(socket.AF_INET6); m.bind(('::', 123))
n = udp(socket.AF_INET6); n.bind(('::ffff:127.0.0.1', 5006)); n.connect(('::ffff:127.0.0.1', 53))
o = tcp(); o.bind(('127.0.0.1', 5007)); o.connect(('127.0.0.1', 80)); p, _ = a.accept(); p.shutdown(1)
until('127.0.0.1:80', '127.0.0.1:5007', 5); until('127.0.0.1:5007', '127.0.0.1:80', 8)
r = tcp(); r.bind(('127.0.0.1', 5009)); r.connect(('127.0.0.1', 80)); s, _ = a.accept(); r.close(); s.recv(1); s.close()
until('127.0.0.1:5009', '127.0.0.1:80', 6); until('127.0.0.1:80', '127.0.0.1:5009', None)
q = tcp(); q.bind(('127.0.0.1', 5008)); q.connect(('127.0.0.1', 80))
t = tcp(); t.bind(('127.0.0.1', 5010))
"#;
    let snapshot = check(
        "whole",
        &script("b'holder'", body),
        &expect![[r#"
        tcp CloseWait 127.0.0.1:5007 127.0.0.1:80 active (holder)
        tcp Established 127.0.0.1:443 127.0.0.1:5002 passive (holder)
        tcp Established 127.0.0.1:5001 127.0.0.1:80 active (holder)
        tcp Established 127.0.0.1:5002 127.0.0.1:443 active (holder)
        tcp Established 127.0.0.1:5008 127.0.0.1:80 active (holder)
        tcp Established 127.0.0.1:80 127.0.0.1:5001 passive (holder)
        tcp Established 127.0.0.1:80 127.0.0.1:5008 passive ()
        tcp Established [::1]:443 [::1]:5003 passive (holder)
        tcp Established [::1]:5003 [::1]:443 active (holder)
        tcp FinWait2 127.0.0.1:80 127.0.0.1:5007 passive (holder)
        tcp Listen 127.0.0.1:80 * unknown (holder)
        tcp Listen [::]:443 * unknown (holder)
        tcp Listen [::]:80 * unknown (holder) v6only
        tcp SynSent 10.99.0.1:5004 10.99.0.2:9 active (holder)
        tcp TimeWait 127.0.0.1:5009 127.0.0.1:80 unknown ()
        udp Close 0.0.0.0:53 * unknown (holder)
        udp Close [::]:123 * unknown (holder)
        udp Established 127.0.0.1:5005 127.0.0.1:53 unknown (holder)
        udp Established 127.0.0.1:5006 127.0.0.1:53 unknown (holder)
    "#]],
    );
    let own = snapshot.namespaces.iter().find(|namespace| namespace.scope.ends_with("-whole"));
    let addresses: Vec<String> = own.unwrap().addresses.iter().map(ToString::to_string).collect();
    let four: Vec<&String> =
        addresses.iter().filter(|address| !address.starts_with("fe80")).collect();
    assert_eq!(four, ["10.99.0.1", "127.0.0.1", "::1"]);
}

#[test]
fn all_who_hold_a_socket_are_its_owners() {
    let body = r#"
def share(port):
    s = tcp(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(('127.0.0.1', port)); s.listen(); return s
def child(name, port):
    r, w = os.pipe()
    if os.fork() == 0:
        open('/proc/self/comm', 'w').write(name)
        if port: own = share(port)
        os.write(w, b'.'); sys.stdin.read(); os._exit(0)
    os.read(r, 1)
forked = tcp(); forked.bind(('127.0.0.1', 80)); forked.listen()
twice = os.dup(forked.fileno())
child('worker', None)
reused = share(81)
child('other', 81)
"#;
    check(
        "shared",
        &script("b'master'", body),
        &expect![[r#"
            tcp Listen 127.0.0.1:80 * unknown (master worker other)
            tcp Listen 127.0.0.1:81 * unknown (master other)
            tcp Listen 127.0.0.1:81 * unknown (other)
        "#]],
    );
}

#[test]
fn a_hostile_name_is_only_a_name() {
    let netns = Netns::new("names");
    let body = "a = tcp(); a.bind(('127.0.0.1', 80)); a.listen()";
    let (broken, bytes) = (r"b'a) R 1 1\n2 ('", r"b'\xff\x1b[31m'");
    let held = [broken, bytes]
        .map(|name| netns.python(&script(name, &body.replace("80", &name.len().to_string()))));
    let snapshot = scan();
    for (held, name) in held.iter().zip(["a) R 1 1\n2 (", "\\xff\u{1b}[31m"]) {
        let owner = snapshot.instances.iter().find(|owner| owner.pid == held.pid()).unwrap();
        assert_eq!(owner.process.name, name);
        assert!(snapshot.taken.duration_since(owner.started).as_secs() < 60);
    }
}

/// Small segments without delay, both ways, are the worst case: one byte
/// decides. What is said may be nothing, but never wrong, and is right once
/// the connections are quiet.
#[test]
fn evidence_of_direction_is_never_wrong() {
    let netns = Netns::new("busy");
    let body = r#"
import threading
stop = False
def chat(s, n):
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1); s.setblocking(False)
    while not stop:
        for action in (lambda: s.send(b'x' * (1, 1, 3, 1000, 70000)[n % 5]), lambda: s.recv(1 << 20)):
            try: action()
            except BlockingIOError: pass
        if n % 5: time.sleep(0.001)
    s.setblocking(True); s.settimeout(0.2)
    try:
        while True: s.recv(1 << 20)
    except OSError: pass
a = tcp(); a.bind(('127.0.0.1', 80)); a.listen(); ends = []
for n in range(20):
    b = tcp(); b.connect(('127.0.0.1', 80)); c, _ = a.accept(); ends += [(b, n), (c, n + n // 5)]
threads = [threading.Thread(target=chat, args=end) for end in ends]
for t in threads: t.start()
print('ready', flush=True)
sys.stdin.readline()
stop = True
for t in threads: t.join()
"#;
    let mut held = netns.python(&script("b'chat'", body));
    let mut probe = probe();
    let mut told = 0;
    let mut look = |silence: bool| {
        let snapshot = probe.snapshot().unwrap();
        let mut unknown = 0;
        for socket in in_scope(&snapshot, &netns.scope()) {
            if socket.state != State::Established {
                continue;
            }
            let truth =
                if socket.local.port() == 80 { Direction::Passive } else { Direction::Active };
            match socket.opened {
                Direction::Unknown => unknown += 1,
                said => {
                    told += 1;
                    assert_eq!(said, truth, "{socket:?}");
                }
            }
        }
        assert!(!silence || unknown == 0, "{unknown} unknown of silent connections");
    };
    for _ in 0..100 {
        look(false);
    }
    held.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    let mut line = String::new();
    BufReader::new(held.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    look(true);
    assert!(told >= 40, "{told}");
}

#[test]
fn text_tells_of_the_same_sockets() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.connect(listener.local_addr().unwrap()).unwrap();
    let mut text = Vec::new();
    for (file, protocol) in [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)] {
        let path = Path::new("/proc/thread-self/net").join(file);
        assert_eq!(procnet::read(&path, protocol, 0, &mut text).unwrap(), 0);
    }
    let snapshot = scan();
    let mut compared = 0;
    for local in [near.local_addr(), listener.local_addr(), udp.local_addr()] {
        let local = local.unwrap();
        let find = |sockets: &[Socket]| -> BTreeSet<String> {
            let found =
                sockets.iter().filter(|socket| socket.local == local && socket.namespace == 0);
            found
                .map(|s| {
                    format!("{:?} {:?} {} {:?} {}", s.protocol, s.state, s.local, s.peer, s.inode)
                })
                .collect()
        };
        assert_eq!(find(&text), find(&snapshot.sockets));
        compared += find(&text).len();
    }
    assert!(compared >= 4, "{compared}");
}

#[test]
fn a_recorded_snapshot_is_replayed_as_it_was() {
    let _listener = TcpListener::bind("[::1]:0").unwrap();
    let mut probe = probe();
    let (first, second) = (probe.snapshot().unwrap(), probe.snapshot().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("snapshots");
    let mut file = std::fs::File::create(&path).unwrap();
    record::write(&first, &mut file).unwrap();
    record::write(&second, &mut file).unwrap();
    assert!(!first.instances.is_empty() && first != second);
    let mut replay = record::Reader::new(BufReader::new(std::fs::File::open(&path).unwrap()));
    assert_eq!(replay.read_next().unwrap(), Some(first));
    assert_eq!(replay.read_next().unwrap(), Some(second));
    assert_eq!(replay.read_next().unwrap(), None);
}
