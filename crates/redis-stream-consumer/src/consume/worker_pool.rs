//! The queue of delivered entries, and the workers that hand them to the handler.

use std::any::Any;
use std::collections::{HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinSet, consume_budget};
use tokio::time::Instant;

use super::handler::{Handler, HandlerError};
use super::metrics::Metrics;
use crate::entry::{Entry, StreamId};
use redis_stream_core::clock::now;
use tokio_util::sync::CancellationToken;

const MAX_OUTCOMES: usize = 1_000;

#[derive(Debug)]
pub(super) struct HandlerOutcome {
    pub(super) id: StreamId,
    pub(super) result: Result<(), HandlerError>,
    pub(super) finished: Instant,
}

/// Entries that no worker has taken yet.
#[derive(Debug, Default)]
struct WorkQueue {
    inner: Mutex<Inner>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    /// Entries that were delivered before. They are older than all new ones, and go first.
    redelivered: VecDeque<Entry>,
    new: VecDeque<Entry>,
    /// Number of entries ever taken.
    taken: u64,
    new_held: bool,
    closed: bool,
}

impl Inner {
    fn has_next(&self) -> bool {
        !self.redelivered.is_empty() || (!self.new_held && !self.new.is_empty())
    }

    fn next(&mut self) -> Option<Entry> {
        let redelivered = self.redelivered.pop_front();
        redelivered.or_else(|| if self.new_held { None } else { self.new.pop_front() })
    }
}

impl WorkQueue {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code that could panic runs under the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add_new(&self, entries: impl IntoIterator<Item = Entry>) {
        let mut inner = self.lock();
        inner.new.extend(entries);
        if inner.has_next() {
            self.filled.notify_one();
        }
    }

    fn add_redelivered(&self, entries: impl IntoIterator<Item = Entry>) {
        let mut inner = self.lock();
        inner.redelivered.extend(entries);
        if inner.has_next() {
            self.filled.notify_one();
        }
    }

    fn hold_new(&self) {
        self.lock().new_held = true;
    }

    fn release_new(&self) {
        let was_held = std::mem::take(&mut self.lock().new_held);
        if was_held {
            self.filled.notify_one();
        }
    }

    fn remove(&self, ids: &HashSet<StreamId>) {
        let mut inner = self.lock();
        inner.redelivered.retain(|entry| !ids.contains(&entry.id));
        inner.new.retain(|entry| !ids.contains(&entry.id));
    }

    fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_waiters();
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
                    inner.taken += 1;
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

/// The queue, its workers and their outcomes, which wait here until [`WorkerPool::take_outcomes`].
pub(super) struct WorkerPool {
    concurrency: usize,
    queue: Arc<WorkQueue>,
    workers: JoinSet<()>,
    outcomes: mpsc::UnboundedReceiver<HandlerOutcome>,
    /// Keeps the channel open after all workers ended, so that waiting for an outcome does not return at once.
    _sender: mpsc::UnboundedSender<HandlerOutcome>,
    received: Vec<HandlerOutcome>,
    /// Outcomes ever taken: equals the entries ever taken by workers once none is being handled.
    finished: u64,
}

impl WorkerPool {
    /// Starts the workers. They end when the pool is closed, and begin nothing after `stop`.
    pub(super) fn start(
        concurrency: u32,
        handler: impl Handler,
        metrics: &Metrics,
        stop: &CancellationToken,
    ) -> Self {
        let queue = Arc::new(WorkQueue::default());
        let handler = Arc::new(handler);
        // Bounded by the entries in flight.
        let (sender, outcomes) = mpsc::unbounded_channel();
        let mut workers = JoinSet::new();
        for _ in 0..concurrency {
            let (handler, queue) = (Arc::clone(&handler), Arc::clone(&queue));
            workers.spawn(work(handler, queue, sender.clone(), metrics.clone(), stop.clone()));
        }
        let concurrency = concurrency as usize;
        Self { concurrency, queue, workers, outcomes, _sender: sender, received: Vec::new(), finished: 0 }
    }

