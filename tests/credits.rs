//! `CREDITS`, which `shawk credits` prints, names everything in the binary. It
//! is generated here from the lock file: `SHAWK_TEST_UPDATE=1 cargo test --test
//! credits` writes it anew; without that, a stale one fails.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The platform whose dependencies are listed, so that the file is the same
/// wherever it is generated.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// What is written in C: name, licence, home, and where libbpf-sys, which comes
/// with the sources of most of it, has the text.
const C_LIBRARIES: [(&str, &str, &str, Option<&str>); 5] = [
    (
        "libbpf",
        "BSD-2-Clause, of LGPL-2.1 OR BSD-2-Clause",
        "https://github.com/libbpf/libbpf",
        Some("libbpf/LICENSE.BSD-2-Clause"),
    ),
    (
        "libelf",
        "LGPL-3.0-or-later, of that OR GPL-2.0-or-later",
        "https://sourceware.org/elfutils/",
        Some("elfutils/COPYING-LGPLV3"),
    ),
    ("zlib", "Zlib", "https://zlib.net", Some("zlib/LICENSE")),
    (
        "glibc",
        "LGPL-2.1-or-later",
        "https://sourceware.org/glibc/",
        Some("libbpf/LICENSE.LGPL-2.1"),
    ),
    ("SQLite", "public domain", "https://sqlite.org", None),
];

#[test]
fn credits_name_everything_in_the_binary() {
    let generated = credits(&metadata());
    if std::env::var_os("SHAWK_TEST_UPDATE").is_some() {
        fs::write("CREDITS", &generated).unwrap();
    }
    let kept = fs::read_to_string("CREDITS").unwrap_or_default();
    assert!(
        kept == generated,
        "CREDITS is stale; run: SHAWK_TEST_UPDATE=1 cargo test --test credits"
    );
    assert!(kept.contains("\nsqlx ") && kept.contains("Permission is hereby granted"));
    assert!(kept.contains("\nsigma "));
    for (name, ..) in C_LIBRARIES {
        assert!(kept.contains(&format!("\n{name}  ")), "{name} is not named");
    }
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--filter-platform", PLATFORM])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The packages that `shawk` is linked from: normal dependencies, all the way.
fn linked(metadata: &Value) -> BTreeSet<&str> {
    let nodes: BTreeMap<&str, &Value> = metadata["resolve"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| (node["id"].as_str().unwrap(), node))
        .collect();
    let mut found = BTreeSet::new();
    let mut open = vec![metadata["resolve"]["root"].as_str().unwrap()];
    while let Some(id) = open.pop() {
        for dependency in nodes[id]["deps"].as_array().unwrap() {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            let normal = kinds.iter().any(|kind| kind["kind"].is_null());
            let id = dependency["pkg"].as_str().unwrap();
            if normal && found.insert(id) {
                open.push(id);
            }
        }
    }
    found
}

fn credits(metadata: &Value) -> String {
    let linked = linked(metadata);
    let mut list = String::new();
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut packages: Vec<&Value> = metadata["packages"].as_array().unwrap().iter().collect();
    packages.retain(|package| linked.contains(package["id"].as_str().unwrap()));
    packages.sort_by_key(|package| (package["name"].as_str(), package["version"].as_str()));
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let version = package["version"].as_str().unwrap();
        let licence = package["license"].as_str().unwrap_or("see its repository");
        let home = package["repository"].as_str().unwrap_or("");
        writeln!(list, "{name} {version}  {licence}  {home}").unwrap();
        let directory = Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap();
        for text in licence_texts(directory, licence) {
            texts.entry(text).or_default().insert(name.to_owned());
        }
    }
    let mut all = format!(
        "shawk stands on the work of others. The binary holds these packages:\n\n{list}\n\
         and these C libraries, linked in or, in a build that is not static, beside it:\n\n"
    );
    for (name, licence, home, _) in C_LIBRARIES {
        writeln!(all, "{name}  {licence}  {home}").unwrap();
    }
    all.push_str("\nand in the page that it serves:\n\n");
    let page: Value =
        serde_json::from_str(&fs::read_to_string("web/dist/credits.json").unwrap()).unwrap();
    for package in page.as_array().unwrap() {
        let text = |field: &str| package[field].as_str().unwrap();
        let [name, version, licence, home] = ["name", "version", "license", "home"].map(text);
        writeln!(all, "{name} {version}  {licence}  {home}").unwrap();
        texts.entry(tidy(text("text"))).or_default().insert(name.to_owned());
    }
    let sources = sources_of(metadata, "libbpf-sys");
    for (name, _, _, file) in C_LIBRARIES {
        if let Some(file) = file {
            let text = fs::read_to_string(sources.join(file)).unwrap();
            texts.entry(tidy(&text)).or_default().insert((*name).to_owned());
        }
    }
    let mut by_names: Vec<_> = texts.into_iter().map(|(text, names)| (names, text)).collect();
    by_names.sort();
    for (names, text) in by_names {
        let names: Vec<_> = names.into_iter().collect();
        write!(all, "\n{}\n{}:\n\n{text}\n", "-".repeat(78), names.join(", ")).unwrap();
    }
    all
}

/// Where a package's files are.
fn sources_of(metadata: &Value, name: &str) -> PathBuf {
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|package| package["name"] == name).unwrap();
    Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap().to_owned()
}

fn tidy(text: &str) -> String {
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// The licence files of a package; where it offers a choice, the MIT one.
fn licence_texts(directory: &Path, licence: &str) -> Vec<String> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| {
            let upper = name.to_uppercase();
            ["LICENSE", "LICENCE", "COPYING", "UNLICENSE"].iter().any(|w| upper.starts_with(w))
                && directory.join(name).is_file()
        })
        .collect();
    files.sort();
    let is_choice = licence.contains(" OR ") || licence.contains('/');
    if is_choice && let Some(mit) = files.iter().find(|name| name.to_uppercase().contains("MIT")) {
        files = vec![mit.clone()];
    }
    let read = |name: &String| fs::read_to_string(directory.join(name)).unwrap();
    files.iter().map(read).map(|text| tidy(&text)).collect()
}
