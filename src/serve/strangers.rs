//! Connections of whom nothing is known yet, and which of them goes where there
//! is no place for another. It must not know what is asked.
//!
//! There is no limit for an address: a fleet may come from one, behind a
//! balancer or NAT, and who means harm has many.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;
use tracing::warn;

use crate::daemon::lock;
use crate::serve::State;

/// Between two lines of the log about one thing that goes on.
const SAY_AGAIN: Duration = Duration::from_hours(1);

/// Who has connected and not shown yet who it is, the first first.
#[derive(Default)]
pub(crate) struct Strangers {
    known: Mutex<Known>,
    /// When it was said that they are closed; that others are.
    said: Mutex<[Option<Instant>; 2]>,
}

#[derive(Default)]
struct Known {
    came: u64,
    waiting: BTreeMap<u64, (AbortHandle, IpAddr)>,
}

/// The place that a connection takes until it ends; a stranger's at first.
pub(crate) struct Place {
    state: Arc<State>,
    number: u64,
    is_known: AtomicBool,
}

/// Begins to serve a connection from an address.
pub(crate) fn admit(state: &Arc<State>, from: IpAddr, serve: impl FnOnce(Place) -> AbortHandle) {
    // Held until it is among the others: it may be known before.
    let mut known = lock(&state.strangers.known);
    known.came += 1;
    let number = known.came;
    state.metrics.connections.add(1);
    let place = Place { state: Arc::clone(state), number, is_known: AtomicBool::new(false) };
    let handle = serve(place);
    known.waiting.insert(number, (handle, from));
}

impl Strangers {
    /// Ends the connection of the stranger who has been here longest; whether
    /// there is one. Who makes requests over and over stays no longer by that.
    pub(crate) fn close_oldest(&self) -> bool {
        let oldest = lock(&self.known).waiting.pop_first();
        oldest.inspect(|(_, (handle, _))| handle.abort()).is_some()
    }

    /// That all places are taken.
    pub(crate) fn say(&self, most: usize) {
        let strangers: Vec<IpAddr> =
            lock(&self.known).waiting.values().map(|(_, from)| *from).collect();
        let said = &mut lock(&self.said)[usize::from(strangers.is_empty())];
        if said.is_some_and(|said| said.elapsed() < SAY_AGAIN) {
            return;
        }
        *said = Some(Instant::now());
        let mut counts = HashMap::new();
        strangers.iter().for_each(|from| *counts.entry(from).or_insert(0) += 1);
        match counts.into_iter().max_by_key(|(_, count)| *count) {
            Some((from, count)) => warn!(
                "all {most} connections that there may be are open, {} of them by strangers ({count} from {from}): those of strangers are closed for new ones, the oldest first",
                strangers.len()
            ),
            None => warn!(
                "all {most} connections that there may be are open, and all by those who are known: new ones are closed; raise the limit of open files (LimitNOFILE), or start another collector"
            ),
        }
    }
}

impl Place {
    /// Somebody who is known has it from now on.
    pub(crate) fn keep(&self) {
        if !self.is_known.swap(true, Ordering::Relaxed) {
            lock(&self.state.strangers.known).waiting.remove(&self.number);
        }
    }

    pub(crate) fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.keep();
        self.state.metrics.connections_ended.add(1);
    }
}
