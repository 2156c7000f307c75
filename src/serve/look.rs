//! `GET /api/v1/look`: the graph as JSON (docs/look-json.md), asked for in the
//! words of `shawk look`. `GET /api/v1/look.svg`: the same as a picture.
//! `GET /api/v1/groups`: the same, folded (docs/groups-json.md).

use std::io::Write as _;

use jiff::Timestamp;

use crate::cli::args::{
    CmdbArguments, LabelsArguments, LookArguments, SelectorArguments, WindowArguments,
};
use crate::cli::{self, Asked, inquiry};
use crate::graph::group::{self, By};
use crate::graph::page::Page;
use crate::graph::search::Answer;
use crate::look;
use crate::recall::Role;
use crate::serve::reply::{self, Refusal, Reply};
use crate::serve::trust::Caller;
use crate::serve::{State, recall};
use crate::view::{self, Format};

/// Most groups of one answer: more is no overview.
const MAX_GROUPS: usize = 150;

/// The word for grouping by whatever gives few groups.
const AUTO: &str = "auto";

/// What is asked of the graph, in words.
pub(crate) struct Words {
    asked: Asked,
    /// Nothing: by whatever fits.
    by: Option<By>,
    /// The one group that is asked about.
    group: Option<String>,
}

/// As a document or a picture.
pub(crate) async fn answer(
    state: &State,
    caller: Caller,
    query: &str,
    format: Format,
) -> Result<Reply, Refusal> {
    caller.may(Role::Read)?;
    let now = Timestamp::now();
    let words = understand(query, now, None).map_err(Refusal::of_words)?;
    let (by, group) = (words.by.unwrap_or(By::Host), words.group.clone());
    let _turn = recall::turn(state).await?;
    let page = words.asked.page;
    let answer = find(state, words.asked, now).await?;
    let path = if format == Format::Svg { "/api/v1/look.svg" } else { "/api/v1/look" };
    paged(answer, page, format, (path, query), |answer| {
        if let Some(group) = group {
            group::narrow(answer, by, |graph, common| view::group_word(graph, common) == group);
        }
    })
}

/// `GET /api/v1/export`: the same of everything at once, in any format that is
/// for programs; `only` that one, where the path says which.
pub(crate) async fn export(
    state: &State,
    caller: Caller,
    query: &str,
    only: Option<Format>,
) -> Result<Reply, Refusal> {
    caller.may(Role::Read)?;
    let now = Timestamp::now();
    let pairs = form_urlencoded::parse(query.as_bytes());
    let (asked, format) = inquiry::asked_export(pairs, now).map_err(Refusal::of_words)?;
    let path = if only.is_some() { "/api/v1/grafana/api/graph/data" } else { "/api/v1/export" };
    let format = only.unwrap_or(format);
    let page = asked.page;
    let _turn = recall::turn(state).await?;
    let answer = find(state, asked, now).await?;
    paged(answer, page, format, (path, query), |_| {})
}

/// The page that is asked for, of what `narrow` leaves, and where the next is.
fn paged(
    mut answer: Answer,
    page: Option<Page>,
    format: Format,
    (path, query): (&str, &str),
    narrow: impl FnOnce(&mut Answer),
) -> Result<Reply, Refusal> {
    let mut next = None;
    let reply = reply::printed(format.media_type(), |text| {
        narrow(&mut answer);
        if let Some(page) = page {
            answer.turn(&page);
        }
        next = answer.part.and_then(|part| part.next);
        view::write(&answer, format, false, text)
    });
    reply.map(|reply| reply::with_next(reply, path, query, next))
}

/// Folded, of all that is known unless something else is asked about.
pub(crate) async fn groups(state: &State, caller: Caller, query: &str) -> Result<Reply, Refusal> {
    caller.may(Role::Read)?;
    let now = Timestamp::now();
    let words = understand(query, now, Some("*")).map_err(Refusal::of_words)?;
    let by = words.by;
    let _turn = recall::turn(state).await?;
    let answer = find(state, words.asked, now).await?;
    reply::printed("application/json", |text| {
        let by = by.unwrap_or_else(|| group::fitting(&answer));
        let groups = group::fold(&answer, by, MAX_GROUPS);
        text.write_all(view::groups(&answer, by, &groups)?.as_bytes())
    })
}

