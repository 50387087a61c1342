//! Computes when entries are due. Pure: the time since the start is a parameter.

use std::f64::consts::TAU;
use std::time::Duration;

use crate::error::InvalidConfig;

/// Duration of a burst as a share of its period.
const BURST: f64 = 0.1;

/// The producer cannot keep its rate if an entry is due for longer.
const MAX_DELAY: Duration = Duration::from_secs(1);

/// Distribution of the entries over time. The average over a period is the rate, for each pattern.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pattern {
    /// A constant rate.
    #[default]
    Steady,
    /// Ten times the rate in the first tenth of each period, then nothing.
    Bursts {
        /// Time from the start of one burst to the next; not zero.
        period: Duration,
    },
    /// Rises from 0 to twice the rate and back in each period.
    Sine {
        /// Time from one minimum to the next; not zero.
        period: Duration,
    },
}

/// Number of entries due over time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RateSchedule {
    /// Entries per second; above 0.
    rate: f64,
    pattern: Pattern,
}

impl RateSchedule {
    /// Returns `None` for the rate 0, with which all entries are due at once.
    pub(crate) fn new(rate: f64, pattern: Pattern) -> Result<Option<Self>, InvalidConfig> {
        let wrong = |text: String| Err(InvalidConfig::new(text));
        if !rate.is_finite() || rate < 0.0 {
            return wrong(format!("rate {rate} is not a number of entries per second, expected 0 or more"));
        }
        if let Pattern::Bursts { period } | Pattern::Sine { period } = pattern {
            if period.is_zero() {
                return wrong("a period of 0s, expected a time that a pattern takes".to_owned());
            }
            if rate == 0.0 {
                return wrong("rate 0 has no pattern, expected a rate above 0 with it".to_owned());
            }
        }
        if rate == 0.0 {
            return Ok(None);
        }
        if Duration::try_from_secs_f64(rate.recip()).is_err() {
            return wrong(format!("rate {rate:?} is too small"));
        }
        Ok(Some(Self { rate, pattern }))
    }

    /// Returns how many entries are due in total after `elapsed`. The first is due at once.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "neither negative nor NaN, and no run lasts beyond the range of u64"
    )]
    fn due(&self, elapsed: Duration) -> u64 {
        (self.integral(elapsed) as u64).saturating_add(1)
    }

    /// Returns the integral of the rate, in entries. Whole periods are computed apart, so that no error accumulates over
    /// a long run.
    fn integral(&self, elapsed: Duration) -> f64 {
        let period = match self.pattern {
            Pattern::Steady => Duration::from_secs(1),
            Pattern::Bursts { period } | Pattern::Sine { period } => period,
        };
        let whole = elapsed.as_nanos() / period.as_nanos();
        let rest = elapsed.as_nanos() % period.as_nanos();
        let phase = rest as f64 / period.as_nanos() as f64;
        let share = match self.pattern {
            Pattern::Steady => phase,
            Pattern::Bursts { .. } => (phase / BURST).min(1.0),
            Pattern::Sine { .. } => (phase - (TAU * phase).sin() / TAU).clamp(0.0, 1.0),
        };
        let per_period = self.rate * period.as_secs_f64();
        whole as f64 * per_period + share * per_period
    }

    /// Returns the earliest time at which so many entries are due in total.
    fn time_of(&self, entries: u64) -> Duration {
        let is_due = |nanos: u64| self.due(Duration::from_nanos(nanos)) >= entries;
        if is_due(0) {
            return Duration::ZERO;
        }
        let mut late = 1_u64;
        while !is_due(late) {
            let Some(later) = late.checked_mul(2) else { return Duration::from_nanos(u64::MAX) };
            late = later;
        }
        let mut early = late / 2;
        while late - early > 1 {
            let middle = early + (late - early) / 2;
            if is_due(middle) {
                late = middle;
            } else {
                early = middle;
            }
        }
        Duration::from_nanos(late)
    }
}

/// Limits the producer to the entries that are due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RateLimiter {
    /// `None` for no limit.
    schedule: Option<RateSchedule>,
    /// Entries permitted or skipped so far.
    passed: u64,
}

