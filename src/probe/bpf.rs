//! The kernel side: loaded, run, and its records read.
//!
//! It knows what `bpf/flow.bpf.c` hands over and nothing of what it is for.
//! Nothing is pinned, so all of it goes with the process, however that ends.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{Iter, Link, OpenObject};
use rustix::io::Errno;
use rustix::thread::{MembarrierCommand, membarrier};

use crate::probe::bpf::batch::Batch;
use crate::probe::bpf::misses::misses;
use crate::probe::bpf::record::{
    DESCRIPTOR, Descriptor, FLOW, KEY, Key, Note, PROCESS, Sum, parse_descriptor, parse_key,
    parse_note, parse_sum,
};
use crate::probe::bpf::skeleton::{FlowSkel, FlowSkelBuilder, OpenFlowSkel, types};

pub mod batch;
pub mod misses;
pub mod record;

#[expect(
    unsafe_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::allow_attributes,
    reason = "generated from bpf/flow.bpf.c"
)]
mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/flow.skel.rs"));
}

/// Room for one read of an iterator: what the kernel fills before it hands it
/// over (`PAGE_SIZE << 3`, kernel/bpf/bpf_iter.c).
const ROOM: usize = 32 * 1024;

/// How often a pass may pause: after a billion files something is wrong.
const PAUSES: u32 = 1000;

/// What one pass went over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Processes whose descriptors were passed.
    pub processes: u64,
    /// Sockets that were added to a flow in the kernel.
    pub bundled: u64,
    /// Records that could not be understood.
    pub malformed: u64,
}

/// What the kernel side could not keep, since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Changes of flows.
    pub flows: u64,
    /// Sockets that could not be followed until the next pass.
    pub sockets: u64,
    /// Processes that could not be noted.
    pub processes: u64,
    /// Datagrams whose peer nobody told.
    pub datagrams: u64,
    /// Calls that the kernel left out, as the program was running already on
    /// that processor; any of the above may have been in one.
    pub calls: u64,
}

impl Losses {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.flows + self.sockets + self.processes + self.datagrams + self.calls
    }
}

/// Which programs run between the passes.
#[derive(Clone, Debug, Default)]
pub struct Events {
    /// Device and inode of the probe's pid namespace, if it is not the
    /// kernel's own: other processes' connections are left out.
    pub place: Option<(u64, u64)>,
    /// At each message of a socket.
    pub lengths: bool,
    /// At each datagram of a socket without a peer: the root of the control
    /// groups (version 2) that it is told for.
    pub peers: Option<PeersOf>,
}

/// A directory of cgroup2.
#[derive(Clone, Debug)]
pub struct PeersOf(pub std::sync::Arc<File>);

/// The kernel side, loaded.
pub struct Kernel {
    skeleton: FlowSkel<'static>,
    pass: Link,
    events: Vec<Link>,
    /// Those of the events that the kernel may leave out.
    programs: Vec<OwnedFd>,
    room: Box<[u8]>,
    flows: Batch,
    processes: Batch,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").field("events", &self.events.len()).finish_non_exhaustive()
    }
}

/// Turns what libbpf has to say into lines of the log's lowest level: an
/// attempt that fails is a fact, not a warning.
pub fn hush() {
    libbpf_rs::set_print(Some((libbpf_rs::PrintLevel::Debug, |_, line| {
        tracing::trace!("{}", line.trim_end());
    })));
}

fn open() -> Result<OpenFlowSkel<'static>> {
    // The object borrows where it stands. A few bytes are left behind when it
    // is dropped; its programs and maps are not.
    let place: &'static mut MaybeUninit<OpenObject> = Box::leak(Box::new(MaybeUninit::uninit()));
    FlowSkelBuilder::default().open(place).context("open the BPF object")
}

