//! Every statement and every table, whole, in one dialect: PostgreSQL's, of
//! which [`crate::cmdb::engine`] changes a few words for SQLite.
//!
//! What holds for all of them:
//! - Each table's key (but for [`meta`]) begins with `host`, is computed by the host, and refers
//!   to nothing of another host, so that rows of one host can live together
//!   on any of several machines, and no look-up stands before a write.
//! - Times are microseconds of UTC since 1970. Addresses are the 16 bytes of
//!   IPv6, IPv4 as IPv4-mapped (RFC 4291, 2.5.5.2), so that a network of
//!   either family is a range of bytes. A port that is "many" is NULL.
//! - Every write is a join of two states (the larger, the later, the first):
//!   applying it again, late or in another order changes nothing.
//! - In a read, `$1` and `$2` are the window's ends. A span or an address that
//!   has not ended reaches to the last heartbeat of its epoch; that is why a
//!   heartbeat of a host without change writes two rows, however many flows
//!   it has.
//!
//! - Tables stand in the order in which they are to be joined, the one that a
//!   value was given for first. PostgreSQL is told to keep it: without
//!   statistics, in a fresh CMDB, it would choose worse (17 s instead of 0.1 s
//!   for a host of 10,000 flows).
//!
//! Words that are ours: ROWS (rows to be stored), HOSTS (the hosts of these
//! rows), CMDB_TIME (what the CMDB's clock says), SPREAD(…) (said only where
//! the tables are spread over several nodes, [`crate::cmdb::spread`]), CLUSTERED
//! (rows kept in the order of the primary key, where the engine can), ROOMY (rows that are
//! often changed, so that PostgreSQL should leave room for it beside them and
//! need not touch their indexes), DOUBLE (all of them at once: room for another
//! copy of each). `WITH s(…) AS (ROWS)` stands at the beginning, and all that is
//! asked of `s` in the ON of its one join: SQLite stores one row at a time, for
//! which `s.column` is a placeholder.

pub mod address;
pub mod claim;
pub mod epoch;
#[cfg(test)]
mod lint;
pub mod meta;
pub mod names;
pub mod prune;

/// The steps from nothing to the scheme of this version, in order. A step
/// that has been released is never changed; the scheme's version is the
/// number of steps taken.
pub const STEPS: &[&[&str]] = &[FIRST, meta::STEP, epoch::STEP];

