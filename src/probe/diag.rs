//! The bytes of netlink: requests written, answers read, lengths checked.
//!
//! Pure: bytes in, values out. It must not know how they travel.
//!
//! Layouts: `include/uapi/linux/{netlink,inet_diag,sock_diag,tcp,if_addr}.h`.
//! All are in the machine's own byte order but for ports and addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use smallvec::SmallVec;

use crate::flow::socket::{Direction, Protocol, Socket, State};

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `struct inet_diag_msg`.
const DIAG: usize = 72;
/// `struct ifaddrmsg`.
const IFADDR: usize = 8;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Types below this are netlink's own: no-op, overrun.
const NLMSG_MIN_TYPE: u16 = 16;
const TCPDIAG_GETSOCK: u16 = 18;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

const INET_DIAG_INFO: u16 = 2;
const INET_DIAG_SKV6ONLY: u16 = 11;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// All real states, 1 to 12. The bits above ask for more: bit 13
/// (`TCP_BOUND_INACTIVE`, 6.8) for sockets that are bound and no more, which
/// have nothing to say.
const STATES: u32 = 0x1ffe;

/// A dump that the kernel can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// TCP of both families.
    Tcp,
    /// UDP over IPv4.
    Udp4,
    /// UDP over IPv6, which lists IPv4 spoken over IPv6 sockets as well.
    Udp6,
}

impl Table {
    /// All that there is to read.
    pub const ALL: [Table; 3] = [Table::Tcp, Table::Udp4, Table::Udp6];

    /// The protocol of the sockets in it.
    pub const fn protocol(self) -> Protocol {
        match self {
            Table::Tcp => Protocol::Tcp,
            Table::Udp4 | Table::Udp6 => Protocol::Udp,
        }
    }
}

/// A request for all sockets of a table.
///
/// A dump walks one hash of connections that all families and namespaces
/// share, so TCP is asked for by `struct inet_diag_req`, the older request:
/// it has no family, so one walk does. It knows no UDP.
pub fn sockets_request(table: Table, sequence: u32) -> Vec<u8> {
    match table {
        Table::Tcp => {
            let mut bytes = vec![0; HEADER + 60];
            write_header(&mut bytes, TCPDIAG_GETSOCK, sequence);
            bytes[19] = 1 << (INET_DIAG_INFO - 1);
            bytes[68..72].copy_from_slice(&STATES.to_ne_bytes());
            bytes
        }
        Table::Udp4 | Table::Udp6 => {
            // struct inet_diag_req_v2
            let mut bytes = vec![0; HEADER + 56];
            write_header(&mut bytes, SOCK_DIAG_BY_FAMILY, sequence);
            bytes[16] = if table == Table::Udp4 { AF_INET } else { AF_INET6 };
            bytes[17] = Protocol::Udp.number();
            bytes[20..24].copy_from_slice(&STATES.to_ne_bytes());
            bytes
        }
    }
}

/// A dump of all addresses of all interfaces: `struct ifaddrmsg`, all zero.
pub fn addresses_request(sequence: u32) -> Vec<u8> {
    let mut bytes = vec![0; HEADER + IFADDR];
    write_header(&mut bytes, RTM_GETADDR, sequence);
    bytes
}

fn write_header(bytes: &mut [u8], kind: u16, sequence: u32) {
    let length = u32::try_from(bytes.len()).expect("a request is short");
    bytes[0..4].copy_from_slice(&length.to_ne_bytes());
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
}

/// One netlink message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// One piece of a dump.
    Part {
        /// What follows the header.
        body: &'a [u8],
        /// The table changed under the dump, which may lack something.
        interrupted: bool,
    },
    /// The end of a dump, or of what there will be of it: 0, or the errno
    /// that ended it.
    End {
        /// Positive; 0 where all went well.
        errno: i32,
        /// As in `Part`.
        interrupted: bool,
    },
    /// Bytes that are no message. Nothing after them can be read.
    Malformed,
}

/// The messages of one datagram that answer the request with `sequence`.
/// Left-overs of an earlier one are passed over.
pub fn messages(bytes: &[u8], sequence: u32) -> Messages<'_> {
    Messages { bytes, sequence }
}

