//! What has a text in its name. `$1` is the text, `$2` a pattern of names that
//! begin with it, `$3` one of names that have it, `$4` the most rows. The text
//! is in lower case; of a process' name the engines make lower case alike only
//! of ASCII.

/// The nearest first.
pub const HOSTS_NAMED: &str = "SELECT h.name, h.id FROM host h
    WHERE h.name_key LIKE $3 ESCAPE '!' OR h.id = $1
    ORDER BY CASE WHEN h.name_key = $1 OR h.id = $1 THEN 0 WHEN h.name_key LIKE $2 ESCAPE '!' THEN 1 ELSE 2 END,
    h.name_key, h.id LIMIT $4";

/// The nearest first, then those that are on most hosts.
pub const PROCESSES_NAMED: &str = "SELECT p.name, COUNT(DISTINCT p.host) FROM process p
    WHERE LOWER(p.name) LIKE $3 ESCAPE '!' GROUP BY p.name
    ORDER BY CASE WHEN LOWER(p.name) = $1 THEN 0 WHEN LOWER(p.name) LIKE $2 ESCAPE '!' THEN 1 ELSE 2 END,
    2 DESC, p.name LIMIT $4";
