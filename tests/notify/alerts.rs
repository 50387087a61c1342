//! Alerts as the state machine makes them, of this moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redis_stream_core::clock::unix_time;
use streamgauge::alert::notification::{Alert, AlertStatus, Notification, SendReason};

/// An alert about a group of the stream `orders` on the target `cache`, which begins to fire now, to the second.
pub(crate) fn firing(group: &str) -> Alert {
    let now = Duration::from_secs(unix_time().as_secs());
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let labels = [
        ("alertname", "LagHigh"),
        ("db", "db0"),
        ("group", group),
        ("stream", "orders"),
        ("target", "cache"),
    ];
    Alert {
        labels: Arc::new(labels.into_iter().map(owned).collect()),
        annotations: BTreeMap::from([owned(("summary", "a group is \"behind\" <&>"))]),
        value: 12.0,
        starts_at: now,
        ends_at: now + Duration::from_secs(240),
        status: AlertStatus::Firing,
        inhibited_by: None,
        notifiers: Arc::new([]),
    }
}

/// Resolves an alert a moment ago.
pub(crate) fn resolved(alert: &Alert) -> Alert {
    let now = unix_time();
    let starts_at = alert.starts_at.min(now - Duration::from_secs(10));
    Alert { status: AlertStatus::Resolved, starts_at, ends_at: now - Duration::from_secs(1), ..alert.clone() }
}

/// Repeats an alert: it holds longer.
pub(crate) fn again(alert: &Alert) -> Notification {
    let ends_at = unix_time() + Duration::from_secs(240);
    Notification { alert: Arc::new(Alert { ends_at, ..alert.clone() }), reason: SendReason::Repeated }
}

pub(crate) fn changed(alert: &Alert) -> Notification {
    Notification { alert: Arc::new(alert.clone()), reason: SendReason::Changed }
}
