//! Who owns a socket: the process as an identity, and its running instances.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a process *is*, across restarts: two runs of the same program by the
/// same user in the same unit and container are one `Process`.
///
/// Pids and process groups are not part of it. A program that cron starts
/// every minute would otherwise be 1,440 different ones a day, and no edge
/// would have a "since when".
///
/// Every string was decoded from bytes that anybody on the host could choose
/// (see [`decode`]); a view escapes them before printing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Process {
    /// The `comm` of `/proc/PID/stat`: at most 15 bytes, chosen by the process.
    pub name: String,
    /// Target of `/proc/PID/exe`; absent where it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// Name of the effective user, or its number where no name is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// systemd unit, as in `nginx.service` or `session-3.scope`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Container id: 64 hex digits, or the name an LXC container has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Kubernetes pod UID, in its dashed form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
}

/// One running instance of a [`Process`].
///
/// A socket may have several: a forked child shares its parent's descriptors.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Instance {
    /// The process it is an instance of.
    pub process: Arc<Process>,
    /// Process id, in the probe's pid namespace.
    pub pid: u32,
    /// Process group id, in the probe's pid namespace. A leader outside of
    /// that namespace reads as 0 in `/proc`; the pid then stands in for it.
    pub pgid: u32,
    /// When it started. With the pid, this tells a reused pid apart.
    pub started: Timestamp,
}

/// Bytes from the kernel as text, losing nothing a reader needs: valid UTF-8
/// stays, any other byte becomes `\xNN`.
pub fn decode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    // PostgreSQL's text has no NUL, and no name in /proc can hold one; a
    // recorded snapshot, which anybody may have edited, can.
    if text.contains('\0') {
        text = text.replace('\0', "\\x00");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_stay_readable() {
        assert_eq!(decode(b"nginx"), "nginx");
        assert_eq!(decode(b"\xff"), "\\xff");
        assert_eq!(decode("naïve\n\u{202e}".as_bytes()), "naïve\n\u{202e}");
        assert_eq!(decode(b"a\0b\xc3"), "a\\x00b\\xc3");
    }
}
