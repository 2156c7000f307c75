//! Who asks, and what they may. It must not know what is asked.

use hyper::{HeaderMap, StatusCode};
use rustls::pki_types::CertificateDer;

use crate::flow::host::Host;
use crate::recall::HostKey;
use crate::serve::reply::Refusal;

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Report, about one host.
    Write,
    /// Ask.
    Read,
    /// Everything.
    Admin,
}

/// Somebody who is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) role: Role,
    /// The one host that reports may be about; none for any.
    pub(crate) host: Option<HostKey>,
}

/// What is known of a connection's other end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    /// What its certificate says, which TLS has verified.
    pub(crate) certified: Option<Caller>,
    /// Without a certificate it is nobody.
    pub(crate) must_be_known: bool,
}

/// What in a certificate names a role, and a host whose id is no DNS name.
const ROLE: &str = "shawk:role:";
const HOST: &str = "shawk:host:";

/// Who asks. Where nobody has to be known, which is so on loopback only,
/// everybody may do everything.
pub(crate) fn who(peer: &Peer, _headers: &HeaderMap) -> Result<Caller, Refusal> {
    match (peer.certified, peer.must_be_known) {
        (Some(caller), _) => Ok(caller),
        (None, false) => Ok(Caller { role: Role::Admin, host: None }),
        (None, true) => Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "nobody is known by this request",
            "show a client certificate: sslcert and sslkey in the address",
        )),
    }
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
pub(crate) fn certified(certificate: &CertificateDer<'_>) -> Option<Caller> {
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
