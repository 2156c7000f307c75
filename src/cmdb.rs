//! The CMDB: keeps what each host saw, with time, and gives it back.
//!
//! It knows no graph: it never decides that two hosts' flows are one edge.
//! Two calls write and read it, [`Cmdb::record`] and [`Cmdb::around`]; a third,
//! [`Cmdb::find`], turns what a user named into the hosts to begin from.
//!
//! What it promises: a report that was recorded survives a loss of power
//! (SQLite: write-ahead log, `synchronous = FULL`; PostgreSQL: as its
//! `synchronous_commit` says); recording it again changes nothing.

pub mod connect;
pub mod engine;
pub mod fault;
mod find;
mod hours;
mod identity;
pub mod prune;
mod read;
mod rows;
pub mod scheme;
pub mod sql;
mod text;
pub mod url;
pub mod write;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use tokio::time::{sleep, timeout};

use crate::cmdb::connect::{Lease, Limits, Pool, late};
use crate::cmdb::engine::{Access, Connection};
use crate::cmdb::fault::{Fault, Meaning, Trouble};
use crate::cmdb::prune::Pruned;
use crate::cmdb::scheme::Change;
use crate::cmdb::url::CmdbUrl;
use crate::cmdb::write::Recorded;
use crate::flow::host::{Coverage, Rung};
use crate::flow::key::HostFlow;
use crate::flow::report::Report;

/// A host's key in the CMDB: [`crate::flow::host::Host::hash`].
pub type HostKey = i64;

/// What a user asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// One address, canonical (never IPv4-mapped).
    Address(IpAddr),
    /// All addresses of a network.
    Network(IpNet),
    /// A host by name or by id.
    Host(String),
    /// A process by name (comm), on any host.
    Process(String),
    /// A service by port, on any host.
    Port(u16),
}

/// The range of time asked about. A flow is in it when one of its spans
/// overlaps it; both ends are inclusive, an absent one is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Beginning.
    pub since: Option<Timestamp>,
    /// End.
    pub until: Option<Timestamp>,
}

/// Where a walk begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Hosts with a probe that the selector means, or that have a flow it
    /// means.
    pub hosts: BTreeSet<HostKey>,
    /// Addresses without a host that the selector means, seen as a peer by
    /// somebody.
    pub addresses: BTreeSet<IpAddr>,
}

/// What was recorded around some hosts and addresses: their own flows, what
/// any host saw of them, and what is needed to join the two.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// Every host that is named below.
    pub hosts: Vec<HostRecord>,
    /// Who had which address, and when.
    pub addresses: Vec<AddressRecord>,
    /// The flows.
    pub flows: Vec<FlowRecord>,
}

/// A host that reports, or did.
#[derive(Clone, Debug, PartialEq)]
pub struct HostRecord {
    /// Key.
    pub key: HostKey,
    /// [`crate::flow::host::Host::id`].
    pub id: String,
    /// The name it last reported.
    pub name: String,
    /// The rung it last reported from.
    pub rung: Rung,
    /// What its last report did and did not see.
    pub coverage: Coverage,
    /// First report.
    pub first_seen: Timestamp,
    /// End of the last window it reported.
    pub last_seen: Timestamp,
    /// Names under which probes report as this host at the same time: a
    /// cloned machine id, or two probes on one machine.
    pub rivals: BTreeSet<String>,
    /// Its clock less the CMDB's, when it last spoke.
    pub skew: SignedDuration,
}

/// An address that a host had in a scope, for a range of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressRecord {
    /// Whose.
    pub host: HostKey,
    /// In which network namespace.
    pub scope: Arc<str>,
    /// The address.
    pub address: IpAddr,
    /// From when.
    pub since: Timestamp,
    /// Until when it was surely there.
    pub until: Timestamp,
}

/// A host flow with its spans of time.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowRecord {
    /// Who saw it.
    pub host: HostKey,
    /// The flow, with its latest numbers.
    pub flow: HostFlow,
    /// The spans that overlap the window asked about, oldest first; not empty.
    pub spans: Vec<Span>,
    /// When it was first seen, be it before the window.
    pub first_seen: Timestamp,
}

/// A range of time in which a flow was alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First seen.
    pub since: Timestamp,
    /// Last seen, or for a span that has not ended: the end of the last window
    /// its host reported in that epoch.
    pub until: Timestamp,
    /// It was said to be over, or its host's probe has started again since;
    /// else its host has just not spoken since.
    pub ended: bool,
}

/// What a flow's totals rose by in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Who saw it.
    pub host: HostKey,
    /// The flow: [`crate::flow::key::FlowKey::hash`].
    pub flow: i64,
    /// The sums.
    pub sums: Sums,
}

