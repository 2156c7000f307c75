//! The questions that have a name of their own: from words, be they of the
//! command line or of a query, to an [`Inquiry`].

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, ArgAction, CommandFactory, Parser};
use jiff::{SignedDuration, Timestamp};

use crate::cli::args::inquiry::{
    DiffArguments, ExportArguments, InquiryArguments, InquiryWord, Query, QueryWord,
};
use crate::cli::args::{LookArguments, SelectorArguments, WindowArguments};
use crate::cli::labels::labels;
use crate::cli::policy;
use crate::cli::selector::{selectors, window};
use crate::cli::settings::Settings;
use crate::cli::{Asked, Command, LookOptions, cmdb, depth, duration, look, one_line};
use crate::cmdb::url::CmdbUrl;
use crate::graph::page::{Cursor, Page};
use crate::graph::walk::Ways;
use crate::labels::Labels;
use crate::recall::{Selector, Window};
use crate::study::diff::Moments;
use crate::study::drain::Quiet;
use crate::study::impact::Decommission;
use crate::study::{About, Inquiry};
use crate::view::Format;

/// What an inquiry of the command line was asked.
#[derive(Debug)]
pub struct InquiryOptions {
    /// The CMDB asked.
    pub cmdb: CmdbUrl,
    /// What is asked.
    pub inquiry: Inquiry,
    /// What people call things.
    pub labels: Arc<Labels>,
    /// How to print the answer.
    pub format: Format,
    /// Whether to ask again and again.
    pub watch: Option<Repeat>,
}

/// How an inquiry is asked again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeat {
    /// Between two questions.
    pub interval: Duration,
    /// In all, at most.
    pub timeout: Option<Duration>,
}

/// Most lines of one answer.
pub(crate) const MAX_LINES: usize = 100_000;

/// What "now" means to a question about what goes on.
const RECENT: SignedDuration = SignedDuration::from_hours(24);

/// What a query may say. Whatever else the command line takes (where the CMDB
/// is, say, or a file) is not for strangers.
const ASKED_OVER_HTTP: &str = "what ip ipv4 ipv6 host process port label since until at limit after \
    up down from to window depth decommission watched trust-polling for except format direction aggregate enforce";

/// The one question whose answer has several formats over HTTP, too.
const EXPORT: &str = "export";

/// What an inquiry's words have in common once they are read.
struct Read {
    shared: InquiryArguments,
    inquiry: Inquiry,
    watch: Option<Repeat>,
}

/// An inquiry of the command line.
pub(crate) fn command(
    word: QueryWord,
    settings: &Settings,
    now: Timestamp,
) -> Result<Command, String> {
    let word = match word {
        QueryWord::Inquiry(word) => word,
        QueryWord::Look(words) => {
            return Ok(Command::Look(Box::new(look(words, settings, now)?)));
        }
        QueryWord::Export(words) => {
            let options = LookOptions {
                cmdb: cmdb(words.cmdb.cmdb.clone(), settings)?,
                labels: labels(words.labels.clone(), settings)?,
                host_id: None,
                format: exported_format(&words)?,
                asked: exported(words, now)?,
            };
            return Ok(Command::Look(Box::new(options)));
        }
    };
    let Read { shared, inquiry, watch } = read(word, now)?;
    let format: Format = shared.output.parse().map_err(|error| format!("--output: {error}"))?;
    if !matches!(format, Format::Table | Format::Json) {
        return Err(format!("--output: '{}' is not for this; choose table or json", format.name()));
    }
    let cmdb = cmdb(shared.cmdb.cmdb, settings)?;
    let labels = labels(shared.labels, settings)?;
    let options = InquiryOptions { cmdb, inquiry, labels, format, watch };
    Ok(Command::Inquire(Box::new(options)))
}

/// Formats that are for programs.
const EXPORTED: [Format; 6] =
    [Format::Json, Format::Csv, Format::Dot, Format::Mermaid, Format::GraphMl, Format::Grafana];

/// One of them.
fn exported_format(words: &ExportArguments) -> Result<Format, String> {
    let known = EXPORTED.into_iter().find(|format| format.name() == words.output);
    known.ok_or_else(|| {
        let names = EXPORTED.map(Format::name).join(", ");
        format!("--output: '{}' is no format of an export; choose from {names}", words.output)
    })
}

/// An export is one step from all that is meant, or from everything.
fn exported(words: ExportArguments, now: Timestamp) -> Result<Asked, String> {
    let page = page(&words.limit, words.after.as_deref(), now)?;
    let window = window(&words.window, page.asked)?;
    let selectors = all_without(selectors(words.of)?);
    Ok(Asked { selectors, window, depth: 1, ways: Ways::Both, page: Some(page) })
}

/// Without a selector, everything is meant.
fn all_without(selectors: Vec<Selector>) -> Vec<Selector> {
    if selectors.is_empty() { vec![Selector::All] } else { selectors }
}

