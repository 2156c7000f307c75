//! The small messages of questions and answers: docs/wire.md.

use prost::{Message, Oneof};

use crate::wire::leaf::{Address, Coverage, Flow};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Question {
    #[prost(uint32, tag = "1")]
    pub(crate) version: u32,
    #[prost(oneof = "Asked", tags = "2, 3, 4, 5, 6")]
    pub(crate) asked: Option<Asked>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Asked {
    #[prost(message, tag = "2")]
    Check(Nothing),
    #[prost(message, tag = "3")]
    Sequence(Epoch),
    #[prost(message, tag = "4")]
    Find(Find),
    #[prost(message, tag = "5")]
    Around(Around),
    #[prost(message, tag = "6")]
    Traffic(Around),
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Nothing {}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Epoch {
    #[prost(sfixed64, tag = "1")]
    pub(crate) host: i64,
    #[prost(int64, tag = "2")]
    pub(crate) epoch: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Find {
    #[prost(message, optional, tag = "1")]
    pub(crate) window: Option<Window>,
    #[prost(oneof = "Selector", tags = "2, 3, 4, 5, 6, 7")]
    pub(crate) selector: Option<Selector>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Selector {
    #[prost(bytes, tag = "2")]
    Address(Vec<u8>),
    #[prost(message, tag = "3")]
    Network(Network),
    #[prost(string, tag = "4")]
    Host(String),
    #[prost(string, tag = "5")]
    Process(String),
    #[prost(uint32, tag = "6")]
    Port(u32),
    #[prost(message, tag = "7")]
    All(Nothing),
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Network {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) address: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub(crate) prefix: u32,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Window {
    #[prost(int64, optional, tag = "1")]
    pub(crate) since: Option<i64>,
    #[prost(int64, optional, tag = "2")]
    pub(crate) until: Option<i64>,
}

/// Hosts and addresses, without the addresses, which are walked.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Around {
    #[prost(message, optional, tag = "1")]
    pub(crate) window: Option<Window>,
    #[prost(sfixed64, repeated, tag = "2")]
    pub(crate) hosts: Vec<i64>,
}

/// An answer without its records, which are walked.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Answer {
    #[prost(uint32, tag = "1")]
    pub(crate) version: u32,
    #[prost(message, optional, tag = "2")]
    pub(crate) checked: Option<Nothing>,
    #[prost(message, optional, tag = "3")]
    pub(crate) sequence: Option<Sequence>,
    #[prost(message, optional, tag = "4")]
    pub(crate) found: Option<Found>,
    #[prost(message, optional, tag = "6")]
    pub(crate) traffic: Option<Traffic>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Sequence {
    #[prost(uint64, optional, tag = "1")]
    pub(crate) last: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Found {
    #[prost(sfixed64, repeated, tag = "1")]
    pub(crate) hosts: Vec<i64>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(crate) addresses: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Traffic {
    #[prost(message, repeated, tag = "1")]
    pub(crate) flows: Vec<Risen>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Risen {
    #[prost(sfixed64, tag = "1")]
    pub(crate) host: i64,
    #[prost(sfixed64, tag = "2")]
    pub(crate) flow: i64,
    #[prost(uint64, optional, tag = "3")]
    pub(crate) opened: Option<u64>,
    #[prost(uint64, optional, tag = "4")]
    pub(crate) failed: Option<u64>,
    #[prost(uint64, optional, tag = "5")]
    pub(crate) bytes_sent: Option<u64>,
    #[prost(uint64, optional, tag = "6")]
    pub(crate) bytes_received: Option<u64>,
    #[prost(uint64, optional, tag = "7")]
    pub(crate) retransmits: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct HostRecord {
    #[prost(sfixed64, tag = "1")]
    pub(crate) key: i64,
    #[prost(string, tag = "2")]
    pub(crate) id: String,
    #[prost(string, tag = "3")]
    pub(crate) name: String,
    #[prost(uint32, tag = "4")]
    pub(crate) rung: u32,
    #[prost(message, optional, tag = "5")]
    pub(crate) coverage: Option<Coverage>,
    #[prost(int64, tag = "6")]
    pub(crate) first_seen: i64,
    #[prost(int64, tag = "7")]
    pub(crate) last_seen: i64,
    #[prost(string, repeated, tag = "8")]
    pub(crate) rivals: Vec<String>,
    #[prost(sint64, tag = "9")]
    pub(crate) skew_us: i64,
    /// A span that has ended stands for a range of time.
    #[prost(message, repeated, tag = "10")]
    pub(crate) watched: Vec<Span>,
    #[prost(int64, optional, tag = "11")]
    pub(crate) polled: Option<i64>,
    #[prost(int64, optional, tag = "12")]
    pub(crate) blind: Option<i64>,
    #[prost(int64, optional, tag = "13")]
    pub(crate) unowned: Option<i64>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct AddressRecord {
    #[prost(sfixed64, tag = "1")]
    pub(crate) host: i64,
    /// `ended` is the end of the range, and never absent here.
    #[prost(message, optional, tag = "2")]
    pub(crate) address: Option<Address>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct FlowRecord {
    #[prost(sfixed64, tag = "1")]
    pub(crate) host: i64,
    #[prost(message, optional, tag = "2")]
    pub(crate) flow: Option<Flow>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) spans: Vec<Span>,
    #[prost(int64, tag = "4")]
    pub(crate) first_seen: i64,
    #[prost(message, optional, tag = "5")]
    pub(crate) later: Option<Span>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Span {
    #[prost(int64, tag = "1")]
    pub(crate) since: i64,
    #[prost(int64, tag = "2")]
    pub(crate) until: i64,
    #[prost(bool, tag = "3")]
    pub(crate) ended: bool,
}
