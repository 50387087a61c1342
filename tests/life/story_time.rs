//! The time of the story: an hour, played at another speed.

use std::ops::Range;
use std::time::Duration;

use redis_stream_core::clock::now;
use tokio::time::{Instant, sleep_until};

/// Maps minutes of the story to the real clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoryTime {
    start: Instant,
    /// Real seconds in a minute of the story.
    minute: f64,
}

/// A range of minutes of the story.
pub(crate) type Minutes = Range<f64>;

/// Minutes in the story.
pub(crate) const LENGTH: f64 = 60.0;

const SHORT: Duration = Duration::from_secs(150);

impl StoryTime {
    /// Reads the length from `STREAMGAUGE_LIFE` (`1h`); the default is 150 s.
    pub(crate) fn from_environment() -> Self {
        let given = std::env::var("STREAMGAUGE_LIFE").ok().filter(|text| !text.is_empty());
        let length = given.map_or(SHORT, |text| humantime::parse_duration(&text).expect("a duration"));
        Self { start: now(), minute: length.as_secs_f64() / LENGTH }
    }

    /// Returns this clock with its first minute now.
    pub(crate) fn restarted(self) -> Self {
        Self { start: now(), ..self }
    }

    /// Returns the real time that some minutes of the story take.
    pub(crate) fn real(self, minutes: f64) -> Duration {
        Duration::from_secs_f64(minutes * self.minute)
    }

    /// Returns the real time that a duration in the story takes.
    pub(crate) fn scaled(self, duration: Duration) -> Duration {
        self.real(duration.as_secs_f64() / 60.0)
    }

    /// Returns the minutes of the story in a real time.
    pub(crate) fn minutes(self, real: Duration) -> f64 {
        real.as_secs_f64() / self.minute
    }

    /// Returns the minute it is.
    pub(crate) fn minute(self) -> f64 {
        now().duration_since(self.start).as_secs_f64() / self.minute
    }

    pub(crate) fn is_before(self, minute: f64) -> bool {
        self.minute() < minute
    }

    pub(crate) async fn until(self, minute: f64) {
        sleep_until(self.start + self.real(minute)).await;
    }
}
