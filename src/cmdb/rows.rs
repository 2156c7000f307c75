//! Reports → rows. It must not know how they are stored.
//!
//! Rows of several reports are joined here by the rules that the statements
//! apply to stored ones (the larger, the later), because no statement may
//! touch a row twice. They are sorted by key, and the tables stand in one
//! order, `host` first: two writers that meet wait for each other on the
//! first row they share and never in a ring.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::cmdb::engine::{Column, Texts};
use crate::cmdb::sql;
use crate::cmdb::text::{address_bytes, details_text, int, owners_text};
use crate::flow::host::{Coverage, Host, Rung};
use crate::flow::key::{Counters, HostFlow};
use crate::flow::process::Process;
use crate::flow::report::{FlowReport, Report};

/// The rows for one table.
pub(crate) struct Table {
    pub(crate) statement: &'static str,
    pub(crate) name: &'static str,
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: usize,
}

/// The reports' rows, in the order in which tables are written.
pub(crate) fn tables(reports: &[&Report]) -> Result<Vec<Table>, serde_json::Error> {
    let mut rows = Rows::default();
    for report in reports {
        rows.add(report);
    }
    Ok(vec![
        rows.hosts()?,
        rows.epochs(),
        rows.addresses(),
        rows.processes(),
        rows.older_hours(),
        rows.older_spans(),
        rows.flows(),
    ])
}

impl Table {
    /// The host of a row: the first column of every table.
    pub(crate) fn host(&self, row: usize) -> i64 {
        self.int(0, row)
    }

    /// The flow of a row: the second column of those tables that have it.
    pub(crate) fn flow(&self, row: usize) -> i64 {
        self.int(1, row)
    }

    fn int(&self, column: usize, row: usize) -> i64 {
        match self.columns.get(column) {
            Some(Column::Int(values)) => values[row].unwrap_or_default(),
            _ => 0,
        }
    }

    /// The rows that are of other hosts than these.
    pub(crate) fn without(&self, nobody: &HashSet<i64>) -> Vec<usize> {
        (0..self.rows).filter(|&row| !nobody.contains(&self.host(row))).collect()
    }
}

/// Rows of all tables, by key.
#[derive(Default)]
struct Rows<'a> {
    hosts: BTreeMap<i64, HostRow<'a>>,
    epochs: BTreeMap<(i64, i64), EpochRow<'a>>,
    addresses: BTreeMap<(i64, &'a str, [u8; 16], i64), AddressRow>,
    processes: BTreeMap<(i64, i64), &'a Process>,
    flows: BTreeMap<(i64, i64), FlowRow<'a>>,
    /// Spans that are not the latest of their flow.
    spans: BTreeMap<(i64, i64, i64), SpanRow>,
    /// Totals that are not the newest of their flow; by host, flow, epoch and
    /// hour, with the sequence of their report.
    hours: BTreeMap<(i64, i64, i64, i64), (i64, &'a Counters)>,
}

/// Which report a row is of: the newest has the greatest.
type Age = (i64, i64);

struct HostRow<'a> {
    age: Age,
    first_seen: i64,
    last_seen: i64,
    host: &'a Host,
    rung: &'static str,
    coverage: &'a Coverage,
}

struct EpochRow<'a> {
    since: i64,
    until: i64,
    /// The newest report.
    sequence: i64,
    sent: i64,
    name: &'a str,
    /// As [`crate::recall::Dim`], 0 for never.
    polled: i64,
    blind: i64,
    unowned: i64,
}

struct AddressRow {
    epoch: i64,
    ended: Option<i64>,
}

struct FlowRow<'a> {
    age: Age,
    first_seen: i64,
    /// Of the spans that one report has of a flow, the last tells its numbers.
    seen: (i64, i64),
    flow: &'a HostFlow,
    process: Option<i64>,
    /// The owners' processes.
    owners: SmallVec<[i64; 2]>,
    /// The latest span began then.
    since: i64,
    span: SpanRow,
}

#[derive(Clone, Copy)]
struct SpanRow {
    epoch: i64,
    seen: i64,
    ended: bool,
}

