//! Sockets → host flows: which direction, which port is the service's, whose.
//!
//! Pure: the same snapshot gives the same flows, in the same order.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::flow::key::{Counters, FlowKey, HostFlow, MAX_OWNERS, Observation};
use crate::flow::process::{Instance, Process};
use crate::flow::socket::{Direction, Protocol, Snapshot, Socket, State};

/// Most host flows that one observation holds; what is beyond is counted in
/// `coverage.flows_dropped`. At some 300 bytes each this is 30 MB, which no
/// host but one under a scan or an attack comes near.
pub const MAX_FLOWS: usize = 100_000;

/// A flow's key with numbers for what repeats, so that bundling hundreds of
/// thousands of sockets neither clones nor compares strings.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct CompactKey {
    namespace: u32,
    direction: Direction,
    protocol: Protocol,
    local: IpAddr,
    local_port: Option<u16>,
    peer: Option<IpAddr>,
    peer_port: Option<u16>,
    process: Option<u32>,
}

/// What the sockets of one key add up to.
#[derive(Default)]
struct Sum {
    owners: SmallVec<[Owner; 1]>,
    counters: Counters,
    /// One of them at least is no query.
    certain: bool,
}

/// An instance by number, and the process group it is shown under.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Owner {
    instance: u32,
    pgid: u32,
}

/// Sockets of one flow that a probe has added up already. Their direction is
/// known, and they have one owner at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// One that stands for all; the port that is not the service's is 0.
    pub socket: Socket,
    /// Numbers of all.
    pub counters: Counters,
}

impl Snapshot {
    /// Bundles the sockets into host flows, each key once, sorted.
    pub fn observe(self) -> Observation {
        self.observe_with(&[])
    }

    /// As [`Snapshot::observe`], with sockets that are bundled already beside
    /// those of the snapshot.
    pub fn observe_with(mut self, bundles: &[Bundle]) -> Observation {
        let flows = Bundler::new(&self).bundle(bundles);
        let dropped = flows.len().saturating_sub(MAX_FLOWS);
        self.coverage.flows_dropped += dropped as u64;
        let flows = flows.into_iter().take(MAX_FLOWS).collect();
        Observation {
            taken: self.taken,
            host: self.host,
            rung: self.rung,
            namespaces: self.namespaces,
            flows,
            coverage: self.coverage,
        }
    }
}

struct Bundler<'a> {
    snapshot: &'a Snapshot,
    /// Sockets that wait to be opened, by namespace, protocol and port.
    listeners: HashMap<(u32, Protocol, u16), SmallVec<[u32; 2]>>,
    /// For each instance, the number of its process in `processes`.
    process_of: Vec<u32>,
    processes: Vec<Arc<Process>>,
}

