//! Which hosts have some addresses now. It must not know why that is asked.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use crate::cmdb::engine::{Connection, Row, Value};
use crate::cmdb::fault::Trouble;
use crate::cmdb::read::{MAX_ROWS, address, read, unreadable};
use crate::cmdb::sql;
use crate::cmdb::text::{address_bytes, time};
use crate::recall::HostKey;

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

/// See [`crate::cmdb::Cmdb::owners`].
pub(crate) async fn owners(
    connection: &mut Connection,
    addresses: &[IpAddr],
    within: Duration,
) -> Result<Vec<Owner>, Trouble> {
    let wanted = addresses.iter().copied().map(address_bytes).collect();
    let mut owners = Vec::new();
    let within = i64::try_from(within.as_micros()).unwrap_or(i64::MAX);
    let values = [Value::Addresses(wanted), Value::Int(within), Value::Int(MAX_ROWS + 1)];
    let add = &mut |row: &Row<'_>| {
        owners.push(Owner {
            host: row.int(0)?,
            address: address(row, 1)?.ok_or_else(|| unreadable("address"))?,
            since: time(row.int(2)?),
            name: row.text(3)?.to_owned(),
        });
        Ok(())
    };
    read(connection, sql::LIVE_OWNERS, &values, add).await?;
    Ok(owners)
}
