//! `POST /v1/recall`: what `look` asks a CMDB.

use std::time::Duration;

use anyhow::Result;
use hyper::StatusCode;
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use crate::cmdb::Cmdb;
use crate::recall::Role;
use crate::serve::State;
use crate::serve::reply::{self, Refusal, Reply};
use crate::serve::router::Body;
use crate::serve::trust::Caller;
use crate::wire;
use crate::wire::recall::{Answer, Question, decode_question, encode_answer};

/// How long a question waits for its turn.
const TURN_LIMIT: Duration = Duration::from_secs(4);

pub(crate) async fn answer(state: &State, caller: Caller, body: Body) -> Result<Reply, Refusal> {
    // A host asks one thing after the other, and has no more of the CMDB.
    let _alone = state.asking.of(caller.host)?;
    let packed = body.question(state, caller).await?;
    let question = packed.unpack(decode_question).await?;
    match &question {
        // Everybody may know whether it is any use to speak.
        Question::Check => {}
        // How much of its own was recorded.
        Question::Sequence(host, _) if caller.role == Role::Write => caller.may_be(*host)?,
        _ => caller.may(Role::Read)?,
    }
    let cmdb = state.cmdb().map_err(|fault| Refusal::of_cmdb(&fault.into()))?;
    // Who reports waits for nobody who asks.
    let _turn = match question {
        Question::Check | Question::Sequence(..) => None,
        _ => Some(turn(state).await?),
    };
    let answer = ask(&cmdb, question).await.map_err(|error| Refusal::of_cmdb(&error))?;
    state.metrics.questions.add(1);
    let bytes = tokio::task::block_in_place(|| wire::pack(&encode_answer(&answer)));
    Ok(reply::body(StatusCode::OK, "application/x-protobuf", bytes))
}

/// Questions take memory: only a few at once.
pub(crate) async fn turn(state: &State) -> Result<SemaphorePermit<'_>, Refusal> {
    match timeout(TURN_LIMIT, state.questions.acquire()).await {
        Ok(Ok(turn)) => Ok(turn),
        _ => Err(Refusal::busy("too many questions are being answered")),
    }
}

async fn ask(cmdb: &Cmdb, question: Question) -> Result<Answer> {
    Ok(match question {
        Question::Check => {
            // Any question will do: the answer is that there is one.
            cmdb.last_sequence(0, 0).await?;
            Answer::Checked
        }
        Question::Sequence(host, epoch) => Answer::Sequence(cmdb.last_sequence(host, epoch).await?),
        Question::Find(selector, window) => Answer::Found(cmdb.find(&selector, &window).await?),
        Question::Around(hosts, addresses, window) => {
            Answer::Records(cmdb.around(&hosts, &addresses, &window).await?)
        }
        Question::Traffic(hosts, window) => Answer::Traffic(cmdb.traffic(&hosts, &window).await?),
    })
}
