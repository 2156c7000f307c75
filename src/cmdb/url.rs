//! Where a CMDB is: the one setting that names it, checked before anything is
//! opened. It must not know how to connect.
//!
//! A URL may carry a password. It is kept, and shown to nobody: every text
//! made here has `***` in its place, also one that could not be understood.

use std::fmt;
use std::path::{Path, PathBuf};

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::cmdb::token::TokenSource;
use crate::cmdb::url::site::Site;

pub(crate) mod site;

/// An address of a CMDB that was understood.
#[derive(Clone)]
pub struct CmdbUrl {
    place: Place,
    shown: String,
}

#[derive(Clone)]
pub(crate) enum Place {
    /// A SQLite database that lives as long as its one connection.
    Memory,
    /// A SQLite file.
    File(PathBuf),
    /// A PostgreSQL server's database.
    Postgres(Box<PgConnectOptions>),
    /// A collector that has one.
    Remote(Box<Site>),
}

/// Parameters that a PostgreSQL URL may have. Any other one would be ignored
/// by the driver, which is worse than refusing it: `sslmod=verify-full` would
/// connect without the check that was asked for.
const PARAMETERS: [&str; 18] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

const PASSWORD: &str = "password";

/// What to do instead, at the end of each refusal.
const REMEDY: &str = "use sqlite:PATH, postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full or https://COLLECTOR:PORT";

impl CmdbUrl {
    /// Understands `sqlite:PATH`, `sqlite://PATH`, `sqlite::memory:`,
    /// `postgres://…`, `postgresql://…`, `http://…` and `https://…`. The error is one line that names
    /// the value, without its password, and the remedy.
    pub fn parse(text: &str) -> Result<CmdbUrl, String> {
        let shown = masked(text);
        let place = match text.split_once(':') {
            Some(("sqlite", rest)) => sqlite(rest),
            Some(("postgres" | "postgresql", _)) => postgres(text),
            Some(("http" | "https", _)) => site::parse(text).map(|at| Place::Remote(Box::new(at))),
            _ => Err(format!("is not the address of a CMDB: {REMEDY}")),
        };
        match place {
            Ok(place) => Ok(CmdbUrl { place, shown }),
            Err(why) => Err(format!("{shown:?} {why}")),
        }
    }

    /// Whether it is a SQLite database, which creates its own scheme.
    pub fn is_embedded(&self) -> bool {
        matches!(self.place, Place::Memory | Place::File(_))
    }

    /// Whether it is behind a collector, which is asked over HTTP.
    pub fn is_remote(&self) -> bool {
        matches!(self.place, Place::Remote(_))
    }

    /// The same, to be shown a token where it is a collector.
    #[must_use]
    pub fn with_token(mut self, token: Option<TokenSource>) -> CmdbUrl {
        if let Place::Remote(site) = &mut self.place {
            site.token = token;
        }
        self
    }

    /// The file, where it is one.
    pub fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::File(path) => Some(path),
            Place::Memory | Place::Postgres(_) | Place::Remote(_) => None,
        }
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }
}

impl fmt::Display for CmdbUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for CmdbUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CmdbUrl({:?})", self.shown)
    }
}

fn sqlite(rest: &str) -> Result<Place, String> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path == ":memory:" {
        return Ok(Place::Memory);
    }
    if path.is_empty() {
        return Err("names no file: use sqlite:PATH".to_owned());
    }
    // The shell expands a tilde at the beginning of a word only, so one that
    // arrives here was meant and not done; and what follows a question mark is
    // a setting to other programs. Either would make a file of a strange name.
    if path.starts_with('~') {
        return Err("begins with ~, which only a shell expands: write the whole path".to_owned());
    }
    if path.contains('?') {
        return Err("has parameters, which a SQLite CMDB has none of: use sqlite:PATH".to_owned());
    }
    Ok(Place::File(PathBuf::from(path)))
}

fn postgres(text: &str) -> Result<Place, String> {
    if !text.contains("://") {
        return Err(format!("lacks the // after the colon: {REMEDY}"));
    }
    let unclear = || {
        format!(
            "cannot be understood (in a password, @ : / ? # and % must be percent-encoded): {REMEDY}"
        )
    };
    let query = query(text);
    // With an @ in it, this is the rest of a password rather than parameters.
    if query.contains('@') {
        return Err(unclear());
    }
    // Asked before the driver is, which would log an unknown parameter's value.
    let is_known = |key: &str| PARAMETERS.contains(&key) || key.starts_with("options[");
    knows_all(query, is_known, &PARAMETERS)?;
    // The driver's own words are not passed on: they may quote what they could
    // not parse.
    match text.parse::<PgConnectOptions>() {
        Ok(options) => {
            // What the driver reads there, and passes over where it is no mode.
            let mode = std::env::var("PGSSLMODE").ok().and_then(|mode| mode.parse().ok());
            let mode: Option<PgSslMode> = mode;
            let is_chosen = mode.is_some() || query.split('&').any(|pair| is_mode(key_of(pair)));
            let options = if is_chosen { options } else { verified(options) };
            Ok(Place::Postgres(Box::new(options)))
        }
        Err(_) => Err(unclear()),
    }
}

