//! The queue between the consumer and its workers, which hand entries to the handler and return outcomes.

use std::any::Any;
use std::collections::{HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use tokio::sync::Notify;
use tokio::task::{JoinSet, consume_budget};
use tokio::time::Instant;

use super::handler::{Handler, HandlerError};
use super::metrics::Metrics;
use crate::entry::{Entry, StreamId};
use redis_stream_core::clock::now;
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
pub(super) struct HandlerOutcome {
    pub(super) id: StreamId,
    pub(super) result: Result<(), HandlerError>,
    pub(super) finished: Instant,
}

/// Entries that no worker has taken yet, and outcomes that the consumer has not taken yet.
#[derive(Debug, Default)]
pub(super) struct WorkQueue {
    inner: Mutex<Inner>,
    filled: Notify,
    finished: Notify,
}

/// The entries that workers may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Gate {
    #[default]
    Open,
    Shut,
    /// The next entry, which then is the trial.
    OneTrial,
    /// None, since this one is the trial.
    OnTrial(StreamId),
}

#[derive(Debug, Default)]
struct Inner {
    /// Entries that were delivered before. They are older than all new ones, and go first.
    redelivered: VecDeque<Entry>,
    new: VecDeque<Entry>,
    new_held: bool,
    gate: Gate,
    closed: bool,
    /// Entries being handled, or whose outcome is not taken.
    busy: usize,
    outcomes: Vec<HandlerOutcome>,
}

impl Inner {
    fn has_next(&self) -> bool {
        let is_admitted = matches!(self.gate, Gate::Open | Gate::OneTrial);
        is_admitted && (!self.redelivered.is_empty() || (!self.new_held && !self.new.is_empty()))
    }

    fn next(&mut self) -> Option<Entry> {
        if !self.has_next() {
            return None;
        }
        let entry = self.redelivered.pop_front().or_else(|| self.new.pop_front());
        if let (Gate::OneTrial, Some(entry)) = (self.gate, &entry) {
            self.gate = Gate::OnTrial(entry.id);
        }
        entry
    }
}

impl WorkQueue {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code that could panic runs under the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds entries that were delivered for the first time.
    pub(super) fn add_new(&self, entries: impl IntoIterator<Item = Entry>) {
        self.update(|inner| inner.new.extend(entries));
    }

    /// Adds entries that were delivered before.
    pub(super) fn add_redelivered(&self, entries: impl IntoIterator<Item = Entry>) {
        self.update(|inner| inner.redelivered.extend(entries));
    }

    /// Keeps new entries back, so that the next free worker takes a redelivered one.
    pub(super) fn hold_new(&self) {
        self.lock().new_held = true;
    }

    pub(super) fn release_new(&self) {
        self.update(|inner| inner.new_held = false);
    }

    /// Lets workers take no further entries until [`WorkQueue::admit_trial`] or [`WorkQueue::open`].
    pub(super) fn shut(&self) {
        self.lock().gate = Gate::Shut;
    }

    /// Lets a worker take one entry of those that are shut up here.
    pub(super) fn admit_trial(&self) {
        self.update(|inner| inner.gate = Gate::OneTrial);
    }

    /// Lets workers take all entries again.
    pub(super) fn open(&self) {
        self.update(|inner| inner.gate = Gate::Open);
    }

    /// Removes all entries that no worker has taken but one, a new one if there is one. Returns those removed.
    pub(super) fn keep_one(&self) -> Vec<StreamId> {
        let mut inner = self.lock();
        let kept = inner.new.pop_front().or_else(|| inner.redelivered.pop_front());
        let Inner { redelivered, new, .. } = &mut *inner;
        let removed = redelivered.drain(..).chain(new.drain(..)).map(|entry| entry.id).collect();
        new.extend(kept);
        removed
    }

    /// Returns whether the next entry that is added is taken as the trial.
    pub(super) fn wants_trial(&self) -> bool {
        let inner = self.lock();
        inner.gate == Gate::OneTrial && inner.redelivered.is_empty() && inner.new.is_empty()
    }

    pub(super) fn is_shut(&self) -> bool {
        self.lock().gate == Gate::Shut
    }

    pub(super) fn is_trial(&self, id: StreamId) -> bool {
        self.lock().gate == Gate::OnTrial(id)
    }

    fn update(&self, change: impl FnOnce(&mut Inner)) {
        let mut inner = self.lock();
        change(&mut inner);
        if inner.has_next() {
            self.filled.notify_one();
        }
    }

    /// Removes entries that no worker has taken.
    pub(super) fn remove(&self, ids: &HashSet<StreamId>) {
        let mut inner = self.lock();
        inner.redelivered.retain(|entry| !ids.contains(&entry.id));
        inner.new.retain(|entry| !ids.contains(&entry.id));
    }

