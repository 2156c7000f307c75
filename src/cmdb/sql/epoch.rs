//! What is known of the runs of probes beside when they were, in the dialect and by
//! the rules of [`crate::cmdb::sql`].

/// The latest moments, or 0, at which a report of an epoch was polled; did not see
/// everything; did not see whose all of it was. What a later report says of the
/// epoch does not undo that.
pub const STEP: &[&str] = &[
    "ALTER TABLE epoch ADD COLUMN polled BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE epoch ADD COLUMN blind BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE epoch ADD COLUMN unowned BIGINT NOT NULL DEFAULT 0",
];

/// `$1` hosts, `$2` the most rows. What ran in the day before each last spoke,
/// and what ran for five seconds at whatever time.
pub const EPOCHS_OF_HOSTS: &str =
    "SELECT e.host, e.epoch, e.since, e.until, e.skew, e.name, e.polled, e.blind, e.unowned
    FROM host h JOIN epoch e ON e.host = h.host
    WHERE h.host = ANY($1::bigint[]) SPREAD(AND e.host = ANY($1::bigint[])) 
    AND (e.until >= h.last_seen - 86400000000 OR e.until - e.since >= 5000000) LIMIT $2";
