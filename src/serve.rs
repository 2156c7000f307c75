//! The collector: takes reports of many probes over HTTP, records them in
//! batches, and answers what `look` asks. It keeps nothing that is not in the
//! CMDB, so that any number of them may stand before one.
//!
//! It must not know SQL, nor how an answer is joined or printed.

mod claims;
mod connection;
mod inquiry;
mod labels;
pub(crate) mod look;
mod metrics;
mod openapi;
mod page;
mod queue;
mod recall;
mod reply;
mod reports;
mod room;
mod router;
mod search;
mod strangers;
mod tls;
mod trust;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use jiff::Timestamp;
use rustix::process::{Resource, getrlimit, setrlimit};
use rustls::ServerConfig;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use crate::cli::ServeOptions;
use crate::cmdb::Cmdb;
use crate::cmdb::connect::Limits;
use crate::cmdb::fault::{Fault, is_away};
use crate::daemon::log::Log;
use crate::daemon::{Signals, lock, notify};
use crate::serve::labels::LabelsFile;
use crate::serve::metrics::Metrics;
use crate::serve::queue::Queue;
use crate::serve::room::{Answers, Intake, Turns};
use crate::serve::strangers::Strangers;
use crate::serve::trust::tokens::Tokens;

/// Most connections at once; for one more, a stranger's is closed. An agent
/// keeps one open.
const MAX_CONNECTIONS: usize = 16_384;

/// Open files that are left for the CMDB and for what is read again.
const OTHER_FILES: u64 = 64;

/// Longest time for what was accepted to be finished after the signal to stop.
const STOP_LIMIT: Duration = Duration::from_secs(8);

/// Between two checks of the CMDB, the tokens in it, and the certificate's
/// files.
const CHECK: Duration = Duration::from_secs(2);

/// Most reasons told of why the CMDB cannot be used, until it can.
const MAX_REASONS: usize = 8;

/// Most bytes of bodies, packed, that are taken in at once; who comes then
/// waits. Some 1,600 of a host with 200 flows, each with two buffers of its
/// connection.
const MAX_BODIES: usize = 8 << 20;

/// The same, of questions.
const MAX_ASKED: usize = 8 << 20;

/// The same, of what probes ask: some bytes each.
const MAX_ASKED_BY_PROBES: usize = 1 << 20;

/// Questions answered at once.
const MAX_QUESTIONS: usize = 4;

const LIMITS: Limits =
    Limits { write: Duration::from_secs(20), connections: 8, ..Limits::STANDARD };

/// Whether the CMDB can be used, and why not.
type Readiness = Result<(), String>;

/// What all requests share.
pub(crate) struct State {
    plan: ServeOptions,
    log: Log,
    /// Names by which a request may ask for us.
    names: Mutex<Vec<String>>,
    tokens: Tokens,
    said: claims::Said,
    strangers: Strangers,
    cmdb: watch::Receiver<Option<Arc<Cmdb>>>,
    ready: watch::Receiver<Readiness>,
    queue: Queue,
    metrics: Metrics,
    page: Vec<page::File>,
    labels: LabelsFile,
    /// Who checks certificates, as last read.
    verifier: Mutex<tls::Verifier>,
    /// When our certificate ends.
    ending: Mutex<tls::Ending>,
    /// To report, and to ask.
    telling: Turns,
    asking: Turns,
    answers: Answers,
    /// Reports; questions; what probes ask before they report.
    told: Intake,
    asked: Intake,
    asked_by_probes: Intake,
    questions: Semaphore,
}

