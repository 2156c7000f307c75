//! A directory of segment files: made for its owner alone, locked against a
//! second process, bounded. It must not know what is in a record.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FlockOperation, fstatvfs};
use rustix::io::Errno;

use crate::agent::spool::format::{self, Head};

/// Of the file system so much stays free: a twentieth of it, at most this.
const MAX_RESERVE: u64 = 256 << 20;

/// Most files that are looked at; a spool has a few hundred.
const MAX_FILES: usize = 16_384;

/// Largest file that is read: a segment and its last record.
const MAX_FILE: u64 = 2 * format::MAX_PAYLOAD as u64;

/// What is added to the name of a segment that nobody can read any more, so
/// that it is counted as lost once and not by each run. It takes its room until
/// somebody removes it.
pub(crate) const ASIDE: &str = ".damaged";

/// The name of a segment: names sort in the order in which they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) epoch: i64,
    pub(crate) number: u32,
}

impl Name {
    fn text(self) -> String {
        format!("{:016x}-{:08x}.seg", self.epoch, self.number)
    }

    fn parse(text: &str) -> Option<Name> {
        let (epoch, number) = text.strip_suffix(".seg")?.split_once('-')?;
        let epoch = i64::from_str_radix(epoch, 16).ok()?;
        let name = Name { epoch, number: u32::from_str_radix(number, 16).ok()? };
        (name.text() == text).then_some(name)
    }
}

/// The directory, locked for as long as this lives.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    this: File,
    lock: File,
    limit: u64,
    used: u64,
}

/// A segment that is being written.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) bytes: u64,
    file: File,
}

impl Directory {
    /// Makes it where it is missing, and locks it. `limit` is the most bytes
    /// that segments take.
    pub(crate) fn open(path: &Path, limit: u64) -> Result<Directory> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).context("make it")?;
        let this = File::open(path).context("open it")?;
        let about = this.metadata().context("look at it")?;
        ensure!(about.is_dir(), "it is no directory");
        ensure!(about.mode() & 0o022 == 0, "others may write to it; name another with --spool");
        let nofollow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(nofollow);
        let lock = options.open(path.join("lock")).context("open its lock file")?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => bail!("another process has it; name another with --spool"),
            Err(error) => return Err(error).context("lock it"),
        }
        let path = path.to_owned();
        let mut directory = Directory { path, this, lock, limit, used: 0 };
        directory.used = directory.files()?.into_iter().map(|(_, _, bytes)| bytes).sum();
        Ok(directory)
    }

    /// Whether it and its lock are still what their paths lead to. If not,
    /// whatever is written here nobody reads, or another process writes as well.
    pub(crate) fn is_in_place(&self) -> bool {
        leads_to(&self.path, &self.this) && leads_to(&self.path.join("lock"), &self.lock)
    }

    /// Whether a segment is there.
    pub(crate) fn has(&self, name: Name) -> bool {
        !is_missing(std::fs::symlink_metadata(self.path.join(name.text())).as_ref())
    }

    /// All segments and their sizes, in order.
    pub(crate) fn list(&self) -> Result<Vec<(Name, u64)>> {
        let segments = self.files()?.into_iter().filter(|(_, is_aside, _)| !is_aside);
        let mut found: Vec<_> = segments.map(|(name, _, bytes)| (name, bytes)).collect();
        found.sort_unstable();
        Ok(found)
    }

    /// Segments, whether they were set aside, and their sizes.
    fn files(&self) -> Result<Vec<(Name, bool, u64)>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.path).context("list it")?.take(MAX_FILES) {
            let entry = entry.context("list it")?;
            let text = entry.file_name();
            let Some(text) = text.to_str() else { continue };
            let (text, is_aside) = match text.strip_suffix(ASIDE) {
                Some(segment) => (segment, true),
                None => (text, false),
            };
            if let Some(name) = Name::parse(text) {
                found.push((name, is_aside, entry.metadata().context("look at a segment")?.len()));
            }
        }
        Ok(found)
    }

    /// Bytes that segments take.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// Whether so many bytes more may be written.
    pub(crate) fn has_room(&self, bytes: u64) -> Result<()> {
        let limit = self.limit;
        ensure!(self.used + bytes <= limit, "it has reached its limit of {limit} bytes");
        let system = fstatvfs(&self.this).context("ask for its free space")?;
        let size = system.f_blocks.saturating_mul(system.f_frsize);
        let free = system.f_bavail.saturating_mul(system.f_frsize);
        let reserve = (size / 20).min(MAX_RESERVE);
        ensure!(free >= reserve + bytes, "its file system is full but for a reserve");
        Ok(())
    }

    /// Begins a segment. It is there for good after [`Directory::sync`].
    pub(crate) fn create(&mut self, name: Name, head: &Head) -> Result<Writer> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let file = options.open(self.path.join(name.text())).context("make a segment")?;
        let mut writer = Writer { bytes: 0, file };
        if let Err(error) = self.write(&mut writer, &format::head(head)) {
            self.remove(name, 0).ok();
            return Err(error);
        }
        Ok(writer)
    }

    /// Appends to a segment. After an error it ends where it ended before.
    pub(crate) fn write(&mut self, writer: &mut Writer, bytes: &[u8]) -> Result<()> {
        if let Err(error) = writer.file.write_all(bytes) {
            // Where that fails too, a torn record stays, which readers skip.
            writer.file.set_len(writer.bytes).ok();
            return Err(error).context("write");
        }
        writer.bytes += bytes.len() as u64;
        self.used += bytes.len() as u64;
        Ok(())
    }

    /// What was written survives a loss of power.
    pub(crate) fn sync(&self, writer: &Writer) -> Result<()> {
        writer.file.sync_all().context("sync a segment")?;
        self.this.sync_all().context("sync the directory")
    }

    /// Reads a segment.
    pub(crate) fn read(&self, name: Name) -> Result<Vec<u8>> {
        let file = File::open(self.path.join(name.text())).context("open a segment")?;
        let mut bytes = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut bytes).context("read a segment")?;
        Ok(bytes)
    }

    /// Keeps a segment under another name, where it is none any more.
    pub(crate) fn set_aside(&self, name: Name) -> Result<()> {
        let text = name.text();
        let aside = self.path.join(format!("{text}{ASIDE}"));
        std::fs::rename(self.path.join(text), aside).context("set a segment aside")
    }

    /// Removes a segment of that size. One that is gone already is removed.
    pub(crate) fn remove(&mut self, name: Name, bytes: u64) -> Result<()> {
        match std::fs::remove_file(self.path.join(name.text())) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context("remove a segment");
            }
            _ => {}
        }
        self.used = self.used.saturating_sub(bytes);
        Ok(())
    }
}

fn leads_to(path: &Path, file: &File) -> bool {
    let found = std::fs::metadata(path);
    if is_missing(found.as_ref()) {
        return false;
    }
    // A disk that says anything else says it of what is asked of it next, too.
    let (Ok(found), Ok(known)) = (found, file.metadata()) else { return true };
    (found.dev(), found.ino()) == (known.dev(), known.ino())
}

fn is_missing(found: Result<&Metadata, &std::io::Error>) -> bool {
    found.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}
