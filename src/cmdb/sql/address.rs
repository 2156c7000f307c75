//! Who had which address, in the dialect and by the rules of
//! [`crate::cmdb::sql`].

/// With those that a host had when it fell silent before the window, which no
/// run of its probe began between, and those that the first run after it told
/// of: nobody could say that they were another's in the window.
macro_rules! addresses {
    ($which:literal, $of_epoch:literal, $of_next:literal) => {
        concat!(
            "SELECT a.host, a.scope, a.address, a.since,
            CASE WHEN a.ended IS NOT NULL THEN a.ended WHEN e.until < a.since THEN a.since ELSE e.until END
            FROM address a JOIN epoch e ON e.host = a.host AND e.epoch = a.epoch
            WHERE ((a.since <= $2 AND (a.ended >= $1 OR (a.ended IS NULL AND (e.until >= $1 OR NOT EXISTS (
                SELECT 1 FROM epoch n WHERE n.host = a.host ",
            $of_next,
            "AND n.epoch > a.epoch AND n.since < $1 LIMIT 1 OFFSET 0)))))
            OR (a.since > $2 AND a.epoch > $2 AND NOT EXISTS (
                SELECT 1 FROM epoch n WHERE n.host = a.host ",
            $of_next,
            "AND n.epoch > $2 AND n.epoch < a.epoch LIMIT 1 OFFSET 0))) AND ",
            $which,
            $of_epoch,
            " LIMIT $4"
        )
    };
}

/// `$3` hosts, `$4` the most rows.
pub const ADDRESSES_OF_HOSTS: &str = addresses!(
    "a.host = ANY($3::bigint[])",
    " SPREAD(AND e.host = ANY($3::bigint[]))",
    "SPREAD(AND n.host = ANY($3::bigint[])) "
);
/// `$3` addresses, `$4` the most rows.
pub const OWNERS_OF_ADDRESSES: &str = addresses!("a.address = ANY($3::bytea[])", "", "");

/// `$3` and `$4` the first and the last address, `$5` the most rows.
pub const HOSTS_BY_ADDRESS: &str = "SELECT DISTINCT a.host, a.address
    FROM address a JOIN epoch e ON e.host = a.host AND e.epoch = a.epoch
    WHERE a.since <= $2 AND (a.ended >= $1 OR (a.ended IS NULL AND e.until >= $1))
    AND a.address BETWEEN $3 AND $4 LIMIT $5";