impl<'a> Rows<'a> {
    fn add(&mut self, report: &'a Report) {
        let host = report.host.hash();
        let age = (report.epoch, int(report.sequence));
        self.add_host(host, age, report);
        for scoped in &report.addresses {
            let key = (
                host,
                &*scoped.scope,
                address_bytes(scoped.address),
                scoped.since.as_microsecond(),
            );
            let row = self
                .addresses
                .entry(key)
                .or_insert(AddressRow { epoch: report.epoch, ended: None });
            row.epoch = row.epoch.max(report.epoch);
            row.ended = row.ended.max(scoped.ended.map(|ended| ended.as_microsecond()));
        }
        // A process owns many flows, and hashing it is the dearest thing here.
        let mut hashes = HashMap::new();
        let mut hash = |process: &'a Arc<Process>| {
            *hashes.entry(Arc::as_ptr(process)).or_insert_with(|| process.hash())
        };
        for reported in &report.flows {
            let process = reported.flow.key.process.as_ref().map(&mut hash);
            let owners: SmallVec<[i64; 2]> =
                reported.flow.owners.iter().map(|owner| hash(&owner.process)).collect();
            self.add_processes(host, reported, process, &owners);
            self.add_flow(host, age, reported, process, owners);
        }
    }

    fn add_host(&mut self, host: i64, age: Age, report: &'a Report) {
        let (from, until) = (report.from.as_microsecond(), report.until.as_microsecond());
        let new = HostRow {
            age,
            first_seen: from,
            last_seen: until,
            host: &report.host,
            rung: report.rung.name(),
            coverage: &report.coverage,
        };
        let row = match self.hosts.remove(&host) {
            None => new,
            Some(old) => HostRow {
                first_seen: old.first_seen.min(from),
                last_seen: old.last_seen.max(until),
                ..if old.age >= age { old } else { new }
            },
        };
        self.hosts.insert(host, row);
        let new = EpochRow {
            since: from,
            until,
            sequence: age.1,
            sent: report.sent.as_microsecond(),
            name: &report.host.name,
            polled: if report.rung == Rung::Streaming { 0 } else { until },
            blind: if report.coverage.of_flows().unseen().is_some() { until } else { 0 },
            unowned: if report.coverage.unseen().is_some() { until } else { 0 },
        };
        let row = match self.epochs.remove(&(host, report.epoch)) {
            None => new,
            Some(old) => EpochRow {
                since: old.since.min(from),
                until: old.until.max(until),
                polled: old.polled.max(new.polled),
                blind: old.blind.max(new.blind),
                unowned: old.unowned.max(new.unowned),
                ..if old.sequence >= new.sequence { old } else { new }
            },
        };
        self.epochs.insert((host, report.epoch), row);
    }

    fn add_processes(
        &mut self,
        host: i64,
        reported: &'a FlowReport,
        own: Option<i64>,
        owners: &[i64],
    ) {
        let named = own.zip(reported.flow.key.process.as_deref());
        let owning =
            owners.iter().copied().zip(reported.flow.owners.iter().map(|owner| &*owner.process));
        for (key, process) in named.into_iter().chain(owning) {
            self.processes.entry((host, key)).or_insert(process);
        }
    }

    fn add_flow(
        &mut self,
        host: i64,
        age: Age,
        reported: &'a FlowReport,
        process: Option<i64>,
        owners: SmallVec<[i64; 2]>,
    ) {
        let flow = &reported.flow;
        let key = (host, flow.key.hash_with(process));
        let (since, seen) = (reported.since.as_microsecond(), reported.seen.as_microsecond());
        let new = FlowRow {
            age,
            first_seen: since,
            seen: (seen, since),
            flow,
            process,
            owners,
            since,
            span: SpanRow { epoch: age.0, seen, ended: reported.ended },
        };
        let Some(old) = self.flows.remove(&key) else {
            self.flows.insert(key, new);
            return;
        };
        let (since, span) = self.latest_span(key, (old.since, old.span), (new.since, new.span));
        let first_seen = old.first_seen.min(new.first_seen);
        let (newest, other) =
            if (old.age, old.seen) >= (new.age, new.seen) { (old, new) } else { (new, old) };
        // Of one report, the spans before the last have no numbers of their
        // own.
        if newest.age != other.age && newest.hour() != other.hour() {
            let at = other.hour();
            let hour = self.hours.entry((key.0, key.1, at.0, at.1));
            let hour = hour.or_insert((other.age.1, &other.flow.counters));
            if other.age.1 > hour.0 {
                *hour = (other.age.1, &other.flow.counters);
            }
        }
        self.flows.insert(key, FlowRow { first_seen, since, span, ..newest });
    }

    /// Of two spans of a flow, the one that began last; the other one is put
    /// with the older ones.
    fn latest_span(
        &mut self,
        key: (i64, i64),
        one: (i64, SpanRow),
        two: (i64, SpanRow),
    ) -> (i64, SpanRow) {
        if one.0 == two.0 {
            return (one.0, one.1.with(two.1));
        }
        let (older, latest) = if one.0 < two.0 { (one, two) } else { (two, one) };
        self.spans
            .entry((key.0, key.1, older.0))
            .and_modify(|known| *known = known.with(older.1))
            .or_insert(older.1);
        latest
    }
}

