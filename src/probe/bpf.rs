//! The kernel side: loaded, run, and its records read.
//!
//! It knows what `bpf/flow.bpf.c` hands over and nothing of what it is for.
//! Nothing is pinned, so all of it goes with the process, however that ends.

use std::fmt;
use std::io::Read;
use std::mem::{MaybeUninit, offset_of, size_of};
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{Iter, Link, OpenObject};
use rustix::io::Errno;

use crate::flow::socket::{Direction, Protocol};
use crate::probe::bpf::batch::Batch;
use crate::probe::bpf::skeleton::{FlowSkel, FlowSkelBuilder, OpenFlowSkel, types};

pub mod batch;

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

/// Host flows that one pass adds up in the kernel. The sockets of more come
/// one by one. Its buckets are walked after each pass, so no more than needed.
const FLOWS: u32 = 65_536;

/// How often a pass may pause: after a billion files something is wrong.
const PAUSES: u32 = 1000;

const KEY: usize = size_of::<types::flow_key>();
const FLOW: usize = size_of::<types::flow>();
const DESCRIPTOR: usize = size_of::<types::descriptor>();

// The sizes that bpf/flow.h asserts as well.
const _: () = assert!(KEY == 44 && FLOW == 12 && DESCRIPTOR == 64);

/// A host flow's key as the kernel has it. The port is that of the end that
/// was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Number of the network namespace in nsfs.
    pub netns: u32,
    /// Process, in the probe's pid namespace.
    pub pid: u32,
    /// This end.
    pub local: IpAddr,
    /// The other end.
    pub peer: IpAddr,
    /// Of the service.
    pub port: u16,
    /// Never unknown.
    pub direction: Direction,
    /// Transport protocol.
    pub protocol: Protocol,
}

/// What the sockets of a key add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// Sockets.
    pub open: u32,
    /// Of these in SYN_SENT.
    pub connecting: u32,
    /// Smallest smoothed round-trip time in microseconds.
    pub rtt_us: Option<u32>,
}

/// A process's descriptor of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Of the socket.
    pub inode: u64,
    /// Number of the network namespace in nsfs.
    pub netns: u32,
    /// Process, in the probe's pid namespace.
    pub pid: u32,
    /// This end; the address may be unspecified.
    pub local: (IpAddr, u16),
    /// The other end; unspecified and 0 where there is none.
    pub peer: (IpAddr, u16),
    /// Smoothed round-trip time in microseconds.
    pub rtt_us: Option<u32>,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Number of the state in `include/net/tcp_states.h`.
    pub state: u8,
    /// Who opened it, where the kernel's counters tell.
    pub opened: Direction,
    /// `IPV6_V6ONLY`.
    pub v6_only: bool,
    /// Whether the process chose the port (`SOCK_BINDPORT_LOCK`).
    pub port_chosen: bool,
}

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

/// The iterator over all tasks' files, loaded.
pub struct Files {
    skeleton: FlowSkel<'static>,
    bundled: Link,
    detailed: Link,
    room: Box<[u8]>,
    batch: Batch,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").finish_non_exhaustive()
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

impl Files {
    /// Loads both programs of the iterator.
    pub fn load() -> Result<Files> {
        let mut open = open()?;
        open.maps.flows.set_max_entries(FLOWS).context("size the map of flows")?;
        let skeleton = open.load().context("load the iterator over all tasks' files")?;
        let bundled = skeleton.progs.bundled.attach().context("attach the iterator")?;
        let detailed = skeleton.progs.detailed.attach().context("attach the iterator")?;
        Ok(Files {
            skeleton,
            bundled,
            detailed,
            room: vec![0; ROOM].into_boxed_slice(),
            batch: Batch::new(KEY, FLOW),
        })
    }

    /// Passes over all sockets. What the kernel adds up comes as sums at the
    /// end, what it leaves to us as descriptors.
    pub fn bundle(
        &mut self,
        descriptor: impl FnMut(Descriptor),
        mut sum: impl FnMut(Key, Sum),
    ) -> Result<Pass> {
        // What an earlier pass that failed left behind.
        self.batch.drain(self.skeleton.maps.flows.as_fd(), |_, _| {}).context("clear the flows")?;
        let mut pass = self.pass(true, descriptor)?;
        let drained = self.batch.drain(self.skeleton.maps.flows.as_fd(), |key, value| {
            match (parse_key(key), parse_sum(value)) {
                (Some(key), Some(value)) => sum(key, value),
                _ => pass.malformed += 1,
            }
        });
        drained.context("read the flows")?;
        Ok(pass)
    }

