//! What goes over the wire comes back; what nobody sent does no harm.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use jiff::Timestamp;

use crate::flow::host::{Coverage, Host, Rung};
use crate::flow::key::{Counters, FlowKey, HostFlow};
use crate::flow::process::{Instance, Process};
use crate::flow::report::{FlowReport, Report, ScopedAddress};
use crate::flow::socket::{Direction, Protocol};
use crate::recall::{
    AddressRecord, Dim, FlowRecord, Found, HostRecord, Records, Selector, Span, Spot, Sums,
    Traffic, Window,
};
use crate::wire::recall::{
    Answer, Question, decode_answer, decode_question, encode_answer, encode_question,
};
use crate::wire::{VERSION, WireError, decode, encode, leaf, pack, unpack};

const LIMIT: usize = 10_000;

/// Chance that is the same at each run (splitmix64).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    pub(crate) fn maybe<T>(&mut self, make: impl FnOnce(&mut Chance) -> T) -> Option<T> {
        (self.below(3) > 0).then(|| make(self))
    }

    pub(crate) fn word(&mut self) -> String {
        let words = ["", "nginx", "naïve \u{202e}\n", "/usr/bin/x y", "a\\x00b", "💥"];
        format!("{}{}", words[self.below(words.len())], self.below(3))
    }

    pub(crate) fn time(&mut self) -> Timestamp {
        let microseconds = 1_800_000_000_000_000 + self.next() % 1_000_000_000;
        Timestamp::from_microsecond(i64::try_from(microseconds).unwrap()).unwrap()
    }

    pub(crate) fn address(&mut self) -> IpAddr {
        match self.next() % 3 {
            0 => Ipv4Addr::from(self.next() as u32).into(),
            1 => Ipv6Addr::LOCALHOST.into(),
            _ => Ipv6Addr::from(u128::from(self.next()) << 64 | 1).into(),
        }
    }

    pub(crate) fn process(&mut self) -> Arc<Process> {
        Arc::new(Process {
            name: self.word(),
            exe: self.maybe(Chance::word),
            user: self.maybe(Chance::word),
            unit: self.maybe(Chance::word),
            container: self.maybe(Chance::word),
            pod: self.maybe(Chance::word),
        })
    }

    pub(crate) fn flow(&mut self) -> HostFlow {
        let owners = (0..self.below(9)).map(|_| Instance {
            process: self.process(),
            pid: self.next() as u32,
            pgid: self.next() as u32,
            started: self.time(),
        });
        let owners = owners.collect();
        HostFlow {
            owners,
            key: FlowKey {
                scope: self.word().into(),
                direction: [Direction::Active, Direction::Passive, Direction::Unknown]
                    [self.below(3)],
                protocol: [Protocol::Tcp, Protocol::Udp][self.below(2)],
                local: self.address(),
                local_port: self.maybe(|chance| chance.next() as u16),
                peer: self.maybe(Chance::address),
                peer_port: self.maybe(|chance| chance.next() as u16),
                process: self.maybe(Chance::process),
            },
            owners_more: self.below(3) as u32,
            counters: Counters {
                open: self.next() as u32,
                connecting: self.below(2) as u32,
                opened: self.maybe(Chance::next),
                failed: self.maybe(Chance::next),
                refused: self.maybe(Chance::next),
                timed_out: self.maybe(Chance::next),
                unreachable: self.maybe(Chance::next),
                bytes_sent: self.maybe(Chance::next),
                bytes_received: self.maybe(Chance::next),
                retransmits: self.maybe(Chance::next),
                rtt_us: self.maybe(|chance| chance.next() as u32),
            },
            tentative: self.below(2) == 0,
        }
    }

    pub(crate) fn coverage(&mut self) -> Coverage {
        Coverage {
            confined: self.below(2) == 0,
            filtered: self.below(2) == 0,
            namespaces: self.next(),
            namespaces_unreadable: self.next(),
            processes: self.next(),
            processes_vanished: self.next(),
            processes_unreadable: self.next(),
            sockets: self.next(),
            sockets_ownerless: self.next(),
            sockets_unattributed: self.next(),
            malformed: self.next(),
            flows_dropped: self.next(),
            updates_lost: self.next(),
            scans_skipped: self.next(),
            records_dropped: self.next(),
        }
    }

    fn report(&mut self) -> Report {
        let scoped = |chance: &mut Chance| ScopedAddress {
            scope: chance.word().into(),
            address: chance.address(),
            since: chance.time(),
            ended: chance.maybe(Chance::time),
        };
        let flow = |chance: &mut Chance| FlowReport {
            flow: chance.flow(),
            since: chance.time(),
            seen: chance.time(),
            ended: chance.below(2) == 0,
        };
        Report {
            host: Host { id: format!("id{}", self.word()), name: self.word() },
            epoch: self.next() as i64,
            sequence: 1 + self.next() / 4,
            rung: Rung::ALL[self.below(4)],
            from: self.time(),
            until: self.time(),
            sent: self.time(),
            coverage: self.coverage(),
            addresses: (0..self.below(4)).map(|_| scoped(self)).collect(),
            flows: (0..self.below(20)).map(|_| flow(self)).collect(),
        }
    }
}

