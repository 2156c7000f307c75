//! From a request to its answer: is it for us, who asks, what for.

use std::net::IpAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request, StatusCode, Version};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::daemon::lock;
use crate::prometheus;
use crate::recall::Role;
use crate::serve::reply::{self, Refusal, Reply};
use crate::serve::room::Intake;
use crate::serve::trust::{self, Caller, Peer};
use crate::serve::{
    MAX_ASKED, MAX_ASKED_BY_PROBES, MAX_BODIES, State, inquiry, look, openapi, page, recall,
    reports, search,
};
use crate::view::Format;
use crate::view::grafana::FIELDS;
use crate::wire::{self, WireError};

/// How large a body may be, in bytes.
struct Most {
    packed: usize,
    inflated: usize,
    /// What is said of one that is larger, and the remedy.
    said: [&'static str; 2],
}

const REPORTS: Most = Most {
    packed: 4 << 20,
    inflated: 32 << 20,
    said: [
        "the body is larger than 4 MiB, than 32 MiB inflated, or holds more than 65536 things",
        "send it in parts",
    ],
};

/// Keys and addresses, which hardly inflate.
const QUESTION: Most = Most {
    packed: 4 << 20,
    inflated: 4 << 20,
    said: ["the question is larger than 4 MiB, packed or inflated", "ask about less at once"],
};

/// Of who may only ask of its own host.
const OWN_QUESTION: Most = Most {
    packed: 4 << 10,
    inflated: 4 << 10,
    said: ["the question is larger than 4 KiB, packed or inflated", "ask about one host"],
};

/// Longest time for a body to arrive, and for room to take it in.
const BODY_LIMIT: Duration = Duration::from_secs(10);

/// Why a body cannot be read.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Reports,
    Recall,
    Look,
    Export,
    /// What Grafana's Node Graph API data source asks, each at its path.
    GrafanaHealth,
    GrafanaFields,
    GrafanaData,
    Picture,
    Groups,
    Search,
    /// The inquiry of that name.
    Inquiry(&'static str),
    Metrics,
    Healthz,
    Readyz,
    OpenApi,
}

/// Every path with its method. docs/openapi.json has the same; a test holds it.
const ROUTES: [(&str, Method, Route); 21] = [
    ("/v1/reports", Method::POST, Route::Reports),
    ("/v1/recall", Method::POST, Route::Recall),
    ("/api/v1/look", Method::GET, Route::Look),
    ("/api/v1/look.svg", Method::GET, Route::Picture),
    ("/api/v1/groups", Method::GET, Route::Groups),
    ("/api/v1/search", Method::GET, Route::Search),
    ("/api/v1/listeners", Method::GET, Route::Inquiry("listeners")),
    ("/api/v1/impact", Method::GET, Route::Inquiry("impact")),
    ("/api/v1/drain", Method::GET, Route::Inquiry("drain")),
    ("/api/v1/policy", Method::GET, Route::Inquiry("policy")),
    ("/api/v1/export", Method::GET, Route::Export),
    ("/api/v1/grafana/api/health", Method::GET, Route::GrafanaHealth),
    ("/api/v1/grafana/api/graph/fields", Method::GET, Route::GrafanaFields),
    ("/api/v1/grafana/api/graph/data", Method::GET, Route::GrafanaData),
    ("/api/v1/failing", Method::GET, Route::Inquiry("failing")),
    ("/api/v1/unexplained", Method::GET, Route::Inquiry("unexplained")),
    ("/api/v1/diff", Method::GET, Route::Inquiry("diff")),
    ("/metrics", Method::GET, Route::Metrics),
    ("/healthz", Method::GET, Route::Healthz),
    ("/readyz", Method::GET, Route::Readyz),
    ("/openapi.json", Method::GET, Route::OpenApi),
];

/// A body that has not been read.
pub(crate) struct Body {
    /// It is said to be what we read.
    is_packed: bool,
    incoming: Incoming,
}

/// A body as it came, and the room that it takes.
pub(crate) struct Packed<'a> {
    pub(crate) bytes: Vec<u8>,
    most: &'static Most,
    decoding: &'a Semaphore,
    _room: SemaphorePermit<'a>,
}

