//! What talks to what, read from the sockets by `ss`: a witness of its own,
//! so that a lab that went wrong is told apart from a shawk that did.
//!
//! Unlike shawk it sees all hosts at once and matches single connections by
//! both their ends, ports included.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use crate::lab::host::Host;
use crate::lab::truth::{Edge, End};
use crate::lab::wait::{self, LIMIT};

/// A line of `ss`.
pub(crate) struct Line {
    pub(crate) protocol: String,
    pub(crate) state: String,
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
    /// Names of the processes that hold it.
    pub(crate) names: BTreeSet<String>,
    /// Their pids.
    pids: BTreeSet<u32>,
}

/// All sockets of one place.
struct Seen {
    place: Rc<Host>,
    lines: Vec<Line>,
    /// What `ip` prints of its addresses.
    addresses: String,
}

/// The sockets of a place, TCP and UDP.
pub(crate) fn sockets(place: &Host) -> Vec<Line> {
    let text = place.succeeds(&["ss", "-HOtunap"]);
    text.lines()
        .map(|line| {
            Line::read(line).unwrap_or_else(|| panic!("ss printed a line of another form: {line}"))
        })
        .collect()
}

/// The pids that hold connections of a certain kind.
pub(crate) fn holders(place: &Host, which: impl Fn(&Line) -> bool) -> BTreeSet<u32> {
    let lines = sockets(place);
    let lines = lines.iter().filter(|line| line.is_connection() && which(line));
    lines.flat_map(|line| line.pids.clone()).collect()
}

/// Every edge that the sockets show at this moment, as sorted lines.
pub(crate) fn edges(places: &[Rc<Host>]) -> Vec<String> {
    let seen: Vec<Seen> = places
        .iter()
        .map(|place| Seen {
            place: Rc::clone(place),
            lines: sockets(place),
            addresses: place.succeeds(&["ip", "-o", "addr"]),
        })
        .collect();
    let mut edges = BTreeSet::new();
    for here in &seen {
        for line in here.lines.iter().filter(|line| line.is_connection()) {
            edges.extend(here.edge(line, &seen));
        }
    }
    let mut lines: Vec<String> = edges.iter().map(Edge::line).collect();
    lines.sort();
    lines
}

impl Seen {
    /// The edge that a connection is part of; none for a passive one whose
    /// other end tells of it already.
    fn edge(&self, line: &Line, seen: &[Seen]) -> Option<Edge> {
        let own = self.end(line);
        let other = self.other_end(line, seen);
        let failing = line.state == "SYN-SENT";
        if self.is_passive(line) {
            if other.is_some() {
                return None;
            }
            let active = self.bare_end(line, seen);
            return Some(Edge::new(active, own, line, line.local.port(), "passive"));
        }
        let told_by = if other.is_some() { "both" } else { "active" };
        let passive =
            other.or_else(|| self.service(line, seen)).unwrap_or_else(|| self.bare_end(line, seen));
        let mut edge = Edge::new(own, passive, line, line.peer.port(), told_by);
        edge.failing = failing;
        Some(edge)
    }

    /// The socket at the other end of a connection, if a process holds it.
    fn other_end(&self, line: &Line, seen: &[Seen]) -> Option<End> {
        self.within_reach(line, seen).find_map(|there| {
            let mut lines = there.lines.iter().filter(|other| other.is_connection());
            let other = lines.find(|other| {
                other.protocol == line.protocol
                    && (other.local, other.peer) == (line.peer, line.local)
            })?;
            Some(there.end(other))
        })
    }

    /// Who waits where a connection or a connected UDP socket goes to.
    fn service(&self, line: &Line, seen: &[Seen]) -> Option<End> {
        self.within_reach(line, seen).find_map(|there| {
            let mut lines = there.lines.iter().filter(|other| other.waits());
            let other = lines.find(|other| {
                other.protocol == line.protocol
                    && other.local.port() == line.peer.port()
                    && other.accepts(line.peer.ip())
                    && there.has_address(line.peer.ip())
            })?;
            let mut end = there.end(other);
            end.address = line.peer.ip().to_string();
            Some(end)
        })
    }

