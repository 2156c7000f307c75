//! `GET /openapi.json`: what may be asked, for programs. The document is
//! written by hand; tests hold it against the router and its answers.

use crate::serve::reply::{self, Reply};

/// OpenAPI 3.1.
pub(crate) const DOCUMENT: &str = include_str!("../../docs/openapi.json");

pub(crate) fn answer() -> Reply {
    reply::fixed("application/json", DOCUMENT.as_bytes())
}
