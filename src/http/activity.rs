//! The state of one connection that decides whether it may stay open: progress, idle time, requests.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use redis_stream_core::clock::now;

#[derive(Debug)]
pub(crate) struct Activity {
    began: Instant,
    /// The client's last progress, in milliseconds since it connected.
    progress_ms: AtomicU64,
    is_answering: AtomicBool,
    has_unread: AtomicBool,
    requests: AtomicUsize,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self {
            began: now(),
            progress_ms: AtomicU64::new(0),
            is_answering: AtomicBool::new(false),
            has_unread: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
        }
    }

    /// Records that the client has read some of a reply.
    pub(crate) fn note_progress(&self) {
        let since = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.progress_ms.store(since, Ordering::Relaxed);
    }

    /// Records a request; returns the number of requests so far.
    pub(crate) fn note_request(&self) -> usize {
        self.is_answering.store(true, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Records that a reply is ready to be sent.
    pub(crate) fn note_answer(&self) {
        self.note_progress();
        self.is_answering.store(false, Ordering::Relaxed);
    }

    /// Returns the time spent waiting for the client.
    pub(crate) fn idle(&self) -> Duration {
        if self.is_answering.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        let progress = Duration::from_millis(self.progress_ms.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(progress)
    }

    /// Waits until the client has been idle for `limit` while `is_full` returns true.
    ///
    /// It must be so twice in a row: after this process was paused, as on an overloaded machine, a client looks idle
    /// until its connection has run again.
    pub(crate) async fn until_idle(&self, limit: Duration, is_full: impl Fn() -> bool) {
        let mut was_idle = false;
        loop {
            let is_idle = is_full() && self.idle() >= limit;
            if is_idle && was_idle {
                return;
            }
            was_idle = is_idle;
            sleep(limit / 8).await;
        }
    }

    /// Records that the client has sent bytes that are never read.
    pub(crate) fn note_unread(&self) {
        self.has_unread.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_unread(&self) -> bool {
        self.has_unread.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_is_idle_while_we_wait_for_it() {
        let s = Duration::from_secs;
        let activity = Activity::new();
        tokio::time::advance(s(3)).await;
        assert_eq!(activity.idle(), s(3));
        assert_eq!(activity.note_request(), 1);
        tokio::time::advance(s(100)).await;
        assert_eq!(activity.idle(), s(0));
        activity.note_answer();
        tokio::time::advance(s(1)).await;
        assert_eq!(activity.idle(), s(1));
        activity.note_progress();
        assert_eq!((activity.idle(), activity.note_request()), (s(0), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_of_this_process_is_not_the_clients() {
        let (limit, activity) = (Duration::from_secs(2), Activity::new());
        let mut idle = pin!(activity.until_idle(limit, || true));
        assert!(idle.as_mut().now_or_never().is_none());
        for _ in 0..3 {
            tokio::time::advance(2 * limit).await;
            assert!(idle.as_mut().now_or_never().is_none(), "it was paused");
            // The connection runs again, and the client has read meanwhile.
            activity.note_progress();
            tokio::time::advance(limit / 8).await;
            assert!(idle.as_mut().now_or_never().is_none());
        }
        tokio::time::advance(limit).await;
        assert!(idle.as_mut().now_or_never().is_none());
        tokio::time::advance(limit / 8).await;
        assert!(idle.as_mut().now_or_never().is_some(), "the client does not read");
    }
}
