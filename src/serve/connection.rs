//! One connection: TLS where it is asked for, requests one after the other,
//! and how long each of its waits may be.

use std::convert::Infallible;
use std::io::{self, IoSlice};
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
use crate::serve::strangers::Place;
use crate::serve::trust::Peer;
use crate::serve::{State, router};

/// Longest time for a TLS handshake, and for all headers of a request.
const HEADERS_LIMIT: Duration = Duration::from_secs(10);

/// How long a connection is kept without a request: longer than the standard
/// flush interval, so that an agent connects once.
const IDLE_LIMIT: Duration = Duration::from_secs(90);

/// The same, of who has not shown who it is.
const STRANGER_LIMIT: Duration = Duration::from_secs(10);

/// Largest headers of a request, together.
const MAX_HEADERS: usize = 16 * 1024;

/// How long an answer may take, from the request's headers to its last byte's
/// going out: who reads slowly keeps it in our memory.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);

/// How long what was sent may stay unacknowledged: a reader that does not read
/// keeps its answer in our memory.
const SILENCE: Duration = Duration::from_secs(30);

/// Serves a connection until it ends, or is told to stop: then what it is at
/// is finished.
pub(crate) async fn serve(
    state: Arc<State>,
    place: Place,
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    stopping: watch::Receiver<bool>,
) {
    if let Err(error) = watch_peer(&stream) {
        debug!("{address}: {error}");
    }
    match tls {
        None => Box::pin(requests(&state, stream, Peer::of(place, &[]), stopping)).await,
        Some(config) => {
            match timeout(HEADERS_LIMIT, TlsAcceptor::from(config).accept(stream)).await {
                Ok(Ok(secured)) => {
                    let shown = secured.get_ref().1.peer_certificates();
                    let peer = Peer::of(place, shown.unwrap_or_default());
                    Box::pin(requests(&state, secured, peer, stopping)).await;
                }
                failed => {
                    state.metrics.connections_failed.add(1);
                    debug!("{address}: no TLS: {:?}", failed.err());
                }
            }
        }
    }
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
    let now = Instant::now();
    let pace = Pace { phase: Phase::Head(now + HEADERS_LIMIT), write_until: now + ANSWER_LIMIT };
    let pace = Arc::new(Mutex::new(pace));
    let paced = Paced { stream, pace: Arc::clone(&pace), reading: None, writing: None };
    let service = service_fn(|request| {
        let (pace, state, peer) = (&pace, state, &peer);
        // Apart, as the connection keeps room for what this holds also when it
        // is idle, and nearly all of them are.
        Box::pin(async move {
            let write_until = Instant::now() + ANSWER_LIMIT;
            *lock(pace) = Pace { phase: Phase::Work, write_until };
            let reply = router::answer(state, peer, request).await;
            let limit = if peer.place.is_known() { IDLE_LIMIT } else { STRANGER_LIMIT };
            lock(pace).phase = Phase::Idle(Instant::now() + limit);
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

/// What a connection is at, and until when what it is told may go out.
struct Pace {
    phase: Phase,
    write_until: Instant,
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

/// A stream that gives up when its time is over.
struct Paced<S> {
    stream: S,
    pace: Arc<Mutex<Pace>>,
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<Pin<Box<Sleep>>>,
}

/// An error, once it is that late.
fn over<T>(
    timer: &mut Option<Pin<Box<Sleep>>>,
    until: Instant,
    context: &mut Context<'_>,
) -> Poll<io::Result<T>> {
    let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
    if timer.deadline() != until {
        timer.as_mut().reset(until);
    }
    timer.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
}

impl<S> Paced<S> {
    /// What came of writing; an error where it takes too long, also if a byte
    /// goes out now and then.
    fn written<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        let until = lock(&self.pace).write_until;
        if written.is_ready() && Instant::now() < until {
            return written;
        }
        over(&mut self.writing, until, context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(context, buffer) {
            let phase = &mut lock(&this.pace).phase;
            if let Phase::Idle(_) = phase {
                *phase = Phase::Head(Instant::now() + HEADERS_LIMIT);
            }
            // Bytes that come one by one do not gain time.
            if !matches!(*phase, Phase::Head(until) if until <= Instant::now()) {
                return Poll::Ready(read);
            }
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let until = match lock(&this.pace).phase {
            Phase::Idle(until) | Phase::Head(until) => until,
            Phase::Work => return Poll::Pending,
        };
        over(&mut this.reading, until, context)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.written(written, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, bytes);
        this.written(written, context)
    }

    /// Else an answer would be copied before it goes out.
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_flush(context) {
            Poll::Pending => this.written(Poll::Pending, context),
            // Also of nothing, on a connection that is idle.
            flushed => flushed,
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_read_byte_by_byte_is_given_up() {
        let (stream, mut reader) = duplex(16);
        let began = Instant::now();
        let pace = Pace { phase: Phase::Work, write_until: began + ANSWER_LIMIT };
        let pace = Arc::new(Mutex::new(pace));
        let mut paced = Paced { stream, pace: Arc::clone(&pace), reading: None, writing: None };
        let writing = paced.write_all(&[0; 4096]);
        let reading = async {
            loop {
                sleep(Duration::from_secs(1)).await;
                reader.read_u8().await.unwrap();
            }
        };
        let error = tokio::select! {
            written = writing => written.unwrap_err(),
            () = reading => unreachable!("it reads for ever"),
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() < ANSWER_LIMIT + Duration::from_secs(2), "{:?}", began.elapsed());
        // Nor is one waited for who reads nothing at all.
        lock(&pace).write_until = Instant::now() + ANSWER_LIMIT;
        let error = paced.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // What has nothing to say may be idle for longer.
        assert!(paced.flush().await.is_ok());
    }
}
