//! `GET /api/v1/search`: what a word may mean, for who begins to type it. What
//! the answer means is in docs/groups-json.md.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::recall::{Role, Selector, Window};
use crate::serve::reply::{self, Refusal, Reply};
use crate::serve::trust::Caller;
use crate::serve::{State, recall};
use crate::view;

/// Longest text, in bytes; no name is longer that one would type.
const MAX_TEXT: usize = 256;

pub(crate) async fn answer(state: &State, caller: Caller, query: &str) -> Result<Reply, Refusal> {
    caller.may(Role::Read)?;
    let text = text(query).map_err(Refusal::of_words)?;
    let cmdb = state.cmdb().map_err(|fault| Refusal::of_cmdb(&fault.into()))?;
    let _turn = recall::turn(state).await?;
    let of_cmdb = |error| Refusal::of_cmdb(&error);
    let mut meant = Vec::new();
    for selector in selectors(&text) {
        let found = cmdb.find(&selector, &Window::default()).await.map_err(of_cmdb)?;
        if !found.hosts.is_empty() || !found.addresses.is_empty() {
            meant.push((selector, found.hosts.len()));
        }
    }
    let labels = state.labels.now().with(&text);
    let names = cmdb.names(&text).await.map_err(of_cmdb)?;
    state.metrics.questions.add(1);
    reply::printed("application/json", |text| {
        text.write_all(view::search(&meant, &labels, &names)?.as_bytes())
    })
}

fn text(query: &str) -> Result<String, String> {
    let mut words = form_urlencoded::parse(query.as_bytes());
    match (words.next(), words.next()) {
        (Some((name, text)), None) if name == "q" => {
            let text = text.trim();
            if text.is_empty() || text.len() > MAX_TEXT {
                return Err(format!("q: give it 1 to {MAX_TEXT} bytes"));
            }
            Ok(text.to_owned())
        }
        _ => Err("give q, once, and nothing else".to_owned()),
    }
}

/// What a text is if it is no name: an address, a network or the beginning of
/// one, a port.
fn selectors(text: &str) -> Vec<Selector> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return vec![Selector::Address(address.to_canonical())];
    }
    if let Ok(network) = bare.parse::<IpNet>() {
        return vec![Selector::Network(network.trunc())];
    }
    let port = text.strip_prefix(':').unwrap_or(text).parse::<u16>();
    let port = port.ok().filter(|port| *port > 0).map(Selector::Port);
    port.into_iter().chain(beginning(text).map(Selector::Network)).collect()
}

/// `10.0.` → 10.0.0.0/16. One number alone is a port.
fn beginning(text: &str) -> Option<IpNet> {
    let parts: Vec<&str> = text.strip_suffix('.').unwrap_or(text).split('.').collect();
    let known: Vec<u8> = parts.iter().map_while(|part| part.parse().ok()).collect();
    let all = known.len() == parts.len() && (2..=3).contains(&known.len());
    let mut bytes = [0; 4];
    bytes.iter_mut().zip(&known).for_each(|(byte, known)| *byte = *known);
    let network = Ipv4Net::new(Ipv4Addr::from(bytes), 8 * u8::try_from(known.len()).ok()?);
    network.ok().filter(|_| all).map(IpNet::from)
}

#[cfg(test)]
mod tests {
    use super::{selectors, text};

    #[test]
    fn a_text_may_be_an_address_a_network_or_a_port() {
        for (text, expected) in [
            ("10.0.0.1", "[Address(10.0.0.1)]"),
            ("[fd00::1]", "[Address(fd00::1)]"),
            ("::ffff:10.0.0.1", "[Address(10.0.0.1)]"),
            ("10.0.0.7/24", "[Network(10.0.0.0/24)]"),
            ("10.0.", "[Network(10.0.0.0/16)]"),
            ("10.0.3", "[Network(10.0.3.0/24)]"),
            ("5432", "[Port(5432)]"),
            (":53", "[Port(53)]"),
            ("0", "[]"),
            ("70000", "[]"),
            ("10.", "[]"),
            ("10.a.0", "[]"),
            ("1.2.3.4.5", "[]"),
            ("nginx", "[]"),
        ] {
            assert_eq!(format!("{:?}", selectors(text)), expected, "{text}");
        }
    }

    #[test]
    fn one_text_is_asked_for() {
        assert_eq!(text("q=a%20b"), Ok("a b".to_owned()));
        for query in ["", "q=", "q=a&q=b", "p=a", "q=a&p=b", "q=+"] {
            assert!(text(query).is_err(), "{query}");
        }
        assert!(text(&format!("q={}", "a".repeat(257))).is_err());
    }
}
