//! What the disk's thread tells of itself, for whoever scrapes.

use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers of a spool.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// 1 if the last job was done.
    pub(crate) usable: AtomicU64,
    /// Bytes of all segments.
    pub(crate) bytes: AtomicU64,
    /// Of these, those of this run's journal; and so many when it was last
    /// written anew.
    pub(crate) journal_bytes: AtomicU64,
    pub(crate) journal_base: AtomicU64,
    /// 1 if somebody removed it.
    pub(crate) journal_lost: AtomicU64,
    /// Segments that wait to be delivered.
    pub(crate) backlog_files: AtomicU64,
    /// Jobs that failed.
    pub(crate) failures: AtomicU64,
    /// Places in segments that could not be read.
    pub(crate) damaged: AtomicU64,
    /// Segments of another host or a newer version, left alone.
    pub(crate) strangers: AtomicU64,
}

/// A journal smaller than this is not written anew.
const SMALL_JOURNAL: u64 = 256 << 10;

impl Figures {
    /// Whether the journal is to be written anew: it is larger than twice what
    /// it said when it last was, or it is gone.
    pub(crate) fn journal_is_stale(&self) -> bool {
        let base = self.journal_base.load(Ordering::Relaxed);
        let large = self.journal_bytes.load(Ordering::Relaxed) > (2 * base).max(SMALL_JOURNAL);
        large || self.journal_lost.load(Ordering::Relaxed) == 1
    }
}
