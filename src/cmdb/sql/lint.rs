//! The rules by which the tables can be spread over several machines by host
//! ([`crate::cmdb::spread`]), held over every statement on any engine: what
//! joins, joins within one host; what is said of a list of hosts is said of
//! every table, so that it goes to their shards alone.

use crate::cmdb::spread::worded;
use crate::cmdb::sql;
use crate::cmdb::sql::{address, claim, epoch, meta, names, prune};

const STATEMENTS: [&str; 58] = [
    sql::STORE_HOSTS,
    sql::STORE_EPOCHS,
    sql::STORE_ADDRESSES,
    sql::STORE_PROCESSES,
    sql::CONTINUE_FLOWS,
    sql::KNOWN_FLOWS,
    sql::LEAVE_SPANS,
    sql::LEAVE_HOURS,
    sql::STORE_FLOWS,
    sql::STORE_SPANS,
    sql::STORE_HOURS,
    sql::FLOWS_OF_HOSTS,
    sql::FLOWS_TO_ADDRESSES,
    sql::LISTENERS,
    address::ADDRESSES_OF_HOSTS,
    address::OWNERS_OF_ADDRESSES,
    claim::LIVE_OWNERS,
    claim::KNOWN_OWNERS,
    sql::HOURS_OF_HOSTS,
    sql::HOSTS,
    epoch::EPOCHS_OF_HOSTS,
    sql::PROCESSES,
    sql::HOSTS_IN_WINDOW,
    sql::HOSTS_BY_NAME,
    address::HOSTS_BY_ADDRESS,
    sql::PEERS_BY_ADDRESS,
    sql::HOSTS_BY_PROCESS,
    sql::HOSTS_BY_PORT,
    sql::PEERS_BY_PORT,
    names::HOSTS_NAMED,
    names::PROCESSES_NAMED,
    prune::NEXT_HOSTS,
    prune::LOCK_HOSTS,
    prune::PRUNE_SPANS,
    prune::PRUNE_FLOWS,
    prune::PRUNE_SPANS_OF_NONE,
    prune::PRUNE_HOURS_OF_NONE,
    prune::PRUNE_HOURS,
    prune::PRUNE_ADDRESSES,
    prune::PRUNE_PROCESSES,
    prune::PRUNE_EPOCHS,
    prune::PRUNE_HOSTS,
    meta::SET,
    meta::RAISE,
    meta::FORGOTTEN,
    meta::NOW,
    meta::VERSION,
    meta::ALL,
    meta::ENROL,
    meta::LIVE_TOKENS,
    meta::COUNT_LIVE_TOKENS,
    meta::LIVE_TOKENS_OF,
    meta::TOKENS,
    meta::TOKEN,
    meta::END_TOKENS,
    meta::REVOKE_TOKENS,
    meta::PRUNE_TOKENS,
    sql::LAST_SEQUENCES,
];

/// Where rows are copied to: a table and its columns.
const COPIED: [&str; 1] = [sql::NEW_FLOWS];

/// Whether it is about the tables that are on every node, and no other.
fn is_of_no_host(statement: &str) -> bool {
    let statement = statement.replace("DO UPDATE SET", "");
    let words: Vec<&str> = statement.split_whitespace().collect();
    let before = ["TABLE", "INTO", "FROM", "UPDATE"];
    let named = words.windows(2).filter(|at| before.contains(&at[0]));
    let named: Vec<&str> = named.map(|at| at[1]).collect();
    named.iter().any(|table| ["token", "meta"].contains(table))
        && named.iter().all(|table| ["token", "meta", "s"].contains(table))
}

/// What is wrong with a statement.
fn wrong(statement: &str) -> Vec<String> {
    let words: Vec<&str> = statement.split_whitespace().collect();
    let mut wrong = Vec::new();
    if is_of_no_host(statement) {
        return wrong;
    }
    for (at, word) in words.iter().enumerate() {
        let rest = words[at + 1..].join(" ");
        let clause = |ends: &[&str]| {
            let end = ends.iter().filter_map(|end| rest.find(end)).min().unwrap_or(rest.len());
            rest[..end].to_owned()
        };
        match *word {
            "JOIN" => {
                let on = clause(&["JOIN ", "WHERE ", "UNION "]);
                if !on.contains(".host = ") {
                    wrong.push(format!("a join beyond one host: {on}"));
                }
            }
            "CONFLICT" if !rest.starts_with("(host") => {
                wrong.push(format!("a conflict on a key without the host: {rest}"));
            }
            "EXISTS" => {
                let inner = clause(&["LIMIT 1", "))"]);
                if !inner.contains(".host = ") {
                    wrong.push(format!("a look elsewhere than at one host: {inner}"));
                }
            }
            "RECURSIVE" | "REFERENCES" | "SERIAL" | "BIGSERIAL" | "UNIQUE" | "TRIGGER" => {
                wrong.push(format!("{word} in {statement}"));
            }
            "TABLE" if words[at - 1] == "CREATE" => {
                let key = statement.contains("PRIMARY KEY (host,")
                    || statement.contains("host BIGINT NOT NULL PRIMARY KEY");
                if !key {
                    wrong.push(format!("a key that does not begin with the host: {statement}"));
                }
            }
            _ => {}
        }
    }
    wrong
}

