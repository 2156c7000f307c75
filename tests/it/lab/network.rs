//! The lab itself: a bridge, the hosts on it, and the end of it all. What runs
//! on the hosts is in `program`, what is asked of them in `shawk`.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;
use std::thread;

use tempfile::TempDir;

use crate::lab::cmdb::Server;
use crate::lab::host::{self, Host};
use crate::lab::wait::{self, LIMIT};

/// Hosts on a bridge. `10.77.0.N/24` and `fd77::N/64` are host number N's.
pub(crate) struct Lab {
    /// All places, in the order of their making.
    pub(crate) places: RefCell<Vec<Rc<Host>>>,
    /// The server that keeps the PostgreSQL CMDBs, once one was asked for.
    pub(crate) server: RefCell<Option<Rc<Server>>>,
    /// How many CMDBs were made so far.
    pub(crate) cmdbs: RefCell<u32>,
    switch: Host,
    // Last, so that it is removed when nobody writes to it any more.
    directory: TempDir,
}

impl Lab {
    /// A lab without hosts.
    pub(crate) fn new() -> Lab {
        let directory = tempfile::Builder::new()
            .prefix("shawk-lab-")
            .tempdir()
            .expect("a temporary directory can be made");
        // Programs that give up being root have files in it, too.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))
            .expect("the temporary directory can be opened to others");
        let switch = Host::new("switch", directory.path());
        // Snooping would keep neighbour discovery from ports it does not know.
        let bridge = "ip link add br0 type bridge mcast_snooping 0 && ip link set br0 up";
        switch.succeeds(&["sh", "-c", bridge]);
        Lab {
            places: RefCell::default(),
            server: RefCell::default(),
            cmdbs: RefCell::new(0),
            switch,
            directory,
        }
    }

    /// A host on the bridge.
    pub(crate) fn host(&self, name: &str, number: u8) -> Rc<Host> {
        let host = Host::new(name, self.directory.path());
        // Without duplicate address detection, addresses are there at once.
        let wire = format!(
            "ip link add eth0 type veth peer name port{number} netns {switch}
             ip link set eth0 up
             ip addr add 10.77.0.{number}/24 dev eth0
             ip addr add fd77::{number}/64 dev eth0 nodad",
            switch = self.switch.anchor(),
        );
        // From outside the pid namespace, where the switch has a pid.
        let mut command = Command::new(host::program("nsenter"));
        command.arg(format!("--net=/proc/{}/ns/net", host.anchor()));
        command.args(["--", "sh", "-ec", &wire]);
        host::clean(&mut command);
        wait::success(&mut command, LIMIT);
        let port = format!("port{number}");
        let link = ["ip", "link", "set", &port, "master", "br0", "up"];
        self.switch.succeeds(&link);
        self.place(host)
    }

    /// A further network namespace on a host.
    pub(crate) fn netns(&self, host: &Host, name: &str) -> Rc<Host> {
        self.place(host.netns(name))
    }

    /// The hosts proper: where a probe can run.
    pub(crate) fn hosts(&self) -> Vec<Rc<Host>> {
        let places = self.places.borrow();
        let hosts = places.iter().filter(|place| place.scope.is_empty());
        hosts.cloned().collect()
    }

    /// A path in the lab's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn place(&self, host: Host) -> Rc<Host> {
        let host = Rc::new(host);
        self.places.borrow_mut().push(Rc::clone(&host));
        host
    }
}

impl Drop for Lab {
    #[expect(clippy::print_stderr, reason = "a failure shows what the lab was like")]
    fn drop(&mut self) {
        if thread::panicking() {
            for place in self.places.borrow().iter() {
                let sockets = place.run(&["ss", "-HOtunap"]);
                let sockets = String::from_utf8_lossy(&sockets.stdout).into_owned();
                eprintln!("=== {}\n{sockets}{}", place.label(), place.logs());
            }
        }
    }
}
