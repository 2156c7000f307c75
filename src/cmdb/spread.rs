//! Spreads the tables over the nodes of a Citus cluster, by host. What is of
//! Citus stands here; it must not know what a row says.
//!
//! Rows of one host live on one node, in one shard of each table, and the
//! shards of one range of hosts stay together. So whatever joins within hosts
//! is done where they are, and what is said of the hosts of one shard is one
//! statement on one node, in a transaction that no other node takes part in.

use std::fmt;

use crate::cmdb::engine::{Access, Connection};
use crate::cmdb::fault::{Fault, fault};
use crate::cmdb::scheme::{LOCK, single};

/// How the tables are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// Tables that were distributed now, with what was in them.
    pub distributed: u32,
    /// Into how many shards each.
    pub shards: i64,
    /// Over how many nodes.
    pub nodes: i64,
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shards, nodes) = (self.shards, self.nodes);
        match self.distributed {
            0 => write!(f, "spread by host in {shards} shards over {nodes} Citus nodes")?,
            tables => write!(
                f,
                "{tables} tables distributed by host in {shards} shards over {nodes} Citus nodes"
            )?,
        }
        Ok(())
    }
}

/// The tables, the one that the others are kept together with first; `meta`,
/// which is no host's, is on every node.
macro_rules! tables {
    () => {
        " FROM unnest(ARRAY['host', 'epoch', 'address', 'process', 'flow', 'span', 'hour', 'meta'])
        WITH ORDINALITY AS t(name, at)
        JOIN pg_catalog.pg_class c ON c.relname = t.name
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'shawk' "
    };
}

/// Whether the database has the extension.
const EXTENSION: &str = "SELECT count(*) FROM pg_catalog.pg_extension WHERE extname = 'citus'";

/// The tables that are not spread; of no tables at all, one.
const LEFT: &str = concat!(
    "SELECT count(*) - count(p.logicalrelid) + CASE WHEN count(*) = 0 THEN 1 ELSE 0 END",
    tables!(),
    "LEFT JOIN pg_catalog.pg_dist_partition p ON p.logicalrelid = c.oid"
);

/// The next table that is not, by its place in the list.
const NEXT: &str = concat!(
    "SELECT t.at",
    tables!(),
    "WHERE NOT EXISTS (SELECT 1 FROM pg_catalog.pg_dist_partition p WHERE p.logicalrelid = c.oid)
    ORDER BY t.at LIMIT 1"
);

/// In how many ways tables are distributed.
const WAYS: &str = concat!(
    "SELECT count(DISTINCT (p.colocationid, p.partmethod, column_to_column_name(p.logicalrelid, p.partkey)))",
    tables!(),
    "JOIN pg_catalog.pg_dist_partition p ON p.logicalrelid = c.oid WHERE t.name <> 'meta'"
);

macro_rules! placements {
    ($count:literal) => {
        concat!(
            "SELECT count(DISTINCT ",
            $count,
            ") FROM pg_catalog.pg_dist_shard s
            JOIN pg_catalog.pg_dist_placement p ON p.shardid = s.shardid
            WHERE s.logicalrelid = 'shawk.host'::regclass"
        )
    };
}

/// Copying what a table already holds to other nodes takes its time.
const TIMEOUT: &str = "SET LOCAL statement_timeout = '1h'";

/// What in a statement is for spread tables alone: `SPREAD(AND …)`. Citus goes
/// to the shards that a list of hosts is in only for those tables of which the
/// list is said. PostgreSQL, without statistics, would take the second saying
/// for a reason to join all with all.
const WORD: &str = "SPREAD(";

/// A statement for tables that are spread, or for those that are not.
pub fn worded(sql: &str, is_spread: bool) -> String {
    let mut worded = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(at) = rest.find(WORD) {
        worded.push_str(&rest[..at]);
        let inner = &rest[at + WORD.len()..];
        let end = closing(inner);
        if is_spread {
            worded.push_str(&inner[..end]);
        }
        rest = inner.get(end + 1..).unwrap_or_default();
    }
    worded.push_str(rest);
    worded
}

/// Where the parenthesis closes that is open at the beginning.
fn closing(text: &str) -> usize {
    let mut open = 1;
    for (at, character) in text.char_indices() {
        match character {
            '(' => open += 1,
            ')' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return at;
        }
    }
    text.len()
}

/// `$1` hosts: the shard that each is in.
pub(crate) const SHARDS: &str =
    "SELECT h.host, pg_catalog.get_shard_id_for_distribution_column('shawk.host', h.host)
    FROM unnest($1::bigint[]) AS h(host)";

