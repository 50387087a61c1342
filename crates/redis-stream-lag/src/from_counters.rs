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

use crate::compact::Micros;
use crate::snapshot::{GroupInfo, StreamInfo};
use redis_stream_core::id::StreamId;

/// The counter of a group at the previous poll, which agreed with its exact lag. The position that it had then is kept by
/// its history, and is passed as `position_before`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TrustedCounters {
    entries_read: u64,
    /// Time at which the lag that the counters agreed with was counted, by the node's clock.
    counted_at: Micros,
}

impl TrustedCounters {
    /// Returns the counter to trust in the next poll, or `None` if the counters disagree with the exact lag `lag`.
    pub(crate) fn check(
        info: &StreamInfo,
        group: &GroupInfo,
        lag: u64,
        counted_at: Duration,
    ) -> Option<Self> {
        let entries_read = group.entries_read?.get();
        let agrees = info.entries_added?.checked_sub(entries_read) == Some(lag);
        agrees.then_some(Self { entries_read, counted_at: Micros::from(counted_at) })
    }

    /// Returns the lag of a group that has read on since, and the time at which its basis was counted. `info` must be a
    /// later reading of the same stream.
    pub(crate) fn lag(
        &self,
        info: &StreamInfo,
        group: &GroupInfo,
        position_before: StreamId,
    ) -> Option<(u64, Duration)> {
        let entries_read = group.entries_read?.get();
        let has_read_on = group.last_delivered > position_before && entries_read > self.entries_read;
        if !has_read_on || !is_intact(info, position_before) {
            return None;
        }
        let lag = info.entries_added?.checked_sub(entries_read)?;
        // A group strictly between the first and the last entry has a lag in this range; anything else is an error.
        (1..info.length).contains(&lag).then_some((lag, self.counted_at.get()))
    }

    /// Returns true if the group has not moved and its counters are still right: nothing above its position was removed.
    /// A group that was set back in between and then came to the same position has another entries-read, or none,
    /// unless as many entries are above it as there were.
    pub(crate) fn still_hold(&self, info: &StreamInfo, group: &GroupInfo, position_before: StreamId) -> bool {
        (group.last_delivered, group.entries_read) == (position_before, Some(self.entries_read.into()))
            && is_intact(info, position_before)
    }
}

/// Returns true if entries at a position and above it were removed by XTRIM with ACKED at most.
///
/// `<` rather than `<=`: after an XDEL of exactly the last delivered entry, some servers set entries-read to nil and
/// others continue with an estimate.
fn is_intact(info: &StreamInfo, position: StreamId) -> bool {
    info.max_deleted.is_some_and(|deleted| deleted < position)
        && info.first.is_some_and(|first| first <= position)
}