/// What a write or a list of hosts lacks.
fn lacking(statement: &str) -> Vec<String> {
    let statement = worded(statement, true).split_whitespace().collect::<Vec<_>>().join(" ");
    let mut lacking = Vec::new();
    if is_of_no_host(&statement) {
        return lacking;
    }
    if statement.contains("UPDATE flow AS f") && !statement.contains("f.host = s.host") {
        lacking.push(format!("an update beyond one host: {statement}"));
    }
    if statement.starts_with("DELETE") && !statement.contains(" WHERE host = ANY($2::bigint[])") {
        lacking.push(format!("a deletion that names no hosts: {statement}"));
    }
    let inserts = statement.split("INSERT INTO ").skip(1);
    for insert in inserts {
        if !insert.split_once(" (").is_some_and(|(_, columns)| columns.starts_with("host,")) {
            lacking.push(format!("rows without their host: {statement}"));
        }
    }
    if statement.contains(".host = ANY(") {
        let words: Vec<&str> = statement.split([' ', '(']).collect();
        for at in words.windows(3).filter(|at| matches!(at[0], "FROM" | "JOIN")) {
            let named = TABLES.contains(&at[1]) && at[2].len() == 1;
            if named && !statement.contains(&format!("{}.host = ANY(", at[2])) {
                lacking.push(format!("all shards of {} are asked: {statement}", at[1]));
            }
        }
    }
    lacking
}

const TABLES: [&str; 7] = ["host", "epoch", "address", "process", "flow", "span", "hour"];

/// The names of the constants that a source file makes.
fn constants(source: &str) -> Vec<&str> {
    let lines = source.lines().filter_map(|line| line.strip_prefix("pub const "));
    lines.filter_map(|line| line.split_once(": &str")).map(|(name, _)| name).collect()
}

#[test]
fn no_statement_escapes() {
    let known = include_str!("lint.rs");
    let files = [
        ("sql", include_str!("../sql.rs"), 20),
        ("prune", include_str!("prune.rs"), 10),
        ("meta", include_str!("meta.rs"), 10),
        ("address", include_str!("address.rs"), 2),
        ("claim", include_str!("claim.rs"), 1),
    ];
    for (module, source, least) in files {
        let constants = constants(source);
        assert!(constants.len() > least, "{constants:?}");
        for name in constants.into_iter().filter(|name| *name != "CREATE_META") {
            assert!(known.contains(&format!("{module}::{name}")), "{name} is not looked at");
        }
    }
}

#[test]
fn a_peer_is_looked_up_by_an_index() {
    let mut steps = sql::STEPS.iter().copied().flatten();
    assert!(steps.any(|step| step.starts_with("CREATE INDEX") && step.contains("(peer_address")));
}

#[test]
fn every_statement_stays_within_one_host_or_asks_all() {
    let steps = sql::STEPS.iter().flat_map(|step| step.iter().copied());
    let both = |statement| [wrong(statement), lacking(statement)].concat();
    let copied = COPIED.map(|table| format!("INSERT INTO {table} ROWS"));
    let statements = STATEMENTS.into_iter().chain(copied.iter().map(String::as_str));
    let all: Vec<String> = statements.chain(steps).flat_map(both).collect();
    assert!(all.is_empty(), "{all:#?}");
}

#[test]
fn the_lint_sees_what_it_is_for() {
    for bad in [
        "SELECT 1 FROM flow f JOIN process p ON p.process = f.process WHERE f.host = $1",
        "INSERT INTO flow ROWS ON CONFLICT (flow) DO NOTHING",
        "CREATE TABLE t (a BIGINT PRIMARY KEY, host BIGINT)",
        "DELETE FROM host WHERE NOT EXISTS (SELECT 1 FROM flow f WHERE f.flow = 1)",
        "DELETE FROM token WHERE NOT EXISTS (SELECT 1 FROM flow f WHERE f.flow = 1)",
        "WITH RECURSIVE w AS (SELECT 1) SELECT 1 FROM w",
    ] {
        assert_eq!(wrong(bad).len(), 1, "{bad}");
    }
}

#[test]
fn the_lint_sees_what_is_not_said_of_hosts() {
    for bad in [
        "WITH s(host) AS (ROWS) UPDATE flow AS f SET seen = 1 FROM s WHERE f.flow = s.flow",
        "DELETE FROM span WHERE seen < $1",
        "INSERT INTO flow (flow, host) ROWS",
        "SELECT 1 FROM flow f JOIN epoch e ON e.host = f.host WHERE f.host = ANY($1::bigint[])",
    ] {
        assert_eq!(lacking(bad).len(), 1, "{bad}");
    }
}
