//! What is answered: bytes of a kind, or a refusal in one line with its remedy.

use std::hash::{BuildHasher, RandomState};
use std::io;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::json;

use crate::cmdb::fault::Fault;
use crate::graph::page::Cursor;

/// An answer on its way.
pub(crate) type Reply = Response<Full<Bytes>>;

/// Why a request was not carried out.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// The word by which programs know it.
    pub(crate) code: &'static str,
    /// One line for people.
    pub(crate) error: String,
    /// What to do; may be empty.
    pub(crate) remedy: String,
}

impl Refusal {
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        error: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Refusal {
        Refusal { status, code, error: error.into(), remedy: remedy.into() }
    }

    /// Too much at once: the same may be tried again.
    pub(crate) fn busy(error: &str) -> Refusal {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "busy", error, "try again a little later")
    }

    /// A query whose words mean nothing.
    pub(crate) fn of_words(error: String) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, "malformed", error, "see /openapi.json")
    }

    /// A fault of the CMDB. Its words name a driver's troubles, no secret.
    pub(crate) fn of_cmdb(error: &anyhow::Error) -> Refusal {
        let text = format!("the CMDB: {:#}", error.root_cause());
        let (status, code) = match error.downcast_ref::<Fault>() {
            Some(Fault::Away(_)) => (StatusCode::SERVICE_UNAVAILABLE, "away"),
            Some(Fault::Scheme(_)) => (StatusCode::SERVICE_UNAVAILABLE, "scheme"),
            Some(Fault::Refused(_)) | None => (StatusCode::UNPROCESSABLE_ENTITY, "refused"),
        };
        Refusal::new(status, code, text, "")
    }

    pub(crate) fn reply(&self) -> Reply {
        let object = json!({ "code": self.code, "error": self.error, "remedy": self.remedy });
        let mut reply = body(self.status, "application/json", object.to_string());
        let headers = reply.headers_mut();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            // Those who were sent away together do not come back together.
            let seconds = 1 + RandomState::new().hash_one(0) % 5;
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        reply
    }
}

/// An answer of a kind. Nothing here is for a browser to run, frame or keep.
pub(crate) fn body(status: StatusCode, kind: &'static str, bytes: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(bytes.into()));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
    ] {
        set(headers, name, value);
    }
    reply
}

/// Marks an answer whose bytes stand in the binary, and take no memory however
/// many wait for their readers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fixed;

/// As [`body`], of bytes that stand in the binary.
pub(crate) fn fixed(kind: &'static str, bytes: &'static [u8]) -> Reply {
    let mut reply = body(StatusCode::OK, kind, bytes);
    reply.extensions_mut().insert(Fixed);
    reply
}

/// An answer that takes a while to print, in which others are served.
pub(crate) fn printed(
    kind: &'static str,
    print: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
) -> Result<Reply, Refusal> {
    let mut text = Vec::new();
    match tokio::task::block_in_place(|| print(&mut text)) {
        Ok(()) => Ok(body(StatusCode::OK, kind, text)),
        Err(error) => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Err(Refusal::new(status, "bug", error.to_string(), ""))
        }
    }
}

/// Smallest answer that is worth packing, in bytes.
const WORTH_PACKING: usize = 16 << 10;

/// Of zstd: the answer is on its way at once, and little larger.
const FAST: i32 = 1;

/// Whether who asks can unpack it. Browsers can where nobody between could
/// take harm: over HTTPS, and on this machine.
pub(crate) fn unpacks(headers: &hyper::HeaderMap) -> bool {
    let all = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|one| one.to_str().ok());
    all.flat_map(|all| all.split(',')).any(|one| {
        let (name, quality) = one.split_once(';').unwrap_or((one, ""));
        let refused = matches!(quality.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000");
        name.trim().eq_ignore_ascii_case("zstd") && !refused
    })
}

/// A text that is not small, packed. JSON becomes a tenth, in a few
/// milliseconds a megabyte.
pub(crate) fn packed(reply: Reply) -> Reply {
    let (mut head, body) = reply.into_parts();
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let text = kind.is_some_and(|kind| {
        kind.starts_with("application/json")
            || kind.starts_with("image/svg")
            || kind.starts_with("text/")
    });
    // What has a tag is kept by browsers, under that tag.
    let kept = head.headers.contains_key(header::ETAG);
    if !text || kept {
        return Response::from_parts(head, body);
    }
    let bytes = body.into_inner().unwrap_or_default();
    head.headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if bytes.len() < WORTH_PACKING {
        return Response::from_parts(head, Full::new(bytes));
    }
    // Whoever cannot have it packed has it as it is.
    let packed = tokio::task::block_in_place(|| zstd::bulk::compress(&bytes, FAST));
    let Ok(packed) = packed else { return Response::from_parts(head, Full::new(bytes)) };
    head.extensions.remove::<Fixed>();
    head.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("zstd"));
    Response::from_parts(head, Full::new(packed.into()))
}

/// With the address of the next page, whatever the format (RFC 8288).
pub(crate) fn with_next(mut reply: Reply, path: &str, query: &str, next: Option<Cursor>) -> Reply {
    let Some(next) = next else { return reply };
    let mut words = form_urlencoded::Serializer::new(String::new());
    let kept = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != "after");
    words.extend_pairs(kept).append_pair("after", &next.to_string());
    let link = format!("<{path}?{}>; rel=\"next\"", words.finish());
    if let Ok(link) = HeaderValue::from_str(&link) {
        reply.headers_mut().insert(header::LINK, link);
    }
    reply
}

fn set(headers: &mut hyper::HeaderMap, name: HeaderName, value: &'static str) {
    headers.insert(name, HeaderValue::from_static(value));
}
