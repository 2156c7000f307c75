//! What every command that runs for long needs: the signals that end it, a
//! word to the service manager, a log that waits for nobody, a lock that
//! survives a panic elsewhere, and what Prometheus is told of any process.

pub mod log;

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use rustix::process::{Resource, getrlimit};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::debug;

use crate::prometheus::Text;

/// SIGTERM and SIGINT.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on they no longer end the process by themselves.
    pub fn watch() -> Result<Signals> {
        let terminate = signal(SignalKind::terminate()).context("watch for SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("watch for SIGINT")?;
        Ok(Signals { terminate, interrupt })
    }

    /// Waits for either.
    pub async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Tells a service manager, where there is one. Its absence is the common case.
pub fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        debug!("the service manager cannot be told: {error}");
    }
}

/// A panic ends the process (see `main`), so a poisoned lock is only ever seen
/// on the way out, and what it holds is still worth delivering.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What every exporter tells of its own process, by the names that all have for it.
pub fn tell_of_process(text: &mut Text) {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
    let what = "Total user and system CPU time spent in seconds.";
    text.named("process_cpu_seconds_total", "counter", what, seconds);
    let pages = std::fs::read_to_string("/proc/self/statm").ok().and_then(|statm| {
        let resident = statm.split_whitespace().nth(1)?;
        resident.parse::<u64>().ok()
    });
    if let Some(pages) = pages {
        let bytes = pages * rustix::param::page_size() as u64;
        let what = "Resident memory size in bytes.";
        text.named("process_resident_memory_bytes", "gauge", what, bytes);
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        // Of these, one is how it is counted.
        let open = files.count().saturating_sub(1);
        text.named("process_open_fds", "gauge", "Number of open file descriptors.", open);
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        let what = "Maximum number of open file descriptors.";
        text.named("process_max_fds", "gauge", what, most);
    }
}
