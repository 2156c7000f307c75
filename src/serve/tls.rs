//! TLS towards those who ask: our certificate, and whose certificates are
//! believed.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, Result};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::cli::ServeOptions;

/// Who checks the certificates of those who ask, where they may show one.
pub(crate) type Verifier = Option<Arc<dyn ClientCertVerifier>>;

/// What the files say.
pub(crate) struct Secured {
    pub(crate) config: ServerConfig,
    /// That the certificate is for.
    pub(crate) names: Vec<String>,
    pub(crate) verifier: Verifier,
}

/// Reads certificate, key and authority.
pub(crate) fn read(plan: &ServeOptions) -> Result<Secured> {
    let (certificate, key) = plan.tls.as_ref().context("there is no certificate")?;
    let chain = certificates(certificate)?;
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| anyhow::anyhow!("{error}"))
        .with_context(|| format!("read the key '{}'", key.display()))?;
    let names = chain.first().map(names).unwrap_or_default();
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
    Ok(Secured { config, names, verifier })
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
