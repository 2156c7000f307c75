//! What stands around the sockets: the host, its network namespaces, and the
//! processes that own them, by number.
//!
//! For the rungs on which the kernel hands over sockets with the numbers of
//! their namespace and process.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use jiff::Timestamp;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::flow::host::{Coverage, Host, Namespace};
use crate::flow::process::Instance;
use crate::probe::channel::{Channel, Line, Room, Step};
use crate::probe::namespace::{Home, Scopes, is_confined};
use crate::probe::owner::Owners;
use crate::probe::procfs::{self, has_ended, list_pids};
use crate::probe::{ProbeConfig, diag, machine};

/// Most addresses of one namespace.
const ADDRESSES: usize = 65_536;

/// Two numbers in decimal and a tab.
const PORT_RANGE: usize = 32;

/// What is kept from scan to scan.
#[derive(Debug)]
pub struct Surroundings {
    /// Whose sockets.
    pub host: Host,
    /// See [`Coverage::confined`].
    pub confined: bool,
    proc: OwnedFd,
    home: Home,
    owners: Owners,
    room: Room,
    route: Option<Channel>,
    pids: Vec<u32>,
}

/// What one scan found around its sockets.
#[derive(Debug, Default)]
pub struct Around {
    /// As in a snapshot; the host's own is first.
    pub namespaces: Vec<Namespace>,
    /// As in a snapshot.
    pub instances: Vec<Instance>,
    /// What was seen of namespaces and processes.
    pub coverage: Coverage,
    namespace_at: HashMap<u32, u32>,
    instance_at: HashMap<u32, Option<u32>>,
}

impl Surroundings {
    /// Opens `/proc` and says whose it is.
    pub fn open(config: &ProbeConfig) -> Result<Surroundings> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = rustix::fs::openat(CWD, &config.proc, flags, Mode::empty())
            .with_context(|| format!("open {}", config.proc.display()))?;
        Ok(Surroundings {
            host: machine::read_host(config)?,
            confined: is_confined(&proc),
            home: Home::open(&config.proc)?,
            proc,
            owners: Owners::new(),
            room: Room::new(),
            route: None,
            pids: Vec::new(),
        })
    }

    /// A scan begins: finds the namespaces and reads their addresses.
    pub fn look(&mut self) -> Result<Around> {
        let mut around = Around::default();
        around.coverage.confined = self.confined;
        self.owners.begin();
        list_pids(&self.proc, self.owners.room(), &mut self.pids).context("list processes")?;

        let Surroundings { proc, home, owners, room, route, pids, .. } = self;
        around.read(home.inode(), String::new(), route, proc, room);
        let map = home.find(proc.as_fd(), pids, !self.confined);
        around.coverage.namespaces_unreadable += map.dropped;
        let mut scopes = Scopes::default();
        for found in &map.others {
            let first = found.pids.first();
            let container = first.and_then(|&pid| owners.identities.container(&*proc, pid));
            let scope = scopes.name(found, container.as_deref());
            let visit = || around.read(found.inode, scope, &mut None, proc, room);
            match home.inside(proc.as_fd(), found, visit)? {
                Ok(()) => {}
                // It went with its last process.
                Err(errno) if has_ended(errno) => {}
                Err(_) => around.coverage.namespaces_unreadable += 1,
            }
        }
        Ok(around)
    }

    /// The index of process `pid` among the instances; none if it has ended
    /// or may not be asked, which is counted.
    pub fn instance(&mut self, around: &mut Around, pid: u32) -> Option<u32> {
        *around.instance_at.entry(pid).or_insert_with(|| {
            match self.owners.instance(self.proc.as_fd(), pid) {
                Ok(instance) => {
                    around.instances.push(instance);
                    u32::try_from(around.instances.len() - 1).ok()
                }
                Err(errno) if has_ended(errno) => {
                    around.coverage.processes_vanished += 1;
                    None
                }
                Err(_) => {
                    around.coverage.processes_unreadable += 1;
                    None
                }
            }
        })
    }

    /// When a process started, from nanoseconds after boot.
    pub fn started(&self, after_boot: u64) -> Timestamp {
        self.owners.started(after_boot)
    }

    /// The name of a user, or the number where none is known.
    pub fn user(&self, user: u32) -> String {
        self.owners.identities.user(user)
    }

    /// The scan is over.
    pub fn end(&mut self) {
        self.owners.end();
    }
}

impl Around {
    /// The index of the namespace with that number. One that nothing but a
    /// socket keeps alive is found here for the first time, and cannot be
    /// entered.
    pub fn namespace(&mut self, inode: u32) -> u32 {
        *self.namespace_at.entry(inode).or_insert_with(|| {
            self.coverage.namespaces_unreadable += 1;
            self.namespaces.push(Namespace {
                scope: format!("net:{inode}").into(),
                addresses: Vec::new(),
                ephemeral_ports: None,
            });
            (self.namespaces.len() - 1) as u32
        })
    }

    /// Reads the namespace that the thread is in.
    fn read(
        &mut self,
        inode: u64,
        scope: String,
        route: &mut Option<Channel>,
        proc: &OwnedFd,
        room: &mut Room,
    ) {
        let addresses = self.addresses(route, room);
        self.coverage.namespaces += u64::from(addresses.is_ok());
        self.coverage.namespaces_unreadable += u64::from(addresses.is_err());
        if let Ok(inode) = u32::try_from(inode) {
            self.namespace_at.insert(inode, self.namespaces.len() as u32);
        }
        self.namespaces.push(Namespace {
            scope: scope.into(),
            addresses: addresses.unwrap_or_default(),
            ephemeral_ports: ephemeral_ports(proc),
        });
    }

    fn addresses(
        &mut self,
        route: &mut Option<Channel>,
        room: &mut Room,
    ) -> Result<Vec<IpAddr>, Errno> {
        let mut channel = match route.take() {
            Some(channel) => channel,
            None => Channel::open(Line::Route)?,
        };
        let mut addresses = Vec::new();
        self.coverage.malformed +=
            channel.dump(room, diag::addresses_request, |step| match step {
                Step::Begin => {
                    addresses.clear();
                    true
                }
                Step::Part(body) => match diag::parse_address(body) {
                    Some(address) if addresses.len() < ADDRESSES => {
                        addresses.push(address);
                        true
                    }
                    _ => false,
                },
            })?;
        *route = Some(channel);
        addresses.sort_unstable();
        addresses.dedup();
        Ok(addresses)
    }
}

/// The range of the namespace that the thread is in.
fn ephemeral_ports(proc: &OwnedFd) -> Option<(u16, u16)> {
    let mut room = [0; PORT_RANGE];
    let text = procfs::read(proc, "sys/net/ipv4/ip_local_port_range", &mut room).ok()?;
    let mut numbers = str::from_utf8(text).ok()?.split_ascii_whitespace();
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
