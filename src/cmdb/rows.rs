//! Reports → rows. It must not know how they are stored.
//!
//! Rows of several reports are joined here by the rules that the statements
//! apply to stored ones (the larger, the later), because no statement may
//! touch a row twice. They are sorted by key, and the tables stand in one
//! order, `host` first: two writers that meet wait for each other on the
//! first row they share and never in a ring.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use crate::cmdb::engine::Column;
use crate::cmdb::sql;
use crate::cmdb::text::{address_bytes, int, owners_text};
use crate::flow::host::{Coverage, Host};
use crate::flow::key::HostFlow;
use crate::flow::process::Process;
use crate::flow::report::{FlowReport, Report};

/// The rows for one table.
pub(crate) struct Table<'a> {
    pub(crate) statement: &'static str,
    pub(crate) name: &'static str,
    pub(crate) columns: Vec<Column<'a>>,
    pub(crate) rows: usize,
}

/// The reports' rows, in the order in which tables are written.
pub(crate) fn tables<'a>(reports: &[&'a Report]) -> Result<Vec<Table<'a>>, serde_json::Error> {
    let mut rows = Rows::default();
    for report in reports {
        rows.add(report);
    }
    Ok(vec![
        rows.hosts()?,
        rows.epochs(),
        rows.addresses(),
        rows.processes(),
        rows.flows(),
        rows.spans(),
    ])
}

impl Table<'_> {
    /// The host of a row: the first column of every table.
    pub(crate) fn host(&self, row: usize) -> i64 {
        match self.columns.first() {
            Some(Column::Int(hosts)) => hosts[row].unwrap_or_default(),
            _ => 0,
        }
    }

    /// The ranges of rows that are of other hosts than these, and how many
    /// rows are not.
    pub(crate) fn without(&self, nobody: &HashSet<i64>) -> (Vec<Range<usize>>, u64) {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        let mut left_out = 0;
        for row in 0..self.rows {
            if nobody.contains(&self.host(row)) {
                left_out += 1;
                continue;
            }
            match ranges.last_mut() {
                Some(range) if range.end == row => range.end += 1,
                _ => ranges.push(row..row + 1),
            }
        }
        (ranges, left_out)
    }
}

/// Rows of all tables, by key.
#[derive(Default)]
struct Rows<'a> {
    hosts: BTreeMap<i64, HostRow<'a>>,
    epochs: BTreeMap<(i64, i64), EpochRow>,
    addresses: BTreeMap<(i64, &'a str, [u8; 16], i64), AddressRow>,
    processes: BTreeMap<(i64, i64), (i64, &'a Process)>,
    flows: BTreeMap<(i64, i64), FlowRow<'a>>,
    spans: BTreeMap<(i64, i64, i64), SpanRow>,
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

struct EpochRow {
    since: i64,
    until: i64,
    sequence: i64,
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
    owners: String,
}

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
            let owners: Vec<i64> =
                reported.flow.owners.iter().map(|owner| hash(&owner.process)).collect();
            self.add_processes(host, report.until.as_microsecond(), reported, process, &owners);
            self.add_flow(host, age, reported, process, &owners);
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
        let epoch = self.epochs.entry((host, report.epoch)).or_insert(EpochRow {
            since: from,
            until,
            sequence: age.1,
        });
        epoch.since = epoch.since.min(from);
        epoch.until = epoch.until.max(until);
        epoch.sequence = epoch.sequence.max(age.1);
    }

    fn add_processes(
        &mut self,
        host: i64,
        seen: i64,
        reported: &'a FlowReport,
        own: Option<i64>,
        owners: &[i64],
    ) {
        let named = own.zip(reported.flow.key.process.as_deref());
        let owning =
            owners.iter().copied().zip(reported.flow.owners.iter().map(|owner| &*owner.process));
        for (key, process) in named.into_iter().chain(owning) {
            let row = self.processes.entry((host, key)).or_insert((seen, process));
            row.0 = row.0.max(seen);
        }
    }

    fn add_flow(
        &mut self,
        host: i64,
        age: Age,
        reported: &'a FlowReport,
        process: Option<i64>,
        owners: &[i64],
    ) {
        let flow = &reported.flow;
        let key = (host, flow.key.hash());
        let (since, seen) = (reported.since.as_microsecond(), reported.seen.as_microsecond());
        let new = FlowRow {
            age,
            first_seen: since,
            seen: (seen, since),
            flow,
            process,
            owners: owners_text(&flow.owners, owners, process),
        };
        let row = match self.flows.remove(&key) {
            None => new,
            Some(old) => FlowRow {
                first_seen: old.first_seen.min(since),
                ..if (old.age, old.seen) >= (age, new.seen) { old } else { new }
            },
        };
        self.flows.insert(key, row);
        let span = self.spans.entry((key.0, key.1, since)).or_insert(SpanRow {
            epoch: age.0,
            seen,
            ended: reported.ended,
        });
        span.epoch = span.epoch.max(age.0);
        span.seen = span.seen.max(seen);
        span.ended |= reported.ended;
    }
}