fn is_mode(key: &str) -> bool {
    matches!(key, "sslmode" | "ssl-mode")
}

/// Where nobody says how: the driver would ask another machine for TLS, go on
/// without where it has none, and believe whatever certificate it has.
fn verified(options: PgConnectOptions) -> PgConnectOptions {
    let host = options.get_host().trim_matches(['[', ']']);
    let is_socket = options.get_socket().is_some() || host.starts_with('/');
    if is_socket || site::is_loopback(host) {
        options
    } else {
        options.ssl_mode(PgSslMode::VerifyFull)
    }
}

fn query(text: &str) -> &str {
    let text = text.split('#').next().unwrap_or(text);
    text.split_once('?').map_or("", |(_, query)| query)
}

fn key_of(pair: &str) -> &str {
    pair.split('=').next().unwrap_or(pair)
}

/// Refuses what is no parameter. By its name only where it has one, and no
/// password stands before it: `password=a&b` may be the password `a&b`.
fn knows_all(query: &str, is_known: impl Fn(&str) -> bool, known: &[&str]) -> Result<(), String> {
    let mut after_password = false;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let key = key_of(pair);
        if is_known(key) {
            after_password |= key == PASSWORD;
            continue;
        }
        let what = if after_password || !pair.contains('=') {
            "something in its query that is no parameter (a password's & must be percent-encoded)"
                .to_owned()
        } else {
            format!("an unknown parameter {key:?}")
        };
        return Err(format!("has {what}: known are {}", known.join(", ")));
    }
    Ok(())
}

/// The text without what may be a password: all from the first colon after
/// the scheme to the last `@` (a password that was not percent-encoded may
/// hold any character), a "port" that is no number, the value of every
/// parameter that is not known to be harmless, and all but the known ones
/// behind a password.
fn masked(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None if text.starts_with("sqlite:") => return masked_file(text),
        None => (String::new(), text),
    };
    if scheme == "sqlite://" {
        return masked_file(text);
    }
    let (before, after) = match rest.rsplit_once('@') {
        Some((user, after)) => (Some(user), after),
        None => (None, rest),
    };
    // The @ is one of a parameter, which may be a password to the end.
    if before.is_some_and(|before| before.contains(['?', '#'])) {
        return format!("{scheme}***");
    }
    // A collector knows no users, so what stands there may well be a token.
    let known_users = !scheme.starts_with("http");
    let before = before.map(|user| if known_users { user } else { "***" });
    let user = match before.map(|user| user.split_once(':')) {
        Some(Some((name, _))) => format!("{name}:***@"),
        Some(None) => format!("{}@", before.unwrap_or_default()),
        None => String::new(),
    };
    let (place, query) = match after.split_once(['?', '#']) {
        Some((place, query)) => (place, Some(query)),
        None => (after, None),
    };
    let query = query.map_or(String::new(), |query| format!("?{}", masked_query(query)));
    format!("{scheme}{user}{}{query}", masked_port(place))
}

/// A file has no parameters; what was written as one may be a secret.
fn masked_file(text: &str) -> String {
    match text.split_once('?') {
        Some((path, query)) => format!("{path}?{}", masked_query(query)),
        None => text.to_owned(),
    }
}

fn masked_port(place: &str) -> String {
    let authority = place.split('/').next().unwrap_or(place);
    let after_host = authority.rfind(']').unwrap_or(0);
    let Some(colon) = authority[after_host..].find(':').map(|at| at + after_host) else {
        return place.to_owned();
    };
    let port = &authority[colon + 1..];
    if port.bytes().all(|byte| byte.is_ascii_digit()) {
        place.to_owned()
    } else {
        format!("{}:***", &authority[..colon])
    }
}