const FIRST: &[&str] = &[
    // Guarded by (epoch, sequence): what the newest report said.
    // name_key is the name in lower case, made by us: the engines disagree on
    // the lower case of anything but ASCII.
    "CREATE TABLE host (
        host BIGINT NOT NULL PRIMARY KEY,
        epoch BIGINT NOT NULL,
        sequence BIGINT NOT NULL,
        first_seen BIGINT NOT NULL,
        last_seen BIGINT NOT NULL,
        id TEXT NOT NULL,
        name TEXT NOT NULL,
        name_key TEXT NOT NULL,
        rung TEXT NOT NULL,
        coverage TEXT NOT NULL
    ) ROOMY",
    "CREATE INDEX host_name ON host (name_key)",
    // name, and skew (the clock of the host less that of the CMDB, when it was
    // told), are of the report with this sequence.
    "CREATE TABLE epoch (
        host BIGINT NOT NULL,
        epoch BIGINT NOT NULL,
        since BIGINT NOT NULL,
        until BIGINT NOT NULL,
        sequence BIGINT NOT NULL,
        skew BIGINT NOT NULL,
        name TEXT NOT NULL,
        PRIMARY KEY (host, epoch)
    ) CLUSTERED ROOMY",
    "CREATE TABLE address (
        host BIGINT NOT NULL,
        since BIGINT NOT NULL,
        epoch BIGINT NOT NULL,
        ended BIGINT,
        scope TEXT NOT NULL,
        address BYTEA NOT NULL,
        PRIMARY KEY (host, scope, address, since)
    ) CLUSTERED",
    "CREATE INDEX address_owner ON address (address)",
    // All columns are what the key was computed from: a row never changes.
    "CREATE TABLE process (
        host BIGINT NOT NULL,
        process BIGINT NOT NULL,
        name TEXT NOT NULL,
        exe TEXT,
        user_name TEXT,
        unit TEXT,
        container TEXT,
        pod TEXT,
        PRIMARY KEY (host, process)
    ) CLUSTERED",
    "CREATE INDEX process_name ON process (name)",
    // A flow with its newest span and its newest numbers, so that a report
    // about a flow that goes on changes one row and no index.
    // epoch, sequence, seen, the numbers and details (what is only ever read
    // together, see text::details): of the newest report that
    // spoke of this flow; totals count from the start of the epoch. since to
    // ended: of the span that began last.
    "CREATE TABLE flow (
        host BIGINT NOT NULL,
        flow BIGINT NOT NULL,
        process BIGINT,
        epoch BIGINT NOT NULL,
        sequence BIGINT NOT NULL,
        seen BIGINT NOT NULL,
        first_seen BIGINT NOT NULL,
        since BIGINT NOT NULL,
        span_epoch BIGINT NOT NULL,
        span_seen BIGINT NOT NULL,
        opened BIGINT,
        failed BIGINT,
        bytes_sent BIGINT,
        bytes_received BIGINT,
        retransmits BIGINT,
        local_port INTEGER,
        peer_port INTEGER,
        direction SMALLINT NOT NULL,
        protocol SMALLINT NOT NULL,
        ended SMALLINT NOT NULL,
        local_address BYTEA NOT NULL,
        peer_address BYTEA,
        scope TEXT NOT NULL,
        details TEXT NOT NULL,
        PRIMARY KEY (host, flow)
    ) CLUSTERED DOUBLE",
    "CREATE INDEX flow_peer ON flow (peer_address, peer_port)",
    // None but the primary keys begins with host: an index that does would be
    // taken for as good as the key by a planner without statistics.
    "CREATE INDEX flow_local_port ON flow (local_port, host) WHERE local_port IS NOT NULL",
    "CREATE INDEX flow_peer_port ON flow (peer_port, host) WHERE peer_port IS NOT NULL",
    // The spans before the one that stands in flow.
    "CREATE TABLE span (
        host BIGINT NOT NULL,
        flow BIGINT NOT NULL,
        since BIGINT NOT NULL,
        epoch BIGINT NOT NULL,
        seen BIGINT NOT NULL,
        ended SMALLINT NOT NULL,
        PRIMARY KEY (host, flow, since)
    ) CLUSTERED",
    // Totals as of the last report of an hour (in hours since 1970), for the
    // hours before the one that stands in flow.
    "CREATE TABLE hour (
        host BIGINT NOT NULL,
        flow BIGINT NOT NULL,
        epoch BIGINT NOT NULL,
        hour BIGINT NOT NULL,
        sequence BIGINT NOT NULL,
        opened BIGINT,
        failed BIGINT,
        bytes_sent BIGINT,
        bytes_received BIGINT,
        retransmits BIGINT,
        PRIMARY KEY (host, flow, epoch, hour)
    ) CLUSTERED",
];

/// Whether a report is newer than what is stored.
macro_rules! newer {
    ($table:literal) => {
        concat!("(excluded.epoch, excluded.sequence) > (", $table, ".epoch, ", $table, ".sequence)")
    };
}

/// Columns that the newest report decides.
macro_rules! newest {
    ($table:literal: $($column:literal)+) => {
        concat!($($column, " = CASE WHEN ", newer!($table), " THEN excluded.", $column,
            " ELSE ", $table, ".", $column, " END, "),+)
    };
}

/// Columns of a span, of which the one that began last decides.
macro_rules! latest_span {
    ($($column:literal)+) => {
        concat!($($column, " = CASE WHEN excluded.since > flow.since THEN excluded.", $column,
            " WHEN excluded.since < flow.since THEN flow.", $column,
            " ELSE GREATEST(excluded.", $column, ", flow.", $column, ") END, "),+)
    };
}

macro_rules! on_span_conflict {
    () => {
        " ON CONFLICT (host, flow, since) DO UPDATE SET
        epoch = GREATEST(excluded.epoch, span.epoch),
        seen = GREATEST(excluded.seen, span.seen),
        ended = GREATEST(excluded.ended, span.ended)
        WHERE excluded.epoch > span.epoch OR excluded.seen > span.seen OR excluded.ended > span.ended"
    };
}

macro_rules! on_hour_conflict {
    () => {
        " ON CONFLICT (host, flow, epoch, hour) DO UPDATE SET
        sequence = excluded.sequence, opened = excluded.opened, failed = excluded.failed,
        bytes_sent = excluded.bytes_sent, bytes_received = excluded.bytes_received,
        retransmits = excluded.retransmits
        WHERE excluded.sequence > hour.sequence"
    };
}

