//! What was recorded around some hosts and addresses, in a fixed number of
//! statements however many flows there are. It must not know an edge.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use crate::cmdb::engine::{Connection, Each, Row, Value};
use crate::cmdb::fault::{Error, Fault, Trouble};
use crate::cmdb::identity::oddities;
use crate::cmdb::sql;
use crate::cmdb::text::{
    Owner, address_bytes, address_of, details_of, is_local_only, number, time,
};
use crate::flow::host::Rung;
use crate::flow::key::{Counters, FlowKey, HostFlow};
use crate::flow::process::{Instance, Process};
use crate::flow::socket::{Direction, Protocol};
use crate::recall::{AddressRecord, FlowRecord, HostKey, HostRecord, Records, Span, Window};

/// Most rows that one statement may give: what fits in memory (about 400 bytes
/// each). At it, the question is refused with the remedy; nothing is dropped.
pub(crate) const MAX_ROWS: i64 = 500_000;

/// The window as the statements have it.
pub(crate) fn ends(window: &Window) -> [Value<'static>; 2] {
    let since = window.since.map_or(i64::MIN, |since| since.as_microsecond());
    let until = window.until.map_or(i64::MAX, |until| until.as_microsecond());
    [Value::Int(since), Value::Int(until)]
}

/// Reads rows of a statement that asks for one more than [`MAX_ROWS`].
pub(crate) async fn read(
    connection: &mut Connection,
    statement: &'static str,
    values: &[Value<'_>],
    each: &mut Each<'_>,
) -> Result<(), Trouble> {
    let mut rows = 0;
    let counted = &mut |row: &Row<'_>| {
        rows += 1;
        if rows > MAX_ROWS {
            let text = format!(
                "more than {MAX_ROWS} records in the answer: ask for less, or narrow --since and --until"
            );
            return Err(Fault::Refused(text).into());
        }
        each(row)
    };
    connection.read(statement, values, counted).await
}

/// See [`crate::cmdb::Cmdb::around`].
pub(crate) async fn around(
    connection: &mut Connection,
    hosts: &[HostKey],
    addresses: &[IpAddr],
    window: &Window,
) -> Result<Records, Trouble> {
    let mut reading = Reading::default();
    let [since, until] = ends(window);
    let limit = Value::Int(MAX_ROWS + 1);
    let values = |list: Value<'static>| [since.clone(), until.clone(), list, limit.clone()];

    let own = values(Value::Ints(hosts.to_vec()));
    reading.add_addresses(connection, sql::address::ADDRESSES_OF_HOSTS, &own).await?;
    let theirs = reading.addresses.values().map(|record| record.address);
    let reached: BTreeSet<IpAddr> = theirs
        .chain(addresses.iter().copied())
        .filter(|address| !is_local_only(*address))
        .collect();

    reading.add_flows(connection, sql::FLOWS_OF_HOSTS, &own).await?;
    let peers =
        reading.flows.iter().filter_map(|flow| flow.key.peer).filter(|peer| !is_local_only(*peer));
    let owned: BTreeSet<IpAddr> = peers.chain(reached.iter().copied()).collect();
    let ports: BTreeSet<i64> =
        reading.flows.iter().filter_map(|flow| flow.key.peer_port.map(i64::from)).collect();

    if !reached.is_empty() && !are_all(connection, hosts, window).await? {
        let list = values(Value::Addresses(reached.iter().copied().map(address_bytes).collect()));
        reading.add_flows(connection, sql::FLOWS_TO_ADDRESSES, &list).await?;
    }
    if !owned.is_empty() {
        let list = values(Value::Addresses(owned.iter().copied().map(address_bytes).collect()));
        reading.add_addresses(connection, sql::address::OWNERS_OF_ADDRESSES, &list).await?;
    }
    let asked: BTreeSet<HostKey> = hosts.iter().copied().collect();
    let owners: BTreeSet<HostKey> = reading
        .addresses
        .values()
        .map(|record| record.host)
        .filter(|host| !asked.contains(host))
        .collect();
    if !owners.is_empty() && !ports.is_empty() {
        let [a, b, list, limit] = values(Value::Ints(owners.into_iter().collect()));
        let list = [a, b, list, limit, Value::Ints(ports.into_iter().collect())];
        reading.add_flows(connection, sql::LISTENERS, &list).await?;
    }
    reading.finish(connection, asked).await
}

