//! Types that the queues, the send loop and the notifiers pass to each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::alert::notification::{Alert, AlertStatus};
use crate::notify::severity::worst_first;

/// The labels that the alerts of an aggregation group have in common.
pub(super) type GroupLabels = BTreeMap<String, String>;

/// The likely cause of a failed attempt. Of several the first counts: a rejection is final, and the payload a likelier
/// cause than the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FailureCause {
    /// The payload was rejected: the same batch would be rejected again.
    Rejected,
    /// The payload or the receiver is faulty.
    Payload,
    /// The payload or the receiver is faulty, and the receiver may still process the request.
    Ambiguous,
    /// The receiver could not be reached or accepts nothing at present: another batch would have failed too.
    Unreachable,
}

/// The alerts of one attempt.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Batch {
    /// The labels of the aggregation group; empty for a receiver that groups alerts itself.
    pub(super) group: GroupLabels,
    /// Alerts in states that the receiver has not acknowledged, in the order in which they came.
    pub(super) changed: Vec<Arc<Alert>>,
    /// Alerts of the group that the receiver knows to fire.
    pub(super) still_firing: Vec<Arc<Alert>>,
}

/// The outcome of an attempt of which at least one endpoint accepted the batch, in alerts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// Accepted, counted for each endpoint.
    pub(super) delivered: usize,
    /// Rejected for their payload by some endpoints.
    pub(super) rejected: usize,
    /// Not taken by endpoints that could not be reached.
    pub(super) failed: usize,
}

impl Batch {
    /// Sorts the alerts for people: those that changed first, the worst first. Not done by the queue, which is locked while
    /// it makes a batch.
    pub(super) fn sorted(&self) -> Self {
        let mut batch = self.clone();
        batch.changed.sort_by(|one, other| worst_first(one, other));
        batch.still_firing.sort_by(|one, other| worst_first(one, other));
        batch
    }

    pub(super) fn alerts(&self) -> impl Iterator<Item = &Arc<Alert>> {
        self.changed.iter().chain(&self.still_firing)
    }

    pub(super) fn firing(&self) -> usize {
        self.alerts().filter(|alert| alert.status == AlertStatus::Firing).count()
    }

    /// Returns the number of alerts that metrics count for this batch: a reminder counts what still fires.
    pub(super) fn counted(&self) -> usize {
        if self.changed.is_empty() { self.still_firing.len() } else { self.changed.len() }
    }
}

/// The outcome of a probe of one address: scheme, host and port, and the address if the host may have several; or the
/// address and the cause for which it cannot be reached with this configuration.
pub type ProbeResult = Result<String, String>;
