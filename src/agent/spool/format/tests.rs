//! What comes back of a segment, whatever became of its bytes.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use crate::agent::spool::format::{
    FRAME_BYTES, HEAD_BYTES, Head, Kind, MAX_PAYLOAD, Segment, frame, head, parse,
};

const HEAD: Head = Head { kind: Kind::Journal, host: -7, epoch: 1_700_000_000_000_000, salt: 99 };

/// xorshift64*, so that a failure comes again.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let word = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d);
        usize::try_from(word >> 33).unwrap() % limit
    }
}

/// A segment with payloads of many lengths, and where each record ends.
fn sample(records: usize) -> (Vec<u8>, Vec<Vec<u8>>, Vec<usize>) {
    let mut chance = Chance(1);
    let mut bytes = head(&HEAD).to_vec();
    let (mut payloads, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..records {
        let length = chance.below(200);
        let payload: Vec<u8> = (0..length).map(|_| chance.below(256) as u8).collect();
        frame(HEAD.salt, &payload, &mut bytes);
        payloads.push(payload);
        ends.push(bytes.len());
    }
    (bytes, payloads, ends)
}

fn records(bytes: &[u8]) -> (Vec<Vec<u8>>, u64) {
    match parse(bytes) {
        Segment::Ours(read, records, damaged) => {
            assert_eq!(read, HEAD);
            (records.into_iter().map(<[u8]>::to_vec).collect(), damaged)
        }
        other => panic!("not read: {other:?}"),
    }
}

#[test]
fn what_was_written_comes_back() {
    let (bytes, payloads, _) = sample(50);
    assert_eq!(records(&bytes), (payloads, 0));
}

/// Every length a file may have after a crash in the middle of its writes,
/// with the rest missing, or zeros, or what was there before. A kill leaves the
/// rest missing, and nothing of that is damage.
#[test]
fn every_prefix_has_all_records_that_are_whole_in_it() {
    let (bytes, payloads, ends) = sample(40);
    let mut chance = Chance(2);
    for length in 0..=bytes.len() {
        let whole = ends.iter().filter(|&&end| end <= length).count();
        let cut = &bytes[..length];
        if length < HEAD_BYTES / 2 {
            assert_eq!(parse(cut), Segment::Torn);
            continue;
        }
        assert_eq!(records(cut), (payloads[..whole].to_vec(), 0), "cut at {length}");
        let mut zeros = cut.to_vec();
        zeros.resize(length + chance.below(4096), 0);
        let mut noise = cut.to_vec();
        noise.extend((0..chance.below(300)).map(|_| chance.below(256) as u8));
        for padded in [zeros, noise] {
            assert_eq!(records(&padded).0, payloads[..whole], "padded at {length}");
        }
    }
}

/// A bit that flips costs the record that it is in, and no other, and is
/// counted, also in the last one.
#[test]
fn a_flipped_bit_costs_one_record() {
    let (bytes, payloads, ends) = sample(60);
    let mut chance = Chance(3);
    for _ in 0..10_000 {
        let at = chance.below(bytes.len());
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << chance.below(8);
        let hit = (at >= HEAD_BYTES).then(|| ends.iter().filter(|&&end| end <= at).count());
        let mut expected = payloads.clone();
        hit.map(|hit| expected.remove(hit));
        let damaged = u64::from(hit.is_some());
        assert_eq!(records(&flipped), (expected, damaged), "bit of byte {at}");
    }
}

/// Many flips, cuts and holes at once: no panic, nothing that was not written.
#[test]
fn no_damage_makes_a_record_of_what_is_none() {
    let (bytes, payloads, _) = sample(30);
    let mut chance = Chance(4);
    let mut read = 0;
    for _ in 0..10_000 {
        let mut damaged = bytes.clone();
        for _ in 0..1 + chance.below(20) {
            let at = chance.below(damaged.len());
            match chance.below(4) {
                0 => damaged.truncate(at.max(1)),
                1 => {
                    let end = (at + chance.below(300)).min(damaged.len());
                    damaged[at..end].fill(0);
                }
                2 => {
                    let end = (at + chance.below(300)).min(damaged.len());
                    damaged.drain(at..end);
                    damaged.push(0);
                }
                _ => damaged[at] ^= 1 << chance.below(8),
            }
        }
        if let Segment::Ours(_, records, _) = parse(&damaged) {
            read += records.len();
            let mut left = payloads.iter();
            for record in records {
                assert!(left.any(|payload| payload == record), "not written, or not in order");
            }
        }
    }
    assert!(read > 10_000, "{read}");
}

/// A name may hold the bytes of a record; whoever chose it does not know the
/// salt.
#[test]
fn a_record_within_a_record_is_none() {
    let mut inner = Vec::new();
    frame(0, b"hostile", &mut inner);
    let mut bytes = head(&HEAD).to_vec();
    frame(HEAD.salt, &inner, &mut bytes);
    frame(HEAD.salt, b"good", &mut bytes);
    bytes[HEAD_BYTES] ^= 1;
    assert_eq!(records(&bytes), (vec![b"good".to_vec()], 1));
}

#[test]
fn a_newer_version_and_another_file_are_told_apart() {
    let mut newer = head(&HEAD);
    newer[8] = 2;
    let sum = super::SUM.checksum(&newer[..36]).to_le_bytes();
    newer[36..40].copy_from_slice(&sum);
    let one: [u8; 40] = newer[..40].try_into().unwrap();
    newer[40..].copy_from_slice(&one);
    assert_eq!(parse(&newer), Segment::Newer(2));
    assert_eq!(parse(&[b'x'; 500]), Segment::Unreadable);
    assert_eq!(parse(b""), Segment::Torn);
}

#[test]
fn a_length_beyond_the_limit_is_damage() {
    let mut bytes = head(&HEAD).to_vec();
    frame(HEAD.salt, &vec![0; MAX_PAYLOAD + 1], &mut bytes);
    frame(HEAD.salt, b"good", &mut bytes);
    assert_eq!(records(&bytes), (vec![b"good".to_vec()], 1));
    assert_eq!(bytes.len(), HEAD_BYTES + 2 * FRAME_BYTES + MAX_PAYLOAD + 1 + 4);
}
