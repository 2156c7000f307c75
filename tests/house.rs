//! The rules of the house that a compiler does not hold: which room may know
//! which, how long a file may be, which crates are used.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms in the order in which data walks through them, each with those it
/// may know. `flow` is the vocabulary of all.
const ROOMS: &[(&str, &str)] = &[
    ("flow", ""),
    ("probe", "flow"),
    ("prometheus", ""),
    ("daemon", "prometheus"),
    ("recall", "flow"),
    ("wire", "flow recall"),
    ("cmdb", "flow recall wire"),
    ("agent", "flow probe daemon prometheus wire cmdb"),
    ("labels", ""),
    ("graph", "flow recall labels"),
    ("study", "flow recall labels graph"),
    ("view", "flow recall labels graph study"),
    ("look", "flow recall labels cmdb graph"),
    ("ask", "flow recall labels cmdb graph study look"),
    ("cli", "flow probe recall cmdb agent labels graph study view"),
    ("serve", "flow daemon prometheus recall wire cmdb labels graph study view look ask cli"),
    ("fuzz", "flow probe wire cmdb agent labels cli serve"),
    ("run", "flow daemon probe recall cmdb agent labels graph study view look ask cli serve"),
];

/// Longest file, in lines; tests may be longer, since they are data.
const MAX_LINES: usize = 550;

/// Rooms that are plain functions: no clock, file, network, lock or log.
const PURE: [&str; 8] =
    ["flow", "prometheus", "recall", "wire", "labels", "graph", "study", "view"];

/// What a pure room must not mention.
const IMPURE: [&str; 10] = [
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::sync::Mutex",
    "std::thread",
    "std::env",
    "Timestamp::now",
    "SystemTime",
    "tokio::",
    "tracing::",
];

/// Every direct dependency. A new one is a line in a review.
const DEPENDENCIES: &[&str] = &[
    "anyhow",
    "clap",
    "crc",
    "form_urlencoded",
    "http-body-util",
    "hyper",
    "hyper-util",
    "foldhash",
    "ipnet",
    "jiff",
    "libbpf-cargo",
    "libbpf-rs",
    "libbpf-sys",
    "prost",
    "rusqlite",
    "rustix",
    "rustls",
    "rustls-native-certs",
    "rustls-webpki",
    "sd-notify",
    "serde",
    "serde_json",
    "sha2",
    "smallvec",
    "sqlx",
    "tokio",
    "tokio-rustls",
    "toml",
    "tracing",
    "tracing-subscriber",
    "wildmatch",
    "zstd",
    "expect-test",
    "rcgen",
    "tempfile",
];

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(directory: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("src"), &mut found);
    assert!(found.len() > 20, "the sources were not found");
    found
}

/// `src/cmdb/sql.rs` → `cmdb`.
fn room(path: &Path) -> String {
    let inside = path.strip_prefix("src").unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

fn is_test(path: &Path) -> bool {
    path.to_str().unwrap().contains("tests")
}

#[test]
fn no_room_knows_one_further_down() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let room = room(&path);
        if ["main", "lib"].contains(&room.as_str()) {
            continue;
        }
        let (_, may_know) = ROOMS
            .iter()
            .find(|(name, _)| *name == room)
            .unwrap_or_else(|| panic!("{}: no such room; add it to ROOMS", path.display()));
        for (other, _) in ROOMS {
            let knows = text.contains(&format!("crate::{other}::"))
                || text.contains(&format!("crate::{other};"))
                || text.contains(&format!("use crate::{other} "));
            // A test may ask the CMDB what it was told.
            let asks = is_test(&path) && *other == "recall";
            if knows && !asks && *other != room && may_know.split(" ").all(|known| known != *other)
            {
                wrong.push(format!("{} knows {other}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn pure_rooms_touch_nothing() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        if !PURE.contains(&room(&path).as_str()) || is_test(&path) {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap();
        for word in IMPURE {
            if code.contains(word) {
                wrong.push(format!("{} mentions {word}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        if lines > MAX_LINES && !is_test(&path) {
            wrong.push(format!("{} has {lines} lines", path.display()));
        }
        if !text.starts_with("//!") {
            wrong.push(format!("{} does not say what it is", path.display()));
        }
        for word in ["#[allow(", "#![allow(", "TODO", "FIXME", "pub use ", "use super::"] {
            let in_test = word == "use super::" && text.contains("(test");
            if text.contains(word) && !in_test {
                wrong.push(format!("{} has {word}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn unsafe_code_stands_where_it_is_declared() {
    let with_unsafe: BTreeSet<_> = sources()
        .into_iter()
        .filter(|(_, text)| text.contains("unsafe {") || text.contains("unsafe fn"))
        .map(|(path, _)| path.display().to_string())
        .collect();
    let declared = ["src/main.rs", "src/probe/bpf/batch.rs", "src/probe/bpf/misses.rs"];
    let declared = declared.map(str::to_owned);
    let declared = BTreeSet::from(declared);
    assert_eq!(with_unsafe, declared);
}

#[test]
fn every_dependency_was_a_line_in_a_review() {
    let manifest = fs::read_to_string("Cargo.toml").unwrap();
    let mut section = "";
    let mut found = BTreeSet::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]")
            && let Some((name, _)) = line.split_once(" = ")
        {
            found.insert(name);
        }
    }
    let declared: BTreeSet<_> = DEPENDENCIES.iter().copied().collect();
    assert_eq!(found, declared);
}
