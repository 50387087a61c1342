//! The clocks, read at the edges only: what is decided by a time takes it as a parameter.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// The monotonic clock, which schedules and deadlines go by. Tests can pause it.
#[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// This machine's wall clock, as the time since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
#[must_use]
pub fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