/// Whether all tables are spread. Where only some are, because somebody is
/// just about it or was interrupted, all statements work, and slowly.
pub(crate) async fn is_spread(connection: &mut Connection) -> Result<bool, Fault> {
    if !has_citus(connection).await? {
        return Ok(false);
    }
    Ok(single(connection, LEFT).await? == Some(0))
}

/// Distributes the tables that are not, one a transaction: whoever is killed
/// leaves some, and the next distributes the others. None without Citus.
pub(crate) async fn create(connection: &mut Connection) -> Result<Option<Spread>, Fault> {
    if matches!(connection, Connection::Sqlite(_)) || !has_citus(connection).await? {
        return Ok(None);
    }
    let mut distributed = 0;
    while distribute_next(connection).await? {
        distributed += 1;
    }
    if single(connection, WAYS).await? != Some(1) {
        return Err(Fault::Refused(
            "its tables were distributed in another way: call undistribute_table on those in the schema shawk, \
            then run shawk create-scheme"
                .to_owned(),
        ));
    }
    Ok(Some(Spread {
        distributed,
        shards: single(connection, placements!("s.shardid")).await?.unwrap_or(0),
        nodes: single(connection, placements!("p.groupid")).await?.unwrap_or(0),
    }))
}

async fn has_citus(connection: &mut Connection) -> Result<bool, Fault> {
    Ok(single(connection, EXTENSION).await?.unwrap_or(0) > 0)
}

/// Whether there was one left.
async fn distribute_next(connection: &mut Connection) -> Result<bool, Fault> {
    let done = async {
        connection.begin(Access::Write).await.map_err(|e| fault(&e))?;
        connection.run(TIMEOUT).await.map_err(|e| fault(&e))?;
        connection.run(LOCK).await.map_err(|e| fault(&e))?;
        let next = single(connection, NEXT).await?;
        if let Some(statement) = next.and_then(|at| DISTRIBUTE.get(usize::try_from(at - 1).ok()?)) {
            connection.run(statement).await.map_err(|e| fault(&e))?;
        }
        connection.run("COMMIT").await.map_err(|e| fault(&e))?;
        Ok(next.is_some())
    };
    let done = done.await;
    if done.is_err() {
        // The connection may be gone; then there is nothing to undo.
        let _ = connection.run("ROLLBACK").await;
    }
    done
}

/// In the order of the scheme's tables. How many shards is the server's word,
/// `citus.shard_count`.
const DISTRIBUTE: [&str; 8] = [
    "SELECT create_distributed_table('shawk.host', 'host', colocate_with => 'none')",
    "SELECT create_distributed_table('shawk.epoch', 'host', colocate_with => 'shawk.host')",
    "SELECT create_distributed_table('shawk.address', 'host', colocate_with => 'shawk.host')",
    "SELECT create_distributed_table('shawk.process', 'host', colocate_with => 'shawk.host')",
    "SELECT create_distributed_table('shawk.flow', 'host', colocate_with => 'shawk.host')",
    "SELECT create_distributed_table('shawk.span', 'host', colocate_with => 'shawk.host')",
    "SELECT create_distributed_table('shawk.hour', 'host', colocate_with => 'shawk.host')",
    "SELECT create_reference_table('shawk.meta')",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdb::sql;

    #[test]
    fn what_is_for_spread_tables_is_left_out_elsewhere() {
        let sql = "SELECT 1 WHERE a SPREAD(AND b = ANY($1::bigint[])) AND c SPREAD(AND d)";
        assert_eq!(worded(sql, false), "SELECT 1 WHERE a  AND c ");
        assert_eq!(worded(sql, true), "SELECT 1 WHERE a AND b = ANY($1::bigint[]) AND c AND d");
    }

    #[test]
    fn every_table_is_spread() {
        let names = |statement: &str| {
            let mut words = statement.split_whitespace();
            let table = words.next() == Some("CREATE") && words.next() == Some("TABLE");
            table.then(|| words.next().unwrap_or_default().to_owned())
        };
        let made: Vec<String> =
            sql::STEPS.iter().copied().flatten().filter_map(|statement| names(statement)).collect();
        let spread: Vec<&str> = DISTRIBUTE
            .iter()
            .filter_map(|statement| statement.split("'shawk.").nth(1)?.split('\'').next())
            .collect();
        assert_eq!(spread[..spread.len() - 1], made);
        assert_eq!(spread.last(), Some(&"meta"));
        let listed = tables!().split('\'').skip(1).step_by(2).take(spread.len());
        assert_eq!(listed.collect::<Vec<_>>(), spread);
    }
}
