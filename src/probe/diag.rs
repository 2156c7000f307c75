//! The bytes of netlink: requests written, answers read, lengths checked.
//!
//! Pure: bytes in, values out. It must not know how they travel.
//!
//! Layouts: `include/uapi/linux/{netlink,inet_diag,sock_diag,tcp,if_addr}.h`.
//! All are in the machine's own byte order but for ports and addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use smallvec::SmallVec;

use crate::flow::socket::{Direction, Protocol, Socket, State};
use crate::probe::message::{HEADER, attributes, dump_request, u32_at};
use crate::probe::tcp_info;

/// `struct inet_diag_msg`.
const DIAG: usize = 72;
/// `struct ifaddrmsg`.
const IFADDR: usize = 8;

const TCPDIAG_GETSOCK: u16 = 18;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const RTM_GETADDR: u16 = 22;

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
            let mut bytes = dump_request(TCPDIAG_GETSOCK, 60, sequence);
            bytes[HEADER + 3] = 1 << (INET_DIAG_INFO - 1);
            bytes[HEADER + 52..][..4].copy_from_slice(&STATES.to_ne_bytes());
            bytes
        }
        Table::Udp4 | Table::Udp6 => {
            // struct inet_diag_req_v2
            let mut bytes = dump_request(SOCK_DIAG_BY_FAMILY, 56, sequence);
            bytes[HEADER] = if table == Table::Udp4 { AF_INET } else { AF_INET6 };
            bytes[HEADER + 1] = Protocol::Udp.number();
            bytes[HEADER + 4..][..4].copy_from_slice(&STATES.to_ne_bytes());
            bytes
        }
    }
}

/// A dump of all addresses of all interfaces: `struct ifaddrmsg`, all zero.
pub fn addresses_request(sequence: u32) -> Vec<u8> {
    dump_request(RTM_GETADDR, IFADDR, sequence)
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
        opened: if tcp { tcp_info::opened(state, info) } else { Direction::Unknown },
        port_chosen: None,
        rtt_us: if tcp { tcp_info::rtt_us(info) } else { None },
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

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).expect("short");
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// A `struct inet_diag_msg`.
    fn body(state: u8, local: &str, peer: &str, inode: u32) -> Vec<u8> {
        let mut bytes = vec![0; DIAG];
        for (address, at) in [(local, 0), (peer, 1)] {
            let address: SocketAddr = address.parse().expect("an address");
            bytes[4 + 2 * at..][..2].copy_from_slice(&address.port().to_be_bytes());
            match address.ip() {
                IpAddr::V4(ip) => bytes[8 + 16 * at..][..4].copy_from_slice(&ip.octets()),
                IpAddr::V6(ip) => bytes[8 + 16 * at..][..16].copy_from_slice(&ip.octets()),
            }
            bytes[0] = if address.is_ipv4() { AF_INET } else { AF_INET6 };
        }
        bytes[1] = state;
        bytes[68..72].copy_from_slice(&inode.to_ne_bytes());
        bytes
    }

    fn check(bytes: &[u8], expected: &str) {
        let said = match parse_socket(bytes, Protocol::Tcp, 3) {
            Some(s) => format!(
                "{:?} {} {} {}{}",
                s.state,
                s.local,
                s.peer.map_or("-".to_owned(), |peer| peer.to_string()),
                s.inode,
                if s.v6_only { " v6only" } else { "" },
            ),
            None => "malformed".to_owned(),
        };
        assert_eq!(said, expected);
    }

    #[test]
    fn a_message_is_a_socket() {
        check(&body(10, "127.0.0.1:80", "0.0.0.0:0", 9), "Listen 127.0.0.1:80 - 9");
        check(
            &body(1, "10.0.0.1:80", "10.0.0.2:50000", 9),
            "Established 10.0.0.1:80 10.0.0.2:50000 9",
        );
        check(
            &body(1, "[::ffff:10.0.0.1]:80", "[::ffff:10.0.0.2]:5", 9),
            "Established 10.0.0.1:80 10.0.0.2:5 9",
        );
        check(&body(12, "[fd00::1]:80", "[fd00::2]:5", 0), "SynRecv [fd00::1]:80 [fd00::2]:5 0");
        let only =
            [body(10, "[::]:80", "[::]:0", 9), attribute(8, b"x"), attribute(11, &[1])].concat();
        check(&only, "Listen [::]:80 - 9 v6only");
        let both = [body(10, "[::]:80", "[::]:0", u32::MAX), attribute(11, &[0])].concat();
        check(&both, "Listen [::]:80 - 4294967295");
    }

    #[test]
    fn what_the_kernel_never_sends_is_no_socket() {
        let good = body(10, "127.0.0.1:80", "0.0.0.0:0", 9);
        check(&good[..71], "malformed");
        check(&body(0, "127.0.0.1:80", "0.0.0.0:0", 9), "malformed");
        check(&body(13, "127.0.0.1:80", "0.0.0.0:0", 9), "malformed");
        let mut family = good.clone();
        family[0] = 1;
        check(&family, "malformed");
        // An attribute that is cut off, or shorter than its own header.
        for rest in [&[8, 0][..], &[3, 0, 11, 0], &[0, 0, 0, 0], &[200, 0, 11, 0, 1]] {
            check(&[&good, rest].concat(), "Listen 127.0.0.1:80 - 9");
        }
    }

    #[test]
    fn addresses_are_an_interfaces_own() {
        let header = |family: u8| vec![family, 24, 0, 0, 1, 0, 0, 0];
        let parse = |parts: &[Vec<u8>]| parse_address(&parts.concat()).map(|ip| ip.to_string());
        let (one, two) = (attribute(1, &[10, 0, 0, 1]), attribute(2, &[10, 0, 0, 2]));
        assert_eq!(parse(&[header(2), one.clone(), two]), Some("10.0.0.2".to_owned()));
        assert_eq!(parse(&[header(2), one]), Some("10.0.0.1".to_owned()));
        let six = attribute(1, &Ipv6Addr::LOCALHOST.octets());
        assert_eq!(parse(&[header(10), six.clone()]), Some("::1".to_owned()));
        assert_eq!(parse(&[header(7), six]), None);
        assert_eq!(parse(&[header(10), attribute(1, &[1, 2, 3])]), None);
        assert_eq!(parse(&[header(2)]), None);
        assert_eq!(parse(&[vec![2, 0]]), None);
    }
}