/// From so many hosts on, a question may be about all of them.
const MANY: usize = 64;

/// Whether these are all hosts that told of anything in the window. Then there
/// is nobody else who could have told of them, and half of the reading is
/// spared.
async fn are_all(
    connection: &mut Connection,
    hosts: &[HostKey],
    window: &Window,
) -> Result<bool, Trouble> {
    if hosts.len() < MANY {
        return Ok(false);
    }
    let [since, until] = ends(window);
    let limit = i64::try_from(hosts.len()).unwrap_or(MAX_ROWS).saturating_add(1);
    let values = [since, until, Value::Int(limit)];
    let all = connection.fetch(sql::HOSTS_IN_WINDOW, &values, |row| row.int(0)).await?;
    let asked: BTreeSet<HostKey> = hosts.iter().copied().collect();
    Ok(all.iter().all(|host| asked.contains(host)))
}

/// What was read so far. The statements' answers overlap.
#[derive(Default)]
struct Reading {
    scopes: HashMap<String, Arc<str>>,
    addresses: BTreeMap<(HostKey, Arc<str>, IpAddr, i64), AddressRecord>,
    flows: Vec<Raw>,
    /// Where each flow stands, by host and flow.
    places: HashMap<(HostKey, i64), usize>,
}

/// A flow whose processes are still keys.
struct Raw {
    host: HostKey,
    flow: i64,
    key: FlowKey,
    process: Option<i64>,
    owners: Vec<Owner>,
    owners_more: u32,
    counters: Counters,
    first_seen: i64,
    /// Each with its epoch; in no order, perhaps twice.
    spans: Vec<(Span, i64)>,
    /// The latest one as it is stored, be it after the window, and its epoch.
    latest: (Span, i64),
}

impl Reading {
    fn scope(&mut self, scope: &str) -> Arc<str> {
        if let Some(known) = self.scopes.get(scope) {
            return known.clone();
        }
        let new: Arc<str> = scope.into();
        self.scopes.insert(scope.to_owned(), new.clone());
        new
    }

