//! What is known of one connection while it lasts: told by all that has to do with it, asked by who decides whether it
//! may stay.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use redis_stream_core::clock::now;

/// What is known of one connection.
#[derive(Debug)]
pub(crate) struct Activity {
    began: Instant,
    /// When the client was last seen to take anything, in milliseconds since it came.
    progress_ms: AtomicU64,
    /// Whether it waits for us, not we for it.
    is_answering: AtomicBool,
    /// Whether it has sent what nobody reads.
    has_unread: AtomicBool,
    requests: AtomicUsize,
}

impl Activity {
    /// Of a client that has just come.
    pub(crate) fn new() -> Self {
        Self {
            began: now(),
            progress_ms: AtomicU64::new(0),
            is_answering: AtomicBool::new(false),
            has_unread: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
        }
    }

    /// Notes that the client has taken some of an answer.
    pub(crate) fn note_progress(&self) {
        let since = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.progress_ms.store(since, Ordering::Relaxed);
    }

    /// Notes that a request has come; returns how many that are.
    pub(crate) fn note_request(&self) -> usize {
        self.is_answering.store(true, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Notes that there is an answer, which is to be sent.
    pub(crate) fn note_answer(&self) {
        self.note_progress();
        self.is_answering.store(false, Ordering::Relaxed);
    }

    /// How long we have waited for the client.
    pub(crate) fn idle(&self) -> Duration {
        if self.is_answering.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        let progress = Duration::from_millis(self.progress_ms.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(progress)
    }

    /// Notes that the client has sent what nobody reads.
    pub(crate) fn note_unread(&self) {
        self.has_unread.store(true, Ordering::Relaxed);
    }

    /// Whether the client has sent what nobody reads.
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
