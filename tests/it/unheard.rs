//! A daemon that writes into a full pipe that nobody reads, or that is called
//! by who then says nothing.

use std::fs::OpenOptions;
use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;

use crate::serve::collector::{Collector, until};
use crate::spool::{Probe, away, free_port, scratch};

/// A pipe with no room for a byte.
fn full() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    // Opened anew, so that only filling it does not wait.
    let own = format!("/proc/self/fd/{}", writer.as_raw_fd());
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
    let mut filling = OpenOptions::new().write(true).custom_flags(flags).open(own).unwrap();
    for piece in [4096, 1] {
        while filling.write_all(&vec![b'.'; piece]).is_ok() {}
    }
    (reader, writer)
}

/// Scans, deliveries and recording go on, what is not heard is counted, and both
/// end when they are told to.
#[test]
fn a_log_that_nobody_reads_stops_neither_probe_nor_collector() {
    let directory = scratch();
    let cmdb = format!("sqlite:{}", directory.path().join("cmdb.db").display());
    let (collector_says, stderr) = full();
    let talkative = [("SHAWK_DEBUG", "true")];
    let collector = Collector::start_to(stderr.into(), free_port(), &cmdb, &talkative);
    let (probe_says, stderr) = full();
    let (before, spool) = (["env", "SHAWK_DEBUG=true"], directory.path().join("spool"));
    let mut probe =
        Probe::start_to(stderr.into(), "netlink", "100ms", &before, &collector.url(), &spool);

    let unheard = probe.until("it drops lines", |m| m.get("log_lines_dropped_total") > 0.0);
    probe.until("it goes on", |metrics| {
        metrics.get("deliveries_total") > unheard.get("deliveries_total") + 3.0
            && metrics.get("scans_total") > unheard.get("scans_total") + 5.0
    });
    // Each refusal is a line.
    until("it drops lines", || {
        collector.get("/nowhere");
        collector.metric("shawk_log_lines_dropped_total") > 0.0
    });
    let recorded = || collector.metric("shawk_reports_total{outcome=\"recorded\"}");
    let before = recorded();
    until("it goes on", || recorded() > before + 3.0);

    assert_eq!(probe.stop(), Some(0));
    collector.terminate();
    let (status, _) = collector.ended();
    assert!(status.success(), "{status}");
    drop((probe_says, collector_says));
}

/// What nobody reads of a recording is given up, and costs the CMDB nothing.
#[test]
fn a_recording_that_nobody_reads_ends_and_scans_go_on() {
    let directory = scratch();
    let (reader, writer) = full();
    let pipe = format!("/proc/{}/fd/{}", std::process::id(), writer.as_raw_fd());
    let script = format!("exec \"$0\" \"$@\" --record {pipe}");
    let cmdb = format!("sqlite:{}", directory.path().join("cmdb.db").display());
    let before = ["sh", "-c", script.as_str()];
    let mut probe = Probe::start_by(&before, &cmdb, &directory.path().join("spool"));
    probe.says("recording ends here: record the snapshot: write snapshot: nobody read it for 5 s");
    probe.until("it goes on", |metrics| metrics.get("scans_total") > 5.0);
    assert_eq!(probe.stop(), Some(0));
    drop((reader, writer));
}

/// Nobody's silence is waited for: the scrape is answered while all of them are
/// still connected.
#[test]
fn who_connects_and_says_nothing_keeps_no_scraper_waiting() {
    let directory = scratch();
    let probe = Probe::start_by(&[], &away(), &directory.path().join("spool"));
    probe.until("it listens", |_| true);
    let silent: Vec<TcpStream> = (0..15).map(|_| probe.connect().unwrap()).collect();
    probe.scrape().unwrap();
    for mut stream in &silent {
        stream.set_nonblocking(true).unwrap();
        let ended = stream.read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(ended, Err(ErrorKind::WouldBlock));
    }
}
