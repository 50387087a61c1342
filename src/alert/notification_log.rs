//! What receivers of messages were told of alerts, as far as they are not done with them: so that after a restart none
//! is told anew of what it knows, and none is left with an alert that is over. Alertmanager needs none of this: to it
//! an alert is over when nobody speaks of it any more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::alert::notification::Alert;

/// An alert that a receiver was told to fire, or may have been, and was not told to be over.
#[derive(Clone, Debug, PartialEq)]
pub struct LogEntry {
    /// The alert: how it was told, or how it is to be told.
    pub alert: Arc<Alert>,
    /// Whether the receiver was told of this state.
    pub send_state: SendState,
    /// When the receiver was last told anything of the alerts of this name and target, as the time since the Unix
    /// epoch; `None` if it was not.
    pub last_sent_at: Option<Duration>,
}

/// Whether a receiver was told of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendState {
    /// It took it.
    Sent,
    /// It is still to be told.
    Unsent,
}

/// What all receivers know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NotificationLog {
    /// As of this time, since the Unix epoch: of what began to fire before, they know nothing else.
    pub until: Duration,
    /// By the name of the notifier.
    pub receivers: BTreeMap<String, Vec<LogEntry>>,
}
