//! Counts as Prometheus reads them: its text format, version 0.0.4
//! (prometheus.io/docs/instrumenting/exposition_formats).

use std::fmt::{Arguments, Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The media type of a [`Text`].
pub const TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A number that many threads change and that orders nothing between them.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Raises it.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Raises it by the microseconds of a time.
    pub fn add_us(&self, time: Duration) {
        self.add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// Changes it.
    pub fn set(&self, to: u64) {
        self.0.store(to, Ordering::Relaxed);
    }

    /// It, as it is.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Microseconds as seconds.
    pub fn seconds(&self) -> f64 {
        self.get() as f64 / 1e6
    }
}

/// What is written so far.
#[derive(Debug)]
pub struct Text {
    text: String,
    prefix: &'static str,
}

impl Text {
    /// Nothing yet; each name of it will begin so.
    pub fn new(prefix: &'static str) -> Text {
        Text { text: String::new(), prefix }
    }

    /// A metric of one value.
    pub fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        self.line(name, "", value);
    }

    /// What stands before the lines of a metric.
    pub fn head(&mut self, name: &str, kind: &str, help: &str) {
        let prefix = self.prefix;
        self.add(format_args!("# HELP {prefix}{name} {help}\n# TYPE {prefix}{name} {kind}\n"));
    }

    /// A value; `labels` are in braces, and none of them is a stranger's text.
    pub fn line(&mut self, name: &str, labels: &str, value: impl Display) {
        let prefix = self.prefix;
        self.add(format_args!("{prefix}{name}{labels} {value}\n"));
    }

    /// A metric of one value under a name that every exporter has for it.
    pub fn named(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.add(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"));
    }

    /// The text.
    pub fn into_string(self) -> String {
        self.text
    }

    fn add(&mut self, what: Arguments<'_>) {
        self.text.write_fmt(what).unwrap_or_else(|_| unreachable!("a text grows"));
    }
}