/// Columns: host, epoch, sequence, first_seen, last_seen, id, name, name_key, rung, coverage.
pub const STORE_HOSTS: &str = concat!(
    "INSERT INTO host (host, epoch, sequence, first_seen, last_seen, id, name, name_key, rung, coverage) ROWS
    ON CONFLICT (host) DO UPDATE SET ",
    newest!("host": "epoch" "sequence" "id" "name" "name_key" "rung" "coverage"),
    "first_seen = LEAST(excluded.first_seen, host.first_seen),
    last_seen = GREATEST(excluded.last_seen, host.last_seen)
    WHERE ", newer!("host"), "
    OR excluded.first_seen < host.first_seen OR excluded.last_seen > host.last_seen"
);

/// Columns: host, epoch, since, until, sequence, sent, name, polled, blind, unowned.
pub const STORE_EPOCHS: &str =
    "WITH s(host, epoch, since, until, sequence, sent, name, polled, blind, unowned) AS (ROWS)
    INSERT INTO epoch (host, epoch, since, until, sequence, skew, name, polled, blind, unowned)
    SELECT s.host, s.epoch, s.since, s.until, s.sequence, s.sent - CMDB_TIME, s.name,
        s.polled, s.blind, s.unowned FROM s WHERE s.host = s.host
    ON CONFLICT (host, epoch) DO UPDATE SET
    since = LEAST(excluded.since, epoch.since),
    until = GREATEST(excluded.until, epoch.until),
    skew = CASE WHEN excluded.sequence > epoch.sequence THEN excluded.skew ELSE epoch.skew END,
    name = CASE WHEN excluded.sequence > epoch.sequence THEN excluded.name ELSE epoch.name END,
    sequence = GREATEST(excluded.sequence, epoch.sequence),
    polled = GREATEST(excluded.polled, epoch.polled),
    blind = GREATEST(excluded.blind, epoch.blind),
    unowned = GREATEST(excluded.unowned, epoch.unowned)
    WHERE excluded.since < epoch.since OR excluded.until > epoch.until OR excluded.sequence > epoch.sequence
    OR excluded.polled > epoch.polled OR excluded.blind > epoch.blind OR excluded.unowned > epoch.unowned";

/// Columns: host, since, epoch, ended, scope, address.
pub const STORE_ADDRESSES: &str =
    "INSERT INTO address (host, since, epoch, ended, scope, address) ROWS
    ON CONFLICT (host, scope, address, since) DO UPDATE SET
    epoch = GREATEST(excluded.epoch, address.epoch),
    ended = CASE WHEN address.ended IS NULL OR excluded.ended > address.ended
        THEN excluded.ended ELSE address.ended END
    WHERE excluded.epoch > address.epoch OR excluded.ended > address.ended
    OR (address.ended IS NULL AND excluded.ended IS NOT NULL)";

/// Columns: host, process, name, exe, user_name, unit, container, pod.
pub const STORE_PROCESSES: &str =
    "INSERT INTO process (host, process, name, exe, user_name, unit, container, pod) ROWS
    ON CONFLICT (host, process) DO NOTHING";

/// Columns of rows of flows. The first [`FLOW_CHANGES`] of them are all that
/// a flow which goes on needs.
macro_rules! flow_changes {
    () => {
        "host, flow, epoch, sequence, seen, first_seen, since, span_epoch, span_seen, ended,
        opened, failed, bytes_sent, bytes_received, retransmits, details"
    };
}
macro_rules! flow_columns {
    () => {
        concat!(
            flow_changes!(),
            ", process, local_port, peer_port, direction, protocol, local_address, peer_address, scope"
        )
    };
}

/// How many columns are in `flow_changes!`.
pub const FLOW_CHANGES: usize = 16;

/// The hour of a moment; times are never before 1970.
macro_rules! hour {
    ($table:literal) => {
        concat!("(", $table, ".seen / 3600000000)")
    };
}

/// The flows that are known and go on: the same span, epoch and hour, by a
/// newer report. Where it did not change all, there are the statements below.
/// PostgreSQL does this five times as fast as an upsert.
pub const CONTINUE_FLOWS: &str = concat!(
    "WITH s(", flow_changes!(), ") AS (ROWS)
    UPDATE flow AS f SET sequence = s.sequence, seen = s.seen, span_seen = GREATEST(s.span_seen, f.span_seen),
    ended = GREATEST(s.ended, f.ended), opened = s.opened, failed = s.failed,
    bytes_sent = s.bytes_sent, bytes_received = s.bytes_received, retransmits = s.retransmits, details = s.details
    FROM s WHERE f.host = s.host AND f.flow = s.flow AND f.epoch = s.epoch AND f.span_epoch = s.span_epoch
    AND f.since = s.since AND f.sequence < s.sequence AND f.first_seen <= s.first_seen
    AND ", hour!("f"), " = ", hour!("s"), " SPREAD(AND f.host = ANY(HOSTS))"
);

