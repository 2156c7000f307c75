//! Host flows, hosts and addresses ↔ their messages. What repeats in flows,
//! processes and scopes, stands once in a table beside them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use crate::flow::host::{Coverage, Rung};
use crate::flow::key::{Counters, FlowKey, HostFlow, MAX_OWNERS};
use crate::flow::process::{Instance, Process};
use crate::flow::socket::{Direction, Protocol};
use crate::wire::fields::Allowance;
use crate::wire::{WireError, leaf};

/// Longest text that is taken, in bytes: the kernel's longest path.
const MAX_TEXT: usize = 4096;

/// Longest name of a process or a host that is taken, in bytes: PostgreSQL has
/// no place for one of 2,704 in an index, and the kernel none for one of 65.
pub(crate) const MAX_NAME: usize = 1024;

/// Longest name of a network namespace that is taken from a host, in bytes:
/// `container:` and a name of 255, each of which may be written as four. It is
/// in an index, too, and stands once in a report, but in each of its rows.
pub(crate) const MAX_SCOPE: usize = 10 + 4 * 255;

/// Stands at the end of a name that was cut.
const CUT: &str = "…";

/// What flows refer to, as it grows while they are written.
#[derive(Default)]
pub(crate) struct Named<'a> {
    scopes: Vec<&'a str>,
    processes: Vec<&'a Process>,
    scope_places: HashMap<&'a str, u32>,
    process_places: HashMap<&'a Process, u32>,
}

impl<'a> Named<'a> {
    pub(crate) fn scope(&mut self, scope: &'a str) -> u32 {
        place(&mut self.scope_places, &mut self.scopes, scope)
    }

    /// Both lists, as fields of a message.
    pub(crate) fn append(&self, scopes: u8, processes: u8, to: &mut Vec<u8>) {
        for scope in &self.scopes {
            leaf::append_bytes(scopes, scope.as_bytes(), to);
        }
        for process in &self.processes {
            leaf::append(processes, &process_message(process), to);
        }
    }

    fn process(&mut self, process: &'a Process) -> u32 {
        place(&mut self.process_places, &mut self.processes, process)
    }

    pub(crate) fn flow(&mut self, flow: &'a HostFlow) -> leaf::Flow {
        let HostFlow { key, owners, owners_more, counters, tentative } = flow;
        let process = key.process.as_deref().map(|process| self.process(process));
        let owners = owners.iter().map(|owner| {
            let of = self.process(&owner.process);
            leaf::Owner {
                process: (Some(of) != process).then_some(of),
                pid: owner.pid,
                pgid: owner.pgid,
                started: owner.started.as_microsecond(),
            }
        });
        let owners = owners.collect();
        leaf::Flow {
            scope: self.scope(&key.scope),
            direction: key.direction.number().into(),
            protocol: key.protocol.number().into(),
            local: address_bytes(key.local),
            local_port: key.local_port.map(u32::from),
            peer: key.peer.map(address_bytes),
            peer_port: key.peer_port.map(u32::from),
            process,
            owners,
            owners_more: *owners_more,
            tentative: *tentative,
            open: counters.open,
            connecting: counters.connecting,
            opened: counters.opened,
            failed: counters.failed,
            refused: counters.refused,
            timed_out: counters.timed_out,
            unreachable: counters.unreachable,
            bytes_sent: counters.bytes_sent,
            bytes_received: counters.bytes_received,
            retransmits: counters.retransmits,
            rtt_us: counters.rtt_us,
        }
    }
}

fn place<T: Copy + Eq + std::hash::Hash>(
    places: &mut HashMap<T, u32>,
    list: &mut Vec<T>,
    thing: T,
) -> u32 {
    *places.entry(thing).or_insert_with(|| {
        list.push(thing);
        // There are fewer than flows, of which memory holds no 2^32.
        (list.len() - 1) as u32
    })
}

/// What flows refer to, as it was read. A place that holds none was not
/// understood, and takes its flows with it.
#[derive(Default)]
pub(crate) struct Names {
    scopes: Vec<Option<Arc<str>>>,
    processes: Vec<Option<Arc<Process>>>,
}

impl Names {
    pub(crate) fn add_scope(
        &mut self,
        bytes: &[u8],
        longest: usize,
        allowance: &mut Allowance,
    ) -> Result<(), WireError> {
        allowance.take()?;
        let scope = std::str::from_utf8(bytes).ok().and_then(|scope| text(scope.to_owned()));
        self.scopes.push(scope.filter(|scope| scope.len() <= longest).map(Arc::from));
        Ok(())
    }

    /// `longest` is of its name.
    pub(crate) fn add_process(
        &mut self,
        bytes: &[u8],
        longest: usize,
        allowance: &mut Allowance,
    ) -> Result<(), WireError> {
        allowance.take()?;
        let process = leaf::read(bytes).and_then(process);
        let fits = |process: &Process| process.name.len() <= longest;
        self.processes.push(process.filter(fits).map(Arc::new));
        Ok(())
    }

    pub(crate) fn scope(&self, place: u32) -> Option<Arc<str>> {
        self.scopes.get(usize::try_from(place).ok()?)?.clone()
    }

    fn process(&self, place: u32) -> Option<Arc<Process>> {
        self.processes.get(usize::try_from(place).ok()?)?.clone()
    }

