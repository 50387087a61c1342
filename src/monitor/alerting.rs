//! Evaluates a target's alerts after each poll, as of the time when the poll was due, so that every report is evaluated
//! and no receiver is waited for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::alert::active::Active;
use crate::alert::evaluator::{Evaluator, PollReading, TargetUp};
use crate::alert::notification::{AlertStatus, Notification, SendReason};
use crate::exposition::alerts::AlertSeries;
use redis_stream_core::clock::{now, unix_time};
use redis_stream_core::name::Name;

/// Sends notifications to the receivers' queues. It must not block: the target's polls wait for it.
pub type AlertSink = Arc<dyn Fn(&[Notification]) + Send + Sync>;

/// A larger difference means that the wall clock was set, not merely corrected.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);

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
    tick_clock: TickClock,
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
        Self { evaluator, sink, tick_clock: TickClock::new(now(), unix_time()) }
    }

    /// Replaces the rules. Alerts of removed rules are resolved at once.
    pub(super) fn copy_state(&mut self, evaluator: Evaluator) -> ShownAlerts {
        let before = std::mem::replace(&mut self.evaluator, evaluator);
        let now = unix_time();
        self.evaluator.copy_state(before, now);
        send(&self.sink, &self.evaluator.notify_removed(now));
        ShownAlerts::of(&self.evaluator)
    }

    /// Resolves all alerts, as the target is no longer polled.
    pub(super) fn stop(self) {
        let Self { evaluator, sink, .. } = self;
        send(&sink, &evaluator.resolve_all(unix_time()));
    }

    /// Takes a changed selection of streams and groups.
    pub(super) fn note_selection(&mut self, is_selected: &dyn Fn(&Name, Option<&Name>) -> bool) {
        self.evaluator.note_selection(is_selected);
    }

    /// Evaluates the result of the poll that was due at `due`, sends notifications, and returns the alerts for readers.
    pub(super) fn step(&mut self, reading: PollReading<'_>, up: TargetUp, due: Instant) -> ShownAlerts {
        let tick = self.tick_clock.at(due, now(), unix_time());
        let notifications = self.evaluator.step(reading, up, tick);
        send(&self.sink, &notifications);
        ShownAlerts::of(&self.evaluator)
    }
}

fn send(sink: &AlertSink, notifications: &[Notification]) {
    log_changes(notifications);
    if !notifications.is_empty() {
        sink(notifications);
    }
}

/// Logs one line for each rule whose alerts changed, as thousands of groups may begin to fire at once.
fn log_changes(notifications: &[Notification]) {
    let mut changes = BTreeMap::<_, (usize, usize)>::new();
    for notification in notifications.iter().filter(|notification| notification.reason == SendReason::Changed)
    {
        let label = |name: &str| notification.alert.labels.get(name).map_or("", String::as_str);
        let (firing, resolved) = changes.entry((label("alertname"), label("target"))).or_default();
        match notification.alert.status {
            AlertStatus::Firing => *firing += 1,
            AlertStatus::Resolved => *resolved += 1,
        }
    }
    for ((alert, target_name), (firing, resolved)) in changes {
        if firing > 0 {
            warn!(target_name, alert, firing, resolved, "alerts began to fire");
        } else {
            info!(target_name, alert, resolved, "alerts resolved");
        }
    }
}

/// Converts scheduled instants to wall-clock times. Two ticks that are an interval apart differ by exactly the interval,
/// however the clock is corrected in between, so that an alert with `for: 6 intervals` fires at the sixth tick.
#[derive(Clone, Copy, Debug)]
struct TickClock {
    instant: Instant,
    unix_time: Duration,
}

impl TickClock {
    fn new(instant: Instant, unix_time: Duration) -> Self {
        Self {
            instant,
            unix_time: Duration::from_millis(u64::try_from(unix_time.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// Returns the time of an instant, since the Unix epoch.
    fn at(&mut self, due: Instant, now: Instant, unix_time: Duration) -> Duration {
        let expected = self.unix_time + (now - self.instant);
        if expected.abs_diff(unix_time) > CLOCK_TOLERANCE {
            *self = Self::new(now, unix_time);
        }
        let before = self.instant.saturating_duration_since(due);
        self.unix_time.saturating_sub(before) + due.saturating_duration_since(self.instant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ticks_are_as_far_apart_as_they_are_due_unless_the_clock_is_set() {
        let (start, s) = (now(), Duration::from_secs);
        let mut tick_clock = TickClock::new(start, s(1_000) + Duration::from_nanos(7));
        let ms = Duration::from_millis;
        // Polls begin a little late, and the clock runs a little fast.
        for poll in 0..50_u32 {
            let due = start + poll * s(10);
            let unix_time = s(1_000) + poll * ms(10_010);
            assert_eq!(tick_clock.at(due, due + ms(3), unix_time + ms(3)), s(1_000) + poll * s(10));
        }
        let due = start + s(500);
        assert_eq!(tick_clock.at(due, due + ms(3), s(90) + ms(3)), s(90));
        assert_eq!(tick_clock.at(due + s(10), due + s(10), s(100)), s(100));
    }
}