/// See [`messages`].
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    bytes: &'a [u8],
    sequence: u32,
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        loop {
            if self.bytes.is_empty() {
                return None;
            }
            let Some((header, body)) = self.split() else {
                self.bytes = &[];
                return Some(Message::Malformed);
            };
            if header.sequence != self.sequence {
                continue;
            }
            let interrupted = header.flags & NLM_F_DUMP_INTR != 0;
            return Some(match header.kind {
                NLMSG_DONE => {
                    // Old kernels send no errno along.
                    let errno = u32_at(body, 0).unwrap_or(0).cast_signed();
                    Message::End { errno: errno.saturating_neg().max(0), interrupted }
                }
                NLMSG_ERROR => match u32_at(body, 0) {
                    Some(errno) => {
                        let errno = errno.cast_signed().saturating_neg().max(0);
                        Message::End { errno, interrupted }
                    }
                    None => Message::Malformed,
                },
                kind if kind < NLMSG_MIN_TYPE => continue,
                TCPDIAG_GETSOCK | SOCK_DIAG_BY_FAMILY => Message::Part { body, interrupted },
                _ => Message::Malformed,
            });
        }
    }
}

struct Header {
    kind: u16,
    flags: u16,
    sequence: u32,
}

// Sockets and addresses happen to share the number 20.
const _: () = assert!(SOCK_DIAG_BY_FAMILY == RTM_NEWADDR);

impl<'a> Messages<'a> {
    fn split(&mut self) -> Option<(Header, &'a [u8])> {
        let length = usize::try_from(u32_at(self.bytes, 0)?).ok()?;
        let header = Header {
            kind: u16_at(self.bytes, 4)?,
            flags: u16_at(self.bytes, 6)?,
            sequence: u32_at(self.bytes, 8)?,
        };
        let body = self.bytes.get(HEADER..length)?;
        // The last message need not be padded.
        self.bytes = self.bytes.get(align(length)..).unwrap_or(&[]);
        Some((header, body))
    }
}

/// One message of a socket dump, as a socket of the namespace with that
/// index. Nothing where it is too short or has a family or state that the
/// kernel never sends.
pub fn parse_socket(body: &[u8], protocol: Protocol, namespace: u32) -> Option<Socket> {
    if body.len() < DIAG {
        return None;
    }
    let family = match body[0] {
        AF_INET => Family::V4,
        AF_INET6 => Family::V6,
        _ => return None,
    };
    let state = state(body[1])?;
    let local = SocketAddr::new(address(family, &body[8..24]), port(&body[4..6]));
    let peer = SocketAddr::new(address(family, &body[24..40]), port(&body[6..8]));
    let unsent_or_unacked = u32_at(body, 60)?;
    let inode = u32_at(body, 68)?;

    let mut v6_only = false;
    let mut info: &[u8] = &[];
    for (kind, value) in attributes(&body[DIAG..]) {
        match kind {
            INET_DIAG_INFO => info = value,
            INET_DIAG_SKV6ONLY => v6_only = value.first().is_some_and(|&flag| flag != 0),
            _ => {}
        }
    }
    let tcp = protocol == Protocol::Tcp;
    Some(Socket {
        namespace,
        protocol,
        state,
        local,
        peer: present(peer),
        v6_only,
        opened: if tcp { opened(state, unsent_or_unacked, info) } else { Direction::Unknown },
        port_chosen: None,
        rtt_us: if tcp { u32_at(info, 68).filter(|&rtt| rtt > 0) } else { None },
        inode: u64::from(inode),
        owners: SmallVec::new(),
    })
}

/// A peer that is there: the kernel writes none as zeroes.
pub fn present(peer: SocketAddr) -> Option<SocketAddr> {
    let absent = peer.port() == 0 && peer.ip().is_unspecified();
    (!absent).then_some(peer)
}

/// The state with that number in `include/net/tcp_states.h`.
pub fn state(number: u8) -> Option<State> {
    Some(match number {
        1 => State::Established,
        2 => State::SynSent,
        // 12 is TCP_NEW_SYN_RECV: the same, before it is a full socket.
        3 | 12 => State::SynRecv,
        4 => State::FinWait1,
        5 => State::FinWait2,
        6 => State::TimeWait,
        7 => State::Close,
        8 => State::CloseWait,
        9 => State::LastAck,
        10 => State::Listen,
        11 => State::Closing,
        _ => return None,
    })
}

