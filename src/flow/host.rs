//! The host a probe reports for, its namespaces, and what it could not see.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Who reports. The id is the identity; the name may change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Stable over reboots and renames: derived from the machine id, or what
    /// `SHAWK_HOST_ID` says.
    pub id: String,
    /// The host name, or what `SHAWK_HOSTNAME` says.
    pub name: String,
}

/// One network namespace: the scope in which an address and a port mean
/// something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Empty for the host's own (the one the probe lives in); else a name that
    /// outlives a restart where there is one: `netns:NAME` for one that
    /// `ip netns` made, `container:ID` for a container's, `net:INODE` at last.
    pub scope: Arc<str>,
    /// The addresses its interfaces have, loopback included.
    pub addresses: Vec<IpAddr>,
    /// The ports the kernel gives to sockets that chose none, first and last
    /// (`net.ipv4.ip_local_port_range`); absent where it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral_ports: Option<(u16, u16)>,
}

/// How sockets were read: the rung of the ladder, best first. It says how
/// much an answer can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rung {
    /// The kernel tells of every change of state; nothing is too short-lived.
    Streaming,
    /// A BPF iterator over all tasks' files, at an interval.
    Iterator,
    /// sock_diag netlink dumps and /proc, at an interval.
    Netlink,
    /// /proc/net and /proc alone, at an interval.
    Procfs,
}

impl Rung {
    /// All rungs, best first.
    pub const ALL: [Rung; 4] = [Rung::Streaming, Rung::Iterator, Rung::Netlink, Rung::Procfs];

    /// The word for it in output, in the CMDB and in a snapshot file.
    pub const fn name(self) -> &'static str {
        match self {
            Rung::Streaming => "streaming",
            Rung::Iterator => "iterator",
            Rung::Netlink => "netlink",
            Rung::Procfs => "procfs",
        }
    }
}

/// What one scan saw and what it could not see. Counts are of that scan.
///
/// "Could not see" is never reported as absence, so these travel with every
/// report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Coverage {
    /// The probe sits in a pid namespace of its own and reports that
    /// namespace's processes only.
    pub confined: bool,
    /// The probe was told to leave out peers ([`crate::flow::filter`]), so
    /// that what it does not report of them may well be there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub filtered: bool,
    /// Network namespaces read.
    pub namespaces: u64,
    /// Network namespaces that could not be entered or dumped.
    pub namespaces_unreadable: u64,
    /// Processes whose descriptors were read.
    pub processes: u64,
    /// Processes that ended while they were read.
    pub processes_vanished: u64,
    /// Processes whose descriptors or identity could not be read (no
    /// permission, or an error that is not the process having ended).
    pub processes_unreadable: u64,
    /// Sockets read, of all kinds and states.
    pub sockets: u64,
    /// Sockets no process holds: TIME_WAIT, SYN_RECV, not yet accepted,
    /// orphaned. They are nobody's connections and make no host flow.
    pub sockets_ownerless: u64,
    /// Sockets with an owner that could not be found. They make host flows
    /// without a process, but for a confined probe, which leaves them out:
    /// they belong to processes outside.
    pub sockets_unattributed: u64,
    /// Messages or lines that could not be understood and were passed over.
    pub malformed: u64,
    /// Host flows left out because a limit was reached.
    pub flows_dropped: u64,
    /// What streaming could not keep since the start: changes of flows that
    /// found no room, sockets not followed until the next scan, datagrams of
    /// unknown peers, calls that the kernel left out.
    #[serde(skip_serializing_if = "is_zero")]
    pub updates_lost: u64,
    /// Scans that were due while one was still running, or that were left out
    /// because they cost too much.
    pub scans_skipped: u64,
    /// Spans of flows that were seen since the start and could not be kept
    /// until the CMDB had them: neither in memory nor on disk was room, or the
    /// disk did not give back what was written.
    #[serde(skip_serializing_if = "is_zero")]
    pub records_dropped: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Coverage {
    /// Without what hides whose a flow is, and not the flow.
    pub fn of_flows(&self) -> Coverage {
        Coverage { processes_unreadable: 0, sockets_unattributed: 0, ..self.clone() }
    }

    /// Whether flows that last are out of its sight where it looks, and not just
    /// what a moment hid.
    pub fn is_partial(&self) -> bool {
        self.filtered || self.namespaces_unreadable > 0 || self.flows_dropped > 0
    }

    /// What was not seen, in words; nothing if everything was.
    pub fn unseen(&self) -> Option<String> {
        let counts = [
            (self.namespaces_unreadable, "network namespace", "network namespaces", "unreadable"),
            (self.processes_unreadable, "process", "processes", "unreadable"),
            (self.sockets_unattributed, "socket", "sockets", "without a known owner"),
            (self.malformed, "message", "messages", "not understood"),
            (self.flows_dropped, "flow", "flows", "dropped at a limit"),
            (self.updates_lost, "change", "changes", "between scans lost"),
            (self.scans_skipped, "scan", "scans", "skipped"),
            (self.records_dropped, "record", "records", "dropped while the CMDB was away"),
        ];
        let mut words: Vec<String> = counts
            .into_iter()
            .filter(|(count, ..)| *count > 0)
            .map(|(count, one, many, what)| {
                format!("{count} {} {what}", if count == 1 { one } else { many })
            })
            .collect();
        if self.filtered {
            words.insert(0, "peers that --filter leaves out".to_owned());
        }
        if self.confined {
            words.insert(0, "anything outside the probe's own pid namespace".to_owned());
        }
        (!words.is_empty()).then(|| words.join(", "))
    }
}
