//! A CMDB behind a collector: the same calls, over HTTP. It must not know what
//! a record says.

mod connection;
mod tls;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use hyper::StatusCode;
use hyper::body::Bytes;
use rustls::ClientConfig;
use tokio::time::{Instant, sleep, timeout_at};

use crate::cmdb::connect::{Limits, late};
use crate::cmdb::fault::Fault;
use crate::cmdb::jittered;
use crate::cmdb::remote::connection::{Connection, MAX_WORD, Reply, Request, Trouble};
use crate::cmdb::token::{Token, TokenSource};
use crate::cmdb::url::CmdbUrl;
use crate::cmdb::url::site::Site;
use crate::cmdb::write::Recorded;
use crate::flow::report::Report;
use crate::recall::{Found, HostKey, Records, Selector, Traffic, Window};
use crate::wire;
use crate::wire::recall::{Answer, Question, decode_answer, encode_question};

/// Most flows and addresses in one request of several reports. A collector takes
/// four times as many things.
const MAX_FLOWS: usize = 16_384;

/// Largest answer that tells records, packed and inflated: what
/// [`crate::cmdb::read`] allows of them. A probe asks for none, and takes no more
/// than [`MAX_WORD`] of either.
const MAX_RECORDS_PACKED: usize = 256 << 20;
const MAX_RECORDS_INFLATED: usize = 1 << 30;

/// Most records, processes and scopes of an answer.
const MAX_RECORDS: usize = 4_000_000;

/// Longest pause that a collector may ask for.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// Most of what a collector says that is repeated, in characters.
const MAX_SAID: usize = 300;

/// A collector.
pub(crate) struct Remote {
    url: CmdbUrl,
    site: Site,
    tls: Option<Arc<ClientConfig>>,
    limits: Limits,
    /// What it is shown, as last read.
    token: Mutex<Option<Token>>,
    /// Connections that nobody uses at the moment.
    idle: Mutex<Vec<Connection>>,
}

impl Remote {
    pub(crate) async fn open(url: &CmdbUrl, site: &Site, limits: &Limits) -> Result<Remote> {
        let token = read_token(site).context(opening(url))?;
        let remote = Remote {
            url: url.clone(),
            site: site.clone(),
            tls: if site.tls { Some(tls::config(site).context(opening(url))?) } else { None },
            limits: *limits,
            token: Mutex::new(token),
            idle: Mutex::new(Vec::new()),
        };
        let until = Instant::now() + limits.connect;
        match remote.ask_until(&Question::Check, until).await {
            Ok(Answer::Checked) => Ok(remote),
            Ok(_) => Err(strange()).context(opening(url)),
            Err(fault) => Err(fault).context(opening(url)),
        }
    }

    /// See [`crate::cmdb::Cmdb::record`]. A report is recorded whole or not at
    /// all, so it goes in one request; who makes it keeps it small enough.
    pub(crate) async fn record(&self, reports: &[&Report]) -> Result<Recorded> {
        let until = Instant::now() + self.limits.write;
        let recording = async {
            let mut recorded = Recorded::default();
            let mut rest = reports;
            while !rest.is_empty() {
                let mut flows = 0;
                let fits = rest.iter().take_while(|report| {
                    flows += report.flows.len() + report.addresses.len();
                    flows <= MAX_FLOWS
                });
                let (together, others) = rest.split_at(fits.count().max(1));
                rest = others;
                let body = wire::pack(&wire::encode(together));
                recorded.refused += self.deliver(body.into(), until).await?;
            }
            Ok::<_, Fault>(recorded)
        };
        recording.await.with_context(|| format!("record in the CMDB {}", self.url))
    }

    /// Delivers a batch; how many rows and flows were refused.
    async fn deliver(&self, body: Bytes, until: Instant) -> Result<u64, Fault> {
        let request = Request { path: "/v1/reports", body, most: MAX_WORD };
        let reply = self.exchange(&request, until).await?;
        match reply.status {
            StatusCode::OK => Ok(reply.number("refused_rows") + reply.number("refused_flows")),
            // A request whose answer was lost has come twice.
            StatusCode::CONFLICT if reply.code() == "already_recorded" => Ok(0),
            _ => Err(fault_of(&reply)),
        }
    }

    pub(crate) async fn last_sequence(&self, host: HostKey, epoch: i64) -> Result<Option<u64>> {
        match self.ask(&Question::Sequence(host, epoch)).await? {
            Answer::Sequence(sequence) => Ok(sequence),
            _ => Err(strange().into()),
        }
    }

    pub(crate) async fn find(&self, selector: &Selector, window: &Window) -> Result<Found> {
        match self.ask(&Question::Find(selector.clone(), *window)).await? {
            Answer::Found(found) => Ok(found),
            _ => Err(strange().into()),
        }
    }

    pub(crate) async fn traffic(&self, hosts: &[HostKey], window: &Window) -> Result<Vec<Traffic>> {
        match self.ask(&Question::Traffic(hosts.to_vec(), *window)).await? {
            Answer::Traffic(traffic) => Ok(traffic),
            _ => Err(strange().into()),
        }
    }

