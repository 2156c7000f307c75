//! What every command that runs for long needs: the signals that end it, a
//! word to the service manager, a log that waits for nobody, a lock that
//! survives a panic elsewhere.

pub mod log;

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::debug;

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
