//! A CMDB in a database: connections, another try where that helps, limits of
//! time. It must not know what a statement or a row says.

use std::collections::HashMap;
use std::net::IpAddr;
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::cmdb::connect::{Lease, Limits, Pool, late};
use crate::cmdb::engine::sqlite::GiveUp;
use crate::cmdb::engine::{Access, Connection};
use crate::cmdb::enrol::{Enrolment, Pulse};
use crate::cmdb::fault::{Fault, Meaning, Trouble};
use crate::cmdb::owners::{Claim, Owners};
use crate::cmdb::prune::Pruned;
use crate::cmdb::rows::Table;
use crate::cmdb::scheme::Created;
use crate::cmdb::token::TokenHash;
use crate::cmdb::url::CmdbUrl;
use crate::cmdb::write::Recorded;
use crate::cmdb::{
    enrol, find, hours, jittered, names, owners, prune, read, rows, scheme, sql, write,
};
use crate::flow::report::Report;
use crate::recall::{Found, HostKey, Names, Records, Run, Selector, TokenRecord, Traffic, Window};

/// A CMDB in a database.
pub(crate) struct Store {
    pool: Pool,
}

/// How often one call is tried when it loses against another (PostgreSQL's
/// 40001 and 40P01), finds its connection dead, or the server short of
/// something (08, 53, 57P0). Whoever keeps what it has, as the agent does,
/// tries for longer.
const TRIES: u32 = 6;

/// The pause before the second try; each further one is up to twice as long.
const PAUSE: Duration = Duration::from_millis(20);

impl Store {
    pub(crate) async fn open(url: &CmdbUrl, limits: &Limits) -> Result<Store> {
        let store = Store { pool: Pool::new(url, limits) };
        store
            .once(limits.connect, Task::Check)
            .await
            .with_context(|| format!("open the CMDB {url}"))?;
        Ok(store)
    }

    pub(crate) async fn create_scheme(url: &CmdbUrl, limits: &Limits) -> Result<Created> {
        let store = Store { pool: Pool::new(url, limits) };
        // A step has a limit of its own.
        let created = store.once(Duration::MAX, Task::Create).await;
        let done = created.with_context(|| format!("create the scheme in the CMDB {url}"))?;
        store.close().await;
        match done {
            Done::Created(change) => Ok(change),
            _ => unreachable!("{OWN_KIND}"),
        }
    }

    pub(crate) async fn record(&self, reports: &[&Report]) -> Result<Recorded> {
        let tables = rows::tables(reports).context("write what a report covers as JSON")?;
        let limit = self.pool.limits().write;
        let done = self.try_long(limit, Task::Record(tables), "not recorded").await;
        match done.with_context(|| format!("record in the CMDB {}", self.pool.url()))? {
            Done::Recorded(recorded) => Ok(recorded),
            _ => unreachable!("{OWN_KIND}"),
        }
    }

    pub(crate) async fn last_sequences(&self, runs: Vec<Run>) -> Result<HashMap<Run, u64>> {
        match self.ask(Task::Sequences(runs)).await? {
            Done::Sequences(sequences) => Ok(sequences),
            _ => unreachable!("{OWN_KIND}"),
        }
    }

    pub(crate) async fn find(&self, selector: &Selector, window: &Window) -> Result<Found> {
        match self.ask(Task::Find(selector.clone(), *window)).await? {
            Done::Found(found) => Ok(found),
            _ => unreachable!("{OWN_KIND}"),
        }
    }

    pub(crate) async fn names(&self, text: &str) -> Result<Names> {
        match self.ask(Task::Names(text.to_owned())).await? {
            Done::Names(names) => Ok(names),
            _ => unreachable!("{OWN_KIND}"),
        }
    }

    pub(crate) async fn traffic(&self, hosts: &[HostKey], window: &Window) -> Result<Vec<Traffic>> {
        match self.ask(Task::Traffic(hosts.to_vec(), *window)).await? {
            Done::Traffic(traffic) => Ok(traffic),
            _ => unreachable!("{OWN_KIND}"),
        }
    }

    pub(crate) async fn around(
        &self,
        hosts: &[HostKey],
        addresses: &[IpAddr],
        window: &Window,
    ) -> Result<Records> {
        let task = Task::Around(hosts.to_vec(), addresses.to_vec(), *window);
        match self.ask(task).await? {
            Done::Records(records) => Ok(records),
            _ => unreachable!("{OWN_KIND}"),
        }
    }

    pub(crate) async fn prune(&self, before: Timestamp) -> Result<Pruned> {
        self.change(Task::BeginPrune(before), "prune").await?;
        let mut pruned = Pruned::default();
        let mut after = HostKey::MIN;
        loop {
            let began = tokio::time::Instant::now();
            let limit = self.pool.limits().write;
            let step =
                self.try_short(limit, Task::Prune(after, before), late("not done", limit)).await;
            match step.with_context(|| format!("prune the CMDB {}", self.pool.url()))? {
                Done::Pruned(Some(last), forgotten) => {
                    after = last;
                    pruned.add(forgotten);
                }
                Done::Pruned(None, _) => break,
                _ => unreachable!("{OWN_KIND}"),
            }
            sleep(began.elapsed()).await;
        }
        match self.change(Task::PruneTokens(before), "prune").await? {
            Done::Count(tokens) => pruned.tokens = tokens,
            _ => unreachable!("{OWN_KIND}"),
        }
        Ok(pruned)
    }

