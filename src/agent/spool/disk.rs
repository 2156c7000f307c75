//! The thread that writes and reads segments, so that a disk that hangs stops
//! neither collecting nor delivering.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use tracing::{debug, info, warn};

use crate::agent::spool::directory::{Directory, Name, Writer};
use crate::agent::spool::figures::Figures;
use crate::agent::spool::format::{self, Head, Kind, Segment, parse};
use crate::agent::spool::payload;
use crate::flow::report::Report;

/// A segment that has grown to this many bytes is followed by another.
const SEGMENT_BYTES: u64 = 256 << 10;

/// What the thread is asked to do.
#[derive(Debug)]
pub(crate) enum Job {
    /// Lock the directory, and count what earlier runs left.
    Open,
    /// Append to the journal, or write it anew.
    Journal { reports: Vec<Report>, anew: bool },
    /// Keep what leaves memory.
    Spill(Vec<Report>),
    /// Read the first segment of the backlog.
    Next,
    /// Try another epoch's segments before those of this.
    Later(Name),
    /// The CMDB has all of a segment.
    Remove(Name),
    /// Remove what the CMDB has.
    Tidy,
}

/// What it answers.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Done; so many spans were found or written.
    Done(u64),
    /// The first segment of the backlog, if there is one.
    Batch(Option<Batch>),
}

/// A segment, read.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) name: Name,
    pub(crate) kind: Kind,
    /// Its reports, in groups that may be merged.
    pub(crate) groups: Vec<Vec<Report>>,
    /// Spans in it, and those that were in it and cannot be read any more.
    pub(crate) spans: u64,
    pub(crate) damaged: u64,
}

/// A segment of the backlog, as it was counted.
#[derive(Clone, Copy, Debug)]
struct Kept {
    bytes: u64,
    spans: u64,
}

/// The order in which the backlog is told: epoch by epoch, within one what was
/// journaled first, as its sequences rise with its names. Epochs that failed
/// come after those that did not.
type Turn = (u64, i64, bool, u32);

/// What the thread knows.
#[derive(Debug)]
pub(crate) struct Disk {
    path: PathBuf,
    limit: u64,
    host: i64,
    epoch: i64,
    figures: Arc<Figures>,
    /// Raised by whoever finds that the CMDB has all that is journaled.
    emptied: Arc<AtomicU64>,
    emptied_until: u64,
    directory: Option<Directory>,
    taken_over: bool,
    unusable: bool,
    next_number: u32,
    journal: Vec<(Name, u64)>,
    writer: Option<(Writer, u64)>,
    backlog: BTreeMap<Turn, (Name, Kept)>,
    failures: u64,
}

impl Disk {
    pub(crate) fn new(
        path: PathBuf,
        limit: u64,
        who: (i64, i64),
        figures: Arc<Figures>,
        emptied: Arc<AtomicU64>,
    ) -> Disk {
        Disk {
            path,
            limit,
            host: who.0,
            epoch: who.1,
            figures,
            emptied,
            emptied_until: 0,
            directory: None,
            taken_over: false,
            unusable: false,
            next_number: 0,
            journal: Vec::new(),
            writer: None,
            backlog: BTreeMap::new(),
            failures: 0,
        }
    }

    /// Does one job. Says so once when that begins to fail, and once when it
    /// works again.
    pub(crate) fn work(&mut self, job: Job) -> Result<Reply> {
        let done = self.try_to(job);
        let path = self.path.display();
        match &done {
            Ok(_) if std::mem::take(&mut self.unusable) => {
                info!("what is not delivered is kept in '{path}' again");
            }
            Ok(_) => {}
            Err(error) => {
                self.figures.failures.add(1);
                // What is half written is not written on.
                self.writer = None;
                if !std::mem::replace(&mut self.unusable, true) {
                    warn!(
                        "what is not delivered is kept in memory only, not in '{path}': {error:#}"
                    );
                } else {
                    debug!("spool '{path}': {error:#}");
                }
            }
        }
        self.figures.usable.set(u64::from(!self.unusable));
        let used = self.directory.as_ref().map_or(0, Directory::used);
        self.figures.bytes.set(used);
        let journal = self.journal.iter().map(|(_, bytes)| bytes).sum();
        self.figures.journal_bytes.set(journal);
        self.figures.backlog_files.set(self.backlog.len() as u64);
        done
    }

