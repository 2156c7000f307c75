//! Questions to a CMDB and its answers ↔ bytes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use prost::Message;

use crate::recall::{
    AddressRecord, Dim, FlowRecord, Found, HostKey, HostRecord, Records, Selector, Span, Sums,
    Traffic, Window,
};
use crate::wire::fields::{Allowance, fields};
use crate::wire::flow::{Named, Names};
use crate::wire::{VERSION, WireError, asked, check, flow, leaf};

/// Largest record of an answer: a flow with as many spans as are kept of one.
const MAX_RECORD: usize = 16 << 20;

// Tags: what is asked around, and its addresses.
const AROUND: u8 = 5;
const ASKED_ADDRESSES: u8 = 3;

// Tags: an answer's records, and their lists.
const RECORDS: u8 = 5;
const SCOPES: u8 = 1;
const PROCESSES: u8 = 2;
const HOSTS: u8 = 3;
const ADDRESSES: u8 = 4;
const FLOWS: u8 = 5;

/// What may be asked of a CMDB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Whether there is one that answers.
    Check,
    /// The last report of an epoch that is kept.
    Sequence(HostKey, i64),
    /// What a selector means.
    Find(Selector, Window),
    /// What was recorded around hosts and addresses.
    Around(Vec<HostKey>, Vec<IpAddr>, Window),
    /// What these hosts' flows rose by.
    Traffic(Vec<HostKey>, Window),
}

/// What it answers: each kind of question has its own.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It is there.
    Checked,
    /// The sequence; none if nothing of that epoch is kept.
    Sequence(Option<u64>),
    /// Hosts and addresses.
    Found(Found),
    /// Records.
    Records(Records),
    /// Sums.
    Traffic(Vec<Traffic>),
}

/// A question as bytes.
pub fn encode_question(question: &Question) -> Vec<u8> {
    let asked = match question {
        Question::Check => asked::Asked::Check(asked::Nothing {}),
        Question::Sequence(host, epoch) => {
            asked::Asked::Sequence(asked::Epoch { host: *host, epoch: *epoch })
        }
        Question::Find(selector, window) => asked::Asked::Find(asked::Find {
            window: Some(window_message(window)),
            selector: Some(selector_message(selector)),
        }),
        Question::Around(hosts, addresses, window) => {
            let mut around = around_message(hosts, window).encode_to_vec();
            for address in addresses {
                leaf::append_bytes(ASKED_ADDRESSES, &flow::address_bytes(*address), &mut around);
            }
            let mut bytes = asked::Question { version: VERSION, asked: None }.encode_to_vec();
            leaf::append_bytes(AROUND, &around, &mut bytes);
            return bytes;
        }
        Question::Traffic(hosts, window) => asked::Asked::Traffic(around_message(hosts, window)),
    };
    asked::Question { version: VERSION, asked: Some(asked) }.encode_to_vec()
}

/// The inverse. The caller has limited how many bytes there are: reading takes
/// at most ten times as many.
pub fn decode_question(bytes: &[u8]) -> Result<Question, WireError> {
    let strange = WireError::Malformed("a question of an unknown kind");
    let message = asked::Question::decode(bytes).map_err(|_| strange.clone())?;
    check(message.version)?;
    Ok(match message.asked.ok_or(strange.clone())? {
        asked::Asked::Check(_) => Question::Check,
        asked::Asked::Sequence(epoch) => Question::Sequence(epoch.host, epoch.epoch),
        asked::Asked::Find(find) => {
            let selector = find.selector.and_then(selector).ok_or(strange)?;
            Question::Find(selector, window(find.window)?)
        }
        asked::Asked::Around(around) => {
            let window = window(around.window)?;
            Question::Around(around.hosts, asked_addresses(bytes)?, window)
        }
        asked::Asked::Traffic(around) => Question::Traffic(around.hosts, window(around.window)?),
    })
}

