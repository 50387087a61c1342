//! Alerts for the tests of this module.

#![cfg(test)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::alert::notification::{Alert, AlertStatus, Notification, SendReason};

/// The start of all alerts: 2026-11-22T20:00:00Z.
pub(super) const START: Duration = Duration::from_secs(1_795_377_600);

/// Returns a time after the start.
pub(super) fn at(seconds: u64) -> Duration {
    START + Duration::from_secs(seconds)
}

/// Returns an alert for a group of the stream `orders` on the target `cache` that fires since the start.
pub(super) fn firing(name: &str, group: &str) -> Alert {
    let labels =
        [("alertname", name), ("db", "db0"), ("group", group), ("stream", "orders"), ("target", "cache")];
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    Alert {
        labels: Arc::new(labels.into_iter().map(owned).collect()),
        annotations: BTreeMap::from([owned(("summary", &format!("{group} is behind")))]),
        value: 12.0,
        starts_at: START,
        ends_at: at(240),
        status: AlertStatus::Firing,
        inhibited_by: None,
        notifiers: Arc::new([]),
    }
}

/// Returns such an alert, resolved `after` seconds.
pub(super) fn resolved(name: &str, group: &str, after: u64) -> Alert {
    Alert { ends_at: at(after), status: AlertStatus::Resolved, ..firing(name, group) }
}

/// Moves an alert to another target.
pub(super) fn on(target: &str, mut alert: Alert) -> Alert {
    Arc::make_mut(&mut alert.labels).insert("target".to_owned(), target.to_owned());
    alert
}

pub(super) fn changed(alert: Alert) -> Notification {
    Notification { alert: Arc::new(alert), reason: SendReason::Changed }
}

pub(super) fn repeated(alert: Alert) -> Notification {
    Notification { alert: Arc::new(alert), reason: SendReason::Repeated }
}

/// Returns the label `group` of each alert, with a `-` before resolved ones.
pub(super) fn names<'a>(alerts: impl IntoIterator<Item = &'a Arc<Alert>>) -> Vec<String> {
    let name = |alert: &Arc<Alert>| match alert.status {
        AlertStatus::Firing => alert.labels["group"].clone(),
        AlertStatus::Resolved => format!("-{}", alert.labels["group"]),
    };
    alerts.into_iter().map(name).collect()
}
