//! A group at the time of a poll.

use std::time::Duration;

use redis_stream_lag::report::GroupReport;

/// The sampled values of a group. Numbers too large for 32 bits are the largest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampledValues {
    /// Certain minimum of the lag.
    pub lag_min: u32,
    /// Certain maximum of the lag; the same if it is exact.
    pub lag_max: u32,
    /// Entries delivered and not acknowledged.
    pub messages_pending: u32,
}

/// A group at the time of a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupSample {
    /// Since the Unix epoch.
    pub at: Duration,
    /// `None` if the group was not read.
    pub values: Option<SampledValues>,
}

impl SampledValues {
    /// Stands for a group that is missing, without the space that an `Option` takes.
    pub(super) const NONE: Self = Self { lag_min: 1, lag_max: 0, messages_pending: 0 };

    pub(super) fn of(group: &GroupReport) -> Self {
        let short = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        group.values.as_ref().map_or(Self::NONE, |values| Self {
            lag_min: short(values.lag.min()),
            lag_max: short(values.lag.max()),
            messages_pending: short(values.messages_pending),
        })
    }
}
