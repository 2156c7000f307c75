//! What the disk's thread tells of itself, for whoever scrapes.

use crate::prometheus::Count;

/// Numbers of a spool.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// 1 if the last job was done.
    pub(crate) usable: Count,
    /// Bytes of all segments.
    pub(crate) bytes: Count,
    /// Of these, those of this run's journal; and so many when it was last
    /// written anew.
    pub(crate) journal_bytes: Count,
    pub(crate) journal_base: Count,
    /// 1 if somebody removed it, or some of it.
    pub(crate) journal_lost: Count,
    /// Segments that wait to be delivered.
    pub(crate) backlog_files: Count,
    /// Jobs that failed.
    pub(crate) failures: Count,
    /// Places in segments that could not be read.
    pub(crate) damaged: Count,
    /// Segments of another host or a newer version, left alone.
    pub(crate) strangers: Count,
}

/// A journal smaller than this is not written anew.
const SMALL_JOURNAL: u64 = 256 << 10;

impl Figures {
    /// Whether the journal is to be written anew: it is larger than twice what
    /// it said when it last was, or it is gone.
    pub(crate) fn journal_is_stale(&self) -> bool {
        let base = self.journal_base.get();
        let large = self.journal_bytes.get() > (2 * base).max(SMALL_JOURNAL);
        large || self.journal_is_lost()
    }

    pub(crate) fn journal_is_lost(&self) -> bool {
        self.journal_lost.get() == 1
    }
}
