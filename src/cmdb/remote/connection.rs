//! One connection to a collector: TCP, TLS where it is asked for, HTTP/1.1.
//! Nothing of it runs while nobody waits for it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderValue};
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::cmdb::connect::late;
use crate::cmdb::fault::Fault;
use crate::cmdb::token::Token;
use crate::cmdb::url::site::Site;

/// How long what was sent may stay unacknowledged, and an idle peer silent,
/// until it is taken to be gone: a filter that drops all is noticed within this
/// and one more of our questions.
const SILENCE: Duration = Duration::from_secs(10);

/// After how much quiet the kernel asks whether the peer is still there.
const QUIET: Duration = Duration::from_secs(5);

/// Largest packed answer.
const MAX_BODY: usize = 256 << 20;

/// What is sent: always a POST of packed protobuf.
pub(crate) struct Request {
    pub(crate) path: &'static str,
    pub(crate) body: Bytes,
}

/// What came back.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Bytes,
}

impl Reply {
    fn json(&self, field: &str) -> Option<serde_json::Value> {
        let object: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        object.get(field).cloned()
    }

    /// A text of the JSON object that it is; empty where there is none.
    pub(crate) fn text(&self, field: &str) -> String {
        self.json(field).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// The word by which programs know an error.
    pub(crate) fn code(&self) -> String {
        self.text("code")
    }

    /// A count of the JSON object that it is.
    pub(crate) fn number(&self, field: &str) -> u64 {
        self.json(field).and_then(|value| value.as_u64()).unwrap_or(0)
    }
}

/// Why there is no reply.
pub(crate) enum Trouble {
    /// The connection is of no use: the same may go over another.
    Broken(Fault),
    /// It would go the same way over another.
    Known(Fault),
}

impl Trouble {
    pub(crate) fn fault(self) -> Fault {
        let (Trouble::Broken(fault) | Trouble::Known(fault)) = self;
        fault
    }
}

type Http = http1::Connection<TokioIo<Stream>, Full<Bytes>>;

/// An open connection, on which nothing is under way.
pub(crate) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    http: Pin<Box<Http>>,
}

impl Connection {
    pub(crate) async fn open(
        site: &Site,
        tls: Option<&Arc<ClientConfig>>,
        limit: Duration,
    ) -> Result<Connection, Fault> {
        let until = Instant::now() + limit;
        let opening = async {
            let tcp = reach(site, limit).await?;
            let stream = match tls {
                None => Stream::Plain(tcp),
                Some(config) => {
                    let name = ServerName::try_from(site.host.clone());
                    let name = name.map_err(|_| {
                        Fault::Refused("its name is none that a certificate has".to_owned())
                    })?;
                    let connector = TlsConnector::from(Arc::clone(config));
                    let secured = connector.connect(name, tcp).await;
                    Stream::Tls(Box::new(secured.map_err(|error| fault(&error))?))
                }
            };
            let made = http1::handshake(TokioIo::new(stream)).await;
            let (sender, http) = made.map_err(|error| fault(&error))?;
            Ok(Connection { sender, http: Box::pin(http) })
        };
        timeout_at(until, opening).await.unwrap_or_else(|_| Err(late("no connection", limit)))
    }

    /// Sends a request and reads its reply. The connection comes back where it
    /// may be used again.
    pub(crate) async fn exchange(
        mut self,
        site: &Site,
        token: Option<&Token>,
        request: &Request,
    ) -> Result<(Reply, Option<Connection>), Trouble> {
        let mut message = hyper::Request::builder()
            .method(Method::POST)
            .uri(format!("{}{}", site.prefix, request.path))
            .header(header::HOST, site.authority())
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .header(header::CONTENT_ENCODING, "zstd")
            .header(header::USER_AGENT, concat!("shawk/", env!("CARGO_PKG_VERSION")));
        let bearer =
            token.map(|token| HeaderValue::from_str(&format!("Bearer {}", token.reveal())));
        if let Some(Ok(mut bearer)) = bearer {
            bearer.set_sensitive(true);
            message = message.header(header::AUTHORIZATION, bearer);
        }
        let message = message.body(Full::new(request.body.clone()));
        let message = message.map_err(|error| Trouble::Known(Fault::Refused(error.to_string())))?;
        let reply = {
            let exchanging = exchange(&mut self.sender, message);
            tokio::pin!(exchanging);
            let http = &mut self.http;
            poll_fn(|context| {
                // Reading and writing are done here; that it is over is told to
                // who waits for the reply.
                let over = http.as_mut().poll(context);
                match (exchanging.as_mut().poll(context), over) {
                    (Poll::Ready(reply), _) => Poll::Ready(reply),
                    (Poll::Pending, Poll::Ready(Err(error))) => {
                        Poll::Ready(Err(Trouble::Broken(fault(&error))))
                    }
                    (Poll::Pending, Poll::Ready(Ok(()))) => {
                        let text = "it closed the connection".to_owned();
                        Poll::Ready(Err(Trouble::Broken(Fault::Away(text))))
                    }
                    (Poll::Pending, Poll::Pending) => Poll::Pending,
                }
            })
            .await?
        };
        let usable = !self.sender.is_closed();
        Ok((reply, usable.then_some(self)))
    }
}

