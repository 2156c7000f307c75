//! Who asks, and what they may. It must not know what is asked.

pub(crate) mod tokens;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use hyper::header::AUTHORIZATION;
use hyper::{HeaderMap, StatusCode};
use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, UnixTime};

use crate::cmdb::token::Token;
use crate::daemon::lock;
use crate::flow::host::Host;
use crate::recall::{HostKey, Role};
use crate::serve::State;
use crate::serve::reply::Refusal;
use crate::serve::strangers::Place;

/// Somebody who is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) role: Role,
    /// The one host that reports may be about; none for any.
    pub(crate) host: Option<HostKey>,
}

/// What is known of a connection's other end.
pub(crate) struct Peer {
    pub(crate) place: Place,
    certified: Option<Certified>,
}

/// Whom a certificate names, and it with those that lead to its authority. TLS
/// has verified them once: for the first of the connections that go on with its
/// session, and those may last for months. So whether they are good is asked
/// again.
#[derive(Debug)]
struct Certified {
    caller: Caller,
    chain: Vec<CertificateDer<'static>>,
    asked: Mutex<Option<Instant>>,
}

/// How long a certificate is believed without another look: verifying one
/// takes a tenth of a millisecond.
const ASK_AGAIN: Duration = Duration::from_secs(2);

impl Peer {
    /// Who has shown these certificates, its own first; none without TLS.
    pub(crate) fn of(place: Place, chain: &[CertificateDer<'static>]) -> Peer {
        let caller = chain.first().and_then(certified);
        let certified = caller.map(|caller| Certified {
            caller,
            chain: chain.to_vec(),
            asked: Mutex::default(),
        });
        Peer { place, certified }
    }
}

impl Certified {
    /// Whether it has not expired, and its authority is still believed.
    fn is_good(&self, state: &State) -> bool {
        let mut asked = lock(&self.asked);
        if asked.is_some_and(|asked| asked.elapsed() < ASK_AGAIN) {
            return true;
        }
        let verifier = lock(&state.verifier).clone();
        let good = self.chain.split_first().zip(verifier).is_some_and(|((own, rest), verifier)| {
            verifier.verify_client_cert(own, rest, UnixTime::now()).is_ok()
        });
        if good {
            *asked = Some(Instant::now());
        }
        good
    }
}

/// What in a certificate names a role, and a host whose id is no DNS name.
const ROLE: &str = "shawk:role:";
const HOST: &str = "shawk:host:";

/// As [`asks`]; and the connection is no stranger's any more.
pub(crate) async fn who(
    state: &State,
    peer: &Peer,
    headers: &HeaderMap,
    of_old: bool,
) -> Result<Caller, Refusal> {
    asks(state, peer, headers, of_old).await.inspect(|_| peer.place.keep())
}

/// Who asks: whom the certificate names, or the token. Where nobody has to be
/// known, which is so on loopback only, everybody else may do everything; but a
/// token that is shown there counts, and must be good; `of_old`, as far as was
/// known when the CMDB last answered.
async fn asks(
    state: &State,
    peer: &Peer,
    headers: &HeaderMap,
    of_old: bool,
) -> Result<Caller, Refusal> {
    if let Some(certified) = &peer.certified {
        if certified.is_good(state) {
            return Ok(certified.caller);
        }
        return Err(unknown(
            "the certificate has expired, or its authority is no longer believed",
            "renew it, and connect again",
        ));
    }
    let Some(shown) = bearer(headers) else {
        if !state.plan.must_be_known {
            return Ok(Caller { role: Role::Admin, host: None });
        }
        return Err(unknown(
            "nobody is known by this request",
            "show a token (SHAWK_TOKEN_FILE) or a client certificate (sslcert and sslkey in the address)",
        ));
    };
    let remedy = "have another one made: shawk enrol NAME --rotate, on the collector's CMDB";
    let Some(token) = Token::parse(shown) else {
        return Err(unknown("what was shown is no whole token", remedy));
    };
    let holder = state.tokens.holder(state, &token, of_old).await;
    let holder = holder.map_err(|error| Refusal::of_cmdb(&error))?;
    let now = Timestamp::now().as_microsecond();
    match holder {
        None => Err(unknown("this token is not known, or was revoked", remedy)),
        Some(holder) if holder.expires.is_some_and(|end| end <= now) => {
            Err(unknown("this token has expired", remedy))
        }
        Some(holder) => Ok(Caller { role: holder.role, host: holder.host }),
    }
}

fn unknown(error: &str, remedy: &str) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, "unauthenticated", error, remedy)
}

/// What stands behind `Authorization: Bearer` (RFC 6750, 2.1), be it a token or
/// not; nothing of what is no text.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let Ok(text) = headers.get(AUTHORIZATION)?.to_str() else { return Some("") };
    let (scheme, rest) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then(|| rest.trim())
}

impl Caller {
    /// Whether they may do what needs this role.
    pub(crate) fn may(self, role: Role) -> Result<(), Refusal> {
        if self.role == role || self.role == Role::Admin {
            return Ok(());
        }
        let what = match role {
            Role::Write => "report",
            Role::Read => "ask",
            Role::Admin => "do that",
        };
        Err(forbidden(format!("this caller may not {what}")))
    }

    /// Whether they may speak for a host.
    pub(crate) fn may_be(self, host: HostKey) -> Result<(), Refusal> {
        if self.host.is_none_or(|own| own == host) {
            return Ok(());
        }
        Err(forbidden("a host may report about itself only".to_owned()))
    }
}

fn forbidden(error: String) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, "forbidden", error, "use the credentials of the other")
}

/// What a certificate says of its bearer: by URI names (`shawk:role:read`,
/// `shawk:host:ID`), else its first DNS name is the id of the host that it may
/// report about. None for one that says neither.
fn certified(certificate: &CertificateDer<'_>) -> Option<Caller> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let uris: Vec<&str> = certificate.valid_uri_names().collect();
    let value = |prefix| uris.iter().find_map(|uri| uri.strip_prefix(prefix));
    let id = value(HOST).or_else(|| certificate.valid_dns_names().next());
    let host = id.map(|id| Host { id: id.to_owned(), name: String::new() }.hash());
    match value(ROLE) {
        Some("admin") => Some(Caller { role: Role::Admin, host: None }),
        Some("read") => Some(Caller { role: Role::Read, host: None }),
        Some("write") | None => host.map(|host| Caller { role: Role::Write, host: Some(host) }),
        Some(_) => None,
    }
}
