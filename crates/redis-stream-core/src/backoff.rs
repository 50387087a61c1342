//! Exponential backoff with full jitter. Randomness is a parameter, so that the delays are a pure function.

use std::time::Duration;

/// Delays between attempts: their upper bound doubles with each consecutive failure, from `first` to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    max: Duration,
}

impl Backoff {
    /// Creates a backoff that bounds the delay after the first failure by `first` and every delay by `max`.
    #[must_use]
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max }
    }

    /// Returns the same backoff with a lower `max`, for a caller that has less time left.
    #[must_use]
    pub const fn with_max(self, max: Duration) -> Self {
        Self { max, ..self }
    }

    /// Returns the upper bound of the delay after this number of consecutive failures.
    #[must_use]
    pub fn bound(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.max)
    }

    /// Returns the delay after this number of consecutive failures: its [bound](Self::bound) times `random`.
    ///
    /// With `random` uniformly distributed from 0 to 1 this is full jitter: clients that lost a server at the same time
    /// do not all reconnect at the same time.
    #[must_use]
    pub fn delay(self, failures: u32, random: f64) -> Duration {
        self.bound(failures).mul_f64(random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_up_to_the_maximum_and_the_delay_is_a_share_of_it() {
        let max = Duration::from_secs(5);
        let backoff = Backoff::new(Duration::from_millis(250), max);
        let bounds: Vec<_> = (0..8).map(|failures| backoff.bound(failures).as_millis()).collect();
        assert_eq!(bounds, [250, 250, 500, 1_000, 2_000, 4_000, 5_000, 5_000]);
        assert_eq!(backoff.bound(u32::MAX), max);
        assert_eq!(backoff.delay(7, 0.0), Duration::ZERO);
        assert_eq!(backoff.delay(2, 0.5), Duration::from_millis(250));
        assert_eq!(backoff.with_max(Duration::from_secs(1)).bound(7), Duration::from_secs(1));
    }
}
