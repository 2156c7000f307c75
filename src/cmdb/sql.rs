//! Every statement and every table, whole, in one dialect: PostgreSQL's, of
//! which [`crate::cmdb::engine`] changes a few words for SQLite.
//!
//! What holds for all of them:
//! - Each table's key begins with `host`, is computed by the host, and refers
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
//! Words that are ours: ROWS (rows to be stored), CLUSTERED (rows kept in
//! the order of the primary key, where the engine can), ROOMY (rows that are
//! often changed, so that PostgreSQL should leave room for it beside them and
//! need not touch their indexes).

/// The steps from nothing to the scheme of this version, in order. A step
/// that has been released is never changed; the scheme's version is the
/// number of steps taken.
pub const STEPS: &[&[&str]] = &[&[
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
    "CREATE TABLE epoch (
        host BIGINT NOT NULL,
        epoch BIGINT NOT NULL,
        since BIGINT NOT NULL,
        until BIGINT NOT NULL,
        sequence BIGINT NOT NULL,
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
    "CREATE TABLE process (
        host BIGINT NOT NULL,
        process BIGINT NOT NULL,
        seen BIGINT NOT NULL,
        name TEXT NOT NULL,
        exe TEXT,
        user_name TEXT,
        unit TEXT,
        container TEXT,
        pod TEXT,
        PRIMARY KEY (host, process)
    ) CLUSTERED",
    "CREATE INDEX process_name ON process (name)",
    // owners, the numbers and seen are of the report (epoch, sequence), the
    // newest that spoke of this flow; totals count from the start of an epoch.
    "CREATE TABLE flow (
        host BIGINT NOT NULL,
        flow BIGINT NOT NULL,
        process BIGINT,
        epoch BIGINT NOT NULL,
        sequence BIGINT NOT NULL,
        first_seen BIGINT NOT NULL,
        seen BIGINT NOT NULL,
        open BIGINT NOT NULL,
        connecting BIGINT NOT NULL,
        opened BIGINT,
        failed BIGINT,
        bytes_sent BIGINT,
        bytes_received BIGINT,
        retransmits BIGINT,
        rtt_us BIGINT,
        owners_more BIGINT NOT NULL,
        local_port INTEGER,
        peer_port INTEGER,
        direction SMALLINT NOT NULL,
        protocol SMALLINT NOT NULL,
        local_address BYTEA NOT NULL,
        peer_address BYTEA,
        scope TEXT NOT NULL,
        owners TEXT NOT NULL,
        PRIMARY KEY (host, flow)
    ) CLUSTERED ROOMY",
    "CREATE INDEX flow_peer ON flow (peer_address, peer_port)",
    // None but the primary keys begins with host: an index that does would be
    // taken for as good as the key by a planner without statistics.
    "CREATE INDEX flow_process ON flow (process, host)",
    "CREATE INDEX flow_local_port ON flow (local_port, host) WHERE local_port IS NOT NULL",
    "CREATE INDEX flow_peer_port ON flow (peer_port, host) WHERE peer_port IS NOT NULL",
    "CREATE TABLE span (
        host BIGINT NOT NULL,
        flow BIGINT NOT NULL,
        since BIGINT NOT NULL,
        epoch BIGINT NOT NULL,
        seen BIGINT NOT NULL,
        ended SMALLINT NOT NULL,
        PRIMARY KEY (host, flow, since)
    ) CLUSTERED ROOMY",
]];

/// Where the version of the scheme stands. It is written by whatever takes
/// the steps above, so it is none of them.
pub const CREATE_META: &str =
    "CREATE TABLE IF NOT EXISTS meta (name TEXT NOT NULL PRIMARY KEY, value BIGINT NOT NULL)";
/// Reads the version.
pub const VERSION: &str = "SELECT value FROM meta WHERE name = 'version'";
/// Writes the version.
pub const SET_VERSION: &str = "INSERT INTO meta (name, value) ROWS
    ON CONFLICT (name) DO UPDATE SET value = excluded.value";

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

