//! The records of `bpf/flow.h`, read into values.
//!
//! Pure: bytes in, values out. Offsets and sizes are those of the skeleton,
//! which has them from the compiled object.

use std::mem::{offset_of, size_of};
use std::net::{IpAddr, Ipv6Addr};

use crate::flow::socket::{Direction, Protocol};
use crate::probe::bpf::skeleton::types;

/// Bytes of a host flow's key.
pub const KEY: usize = size_of::<types::flow_key>();
/// Bytes of what is added up for it.
pub const FLOW: usize = size_of::<types::flow>();
/// Bytes of a descriptor.
pub const DESCRIPTOR: usize = size_of::<types::descriptor>();
/// Bytes of a process.
pub const PROCESS: usize = size_of::<types::process>();

// The sizes that bpf/flow.h asserts as well.
const _: () = assert!(KEY == 48 && FLOW == 56 && DESCRIPTOR == 64 && PROCESS == 552);

/// A host flow's key as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Number of the network namespace in nsfs.
    pub netns: u32,
    /// Process, in the probe's pid namespace; 0 for none.
    pub pid: u32,
    /// This end; the port is 0 where it is not the service's.
    pub local: (IpAddr, u16),
    /// The other end, likewise.
    pub peer: (IpAddr, u16),
    /// Who opened it.
    pub opened: Direction,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Of UDP: whether the process chose the port.
    pub port_chosen: bool,
}

/// What happened to a flow since it was last read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// Sockets that the last pass found.
    pub open: u32,
    /// Of these in SYN_SENT.
    pub connecting: u32,
    /// Connections that were established.
    pub opened: u32,
    /// Attempts that the other end refused.
    pub refused: u32,
    /// Attempts that nobody answered.
    pub timed_out: u32,
    /// Attempts that ended with the word that there is no way.
    pub unreachable: u32,
    /// Attempts that ended otherwise; mostly, the process had no patience.
    pub given_up: u32,
    /// Payload that was sent and acknowledged.
    pub bytes_sent: u64,
    /// Payload that came.
    pub bytes_received: u64,
    /// Segments that were sent again.
    pub retransmits: u32,
    /// Smallest smoothed round-trip time in microseconds.
    pub rtt_us: Option<u32>,
}

/// What the kernel knew of a process when it made a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// After boot, in nanoseconds.
    pub started: u64,
    /// Effective user, in the initial user namespace.
    pub user: u32,
    /// Process group, in the probe's pid namespace.
    pub group: Option<u32>,
    /// `comm`.
    pub name: Vec<u8>,
    /// The program, where its path fits.
    pub exe: Option<Vec<u8>>,
}

/// A process's descriptor of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Of the socket.
    pub inode: u64,
    /// Number of the network namespace in nsfs.
    pub netns: u32,
    /// Process, in the probe's pid namespace.
    pub pid: u32,
    /// This end; the address may be unspecified.
    pub local: (IpAddr, u16),
    /// The other end; unspecified and 0 where there is none.
    pub peer: (IpAddr, u16),
    /// Smoothed round-trip time in microseconds.
    pub rtt_us: Option<u32>,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Number of the state in `include/net/tcp_states.h`.
    pub state: u8,
    /// Who opened it, where the kernel's counters tell.
    pub opened: Direction,
    /// `IPV6_V6ONLY`.
    pub v6_only: bool,
    /// Whether the process chose the port (`SOCK_BINDPORT_LOCK`).
    pub port_chosen: bool,
}

/// Reads a [`Key`].
pub fn parse_key(bytes: &[u8]) -> Option<Key> {
    let local = address_at(bytes, offset_of!(types::flow_key, local))?;
    let peer = address_at(bytes, offset_of!(types::flow_key, peer))?;
    Some(Key {
        netns: u32_at(bytes, offset_of!(types::flow_key, netns))?,
        pid: u32_at(bytes, offset_of!(types::flow_key, pid))?,
        local: (local, u16_at(bytes, offset_of!(types::flow_key, local_port))?),
        peer: (peer, u16_at(bytes, offset_of!(types::flow_key, peer_port))?),
        opened: direction(*bytes.get(offset_of!(types::flow_key, opened))?)?,
        protocol: protocol(*bytes.get(offset_of!(types::flow_key, protocol))?)?,
        port_chosen: *bytes.get(offset_of!(types::flow_key, port_chosen))? != 0,
    })
}

