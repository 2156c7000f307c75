//! A token: what a host or a person shows to a collector. Made here, shown
//! once, and never by an accident: it has no `Display`, and its `Debug` is not
//! it. It must not know where tokens are kept.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crc::{CRC_32_ISO_HDLC, Crc};
use rustls::crypto::ring;
use sha2::{Digest, Sha256};

/// How it begins, so that whoever looks for secrets in files finds it, and
/// whoever sees one knows what it is.
const PREFIX: &str = "shawk_";

/// Random bytes in it. Nobody guesses 256 bits, so a plain hash of them is as
/// good as a slow one, and one look-up finds it.
const BYTES: usize = 32;

/// Hex digits of the sum at the end: a token that was cut or mistyped is told
/// from one that is not known, without asking anybody.
const SUM: usize = 8;

/// Longest file that is read as a token.
const MAX_FILE: u64 = 4096;

/// `shawk_`, 64 hex digits, and 8 of their CRC-32.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// SHA-256 of the token as text: what is kept in its place, and what a
/// collector looks for. Comparing it takes as long as it takes: whoever
/// measures that learns of a hash, which leads to no token.
pub(crate) type TokenHash = [u8; 32];

/// Digits of a hash that name a token.
pub(crate) const ID: usize = 12;

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

impl Token {
    /// A new one, of the kernel's random numbers.
    pub fn new() -> anyhow::Result<Token> {
        let mut bytes = [0; BYTES];
        let random = ring::default_provider().secure_random;
        random.fill(&mut bytes).map_err(|_| anyhow::anyhow!("the kernel gives no random bytes"))?;
        let digits = hex(&bytes);
        let sum = sum(&digits);
        Ok(Token(format!("{PREFIX}{digits}{sum}")))
    }

    /// A text that is one; none for anything else.
    pub fn parse(text: &str) -> Option<Token> {
        let digits = text.strip_prefix(PREFIX)?;
        let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if digits.len() != 2 * BYTES + SUM || !digits.bytes().all(digit) {
            return None;
        }
        let (digits, told) = digits.split_at(2 * BYTES);
        (sum(digits) == told).then(|| Token(text.to_owned()))
    }

    /// It, for whoever shows it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    pub(crate) fn hash(&self) -> TokenHash {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

static CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

fn sum(digits: &str) -> String {
    format!("{:08x}", CRC.checksum(digits.as_bytes()))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The inverse, of a whole hash.
pub(crate) fn hash_of(digits: &str) -> Option<TokenHash> {
    let mut hash = [0; 32];
    if digits.len() != 2 * hash.len() || !digits.is_ascii() {
        return None;
    }
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(hash)
}

/// Whether a text could be the id of a token.
pub fn is_id(text: &str) -> bool {
    text.len() == ID && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Where the token is that we show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// Here.
    Given(Token),
    /// In a file, which is read again when the token no longer does.
    File(PathBuf),
}

impl TokenSource {
    /// The token as it is now. The error names the file and the remedy.
    pub fn read(&self) -> Result<Token, String> {
        match self {
            TokenSource::Given(token) => Ok(token.clone()),
            TokenSource::File(path) => read(path).map_err(|why| {
                format!("the token file '{}' cannot be used: {why}", path.display())
            }),
        }
    }
}

fn read(path: &Path) -> Result<Token, String> {
    // A pipe would be waited for until somebody writes to it.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().read(true).custom_flags(nonblock).open(path);
    let file = opened.map_err(|error| error.to_string())?;
    // Of the file that was opened: at its path may stand another by now.
    let about = file.metadata().map_err(|error| error.to_string())?;
    if !about.is_file() {
        return Err("it is no regular file: name one that holds the token".to_owned());
    }
    let mode = about.mode();
    if mode & 0o077 != 0 {
        let mode = mode & 0o777;
        return Err(format!("others may read it (mode {mode:03o}): run chmod 600 on it"));
    }
    let mut text = String::new();
    let read = file.take(MAX_FILE).read_to_string(&mut text);
    let token = read.ok().and_then(|_| Token::parse(text.trim()));
    token.ok_or_else(|| MISSHAPEN.to_owned())
}

/// What is said of a text that is no token, in place of the text.
pub const MISSHAPEN: &str = "it holds no whole token, as 'shawk enrol' printed it";

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_is_found_by_its_beginning_and_told_from_a_torn_one() {
        let token = Token::new().unwrap();
        let text = token.reveal();
        assert!(text.starts_with("shawk_") && text.len() == 78, "{}", text.len());
        assert_eq!(Token::parse(text), Some(token.clone()));
        assert_ne!(Token::new().unwrap(), token);
        let mistyped = if text.ends_with('0') { "1" } else { "0" };
        for torn in [&text[..77], &text[6..], &format!("{}{mistyped}", &text[..77]), ""] {
            assert_eq!(Token::parse(torn), None);
        }
        assert_eq!(Token::parse(&text.to_uppercase()), None);
        assert_eq!(Token::parse(&format!("{text} ")), None);
    }

    #[test]
    fn a_token_shows_itself_to_nobody() {
        let token = Token::new().unwrap();
        let source = TokenSource::Given(token.clone());
        assert_eq!(format!("{token:?} {source:?}"), "Token(***) Given(Token(***))");
    }

    /// `printf %s TOKEN | sha256sum` says which token a file or a log gave away.
    #[test]
    fn a_hash_is_that_of_the_text() {
        let token = Token(format!("shawk_{}", "0".repeat(72)));
        let hash = hex(&token.hash());
        assert_eq!(hash, "9b20aa3de2049c8532e5d23022b02bdf8459919a82481a1292029a05233cdf7a");
        assert_eq!(hash_of(&hash), Some(token.hash()));
        assert_eq!(hash_of(&hash[1..]), None);
        assert_eq!(hash_of(&"ä".repeat(32)), None);
    }

    #[test]
    fn a_file_that_others_may_read_holds_no_token() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let token = Token::new().unwrap();
        std::fs::write(file.path(), format!("{}\n", token.reveal())).unwrap();
        let source = TokenSource::File(file.path().to_owned());
        for mode in [0o600, 0o400] {
            file.as_file().set_permissions(Permissions::from_mode(mode)).unwrap();
            assert_eq!(source.read(), Ok(token.clone()));
        }
        for mode in [0o640, 0o604, 0o660, 0o644] {
            file.as_file().set_permissions(Permissions::from_mode(mode)).unwrap();
            assert!(source.read().unwrap_err().contains("chmod 600"));
        }
        file.as_file().set_permissions(Permissions::from_mode(0o600)).unwrap();
        std::fs::write(file.path(), &token.reveal()[..70]).unwrap();
        let refusal = source.read().unwrap_err();
        assert!(refusal.contains("no whole token") && !refusal.contains(&token.reveal()[..20]));
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        let made = std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&pipe).status();
        assert!(made.unwrap().success());
        for path in [&pipe, directory.path()] {
            let refusal = TokenSource::File(path.to_owned()).read().unwrap_err();
            assert!(refusal.contains("no regular file"), "{refusal}");
        }
        assert!(TokenSource::File("/no/such".into()).read().unwrap_err().contains("/no/such"));
    }
}