#[test]
fn any_report_comes_back_as_it_went() {
    let mut chance = Chance(1);
    for _ in 0..300 {
        let reports: Vec<Report> = (0..chance.below(4)).map(|_| chance.report()).collect();
        let borrowed: Vec<&Report> = reports.iter().collect();
        let packed = pack(&encode(&borrowed));
        let decoded = decode(&unpack(&packed, 1 << 20).unwrap(), LIMIT).unwrap();
        assert_eq!(decoded.reports, reports);
        assert_eq!(decoded.refused, 0);
    }
}

/// A report small enough to be read here, with a bit of everything.
fn example() -> Report {
    let time = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
    let process = Arc::new(Process {
        name: "nginx".into(),
        exe: Some("/n".into()),
        user: None,
        unit: None,
        container: None,
        pod: None,
    });
    let owners =
        vec![Instance { process: Arc::clone(&process), pid: 7, pgid: 5, started: time(-9) }];
    let key = FlowKey {
        scope: "".into(),
        direction: Direction::Passive,
        protocol: Protocol::Tcp,
        local: [10, 0, 0, 10].into(),
        local_port: Some(80),
        peer: Some([10, 0, 0, 11].into()),
        peer_port: None,
        process: Some(process),
    };
    let counters = Counters { open: 2, opened: Some(300), ..Counters::default() };
    let flow = HostFlow { key, owners, owners_more: 0, counters, tentative: false };
    Report {
        host: Host { id: "id".into(), name: "web-1".into() },
        epoch: time(0).as_microsecond(),
        sequence: 3,
        rung: Rung::Netlink,
        from: time(0),
        until: time(30),
        sent: time(31),
        coverage: Coverage { sockets: 4, ..Coverage::default() },
        addresses: vec![ScopedAddress {
            scope: "".into(),
            address: [10, 0, 0, 10].into(),
            since: time(0),
            ended: None,
        }],
        flows: vec![FlowReport { flow, since: time(1), seen: time(30), ended: false }],
    }
}

const EXAMPLE: &str = "08011297010a0b0a02696412057765622d31108080e2c4f2a2990318032003288080e2c4f2a29903\
    30808789d3f2a2990338c08bc6d3f2a29903420238045a0f12040a00000a188080e2c4f2a2990362\
    3c0a281002180622040a00000a285032040a00000b40004a0d1007180520c0d7bcc0f2a299036002\
    70ac0210c0849fc5f2a2990318808789d3f2a299034a00520b0a056e67696e7812022f6e";

/// What a probe of this version says, to the byte: docs/wire.md. If this fails,
/// probes and collectors of different versions no longer understand each other.
#[test]
fn the_bytes_of_a_report_are_a_promise() {
    let hex: String = encode(&[&example()]).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, EXAMPLE);
}

#[test]
fn what_a_newer_version_adds_is_skipped() {
    // A field of each kind that no message has: 100 to 103.
    let strange = [
        &[0xa0, 0x06, 0x05][..],
        &[0xa9, 0x06, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0xb2, 0x06, 3, 1, 2, 3],
        &[0xbd, 0x06, 1, 2, 3, 4],
    ]
    .concat();
    let mut report = report_bytes(&encode(&[&example()]));
    report.extend_from_slice(&strange);
    // A coverage that knows a kind of loss of which we do not; a later one adds
    // to the one before (protobuf's own rule).
    leaf::append_bytes(8, &strange, &mut report);
    let mut batch = vec![0x08, u8::try_from(VERSION + 1).unwrap()];
    leaf::append_bytes(2, &report, &mut batch);
    batch.extend_from_slice(&strange);
    let decoded = decode(&batch, LIMIT).unwrap();
    assert_eq!(decoded.reports, [example()]);
    assert_eq!(decoded.refused, 0);
}

