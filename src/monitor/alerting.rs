//! Evaluates a target's alerts after each poll, as of the time when the poll was due, so that every report is evaluated
//! and no receiver is waited for.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::alert::active::Active;
use crate::alert::changes::{AlertChanges, RuleChanges};
use crate::alert::evaluator::{Evaluated, Evaluator, PollReading, TargetUp};
use crate::alert::notification::Notification;
use crate::exposition::alerts::AlertSeries;
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
        send(&self.sink, &self.evaluator.step(reading, up, tick));
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

fn send(sink: &AlertSink, Evaluated { notifications, changes }: &Evaluated) {
    log_changes(changes);
    if !notifications.is_empty() {
        sink(notifications);
    }
}

/// Logs one line for each rule whose alerts changed.
fn log_changes(changes: &AlertChanges) {
    for ((alert, target_name), RuleChanges { firing, resolved }) in changes {
        let about = if firing.count() == 0 { resolved.subjects() } else { firing.subjects() };
        let (firing, resolved) = (firing.count(), resolved.count());
        if firing > 0 {
            warn!(target_name, alert, firing, resolved, about, "alerts began to fire");
        } else {
            info!(target_name, alert, resolved, about, "alerts resolved");
        }
    }
}