/// An answer as bytes.
pub fn encode_answer(answer: &Answer) -> Vec<u8> {
    let mut message = asked::Answer { version: VERSION, ..asked::Answer::default() };
    match answer {
        Answer::Checked => message.checked = Some(asked::Nothing {}),
        Answer::Sequence(last) => message.sequence = Some(asked::Sequence { last: *last }),
        Answer::Found(found) => {
            let addresses = found.addresses.iter().map(|address| flow::address_bytes(*address));
            let addresses = addresses.collect();
            let hosts = found.hosts.iter().copied().collect();
            message.found = Some(asked::Found { hosts, addresses });
        }
        Answer::Traffic(traffic) => {
            let flows = traffic.iter().map(risen_message).collect();
            message.traffic = Some(asked::Traffic { flows });
        }
        Answer::Records(records) => {
            let mut bytes = message.encode_to_vec();
            leaf::append_bytes(RECORDS, &encode_records(records), &mut bytes);
            return bytes;
        }
    }
    message.encode_to_vec()
}

/// The inverse. `limit` is the most records, processes and scopes, together.
pub fn decode_answer(bytes: &[u8], limit: usize) -> Result<Answer, WireError> {
    let strange = WireError::Malformed("an answer of an unknown kind");
    let message = asked::Answer::decode(bytes).map_err(|_| strange.clone())?;
    check(message.version)?;
    if message.checked.is_some() {
        return Ok(Answer::Checked);
    }
    if let Some(sequence) = message.sequence {
        return Ok(Answer::Sequence(sequence.last));
    }
    if let Some(found) = message.found {
        let hosts = found.hosts.into_iter().collect();
        let addresses = addresses(&found.addresses)?.into_iter().collect();
        return Ok(Answer::Found(Found { hosts, addresses }));
    }
    if let Some(traffic) = message.traffic {
        return Ok(Answer::Traffic(traffic.flows.into_iter().map(risen).collect()));
    }
    for field in fields(bytes) {
        let field = field?;
        if field.tag == u32::from(RECORDS) {
            return decode_records(field.bytes, Allowance(limit)).map(Answer::Records);
        }
    }
    Err(strange)
}

fn encode_records(records: &Records) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut named = Named::default();
    for host in &records.hosts {
        leaf::append(HOSTS, &host_message(host), &mut bytes);
    }
    for AddressRecord { host, scope, address, since, until } in &records.addresses {
        let address = leaf::Address {
            scope: named.scope(scope),
            address: flow::address_bytes(*address),
            since: since.as_microsecond(),
            ended: Some(until.as_microsecond()),
        };
        let message = asked::AddressRecord { host: *host, address: Some(address) };
        leaf::append(ADDRESSES, &message, &mut bytes);
    }
    for FlowRecord { host, flow, spans, first_seen, later } in &records.flows {
        let span = |span: &Span| asked::Span {
            since: span.since.as_microsecond(),
            until: span.until.as_microsecond(),
            ended: span.ended,
        };
        let message = asked::FlowRecord {
            host: *host,
            flow: Some(named.flow(flow)),
            spans: spans.iter().map(span).collect(),
            first_seen: first_seen.as_microsecond(),
            later: later.as_ref().map(span),
        };
        leaf::append(FLOWS, &message, &mut bytes);
    }
    named.append(SCOPES, PROCESSES, &mut bytes);
    bytes
}

fn decode_records(bytes: &[u8], mut allowance: Allowance) -> Result<Records, WireError> {
    let mut names = Names::default();
    for field in fields(bytes) {
        let field = field?;
        if field.tag == u32::from(SCOPES) {
            names.add_scope(field.bytes, usize::MAX, &mut allowance)?;
        } else if field.tag == u32::from(PROCESSES) {
            names.add_process(field.bytes, usize::MAX, &mut allowance)?;
        }
    }
    let mut records = Records::default();
    for field in fields(bytes) {
        let field = field?;
        let Ok(tag) = u8::try_from(field.tag) else { continue };
        if ![HOSTS, ADDRESSES, FLOWS].contains(&tag) {
            continue;
        }
        allowance.take()?;
        let understood = match tag {
            HOSTS => host(field.bytes).map(|host| records.hosts.push(host)),
            ADDRESSES => address(field.bytes, &names).map(|found| records.addresses.push(found)),
            _ => flow_record(field.bytes, &names).map(|flow| records.flows.push(flow)),
        };
        // An answer with a record less would be a wrong one.
        understood.ok_or(WireError::Malformed("a record of an unknown kind"))?;
    }
    Ok(records)
}

