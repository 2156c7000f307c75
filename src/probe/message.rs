//! Netlink's envelope: messages, their headers and attributes.
//!
//! Pure: bytes in, slices out, lengths checked. What is inside the messages
//! stands in `diag`. Layouts: `include/uapi/linux/{netlink,rtnetlink}.h`, in
//! the machine's own byte order.

/// `struct nlmsghdr`.
pub const HEADER: usize = 16;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Types below this are netlink's own: no-op, overrun.
const NLMSG_MIN_TYPE: u16 = 16;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;

/// A request for a dump, with room for a body of zeroes.
pub fn dump_request(kind: u16, body: usize, sequence: u32) -> Vec<u8> {
    let mut bytes = vec![0; HEADER + body];
    let length = u32::try_from(bytes.len()).expect("a request is short");
    bytes[0..4].copy_from_slice(&length.to_ne_bytes());
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
    bytes
}

/// One netlink message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// One piece of a dump.
    Part {
        /// What follows the header.
        body: &'a [u8],
        /// The table changed under the dump, which may lack something.
        interrupted: bool,
    },
    /// The end of a dump, or of what there will be of it: 0, or the errno
    /// that ended it.
    End {
        /// Positive; 0 where all went well.
        errno: i32,
        /// As in `Part`.
        interrupted: bool,
    },
    /// Bytes that are no message. Nothing after them can be read.
    Malformed,
}

/// The messages of one datagram that answer the request with `sequence`.
/// Left-overs of an earlier one are passed over.
pub fn messages(bytes: &[u8], sequence: u32) -> Messages<'_> {
    Messages { bytes, sequence }
}

/// See [`messages`].
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    bytes: &'a [u8],
    sequence: u32,
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        loop {
            if self.bytes.is_empty() {
                return None;
            }
            let Some((header, body)) = self.split() else {
                self.bytes = &[];
                return Some(Message::Malformed);
            };
            if header.sequence != self.sequence {
                continue;
            }
            let interrupted = header.flags & NLM_F_DUMP_INTR != 0;
            return Some(match header.kind {
                // Old kernels send no errno along with the end.
                NLMSG_DONE => Message::End { errno: errno(body).unwrap_or(0), interrupted },
                NLMSG_ERROR => match errno(body) {
                    Some(errno) => Message::End { errno, interrupted },
                    None => Message::Malformed,
                },
                kind if kind < NLMSG_MIN_TYPE => continue,
                _ => Message::Part { body, interrupted },
            });
        }
    }
}

/// The kernel writes it negative. MAX_ERRNO, include/linux/err.h, is 4095.
fn errno(body: &[u8]) -> Option<i32> {
    let errno = u32_at(body, 0)?.cast_signed();
    Some(errno.saturating_neg().clamp(0, 4095))
}

struct Header {
    kind: u16,
    flags: u16,
    sequence: u32,
}

impl<'a> Messages<'a> {
    fn split(&mut self) -> Option<(Header, &'a [u8])> {
        let length = usize::try_from(u32_at(self.bytes, 0)?).ok()?;
        let header = Header {
            kind: u16_at(self.bytes, 4)?,
            flags: u16_at(self.bytes, 6)?,
            sequence: u32_at(self.bytes, 8)?,
        };
        let body = self.bytes.get(HEADER..length)?;
        // The last message need not be padded.
        self.bytes = self.bytes.get(align(length)..).unwrap_or(&[]);
        Some((header, body))
    }
}

/// `struct rtattr`s, until one does not fit.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        // The two upper bits are flags: nested, network byte order.
        let kind = u16_at(bytes, 2)? & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(align(length)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

fn align(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// A number at that place, if there is one.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// A number at that place, if there is one.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A number at that place, if there is one.
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEQUENCE: u32 = 7;

    /// A netlink message, padded.
    fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        let length = u32::try_from(HEADER + body.len()).expect("short");
        bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        bytes.extend(body);
        bytes.resize(align(bytes.len()), 0);
        bytes
    }

    fn read(bytes: &[u8]) -> Vec<String> {
        messages(bytes, SEQUENCE)
            .map(|message| match message {
                Message::Part { body, interrupted } => format!("{body:?} {interrupted}"),
                Message::End { errno, interrupted } => format!("end {errno} {interrupted}"),
                Message::Malformed => "malformed".to_owned(),
            })
            .collect()
    }

    #[test]
    fn messages_are_split() {
        let bytes = [
            message(20, 2, SEQUENCE, &[1, 2, 3]),
            message(20, 2, SEQUENCE - 1, &[9]),
            message(1, 0, SEQUENCE, &[]),
            message(18, 0x12, SEQUENCE, &[4]),
            message(3, 0x10, SEQUENCE, &0_i32.to_ne_bytes()),
        ]
        .concat();
        assert_eq!(read(&bytes), ["[1, 2, 3] false", "[4] true", "end 0 true"]);
        assert_eq!(read(&message(3, 0, SEQUENCE, &[])), ["end 0 false"]);
        assert_eq!(read(&message(3, 0, SEQUENCE, &(-2_i32).to_ne_bytes())), ["end 2 false"]);
        assert_eq!(read(&message(2, 0, SEQUENCE, &(-22_i32).to_ne_bytes())), ["end 22 false"]);
        assert_eq!(read(&message(2, 0, SEQUENCE, &i32::MIN.to_ne_bytes())), ["end 4095 false"]);
        assert_eq!(read(&message(2, 0, SEQUENCE, &[1])), ["malformed"]);
    }

    #[test]
    fn a_length_is_not_believed() {
        let good = message(20, 2, SEQUENCE, &[1, 2, 3, 4]);
        for length in [0_u32, 1, 15, 21, 4096, u32::MAX] {
            let mut bytes = [good.clone(), good.clone()].concat();
            bytes[20..24].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(read(&bytes), ["[1, 2, 3, 4] false", "malformed"], "{length}");
        }
        for cut in 1..good.len() {
            assert_eq!(read(&good[..cut]), ["malformed"], "{cut}");
        }
    }
}
