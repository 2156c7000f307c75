//! A CMDB in a database: connections, another try where that helps, limits of
//! time. It must not know what a statement or a row says.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use tokio::time::{sleep, timeout};

use crate::cmdb::connect::{Lease, Limits, Pool, late};
use crate::cmdb::engine::{Access, Connection};
use crate::cmdb::fault::{Fault, Meaning, Trouble};
use crate::cmdb::prune::Pruned;
use crate::cmdb::scheme::Change;
use crate::cmdb::url::CmdbUrl;
use crate::cmdb::write::Recorded;
use crate::cmdb::{find, hours, jittered, prune, read, rows, scheme, sql, write};
use crate::flow::report::Report;
use crate::recall::{Found, HostKey, Records, Selector, Traffic, Window};

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
        let pool = Pool::new(url, limits);
        let checking = async {
            let mut lease = pool.take().await?;
            scheme::check(lease.connection(), sql::STEPS).await?;
            lease.give_back();
            Ok(())
        };
        let checked = timeout(limits.connect, checking).await;
        checked
            .unwrap_or_else(|_| Err(late("no answer", limits.connect)))
            .with_context(|| format!("open the CMDB {url}"))?;
        Ok(Store { pool })
    }

    pub(crate) async fn create_scheme(url: &CmdbUrl, limits: &Limits) -> Result<Change> {
        let pool = Pool::new(url, limits);
        let creating = async {
            let mut lease = pool.take().await?;
            scheme::create(lease.connection(), sql::STEPS).await
        };
        let change =
            creating.await.with_context(|| format!("create the scheme in the CMDB {url}"))?;
        pool.close().await;
        Ok(change)
    }

    pub(crate) async fn record(&self, reports: &[&Report]) -> Result<Recorded> {
        let tables = rows::tables(reports).context("write what a report covers as JSON")?;
        let limit = self.pool.limits().write;
        let recording = async {
            let mut tries = Tries::default();
            loop {
                let mut lease = match self.pool.take().await {
                    Ok(lease) => lease,
                    Err(fault) => {
                        tries.again(fault.into()).await?;
                        continue;
                    }
                };
                match write::store(lease.connection(), &tables).await {
                    Ok(recorded) => {
                        lease.give_back();
                        return Ok(recorded);
                    }
                    Err(error) => {
                        let trouble = Trouble::Driver(error);
                        self.end(lease, &trouble);
                        tries.again(trouble).await?;
                    }
                }
            }
        };
        timeout(limit, recording)
            .await
            .unwrap_or_else(|_| Err(late("not recorded", limit)))
            .with_context(|| format!("record in the CMDB {}", self.pool.url()))
    }

    pub(crate) async fn last_sequence(&self, host: HostKey, epoch: i64) -> Result<Option<u64>> {
        match self.ask(&Question::Sequence(host, epoch)).await? {
            Answer::Sequence(sequence) => Ok(sequence),
            _ => unreachable!("a question is answered by its own kind"),
        }
    }

    pub(crate) async fn find(&self, selector: &Selector, window: &Window) -> Result<Found> {
        match self.ask(&Question::Find(selector, window)).await? {
            Answer::Found(found) => Ok(found),
            _ => unreachable!("a question is answered by its own kind"),
        }
    }

    pub(crate) async fn traffic(&self, hosts: &[HostKey], window: &Window) -> Result<Vec<Traffic>> {
        match self.ask(&Question::Traffic(hosts, window)).await? {
            Answer::Traffic(traffic) => Ok(traffic),
            _ => unreachable!("a question is answered by its own kind"),
        }
    }

    pub(crate) async fn around(
        &self,
        hosts: &[HostKey],
        addresses: &[IpAddr],
        window: &Window,
    ) -> Result<Records> {
        match self.ask(&Question::Around(hosts, addresses, window)).await? {
            Answer::Records(records) => Ok(records),
            _ => unreachable!("a question is answered by its own kind"),
        }
    }

    pub(crate) async fn prune(&self, before: Timestamp) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        let mut after = HostKey::MIN;
        loop {
            let began = tokio::time::Instant::now();
            let step = async {
                let mut tries = Tries::default();
                loop {
                    let mut lease = self.pool.take().await?;
                    match prune::step(lease.connection(), after, before, &mut pruned).await {
                        Ok(last) => {
                            lease.give_back();
                            return Ok(last);
                        }
                        Err(error) => {
                            let trouble = Trouble::Driver(error);
                            self.end(lease, &trouble);
                            tries.again(trouble).await?;
                        }
                    }
                }
            };
            let limit = self.pool.limits().write;
            let last = timeout(limit, step).await.unwrap_or_else(|_| Err(late("not done", limit)));
            match last.with_context(|| format!("prune the CMDB {}", self.pool.url()))? {
                Some(last) => after = last,
                None => return Ok(pruned),
            }
            sleep(began.elapsed()).await;
        }
    }

    pub(crate) async fn close(self) {
        self.pool.close().await;
    }

    async fn ask(&self, question: &Question<'_>) -> Result<Answer> {
        let limit = self.pool.limits().read;
        let asking = async {
            let mut tries = Tries::default();
            loop {
                let mut lease = self.pool.take().await?;
                match answer(lease.connection(), question).await {
                    Ok(answer) => {
                        lease.give_back();
                        return Ok(answer);
                    }
                    Err(trouble) => {
                        self.end(lease, &trouble);
                        tries.again(trouble).await?;
                    }
                }
            }
        };
        timeout(limit, asking)
            .await
            .unwrap_or_else(|_| Err(late("no answer", limit)))
            .with_context(|| format!("look in the CMDB {}", self.pool.url()))
    }

    /// A server that restarted left all connections dead; any other failure
    /// was rolled back, and its connection stays good.
    fn end(&self, lease: Lease<'_>, trouble: &Trouble) {
        if matches!(trouble.meaning(), Meaning::Away | Meaning::Slow) {
            drop(lease);
            self.pool.forget();
        } else {
            lease.give_back();
        }
    }
}

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

/// What is asked. An enum rather than a closure: the future of an async
/// closure cannot be sent to another thread.
enum Question<'a> {
    Sequence(HostKey, i64),
    Find(&'a Selector, &'a Window),
    Around(&'a [HostKey], &'a [IpAddr], &'a Window),
    Traffic(&'a [HostKey], &'a Window),
}

enum Answer {
    Sequence(Option<u64>),
    Found(Found),
    Records(Records),
    Traffic(Vec<Traffic>),
}

/// All statements of one question see one moment.
async fn answer(connection: &mut Connection, question: &Question<'_>) -> Result<Answer, Trouble> {
    connection.begin(Access::Read).await?;
    let answer = match question {
        Question::Sequence(host, epoch) => {
            find::last_sequence(connection, *host, *epoch).await.map(Answer::Sequence)
        }
        Question::Find(selector, window) => {
            find::find(connection, selector, window).await.map(Answer::Found)
        }
        Question::Around(hosts, addresses, window) => {
            read::around(connection, hosts, addresses, window).await.map(Answer::Records)
        }
        Question::Traffic(hosts, window) => {
            hours::traffic(connection, hosts, window).await.map(Answer::Traffic)
        }
    };
    let end = if answer.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = connection.run(end).await;
    let answer = answer?;
    ended?;
    Ok(answer)
}
