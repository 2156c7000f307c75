//! What this host offers a probe: found by asking for each feature, never by
//! the kernel's version.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use libbpf_rs::ProgramType;
use libbpf_rs::btf::{Btf, types};
use rustix::fs::{CWD, Mode, OFlags};

use crate::flow::host::Rung;
use crate::probe::bpf::{self, Events, Kernel, PeersOf};
use crate::probe::channel::{Channel, Line, Room};
use crate::probe::diag::{self, Table};
use crate::probe::rights::{Capability, Rights};
use crate::probe::{ProbeConfig, namespace, procfs};

/// Where the kernel tells its types.
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// Something of the kernel or of the probe's rights that a rung stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// The kernel's own types.
    Btf,
    /// The system call that loads programs.
    Bpf,
    /// The right to load programs.
    MayLoad,
    /// The right to let them trace.
    MayTrace,
    /// Programs that read the kernel's memory.
    KernelReads,
    /// The iterator over all tasks' files.
    FileIterator,
    /// That the kernel takes the iterator's programs.
    IteratorPrograms,
    /// A tracepoint at each change of a TCP socket's state.
    StateTracepoint,
    /// That the kernel takes streaming's programs, and what they stand on.
    StreamingPrograms,
    /// Tracepoints at each message a socket sends and receives.
    LengthTracepoints,
    /// The tree of control groups, version 2.
    Cgroup2,
    /// The right to attach programs to it.
    MayAttach,
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
    pub const ALL: [Feature; 18] = [
        Feature::Btf,
        Feature::Bpf,
        Feature::MayLoad,
        Feature::MayTrace,
        Feature::KernelReads,
        Feature::FileIterator,
        Feature::IteratorPrograms,
        Feature::StateTracepoint,
        Feature::StreamingPrograms,
        Feature::LengthTracepoints,
        Feature::Cgroup2,
        Feature::MayAttach,
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
            Feature::MayLoad => "CAP_BPF",
            Feature::MayTrace => "CAP_PERFMON",
            Feature::KernelReads => "BPF programs that may read the kernel's memory",
            Feature::FileIterator => "the BPF iterator task_file",
            Feature::IteratorPrograms | Feature::StreamingPrograms => {
                "the kernel to take its BPF programs"
            }
            Feature::StateTracepoint => "the tracepoint inet_sock_set_state",
            Feature::LengthTracepoints => "the tracepoints sock_send_length and sock_recv_length",
            Feature::Cgroup2 => "cgroup2",
            Feature::MayAttach => "CAP_NET_ADMIN",
            Feature::PeerHooks => "the sendmsg and recvmsg hooks of cgroup2",
            Feature::OwnProc => "a /proc of its own pid namespace",
            Feature::SockDiag => "sock_diag netlink sockets",
            Feature::Ptrace => "CAP_SYS_PTRACE",
            Feature::ReadSearch => "CAP_DAC_READ_SEARCH",
            Feature::EnterNamespaces => "CAP_SYS_ADMIN",
        }
    }

    /// What would lift its absence; nothing for a right that can be given.
    pub const fn remedy(self) -> &'static str {
        match self {
            Feature::Btf => "a kernel built with CONFIG_DEBUG_INFO_BTF=y, and /sys mounted",
            Feature::Bpf => "a kernel with CONFIG_BPF_SYSCALL=y, and no seccomp filter against it",
            Feature::KernelReads => "boot without lockdown=confidentiality",
            Feature::FileIterator => "a kernel 5.8 or newer has it",
            Feature::StateTracepoint => "a kernel 4.16 or newer has it",
            Feature::LengthTracepoints => "a kernel 6.3 or newer has them",
            Feature::IteratorPrograms | Feature::StreamingPrograms => {
                "'shawk doctor --debug' says more"
            }
            Feature::Cgroup2 => "mount it",
            Feature::PeerHooks => "a kernel with CONFIG_CGROUP_BPF=y",
            Feature::OwnProc => "mount proc inside the pid namespace, or run the probe outside",
            Feature::SockDiag => "a kernel with CONFIG_INET_DIAG and CONFIG_INET_UDP_DIAG",
            _ => "give it to the probe",
        }
    }

    /// The right that it is, if it is one.
    pub const fn capability(self) -> Option<Capability> {
        match self {
            Feature::MayLoad => Some(Capability::Bpf),
            Feature::MayTrace => Some(Capability::Perfmon),
            Feature::MayAttach => Some(Capability::NetAdmin),
            Feature::Ptrace => Some(Capability::SysPtrace),
            Feature::ReadSearch => Some(Capability::DacReadSearch),
            Feature::EnterNamespaces => Some(Capability::SysAdmin),
            _ => None,
        }
    }
}