/// A column of numbers, of texts, of addresses, each in the order of the rows.
fn ints<'a>(values: impl Iterator<Item = i64>) -> Column<'a> {
    Column::Int(values.map(Some).collect())
}

fn optional_ints<'a>(values: impl Iterator<Item = Option<i64>>) -> Column<'a> {
    Column::Int(values.collect())
}

fn texts<'a>(values: impl Iterator<Item = &'a str>) -> Column<'a> {
    Column::Text(values.map(|text| Some(Cow::Borrowed(text))).collect())
}

fn optional_texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> Column<'a> {
    Column::Text(values.map(|text| text.map(Cow::Borrowed)).collect())
}

impl<'a> Rows<'a> {
    fn hosts(&self) -> Result<Table<'a>, serde_json::Error> {
        let rows = || self.hosts.values();
        let coverage = rows()
            .map(|row| serde_json::to_string(row.coverage).map(|json| Some(Cow::Owned(json))))
            .collect::<Result<_, _>>()?;
        let lower = |row: &HostRow<'_>| Some(Cow::Owned(name_key(&row.host.name)));
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
                Column::Text(rows().map(lower).collect()),
                texts(rows().map(|row| row.rung)),
                Column::Text(coverage),
            ],
        })
    }

    fn epochs(&self) -> Table<'a> {
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
            ],
        }
    }

    fn addresses(&self) -> Table<'a> {
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

    fn processes(&self) -> Table<'a> {
        let rows = || self.processes.values().map(|row| row.1);
        Table {
            statement: sql::STORE_PROCESSES,
            name: "process",
            rows: self.processes.len(),
            columns: vec![
                ints(self.processes.keys().map(|key| key.0)),
                ints(self.processes.keys().map(|key| key.1)),
                ints(self.processes.values().map(|row| row.0)),
                texts(rows().map(|process| process.name.as_str())),
                optional_texts(rows().map(|process| process.exe.as_deref())),
                optional_texts(rows().map(|process| process.user.as_deref())),
                optional_texts(rows().map(|process| process.unit.as_deref())),
                optional_texts(rows().map(|process| process.container.as_deref())),
                optional_texts(rows().map(|process| process.pod.as_deref())),
            ],
        }
    }

    fn flows(&self) -> Table<'a> {
        let rows = || self.flows.values();
        let key = || rows().map(|row| &row.flow.key);
        let counters = || rows().map(|row| &row.flow.counters);
        let owners = rows().map(|row| Some(Cow::Owned(row.owners.clone())));
        Table {
            statement: sql::STORE_FLOWS,
            name: "flow",
            rows: self.flows.len(),
            columns: vec![
                ints(self.flows.keys().map(|key| key.0)),
                ints(self.flows.keys().map(|key| key.1)),
                optional_ints(rows().map(|row| row.process)),
                ints(rows().map(|row| row.age.0)),
                ints(rows().map(|row| row.age.1)),
                ints(rows().map(|row| row.first_seen)),
                ints(rows().map(|row| row.seen.0)),
                ints(counters().map(|counters| i64::from(counters.open))),
                ints(counters().map(|counters| i64::from(counters.connecting))),
                optional_ints(counters().map(|counters| counters.opened.map(int))),
                optional_ints(counters().map(|counters| counters.failed.map(int))),
                optional_ints(counters().map(|counters| counters.bytes_sent.map(int))),
                optional_ints(counters().map(|counters| counters.bytes_received.map(int))),
                optional_ints(counters().map(|counters| counters.retransmits.map(int))),
                optional_ints(counters().map(|counters| counters.rtt_us.map(i64::from))),
                ints(rows().map(|row| i64::from(row.flow.owners_more))),
                optional_ints(key().map(|key| key.local_port.map(i64::from))),
                optional_ints(key().map(|key| key.peer_port.map(i64::from))),
                ints(key().map(|key| i64::from(key.direction.number()))),
                ints(key().map(|key| i64::from(key.protocol.number()))),
                Column::Address(key().map(|key| Some(address_bytes(key.local))).collect()),
                Column::Address(key().map(|key| key.peer.map(address_bytes)).collect()),
                texts(key().map(|key| &*key.scope)),
                Column::Text(owners.collect()),
            ],
        }
    }

    fn spans(&self) -> Table<'a> {
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
                ints(rows().map(|row| i64::from(row.ended))),
            ],
        }
    }
}

/// A host's name as it is looked for.
pub(crate) fn name_key(name: &str) -> String {
    name.to_lowercase()
}