fn masked_query(query: &str) -> String {
    let mut after_password = false;
    let shown = |pair: &str| match key_of(pair) {
        key @ (PASSWORD | "options") => {
            after_password |= key == PASSWORD;
            format!("{key}=***")
        }
        key if PARAMETERS.contains(&key) || site::is_parameter(key) => pair.to_owned(),
        key if pair.contains('=') && !after_password => format!("{key}=***"),
        _ => "***".to_owned(),
    };
    // A second question mark was meant as an ampersand.
    query.split(['&', '?']).map(shown).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn the_three_forms_of_a_file_are_one() {
        for (text, path) in [
            ("sqlite:a/b.db", "a/b.db"),
            ("sqlite://a/b.db", "a/b.db"),
            ("sqlite:///a/b.db", "/a/b.db"),
        ] {
            let url = CmdbUrl::parse(text).unwrap();
            assert!(matches!(url.place(), Place::File(file) if file == Path::new(path)), "{text}");
            assert!(url.is_embedded());
        }
        assert!(matches!(CmdbUrl::parse("sqlite::memory:").unwrap().place(), Place::Memory));
    }

    /// Another machine's PostgreSQL is who its certificate says, unless less was
    /// chosen. (The environment of these tests says nothing of it.)
    #[test]
    fn another_machine_is_verified_unless_less_was_chosen() {
        for (text, mode) in [
            ("postgres://db/x", "VerifyFull"),
            ("postgres://shawk:pw@10.214.5.1:55433/x?application_name=y", "VerifyFull"),
            ("postgres://[2001:db8::1]/x", "VerifyFull"),
            ("postgres://localhost/x?host=db", "VerifyFull"),
            ("postgres://localhost/x?hostaddr=10.0.0.1", "VerifyFull"),
            ("postgres://localhost.example/x", "VerifyFull"),
            ("postgres://db/x?sslmode=prefer", "Prefer"),
            ("postgres://db/x?ssl-mode=disable", "Disable"),
            ("postgres://db/x?user=y&sslmode=require", "Require"),
            ("postgres://localhost/x", "Prefer"),
            ("postgres://127.8.8.8:1/x", "Prefer"),
            ("postgres://[::1]/x", "Prefer"),
            ("postgres:///x?host=/run/postgresql", "Prefer"),
            ("postgres://%2Frun%2Fpostgresql/x", "Prefer"),
            ("postgres://db/x?host=/run/postgresql", "Prefer"),
        ] {
            let url = CmdbUrl::parse(text).unwrap();
            let Place::Postgres(options) = url.place() else { panic!("{text}") };
            assert_eq!(format!("{:?}", options.get_ssl_mode()), mode, "{text}");
        }
    }

    #[test]
    fn a_password_is_kept_and_never_shown() {
        for text in [
            "postgres://shawk:s3cr3t@db:5432/cmdb?sslmode=require",
            "postgresql://shawk:s3cr3t@[::1]:5432/cmdb",
            "postgres://shawk@db/cmdb?password=s3cr3t",
            "postgres:///cmdb?host=/run/postgresql&password=s3cr3t",
            "postgres:///cmdb?host=/run/postgresql?password=s3cr3t",
            "postgres:///cmdb?password=s3?s3cr3t=",
        ] {
            let url = CmdbUrl::parse(text).unwrap();
            assert!(!format!("{url} {url:?}").contains("s3cr3t"), "{url}");
            assert!(url.to_string().contains("***"), "{url}");
        }
    }

    #[test]
    fn a_refusal_is_one_line_with_the_remedy_and_without_the_password() {
        for (text, says) in [
            ("", "sqlite:PATH"),
            ("/var/lib/shawk.db", "sqlite:PATH"),
            ("mysql://shawk:s3cr3t@db/cmdb", "postgres://"),
            ("shawk:s3cr3t@db", "postgres://"),
            ("postgres:shawk:s3cr3t@db", "//"),
            ("postgres://shawk:s3cr3t", "percent-encoded"),
            ("postgres://shawk:s3cr3t/1@db:5432/cmdb", "percent-encoded"),
            ("postgres://shawk:s3?cr3t@db:5432/cmdb", "percent-encoded"),
            ("postgres://db:x/cmdb", "percent-encoded"),
            ("postgres://db/cmdb?sslmode=perhaps", "percent-encoded"),
            ("postgres://db/cmdb?sslmod=verify-full", "sslmod"),
            ("postgres://db/cmdb?passwort=s3cr3t", "passwort"),
            ("http://shawk:s3cr3t@localhost", "user or a password"),
            ("https://s3cr3t@collector:7717/x", "user or a password"),
            ("https://collector:s3cr3t", "no port"),
            ("https://collector:0", "no port"),
            ("https://", "no host"),
            ("https:collector", "//"),
            ("https://::1:7717", "no host"),
            ("https://collector?token=s3cr3t", "token"),
            ("https://collector?sslcert=/c", "sslkey"),
            ("https://collector/#s3cr3t", "#"),
            // What stands after a password, or alone, may be a part of one.
            ("postgres://db/x?password=s3&cr3t", "percent-encoded"),
            ("postgres://db/x?password=s3&cr3t=", "percent-encoded"),
            ("postgres://db/x?password=s3cr3t@1", "percent-encoded"),
            ("postgres://db:5432/x?password=s3@cr3t", "percent-encoded"),
            ("postgres://db/x?cr3t", "percent-encoded"),
            ("https://collector?cr3t", "sslrootcert"),
            ("https://collector?token=s3@cr3t", "user or a password"),
            ("https://coll ector", "character"),
            ("http://collector:7717", "unencrypted"),
            ("http://localhost?sslrootcert=/ca", "without TLS"),
            ("sqlite:", "names no file"),
            ("sqlite:~/shawk.db", "whole path"),
            ("sqlite:shawk.db?mode=ro", "parameters"),
            ("sqlite:shawk.db?key=s3cr3t", "parameters"),
        ] {
            let refusal = CmdbUrl::parse(text).unwrap_err();
            assert!(refusal.contains(says), "{refusal}");
            assert!(!refusal.contains("cr3t") && !refusal.contains('\n'), "{refusal}");
        }
    }
}
