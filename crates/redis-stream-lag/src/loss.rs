//! Entries that were removed from the stream before a group got them.
//!
//! Of all entries ever added, a group has read some, some are ahead of it, and the rest is gone: added − read
//! − lag. That is a gauge, and a passing one: once the group reads on, newer servers mend their counter and
//! the evidence is gone. So its rises are added up. A increase may also be an illusion, as the three numbers come
//! from two commands: an entry read, acknowledged and deleted between them looks the same. So each increase is
//! confirmed by one atomic command before it counts, and what cannot be confirmed does not count.

use crate::from_bounds;
use crate::snapshot::{GroupInfo, StreamInfo};
use redis_stream_core::id::StreamId;

/// What was gone ahead of a group at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MissingEntries {
    last_delivered: StreamId,
    entries_read: Option<u64>,
    /// added − read − lag; with an unknown read left out, it says something only beside another one at the
    /// same position. Signed: counters can be set to anything.
    entries: i128,
}

impl MissingEntries {
    /// What is gone ahead of a group with an exact lag. `None` before server 7.0, and for a group that stands
    /// beyond the last ID: what is added below it was never to be delivered.
    pub(crate) fn of(info: &StreamInfo, group: &GroupInfo, lag: u64) -> Option<Self> {
        if group.last_delivered > info.last_generated {
            return None;
        }
        // A group that was created at 0 and never read has read nothing, though the server does not say so.
        let is_fresh = group.last_delivered == StreamId::MIN;
        let entries_read = group.entries_read.or(is_fresh.then_some(0));
        let added = i128::from(info.entries_added?);
        let entries = added - i128::from(lag) - i128::from(entries_read.unwrap_or(0));
        Some(Self { last_delivered: group.last_delivered, entries_read, entries })
    }

    /// How many entries more are gone than `before`; `None` where the two cannot be compared.
    pub(crate) fn increase_since(&self, before: &Self) -> Option<u64> {
        let is_same_life = match (before.entries_read, self.entries_read) {
            // A group that moved and read nothing was moved by hand.
            (Some(read_before), Some(read)) => {
                let has_moved = self.last_delivered > before.last_delivered;
                self.last_delivered >= before.last_delivered
                    && if has_moved { read > read_before } else { read == read_before }
            }
            (None, None) => self.last_delivered == before.last_delivered,
            _ => false,
        };
        is_same_life.then(|| u64::try_from(self.entries - before.entries).unwrap_or(0))
    }
}

/// The lag of a group in an atomic reading `whole`, taken after `info`: by rules, or from the lag that it
/// had in `info` if it did not move and nothing was removed in between.
pub(crate) fn lag_in(whole: &StreamInfo, info: &StreamInfo, group: &GroupInfo, lag: u64) -> Option<u64> {
    let in_whole = whole.groups.iter().find(|other| other.name == group.name)?;
    if let Some(lag) = from_bounds::lag_from_bounds(whole, in_whole.last_delivered) {
        return Some(lag);
    }
    let grown = whole.entries_added?.checked_sub(info.entries_added?)?;
    let is_clean = info.length.checked_add(grown) == Some(whole.length);
    (is_clean && in_whole.last_delivered == group.last_delivered).then(|| lag + grown)
}
