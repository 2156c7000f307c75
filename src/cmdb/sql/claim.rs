//! The statements by which a claim of an address is held against who has it, in
//! the dialect and by the rules of [`crate::cmdb::sql`].

/// `$1` addresses, `$2` microseconds, `$3` the most rows. Who has them now: who
/// last spoke no longer ago than that, by the CMDB's clock.
pub const LIVE_OWNERS: &str = "SELECT a.host, a.address, a.since, e.name
    FROM address a JOIN epoch e ON e.host = a.host AND e.epoch = a.epoch
    WHERE a.address = ANY($1::bytea[]) AND a.scope = '' AND a.ended IS NULL
    AND e.until - e.skew BETWEEN CMDB_TIME - $2 AND CMDB_TIME + $2 LIMIT $3";

/// `$1` hosts, `$2` addresses, `$3` the most rows: which has which, or had it.
pub const KNOWN_OWNERS: &str =
    "SELECT a.host, a.address FROM address a WHERE a.host = ANY($1::bigint[])
    AND a.scope = '' AND a.address = ANY($2::bytea[]) AND a.ended IS NULL LIMIT $3";
