//! `probe --metrics`: what a daemon tells of itself, in Prometheus' text
//! format.

mod text;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::agent::meter::Meter;
use crate::agent::spool::Gauge;
use crate::daemon::log::Log;
use crate::flow::tally::Tally;
use crate::prometheus;

/// Largest headers of a request; hyper asks for this much at least.
const MAX_REQUEST: usize = 8 << 10;

/// Longest time one request may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(2);

/// Connections at once; further ones wait in the kernel. Enough that who
/// connects and says nothing keeps no scraper waiting, few enough to be a
/// quarter of a MiB at the most.
const MAX_CONNECTIONS: usize = 16;

/// What is told of.
pub(crate) struct Sources {
    pub(crate) tally: Arc<Mutex<Tally>>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) gauge: Option<Gauge>,
    pub(crate) log: Log,
}

/// Takes the address, if one is wanted.
pub(crate) async fn listen(at: Option<SocketAddr>) -> Result<Option<TcpListener>> {
    let Some(at) = at else { return Ok(None) };
    if let Some(warning) = warning(at) {
        warn!("{warning}");
    }
    let listener = TcpListener::bind(at).await;
    listener.map(Some).with_context(|| format!("listen on {at} for --metrics"))
}

/// What is to be known of an address that other machines reach.
fn warning(at: SocketAddr) -> Option<String> {
    (!at.ip().is_loopback()).then(|| {
        format!("whoever reaches {at} (--metrics) reads this probe's counts, without TLS or a token; no name or address is among them")
    })
}

/// Answers, for ever.
pub(crate) async fn serve(listener: Option<TcpListener>, sources: Sources) {
    let Some(listener) = listener else { return std::future::pending().await };
    let sources = Arc::new(sources);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let sources = Arc::clone(&sources);
                tokio::spawn(async move {
                    match timeout(REQUEST_LIMIT, answer(stream, &sources)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => debug!("a scrape: {error}"),
                        Err(_) => debug!("a scrape took too long"),
                    }
                    drop(place);
                });
            }
            // Out of descriptors, most likely; others give theirs back.
            Err(error) => {
                debug!("accept a scrape: {error}");
                tokio::time::sleep(REQUEST_LIMIT).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, sources: &Sources) -> hyper::Result<()> {
    let service = service_fn(|request| async move {
        Ok::<_, Infallible>(respond(&request, || text::write(sources)))
    });
    http1::Builder::new()
        .keep_alive(false)
        .header_read_timeout(None)
        .max_buf_size(MAX_REQUEST)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

fn respond<B>(request: &Request<B>, metrics: impl FnOnce() -> String) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    let (status, kind, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, prometheus::TYPE, metrics()),
        (_, "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".into()),
        _ => (StatusCode::NOT_FOUND, TEXT, "metrics are at /metrics\n".into()),
    };
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_where_others_may_read_them() {
        for (at, is_said) in [
            ("127.0.0.1:9469", false),
            ("[::1]:9469", false),
            ("0.0.0.0:9469", true),
            ("[::]:9469", true),
            ("10.0.0.1:9469", true),
        ] {
            let warning = warning(at.parse().expect("an address"));
            assert_eq!(warning.is_some_and(|warning| warning.contains(at)), is_said, "{at}");
        }
    }

    #[test]
    fn only_a_get_of_metrics_is_answered_with_them() {
        let status = |method: Method, target: &str| {
            let request =
                Request::builder().method(method).uri(target).body(()).expect("a request");
            respond(&request, || "m".into()).status().as_u16()
        };
        assert_eq!(status(Method::GET, "/metrics"), 200);
        assert_eq!(status(Method::GET, "/metrics?x=1"), 200);
        assert_eq!(status(Method::POST, "/metrics"), 405);
        assert_eq!(status(Method::GET, "/"), 404);
    }
}
