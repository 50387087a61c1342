//! Exponential backoff with a bound. Randomness is a parameter, so that the delays are a pure function.

use std::time::Duration;

/// Delays between tries: the bound doubles with each failure in a row, from `first` to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    max: Duration,
}

impl Backoff {
    /// Bounds the delay after the first failure by `first`, and all delays by `max`.
    #[must_use]
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max }
    }

    /// Returns the same backoff with a lower `max`, for a caller that has less time left.
    #[must_use]
    pub const fn with_max(self, max: Duration) -> Self {
        Self { max, ..self }
    }

    /// Returns the longest delay after so many failures in a row.
    #[must_use]
    pub fn bound(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.max)
    }

    /// Returns the delay after so many failures in a row: the share `random` of its bound.
    ///
    /// A `random` drawn evenly from 0 to 1 is full jitter: clients that lost one server at the same moment do not all
    /// come back at the same moment.
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