impl FlowRow<'_> {
    fn details(&self) -> String {
        let flow = self.flow;
        let owners = owners_text(&flow.owners, &self.owners, self.process);
        details_text(&flow.counters, flow.owners_more, &owners)
    }

    /// Epoch, and hours since 1970, of its numbers.
    fn hour(&self) -> (i64, i64) {
        (self.age.0, self.seen.0 / HOUR)
    }
}

impl SpanRow {
    /// What is known of a span that was told of twice.
    fn with(self, other: SpanRow) -> SpanRow {
        SpanRow {
            epoch: self.epoch.max(other.epoch),
            seen: self.seen.max(other.seen),
            ended: self.ended || other.ended,
        }
    }
}

/// Microseconds.
const HOUR: i64 = 3_600_000_000;

/// A column of numbers, of texts, of addresses, each in the order of the rows.
fn ints(values: impl Iterator<Item = i64>) -> Column {
    Column::Int(values.map(Some).collect())
}

fn optional_ints(values: impl Iterator<Item = Option<i64>>) -> Column {
    Column::Int(values.collect())
}

fn texts(values: impl Iterator<Item = impl AsRef<str>>) -> Column {
    Column::Text(values.map(Some).collect())
}

fn optional_texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> Column {
    Column::Text(values.collect())
}

impl<'a> Rows<'a> {
    fn hosts(&self) -> Result<Table, serde_json::Error> {
        let rows = || self.hosts.values();
        let coverage = rows()
            .map(|row| serde_json::to_string(row.coverage).map(Some))
            .collect::<Result<Texts, _>>()?;
        Ok(Table {
            statement: sql::STORE_HOSTS,
            name: "host",
            rows: self.hosts.len(),
            columns: vec![
                ints(self.hosts.keys().copied()),
                ints(rows().map(|row| row.age.0)),
                ints(rows().map(|row| row.age.1)),
                ints(rows().map(|row| row.first_seen)),
                ints(rows().map(|row| row.last_seen)),
                texts(rows().map(|row| row.host.id.as_str())),
                texts(rows().map(|row| row.host.name.as_str())),
                texts(rows().map(|row| name_key(&row.host.name))),
                texts(rows().map(|row| row.rung)),
                Column::Text(coverage),
            ],
        })
    }

    fn epochs(&self) -> Table {
        let rows = || self.epochs.values();
        Table {
            statement: sql::STORE_EPOCHS,
            name: "epoch",
            rows: self.epochs.len(),
            columns: vec![
                ints(self.epochs.keys().map(|key| key.0)),
                ints(self.epochs.keys().map(|key| key.1)),
                ints(rows().map(|row| row.since)),
                ints(rows().map(|row| row.until)),
                ints(rows().map(|row| row.sequence)),
                ints(rows().map(|row| row.sent)),
                texts(rows().map(|row| row.name)),
                ints(rows().map(|row| row.polled)),
                ints(rows().map(|row| row.blind)),
                ints(rows().map(|row| row.unowned)),
            ],
        }
    }

    fn addresses(&self) -> Table {
        let keys = || self.addresses.keys();
        Table {
            statement: sql::STORE_ADDRESSES,
            name: "address",
            rows: self.addresses.len(),
            columns: vec![
                ints(keys().map(|key| key.0)),
                ints(keys().map(|key| key.3)),
                ints(self.addresses.values().map(|row| row.epoch)),
                optional_ints(self.addresses.values().map(|row| row.ended)),
                texts(keys().map(|key| key.1)),
                Column::Address(keys().map(|key| Some(key.2)).collect()),
            ],
        }
    }

