//! One connection: TLS where it is asked for, requests one after the other,
//! and how long each of its waits may be.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use crate::daemon::lock;
use crate::serve::trust::{self, Peer};
use crate::serve::{State, router};

/// Longest time for a TLS handshake, and for all headers of a request.
const HEADERS_LIMIT: Duration = Duration::from_secs(10);

/// How long a connection is kept without a request: longer than the standard
/// flush interval, so that an agent connects once.
const IDLE_LIMIT: Duration = Duration::from_secs(90);

/// Largest headers of a request, together.
const MAX_HEADERS: usize = 16 * 1024;

/// How long what was sent may stay unacknowledged: a reader that does not read
/// keeps its answer in our memory.
const SILENCE: Duration = Duration::from_secs(30);

/// Serves a connection until it ends, or is told to stop: then what it is at
/// is finished.
pub(crate) async fn serve(
    state: Arc<State>,
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    stopping: watch::Receiver<bool>,
) {
    state.metrics.connections.add(1);
    if let Err(error) = watch_peer(&stream) {
        debug!("{address}: {error}");
    }
    match tls {
        None => Box::pin(requests(&state, stream, Peer::default(), stopping)).await,
        Some(config) => {
            match timeout(HEADERS_LIMIT, TlsAcceptor::from(config).accept(stream)).await {
                Ok(Ok(secured)) => {
                    let shown = secured.get_ref().1.peer_certificates();
                    let peer =
                        Peer { certified: shown.and_then(<[_]>::first).and_then(trust::certified) };
                    Box::pin(requests(&state, secured, peer, stopping)).await;
                }
                failed => {
                    state.metrics.connections_failed.add(1);
                    debug!("{address}: no TLS: {:?}", failed.err());
                }
            }
        }
    }
    state.metrics.connections_ended.add(1);
}

fn watch_peer(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, SILENCE)?;
    sockopt::set_tcp_user_timeout(stream, u32::try_from(SILENCE.as_millis()).unwrap_or(30_000))?;
    Ok(())
}

async fn requests(
    state: &Arc<State>,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    mut stopping: watch::Receiver<bool>,
) {
    let pace = Arc::new(Mutex::new(Phase::Head(Instant::now() + HEADERS_LIMIT)));
    let paced = Paced { stream, phase: Arc::clone(&pace), timer: None };
    let service = service_fn(|request| {
        let (pace, state, peer) = (&pace, state, &peer);
        // Apart, as the connection keeps room for what this holds also when it
        // is idle, and nearly all of them are.
        Box::pin(async move {
            *lock(pace) = Phase::Work;
            let reply = router::answer(state, peer, request).await;
            *lock(pace) = Phase::Idle(Instant::now() + IDLE_LIMIT);
            Ok::<_, Infallible>(reply)
        })
    });
    let serving = http1::Builder::new()
        // The stream itself keeps the time, as it also knows an idle one.
        .header_read_timeout(None)
        .max_buf_size(MAX_HEADERS)
        .serve_connection(TokioIo::new(paced), service);
    tokio::pin!(serving);
    let told = async { stopping.wait_for(|stop| *stop).await.map(drop) };
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        _ = told => {
            serving.as_mut().graceful_shutdown();
            serving.as_mut().await
        }
    };
    if let Err(error) = ended {
        debug!("a connection ended: {error}");
    }
}

/// What a connection is at, and until when.
#[derive(Clone, Copy)]
enum Phase {
    /// Between two requests.
    Idle(Instant),
    /// In the middle of a request's headers.
    Head(Instant),
    /// A request is carried out, which has limits of its own.
    Work,
}

/// A stream that gives up reading when its time is over.
struct Paced<S> {
    stream: S,
    phase: Arc<Mutex<Phase>>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(context, buffer) {
            let mut phase = lock(&this.phase);
            if let Phase::Idle(_) = *phase {
                *phase = Phase::Head(Instant::now() + HEADERS_LIMIT);
            }
            // Bytes that come one by one do not gain time.
            if !matches!(*phase, Phase::Head(until) if until <= Instant::now()) {
                return Poll::Ready(read);
            }
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let until = match *lock(&this.phase) {
            Phase::Idle(until) | Phase::Head(until) => until,
            Phase::Work => return Poll::Pending,
        };
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
