//! The lag from the server's counters, where they can be trusted. It needs no further command, which keeps thousands
//! of busy groups affordable.
//!
//! entries-added minus entries-read is the lag only if entries-read is correct, and the server does not report
//! whether it is. On 7.0 to 7.4 it drifts once a trim has overtaken the group, and a group that is deleted and created
//! under the same name counts from scratch. So the counters are trusted for one poll at a time, if the group's lag
//! was known exactly at the previous poll, the counters agreed with it then, and nothing was removed since above the
//! group's previous position. Where the server only counts deliveries, nothing at all must have been removed: a group
//! that was set back, overtaken by a trim and read on has drifted.

use std::time::Duration;

use crate::snapshot::{GroupInfo, StreamInfo};
use redis_stream_core::id::StreamId;

/// The position of a group at the previous poll, at which its counters agreed with its exact lag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TrustedCounters {
    last_delivered: StreamId,
    entries_read: u64,
    /// Time at which the lag that the counters agreed with was counted, by the node's clock.
    counted_at: Duration,
}

impl TrustedCounters {
    /// Returns the position to trust in the next poll, or `None` if the counters disagree with the exact lag `lag`.
    pub(crate) fn check(
        info: &StreamInfo,
        group: &GroupInfo,
        lag: u64,
        counted_at: Duration,
    ) -> Option<Self> {
        let entries_read = group.entries_read?;
        let agrees = info.entries_added?.checked_sub(entries_read) == Some(lag);
        agrees.then_some(Self { last_delivered: group.last_delivered, entries_read, counted_at })
    }

    /// Returns the lag of a group that has read on since, and the time at which its basis was counted. `info` must be a
    /// later reading of the same stream.
    pub(crate) fn lag(&self, info: &StreamInfo, group: &GroupInfo) -> Option<(u64, Duration)> {
        let entries_read = group.entries_read?;
        let has_read_on = group.last_delivered > self.last_delivered && entries_read > self.entries_read;
        if !has_read_on || !self.is_intact(info) {
            return None;
        }
        let lag = info.entries_added?.checked_sub(entries_read)?;
        // A group strictly between the first and the last entry has a lag in this range; anything else is an error.
        (1..info.length).contains(&lag).then_some((lag, self.counted_at))
    }

    /// Returns true if the group has not moved and its counters are still right: nothing above its position was removed.
    /// A group that was set back in between and then came to the same position has another entries-read, or none,
    /// unless as many entries are above it as there were.
    pub(crate) fn still_hold(&self, info: &StreamInfo, group: &GroupInfo) -> bool {
        (group.last_delivered, group.entries_read) == (self.last_delivered, Some(self.entries_read))
            && self.is_intact(info)
    }

    /// Returns true if entries at the position and above it were removed by XTRIM with ACKED at most.
    ///
    /// `<` rather than `<=`: after an XDEL of exactly the last delivered entry, some servers set entries-read to nil and
    /// others continue with an estimate.
    fn is_intact(&self, info: &StreamInfo) -> bool {
        info.max_deleted.is_some_and(|deleted| deleted < self.last_delivered)
            && info.first.is_some_and(|first| first <= self.last_delivered)
    }
}