/// Sums over time. A number that its host could not know, or whose beginning
/// is no longer kept, is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Connections opened.
    pub opened: Option<u64>,
    /// Attempts to connect that failed.
    pub failed: Option<u64>,
    /// Bytes of payload sent and acknowledged.
    pub bytes_sent: Option<u64>,
    /// Bytes of payload received.
    pub bytes_received: Option<u64>,
    /// TCP segments retransmitted.
    pub retransmits: Option<u64>,
}

/// A CMDB that can be asked and told.
pub struct Cmdb {
    pool: Pool,
}

/// How often one call is tried when it loses against another (PostgreSQL's
/// 40001 and 40P01), finds its connection dead, or the server short of
/// something (08, 53, 57P0). Whoever keeps what it has, as the agent does,
/// tries for longer.
const TRIES: u32 = 6;

/// The pause before the second try; each further one is up to twice as long.
const PAUSE: Duration = Duration::from_millis(20);

impl Cmdb {
    /// Connects and checks the scheme. The embedded CMDB makes its directory,
    /// its file and its scheme where they are missing. The error says which
    /// CMDB, why, and what to do; see [`Fault`].
    pub async fn open(url: &CmdbUrl, limits: &Limits) -> Result<Cmdb> {
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
        Ok(Cmdb { pool })
    }

    /// Creates the scheme, or brings it up to date. May be called by any
    /// number at once, and again.
    pub async fn create_scheme(url: &CmdbUrl, limits: &Limits) -> Result<Change> {
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

    /// Keeps reports, all in one transaction. A row that the CMDB refuses is
    /// left out, logged and counted. After an error nothing or, where the
    /// connection broke at the commit, everything was kept; recording the same
    /// again is right in both cases.
    pub async fn record(&self, reports: &[&Report]) -> Result<Recorded> {
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

    /// The last report of an epoch that is kept; none if nothing of it is.
    pub async fn last_sequence(&self, host: HostKey, epoch: i64) -> Result<Option<u64>> {
        match self.ask(&Question::Sequence(host, epoch)).await? {
            Answer::Sequence(sequence) => Ok(sequence),
            _ => unreachable!("a question is answered by its own kind"),
        }
    }

    /// The hosts and addresses that a selector means, in a window. With an
    /// open window ([`Window::default`]) it tells whether it is known at all.
    pub async fn find(&self, selector: &Selector, window: &Window) -> Result<Found> {
        match self.ask(&Question::Find(selector, window)).await? {
            Answer::Found(found) => Ok(found),
            _ => unreachable!("a question is answered by its own kind"),
        }
    }

    /// What the totals of these hosts' flows rose by, in all hours that the
    /// window touches; flows of which nothing was told in them are left out.
    /// What was counted is as of the last report in each hour.
    pub async fn traffic(&self, hosts: &[HostKey], window: &Window) -> Result<Vec<Traffic>> {
        match self.ask(&Question::Traffic(hosts, window)).await? {
            Answer::Traffic(traffic) => Ok(traffic),
            _ => unreachable!("a question is answered by its own kind"),
        }
    }

    /// What was recorded in a window around some hosts and addresses:
    /// - the flows of these hosts;
    /// - the flows of any host whose peer is one of the addresses, or one that
    ///   these hosts had (loopback, link-local and unspecified ones left out:
    ///   they mean another machine on every machine);
    /// - the listeners, at the ports that these hosts' flows lead to, of the
    ///   hosts that had the peers' addresses;
    /// - who had which address: these hosts' own, and all owners of any
    ///   address named by peers above;
    /// - every host named in any of it.
    ///
    /// All of one moment, in a fixed number of statements.
    pub async fn around(
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

    /// Forgets what was over before a moment: spans, hourly totals, flows,
    /// addresses, processes without a flow, silent hosts. In steps of a few
    /// hosts, each a transaction, with a pause as long as the step took, so
    /// that writers hardly wait; may be interrupted, and run again.
    pub async fn prune(&self, before: Timestamp) -> Result<Pruned> {
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

    /// Closes the connections that are idle, and waits for it.
    pub async fn close(self) {
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

/// Between half of a wait and all of it, by chance: those who were sent away
/// together do not come back together.
pub fn jittered(wait: Duration) -> Duration {
    // The keys of a map are the standard library's only source of chance.
    let chance = RandomState::new().hash_one(0) >> 32;
    let part = u32::try_from(chance >> 1).unwrap_or(0);
    wait / 2 + (wait / 2).mul_f64(f64::from(part) / f64::from(u32::MAX >> 1))
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