/// Who opened a connection, from the byte counters of its `struct tcp_info`.
///
/// `bytes_acked` grows with `snd_una` (`tcp_snd_una_update`), and on the side
/// that sent the SYN it starts with the SYN's own number; on the other side
/// `snd_una` is put behind the SYN-ACK without being counted. `bytes_sent`
/// counts payload each time it is sent, `bytes_retrans` the repetitions. So
/// `acked + in flight - sent once` is 1 on the active side and 0 on the
/// passive. Once our own FIN is acknowledged (FIN_WAIT2) it is one more. In
/// the other states a FIN may be in flight or not; those tell nothing.
///
/// Three things blur that, and each is met by saying nothing:
///
/// - `queued` is `idiag_wqueue`, `write_seq - snd_una`. The kernel reads it
///   before, and not under the lock under which it reads the rest. Where the
///   two do not agree on whether anything is in flight, or where packets of
///   one byte each are under way, the sum could be off by a byte.
/// - What the host's own queue (a full qdisc) drops was counted as sent and
///   will be again. An active side that lost a single byte that way looks
///   passive, but for more segments sent than were repeated, delivered or are
///   under way. `tcpi_delivered` includes the SYN.
/// - Kernels before 4.19 have no `bytes_sent`.
///
/// Not met: a socket that `TCP_REPAIR` brought back has counters of nothing.
fn opened(state: State, queued: u32, info: &[u8]) -> Direction {
    let fin = match state {
        State::SynSent => return Direction::Active,
        State::Established | State::CloseWait => 0,
        State::FinWait2 => 1,
        _ => return Direction::Unknown,
    };
    match surplus(queued, info) {
        Some(bytes) if bytes == fin + 1 => Direction::Active,
        Some(bytes) if bytes == fin && !dropped_here(info).unwrap_or(true) => Direction::Passive,
        _ => Direction::Unknown,
    }
}

/// Sequence numbers acknowledged or in flight, less payload sent once. None
/// where `queued` does not fit the rest.
fn surplus(queued: u32, info: &[u8]) -> Option<u64> {
    let unacked_packets = u32_at(info, 24)?;
    let acked = u64_at(info, 120)?;
    let notsent = u32_at(info, 144)?;
    let sent = u64_at(info, 200)?;
    let repeated = u64_at(info, 208)?;
    let in_flight = queued.checked_sub(notsent)?;
    let agreed = if unacked_packets == 0 { in_flight == 0 } else { in_flight > unacked_packets };
    let numbers = acked.checked_add(u64::from(in_flight))?;
    let surplus = numbers.checked_sub(sent.checked_sub(repeated)?)?;
    agreed.then_some(surplus)
}

/// Whether more segments were sent than can be accounted for.
fn dropped_here(info: &[u8]) -> Option<bool> {
    let unacked = u32_at(info, 24)?;
    let sacked = u32_at(info, 28)?;
    let repeated = u32_at(info, 100)?;
    let sent = u32_at(info, 156)?;
    let delivered = u32_at(info, 192)?;
    let unaccounted = sent
        .wrapping_sub(repeated)
        .wrapping_sub(delivered.wrapping_sub(1))
        .wrapping_sub(unacked.wrapping_sub(sacked));
    Some(unaccounted.cast_signed() > 0)
}

/// One message of an address dump. `IFA_LOCAL` is the interface's own
/// address; `IFA_ADDRESS` is, on a point-to-point link, the other end's, and
/// with IPv6 mostly the only one there is.
pub fn parse_address(body: &[u8]) -> Option<IpAddr> {
    if body.len() < IFADDR {
        return None;
    }
    let family = match body[0] {
        AF_INET => Family::V4,
        AF_INET6 => Family::V6,
        _ => return None,
    };
    let mut own = None;
    let mut any = None;
    for (kind, value) in attributes(&body[IFADDR..]) {
        match kind {
            IFA_LOCAL => own = Some(value),
            IFA_ADDRESS => any = Some(value),
            _ => {}
        }
    }
    let value = own.or(any)?;
    let length = match family {
        Family::V4 => 4,
        Family::V6 => 16,
    };
    (value.len() >= length).then(|| address(family, value))
}

/// `struct rtattr`s, until one does not fit.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        // The two upper bits are flags: nested, network byte order.
        let kind = u16_at(bytes, 2)? & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(align(length)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

/// IPv4 in the first 4 of at least that many bytes or IPv6 in 16, IPv4-mapped
/// IPv6 as IPv4.
fn address(family: Family, bytes: &[u8]) -> IpAddr {
    match family {
        Family::V4 => {
            let octets: [u8; 4] = bytes[..4].try_into().expect("4 bytes");
            IpAddr::V4(Ipv4Addr::from(octets))
        }
        Family::V6 => {
            let octets: [u8; 16] = bytes[..16].try_into().expect("16 bytes");
            IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
        }
    }
}

fn port(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

fn align(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
