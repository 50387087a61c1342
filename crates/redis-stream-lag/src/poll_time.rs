//! The time of a poll in half the memory of a [`Duration`].

use std::num::NonZeroU64;
use std::time::Duration;

/// Time by the caller's clock, to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PollTime(NonZeroU64);

impl PollTime {
    pub(crate) fn of(time: Duration) -> Self {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self(NonZeroU64::MIN.saturating_add(ms))
    }

    pub(crate) fn get(self) -> Duration {
        Duration::from_millis(self.0.get() - 1)
    }
}
