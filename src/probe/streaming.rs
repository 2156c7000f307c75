//! The streaming rung: tracepoints add up every connection in the kernel, and
//! at our own tick a pass over all tasks' files says what is open.
//!
//! So what is open, and whose it is, is found as on the iterator rung; what
//! happened meanwhile comes beside it as totals. Not seen are attempts that
//! failed before a packet could be sent (no route to the peer).

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Result;
use jiff::Timestamp;

use crate::flow::bundle::Bundle;
use crate::flow::host::Rung;
use crate::flow::key::{Counters, FlowKey, HostFlow, Observation};
use crate::flow::process::{Instance, Process, decode};
use crate::flow::socket::{Protocol, Snapshot};
use crate::probe::bpf::record::{Key, Note, Sum};
use crate::probe::bpf::{Events, Kernel, Losses};
use crate::probe::iterator::{Scan, bundle};
use crate::probe::surroundings::{Around, Surroundings};
use crate::probe::{ProbeConfig, iterator};

/// Most flows whose totals are kept. Beyond it those that were not seen for
/// the longest time begin anew when they come back.
const TOTALS: usize = 262_144;

/// Most processes that are remembered after they have ended.
const PROCESSES: usize = 16_384;

/// The rung, and what it keeps from tick to tick.
#[derive(Debug)]
pub struct Streaming {
    kernel: Kernel,
    events: Events,
    surroundings: Surroundings,
    totals: HashMap<FlowKey, Total>,
    ended: Ended,
    tick: u64,
}

#[derive(Debug)]
struct Total {
    counters: Counters,
    tick: u64,
}

/// Processes that made flows and cannot be asked any more.
#[derive(Debug, Default)]
struct Ended {
    /// By pid, the last that had it, and when it was last asked for.
    notes: HashMap<u32, (Note, u64)>,
    /// What an instance with that name, user and program turned out to be
    /// while it could be asked: the one that runs every minute for a
    /// millisecond is the same each time.
    known: HashMap<Traits, (Arc<Process>, u64)>,
}

/// What is known of a process that has ended: name, user, program.
type Traits = (String, Option<String>, Option<String>);

impl Streaming {
    /// A probe over a kernel side that was loaded with `events`, and counts.
    pub fn open(config: &ProbeConfig, kernel: Kernel, events: Events) -> Result<Streaming> {
        Ok(Streaming {
            kernel,
            events,
            surroundings: Surroundings::open(config)?,
            totals: HashMap::new(),
            ended: Ended::default(),
            tick: 0,
        })
    }

    /// The sockets that are open, one by one.
    pub fn snapshot(&mut self) -> Result<Snapshot> {
        iterator::list(&mut self.kernel, &mut self.surroundings, Rung::Streaming)
    }

    /// What was lost so far on this host, by kind.
    pub fn losses(&self) -> Losses {
        self.kernel.losses()
    }

    /// What is open, and what happened since the last time.
    pub fn observe(&mut self) -> Result<Observation> {
        self.tick += 1;
        if self.tick > 1 {
            self.kernel.settle();
        }
        let surroundings = &mut self.surroundings;
        let Scan { taken, mut around, sockets, sums, pass } =
            iterator::scan(&mut self.kernel, surroundings)?;
        let tick = self.tick;
        self.kernel.notes(|pid, note| {
            self.ended.notes.insert(pid, (note, tick));
        })?;
        let mut bundles: Vec<Bundle> = Vec::with_capacity(sums.len());
        for (key, sum) in sums {
            let owner = self.ended.owner(key.pid, tick, surroundings, &mut around);
            let counters = self.events.counters(&key, &sum);
            let mut bundle = bundle(key, owner, counters, &mut around);
            // A UDP socket on a wildcard, with a peer that the hooks told.
            if key.local.0.is_unspecified()
                && let Some(own) = surroundings.source(&around, bundle.socket.namespace, key.peer.0)
            {
                bundle.socket.local.set_ip(own);
            }
            bundles.push(bundle);
        }
        self.ended.learn(&around, tick);
        self.ended.forget();
        surroundings.end();
        around.coverage.sockets += pass.bundled;
        around.coverage.updates_lost = self.kernel.losses().total();
        let snapshot = sockets.snapshot(taken, Rung::Streaming, surroundings, around, pass);
        let mut observation = snapshot.observe_with(&bundles);
        for flow in &mut observation.flows {
            self.sum_up(flow);
        }
        observation.coverage.flows_dropped += self.forget();
        Ok(observation)
    }

    /// Puts the totals since the start in the place of what happened since
    /// the last tick.
    fn sum_up(&mut self, flow: &mut HostFlow) {
        if flow.key.is_listener() {
            return;
        }
        let total = self
            .totals
            .entry(flow.key.clone())
            .or_insert_with(|| Total { counters: self.events.nothing(flow.key.protocol), tick: 0 });
        total.tick = self.tick;
        total.counters.add(&flow.counters);
        flow.counters = Counters {
            open: flow.counters.open,
            connecting: flow.counters.connecting,
            rtt_us: flow.counters.rtt_us,
            ..total.counters.clone()
        };
        // These are of the moment, not of all time.
        total.counters.open = 0;
        total.counters.connecting = 0;
        total.counters.rtt_us = None;
    }

