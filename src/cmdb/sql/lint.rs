//! The rules by which the tables can be spread over several machines by host,
//! held over every statement: what joins, joins within one host.

use crate::cmdb::sql;
use crate::cmdb::sql::prune;

const STATEMENTS: [&str; 38] = [
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
    sql::ADDRESSES_OF_HOSTS,
    sql::OWNERS_OF_ADDRESSES,
    sql::HOURS_OF_HOSTS,
    sql::HOSTS,
    sql::EPOCHS_OF_HOSTS,
    sql::PROCESSES,
    sql::HOSTS_BY_NAME,
    sql::HOSTS_BY_ADDRESS,
    sql::PEERS_BY_ADDRESS,
    sql::HOSTS_BY_PROCESS,
    sql::HOSTS_BY_PORT,
    sql::PEERS_BY_PORT,
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
    sql::SET_VERSION,
];

/// What is wrong with a statement.
fn wrong(statement: &str) -> Vec<String> {
    let words: Vec<&str> = statement.split_whitespace().collect();
    let mut wrong = Vec::new();
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
            "CONFLICT" if !rest.starts_with("(host") && !rest.starts_with("(name)") => {
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

#[test]
fn every_statement_stays_within_one_host_or_asks_all() {
    let steps = sql::STEPS.iter().flat_map(|step| step.iter().copied());
    let all: Vec<String> = STATEMENTS.into_iter().chain(steps).flat_map(wrong).collect();
    assert!(all.is_empty(), "{all:#?}");
}

#[test]
fn the_lint_sees_what_it_is_for() {
    for bad in [
        "SELECT 1 FROM flow f JOIN process p ON p.process = f.process WHERE f.host = $1",
        "INSERT INTO flow ROWS ON CONFLICT (flow) DO NOTHING",
        "CREATE TABLE t (a BIGINT PRIMARY KEY, host BIGINT)",
        "DELETE FROM host WHERE NOT EXISTS (SELECT 1 FROM flow f WHERE f.flow = 1)",
        "WITH RECURSIVE w AS (SELECT 1) SELECT 1 FROM w",
    ] {
        assert_eq!(wrong(bad).len(), 1, "{bad}");
    }
}
