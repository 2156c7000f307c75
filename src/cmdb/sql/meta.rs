//! The tables that are no host's, a copy of each on every node where tables
//! are spread: `meta`, which says what the others are, and `token`, who may ask
//! a collector. In the dialect of [`crate::cmdb::sql`].

/// Where the version of the scheme stands. It is written by whatever takes the
/// steps to it, so it is none of them.
pub const CREATE_META: &str =
    "CREATE TABLE IF NOT EXISTS meta (name TEXT NOT NULL PRIMARY KEY, value BIGINT NOT NULL)";
/// Reads the version.
pub const VERSION: &str = "SELECT value FROM meta WHERE name = 'version'";
/// Writes a value.
pub const SET: &str = "INSERT INTO meta (name, value) ROWS
    ON CONFLICT (name) DO UPDATE SET value = excluded.value";
/// Writes a moment that never gets earlier. One that is yet to come, of a clock
/// that was wrong say, counts as now.
pub const RAISE: &str = "INSERT INTO meta (name, value) ROWS
    ON CONFLICT (name) DO UPDATE SET value = GREATEST(excluded.value, LEAST(meta.value, CMDB_TIME))";
/// The moment before which what is over was forgotten; none if nothing ever was.
pub const FORGOTTEN: &str = "SELECT LEAST(value, CMDB_TIME) FROM meta WHERE name = 'forgotten'";
/// What the CMDB's clock says.
pub const NOW: &str = "SELECT CMDB_TIME";
/// All values, by name.
pub const ALL: &str = "SELECT m.name, m.value FROM meta m";

/// The step that makes the tokens' table. When one was last used stands
/// nowhere: that would be a write for each request that now is none, and a host
/// with a token is in `host`, with the moment that it last spoke.
pub const STEP: &[&str] = &["CREATE TABLE token (
        hash TEXT NOT NULL PRIMARY KEY,
        name TEXT NOT NULL,
        role TEXT NOT NULL,
        host_id TEXT,
        created BIGINT NOT NULL,
        expires BIGINT,
        revoked BIGINT
    )"];

/// Columns: hash, name, role, host_id, lifetime in microseconds.
pub const ENROL: &str = "WITH s(hash, name, role, host_id, lifetime) AS (ROWS)
    INSERT INTO token (hash, name, role, host_id, created, expires)
    SELECT s.hash, s.name, s.role, s.host_id, CMDB_TIME, CMDB_TIME + s.lifetime FROM s WHERE s.hash = s.hash
    ON CONFLICT (hash) DO NOTHING";

macro_rules! lives {
    () => {
        "revoked IS NULL AND (expires IS NULL OR expires > CMDB_TIME)"
    };
}

/// `$1` the most rows. All that live, the newest first.
pub const LIVE_TOKENS: &str = concat!(
    "SELECT hash, role, host_id, expires FROM token WHERE ",
    lives!(),
    " ORDER BY created DESC, hash LIMIT $1"
);
/// Those that live.
pub const COUNT_LIVE_TOKENS: &str = concat!("SELECT count(*) FROM token WHERE ", lives!());
/// `$1` the name: role and host of those that live.
pub const LIVE_TOKENS_OF: &str = concat!(
    "SELECT role, host_id FROM token WHERE name = $1 AND ",
    lives!(),
    " ORDER BY created DESC, hash"
);
/// `$1` the most rows.
pub const TOKENS: &str = "SELECT hash, name, role, host_id, created, expires, revoked
    FROM token ORDER BY name, created, hash LIMIT $1";
/// `$1` a hash.
pub const TOKEN: &str = "SELECT hash, name, role, host_id, created, expires, revoked
    FROM token WHERE hash = $1";

/// `$1` a name, `$2` microseconds, `$3` the hash of the one that stays (it is
/// there when this is done again): none of that name lives longer than that.
pub const END_TOKENS: &str = "UPDATE token SET expires = CMDB_TIME + $2
    WHERE name = $1 AND hash <> $3 AND revoked IS NULL AND (expires IS NULL OR expires > CMDB_TIME + $2)";
/// `$1` a name, or the beginning of a hash.
pub const REVOKE_TOKENS: &str = "UPDATE token SET revoked = CMDB_TIME
    WHERE revoked IS NULL AND (name = $1 OR substr(hash, 1, 12) = $1)";
/// `$1` the moment before which all that is over is forgotten.
pub const PRUNE_TOKENS: &str = "DELETE FROM token WHERE revoked < $1 OR expires < $1";
