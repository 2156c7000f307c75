//! `--record`: every snapshot goes to a file, or to a pipe that somebody may
//! have stopped to read.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::flow::socket::Snapshot;
use crate::probe::record;

/// How long a daemon waits, for all of a snapshot, until a pipe is read. Scans
/// wait as long.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a pipe takes at once where poll says that it takes something:
/// PIPE_BUF, pipe(7).
const PIECE: usize = 4096;

/// Where snapshots go.
pub struct Recorder {
    out: Out,
    patience: Option<Duration>,
}

struct Out {
    file: File,
    /// Until when what is written may take.
    until: Option<Instant>,
}

impl Recorder {
    /// Opens the file that `--record` names; `-` is standard output.
    pub fn open(path: &Path) -> Result<Recorder> {
        let file = if path == Path::new("-") {
            File::from(io::stdout().as_fd().try_clone_to_owned().context("open standard output")?)
        } else {
            File::create(path).with_context(|| format!("create '{}'", path.display()))?
        };
        Ok(Recorder { out: Out { file, until: None }, patience: None })
    }

    /// Waits for no reader for long. A file has none.
    pub(crate) fn of_daemon(mut self) -> Recorder {
        let is_file = self.out.file.metadata().is_ok_and(|about| about.is_file());
        self.patience = (!is_file).then_some(PATIENCE);
        self
    }

    pub(crate) fn record(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.out.until = self.patience.map(|patience| Instant::now() + patience);
        record::write(snapshot, &mut self.out).context("record the snapshot")
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(until) = self.until else { return self.file.write(bytes) };
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut room = [PollFd::new(&self.file, PollFlags::OUT)];
        if poll(&mut room, Some(&left))? == 0 {
            let what = format!("nobody read it for {} s", PATIENCE.as_secs());
            return Err(io::Error::new(ErrorKind::TimedOut, what));
        }
        self.file.write(&bytes[..bytes.len().min(PIECE)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