    fn try_to(&mut self, job: Job) -> Result<Reply> {
        if self.directory.as_ref().is_some_and(Directory::is_gone) {
            (self.directory, self.writer) = (None, None);
            self.journal.clear();
            self.figures.journal_lost.set(1);
        }
        if self.directory.is_none() {
            self.directory = Some(Directory::open(&self.path, self.limit)?);
        }
        let emptied = self.emptied.load(Ordering::Acquire);
        if emptied != self.emptied_until {
            self.empty_journal()?;
            self.emptied_until = emptied;
        }
        match job {
            Job::Open if self.taken_over => Ok(Reply::Done(0)),
            Job::Open => self.take_over().map(Reply::Done),
            Job::Journal { reports, anew } => self.journal(&reports, anew).map(Reply::Done),
            Job::Spill(reports) => self.spill(&reports).map(Reply::Done),
            Job::Next => self.next().map(Reply::Batch),
            Job::Later(name) => {
                self.put_off(name.epoch);
                Ok(Reply::Done(0))
            }
            Job::Remove(name) => self.remove(name).map(|()| Reply::Done(0)),
            Job::Tidy => Ok(Reply::Done(0)),
        }
    }

    /// Counts what earlier runs of this host's probe left. What is another
    /// host's, or of a version not known here, is left alone.
    fn take_over(&mut self) -> Result<u64> {
        let directory = self.directory.as_ref().context("it is not open")?;
        let (mut total, mut strangers, mut dead) = (0, 0_u64, Vec::new());
        for (name, bytes) in directory.list()? {
            if name.epoch == self.epoch {
                self.next_number = self.next_number.max(name.number + 1);
            }
            let Ok(read) = directory.read(name) else {
                strangers += 1;
                continue;
            };
            let Some((head, payloads, places)) = self.judge(&read) else {
                match parse(&read) {
                    Segment::Torn | Segment::Unreadable => dead.push((name, bytes)),
                    Segment::Newer(_) | Segment::Ours(..) => strangers += 1,
                }
                continue;
            };
            let content = payload::decode(&payloads);
            self.figures.damaged.add(places + content.refused);
            total += content.spans;
            let kept = Kept { bytes, spans: content.spans };
            self.backlog.insert(turn(0, name, head.kind), (name, kept));
        }
        for (name, bytes) in dead {
            self.directory.as_mut().context("it is not open")?.remove(name, bytes)?;
        }
        let path = self.path.display();
        if strangers > 0 {
            warn!(
                "{strangers} segments in '{path}' cannot be read, or are of another host or a newer version; they are left alone"
            );
        }
        if !self.backlog.is_empty() {
            info!(
                "{total} spans in {} segments of '{path}' wait since an earlier run",
                self.backlog.len()
            );
        }
        self.figures.strangers.set(strangers);
        self.taken_over = true;
        Ok(total)
    }