fn host_message(host: &HostRecord) -> asked::HostRecord {
    let HostRecord { key, id, name, rung, coverage, first_seen, last_seen, rivals, skew, .. } =
        host;
    let (watched, Dim { polled, blind, unowned }) = (&host.watched, host.dim);
    let moment = |moment: Option<Timestamp>| moment.map(|moment| moment.as_microsecond());
    let range = |(since, until): &(Timestamp, Timestamp)| asked::Span {
        since: since.as_microsecond(),
        until: until.as_microsecond(),
        ended: true,
    };
    asked::HostRecord {
        key: *key,
        id: id.clone(),
        name: name.clone(),
        rung: flow::rung_number(*rung),
        coverage: Some(flow::coverage_message(coverage)),
        first_seen: first_seen.as_microsecond(),
        last_seen: last_seen.as_microsecond(),
        rivals: rivals.iter().cloned().collect(),
        // 2^63 microseconds are 292,000 years.
        skew_us: i64::try_from(skew.as_micros()).unwrap_or(0),
        watched: watched.iter().map(range).collect(),
        polled: moment(polled),
        blind: moment(blind),
        unowned: moment(unowned),
    }
}

fn host(bytes: &[u8]) -> Option<HostRecord> {
    let message: asked::HostRecord = leaf::read_within(bytes, MAX_RECORD)?;
    let moment = |moment: Option<i64>| match moment {
        None => Some(None),
        Some(moment) => flow::time(moment).map(Some),
    };
    let range = |range: &asked::Span| Some((flow::time(range.since)?, flow::time(range.until)?));
    Some(HostRecord {
        key: message.key,
        id: message.id,
        name: message.name,
        rung: flow::rung(message.rung)?,
        coverage: flow::coverage(message.coverage.unwrap_or_default()),
        first_seen: flow::time(message.first_seen)?,
        last_seen: flow::time(message.last_seen)?,
        rivals: message.rivals.into_iter().collect::<BTreeSet<_>>(),
        skew: SignedDuration::from_micros(message.skew_us),
        watched: message.watched.iter().map(range).collect::<Option<_>>()?,
        dim: Dim {
            polled: moment(message.polled)?,
            blind: moment(message.blind)?,
            unowned: moment(message.unowned)?,
        },
    })
}

fn address(bytes: &[u8], names: &Names) -> Option<AddressRecord> {
    let message: asked::AddressRecord = leaf::read(bytes)?;
    let address = message.address?;
    Some(AddressRecord {
        host: message.host,
        scope: names.scope(address.scope)?,
        address: flow::address(&address.address)?,
        since: flow::time(address.since)?,
        until: flow::time(address.ended?)?,
    })
}

fn flow_record(bytes: &[u8], names: &Names) -> Option<FlowRecord> {
    let message: asked::FlowRecord = leaf::read_within(bytes, MAX_RECORD)?;
    let span = |span: asked::Span| {
        Some(Span {
            since: flow::time(span.since)?,
            until: flow::time(span.until)?,
            ended: span.ended,
        })
    };
    let spans: Option<Vec<Span>> = message.spans.into_iter().map(span).collect();
    Some(FlowRecord {
        host: message.host,
        flow: names.flow(message.flow?)?,
        spans: spans.filter(|spans| !spans.is_empty())?,
        first_seen: flow::time(message.first_seen)?,
        later: match message.later {
            Some(later) => Some(span(later)?),
            None => None,
        },
    })
}