    pub(crate) async fn owners(&self, claims: Vec<Claim>, within: Duration) -> Result<Owners> {
        match self.ask(Task::Owners(claims, within)).await? {
            Done::Owners(owners) => Ok(owners),
            _ => unreachable!("{OWN_KIND}"),
        }
    }

    pub(crate) async fn enrol(&self, hash: TokenHash, enrolment: Enrolment) -> Result<TokenRecord> {
        match self.change(Task::Enrol(hash, enrolment), "enrol in").await? {
            Done::Enrolled(token) => Ok(token),
            _ => unreachable!("{OWN_KIND}"),
        }
    }

    pub(crate) async fn revoke(&self, name_or_id: String) -> Result<u64> {
        match self.change(Task::Revoke(name_or_id), "revoke in").await? {
            Done::Count(tokens) => Ok(tokens),
            _ => unreachable!("{OWN_KIND}"),
        }
    }

    pub(crate) async fn tokens(&self) -> Result<Vec<TokenRecord>> {
        match self.ask(Task::Tokens).await? {
            Done::Tokens(tokens) => Ok(tokens),
            _ => unreachable!("{OWN_KIND}"),
        }
    }

    pub(crate) async fn pulse(&self, known: Option<i64>) -> Result<Pulse> {
        match self.ask(Task::Pulse(known)).await? {
            Done::Pulse(pulse) => Ok(pulse),
            _ => unreachable!("{OWN_KIND}"),
        }
    }

    async fn change(&self, task: Task, doing: &str) -> Result<Done> {
        let limit = self.pool.limits().write;
        let done = self.try_short(limit, task, late("not done", limit)).await;
        done.with_context(|| format!("{doing} the CMDB {}", self.pool.url()))
    }

    pub(crate) async fn close(self) {
        self.pool.close().await;
    }

    async fn ask(&self, task: Task) -> Result<Done> {
        let limit = self.pool.limits().read;
        let remedy = "ask for less, or narrow --since and --until";
        let late = Fault::Away(format!("{}: {remedy}", late("no answer", limit)));
        let asked = self.try_short(limit, task, late).await;
        asked.with_context(|| format!("look in the CMDB {}", self.pool.url()))
    }

    /// One try. Its connection is kept if all went well.
    async fn once(&self, limit: Duration, task: Task) -> Result<Done, Fault> {
        let task = Arc::new(task);
        let trying = async {
            let (lease, done) = carry_out(self.pool.take().await?, &task).await?;
            let done = done.map_err(Trouble::fault)?;
            lease.give_back();
            Ok(done)
        };
        timeout(limit, trying).await.unwrap_or_else(|_| Err(late("no answer", limit)))
    }

    /// Tries again what may go well the next time; but who finds no connection
    /// is told at once.
    async fn try_short(&self, limit: Duration, task: Task, late: Fault) -> Result<Done, Fault> {
        let task = Arc::new(task);
        let trying = async {
            let mut tries = Tries::default();
            loop {
                let lease = self.pool.take().await?;
                match self.carry_out(lease, &task).await? {
                    Ok(done) => return Ok(done),
                    Err(trouble) => tries.again(trouble).await?,
                }
            }
        };
        timeout(limit, trying).await.unwrap_or(Err(late))
    }

    /// As [`Store::try_short`], and tries again for a connection, too.
    async fn try_long(&self, limit: Duration, task: Task, else_say: &str) -> Result<Done, Fault> {
        let task = Arc::new(task);
        let trying = async {
            let mut tries = Tries::default();
            loop {
                let trouble = match self.pool.take().await {
                    Ok(lease) => match self.carry_out(lease, &task).await? {
                        Ok(done) => return Ok(done),
                        Err(trouble) => trouble,
                    },
                    Err(fault) => fault.into(),
                };
                tries.again(trouble).await?;
            }
        };
        timeout(limit, trying).await.unwrap_or_else(|_| Err(late(else_say, limit)))
    }

    /// A server that restarted left all connections dead; any other failure
    /// was rolled back, and its connection stays good.
    async fn carry_out(
        &self,
        lease: Lease<'_>,
        task: &Arc<Task>,
    ) -> Result<Result<Done, Trouble>, Fault> {
        let (lease, done) = carry_out(lease, task).await?;
        match &done {
            Err(trouble) if matches!(trouble.meaning(), Meaning::Away | Meaning::Slow) => {
                drop(lease);
                self.pool.forget();
            }
            _ => lease.give_back(),
        }
        Ok(done)
    }
}

/// Why what came back is what was asked for.
const OWN_KIND: &str = "a task is done with its own kind";

/// How often one call has been tried.
#[derive(Default)]
struct Tries(u32);