async fn exchange(
    sender: &mut http1::SendRequest<Full<Bytes>>,
    message: hyper::Request<Full<Bytes>>,
) -> Result<Reply, Trouble> {
    let response =
        sender.send_request(message).await.map_err(|error| Trouble::Broken(fault(&error)))?;
    let (parts, body) = response.into_parts();
    let retry_after = parts
        .headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok().map(Duration::from_secs));
    let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| match error
        .downcast::<hyper::Error>()
    {
        Ok(error) => Trouble::Broken(fault(&*error)),
        Err(_) => {
            let text = format!("its answer is larger than {MAX_BODY} bytes: ask for less");
            Trouble::Known(Fault::Refused(text))
        }
    })?;
    Ok(Reply { status: parts.status, retry_after, body: body.to_bytes() })
}

/// Connects to the first address that answers.
async fn reach(site: &Site, limit: Duration) -> Result<TcpStream, Fault> {
    let found = tokio::net::lookup_host((site.host.as_str(), site.port)).await;
    let addresses: Vec<_> =
        found.map_err(|error| Fault::Away(format!("no address of it: {error}")))?.collect();
    // An address that swallows everything must not take the others' time.
    let each = limit / u32::try_from(addresses.len().clamp(1, 4)).unwrap_or(4);
    let mut failure = Fault::Away("it has no address".to_owned());
    for address in addresses {
        let connected = timeout_at(Instant::now() + each, TcpStream::connect(address)).await;
        match connected {
            Ok(Ok(stream)) => {
                watch(&stream).map_err(|error| fault(&error))?;
                return Ok(stream);
            }
            Ok(Err(error)) => failure = fault(&error),
            Err(_) => failure = late("no connection", each),
        }
    }
    Err(failure)
}

/// Has the kernel notice a peer that is gone without a word.
fn watch(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, QUIET)?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(2))?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    sockopt::set_tcp_user_timeout(stream, u32::try_from(SILENCE.as_millis()).unwrap_or(10_000))?;
    Ok(())
}

/// An error of the transport in one line. A certificate that is wrong stays
/// wrong; anything else may pass.
fn fault(error: &(dyn std::error::Error + 'static)) -> Fault {
    let mut cause = Some(error);
    let mut deepest = error;
    while let Some(error) = cause {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return of_tls(tls);
        }
        if let Some(io) = error.downcast_ref::<io::Error>()
            && let Some(tls) = io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
        {
            return of_tls(tls);
        }
        deepest = error;
        cause = error.source();
    }
    Fault::Away(deepest.to_string())
}

fn of_tls(error: &rustls::Error) -> Fault {
    use rustls::{CertificateError as Bad, Error};
    match error {
        Error::InvalidCertificate(
            Bad::Expired
            | Bad::ExpiredContext { .. }
            | Bad::NotValidYet
            | Bad::NotValidYetContext { .. },
        ) => Fault::Refused(format!(
            "its certificate is not good now ({error}): renew it where the collector runs, if this host's clock is right"
        )),
        Error::InvalidCertificate(_) => Fault::Refused(format!(
            "its certificate is not to be trusted ({error}): name its authority with sslrootcert, and the collector as its certificate does"
        )),
        Error::AlertReceived(_) => Fault::Refused(format!(
            "it refused our certificate, or the want of one ({error}): name one with sslcert and sslkey"
        )),
        _ => Fault::Away(error.to_string()),
    }
}

/// With TLS or without.
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(tcp) => Pin::new(tcp).poll_read(context, buffer),
            Stream::Tls(tls) => Pin::new(tls).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write(context, bytes),
            Stream::Tls(tls) => Pin::new(tls).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(tcp) => Pin::new(tcp).poll_flush(context),
            Stream::Tls(tls) => Pin::new(tls).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(tcp) => Pin::new(tcp).poll_shutdown(context),
            Stream::Tls(tls) => Pin::new(tls).poll_shutdown(context),
        }
    }
}
