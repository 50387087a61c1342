//! The lag from the server's counters, where they can be trusted. It needs no further command, which keeps thousands
//! of busy groups affordable.
//!
//! entries-added minus entries-read is the lag only if entries-read is correct, and the server does not report
//! whether it is. On 7.0 to 7.4 it drifts once a trim has overtaken the group, and a group that is deleted and created
//! under the same name counts from scratch. So the counters are trusted for one poll at a time, if the group's lag
//! was known exactly at the previous poll, the counters agreed with it then, and nothing was removed since above the
//! group's previous position.

use std::time::Duration;

use crate::checkpoints::Checkpoints;
use crate::snapshot::{GroupInfo, StreamInfo};
use redis_stream_core::id::StreamId;

/// The position of a group at the previous poll, at which its counters agreed with its exact lag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TrustedCounters {
    last_delivered: StreamId,
    entries_read: u64,
}

impl TrustedCounters {
    /// Returns the position to trust in the next poll, or `None` if the counters disagree with the exact lag `lag`.
    pub(crate) fn check(info: &StreamInfo, group: &GroupInfo, lag: u64) -> Option<Self> {
        let entries_read = group.entries_read?;
        let agrees = info.entries_added?.checked_sub(entries_read) == Some(lag);
        agrees.then_some(Self { last_delivered: group.last_delivered, entries_read })
    }

    /// Returns the lag of a group that has read on since, and the time at which its basis was counted. `checkpoints`
    /// must be advanced to `info`.
    pub(crate) fn lag(
        &self,
        info: &StreamInfo,
        group: &GroupInfo,
        checkpoints: &Checkpoints,
    ) -> Option<(u64, Duration)> {
        let entries_read = group.entries_read?;
        let has_read_on = group.last_delivered > self.last_delivered && entries_read > self.entries_read;
        // `<` rather than `<=`: after an XDEL of exactly the last delivered entry, some servers set entries-read to nil
        // and others continue with an estimate.
        let is_intact =
            info.max_deleted? < self.last_delivered && info.first.is_some_and(|id| id <= self.last_delivered);
        if !has_read_on || !is_intact {
            return None;
        }
        // The checkpoint survived, which proves that the stream is the same and the previous lag still holds.
        let checkpoint = checkpoints.at(self.last_delivered)?;
        let lag = info.entries_added?.checked_sub(entries_read)?;
        // A group strictly between the first and the last entry has a lag in this range; anything else is an error.
        (1..info.length).contains(&lag).then_some((lag, checkpoint.counted_at))
    }
}
