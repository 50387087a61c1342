//! The clocks. Only code at the edge reads them; everything else takes a time as a parameter, so that tests control it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::wall_clock::whole_micros;

/// Returns the monotonic clock, for schedules and deadlines. Tests can pause it with Tokio's test utilities.
#[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// Returns this machine's wall clock in whole microseconds, as the time since the Unix epoch; zero if it is set before
/// that.
#[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
#[must_use]
pub fn unix_time() -> Duration {
    whole_micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
