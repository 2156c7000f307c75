//! TLS towards a collector: its certificate is checked against the name and an
//! authority, always.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::cmdb::fault::Fault;
use crate::cmdb::url::site::Site;

/// Reads the files that the URL names, each time: certificates are renewed.
pub(crate) fn config(site: &Site) -> Result<Arc<ClientConfig>, Fault> {
    let roots = match &site.ca {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                let added = roots.add(certificate);
                added.map_err(|error| unusable(path, &error))?;
            }
            roots
        }
        None => of_the_system()?,
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Fault::Refused(error.to_string()))?
        .with_root_certificates(roots);
    let config = match &site.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let secret =
                PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
            builder.with_client_auth_cert(chain, secret).map_err(|error| unusable(key, &error))?
        }
    };
    Ok(Arc::new(config))
}

fn of_the_system() -> Result<RootCertStore, Fault> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Among a hundred there is always one that somebody cannot read.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let text = "this system has no certificate authorities: install ca-certificates, or name a file with sslrootcert";
        return Err(Fault::Refused(text.to_owned()));
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let found = CertificateDer::pem_file_iter(path).map_err(|error| unusable(path, &error))?;
    let list: Result<Vec<_>, _> = found.collect();
    let list = list.map_err(|error| unusable(path, &error))?;
    if list.is_empty() {
        return Err(unusable(path, &"there is no certificate in it"));
    }
    Ok(list)
}

fn unusable(path: &Path, why: &dyn std::fmt::Display) -> Fault {
    Fault::Refused(format!("'{}' cannot be used: {why}", path.display()))
}
