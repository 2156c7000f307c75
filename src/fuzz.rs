//! What is done with bytes that anybody may have sent: every parser, and what
//! must hold whatever it is given. `fuzz/` has the fuzzer that calls these, and
//! the corpus, which a test here goes through.
//!
//! A panic is a finding. Part of neither the binary nor the library.
#![expect(clippy::unwrap_used, reason = "a panic is how a finding is told")]

use jiff::Timestamp;

use crate::agent::spool::format::{self, FRAME_BYTES, Head, Kind, Segment};
use crate::agent::spool::payload;
use crate::cli::duration;
use crate::cmdb::url::CmdbUrl;
use crate::flow::socket::Protocol;
use crate::labels::Labels;
use crate::probe::message::{self, Message};
use crate::probe::{bpf, cgroup, diag, procfs, procnet, record};
use crate::serve;
use crate::wire;
use crate::wire::recall;

/// A name, under which `fuzz/corpus` has a directory, and what is done.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 13] = [
    ("answer", answer),
    ("bpf", bpf),
    ("duration", moment),
    ("labels", labels),
    ("netlink", netlink),
    ("packed", packed),
    ("proc", proc),
    ("procnet", net),
    ("query", query),
    ("question", question),
    ("recording", recording),
    ("report", report),
    ("segment", segment),
];

/// The one that is called by this name.
pub fn target(name: &str) -> Option<fn(&[u8])> {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.map(|(_, run)| *run)
}

/// Most things that a message may hold here.
const THINGS: usize = 65_536;

/// A password that must not be in any text.
const CANARY: &str = "c4nary";

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap_or("")
}

fn netlink(bytes: &[u8]) {
    const SEQUENCE: u32 = 7;
    let mut taken = 0;
    for message in message::messages(bytes, SEQUENCE) {
        let Message::Part { body, .. } = message else { continue };
        taken += body.len() + message::HEADER;
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            diag::parse_socket(body, protocol, 0);
        }
        diag::parse_address(body);
    }
    assert!(taken <= bytes.len(), "a length was believed");
}

fn bpf(bytes: &[u8]) {
    bpf::record::parse_key(bytes);
    bpf::record::parse_sum(bytes);
    bpf::record::parse_descriptor(bytes);
    let (key, value) = bytes.split_at(bytes.len().min(4));
    bpf::record::parse_note(key, value);
}

fn proc(bytes: &[u8]) {
    if let Some(stat) = procfs::parse_stat(bytes) {
        // What is behind the name cannot be forged by it.
        let again = [b"1 (", stat.comm, b") S 1 5 1 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 9 1"].concat();
        let read = procfs::parse_stat(&again).unwrap();
        assert_eq!((read.comm, read.pgrp, read.start_ticks), (stat.comm, 5, 9));
    }
    procfs::parse_effective_user(bytes);
    procfs::parse_passwd(bytes);
    procfs::parse_link(bytes, b"socket");
    cgroup::parse(bytes);
}

fn net(bytes: &[u8]) {
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        procnet::parse(line, Protocol::Tcp, 0);
        procnet::parse(line, Protocol::Udp, 0);
    }
}

/// A recording that was read is read back as it is written.
fn recording(bytes: &[u8]) {
    let mut reader = record::Reader::new(bytes);
    // Few lines are slow to read, and none tells more than the first.
    for _ in 0..4 {
        let Ok(Some(mut snapshot)) = reader.read_next() else { return };
        let mut written = Vec::new();
        record::write(&snapshot, &mut written).unwrap();
        let again = record::read(&written[..]).unwrap();
        // How much of the first was not understood was counted once.
        snapshot.coverage = again.coverage.clone();
        assert_eq!(again, snapshot);
        snapshot.observe();
    }
}

fn report(bytes: &[u8]) {
    let Ok(decoded) = wire::decode(bytes, THINGS) else { return };
    let reports: Vec<_> = decoded.reports.iter().collect();
    let again = wire::decode(&wire::encode(&reports), usize::MAX).unwrap();
    assert_eq!((again.reports, again.refused), (decoded.reports, 0));
}

