//! `GET /api/v1/look`: the graph as JSON (docs/look-json.md), asked for in the
//! words of `shawk look`.

use hyper::StatusCode;
use jiff::Timestamp;

use crate::cli::args::{
    CmdbArguments, LabelsArguments, LookArguments, SelectorArguments, WindowArguments,
};
use crate::cli::{self, Asked};
use crate::look;
use crate::serve::reply::{self, Refusal, Reply};
use crate::serve::trust::{Caller, Role};
use crate::serve::{State, recall};
use crate::view::{self, Format};

pub(crate) async fn answer(state: &State, caller: Caller, query: &str) -> Result<Reply, Refusal> {
    caller.may(Role::Read)?;
    let now = Timestamp::now();
    let wrong = |error: String| {
        Refusal::new(StatusCode::BAD_REQUEST, "malformed", error, "see /openapi.json")
    };
    let asked = understand(query, now).map_err(wrong)?;
    let question =
        look::question(asked.selectors, asked.window, asked.depth, asked.ways, state.labels.now());
    let cmdb = state.cmdb().map_err(|fault| Refusal::of_cmdb(&fault.into()))?;
    let _turn = recall::turn(state).await?;
    let answer = look::look(&cmdb, question, now).await;
    let answer = answer.map_err(|error| Refusal::of_cmdb(&error))?;
    state.metrics.questions.add(1);
    let mut text = Vec::new();
    let written =
        tokio::task::block_in_place(|| view::write(&answer, Format::Json, false, &mut text));
    written.map_err(|error| {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "bug", error.to_string(), "")
    })?;
    Ok(reply::body(StatusCode::OK, "application/json", text))
}

/// A query's words are those of the command line, without the dashes.
pub(crate) fn understand(query: &str, now: Timestamp) -> Result<Asked, String> {
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
    if selectors != 1 {
        return Err("give one of what, ip, host, process, port and label".to_owned());
    }
    let window = &words.window;
    if window.at.is_some() && (window.since.is_some() || window.until.is_some()) {
        return Err("give at, or since and until".to_owned());
    }
    cli::asked(words, now).map_err(|error| error.replace("--", ""))
}
