//! Which host this is: its id and its name.

use std::path::Path;

use anyhow::{Result, ensure};
use sha2::{Digest, Sha256};
use tracing::warn;

use crate::flow::host::Host;
use crate::flow::process::decode;
use crate::probe::ProbeConfig;

/// Where the machine id is, systemd's place first (machine-id(5)).
const MACHINE_ID: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// Makes the id this program's own. Changing it gives every host a new one.
const APPLICATION: [u8; 16] = [
    0x5b, 0x1e, 0xc8, 0x90, 0x3d, 0x27, 0x4c, 0x6f, 0xa9, 0x42, 0x7e, 0xd1, 0x06, 0xb3, 0x8f, 0x54,
];

/// The host as configured, or as the machine says. A machine without an id (a
/// bare container image has none) goes by its name, and is told so.
pub fn read_host(config: &ProbeConfig) -> Result<Host> {
    let name = match &config.hostname {
        Some(name) => name.clone(),
        None => decode(rustix::system::uname().nodename().to_bytes()),
    };
    let machine = || read_id(&MACHINE_ID.map(Path::new));
    let id = match config.host_id.clone().or_else(machine) {
        Some(id) => id,
        None => {
            let paths = MACHINE_ID.join(" or ");
            ensure!(
                !NAMELESS.contains(&name.as_str()),
                "this machine has neither an id (none in {paths}) nor a name of its own ('{name}'); \
                 set SHAWK_HOST_ID"
            );
            warn!(
                "no machine id in {paths}: the name {name:?} stands in for it; set SHAWK_HOST_ID to outlive a rename"
            );
            name.clone()
        }
    };
    Ok(Host { id, name })
}

/// Names that any machine may have.
const NAMELESS: [&str; 4] = ["", "(none)", "localhost", "localhost.localdomain"];

fn read_id(paths: &[&Path]) -> Option<String> {
    let texts = paths.iter().filter_map(|path| std::fs::read(path).ok());
    texts.filter_map(|text| parse_machine_id(&text)).map(|machine| host_id(&machine)).next()
}

/// 32 hex digits. An image that was never booted says `uninitialized`, or has
/// nothing or zeroes; two such hosts would be taken for one.
fn parse_machine_id(text: &[u8]) -> Option<[u8; 16]> {
    let text = str::from_utf8(text).ok()?.trim_ascii_end();
    if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let id = u128::from_str_radix(text, 16).ok()?;
    (id != 0).then(|| id.to_be_bytes())
}

/// As `sd_id128_get_machine_app_specific` does it: machine-id(5) asks that
/// the id itself be shown to nobody, for whoever knows it can compute the ids
/// that other programs derived. HMAC-SHA256 keyed with the machine id, cut to
/// 128 bits that are marked as a version 4 UUID.
fn host_id(machine: &[u8; 16]) -> String {
    let mut id: [u8; 16] = hmac(machine, &APPLICATION)[..16].try_into().expect("16 of 32 bytes");
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    format!("{:032x}", u128::from_be_bytes(id))
}

/// RFC 2104 with SHA-256, for a key of at most a block.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    const BLOCK: usize = 64;
    let pad = |byte: u8| {
        let mut pad = [byte; BLOCK];
        for (pad, key) in pad.iter_mut().zip(key) {
            *pad ^= key;
        }
        pad
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn hmac_is_that_of_rfc_4231() {
        let hex = |bytes: [u8; 32]| bytes.map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(
            hex(hmac(&[0x0b; 20], b"Hi There")),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        );
        assert_eq!(
            hex(hmac(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    /// Every record in every CMDB begins with this.
    #[test]
    fn a_host_keeps_its_id() {
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (directory.path().join("a"), directory.path().join("b"));
        let read = || read_id(&[&first, &second]);
        assert_eq!(read(), None);

        std::fs::write(&second, "0123456789abcdef0123456789abcdef\n").unwrap();
        let id = read().unwrap();
        assert_eq!(id, "c50aee7b1ada45979141e6c9c8c35d4e");
        for unset in ["", "uninitialized\n", "0123", "00000000000000000000000000000000\n"] {
            std::fs::write(&first, unset).unwrap();
            assert_eq!(read().unwrap(), id, "{unset:?}");
        }
        std::fs::write(&first, "fedcba9876543210fedcba9876543210").unwrap();
        assert_ne!(read().unwrap(), id);
    }
}
