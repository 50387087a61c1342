//! A time in half the memory of a [`Duration`], and an optional one as well.

use std::num::NonZeroU64;
use std::time::Duration;

/// Time by the clock of the caller or of a node, to the microsecond, which is how exact a node's clock is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PollTime(
    /// Microseconds, and one more.
    NonZeroU64,
);

impl PollTime {
    /// Returns the time. Beyond 500,000 years it is the latest one.
    pub(crate) fn of(time: Duration) -> Self {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Self(NonZeroU64::MIN.saturating_add(micros))
    }

    pub(crate) fn get(self) -> Duration {
        Duration::from_micros(self.0.get() - 1)
    }

    /// Returns the time from here to `now`; zero if that is earlier.
    pub(crate) fn until(self, now: Duration) -> Duration {
        now.saturating_sub(self.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_exact_to_the_microsecond_and_end_at_the_latest() {
        let latest = Duration::from_micros(u64::MAX - 1);
        for (time, kept) in [
            (Duration::ZERO, Duration::ZERO),
            (Duration::from_nanos(1_999), Duration::from_micros(1)),
            (Duration::from_micros(1_700_000_000_123_456), Duration::from_micros(1_700_000_000_123_456)),
            (latest, latest),
            (Duration::from_micros(u64::MAX), latest),
            (Duration::MAX, latest),
        ] {
            assert_eq!(PollTime::of(time).get(), kept, "{time:?}");
        }
        assert_eq!(size_of::<Option<PollTime>>(), 8);
        let (time, second) = (PollTime::of(Duration::from_secs(5)), Duration::from_secs(1));
        assert_eq!((time.until(second * 7), time.until(second)), (second * 2, Duration::ZERO));
    }
}
