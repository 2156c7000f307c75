//! How values stand in a column: addresses as bytes, owners as text, numbers
//! within 64 bits with a sign. It must not know a table.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use jiff::Timestamp;

use crate::flow::key::Counters;
use crate::flow::process::Instance;

/// IPv6, IPv4 as IPv4-mapped: both families in one order.
pub(crate) fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The inverse; none for what is no address.
pub(crate) fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    let octets: [u8; 16] = bytes.try_into().ok()?;
    Some(IpAddr::V6(Ipv6Addr::from(octets)).to_canonical())
}

/// First and last address of a network. `::/0` holds the IPv4-mapped ones too;
/// who asks for IPv6 sorts them out.
pub(crate) fn range_of(network: &IpNet) -> ([u8; 16], [u8; 16]) {
    (address_bytes(network.network()), address_bytes(network.broadcast()))
}

/// Addresses that mean another machine, or none, on every machine: loopback
/// (RFC 1122, 4291), link-local (RFC 3927, 4291), unspecified.
pub(crate) fn is_local_only(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified(),
    }
}

/// A number too large for the column stands as the largest; none of ours gets
/// there, and what another host says is not believed to the last digit.
pub(crate) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What the column has as the number it was. Nothing below zero was stored.
pub(crate) fn number(int: i64) -> u64 {
    u64::try_from(int).unwrap_or(0)
}

/// A time that was stored. One out of range was not stored by us; the nearest
/// that can be said stands for it.
pub(crate) fn time(microseconds: i64) -> Timestamp {
    Timestamp::from_microsecond(microseconds).unwrap_or(if microseconds < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

/// An owner as it is stored: its process is a key into the table of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) pid: u32,
    pub(crate) pgid: u32,
    pub(crate) started: i64,
    /// None where it is the flow's own process.
    pub(crate) process: Option<i64>,
}

/// `pid:pgid:started[:process]`, separated by spaces. The process is left out
/// where it is the flow's, which it nearly always is. `processes` are the
/// owners' processes, `process` the flow's.
pub(crate) fn owners_text(owners: &[Instance], processes: &[i64], process: Option<i64>) -> String {
    let mut text = String::new();
    for (owner, of) in owners.iter().zip(processes) {
        if !text.is_empty() {
            text.push(' ');
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "{}:{}:{}", owner.pid, owner.pgid, owner.started.as_microsecond());
        if Some(*of) != process {
            let _ = write!(text, ":{of}");
        }
    }
    text
}

/// The inverse, and how many could not be understood.
fn owners_of(text: &str) -> (Vec<Owner>, u32) {
    let mut owners = Vec::new();
    let mut strange = 0;
    for word in text.split_ascii_whitespace() {
        match owner_of(word) {
            Some(owner) => owners.push(owner),
            None => strange += 1,
        }
    }
    (owners, strange)
}

fn owner_of(word: &str) -> Option<Owner> {
    let mut fields = word.split(':');
    let owner = Owner {
        pid: fields.next()?.parse().ok()?,
        pgid: fields.next()?.parse().ok()?,
        started: fields.next()?.parse().ok()?,
        process: match fields.next() {
            Some(process) => Some(process.parse().ok()?),
            None => None,
        },
    };
    fields.next().is_none().then_some(owner)
}

/// `open connecting refused timed_out unreachable rtt_us more`, then the owners,
/// separated by spaces; `-` for what is not known. What is written often and
/// asked for only with its flow is one column.
pub(crate) fn details_text(counters: &Counters, more: u32, owners: &str) -> String {
    let mut text = String::with_capacity(48);
    let totals = [counters.refused, counters.timed_out, counters.unreachable];
    let rtt = counters.rtt_us.map(u64::from);
    let known = [Some(counters.open.into()), Some(counters.connecting.into())];
    for number in known.into_iter().chain(totals).chain([rtt, Some(more.into())]) {
        // Writing to a String cannot fail.
        let _ = match number {
            Some(number) => write!(text, "{number} "),
            None => write!(text, "- "),
        };
    }
    text.push_str(owners);
    text
}

/// The inverse: the counters that stand there, the owners, and how many more
/// there are. None for what is no such text.
pub(crate) fn details_of(text: &str) -> Option<(Counters, Vec<Owner>, u32)> {
    let mut rest = text;
    let mut next = || {
        let (word, after) = rest.split_once(' ')?;
        rest = after;
        if word == "-" { Some(None) } else { Some(Some(word.parse::<u64>().ok()?)) }
    };
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let counters = Counters {
        open: small(next()??),
        connecting: small(next()??),
        refused: next()?,
        timed_out: next()?,
        unreachable: next()?,
        rtt_us: next()?.map(small),
        ..Counters::default()
    };
    let more = small(next()??);
    let (owners, strange) = owners_of(rest);
    Some((counters, owners, more.saturating_add(strange)))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::flow::process::Process;
    use std::sync::Arc;

    #[test]
    fn both_families_stand_in_one_order() {
        for text in ["10.0.0.10", "0.0.0.0", "2001:db8::1", "::1", "::"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(address_of(&address_bytes(address)), Some(address));
        }
        assert_eq!(address_of(b"short"), None);
        let (first, last) = range_of(&"10.0.0.0/30".parse().unwrap());
        assert_eq!(address_of(&first), Some("10.0.0.0".parse().unwrap()));
        assert_eq!(address_of(&last), Some("10.0.0.3".parse().unwrap()));
    }

    #[test]
    fn details_come_back_as_they_went() {
        let counters =
            Counters { open: 3, refused: Some(0), rtt_us: Some(300), ..Counters::default() };
        let text = details_text(&counters, 2, "1:1:7");
        assert_eq!(text, "3 0 0 - - 300 2 1:1:7");
        let (back, owners, more) = details_of(&text).unwrap();
        assert_eq!((&back, owners.len(), more), (&counters, 1, 2));
        assert!(details_of(&details_text(&counters, 0, "")).is_some());
        assert!(details_of("3 0 0").is_none() && details_of("- 0 0 0 0 0 0 ").is_none());
    }

    #[test]
    fn owners_come_back_as_they_went() {
        let instance = |pid: u32, name: &str| Instance {
            process: Arc::new(Process {
                name: name.to_owned(),
                exe: None,
                user: None,
                unit: None,
                container: None,
                pod: None,
            }),
            pid,
            pgid: pid,
            started: Timestamp::from_microsecond(7).unwrap(),
        };
        let owners = [instance(1, "nginx"), instance(2, "sh")];
        let [nginx, sh] = [owners[0].process.hash(), owners[1].process.hash()];
        let text = owners_text(&owners, &[nginx, sh], Some(nginx));
        assert_eq!(text, format!("1:1:7 2:2:7:{sh}"));
        let (back, strange) = owners_of(&format!("{text} 3:x:1 4:4:4:4:4"));
        assert_eq!(strange, 2);
        assert_eq!(
            back.iter().map(|o| (o.pid, o.process)).collect::<Vec<_>>(),
            [(1, None), (2, Some(sh))]
        );
    }
}