    /// Where the other end can be: the place itself first, because the same
    /// address may be elsewhere, too.
    fn within_reach<'a>(&'a self, line: &Line, seen: &'a [Seen]) -> impl Iterator<Item = &'a Seen> {
        let loopback = line.peer.ip().is_loopback();
        let elsewhere =
            seen.iter().filter(move |there| !loopback && !Rc::ptr_eq(&there.place, &self.place));
        std::iter::once(self).chain(elsewhere)
    }

    fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.contains(&format!(" {address}/"))
    }

    /// An end without a process: the place that has the address, or nobody.
    fn bare_end(&self, line: &Line, seen: &[Seen]) -> End {
        let address = line.peer.ip();
        let mut places = self.within_reach(line, seen);
        match places.find(|there| there.has_address(address)) {
            Some(there) => End::new(&there.place.label(), address),
            None => End::nobody(address),
        }
    }

    /// Whether a listener here was connected to.
    fn is_passive(&self, line: &Line) -> bool {
        self.lines.iter().any(|listener| {
            listener.waits()
                && listener.protocol == line.protocol
                && listener.local.port() == line.local.port()
                && listener.accepts(line.local.ip())
        })
    }

    fn end(&self, line: &Line) -> End {
        let names: Vec<&str> = line.names.iter().map(String::as_str).collect();
        let label = format!("{}/{}", self.place.label(), names.join("+"));
        End::new(&label, line.local.ip())
    }
}

impl Line {
    fn read(text: &str) -> Option<Line> {
        let mut fields = text.split_whitespace();
        let protocol = fields.next()?.to_owned();
        let state = fields.next()?.to_owned();
        let mut fields = fields.skip(2);
        let local = address(fields.next()?)?;
        let peer = address(fields.next()?)?;
        let users = fields.next().unwrap_or("");
        // users:(("nginx",pid=7,fd=5),("nginx",pid=6,fd=5))
        let names = users.split("(\"").skip(1);
        let names = names.filter_map(|user| user.split_once('"'));
        let pids = users.split("pid=").skip(1);
        let pids = pids.filter_map(|user| user.split(',').next()?.parse().ok());
        Some(Line {
            protocol,
            state,
            local,
            peer,
            names: names.map(|(name, _)| name.to_owned()).collect(),
            pids: pids.collect(),
        })
    }

    /// Whether it has two ends and a process holds it.
    pub(crate) fn is_connection(&self) -> bool {
        !self.names.is_empty() && !self.waits()
    }

    fn waits(&self) -> bool {
        matches!(self.state.as_str(), "LISTEN" | "UNCONN")
    }

    fn accepts(&self, address: IpAddr) -> bool {
        let local = self.local.ip();
        let any =
            local == IpAddr::V6(Ipv6Addr::UNSPECIFIED) || local.is_ipv4() == address.is_ipv4();
        local == address || (local.is_unspecified() && any)
    }
}

/// `10.0.0.1:80`, `[::ffff:10.0.0.1]:80`, `10.0.0.1%lo:53`, `*:80`, `0.0.0.0:*`.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.rsplit_once(':')?;
    let address = address.trim_matches(['[', ']']);
    let address = address.split_once('%').map_or(address, |(address, _)| address);
    let address: IpAddr = match address {
        "*" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        address => address.parse().ok()?,
    };
    let port = if port == "*" { 0 } else { port.parse().ok()? };
    Some(SocketAddr::new(address.to_canonical(), port))
}

/// Waits until a program listens at an address and port.
pub(crate) fn listens(place: &Host, address: &str) {
    let address: SocketAddr = address.parse().expect("an address and a port");
    wait::until(&format!("a listener at {address} on {}", place.name), LIMIT, || {
        let found =
            sockets(place).iter().any(|line| line.state == "LISTEN" && line.local == address);
        found.then_some(()).ok_or_else(|| place.logs())
    });
}
