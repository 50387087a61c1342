//! Entries on their way to the workers, in order, and the workers.

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

/// How a delivery ended.
#[derive(Debug)]
pub(super) struct HandlerOutcome {
    /// The entry.
    pub(super) id: StreamId,
    /// What its handler returned.
    pub(super) result: Result<(), HandlerError>,
    /// When.
    pub(super) finished: Instant,
}

/// Entries that no worker has taken yet.
#[derive(Debug, Default)]
pub(super) struct WorkQueue {
    inner: Mutex<Inner>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    /// Entries that were delivered before: they are older than all others, and go first.
    again: VecDeque<Entry>,
    fresh: VecDeque<Entry>,
    taken: u64,
    fresh_held: bool,
    closed: bool,
}

impl Inner {
    fn has_next(&self) -> bool {
        !self.again.is_empty() || (!self.fresh_held && !self.fresh.is_empty())
    }

    fn next(&mut self) -> Option<Entry> {
        let again = self.again.pop_front();
        again.or_else(|| if self.fresh_held { None } else { self.fresh.pop_front() })
    }
}

impl WorkQueue {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code that could panic runs under the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds entries that were delivered for the first time.
    pub(super) fn add(&self, entries: impl IntoIterator<Item = Entry>) {
        self.lock().fresh.extend(entries);
        self.filled.notify_one();
    }

    /// Adds an entry that was delivered before.
    pub(super) fn add_again(&self, entry: Entry) {
        self.lock().again.push_back(entry);
        self.filled.notify_one();
    }

    /// How many of those are not taken yet.
    pub(super) fn again(&self) -> usize {
        self.lock().again.len()
    }

    /// Gives out only what was delivered before, until [`WorkQueue::release`].
    pub(super) fn hold_fresh(&self) {
        self.lock().fresh_held = true;
    }

    /// Gives out everything.
    pub(super) fn release(&self) {
        let was_held = std::mem::take(&mut self.lock().fresh_held);
        if was_held {
            self.filled.notify_one();
        }
    }

    /// How many entries were ever taken.
    pub(super) fn taken(&self) -> u64 {
        self.lock().taken
    }

    /// Takes entries out that no worker has taken.
    pub(super) fn remove(&self, ids: &HashSet<StreamId>) {
        let mut inner = self.lock();
        inner.again.retain(|entry| !ids.contains(&entry.id));
        inner.fresh.retain(|entry| !ids.contains(&entry.id));
    }

    /// Gives nothing out any more.
    pub(super) fn close(&self) {
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

/// Starts the workers. They end when the queue is closed, or `stop` asks.
pub(super) fn start<H: Handler>(
    concurrency: u32,
    handler: H,
    queue: &Arc<WorkQueue>,
    outcomes: &mpsc::UnboundedSender<HandlerOutcome>,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> JoinSet<()> {
    let handler = Arc::new(handler);
    let mut workers = JoinSet::new();
    for _ in 0..concurrency {
        let (handler, queue, stop) = (Arc::clone(&handler), Arc::clone(queue), stop.clone());
        workers.spawn(work(handler, queue, outcomes.clone(), metrics.clone(), stop));
    }
    workers
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
        let result = handled.unwrap_or_else(|panic| Err(HandlerError::Failed(said(panic.as_ref()))));
        let finished = now();
        metrics.observe_handler(finished - started);
        if outcomes.send(HandlerOutcome { id: entry.id, result, finished }).is_err() {
            return;
        }
        // A handler that never waits would keep its thread from everything else.
        consume_budget().await;
    }
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
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
    async fn what_was_delivered_before_goes_first_and_what_is_removed_never() {
        let queue = WorkQueue::default();
        queue.add([3, 4, 5].map(entry));
        queue.add_again(entry(1));
        queue.add_again(entry(2));
        queue.remove(&HashSet::from([StreamId { ms: 2, seq: 0 }, StreamId { ms: 4, seq: 0 }]));
        assert_eq!(queue.again(), 1);
        queue.hold_fresh();
        assert_eq!(queue.next().await.unwrap().id.ms, 1);
        assert_eq!(queue.next().now_or_never(), None, "the rest is held");
        queue.release();
        for ms in [3, 5] {
            assert_eq!(queue.next().await.unwrap().id.ms, ms);
        }
        assert_eq!(queue.taken(), 3);
        queue.add([entry(6)]);
        queue.close();
        assert_eq!(queue.next().await, None);
    }
}
