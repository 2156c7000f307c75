//! What `struct tcp_info` tells of a connection: who opened it, and how far
//! away the other end is.
//!
//! Pure. The layout is that of `include/uapi/linux/tcp.h`, which only ever
//! grew at its end, so what an older kernel has not is beyond the end.

use crate::flow::socket::{Direction, State};
use crate::probe::message::{u32_at, u64_at};

const UNACKED: usize = 24;
const SACKED: usize = 28;
const RTT: usize = 68;
const TOTAL_RETRANS: usize = 100;
const BYTES_ACKED: usize = 120;
const DATA_SEGS_OUT: usize = 156;
const DELIVERED: usize = 192;
const BYTES_SENT: usize = 200;
const BYTES_RETRANS: usize = 208;

/// Smoothed round-trip time in microseconds, once one was measured.
pub fn rtt_us(info: &[u8]) -> Option<u32> {
    u32_at(info, RTT).filter(|&rtt| rtt > 0)
}

/// Who opened a connection, from the byte counters of its `struct tcp_info`.
///
/// `bytes_acked` grows with `snd_una` (`tcp_snd_una_update`), and on the side
/// that sent the SYN it starts with the SYN's own number; on the other side
/// `snd_una` is put behind the SYN-ACK without being counted. `bytes_sent`
/// counts payload each time it is sent, `bytes_retrans` the repetitions. So
/// `acked - sent once` is 1 on the active side and 0 on the passive, while
/// nothing is in flight. Once our own FIN is acknowledged (FIN_WAIT2) it is one
/// more. In the other states a FIN may be in flight or not; those tell nothing.
///
/// Three things blur that, and each is met by saying nothing:
///
/// - While something is in flight, how many bytes it is stands in
///   `idiag_wqueue` only, which the kernel reads before, and not under the lock
///   under which it reads the rest: on a busy connection it is off by what was
///   sent or acknowledged between, which may be a single byte.
/// - What the host's own queue (a full qdisc) drops was counted as sent and
///   will be again. An active side that lost a single byte that way looks
///   passive, but for more segments sent than were repeated, delivered or are
///   under way. `tcpi_delivered` includes the SYN.
/// - Kernels before 4.19 have no `bytes_sent`.
///
/// Not met: a socket that `TCP_REPAIR` brought back has counters of nothing.
pub fn opened(state: State, info: &[u8]) -> Direction {
    let fin = match state {
        State::SynSent => return Direction::Active,
        State::Established | State::CloseWait => 0,
        State::FinWait2 => 1,
        _ => return Direction::Unknown,
    };
    match surplus(info) {
        Some(bytes) if bytes == fin + 1 => Direction::Active,
        Some(bytes) if bytes == fin && !dropped_here(info).unwrap_or(true) => Direction::Passive,
        _ => Direction::Unknown,
    }
}

/// Sequence numbers acknowledged, less payload sent once. None while anything
/// is in flight.
fn surplus(info: &[u8]) -> Option<u64> {
    let in_flight = u32_at(info, UNACKED)? > 0;
    let acked = u64_at(info, BYTES_ACKED)?;
    let sent = u64_at(info, BYTES_SENT)?;
    let repeated = u64_at(info, BYTES_RETRANS)?;
    let surplus = acked.checked_sub(sent.checked_sub(repeated)?)?;
    (!in_flight).then_some(surplus)
}

