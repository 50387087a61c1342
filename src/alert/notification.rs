//! Alerts as they are sent to receivers. The evaluator creates these values, `notify` sends them.

use std::collections::BTreeMap;
use std::hash::Hasher as _;
use std::sync::Arc;
use std::time::Duration;

use fnv::FnvHasher;
use serde::{Deserialize, Serialize};

/// The annotation of a firing alert about a group that has its [diagnosis](crate::diagnosis).
pub const DIAGNOSIS_ANNOTATION: &str = "diagnosis";

/// Annotation with the key of the worst stream, if the alert is about a family; the diagnosis is about it.
pub const WORST_STREAM_ANNOTATION: &str = "worst_stream";

/// A firing or resolved alert, as it is sent to receivers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The labels, which identify the alert: `alertname`, the labels of its subject (`target`, `db`, `stream`, `group`,
    /// `targets[].labels`), of its rule, and `alerts.external_labels`.
    pub labels: Arc<BTreeMap<String, String>>,
    /// The annotations, which are not part of its identity.
    pub annotations: BTreeMap<String, String>,
    /// The value of the fact when the condition was last known to hold.
    pub value: f64,
    /// Time at which it began to fire, since the Unix epoch.
    pub starts_at: Duration,
    /// Time at which it resolved, since the Unix epoch; while it fires, the time at which a receiver may take it for
    /// resolved unless it is sent again.
    pub ends_at: Duration,
    pub status: AlertStatus,
    /// Name of the firing alert that inhibits it, or did so until it resolved. Alertmanager decides by its own rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inhibited_by: Option<String>,
    /// Names of the notifiers to send it to; empty for all.
    #[serde(skip)]
    pub notifiers: Arc<[String]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertStatus {
    Firing,
    Resolved,
}

/// An alert to send now.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    pub alert: Arc<Alert>,
    pub reason: SendReason,
}

/// The reason for which an alert is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendReason {
    /// It began to fire or resolved.
    Changed,
    /// Nothing changed. Alertmanager takes a firing alert for resolved if it is not sent again, and may have been down
    /// when an alert resolved. Other receivers use it as a sign that a firing alert still holds.
    Repeated,
}

impl Alert {
    /// Returns the alert's identity as one number: Prometheus' hash of its labels, which is FNV-1a over names and
    /// values in order, each followed by a byte 255.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = FnvHasher::default();
        for text in self.labels.iter().flat_map(|(name, value)| [name, value]) {
            hasher.write(text.as_bytes());
            hasher.write(&[255]);
        }
        hasher.finish()
    }
}
