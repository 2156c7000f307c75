//! The command line and the environment → one command with its values.
//!
//! The one place that reads either. What it hands on are plain structs; what
//! it refuses is one line that names the value and the remedy.

pub mod args;
pub mod duration;
mod enrol;
pub mod inquiry;
pub mod labels;
mod policy;
mod probe;
mod selector;
mod serve;
pub mod settings;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};

use crate::agent::spool::SpoolPlan;
use crate::cli::args::{Arguments, LookArguments, Word};
use crate::cli::inquiry::{InquiryOptions, MAX_LINES, page};
use crate::cli::selector::{selectors, window};
use crate::cli::settings::Settings;
use crate::cmdb::enrol::Enrolment;
use crate::cmdb::token::{MISSHAPEN, Token, TokenSource};
use crate::cmdb::url::CmdbUrl;
use crate::flow::filter::Filter;
use crate::graph::page::Page;
use crate::graph::walk::Ways;
use crate::labels::Labels;
use crate::probe::choose::Mode;
use crate::recall::{Selector, Window};
use crate::view::Format;

/// What is to be done.
#[derive(Debug)]
pub enum Command {
    /// Print this text.
    Print(String),
    /// Print the licences.
    Credits,
    /// Probe this host.
    Probe(Box<ProbeOptions>),
    /// Look at the graph.
    Look(Box<LookOptions>),
    /// Answer one of the questions with a name of their own.
    Inquire(Box<InquiryOptions>),
    /// Collect reports and answer questions.
    Serve(Box<ServeOptions>),
    /// Create or migrate the schema.
    CreateScheme(CmdbUrl),
    /// Forget what was over before a moment.
    Prune(CmdbUrl, Timestamp),
    /// Make a token.
    Enrol(Box<EnrolOptions>),
    /// List the tokens.
    Tokens(CmdbUrl, Format),
    /// End tokens, by name or id.
    Revoke(CmdbUrl, String),
    /// Say what this host offers to a probe, which may be of another id.
    Doctor(Option<String>),
}

/// Everything the command line and the environment said.
#[derive(Debug)]
pub struct Invocation {
    /// What is to be done.
    pub command: Command,
    /// Whether to log in detail.
    pub debug: bool,
    /// To be said on standard error before anything else, a line each.
    pub warnings: Vec<String>,
}

/// What `shawk probe` was asked.
#[derive(Debug)]
pub struct ProbeOptions {
    /// Where reports go.
    pub cmdb: CmdbUrl,
    /// How sockets are read.
    pub mode: Mode,
    /// Between scans.
    pub interval: Duration,
    /// Between reports; not shorter than `interval`.
    pub flush: Duration,
    /// Scan once, record and exit.
    pub once: bool,
    /// Which peers are reported.
    pub filter: Filter,
    /// In place of the id from the machine id.
    pub host_id: Option<String>,
    /// In place of the kernel's host name.
    pub hostname: Option<String>,
    /// Where every snapshot is written to as well.
    pub record: Option<PathBuf>,
    /// A recording to be read in the kernel's place.
    pub replay: Option<PathBuf>,
    /// Where a daemon keeps what it cannot deliver; nowhere if absent.
    pub spool: Option<SpoolPlan>,
    /// Where a daemon tells of itself.
    pub metrics: Option<SocketAddr>,
}

/// What `shawk enrol` was asked.
#[derive(Debug)]
pub struct EnrolOptions {
    /// Where tokens are kept.
    pub cmdb: CmdbUrl,
    /// Whose it is and what it is for.
    pub enrolment: Enrolment,
}

/// What `shawk serve` was asked.
#[derive(Debug)]
pub struct ServeOptions {
    /// Where reports are recorded.
    pub cmdb: CmdbUrl,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Certificate and key, both PEM.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Who signs the certificates of those who may ask, PEM.
    pub client_ca: Option<PathBuf>,
    /// Whether everybody who asks has to be known.
    pub must_be_known: bool,
    /// Addresses that several hosts have by design.
    pub shared_addresses: Vec<IpNet>,
    /// Names it is asked by, beside those in its certificate.
    pub names: Vec<String>,
    /// Its file of labels.
    pub labels: Option<PathBuf>,
}

/// What a question's words mean.
#[derive(Debug)]
pub struct Asked {
    /// What a word may mean, likeliest first.
    pub selectors: Vec<Selector>,
    /// The range of time meant.
    pub window: Window,
    /// Steps to walk, at least 1.
    pub depth: u32,
    /// Which way to walk.
    pub ways: Ways,
    /// Which of its edges; all, if absent.
    pub page: Option<Page>,
}