    pub(crate) async fn around(
        &self,
        hosts: &[HostKey],
        addresses: &[IpAddr],
        window: &Window,
    ) -> Result<Records> {
        match self.ask(&Question::Around(hosts.to_vec(), addresses.to_vec(), *window)).await? {
            Answer::Records(records) => Ok(records),
            _ => Err(strange().into()),
        }
    }

    /// What only who has the database can do.
    pub(crate) fn no_such_call(&self) -> anyhow::Error {
        let text = "it is behind a collector: name the collector's own CMDB".to_owned();
        anyhow::Error::new(Fault::Refused(text)).context(format!("change the CMDB {}", self.url))
    }

    async fn ask(&self, question: &Question) -> Result<Answer> {
        // The collector's own limit, and the way there and back.
        let until = Instant::now() + self.limits.read + self.limits.connect;
        let answer = self.ask_until(question, until).await;
        answer.with_context(|| format!("look in the CMDB {}", self.url))
    }

    async fn ask_until(&self, question: &Question, until: Instant) -> Result<Answer, Fault> {
        let body = wire::pack(&encode_question(question)).into();
        let (most, inflated) = match question {
            Question::Check | Question::Sequence(..) => (MAX_WORD, MAX_WORD),
            Question::Find(..) | Question::Around(..) | Question::Traffic(..) => {
                (MAX_RECORDS_PACKED, MAX_RECORDS_INFLATED)
            }
        };
        let reply = self.exchange(&Request { path: "/v1/recall", body, most }, until).await?;
        if reply.status != StatusCode::OK {
            return Err(fault_of(&reply));
        }
        let read = |body: &[u8]| decode_answer(&wire::unpack(body, inflated)?, MAX_RECORDS);
        read(&reply.body).map_err(|error| Fault::Refused(format!("its answer: {error}")))
    }

    /// One request and its reply, tried again when the collector is too busy
    /// for it and says so, and once when the token has become another.
    async fn exchange(&self, request: &Request, until: Instant) -> Result<Reply, Fault> {
        let mut renewed = false;
        loop {
            let limit = until.saturating_duration_since(Instant::now());
            let reply = timeout_at(until, self.send(request))
                .await
                .unwrap_or_else(|_| Err(late("no answer", limit)))?;
            if reply.status == StatusCode::UNAUTHORIZED && !renewed && self.renew()? {
                renewed = true;
                continue;
            }
            let pause = jittered(reply.retry_after.unwrap_or(MAX_PAUSE).min(MAX_PAUSE));
            let busy = reply.status == StatusCode::SERVICE_UNAVAILABLE && reply.code() == "busy";
            if !busy || Instant::now() + pause >= until {
                return Ok(reply);
            }
            sleep(pause).await;
        }
    }

    /// Over a connection that is idle, or a new one. An idle one may have been
    /// closed by the other end meanwhile: then the same goes over a new one,
    /// since everything that is sent may be sent twice.
    async fn send(&self, request: &Request) -> Result<Reply, Fault> {
        let token = lock(&self.token).clone();
        let idle = lock(&self.idle).pop();
        if let Some(connection) = idle {
            match connection.exchange(&self.site, token.as_ref(), request).await {
                Ok((reply, connection)) => return Ok(self.keep(reply, connection)),
                Err(Trouble::Broken(_)) => lock(&self.idle).clear(),
                Err(Trouble::Known(fault)) => return Err(fault),
            }
        }
        let connecting = Connection::open(&self.site, self.tls.as_ref(), self.limits.connect);
        let connection = connecting.await?;
        match connection.exchange(&self.site, token.as_ref(), request).await {
            Ok((reply, connection)) => Ok(self.keep(reply, connection)),
            Err(trouble) => Err(trouble.fault()),
        }
    }

    /// Reads the token again; whether it is another one.
    fn renew(&self) -> Result<bool, Fault> {
        let new = read_token(&self.site)?;
        let mut known = lock(&self.token);
        let is_other = *known != new;
        *known = new;
        Ok(is_other)
    }

    fn keep(&self, reply: Reply, connection: Option<Connection>) -> Reply {
        lock(&self.idle).extend(connection);
        reply
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_token(site: &Site) -> Result<Option<Token>, Fault> {
    site.token.as_ref().map(TokenSource::read).transpose().map_err(Fault::Refused)
}

fn opening(url: &CmdbUrl) -> String {
    format!("open the CMDB {url}")
}

fn strange() -> Fault {
    Fault::Refused("it answers another question than was asked: is it a collector?".to_owned())
}

/// What a reply that is no answer means. The collector's words are somebody
/// else's: one line of them, of characters that show.
fn fault_of(reply: &Reply) -> Fault {
    let said = reply.text("error");
    let remedy = reply.text("remedy");
    let words = match (said.is_empty(), remedy.is_empty()) {
        (true, _) => format!("it answers {}: is it a collector?", reply.status),
        (false, true) => said,
        (false, false) => format!("{said}: {remedy}"),
    };
    let shown = words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_SAID);
    let text: String = shown.collect();
    match (reply.code().as_str(), reply.status) {
        ("scheme", _) => Fault::Scheme(text),
        (_, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT) => Fault::Away(text),
        (_, status) if status.is_server_error() => Fault::Away(text),
        _ => Fault::Refused(text),
    }
}

#[cfg(test)]
mod tests;
