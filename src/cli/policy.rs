//! `shawk policy`: from words to a plan.

use std::fs::File;
use std::io::Read;

use crate::cli::args::inquiry::PolicyArguments;
use crate::study::audit::{Ruleset, nft};
use crate::study::policy::{Plan, Syntax};

/// Largest ruleset that is read, bytes.
const MAX_RULESET: u64 = 64 << 20;

/// What the words mean.
pub(crate) fn plan(words: &PolicyArguments) -> Result<Plan, String> {
    let syntax = Syntax::ALL.into_iter().find(|syntax| syntax.name() == words.format);
    let syntax = syntax.ok_or_else(|| {
        let names: Vec<&str> = Syntax::ALL.into_iter().map(Syntax::name).collect();
        format!("--format: '{}' is not known; choose from {}", words.format, names.join(", "))
    })?;
    let (inward, outward) = match words.direction.as_str() {
        "in" => (true, false),
        "out" => (false, true),
        "both" => (true, true),
        word => return Err(format!("--direction: '{word}' is not a way; choose in, out or both")),
    };
    let prefixes = words.aggregate.as_deref().map_or(Ok((32, 128)), prefixes)?;
    let audit = words.audit.as_deref().map(ruleset).transpose()?;
    Ok(Plan { syntax, inward, outward, prefixes, enforce: words.enforce, audit })
}

/// `/24`, `/24,/64`: of IPv4, and of IPv6 where one is said.
fn prefixes(text: &str) -> Result<(u8, u8), String> {
    let wrong = || format!("--aggregate: '{text}' is no prefix; write /24, or /24,/64");
    let one = |word: &str, most: u8| {
        let number = word.trim().trim_start_matches('/').parse().map_err(|_| wrong())?;
        if (1..=most).contains(&number) { Ok(number) } else { Err(wrong()) }
    };
    match text.split_once(',') {
        Some((v4, v6)) => Ok((one(v4, 32)?, one(v6, 128)?)),
        None => Ok((one(text, 32)?, 128)),
    }
}

fn ruleset(path: &str) -> Result<Ruleset, String> {
    let failed = |error: std::io::Error| format!("--audit: {path} cannot be read: {error}");
    let file = File::open(path).map_err(failed)?;
    let mut text = String::new();
    file.take(MAX_RULESET + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_RULESET {
        return Err(format!("--audit: {path} is larger than 64 MiB"));
    }
    nft::parse(&text).map_err(|error| format!("--audit: {path}: {error}"))
}