/// The answer to a request, whatever it is.
pub(crate) async fn answer(state: &State, peer: &Peer, request: Request<Incoming>) -> Reply {
    let unpacks = reply::unpacks(request.headers());
    let reply = carry_out(state, peer, request).await;
    let reply = reply.map(|reply| if unpacks { reply::packed(reply) } else { reply });
    let reply = reply.and_then(|reply| state.answers.hold(reply)).unwrap_or_else(|refusal| {
        tracing::debug!("{} {}: {}", refusal.status, refusal.code, refusal.error);
        state.metrics.refusal(refusal.code);
        let mut reply = refusal.reply();
        if refusal.status == StatusCode::UNAUTHORIZED {
            // Another certificate takes another connection; and who was known by
            // a token that is revoked is a stranger again.
            reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        reply
    });
    state.metrics.request(reply.status().as_u16());
    reply
}

async fn carry_out(
    state: &State,
    peer: &Peer,
    request: Request<Incoming>,
) -> Result<Reply, Refusal> {
    let (head, incoming) = request.into_parts();
    stands_once(&head.headers)?;
    if head.version == Version::HTTP_11 && !head.headers.contains_key(header::HOST) {
        let error = "HTTP/1.1 is asked with a Host";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "malformed", error, "see RFC 9112, 3.2"));
    }
    if let Some(file) = page::file(&state.page, head.uri.path()) {
        is_for_us(state, &head.headers, head.uri.authority().map(|at| at.as_str()))?;
        return page::answer(file, &head.method, &head.headers);
    }
    let route = route(head.uri.path(), &head.method)?;
    let json = |status, text: String| Ok(reply::body(status, "application/json", text));
    match route {
        // Whoever watches over us asks by an address that we may not know, and
        // learns nothing.
        Route::Healthz => return json(StatusCode::OK, r#"{"status":"alive"}"#.to_owned()),
        Route::Readyz => {
            let ready = state.ready.borrow().clone();
            return match ready {
                Ok(()) => json(StatusCode::OK, r#"{"status":"ready"}"#.to_owned()),
                Err(_) => Err(Refusal::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "away",
                    "the CMDB cannot be used",
                    "see the collector's log",
                )),
            };
        }
        _ => is_for_us(state, &head.headers, head.uri.authority().map(|at| at.as_str()))?,
    }
    if route == Route::OpenApi {
        return Ok(openapi::answer());
    }
    // A CMDB that is away is what the counts are looked at for.
    let of_old = route == Route::Metrics;
    let caller = trust::who(state, peer, &head.headers, of_old).await?;
    let kind = text(&head.headers, header::CONTENT_TYPE);
    let coding = text(&head.headers, header::CONTENT_ENCODING);
    let is_packed = kind == Some("application/x-protobuf") && coding == Some("zstd");
    let body = Body { is_packed, incoming };
    let query = head.uri.query().unwrap_or("").to_owned();
    // They are parts of the connection's buffer, which would be doubled to read
    // the body while somebody has them.
    drop(head);
    if route == Route::Reports {
        return reports::answer(state, caller, body).await;
    }
    // A fleet's reports that wait need no room for what an answer holds.
    Box::pin(ask(state, caller, route, &query, body)).await
}