impl RateLimiter {
    pub(crate) fn new(schedule: Option<RateSchedule>) -> Self {
        Self { schedule, passed: 0 }
    }

    /// Permits the entries that are due after `elapsed`, up to `max`, and returns their number.
    pub(crate) fn take(&mut self, elapsed: Duration, max: u64) -> u64 {
        let Some(schedule) = &self.schedule else { return max };
        let taken = schedule.due(elapsed).saturating_sub(self.passed).min(max);
        self.passed += taken;
        taken
    }

    /// Returns when the next entry is due, as the time since the start.
    pub(crate) fn next(&self) -> Duration {
        self.schedule.map_or(Duration::ZERO, |schedule| schedule.time_of(self.passed.saturating_add(1)))
    }

    /// Skips all entries that are due by now, since an outage is not made up for.
    pub(crate) fn skip(&mut self, elapsed: Duration) {
        if let Some(schedule) = &self.schedule {
            self.passed = self.passed.max(schedule.due(elapsed));
        }
    }

    /// Returns whether an entry is due for longer than [`MAX_DELAY`].
    pub(crate) fn is_behind(&self, elapsed: Duration) -> bool {
        let since = elapsed.checked_sub(MAX_DELAY);
        self.schedule.zip(since).is_some_and(|(schedule, since)| schedule.due(since) > self.passed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const BURSTS: Pattern = Pattern::Bursts { period: MINUTE };
    const SINE: Pattern = Pattern::Sine { period: MINUTE };

    fn schedule(rate: f64, pattern: Pattern) -> RateSchedule {
        RateSchedule::new(rate, pattern).unwrap().unwrap()
    }

    #[test]
    fn entries_due_by_pattern_and_time() {
        for (rate, pattern, due) in [
            (
                20.0,
                Pattern::Steady,
                [(0, 1), (49, 1), (50, 2), (1_000, 21), (60_000, 1_201), (3_600_000, 72_001)],
            ),
            (
                0.1,
                Pattern::Steady,
                [(0, 1), (9_999, 1), (10_000, 2), (60_000, 7), (600_000, 61), (601_000, 61)],
            ),
            (10.0, BURSTS, [(0, 1), (3_000, 301), (6_000, 601), (59_999, 601), (60_000, 601), (63_000, 901)]),
            (
                10.0,
                SINE,
                [(0, 1), (15_000, 55), (30_000, 301), (45_000, 546), (60_000, 601), (120_000, 1_201)],
            ),
        ] {
            for (ms, entries) in due {
                let elapsed = Duration::from_millis(ms);
                assert_eq!(schedule(rate, pattern).due(elapsed), entries, "{rate} {pattern:?} {ms} ms");
            }
        }
    }

    #[test]
    fn invalid_rates_and_periods_are_refused() {
        let nothing = Duration::ZERO;
        for (rate, pattern, text) in [
            (-1.0, Pattern::Steady, "rate -1 is not a number of entries per second, expected 0 or more"),
            (f64::NAN, Pattern::Steady, "rate NaN is not a number of entries per second, expected 0 or more"),
            (f64::INFINITY, SINE, "rate inf is not a number of entries per second, expected 0 or more"),
            (1e-300, Pattern::Steady, "rate 1e-300 is too small"),
            (0.0, BURSTS, "rate 0 has no pattern, expected a rate above 0 with it"),
            (
                1.0,
                Pattern::Bursts { period: nothing },
                "a period of 0s, expected a time that a pattern takes",
            ),
            (1.0, Pattern::Sine { period: nothing }, "a period of 0s, expected a time that a pattern takes"),
        ] {
            assert_eq!(RateSchedule::new(rate, pattern).unwrap_err().to_string(), text);
        }
        assert!(RateSchedule::new(0.0, Pattern::Steady).unwrap().is_none());
    }

    #[test]
    fn a_limiter_permits_due_entries_and_keeps_those_beyond_a_full_batch() {
        let mut limiter = RateLimiter::new(Some(schedule(10.0, Pattern::Steady)));
        let ms = Duration::from_millis;
        assert_eq!(limiter.take(ms(0), 500), 1);
        assert_eq!((limiter.take(ms(99), 500), limiter.next()), (0, ms(100)));
        assert_eq!(limiter.take(ms(1_000), 4), 4);
        assert_eq!(limiter.take(ms(1_000), 500), 6);
        assert_eq!(RateLimiter::new(None).take(ms(0), 500), 500);
    }

    #[test]
    fn entries_due_during_an_outage_are_skipped() {
        let mut limiter = RateLimiter::new(Some(schedule(10.0, Pattern::Steady)));
        let ms = Duration::from_millis;
        limiter.skip(ms(10_050));
        assert_eq!((limiter.take(ms(10_050), 500), limiter.next()), (0, ms(10_100)));
        assert!(!limiter.is_behind(ms(10_050)));
    }

    #[test]
    fn a_limiter_is_behind_once_an_entry_is_due_for_more_than_a_second() {
        let mut limiter = RateLimiter::new(Some(schedule(10.0, Pattern::Steady)));
        assert_eq!(limiter.take(Duration::ZERO, 500), 1);
        // The second entry is due at 100 ms.
        assert!(!limiter.is_behind(Duration::from_millis(1_099)));
        assert!(limiter.is_behind(Duration::from_millis(1_100)));
        assert!(!RateLimiter::new(None).is_behind(MINUTE));
    }

    fn patterns() -> impl Strategy<Value = Pattern> {
        (0..3_u8, 1_u64..600_000).prop_map(|(which, ms)| {
            let period = Duration::from_millis(ms);
            match which {
                0 => Pattern::Steady,
                1 => Pattern::Bursts { period },
                _ => Pattern::Sine { period },
            }
        })
    }

    fn period_of(pattern: Pattern) -> Duration {
        match pattern {
            Pattern::Steady => Duration::from_secs(1),
            Pattern::Bursts { period } | Pattern::Sine { period } => period,
        }
    }

    proptest! {
        #[test]
        fn each_period_has_the_rate_times_its_length(
            pattern in patterns(), rate in 0.01..100_000.0_f64, ms in 0_u64..10_000_000, periods in 1_u32..100
        ) {
            let (schedule, from) = (schedule(rate, pattern), Duration::from_millis(ms));
            let (before, after) = (schedule.due(from), schedule.due(from + period_of(pattern) * periods));
            let wanted = rate * period_of(pattern).as_secs_f64() * f64::from(periods);
            prop_assert!(((after - before) as f64 - wanted).abs() <= 1.0 + wanted * 1e-9);
        }

        #[test]
        fn entries_stay_within_one_period_of_the_steady_rate(
            pattern in patterns(), rate in 0.01..100_000.0_f64, ms in 0_u64..10_000_000
        ) {
            let elapsed = Duration::from_millis(ms);
            let due = schedule(rate, pattern).due(elapsed) as f64;
            let steady = rate * elapsed.as_secs_f64();
            let (behind, ahead) = match pattern {
                Pattern::Steady => (0.0, 0.0),
                Pattern::Bursts { period } => (0.0, (1.0 - BURST) * rate * period.as_secs_f64()),
                Pattern::Sine { period } => [rate * period.as_secs_f64() / TAU; 2].into(),
            };
            let error = steady * 1e-9;
            prop_assert!(due - steady >= -behind - error, "{} below {}", due, steady);
            prop_assert!(due - steady <= ahead + 1.0 + error, "{} above {}", due, steady);
        }

        #[test]
        fn waking_when_the_next_is_due_is_never_early_and_leaves_none_over(
            pattern in patterns(), rate in 0.01..100_000.0_f64, wakes in 1_usize..50
        ) {
            let schedule = schedule(rate, pattern);
            let mut limiter = RateLimiter::new(Some(schedule));
            let mut sent = limiter.take(Duration::ZERO, u64::MAX);
            for _ in 0..wakes {
                let next = limiter.next();
                prop_assert_eq!(limiter.take(next.saturating_sub(Duration::from_nanos(1)), u64::MAX), 0);
                let taken = limiter.take(next, u64::MAX);
                prop_assert!(taken > 0);
                sent += taken;
                prop_assert_eq!(sent, schedule.due(next));
                prop_assert!(!limiter.is_behind(next));
            }
        }
    }
}
