//! `POST /v1/reports`.

use hyper::StatusCode;
use serde_json::json;

use crate::recall::Role;
use crate::serve::State;
use crate::serve::reply::{self, Refusal, Reply};
use crate::serve::router::Body;
use crate::serve::trust::Caller;
use crate::wire;

/// Most reports, flows, addresses, processes and scopes in one request: what a
/// host with 16,384 flows may need, each with a process of its own.
const MAX_ITEMS: usize = 65_536;

pub(crate) async fn answer(state: &State, caller: Caller, body: Body) -> Result<Reply, Refusal> {
    caller.may(Role::Write)?;
    // A host tells one thing after the other, so that none takes the others' room
    // by beginning many bodies.
    let _alone = state.telling.of(caller.host)?;
    let packed = body.reports(state).await?;
    state.metrics.received_bytes.add(packed.bytes.len() as u64);
    let turn = state.queue.turn().await?;
    let decoded = packed.unpack(|bytes| wire::decode(bytes, MAX_ITEMS)).await;
    let decoded = decoded.inspect_err(|_| state.metrics.reports_refused.add(1))?;
    for report in &decoded.reports {
        let own = caller.may_be(report.host.hash());
        own.inspect_err(|_| state.metrics.reports_refused.add(1))?;
    }
    if decoded.reports.is_empty() {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "malformed", "there is no report", ""));
    }
    let bound = caller.host.is_some();
    let receipt = state.queue.record(turn, decoded.reports, bound).await?;
    state.metrics.flows_not_understood.add(decoded.refused);
    let object = json!({
        "recorded": receipt.recorded,
        "already_recorded": receipt.repeated,
        "refused_flows": decoded.refused,
        "refused_rows": receipt.rows_refused,
    });
    Ok(reply::body(StatusCode::OK, "application/json", object.to_string()))
}
