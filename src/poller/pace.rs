//! The pace of a target's polls: how much of a poll's time its reading may take, and how long a poll of all streams would
//! take where the time is too short.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Poll;
use crate::format::units;

/// Part of the time that a poll leaves for the questions, and for deriving its report, before any was seen.
const FIRST_REST: f64 = 0.25;
/// Bounds of that part, once one was seen.
const RESTS: std::ops::RangeInclusive<f64> = 0.1..=0.8;
/// The part grows by this factor while questions are answered too late.
const REST_GROWTH: f64 = 1.5;
/// A poll reaches its deadline in good time if what follows the reading takes this much longer than last time.
const REST_MARGIN: f64 = 1.5;
/// The part of an interval that `poll.timeout` is by default, inverted.
const INTERVAL_PER_TIMEOUT: f64 = 1.25;

/// The durations of the last poll.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Part of the time of a poll that follows its reading.
    rest: f64,
    /// Duration of that part; `None` if it was cut off, and before the first poll.
    rest_time: Option<Duration>,
}

/// The rest of a poll, after its reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    Done,
    /// Questions were answered too late.
    CutOff,
}

impl Default for Pace {
    fn default() -> Self {
        Self { rest: FIRST_REST, rest_time: None }
    }
}

impl Pace {
    /// Returns the deadline of the reading of a poll, which begins now and has a deadline itself.
    pub(super) fn reading_deadline(&self, began: Instant, deadline: Instant) -> Instant {
        let rest = deadline.saturating_duration_since(began).mul_f64(self.rest);
        let usual = self.rest_time.map_or(Duration::MAX, |time| time.mul_f64(REST_MARGIN));
        deadline - rest.min(usual)
    }

    /// Notes how long the reading of a poll took, and what followed.
    pub(super) fn note(&mut self, reading: Duration, rest_time: Duration, rest: Rest) {
        let part = match rest {
            Rest::Done => {
                rest_time.as_secs_f64() / (reading + rest_time).as_secs_f64().max(f64::MIN_POSITIVE)
            }
            Rest::CutOff => self.rest.max(FIRST_REST) * REST_GROWTH,
        };
        self.rest = part.clamp(*RESTS.start(), *RESTS.end());
        self.rest_time = (rest == Rest::Done).then_some(rest_time);
    }
}

/// The time that a poll of all streams would take, after one that could not read them all in its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FullTurn {
    pub(super) streams: usize,
    pub(super) takes: Duration,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
}

impl FullTurn {
    pub(super) fn new(streams: usize, takes: Duration, poll: &Poll) -> Self {
        Self { streams, takes, interval: poll.interval, timeout: poll.timeout }
    }

    /// Returns the interval that leaves time for a poll of all streams.
    pub fn fitting_interval(&self) -> Duration {
        rounded_up(self.takes.mul_f64(INTERVAL_PER_TIMEOUT)).max(self.interval)
    }
}

impl fmt::Display for FullTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { streams, takes, interval, timeout } = *self;
        let show = humantime::format_duration;
        let (fitting, fitting_timeout) = (self.fitting_interval(), rounded_up(takes));
        let streams = units::count(streams as u64);
        write!(f, "a turn over all {streams} streams takes {}: ", show(fitting_timeout))?;
        if fitting == interval {
            return write!(
                f,
                "poll.timeout {} is too short; {} would fit",
                show(timeout),
                show(fitting_timeout.max(timeout))
            );
        }
        if timeout.mul_f64(INTERVAL_PER_TIMEOUT) == interval {
            return write!(f, "poll.interval {} is too short; {} would fit", show(interval), show(fitting));
        }
        write!(
            f,
            "poll.interval {} and poll.timeout {} are too short; {} and {} would fit",
            show(interval),
            show(timeout),
            show(fitting),
            show(fitting_timeout)
        )
    }
}

/// Rounds up to seconds, and below a second to tenths of it.
fn rounded_up(time: Duration) -> Duration {
    let step = if time < Duration::from_secs(1) { 100 } else { 1_000 };
    let steps = time.as_millis().div_ceil(step).max(1);
    Duration::from_millis(u64::try_from(steps * step).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis_stream_core::clock::now;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[tokio::test(start_paused = true)]
    async fn the_reading_leaves_time_for_what_follows_it() {
        let (began, deadline) = (now(), now() + ms(4_000));
        let reading_time = |pace: &Pace| pace.reading_deadline(began, deadline) - began;
        let mut pace = Pace::default();
        assert_eq!(reading_time(&pace), ms(3_000));
        // What followed was cut off: more time, until it is not.
        pace.note(ms(3_000), ms(1_000), Rest::CutOff);
        assert_eq!(reading_time(&pace), ms(2_500));
        pace.note(ms(2_500), ms(2_500), Rest::Done);
        assert_eq!(reading_time(&pace), ms(2_000));
        // A quick target may be slow for once.
        pace.note(ms(4), ms(8), Rest::Done);
        assert_eq!(reading_time(&pace), ms(3_988));
        (0..9).for_each(|_| pace.note(ms(4), ms(8), Rest::CutOff));
        assert_eq!(reading_time(&pace), ms(800));
    }

    #[test]
    fn the_figures_that_would_fit_are_those_of_the_keys_that_are_too_short() {
        let text = |takes, interval, timeout| {
            let turn =
                FullTurn { streams: 100_000, takes: ms(takes), interval: ms(interval), timeout: ms(timeout) };
            turn.to_string()
        };
        let turn = "a turn over all 100,000 streams takes";
        for (takes, interval, timeout, expected) in [
            (11_200, 5_000, 4_000, "12s: poll.interval 5s is too short; 14s would fit"),
            (70_000, 10_000, 8_000, "1m 10s: poll.interval 10s is too short; 1m 28s would fit"),
            (310, 100, 80, "400ms: poll.interval 100ms is too short; 400ms would fit"),
            (3_000, 10_000, 1_000, "3s: poll.timeout 1s is too short; 3s would fit"),
            (
                12_000,
                5_000,
                4_900,
                "12s: poll.interval 5s and poll.timeout 4s 900ms are too short; 15s and 12s would fit",
            ),
        ] {
            assert_eq!(text(takes, interval, timeout), format!("{turn} {expected}"));
        }
    }
}