/// A feature is there, or it is not, with what the kernel said.
pub type Presence = Result<(), Option<String>>;

/// The facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Support {
    /// The probe sees the processes of its own pid namespace only.
    pub confined: bool,
    /// Each feature, or its absence; what is not in here could not be asked
    /// for.
    pub features: BTreeMap<Feature, Presence>,
}

/// What was loaded to learn that it works, so that it is not loaded again.
#[derive(Debug, Default)]
pub enum Loaded {
    /// Nothing.
    #[default]
    Nothing,
    /// The iterator.
    Iterator(Box<Kernel>),
    /// The iterator, and events which are counted from now on.
    Streaming(Box<Kernel>, Events),
}

impl Support {
    /// Asks the kernel for each feature that the rung `best` and those below it
    /// could use; the others count as unknown. Programs are loaded for it: the
    /// verifier takes some milliseconds for the iterator, and a second for
    /// streaming, which nobody pays who does not want to stream. They are
    /// handed on.
    pub fn read(config: &ProbeConfig, best: Rung) -> Result<(Support, Loaded)> {
        bpf::hush();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = rustix::fs::openat(CWD, &config.proc, flags, Mode::empty())
            .with_context(|| format!("open {}", config.proc.display()))?;
        let rights = Rights::read(&proc);
        let mut features = BTreeMap::from([
            (Feature::OwnProc, present(is_own(&proc))),
            (Feature::SockDiag, sock_diag()),
        ]);
        for feature in Feature::ALL {
            if let Some(capability) = feature.capability() {
                let there = rights.has(capability);
                features.insert(feature, present(there).map_err(|_| rights.why_not(capability)));
            }
        }
        let mut support = Support { confined: namespace::is_confined(&proc), features };
        let loaded = if best <= Rung::Iterator {
            support.ask_kernel(&rights);
            support.load(config, best)
        } else {
            Loaded::Nothing
        };
        Ok((support, loaded))
    }

    /// What can be known before anything is loaded.
    fn ask_kernel(&mut self, rights: &Rights) {
        self.features.insert(Feature::Btf, present(Path::new(BTF).exists()));
        let readable = if rights.locked_down {
            Err(Some("the kernel is locked down".to_owned()))
        } else {
            Ok(())
        };
        self.features.insert(Feature::KernelReads, readable);
        if self.has(Feature::MayLoad) {
            let there = ProgramType::SocketFilter.is_supported();
            let there = there.map_err(|error| Some(error.to_string())).and_then(present);
            self.features.insert(Feature::Bpf, there);
        }
    }

    /// Loads the best that works. What does not is looked for in the kernel's
    /// types, which tell of a missing tracepoint where the verifier would not,
    /// and tell it to everybody.
    fn load(&mut self, config: &ProbeConfig, best: Rung) -> Loaded {
        let before =
            [Feature::Btf, Feature::Bpf, Feature::MayLoad, Feature::MayTrace, Feature::KernelReads];
        let can_load = before.iter().all(|&feature| self.has(feature));
        if can_load && best <= Rung::Streaming {
            let loaded = self.load_streaming(config);
            if !matches!(loaded, Loaded::Nothing) {
                self.features.insert(Feature::FileIterator, Ok(()));
                self.features.insert(Feature::IteratorPrograms, Ok(()));
                return loaded;
            }
        }
        if can_load {
            match Kernel::load_iterator() {
                Ok(kernel) => {
                    self.features.insert(Feature::FileIterator, Ok(()));
                    self.features.insert(Feature::IteratorPrograms, Ok(()));
                    return Loaded::Iterator(Box::new(kernel));
                }
                Err(error) => self.note(Feature::IteratorPrograms, error),
            }
        }
        self.look_up(best);
        Loaded::Nothing
    }

