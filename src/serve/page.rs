//! `GET /` and `/assets/…`: the page, as it was built from `web/`. The files
//! are committed and stand in the binary, so that neither a build nor a
//! collector needs anything else.
//!
//! They hold nothing that is known of anybody, so everybody who may speak to
//! the collector gets them; what the page shows it asks for, as any other
//! program does.

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, StatusCode};
use sha2::{Digest, Sha256};

use crate::serve::reply::{self, Refusal, Reply};

/// Nothing that stands in the page runs, and nothing comes from elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Path, kind and bytes of each file.
const FILES: [(&str, &str, &[u8]); 5] = [
    ("/", "text/html; charset=utf-8", include_bytes!("../../web/dist/index.html")),
    ("/assets/app.js", SCRIPT, include_bytes!("../../web/dist/assets/app.js")),
    ("/assets/draw.js", SCRIPT, include_bytes!("../../web/dist/assets/draw.js")),
    ("/assets/app.css", "text/css; charset=utf-8", include_bytes!("../../web/dist/assets/app.css")),
    ("/assets/icon.svg", "image/svg+xml", include_bytes!("../../web/dist/assets/icon.svg")),
];

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// A file of the page.
#[derive(Debug)]
pub(crate) struct File {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
    /// Of its bytes: the next version has another.
    tag: HeaderValue,
}

/// The files, as they are answered.
pub(crate) fn files() -> Vec<File> {
    let file = |(path, kind, bytes): (&'static str, &'static str, &'static [u8])| {
        let hash: String =
            Sha256::digest(bytes).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let tag = HeaderValue::from_str(&format!("\"{hash}\"")).expect("digits are no controls");
        File { path, kind, bytes, tag }
    };
    FILES.map(file).into()
}

/// The file at a path, if that is one of the page.
pub(crate) fn file<'a>(files: &'a [File], path: &str) -> Option<&'a File> {
    files.iter().find(|file| file.path == path)
}

/// A file, or that the asker's copy is still good.
pub(crate) fn answer(file: &File, method: &Method, asked: &HeaderMap) -> Result<Reply, Refusal> {
    if ![Method::GET, Method::HEAD].contains(method) {
        let error = "the page is asked with GET";
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method", error, ""));
    }
    let known = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|tag| tag.to_str().ok());
    let tag = file.tag.to_str().unwrap_or_default();
    let same = known.flat_map(|tags| tags.split(',')).any(|known| known.trim() == tag);
    let mut reply = if same {
        reply::body(StatusCode::NOT_MODIFIED, file.kind, "")
    } else {
        reply::fixed(file.kind, file.bytes)
    };
    let headers = reply.headers_mut();
    headers.insert(header::ETAG, file.tag.clone());
    for (name, value) in [
        // A collector that was upgraded has other files under the same names.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(reply)
}
