//! What this host offers a probe: found by asking for each feature, never by
//! the kernel's version.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use libbpf_rs::{MapType, ProgramType};
use rustix::fs::{CWD, Mode, OFlags};

use crate::flow::host::Rung;
use crate::probe::bpf::{self, Events, Kernel, PeersOf};
use crate::probe::channel::{Channel, Line, Room};
use crate::probe::diag::{self, Table};
use crate::probe::{ProbeConfig, namespace, procfs};

/// Room for `/proc/self/status`.
const STATUS: usize = 16 * 1024;

/// Where the kernel tells its types.
const BTF: &str = "/sys/kernel/btf/vmlinux";

// Numbers of capabilities, include/uapi/linux/capability.h.
const CAP_DAC_READ_SEARCH: u32 = 2;
const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;

/// Something of the kernel or of the probe's rights that a rung stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// The kernel's own types.
    Btf,
    /// Loading programs that trace.
    Bpf,
    /// The iterator over all tasks' files.
    FileIterator,
    /// Values that the kernel keeps with a socket.
    SocketStorage,
    /// A tracepoint at each change of a TCP socket's state.
    StateTracepoint,
    /// Tracepoints at each message a socket sends and receives.
    LengthTracepoints,
    /// Programs at each datagram of a control group's processes.
    PeerHooks,
    /// A `/proc` of the probe's own pid namespace.
    OwnProc,
    /// Dumps of sockets over netlink.
    SockDiag,
    /// Looking at processes of other users.
    Ptrace,
    /// Looking into directories of other users.
    ReadSearch,
    /// Entering other network namespaces.
    EnterNamespaces,
}

impl Feature {
    /// All of them.
    pub const ALL: [Feature; 12] = [
        Feature::Btf,
        Feature::Bpf,
        Feature::FileIterator,
        Feature::SocketStorage,
        Feature::StateTracepoint,
        Feature::LengthTracepoints,
        Feature::PeerHooks,
        Feature::OwnProc,
        Feature::SockDiag,
        Feature::Ptrace,
        Feature::ReadSearch,
        Feature::EnterNamespaces,
    ];

    /// What it is, after "needs".
    pub const fn name(self) -> &'static str {
        match self {
            Feature::Btf => "the kernel's types in /sys/kernel/btf/vmlinux",
            Feature::Bpf => "the bpf() system call",
            Feature::FileIterator => "the BPF iterator task_file",
            Feature::SocketStorage => "BPF maps of type sk_storage",
            Feature::StateTracepoint => "the tracepoint inet_sock_set_state",
            Feature::LengthTracepoints => "the tracepoints sock_send_length and sock_recv_length",
            Feature::PeerHooks => "the sendmsg and recvmsg hooks of cgroup2",
            Feature::OwnProc => "a /proc of its own pid namespace",
            Feature::SockDiag => "sock_diag netlink sockets",
            Feature::Ptrace => "CAP_SYS_PTRACE",
            Feature::ReadSearch => "CAP_DAC_READ_SEARCH",
            Feature::EnterNamespaces => "CAP_SYS_ADMIN",
        }
    }

    /// What would lift its absence.
    pub const fn remedy(self) -> &'static str {
        match self {
            Feature::Btf => "a kernel built with CONFIG_DEBUG_INFO_BTF=y, and /sys mounted",
            Feature::Bpf => "give the probe CAP_BPF and CAP_PERFMON",
            Feature::FileIterator | Feature::StateTracepoint | Feature::LengthTracepoints => {
                "the kernel must have it"
            }
            Feature::PeerHooks => "give the probe CAP_NET_ADMIN, and mount cgroup2",
            Feature::SocketStorage => "the kernel must have CONFIG_BPF_SYSCALL and CONFIG_NET",
            Feature::OwnProc => "mount proc inside the pid namespace, or run the probe outside",
            Feature::SockDiag => "the kernel must have CONFIG_INET_DIAG and CONFIG_INET_UDP_DIAG",
            Feature::Ptrace | Feature::ReadSearch | Feature::EnterNamespaces => {
                "give it to the probe"
            }
        }
    }
}

