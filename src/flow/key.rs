//! What a host flow is, and the computed keys that the CMDB knows it by.

use std::net::IpAddr;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::flow::host::{Coverage, Host, Namespace, Rung};
use crate::flow::process::{Instance, Process};
use crate::flow::socket::{Direction, Protocol};

/// What makes two connections the same host flow.
///
/// Ephemeral ports are not in it: the port of an end that did not choose it is
/// `None`, printed "many". So an active flow has a `peer_port` only, a passive
/// one a `local_port` only, and one of unknown direction has both, because
/// nothing tells which of them is the service's.
///
/// A passive flow without a peer is a listener: a service nobody need have
/// called. Its address may be unspecified (0.0.0.0 or ::).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// Network namespace, as [`Namespace::scope`] names it.
    pub scope: Arc<str>,
    /// Who opened it.
    pub direction: Direction,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Address of this end.
    pub local: IpAddr,
    /// Port of this end where it is the service's.
    pub local_port: Option<u16>,
    /// Address of the other end; absent for a listener.
    pub peer: Option<IpAddr>,
    /// Port of the other end where it is the service's.
    pub peer_port: Option<u16>,
    /// Who owns this end; absent where the owner could not be seen.
    pub process: Option<Arc<Process>>,
}

/// What a host saw of one flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFlow {
    /// What it is.
    pub key: FlowKey,
    /// The instances that own its sockets, one for each process group and
    /// process, sorted, at most [`MAX_OWNERS`]. The first that is an instance
    /// of `key.process` names the node in a view.
    pub owners: Vec<Instance>,
    /// Instances beyond [`MAX_OWNERS`].
    pub owners_more: u32,
    /// Numbers.
    pub counters: Counters,
    /// UDP of which is not known who begins: as likely a resolver's query as a
    /// service. A tally waits before it tells of one.
    pub tentative: bool,
}

/// Most owners that one host flow names. The rest are counted.
pub const MAX_OWNERS: usize = 8;

/// Numbers about a host flow. Each means the same on every rung of the ladder;
/// one that a rung cannot know is absent, never zero.
///
/// Totals count from the start of the probe (its epoch), so that a report may
/// be applied twice, late or out of order: the larger value is the newer one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections (for a listener: listening sockets) open at the end of the
    /// window.
    pub open: u32,
    /// Of these, the ones without an answer so far (SYN_SENT). A flow whose
    /// `connecting` equals its `open` is failing.
    pub connecting: u32,
    /// Connections opened, in total.
    pub opened: Option<u64>,
    /// Attempts to connect that failed, in total.
    pub failed: Option<u64>,
    /// Of these, the ones that the other end refused (RST).
    pub refused: Option<u64>,
    /// Of these, the ones that nobody answered in time.
    pub timed_out: Option<u64>,
    /// Of these, the ones that were told there is no way (ICMP).
    pub unreachable: Option<u64>,
    /// Bytes of payload sent and acknowledged, in total.
    pub bytes_sent: Option<u64>,
    /// Bytes of payload received, in total.
    pub bytes_received: Option<u64>,
    /// TCP segments retransmitted, in total.
    pub retransmits: Option<u64>,
    /// Smallest smoothed round-trip time among its connections, microseconds.
    pub rtt_us: Option<u32>,
}

impl Counters {
    /// Adds what other sockets of the same flow counted. What is absent from
    /// both stays absent.
    pub fn add(&mut self, other: &Counters) {
        fn sum(a: Option<u64>, b: Option<u64>) -> Option<u64> {
            match (a, b) {
                (Some(a), Some(b)) => Some(a.saturating_add(b)),
                (a, b) => a.or(b),
            }
        }
        self.open = self.open.saturating_add(other.open);
        self.connecting = self.connecting.saturating_add(other.connecting);
        self.opened = sum(self.opened, other.opened);
        self.failed = sum(self.failed, other.failed);
        self.refused = sum(self.refused, other.refused);
        self.timed_out = sum(self.timed_out, other.timed_out);
        self.unreachable = sum(self.unreachable, other.unreachable);
        self.bytes_sent = sum(self.bytes_sent, other.bytes_sent);
        self.bytes_received = sum(self.bytes_received, other.bytes_received);
        self.retransmits = sum(self.retransmits, other.retransmits);
        self.rtt_us = match (self.rtt_us, other.rtt_us) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
}

/// What a probe sees at one moment: all host flows of a host. Polling and
/// streaming are two ways to fill it.
#[derive(Clone, Debug)]
pub struct Observation {
    /// When.
    pub taken: jiff::Timestamp,
    /// Whose.
    pub host: Host,
    /// How it was read.
    pub rung: Rung,
    /// The network namespaces with their addresses.
    pub namespaces: Vec<Namespace>,
    /// The flows, each key once.
    pub flows: Vec<HostFlow>,
    /// What was and was not seen.
    pub coverage: Coverage,
}

impl FlowKey {
    /// A flow nobody need have opened: a service that waits.
    pub fn is_listener(&self) -> bool {
        self.peer.is_none()
    }