async fn find(state: &State, asked: Asked, now: Timestamp) -> Result<Answer, Refusal> {
    let question =
        look::question(asked.selectors, asked.window, asked.depth, asked.ways, state.labels.now());
    let cmdb = state.cmdb().map_err(|fault| Refusal::of_cmdb(&fault.into()))?;
    let answer = look::look(&cmdb, question, now).await;
    let answer = answer.map_err(|error| Refusal::of_cmdb(&error))?;
    state.metrics.questions.add(1);
    Ok(answer)
}

/// A query's words are those of the command line, without the dashes; one
/// without a selector means `otherwise`.
pub(crate) fn understand(
    query: &str,
    now: Timestamp,
    otherwise: Option<&str>,
) -> Result<Words, String> {
    let mut words = LookArguments {
        of: SelectorArguments::default(),
        cmdb: CmdbArguments { cmdb: None },
        labels: LabelsArguments::default(),
        depth: "1".to_owned(),
        up: false,
        down: false,
        window: WindowArguments::default(),
        output: Format::Json.name().to_owned(),
    };
    let (mut by, mut group, mut limit, mut after) = (None, None, None, None);
    let mut selectors = 0;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let value = value.into_owned();
        let word = match name.as_ref() {
            "what" => &mut words.of.what,
            "ip" => &mut words.of.ip,
            "host" => &mut words.of.host,
            "process" => &mut words.of.process,
            "port" => &mut words.of.port,
            "label" => &mut words.of.label,
            "since" => &mut words.window.since,
            "until" => &mut words.window.until,
            "at" => &mut words.window.at,
            "by" => &mut by,
            "group" => &mut group,
            // Groups are a whole in any case.
            "limit" if otherwise.is_none() => &mut limit,
            "after" if otherwise.is_none() => &mut after,
            "depth" => {
                words.depth = value;
                continue;
            }
            "ways" => {
                (words.up, words.down) = match value.as_str() {
                    "up" => (true, false),
                    "down" => (false, true),
                    "both" => (true, true),
                    _ => return Err(format!("ways: '{value}' is neither up, down nor both")),
                };
                continue;
            }
            _ => return Err(format!("'{name}' is no parameter of this")),
        };
        selectors +=
            usize::from(["what", "ip", "host", "process", "port", "label"].contains(&&*name));
        if word.replace(value).is_some() {
            return Err(format!("'{name}' stands there twice"));
        }
    }
    if selectors == 0
        && let Some(otherwise) = otherwise
    {
        words.of.what = Some(otherwise.to_owned());
    } else if selectors != 1 {
        return Err("give one of what, ip, host, process, port and label".to_owned());
    }
    let window = &words.window;
    if window.at.is_some() && (window.since.is_some() || window.until.is_some()) {
        return Err("give at, or since and until".to_owned());
    }
    let by = match by.as_deref() {
        None => Some(By::Host),
        Some(AUTO) => None,
        Some(by) => {
            let known = By::ALL.into_iter().find(|known| known.name() == by);
            let names = By::ALL.map(By::name).join(", ");
            let error =
                || format!("by: '{by}' is nothing to group by; choose from {AUTO}, {names}");
            Some(known.ok_or_else(error)?)
        }
    };
    let undashed = |error: String| error.replace("--", "");
    let limit = limit.unwrap_or_else(|| inquiry::MAX_LINES.to_string());
    let page = inquiry::page(&limit, after.as_deref(), now).map_err(undashed)?;
    let asked = cli::asked(words, page.asked).map_err(undashed)?;
    Ok(Words { asked: Asked { page: Some(page), ..asked }, by, group })
}