/// Collects until SIGTERM or SIGINT; then finishes what it has accepted.
pub async fn run(plan: ServeOptions, log: &Log) -> Result<()> {
    let mut signals = Signals::watch()?;
    let mut reload = signal(SignalKind::hangup()).context("watch for SIGHUP")?;
    let most = most_connections();
    let written = tls::changed(&plan);
    let secured = plan.tls.is_some().then(|| tls::read(&plan)).transpose()?;
    let (config, certified, verifier, ending) = match secured {
        Some(tls) => (Some(tls.config), tls.names, tls.verifier, tls.ending),
        None => (None, Vec::new(), None, tls::Ending::default()),
    };
    let names = Mutex::new(names(&plan, certified));
    let (offer, cmdb) = watch::channel(None);
    let (tell, ready) = watch::channel(Err("it has not been asked yet".to_owned()));
    let (queue, entries) = queue::new();
    let state = Arc::new(State {
        names,
        tokens: Tokens::default(),
        said: claims::Said::default(),
        strangers: Strangers::default(),
        cmdb,
        ready,
        queue,
        metrics: Metrics::default(),
        page: page::files(),
        labels: LabelsFile::new(plan.labels.clone()),
        verifier: Mutex::new(verifier),
        ending: Mutex::new(ending),
        telling: Turns::default(),
        asking: Turns::default(),
        answers: Answers::default(),
        told: Intake::new(MAX_BODIES),
        asked: Intake::new(MAX_ASKED),
        asked_by_probes: Intake::new(MAX_ASKED_BY_PROBES),
        questions: Semaphore::new(MAX_QUESTIONS),
        plan,
        log: log.clone(),
    });
    // A scheme that is missing is told at once; a CMDB that is away is waited
    // for, as probes may be started before it.
    check(&state, &offer, &tell).await?;
    let plan = &state.plan;
    let listener = TcpListener::bind(plan.listen).await;
    let listener = listener.with_context(|| format!("listen on {}", plan.listen))?;
    announce(&listener, plan)?;

    let config = config.map(|config| Mutex::new(Arc::new(config)));
    let mut writers = JoinSet::new();
    for _ in 0..if plan.cmdb.is_embedded() { 1 } else { queue::WRITERS } {
        writers.spawn(queue::write(Arc::clone(&state), Arc::clone(&entries)));
    }
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    notify(NotifyState::Ready);
    tokio::select! {
        () = accept(&state, &listener, config.as_ref(), (&mut connections, most), &stopping) => {}
        () = keep_checking(&state, (config.as_ref(), written), &offer, &tell, &mut reload) => {}
        () = signals.stop() => {}
    }
    notify(NotifyState::Stopping);
    drop(listener);
    let left = connections.len();
    debug!("stopping with {left} connections open");
    let until = Instant::now() + STOP_LIMIT;
    stop.send_replace(true);
    let finishing = async { while connections.join_next().await.is_some() {} };
    let finished = timeout(STOP_LIMIT, finishing).await.is_ok();
    state.queue.close();
    let writing = async { while writers.join_next().await.is_some() {} };
    let written = timeout(until.saturating_duration_since(Instant::now()), writing).await.is_ok();
    anyhow::ensure!(written, "stopped before all reports were recorded; their probes keep them");
    info!("stopped; all that was acknowledged is in the CMDB");
    if !finished {
        debug!("connections were closed that had not ended");
    }
    Ok(())
}

/// The line that says where it is and whom it trusts.
fn announce(listener: &TcpListener, plan: &ServeOptions) -> Result<()> {
    let at = listener.local_addr().context("ask for our own address")?;
    let scheme = if plan.tls.is_some() { "https" } else { "http" };
    info!("listening on {scheme}://{at}, recording in {}", plan.cmdb);
    match (plan.must_be_known, &plan.client_ca) {
        (false, _) => warn!(
            "everybody who reaches {at} may read and write everything: there is neither --client-ca nor --require-auth"
        ),
        (true, None) => info!("who asks shows a token"),
        (true, Some(_)) => info!("who asks shows a certificate or a token"),
    }
    Ok(())
}

/// By which it may be asked.
fn names(plan: &ServeOptions, certified: Vec<String>) -> Vec<String> {
    plan.names.iter().cloned().chain(certified).collect()
}

/// Each connection is a file, of which there may be so many; the soft limit of
/// 1,024 is for programs that use select(2).
fn most_connections() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        debug!("the limit of open files stays as it was: {error}");
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = usize::try_from(files.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX);
    most.clamp(1, MAX_CONNECTIONS)
}

