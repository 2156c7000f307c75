//! `probe --metrics`: what a daemon tells of itself, in Prometheus' text
//! format (version 0.0.4), and the few lines of HTTP that this takes.

mod text;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tracing::debug;

use crate::agent::meter::Meter;
use crate::agent::spool::Gauge;
use crate::flow::tally::Tally;

/// Longest request that is read. Nothing beyond its first line matters.
const MAX_REQUEST: usize = 8 << 10;

/// Longest time one request may take. They are answered one after the other,
/// so that scrapes cost a bounded part of a processor.
const REQUEST_LIMIT: Duration = Duration::from_secs(2);

/// What is told of.
pub(crate) struct Sources {
    pub(crate) tally: Arc<Mutex<Tally>>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) gauge: Option<Gauge>,
}

/// Takes the address, if one is wanted.
pub(crate) async fn listen(at: Option<SocketAddr>) -> Result<Option<TcpListener>> {
    let Some(at) = at else { return Ok(None) };
    let listener = TcpListener::bind(at).await;
    listener.map(Some).with_context(|| format!("listen on {at} for --metrics"))
}

/// Answers, for ever.
pub(crate) async fn serve(listener: Option<TcpListener>, sources: &Sources) {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        match listener.accept().await {
            Ok((mut stream, _)) => match timeout(REQUEST_LIMIT, answer(&mut stream, sources)).await
            {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!("a scrape: {error}"),
                Err(_) => debug!("a scrape took too long"),
            },
            // Out of descriptors, most likely; others give theirs back.
            Err(error) => {
                debug!("accept a scrape: {error}");
                tokio::time::sleep(REQUEST_LIMIT).await;
            }
        }
    }
}

async fn answer(stream: &mut TcpStream, sources: &Sources) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut piece = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < MAX_REQUEST {
        match stream.read(&mut piece).await? {
            0 => break,
            read => request.extend_from_slice(&piece[..read]),
        }
    }
    let (status, kind, body) = respond(&request, || text::write(sources));
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// Status, type and body.
fn respond(
    request: &[u8],
    metrics: impl FnOnce() -> String,
) -> (&'static str, &'static str, String) {
    const TEXT: &str = "text/plain; charset=utf-8";
    let line = request.split(|&byte| byte == b'\r').next().unwrap_or(&[]);
    let mut words = line.split(|&byte| byte == b' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    if !version.is_some_and(|version| version.starts_with(b"HTTP/1.")) {
        return ("400 Bad Request", TEXT, "this is no HTTP request\n".into());
    }
    let path = target.and_then(|target| target.split(|&byte| byte == b'?').next());
    match (method, path) {
        (Some(b"GET"), Some(b"/metrics")) => {
            ("200 OK", "text/plain; version=0.0.4; charset=utf-8", metrics())
        }
        (_, Some(b"/metrics")) => ("405 Method Not Allowed", TEXT, "only GET\n".into()),
        _ => ("404 Not Found", TEXT, "metrics are at /metrics\n".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_get_of_metrics_is_answered_with_them() {
        let status = |request: &[u8]| respond(request, || "m".into()).0;
        assert_eq!(status(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"), "200 OK");
        assert_eq!(status(b"GET /metrics?x=1 HTTP/1.0\r\n\r\n"), "200 OK");
        assert_eq!(status(b"POST /metrics HTTP/1.1\r\n\r\n"), "405 Method Not Allowed");
        assert_eq!(status(b"GET / HTTP/1.1\r\n\r\n"), "404 Not Found");
        for odd in [&b""[..], b"\xff\r\n", b"GET /metrics\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\n"] {
            assert_eq!(status(odd), "400 Bad Request");
        }
    }
}
