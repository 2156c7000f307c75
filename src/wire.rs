//! Reports, questions and answers as bytes, and back: protobuf (docs/wire.md),
//! zstd around it.
//!
//! What is on the wire is a promise, held by tests with its bytes. Bytes come
//! from anybody: whatever they are, reading them neither panics nor takes more
//! memory than its limit. It must not know who sends, or how.

mod asked;
mod fields;
mod flow;
mod leaf;
pub mod recall;
mod report;

use std::fmt;
use std::io::Read;

use crate::flow::report::Report;

/// The version that is written. A reader takes those next to its own too: what
/// is new in a version is in fields that an older reader skips.
pub const VERSION: u32 = 1;

/// How hard zstd works; beyond 3 it costs far more time than it saves bytes.
const ZSTD_LEVEL: i32 = 3;

/// The largest window that a sender may make a reader keep: 2^23 bytes, which
/// every zstd up to level 19 stays below.
const ZSTD_WINDOW_LOG: u32 = 23;

/// How much is inflated before it is held against the limit.
const STEP: usize = 256 * 1024;

/// Why bytes were not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireError {
    /// They are no message of ours, or a damaged one; what of it.
    Malformed(&'static str),
    /// A version too far from [`VERSION`].
    Version(u32),
    /// They hold more than they may.
    TooLarge,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::Malformed(what) => write!(f, "the message cannot be understood: {what}"),
            WireError::Version(version) => write!(
                f,
                "the message is of version {version}, this is version {VERSION} and takes those next to it"
            ),
            WireError::TooLarge => write!(f, "the message is larger than may be taken"),
        }
    }
}

impl std::error::Error for WireError {}

/// What was understood of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    /// The reports.
    pub reports: Vec<Report>,
    /// Flows and addresses left out, as they could not be understood.
    pub refused: u64,
}

/// Reports as a batch.
pub fn encode(reports: &[&Report]) -> Vec<u8> {
    report::encode(reports)
}

/// The inverse of [`encode`]. `limit` is the most reports, flows, addresses,
/// processes and scopes that are taken, together.
pub fn decode(bytes: &[u8], limit: usize) -> Result<Decoded, WireError> {
    report::decode(bytes, limit)
}

/// Compresses.
pub fn pack(bytes: &[u8]) -> Vec<u8> {
    // A compressor in memory fails for want of memory only, which aborts.
    zstd::bulk::compress(bytes, ZSTD_LEVEL).unwrap_or_else(|_| unreachable!("written to memory"))
}

/// The inverse of [`pack`], of at most `limit` bytes. What is beyond is never
/// made: a few bytes may say "a gibibyte of zeros".
pub fn unpack(bytes: &[u8], limit: usize) -> Result<Vec<u8>, WireError> {
    let damaged = |_| WireError::Malformed("its compression is damaged");
    let mut reader = zstd::stream::read::Decoder::with_buffer(bytes).map_err(damaged)?;
    reader.window_log_max(ZSTD_WINDOW_LOG).map_err(damaged)?;
    // In steps, as reading to the end at once would double what it has taken.
    let mut inflated = Vec::new();
    loop {
        let begun = inflated.len();
        inflated.reserve_exact(STEP);
        let step = u64::try_from(STEP).unwrap_or(u64::MAX);
        reader.by_ref().take(step).read_to_end(&mut inflated).map_err(damaged)?;
        if inflated.len() > limit {
            return Err(WireError::TooLarge);
        }
        if inflated.len() < begun + STEP {
            return Ok(inflated);
        }
    }
}

/// A version that can be read: this one and those next to it.
fn check(version: u32) -> Result<(), WireError> {
    match version {
        0 => Err(WireError::Malformed("it has no version")),
        version if version.abs_diff(VERSION) <= 1 => Ok(()),
        version => Err(WireError::Version(version)),
    }
}

#[cfg(test)]
mod tests;
