//! Lines on standard error. A daemon must go on when nobody reads them: a thread
//! writes them, and what finds no room before it is dropped, counted and said.
//! It must not know what is logged, nor how a line is made.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::daemon::lock;

/// Most bytes of lines that wait, a hundred or more of them; as much again may
/// be on its way out.
const ROOM: usize = 16 << 10;

/// How long lines are waited for in the end: who reads has read them by then.
const FINISH_LIMIT: Duration = Duration::from_secs(1);

/// Where lines go. Each write is one line.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Without one, who says something writes it.
    writer: Option<JoinHandle<()>>,
    waiting: Vec<u8>,
    /// Lines are being written.
    writing: bool,
    finished: bool,
    dropped: u64,
    /// Of these, what was told of.
    said: u64,
}

impl Log {
    /// From now on a thread writes, so that nobody else waits.
    pub fn hand_over(&self) -> Result<()> {
        let stderr = io::stderr().as_fd().try_clone_to_owned().context("share standard error")?;
        self.write_by_thread(File::from(stderr))
    }

    fn write_by_thread(&self, out: File) -> Result<()> {
        let log = self.clone();
        let thread = std::thread::Builder::new().name("log".into());
        let writer = thread.spawn(move || log.write_all_to(out)).context("start the log")?;
        lock(&self.0.state).writer = Some(writer);
        Ok(())
    }

    /// Lines that nobody will read.
    pub fn dropped(&self) -> u64 {
        lock(&self.0.state).dropped
    }

    /// One line, with its end.
    pub fn say(&self, line: &[u8]) {
        let mut state = lock(&self.0.state);
        if state.writer.is_none() && !state.finished {
            // Nobody is left to be told that standard error is closed.
            io::stderr().write_all(line).ok();
        } else if state.finished || state.waiting.len() + line.len() > ROOM {
            state.dropped += 1;
        } else {
            state.waiting.extend_from_slice(line);
            self.0.changed.notify_all();
        }
    }

    /// Waits, for a bounded time, until everything is written. What is said
    /// later may be lost.
    pub fn finish(&self) {
        let mut state = lock(&self.0.state);
        let Some(writer) = state.writer.take() else { return };
        state.finished = true;
        self.0.changed.notify_all();
        let busy = |state: &mut State| state.writing || !state.waiting.is_empty();
        let waited = self.0.changed.wait_timeout_while(state, FINISH_LIMIT, busy);
        let is_written = waited.is_ok_and(|(_, timeout)| !timeout.timed_out());
        // A thread that waits for a reader ends with the process.
        if is_written {
            writer.join().ok();
        }
    }

    fn write_all_to(&self, mut out: File) {
        loop {
            let (lines, dropped) = {
                let idle = |state: &mut State| state.waiting.is_empty() && !state.finished;
                let waited = self.0.changed.wait_while(lock(&self.0.state), idle);
                let Ok(mut state) = waited else { return };
                if state.waiting.is_empty() {
                    return;
                }
                state.writing = true;
                let dropped = state.dropped - state.said;
                state.said = state.dropped;
                (std::mem::take(&mut state.waiting), dropped)
            };
            let written = out.write_all(&lines);
            // They came when these had taken all the room.
            let told = match (&written, dropped) {
                (Ok(()), 1..) => writeln!(
                    out,
                    "shawk: {dropped} lines are missing here: standard error was not read in time"
                ),
                _ => Ok(()),
            };
            let mut state = lock(&self.0.state);
            if written.and(told).is_err() {
                state.dropped += lines.iter().filter(|byte| **byte == b'\n').count() as u64;
                state.said = state.dropped;
            }
            state.writing = false;
            drop::<MutexGuard<'_, State>>(state);
            self.0.changed.notify_all();
        }
    }
}

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.say(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    use std::io::{PipeReader, Read};
    use std::os::fd::OwnedFd;
    use std::time::Instant;

    fn piped() -> (Log, PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        let log = Log::default();
        log.write_by_thread(File::from(OwnedFd::from(writer))).unwrap();
        (log, reader)
    }

    fn read(mut reader: PipeReader) -> String {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn what_was_said_is_written_before_the_end() {
        let (log, reader) = piped();
        for number in 0..100 {
            log.say(format!("line {number}\n").as_bytes());
        }
        log.finish();
        let text = read(reader);
        let expected: Vec<_> = (0..100).map(|number| format!("line {number}")).collect();
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
        assert_eq!(log.dropped(), 0);
    }

    /// More than the pipe and the room hold; nobody waits, no line is torn, and
    /// what is missing is told of at its place, once somebody reads.
    #[test]
    fn what_nobody_reads_is_dropped_and_told_of() {
        const LINES: u64 = 100_000;
        let (log, reader) = piped();
        let began = Instant::now();
        for number in 0..LINES {
            log.say(format!("{number:099}\n").as_bytes());
        }
        let dropped = log.dropped();
        assert!(dropped > LINES / 2, "{dropped}");
        log.finish();
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());

        // The thread goes on as soon as somebody reads, and ends.
        let text = read(reader);
        let (said, kept): (Vec<_>, Vec<_>) =
            text.lines().partition(|line| line.starts_with("shawk: "));
        let said: u64 =
            said.iter().map(|line| line.split(' ').nth(1).unwrap().parse::<u64>().unwrap()).sum();
        assert_eq!((kept.len() as u64 + said, said), (LINES, dropped));
        let numbers: Vec<u64> = kept.iter().map(|line| line.parse().unwrap()).collect();
        assert!(numbers.is_sorted() && kept.iter().all(|line| line.len() == 99));
    }

    #[test]
    fn what_is_said_to_a_closed_pipe_is_counted() {
        let (log, reader) = piped();
        drop(reader);
        log.say(b"a\n");
        log.finish();
        assert_eq!(log.dropped(), 1);
    }
}
