//! What receivers are told: inert values, made by the state machine and sent by others.

use std::collections::BTreeMap;
use std::hash::Hasher as _;
use std::sync::Arc;
use std::time::Duration;

use fnv::FnvHasher;

/// An alert that fires, or that has resolved, as a receiver is told of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// What it is, and all that identifies it: `alertname`, the labels of its subject (`target`, `db`, `stream`,
    /// `group`, `targets[].labels`), of its rule, and `alerts.external_labels`.
    pub labels: BTreeMap<String, String>,
    /// What is said of it; not part of its identity.
    pub annotations: BTreeMap<String, String>,
    /// The value of the fact when it was last known.
    pub value: f64,
    /// When it began to fire, as the time since the Unix epoch.
    pub starts_at: Duration,
    /// When it resolved; while it fires, until when it holds without being sent again. Likewise.
    pub ends_at: Duration,
    /// Whether it fires.
    pub status: Status,
    /// Names of the notifiers that are told; empty for all.
    pub notifiers: Arc<[String]>,
}

/// Whether an alert fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// It does.
    Firing,
    /// It did.
    Resolved,
}

/// One alert to be told of.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// The alert.
    pub alert: Arc<Alert>,
    /// Why now.
    pub reason: SendReason,
}

/// Why a receiver is told of an alert now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendReason {
    /// It began to fire, or it resolved. All receivers are told.
    Changed,
    /// Nothing changed. Alertmanager wants to be told again, lest it takes a firing alert for resolved, and in
    /// case it was not there when an alert resolved; to others it is a sign that a firing alert still does.
    Repeated,
}

impl Alert {
    /// Returns the alert's identity as one number: Prometheus' hash of its labels, which is FNV-1a over names and
    /// values in order, each followed by a byte 255.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = FnvHasher::default();
        for text in self.labels.iter().flat_map(|(name, value)| [name, value]) {
            hasher.write(text.as_bytes());
            hasher.write(&[255]);
        }
        hasher.finish()
    }
}
