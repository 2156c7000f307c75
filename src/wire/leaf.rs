//! The messages of docs/wire.md that are small, as prost reads and writes them.
//! Larger ones are lists of these and are walked field by field.

use prost::Message;

/// Largest of these messages, in bytes. The longest that is honest is a process
/// with a path of 4096 bytes.
pub(crate) const MAX_BYTES: usize = 32 * 1024;

/// Reads one; none for what is damaged or too large.
pub(crate) fn read<M: Message + Default>(bytes: &[u8]) -> Option<M> {
    read_within(bytes, MAX_BYTES)
}

/// As [`read`], with another limit.
pub(crate) fn read_within<M: Message + Default>(bytes: &[u8], limit: usize) -> Option<M> {
    if bytes.len() > limit {
        return None;
    }
    M::decode(bytes).ok()
}

/// Appends one as a field of another message. The tag is below 16: its key is
/// one byte.
pub(crate) fn append(tag: u8, message: &impl Message, to: &mut Vec<u8>) {
    append_key(tag, message.encoded_len(), to);
    // A Vec grows as is needed.
    message.encode(to).unwrap_or_else(|_| unreachable!("written to memory"));
}

/// Appends bytes as a field of a message.
pub(crate) fn append_bytes(tag: u8, bytes: &[u8], to: &mut Vec<u8>) {
    append_key(tag, bytes.len(), to);
    to.extend_from_slice(bytes);
}

fn append_key(tag: u8, length: usize, to: &mut Vec<u8>) {
    debug_assert!(tag < 16, "a key of one byte");
    to.push(tag << 3 | 2);
    prost::encode_length_delimiter(length, to)
        .unwrap_or_else(|_| unreachable!("written to memory"));
}

/// The numbers of a batch.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Batch {
    #[prost(uint32, tag = "1")]
    pub(crate) version: u32,
}

/// A report without its lists.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Head {
    #[prost(message, optional, tag = "1")]
    pub(crate) host: Option<Host>,
    #[prost(int64, tag = "2")]
    pub(crate) epoch: i64,
    #[prost(uint64, tag = "3")]
    pub(crate) sequence: u64,
    #[prost(uint32, tag = "4")]
    pub(crate) rung: u32,
    #[prost(int64, tag = "5")]
    pub(crate) from: i64,
    #[prost(int64, tag = "6")]
    pub(crate) until: i64,
    #[prost(int64, tag = "7")]
    pub(crate) sent: i64,
    #[prost(message, optional, tag = "8")]
    pub(crate) coverage: Option<Coverage>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Host {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Coverage {
    #[prost(bool, tag = "1")]
    pub(crate) confined: bool,
    #[prost(uint64, tag = "2")]
    pub(crate) namespaces: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) namespaces_unreadable: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) processes: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) processes_vanished: u64,
    #[prost(uint64, tag = "6")]
    pub(crate) processes_unreadable: u64,
    #[prost(uint64, tag = "7")]
    pub(crate) sockets: u64,
    #[prost(uint64, tag = "8")]
    pub(crate) sockets_ownerless: u64,
    #[prost(uint64, tag = "9")]
    pub(crate) sockets_unattributed: u64,
    #[prost(uint64, tag = "10")]
    pub(crate) malformed: u64,
    #[prost(uint64, tag = "11")]
    pub(crate) flows_dropped: u64,
    #[prost(uint64, tag = "12")]
    pub(crate) updates_lost: u64,
    #[prost(uint64, tag = "13")]
    pub(crate) scans_skipped: u64,
    #[prost(uint64, tag = "14")]
    pub(crate) records_dropped: u64,
    #[prost(bool, tag = "15")]
    pub(crate) filtered: bool,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Process {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, optional, tag = "2")]
    pub(crate) exe: Option<String>,
    #[prost(string, optional, tag = "3")]
    pub(crate) user: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub(crate) unit: Option<String>,
    #[prost(string, optional, tag = "5")]
    pub(crate) container: Option<String>,
    #[prost(string, optional, tag = "6")]
    pub(crate) pod: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Address {
    #[prost(uint32, tag = "1")]
    pub(crate) scope: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) address: Vec<u8>,
    #[prost(int64, tag = "3")]
    pub(crate) since: i64,
    #[prost(int64, optional, tag = "4")]
    pub(crate) ended: Option<i64>,
}

/// One span of one flow.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct FlowSpan {
    #[prost(message, optional, tag = "1")]
    pub(crate) flow: Option<Flow>,
    #[prost(int64, tag = "2")]
    pub(crate) since: i64,
    #[prost(int64, tag = "3")]
    pub(crate) seen: i64,
    #[prost(bool, tag = "4")]
    pub(crate) ended: bool,
}

/// A host flow; `scope` and `process` are places in tables beside it.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Flow {
    #[prost(uint32, tag = "1")]
    pub(crate) scope: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) direction: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) protocol: u32,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) local: Vec<u8>,
    #[prost(uint32, optional, tag = "5")]
    pub(crate) local_port: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "6")]
    pub(crate) peer: Option<Vec<u8>>,
    #[prost(uint32, optional, tag = "7")]
    pub(crate) peer_port: Option<u32>,
    #[prost(uint32, optional, tag = "8")]
    pub(crate) process: Option<u32>,
    #[prost(message, repeated, tag = "9")]
    pub(crate) owners: Vec<Owner>,
    #[prost(uint32, tag = "10")]
    pub(crate) owners_more: u32,
    #[prost(bool, tag = "11")]
    pub(crate) tentative: bool,
    #[prost(uint32, tag = "12")]
    pub(crate) open: u32,
    #[prost(uint32, tag = "13")]
    pub(crate) connecting: u32,
    #[prost(uint64, optional, tag = "14")]
    pub(crate) opened: Option<u64>,
    #[prost(uint64, optional, tag = "15")]
    pub(crate) failed: Option<u64>,
    #[prost(uint64, optional, tag = "16")]
    pub(crate) refused: Option<u64>,
    #[prost(uint64, optional, tag = "17")]
    pub(crate) timed_out: Option<u64>,
    #[prost(uint64, optional, tag = "18")]
    pub(crate) unreachable: Option<u64>,
    #[prost(uint64, optional, tag = "19")]
    pub(crate) bytes_sent: Option<u64>,
    #[prost(uint64, optional, tag = "20")]
    pub(crate) bytes_received: Option<u64>,
    #[prost(uint64, optional, tag = "21")]
    pub(crate) retransmits: Option<u64>,
    #[prost(uint32, optional, tag = "22")]
    pub(crate) rtt_us: Option<u32>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Owner {
    /// Absent where it is the flow's own process.
    #[prost(uint32, optional, tag = "1")]
    pub(crate) process: Option<u32>,
    #[prost(uint32, tag = "2")]
    pub(crate) pid: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) pgid: u32,
    #[prost(int64, tag = "4")]
    pub(crate) started: i64,
}
