//! Counts of what the collector does, in Prometheus' text format.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only rises.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Requests by the first digit of their status: 2, 4, 5.
    pub(crate) requests: [Count; 3],
    pub(crate) connections: Count,
    pub(crate) connections_ended: Count,
    pub(crate) connections_failed: Count,
    pub(crate) received_bytes: Count,
    pub(crate) reports_recorded: Count,
    pub(crate) reports_repeated: Count,
    pub(crate) reports_refused: Count,
    pub(crate) flows_recorded: Count,
    pub(crate) flows_not_understood: Count,
    pub(crate) rows_refused: Count,
    pub(crate) batches: Count,
    pub(crate) batches_failed: Count,
    batch_microseconds: Count,
    pub(crate) questions: Count,
}

impl Metrics {
    pub(crate) fn request(&self, status: u16) {
        let class = match status / 100 {
            2 => 0,
            5 => 2,
            _ => 1,
        };
        self.requests[class].add(1);
    }

    pub(crate) fn batch(&self, took: Duration) {
        self.batches.add(1);
        self.batch_microseconds.add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// All of them. `ready` is whether the CMDB can be used, `waiting` how many
    /// flows and reports wait to be recorded.
    pub(crate) fn text(&self, ready: bool, waiting: (usize, usize)) -> String {
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, values: &[(&str, f64)]| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in values {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        let value = |count: &Count| count.get() as f64;
        let version = concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}");
        family("shawk_build_info", "gauge", "The version that runs.", &[(version, 1.0)]);
        let up = f64::from(u8::from(ready));
        family("shawk_cmdb_up", "gauge", "Whether the CMDB answers.", &[("", up)]);
        let [done, refused, failed] = &self.requests;
        family(
            "shawk_http_requests_total",
            "counter",
            "Requests answered, by class of status.",
            &[
                ("{status=\"2xx\"}", value(done)),
                ("{status=\"4xx\"}", value(refused)),
                ("{status=\"5xx\"}", value(failed)),
            ],
        );
        let open = self.connections.get().saturating_sub(self.connections_ended.get());
        family("shawk_connections", "gauge", "Connections open.", &[("", open as f64)]);
        family(
            "shawk_reports_total",
            "counter",
            "Reports received, by what became of them.",
            &[
                ("{outcome=\"recorded\"}", value(&self.reports_recorded)),
                ("{outcome=\"already_recorded\"}", value(&self.reports_repeated)),
                ("{outcome=\"refused\"}", value(&self.reports_refused)),
            ],
        );
        for (name, help, count) in [
            ("shawk_connections_total", "Connections accepted.", &self.connections),
            (
                "shawk_connections_failed_total",
                "Connections closed at a limit, or without TLS as it should be.",
                &self.connections_failed,
            ),
            ("shawk_received_bytes_total", "Bytes of bodies received.", &self.received_bytes),
            ("shawk_flows_recorded_total", "Flows recorded.", &self.flows_recorded),
            (
                "shawk_flows_not_understood_total",
                "Flows and addresses left out, as they could not be understood.",
                &self.flows_not_understood,
            ),
            (
                "shawk_rows_refused_total",
                "Rows left out, as the CMDB refused them.",
                &self.rows_refused,
            ),
            (
                "shawk_batches_failed_total",
                "Batches that the CMDB did not take.",
                &self.batches_failed,
            ),
            ("shawk_questions_total", "Questions answered.", &self.questions),
        ] {
            family(name, "counter", help, &[("", value(count))]);
        }
        family(
            "shawk_batch_seconds",
            "summary",
            "Time to record a batch.",
            &[("_sum", value(&self.batch_microseconds) / 1e6), ("_count", value(&self.batches))],
        );
        family("shawk_queue_flows", "gauge", "Flows that wait.", &[("", waiting.0 as f64)]);
        family("shawk_queue_requests", "gauge", "Requests that wait.", &[("", waiting.1 as f64)]);
        text
    }
}
