//! Whose sockets they are: the walk over every process's descriptors.
//!
//! It finds sockets by their inode and knows nothing of where they came from.
//! Not found are descriptors that only a thread with a table of its own has
//! (`unshare(CLONE_FILES)`), and those that only io_uring holds.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use jiff::Timestamp;
use rustix::fs::{Mode, OFlags, RawDir};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use crate::flow::host::Coverage;
use crate::flow::process::Instance;
use crate::flow::socket::Socket;
use crate::probe::identity::Identities;
use crate::probe::procfs;

/// Most instances a snapshot has.
const INSTANCES: usize = 262_144;

/// Room for directory entries; one of a descriptor takes 24 bytes.
const ROOM: usize = 64 * 1024;

/// Longest link to a socket: `socket:[` and 20 digits and `]`. What is longer
/// is cut off, and no socket.
const LINK: usize = 32;

/// Longest `stat` that is read: 52 numbers of at most 20 digits.
const STAT: usize = 2048;

/// A clock that was put right by less than this leaves start times alone.
const STEP_SECONDS: u64 = 10;

/// Where a socket is, by its inode.
pub type Index = HashMap<u64, u32, BuildHasherDefault<InodeHasher>>;

/// Inodes are handed out in sequence and nobody chooses them, so one
/// multiplication spreads them well enough.
#[derive(Clone, Copy, Debug, Default)]
pub struct InodeHasher(u64);

impl Hasher for InodeHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 divided by the golden ratio.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// Leaves each socket once, and says where it is. A dump holds one twice when
/// it changed its state meanwhile. Those without an inode cannot be told
/// apart and all stay.
pub fn index(sockets: &mut Vec<Socket>) -> Index {
    let mut index = Index::with_capacity_and_hasher(sockets.len(), BuildHasherDefault::default());
    let mut kept = 0;
    sockets.retain(|socket| {
        if socket.inode != 0 {
            match index.entry(socket.inode) {
                Entry::Occupied(_) => return false,
                Entry::Vacant(entry) => entry.insert(kept),
            };
        }
        kept += 1;
        true
    });
    index
}

/// What the walk keeps from scan to scan.
#[derive(Debug)]
pub struct Owners {
    /// Who is who.
    pub identities: Identities,
    clock: Clock,
    directory: Box<[MaybeUninit<u8>]>,
}

/// Start times: `stat` has them in ticks after boot.
#[derive(Debug)]
struct Clock {
    /// Boot, in seconds of UTC, rounded down: `btime` in `/proc/stat`.
    boot: i64,
    ticks_per_second: u64,
    /// Time since boot, as of the scan's beginning.
    now_ticks: u64,
}

impl Owners {
    /// Reads the clock; everything else is read with the scans.
    pub fn new() -> Owners {
        let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
        Owners {
            identities: Identities::new(PathBuf::from("/etc/passwd")),
            clock: Clock { boot: boot(), ticks_per_second, now_ticks: 0 },
            directory: vec![MaybeUninit::uninit(); ROOM].into_boxed_slice(),
        }
    }

    /// Room for a directory's entries that is free between walks.
    pub fn room(&mut self) -> &mut [MaybeUninit<u8>] {
        &mut self.directory
    }

    /// Writes into each socket who holds it, of the processes `pids` of
    /// `proc`, and returns the instances. Counts processes.
    pub fn find(
        &mut self,
        proc: BorrowedFd<'_>,
        pids: &[u32],
        sockets: &mut [Socket],
        index: &Index,
        coverage: &mut Coverage,
    ) -> Vec<Instance> {
        self.clock.refresh();
        self.identities.begin();
        let mut instances = Vec::new();
        for &pid in pids {
            match self.visit(proc, pid, sockets, index, &mut instances) {
                Ok(()) => coverage.processes += 1,
                Err(errno) if procfs::has_ended(errno) => coverage.processes_vanished += 1,
                Err(_) => coverage.processes_unreadable += 1,
            }
        }
        self.identities.end();
        instances
    }

    /// A scan begins that finds its owners elsewhere and asks for them with
    /// [`Owners::instance`].
    pub fn begin(&mut self) {
        self.clock.refresh();
        self.identities.begin();
    }

    /// The scan is over.
    pub fn end(&mut self) {
        self.identities.end();
    }