/// What a query of this name may say, by the words of its command.
pub fn parameters(name: &str) -> BTreeSet<String> {
    let command = Query::command();
    let arguments = command.find_subcommand(name).into_iter().flat_map(|it| it.get_arguments());
    let words = arguments.map(|argument| match argument.get_long() {
        Some(long) => long.to_owned(),
        None => argument.get_id().to_string(),
    });
    let output = |word: &str| name == EXPORT && word == "output";
    let asked = |word: &str| ASKED_OVER_HTTP.split(' ').any(|known| known == word);
    words.filter(|word| asked(word) || output(word)).collect()
}

/// An inquiry of a query: the command line's words without the dashes.
pub fn asked<'q>(
    name: &str,
    pairs: impl Iterator<Item = (impl AsRef<str> + 'q, impl AsRef<str> + 'q)>,
    now: Timestamp,
) -> Result<Inquiry, String> {
    let read = match query(name, pairs)? {
        QueryWord::Inquiry(word) => read(word, now),
        QueryWord::Look(_) | QueryWord::Export(_) => Err("that is no inquiry".to_owned()),
    };
    read.map(|read| read.inquiry).map_err(undashed)
}

/// An export of a query, and its format.
pub fn asked_export<'q>(
    pairs: impl Iterator<Item = (impl AsRef<str> + 'q, impl AsRef<str> + 'q)>,
    now: Timestamp,
) -> Result<(Asked, Format), String> {
    let read = match query(EXPORT, pairs)? {
        QueryWord::Export(words) => {
            exported_format(&words).and_then(|format| Ok((exported(words, now)?, format)))
        }
        QueryWord::Inquiry(_) | QueryWord::Look(_) => Err("that is no export".to_owned()),
    };
    read.map_err(undashed)
}

/// The words of a look, as they stand in a query.
pub fn asked_look<'q>(
    pairs: impl Iterator<Item = (impl AsRef<str> + 'q, impl AsRef<str> + 'q)>,
) -> Result<LookArguments, String> {
    match query("look", pairs)? {
        QueryWord::Look(words) => Ok(words),
        QueryWord::Inquiry(_) | QueryWord::Export(_) => Err("that is no look".to_owned()),
    }
}

pub(crate) fn undashed(error: String) -> String {
    error.replace("--", "")
}

/// The words of a query. A flag has the value true or false.
fn query<'q>(
    name: &str,
    pairs: impl Iterator<Item = (impl AsRef<str> + 'q, impl AsRef<str> + 'q)>,
) -> Result<QueryWord, String> {
    let command = Query::command();
    let known = command.find_subcommand(name).ok_or("there is no such question")?;
    let parameters = parameters(name);
    let mut words: Vec<OsString> = vec!["query".into(), name.into()];
    let mut bare = None;
    for (name, value) in pairs {
        let (name, value) = (name.as_ref(), value.as_ref());
        let named = |argument: &&Arg| {
            argument.get_id() == name || argument.get_long().is_some_and(|long| long == name)
        };
        let argument = known.get_arguments().find(named).filter(|_| parameters.contains(name));
        let argument = argument.ok_or_else(|| format!("'{name}' is no parameter of this"))?;
        match (argument.get_action(), value) {
            _ if argument.is_positional() => {
                if bare.replace(value.to_owned()).is_some() {
                    return Err(format!("'{name}' stands there twice"));
                }
            }
            (ArgAction::SetTrue, "true") => words.push(format!("--{name}").into()),
            (ArgAction::SetTrue, "false") => {}
            (ArgAction::SetTrue, _) => {
                return Err(format!("{name}: '{value}' is neither true nor false"));
            }
            _ => words.push(format!("--{name}={value}").into()),
        }
    }
    words.extend(bare.into_iter().flat_map(|bare| ["--".into(), bare.into()]));
    let query = Query::try_parse_from(words).map_err(|error| undashed(one_line(&error, "")));
    query.map(|query| query.word)
}

/// The one place that knows which words an inquiry has.
fn read(word: InquiryWord, now: Timestamp) -> Result<Read, String> {
    let shared = match &word {
        InquiryWord::Listeners(words) => &words.shared,
        InquiryWord::Impact(words) => &words.shared,
        InquiryWord::Drain(words) => &words.shared,
        InquiryWord::Policy(words) => &words.shared,
        InquiryWord::Diff(words) => &words.shared,
        InquiryWord::Failing(words) => &words.shared,
        InquiryWord::Unexplained(words) => &words.shared,
    };
    let page = page(&shared.limit, shared.after.as_deref(), now)?;
    let now = page.asked;
    let inquiry = |shared, window, about| inquiry(shared, window, page, about);
    match word {
        InquiryWord::Listeners(words) => {
            inquiry(words.shared, window(&words.window, now)?, About::Listeners)
        }
        InquiryWord::Impact(words) => {
            let depth = depth(&words.depth)?;
            let watched = length("--watched", &words.watched)?;
            let decommission = Decommission { watched, polled: words.trust_polling };
            let decommission = words.decommission.then_some(decommission);
            let about = About::Impact { depth, decommission };
            inquiry(named("impact", words.shared)?, window(&words.window, now)?, about)
        }
        InquiryWord::Drain(words) => {
            let time = length("--for", &words.time)?;
            let shared = named("drain", words.shared)?;
            let timeout = words.timeout.as_deref().map(|text| pause("--timeout", text));
            let repeat = Repeat {
                interval: pause("--interval", &words.interval)?,
                timeout: timeout.transpose()?,
            };
            let except = words.except.iter().map(|word| except(word)).collect::<Result<_, _>>()?;
            let about = About::Drain(Quiet { time, except });
            let read = inquiry(shared, Window::default(), about)?;
            Ok(Read { watch: words.watch.then_some(repeat), ..read })
        }
        InquiryWord::Policy(words) => {
            let about = About::Policy(policy::plan(&words)?);
            inquiry(named("policy", words.shared)?, window(&words.window, now)?, about)
        }
        InquiryWord::Failing(words) => {
            let about = About::Failing(words.exit_code);
            inquiry(words.shared, recent(&words.window, now)?, about)
        }
        InquiryWord::Unexplained(words) => {
            inquiry(words.shared, recent(&words.window, now)?, About::Unexplained)
        }
        InquiryWord::Diff(words) => {
            let moments = moments(&words, now)?;
            inquiry(words.shared, Window::default(), About::Diff(moments))
        }
    }
}

