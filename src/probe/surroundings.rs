//! What stands around the sockets: the host, its network namespaces, and the
//! processes that own them, by number.
//!
//! For the rungs on which the kernel hands over sockets with the numbers of
//! their namespace and process.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use jiff::Timestamp;
use rustix::fs::{CWD, Mode, OFlags};

use crate::flow::host::{Coverage, Host, Namespace};
use crate::flow::process::Instance;
use crate::probe::channel::{Channel, Room};
use crate::probe::namespace::{self, Home, Scopes, is_confined};
use crate::probe::owner::Owners;
use crate::probe::procfs::{has_ended, list_pids};
use crate::probe::{ProbeConfig, machine};

/// Most answers about ways that are remembered; then they are asked anew, as
/// they are when an address comes or goes.
const SOURCES: usize = 4096;

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
    sources: HashMap<IpAddr, Option<IpAddr>>,
    /// Addresses of the probe's own namespace, as of the last scan.
    own: Vec<IpAddr>,
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
            sources: HashMap::new(),
            own: Vec::new(),
        })
    }

    /// A scan begins: finds the namespaces and reads their addresses.
    pub fn look(&mut self) -> Result<Around> {
        let mut around = Around::default();
        around.coverage.confined = self.confined;
        self.owners.begin();
        list_pids(&self.proc, self.owners.room(), &mut self.pids).context("list processes")?;

        let Surroundings {
            proc,
            home,
            owners,
            room,
            route,
            pids,
            sources,
            own: self_addresses,
            ..
        } = self;
        around.read(home.inode(), String::new(), route, proc, room);
        let map = home.find(proc.as_fd(), pids, !self.confined);
        around.coverage.namespaces_unreadable += map.unreadable;
        if *self_addresses != around.namespaces[0].addresses {
            sources.clear();
            self_addresses.clone_from(&around.namespaces[0].addresses);
        }
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

    /// The address from which the host talks to `peer` where a socket leaves
    /// that to the kernel; none where more than one comes into question and
    /// the namespace is not the probe's own, so that nobody can be asked.
    pub fn source(&mut self, around: &Around, namespace: u32, peer: IpAddr) -> Option<IpAddr> {
        let addresses = &around.namespaces.get(namespace as usize)?.addresses;
        if addresses.contains(&peer) {
            return Some(peer);
        }
        let kind = |ip: &IpAddr| (ip.is_ipv4(), ip.is_loopback(), is_link_local(*ip));
        let mut fit = addresses.iter().filter(|&own| kind(own) == kind(&peer));
        match (fit.next(), fit.next()) {
            (Some(&only), None) => Some(only),
            (Some(_), Some(_)) if namespace == 0 => self.routed(peer),
            _ => None,
        }
    }

    /// Asks the kernel for the way to `peer`; nothing is sent.
    fn routed(&mut self, peer: IpAddr) -> Option<IpAddr> {
        if self.sources.len() >= SOURCES {
            self.sources.clear();
        }
        *self.sources.entry(peer).or_insert_with(|| {
            let any: IpAddr = match peer {
                IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let socket = UdpSocket::bind((any, 0)).ok()?;
            // Any port does; 9 is the one that discards.
            socket.connect((peer, 9)).ok()?;
            socket.local_addr().ok().map(|own| own.ip())
        })
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
        let addresses = namespace::addresses(route, room).map(|(addresses, malformed)| {
            self.coverage.malformed += malformed;
            addresses
        });
        self.coverage.namespaces += u64::from(addresses.is_ok());
        self.coverage.namespaces_unreadable += u64::from(addresses.is_err());
        if let Ok(inode) = u32::try_from(inode) {
            self.namespace_at.insert(inode, self.namespaces.len() as u32);
        }
        self.namespaces.push(Namespace {
            scope: scope.into(),
            addresses: addresses.unwrap_or_default(),
            ephemeral_ports: namespace::ephemeral_ports(proc),
        });
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