fn selector_message(selector: &Selector) -> asked::Selector {
    match selector {
        Selector::Address(address) => asked::Selector::Address(flow::address_bytes(*address)),
        Selector::Network(network) => asked::Selector::Network(asked::Network {
            address: flow::address_bytes(network.addr()),
            prefix: network.prefix_len().into(),
        }),
        Selector::Host(name) => asked::Selector::Host(name.clone()),
        Selector::Process(name) => asked::Selector::Process(name.clone()),
        Selector::Port(port) => asked::Selector::Port((*port).into()),
        // Every collector knows the place, and gives all of it.
        Selector::Service(spot, _) => selector_message(&spot.whole()),
        Selector::All | Selector::Label(_) => asked::Selector::All(asked::Nothing {}),
    }
}

fn selector(message: asked::Selector) -> Option<Selector> {
    Some(match message {
        asked::Selector::Address(bytes) => Selector::Address(flow::address(&bytes)?),
        asked::Selector::Network(network) => {
            let prefix = u8::try_from(network.prefix).ok()?;
            Selector::Network(IpNet::new(network_address(&network.address)?, prefix).ok()?.trunc())
        }
        asked::Selector::Host(name) => Selector::Host(flow::text(name)?),
        asked::Selector::Process(name) => Selector::Process(flow::text(name)?),
        asked::Selector::Port(port) => Selector::Port(u16::try_from(port).ok()?),
        asked::Selector::All(_) => Selector::All,
    })
}

/// As it stands: the prefix counts the bits of the family that was written.
fn network_address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

const NO_ADDRESS: WireError = WireError::Malformed("an address of no known length");

fn addresses(list: &[Vec<u8>]) -> Result<Vec<IpAddr>, WireError> {
    let addresses: Option<Vec<IpAddr>> = list.iter().map(|bytes| flow::address(bytes)).collect();
    addresses.ok_or(NO_ADDRESS)
}

/// The addresses of a question, one at a time: of two bytes that claim to be
/// one, a list would be made that takes 24.
fn asked_addresses(question: &[u8]) -> Result<Vec<IpAddr>, WireError> {
    let mut addresses = Vec::new();
    for around in fields(question) {
        let around = around?;
        if around.tag != u32::from(AROUND) {
            continue;
        }
        for field in fields(around.bytes) {
            let field = field?;
            if field.tag == u32::from(ASKED_ADDRESSES) {
                addresses.push(flow::address(field.bytes).ok_or(NO_ADDRESS)?);
            }
        }
    }
    Ok(addresses)
}

fn around_message(hosts: &[HostKey], window: &Window) -> asked::Around {
    asked::Around { window: Some(window_message(window)), hosts: hosts.to_vec() }
}

fn window_message(window: &Window) -> asked::Window {
    let time = |moment: Option<Timestamp>| moment.map(|moment| moment.as_microsecond());
    asked::Window { since: time(window.since), until: time(window.until) }
}

fn window(message: Option<asked::Window>) -> Result<Window, WireError> {
    let message = message.unwrap_or_default();
    let time = |moment: Option<i64>| match moment {
        Some(moment) => {
            flow::time(moment).map(Some).ok_or(WireError::Malformed("a time is out of range"))
        }
        None => Ok(None),
    };
    Ok(Window { since: time(message.since)?, until: time(message.until)? })
}

fn risen_message(traffic: &Traffic) -> asked::Risen {
    let Sums { opened, failed, bytes_sent, bytes_received, retransmits } = traffic.sums;
    let Traffic { host, flow, .. } = *traffic;
    asked::Risen { host, flow, opened, failed, bytes_sent, bytes_received, retransmits }
}

fn risen(message: asked::Risen) -> Traffic {
    let asked::Risen { host, flow, opened, failed, bytes_sent, bytes_received, retransmits } =
        message;
    Traffic { host, flow, sums: Sums { opened, failed, bytes_sent, bytes_received, retransmits } }
}
