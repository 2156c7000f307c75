//! Which hosts have some addresses now. It must not know why that is asked.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use crate::cmdb::engine::{Connection, Row, Value};
use crate::cmdb::fault::Trouble;
use crate::cmdb::read::{MAX_ROWS, address, read, unreadable};
use crate::cmdb::sql::claim;
use crate::cmdb::text::{address_bytes, time};
use crate::recall::HostKey;

/// A host and an address that it says it has.
pub type Claim = (HostKey, IpAddr);

/// Who has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The host.
    pub host: HostKey,
    /// As it calls itself.
    pub name: String,
    /// What it has.
    pub address: IpAddr,
    /// From when.
    pub since: Timestamp,
}

/// Who has what somebody claims.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    /// Hosts that live and have one of the addresses.
    pub live: Vec<Owner>,
    /// Those claims, of addresses that another has, which are nothing new: the
    /// host had it before and never said that it is gone.
    pub known: HashSet<Claim>,
}

/// See [`crate::cmdb::Cmdb::owners`].
pub(crate) async fn owners(
    connection: &mut Connection,
    claims: &[Claim],
    within: Duration,
) -> Result<Owners, Trouble> {
    let mut owners = Owners::default();
    let within = i64::try_from(within.as_micros()).unwrap_or(i64::MAX);
    let addresses: BTreeSet<IpAddr> = claims.iter().map(|claim| claim.1).collect();
    let limit = Value::Int(MAX_ROWS + 1);
    let values = [list(addresses), Value::Int(within), limit.clone()];
    let add = &mut |row: &Row<'_>| {
        owners.live.push(Owner {
            host: row.int(0)?,
            address: address(row, 1)?.ok_or_else(|| unreadable("address"))?,
            since: time(row.int(2)?),
            name: row.text(3)?.to_owned(),
        });
        Ok(())
    };
    read(connection, claim::LIVE_OWNERS, &values, add).await?;
    let mut having: HashMap<IpAddr, BTreeSet<HostKey>> = HashMap::new();
    for owner in &owners.live {
        having.entry(owner.address).or_default().insert(owner.host);
    }
    let is_anothers = |(host, address): &&Claim| {
        having.get(address).is_some_and(|hosts| hosts.iter().any(|other| other != host))
    };
    let anothers: BTreeSet<Claim> = claims.iter().filter(is_anothers).copied().collect();
    // Hardly ever.
    if !anothers.is_empty() {
        let hosts = anothers.iter().map(|claim| claim.0).collect::<BTreeSet<_>>();
        let hosts = Value::Ints(hosts.into_iter().collect());
        let addresses = list(anothers.into_iter().map(|claim| claim.1).collect());
        let known = &mut |row: &Row<'_>| {
            let address = address(row, 1)?.ok_or_else(|| unreadable("address"))?;
            owners.known.insert((row.int(0)?, address));
            Ok(())
        };
        read(connection, claim::KNOWN_OWNERS, &[hosts, addresses, limit], known).await?;
    }
    Ok(owners)
}

fn list(addresses: BTreeSet<IpAddr>) -> Value<'static> {
    Value::Addresses(addresses.into_iter().map(address_bytes).collect())
}
