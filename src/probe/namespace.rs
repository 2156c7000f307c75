//! The network namespaces of a host: found, named, entered, left again.
//!
//! None is held from one scan to the next, for that would keep it alive after
//! its last process ended. Not found is one that nothing but an open file or
//! a bind mount in an unusual place keeps alive.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use smallvec::SmallVec;

use crate::flow::process::decode;
use crate::probe::channel::{Channel, Line, Room, Step};
use crate::probe::{diag, procfs};

/// Most namespaces of one scan.
pub const NAMESPACES: usize = 4096;

/// `PROC_PID_INIT_INO`, include/linux/proc_ns.h: the pid namespace of the
/// kernel itself.
pub const PID_INIT: u64 = 0xEFFF_FFFC;

/// `NSFS_MAGIC`, include/uapi/linux/magic.h.
const NSFS: u64 = 0x6e73_6673;

/// Where `ip netns` keeps the namespaces it makes, under names that people
/// chose, and the container runtimes that follow it.
const NAMED: &str = "/run/netns";
/// Where Docker keeps those of its containers, under names that mean nothing.
const UNNAMED: &str = "/var/run/docker/netns";

/// Processes of a namespace that are remembered, lest the first has ended
/// when it is to be entered.
const PIDS: usize = 4;

/// Most addresses of one namespace.
pub const ADDRESSES: usize = 65_536;

/// Room for two numbers in decimal and a tab.
const PORT_RANGE: usize = 64;

/// Whether a `/proc` shows the processes of the initial pid namespace, and
/// with them all. That of its first process is asked, for the probe may have
/// the host's `/proc` and a namespace of its own; where it may not be asked,
/// the probe's.
pub fn is_confined(proc: impl AsFd) -> bool {
    let mut room = [std::mem::MaybeUninit::uninit(); 64];
    let mut read = |name: &str| {
        let link = procfs::read_link(&proc, name, &mut room).ok()?;
        procfs::parse_link(link, b"pid")
    };
    read("1/ns/pid").or_else(|| read("self/ns/pid")) != Some(PID_INIT)
}

/// The namespace the probe lives in.
#[derive(Debug)]
pub struct Home {
    door: OwnedFd,
    inode: u64,
}

/// Another namespace, and the ways in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Number of the namespace in nsfs.
    pub inode: u64,
    /// Some processes in it, lowest pid first.
    pub pids: SmallVec<[u32; PIDS]>,
    /// A bind mount of it.
    pub bind: Option<PathBuf>,
    /// The name that people know it by.
    pub name: Option<String>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    /// The namespaces but the probe's own: those with processes by their
    /// lowest pid, then the others by number.
    pub others: Vec<Found>,
    /// How many more there are: beyond the limit, or mounted where they could
    /// not be looked at. A directory that cannot be read counts as one.
    pub unreadable: u64,
}

impl Home {
    /// The calling thread's namespace.
    pub fn open(proc: &Path) -> Result<Home> {
        let path = proc.join("thread-self/ns/net");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let door = rustix::fs::openat(CWD, &path, flags, Mode::empty())
            .with_context(|| format!("open own network namespace {}", path.display()))?;
        let inode = rustix::fs::fstat(&door).context("read own network namespace")?.st_ino;
        Ok(Home { door, inode })
    }

    /// Its number in nsfs.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Finds the namespaces of all processes `pids` of `proc`, with the names
    /// that mounts in `/run` give them, and if `empty` is set also those that
    /// are mounted and have no process: a confined probe leaves them out, as
    /// the mounts may be those of the host around it.
    pub fn find(&self, proc: BorrowedFd<'_>, pids: &[u32], empty: bool) -> Map {
        let mut map = Map::default();
        let mut places: HashMap<u64, usize> = HashMap::new();
        let mut room = [std::mem::MaybeUninit::uninit(); 64];
        let mut dropped = HashSet::new();
        let mut add = |map: &mut Map, inode: u64| -> Option<usize> {
            if inode == self.inode {
                return None;
            }
            if let Some(&at) = places.get(&inode) {
                return Some(at);
            }
            if map.others.len() == NAMESPACES {
                dropped.insert(inode);
                return None;
            }
            places.insert(inode, map.others.len());
            map.others.push(Found { inode, pids: SmallVec::new(), bind: None, name: None });
            Some(map.others.len() - 1)
        };
        for &pid in pids {
            // A process that has ended, or that may not be asked, is counted
            // where its descriptors are read.
            let link = procfs::read_link(proc, format!("{pid}/ns/net"), &mut room).ok();
            let inode = link.and_then(|link| procfs::parse_link(link, b"net"));
            if let Some(at) = inode.and_then(|inode| add(&mut map, inode)) {
                let pids = &mut map.others[at].pids;
                if pids.len() < PIDS {
                    pids.push(pid);
                }
            }
        }
        let seen: HashSet<u64> = map.others.iter().map(|found| found.inode).collect();
        let binds = list_binds();
        for (inode, (path, name)) in binds.found {
            if !empty && !seen.contains(&inode) {
                continue;
            }
            if let Some(at) = add(&mut map, inode) {
                map.others[at].bind = Some(path);
                map.others[at].name = name;
            }
        }
        if empty {
            map.unreadable += binds.unreadable;
        }
        map.unreadable += dropped.len() as u64;
        map
    }

