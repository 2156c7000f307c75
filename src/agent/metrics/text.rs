//! Numbers → lines.

use crate::agent::metrics::Sources;
use crate::daemon::{lock, tell_of_process};
use crate::flow::host::{Coverage, Rung};
use crate::flow::tally::count::{Dropped, Spans};
use crate::prometheus::Text;

/// All that is told. What the tally tells is of one moment.
pub(crate) fn write(sources: &Sources) -> String {
    let (spans, flows, latest) = {
        let tally = lock(&sources.tally);
        let latest = tally.latest().map(|(rung, coverage)| (rung, coverage.clone()));
        (tally.spans(), tally.flows(), latest)
    };
    let mut text = Text::new("shawk_probe_");
    write_spans(&mut text, &spans);
    text.one("flows", "gauge", "Flows in memory", flows);
    if let Some((rung, coverage)) = latest {
        write_coverage(&mut text, rung, &coverage);
    }
    write_meter(&mut text, sources);
    write_spool(&mut text, sources);
    let what = "Lines on standard error that nobody read in time";
    text.one("log_lines_dropped_total", "counter", what, sources.log.dropped());
    tell_of_process(&mut text);
    text.into_string()
}

fn write_spans(text: &mut Text, spans: &Spans) {
    text.one("spans_observed_total", "counter", "Spans of flows seen by this run", spans.observed);
    text.one(
        "spans_taken_over_total",
        "counter",
        "Spans that earlier runs left in the spool",
        spans.taken_over,
    );
    text.one("spans_stored_total", "counter", "Spans that the CMDB has", spans.stored);
    text.one("spans_pending", "gauge", "Spans in memory alone", spans.pending);
    text.one("spans_spooled", "gauge", "Spans on disk that the CMDB has not", spans.spooled);
    text.head("spans_dropped_total", "counter", "Spans given up before the CMDB had them");
    for (reason, count) in Dropped::ALL.iter().zip(spans.dropped) {
        text.line("spans_dropped_total", &format!("{{reason=\"{}\"}}", reason.name()), count);
    }
}

fn write_coverage(text: &mut Text, rung: Rung, coverage: &Coverage) {
    text.head("rung", "gauge", "How sockets are read: 1 for the way in use");
    for known in Rung::ALL {
        let label = format!("{{rung=\"{}\"}}", known.name());
        text.line("rung", &label, u8::from(known == rung));
    }
    let confined = u8::from(coverage.confined);
    text.one("confined", "gauge", "1 if only an own pid namespace is seen", confined);
    let counts = [
        ("namespaces", coverage.namespaces),
        ("namespaces_unreadable", coverage.namespaces_unreadable),
        ("processes", coverage.processes),
        ("processes_vanished", coverage.processes_vanished),
        ("processes_unreadable", coverage.processes_unreadable),
        ("sockets", coverage.sockets),
        ("sockets_ownerless", coverage.sockets_ownerless),
        ("sockets_unattributed", coverage.sockets_unattributed),
        ("malformed", coverage.malformed),
        ("flows_dropped", coverage.flows_dropped),
    ];
    text.head("coverage", "gauge", "What the last scan did and did not see");
    for (what, count) in counts {
        text.line("coverage", &format!("{{what=\"{what}\"}}"), count);
    }
    text.one(
        "updates_lost_total",
        "counter",
        "What streaming could not keep between scans",
        coverage.updates_lost,
    );
    text.one("scans_skipped_total", "counter", "Scans left out", coverage.scans_skipped);
}

fn write_meter(text: &mut Text, sources: &Sources) {
    let meter = &sources.meter;
    text.one("scans_total", "counter", "Scans", meter.scans.get());
    text.one("scans_failed_total", "counter", "Scans that failed", meter.scans_failed.get());
    let slowed = meter.scans_slowed.get();
    text.one("scans_slowed_total", "counter", "Scans after which the next was put off", slowed);
    text.one("scan_seconds_total", "counter", "Time in scans", meter.scan_us.seconds());
    let cpu = meter.scan_cpu_us.seconds();
    text.one("scan_cpu_seconds_total", "counter", "Processor time of scans", cpu);
    text.one("deliveries_total", "counter", "Reports delivered", meter.deliveries.get());
    let failed = meter.deliveries_failed.get();
    text.one("deliveries_failed_total", "counter", "Attempts to deliver that failed", failed);
    let refused = meter.deliveries_refused.get();
    text.one("deliveries_refused_total", "counter", "Of these, refused by the CMDB", refused);
    let refused = meter.rows_refused.get();
    text.one("rows_refused_total", "counter", "Rows that the CMDB left out", refused);
    text.one(
        "last_delivery_timestamp_seconds",
        "gauge",
        "When the last report was delivered; 0 before the first",
        meter.last_delivery.seconds(),
    );
}

fn write_spool(text: &mut Text, sources: &Sources) {
    let Some(gauge) = &sources.gauge else { return };
    let figures = &gauge.figures;
    let usable = figures.usable.get();
    text.one("spool_usable", "gauge", "1 if the spool's last job was done", usable);
    text.one("spool_bytes", "gauge", "Bytes of the spool's segments", figures.bytes.get());
    let waiting = figures.backlog_files.get();
    text.one("spool_backlog_segments", "gauge", "Segments that wait for the CMDB", waiting);
    let failures = figures.failures.get();
    text.one("spool_failures_total", "counter", "Jobs of the spool that failed", failures);
    let damaged = figures.damaged.get();
    text.one("spool_damaged_total", "counter", "Places that could not be read", damaged);
    let strangers = figures.strangers.get();
    let what = "Segments of another host or a newer version, left alone";
    text.one("spool_foreign_segments", "gauge", what, strangers);
}
