//! A netlink socket and one dump over it.
//!
//! It carries bytes; what they mean stands in `diag`.

use std::fmt;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

use crate::probe::message::{Message, messages};

/// Room for one datagram. The kernel builds at most 32 KiB per datagram of a
/// dump (`netlink_dump`, af_netlink.c); this leaves it room to grow.
const ROOM: usize = 256 * 1024;

/// The kernel answers within the call or not at all, so this is only there so
/// that nothing waits for ever.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a dump is asked for again when the table changed under it.
const ATTEMPTS: u32 = 3;

/// Where answers are received, kept from dump to dump.
pub struct Room(Box<[u8]>);

impl Room {
    /// 256 KiB.
    pub fn new() -> Room {
        Room(vec![0; ROOM].into_boxed_slice())
    }
}

impl Default for Room {
    fn default() -> Room {
        Room::new()
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Room").field(&self.0.len()).finish()
    }
}

/// Which part of the kernel a channel talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// `NETLINK_SOCK_DIAG`.
    SockDiag,
    /// `NETLINK_ROUTE`.
    Route,
}

/// A netlink socket. It belongs to the network namespace in which it was
/// opened, whichever the thread is in later.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    sequence: u32,
}

impl Channel {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open(line: Line) -> Result<Channel, Errno> {
        let protocol = match line {
            Line::SockDiag => Some(netlink::SOCK_DIAG),
            // Its number is 0, the default.
            Line::Route => None,
        };
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(Channel { socket, sequence: 0 })
    }

    /// Asks for a dump and hands each part of the answer to `each`, which
    /// says whether it understood it. When the table changed meanwhile, all
    /// is asked for again; after the last attempt what came counts.
    ///
    /// Returns the number of messages that were not understood. After an
    /// error the channel is of no use: an answer may still be under way.
    pub fn dump(
        &mut self,
        room: &mut Room,
        request: impl Fn(u32) -> Vec<u8>,
        mut each: impl FnMut(Step<'_>) -> bool,
    ) -> Result<u64, Errno> {
        let mut attempt = 1;
        loop {
            self.sequence = self.sequence.wrapping_add(1);
            each(Step::Begin);
            let end = self.dump_once(room, &request(self.sequence), &mut each)?;
            if !end.interrupted || attempt == ATTEMPTS {
                return Ok(end.malformed);
            }
            attempt += 1;
        }
    }

    fn dump_once(
        &self,
        room: &mut Room,
        request: &[u8],
        each: &mut impl FnMut(Step<'_>) -> bool,
    ) -> Result<End, Errno> {
        let sent = rustix::io::retry_on_intr(|| {
            rustix::net::send(&self.socket, request, SendFlags::empty())
        })?;
        if sent != request.len() {
            return Err(Errno::MSGSIZE);
        }
        let mut end = End { malformed: 0, interrupted: false };
        loop {
            // With TRUNC the true length is returned, be it longer than the
            // room; the messages beyond are lost and end the last one early.
            let (got, length) = rustix::io::retry_on_intr(|| {
                rustix::net::recv(&self.socket, &mut room.0[..], RecvFlags::TRUNC)
            })?;
            if length == 0 {
                return Err(Errno::CONNRESET);
            }
            if length > got {
                end.malformed += 1;
            }
            for message in messages(&room.0[..got], self.sequence) {
                match message {
                    Message::Part { body, interrupted } => {
                        end.interrupted |= interrupted;
                        if !each(Step::Part(body)) {
                            end.malformed += 1;
                        }
                    }
                    Message::End { errno: 0, interrupted } => {
                        end.interrupted |= interrupted;
                        return Ok(end);
                    }
                    Message::End { errno, .. } => return Err(Errno::from_raw_os_error(errno)),
                    Message::Malformed => end.malformed += 1,
                }
            }
        }
    }
}

struct End {
    malformed: u64,
    interrupted: bool,
}

/// What happens in a dump.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// It begins, for the first time or again: what came before is void.
    Begin,
    /// One piece of it.
    Part(&'a [u8]),
}
