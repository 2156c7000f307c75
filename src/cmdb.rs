//! The CMDB: keeps what each host saw, with time, and gives it back.
//!
//! It knows no graph: it never decides that two hosts' flows are one edge.
//! Two calls write and read it, [`Cmdb::record`] and [`Cmdb::around`]; a third,
//! [`Cmdb::find`], turns what a user named into the hosts to begin from.
//!
//! It is in a database, or behind a collector that has one.
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
mod remote;
mod rows;
pub mod scheme;
pub mod spread;
pub mod sql;
mod store;
mod text;
pub mod url;
pub mod write;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;

use crate::cmdb::connect::Limits;
use crate::cmdb::prune::Pruned;
use crate::cmdb::remote::Remote;
use crate::cmdb::scheme::Created;
use crate::cmdb::store::Store;
use crate::cmdb::url::{CmdbUrl, Place};
use crate::cmdb::write::Recorded;
use crate::flow::report::Report;
use crate::recall::{Found, HostKey, Records, Run, Selector, Traffic, Window};

/// A CMDB that can be asked and told.
pub struct Cmdb {
    way: Way,
}

/// The two ways to a CMDB.
enum Way {
    Store(Store),
    Remote(Box<Remote>),
}

impl Cmdb {
    /// Connects and checks the scheme. The embedded CMDB makes its directory,
    /// its file and its scheme where they are missing. The error says which
    /// CMDB, why, and what to do; see [`fault::Fault`].
    pub async fn open(url: &CmdbUrl, limits: &Limits) -> Result<Cmdb> {
        let way = match url.place() {
            Place::Remote(site) => Way::Remote(Box::new(Remote::open(url, site, limits).await?)),
            _ => Way::Store(Store::open(url, limits).await?),
        };
        Ok(Cmdb { way })
    }

    /// Creates the scheme, or brings it up to date. May be called by any
    /// number at once, and again.
    pub async fn create_scheme(url: &CmdbUrl, limits: &Limits) -> Result<Created> {
        Store::create_scheme(url, limits).await
    }

    /// Keeps reports, all in one transaction. A row that the CMDB refuses is
    /// left out, logged and counted. After an error nothing or, where the
    /// connection broke at the commit, everything was kept; recording the same
    /// again is right in both cases.
    pub async fn record(&self, reports: &[&Report]) -> Result<Recorded> {
        match &self.way {
            Way::Store(store) => store.record(reports).await,
            Way::Remote(remote) => remote.record(reports).await,
        }
    }

    /// The last report of an epoch that is kept; none if nothing of it is.
    pub async fn last_sequence(&self, host: HostKey, epoch: i64) -> Result<Option<u64>> {
        match &self.way {
            Way::Store(store) => {
                Ok(store.last_sequences(vec![(host, epoch)]).await?.into_values().next())
            }
            Way::Remote(remote) => remote.last_sequence(host, epoch).await,
        }
    }

    /// The last reports that are kept of some epochs; those of which nothing
    /// is are left out.
    pub async fn last_sequences(&self, runs: Vec<Run>) -> Result<HashMap<Run, u64>> {
        match &self.way {
            Way::Store(store) => store.last_sequences(runs).await,
            Way::Remote(remote) => Err(remote.no_such_call()),
        }
    }

    /// The hosts and addresses that a selector means, in a window. With an
    /// open window ([`Window::default`]) it tells whether it is known at all.
    pub async fn find(&self, selector: &Selector, window: &Window) -> Result<Found> {
        match &self.way {
            Way::Store(store) => store.find(selector, window).await,
            Way::Remote(remote) => remote.find(selector, window).await,
        }
    }

    /// What the totals of these hosts' flows rose by, in all hours that the
    /// window touches; flows of which nothing was told in them are left out.
    /// What was counted is as of the last report in each hour.
    pub async fn traffic(&self, hosts: &[HostKey], window: &Window) -> Result<Vec<Traffic>> {
        match &self.way {
            Way::Store(store) => store.traffic(hosts, window).await,
            Way::Remote(remote) => remote.traffic(hosts, window).await,
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
        match &self.way {
            Way::Store(store) => store.around(hosts, addresses, window).await,
            Way::Remote(remote) => remote.around(hosts, addresses, window).await,
        }
    }

    /// Forgets what was over before a moment: spans, hourly totals, flows,
    /// addresses, processes without a flow, silent hosts. In steps of a few
    /// hosts, each a transaction, with a pause as long as the step took, so
    /// that writers hardly wait; may be interrupted, and run again.
    pub async fn prune(&self, before: Timestamp) -> Result<Pruned> {
        match &self.way {
            Way::Store(store) => store.prune(before).await,
            Way::Remote(remote) => Err(remote.no_such_call()),
        }
    }

    /// Closes the connections that are idle, and waits for it.
    pub async fn close(self) {
        if let Way::Store(store) = self.way {
            store.close().await;
        }
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
