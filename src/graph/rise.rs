//! What the numbers of edges rose by in the window asked about.
//!
//! It knows no hour: the CMDB has summed up, flow by flow.

use std::sync::Arc;

use crate::flow::process::Process;
use crate::graph::index::Map;
use crate::graph::walk::Walk;
use crate::graph::{Graph, Rise, Teller};
use crate::recall::{FlowRecord, HostKey, Sums, Traffic};

/// Tells the edges of a walk what they rose by: in the words of their active
/// end if it counted, else of the passive one, as their totals are.
pub(crate) fn tell(graph: &mut Graph, walk: &Walk, flows: &[FlowRecord], traffic: &[Traffic]) {
    let sums: Map<(HostKey, i64), Sums> =
        traffic.iter().map(|told| ((told.host, told.flow), told.sums)).collect();
    // A process owns many flows, and a hash is dear.
    let mut processes: Map<*const Process, i64> = Map::default();
    let mut sums_of = |teller: &Teller| {
        let record = flows.get(teller.record as usize)?;
        let process = record.flow.key.process.as_ref();
        let process = process.map(|process| {
            *processes.entry(Arc::as_ptr(process)).or_insert_with(|| process.hash())
        });
        sums.get(&(record.host, record.flow.key.hash_with(process))).copied()
    };
    for step in &walk.steps {
        let (edge, tellers) = (&mut graph.edges[step.edge], &graph.tellers[step.edge]);
        edge.rise = [true, false].into_iter().find_map(|by_active| {
            let told = tellers.iter().filter(|teller| teller.by_active == by_active);
            told.filter_map(&mut sums_of).map(|sums| Rise::of(&sums, by_active)).reduce(Rise::plus)
        });
    }
}

impl Rise {
    fn of(sums: &Sums, by_active: bool) -> Rise {
        let (bytes_to_passive, bytes_to_active) = if by_active {
            (sums.bytes_sent, sums.bytes_received)
        } else {
            (sums.bytes_received, sums.bytes_sent)
        };
        Rise {
            by_active,
            opened: sums.opened,
            failed: sums.failed,
            bytes_to_passive,
            bytes_to_active,
            retransmits: sums.retransmits,
        }
    }

    /// Both, of two flows of one edge. Where one of them could not count, the
    /// sum is not known.
    fn plus(self, other: Rise) -> Rise {
        let both = |a: Option<u64>, b: Option<u64>| Some(a?.saturating_add(b?));
        Rise {
            by_active: self.by_active,
            opened: both(self.opened, other.opened),
            failed: both(self.failed, other.failed),
            bytes_to_passive: both(self.bytes_to_passive, other.bytes_to_passive),
            bytes_to_active: both(self.bytes_to_active, other.bytes_to_active),
            retransmits: both(self.retransmits, other.retransmits),
        }
    }
}
