//! What `shawk serve` was asked.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::cli::args::ServeArguments;
use crate::cli::settings::Settings;
use crate::cli::{ServeOptions, labels, pick, stored, text};

/// The port is one that IANA has given to nobody.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7717);

pub(crate) fn serve(words: ServeArguments, settings: &Settings) -> Result<ServeOptions, String> {
    let address = |value: &str| {
        value.parse::<SocketAddr>().map_err(|_| {
            format!("'{value}' is not an address and a port; write it like 127.0.0.1:7717")
        })
    };
    let path = |value: &str| text(value).map(PathBuf::from);
    let listen = pick(words.listen, "--listen", settings, &["SHAWK_LISTEN"], address)?;
    let listen = listen.unwrap_or(LISTEN);
    let certificate = pick(words.tls_cert, "--tls-cert", settings, &["SHAWK_TLS_CERT"], path)?;
    let key = pick(words.tls_key, "--tls-key", settings, &["SHAWK_TLS_KEY"], path)?;
    let client_ca = pick(words.client_ca, "--client-ca", settings, &["SHAWK_CLIENT_CA"], path)?;
    let tls = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) if client_ca.is_some() => {
            return Err("--client-ca needs TLS: give --tls-cert and --tls-key, too".into());
        }
        (None, None) => None,
        _ => return Err("--tls-cert and --tls-key go together; give both".into()),
    };
    if !listen.ip().is_loopback() && (tls.is_none() || client_ca.is_none()) {
        return Err(format!(
            "--listen: other machines reach {listen}, so it must be encrypted and know who asks; \
             give --tls-cert, --tls-key and --client-ca"
        ));
    }
    let names = pick(words.name, "--name", settings, &["SHAWK_NAME"], text)?.unwrap_or_default();
    let names = names.split(',').map(|name| name.trim().to_ascii_lowercase());
    // Read now only to say at once if it is wrong.
    let file = labels::file(words.labels, settings)?;
    file.as_deref().map(labels::read).transpose()?;
    Ok(ServeOptions {
        cmdb: stored(words.cmdb.cmdb, settings)?,
        listen,
        tls,
        client_ca,
        labels: file,
        names: names.filter(|name| !name.is_empty()).collect(),
    })
}