/// Columns: host, epoch, since, until, sequence.
pub const STORE_EPOCHS: &str = "INSERT INTO epoch (host, epoch, since, until, sequence) ROWS
    ON CONFLICT (host, epoch) DO UPDATE SET
    since = LEAST(excluded.since, epoch.since),
    until = GREATEST(excluded.until, epoch.until),
    sequence = GREATEST(excluded.sequence, epoch.sequence)
    WHERE excluded.since < epoch.since OR excluded.until > epoch.until OR excluded.sequence > epoch.sequence";

/// Columns: host, since, epoch, ended, scope, address.
pub const STORE_ADDRESSES: &str =
    "INSERT INTO address (host, since, epoch, ended, scope, address) ROWS
    ON CONFLICT (host, scope, address, since) DO UPDATE SET
    epoch = GREATEST(excluded.epoch, address.epoch),
    ended = CASE WHEN address.ended IS NULL OR excluded.ended > address.ended
        THEN excluded.ended ELSE address.ended END
    WHERE excluded.epoch > address.epoch OR excluded.ended > address.ended
    OR (address.ended IS NULL AND excluded.ended IS NOT NULL)";

/// Columns: host, process, seen, name, exe, user_name, unit, container, pod.
/// All but `seen` are what the key was computed from.
pub const STORE_PROCESSES: &str =
    "INSERT INTO process (host, process, seen, name, exe, user_name, unit, container, pod) ROWS
    ON CONFLICT (host, process) DO UPDATE SET seen = excluded.seen
    WHERE excluded.seen > process.seen";

/// Columns: host, flow, process, epoch, sequence, first_seen, seen, open,
/// connecting, opened, failed, bytes_sent, bytes_received, retransmits, rtt_us,
/// owners_more, local_port, peer_port, direction, protocol, local_address,
/// peer_address, scope, owners.
pub const STORE_FLOWS: &str = concat!(
    "INSERT INTO flow (host, flow, process, epoch, sequence, first_seen, seen, open, connecting, opened, failed,
    bytes_sent, bytes_received, retransmits, rtt_us, owners_more, local_port, peer_port, direction, protocol,
    local_address, peer_address, scope, owners) ROWS
    ON CONFLICT (host, flow) DO UPDATE SET ",
    newest!("flow": "epoch" "sequence" "seen" "open" "connecting" "opened" "failed" "bytes_sent"
        "bytes_received" "retransmits" "rtt_us" "owners_more" "owners"),
    "first_seen = LEAST(excluded.first_seen, flow.first_seen)
    WHERE ", newer!("flow"), " OR excluded.first_seen < flow.first_seen"
);

/// Columns: host, flow, since, epoch, seen, ended.
pub const STORE_SPANS: &str = "INSERT INTO span (host, flow, since, epoch, seen, ended) ROWS
    ON CONFLICT (host, flow, since) DO UPDATE SET
    epoch = GREATEST(excluded.epoch, span.epoch),
    seen = GREATEST(excluded.seen, span.seen),
    ended = GREATEST(excluded.ended, span.ended)
    WHERE excluded.epoch > span.epoch OR excluded.seen > span.seen OR excluded.ended > span.ended";

/// A flow with one of its spans in the window, once for each such span.
macro_rules! flows {
    ($which:literal) => {
        concat!(
            "SELECT f.host, f.flow, s.since,
            CASE WHEN s.ended = 1 OR e.until < s.seen THEN s.seen ELSE e.until END, s.ended,
            f.process, f.scope, f.direction, f.protocol, f.local_address, f.local_port, f.peer_address, f.peer_port,
            f.owners, f.owners_more, f.open, f.connecting, f.opened, f.failed, f.bytes_sent, f.bytes_received,
            f.retransmits, f.rtt_us, f.first_seen, s.epoch ",
            of_flows_in_window!(),
            $which,
            " LIMIT $4"
        )
    };
}

macro_rules! of_flows_in_window {
    () => {
        concat!("FROM flow f ", spans_in_window!())
    };
}