async fn accept(
    state: &Arc<State>,
    listener: &TcpListener,
    tls: Option<&Mutex<Arc<ServerConfig>>>,
    (connections, most): (&mut JoinSet<()>, usize),
    stopping: &watch::Receiver<bool>,
) {
    loop {
        while connections.try_join_next().is_some() {}
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            // Too many open files, or a peer that is gone already.
            Err(error) => {
                debug!("accept a connection: {error}");
                state.metrics.connections_failed.add(1);
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if !make_room(state, connections, most).await {
            state.metrics.connections_failed.add(1);
            continue;
        }
        let tls = tls.map(|tls| Arc::clone(&lock(tls)));
        let (serving, stopping) = (Arc::clone(state), stopping.clone());
        strangers::admit(state, address.ip(), |place| {
            connections.spawn(connection::serve(serving, place, stream, address, tls, stopping))
        });
    }
}

/// Whether there is a place for another: strangers make room for who comes, and
/// nobody who is known does.
async fn make_room(state: &State, connections: &mut JoinSet<()>, most: usize) -> bool {
    while connections.len() >= most {
        state.strangers.say(most);
        if !state.strangers.close_oldest() {
            return false;
        }
        state.metrics.strangers_closed.add(1);
        connections.join_next().await;
    }
    true
}

/// Looks after the CMDB, and the certificate, whose files were written then when
/// they were read.
async fn keep_checking(
    state: &State,
    (tls, mut read): (Option<&Mutex<Arc<ServerConfig>>>, Vec<Option<SystemTime>>),
    offer: &watch::Sender<Option<Arc<Cmdb>>>,
    tell: &watch::Sender<Readiness>,
    reload: &mut Signal,
) {
    let mut said = Vec::new();
    loop {
        say(&tell.borrow(), &mut said);
        lock(&state.ending).say(Timestamp::now());
        // What has changed is noticed without SIGHUP, too.
        tokio::select! {
            () = sleep(CHECK) => {}
            _ = reload.recv() => read.clear(),
        }
        if let Err(error) = check(state, offer, tell).await {
            drop(tell.send_replace(Err(format!("{:#}", error.root_cause()))));
        }
        let Some(tls) = tls else { continue };
        let now = tls::changed(&state.plan);
        if now == read {
            continue;
        }
        read = now;
        match tls::read(&state.plan) {
            Ok(tls::Secured { config, names: certified, verifier, ending }) => {
                *lock(tls) = Arc::new(config);
                *lock(&state.names) = names(&state.plan, certified);
                *lock(&state.verifier) = verifier;
                *lock(&state.ending) = ending;
                info!("the certificate was read again");
            }
            Err(error) => warn!("the certificate stays as it was: {error:#}"),
        }
    }
}

/// What has changed for the CMDB: each reason once until it can be used again,
/// be it away from the start.
fn say(ready: &Readiness, said: &mut Vec<String>) {
    match ready {
        Ok(()) if !said.is_empty() => {
            said.clear();
            info!("the CMDB is there");
        }
        Err(why) if said.len() < MAX_REASONS && !said.contains(why) => {
            warn!("the CMDB cannot be used: {why}");
            said.push(why.clone());
        }
        _ => {}
    }
}

/// Connects where that was not done, and asks for the tokens; what it finds is
/// told to all. The error is one that waiting does not mend.
async fn check(
    state: &State,
    offer: &watch::Sender<Option<Arc<Cmdb>>>,
    tell: &watch::Sender<Readiness>,
) -> Result<()> {
    let checking = async {
        if offer.borrow().is_none() {
            let cmdb = Cmdb::open(&state.plan.cmdb, &LIMITS).await?;
            offer.send_replace(Some(Arc::new(cmdb)));
        }
        match state.tokens.refresh(state).await {
            // Opening it says what is wrong with the scheme, and makes a file
            // anew that was removed.
            Err(error) if !is_away(&error) => {
                Cmdb::open(&state.plan.cmdb, &LIMITS).await?.close().await;
                state.tokens.refresh(state).await
            }
            done => done,
        }
    };
    match checking.await {
        Ok(()) => drop(tell.send_replace(Ok(()))),
        Err(error) if is_away(&error) => {
            drop(tell.send_replace(Err(format!("{:#}", error.root_cause()))));
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

impl State {
    /// The CMDB, once it was there.
    fn cmdb(&self) -> Result<Arc<Cmdb>, Fault> {
        let cmdb = self.cmdb.borrow().clone();
        cmdb.ok_or_else(|| Fault::Away("the CMDB has not answered so far".to_owned()))
    }
}
