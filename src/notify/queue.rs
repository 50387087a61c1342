//! Bounded queues between the evaluator and the send loops. Each keeps only the newest state of each alert, and drops
//! the oldest alert when it is full. Pure: times are parameters.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::alert::notification::{Alert, AlertStatus, Notification};
use crate::alert::notification_log::LogEntry;
use crate::notify::model::{Batch, FailureCause};
use redis_stream_core::wall_clock::ClockShift;

/// Capacity of one receiver's queue. Only thousands of groups in trouble at once reach it; each alert takes a pointer,
/// as its text is shared by all queues.
pub(super) const CAPACITY_ALERTS: usize = 50_000;

/// Alerts in one request: with long annotations still below 1 MB, which proxies commonly accept.
const BATCH_ALERTS: usize = 500;

/// Failed attempts after which an alert is dropped, if the last one was for it alone. With the waits in between that
/// is about a minute; the evaluator repeats the alert by then.
const MAX_FAILURES: u32 = 10;

/// A queue of one receiver.
pub(super) trait NotificationQueue: Send {
    /// Adds a notification and returns the number of alerts that were dropped to make space.
    fn push(&mut self, notification: &Notification) -> usize;

    /// Returns what is to be sent at `now`, the time since the Unix epoch. It stays queued until it is acknowledged.
    fn next(&mut self, now: Duration, mode: SendMode) -> NextBatch;

    /// Removes what was sent, except for states that changed in the meantime.
    fn acknowledge(&mut self, batch: &Batch, now: Duration);

    /// Keeps a batch that could not be sent for another attempt, behind the others, and returns what was given up.
    fn requeue(&mut self, batch: &Batch, failure: Failure) -> Option<GivenUp>;

    /// Returns the number of alerts to be sent.
    fn len(&self) -> usize;

    /// Returns the notification log: what the receiver was sent and has not been sent the end of.
    fn log(&self) -> Vec<LogEntry> {
        Vec::new()
    }

    /// Returns a number that changes with the log, except when an alert is merely repeated.
    fn revision(&self) -> u64 {
        0
    }

    /// Changes the time after which alerts that still fire are sent again.
    fn set_repeat_interval(&mut self, _: Duration) {}

    /// Adapts all times to a wall clock that was set.
    fn shift_times(&mut self, _: ClockShift) {}

    /// Handles an attempt that was cut off at `now`, if there was one: the batch may have arrived.
    fn interrupt(&mut self, _now: Duration) {}
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendMode {
    /// Changes of a group are gathered until its next interval, and reminders are sent.
    Normal,
    /// The program ends: unsent alerts are sent at once, and no reminders.
    Draining,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// The time since the Unix epoch.
    pub(super) at: Duration,
    pub(super) cause: FailureCause,
}

/// Alerts that are not sent again in their present state.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum GivenUp {
    /// The receiver rejected the only alert of a batch, or an aggregation group.
    Rejected(Batch),
    /// The receiver failed on this alert again and again.
    Dropped(Arc<Alert>),
}

#[derive(Debug, PartialEq)]
pub(super) enum NextBatch {
    Batch(Batch),
    /// Nothing until this time has passed, unless something is added.
    In(Duration),
    /// Nothing until something is added.
    Nothing,
}

/// Single alerts, for a receiver that groups them itself: Alertmanager.
///
/// An alert that the receiver rejects or fails on must not hold up the others: what could not be sent goes behind the
/// rest, in smaller and smaller batches, until that alert is alone. Then it is rejected at once, or dropped after
/// [`MAX_FAILURES`] attempts.
#[derive(Debug)]
pub(super) struct AlertQueue {
    capacity: usize,
    unsent: DedupQueue,
    next_position: u64,
    batch_size: usize,
}

impl AlertQueue {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, unsent: DedupQueue::default(), next_position: 0, batch_size: BATCH_ALERTS }
    }
}

impl NotificationQueue for AlertQueue {
    fn push(&mut self, notification: &Notification) -> usize {
        self.unsent.put(self.next_position, &notification.alert);
        self.next_position += 1;
        let dropped = self.unsent.len().saturating_sub(self.capacity);
        (0..dropped).for_each(|_| self.unsent.drop_oldest());
        dropped
    }

    fn next(&mut self, _: Duration, _: SendMode) -> NextBatch {
        match self.unsent.oldest(self.batch_size) {
            changed if changed.is_empty() => NextBatch::Nothing,
            changed => NextBatch::Batch(Batch { changed, ..Batch::default() }),
        }
    }

    fn acknowledge(&mut self, batch: &Batch, _: Duration) {
        batch.changed.iter().for_each(|alert| self.unsent.acknowledge(alert));
        self.batch_size = (2 * self.batch_size).min(BATCH_ALERTS);
    }

