//! The netlink rung: sock_diag dumps of every namespace, owners from `/proc`.
//!
//! Where the kernel does not offer a dump, `/proc/net` stands in for it; that
//! and everything else that was not seen is counted.

use std::io::ErrorKind;
use std::mem::take;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::flow::host::{Coverage, Host, Namespace, Rung};
use crate::flow::socket::{Snapshot, Socket};
use crate::probe::channel::{Channel, Line, Room, Step};
use crate::probe::diag::{self, Table};
use crate::probe::namespace::{self, ADDRESSES, Home, Scopes, is_confined};
use crate::probe::owner::{Owners, index};
use crate::probe::procfs::{has_ended, list_pids};
use crate::probe::{ProbeConfig, machine, procnet};

/// Most sockets of one snapshot; at about 100 bytes each.
const SOCKETS: usize = 4_000_000;

/// The rung, and what it keeps from scan to scan.
///
/// The descriptors it holds are opened once and reused, so that a program
/// that has run out of them still sees the sockets.
#[derive(Debug)]
pub struct Netlink {
    host: Host,
    net: PathBuf,
    proc: OwnedFd,
    home: Home,
    confined: bool,
    dumps: bool,
    channels: Channels,
    room: Room,
    owners: Owners,
    pids: Vec<u32>,
    /// Sockets of the last scan, so that the next one's list need not grow.
    expected: usize,
}

impl Netlink {
    /// Opens `/proc` and says whose it is. Without `dumps` the sockets are read
    /// as the text of `/proc/net` even where the kernel offers better.
    pub fn open(config: &ProbeConfig, dumps: bool) -> Result<Netlink> {
        let host = machine::read_host(config)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = rustix::fs::openat(CWD, &config.proc, flags, Mode::empty())
            .with_context(|| format!("open {}", config.proc.display()))?;
        let home = Home::open(&config.proc)?;
        let confined = is_confined(&proc);
        Ok(Netlink {
            host,
            net: config.proc.join("thread-self/net"),
            proc,
            home,
            confined,
            dumps,
            channels: Channels::open(),
            room: Room::new(),
            owners: Owners::new(),
            pids: Vec::new(),
            expected: 0,
        })
    }

    /// One scan.
    ///
    /// The sockets are read first, their owners after that: a socket closed
    /// in between is left without an owner, and so is one that passed to a
    /// process just started.
    pub fn snapshot(&mut self) -> Result<Snapshot> {
        let taken = Timestamp::now();
        let mut scan = Scan {
            namespaces: Vec::new(),
            sockets: Vec::with_capacity(self.expected),
            coverage: Coverage { confined: self.confined, ..Coverage::default() },
            rung: Rung::Procfs,
            dumps: self.dumps,
        };
        list_pids(&self.proc, self.owners.room(), &mut self.pids).context("list processes")?;
        self.read_namespaces(&mut scan)?;

        let index = index(&mut scan.sockets);
        // Processes are listed again: those that have opened a socket since
        // may have started since.
        list_pids(&self.proc, self.owners.room(), &mut self.pids).context("list processes")?;
        let instances = self.owners.find(
            self.proc.as_fd(),
            &self.pids,
            &mut scan.sockets,
            &index,
            &mut scan.coverage,
        );
        self.expected = scan.sockets.len() + scan.sockets.len() / 16;
        scan.count();
        Ok(Snapshot {
            taken,
            host: self.host.clone(),
            rung: scan.rung,
            namespaces: scan.namespaces,
            instances,
            sockets: scan.sockets,
            coverage: scan.coverage,
        })
    }

    fn read_namespaces(&mut self, scan: &mut Scan) -> Result<()> {
        let Netlink { net, room, channels, home, .. } = self;
        scan.read(String::new(), channels, room, net, self.proc.as_fd());

        let map = home.find(self.proc.as_fd(), &self.pids, !self.confined);
        scan.coverage.namespaces_unreadable += map.unreadable;
        let mut scopes = Scopes::default();
        for found in &map.others {
            let first = found.pids.first();
            let container =
                first.and_then(|&pid| self.owners.identities.container(&self.proc, pid));
            let scope = scopes.name(found, container.as_deref());
            let visit = || scan.read(scope, &mut Channels::default(), room, net, self.proc.as_fd());
            match home.inside(self.proc.as_fd(), found, visit)? {
                Ok(()) => {}
                // It went with its last process.
                Err(errno) if has_ended(errno) => {}
                Err(_) => scan.coverage.namespaces_unreadable += 1,
            }
        }
        Ok(())
    }
}