/// The facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Support {
    /// The probe sees the processes of its own pid namespace only.
    pub confined: bool,
    /// Each feature, or its absence with what the kernel said; what is not in
    /// here could not be asked for.
    pub features: BTreeMap<Feature, Result<(), Option<String>>>,
}

impl Support {
    /// Asks the kernel for each feature that the rung `best` and those below it
    /// could use; the others count as unknown. Programs are loaded for it: the
    /// verifier takes some tens of milliseconds for the iterator, and a second
    /// for streaming, which nobody pays who does not want to stream.
    pub fn read(config: &ProbeConfig, best: Rung) -> Result<Support> {
        bpf::hush();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = rustix::fs::openat(CWD, &config.proc, flags, Mode::empty())
            .with_context(|| format!("open {}", config.proc.display()))?;
        let capabilities = effective_capabilities(&proc).unwrap_or(0);
        let capable = |number: u32| present(capabilities & 1 << number != 0);
        let mut features = BTreeMap::from([
            (Feature::Btf, present(Path::new(BTF).exists())),
            (Feature::Bpf, asked(ProgramType::RawTracepoint.is_supported())),
            (Feature::OwnProc, present(is_own(&proc))),
            (Feature::SockDiag, sock_diag()),
            (Feature::Ptrace, capable(CAP_SYS_PTRACE)),
            (Feature::ReadSearch, capable(CAP_DAC_READ_SEARCH)),
            (Feature::EnterNamespaces, capable(CAP_SYS_ADMIN)),
        ]);
        // Without these nothing could be asked, and the reason is known.
        let can_load = [Feature::Btf, Feature::Bpf].iter().all(|feature| features[feature].is_ok());
        if can_load && best <= Rung::Iterator {
            features.insert(Feature::FileIterator, tried(Kernel::load_iterator()));
        }
        if can_load && best <= Rung::Streaming {
            features.insert(Feature::SocketStorage, asked(MapType::SkStorage.is_supported()));
            features.extend(try_events(config));
        }
        Ok(Support { confined: namespace::is_confined(&proc), features })
    }

    /// The programs of the streaming rung that this host has.
    pub fn events(&self, config: &ProbeConfig) -> Result<Events> {
        Ok(Events {
            place: place(config)?,
            lengths: self.has(Feature::LengthTracepoints),
            peers: if self.has(Feature::PeerHooks) { root_group(config) } else { None },
        })
    }

    /// Whether it is there.
    pub fn has(&self, feature: Feature) -> bool {
        matches!(self.features.get(&feature), Some(Ok(())))
    }

    /// Whether it is absent, and not only unknown because another is.
    pub fn lacks(&self, feature: Feature) -> bool {
        matches!(self.features.get(&feature), Some(Err(_)))
    }

    /// What the kernel said to its absence.
    pub fn why(&self, feature: Feature) -> Option<&str> {
        match self.features.get(&feature) {
            Some(Err(Some(why))) => Some(why),
            _ => None,
        }
    }
}

/// Loads what streaming needs: all of it, and less as long as that fails.
fn try_events(config: &ProbeConfig) -> Vec<(Feature, Result<(), Option<String>>)> {
    let place = match place(config) {
        Ok(place) => place,
        Err(error) => return vec![(Feature::StateTracepoint, Err(Some(format!("{error:#}"))))],
    };
    let peers = root_group(config);
    let mut found = Vec::new();
    for (feature, lengths, with) in [
        (Feature::PeerHooks, true, peers),
        (Feature::LengthTracepoints, true, None),
        (Feature::StateTracepoint, false, None),
    ] {
        if feature == Feature::PeerHooks && with.is_none() {
            found.push((feature, Err(Some("cgroup2 is not mounted".to_owned()))));
            continue;
        }
        let attempt = tried(Kernel::load_stream(&Events { place, lengths, peers: with }));
        let works = attempt.is_ok();
        found.push((feature, attempt));
        if works {
            break;
        }
    }
    // What worked included the ones after it.
    if found.last().is_some_and(|(_, attempt)| attempt.is_ok()) {
        for feature in [Feature::LengthTracepoints, Feature::StateTracepoint] {
            if found.iter().all(|(tried, _)| *tried != feature) {
                found.push((feature, Ok(())));
            }
        }
    }
    found
}