    /// Makes room among the totals; returns how many had to go.
    fn forget(&mut self) -> u64 {
        if self.totals.len() <= TOTALS {
            return 0;
        }
        let before = self.totals.len();
        let mut ticks: Vec<u64> = self.totals.values().map(|total| total.tick).collect();
        let (_, oldest, _) = ticks.select_nth_unstable(before / 4);
        let oldest = *oldest;
        self.totals.retain(|_, total| total.tick > oldest);
        (before - self.totals.len()) as u64
    }
}

impl Events {
    /// Numbers of a flow that nothing has happened to; what these events do
    /// not tell of is absent.
    fn nothing(&self, protocol: Protocol) -> Counters {
        let tcp = (protocol == Protocol::Tcp).then_some(0);
        let seen = tcp.or(self.lengths.then_some(0));
        Counters {
            opened: seen,
            failed: tcp,
            refused: tcp,
            timed_out: tcp,
            unreachable: tcp,
            bytes_sent: seen,
            bytes_received: seen,
            retransmits: tcp,
            ..Counters::default()
        }
    }

    /// What happened, without what these events do not tell of.
    fn counters(&self, key: &Key, sum: &Sum) -> Counters {
        let nothing = self.nothing(key.protocol);
        let told = |seen: Option<u64>, count: u64| seen.map(|_| count);
        let failed = [sum.refused, sum.timed_out, sum.unreachable, sum.given_up];
        Counters {
            open: sum.open,
            connecting: sum.connecting,
            opened: told(nothing.opened, sum.opened.into()),
            failed: told(nothing.failed, failed.map(u64::from).iter().sum()),
            refused: told(nothing.refused, sum.refused.into()),
            timed_out: told(nothing.timed_out, sum.timed_out.into()),
            unreachable: told(nothing.unreachable, sum.unreachable.into()),
            bytes_sent: told(nothing.bytes_sent, sum.bytes_sent),
            bytes_received: told(nothing.bytes_received, sum.bytes_received),
            retransmits: told(nothing.retransmits, sum.retransmits.into()),
            rtt_us: sum.rtt_us,
        }
    }
}

impl Ended {
    /// The index of the process that had that pid: as `/proc` has it, or if
    /// that is gone or is another by now, as the kernel noted it.
    fn owner(
        &mut self,
        pid: u32,
        tick: u64,
        surroundings: &mut Surroundings,
        around: &mut Around,
    ) -> Option<u32> {
        if pid == 0 {
            return None;
        }
        let noted = self.notes.get_mut(&pid).map(|(note, asked)| {
            *asked = tick;
            (&*note, surroundings.started(note.started))
        });
        let vanished = around.coverage.processes_vanished;
        let found = surroundings.instance(around, pid).filter(|&found| {
            let found = &around.instances[found as usize];
            // Of one that is ending `/proc` has less to say than was noted.
            let is_it = |(note, started): (&Note, Timestamp)| {
                found.started == started && (found.process.exe.is_some() || note.exe.is_none())
            };
            noted.is_none_or(is_it)
        });
        let Some((note, started)) = noted.filter(|_| found.is_none()) else { return found };
        // Nothing of it was lost.
        around.coverage.processes_vanished = vanished;
        let user = Some(surroundings.user(note.user));
        let name = decode(&note.name);
        let exe = note.exe.as_deref().map(decode);
        let process = match self.known.get(&(name.clone(), user.clone(), exe.clone())) {
            Some((process, _)) => Arc::clone(process),
            None => Arc::new(Process { name, exe, user, unit: None, container: None, pod: None }),
        };
        // A leader outside of the probe's pid namespace, as in `/proc`.
        let pgid = note.group.unwrap_or(pid);
        around.instances.push(Instance { process, pid, pgid, started });
        u32::try_from(around.instances.len() - 1).ok()
    }

    fn learn(&mut self, around: &Around, tick: u64) {
        for instance in &around.instances {
            let process = &instance.process;
            if process.exe.is_some() {
                // The kernel side does not tell of a path that is too long.
                for exe in [process.exe.clone(), None] {
                    let key = (process.name.clone(), process.user.clone(), exe);
                    self.known.insert(key, (Arc::clone(process), tick));
                }
            }
        }
    }

    /// Keeps both tables in their limit; the ones asked for last stay.
    fn forget(&mut self) {
        if self.notes.len() > PROCESSES {
            let latest = self.notes.values().map(|(_, asked)| *asked).max().unwrap_or(0);
            self.notes.retain(|_, (_, asked)| *asked == latest);
        }
        if self.known.len() > PROCESSES {
            let latest = self.known.values().map(|(_, asked)| *asked).max().unwrap_or(0);
            self.known.retain(|_, (_, asked)| *asked == latest);
        }
    }
}