impl<'a> Bundler<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        let mut listeners: HashMap<_, SmallVec<[u32; 2]>> = HashMap::new();
        for (index, socket) in snapshot.sockets.iter().enumerate() {
            if is_listener(socket) {
                let key = (socket.namespace, socket.protocol, socket.local.port());
                listeners.entry(key).or_default().push(index as u32);
            }
        }
        let mut numbers: HashMap<&Arc<Process>, u32> = HashMap::new();
        let mut processes = Vec::new();
        let mut process_of = Vec::with_capacity(snapshot.instances.len());
        for instance in &snapshot.instances {
            let number = *numbers.entry(&instance.process).or_insert_with(|| {
                processes.push(Arc::clone(&instance.process));
                (processes.len() - 1) as u32
            });
            process_of.push(number);
        }
        Bundler { snapshot, listeners, process_of, processes }
    }

    fn bundle(&self, bundles: &[Bundle]) -> Vec<HostFlow> {
        let mut sums: HashMap<CompactKey, Sum> = HashMap::new();
        for socket in &self.snapshot.sockets {
            let counters = Counters {
                open: 1,
                connecting: u32::from(socket.state == State::SynSent),
                rtt_us: socket.rtt_us,
                ..Counters::default()
            };
            self.add(&mut sums, socket, &counters);
        }
        for bundle in bundles {
            self.add(&mut sums, &bundle.socket, &bundle.counters);
        }
        let mut flows: Vec<_> = sums.into_iter().map(|(key, sum)| self.flow(key, sum)).collect();
        flows.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        flows
    }

    fn add(&self, sums: &mut HashMap<CompactKey, Sum>, socket: &Socket, counters: &Counters) {
        if !self.is_somebodys(socket) {
            return;
        }
        let Some((key, owner)) = self.key(socket) else { return };
        let sum = sums.entry(key).or_default();
        sum.counters.add(counters);
        sum.certain |= !may_be_query(socket, key.peer.is_none(), key.direction);
        self.add_owners(sum, socket, owner);
    }

    /// Whether a socket makes a flow. A socket that no process holds is nobody's
    /// connection, and one that is its own peer nobody else's; one whose holder
    /// is out of a confined probe's sight belongs to another host's report.
    fn is_somebodys(&self, socket: &Socket) -> bool {
        let held = socket.inode != 0 && !matches!(socket.state, State::TimeWait | State::SynRecv);
        held && socket.peer != Some(socket.local)
            && !(socket.owners.is_empty() && self.snapshot.coverage.confined)
    }

    /// The key of a socket's flow and the owner that the flow is credited to;
    /// none for a socket that neither waits nor has a peer.
    fn key(&self, socket: &Socket) -> Option<(CompactKey, Option<Owner>)> {
        let (direction, peer) = if is_listener(socket) {
            (Direction::Passive, None)
        } else {
            (self.direction(socket), Some(socket.peer?))
        };
        let owner = self.owner(socket, direction);
        let service_is_local = direction != Direction::Active;
        let service_is_peers = direction != Direction::Passive;
        let key = CompactKey {
            namespace: socket.namespace,
            direction,
            protocol: socket.protocol,
            local: socket.local.ip(),
            local_port: service_is_local.then_some(socket.local.port()),
            peer: peer.map(|peer| peer.ip()),
            peer_port: peer.filter(|_| service_is_peers).map(|peer| peer.port()),
            process: owner.map(|owner| self.process_of[owner.instance as usize]),
        };
        Some((key, owner))
    }

    /// Who opened a socket that has a peer. The kernel's own count comes first,
    /// as it also knows a connection opened *from* a listening port (libp2p
    /// does that) and one whose listener has closed; then the listeners of the
    /// same namespace.
    fn direction(&self, socket: &Socket) -> Direction {
        if socket.state == State::SynSent {
            return Direction::Active;
        }
        if socket.opened != Direction::Unknown {
            return socket.opened;
        }
        if self.listeners_at(socket.namespace, socket.protocol, socket.local).next().is_some() {
            return Direction::Passive;
        }
        let namespace = self.snapshot.namespaces.get(socket.namespace as usize);
        let peer_is_here = |peer: IpAddr| {
            peer.is_loopback() || namespace.is_some_and(|n| n.addresses.contains(&peer))
        };
        if let Some(peer) = socket.peer
            && peer_is_here(peer.ip())
            && self.listeners_at(socket.namespace, socket.protocol, peer).next().is_some()
        {
            return Direction::Active;
        }
        // No listener, so either it opened the connection or its listener is
        // gone. The kernel hands a connecting socket a port of its ephemeral
        // range; another port was chosen by the process, and then either may be.
        if self.may_be_ephemeral(socket) { Direction::Active } else { Direction::Unknown }
    }

    /// Whether the kernel may have picked this socket's port.
    fn may_be_ephemeral(&self, socket: &Socket) -> bool {
        if let Some(chosen) = socket.port_chosen {
            return !chosen;
        }
        let range = self
            .snapshot
            .namespaces
            .get(socket.namespace as usize)
            .and_then(|namespace| namespace.ephemeral_ports);
        range.is_none_or(|(low, high)| (low..=high).contains(&socket.local.port()))
    }

    /// The sockets that would have accepted a connection to `at`, those on the
    /// exact address before wildcards.
    fn listeners_at(
        &self,
        namespace: u32,
        protocol: Protocol,
        at: std::net::SocketAddr,
    ) -> impl Iterator<Item = &'a Socket> + '_ {
        let candidates = self.listeners.get(&(namespace, protocol, at.port()));
        let accepts = move |listener: &Socket| match listener.local.ip() {
            ip if ip == at.ip() => Some(0),
            IpAddr::V4(ip) if ip.is_unspecified() && at.is_ipv4() => Some(1),
            IpAddr::V6(ip) if ip.is_unspecified() && at.is_ipv6() => Some(1),
            // A listener on :: takes IPv4 too unless told not to.
            IpAddr::V6(ip) if ip.is_unspecified() && !listener.v6_only => Some(2),
            _ => None,
        };
        let mut found: SmallVec<[(u8, &Socket); 2]> = candidates
            .into_iter()
            .flatten()
            .map(|&index| &self.snapshot.sockets[index as usize])
            .filter_map(|listener| accepts(listener).map(|rank| (rank, listener)))
            .collect();
        found.sort_by_key(|(rank, _)| *rank);
        found.into_iter().map(|(_, listener)| listener)
    }

    /// The owner a socket is credited to.
    ///
    /// An accepted connection belongs to the service that listens: if one of
    /// its owners is of the listener's process, that one, under the listener's
    /// process group (every PostgreSQL backend is the leader of a group of its
    /// own). Else the eldest, because a descriptor goes from parent to child;
    /// init comes last, as it holds sockets for others (socket activation).
    fn owner(&self, socket: &Socket, direction: Direction) -> Option<Owner> {
        let instances = &self.snapshot.instances;
        if direction == Direction::Passive && !is_listener(socket) {
            let group = |&owner: &u32| self.service_group(socket, owner);
            let held = socket.owners.iter().filter_map(|o| group(o).map(|pgid| (o, pgid)));
            let eldest = held.min_by_key(|(o, _)| instances[**o as usize].started);
            if let Some((&instance, pgid)) = eldest {
                return Some(Owner { instance, pgid });
            }
        }
        let age = |&owner: &u32| {
            let instance = &instances[owner as usize];
            (instance.pid == 1, instance.started, instance.pid)
        };
        let mut credited = socket.owners.iter().copied().min_by_key(age)?;
        if is_listener(socket) {
            credited = self.worker(socket, credited);
        }
        let process = self.process_of[credited as usize];
        let same = |owner: &&u32| self.process_of[**owner as usize] == process;
        let group = |&owner: &u32| instances[owner as usize].pgid;
        let pgid = socket.owners.iter().filter(same).map(group).min()?;
        Some(Owner { instance: credited, pgid })
    }

    /// Of a listener's owners the one that serves: a server that starts as root
    /// and forks workers under another user (nginx, Apache) is one program and
    /// two processes, and it is the workers who accept. The youngest of the
    /// `eldest`'s program is one of them.
    fn worker(&self, socket: &Socket, eldest: u32) -> u32 {
        let instance = |owner: u32| &self.snapshot.instances[owner as usize];
        let program = |owner: u32| (&instance(owner).process.name, &instance(owner).process.exe);
        let same = |&owner: &u32| program(owner) == program(eldest);
        let age = |&owner: &u32| (instance(owner).started, instance(owner).pid);
        socket.owners.iter().copied().filter(same).max_by_key(age).unwrap_or(eldest)
    }

    /// The process group of the service that accepted `socket`, if `owner` is
    /// an instance of the process that listens: the lowest of all its
    /// listeners' groups, since with SO_REUSEPORT it may have several.
    fn service_group(&self, socket: &Socket, owner: u32) -> Option<u32> {
        let process = self.process_of[owner as usize];
        self.listeners_at(socket.namespace, socket.protocol, socket.local)
            .flat_map(|listener| &listener.owners)
            .filter(|&&holder| self.process_of[holder as usize] == process)
            .map(|&holder| self.snapshot.instances[holder as usize].pgid)
            .min()
    }

    /// Adds a socket's owners to its flow. Repeats are taken out at the end, in
    /// one sort, so that ten thousand clients of one service cost no square.
    fn add_owners(&self, sum: &mut Sum, socket: &Socket, credited: Option<Owner>) {
        let Some(credited) = credited else { return };
        let process = self.process_of[credited.instance as usize];
        for &instance in &socket.owners {
            let same = self.process_of[instance as usize] == process;
            let own = self.snapshot.instances[instance as usize].pgid;
            let owner = Owner { instance, pgid: if same { credited.pgid } else { own } };
            if sum.owners.last() != Some(&owner) {
                sum.owners.push(owner);
            }
        }
    }

    /// The owners as instances, the credited process first: one for each
    /// process and group, the one with the lowest pid.
    fn owners(&self, sum: &Sum, process: Option<&Arc<Process>>) -> (Vec<Instance>, u32) {
        let instance = |owner: &Owner| &self.snapshot.instances[owner.instance as usize];
        let mut owners = sum.owners.clone();
        let group = |o: &Owner| (self.process_of[o.instance as usize], o.pgid);
        owners.sort_unstable_by_key(|o| (group(o), instance(o).pid));
        owners.dedup_by_key(|o| group(o));
        owners.sort_by_key(|o| (Some(&instance(o).process) != process, o.pgid, instance(o).pid));
        let more = owners.len().saturating_sub(MAX_OWNERS) as u32;
        let named = owners.iter().take(MAX_OWNERS);
        (named.map(|o| Instance { pgid: o.pgid, ..instance(o).clone() }).collect(), more)
    }

    fn flow(&self, key: CompactKey, sum: Sum) -> HostFlow {
        let process = key.process.map(|number| Arc::clone(&self.processes[number as usize]));
        let (owners, owners_more) = self.owners(&sum, process.as_ref());
        HostFlow {
            key: FlowKey {
                scope: Arc::clone(&self.snapshot.namespaces[key.namespace as usize].scope),
                direction: key.direction,
                protocol: key.protocol,
                local: key.local,
                local_port: key.local_port,
                peer: key.peer,
                peer_port: key.peer_port,
                process,
            },
            owners,
            owners_more,
            counters: sum.counters,
            tentative: !sum.certain,
        }
    }
}

/// Whether a socket may be a resolver's query: UDP of which is not known who
/// begins. Resolvers choose a port of any range for each query (RFC 5452,
/// section 9.2).
fn may_be_query(socket: &Socket, waits: bool, direction: Direction) -> bool {
    let began = if waits { socket.opened } else { direction };
    socket.protocol == Protocol::Udp && began == Direction::Unknown
}

/// A socket that waits for somebody: TCP in LISTEN, UDP bound and without a
/// fixed peer.
fn is_listener(socket: &Socket) -> bool {
    match socket.protocol {
        Protocol::Tcp => socket.state == State::Listen,
        Protocol::Udp => socket.peer.is_none() && socket.local.port() != 0,
    }
}

#[cfg(test)]
mod tests;