/// Carries out what is no report.
async fn ask(
    state: &State,
    caller: Caller,
    route: Route,
    query: &str,
    body: Body,
) -> Result<Reply, Refusal> {
    let json = |status, text: String| Ok(reply::body(status, "application/json", text));
    match route {
        Route::Recall => recall::answer(state, caller, body).await,
        Route::Look => look::answer(state, caller, query, Format::Json).await,
        Route::Picture => look::answer(state, caller, query, Format::Svg).await,
        Route::Groups => look::groups(state, caller, query).await,
        Route::Search => search::answer(state, caller, query).await,
        Route::Export => look::export(state, caller, query, None).await,
        Route::GrafanaData => look::export(state, caller, query, Some(Format::Grafana)).await,
        Route::GrafanaFields => json(StatusCode::OK, FIELDS.to_owned()),
        Route::GrafanaHealth => json(StatusCode::OK, r#"{"status":"alive"}"#.to_owned()),
        Route::Inquiry(name) => inquiry::answer(state, caller, name, query).await,
        _ => {
            caller.may(Role::Read)?;
            let ready = state.ready.borrow().is_ok();
            let (waiting, tokens) = (state.queue.waiting(), state.tokens.count());
            let text = state.metrics.text(ready, waiting, tokens, state.log.dropped());
            Ok(reply::body(StatusCode::OK, prometheus::TYPE, text))
        }
    }
}

fn route(path: &str, method: &Method) -> Result<Route, Refusal> {
    let Some((_, known, route)) = ROUTES.iter().find(|(known, ..)| *known == path) else {
        let error = "there is nothing at this path";
        return Err(Refusal::new(StatusCode::NOT_FOUND, "not_found", error, "see /openapi.json"));
    };
    // Whoever watches over us may ask so; hyper leaves out the body.
    if known != method && (known, method) != (&Method::GET, &Method::HEAD) {
        let error = format!("this path is asked with {known}");
        let status = StatusCode::METHOD_NOT_ALLOWED;
        return Err(Refusal::new(status, "method", error, "see /openapi.json"));
    }
    Ok(*route)
}

/// A page of somebody else's may have a browser ask us: by a name of its own
/// that it has pointed at our address, or from its own origin. An address in
/// numbers cannot be pointed anywhere.
fn is_for_us(state: &State, headers: &HeaderMap, asked: Option<&str>) -> Result<(), Refusal> {
    let host = asked.or_else(|| text(headers, header::HOST)).unwrap_or("");
    let name = name_of(host).unwrap_or("").to_ascii_lowercase();
    let ours = name == "localhost"
        || name.parse::<IpAddr>().is_ok()
        || lock(&state.names).iter().any(|known| is_named(&name, known));
    if !ours {
        return Err(Refusal::new(
            StatusCode::MISDIRECTED_REQUEST,
            "host",
            "this collector is not known by the name it was asked by",
            "ask by an address or a name of its certificate, or tell it the name with --name",
        ));
    }
    let scheme = if state.plan.tls.is_some() { "https://" } else { "http://" };
    let origin = text(headers, header::ORIGIN).and_then(|origin| origin.strip_prefix(scheme));
    if headers.contains_key(header::ORIGIN) && origin != Some(host) {
        let error = "a page of another site may not ask";
        return Err(Refusal::new(StatusCode::FORBIDDEN, "origin", error, ""));
    }
    Ok(())
}

/// What is decided by must stand there once: of two, something before us may
/// have gone by the other.
fn stands_once(headers: &HeaderMap) -> Result<(), Refusal> {
    let names = [
        header::HOST,
        header::ORIGIN,
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
    ];
    let twice = names.iter().find(|name| headers.get_all(*name).iter().nth(1).is_some());
    twice.map_or(Ok(()), |name| {
        let error = format!("the header '{name}' stands there twice");
        Err(Refusal::new(StatusCode::BAD_REQUEST, "malformed", error, "send it once"))
    })
}

/// `name:1`, `[::1]:1`, `name` → the name or address; none of what is neither.
fn name_of(host: &str) -> Option<&str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    (port.is_empty() || port.strip_prefix(':').is_some_and(digits)).then_some(name)
}