/// The keys of those flows that are stored already, and whether with all that
/// is to be stored of them.
pub const KNOWN_FLOWS: &str = concat!(
    "WITH s(",
    flow_changes!(),
    ") AS (ROWS)
    SELECT f.host, f.flow, CASE WHEN f.epoch = s.epoch AND f.sequence = s.sequence AND f.seen = s.seen
        AND f.first_seen <= s.first_seen AND f.since = s.since AND f.span_epoch >= s.span_epoch
        AND f.span_seen >= s.span_seen AND f.ended >= s.ended THEN 1 ELSE 0 END
    FROM s JOIN flow f ON f.host = s.host AND f.flow = s.flow SPREAD(AND f.host = ANY(HOSTS))"
);

/// For flows that are not stored. Columns: those of `flow_columns!`.
pub const NEW_FLOWS: &str = concat!("flow (", flow_columns!(), ")");

/// Of stored and new span, the one that began earlier leaves for `span`, or
/// goes there at once. Nobody else writes flows of these hosts meanwhile: the
/// rows of the hosts, which come first, are locked.
pub const LEAVE_SPANS: &str = concat!(
    "WITH s(",
    flow_columns!(),
    ") AS (ROWS)
    INSERT INTO span (host, flow, since, epoch, seen, ended)
    SELECT f.host, f.flow, f.since, f.span_epoch, f.span_seen, f.ended
    FROM s JOIN flow f ON f.host = s.host AND f.flow = s.flow AND f.since < s.since SPREAD(AND f.host = ANY(HOSTS))
    UNION ALL SELECT s.host, s.flow, s.since, s.span_epoch, s.span_seen, s.ended
    FROM s JOIN flow f ON f.host = s.host AND f.flow = s.flow AND f.since > s.since SPREAD(AND f.host = ANY(HOSTS))",
    on_span_conflict!()
);

/// Of stored and new numbers, the older ones leave for `hour` if they are of
/// another hour or epoch, or go there at once.
pub const LEAVE_HOURS: &str = concat!(
    "WITH s(", flow_columns!(), ") AS (ROWS)
    INSERT INTO hour (host, flow, epoch, hour, sequence, opened, failed, bytes_sent, bytes_received, retransmits)
    SELECT f.host, f.flow, f.epoch, ", hour!("f"), ", f.sequence, f.opened, f.failed, f.bytes_sent, f.bytes_received, f.retransmits
    FROM s JOIN flow f ON f.host = s.host AND f.flow = s.flow
    AND (f.epoch, f.sequence) < (s.epoch, s.sequence) AND (f.epoch, ", hour!("f"), ") <> (s.epoch, ", hour!("s"), ") SPREAD(AND f.host = ANY(HOSTS))
    UNION ALL
    SELECT s.host, s.flow, s.epoch, ", hour!("s"), ", s.sequence, s.opened, s.failed, s.bytes_sent, s.bytes_received, s.retransmits
    FROM s JOIN flow f ON f.host = s.host AND f.flow = s.flow
    AND (f.epoch, f.sequence) > (s.epoch, s.sequence) AND (f.epoch, ", hour!("f"), ") <> (s.epoch, ", hour!("s"), ") SPREAD(AND f.host = ANY(HOSTS))",
    on_hour_conflict!()
);

/// Columns: those of `flow_columns!`.
pub const STORE_FLOWS: &str = concat!(
    "INSERT INTO flow (",
    flow_columns!(),
    ") ROWS
    ON CONFLICT (host, flow) DO UPDATE SET ",
    newest!("flow": "epoch" "sequence" "seen" "opened" "failed" "bytes_sent" "bytes_received" "retransmits"
        "details"),
    latest_span!("span_epoch" "span_seen" "ended"),
    "since = GREATEST(excluded.since, flow.since),
    first_seen = LEAST(excluded.first_seen, flow.first_seen)
    WHERE ",
    newer!("flow"),
    " OR excluded.first_seen < flow.first_seen OR excluded.since > flow.since
    OR (excluded.since = flow.since AND (excluded.span_epoch > flow.span_epoch
        OR excluded.span_seen > flow.span_seen OR excluded.ended > flow.ended))"
);