    /// Loads what streaming needs: all of it, and less as long as that fails.
    fn load_streaming(&mut self, config: &ProbeConfig) -> Loaded {
        let place = match place(config) {
            Ok(place) => place,
            Err(error) => {
                self.note(Feature::StreamingPrograms, error);
                return Loaded::Nothing;
            }
        };
        let group = root_group(config);
        self.features.insert(Feature::Cgroup2, present(group.is_some()));
        let peers = group.filter(|_| self.has(Feature::MayAttach));
        let mut failed = None;
        for (feature, lengths, with) in [
            (Feature::PeerHooks, true, peers),
            (Feature::LengthTracepoints, true, None),
            (Feature::StreamingPrograms, false, None),
        ] {
            let in_vain = match feature {
                Feature::PeerHooks => with.is_none(),
                Feature::LengthTracepoints => self.lacks(feature),
                _ => self.lacks(Feature::StateTracepoint),
            };
            if in_vain {
                continue;
            }
            let events = Events { place, lengths, peers: with };
            match Kernel::load_stream(&events) {
                Ok(kernel) => {
                    self.note_streaming(lengths, failed);
                    return Loaded::Streaming(Box::new(kernel), events);
                }
                Err(error) => failed = Some((feature, error)),
            }
            self.look_up(Rung::Streaming);
        }
        if let Some((_, error)) = failed {
            self.note(Feature::StreamingPrograms, error);
        }
        Loaded::Nothing
    }

    /// Streaming works, and what `failed` before did so for what it had more.
    fn note_streaming(&mut self, lengths: bool, failed: Option<(Feature, anyhow::Error)>) {
        self.features.insert(Feature::StateTracepoint, Ok(()));
        self.features.insert(Feature::StreamingPrograms, Ok(()));
        if lengths {
            self.features.insert(Feature::LengthTracepoints, Ok(()));
        }
        match failed {
            // Without these the hooks were not tried.
            Some((Feature::PeerHooks, _)) if self.lacks(Feature::LengthTracepoints) => {}
            Some((feature, error)) => self.note(feature, error),
            None if self.has(Feature::Cgroup2) && self.has(Feature::MayAttach) => {
                self.features.insert(Feature::PeerHooks, Ok(()));
            }
            None => {}
        }
    }

    fn note(&mut self, feature: Feature, error: anyhow::Error) {
        self.features.insert(feature, Err(Some(format!("{error:#}"))));
    }

    /// Looks for tracepoints and the iterator in the kernel's types.
    fn look_up(&mut self, best: Rung) {
        let Ok(btf) = Btf::from_path(BTF) else { return };
        let tracepoint = |name: &str| {
            present(btf.type_by_name::<types::Typedef<'_>>(&format!("btf_trace_{name}")).is_some())
        };
        let iterator = btf.type_by_name::<types::Func<'_>>("bpf_iter_task_file").is_some();
        self.features.insert(Feature::FileIterator, present(iterator));
        if best <= Rung::Streaming {
            self.features.insert(Feature::StateTracepoint, tracepoint("inet_sock_set_state"));
            let lengths = tracepoint("sock_send_length").and(tracepoint("sock_recv_length"));
            if lengths.is_err() {
                self.features.insert(Feature::LengthTracepoints, lengths);
            }
        }
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

fn present(there: bool) -> Presence {
    if there { Ok(()) } else { Err(None) }
}

fn sock_diag() -> Presence {
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
}