    fn processes(&self) -> Table {
        let rows = || self.processes.values().copied();
        Table {
            statement: sql::STORE_PROCESSES,
            name: "process",
            rows: self.processes.len(),
            columns: vec![
                ints(self.processes.keys().map(|key| key.0)),
                ints(self.processes.keys().map(|key| key.1)),
                texts(rows().map(|process| process.name.as_str())),
                optional_texts(rows().map(|process| process.exe.as_deref())),
                optional_texts(rows().map(|process| process.user.as_deref())),
                optional_texts(rows().map(|process| process.unit.as_deref())),
                optional_texts(rows().map(|process| process.container.as_deref())),
                optional_texts(rows().map(|process| process.pod.as_deref())),
            ],
        }
    }

    fn flows(&self) -> Table {
        // Column by column, so not through the tree each time.
        let flows: Vec<(&(i64, i64), &FlowRow<'_>)> = self.flows.iter().collect();
        let rows = || flows.iter().map(|(_, row)| *row);
        let key = || rows().map(|row| &row.flow.key);
        let counters = || rows().map(|row| &row.flow.counters);
        Table {
            statement: sql::STORE_FLOWS,
            name: "flow",
            rows: flows.len(),
            columns: vec![
                ints(flows.iter().map(|(key, _)| key.0)),
                ints(flows.iter().map(|(key, _)| key.1)),
                ints(rows().map(|row| row.age.0)),
                ints(rows().map(|row| row.age.1)),
                ints(rows().map(|row| row.seen.0)),
                ints(rows().map(|row| row.first_seen)),
                ints(rows().map(|row| row.since)),
                ints(rows().map(|row| row.span.epoch)),
                ints(rows().map(|row| row.span.seen)),
                Column::Small(rows().map(|row| u8::from(row.span.ended)).collect()),
                optional_ints(counters().map(|counters| counters.opened.map(int))),
                optional_ints(counters().map(|counters| counters.failed.map(int))),
                optional_ints(counters().map(|counters| counters.bytes_sent.map(int))),
                optional_ints(counters().map(|counters| counters.bytes_received.map(int))),
                optional_ints(counters().map(|counters| counters.retransmits.map(int))),
                Column::Text(rows().map(|row| Some(row.details())).collect()),
                optional_ints(rows().map(|row| row.process)),
                Column::Port(key().map(|key| key.local_port).collect()),
                Column::Port(key().map(|key| key.peer_port).collect()),
                Column::Small(key().map(|key| key.direction.number()).collect()),
                Column::Small(key().map(|key| key.protocol.number()).collect()),
                Column::Address(key().map(|key| Some(address_bytes(key.local))).collect()),
                Column::Address(key().map(|key| key.peer.map(address_bytes)).collect()),
                texts(key().map(|key| &*key.scope)),
            ],
        }
    }

    fn older_spans(&self) -> Table {
        let rows = || self.spans.values();
        Table {
            statement: sql::STORE_SPANS,
            name: "span",
            rows: self.spans.len(),
            columns: vec![
                ints(self.spans.keys().map(|key| key.0)),
                ints(self.spans.keys().map(|key| key.1)),
                ints(self.spans.keys().map(|key| key.2)),
                ints(rows().map(|row| row.epoch)),
                ints(rows().map(|row| row.seen)),
                Column::Small(rows().map(|row| u8::from(row.ended)).collect()),
            ],
        }
    }

    fn older_hours(&self) -> Table {
        let keys = || self.hours.keys();
        let counters = || self.hours.values().map(|row| row.1);
        Table {
            statement: sql::STORE_HOURS,
            name: "hour",
            rows: self.hours.len(),
            columns: vec![
                ints(keys().map(|key| key.0)),
                ints(keys().map(|key| key.1)),
                ints(keys().map(|key| key.2)),
                ints(keys().map(|key| key.3)),
                ints(self.hours.values().map(|row| row.0)),
                optional_ints(counters().map(|counters| counters.opened.map(int))),
                optional_ints(counters().map(|counters| counters.failed.map(int))),
                optional_ints(counters().map(|counters| counters.bytes_sent.map(int))),
                optional_ints(counters().map(|counters| counters.bytes_received.map(int))),
                optional_ints(counters().map(|counters| counters.retransmits.map(int))),
            ],
        }
    }
}

/// A host's name as it is looked for.
pub(crate) fn name_key(name: &str) -> String {
    name.to_lowercase()
}
