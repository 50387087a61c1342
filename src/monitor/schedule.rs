//! The poll schedule and the retries after a failure. Times are parameters.

use std::time::Duration;

use redis_stream_core::backoff::Backoff;
use tokio::time::Instant;

/// Delays before a failed poll is retried.
pub(super) const BACKOFF: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));

/// The times of polls: an interval apart, at a random phase, so that several targets and exporters do not poll at the
/// same moment.
#[derive(Debug)]
pub(super) struct Schedule {
    pub(super) interval: Duration,
    next: Instant,
}

impl Schedule {
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, next: now + interval.mul_f64(0.5 + fastrand::f64() / 2.0) }
    }

    /// Returns the first tick after `now`. Missed ticks are skipped.
    pub(super) fn next_after(&mut self, now: Instant) -> Instant {
        if self.next <= now {
            let missed = (now - self.next).div_duration_f64(self.interval).floor();
            self.next += self.interval.mul_f64(missed + 1.0);
        }
        self.next
    }

    /// Returns when a failed poll is retried: after the pause, but no later than the next tick, as alerts are
    /// evaluated with each poll and must be on time while polls fail.
    pub(super) fn retry_after(&mut self, now: Instant, pause: Duration) -> Instant {
        (now + pause).min(self.next_after(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis_stream_core::clock::now;

    #[tokio::test(start_paused = true)]
    async fn ticks_keep_their_phase_and_missed_ones_are_left_out() {
        let interval = Duration::from_secs(10);
        let start = now();
        let mut schedule = Schedule::new(interval, start);
        let first = schedule.next_after(start);
        assert!(first > start && first <= start + interval);
        assert_eq!(schedule.next_after(first), first + interval);
        assert_eq!(schedule.next_after(first + 3 * interval + Duration::from_secs(1)), first + 4 * interval);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_poll_is_tried_again_before_the_next_is_due_or_with_it() {
        let s = Duration::from_secs;
        let mut schedule = Schedule::new(s(2), now());
        let tick = schedule.next_after(now());
        assert_eq!(schedule.retry_after(tick, s(1)), tick + s(1));
        assert_eq!(schedule.retry_after(tick + s(1), s(5)), tick + s(2));
        // The poll took longer than the interval.
        assert_eq!(schedule.retry_after(tick + s(3), s(5)), tick + s(4));
    }
}
