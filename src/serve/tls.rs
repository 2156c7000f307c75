//! TLS towards those who ask: our certificate, and whose certificates are
//! believed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tracing::warn;

use crate::cli::ServeOptions;

/// Who checks the certificates of those who ask, where they may show one.
pub(crate) type Verifier = Option<Arc<dyn ClientCertVerifier>>;

/// What the files say.
pub(crate) struct Secured {
    pub(crate) config: ServerConfig,
    /// That the certificate is for.
    pub(crate) names: Vec<String>,
    pub(crate) verifier: Verifier,
    pub(crate) ending: Ending,
}

/// How long before its end a certificate is spoken of.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// When the certificate ends, or the first of those that lead to its authority.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    file: PathBuf,
    at: Option<Timestamp>,
    said_soon: bool,
    said_over: bool,
}

impl Ending {
    fn of(file: &Path, chain: &[CertificateDer<'_>]) -> Ending {
        let at = chain.iter().filter_map(end).min();
        Ending { file: file.to_owned(), at, ..Ending::default() }
    }

    /// That it is near, and that it has come; each once.
    pub(crate) fn say(&mut self, now: Timestamp) {
        let Some(at) = self.at else { return };
        let file = self.file.display();
        if at < now && !std::mem::replace(&mut self.said_over, true) {
            warn!(
                "the certificate in '{file}' has expired at {at}, and is refused by all who check it: renew it"
            );
        } else if at >= now
            && at.duration_since(now) < SOON
            && !std::mem::replace(&mut self.said_soon, true)
        {
            warn!("the certificate in '{file}' expires at {at}: renew it before");
        }
    }
}

/// Reads certificate, key and authority.
pub(crate) fn read(plan: &ServeOptions) -> Result<Secured> {
    let (certificate, key) = plan.tls.as_ref().context("there is no certificate")?;
    let chain = certificates(certificate)?;
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| anyhow::anyhow!("{error}"))
        .with_context(|| format!("read the key '{}'", key.display()))?;
    let names = chain.first().map(names).unwrap_or_default();
    let ending = Ending::of(certificate, &chain);
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .context("set up TLS")?;
    let (builder, verifier) = match &plan.client_ca {
        None => (builder.with_no_client_auth(), None),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).with_context(|| format!("use '{}'", path.display()))?;
            }
            // Who shows none is told so by a reply rather than by an alert, and
            // may ask whether we are well.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .with_context(|| format!("use '{}'", path.display()))?;
            let known: Verifier = Some(Arc::clone(&verifier));
            (builder.with_client_cert_verifier(verifier), known)
        }
    };
    let mut config = builder
        .with_single_cert(chain, secret)
        .with_context(|| format!("use '{}' with its key", certificate.display()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Secured { config, names, verifier, ending })
}

/// When its files were last written.
pub(crate) fn changed(plan: &ServeOptions) -> Vec<Option<SystemTime>> {
    let files = plan.tls.iter().flat_map(|(certificate, key)| [certificate, key]);
    let written = |path: &std::path::PathBuf| path.metadata().and_then(|m| m.modified()).ok();
    files.chain(&plan.client_ca).map(written).collect()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let reading = || format!("read the certificate '{}'", path.display());
    let list = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| anyhow::anyhow!("{error}"))
        .with_context(reading)?;
    if list.is_empty() {
        return Err(anyhow::anyhow!("there is none in it")).with_context(reading);
    }
    Ok(list)
}

fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return Vec::new() };
    certificate.valid_dns_names().map(str::to_ascii_lowercase).collect()
}

/// When a certificate expires. Verified as of the end of all times it has, which
/// is looked at before its authority.
fn end(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let late = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
    let usage = webpki::KeyUsage::server_auth();
    match certificate.verify_for_usage(&[], &[], &[], late, usage, None, None) {
        Err(webpki::Error::CertExpired { not_after, .. }) => {
            Timestamp::from_second(i64::try_from(not_after.as_secs()).ok()?).ok()
        }
        _ => None,
    }
}
