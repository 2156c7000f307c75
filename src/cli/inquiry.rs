//! The questions that have a name of their own: from words, be they of the
//! command line or of a query, to an [`Inquiry`].

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::Arc;

use clap::{Arg, ArgAction, CommandFactory, Parser};
use jiff::Timestamp;

use crate::cli::args::inquiry::{InquiryArguments, InquiryWord, Query};
use crate::cli::labels::labels;
use crate::cli::selector::{selectors, window};
use crate::cli::settings::Settings;
use crate::cli::{Command, cmdb, one_line};
use crate::cmdb::url::CmdbUrl;
use crate::labels::Labels;
use crate::recall::{Selector, Window};
use crate::study::{About, Inquiry, Page};
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
}

/// Most lines of one answer.
const MAX_LINES: usize = 100_000;

/// What a query may say. Whatever else the command line takes (where the CMDB
/// is, say, or a file) is not for strangers.
const ASKED_OVER_HTTP: [&str; 13] = [
    "what", "ip", "ipv4", "ipv6", "host", "process", "port", "label", "since", "until", "at",
    "limit", "offset",
];

/// What an inquiry's words have in common once they are read.
struct Read {
    shared: InquiryArguments,
    inquiry: Inquiry,
}

/// An inquiry of the command line.
pub(crate) fn command(
    word: InquiryWord,
    settings: &Settings,
    now: Timestamp,
) -> Result<Command, String> {
    let Read { shared, inquiry } = read(word, now)?;
    let format: Format = shared.output.parse().map_err(|error| format!("--output: {error}"))?;
    if !matches!(format, Format::Table | Format::Json) {
        return Err(format!("--output: '{}' is not for this; choose table or json", format.name()));
    }
    let cmdb = cmdb(shared.cmdb.cmdb, settings)?;
    let options =
        InquiryOptions { cmdb, inquiry, labels: labels(shared.labels, settings)?, format };
    Ok(Command::Inquire(Box::new(options)))
}

/// What a query of this name may say, by the words of its command.
pub fn parameters(name: &str) -> BTreeSet<String> {
    let command = Query::command();
    let arguments = command.find_subcommand(name).into_iter().flat_map(|it| it.get_arguments());
    let words = arguments.map(|argument| match argument.get_long() {
        Some(long) => long.to_owned(),
        None => argument.get_id().to_string(),
    });
    words.filter(|word| ASKED_OVER_HTTP.contains(&word.as_str())).collect()
}

/// An inquiry of a query: the command line's words without the dashes. A flag
/// has the value true or false.
pub fn asked<'q>(
    name: &str,
    pairs: impl Iterator<Item = (impl AsRef<str> + 'q, impl AsRef<str> + 'q)>,
    now: Timestamp,
) -> Result<Inquiry, String> {
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
    let query = Query::try_parse_from(words).map_err(|error| one_line(&error, ""));
    let read = query.and_then(|query| read(query.word, now));
    read.map(|read| read.inquiry).map_err(|error| error.replace("--", ""))
}

/// The one place that knows which words an inquiry has.
fn read(word: InquiryWord, now: Timestamp) -> Result<Read, String> {
    let (shared, time, about) = match word {
        InquiryWord::Listeners(words) => {
            (words.shared, window(&words.window, now)?, About::Listeners)
        }
    };
    inquiry(shared, time, about)
}

fn inquiry(mut shared: InquiryArguments, window: Window, about: About) -> Result<Read, String> {
    let mut selectors = selectors(std::mem::take(&mut shared.of))?;
    if selectors.is_empty() {
        selectors.push(Selector::All);
    }
    let limit = number("--limit", &shared.limit, 1..=MAX_LINES)?;
    let offset = number("--offset", &shared.offset, 0..=usize::MAX)?;
    let page = Page { offset, limit };
    Ok(Read { shared, inquiry: Inquiry { selectors, window, page, about } })
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