impl Kernel {
    /// Loads the iterator alone.
    pub fn load_iterator() -> Result<Kernel> {
        let mut open = open()?;
        let progs = &mut open.progs;
        for program in
            [&mut progs.streamed, &mut progs.change, &mut progs.sent, &mut progs.received]
        {
            program.set_autoload(false);
        }
        select_peers(&mut open, false);
        let maps = &mut open.maps;
        for map in [
            &mut maps.nurseries,
            &mut maps.tracks,
            &mut maps.listeners,
            &mut maps.processes,
            &mut maps.noted,
            &mut maps.ends,
            &mut maps.talks,
        ] {
            map.set_autocreate(false).context("leave out a BPF map")?;
        }
        // Nothing is added while the other is read, so there need not be two.
        maps.flows_odd.set_max_entries(1).context("size a BPF map")?;
        let skeleton = open.load().context("load the iterator over all tasks' files")?;
        let pass = skeleton.progs.bundled.attach().context("attach the iterator")?;
        Ok(Kernel::new(skeleton, pass, Vec::new(), Vec::new()))
    }

    /// Loads the iterator and `events`, which run from now on.
    pub fn load_stream(events: &Events) -> Result<Kernel> {
        let mut open = open()?;
        open.progs.bundled.set_autoload(false);
        open.progs.sent.set_autoload(events.lengths);
        open.progs.received.set_autoload(events.lengths);
        let peers = events.peers.as_ref().filter(|_| events.lengths);
        select_peers(&mut open, peers.is_some());
        let rodata = open.maps.rodata_data.as_mut().context("set up the BPF object")?;
        rodata.knows_peers = u32::from(peers.is_some());
        if let Some((device, inode)) = events.place {
            rodata.place = types::place { device, inode };
        }
        let skeleton = open.load().context("load the tracepoints' programs")?;
        let progs = &skeleton.progs;
        let mut links = Vec::new();
        if events.lengths {
            links.push(progs.sent.attach().context("attach to sock_send_length")?);
            links.push(progs.received.attach().context("attach to sock_recv_length")?);
        }
        if let Some(PeersOf(group)) = peers {
            for program in [&progs.send_v4, &progs.send_v6, &progs.receive_v4, &progs.receive_v6] {
                let link = program.attach_cgroup(group.as_raw_fd());
                links.push(link.context("attach to the root of cgroup2")?);
            }
        }
        // Last, so that of no connection only the beginning is seen.
        links.push(progs.change.attach().context("attach to inet_sock_set_state")?);
        let pass = progs.streamed.attach().context("attach the iterator")?;
        let lengths = [&progs.sent, &progs.received].into_iter().filter(|_| events.lengths);
        let programs = lengths.chain([&progs.change]);
        let programs = programs.map(|program| program.as_fd().try_clone_to_owned());
        let programs = programs.collect::<io::Result<_>>().context("keep the programs")?;
        Ok(Kernel::new(skeleton, pass, links, programs))
    }

    fn new(
        skeleton: FlowSkel<'static>,
        pass: Link,
        events: Vec<Link>,
        programs: Vec<OwnedFd>,
    ) -> Kernel {
        Kernel {
            skeleton,
            pass,
            events,
            programs,
            room: vec![0; ROOM].into_boxed_slice(),
            flows: Batch::new(KEY, FLOW),
            processes: Batch::new(4, PROCESS),
        }
    }

    /// Passes over all sockets, each as the descriptors that lead to it.
    pub fn list(&mut self, descriptor: impl FnMut(Descriptor)) -> Result<Pass> {
        self.pass(false, descriptor)
    }

    /// Passes over all sockets. What the kernel adds up, in the pass and
    /// before, comes as sums at the end; what it leaves to us as descriptors.
    pub fn bundle(
        &mut self,
        descriptor: impl FnMut(Descriptor),
        mut sum: impl FnMut(Key, Sum),
    ) -> Result<Pass> {
        if self.events.is_empty() {
            // What an earlier pass that failed left behind.
            let map = self.skeleton.maps.flows_even.as_fd();
            self.flows.drain(map, |_, _| {}).context("clear the flows")?;
        }
        let mut pass = self.pass(true, descriptor)?;
        let odd = self.swap()?;
        let maps = &self.skeleton.maps;
        let map = if odd { maps.flows_odd.as_fd() } else { maps.flows_even.as_fd() };
        let drained =
            self.flows.drain(map, |key, value| match (parse_key(key), parse_sum(value)) {
                (Some(key), Some(value)) => sum(key, value),
                _ => pass.malformed += 1,
            });
        drained.context("read the flows")?;
        Ok(pass)
    }

