//! What travels from a host to the CMDB.
//!
//! Everything in a report is *state*, not a difference: a total since the
//! epoch, the latest moment something was seen, the fact that it ended. So
//! applying one twice, late, or in another order gives the same CMDB, and two
//! reports of one host merge by taking the larger of each. "Only change
//! travels" holds because a flow without change is left out, not because the
//! numbers are relative.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use crate::flow::host::{Coverage, Host, Rung};
use crate::flow::key::HostFlow;

/// One host, one window.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Whose.
    pub host: Host,
    /// Which run of the probe: when it started, in microseconds of UTC.
    pub epoch: i64,
    /// Rises by one with each report of an epoch, beginning at 1.
    pub sequence: u64,
    /// How sockets were read.
    pub rung: Rung,
    /// When the epoch began.
    pub from: Timestamp,
    /// The last moment that was looked at. Every flow of this epoch that was
    /// reported and not said to have ended was alive until then.
    pub until: Timestamp,
    /// What the host's clock said when the report was sent: against the
    /// clock of whoever receives it, it tells a clock that is wrong. The one
    /// thing here that is not the same when the same is told again.
    pub sent: Timestamp,
    /// What was and was not seen, at the last scan of the window.
    pub coverage: Coverage,
    /// Addresses the host has, whole, in every report that has a change of
    /// them; empty where nothing changed.
    pub addresses: Vec<ScopedAddress>,
    /// New, changed and ended flows.
    pub flows: Vec<FlowReport>,
}

/// An address in a network namespace, for a range of time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopedAddress {
    /// [`crate::flow::host::Namespace::scope`].
    pub scope: Arc<str>,
    /// The address.
    pub address: IpAddr,
    /// When this epoch first saw it there.
    pub since: Timestamp,
    /// When it was found gone; absent while it is there.
    pub ended: Option<Timestamp>,
}

/// One span of one flow.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowReport {
    /// The flow, with the numbers as of `seen`.
    pub flow: HostFlow,
    /// When this span began.
    pub since: Timestamp,
    /// When the flow was last seen.
    pub seen: Timestamp,
    /// The span is over; it ended at `seen`.
    pub ended: bool,
}