/// The one report of a batch.
fn report_bytes(batch: &[u8]) -> Vec<u8> {
    let mut reports = crate::wire::fields::fields(batch).map(Result::unwrap);
    reports.find(|field| field.tag == 2).unwrap().bytes.to_vec()
}

#[test]
fn versions_too_far_away_are_refused_by_name() {
    for (version, error) in [
        (0, WireError::Malformed("it has no version")),
        (VERSION + 2, WireError::Version(VERSION + 2)),
    ] {
        let bytes = [0x08, u8::try_from(version).unwrap()];
        assert_eq!(decode(&bytes, LIMIT), Err(error));
    }
}

#[test]
fn a_flow_that_is_not_understood_leaves_its_neighbours() {
    let good = example();
    let mut report = report_bytes(&encode(&[&good]));
    let span = |flow| leaf::FlowSpan { flow, since: 1, seen: 2, ended: false };
    let flow = leaf::Flow { protocol: 6, local: vec![1, 2, 3, 4], ..leaf::Flow::default() };
    for bad in [
        span(None),
        span(Some(leaf::Flow { protocol: 132, ..flow.clone() })),
        span(Some(leaf::Flow { direction: 9, ..flow.clone() })),
        span(Some(leaf::Flow { local: vec![1], ..flow.clone() })),
        span(Some(leaf::Flow { local_port: Some(65_536), ..flow.clone() })),
        span(Some(leaf::Flow { scope: 9, ..flow.clone() })),
        span(Some(leaf::Flow { process: Some(9), ..flow.clone() })),
        leaf::FlowSpan { since: i64::MAX, ..span(Some(flow.clone())) },
    ] {
        leaf::append(12, &bad, &mut report);
    }
    // And one that is no message at all.
    leaf::append_bytes(12, &[0xff; 3], &mut report);
    let mut batch = vec![0x08, 1];
    leaf::append_bytes(2, &report, &mut batch);
    let decoded = decode(&batch, LIMIT).unwrap();
    assert_eq!(decoded.refused, 9);
    assert_eq!(decoded.reports, [good]);
}

