//! Counts of what the collector does, in Prometheus' text format.

use std::time::Duration;

use crate::daemon::tell_of_process;
use crate::prometheus::{Count, Text};

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Requests by the first digit of their status: 2, 3, 4, 5.
    pub(crate) requests: [Count; 4],
    pub(crate) connections: Count,
    pub(crate) connections_ended: Count,
    pub(crate) connections_failed: Count,
    pub(crate) strangers_closed: Count,
    pub(crate) received_bytes: Count,
    pub(crate) reports_recorded: Count,
    pub(crate) reports_repeated: Count,
    pub(crate) reports_refused: Count,
    pub(crate) flows_recorded: Count,
    pub(crate) flows_not_understood: Count,
    pub(crate) rows_refused: Count,
    pub(crate) batches: Count,
    pub(crate) batches_failed: Count,
    batch_us: Count,
    pub(crate) questions: Count,
    /// Of the CMDB: whether it is there, and which tokens live.
    pub(crate) checks: Count,
    /// By [`TRUST`].
    mistrusted: [Count; TRUST.len()],
}

/// Codes of those refusals that are about who asks.
const TRUST: [&str; 3] = ["unauthenticated", "forbidden", "address_claimed"];

impl Metrics {
    pub(crate) fn request(&self, status: u16) {
        let class = match status / 100 {
            2 => 0,
            3 => 1,
            5 => 3,
            _ => 2,
        };
        self.requests[class].add(1);
    }

    pub(crate) fn refusal(&self, code: &str) {
        let counts = TRUST.iter().zip(&self.mistrusted);
        counts.filter(|(known, _)| **known == code).for_each(|(_, count)| count.add(1));
    }

    pub(crate) fn batch(&self, took: Duration) {
        self.batches.add(1);
        self.batch_us.add_us(took);
    }

    /// All of them. `ready` is whether the CMDB can be used, `waiting` how many
    /// flows and reports wait to be recorded, `tokens` how many are known,
    /// `unheard` how many lines of the log were dropped.
    pub(crate) fn text(
        &self,
        ready: bool,
        waiting: (usize, usize),
        tokens: usize,
        unheard: u64,
    ) -> String {
        let mut text = Text::new("shawk_");
        text.head("build_info", "gauge", "The version that runs.");
        text.line("build_info", concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1);
        text.one("cmdb_up", "gauge", "Whether the CMDB answers.", u8::from(ready));
        tell_of_process(&mut text);
        text.head("http_requests_total", "counter", "Requests answered, by class of status.");
        for (class, count) in ["2xx", "3xx", "4xx", "5xx"].into_iter().zip(&self.requests) {
            text.line("http_requests_total", &format!("{{status=\"{class}\"}}"), count.get());
        }
        text.head("mistrusted_total", "counter", "Requests refused for who asked, by code.");
        for (code, count) in TRUST.iter().zip(&self.mistrusted) {
            text.line("mistrusted_total", &format!("{{code=\"{code}\"}}"), count.get());
        }
        text.one("tokens", "gauge", "Tokens that live.", tokens);
        let open = self.connections.get().saturating_sub(self.connections_ended.get());
        text.one("connections", "gauge", "Connections open.", open);
        text.head("reports_total", "counter", "Reports received, by what became of them.");
        for (outcome, count) in [
            ("recorded", &self.reports_recorded),
            ("already_recorded", &self.reports_repeated),
            ("refused", &self.reports_refused),
        ] {
            text.line("reports_total", &format!("{{outcome=\"{outcome}\"}}"), count.get());
        }
        for (name, help, count) in [
            ("connections_total", "Connections accepted.", &self.connections),
            (
                "connections_failed_total",
                "Connections closed at a limit, or without TLS as it should be.",
                &self.connections_failed,
            ),
            (
                "strangers_closed_total",
                "Connections closed for others, by which nobody had shown who it is.",
                &self.strangers_closed,
            ),
            ("received_bytes_total", "Bytes of bodies received.", &self.received_bytes),
            ("flows_recorded_total", "Flows recorded.", &self.flows_recorded),
            (
                "flows_not_understood_total",
                "Flows and addresses left out, as they could not be understood.",
                &self.flows_not_understood,
            ),
            ("rows_refused_total", "Rows left out, as the CMDB refused them.", &self.rows_refused),
            ("batches_failed_total", "Batches that the CMDB did not take.", &self.batches_failed),
            (
                "checks_total",
                "Questions to the CMDB for itself and the tokens in it.",
                &self.checks,
            ),
            ("questions_total", "Questions answered.", &self.questions),
        ] {
            text.one(name, "counter", help, count.get());
        }
        text.head("batch_seconds", "summary", "Time to record a batch.");
        text.line("batch_seconds_sum", "", self.batch_us.seconds());
        text.line("batch_seconds_count", "", self.batches.get());
        text.one("queue_flows", "gauge", "Flows that wait.", waiting.0);
        text.one("queue_requests", "gauge", "Requests that wait.", waiting.1);
        let what = "Lines on standard error that nobody read in time.";
        text.one("log_lines_dropped_total", "counter", what, unheard);
        text.into_string()
    }
}