/// What `shawk look` was asked.
#[derive(Debug)]
pub struct LookOptions {
    /// The CMDB asked.
    pub cmdb: CmdbUrl,
    /// What is asked; without selectors, about this host.
    pub asked: Asked,
    /// `SHAWK_HOST_ID`, for "this host".
    pub host_id: Option<String>,
    /// What people call things.
    pub labels: Arc<Labels>,
    /// How to print the answer.
    pub format: Format,
}

/// Most steps that a walk may be asked for. The longest path in a graph of
/// services is far shorter.
const MAX_DEPTH: u32 = 100;

/// What is younger is not to be forgotten: the unit of what is counted.
const YOUNG: SignedDuration = SignedDuration::from_hours(1);

/// Reads the command line (without the program's name) and the environment.
/// The error is one line, without the program's name, for exit code 2.
pub fn parse(
    arguments: impl Iterator<Item = OsString>,
    environment: impl Iterator<Item = (OsString, OsString)>,
    now: Timestamp,
) -> Result<Invocation, String> {
    let words = std::iter::once("shawk".into()).chain(arguments);
    let arguments = match Arguments::try_parse_from(words) {
        Ok(arguments) => arguments,
        Err(error) => return help_or_refusal(&error),
    };
    let settings = Settings::read(environment, arguments.global.env_file.as_deref())?;
    let debug = arguments.global.debug
        || pick(None, "--debug", &settings, &["SHAWK_DEBUG"], boolean)?.unwrap_or(false);
    let version = || Command::Print(format!("shawk {}\n", env!("CARGO_PKG_VERSION")));
    let command = match arguments.command {
        _ if arguments.global.version => version(),
        _ if arguments.global.credits => Command::Credits,
        Some(Word::Version) => version(),
        Some(Word::Credits) => Command::Credits,
        Some(Word::Doctor) => Command::Doctor(pick(None, "", &settings, &["SHAWK_HOST_ID"], text)?),
        Some(Word::CreateScheme(words)) => Command::CreateScheme(stored(words.cmdb, &settings)?),
        Some(Word::Prune(words)) => {
            let before = old(&words.older_than, now);
            let before = before.map_err(|error| format!("--older-than: {error}"))?;
            Command::Prune(stored(words.cmdb.cmdb, &settings)?, before)
        }
        Some(Word::Enrol(words)) => Command::Enrol(Box::new(enrol::enrol(words, &settings)?)),
        Some(Word::Tokens(words)) => enrol::tokens(words, &settings)?,
        Some(Word::Revoke(words)) => enrol::revoke(words, &settings)?,
        Some(Word::Probe(words)) => Command::Probe(Box::new(probe::probe(words, &settings)?)),
        Some(Word::Serve(words)) => Command::Serve(Box::new(serve::serve(words, &settings)?)),
        Some(Word::Query(words)) => inquiry::command(words, &settings, now)?,
        None => return Err("no command given; see 'shawk --help'".into()),
    };
    let warning = |name: &String| {
        format!("{name} is not a setting of shawk and is ignored; see 'shawk --help'")
    };
    let warnings = settings.unknown.iter().map(warning).collect();
    Ok(Invocation { command, debug, warnings })
}

/// What was over less than an hour ago may be of something that is not over: of
/// a host that has not told of it yet, or whose totals go on in that hour.
fn old(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let moment = duration::parse_past(text, now)?;
    match now.duration_since(moment) < YOUNG {
        true => Err(format!("'{text}' is less than an hour ago; write 1h or more, like 720h")),
        false => Ok(moment),
    }
}

/// clap answers `--help` as an error too. Its real errors are folded into one
/// line.
fn help_or_refusal(error: &clap::Error) -> Result<Invocation, String> {
    if matches!(error.kind(), ErrorKind::DisplayHelp) {
        let command = Command::Print(error.to_string());
        return Ok(Invocation { command, debug: false, warnings: Vec::new() });
    }
    Err(one_line(error, "see 'shawk --help'"))
}

/// What clap says in several lines, as one, with its own tip or this remedy.
fn one_line(error: &clap::Error, remedy: &str) -> String {
    if let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg)
        && word.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    {
        return format!(
            "no value begins with '{word}': write it without the '-'; 5m is 5 minutes, or so long ago"
        );
    }
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("wrong arguments");
    let mut said = first.strip_prefix("error: ").unwrap_or(first).to_owned();
    if said.ends_with(':') {
        said.extend(lines.clone().next().map(|line| format!(" {line}")));
    }
    let tip = lines.find_map(|line| line.strip_prefix("tip: "));
    // Whoever mistakes a flag means no word that looks like one.
    let tip = tip.filter(|tip| !tip.starts_with("to pass '"));
    match tip.unwrap_or(remedy) {
        "" => said,
        remedy => format!("{said}; {remedy}"),
    }
}

