//! `/proc/net/{tcp,tcp6,udp,udp6}`: the sockets of one network namespace as
//! text, for kernels and sandboxes that do not offer sock_diag.
//!
//! It has no evidence of direction, no round-trip time, and does not tell
//! whether an IPv6 wildcard accepts IPv4.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use smallvec::SmallVec;

use crate::flow::socket::{Direction, Protocol, Socket, State};
use crate::probe::diag::{Table, present, state};

/// Longest line that is looked at. The kernel's are about 150 bytes, 200 for
/// IPv6.
const LINE: u64 = 1024;

/// The files that have what a table has. A kernel without IPv6 lacks those
/// that end in 6.
pub const fn files(table: Table) -> &'static [&'static str] {
    match table {
        Table::Tcp => &["tcp", "tcp6"],
        Table::Udp4 => &["udp"],
        Table::Udp6 => &["udp6"],
    }
}

/// Adds the sockets of one such file. Returns the number of lines that were
/// not understood.
pub fn read(
    path: &Path,
    protocol: Protocol,
    namespace: u32,
    sockets: &mut Vec<Socket>,
) -> std::io::Result<u64> {
    let mut lines = BufReader::with_capacity(64 * 1024, File::open(path)?);
    let mut line = Vec::with_capacity(256);
    let mut malformed = 0;
    let mut heading = true;
    loop {
        line.clear();
        if lines.by_ref().take(LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(malformed);
        }
        if std::mem::take(&mut heading) {
            continue;
        }
        match parse(&line, protocol, namespace) {
            Some(socket) => sockets.push(socket),
            None => malformed += 1,
        }
    }
}

/// One line, but for the heading.
pub fn parse(line: &[u8], protocol: Protocol, namespace: u32) -> Option<Socket> {
    let mut fields = str::from_utf8(line).ok()?.split_ascii_whitespace();
    // "sl", a number and a colon.
    fields.next().filter(|slot| slot.ends_with(':'))?;
    let local = address(fields.next()?)?;
    let peer = address(fields.next()?)?;
    let state = state(u8::from_str_radix(fields.next()?, 16).ok()?)?;
    // tx_queue:rx_queue, tr:tm->when, retrnsmt, uid, timeout.
    let inode = fields.nth(5)?.parse().ok()?;
    let opening = protocol == Protocol::Tcp && state == State::SynSent;
    Some(Socket {
        namespace,
        protocol,
        state,
        local,
        peer: present(peer),
        v6_only: false,
        opened: if opening { Direction::Active } else { Direction::Unknown },
        port_chosen: None,
        rtt_us: None,
        inode,
        owners: SmallVec::new(),
    })
}

/// `0100007F:1F90`: the address as 32-bit numbers of the machine's own byte
/// order, one or four of them; the port as a number.
fn address(field: &str) -> Option<SocketAddr> {
    let (host, port) = field.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| -> Option<[u8; 4]> {
        let digits = host.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let host = match host.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut octets = [0; 16];
            for at in 0..4 {
                octets[at * 4..at * 4 + 4].copy_from_slice(&word(at)?);
            }
            IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(host, port))
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;

    fn check(line: &str, protocol: Protocol, expected: &str) {
        let said = match parse(line.as_bytes(), protocol, 7) {
            Some(s) => format!(
                "{:?} {} {} {}",
                s.state,
                s.local,
                s.peer.map_or("-".to_owned(), |peer| peer.to_string()),
                s.inode
            ),
            None => "malformed".to_owned(),
        };
        assert_eq!(said, expected, "{line:?}");
    }

    #[test]
    fn a_line_is_a_socket() {
        use Protocol::{Tcp, Udp};
        check(
            "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1 0000000000000000 100 0 0 10 0\n",
            Tcp,
            "Listen 127.0.0.1:8080 - 12345",
        );
        check(
            "  12: 0A01A8C0:C350 0B01A8C0:0050 01 00000000:00000000 02:00000A4C 00000000  1000        0 4294967295 2 0 20 4 30 10 -1",
            Tcp,
            "Established 192.168.1.10:50000 192.168.1.11:80 4294967295",
        );
        check(
            "   3: 0100007F:C350 0100007F:0050 06 00000000:00000000 03:000016F0 00000000     0        0 0 3 0",
            Tcp,
            "TimeWait 127.0.0.1:50000 127.0.0.1:80 0",
        );
        check(
            "   1: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 99 1 0",
            Tcp,
            "Listen [::1]:22 - 99",
        );
        check(
            "   1: 0000000000000000FFFF00000100007F:0016 0000000000000000FFFF00000200007F:9000 01 00000000:00000000 00:00000000 00000000     0        0 98 1 0",
            Tcp,
            "Established 127.0.0.1:22 127.0.0.2:36864 98",
        );
        check(
            "15203: 3500007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 24000 2 0 0",
            Udp,
            "Close 127.0.0.53:53 - 24000",
        );
        check("", Tcp, "malformed");
        check("   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000", Tcp, "malformed");
        check("   0: 0100007F1F90 00000000:0000 0A 0:0 0:0 0 0 0 1", Tcp, "malformed");
        check("   0: 0100007é:1F90 00000000:0000 0A 0:0 0:0 0 0 0 1", Tcp, "malformed");
        check("   0: 0100007F:1F90 00000000:0000 FF 0:0 0:0 0 0 0 1", Tcp, "malformed");
        check("   0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 0 0 -1", Tcp, "malformed");
    }
}