#[test]
fn any_question_comes_back_as_it_went() {
    let window = Window { since: Some(Chance(1).time()), until: None };
    let network = |text: &str| Selector::Network(text.parse().unwrap());
    for selector in [
        Selector::Address("fd00::1".parse().unwrap()),
        network("10.0.0.0/8"),
        network("::/0"),
        Selector::Host("web-1".into()),
        Selector::Process("naïve\n".into()),
        Selector::Port(65_535),
        Selector::All,
    ] {
        let question = Question::Find(selector, window);
        assert_eq!(decode_question(&encode_question(&question)), Ok(question));
    }
    // A collector of any version knows the place of a service.
    for spot in [Spot::Address("10.0.0.1".parse().unwrap()), Spot::Host("web-1".into())] {
        let place = Question::Find(spot.whole(), window);
        let service = Question::Find(Selector::Service(spot, 80), window);
        assert_eq!(encode_question(&service), encode_question(&place));
    }
    let addresses = vec!["10.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
    for question in [
        Question::Check,
        Question::Sequence(-7, i64::MIN),
        Question::Around(vec![i64::MIN, 0, i64::MAX], addresses, Window::default()),
        Question::Traffic(vec![1, 2], window),
    ] {
        assert_eq!(decode_question(&encode_question(&question)), Ok(question));
    }
    assert!(decode_question(&[0x08, 1]).is_err());
    assert_eq!(decode_question(&[0x08, 3]), Err(WireError::Version(3)));
}

#[test]
fn the_bytes_of_a_question_are_a_promise() {
    let addresses = vec!["10.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
    let window = Window { since: Timestamp::from_second(5).ok(), until: None };
    let bytes = encode_question(&Question::Around(vec![-1, 2], addresses, window));
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let around = "0508c096b1021210ffffffffffffffff02000000000000001a040a000001\
        1a1000000000000000000000000000000001";
    assert_eq!(hex, format!("08012a310a{around}"));
}

#[test]
fn any_answer_comes_back_as_it_went() {
    let mut chance = Chance(4);
    let times = (chance.time(), chance.time());
    let span = Span { since: times.0, until: times.1, ended: true };
    for _ in 0..50 {
        let host = HostRecord {
            key: chance.next() as i64,
            id: chance.word(),
            name: chance.word(),
            rung: Rung::ALL[chance.below(4)],
            coverage: chance.coverage(),
            first_seen: chance.time(),
            last_seen: chance.time(),
            rivals: (0..chance.below(3)).map(|number| number.to_string()).collect(),
            skew: jiff::SignedDuration::from_micros(-7_000_001),
            watched: (0..chance.below(3)).map(|_| (chance.time(), chance.time())).collect(),
            dim: Dim { polled: Some(chance.time()), blind: None, unowned: Some(chance.time()) },
        };
        let address = AddressRecord {
            host: host.key,
            scope: chance.word().into(),
            address: chance.address(),
            since: chance.time(),
            until: chance.time(),
        };
        let flow = |chance: &mut Chance| FlowRecord {
            host: chance.next() as i64,
            flow: chance.flow(),
            spans: vec![span; 1 + chance.below(3000)],
            first_seen: chance.time(),
            later: (chance.below(2) == 0).then_some(Span { ended: false, ..span }),
        };
        let flows: Vec<_> = (0..3).map(|_| flow(&mut chance)).collect();
        let records = Records { hosts: vec![host], addresses: vec![address], flows };
        let bytes = encode_answer(&Answer::Records(records.clone()));
        let Ok(Answer::Records(back)) = decode_answer(&bytes, LIMIT) else { panic!("no records") };
        assert_eq!(back.hosts, records.hosts);
        assert_eq!(back.addresses, records.addresses);
        assert_eq!(back.flows, records.flows);
        assert!(matches!(decode_answer(&bytes, 4), Err(WireError::TooLarge)));
    }
    let found = Found { hosts: [3, -4].into(), addresses: [chance.address()].into() };
    let sums = Sums { opened: Some(0), bytes_sent: Some(u64::MAX), ..Sums::default() };
    let traffic = vec![Traffic { host: -1, flow: 9, sums }];
    for answer in [
        Answer::Checked,
        Answer::Sequence(None),
        Answer::Sequence(Some(u64::MAX)),
        Answer::Found(Found::default()),
        Answer::Found(found),
        Answer::Records(Records::default()),
        Answer::Traffic(traffic),
        Answer::Traffic(Vec::new()),
    ] {
        let back = decode_answer(&encode_answer(&answer), LIMIT).unwrap();
        assert_eq!(format!("{back:?}"), format!("{answer:?}"));
    }
}

#[test]
fn a_few_bytes_cannot_claim_more_than_the_limit() {
    // Empty flows: two bytes each.
    let mut report = report_bytes(&encode(&[&example()]));
    report.extend([12 << 3 | 2, 0].repeat(LIMIT));
    let mut batch = vec![0x08, 1];
    leaf::append_bytes(2, &report, &mut batch);
    assert_eq!(decode(&batch, LIMIT), Err(WireError::TooLarge));
    // Zeros: a few bytes a mebibyte.
    let bomb = pack(&vec![0; 8 << 20]);
    assert!(bomb.len() < 1024, "{}", bomb.len());
    assert_eq!(unpack(&bomb, 1 << 20), Err(WireError::TooLarge));
    assert_eq!(unpack(&bomb, 8 << 20).map(|bytes| bytes.len()), Ok(8 << 20));
}

#[test]
fn no_bytes_do_harm() {
    let mut chance = Chance(2);
    let good = encode(&[&chance.report(), &chance.report()]);
    let packed = pack(&good);
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..=chance.below(8) {
            let at = chance.below(bytes.len());
            bytes[at] = chance.next() as u8;
        }
        bytes.truncate(chance.below(bytes.len() + 1).max(chance.below(bytes.len() + 1)));
        // Taken or refused, it comes to an end.
        if let Ok(decoded) = decode(&bytes, LIMIT) {
            assert!(decoded.reports.len() <= LIMIT);
        }
        let noise: Vec<u8> = (0..chance.below(200)).map(|_| chance.next() as u8).collect();
        for bytes in [&noise, &bytes] {
            let _ = (decode(bytes, LIMIT), decode_question(bytes), decode_answer(bytes, LIMIT));
        }
        let mut bytes = packed.clone();
        let at = chance.below(bytes.len());
        bytes[at] = chance.next() as u8;
        if let Ok(inflated) = unpack(&bytes, 1 << 20) {
            assert!(inflated.len() <= 1 << 20);
        }
        assert!(unpack(&noise, 1 << 20).is_err() || noise.is_empty());
    }
}
