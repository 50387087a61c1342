//! When a target is polled, and when it is tried again after a failure. Times are parameters.

use std::time::Duration;

use tokio::time::Instant;

/// Longest wait before a server that failed is tried again.
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// Longest wait after the first failure; it doubles with each.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);

/// When polls are due: one after the other, at a phase of its own, so that several targets, and several
/// exporters, do not poll at the same moment.
#[derive(Debug)]
pub(super) struct Schedule {
    pub(super) interval: Duration,
    next: Instant,
}

impl Schedule {
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, next: now + interval.mul_f64(0.5 + fastrand::f64() / 2.0) }
    }

    /// The first tick after `now`; those that were missed are left out.
    pub(super) fn next_after(&mut self, now: Instant) -> Instant {
        if self.next <= now {
            let missed = (now - self.next).div_duration_f64(self.interval).floor();
            self.next += self.interval.mul_f64(missed + 1.0);
        }
        self.next
    }

    /// When a poll that failed is tried again: after the pause, but no later than it is due anyway, since alerts are
    /// evaluated with each poll and have to be on time while polls fail, too.
    pub(super) fn retry_after(&mut self, now: Instant, pause: Duration) -> Instant {
        (now + pause).min(self.next_after(now))
    }
}

/// Full jitter: anything from nothing to a bound that doubles with each failure. `random` is from 0 to 1.
pub(super) fn backoff(failures: u32, random: f64) -> Duration {
    let doubled = FIRST_BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(MAX_BACKOFF).mul_f64(random)
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis_stream_core::clock::now;

    #[test]
    fn backoff_doubles_up_to_5_s_with_full_jitter() {
        let bounds: Vec<_> = (1..8).map(|failures| backoff(failures, 1.0).as_millis()).collect();
        assert_eq!(bounds, [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000]);
        assert_eq!(backoff(u32::MAX, 1.0), MAX_BACKOFF);
        assert_eq!(backoff(7, 0.0), Duration::ZERO);
    }

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
        // It took longer than the interval.
        assert_eq!(schedule.retry_after(tick + s(3), s(5)), tick + s(4));
    }
}