    /// Head, payloads and damaged places, if it is ours.
    fn judge<'a>(&self, bytes: &'a [u8]) -> Option<(Head, Vec<&'a [u8]>, u64)> {
        match parse(bytes) {
            Segment::Ours(head, payloads, damage) if head.host == self.host => {
                Some((head, payloads, damage.places))
            }
            _ => None,
        }
    }

    fn journal(&mut self, reports: &[Report], anew: bool) -> Result<u64> {
        let old = if anew { std::mem::take(&mut self.journal) } else { Vec::new() };
        if anew {
            self.writer = None;
        }
        let written = self.append(reports, Kind::Journal);
        if written.is_err() && anew {
            // The old one is as good as before; what is new of the new one is
            // no harm beside it.
            self.journal.splice(0..0, old);
            return written;
        }
        for (name, bytes) in old {
            self.directory.as_mut().context("it is not open")?.remove(name, bytes)?;
        }
        if anew {
            let size = self.journal.iter().map(|(_, bytes)| bytes).sum();
            self.figures.journal_base.set(size);
            self.figures.journal_lost.set(0);
        }
        written
    }

    /// Appends reports to the journal, or to segments of their own that are
    /// in [`Disk::journal`] too until the caller moves them.
    fn append(&mut self, reports: &[Report], kind: Kind) -> Result<u64> {
        for report in reports {
            let payload = payload::encode(report);
            let size = (payload.len() + format::FRAME_BYTES + format::HEAD_BYTES) as u64;
            let directory = self.directory.as_mut().context("it is not open")?;
            directory.has_room(size)?;
            let (mut writer, salt) = match self.writer.take() {
                Some((writer, salt)) if writer.bytes < SEGMENT_BYTES => (writer, salt),
                full => {
                    if let Some((full, _)) = full {
                        directory.sync(&full)?;
                    }
                    let name = Name { epoch: self.epoch, number: self.next_number };
                    self.next_number += 1;
                    let salt = RandomState::new().hash_one(self.next_number);
                    let head = Head { kind, host: self.host, epoch: self.epoch, salt };
                    let writer = directory.create(name, &head)?;
                    self.journal.push((name, writer.bytes));
                    (writer, salt)
                }
            };
            let mut bytes = Vec::new();
            format::frame(salt, &payload, &mut bytes);
            directory.write(&mut writer, &bytes)?;
            if let Some(last) = self.journal.last_mut() {
                last.1 = writer.bytes;
            }
            self.writer = Some((writer, salt));
        }
        if let (Some(directory), Some((writer, _))) = (&self.directory, &self.writer) {
            directory.sync(writer)?;
        }
        Ok(payload::count(reports))
    }

    fn spill(&mut self, reports: &[Report]) -> Result<u64> {
        let journal = std::mem::take(&mut self.journal);
        let writer = self.writer.take();
        let written = self.append(reports, Kind::Spill);
        self.writer = writer;
        let segments = std::mem::replace(&mut self.journal, journal);
        let spans = match written {
            Ok(spans) => spans,
            Err(error) => {
                for (name, bytes) in segments {
                    self.directory.as_mut().context("it is not open")?.remove(name, bytes)?;
                }
                return Err(error);
            }
        };
        for (name, bytes) in segments {
            let read = self.directory.as_ref().context("it is not open")?.read(name)?;
            let counted = self.judge(&read).map_or(0, |(_, list, _)| payload::decode(&list).spans);
            let kept = Kept { bytes, spans: counted };
            self.backlog.insert(turn(0, name, Kind::Spill), (name, kept));
        }
        Ok(spans)
    }

    fn next(&mut self) -> Result<Option<Batch>> {
        let Some((_, &(name, kept))) = self.backlog.first_key_value() else { return Ok(None) };
        let read = match self.directory.as_ref().context("it is not open")?.read(name) {
            // Somebody removed it. Any other reason may pass; the others of
            // the backlog do not wait for that.
            Err(error) if is_missing(&error) => Vec::new(),
            Err(error) => {
                self.put_off(name.epoch);
                return Err(error);
            }
            Ok(read) => read,
        };
        let Some((head, payloads, _)) = self.judge(&read) else {
            // It was counted once, so it was whole then.
            let (kind, groups) = (Kind::Journal, Vec::new());
            return Ok(Some(Batch { name, kind, groups, spans: 0, damaged: kept.spans }));
        };
        let content = payload::decode(&payloads);
        let spans = content.spans.min(kept.spans);
        let damaged = kept.spans - spans;
        Ok(Some(Batch { name, kind: head.kind, groups: content.groups, spans, damaged }))
    }

    fn put_off(&mut self, epoch: i64) {
        self.failures += 1;
        let (late, others) =
            std::mem::take(&mut self.backlog).into_iter().partition(|(turn, _)| turn.1 == epoch);
        self.backlog = others;
        let failures = self.failures;
        let late: BTreeMap<Turn, _> = late;
        self.backlog.extend(
            late.into_iter().map(|(turn, kept)| ((failures, turn.1, turn.2, turn.3), kept)),
        );
    }

    fn remove(&mut self, name: Name) -> Result<()> {
        let found = self.backlog.iter().find(|(_, (kept, _))| *kept == name);
        let Some((&turn, &(_, kept))) = found else { return Ok(()) };
        // It is told once in this run, whether it can be removed or not.
        self.backlog.remove(&turn);
        self.directory.as_mut().context("it is not open")?.remove(name, kept.bytes)
    }

    fn empty_journal(&mut self) -> Result<()> {
        self.writer = None;
        let directory = self.directory.as_mut().context("it is not open")?;
        while let Some(&(name, bytes)) = self.journal.last() {
            directory.remove(name, bytes)?;
            self.journal.pop();
        }
        self.figures.journal_base.set(0);
        Ok(())
    }
}

fn turn(failures: u64, name: Name, kind: Kind) -> Turn {
    (failures, name.epoch, kind == Kind::Spill, name.number)
}

fn is_missing(error: &anyhow::Error) -> bool {
    let kind = error.root_cause().downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    kind == Some(std::io::ErrorKind::NotFound)
}
