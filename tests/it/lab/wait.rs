//! Waiting: for a condition, or for a command to end, and never without limit.

use std::fs::File;
use std::io::{Read, Seek};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Long enough for anything here on a busy machine, short enough to fail in.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(10);

/// Asks `poll` until it says `Ok`; at the limit, panics with what it last said.
pub(crate) fn until<T>(
    what: &str,
    limit: Duration,
    mut poll: impl FnMut() -> Result<T, String>,
) -> T {
    let end = Instant::now() + limit;
    loop {
        match poll() {
            Ok(value) => return value,
            Err(last) if Instant::now() >= end => {
                panic!("waited {limit:?} in vain for {what}: {last}")
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// How a command ended and what it said.
pub(crate) struct Said {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// Runs a command to its end; panics when it does not start or not end in time.
///
/// Output goes through files and not through pipes: a descendant that outlives
/// the command would keep a pipe open.
pub(crate) fn output(command: &mut Command, limit: Duration) -> Said {
    let what = format!("{command:?}");
    let (mut stdout, mut stderr) = (scratch(), scratch());
    let mut child = command
        .stdin(Stdio::null())
        .stdout(clone(&stdout))
        .stderr(clone(&stderr))
        .spawn()
        .unwrap_or_else(|error| panic!("{what} does not start: {error}"));
    let Some(status) = ended(&mut child, limit) else {
        reap(&mut child, Duration::ZERO);
        let said = String::from_utf8_lossy(&read(&mut stderr)).into_owned();
        panic!("{what} had not ended after {limit:?}; it said: {said}");
    };
    Said {
        status,
        stdout: read(&mut stdout),
        stderr: String::from_utf8_lossy(&read(&mut stderr)).into_owned(),
    }
}

/// Waits for a child that is on its way out; after the limit, kills it.
pub(crate) fn reap(child: &mut Child, limit: Duration) {
    if ended(child, limit).is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn ended(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + limit;
    loop {
        let status = child.try_wait().expect("a child can be asked for");
        if status.is_some() || Instant::now() >= end {
            return status;
        }
        thread::sleep(PAUSE / 4);
    }
}

/// Runs a command that has to succeed; returns what it printed.
pub(crate) fn success(command: &mut Command, limit: Duration) -> String {
    let what = format!("{command:?}");
    let said = output(command, limit);
    assert!(
        said.status.success(),
        "{what}: {}\n{}{}",
        said.status,
        String::from_utf8_lossy(&said.stdout),
        said.stderr
    );
    String::from_utf8_lossy(&said.stdout).into_owned()
}

fn scratch() -> File {
    tempfile::tempfile().expect("a temporary file can be made")
}

fn clone(file: &File) -> File {
    file.try_clone().expect("a descriptor can be doubled")
}

fn read(file: &mut File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().expect("a temporary file can be rewound");
    file.read_to_end(&mut bytes).expect("a temporary file can be read");
    bytes
}
