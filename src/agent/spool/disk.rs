//! The thread that writes and reads segments, so that a disk that hangs stops
//! neither collecting nor delivering.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use tracing::{debug, info, warn};

use crate::agent::spool::directory::{self, Directory, Name, Writer};
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
    /// Done; so many spans were written.
    Done(u64),
    /// What earlier runs left: so many spans, and so many places, each of at
    /// least one span, that cannot be read any more.
    Found { spans: u64, damaged: u64 },
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

/// What earlier runs left.
#[derive(Debug, Default)]
struct Left {
    kept: Vec<(Turn, (Name, Kept))>,
    spans: u64,
    /// Places in these that cannot be read any more.
    places: u64,
    /// Made, and never written to for good.
    torn: Vec<(Name, u64)>,
    /// Both heads are damaged.
    headless: Vec<Name>,
    /// What the disk said instead of giving them back.
    closed: Vec<anyhow::Error>,
    /// Of another host, or a newer version.
    strangers: u64,
}

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
        self.find()?;
        let emptied = self.emptied.load(Ordering::Acquire);
        if emptied != self.emptied_until {
            self.empty_journal()?;
            self.emptied_until = emptied;
        }
        match job {
            Job::Open if self.taken_over => Ok(Reply::Found { spans: 0, damaged: 0 }),
            Job::Open => self.take_over(),
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

    /// Opens the directory, at first and where it, its lock or what is journaled
    /// was removed meanwhile: what is in memory still is then written again.
    fn find(&mut self) -> Result<()> {
        let is_whole = |directory: &Directory| {
            directory.is_in_place() && self.journal.iter().all(|(name, _)| directory.has(*name))
        };
        if self.directory.as_ref().is_some_and(is_whole) {
            return Ok(());
        }
        // Not locked twice.
        (self.directory, self.writer) = (None, None);
        let directory = self.directory.insert(Directory::open(&self.path, self.limit)?);
        let known = self.journal.len();
        self.journal.retain(|(name, _)| directory.has(*name));
        if self.journal.len() < known {
            let path = self.path.display();
            warn!("somebody removed what was kept in '{path}'; it is written again");
            self.figures.journal_lost.set(1);
        }
        Ok(())
    }

    /// Counts what earlier runs of this host's probe left, and what of it is
    /// lost. What is another host's, or of a version not known here, is left
    /// alone, and so is what cannot be read: it may be at another time.
    fn take_over(&mut self) -> Result<Reply> {
        let directory = self.directory.as_mut().context("it is not open")?;
        let mut left = Left::default();
        for (name, bytes) in directory.list()? {
            if name.epoch == self.epoch {
                self.next_number = self.next_number.max(name.number + 1);
            }
            match directory.read(name) {
                Ok(read) => left.add(name, bytes, &read, self.host),
                Err(error) => left.closed.push(error),
            }
        }
        // What cannot be moved now is found again by the next run.
        for &(name, bytes) in &left.torn {
            directory.remove(name, bytes).ok();
        }
        for &name in &left.headless {
            directory.set_aside(name).ok();
        }
        left.tell(&self.path);
        let damaged = left.damaged();
        self.figures.damaged.add(damaged);
        self.figures.strangers.set(left.strangers);
        self.backlog.extend(left.kept);
        self.taken_over = true;
        Ok(Reply::Found { spans: left.spans, damaged })
    }

    /// Head and payloads, if it is ours.
    fn judge<'a>(&self, bytes: &'a [u8]) -> Option<(Head, Vec<&'a [u8]>)> {
        match parse(bytes) {
            Segment::Ours(head, payloads, _) if head.host == self.host => Some((head, payloads)),
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
            let counted = self.judge(&read).map_or(0, |(_, list)| payload::decode(&list).spans);
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
        let Some((head, payloads)) = self.judge(&read) else {
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

impl Left {
    fn add(&mut self, name: Name, bytes: u64, read: &[u8], host: i64) {
        match parse(read) {
            Segment::Ours(head, payloads, places) if head.host == host => {
                let content = payload::decode(&payloads);
                self.places += places + content.refused;
                self.spans += content.spans;
                let kept = Kept { bytes, spans: content.spans };
                self.kept.push((turn(0, name, head.kind), (name, kept)));
            }
            Segment::Ours(..) | Segment::Newer(_) => self.strangers += 1,
            Segment::Torn => self.torn.push((name, bytes)),
            Segment::Unreadable => self.headless.push(name),
        }
    }

    /// How much is lost, in places: nobody can tell how many spans were there.
    fn damaged(&self) -> u64 {
        self.places + (self.headless.len() + self.closed.len()) as u64
    }

    fn tell(&self, path: &Path) {
        let path = path.display();
        let Left { kept, spans, places, headless, closed, strangers, .. } = self;
        if *places > 0 {
            warn!("{places} places in segments of '{path}' are damaged; what was there is lost");
        }
        if !headless.is_empty() {
            let (count, aside) = (headless.len(), directory::ASIDE);
            warn!(
                "{count} segments in '{path}' are damaged where they begin; what was in them is lost, and they are kept as *{aside}"
            );
        }
        if let Some(error) = closed.first() {
            let count = closed.len();
            warn!("{count} segments in '{path}' cannot be read and are left alone: {error:#}");
        }
        if *strangers > 0 {
            warn!(
                "{strangers} segments in '{path}' are of another host or a newer version; they are left alone"
            );
        }
        if !kept.is_empty() {
            let count = kept.len();
            info!("{spans} spans in {count} segments of '{path}' wait since an earlier run");
        }
    }
}

fn turn(failures: u64, name: Name, kind: Kind) -> Turn {
    (failures, name.epoch, kind == Kind::Spill, name.number)
}

fn is_missing(error: &anyhow::Error) -> bool {
    let kind = error.root_cause().downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    kind == Some(std::io::ErrorKind::NotFound)
}
