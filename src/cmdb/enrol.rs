//! Tokens as rows: makes, lists, ends and revokes them, and says which live.
//! It must not know a flow, nor what a token itself is.
//!
//! Whatever changes a row changes a mark beside the version of the scheme, in
//! the same transaction, to a number that was never there. So a collector that
//! asks for the mark every few moments knows of any change, and reads all that
//! live only then.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::cmdb::engine::{Access, Column, Connection, Row, Value};
use crate::cmdb::fault::{Error, Fault, Trouble};
use crate::cmdb::read::unreadable;
use crate::cmdb::scheme::{self, single};
use crate::cmdb::sql::{self, meta};
use crate::cmdb::text::time;
use crate::cmdb::token::{self, TokenHash, hash_of, hex};
use crate::flow::host::Host;
use crate::recall::{HostKey, Role, TokenRecord};

/// Most tokens that live at once: a collector keeps all of them in memory, at
/// about 100 bytes each.
const MAX_TOKENS: i64 = 100_000;

/// What is to be enrolled.
#[derive(Clone, Debug)]
pub struct Enrolment {
    /// Whose token it is.
    pub name: String,
    /// What it is for; as those of the same name if absent.
    pub role: Option<(Role, Option<String>)>,
    /// How long it lives; without end if absent.
    pub lifetime: Option<Duration>,
    /// How much longer those of the same name live; as before if absent.
    pub grace: Option<Duration>,
}

/// A token that lives, as a collector knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// What it is good for.
    pub role: Role,
    /// The one host that it may report about.
    pub host: Option<HostKey>,
    /// When it ends by itself, in microseconds since 1970.
    pub expires: Option<i64>,
}

/// The tokens that live, by their hashes.
pub type Holders = HashMap<TokenHash, Holder>;

/// What a collector asks again and again.
#[derive(Debug)]
pub struct Pulse {
    /// Changes with every change to a token; 0 before the first.
    pub mark: i64,
    /// Those that live, where the mark is not the one that was known.
    pub holders: Option<Holders>,
}

/// Keeps a token that was made.
pub(crate) async fn enrol(
    connection: &mut Connection,
    hash: &TokenHash,
    enrolment: &Enrolment,
) -> Result<TokenRecord, Trouble> {
    connection.begin(Access::Write).await?;
    let digits = hex(hash);
    let done = async {
        let (role, host) = whose(connection, enrolment).await?;
        if single(connection, meta::COUNT_LIVE_TOKENS).await?.unwrap_or(0) >= MAX_TOKENS {
            let text = format!("{MAX_TOKENS} tokens live already: revoke those of nobody");
            return Err(Fault::Refused(text).into());
        }
        if let Some(grace) = enrolment.grace {
            let grace = Value::Int(microseconds(grace));
            let values = [Value::Text(&enrolment.name), grace, Value::Text(&digits)];
            connection.change(meta::END_TOKENS, &values).await?;
        }
        let text = |text: Option<&str>| Column::Text([text].into_iter().collect());
        let row = [
            text(Some(&digits)),
            text(Some(&enrolment.name)),
            text(Some(role.name())),
            text(host.as_deref()),
            Column::Int(vec![enrolment.lifetime.map(microseconds)]),
        ];
        connection.store(meta::ENROL, &row, &[0]).await?;
        set_mark(connection).await?;
        let made = records(connection, meta::TOKEN, &[Value::Text(&digits)]).await?;
        made.into_iter().next().ok_or_else(|| unreadable("token that was just made"))
    };
    let done = done.await;
    finish(connection, done).await
}

/// Role and host of the new token. A name stands for one of each.
async fn whose(
    connection: &mut Connection,
    enrolment: &Enrolment,
) -> Result<(Role, Option<String>), Trouble> {
    let known = &mut Vec::new();
    let add = &mut |row: &Row<'_>| {
        known.push((role(row.text(0)?)?, row.optional_text(1)?.map(str::to_owned)));
        Ok(())
    };
    connection.read(meta::LIVE_TOKENS_OF, &[Value::Text(&enrolment.name)], add).await?;
    let refused = |text: String| Err(Fault::Refused(text).into());
    match (&enrolment.role, known.first()) {
        (None, None) => refused(format!(
            "no token of '{}' lives: enrol it without --rotate, saying what it is for",
            enrolment.name
        )),
        (None, Some(newest)) => Ok(newest.clone()),
        (Some(wanted), _) => match known.iter().find(|other| *other != wanted) {
            None => Ok(wanted.clone()),
            Some((role, host)) => {
                let host = host.as_ref().map_or(String::new(), |id| format!(" of the host '{id}'"));
                refused(format!(
                    "'{}' has a token to {}{host} already: revoke it first, or take another name",
                    enrolment.name,
                    role.name()
                ))
            }
        },
    }
}