/// The probe's pid namespace, unless it is the kernel's own.
fn place(config: &ProbeConfig) -> Result<Option<(u64, u64)>> {
    let path = config.proc.join("self/ns/pid");
    let stat = rustix::fs::stat(&path)
        .with_context(|| format!("read own pid namespace {}", path.display()))?;
    Ok((stat.st_ino != namespace::PID_INIT).then_some((stat.st_dev, stat.st_ino)))
}

/// The root of the control groups that the probe sees: of all that are mounted
/// there is one tree of version 2.
fn root_group(config: &ProbeConfig) -> Option<PeersOf> {
    let mounts = std::fs::read(config.proc.join("self/mountinfo")).ok()?;
    let path = parse_cgroup2(&mounts)?;
    std::fs::File::open(path).ok().map(|file| PeersOf(Arc::new(file)))
}

/// The first mount point of type cgroup2, as in proc_pid_mountinfo(5). Octal
/// escapes are left alone: nobody mounts it at a path with a space.
fn parse_cgroup2(mounts: &[u8]) -> Option<&Path> {
    let text = str::from_utf8(mounts).ok()?;
    text.lines().find_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        source.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4)).flatten().map(Path::new)
    })
}

fn present(there: bool) -> Result<(), Option<String>> {
    if there { Ok(()) } else { Err(None) }
}

fn asked(answer: libbpf_rs::Result<bool>) -> Result<(), Option<String>> {
    match answer {
        Ok(there) => present(there),
        Err(error) => Err(Some(error.to_string())),
    }
}

fn tried<T>(attempt: Result<T>) -> Result<(), Option<String>> {
    match attempt {
        Ok(_) => Ok(()),
        Err(error) => Err(Some(format!("{error:#}"))),
    }
}

fn sock_diag() -> Result<(), Option<String>> {
    let ask = || {
        let mut channel = Channel::open(Line::SockDiag)?;
        let request = |sequence| diag::sockets_request(Table::Udp4, sequence);
        channel.dump(&mut Room::new(), request, |_| true)
    };
    ask().map(drop).map_err(|errno| Some(errno.to_string()))
}

/// Whether the pids in this `/proc` are those that the kernel knows the probe
/// by. Its link `self` has the probe's pid in the namespace of the mount.
fn is_own(proc: impl AsFd) -> bool {
    let mut room = [std::mem::MaybeUninit::uninit(); 16];
    let own = rustix::process::getpid().as_raw_nonzero().get();
    procfs::read_link(proc, "self", &mut room)
        .ok()
        .and_then(procfs::parse_number)
        .is_some_and(|number| i64::try_from(number) == Ok(i64::from(own)))
}

fn effective_capabilities(proc: impl AsFd) -> Option<u64> {
    let mut room = vec![0; STATUS];
    let status = procfs::read(proc, "self/status", &mut room).ok()?;
    parse_effective_capabilities(status)
}

fn parse_effective_capabilities(status: &[u8]) -> Option<u64> {
    let line = status.split(|&byte| byte == b'\n').find_map(|l| l.strip_prefix(b"CapEff:"))?;
    u64::from_str_radix(str::from_utf8(line).ok()?.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_of_cgroup2_is_found() {
        let mounts = b"25 22 0:23 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            36 25 0:24 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(parse_cgroup2(mounts), Some(Path::new("/sys/fs/cgroup/unified")));
        assert_eq!(parse_cgroup2(b"25 22 0:23 / / rw - cgroup cgroup rw\n"), None);
    }

    #[test]
    fn capabilities_are_read_in_hex() {
        let status = b"Name:\tshawk\nCapPrm:\t0000000000000000\nCapEff:\t000001fffeffffff\n";
        assert_eq!(parse_effective_capabilities(status), Some(0x1ff_feff_ffff));
        assert_eq!(parse_effective_capabilities(b"Name:\tshawk\n"), None);
    }
}
