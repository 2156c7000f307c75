//! What `shawk serve` was asked.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

use crate::cli::args::ServeArguments;
use crate::cli::settings::Settings;
use crate::cli::{ServeOptions, boolean, labels, pick, stored, text};

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
    let flag = words.require_auth.then(|| "1".to_owned());
    let asked = pick(flag, "--require-auth", settings, &["SHAWK_REQUIRE_AUTH"], boolean)?;
    let must_be_known = asked.unwrap_or(false) || client_ca.is_some() || !listen.ip().is_loopback();
    if !listen.ip().is_loopback() && tls.is_none() {
        return Err(format!(
            "--listen: other machines reach {listen}, so it must be encrypted; \
             give --tls-cert and --tls-key, or listen on loopback behind what does that"
        ));
    }
    let names = pick(words.name, "--name", settings, &["SHAWK_NAME"], text)?.unwrap_or_default();
    let names = names.split(',').map(|name| name.trim().to_ascii_lowercase());
    let variable = &["SHAWK_SHARED_ADDRESSES"];
    let more = pick(words.shared_addresses, "--shared-addresses", settings, variable, networks)?;
    let shared_addresses = shared_by_design().chain(more.unwrap_or_default()).collect();
    // Read now only to say at once if it is wrong.
    let file = labels::file(words.labels, settings)?;
    file.as_deref().map(labels::read).transpose()?;
    Ok(ServeOptions {
        cmdb: stored(words.cmdb.cmdb, settings)?,
        listen,
        tls,
        client_ca,
        must_be_known,
        shared_addresses,
        labels: file,
        names: names.filter(|name| !name.is_empty()).collect(),
    })
}

/// Addresses that many hosts have by default, each on a bridge of its own: the
/// first of each of Docker's pools in 172.16.0.0/12, libvirt's, VirtualBox's,
/// and those of Podman's networks. No whole network, nor what is as likely the
/// gateway of a LAN (Docker's later pools begin with 192.168.0.1): whoever has a
/// token could have an address there that is another's. docs/trust.md names
/// them.
fn shared_by_design() -> impl Iterator<Item = IpNet> {
    let docker = (17..=31).map(|pool| [172, pool, 0, 1]);
    let podman = (0..=255).map(|network| [10, 89, network, 1]);
    let others = [[10, 88, 0, 1], [192, 168, 122, 1], [192, 168, 56, 1]];
    docker.chain(podman).chain(others).map(|address| IpNet::from(IpAddr::from(address)))
}

fn networks(list: &str) -> Result<Vec<IpNet>, String> {
    let network = |word: &str| {
        let one = || word.parse::<IpAddr>().map(IpNet::from);
        word.parse::<IpNet>().or_else(|_| one()).map(|network| network.trunc()).map_err(|_| {
            format!("'{word}' is no address or network; write 10.0.0.10, fd00::10 or 10.0.0.0/24")
        })
    };
    list.split(',').map(str::trim).filter(|word| !word.is_empty()).map(network).collect()
}
