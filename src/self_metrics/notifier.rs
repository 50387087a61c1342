//! The metrics of one notifier.

use std::sync::Arc;

use crate::self_metrics::SelfMetrics;
use crate::self_metrics::labels::NotificationResult;

/// The metrics of one notifier. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NotifierMetrics {
    pub(super) all: SelfMetrics,
    pub(super) notifier: Arc<str>,
}

impl NotifierMetrics {
    /// Counts alerts by the result of sending them.
    pub fn count(&self, result: NotificationResult, alerts: usize) {
        let counter = self.all.notifications.with_label_values(&[&*self.notifier, result.as_str()]);
        counter.inc_by(u64::try_from(alerts).unwrap_or(u64::MAX));
    }

    /// Adds to the queue length; negative if the queue became shorter.
    pub fn add_to_queue_length(&self, alerts: i64) {
        self.all.notification_queue_length.with_label_values(&[&*self.notifier]).add(alerts);
    }
}