/// Reads a [`Sum`].
pub fn parse_sum(bytes: &[u8]) -> Option<Sum> {
    Some(Sum {
        open: u32_at(bytes, offset_of!(types::flow, open))?,
        connecting: u32_at(bytes, offset_of!(types::flow, connecting))?,
        opened: u32_at(bytes, offset_of!(types::flow, opened))?,
        refused: u32_at(bytes, offset_of!(types::flow, refused))?,
        timed_out: u32_at(bytes, offset_of!(types::flow, timed_out))?,
        unreachable: u32_at(bytes, offset_of!(types::flow, unreachable))?,
        given_up: u32_at(bytes, offset_of!(types::flow, given_up))?,
        bytes_sent: u64_at(bytes, offset_of!(types::flow, bytes_sent))?,
        bytes_received: u64_at(bytes, offset_of!(types::flow, bytes_received))?,
        retransmits: u32_at(bytes, offset_of!(types::flow, retransmits))?,
        rtt_us: measured(u32_at(bytes, offset_of!(types::flow, rtt_us))?),
    })
}

/// Reads a pid and its [`Note`]; none if the kernel was still writing it.
pub fn parse_note(key: &[u8], value: &[u8]) -> Option<(u32, Note)> {
    let name: [u8; 16] = array_at(value, offset_of!(types::process, comm))?;
    let note = Note {
        started: u64_at(value, offset_of!(types::process, started)).filter(|&ns| ns > 0)?,
        user: u32_at(value, offset_of!(types::process, user))?,
        group: u32_at(value, offset_of!(types::process, group)).filter(|&group| group > 0),
        name: until_nul(&name).to_vec(),
        exe: parse_path(value),
    };
    Some((u32_at(key, 0)?, note))
}

/// The path whose parts come last first. A part that fills its place was cut;
/// one that is a slash is a step from a mount to the one below it.
fn parse_path(value: &[u8]) -> Option<Vec<u8>> {
    const PART: usize = 32;
    let parts = u32_at(value, offset_of!(types::process, parts))? as usize;
    let path = value.get(offset_of!(types::process, path)..)?.get(..parts * PART)?;
    let mut whole = Vec::new();
    for part in path.chunks_exact(PART).rev().map(until_nul) {
        if part == b"/" {
            continue;
        }
        if part.is_empty() || part.len() >= PART - 1 {
            return None;
        }
        whole.push(b'/');
        whole.extend_from_slice(part);
    }
    (!whole.is_empty()).then_some(whole)
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or(bytes)
}

/// Reads a [`Descriptor`].
pub fn parse_descriptor(bytes: &[u8]) -> Option<Descriptor> {
    let local = address_at(bytes, offset_of!(types::descriptor, local))?;
    let peer = address_at(bytes, offset_of!(types::descriptor, peer))?;
    let flags = u32::from(*bytes.get(offset_of!(types::descriptor, flags))?);
    Some(Descriptor {
        inode: u64_at(bytes, offset_of!(types::descriptor, inode))?,
        netns: u32_at(bytes, offset_of!(types::descriptor, netns))?,
        pid: u32_at(bytes, offset_of!(types::descriptor, pid))?,
        local: (local, u16_at(bytes, offset_of!(types::descriptor, local_port))?),
        peer: (peer, u16_at(bytes, offset_of!(types::descriptor, peer_port))?),
        rtt_us: measured(u32_at(bytes, offset_of!(types::descriptor, rtt_us))?),
        protocol: protocol(*bytes.get(offset_of!(types::descriptor, protocol))?)?,
        state: *bytes.get(offset_of!(types::descriptor, state))?,
        opened: direction(*bytes.get(offset_of!(types::descriptor, opened))?)?,
        v6_only: flags & types::socket_flags::SOCKET_V6_ONLY.0 != 0,
        port_chosen: flags & types::socket_flags::SOCKET_PORT_CHOSEN.0 != 0,
    })
}

fn direction(number: u8) -> Option<Direction> {
    match types::opened(u32::from(number)) {
        types::opened::OPENED_UNKNOWN => Some(Direction::Unknown),
        types::opened::OPENED_ACTIVE => Some(Direction::Active),
        types::opened::OPENED_PASSIVE => Some(Direction::Passive),
        _ => None,
    }
}

fn protocol(number: u8) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp].into_iter().find(|protocol| protocol.number() == number)
}

fn measured(micros: u32) -> Option<u32> {
    (micros > 0).then_some(micros)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_ne_bytes)
}

/// IPv4-mapped IPv6 as IPv4.
fn address_at(bytes: &[u8], at: usize) -> Option<IpAddr> {
    array_at::<16>(bytes, at).map(|octets| IpAddr::V6(Ipv6Addr::from(octets)).to_canonical())
}