/// Spans that are not the latest of their flows. Columns: host, flow, since,
/// epoch, seen, ended.
pub const STORE_SPANS: &str =
    concat!("INSERT INTO span (host, flow, since, epoch, seen, ended) ROWS", on_span_conflict!());

/// Hours that are not the latest of their flows. Columns: host, flow, epoch,
/// hour, sequence, opened, failed, bytes_sent, bytes_received, retransmits.
pub const STORE_HOURS: &str = concat!(
    "INSERT INTO hour (host, flow, epoch, hour, sequence, opened, failed, bytes_sent, bytes_received, retransmits) ROWS",
    on_hour_conflict!()
);

/// What is read of a flow; the span goes before it.
macro_rules! read_columns {
    () => {
        "f.host, f.flow, f.process, f.scope, f.direction, f.protocol, f.local_address, f.local_port,
        f.peer_address, f.peer_port, f.details, f.opened, f.failed, f.bytes_sent, f.bytes_received,
        f.retransmits, f.first_seen, f.since, f.span_seen, f.ended, f.span_epoch"
    };
}

/// A flow with one of its spans in the window, once for each such span: the
/// latest, which stands beside it, then those before it. Only a flow that was
/// seen before its latest span has any.
macro_rules! flows {
    ($which:literal, $of_epoch:literal, $of_span:literal) => {
        concat!(
            "SELECT f.since, CASE WHEN f.ended = 1 OR e.until < f.span_seen THEN f.span_seen ELSE e.until END,
            f.ended, f.span_epoch, ",
            read_columns!(),
            " FROM flow f JOIN epoch e ON e.host = f.host AND e.epoch = f.span_epoch
            WHERE f.since <= $2 AND (f.span_seen >= $1 OR (f.ended = 0 AND e.until >= $1)) AND ",
            $which,
            $of_epoch,
            " UNION ALL
            SELECT s.since, CASE WHEN s.ended = 1 OR e.until < s.seen THEN s.seen ELSE e.until END,
            s.ended, s.epoch, ",
            read_columns!(),
            " FROM flow f JOIN span s ON s.host = f.host AND s.flow = f.flow
            JOIN epoch e ON e.host = s.host AND e.epoch = s.epoch
            WHERE f.first_seen < f.since AND s.since <= $2
            AND (s.seen >= $1 OR (s.ended = 0 AND e.until >= $1)) AND ",
            $which,
            $of_epoch,
            $of_span,
            " LIMIT $4"
        )
    };
}

/// Flows with a span in the window, each once. The OFFSET keeps PostgreSQL from
/// reading all spans into a hash table first.
macro_rules! of_flows_in_window {
    () => {
        concat!("FROM flow f WHERE ", alive_in_window!())
    };
}

macro_rules! alive_in_window {
    () => {
        "((f.since <= $2 AND (f.span_seen >= $1 OR (f.ended = 0 AND EXISTS (
            SELECT 1 FROM epoch e WHERE e.host = f.host AND e.epoch = f.span_epoch AND e.until >= $1 LIMIT 1 OFFSET 0))))
        OR (f.first_seen < f.since AND EXISTS (
            SELECT 1 FROM span s JOIN epoch e ON e.host = s.host AND e.epoch = s.epoch
            WHERE s.host = f.host AND s.flow = f.flow AND s.since <= $2
            AND (s.seen >= $1 OR (s.ended = 0 AND e.until >= $1)) LIMIT 1 OFFSET 0))) AND "
    };
}