    /// None for what cannot be understood.
    pub(crate) fn flow(&self, flow: leaf::Flow) -> Option<HostFlow> {
        let process = match flow.process {
            Some(place) => Some(self.process(place)?),
            None => None,
        };
        let beyond = flow.owners.len().saturating_sub(MAX_OWNERS);
        let owner = |owner: leaf::Owner| {
            Some(Instance {
                process: match owner.process {
                    Some(place) => self.process(place)?,
                    None => process.clone()?,
                },
                pid: owner.pid,
                pgid: owner.pgid,
                started: time(owner.started)?,
            })
        };
        let owners: Option<Vec<_>> = flow.owners.into_iter().take(MAX_OWNERS).map(owner).collect();
        let owners_more = flow.owners_more.saturating_add(u32::try_from(beyond).ok()?);
        Some(HostFlow {
            owners: owners?,
            owners_more,
            counters: Counters {
                open: flow.open,
                connecting: flow.connecting,
                opened: flow.opened,
                failed: flow.failed,
                refused: flow.refused,
                timed_out: flow.timed_out,
                unreachable: flow.unreachable,
                bytes_sent: flow.bytes_sent,
                bytes_received: flow.bytes_received,
                retransmits: flow.retransmits,
                rtt_us: flow.rtt_us,
            },
            tentative: flow.tentative,
            key: FlowKey {
                scope: self.scope(flow.scope)?,
                direction: direction(flow.direction)?,
                protocol: protocol(flow.protocol)?,
                local: address(&flow.local)?,
                local_port: port(flow.local_port)?,
                peer: match &flow.peer {
                    Some(bytes) => Some(address(bytes)?),
                    None => None,
                },
                peer_port: port(flow.peer_port)?,
                process,
            },
        })
    }
}

fn direction(number: u32) -> Option<Direction> {
    let all = [Direction::Unknown, Direction::Active, Direction::Passive];
    all.into_iter().find(|known| u32::from(known.number()) == number)
}

fn protocol(number: u32) -> Option<Protocol> {
    let all = [Protocol::Tcp, Protocol::Udp];
    all.into_iter().find(|known| u32::from(known.number()) == number)
}

/// Outside: not understood. Inside: there is none.
fn port(number: Option<u32>) -> Option<Option<u16>> {
    match number {
        Some(number) => u16::try_from(number).ok().map(Some),
        None => Some(None),
    }
}

/// 4 bytes for IPv4, 16 for IPv6.
pub(crate) fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The inverse; IPv4-mapped IPv6 is IPv4, as everywhere here.
pub(crate) fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(v4));
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| IpAddr::from(v6).to_canonical())
}

pub(crate) fn time(microseconds: i64) -> Option<Timestamp> {
    Timestamp::from_microsecond(microseconds).ok()
}

/// A name for people, of which the beginning will do.
pub(crate) fn short(mut name: String) -> String {
    if name.contains('\0') {
        name = name.replace('\0', "\\x00");
    }
    if name.len() > MAX_NAME {
        name.truncate(name.floor_char_boundary(MAX_NAME - CUT.len()));
        name.push_str(CUT);
    }
    name
}

/// None for what is too long. A NUL, which PostgreSQL has no place for, is
/// written out as [`crate::flow::process::decode`] does.
pub(crate) fn text(text: String) -> Option<String> {
    if text.len() > MAX_TEXT {
        return None;
    }
    Some(if text.contains('\0') { text.replace('\0', "\\x00") } else { text })
}

fn optional(value: Option<String>) -> Option<Option<String>> {
    match value {
        Some(value) => text(value).map(Some),
        None => Some(None),
    }
}

fn process_message(process: &Process) -> leaf::Process {
    let Process { name, exe, user, unit, container, pod } = process.clone();
    leaf::Process { name, exe, user, unit, container, pod }
}

fn process(message: leaf::Process) -> Option<Process> {
    Some(Process {
        name: text(message.name)?,
        exe: optional(message.exe)?,
        user: optional(message.user)?,
        unit: optional(message.unit)?,
        container: optional(message.container)?,
        pod: optional(message.pod)?,
    })
}

/// 1 for the best; 0 is none, so that a missing one is noticed.
pub(crate) fn rung_number(rung: Rung) -> u32 {
    match rung {
        Rung::Streaming => 1,
        Rung::Iterator => 2,
        Rung::Netlink => 3,
        Rung::Procfs => 4,
    }
}

pub(crate) fn rung(number: u32) -> Option<Rung> {
    Rung::ALL.into_iter().find(|rung| rung_number(*rung) == number)
}

pub(crate) fn coverage_message(coverage: &Coverage) -> leaf::Coverage {
    let Coverage {
        confined,
        filtered,
        namespaces,
        namespaces_unreadable,
        processes,
        processes_vanished,
        processes_unreadable,
        sockets,
        sockets_ownerless,
        sockets_unattributed,
        malformed,
        flows_dropped,
        updates_lost,
        scans_skipped,
        records_dropped,
    } = coverage.clone();
    leaf::Coverage {
        confined,
        filtered,
        namespaces,
        namespaces_unreadable,
        processes,
        processes_vanished,
        processes_unreadable,
        sockets,
        sockets_ownerless,
        sockets_unattributed,
        malformed,
        flows_dropped,
        updates_lost,
        scans_skipped,
        records_dropped,
    }
}

pub(crate) fn coverage(message: leaf::Coverage) -> Coverage {
    let leaf::Coverage {
        confined,
        filtered,
        namespaces,
        namespaces_unreadable,
        processes,
        processes_vanished,
        processes_unreadable,
        sockets,
        sockets_ownerless,
        sockets_unattributed,
        malformed,
        flows_dropped,
        updates_lost,
        scans_skipped,
        records_dropped,
    } = message;
    Coverage {
        confined,
        filtered,
        namespaces,
        namespaces_unreadable,
        processes,
        processes_vanished,
        processes_unreadable,
        sockets,
        sockets_ownerless,
        sockets_unattributed,
        malformed,
        flows_dropped,
        updates_lost,
        scans_skipped,
        records_dropped,
    }
}