    /// The process `pid` as an instance.
    pub fn instance(&mut self, proc: BorrowedFd<'_>, pid: u32) -> Result<Instance, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // Unlike `fd`, it is open to all.
        let below = rustix::fs::openat(proc, format!("{pid}/task"), flags, Mode::empty())?;
        instance(&self.clock, &mut self.identities, below.as_fd(), pid)
    }

    /// When a process started, as [`Instance::started`] has it, from the
    /// kernel's own number: nanoseconds after boot.
    pub fn started(&self, after_boot: u64) -> Timestamp {
        // As `nsec_to_clock_t` rounds it for /proc.
        self.clock.started(after_boot / (1_000_000_000 / self.clock.ticks_per_second))
    }

    fn visit(
        &mut self,
        proc: BorrowedFd<'_>,
        pid: u32,
        sockets: &mut [Socket],
        index: &Index,
        instances: &mut Vec<Instance>,
    ) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fds = rustix::fs::openat(proc, format!("{pid}/fd"), flags, Mode::empty())?;
        let mut link = [MaybeUninit::uninit(); LINK];
        let mut own = None;
        let mut failed = None;
        let mut entries = RawDir::new(fds.as_fd(), &mut self.directory);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_bytes().starts_with(b".") {
                continue;
            }
            let target = match procfs::read_link(&fds, name, &mut link) {
                Ok(target) => target,
                // Closed since the directory was read.
                Err(errno) if procfs::has_ended(errno) => continue,
                Err(errno) => {
                    failed = Some(errno);
                    continue;
                }
            };
            let inode = procfs::parse_link(target, b"socket");
            let Some(&at) = inode.and_then(|inode| index.get(&inode)) else {
                continue;
            };
            let owner = match own {
                Some(owner) => owner,
                None => {
                    let owner = instances.len();
                    if owner == INSTANCES {
                        return Err(Errno::NOMEM);
                    }
                    let (clock, identities) = (&self.clock, &mut self.identities);
                    instances.push(instance(clock, identities, fds.as_fd(), pid)?);
                    *own.insert(u32::try_from(owner).map_err(|_| Errno::NOMEM)?)
                }
            };
            // Processes come in order, so the last owner is the only one that
            // may be the same: a descriptor that was duplicated.
            let owners = &mut sockets[at as usize].owners;
            if owners.last() != Some(&owner) {
                owners.push(owner);
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

impl Default for Owners {
    fn default() -> Owners {
        Owners::new()
    }
}

/// The instance whose descriptors are `fds`. From that directory up, for the
/// directory stays with the process while the pid may pass to another.
fn instance(
    clock: &Clock,
    identities: &mut Identities,
    fds: BorrowedFd<'_>,
    pid: u32,
) -> Result<Instance, Errno> {
    let mut room = [0; STAT];
    let bytes = procfs::read(fds, "../stat", &mut room)?;
    let stat = procfs::parse_stat(bytes).ok_or(Errno::BADMSG)?;
    let age = clock.now_ticks.saturating_sub(stat.start_ticks);
    Ok(Instance {
        process: identities.process(fds, pid, &stat, age),
        pid,
        pgid: if stat.pgrp == 0 { pid } else { stat.pgrp },
        started: clock.started(stat.start_ticks),
    })
}

impl Clock {
    /// Start times are part of who an instance is, so the boot time is taken
    /// once: measured anew each time it would differ by what NTP slews. A
    /// clock that was wrong at boot and then set is another matter.
    fn refresh(&mut self) {
        let boot = boot();
        if boot.abs_diff(self.boot) > STEP_SECONDS {
            self.boot = boot;
        }
        let now = clock_gettime(ClockId::Boottime);
        self.now_ticks =
            u64::try_from(now.tv_sec).unwrap_or(0).saturating_mul(self.ticks_per_second);
    }

    fn started(&self, ticks: u64) -> Timestamp {
        let micros = u128::from(ticks) * 1_000_000 / u128::from(self.ticks_per_second);
        let micros = i64::try_from(micros).unwrap_or(i64::MAX);
        let micros = self.boot.saturating_mul(1_000_000).saturating_add(micros);
        Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

fn boot() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    let up = clock_gettime(ClockId::Boottime);
    let borrow = i64::from(now.tv_nsec < up.tv_nsec);
    now.tv_sec - up.tv_sec - borrow
}
