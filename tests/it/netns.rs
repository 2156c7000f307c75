//! Network namespaces, and processes that hold sockets in them.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A network namespace of its own, with its loopback up and a way to nowhere:
/// what is sent to 10.99.0.2 leaves and is answered by nobody.
pub(crate) struct Netns {
    pub(crate) name: String,
}

impl Netns {
    pub(crate) fn new(name: &str) -> Netns {
        let netns = Netns { name: format!("shawk-{}-{name}", std::process::id()) };
        ip(&["netns", "add", &netns.name]);
        netns.ip(&["link", "set", "lo", "up"]);
        netns.ip(&["link", "add", "out", "type", "veth", "peer", "name", "void"]);
        netns.ip(&["addr", "add", "10.99.0.1/24", "dev", "out"]);
        netns.ip(&["link", "set", "out", "up", "arp", "off"]);
        netns.ip(&["link", "set", "void", "up", "arp", "off"]);
        netns
    }

    fn ip(&self, arguments: &[&str]) {
        ip(&[&["-n", self.name.as_str()], arguments].concat());
    }

    /// Runs Python in it until it has printed a line; it is killed in the end.
    pub(crate) fn python(&self, script: &str) -> Held {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, "python3", "-c", script]);
        Held::start(command)
    }

    pub(crate) fn scope(&self) -> String {
        format!("netns:{}", self.name)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

pub(crate) fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().unwrap();
    assert!(status.success(), "ip {}", arguments.join(" "));
}

/// A process that holds sockets, and its children.
pub(crate) struct Held(pub(crate) Child);

impl Held {
    fn start(mut command: Command) -> Held {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("ready"), "{command:?} says {line:?}");
        Held(child)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Children wait for the end of this pipe too.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Makes a script rename itself, say that it is ready, and wait.
pub(crate) fn script(name: &str, body: &str) -> String {
    format!(
        "import os, signal, socket, sys, time\n\
         signal.alarm(120)\n\
         def tcp(family=socket.AF_INET): return socket.socket(family, socket.SOCK_STREAM)\n\
         def udp(family=socket.AF_INET): return socket.socket(family, socket.SOCK_DGRAM)\n\
         open('/proc/self/comm', 'wb').write({name})\n\
         {body}\n\
         print('ready', flush=True)\n\
         sys.stdin.read()\n"
    )
}
