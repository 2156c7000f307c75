//! `GET /api/v1/listeners` and its kin: the questions with a name of their
//! own, asked in the words of their commands (docs/commands-json.md).

use jiff::Timestamp;

use crate::ask;
use crate::cli::inquiry;
use crate::recall::Role;
use crate::serve::reply::{self, Refusal, Reply};
use crate::serve::trust::Caller;
use crate::serve::{State, recall};
use crate::view::{self, Format};

/// Answers the inquiry of this name.
pub(crate) async fn answer(
    state: &State,
    caller: Caller,
    name: &str,
    query: &str,
) -> Result<Reply, Refusal> {
    caller.may(Role::Read)?;
    let now = Timestamp::now();
    let pairs = form_urlencoded::parse(query.as_bytes());
    let inquiry = inquiry::asked(name, pairs, now).map_err(Refusal::of_words)?;
    let cmdb = state.cmdb().map_err(|fault| Refusal::of_cmdb(&fault.into()))?;
    let _turn = recall::turn(state).await?;
    let outcome = ask::ask(&cmdb, inquiry, &state.labels.now(), now).await;
    let outcome = outcome.map_err(|error| Refusal::of_cmdb(&error))?;
    state.metrics.questions.add(1);
    let reply = reply::printed("application/json", |text| {
        view::finding::write(&outcome, Format::Json, false, text)
    });
    let path = format!("/api/v1/{name}");
    reply.map(|reply| reply::with_next(reply, &path, query, outcome.part().next))
}