/// A value by flag, or by the first of some variables that is set. The error
/// says where the value stood.
fn pick<T>(
    flag: Option<String>,
    flag_name: &str,
    settings: &Settings,
    names: &[&str],
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    if let Some(value) = flag {
        return read(&value).map(Some).map_err(|error| format!("{flag_name}: {error}"));
    }
    for name in names {
        if let Some(value) = settings.get(name) {
            return read(&value).map(Some).map_err(|error| format!("{name}: {error}"));
        }
    }
    Ok(None)
}

fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err(format!("'{text}' is neither true nor false; write 1 or 0")),
    }
}

fn text(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("is empty; give it a value or leave it out".into());
    }
    Ok(text.to_owned())
}

fn cmdb(flag: Option<String>, settings: &Settings) -> Result<CmdbUrl, String> {
    let url = pick(flag, "--cmdb", settings, &["SHAWK_CMDB_URL"], CmdbUrl::parse)?;
    match url {
        None => default_cmdb(),
        Some(url) if url.is_remote() => Ok(url.with_token(token(settings)?)),
        Some(url) => Ok(url),
    }
}

/// The token that a collector is shown. It has no flag: a command line is there
/// for everybody to read. What is wrong with it is said without it.
fn token(settings: &Settings) -> Result<Option<TokenSource>, String> {
    match (settings.get("SHAWK_TOKEN"), settings.get("SHAWK_TOKEN_FILE")) {
        (None, None) => Ok(None),
        (None, Some(path)) => {
            let source = TokenSource::File(path.into());
            // It is read again when it is needed; a mistake is said at once.
            source.read().map_err(|error| format!("SHAWK_TOKEN_FILE: {error}"))?;
            Ok(Some(source))
        }
        (Some(text), None) => match Token::parse(text.trim()) {
            Some(token) => Ok(Some(TokenSource::Given(token))),
            None => Err(format!("SHAWK_TOKEN: {MISSHAPEN}")),
        },
        (Some(_), Some(_)) => {
            Err("SHAWK_TOKEN and SHAWK_TOKEN_FILE are both set; leave out SHAWK_TOKEN".into())
        }
    }
}

/// As [`cmdb`], of a command that changes the database itself.
fn stored(flag: Option<String>, settings: &Settings) -> Result<CmdbUrl, String> {
    let url = cmdb(flag, settings)?;
    if url.is_remote() {
        return Err(format!(
            "{url} is a collector, which does not do that: name its own CMDB with --cmdb"
        ));
    }
    Ok(url)
}

/// The embedded CMDB where systemd's `StateDirectory=` and the XDG base
/// directory specification put such files.
fn default_cmdb() -> Result<CmdbUrl, String> {
    let directory = state_directory()
        .ok_or("no place for the CMDB, as HOME is not set; name one with --cmdb")?;
    let path = directory.join("cmdb.db");
    let path = path.to_str().ok_or("HOME is not valid UTF-8; name a CMDB with --cmdb")?;
    CmdbUrl::parse(&format!("sqlite:{path}"))
}

fn state_directory() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/shawk"));
    }
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let state = absolute("XDG_STATE_HOME");
    let state = state.or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    state.map(|state| state.join("shawk"))
}

fn look(words: LookArguments, settings: &Settings, now: Timestamp) -> Result<LookOptions, String> {
    let format = words.output.parse().map_err(|error| format!("--output: {error}"))?;
    Ok(LookOptions {
        cmdb: cmdb(words.cmdb.cmdb.clone(), settings)?,
        labels: labels::labels(words.labels.clone(), settings)?,
        asked: asked(words, now)?,
        host_id: pick(None, "", settings, &["SHAWK_HOST_ID"], text)?,
        format,
    })
}

/// What the words of a question mean.
pub fn asked(words: LookArguments, now: Timestamp) -> Result<Asked, String> {
    let paged = words.limit.is_some() || words.after.is_some();
    let limit = words.limit.unwrap_or_else(|| MAX_LINES.to_string());
    let page = page(&limit, words.after.as_deref(), now)?;
    let window = window(&words.window, page.asked)?;
    let depth = depth(&words.depth)?;
    let ways = match (words.up, words.down) {
        (true, false) => Ways::Up,
        (false, true) => Ways::Down,
        _ => Ways::Both,
    };
    Ok(Asked { selectors: selectors(words.of)?, window, depth, ways, page: paged.then_some(page) })
}

/// How many steps to walk.
fn depth(text: &str) -> Result<u32, String> {
    let depth = text.parse().ok().filter(|depth| (1..=MAX_DEPTH).contains(depth));
    depth.ok_or_else(|| {
        format!("--depth: '{text}' is not a number of steps; choose from 1 to {MAX_DEPTH}")
    })
}

#[cfg(test)]
mod tests;