    /// From now on who is heard first on a UDP socket is who spoke first.
    pub fn settle(&mut self) {
        if let Some(bss) = &mut self.skeleton.maps.bss_data {
            bss.settled = 1;
        }
    }

    /// Lets the events fill the other map, and waits until none is still at
    /// the one they filled. Says whether that is the odd one.
    fn swap(&mut self) -> Result<bool> {
        if self.events.is_empty() {
            return Ok(false);
        }
        let bss = self.skeleton.maps.bss_data.as_mut().context("find the BPF variables")?;
        let odd = bss.turn & 1 == 1;
        bss.turn = bss.turn.wrapping_add(1);
        // It waits for an RCU grace period (kernel/sched/membarrier.c), which
        // no program of BPF outlasts.
        membarrier(MembarrierCommand::Global).context("wait for the BPF programs")?;
        Ok(odd)
    }

    /// The processes that made flows since the last time; each is in here
    /// before its flow is among the sums.
    pub fn notes(&mut self, mut each: impl FnMut(u32, Note)) -> Result<()> {
        let map = self.skeleton.maps.processes.as_fd();
        let drained = self.processes.drain(map, |key, value| {
            if let Some((pid, note)) = parse_note(key, value) {
                each(pid, note);
            }
        });
        drained.context("read the processes")
    }

    /// What was lost so far.
    pub fn losses(&self) -> Losses {
        let Some(bss) = &self.skeleton.maps.bss_data else { return Losses::default() };
        let types::losses { flows, sockets, processes, datagrams } = bss.losses;
        let calls = self.programs.iter().filter_map(|program| misses(program.as_fd())).sum();
        Losses { flows, sockets, processes, datagrams, calls }
    }

    fn pass(&mut self, bundling: bool, mut descriptor: impl FnMut(Descriptor)) -> Result<Pass> {
        if let Some(bss) = &mut self.skeleton.maps.bss_data {
            bss.pass = types::pass::default();
            bss.detailed = u32::from(!bundling);
        }
        let mut iterator = Iter::new(&self.pass).context("start the iterator")?;
        let mut malformed = 0;
        let mut kept = 0;
        let mut pauses = PAUSES;
        loop {
            let got = match iterator.read(&mut self.room[kept..]) {
                Ok(0) => break,
                Ok(got) => kept + got,
                // It has passed a million files without a word (bpf_iter.c,
                // MAX_ITER_OBJECTS), and goes on where it was.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::AGAIN) && pauses > 0 => {
                    pauses -= 1;
                    continue;
                }
                Err(error) => return Err(error).context("read the iterator"),
            };
            let whole = got - got % DESCRIPTOR;
            for record in self.room[..whole].chunks_exact(DESCRIPTOR) {
                match parse_descriptor(record) {
                    Some(record) => descriptor(record),
                    None => malformed += 1,
                }
            }
            self.room.copy_within(whole..got, 0);
            kept = got - whole;
        }
        let seen = self.skeleton.maps.bss_data.as_ref().map(|bss| bss.pass).unwrap_or_default();
        Ok(Pass { processes: seen.processes, bundled: seen.bundled, malformed })
    }
}

fn select_peers(open: &mut OpenFlowSkel<'static>, load: bool) {
    let progs = &mut open.progs;
    for program in
        [&mut progs.send_v4, &mut progs.send_v6, &mut progs.receive_v4, &mut progs.receive_v6]
    {
        program.set_autoload(load);
    }
}