    /// Passes over all sockets, each as the descriptors that lead to it.
    pub fn list(&mut self, descriptor: impl FnMut(Descriptor)) -> Result<Pass> {
        self.pass(false, descriptor)
    }

    fn pass(&mut self, bundling: bool, mut descriptor: impl FnMut(Descriptor)) -> Result<Pass> {
        if let Some(bss) = &mut self.skeleton.maps.bss_data {
            bss.pass = types::pass::default();
        }
        let link = if bundling { &self.bundled } else { &self.detailed };
        let mut iterator = Iter::new(link).context("start the iterator")?;
        let mut malformed = 0;
        let mut kept = 0;
        let mut pauses = PAUSES;
        loop {
            let got = match iterator.read(&mut self.room[kept..]) {
                Ok(0) => break,
                Ok(got) => kept + got,
                // The first file after a pause did not fit: again.
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

fn parse_key(bytes: &[u8]) -> Option<Key> {
    Some(Key {
        netns: u32_at(bytes, offset_of!(types::flow_key, netns))?,
        pid: u32_at(bytes, offset_of!(types::flow_key, pid))?,
        local: address_at(bytes, offset_of!(types::flow_key, local))?,
        peer: address_at(bytes, offset_of!(types::flow_key, peer))?,
        port: u16_at(bytes, offset_of!(types::flow_key, port))?,
        direction: direction(bytes[offset_of!(types::flow_key, direction)])?,
        protocol: protocol(bytes[offset_of!(types::flow_key, protocol)])?,
    })
}

fn parse_sum(bytes: &[u8]) -> Option<Sum> {
    Some(Sum {
        open: u32_at(bytes, offset_of!(types::flow, open))?,
        connecting: u32_at(bytes, offset_of!(types::flow, connecting))?,
        rtt_us: measured(u32_at(bytes, offset_of!(types::flow, rtt_us))?),
    })
}

fn parse_descriptor(bytes: &[u8]) -> Option<Descriptor> {
    let local = address_at(bytes, offset_of!(types::descriptor, local))?;
    let peer = address_at(bytes, offset_of!(types::descriptor, peer))?;
    let flags = u32::from(bytes[offset_of!(types::descriptor, flags)]);
    Some(Descriptor {
        inode: u64_at(bytes, offset_of!(types::descriptor, inode))?,
        netns: u32_at(bytes, offset_of!(types::descriptor, netns))?,
        pid: u32_at(bytes, offset_of!(types::descriptor, pid))?,
        local: (local, u16_at(bytes, offset_of!(types::descriptor, local_port))?),
        peer: (peer, u16_at(bytes, offset_of!(types::descriptor, peer_port))?),
        rtt_us: measured(u32_at(bytes, offset_of!(types::descriptor, rtt_us))?),
        protocol: protocol(bytes[offset_of!(types::descriptor, protocol)])?,
        state: bytes[offset_of!(types::descriptor, state)],
        opened: direction(bytes[offset_of!(types::descriptor, direction)])?,
        v6_only: flags & types::socket_flags::SOCKET_V6_ONLY.0 != 0,
        port_chosen: flags & types::socket_flags::SOCKET_PORT_CHOSEN.0 != 0,
    })
}

fn direction(number: u8) -> Option<Direction> {
    match types::opened(u32::from(number)) {
        types::opened::OPENED_UNKNOWN => Some(Direction::Unknown),
        types::opened::OPENED_ACTIVE => Some(Direction::Active),
        types::opened::OPENED_PASSIVE => Some(Direction::Passive),
        _ => None,
    }
}

fn protocol(number: u8) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp].into_iter().find(|protocol| protocol.number() == number)
}

fn measured(micros: u32) -> Option<u32> {
    (micros > 0).then_some(micros)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_ne_bytes)
}

/// IPv4-mapped IPv6 as IPv4.
fn address_at(bytes: &[u8], at: usize) -> Option<IpAddr> {
    array_at::<16>(bytes, at).map(|octets| IpAddr::V6(Ipv6Addr::from(octets)).to_canonical())
}
