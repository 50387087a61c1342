//! Evaluates a target's alerts after each poll, as of the time when the poll was due, so that every report is evaluated
//! and no receiver is waited for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::alert::active::Active;
use crate::alert::evaluator::{Evaluator, PollReading, TargetUp};
use crate::alert::notification::{Alert, AlertStatus, Notification, SendReason};
use crate::exposition::alerts::AlertSeries;
use crate::format::unicode::shortened;
use redis_stream_core::clock::{now, unix_time};
use redis_stream_core::name::Name;
use redis_stream_core::wall_clock::WallClock;

/// Sends notifications to the receivers' queues. It must not block: the target's polls wait for it.
pub type AlertSink = Arc<dyn Fn(&[Notification]) + Send + Sync>;

/// The alerts of a target, for readers.
#[derive(Clone, Debug, Default)]
pub struct ShownAlerts {
    /// Alerts that are pending or firing.
    pub active: Arc<Active>,
    /// Their series, and those of groups that are gone.
    pub series: Arc<AlertSeries>,
}

/// Evaluates a target's alerts and sends notifications.
pub struct Alerting {
    evaluator: Evaluator,
    sink: AlertSink,
    wall_clock: WallClock,
}

impl ShownAlerts {
    /// Copies the alerts of an evaluator.
    pub fn of(evaluator: &Evaluator) -> Self {
        let active = Arc::new(evaluator.active());
        let series = Arc::new(AlertSeries::new(Arc::clone(&active), evaluator.gone_groups()));
        Self { active, series }
    }
}

impl Alerting {
    /// Continues from the evaluator's state.
    pub fn new(evaluator: Evaluator, sink: AlertSink) -> Self {
        Self { evaluator, sink, wall_clock: WallClock::new(now().into_std(), unix_time()) }
    }

    /// Replaces the rules. Alerts of removed rules are resolved at once.
    pub(super) fn copy_state(&mut self, evaluator: Evaluator) -> ShownAlerts {
        let now = self.synchronize();
        let before = std::mem::replace(&mut self.evaluator, evaluator);
        self.evaluator.copy_state(before, now);
        send(&self.sink, &self.evaluator.notify_removed(now));
        ShownAlerts::of(&self.evaluator)
    }

    /// Resolves all alerts, as the target is no longer polled.
    pub(super) fn stop(mut self) {
        let now = self.synchronize();
        send(&self.sink, &self.evaluator.resolve_all(now));
    }

    /// Takes a changed selection of streams and groups.
    pub(super) fn note_selection(&mut self, is_selected: &dyn Fn(&Name, Option<&Name>) -> bool) {
        self.evaluator.note_selection(is_selected);
    }

    /// Evaluates the result of the poll that was due at `due`, sends notifications, and returns the alerts for readers.
    pub(super) fn step(&mut self, reading: PollReading<'_>, up: TargetUp, due: Instant) -> ShownAlerts {
        self.synchronize();
        let tick = self.wall_clock.at(due.into_std());
        let notifications = self.evaluator.step(reading, up, tick);
        send(&self.sink, &notifications);
        ShownAlerts::of(&self.evaluator)
    }

    /// Returns the time since the Unix epoch, after the alerts were adapted to a wall clock that was set.
    fn synchronize(&mut self) -> Duration {
        let unix_time = unix_time();
        if let Some(shift) = self.wall_clock.synchronize(now().into_std(), unix_time) {
            self.evaluator.shift_times(shift);
        }
        unix_time
    }
}

fn send(sink: &AlertSink, notifications: &[Notification]) {
    log_changes(notifications);
    if !notifications.is_empty() {
        sink(notifications);
    }
}

/// Subjects that one log line names.
const NAMED: usize = 5;
/// Characters of a name in a log line.
const NAME_CHARS: usize = 60;

/// The alerts of a rule that changed.
#[derive(Default)]
struct Changes<'n> {
    firing: Vec<&'n Alert>,
    resolved: Vec<&'n Alert>,
}

/// Logs one line for each rule whose alerts changed, as thousands of groups may begin to fire at once.
fn log_changes(notifications: &[Notification]) {
    let mut changes = BTreeMap::<_, Changes<'_>>::new();
    for notification in notifications.iter().filter(|notification| notification.reason == SendReason::Changed)
    {
        let alert = &*notification.alert;
        let label = |name: &str| alert.labels.get(name).map_or("", String::as_str);
        let changes = changes.entry((label("alertname"), label("target"))).or_default();
        match alert.status {
            AlertStatus::Firing => changes.firing.push(alert),
            AlertStatus::Resolved => changes.resolved.push(alert),
        }
    }
    for ((alert, target_name), Changes { firing, resolved }) in changes {
        let about = subjects(if firing.is_empty() { &resolved } else { &firing });
        let (firing, resolved) = (firing.len(), resolved.len());
        if firing > 0 {
            warn!(target_name, alert, firing, resolved, about, "alerts began to fire");
        } else {
            info!(target_name, alert, resolved, about, "alerts resolved");
        }
    }
}

/// Names the groups or streams of alerts, those with the largest values first: `orders/mail, orders/audit and 3 more`.
fn subjects(alerts: &[&Alert]) -> String {
    let mut sorted = alerts.to_vec();
    sorted
        .sort_by(|one, other| other.value.total_cmp(&one.value).then_with(|| one.labels.cmp(&other.labels)));
    let names = sorted.iter().take(NAMED).map(|alert| {
        let labels = ["stream", "group"].into_iter().filter_map(|name| alert.labels.get(name));
        let labels: Vec<_> = labels.map(|name| shortened(name, NAME_CHARS)).collect();
        if labels.is_empty() { "the target".to_owned() } else { labels.join("/") }
    });
    let names = names.collect::<Vec<_>>().join(", ");
    match sorted.len().saturating_sub(NAMED) {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn alert(stream: &str, group: &str, value: f64) -> Alert {
        let labels =
            [("stream", stream), ("group", group)].into_iter().filter(|(_, value)| !value.is_empty());
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Alert {
            labels: Arc::new(labels.collect()),
            annotations: BTreeMap::new(),
            value,
            starts_at: Duration::ZERO,
            ends_at: Duration::ZERO,
            status: AlertStatus::Firing,
            inhibited_by: None,
            notifiers: Arc::new([]),
        }
    }

    #[test]
    fn a_log_line_names_the_worst_groups_and_counts_the_others() {
        let shown = |alerts: &[Alert]| subjects(&alerts.iter().collect::<Vec<_>>());
        let some = [alert("orders", "mail", 3.0), alert("orders", "search", 6_142.0), alert("", "", 1.0)];
        assert_eq!(shown(&some), "orders/search, orders/mail, the target");
        let many: Vec<_> = (0..4_000).map(|n| alert("cache", &format!("pod-{n:04}"), 1.0)).collect();
        let expected =
            "cache/pod-0000, cache/pod-0001, cache/pod-0002, cache/pod-0003, cache/pod-0004 and 3995 more";
        assert_eq!(shown(&many), expected);
        let long = shown(&[alert(&"ä".repeat(10_000), "g", 1.0)]);
        assert_eq!(long, format!("{}…/g", "ä".repeat(NAME_CHARS)));
    }
}
