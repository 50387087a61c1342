//! Detects that the wall clock was set, by comparing it with a monotonic clock.

use std::time::{Duration, Instant};

/// A larger difference means that the wall clock was set, not merely corrected.
const TOLERANCE: Duration = Duration::from_secs(1);

/// Converts instants to the time since the Unix epoch. Two instants that are an interval apart differ by exactly the
/// interval, however the wall clock is corrected in between.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    instant: Instant,
    unix_time: Duration,
}

/// A change of the wall clock that is not due to the passing of time. On Linux, the time in which the machine was
/// suspended is such a change too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockShift {
    /// It was set ahead by this.
    Forward(Duration),
    /// It was set back by this.
    Backward(Duration),
}

impl ClockShift {
    /// Returns the change between two readings at the same instant.
    #[must_use]
    pub fn between(before: Duration, after: Duration) -> Self {
        let by = after.abs_diff(before);
        if after < before { Self::Backward(by) } else { Self::Forward(by) }
    }

    /// Returns a time by the clock as it is set now, given by the clock as it was set before.
    #[must_use]
    pub fn apply(self, time: Duration) -> Duration {
        match self {
            Self::Forward(by) => time.saturating_add(by),
            Self::Backward(by) => time.saturating_sub(by),
        }
    }
}

impl WallClock {
    /// Creates a clock from a reading at `instant`.
    #[must_use]
    pub fn new(instant: Instant, unix_time: Duration) -> Self {
        Self {
            instant,
            unix_time: Duration::from_millis(u64::try_from(unix_time.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// Takes another reading. Returns the change if the wall clock was set since the last one.
    pub fn synchronize(&mut self, instant: Instant, unix_time: Duration) -> Option<ClockShift> {
        let expected = self.at(instant);
        if expected.abs_diff(unix_time) <= TOLERANCE {
            return None;
        }
        *self = Self::new(instant, unix_time);
        Some(ClockShift::between(expected, self.unix_time))
    }

    /// Returns the time at an instant, since the Unix epoch, in whole microseconds.
    #[must_use]
    pub fn at(&self, instant: Instant) -> Duration {
        let before = self.instant.saturating_duration_since(instant);
        whole_micros(self.unix_time.saturating_sub(before) + instant.saturating_duration_since(self.instant))
    }
}

/// Returns a time without parts of microseconds: alerts are kept with times of that precision, and are compared with the
/// present time.
#[must_use]
pub fn whole_micros(time: Duration) -> Duration {
    Duration::new(time.as_secs(), time.subsec_micros() * 1_000)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_whole_microseconds() {
        let now = Instant::now();
        let clock = WallClock::new(now, Duration::new(1_700_000_000, 1_999));
        for (later, micros) in [(0, 0), (1, 0), (999, 0), (1_001, 1), (9_999_999, 9_999)] {
            let at = clock.at(now + Duration::from_nanos(later));
            assert_eq!(at, Duration::new(1_700_000_000, micros * 1_000), "{later}");
        }
        assert_eq!(whole_micros(Duration::MAX).subsec_nanos(), 999_999_000);
    }

    #[test]
    fn times_are_as_far_apart_as_their_instants_unless_the_clock_is_set() {
        let (start, s, ms) = (Instant::now(), Duration::from_secs, Duration::from_millis);
        let mut clock = WallClock::new(start, s(1_000) + Duration::from_nanos(7));
        // Polls begin a little late, and the clock runs a little fast.
        for poll in 0..50_u32 {
            let due = start + poll * s(10);
            let unix_time = s(1_000) + poll * ms(10_010);
            assert_eq!(clock.synchronize(due + ms(3), unix_time + ms(3)), None);
            assert_eq!(clock.at(due), s(1_000) + poll * s(10));
        }
        let now = start + s(500);
        for (unix_time, shift) in [
            (s(90), Some(ClockShift::Backward(s(1_410)))),
            (s(91), None),
            (s(4_000), Some(ClockShift::Forward(s(3_910)))),
            (Duration::ZERO, Some(ClockShift::Backward(s(4_000)))),
        ] {
            let before = clock.at(now);
            assert_eq!(clock.synchronize(now, unix_time), shift, "{unix_time:?}");
            assert_eq!(clock.at(now), shift.map_or(before, |shift| shift.apply(before)));
        }
    }
}