fn packed(bytes: &[u8]) {
    const LIMIT: usize = 1 << 20;
    let Ok(inflated) = wire::unpack(bytes, LIMIT) else { return };
    assert!(inflated.len() <= LIMIT);
    assert_eq!(wire::unpack(&wire::pack(&inflated), LIMIT).unwrap(), inflated);
}

fn question(bytes: &[u8]) {
    let Ok(question) = recall::decode_question(bytes) else { return };
    assert_eq!(recall::decode_question(&recall::encode_question(&question)).unwrap(), question);
}

fn answer(bytes: &[u8]) {
    let Ok(answer) = recall::decode_answer(bytes, THINGS) else { return };
    let again = recall::decode_answer(&recall::encode_answer(&answer), usize::MAX).unwrap();
    assert_eq!(format!("{again:?}"), format!("{answer:?}"));
}

/// A file as it is; and a record that holds these bytes, between two others.
fn segment(bytes: &[u8]) {
    if let Segment::Ours(_, payloads, _) = format::parse(bytes) {
        let taken: usize = payloads.iter().map(|payload| payload.len() + FRAME_BYTES).sum();
        assert!(taken <= bytes.len(), "a length was believed");
        payload::decode(&payloads);
    }
    let head = Head { kind: Kind::Spill, host: 1, epoch: 2, salt: 3 };
    let mut whole = format::head(&head).to_vec();
    let packed = wire::pack(bytes);
    let payloads = [&b"before"[..], &packed, bytes, b"after"];
    for payload in payloads {
        format::frame(head.salt, payload, &mut whole);
    }
    let Segment::Ours(read, found, damaged) = format::parse(&whole) else {
        unreachable!("its heads are whole")
    };
    assert_eq!((read, &found[..], damaged), (head, &payloads[..], 0));
    payload::decode(&found);
}

/// A word of the command line, and of a query: a URL, a time.
fn moment(bytes: &[u8]) {
    let word = text(bytes);
    let now = Timestamp::UNIX_EPOCH;
    if duration::parse(word).is_ok() {
        // Shorter than the time there is, so that long ago is a moment.
        duration::parse_moment(word, Timestamp::MAX).unwrap();
    }
    duration::parse_moment(word, now).ok();
    url(word);
}

/// Whatever stands around it, a password is shown to nobody.
fn url(word: &str) {
    CmdbUrl::parse(word).ok();
    let hidden = |text: String| {
        let shown = match CmdbUrl::parse(&text) {
            Ok(url) => format!("{url} {url:?}"),
            Err(error) => error,
        };
        assert!(!shown.contains(CANARY), "{text:?}: {shown}");
    };
    if !word.contains(CANARY) {
        hidden(format!("postgres://user:{CANARY}@{word}"));
        hidden(format!("postgres://user:{word}{CANARY}@host/database"));
        hidden(format!("postgres://user:{CANARY}{word}@host/database"));
        hidden(format!("postgres://host/{word}?password={CANARY}"));
        hidden(format!("postgres://host/{word}?password=x&{CANARY}"));
        hidden(format!("postgres://host/x?password=x&{CANARY}{word}"));
        hidden(format!("postgres://host/x?password={word}@{CANARY}"));
        hidden(format!("https://{CANARY}{word}@host"));
        hidden(format!("https://host/{word}?{CANARY}"));
    }
}

fn labels(bytes: &[u8]) {
    Labels::parse(text(bytes)).ok();
}

/// What the collector is asked for.
fn query(bytes: &[u8]) {
    serve::look::understand(text(bytes), Timestamp::UNIX_EPOCH, None).ok();
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    /// What a fuzzer once found worth keeping holds today.
    #[test]
    fn the_corpus_holds() {
        let mut names = BTreeSet::new();
        for directory in fs::read_dir("fuzz/corpus").unwrap() {
            let directory = directory.unwrap();
            let name = directory.file_name().into_string().unwrap();
            let run = target(&name).unwrap_or_else(|| panic!("there is no target {name}"));
            for file in fs::read_dir(directory.path()).unwrap() {
                run(&fs::read(file.unwrap().path()).unwrap());
                names.insert(name.clone());
            }
        }
        assert_eq!(names, TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect());
    }
}
