//! The statements by which old rows are forgotten, in the dialect and by the
//! rules of [`crate::cmdb::sql`].

/// `$1` the host before, `$2` how many: the next hosts.
pub const NEXT_HOSTS: &str = "SELECT h.host FROM host h WHERE h.host > $1 ORDER BY h.host LIMIT $2";

/// `$1` hosts: locks them as a writer does.
pub const LOCK_HOSTS: &str =
    "SELECT h.host FROM host h WHERE h.host = ANY($1::bigint[]) ORDER BY h.host FOR UPDATE";

/// Whether a span or an address was over before `$1`: it has ended, or its
/// epoch said nothing since.
macro_rules! over {
    ($ended:literal, $at:literal, $epoch:literal) => {
        concat!(
            "(",
            $at,
            " < $1 AND (",
            $ended,
            " OR NOT EXISTS (SELECT 1 FROM epoch e WHERE ",
            $epoch,
            " SPREAD(AND e.host = ANY($2::bigint[])) AND e.until >= $1)))"
        )
    };
}

// In all of these, $1 is the moment before which all is forgotten, $2 hosts.

/// Spans before the latest.
pub const PRUNE_SPANS: &str = concat!(
    "DELETE FROM span WHERE host = ANY($2::bigint[]) AND ",
    over!("span.ended = 1", "span.seen", "e.host = span.host AND e.epoch = span.epoch")
);
/// Flows whose latest span is over.
pub const PRUNE_FLOWS: &str = concat!(
    "DELETE FROM flow WHERE host = ANY($2::bigint[]) AND flow.seen < $1 AND ",
    over!("flow.ended = 1", "flow.span_seen", "e.host = flow.host AND e.epoch = flow.span_epoch")
);
/// What was kept of flows that are forgotten.
pub const PRUNE_SPANS_OF_NONE: &str = "DELETE FROM span WHERE host = ANY($2::bigint[]) AND $1 = $1
    AND NOT EXISTS (SELECT 1 FROM flow f WHERE f.host = span.host AND f.flow = span.flow
        SPREAD(AND f.host = ANY($2::bigint[])))";
/// As above.
pub const PRUNE_HOURS_OF_NONE: &str = "DELETE FROM hour WHERE host = ANY($2::bigint[]) AND $1 = $1
    AND NOT EXISTS (SELECT 1 FROM flow f WHERE f.host = hour.host AND f.flow = hour.flow
        SPREAD(AND f.host = ANY($2::bigint[])))";
/// Hours, but for the last one before of each epoch that goes on after it: the
/// sums of the hours that are kept begin there.
pub const PRUNE_HOURS: &str = "DELETE FROM hour WHERE host = ANY($2::bigint[]) AND hour.hour < $1 / 3600000000
    AND (EXISTS (SELECT 1 FROM hour n WHERE n.host = hour.host AND n.flow = hour.flow AND n.epoch = hour.epoch
            SPREAD(AND n.host = ANY($2::bigint[])) AND n.hour > hour.hour AND n.hour < $1 / 3600000000)
        OR NOT EXISTS (SELECT 1 FROM epoch e WHERE e.host = hour.host AND e.epoch = hour.epoch
            SPREAD(AND e.host = ANY($2::bigint[])) AND e.until >= $1))";
/// Addresses that are gone.
pub const PRUNE_ADDRESSES: &str = concat!(
    "DELETE FROM address WHERE host = ANY($2::bigint[]) AND ",
    over!(
        "address.ended IS NOT NULL",
        "COALESCE(address.ended, address.since)",
        "e.host = address.host AND e.epoch = address.epoch"
    )
);
/// Processes without a flow. An owner of a flow that is another process than
/// the flow's own stands in a text; while the host speaks it is told again.
pub const PRUNE_PROCESSES: &str = "DELETE FROM process WHERE host = ANY($2::bigint[]) AND $1 = $1
    AND NOT EXISTS (SELECT 1 FROM flow f WHERE f.host = process.host
        SPREAD(AND f.host = ANY($2::bigint[])) AND (f.process = process.process OR f.owners LIKE '%:' || process.process || '%'))";
/// Runs of which nothing is left.
pub const PRUNE_EPOCHS: &str =
    "DELETE FROM epoch WHERE host = ANY($2::bigint[]) AND epoch.until < $1
    AND NOT EXISTS (SELECT 1 FROM flow f WHERE f.host = epoch.host AND f.span_epoch = epoch.epoch
        SPREAD(AND f.host = ANY($2::bigint[])))
    AND NOT EXISTS (SELECT 1 FROM span s WHERE s.host = epoch.host AND s.epoch = epoch.epoch
        SPREAD(AND s.host = ANY($2::bigint[])))
    AND NOT EXISTS (SELECT 1 FROM address a WHERE a.host = epoch.host AND a.epoch = epoch.epoch
        SPREAD(AND a.host = ANY($2::bigint[])))";
/// Hosts of which nothing is left.
pub const PRUNE_HOSTS: &str =
    "DELETE FROM host WHERE host = ANY($2::bigint[]) AND host.last_seen < $1
    AND NOT EXISTS (SELECT 1 FROM epoch e WHERE e.host = host.host SPREAD(AND e.host = ANY($2::bigint[])))";