impl Tries {
    /// Waits until it is time for another try; the fault if there is none.
    async fn again(&mut self, trouble: Trouble) -> Result<(), Fault> {
        self.0 += 1;
        if !matches!(trouble.meaning(), Meaning::Again | Meaning::Away) || self.0 >= TRIES {
            return Err(trouble.fault());
        }
        sleep(jittered(PAUSE * 2_u32.pow(self.0 - 1))).await;
        Ok(())
    }
}

/// What is done with one connection at a time. An enum rather than a closure:
/// it goes to another thread, and the future of an async closure cannot.
enum Task {
    Check,
    Create,
    Record(Vec<Table>),
    BeginPrune(Timestamp),
    Prune(HostKey, Timestamp),
    Sequences(Vec<Run>),
    Find(Selector, Window),
    Around(Vec<HostKey>, Vec<IpAddr>, Window),
    Names(String),
    Traffic(Vec<HostKey>, Window),
    Enrol(TokenHash, Enrolment),
    Revoke(String),
    PruneTokens(Timestamp),
    Tokens,
    Pulse(Option<i64>),
    Owners(Vec<Claim>, Duration),
}

enum Done {
    Checked,
    Created(Created),
    Recorded(Recorded),
    /// The last host that was looked at, if there may be more.
    Pruned(Option<HostKey>, Pruned),
    Sequences(HashMap<Run, u64>),
    Found(Found),
    Records(Records),
    Names(Names),
    Traffic(Vec<Traffic>),
    Enrolled(TokenRecord),
    /// Of tokens.
    Count(u64),
    Tokens(Vec<TokenRecord>),
    Pulse(Pulse),
    Owners(Owners),
}

/// Tells SQLite, when dropped, that nobody waits for it any more.
struct Waiting(GiveUp);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.now();
    }
}

/// Does a task with a connection. SQLite is called on a thread that may block;
/// when the time for it is over, it stops.
async fn carry_out<'a>(
    mut lease: Lease<'a>,
    task: &Arc<Task>,
) -> Result<(Lease<'a>, Result<Done, Trouble>), Fault> {
    let waiting = match lease.connection() {
        Connection::Sqlite(sqlite) => Waiting(sqlite.give_up()),
        postgres => {
            let done = do_task(postgres, task).await;
            return Ok((lease, done));
        }
    };
    let (pool, mut held) = lease.apart();
    let task = Arc::clone(task);
    let working = spawn_blocking(move || {
        let done = at_once(do_task(&mut held.connection, &task));
        (held, done)
    });
    let worked = working.await;
    drop(waiting);
    match worked {
        Ok((held, done)) => Ok((Lease::again(pool, held), done)),
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        Err(_) => Err(Fault::Away("it was closed".to_owned())),
    }
}

/// What a future that never waits gives.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => unreachable!("SQLite answers before it returns"),
    }
}

async fn do_task(connection: &mut Connection, task: &Task) -> Result<Done, Trouble> {
    match task {
        Task::Check => {
            scheme::check(connection, sql::STEPS).await?;
            Ok(Done::Checked)
        }
        Task::Create => Ok(Done::Created(scheme::create_spread(connection, sql::STEPS).await?)),
        Task::Record(tables) => Ok(Done::Recorded(write::store(connection, tables).await?)),
        Task::BeginPrune(before) => {
            prune::begin(connection, *before).await?;
            Ok(Done::Checked)
        }
        Task::Prune(after, before) => {
            let mut pruned = Pruned::default();
            let last = prune::step(connection, *after, *before, &mut pruned).await?;
            Ok(Done::Pruned(last, pruned))
        }
        Task::Enrol(hash, enrolment) => {
            enrol::enrol(connection, hash, enrolment).await.map(Done::Enrolled)
        }
        Task::Revoke(name_or_id) => enrol::revoke(connection, name_or_id).await.map(Done::Count),
        Task::PruneTokens(before) => {
            enrol::prune(connection, before.as_microsecond()).await.map(Done::Count)
        }
        question => answer(connection, question).await,
    }
}

/// All statements of one question see one moment.
async fn answer(connection: &mut Connection, question: &Task) -> Result<Done, Trouble> {
    connection.begin(Access::Read).await?;
    let answer = match question {
        Task::Sequences(runs) => find::last_sequences(connection, runs).await.map(Done::Sequences),
        Task::Find(selector, window) => {
            find::find(connection, selector, window).await.map(Done::Found)
        }
        Task::Around(hosts, addresses, window) => {
            read::around(connection, hosts, addresses, window).await.map(Done::Records)
        }
        Task::Names(text) => names::names(connection, text).await.map(Done::Names),
        Task::Traffic(hosts, window) => {
            hours::traffic(connection, hosts, window).await.map(Done::Traffic)
        }
        Task::Tokens => enrol::tokens(connection).await.map(Done::Tokens),
        Task::Owners(claims, within) => {
            owners::owners(connection, claims, *within).await.map(Done::Owners)
        }
        Task::Pulse(known) => enrol::pulse(connection, *known).await.map(Done::Pulse),
        _ => unreachable!("it is no question"),
    };
    let end = if answer.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = connection.run(end).await;
    let answer = answer?;
    ended?;
    Ok(answer)
}
