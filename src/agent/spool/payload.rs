//! Reports ↔ the payloads of records: the wire form, as in docs/wire.md.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use anyhow::Result;

use crate::flow::report::Report;
use crate::wire::{self, Decoded};

/// Most flows and bytes (before compression) of one record.
pub(crate) const RECORD_FLOWS: usize = 4096;
pub(crate) const RECORD_BYTES: usize = 1 << 20;

/// Most flows and bytes of one report, which whoever receives it takes whole:
/// less than a collector's 65,536 things, where each flow has a process of its
/// own, and less than its 4 MiB, also where nothing can be compressed.
pub(crate) const REPORT_FLOWS: usize = 16_384;
pub(crate) const REPORT_BYTES: usize = 3 << 20;

/// What a record may inflate to, and how many things are in it: far more than
/// was put in, far less than a probe's memory.
const MAX_INFLATED: usize = 16 << 20;
const MAX_THINGS: usize = 1 << 20;

/// The payload of a record.
pub(crate) fn encode(report: &Report) -> Vec<u8> {
    wire::pack(&wire::encode(&[report]))
}

/// What the payloads of a segment say.
#[derive(Debug, Default)]
pub(crate) struct Content {
    /// Reports in order of their sequences, in groups of which each, merged,
    /// is a report of bounded size.
    pub(crate) groups: Vec<Vec<Report>>,
    /// How many spans of flows, each once.
    pub(crate) spans: u64,
    /// Records, and flows of a record, that could not be understood.
    pub(crate) refused: u64,
}

/// Reads records of one epoch.
pub(crate) fn decode(payloads: &[&[u8]]) -> Content {
    let mut content = Content::default();
    let (mut group, mut bytes, mut flows) = (Vec::new(), 0, 0);
    for payload in payloads {
        let Ok((decoded, size)) = decode_one(payload) else {
            content.refused += 1;
            continue;
        };
        content.refused += decoded.refused;
        let reports = decoded.reports;
        let more: usize = reports.iter().map(|report| report.flows.len()).sum();
        if bytes + size > REPORT_BYTES || flows + more > REPORT_FLOWS {
            content.groups.push(std::mem::take(&mut group));
            (bytes, flows) = (0, 0);
        }
        (bytes, flows) = (bytes + size, flows + more);
        group.extend(reports);
    }
    content.groups.push(group);
    content.groups.retain(|group| !group.is_empty());
    content.spans = count(content.groups.iter().flatten());
    content
}

fn decode_one(payload: &[u8]) -> Result<(Decoded, usize)> {
    let bytes = wire::unpack(payload, MAX_INFLATED)?;
    Ok((wire::decode(&bytes, MAX_THINGS)?, bytes.len()))
}

/// Spans, each once.
pub(crate) fn count<'a>(reports: impl IntoIterator<Item = &'a Report>) -> u64 {
    let hasher = RandomState::new();
    let flows = reports.into_iter().flat_map(|report| &report.flows);
    let spans = flows.map(|told| hasher.hash_one((&told.flow.key, told.since)));
    spans.collect::<HashSet<u64>>().len() as u64
}
