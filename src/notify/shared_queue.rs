//! A queue between the evaluator and a send loop. Pushing never waits for the receiver.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::alert::notification::Notification;
use crate::alert::notification_log::LogEntry;
use crate::notify::model::Batch;
use crate::notify::queue::{Failure, GivenUp, NextBatch, NotificationQueue, SendMode};
use crate::self_metrics::labels::NotificationResult;
use crate::self_metrics::notifier::NotifierMetrics;
use redis_stream_core::clock::{now, unix_time};
use redis_stream_core::wall_clock::WallClock;

pub(super) struct SharedQueue {
    name: Arc<str>,
    metrics: NotifierMetrics,
    state: Mutex<State>,
    pushed: Notify,
    /// Signals changes of the notification log.
    log_changes: watch::Sender<()>,
    closed: CancellationToken,
}

struct State {
    queue: Box<dyn NotificationQueue>,
    /// The length that the gauge shows for this queue.
    shown: usize,
    /// True if alerts were dropped since the last acknowledgement; logged when it changes.
    is_dropping: bool,
    revision: u64,
    wall_clock: WallClock,
}

impl SharedQueue {
    pub(super) fn new(
        name: Arc<str>,
        queue: Box<dyn NotificationQueue>,
        metrics: NotifierMetrics,
        log_changes: watch::Sender<()>,
    ) -> Self {
        let shown = queue.len();
        metrics.add_to_queue_length(signed(shown));
        let revision = queue.revision();
        let wall_clock = WallClock::new(now().into_std(), unix_time());
        let state = Mutex::new(State { queue, shown, is_dropping: false, revision, wall_clock });
        Self { name, metrics, state, pushed: Notify::new(), log_changes, closed: CancellationToken::new() }
    }

    /// Returns the notification log.
    pub(super) fn log(&self) -> Vec<LogEntry> {
        self.lock().queue.log()
    }

    /// Adds notifications, all of them before any of them is sent.
    pub(super) fn push<'n>(&self, notifications: impl IntoIterator<Item = &'n Notification>) {
        let mut state = self.lock();
        let dropped = notifications.into_iter().map(|notification| state.queue.push(notification)).sum();
        self.metrics.count(NotificationResult::Dropped, dropped);
        if dropped > 0 && !std::mem::replace(&mut state.is_dropping, true) {
            warn!(notifier = %self.name, queued = state.queue.len(), "queue is full; dropping the oldest alerts");
        }
        self.show(&mut state);
        drop(state);
        self.pushed.notify_one();
    }

    /// Returns what is to be sent at `now`, the time since the Unix epoch.
    pub(super) fn next(&self, now: Duration, mode: SendMode) -> NextBatch {
        self.change(|queue| queue.next(now, mode))
    }

    pub(super) fn acknowledge(&self, batch: &Batch, now: Duration) {
        let mut state = self.lock();
        state.queue.acknowledge(batch, now);
        state.is_dropping = false;
        self.show(&mut state);
    }

    pub(super) fn requeue(&self, batch: &Batch, failure: Failure, problem: &str) {
        let (alerts, labels) = match self.change(|queue| queue.requeue(batch, failure)) {
            None => return,
            Some(GivenUp::Rejected(batch)) => {
                self.metrics.count(NotificationResult::Rejected, batch.counted());
                (batch.counted(), batch.alerts().next().map(|alert| format!("{:?}", alert.labels)))
            }
            Some(GivenUp::Dropped(alert)) => {
                self.metrics.count(NotificationResult::Dropped, 1);
                let labels = format!("{:?}", alert.labels);
                warn!(notifier = %self.name, labels, "dropping alert after repeated failures");
                return;
            }
        };
        error!(notifier = %self.name, alerts, labels, error = problem, "receiver rejected alerts; they are not sent again");
    }

    /// Resolves when something was pushed since it last did.
    pub(super) async fn pushed(&self) {
        self.pushed.notified().await;
    }

    /// Applies a new repeat interval, and handles an attempt that was cut off at `now`.
    pub(super) fn reconfigure(&self, repeat_interval: Duration, now: Duration) {
        self.change(|queue| {
            queue.set_repeat_interval(repeat_interval);
            queue.interrupt(now);
        });
    }

    /// Lets the send loop end once all is sent: nothing is pushed from now on.
    pub(super) fn close(&self) {
        self.closed.cancel();
    }

    pub(super) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// Counts what is left as dropped, after the send loop has ended.
    pub(super) fn drop_remaining(&self) {
        let mut state = self.lock();
        let left = state.queue.len();
        self.metrics.count(NotificationResult::Dropped, left);
        self.metrics.add_to_queue_length(-signed(std::mem::take(&mut state.shown)));
        if left > 0 {
            warn!(notifier = %self.name, alerts = left, "shutdown grace period over, dropping unsent alerts");
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut dyn NotificationQueue) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut *state.queue);
        self.show(&mut state);
        result
    }

    fn show(&self, state: &mut State) {
        let len = state.queue.len();
        let shown = std::mem::replace(&mut state.shown, len);
        self.metrics.add_to_queue_length(signed(len) - signed(shown));
        let revision = state.queue.revision();
        if std::mem::replace(&mut state.revision, revision) != revision {
            self.log_changes.send_replace(());
        }
    }

    /// Locks the state, with its times by the wall clock as it is set now. After a panic in the middle of a change the
    /// queue is still consistent enough to go on.
    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shift) = state.wall_clock.synchronize(now().into_std(), unix_time()) {
            state.queue.shift_times(shift);
        }
        state
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