/// `$3` hosts, `$4` the most rows. The list of hosts is said of one table only:
/// said of both, a planner without statistics (a fresh CMDB) joins all flows
/// with all spans of a host.
pub const FLOWS_OF_HOSTS: &str = flows!(
    "f.host = ANY($3::bigint[])",
    " SPREAD(AND e.host = ANY($3::bigint[]))",
    " SPREAD(AND s.host = ANY($3::bigint[]))"
);
/// `$3` addresses, `$4` the most rows.
pub const FLOWS_TO_ADDRESSES: &str = flows!("f.peer_address = ANY($3::bytea[])", "", "");
/// `$3` hosts, `$4` the most rows, `$5` ports.
pub const LISTENERS: &str = flows!(
    "f.host = ANY($3::bigint[]) AND f.local_port = ANY($5::bigint[]) AND f.peer_address IS NULL",
    " SPREAD(AND e.host = ANY($3::bigint[]))",
    " SPREAD(AND s.host = ANY($3::bigint[]))"
);
/// `$1` and `$2` the first and the last hour, `$3` hosts, `$4` the most rows.
/// Of the hours before the first one, only the last of each epoch is given.
pub const HOURS_OF_HOSTS: &str = concat!(
    "SELECT f.host, f.flow, f.first_seen, f.epoch, ",
    hour!("f"),
    ", f.sequence,
    f.opened, f.failed, f.bytes_sent, f.bytes_received, f.retransmits
    FROM flow f WHERE f.host = ANY($3::bigint[])
    UNION ALL
    SELECT f.host, f.flow, f.first_seen, h.epoch, h.hour, h.sequence,
    h.opened, h.failed, h.bytes_sent, h.bytes_received, h.retransmits
    FROM flow f JOIN hour h ON h.host = f.host AND h.flow = f.flow
    WHERE f.host = ANY($3::bigint[]) SPREAD(AND h.host = ANY($3::bigint[])) AND h.hour <= $2
    AND (h.hour >= $1 OR NOT EXISTS (
        SELECT 1 FROM hour n WHERE n.host = h.host AND n.flow = h.flow AND n.epoch = h.epoch
        SPREAD(AND n.host = ANY($3::bigint[])) AND n.hour > h.hour AND n.hour < $1 LIMIT 1 OFFSET 0))
    LIMIT $4"
);

/// `$1` hosts.
pub const HOSTS: &str =
    "SELECT h.host, h.id, h.name, h.rung, h.coverage, h.first_seen, h.last_seen, h.epoch
    FROM host h WHERE h.host = ANY($1::bigint[])";

/// `$1` hosts and `$2` processes, in pairs.
pub const PROCESSES: &str =
    "SELECT p.process, p.name, p.exe, p.user_name, p.unit, p.container, p.pod
    FROM unnest($1::bigint[], $2::bigint[]) AS k(host, other)
    JOIN process p ON p.host = k.host AND p.process = k.other SPREAD(AND p.host = ANY($1::bigint[]))";

/// `$3` the most rows.
pub const HOSTS_IN_WINDOW: &str =
    "SELECT DISTINCT e.host FROM epoch e WHERE e.since <= $2 AND e.until >= $1 LIMIT $3";

/// `$3` the key that the text has if it is a host's id, `$4` the text in lower
/// case.
pub const HOSTS_BY_NAME: &str = "SELECT h.host FROM host h
    WHERE (h.host = $3 OR h.name_key = $4)
    AND EXISTS (SELECT 1 FROM epoch e WHERE e.host = h.host AND e.since <= $2 AND e.until >= $1)";

/// `$3` and `$4` the first and the last address, `$5` the most rows.
pub const PEERS_BY_ADDRESS: &str = concat!(
    "SELECT DISTINCT f.peer_address ",
    of_flows_in_window!(),
    "f.peer_address BETWEEN $3 AND $4 LIMIT $5"
);

/// `$3` the name, `$4` the most rows. A host's flows are few enough to be read
/// for the first one of the process: an index by process would cost each new
/// flow a tenth.
pub const HOSTS_BY_PROCESS: &str = concat!(
    "SELECT DISTINCT p.host FROM process p WHERE p.name = $3 AND EXISTS (
        SELECT 1 FROM flow f WHERE f.host = p.host AND f.process = p.process AND ",
    alive_in_window!(),
    "1 = 1 LIMIT 1 OFFSET 0) LIMIT $4"
);

/// `$3` the port, `$4` the most rows.
pub const HOSTS_BY_PORT: &str =
    concat!("SELECT DISTINCT f.host ", of_flows_in_window!(), "f.local_port = $3 LIMIT $4");

/// `$3` the port, `$4` the most rows.
pub const PEERS_BY_PORT: &str = concat!(
    "SELECT DISTINCT f.host, f.peer_address ",
    of_flows_in_window!(),
    "f.peer_port = $3 AND f.peer_address IS NOT NULL LIMIT $4"
);

/// `$1` hosts and `$2` epochs, in pairs.
pub const LAST_SEQUENCES: &str = "SELECT e.host, e.epoch, e.sequence
    FROM unnest($1::bigint[], $2::bigint[]) AS k(host, other)
    JOIN epoch e ON e.host = k.host AND e.epoch = k.other SPREAD(AND e.host = ANY($1::bigint[]))";
