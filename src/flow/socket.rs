//! One kernel socket, and a snapshot of all of them.

use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::flow::host::{Coverage, Host, Namespace, Rung};
use crate::flow::process::Instance;

/// Transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
}

impl Protocol {
    /// The word for it in output.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }

    /// The IANA protocol number, which is also what the CMDB stores.
    pub const fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        }
    }
}

/// Who opened a connection, seen from the local end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The local end opened it.
    Active,
    /// The local end was opened, or listens.
    Passive,
    /// Nothing that was seen tells.
    Unknown,
}

impl Direction {
    /// The word for it in output.
    pub const fn name(self) -> &'static str {
        match self {
            Direction::Active => "active",
            Direction::Passive => "passive",
            Direction::Unknown => "unknown",
        }
    }

    /// The number that the CMDB and the flow hash have for it.
    pub const fn number(self) -> u8 {
        match self {
            Direction::Unknown => 0,
            Direction::Active => 1,
            Direction::Passive => 2,
        }
    }
}

/// State of a socket: include/net/tcp_states.h. UDP uses two of them,
/// `Established` (connected) and `Close` (not connected).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Data can flow; for UDP: `connect` was called.
    Established,
    /// Opening, no answer yet.
    SynSent,
    /// Being opened; no process has it yet.
    SynRecv,
    /// Closed here, not yet acknowledged.
    FinWait1,
    /// Closed here, the other end may still send.
    FinWait2,
    /// Gone; the kernel remembers the ports for a minute.
    TimeWait,
    /// Not connected; for UDP: any socket without a fixed peer.
    Close,
    /// Closed by the other end, not yet here.
    CloseWait,
    /// Closed by both, not yet acknowledged.
    LastAck,
    /// Waiting to be opened.
    Listen,
    /// Closed by both at once.
    Closing,
}

/// One socket, as its kernel has it. IPv4-mapped IPv6 addresses are IPv4
/// here: the program that reads a socket canonicalises them, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// Index into [`Snapshot::namespaces`].
    pub namespace: u32,
    /// Transport protocol.
    pub protocol: Protocol,
    /// State in the kernel.
    pub state: State,
    /// Address and port it is bound to; the address may be unspecified.
    pub local: SocketAddr,
    /// The other end, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<SocketAddr>,
    /// An IPv6 wildcard that does not accept IPv4 (`IPV6_V6ONLY`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub v6_only: bool,
    /// Who opened it, where the kernel's own counters tell: on the side that
    /// opened a TCP connection, `bytes_acked` includes the SYN (net/ipv4/
    /// tcp_input.c, `tcp_ack`), on the other it does not. `Unknown` where the
    /// reader has no such evidence.
    #[serde(default = "unknown", skip_serializing_if = "is_unknown")]
    pub opened: Direction,
    /// A UDP socket whose process chose the port (`SOCK_BINDPORT_LOCK`), where
    /// the reader can tell. Absent where it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_chosen: Option<bool>,
    /// Smoothed round-trip time in microseconds, of TCP, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_us: Option<u32>,
    /// Inode of the socket in sockfs; 0 for one that no process holds.
    pub inode: u64,
    /// Indices into [`Snapshot::instances`] of all processes that hold it.
    #[serde(default, skip_serializing_if = "SmallVec::is_empty")]
    pub owners: SmallVec<[u32; 2]>,
}

fn unknown() -> Direction {
    Direction::Unknown
}

fn is_unknown(direction: &Direction) -> bool {
    *direction == Direction::Unknown
}

/// Every socket of a host at one moment, with owners: what a polling probe
/// reads, and what `--record` writes and `--replay` reads back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// When the scan began.
    pub taken: Timestamp,
    /// Whose sockets.
    pub host: Host,
    /// How they were read.
    pub rung: Rung,
    /// The network namespaces, the host's own first.
    pub namespaces: Vec<Namespace>,
    /// Process instances that hold sockets.
    pub instances: Vec<Instance>,
    /// The sockets, in no particular order.
    pub sockets: Vec<Socket>,
    /// What was and was not seen.
    pub coverage: Coverage,
}