    /// The key of this flow within its host: 64 bits of SHA-256 over all
    /// fields. Computed on the host, so that no look-up and no serial number
    /// stands between a report and the CMDB. It is a promise: changing it
    /// makes every stored flow a stranger (a test holds its value).
    pub fn hash(&self) -> i64 {
        self.hash_with(self.process.as_ref().map(|process| process.hash()))
    }

    /// The same, for who has the hash of its process: a process owns many
    /// flows.
    pub fn hash_with(&self, process: Option<i64>) -> i64 {
        let mut digest = Fields::new("flow");
        digest.text(&self.scope);
        digest.bytes(&[self.direction.number(), self.protocol.number()]);
        digest.address(Some(self.local));
        digest.port(self.local_port);
        digest.address(self.peer);
        digest.port(self.peer_port);
        digest.bytes(&process.unwrap_or(0).to_be_bytes());
        digest.finish()
    }
}

impl Process {
    /// The key of this process within its host; see [`FlowKey::hash`].
    pub fn hash(&self) -> i64 {
        let mut digest = Fields::new("process");
        digest.text(&self.name);
        for field in [&self.exe, &self.user, &self.unit, &self.container, &self.pod] {
            digest.text(field.as_deref().unwrap_or(""));
        }
        digest.finish()
    }
}

impl Host {
    /// The key of this host in the CMDB; see [`FlowKey::hash`].
    pub fn hash(&self) -> i64 {
        let mut digest = Fields::new("host");
        digest.text(&self.id);
        digest.finish()
    }
}

/// A digest over fields, each prefixed by its length, so that no two lists of
/// fields run into the same bytes.
struct Fields(Sha256);

impl Fields {
    fn new(kind: &str) -> Self {
        let mut fields = Fields(Sha256::new());
        fields.text(kind);
        fields
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn address(&mut self, address: Option<IpAddr>) {
        match address {
            Some(IpAddr::V4(v4)) => self.bytes(&v4.octets()),
            Some(IpAddr::V6(v6)) => self.bytes(&v6.octets()),
            None => self.bytes(&[]),
        }
    }

    fn port(&mut self, port: Option<u16>) {
        match port {
            Some(port) => self.bytes(&port.to_be_bytes()),
            None => self.bytes(&[]),
        }
    }

    fn finish(self) -> i64 {
        let digest = self.0.finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        i64::from_be_bytes(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash is what the CMDB knows a flow by: if this fails, every stored
    /// flow has become a stranger.
    #[test]
    fn the_hash_of_a_flow_is_a_promise() {
        let process = Process {
            name: "nginx".into(),
            exe: Some("/usr/sbin/nginx".into()),
            user: Some("www-data".into()),
            unit: Some("nginx.service".into()),
            container: None,
            pod: None,
        };
        let key = FlowKey {
            scope: "".into(),
            direction: Direction::Passive,
            protocol: Protocol::Tcp,
            local: [10, 0, 0, 10].into(),
            local_port: Some(80),
            peer: Some([10, 0, 0, 11].into()),
            peer_port: None,
            process: Some(Arc::new(process)),
        };
        assert_eq!(key.hash(), -642211276126893764);
        let other_end = FlowKey { local_port: None, peer_port: Some(80), ..key.clone() };
        assert_ne!(other_end.hash(), key.hash());
        assert_eq!(Host { id: "web-1".into(), name: "any".into() }.hash(), -2925822702414634734);
    }
}
