//! Whose an address is while nobody says so.
//!
//! A host whose probe is silent, or not there yet, keeps its addresses. Else
//! all that others tell of it would lead to a stranger when its probe dies, and
//! be gone and new.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

use crate::graph::search::Answer;
use crate::graph::{Place, link_local, only_inside};
use crate::recall::{AddressRecord, HostKey, HostRecord};

/// Who is known to have had which address around either moment.
pub(crate) struct Kept<'a> {
    by_address: HashMap<IpAddr, Vec<&'a AddressRecord>>,
    hosts: BTreeMap<HostKey, &'a HostRecord>,
    tolerance: SignedDuration,
}

impl<'a> Kept<'a> {
    pub(crate) fn of(answers: [&'a Answer; 2]) -> Kept<'a> {
        let mut by_address: HashMap<IpAddr, Vec<&AddressRecord>> = HashMap::new();
        let records = answers.into_iter().flat_map(|answer| &answer.graph.addresses);
        let leads = |address| !only_inside(address) && !link_local(address);
        for record in records.filter(|record| leads(record.address)) {
            by_address.entry(record.address).or_default().push(record);
        }
        let hosts = answers.into_iter().flat_map(|answer| answer.graph.hosts.values());
        let hosts = hosts.map(|host| (host.key, host)).collect();
        Kept { by_address, hosts, tolerance: answers[0].question.tolerance }
    }

    /// Where an address leads at a time at which nobody says that it has it: to
    /// who had it next to that time, of those that are silent then. A host that
    /// speaks does not have it.
    pub(crate) fn place(&self, address: IpAddr, at: Timestamp) -> Option<Place> {
        let records = self.by_address.get(&address)?.iter();
        let apart = |record: &AddressRecord| {
            record.since.duration_since(at).max(at.duration_since(record.until))
        };
        let had = records.filter(|record| self.is_silent(record.host, at));
        let mut had: Vec<_> = had.map(|record| (apart(record), record)).collect();
        had.sort_by_key(|(apart, record)| (*apart, !record.scope.is_empty()));
        let (nearest, first) = had.first()?;
        let place = |record: &AddressRecord| (record.host, record.scope.clone());
        // One of a host's own is meant before those of namespaces, as where
        // they speak.
        let mut others = had.iter().skip(1).filter(|(apart, record)| {
            apart == nearest && record.scope.is_empty() == first.scope.is_empty()
        });
        let only = others.all(|(_, record)| place(record) == place(first));
        only.then(|| Place { host: first.host, scope: first.scope.clone() })
    }

    /// Whether no probe of a host looked at a time, nor so shortly before that
    /// its next word may not have come yet.
    fn is_silent(&self, host: HostKey, at: Timestamp) -> bool {
        let watched = self.hosts.get(&host).map_or(&[][..], |host| &host.watched);
        watched
            .iter()
            .all(|(since, until)| *since > at || at.duration_since(*until) > self.tolerance)
    }
}