/// Ends tokens at once; how many there were.
pub(crate) async fn revoke(connection: &mut Connection, name_or_id: &str) -> Result<u64, Trouble> {
    connection.begin(Access::Write).await?;
    let done = async {
        let revoked = connection.change(meta::REVOKE_TOKENS, &[Value::Text(name_or_id)]).await?;
        set_mark(connection).await?;
        Ok(revoked)
    };
    let done = done.await;
    finish(connection, done).await
}

/// Forgets those that were over before a moment; how many.
pub(crate) async fn prune(connection: &mut Connection, before: i64) -> Result<u64, Trouble> {
    Ok(connection.change(meta::PRUNE_TOKENS, &[Value::Int(before)]).await?)
}

/// All tokens that are kept.
pub(crate) async fn tokens(connection: &mut Connection) -> Result<Vec<TokenRecord>, Trouble> {
    records(connection, meta::TOKENS, &[Value::Int(10 * MAX_TOKENS)]).await
}

async fn records(
    connection: &mut Connection,
    statement: &'static str,
    values: &[Value<'_>],
) -> Result<Vec<TokenRecord>, Trouble> {
    let mut records = Vec::new();
    let add = &mut |row: &Row<'_>| {
        records.push(TokenRecord {
            id: row.text(0)?.chars().take(token::ID).collect(),
            name: row.text(1)?.to_owned(),
            role: role(row.text(2)?)?,
            host: row.optional_text(3)?.map(str::to_owned),
            created: time(row.int(4)?),
            expires: row.optional_int(5)?.map(time),
            revoked: row.optional_int(6)?.map(time),
        });
        Ok(())
    };
    connection.read(statement, values, add).await?;
    Ok(records)
}

/// Whether the scheme is ours, and the tokens if they are not those of a mark.
pub(crate) async fn pulse(
    connection: &mut Connection,
    known: Option<i64>,
) -> Result<Pulse, Trouble> {
    let mut values = HashMap::new();
    let add = &mut |row: &Row<'_>| {
        values.insert(row.text(0)?.to_owned(), row.int(1)?);
        Ok(())
    };
    connection.read(meta::ALL, &[], add).await?;
    if values.get("version") != Some(&scheme::version_of(sql::STEPS)) {
        let text = "its scheme is no longer the one that it was".to_owned();
        return Err(Fault::Scheme(text).into());
    }
    let mark = values.get(MARK).copied().unwrap_or(0);
    if known == Some(mark) {
        return Ok(Pulse { mark, holders: None });
    }
    let mut holders = Holders::new();
    let add = &mut |row: &Row<'_>| {
        let hash = hash_of(row.text(0)?).ok_or_else(|| unreadable("hash of a token"))?;
        let host = row.optional_text(2)?.map(|id| Host { id: id.to_owned(), name: String::new() });
        let holder = Holder {
            role: role(row.text(1)?)?,
            host: host.map(|host| host.hash()),
            expires: row.optional_int(3)?,
        };
        holders.insert(hash, holder);
        Ok(())
    };
    connection.read(meta::LIVE_TOKENS, &[Value::Int(MAX_TOKENS)], add).await?;
    Ok(Pulse { mark, holders: Some(holders) })
}

/// The name of the mark in `meta`.
const MARK: &str = "tokens";

async fn set_mark(connection: &mut Connection) -> Result<(), Error> {
    // The keys of a map are random: no two changes leave the same mark, also
    // where a copy of the database was restored between them.
    let random = RandomState::new().hash_one(0).cast_signed();
    let row = [
        Column::Text([Some(MARK)].into_iter().collect()),
        Column::Int(vec![Some(if random == 0 { 1 } else { random })]),
    ];
    connection.store(meta::SET, &row, &[0]).await.map(drop)
}

async fn finish<T>(connection: &mut Connection, done: Result<T, Trouble>) -> Result<T, Trouble> {
    connection.run(if done.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
    done
}

fn microseconds(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

fn role(word: &str) -> Result<Role, Trouble> {
    Role::of(word).ok_or_else(|| unreadable("role"))
}