/// Who does not count. A bare word may mean several things, as elsewhere.
fn except(word: &str) -> Result<Vec<Selector>, String> {
    let of = SelectorArguments { what: Some(word.to_owned()), ..SelectorArguments::default() };
    let meant = selectors(of).map_err(|error| format!("--except: {error}"))?;
    let where_to = |meant: &Selector| meant.port().is_some() || *meant == Selector::All;
    match meant.iter().any(where_to) {
        true => Err(format!(
            "--except: '{word}' is not who connects; name an address, network, host, process or label"
        )),
        false => Ok(meant),
    }
}

/// Some questions are about something; the whole fleet is no answer to them,
/// be it named or not.
fn named(command: &str, shared: InquiryArguments) -> Result<InquiryArguments, String> {
    let of = &shared.of;
    let all = [&of.what, &of.ip, &of.ipv4, &of.ipv6, &of.host, &of.process, &of.port, &of.label];
    if all.iter().all(|word| word.is_none()) || of.what.as_deref() == Some("*") {
        return Err(format!(
            "{command} of what? name a host, process, port, address or ADDRESS:PORT"
        ));
    }
    Ok(shared)
}

/// The window of a question about how things are: the last day, unless another
/// is given.
fn recent(words: &WindowArguments, now: Timestamp) -> Result<Window, String> {
    let given = window(words, now)?;
    if given != Window::default() {
        return Ok(given);
    }
    Ok(Window { since: now.checked_sub(RECENT).ok(), until: None })
}

fn moments(words: &DiffArguments, now: Timestamp) -> Result<Moments, String> {
    let moment = |flag: &str, value: &str| {
        duration::parse_past(value, now).map_err(|error| format!("{flag}: {error}"))
    };
    let from = moment("--from", &words.from)?;
    let to = words.to.as_deref().map(|to| moment("--to", to)).transpose()?.unwrap_or(now);
    if from >= to {
        return Err(format!("--from {from} is not before --to {to}; swap them"));
    }
    let window = duration::parse(&words.window).and_then(|window| {
        let known = SignedDuration::try_from(window).ok().filter(|window| window.is_positive());
        known.ok_or_else(|| format!("'{}' is no length of time to look at", words.window))
    });
    let window = window.map_err(|error| format!("--window: {error}"))?;
    Ok(Moments { from, to, window, exit_code: words.exit_code })
}

/// Which part of a list; of which time the words speak is the first page's
/// matter.
pub(crate) fn page(limit: &str, after: Option<&str>, now: Timestamp) -> Result<Page, String> {
    let limit = number("--limit", limit, 1..=MAX_LINES)?;
    let after = after.map(str::parse::<Cursor>).transpose();
    let after = after.map_err(|error| format!("--after: {error}"))?;
    let asked = after.and_then(|after| after.asked()).unwrap_or(now);
    Ok(Page { limit, after, asked })
}

fn inquiry(
    mut shared: InquiryArguments,
    window: Window,
    page: Page,
    about: About,
) -> Result<Read, String> {
    let selectors = all_without(selectors(std::mem::take(&mut shared.of))?);
    Ok(Read { shared, inquiry: Inquiry { selectors, window, page, about }, watch: None })
}

/// A length of time that is longer than nothing.
pub(crate) fn pause(flag: &str, text: &str) -> Result<Duration, String> {
    let length = duration::parse(text).map_err(|error| format!("{flag}: {error}"))?;
    if length.is_zero() {
        return Err(format!("{flag}: '{text}' is no time at all; write 1s or more"));
    }
    Ok(length)
}

fn length(flag: &str, text: &str) -> Result<SignedDuration, String> {
    let length = SignedDuration::try_from(pause(flag, text)?);
    length.map_err(|_| format!("{flag}: '{text}' is too long"))
}

fn number(
    flag: &str,
    value: &str,
    range: std::ops::RangeInclusive<usize>,
) -> Result<usize, String> {
    value.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
        let (from, to) = range.into_inner();
        format!("{flag}: '{value}' is not a number from {from} to {to}")
    })
}
