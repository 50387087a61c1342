//! Estimates a server's clock between readings, with a local monotonic clock.

use std::time::{Duration, Instant};

/// A reading of a server's clock (`TIME`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerClock {
    time: Duration,
    read_at: Instant,
}

impl ServerClock {
    /// Creates a clock from a reply to `TIME`, in seconds and microseconds since the Unix epoch, that arrived at
    /// `read_at`.
    #[must_use]
    pub fn new(seconds: u64, micros: u64, read_at: Instant) -> Self {
        let time = Duration::from_secs(seconds).saturating_add(Duration::from_micros(micros));
        Self { time, read_at }
    }

    /// Returns the server's time at `now`, since the Unix epoch.
    #[must_use]
    pub fn time_at(&self, now: Instant) -> Duration {
        self.time.saturating_add(now.saturating_duration_since(self.read_at))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::*;

    #[test]
    fn the_clock_advances_from_its_reading() {
        let at = Instant::now();
        let clock = ServerClock::new(1_700_000_000, 250_000, at);
        assert_eq!(clock.time_at(at + Duration::from_millis(750)), Duration::from_secs(1_700_000_001));
    }
}