/// The netlink sockets of one namespace, opened when they are needed, and
/// again after an error.
#[derive(Debug, Default)]
struct Channels {
    diag: Option<Channel>,
    route: Option<Channel>,
}

impl Channels {
    /// What opens; a scan tries again.
    fn open() -> Channels {
        Channels {
            diag: Channel::open(Line::SockDiag).ok(),
            route: Channel::open(Line::Route).ok(),
        }
    }
}

/// A snapshot on its way.
struct Scan {
    namespaces: Vec<Namespace>,
    sockets: Vec<Socket>,
    coverage: Coverage,
    rung: Rung,
    dumps: bool,
}

impl Scan {
    /// Reads the namespace that the thread is in.
    fn read(
        &mut self,
        scope: String,
        channels: &mut Channels,
        room: &mut Room,
        net: &Path,
        proc: BorrowedFd<'_>,
    ) {
        let namespace = u32::try_from(self.namespaces.len()).expect("there are few namespaces");
        let first = self.sockets.len();
        let mut complete = true;
        for table in Table::ALL {
            let start = self.sockets.len();
            match self.dump(channels, room, table, namespace) {
                Ok(()) => self.rung = Rung::Netlink,
                Err(_) => {
                    channels.diag = None;
                    self.sockets.truncate(start);
                    complete &= self.read_text(net, table, namespace);
                }
            }
        }
        let addresses = match namespace::addresses(&mut channels.route, room) {
            Ok((addresses, malformed)) => {
                self.coverage.malformed += malformed;
                addresses
            }
            Err(_) => {
                complete = false;
                self.addresses_in_use(first)
            }
        };
        self.namespaces.push(Namespace {
            scope: scope.into(),
            addresses,
            ephemeral_ports: namespace::ephemeral_ports(proc),
        });
        self.coverage.namespaces += u64::from(complete);
        self.coverage.namespaces_unreadable += u64::from(!complete);
    }

    fn dump(
        &mut self,
        channels: &mut Channels,
        room: &mut Room,
        table: Table,
        namespace: u32,
    ) -> Result<(), Errno> {
        if !self.dumps {
            return Err(Errno::OPNOTSUPP);
        }
        let channel = open(&mut channels.diag, Line::SockDiag)?;
        let start = self.sockets.len();
        let mut dropped = 0;
        let request = |sequence| diag::sockets_request(table, sequence);
        let sockets = &mut self.sockets;
        let malformed = channel.dump(room, request, |step| match step {
            Step::Begin => {
                sockets.truncate(start);
                dropped = 0;
                true
            }
            Step::Part(body) => match diag::parse_socket(body, table.protocol(), namespace) {
                Some(_) if sockets.len() >= SOCKETS => {
                    dropped += 1;
                    true
                }
                Some(socket) => {
                    sockets.push(socket);
                    true
                }
                None => false,
            },
        })?;
        self.coverage.malformed += malformed;
        self.coverage.flows_dropped += dropped;
        Ok(())
    }

    /// Says whether it could be read.
    fn read_text(&mut self, net: &Path, table: Table, namespace: u32) -> bool {
        let mut complete = true;
        for file in procnet::files(table) {
            let path = net.join(file);
            match procnet::read(&path, table.protocol(), namespace, &mut self.sockets) {
                Ok(malformed) => self.coverage.malformed += malformed,
                // A kernel without IPv6 has no file for it, and no sockets.
                Err(error) if error.kind() == ErrorKind::NotFound && file.ends_with('6') => {}
                Err(_) => complete = false,
            }
        }
        let dropped = self.sockets.len().saturating_sub(SOCKETS);
        self.sockets.truncate(SOCKETS);
        self.coverage.flows_dropped += dropped as u64;
        complete
    }

    /// The addresses that the sockets from `first` on are bound to: what is
    /// left to go by where the kernel may not be asked.
    fn addresses_in_use(&self, first: usize) -> Vec<IpAddr> {
        let mut addresses = Vec::new();
        for socket in &self.sockets[first..] {
            let address = socket.local.ip();
            if !address.is_unspecified() && !address.is_multicast() {
                addresses.push(address);
            }
        }
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(ADDRESSES);
        addresses
    }

    fn count(&mut self) {
        self.coverage.sockets = self.sockets.len() as u64;
        for socket in &self.sockets {
            if socket.inode == 0 {
                self.coverage.sockets_ownerless += 1;
            } else if socket.owners.is_empty() {
                self.coverage.sockets_unattributed += 1;
            }
        }
    }
}

fn open(channel: &mut Option<Channel>, line: Line) -> Result<&mut Channel, Errno> {
    let open = match take(channel) {
        Some(open) => open,
        None => Channel::open(line)?,
    };
    Ok(channel.insert(open))
}