    fn requeue(&mut self, batch: &Batch, failure: Failure) -> Option<GivenUp> {
        if failure.cause == FailureCause::Unreachable {
            return None;
        }
        self.batch_size = (batch.changed.len() / 2).max(1);
        let mut failures = 0;
        for alert in &batch.changed {
            failures = self.unsent.requeue(self.next_position, alert);
            self.next_position += 1;
        }
        let [alone] = &batch.changed[..] else { return None };
        let given_up = match failure.cause {
            FailureCause::Rejected => GivenUp::Rejected(batch.clone()),
            _ if failures >= MAX_FAILURES => GivenUp::Dropped(Arc::clone(alone)),
            _ => return None,
        };
        self.unsent.acknowledge(alone);
        Some(given_up)
    }

    fn len(&self) -> usize {
        self.unsent.len()
    }
}

/// An alert's labels, which identify it.
pub(super) type AlertKey = Arc<BTreeMap<String, String>>;

/// Returns true if a receiver that knows one of these states of an alert need not be sent the other. A later end or
/// another value of a firing alert is sent with the next reminder.
pub(super) fn is_same_state(one: &Alert, other: &Alert) -> bool {
    (one.status, one.starts_at) == (other.status, other.starts_at)
}

/// Unsent alerts in the order in which they came, each in its newest state. A receiver keeps one state of an alert, so
/// that replacing an older one loses nothing, and the length is bounded by the number of alerts.
#[derive(Debug, Default)]
pub(super) struct DedupQueue {
    entries: BTreeMap<u64, QueuedAlert>,
    positions: HashMap<AlertKey, u64>,
}

#[derive(Debug)]
struct QueuedAlert {
    alert: Arc<Alert>,
    failures: u32,
    /// True if the receiver may know a state of it, although no attempt has succeeded.
    may_be_known: bool,
}

impl DedupQueue {
    /// Adds an alert at `position`, which must be above all others, or repositions its older state.
    pub(super) fn put(&mut self, position: u64, alert: &Arc<Alert>) {
        let position = *self.positions.entry(Arc::clone(&alert.labels)).or_insert(position);
        let before = self.entries.get(&position);
        let may_be_known = before.is_some_and(|waiting| waiting.may_be_known);
        let same = before.filter(|waiting| is_same_state(&waiting.alert, alert));
        let failures = same.map_or(0, |waiting| waiting.failures);
        self.entries.insert(position, QueuedAlert { alert: Arc::clone(alert), failures, may_be_known });
    }

    /// Marks an alert as one that the receiver may know.
    pub(super) fn note_may_be_known(&mut self, key: &AlertKey) {
        if let Some(waiting) = self.positions.get(key).and_then(|position| self.entries.get_mut(position)) {
            waiting.may_be_known = true;
        }
    }