    /// Lets workers take no further entries.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_waiters();
    }

    /// Returns the entries that no worker has taken.
    pub(super) fn queued_ids(&self) -> HashSet<StreamId> {
        let inner = self.lock();
        inner.redelivered.iter().chain(&inner.new).map(|entry| entry.id).collect()
    }

    /// Returns how many redelivered entries wait for a worker, are being handled, or have an outcome that is not taken.
    pub(super) fn occupied_workers(&self) -> usize {
        let inner = self.lock();
        inner.redelivered.len() + inner.busy
    }

    /// Returns whether entries are being handled, or their outcomes are not taken.
    pub(super) fn is_busy(&self) -> bool {
        self.lock().busy > 0
    }

    /// Waits for an outcome that is not taken.
    pub(super) async fn outcome_ready(&self) {
        while self.lock().outcomes.is_empty() {
            self.finished.notified().await;
        }
    }

    /// Returns the entries that were handled, and whose outcomes are not taken.
    pub(super) fn handled_ids(&self) -> HashSet<StreamId> {
        let inner = self.lock();
        inner.outcomes.iter().filter(|outcome| outcome.result.is_ok()).map(|outcome| outcome.id).collect()
    }

    pub(super) fn take_outcomes(&self) -> Vec<HandlerOutcome> {
        let mut inner = self.lock();
        inner.busy -= inner.outcomes.len();
        std::mem::take(&mut inner.outcomes)
    }

    fn add_outcome(&self, outcome: HandlerOutcome) {
        self.lock().outcomes.push(outcome);
        self.finished.notify_one();
    }

    async fn next(&self) -> Option<Entry> {
        loop {
            let filled = self.filled.notified();
            {
                let mut inner = self.lock();
                if inner.closed {
                    return None;
                }
                if let Some(entry) = inner.next() {
                    inner.busy += 1;
                    if inner.has_next() {
                        self.filled.notify_one();
                    }
                    return Some(entry);
                }
            }
            filled.await;
        }
    }
}

/// Starts the workers. They end when the queue is closed, and begin nothing after `stop`.
pub(super) fn start(
    concurrency: u32,
    handler: impl Handler,
    queue: &Arc<WorkQueue>,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> JoinSet<()> {
    let handler = Arc::new(handler);
    let mut workers = JoinSet::new();
    for _ in 0..concurrency {
        workers.spawn(work(Arc::clone(&handler), Arc::clone(queue), metrics.clone(), stop.clone()));
    }
    workers
}

async fn work<H: Handler>(handler: Arc<H>, queue: Arc<WorkQueue>, metrics: Metrics, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let Some(entry) = queue.next().await else { return };
        let started = now();
        let handled = AssertUnwindSafe(async { handler.handle(&entry).await }).catch_unwind().await;
        let result = handled.unwrap_or_else(|panic| Err(HandlerError::failed(panic_message(panic.as_ref()))));
        let finished = now();
        metrics.handler_duration.observe((finished - started).as_secs_f64());
        queue.add_outcome(HandlerOutcome { id: entry.id, result, finished });
        // A handler that never waits would keep its thread from everything else.
        consume_budget().await;
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message");
    format!("handler panicked: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::GroupMember;

    fn entry(ms: u64) -> Entry {
        let member = GroupMember { stream: Vec::new(), group: Vec::new(), consumer: Vec::new() };
        Entry { id: StreamId { ms, seq: 0 }, fields: Vec::new(), deliveries: 1, member: Arc::new(member) }
    }

    #[tokio::test]
    async fn a_gate_that_is_shut_lets_one_entry_through_at_a_time() {
        let queue = WorkQueue::default();
        let taken = || queue.next().now_or_never().flatten().map(|entry| entry.id.ms);
        queue.shut();
        queue.add_new([1, 2, 3].map(entry));
        assert_eq!(taken(), None);
        queue.admit_trial();
        assert_eq!((taken(), taken()), (Some(1), None));
        assert!(queue.is_trial(StreamId { ms: 1, seq: 0 }) && !queue.is_shut());
        queue.shut();
        queue.admit_trial();
        assert!(!queue.wants_trial());
        assert_eq!((taken(), taken()), (Some(2), None));
        queue.open();
        assert_eq!((taken(), taken()), (Some(3), None));
        queue.shut();
        queue.admit_trial();
        assert!(queue.wants_trial());
        queue.shut();
        queue.add_new([5, 6].map(entry));
        queue.add_redelivered([4].map(entry));
        let ids = |ids: Vec<StreamId>| ids.iter().map(|id| id.ms).collect::<Vec<_>>();
        assert_eq!((ids(queue.keep_one()), ids(queue.keep_one())), (vec![4, 6], vec![]));
        queue.open();
        assert_eq!((taken(), taken()), (Some(5), None));
    }

    #[tokio::test]
    async fn redelivered_entries_go_first_and_removed_ones_never() {
        let queue = WorkQueue::default();
        queue.add_new([3, 4, 5].map(entry));
        queue.add_redelivered([1, 2].map(entry));
        queue.remove(&HashSet::from([StreamId { ms: 2, seq: 0 }, StreamId { ms: 4, seq: 0 }]));
        assert_eq!(queue.occupied_workers(), 1);
        queue.hold_new();
        assert_eq!(queue.next().await.unwrap().id.ms, 1);
        assert_eq!(queue.next().now_or_never(), None, "the rest is held");
        queue.release_new();
        for ms in [3, 5] {
            assert_eq!(queue.next().await.unwrap().id.ms, ms);
        }
        assert_eq!(queue.occupied_workers(), 3);
        queue.add_new([entry(6)]);
        queue.close();
        assert_eq!(queue.next().await, None);
    }
}
