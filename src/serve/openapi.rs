//! `GET /openapi.json`: what may be asked, for programs. The document is
//! written by hand; tests hold it against the router and its answers.

/// OpenAPI 3.1.
pub(crate) const DOCUMENT: &str = include_str!("../../docs/openapi.json");