    /// Does `visit` inside a namespace and comes back. The outer error is
    /// that there was no way back, after which the thread is of no more use;
    /// the inner one that there was no way in.
    pub fn inside<T>(
        &self,
        proc: BorrowedFd<'_>,
        found: &Found,
        visit: impl FnOnce() -> T,
    ) -> Result<Result<T, Errno>> {
        let door = match found.open(proc) {
            Ok(door) => door,
            Err(errno) => return Ok(Err(errno)),
        };
        // The way back asks for its own permission: a probe in a user
        // namespace may have the right to enter a child's namespace and none
        // to return to its own. So it is tried while still at home.
        if let Err(errno) = enter(self.door.as_fd()).and_then(|()| enter(door.as_fd())) {
            return Ok(Err(errno));
        }
        let seen = visit();
        enter(self.door.as_fd()).context("return to own network namespace")?;
        Ok(Ok(seen))
    }
}

fn enter(door: BorrowedFd<'_>) -> Result<(), Errno> {
    move_into_link_name_space(door, Some(LinkNameSpaceType::Network))
}

impl Found {
    /// Opens the first way in that still leads there.
    fn open(&self, proc: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        let mut error = Errno::NOENT;
        for pid in &self.pids {
            match self.open_at(proc, Path::new(&format!("{pid}/ns/net"))) {
                Ok(door) => return Ok(door),
                Err(errno) => error = errno,
            }
        }
        match &self.bind {
            Some(path) => self.open_at(CWD, path),
            None => Err(error),
        }
    }

    fn open_at(&self, directory: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let door = rustix::fs::openat(directory, path, flags, Mode::empty())?;
        // The pid may have passed to another process.
        if rustix::fs::fstat(&door)?.st_ino != self.inode {
            return Err(Errno::NOENT);
        }
        Ok(door)
    }
}

/// Namespaces that are mounted.
#[derive(Default)]
struct Binds {
    /// With a path and a name, those of the first in the alphabet's order.
    found: BTreeMap<u64, (PathBuf, Option<String>)>,
    unreadable: u64,
}

fn list_binds() -> Binds {
    let mut binds = Binds::default();
    for (directory, named) in [(NAMED, true), (UNNAMED, false)] {
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) => {
                binds.unreadable += u64::from(error.kind() != ErrorKind::NotFound);
                continue;
            }
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort_unstable();
        for path in paths {
            match bind_inode(&path) {
                Ok(Some(inode)) => {
                    let name = path.file_name().filter(|_| named);
                    let name = name.map(|name| decode(name.as_bytes()));
                    binds.found.entry(inode).or_insert((path, name));
                }
                Ok(None) => {}
                Err(errno) => binds.unreadable += u64::from(!procfs::has_ended(errno)),
            }
        }
    }
    binds
}

/// None for what is no namespace, as a mount point that nothing is on yet.
fn bind_inode(path: &Path) -> Result<Option<u64>, Errno> {
    // NONBLOCK, lest somebody put a pipe there.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
    // The type differs among architectures; the number is positive.
    let kind = rustix::fs::fstatfs(&file)?.f_type;
    if u64::try_from(kind).ok() != Some(NSFS) {
        return Ok(None);
    }
    Ok(Some(rustix::fs::fstat(&file)?.st_ino))
}

/// The addresses of the namespace that the thread is in, and how many messages
/// about them were not understood. The channel is opened when there is none,
/// and kept unless it failed.
pub fn addresses(
    route: &mut Option<Channel>,
    room: &mut Room,
) -> Result<(Vec<IpAddr>, u64), Errno> {
    let mut channel = match route.take() {
        Some(channel) => channel,
        None => Channel::open(Line::Route)?,
    };
    let mut addresses = Vec::new();
    let malformed = channel.dump(room, diag::addresses_request, |step| match step {
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
    Ok((addresses, malformed))
}

/// The ports that the kernel gives to sockets which chose none, in the
/// namespace that the thread is in: `/proc/sys/net` shows that of whoever opens
/// it.
pub fn ephemeral_ports(proc: impl AsFd) -> Option<(u16, u16)> {
    let mut room = [0; PORT_RANGE];
    let text = procfs::read(proc, "sys/net/ipv4/ip_local_port_range", &mut room).ok()?;
    let mut numbers = str::from_utf8(text).ok()?.split_ascii_whitespace();
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Names of namespaces, each given once: a container may have made several,
/// and the same address in two of them is two endpoints.
#[derive(Debug, Default)]
pub struct Scopes(HashSet<String>);

impl Scopes {
    /// The scope of a namespace that is not the probe's own, from what keeps
    /// its meaning longest. `container` is that of its first process.
    pub fn name(&mut self, found: &Found, container: Option<&str>) -> String {
        let named = found.name.as_ref().map(|name| format!("netns:{name}"));
        let contained = container.map(|id| format!("container:{}", short(id)));
        let scopes = [named, contained, Some(format!("net:{}", found.inode))];
        for scope in scopes.into_iter().flatten() {
            if self.0.insert(scope.clone()) {
                return scope;
            }
        }
        format!("net:{}", found.inode)
    }
}

/// A container's id as its runtime's tools print it; a name stays whole.
fn short(id: &str) -> &str {
    let hex = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hex { &id[..12] } else { id }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_the_best_name_that_is_free() {
        let id = "3f2a0c9d4b6e8f1027395a7c6d4e2b1f0a9c8d7e6f5b4a392817060504030201";
        let found = |inode, name: Option<&str>| Found {
            inode,
            pids: SmallVec::new(),
            bind: None,
            name: name.map(str::to_owned),
        };
        let mut scopes = Scopes::default();
        assert_eq!(scopes.name(&found(1, Some("blue")), Some(id)), "netns:blue");
        assert_eq!(scopes.name(&found(2, None), Some(id)), "container:3f2a0c9d4b6e");
        assert_eq!(scopes.name(&found(3, None), Some(id)), "net:3");
        assert_eq!(scopes.name(&found(4, None), Some("web1")), "container:web1");
        assert_eq!(scopes.name(&found(5, None), None), "net:5");
    }
}
