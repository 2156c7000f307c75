//! `http://` and `https://` addresses: a collector that has the CMDB.

use std::path::PathBuf;

use crate::cmdb::token::TokenSource;
use crate::cmdb::url::{knows_all, query};

/// Where a collector is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    /// Plain HTTP otherwise, which leaves the machine on no account.
    pub(crate) tls: bool,
    /// A name or an address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// What stands before each path: empty, or `/…` without a slash at the end.
    pub(crate) prefix: String,
    /// Who signed its certificate, in place of the system's authorities.
    pub(crate) ca: Option<PathBuf>,
    /// Our own certificate and its key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    /// What else it is shown; only ever over TLS, or within this machine.
    pub(crate) token: Option<TokenSource>,
}

/// Parameters that the URL may have, named as PostgreSQL names them.
const PARAMETERS: [&str; 3] = ["sslcert", "sslkey", "sslrootcert"];

const REMEDY: &str = "use https://HOST:PORT";

/// Whether a parameter's value is a path that may be shown.
pub(crate) fn is_parameter(key: &str) -> bool {
    PARAMETERS.contains(&key)
}

pub(crate) fn parse(text: &str) -> Result<Site, String> {
    let (scheme, rest) = text.split_once("://").ok_or("lacks the // after the colon")?;
    let tls = scheme == "https";
    if text.contains('#') {
        return Err(format!("has a # in it, which means nothing here: {REMEDY}"));
    }
    let place = rest.split('?').next().unwrap_or(rest);
    if rest.contains('@') {
        return Err("must not have a user or a password in it: a collector knows none".to_owned());
    }
    let (authority, prefix) = match place.find('/') {
        Some(slash) => place.split_at(slash),
        None => (place, ""),
    };
    let clean = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '<' | '>' | '\\' | '^' | '`');
    if !place.chars().all(clean) {
        return Err(format!("has a character in it that no such address has: {REMEDY}"));
    }
    let (host, port) = split(authority).ok_or(format!("names no host and port: {REMEDY}"))?;
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port > 0),
        None => Some(if tls { 443 } else { 80 }),
    };
    let mut site = Site {
        tls,
        host: host.to_owned(),
        port: port.ok_or(format!("has no port from 1 to 65535: {REMEDY}"))?,
        prefix: prefix.trim_end_matches('/').to_owned(),
        ca: None,
        identity: None,
        token: None,
    };
    parameters(text, &mut site)?;
    if !tls && !is_loopback(&site.host) {
        return Err(format!(
            "would send what this host does to another machine unencrypted: {REMEDY}"
        ));
    }
    Ok(site)
}

fn parameters(text: &str, site: &mut Site) -> Result<(), String> {
    let (mut certificate, mut key) = (None, None);
    knows_all(query(text), is_parameter, &PARAMETERS)?;
    for (name, value) in form_urlencoded::parse(query(text).as_bytes()) {
        if !site.tls {
            return Err(format!("has {name}, which means nothing without TLS: {REMEDY}"));
        }
        let path = Some(PathBuf::from(value.as_ref()));
        match name.as_ref() {
            "sslrootcert" => site.ca = path,
            "sslcert" => certificate = path,
            _ => key = path,
        }
    }
    site.identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => return Err("needs sslcert and sslkey, or neither".to_owned()),
    };
    Ok(())
}

/// Host and port of `name:1`, `10.0.0.1:1`, `[::1]:1`.
fn split(authority: &str) -> Option<(&str, Option<&str>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, after)
        }
        None => {
            let colon = authority.find(':').unwrap_or(authority.len());
            authority.split_at(colon)
        }
    };
    let port = match port {
        "" => None,
        port => Some(port.strip_prefix(':')?),
    };
    (!host.is_empty()).then_some((host, port))
}

/// This machine itself, by an address or by the name that RFC 6761 keeps for it.
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Site {
    /// As it stands in a `Host` header.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_collector_has_a_host_a_port_and_a_prefix() {
        for (text, authority, prefix) in [
            ("http://127.0.0.1:7717", "127.0.0.1:7717", ""),
            ("http://[::1]:7717/", "[::1]:7717", ""),
            ("http://localhost", "localhost:80", ""),
            ("https://shawk.example", "shawk.example:443", ""),
            ("https://shawk.example:7717/a/b/", "shawk.example:7717", "/a/b"),
        ] {
            let site = parse(text).unwrap();
            assert_eq!((site.authority().as_str(), site.prefix.as_str()), (authority, prefix));
        }
        let site = parse("https://h/?sslrootcert=/a%20b&sslcert=c&sslkey=k").unwrap();
        assert_eq!(site.ca, Some("/a b".into()));
        assert_eq!(site.identity, Some(("c".into(), "k".into())));
    }
}