    /// From a statement made by `addresses!`.
    async fn add_addresses(
        &mut self,
        connection: &mut Connection,
        statement: &'static str,
        values: &[Value<'_>],
    ) -> Result<(), Trouble> {
        read(connection, statement, values, &mut |row| self.add_address(row)).await
    }

    fn add_address(&mut self, row: &Row<'_>) -> Result<(), Trouble> {
        let (host, since) = (row.int(0)?, row.int(3)?);
        let scope = self.scope(row.text(1)?);
        let address = address(row, 2)?.ok_or_else(|| unreadable("address"))?;
        let record = AddressRecord {
            host,
            scope: scope.clone(),
            address,
            since: time(since),
            until: time(row.int(4)?.max(since)),
        };
        self.addresses.insert((host, scope, address, since), record);
        Ok(())
    }

    /// From a statement made by `flows!`.
    async fn add_flows(
        &mut self,
        connection: &mut Connection,
        statement: &'static str,
        values: &[Value<'_>],
    ) -> Result<(), Trouble> {
        read(connection, statement, values, &mut |row| self.add_flow(row)).await
    }

    fn add_flow(&mut self, row: &Row<'_>) -> Result<(), Trouble> {
        let span = span_at(row, 0)?;
        let id = (row.int(4)?, row.int(5)?);
        if let Some(place) = self.places.get(&id) {
            self.flows[*place].spans.push(span);
            return Ok(());
        }
        let scope = self.scope(row.text(7)?);
        self.places.insert(id, self.flows.len());
        self.flows.push(raw(row, id, scope, span)?);
        Ok(())
    }

    /// Adds the hosts and the processes that were named.
    async fn finish(
        mut self,
        connection: &mut Connection,
        asked: BTreeSet<HostKey>,
    ) -> Result<Records, Trouble> {
        let mut named = asked;
        named.extend(self.flows.iter().map(|raw| raw.host));
        named.extend(self.addresses.keys().map(|key| key.0));
        let (hosts, epochs) = hosts(connection, named).await?;
        let processes = self.processes(connection).await?;
        self.flows.sort_unstable_by_key(|raw| (raw.host, raw.flow));
        let finish = |raw: Raw| {
            let newest = epochs.get(&raw.host).copied();
            raw.finish(newest, &processes)
        };
        let flows = self.flows.into_iter().map(finish).collect();
        Ok(Records { hosts, addresses: self.addresses.into_values().collect(), flows })
    }

    /// A process's key is computed from all that it is, so any host's row of
    /// it will do.
    async fn processes(
        &self,
        connection: &mut Connection,
    ) -> Result<HashMap<i64, Arc<Process>>, Trouble> {
        let mut wanted: BTreeMap<i64, HostKey> = BTreeMap::new();
        for raw in &self.flows {
            let of_owners = raw.owners.iter().filter_map(|owner| owner.process);
            for process in raw.process.into_iter().chain(of_owners) {
                wanted.insert(process, raw.host);
            }
        }
        if wanted.is_empty() {
            return Ok(HashMap::new());
        }
        let pairs =
            [Value::Pairs(wanted.into_iter().map(|(process, host)| (host, process)).collect())];
        let mut processes = HashMap::new();
        let add = &mut |row: &Row<'_>| {
            let text = |column| Ok::<_, Error>(row.optional_text(column)?.map(str::to_owned));
            let process = Process {
                name: row.text(1)?.to_owned(),
                exe: text(2)?,
                user: text(3)?,
                unit: text(4)?,
                container: text(5)?,
                pod: text(6)?,
            };
            processes.insert(row.int(0)?, Arc::new(process));
            Ok(())
        };
        connection.read(sql::PROCESSES, &pairs, add).await?;
        Ok(processes)
    }
}

impl Raw {
    /// `newest` is the host's newest epoch, and when that last spoke: a probe
    /// that started again knows nothing of what the one before it saw, so that
    /// is over, whether or not that one lived to say so, unless it was seen
    /// again.
    fn finish(
        mut self,
        newest: Option<(i64, Timestamp)>,
        processes: &HashMap<i64, Arc<Process>>,
    ) -> FlowRecord {
        let is_cut = |(span, epoch): &(Span, i64)| {
            !span.ended && newest.is_some_and(|(newest, _)| *epoch < newest)
        };
        let as_of_now = |one: (Span, i64)| Span { ended: one.0.ended || is_cut(&one), ..one.0 };
        let mut owners_more = self.owners_more;
        let mut owners = Vec::with_capacity(self.owners.len());
        for owner in &self.owners {
            // An owner whose process was refused when it was stored is one
            // more that cannot be named.
            match owner.process.or(self.process).and_then(|key| processes.get(&key)) {
                Some(process) => owners.push(Instance {
                    process: process.clone(),
                    pid: owner.pid,
                    pgid: owner.pgid,
                    started: time(owner.started),
                }),
                None => owners_more = owners_more.saturating_add(1),
            }
        }
        let process = self.process.and_then(|key| processes.get(&key)).cloned();
        self.spans.sort_unstable_by_key(|(span, _)| span.since);
        self.spans.dedup_by_key(|(span, _)| span.since);
        let mut latest = as_of_now(self.latest);
        if let Some((_, until)) = newest.filter(|(newest, _)| *newest == self.latest.1)
            && !latest.ended
        {
            latest.until = latest.until.max(until);
        }
        let last = self.spans.last();
        let goes_on = last.is_some_and(|last| is_cut(last) && latest.since > last.0.since);
        let mut spans: Vec<Span> = self.spans.into_iter().map(as_of_now).collect();
        if let Some(last) = spans.last_mut().filter(|_| goes_on) {
            last.ended = false;
        }
        FlowRecord {
            host: self.host,
            flow: HostFlow {
                key: FlowKey { process, ..self.key },
                owners,
                owners_more,
                counters: self.counters,
                tentative: false,
            },
            spans,
            first_seen: time(self.first_seen),
            later: goes_on.then_some(latest),
        }
    }
}

fn raw(
    row: &Row<'_>,
    (host, flow): (HostKey, i64),
    scope: Arc<str>,
    span: (Span, i64),
) -> Result<Raw, Trouble> {
    let total = |column| Ok::<_, Error>(row.optional_int(column)?.map(number));
    let port = |column| {
        Ok::<_, Error>(row.optional_int(column)?.and_then(|port| u16::try_from(port).ok()))
    };
    let (counters, owners, owners_more) =
        details_of(row.text(14)?).ok_or_else(|| unreadable("details of a flow"))?;
    Ok(Raw {
        host,
        flow,
        key: FlowKey {
            scope,
            direction: direction(row.int(8)?),
            protocol: protocol(row.int(9)?)?,
            local: address(row, 10)?.ok_or_else(|| unreadable("address"))?,
            local_port: port(11)?,
            peer: address(row, 12)?,
            peer_port: port(13)?,
            process: None,
        },
        process: row.optional_int(6)?,
        owners,
        owners_more,
        counters: Counters {
            opened: total(15)?,
            failed: total(16)?,
            bytes_sent: total(17)?,
            bytes_received: total(18)?,
            retransmits: total(19)?,
            ..counters
        },
        first_seen: row.int(20)?,
        spans: vec![span],
        latest: span_at(row, 21)?,
    })
}

/// A span, of four columns from this one on, and its epoch.
fn span_at(row: &Row<'_>, column: usize) -> Result<(Span, i64), Trouble> {
    let since = row.int(column)?;
    let span = Span {
        since: time(since),
        until: time(row.int(column + 1)?.max(since)),
        ended: row.int(column + 2)? != 0,
    };
    Ok((span, row.int(column + 3)?))
}

/// The hosts, and each one's newest epoch with its last word.
async fn hosts(
    connection: &mut Connection,
    named: BTreeSet<HostKey>,
) -> Result<(Vec<HostRecord>, HashMap<HostKey, (i64, Timestamp)>), Trouble> {
    let mut epochs = HashMap::new();
    if named.is_empty() {
        return Ok((Vec::new(), epochs));
    }
    let mut hosts = Vec::new();
    let named: Vec<HostKey> = named.into_iter().collect();
    let mut oddities = oddities(connection, named.clone()).await?;
    let add = &mut |row: &Row<'_>| {
        let odd = oddities.remove(&row.int(0)?).unwrap_or_default();
        let rung = row.text(3)?;
        epochs.insert(row.int(0)?, (row.int(7)?, time(row.int(6)?)));
        hosts.push(HostRecord {
            key: row.int(0)?,
            id: row.text(1)?.to_owned(),
            name: row.text(2)?.to_owned(),
            rung: Rung::ALL
                .into_iter()
                .find(|known| known.name() == rung)
                .ok_or_else(|| unreadable("rung"))?,
            coverage: serde_json::from_str(row.text(4)?).map_err(|_| unreadable("coverage"))?,
            first_seen: time(row.int(5)?),
            last_seen: time(row.int(6)?),
            rivals: odd.rivals,
            skew: odd.skew,
            watched: odd.watched,
            dim: odd.dim,
        });
        Ok(())
    };
    connection.read(sql::HOSTS, &[Value::Ints(named)], add).await?;
    hosts.sort_by_key(|host| host.key);
    Ok((hosts, epochs))
}

pub(crate) fn address(row: &Row<'_>, column: usize) -> Result<Option<IpAddr>, Trouble> {
    match row.optional_bytes(column)? {
        None => Ok(None),
        Some(bytes) => address_of(bytes).map(Some).ok_or_else(|| unreadable("address")),
    }
}

fn direction(number: i64) -> Direction {
    [Direction::Active, Direction::Passive]
        .into_iter()
        .find(|known| i64::from(known.number()) == number)
        .unwrap_or(Direction::Unknown)
}

fn protocol(number: i64) -> Result<Protocol, Trouble> {
    [Protocol::Tcp, Protocol::Udp]
        .into_iter()
        .find(|known| i64::from(known.number()) == number)
        .ok_or_else(|| unreadable("protocol"))
}

/// A value that no version of this scheme writes.
pub(crate) fn unreadable(what: &str) -> Trouble {
    Fault::Refused(format!(
        "it holds a value that is no {what}: it was not written by shawk, or is damaged"
    ))
    .into()
}