    /// Adds entries that were delivered for the first time.
    pub(super) fn add_new(&self, entries: Vec<Entry>) {
        self.queue.add_new(entries);
    }

    /// Adds entries that were delivered before.
    pub(super) fn add_redelivered(&self, entries: Vec<Entry>) {
        self.queue.add_redelivered(entries);
    }

    /// Keeps new entries back, so that the next free worker takes a redelivered one.
    pub(super) fn hold_new(&self) {
        self.queue.hold_new();
    }

    pub(super) fn release_new(&self) {
        self.queue.release_new();
    }

    /// Removes entries that no worker has taken.
    pub(super) fn remove(&self, ids: &HashSet<StreamId>) {
        self.queue.remove(ids);
    }

    /// Returns how many redelivered entries can be handled at once. Entries that are claimed, but not started, would
    /// lose an attempt if the process is killed.
    pub(super) fn free_workers(&self) -> usize {
        let queued = self.queue.lock().redelivered.len();
        self.concurrency.saturating_sub(queued + self.busy())
    }

    /// Returns whether entries are being handled, or their outcomes are not taken yet.
    pub(super) fn is_busy(&self) -> bool {
        self.busy() > 0
    }

    fn busy(&self) -> usize {
        let taken = self.queue.lock().taken;
        usize::try_from(taken - self.finished).unwrap_or(usize::MAX)
    }

    /// Waits for an outcome that is not taken. Cancel safe.
    pub(super) async fn finished_one(&mut self) {
        if self.received.is_empty() {
            self.outcomes.recv_many(&mut self.received, MAX_OUTCOMES).await;
        }
    }

    /// Returns the entries that were handled, but whose outcomes are not taken yet.
    pub(super) fn handled_ids(&mut self) -> HashSet<StreamId> {
        self.receive();
        let handled = self.received.iter().filter(|outcome| outcome.result.is_ok());
        handled.map(|outcome| outcome.id).collect()
    }

    pub(super) fn take_outcomes(&mut self) -> Vec<HandlerOutcome> {
        self.receive();
        self.finished += self.received.len() as u64;
        std::mem::take(&mut self.received)
    }

    fn receive(&mut self) {
        while let Ok(outcome) = self.outcomes.try_recv() {
            self.received.push(outcome);
        }
    }

    /// Starts no further entries.
    pub(super) fn close(&self) {
        self.queue.close();
    }

    /// Drops the calls that are still running, at their next `await`.
    pub(super) fn abort(&mut self) {
        self.workers.abort_all();
    }
}

async fn work<H: Handler>(
    handler: Arc<H>,
    queue: Arc<WorkQueue>,
    outcomes: mpsc::UnboundedSender<HandlerOutcome>,
    metrics: Metrics,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let Some(entry) = queue.next().await else { return };
        let started = now();
        let handled = AssertUnwindSafe(async { handler.handle(&entry).await }).catch_unwind().await;
        let result = handled.unwrap_or_else(|panic| Err(HandlerError::Failed(panic_message(panic.as_ref()))));
        let finished = now();
        metrics.observe_handler(finished - started);
        if outcomes.send(HandlerOutcome { id: entry.id, result, finished }).is_err() {
            return;
        }
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
    async fn redelivered_entries_go_first_and_removed_ones_never() {
        let queue = WorkQueue::default();
        queue.add_new([3, 4, 5].map(entry));
        queue.add_redelivered([1, 2].map(entry));
        queue.remove(&HashSet::from([StreamId { ms: 2, seq: 0 }, StreamId { ms: 4, seq: 0 }]));
        assert_eq!(queue.lock().redelivered.len(), 1);
        queue.hold_new();
        assert_eq!(queue.next().await.unwrap().id.ms, 1);
        assert_eq!(queue.next().now_or_never(), None, "the rest is held");
        queue.release_new();
        for ms in [3, 5] {
            assert_eq!(queue.next().await.unwrap().id.ms, ms);
        }
        assert_eq!(queue.lock().taken, 3);
        queue.add_new([entry(6)]);
        queue.close();
        assert_eq!(queue.next().await, None);
    }
}
