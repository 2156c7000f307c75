//! What the probe's process may do: its capabilities, and what takes some of
//! them away again.

use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use crate::probe::procfs;

/// Room for `/proc/self/status`.
const STATUS: usize = 16 * 1024;

/// Room for a sysctl, or the line of the lockdown.
const WORDS: usize = 128;

/// `PROC_USER_INIT_INO`, include/linux/proc_ns.h: the user namespace of the
/// kernel itself.
const USER_INIT: u64 = 0xEFFF_FFFD;

/// A right that Linux gives by itself: include/uapi/linux/capability.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Loading programs of BPF.
    Bpf,
    /// Letting them trace.
    Perfmon,
    /// Attaching them to control groups.
    NetAdmin,
    /// Looking at processes of other users.
    SysPtrace,
    /// Looking into directories of other users.
    DacReadSearch,
    /// Entering other namespaces.
    SysAdmin,
}

impl Capability {
    /// Its bit, and that of the older one which includes it.
    const fn bits(self) -> u64 {
        const DAC_OVERRIDE: u64 = 1 << 1;
        const SYS_ADMIN: u64 = 1 << 21;
        match self {
            Capability::Bpf => 1 << 39 | SYS_ADMIN,
            Capability::Perfmon => 1 << 38 | SYS_ADMIN,
            Capability::NetAdmin => 1 << 12 | SYS_ADMIN,
            Capability::SysPtrace => 1 << 19,
            Capability::DacReadSearch => 1 << 2 | DAC_OVERRIDE,
            Capability::SysAdmin => SYS_ADMIN,
        }
    }
}

/// The rights of the probe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    effective: u64,
    /// Its capabilities are those of a user namespace: they count for what
    /// belongs to that, and the kernel's own programs do not.
    pub contained: bool,
    /// `kernel.unprivileged_bpf_disabled`, where it can be read.
    pub bpf_disabled: Option<u8>,
    /// The kernel keeps its memory even from the superuser: lockdown
    /// `confidentiality`, kernel_lockdown(7).
    pub locked_down: bool,
}

impl Rights {
    /// Asks. What cannot be read counts as not there.
    pub fn read(proc: impl AsFd) -> Rights {
        let mut room = vec![0; STATUS];
        let status = procfs::read(&proc, "self/status", &mut room).ok();
        let effective = status.and_then(parse_effective).unwrap_or(0);
        let mut link = [MaybeUninit::uninit(); 64];
        let user = procfs::read_link(&proc, "self/ns/user", &mut link).ok();
        let user = user.and_then(|link| procfs::parse_link(link, b"user"));
        let disabled = procfs::read(&proc, "sys/kernel/unprivileged_bpf_disabled", &mut room).ok();
        let bpf_disabled = disabled.and_then(|text| str::from_utf8(text).ok()?.trim().parse().ok());
        let mut words = [0; WORDS];
        let lockdown =
            procfs::read(rustix::fs::CWD, "/sys/kernel/security/lockdown", &mut words).ok();
        Rights {
            effective,
            contained: user.is_some_and(|user| user != USER_INIT),
            bpf_disabled,
            locked_down: lockdown.is_some_and(is_locked_down),
        }
    }

    /// Whether the probe has that right.
    pub fn has(&self, capability: Capability) -> bool {
        let of_the_kernel =
            matches!(capability, Capability::Bpf | Capability::Perfmon | Capability::NetAdmin);
        self.effective & capability.bits() != 0 && !(self.contained && of_the_kernel)
    }

    /// What there is to say to the lack of one.
    pub fn why_not(&self, capability: Capability) -> Option<String> {
        let bpf = capability == Capability::Bpf;
        if self.contained && self.effective & capability.bits() != 0 {
            return Some("those of a user namespace do not count here".to_owned());
        }
        let disabled = self.bpf_disabled.filter(|&value| bpf && value > 0);
        disabled.map(|value| format!("kernel.unprivileged_bpf_disabled is {value}"))
    }
}

fn parse_effective(status: &[u8]) -> Option<u64> {
    let line = status.split(|&byte| byte == b'\n').find_map(|l| l.strip_prefix(b"CapEff:"))?;
    u64::from_str_radix(str::from_utf8(line).ok()?.trim(), 16).ok()
}

/// `none integrity [confidentiality]`: what holds is in brackets.
fn is_locked_down(words: &[u8]) -> bool {
    str::from_utf8(words).is_ok_and(|words| words.contains("[confidentiality]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_in_hex() {
        let status = b"Name:\tshawk\nCapPrm:\t0000000000000000\nCapEff:\t000001fffeffffff\n";
        assert_eq!(parse_effective(status), Some(0x1ff_feff_ffff));
        assert_eq!(parse_effective(b"Name:\tshawk\n"), None);
    }

    #[test]
    fn the_lockdown_is_the_word_in_brackets() {
        assert!(is_locked_down(b"none integrity [confidentiality]\n"));
        assert!(!is_locked_down(b"none [integrity] confidentiality\n"));
        assert!(!is_locked_down(b"[none] integrity confidentiality\n"));
    }

    #[test]
    fn the_older_capability_includes_the_newer() {
        use Capability::{Bpf, DacReadSearch, NetAdmin, Perfmon, SysAdmin, SysPtrace};
        let all = [Bpf, Perfmon, NetAdmin, SysPtrace, DacReadSearch, SysAdmin];
        let has = |effective: u64, contained: bool| {
            let rights = Rights { effective, contained, ..Rights::default() };
            all.into_iter().filter(|&capability| rights.has(capability)).collect::<Vec<_>>()
        };
        assert_eq!(has(0, false), []);
        assert_eq!(has(1 << 21, false), [Bpf, Perfmon, NetAdmin, SysAdmin]);
        assert_eq!(has(1 << 39 | 1 << 38, false), [Bpf, Perfmon]);
        assert_eq!(has(1 << 1 | 1 << 19, false), [SysPtrace, DacReadSearch]);
        assert_eq!(has(u64::MAX, true), [SysPtrace, DacReadSearch, SysAdmin]);
    }

    #[test]
    fn the_lack_of_a_right_is_explained() {
        let rights = Rights { bpf_disabled: Some(2), ..Rights::default() };
        let why = rights.why_not(Capability::Bpf);
        assert_eq!(why.as_deref(), Some("kernel.unprivileged_bpf_disabled is 2"));
        assert_eq!(rights.why_not(Capability::SysPtrace), None);
        let rights = Rights { effective: u64::MAX, contained: true, ..Rights::default() };
        assert!(rights.why_not(Capability::Perfmon).is_some());
    }
}