/// `*` at the beginning stands for one label, as in a certificate.
fn is_named(name: &str, known: &str) -> bool {
    match known.strip_prefix("*.") {
        Some(parent) => name.split_once('.').is_some_and(|(_, rest)| rest == parent),
        None => name == known,
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

impl Body {
    /// Reads reports, as soon as there is room for them.
    pub(crate) async fn reports(self, state: &State) -> Result<Packed<'_>, Refusal> {
        self.packed(&state.told, &REPORTS).await
    }

    /// Reads a question. Those who report wait for nobody who asks, so they
    /// have room and turns of their own; also for what they ask themselves,
    /// which is little, before they report.
    pub(crate) async fn question(
        self,
        state: &State,
        caller: Caller,
    ) -> Result<Packed<'_>, Refusal> {
        let small = OWN_QUESTION.packed as u64;
        let is_small = self.incoming.size_hint().upper().is_some_and(|size| size <= small);
        let (intake, most) = match caller.role {
            Role::Write => (&state.asked_by_probes, &OWN_QUESTION),
            Role::Admin if is_small => (&state.asked_by_probes, &QUESTION),
            Role::Admin | Role::Read => (&state.asked, &QUESTION),
        };
        self.packed(intake, most).await
    }

    async fn packed<'a>(
        self,
        intake: &'a Intake,
        most: &'static Most,
    ) -> Result<Packed<'a>, Refusal> {
        if !self.is_packed {
            return Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "media",
                "the body is no application/x-protobuf within zstd",
                "see docs/wire.md",
            ));
        }
        let said = self.incoming.size_hint().upper().map(usize::try_from);
        let size = match said {
            Some(Ok(size)) if size <= most.packed => size,
            Some(_) => return Err(most.exceeded()),
            None => most.packed,
        };
        const {
            assert!(REPORTS.packed <= MAX_BODIES && QUESTION.packed <= MAX_ASKED);
            assert!(OWN_QUESTION.packed <= MAX_ASKED_BY_PROBES);
        };
        let room = timeout(BODY_LIMIT, intake.room.acquire_many(size as u32)).await;
        let Ok(Ok(room)) = room else {
            return Err(Refusal::busy("too many bodies are being read"));
        };
        match timeout(BODY_LIMIT, read(self.incoming, size)).await {
            Ok(Ok(bytes)) => Ok(Packed { bytes, most, decoding: &intake.decoding, _room: room }),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                Err(most.exceeded())
            }
            Ok(Err(_)) => Err(malformed("the body is cut off")),
            Err(_) => Err(Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                "slow",
                "the body took too long",
                "send it within ten seconds",
            )),
        }
    }
}

/// Copies a body of at most so many bytes: as it comes, each of its pieces keeps
/// the connection's buffer, which is larger.
async fn read(incoming: Incoming, size: usize) -> Result<Vec<u8>, BoxError> {
    let mut body = Limited::new(incoming, size);
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(piece) = frame?.into_data() {
            bytes.extend_from_slice(&piece);
        }
    }
    bytes.shrink_to_fit();
    Ok(bytes)
}

impl Packed<'_> {
    /// Inflates and decodes it.
    pub(crate) async fn unpack<T>(
        self,
        decode: impl FnOnce(&[u8]) -> Result<T, WireError>,
    ) -> Result<T, Refusal> {
        let Ok(_turn) = self.decoding.acquire().await else {
            return Err(Refusal::busy("the collector is stopping"));
        };
        let decoded = tokio::task::block_in_place(|| {
            wire::unpack(&self.bytes, self.most.inflated).and_then(|bytes| decode(&bytes))
        });
        decoded.map_err(|error| match error {
            WireError::TooLarge => self.most.exceeded(),
            WireError::Version(_) => Refusal::new(
                StatusCode::BAD_REQUEST,
                "version",
                error.to_string(),
                "upgrade the older one of the two",
            ),
            WireError::Malformed(_) => malformed(&error.to_string()),
        })
    }
}

impl Most {
    fn exceeded(&self) -> Refusal {
        let [error, remedy] = self.said;
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", error, remedy)
    }
}

fn malformed(error: &str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "malformed", error, "see docs/wire.md")
}

#[cfg(test)]
mod tests;
