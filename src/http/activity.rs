//! The state of one connection that decides whether it may stay open: progress, idle time, requests.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

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
}
