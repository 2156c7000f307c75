//! What a user named → the hosts and addresses to begin from. It must not
//! know what is read around them.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::cmdb::engine::{Connection, Row, Value};
use crate::cmdb::fault::{Error, Trouble};
use crate::cmdb::read::{MAX_ROWS, ends, read};
use crate::cmdb::rows::name_key;
use crate::cmdb::sql;
use crate::cmdb::text::{address_bytes, address_of, is_local_only, range_of};
use crate::flow::host::Host;
use crate::recall::{Found, Run, Selector, Spot, Window};

/// See [`crate::cmdb::Cmdb::find`].
pub(crate) async fn find(
    connection: &mut Connection,
    selector: &Selector,
    window: &Window,
) -> Result<Found, Trouble> {
    match selector {
        Selector::All | Selector::Label(_) => {
            let [since, until] = ends(window);
            hosts(connection, sql::HOSTS_IN_WINDOW, &[since, until, Value::Int(MAX_ROWS + 1)]).await
        }
        Selector::Address(address) => by_network(connection, &IpNet::from(*address), window).await,
        Selector::Network(network) => by_network(connection, network, window).await,
        Selector::Host(text) => by_host(connection, text, window).await,
        Selector::Process(name) => {
            let [since, until] = ends(window);
            let values = [since, until, Value::Text(name), Value::Int(MAX_ROWS + 1)];
            hosts(connection, sql::HOSTS_BY_PROCESS, &values).await
        }
        Selector::Port(port) => by_port(connection, *port, window).await,
        Selector::Service(Spot::Address(address), _) => {
            by_network(connection, &IpNet::from(*address), window).await
        }
        Selector::Service(Spot::Host(text), _) => by_host(connection, text, window).await,
    }
}

/// See [`crate::cmdb::Cmdb::last_sequences`].
pub(crate) async fn last_sequences(
    connection: &mut Connection,
    runs: &[Run],
) -> Result<HashMap<Run, u64>, Trouble> {
    let values = [Value::Pairs(runs.to_vec())];
    let known = |row: &Row<'_>| Ok(((row.int(0)?, row.int(1)?), row.int(2)?));
    let known = connection.fetch(sql::LAST_SEQUENCES, &values, known).await?;
    let known = known.into_iter().filter_map(|(run, last)| Some((run, u64::try_from(last).ok()?)));
    Ok(known.collect())
}

/// Hosts that had one of the addresses, and those of the addresses that no
/// host had but somebody talked to.
async fn by_network(
    connection: &mut Connection,
    network: &IpNet,
    window: &Window,
) -> Result<Found, Trouble> {
    let (first, last) = range_of(network);
    let [since, until] = ends(window);
    let values = [since, until, Value::Bytes(first), Value::Bytes(last), Value::Int(MAX_ROWS + 1)];
    let mut found = Found::default();
    let mut owned = BTreeSet::new();
    let own = &mut |row: &Row<'_>| {
        if let Some(address) = address(row, 1)?.filter(|address| network.contains(address)) {
            found.hosts.insert(row.int(0)?);
            owned.insert(address);
        }
        Ok(())
    };
    read(connection, sql::address::HOSTS_BY_ADDRESS, &values, own).await?;
    let peer = &mut |row: &Row<'_>| {
        let inside = address(row, 0)?.filter(|address| network.contains(address));
        found.addresses.extend(inside.filter(|address| !owned.contains(address)));
        Ok(())
    };
    read(connection, sql::PEERS_BY_ADDRESS, &values, peer).await?;
    Ok(found)
}

/// Hosts of that name or id; where none spoke in the window, those that are
/// silent, if others told of them.
async fn by_host(
    connection: &mut Connection,
    text: &str,
    window: &Window,
) -> Result<Found, Trouble> {
    let [since, until] = ends(window);
    let key = Host { id: text.to_owned(), name: String::new() }.hash();
    let name = name_key(text);
    let named = |since, until| [since, until, Value::Int(key), Value::Text(&name)];
    let found = hosts(connection, sql::HOSTS_BY_NAME, &named(since.clone(), until.clone())).await?;
    if !found.hosts.is_empty() {
        return Ok(found);
    }
    // One that is silent is known by what others tell of it.
    let [always, ever] = ends(&Window::default());
    let silent = hosts(connection, sql::HOSTS_BY_NAME, &named(always, ever)).await?;
    let told = is_told_of(connection, &silent, [since, until]).await?;
    Ok(if told { silent } else { found })
}

/// Whether anybody told of a flow to an address of these hosts in the window.
async fn is_told_of(
    connection: &mut Connection,
    silent: &Found,
    [since, until]: [Value<'static>; 2],
) -> Result<bool, Trouble> {
    let mut addresses = BTreeSet::new();
    let list = Value::Ints(silent.hosts.iter().copied().collect());
    let values = [since.clone(), until.clone(), list, Value::Int(MAX_ROWS + 1)];
    let add = &mut |row: &Row<'_>| {
        addresses.extend(address(row, 2)?.filter(|address| !is_local_only(*address)));
        Ok(())
    };
    if !silent.hosts.is_empty() {
        read(connection, sql::address::ADDRESSES_OF_HOSTS, &values, add).await?;
    }
    let mut told = false;
    if !addresses.is_empty() {
        let list = Value::Addresses(addresses.into_iter().map(address_bytes).collect());
        let values = [since, until, list, Value::Int(1)];
        let one = &mut |_: &Row<'_>| {
            told = true;
            Ok(())
        };
        read(connection, sql::FLOWS_TO_ADDRESSES, &values, one).await?;
    }
    Ok(told)
}

/// Hosts that offer something at the port, hosts that use it at a peer's, and
/// those peers: their hosts, or their addresses where no host had them.
async fn by_port(
    connection: &mut Connection,
    port: u16,
    window: &Window,
) -> Result<Found, Trouble> {
    let [since, until] = ends(window);
    let values =
        [since.clone(), until.clone(), Value::Int(i64::from(port)), Value::Int(MAX_ROWS + 1)];
    let mut found = hosts(connection, sql::HOSTS_BY_PORT, &values).await?;
    let peer = &mut |row: &Row<'_>| {
        found.hosts.insert(row.int(0)?);
        // One that is of the same host is already found with it.
        found.addresses.extend(address(row, 1)?.filter(|address| !is_local_only(*address)));
        Ok(())
    };
    read(connection, sql::PEERS_BY_PORT, &values, peer).await?;
    if !found.addresses.is_empty() {
        let list = Value::Addresses(found.addresses.iter().copied().map(address_bytes).collect());
        let values = [since, until, list, Value::Int(MAX_ROWS + 1)];
        let owner = &mut |row: &Row<'_>| {
            found.hosts.insert(row.int(0)?);
            if let Some(owned) = address(row, 2)? {
                found.addresses.remove(&owned);
            }
            Ok(())
        };
        read(connection, sql::address::OWNERS_OF_ADDRESSES, &values, owner).await?;
    }
    Ok(found)
}

/// Hosts alone, the first column of a statement.
async fn hosts(
    connection: &mut Connection,
    statement: &'static str,
    values: &[Value<'_>],
) -> Result<Found, Trouble> {
    let mut found = Found::default();
    let host = &mut |row: &Row<'_>| {
        found.hosts.insert(row.int(0)?);
        Ok(())
    };
    read(connection, statement, values, host).await?;
    Ok(found)
}

fn address(row: &Row<'_>, column: usize) -> Result<Option<IpAddr>, Error> {
    Ok(row.optional_bytes(column)?.and_then(address_of))
}
