//! What a question's words mean: whom it is about, and which time.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use jiff::Timestamp;

use crate::cli::args::{SelectorArguments, WindowArguments};
use crate::cli::{duration, text};
use crate::recall::{Selector, Spot, Window};

/// How a moment is read, as of now.
type Read = fn(&str, Timestamp) -> Result<Timestamp, String>;

pub(crate) fn window(words: &WindowArguments, now: Timestamp) -> Result<Window, String> {
    let moment = |flag: &str, value: &Option<String>, read: Read| {
        let moment = value.as_deref().map(|value| read(value, now)).transpose();
        moment.map_err(|error| format!("{flag}: {error}"))
    };
    if let Some(at) = moment("--at", &words.at, duration::parse_past)? {
        return Ok(Window { since: Some(at), until: Some(at) });
    }
    // An end that is yet to come is as good as none.
    let window = Window {
        since: moment("--since", &words.since, duration::parse_past)?,
        until: moment("--until", &words.until, duration::parse_moment)?,
    };
    if let (Some(since), Some(until)) = (window.since, window.until)
        && since > until
    {
        return Err(format!("--since {since} is later than --until {until}; swap them"));
    }
    Ok(window)
}

/// What the user means. A bare word may mean several things; the likeliest
/// comes first.
pub(crate) fn selectors(words: SelectorArguments) -> Result<Vec<Selector>, String> {
    let one = |flag: &str, read: Result<Selector, String>| {
        read.map(|selector| vec![selector]).map_err(|error| format!("{flag}: {error}"))
    };
    if let Some(value) = words.ip {
        return one("--ip", address(&value, |_| true));
    }
    if let Some(value) = words.ipv4 {
        return one("--ipv4", address(&value, IpAddr::is_ipv4));
    }
    if let Some(value) = words.ipv6 {
        return one("--ipv6", address(&value, IpAddr::is_ipv6));
    }
    if let Some(value) = words.host {
        return one("--host", text(&value).map(Selector::Host));
    }
    if let Some(value) = words.process {
        return one("--process", text(&value).map(Selector::Process));
    }
    if let Some(value) = words.port {
        return one("--port", port(&value).map(Selector::Port));
    }
    if let Some(value) = words.label {
        return one("--label", text(&value).map(Selector::Label));
    }
    let Some(word) = words.what else { return Ok(Vec::new()) };
    text(&word).map_err(|error| format!("what is asked about {error}"))?;
    if word == "*" {
        return Ok(vec![Selector::All]);
    }
    if let Ok(selector) = address(&word, |_| true) {
        return Ok(vec![selector]);
    }
    if word.bytes().all(|byte| byte.is_ascii_digit()) {
        return one("a port", port(&word).map(Selector::Port));
    }
    if let Some(number) = word.strip_prefix(':') {
        return one("a port", port(number).map(Selector::Port));
    }
    if let Ok(at) = word.parse::<SocketAddr>() {
        let spot = Spot::Address(at.ip().to_canonical());
        let port = port(&at.port().to_string());
        return one(&word, port.map(|port| Selector::Service(spot, port)));
    }
    if let Some((name, number)) = word.rsplit_once(':')
        && !name.is_empty()
        && !looks_like_address(name)
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
    {
        let port = port(number).map_err(|error| format!("{word}: {error}"))?;
        // What is called so itself goes before its part.
        let service = Selector::Service(Spot::Host(name.to_owned()), port);
        return Ok(vec![Selector::Label(word.clone()), Selector::Host(word), service]);
    }
    if looks_like_address(&word) {
        return address(&word, |_| true).map(|selector| vec![selector]);
    }
    let name = text(&word)?;
    let meanings = [Selector::Label, Selector::Host, Selector::Process];
    Ok(meanings.map(|means| means(name.clone())).into())
}

/// No host name has a colon or a slash, and none is all digits and points
/// (RFC 1123, section 2.1): such a word is an address gone wrong.
fn looks_like_address(word: &str) -> bool {
    word.contains([':', '/'])
        || word.contains('.') && word.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// An address, or a network with its prefix; brackets around IPv6 are taken
/// off, and an IPv4-mapped address is IPv4.
fn address(value: &str, family: impl Fn(&IpAddr) -> bool) -> Result<Selector, String> {
    let bare = value.strip_prefix('[').and_then(|v| v.strip_suffix(']')).unwrap_or(value);
    let of_family = |ip: IpAddr| {
        let ip = ip.to_canonical();
        if family(&ip) {
            Ok(ip)
        } else {
            Err(format!("'{value}' is of the other IP family; use --ip"))
        }
    };
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return of_family(ip).map(Selector::Address);
    }
    if let Ok(network) = bare.parse::<IpNet>() {
        return of_family(network.addr()).map(|_| Selector::Network(network.trunc()));
    }
    Err(format!("'{value}' is not an address or network; write 10.0.0.10, fd00::10 or 10.0.0.0/24"))
}

fn port(value: &str) -> Result<u16, String> {
    let port = value.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| format!("'{value}' is not a port; choose from 1 to 65535"))
}