    /// Returns all alerts, the oldest first, each with true if the receiver may know it.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Arc<Alert>, bool)> {
        self.entries.values().map(|waiting| (&waiting.alert, waiting.may_be_known))
    }

    /// Moves an alert that could not be sent to `position`, which must be above all others, and returns its number of
    /// failures.
    pub(super) fn requeue(&mut self, position: u64, sent: &Arc<Alert>) -> u32 {
        let Some(current) = self.positions.get_mut(&sent.labels) else { return 0 };
        let Some(mut waiting) = self.entries.remove(current) else { return 0 };
        *current = position;
        // A state that came in the meantime has not been sent yet.
        if is_same_state(&waiting.alert, sent) {
            waiting.failures += 1;
        }
        let failures = waiting.failures;
        self.entries.insert(position, waiting);
        failures
    }

    pub(super) fn holds(&self, key: &AlertKey) -> bool {
        self.positions.contains_key(key)
    }

    /// Removes a firing alert that the receiver cannot know; returns false if there is none.
    pub(super) fn withdraw(&mut self, key: &AlertKey) -> bool {
        let Some(position) = self.positions.get(key) else { return false };
        let is_unknown = |waiting: &QueuedAlert| {
            waiting.alert.status == AlertStatus::Firing && !waiting.may_be_known && waiting.failures == 0
        };
        if !self.entries.get(position).is_some_and(is_unknown) {
            return false;
        }
        self.entries.remove(position);
        self.positions.remove(key);
        true
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the positions of at most `most` alerts, the oldest first.
    pub(super) fn oldest_positions(&self, most: usize) -> impl Iterator<Item = u64> {
        self.entries.keys().take(most).copied()
    }

    fn drop_oldest(&mut self) {
        if let Some((_, waiting)) = self.entries.pop_first() {
            self.positions.remove(&waiting.alert.labels);
        }
    }

    /// Removes the alert at a position, if there is one, and returns its labels.
    pub(super) fn drop_at(&mut self, position: u64) -> Option<AlertKey> {
        let waiting = self.entries.remove(&position)?;
        self.positions.remove(&waiting.alert.labels);
        Some(Arc::clone(&waiting.alert.labels))
    }

    /// Returns at most `most` alerts, the oldest first, and keeps them.
    pub(super) fn oldest(&self, most: usize) -> Vec<Arc<Alert>> {
        self.entries.values().take(most).map(|waiting| Arc::clone(&waiting.alert)).collect()
    }

    /// Removes an alert, unless another state of it came since it was sent.
    pub(super) fn acknowledge(&mut self, sent: &Arc<Alert>) {
        let Some(position) = self.positions.get(&sent.labels) else { return };
        if self.entries.get(position).is_some_and(|waiting| is_same_state(&waiting.alert, sent)) {
            self.entries.remove(position);
            self.positions.remove(&sent.labels);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::test_support::{START, changed, firing, names, repeated, resolved};

    fn queue(capacity: usize, alerts: &[Notification]) -> AlertQueue {
        let mut queue = AlertQueue::new(capacity);
        alerts.iter().for_each(|alert| assert_eq!(queue.push(alert), 0));
        queue
    }

    fn batch(queue: &mut AlertQueue) -> Batch {
        match queue.next(START, SendMode::Normal) {
            NextBatch::Batch(batch) => batch,
            NextBatch::In(_) | NextBatch::Nothing => Batch::default(),
        }
    }

    fn queued(queue: &mut AlertQueue) -> Vec<String> {
        names(&batch(queue).changed)
    }

    fn failure(cause: FailureCause) -> Failure {
        Failure { at: START, cause }
    }

    #[test]
    fn a_newer_state_replaces_an_older_one() {
        let alerts = [changed(firing("A", "x")), changed(firing("A", "y")), changed(resolved("A", "x", 60))];
        assert_eq!(queued(&mut queue(10, &alerts)), ["-x", "y"]);
    }

    #[test]
    fn a_state_that_changed_in_flight_is_sent_again_and_a_reminder_is_not() {
        let mut queue = queue(10, &[changed(firing("A", "x")), changed(firing("A", "y"))]);
        let sent = batch(&mut queue);
        queue.push(&changed(resolved("A", "x", 60)));
        queue.push(&repeated(firing("A", "y")));
        queue.acknowledge(&sent, START);
        assert_eq!(queued(&mut queue), ["-x"]);
    }

    #[test]
    fn a_full_queue_drops_the_oldest_alerts() {
        let mut queue = queue(2, &["a", "b"].map(|group| changed(firing("A", group))));
        assert_eq!(queue.push(&changed(firing("A", "c"))), 1);
        assert_eq!(queue.push(&changed(resolved("A", "b", 60))), 0, "it is queued already");
        assert_eq!(queued(&mut queue), ["-b", "c"]);
    }

    #[test]
    fn batches_are_bounded() {
        let alerts: Vec<_> = (0..1_200).map(|n| changed(firing("A", &n.to_string()))).collect();
        let mut queue = queue(CAPACITY_ALERTS, &alerts);
        let mut sizes = Vec::new();
        while queue.len() > 0 {
            let sent = batch(&mut queue);
            sizes.push(sent.changed.len());
            queue.acknowledge(&sent, START);
        }
        assert_eq!(sizes, [500, 500, 200]);
    }

    #[test]
    fn an_unreachable_receiver_changes_neither_the_order_nor_the_batches() {
        let mut queue = queue(10, &["a", "b"].map(|group| changed(firing("A", group))));
        for _ in 0..100 {
            let sent = batch(&mut queue);
            assert_eq!(queue.requeue(&sent, failure(FailureCause::Unreachable)), None);
        }
        assert_eq!(queued(&mut queue), ["a", "b"]);
    }

    /// Returns the alerts that get through a receiver that fails on `bad`, what was given up, and the attempts.
    fn outcome(cause: FailureCause) -> (usize, Option<GivenUp>, usize) {
        let alerts: Vec<_> = (0..300).map(|n| changed(firing("A", &n.to_string()))).collect();
        let mut queue = queue(1_000, &alerts);
        let (mut delivered, mut given_up, mut attempts) = (0, None, 0);
        while queue.len() > 0 {
            attempts += 1;
            assert!(attempts < 1_000, "it ends");
            let sent = batch(&mut queue);
            if names(&sent.changed).contains(&"123".to_owned()) {
                given_up = queue.requeue(&sent, failure(cause)).or(given_up);
            } else {
                delivered += sent.changed.len();
                queue.acknowledge(&sent, START);
            }
        }
        (delivered, given_up, attempts)
    }

    #[test]
    fn one_bad_alert_is_given_up_alone() {
        let bad = Arc::new(firing("A", "123"));
        let (delivered, rejected, attempts) = outcome(FailureCause::Rejected);
        let alone = Batch { changed: vec![Arc::clone(&bad)], ..Batch::default() };
        assert_eq!((delivered, rejected), (299, Some(GivenUp::Rejected(alone))));
        assert!(attempts < 50, "{attempts}");
        let (delivered, dropped, _) = outcome(FailureCause::Payload);
        assert_eq!((delivered, dropped), (299, Some(GivenUp::Dropped(bad))));
    }
}
