//! The lag from the server's counters, where they can be trusted: free, and what keeps thousands of busy
//! groups affordable.
//!
//! entries-added minus entries-read is the lag only while entries-read is trusted_counters, which the server does not
//! tell: it drifts once a group was overtaken by a trim, and it belongs to a group's life, not to its name.
//! So it is trusted from one poll to the next only: where the group's lag was known exactly and the counters
//! agreed with it, and nothing has been removed above the position where the group stood then.

use std::time::Duration;

use crate::checkpoints::Checkpoints;
use crate::snapshot::{GroupInfo, StreamInfo};
use redis_stream_core::id::StreamId;

/// Where a group stood at the last poll, with counters that agreed with its exact lag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TrustedCounters {
    last_delivered: StreamId,
    entries_read: u64,
}

impl TrustedCounters {
    /// Whether the counters agree with an exact lag.
    pub(crate) fn check(info: &StreamInfo, group: &GroupInfo, lag: u64) -> Option<Self> {
        let entries_read = group.entries_read?;
        let is_sound = info.entries_added?.checked_sub(entries_read) == Some(lag);
        is_sound.then_some(Self { last_delivered: group.last_delivered, entries_read })
    }

    /// The lag of a group that has read on since, and when what it rests on was counted. `checkpoints` are as of
    /// `info`.
    pub(crate) fn lag(
        &self,
        info: &StreamInfo,
        group: &GroupInfo,
        checkpoints: &Checkpoints,
    ) -> Option<(u64, Duration)> {
        let entries_read = group.entries_read?;
        let has_read_on = group.last_delivered > self.last_delivered && entries_read > self.entries_read;
        // Strictly: an XDEL of the very entry where the group stood makes some servers give up their counter.
        let is_intact =
            info.max_deleted? < self.last_delivered && info.first.is_some_and(|id| id <= self.last_delivered);
        if !has_read_on || !is_intact {
            return None;
        }
        let checkpoint = checkpoints.at(self.last_delivered)?;
        let lag = info.entries_added?.checked_sub(entries_read)?;
        (1..info.length).contains(&lag).then_some((lag, checkpoint.counted_at))
    }
}
