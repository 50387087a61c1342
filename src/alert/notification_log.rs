//! The alerts that webhooks and Slack received and that are not resolved for them yet. It is kept over a restart, so
//! that no alert is sent twice and none is left unresolved. Alertmanager does not need it: there an alert resolves when
//! it is no longer sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::alert::notification::Alert;

/// An alert that a receiver knows, or may know, as firing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogEntry {
    /// The alert as it was sent, or as it is to be sent.
    pub alert: Arc<Alert>,
    pub send_state: SendState,
    /// Time at which the receiver was last sent a notification for this alert name and target, since the Unix epoch;
    /// `None` if it was not.
    pub last_sent_at: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SendState {
    /// The receiver accepted this state of the alert.
    Sent,
    /// This state is still to be sent.
    Unsent,
}

/// The alerts known to all receivers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NotificationLog {
    /// Time at which the log was taken, since the Unix epoch. Of the alerts that began to fire before, receivers know
    /// only those listed.
    pub until: Duration,
    /// By name of the notifier.
    pub receivers: BTreeMap<String, Vec<LogEntry>>,
}
