//! The bytes of a segment file, and back. Plain functions: no file is opened
//! here, and no bytes, whoever wrote them, make this panic.
//!
//! ```text
//! segment = head head record*          both heads are the same, so that no one
//!                                      damaged place costs the whole segment
//! head    = magic(8) version(2) kind(2) host(8) epoch(8) salt(8) crc(4)
//! record  = mark(4) length(4) crc-of-payload(4) crc-of-these(4) payload
//! ```
//!
//! Numbers are little-endian, sums are CRC-32C (RFC 3720, B.4). The salt is by
//! chance and goes into the sums of all records, so that a hostile name within
//! a payload cannot pass for a record when the one around it is damaged. The
//! head keeps its layout in all versions.

use crc::{CRC_32_ISCSI, Crc, Table};

/// The version that is written.
pub const VERSION: u16 = 1;

/// Largest payload. A longer length is damage.
pub const MAX_PAYLOAD: usize = 8 << 20;

/// The bytes before the first record.
pub const HEAD_BYTES: usize = 2 * ONE_HEAD;

/// The bytes of a record beside its payload.
pub const FRAME_BYTES: usize = 16;

const MAGIC: [u8; 8] = *b"\x89shawk\r\n";
const MARK: [u8; 4] = *b"\xf1rec";
const ONE_HEAD: usize = 40;

static SUM: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// What a segment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// States that are in the memory of the run that wrote them as well. What
    /// the CMDB has of a later report of its epoch, it need not be told.
    Journal,
    /// What left that run's memory, to be told in any case.
    Spill,
}

/// Whose records are in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What it is for.
    pub kind: Kind,
    /// The key of the host.
    pub host: i64,
    /// The run of the probe.
    pub epoch: i64,
    /// By chance.
    pub salt: u64,
}

/// What bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment<'a> {
    /// A segment of this version, the payloads that are whole, in order, and
    /// the places where one record or more could not be read.
    Ours(Head, Vec<&'a [u8]>, u64),
    /// One of a version that is not known here. It is another's.
    Newer(u16),
    /// The file was made, and its heads were not written to the end.
    Torn,
    /// No segment, or one whose heads are damaged both.
    Unreadable,
}

/// The head of a segment, twice.
pub fn head(head: &Head) -> [u8; HEAD_BYTES] {
    let mut bytes = [0; HEAD_BYTES];
    let (one, two) = bytes.split_at_mut(ONE_HEAD);
    one[..8].copy_from_slice(&MAGIC);
    one[8..10].copy_from_slice(&VERSION.to_le_bytes());
    one[10..12].copy_from_slice(&(head.kind as u16).to_le_bytes());
    one[12..20].copy_from_slice(&head.host.to_le_bytes());
    one[20..28].copy_from_slice(&head.epoch.to_le_bytes());
    one[28..36].copy_from_slice(&head.salt.to_le_bytes());
    let sum = SUM.checksum(&one[..36]);
    one[36..].copy_from_slice(&sum.to_le_bytes());
    two.copy_from_slice(one);
    bytes
}

/// Appends a record to `bytes`. A payload longer than [`MAX_PAYLOAD`] would
/// not be read back.
pub fn frame(salt: u64, payload: &[u8], bytes: &mut Vec<u8>) {
    let start = bytes.len();
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    bytes.extend(MARK);
    bytes.extend(length.to_le_bytes());
    bytes.extend(salted(salt, payload).to_le_bytes());
    let sum = salted(salt, &bytes[start..]);
    bytes.extend(sum.to_le_bytes());
    bytes.extend(payload);
}

/// Reads a segment. A record whose sum is wrong is skipped and counted, and so
/// is whatever lies before the next head of a record, or before the end.
///
/// A kill leaves a last record that is shorter than its head says, or than a
/// head is. That was never synced, and is no damage. Whatever else does not
/// parse was changed after it was written, or is of a loss of power on a file
/// system that keeps the length of what it has not written.
pub fn parse(bytes: &[u8]) -> Segment<'_> {
    let read = match (read_head(bytes), read_head(bytes.get(ONE_HEAD..).unwrap_or(&[]))) {
        (Some(read), _) | (None, Some(read)) => read,
        (None, None) if bytes.len() < HEAD_BYTES => return Segment::Torn,
        (None, None) => return Segment::Unreadable,
    };
    let head = match read {
        Ok(head) => head,
        Err(version) => return Segment::Newer(version),
    };
    let mut records = Vec::new();
    let mut damaged = 0;
    let mut rest = bytes.get(HEAD_BYTES..).unwrap_or(&[]);
    while !rest.is_empty() {
        let Some(length) = read_frame(head.salt, rest) else {
            let next = (1..rest.len()).find(|&at| read_frame(head.salt, &rest[at..]).is_some());
            damaged += u64::from(rest.len() >= FRAME_BYTES);
            rest = next.map_or(&[], |next| &rest[next..]);
            continue;
        };
        let Some(payload) = rest.get(FRAME_BYTES..FRAME_BYTES + length) else { break };
        if number(rest, 8) == Some(salted(head.salt, payload)) {
            records.push(payload);
        } else {
            damaged += 1;
        }
        rest = &rest[FRAME_BYTES + length..];
    }
    Segment::Ours(head, records, damaged)
}

/// A head, or the version that has another kind of it. None if it is damaged.
fn read_head(bytes: &[u8]) -> Option<Result<Head, u16>> {
    let bytes = bytes.get(..ONE_HEAD)?;
    if bytes[..8] != MAGIC || number(bytes, 36)? != SUM.checksum(&bytes[..36]) {
        return None;
    }
    let version = u16::from_le_bytes(bytes[8..10].try_into().ok()?);
    let kind = match u16::from_le_bytes(bytes[10..12].try_into().ok()?) {
        0 => Kind::Journal,
        1 => Kind::Spill,
        _ => return Some(Err(version)),
    };
    let long = |at: usize| bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
    let host = i64::from_le_bytes(long(12)?);
    let epoch = i64::from_le_bytes(long(20)?);
    let salt = u64::from_le_bytes(long(28)?);
    Some(if version == VERSION { Ok(Head { kind, host, epoch, salt }) } else { Err(version) })
}

/// The length of the payload, if a record begins here.
fn read_frame(salt: u64, bytes: &[u8]) -> Option<usize> {
    if !bytes.starts_with(&MARK) || number(bytes, 12)? != salted(salt, bytes.get(..12)?) {
        return None;
    }
    let length = number(bytes, 4)? as usize;
    (length <= MAX_PAYLOAD).then_some(length)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?;
    four.try_into().ok().map(u32::from_le_bytes)
}

fn salted(salt: u64, bytes: &[u8]) -> u32 {
    let mut digest = SUM.digest();
    digest.update(&salt.to_le_bytes());
    digest.update(bytes);
    digest.finalize()
}

#[cfg(test)]
mod tests;
