//! Counts entries that were removed from the stream before they were delivered to a group.
//!
//! Of all entries ever added, a group has read some and some are still ahead of it (its lag); the rest is missing:
//! missing = entries-added − entries-read − lag. This number is short-lived: once the group reads on, newer servers
//! correct entries-read by the missing entries, and the evidence is gone. So its increases from poll to poll are
//! added up.
//!
//! An increase may be spurious, because the three numbers come from two commands: an entry that is read, acknowledged
//! and deleted between the two looks the same as a lost one. So an increase counts only once one atomic command
//! (XINFO STREAM FULL) has confirmed it.

use crate::from_bounds;
use crate::snapshot::{GroupInfo, StreamInfo};
use redis_stream_core::id::StreamId;

/// The number of entries missing for a group in one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MissingEntries {
    last_delivered: StreamId,
    entries_read: Option<u64>,
    /// entries-added − entries-read − lag. An unknown entries-read counts as 0; the number is then meaningful only
    /// relative to another one at the same position. Signed, since XSETID and XGROUP can set counters to any value.
    entries: i128,
}

impl MissingEntries {
    /// Returns the entries missing for a group with the exact lag `lag`. `None` before server 7.0, and for a group
    /// whose position was set above the last ID: entries added below it are skipped on purpose, not lost.
    pub(crate) fn of(info: &StreamInfo, group: &GroupInfo, lag: u64) -> Option<Self> {
        if group.last_delivered > info.last_generated {
            return None;
        }
        // For a group that was created at 0 and never read, the server reports entries-read as nil rather than 0.
        let is_fresh = group.last_delivered == StreamId::MIN;
        let entries_read = group.entries_read.or(is_fresh.then_some(0));
        let added = i128::from(info.entries_added?);
        let entries = added - i128::from(lag) - i128::from(entries_read.unwrap_or(0));
        Some(Self { last_delivered: group.last_delivered, entries_read, entries })
    }

    /// Returns how many more entries are missing than in `before`; `None` if the two cannot be compared, because the
    /// group was created again or moved by XGROUP SETID in between.
    pub(crate) fn increase_since(&self, before: &Self) -> Option<u64> {
        let is_same_group = match (before.entries_read, self.entries_read) {
            // A group that moved without reading was moved by XGROUP SETID.
            (Some(read_before), Some(read)) => {
                let has_moved = self.last_delivered > before.last_delivered;
                self.last_delivered >= before.last_delivered
                    && if has_moved { read > read_before } else { read == read_before }
            }
            (None, None) => self.last_delivered == before.last_delivered,
            _ => false,
        };
        is_same_group.then(|| u64::try_from(self.entries - before.entries).unwrap_or(0))
    }
}

/// Returns the lag of a group in `full`, an atomic reading taken after `info`: from the stream's bounds, or from its
/// lag in `info` if the group did not move and nothing was removed in between.
pub(crate) fn lag_in(full: &StreamInfo, info: &StreamInfo, group: &GroupInfo, lag: u64) -> Option<u64> {
    let in_full = full.groups.iter().find(|other| other.name == group.name)?;
    if let Some(lag) = from_bounds::lag_from_bounds(full, in_full.last_delivered) {
        return Some(lag);
    }
    let grown = full.entries_added?.checked_sub(info.entries_added?)?;
    let is_clean = info.length.checked_add(grown) == Some(full.length);
    (is_clean && in_full.last_delivered == group.last_delivered).then(|| lag + grown)
}
