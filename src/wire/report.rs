//! Reports ↔ a batch of them.

use prost::Message;

use crate::flow::host::Host;
use crate::flow::report::{FlowReport, Report, ScopedAddress};
use crate::wire::fields::{Allowance, fields};
use crate::wire::flow::{MAX_NAME, MAX_SCOPE, Named, Names};
use crate::wire::{Decoded, VERSION, WireError, check, flow, leaf};

// Tags of a batch's and a report's lists; the other fields are in `leaf`.
const REPORTS: u8 = 2;
const SCOPES: u8 = 9;
const PROCESSES: u8 = 10;
const ADDRESSES: u8 = 11;
const FLOWS: u8 = 12;

pub(crate) fn encode(reports: &[&Report]) -> Vec<u8> {
    let mut bytes = leaf::Batch { version: VERSION }.encode_to_vec();
    for report in reports {
        leaf::append_bytes(REPORTS, &encode_one(report), &mut bytes);
    }
    bytes
}

fn encode_one(report: &Report) -> Vec<u8> {
    let Report { host, epoch, sequence, rung, from, until, sent, coverage, addresses, flows } =
        report;
    let head = leaf::Head {
        host: Some(leaf::Host { id: host.id.clone(), name: host.name.clone() }),
        epoch: *epoch,
        sequence: *sequence,
        rung: flow::rung_number(*rung),
        from: from.as_microsecond(),
        until: until.as_microsecond(),
        sent: sent.as_microsecond(),
        coverage: Some(flow::coverage_message(coverage)),
    };
    let mut bytes = head.encode_to_vec();
    let mut named = Named::default();
    for ScopedAddress { scope, address, since, ended } in addresses {
        let message = leaf::Address {
            scope: named.scope(scope),
            address: flow::address_bytes(*address),
            since: since.as_microsecond(),
            ended: ended.map(|ended| ended.as_microsecond()),
        };
        leaf::append(ADDRESSES, &message, &mut bytes);
    }
    for FlowReport { flow, since, seen, ended } in flows {
        let message = leaf::FlowSpan {
            flow: Some(named.flow(flow)),
            since: since.as_microsecond(),
            seen: seen.as_microsecond(),
            ended: *ended,
        };
        leaf::append(FLOWS, &message, &mut bytes);
    }
    named.append(SCOPES, PROCESSES, &mut bytes);
    bytes
}

pub(crate) fn decode(bytes: &[u8], limit: usize) -> Result<Decoded, WireError> {
    let numbers = leaf::Batch::decode(bytes)
        .map_err(|_| WireError::Malformed("it is no batch of reports"))?;
    check(numbers.version)?;
    let mut allowance = Allowance(limit);
    let mut decoded = Decoded::default();
    for field in fields(bytes) {
        let field = field?;
        if field.tag == u32::from(REPORTS) {
            allowance.take()?;
            let report = decode_one(field.bytes, &mut allowance, &mut decoded.refused)?;
            decoded.reports.push(report);
        }
    }
    Ok(decoded)
}

fn decode_one(
    bytes: &[u8],
    allowance: &mut Allowance,
    refused: &mut u64,
) -> Result<Report, WireError> {
    let mut report = head(bytes)?;
    let mut names = Names::default();
    for field in fields(bytes) {
        let field = field?;
        if field.tag == u32::from(SCOPES) {
            names.add_scope(field.bytes, MAX_SCOPE, allowance)?;
        } else if field.tag == u32::from(PROCESSES) {
            names.add_process(field.bytes, MAX_NAME, allowance)?;
        }
    }
    for field in fields(bytes) {
        let field = field?;
        if field.tag == u32::from(ADDRESSES) {
            allowance.take()?;
            match leaf::read(field.bytes).and_then(|message| address(&names, message)) {
                Some(address) => report.addresses.push(address),
                None => *refused += 1,
            }
        } else if field.tag == u32::from(FLOWS) {
            allowance.take()?;
            match leaf::read(field.bytes).and_then(|message| flow_report(&names, message)) {
                Some(flow) => report.flows.push(flow),
                None => *refused += 1,
            }
        }
    }
    Ok(report)
}

/// A report without its lists. One that does not say whose it is, and when, is
/// of no use at all.
fn head(bytes: &[u8]) -> Result<Report, WireError> {
    let head =
        leaf::Head::decode(bytes).map_err(|_| WireError::Malformed("a report is damaged"))?;
    let named = |host: leaf::Host| {
        let id = flow::text(host.id)?;
        (!id.is_empty()).then(|| Host { id, name: flow::short(host.name) })
    };
    let host = head.host.and_then(named);
    let in_range = |sequence: &u64| *sequence > 0 && i64::try_from(*sequence).is_ok();
    let time = |microseconds| flow::time(microseconds);
    let what = WireError::Malformed;
    Ok(Report {
        host: host.ok_or(what("a report does not name its host"))?,
        epoch: head.epoch,
        sequence: Some(head.sequence).filter(in_range).ok_or(what("a report has no sequence"))?,
        rung: flow::rung(head.rung).ok_or(what("a report does not say how it was made"))?,
        from: time(head.from).ok_or(what("a time is out of range"))?,
        until: time(head.until).ok_or(what("a time is out of range"))?,
        sent: time(head.sent).ok_or(what("a time is out of range"))?,
        coverage: flow::coverage(head.coverage.unwrap_or_default()),
        addresses: Vec::new(),
        flows: Vec::new(),
    })
}

fn address(names: &Names, message: leaf::Address) -> Option<ScopedAddress> {
    Some(ScopedAddress {
        scope: names.scope(message.scope)?,
        address: flow::address(&message.address)?,
        since: flow::time(message.since)?,
        ended: match message.ended {
            Some(ended) => Some(flow::time(ended)?),
            None => None,
        },
    })
}

fn flow_report(names: &Names, message: leaf::FlowSpan) -> Option<FlowReport> {
    Some(FlowReport {
        flow: names.flow(message.flow?)?,
        since: flow::time(message.since)?,
        seen: flow::time(message.seen)?,
        ended: message.ended,
    })
}
