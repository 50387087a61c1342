//! The alerts of a target: evaluated after each poll, as of when it was due, so that no report is missed and nothing
//! waits for a reader or a receiver.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::alert::active::Active;
use crate::alert::evaluator::{Evaluator, Reading, TargetUp};
use crate::alert::notification::{Notification, SendReason, Status};
use crate::exposition::alerts::RenderedAlerts;
use redis_stream_core::clock::{now, unix_time};

/// Takes what receivers are to be told. It must not wait: the target's polls wait for it.
pub type Outlet = Arc<dyn Fn(&[Notification]) + Send + Sync>;

/// Beyond this the wall clock was set, and not merely corrected.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);

/// What readers see of the alerts of a target.
#[derive(Clone, Debug, Default)]
pub struct Alerts {
    /// What is pending or firing.
    pub active: Arc<Active>,
    /// Its series, written and compressed.
    pub rendered: Arc<RenderedAlerts>,
}

/// The alerts of a target, and whom to tell.
pub struct Alerting {
    evaluator: Evaluator,
    outlet: Outlet,
    timeline: Timeline,
}

impl fmt::Debug for Alerting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alerting").field("evaluator", &self.evaluator).finish_non_exhaustive()
    }
}

impl Alerts {
    /// Writes what an evaluator found.
    pub async fn of(evaluator: &Evaluator) -> Self {
        let active = Arc::new(evaluator.active());
        if active.is_empty() {
            return Self { active, rendered: Arc::default() };
        }
        let written = Arc::clone(&active);
        let rendered = tokio::task::spawn_blocking(move || RenderedAlerts::new(&written)).await;
        // It fails only while the runtime shuts down.
        Self { active, rendered: Arc::new(rendered.unwrap_or_default()) }
    }
}

impl Alerting {
    /// Evaluates from where the evaluator stands.
    #[must_use]
    pub fn new(evaluator: Evaluator, outlet: Outlet) -> Self {
        Self { evaluator, outlet, timeline: Timeline::new(now(), unix_time()) }
    }

    /// Goes on with other rules: tells receivers at once of alerts that have none any more.
    pub(super) async fn copy_state(&mut self, evaluator: Evaluator) -> Alerts {
        let before = std::mem::replace(&mut self.evaluator, evaluator);
        let now = unix_time();
        self.evaluator.copy_state(before, now);
        tell(&self.outlet, &self.evaluator.notify_removed(now));
        Alerts::of(&self.evaluator).await
    }

    /// Tells receivers that all alerts are over, as the target is not watched any more.
    pub(super) fn retire(self) {
        let Self { evaluator, outlet, .. } = self;
        tell(&outlet, &evaluator.resolve_all(unix_time()));
    }

    /// Evaluates what the poll that was due at this time found, tells receivers, and shows readers.
    pub(super) async fn step(&mut self, reading: Reading<'_>, up: TargetUp, due: Instant) -> Alerts {
        let tick = self.timeline.at(due, now(), unix_time());
        let notifications = self.evaluator.step(reading, up, tick);
        tell(&self.outlet, &notifications);
        Alerts::of(&self.evaluator).await
    }
}

fn tell(outlet: &Outlet, notifications: &[Notification]) {
    note_changes(notifications);
    if !notifications.is_empty() {
        outlet(notifications);
    }
}

/// Logs what changed: one line for each rule, as thousands of groups may begin to fire at once.
fn note_changes(notifications: &[Notification]) {
    let mut changes = BTreeMap::<_, (usize, usize)>::new();
    for told in notifications.iter().filter(|told| told.reason == SendReason::Changed) {
        let label = |name: &str| told.alert.labels.get(name).map_or("", String::as_str);
        let (firing, resolved) = changes.entry((label("alertname"), label("target"))).or_default();
        match told.alert.status {
            Status::Firing => *firing += 1,
            Status::Resolved => *resolved += 1,
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

/// The wall clock as the schedule sees it: two ticks that are an interval apart differ by exactly that, however the
/// clock is corrected meanwhile, so that what must hold for six intervals fires at the sixth tick and not the seventh.
#[derive(Clone, Copy, Debug)]
struct Timeline {
    instant: Instant,
    unix_time: Duration,
}

impl Timeline {
    fn new(instant: Instant, unix_time: Duration) -> Self {
        Self {
            instant,
            unix_time: Duration::from_millis(u64::try_from(unix_time.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// The time of an instant, since the Unix epoch.
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
        let mut timeline = Timeline::new(start, s(1_000) + Duration::from_nanos(7));
        let ms = Duration::from_millis;
        // Polls begin a little late, and the clock runs a little fast.
        for poll in 0..50_u32 {
            let due = start + poll * s(10);
            let unix_time = s(1_000) + poll * ms(10_010);
            assert_eq!(timeline.at(due, due + ms(3), unix_time + ms(3)), s(1_000) + poll * s(10));
        }
        let due = start + s(500);
        assert_eq!(timeline.at(due, due + ms(3), s(90) + ms(3)), s(90));
        assert_eq!(timeline.at(due + s(10), due + s(10), s(100)), s(100));
    }
}