macro_rules! spans_in_window {
    () => {
        "JOIN span s ON s.host = f.host AND s.flow = f.flow
        JOIN epoch e ON e.host = s.host AND e.epoch = s.epoch
        WHERE s.since <= $2 AND (s.seen >= $1 OR (s.ended = 0 AND e.until >= $1)) AND "
    };
}

macro_rules! of_addresses_in_window {
    () => {
        "FROM address a JOIN epoch e ON e.host = a.host AND e.epoch = a.epoch
        WHERE a.since <= $2 AND (a.ended >= $1 OR (a.ended IS NULL AND e.until >= $1)) AND "
    };
}

macro_rules! addresses {
    ($which:literal) => {
        concat!(
            "SELECT a.host, a.scope, a.address, a.since,
            CASE WHEN a.ended IS NOT NULL THEN a.ended WHEN e.until < a.since THEN a.since ELSE e.until END ",
            of_addresses_in_window!(),
            $which,
            " LIMIT $4"
        )
    };
}

/// `$3` hosts, `$4` the most rows. The list of hosts is said of one table only:
/// said of both, a planner without statistics (a fresh CMDB) joins all flows
/// with all spans of a host.
pub const FLOWS_OF_HOSTS: &str = flows!("f.host = ANY($3::bigint[])");
/// `$3` addresses, `$4` the most rows.
pub const FLOWS_TO_ADDRESSES: &str = flows!("f.peer_address = ANY($3::bytea[])");
/// `$3` hosts, `$4` the most rows, `$5` ports.
pub const LISTENERS: &str = flows!(
    "f.host = ANY($3::bigint[]) AND f.local_port = ANY($5::bigint[]) AND f.peer_address IS NULL"
);
/// `$3` hosts, `$4` the most rows.
pub const ADDRESSES_OF_HOSTS: &str = addresses!("a.host = ANY($3::bigint[])");
/// `$3` addresses, `$4` the most rows.
pub const OWNERS_OF_ADDRESSES: &str = addresses!("a.address = ANY($3::bytea[])");

/// `$1` hosts.
pub const HOSTS: &str =
    "SELECT h.host, h.id, h.name, h.rung, h.coverage, h.first_seen, h.last_seen, h.epoch
    FROM host h WHERE h.host = ANY($1::bigint[])";

/// `$1` hosts and `$2` processes, in pairs.
pub const PROCESSES: &str =
    "SELECT p.process, p.name, p.exe, p.user_name, p.unit, p.container, p.pod
    FROM unnest($1::bigint[], $2::bigint[]) AS k(host, process)
    JOIN process p ON p.host = k.host AND p.process = k.process";

/// `$3` the key that the text has if it is a host's id, `$4` the text in lower
/// case.
pub const HOSTS_BY_NAME: &str = "SELECT h.host FROM host h
    WHERE (h.host = $3 OR h.name_key = $4)
    AND EXISTS (SELECT 1 FROM epoch e WHERE e.host = h.host AND e.since <= $2 AND e.until >= $1)";

/// `$3` and `$4` the first and the last address, `$5` the most rows.
pub const HOSTS_BY_ADDRESS: &str = concat!(
    "SELECT DISTINCT a.host, a.address ",
    of_addresses_in_window!(),
    "a.address BETWEEN $3 AND $4 LIMIT $5"
);

/// `$3` and `$4` the first and the last address, `$5` the most rows.
pub const PEERS_BY_ADDRESS: &str = concat!(
    "SELECT DISTINCT f.peer_address ",
    of_flows_in_window!(),
    "f.peer_address BETWEEN $3 AND $4 LIMIT $5"
);

/// `$3` the name, `$4` the most rows.
pub const HOSTS_BY_PROCESS: &str = concat!(
    "SELECT DISTINCT f.host FROM process p JOIN flow f ON f.process = p.process AND f.host = p.host ",
    spans_in_window!(),
    "p.name = $3 LIMIT $4"
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
