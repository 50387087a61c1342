//! The mailbox that what waits for a receiver lies in. Putting something in never waits for the receiver.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tracing::warn;

use crate::alert::notification::{Alert, Notification};
use crate::alert::notification_log::LogEntry;
use crate::notify::queue::{Failure, Next, Pace, Queue, Store};
use crate::self_metrics::labels::NotificationResult;
use crate::self_metrics::notifier::NotifierMetrics;
use tokio_util::sync::CancellationToken;

/// A store that is filled on one side and emptied on the other.
#[derive(Debug)]
pub(super) struct Mailbox<S> {
    name: Arc<str>,
    metrics: NotifierMetrics,
    state: Mutex<State<S>>,
    changed: Notify,
    /// Told of each change of what the receiver knows.
    known: watch::Sender<()>,
    closed: CancellationToken,
}

#[derive(Debug)]
struct State<S> {
    store: S,
    /// What the gauge was last told of this store.
    shown: usize,
    /// Whether alerts were dropped since something was settled; logged when it changes.
    is_dropping: bool,
    /// That of the store, when it was last told of.
    revision: u64,
    /// Whether another task is to send what waits, once this one has ended.
    has_heir: bool,
}

impl<S: Store> Mailbox<S> {
    /// For the notifier of this name.
    pub(super) fn new(name: Arc<str>, store: S, metrics: NotifierMetrics) -> Self {
        let shown = store.waiting();
        metrics.add_to_queue_length(signed(shown));
        let revision = store.revision();
        let state = Mutex::new(State { store, shown, is_dropping: false, revision, has_heir: false });
        let closed = CancellationToken::new();
        Self { name, metrics, state, changed: Notify::new(), known: watch::Sender::default(), closed }
    }

    /// The same; each change of what the receiver knows is told there.
    pub(super) fn telling(self, known: watch::Sender<()>) -> Self {
        Self { known, ..self }
    }

    /// What the receiver knows and is not done with.
    pub(super) fn known(&self) -> Vec<LogEntry> {
        self.lock().store.known()
    }

    /// Takes in what the receiver is to be told, all of it before any of it is sent.
    pub(super) fn put<'n>(&self, notifications: impl IntoIterator<Item = &'n Notification>) {
        self.change(|store| notifications.into_iter().map(|notification| store.put(notification)).sum());
    }

    /// Fills the store; `fill` returns how many alerts were dropped for it.
    fn change(&self, fill: impl FnOnce(&mut S) -> usize) {
        let mut state = self.lock();
        let dropped = fill(&mut state.store);
        self.count_dropped(&mut state, dropped);
        self.show(&mut state);
        drop(state);
        self.changed.notify_one();
    }

    /// What is to be sent at `now`, the time since the Unix epoch.
    pub(super) fn next(&self, now: Duration, pace: Pace) -> Next<S::Parcel> {
        let mut state = self.lock();
        let next = state.store.next(now, pace);
        self.show(&mut state);
        next
    }

    /// Forgets what was sent.
    pub(super) fn settle(&self, parcel: &S::Parcel, now: Duration) {
        let mut state = self.lock();
        state.store.settle(parcel, now);
        state.is_dropping = false;
        self.show(&mut state);
    }

    /// Notes that this could not be sent.
    pub(super) fn postpone(&self, parcel: &S::Parcel, failure: Failure) {
        let mut state = self.lock();
        let given_up = state.store.postpone(parcel, failure);
        self.show(&mut state);
        drop(state);
        if let Some(alert) = given_up {
            self.metrics.count(NotificationResult::Dropped, 1);
            let labels = format!("{:?}", alert.labels);
            warn!(notifier = %self.name, labels, "an alert cannot be sent; it is given up until it is told of again");
        }
    }

    /// Resolves when something was put in since it last did.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Changes the store in another way.
    pub(super) fn amend(&self, amend: impl FnOnce(&mut S)) {
        self.change(|store| {
            amend(store);
            0
        });
    }

    /// Notes that another task is to send what waits: that of now may end as it is.
    pub(super) fn await_heir(&self) {
        self.lock().has_heir = true;
    }

    /// Notes that the task before has ended, and the other begins.
    pub(super) fn note_heir(&self) {
        self.lock().has_heir = false;
    }

    /// Lets the other side end once all is sent: nothing is put in any more.
    pub(super) fn close(&self) {
        self.closed.cancel();
    }

    /// Fires when nothing is put in any more.
    pub(super) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// Counts what waits as dropped, since nobody sends it any more; returns how many alerts that are.
    pub(super) fn abandon(&self) -> usize {
        let mut state = self.lock();
        if state.has_heir {
            return 0;
        }
        let left = state.store.waiting();
        self.metrics.count(NotificationResult::Dropped, left);
        self.metrics.add_to_queue_length(-signed(state.shown));
        state.shown = 0;
        left
    }

    fn count_dropped(&self, state: &mut State<S>, dropped: usize) {
        if dropped == 0 {
            return;
        }
        self.metrics.count(NotificationResult::Dropped, dropped);
        if !std::mem::replace(&mut state.is_dropping, true) {
            warn!(notifier = %self.name, waiting = state.store.waiting(), "queue is full; the oldest alerts are dropped");
        }
    }

    fn show(&self, state: &mut State<S>) {
        self.metrics.add_to_queue_length(state.shift());
        let revision = state.store.revision();
        if std::mem::replace(&mut state.revision, revision) != revision {
            self.known.send_replace(());
        }
    }

    /// What a panic in the middle of a change left is as good as what was there before.
    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mailbox<Queue> {
    /// Takes in alerts that come from another queue, unless what is here is newer. The caller tells the gauge by how
    /// many alerts this has become longer, together with what the other has lost: who looks sees each of them once.
    #[must_use]
    pub(super) fn take_over(&self, alerts: &[Arc<Alert>]) -> i64 {
        let mut state = self.lock();
        let dropped = state.store.take_over(alerts);
        self.count_dropped(&mut state, dropped);
        let longer = state.shift();
        drop(state);
        self.changed.notify_one();
        longer
    }

    /// Takes everything out, and says by how many alerts this has become shorter. That is for the caller to tell.
    #[must_use]
    pub(super) fn hand_over(&self) -> (Vec<Arc<Alert>>, i64) {
        let mut state = self.lock();
        let alerts = state.store.take_all();
        (alerts, -state.shift())
    }
}

impl<S: Store> State<S> {
    /// By how many alerts the store is longer than the gauge was last told. It counts as told.
    fn shift(&mut self) -> i64 {
        let waiting = self.store.waiting();
        let shown = std::mem::replace(&mut self.shown, waiting);
        signed(waiting) - signed(shown) + self.store.take_moved()
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