/// Whether more segments were sent than can be accounted for.
fn dropped_here(info: &[u8]) -> Option<bool> {
    let unacked = u32_at(info, UNACKED)?;
    let sacked = u32_at(info, SACKED)?;
    let repeated = u32_at(info, TOTAL_RETRANS)?;
    let sent = u32_at(info, DATA_SEGS_OUT)?;
    let delivered = u32_at(info, DELIVERED)?;
    let unaccounted = sent
        .wrapping_sub(repeated)
        .wrapping_sub(delivered.wrapping_sub(1))
        .wrapping_sub(unacked.wrapping_sub(sacked));
    Some(unaccounted.cast_signed() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counters as they are after a quiet connection moved some data.
    #[derive(Clone, Copy)]
    struct Counters {
        unacked: u32,
        acked: u64,
        sent: u64,
        retrans: u64,
        segments: u32,
        total_retrans: u32,
        delivered: u32,
    }

    /// The passive side: 1000 bytes in 2 segments, all delivered.
    const QUIET: Counters = Counters {
        unacked: 0,
        acked: 1000,
        sent: 1000,
        retrans: 0,
        segments: 2,
        total_retrans: 0,
        delivered: 3,
    };

    impl Counters {
        fn info(self) -> Vec<u8> {
            let mut info = vec![0; 248];
            let mut put =
                |at: usize, bytes: &[u8]| info[at..at + bytes.len()].copy_from_slice(bytes);
            put(UNACKED, &self.unacked.to_ne_bytes());
            put(TOTAL_RETRANS, &self.total_retrans.to_ne_bytes());
            put(BYTES_ACKED, &self.acked.to_ne_bytes());
            put(DATA_SEGS_OUT, &self.segments.to_ne_bytes());
            put(DELIVERED, &self.delivered.to_ne_bytes());
            put(BYTES_SENT, &self.sent.to_ne_bytes());
            put(BYTES_RETRANS, &self.retrans.to_ne_bytes());
            info
        }
    }

    #[track_caller]
    fn check(state: State, counters: Counters, expected: Direction) {
        assert_eq!(opened(state, &counters.info()), expected);
    }

    #[test]
    fn the_side_that_sent_the_syn_has_it_acknowledged() {
        use State::{CloseWait, Established, FinWait2};
        for state in [Established, CloseWait] {
            check(state, QUIET, Direction::Passive);
            check(state, Counters { acked: 1001, ..QUIET }, Direction::Active);
            check(state, Counters { acked: 1002, ..QUIET }, Direction::Unknown);
            check(state, Counters { acked: 999, ..QUIET }, Direction::Unknown);
        }
        check(FinWait2, Counters { acked: 1001, ..QUIET }, Direction::Passive);
        check(FinWait2, Counters { acked: 1002, ..QUIET }, Direction::Active);
    }

    #[test]
    fn what_was_sent_again_counts_once() {
        let repeated =
            Counters { sent: 1500, retrans: 500, segments: 3, total_retrans: 1, ..QUIET };
        check(State::Established, repeated, Direction::Passive);
        check(State::Established, Counters { acked: 1001, ..repeated }, Direction::Active);
    }

    #[test]
    fn nothing_is_said_where_it_could_be_wrong() {
        let unknown = |counters| check(State::Established, counters, Direction::Unknown);
        // Something is in flight, and how much of it is not known for sure.
        unknown(Counters { unacked: 1, ..QUIET });
        unknown(Counters { unacked: 2, sent: 1002, ..QUIET });
        unknown(Counters { retrans: 1001, ..QUIET });
        // One byte that the own queue dropped, of an active side.
        unknown(Counters { acked: 1001, sent: 1001, segments: 3, ..QUIET });
        for state in
            [State::FinWait1, State::LastAck, State::Closing, State::Listen, State::TimeWait]
        {
            check(state, QUIET, Direction::Unknown);
        }
    }

    #[test]
    fn an_older_kernel_tells_less() {
        let info = QUIET.info();
        for length in [0, 104, 192, 200, 215] {
            let said = opened(State::Established, &info[..length]);
            assert_eq!(said, Direction::Unknown, "{length}");
        }
        assert_eq!(opened(State::Established, &info[..216]), Direction::Passive);
        assert_eq!(opened(State::SynSent, &[]), Direction::Active);
        assert_eq!(rtt_us(&info), None);
        assert_eq!(rtt_us(&info[..70]), None);
    }
}
