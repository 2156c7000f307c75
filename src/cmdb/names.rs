//! A part of a name → hosts and processes that have it in theirs. It must not
//! know a flow.

use crate::cmdb::engine::{Connection, Row, Value};
use crate::cmdb::fault::Trouble;
use crate::cmdb::rows::name_key;
use crate::cmdb::sql::names::{HOSTS_NAMED, PROCESSES_NAMED};
use crate::recall::Names;

/// Most names of a kind: somebody chooses among them.
const MAX_NAMES: usize = 20;

/// See [`crate::cmdb::Cmdb::names`].
pub(crate) async fn names(connection: &mut Connection, text: &str) -> Result<Names, Trouble> {
    let text = name_key(text);
    // In a pattern these two stand for others.
    let plain = text.replace('!', "!!").replace('%', "!%").replace('_', "!_");
    let (beginning, within) = (format!("{plain}%"), format!("%{plain}%"));
    let values = [
        Value::Text(&text),
        Value::Text(&beginning),
        Value::Text(&within),
        Value::Int(MAX_NAMES as i64 + 1),
    ];
    let host = |row: &Row<'_>| Ok((row.text(0)?.to_owned(), row.text(1)?.to_owned()));
    let mut hosts = connection.fetch(HOSTS_NAMED, &values, host).await?;
    let process =
        |row: &Row<'_>| Ok((row.text(0)?.to_owned(), u64::try_from(row.int(1)?).unwrap_or(0)));
    let mut processes = connection.fetch(PROCESSES_NAMED, &values, process).await?;
    let more = hosts.len() > MAX_NAMES || processes.len() > MAX_NAMES;
    hosts.truncate(MAX_NAMES);
    processes.truncate(MAX_NAMES);
    Ok(Names { hosts, processes, more })
}
