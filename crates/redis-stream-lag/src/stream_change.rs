//! The bounds of a stream in one reading, and the change from one reading to the next.
//!
//! A count of entries stays valid only while no counted entry was removed. [`StreamBounds::change_to`] derives from
//! the counters of two readings how many entries were added and above which ID nothing was removed; what cannot be
//! proved is [`StreamChange::Unknown`], and counts are dropped.

use crate::compact::{CompactId, Count};
use crate::snapshot::{Epoch, StreamInfo};
use redis_stream_core::id::StreamId;

/// The bounds and counters of a stream in one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamBounds {
    epoch: Epoch,
    length: Count,
    first: Option<CompactId>,
    last_generated: StreamId,
    entries_added: Option<Count>,
    /// max-deleted-entry-id; before server 7.0, which has none, the last entry.
    max_deleted_or_last: Option<CompactId>,
}

impl StreamBounds {
    /// Returns the bounds of a stream that was read on the connection `epoch`.
    pub(crate) fn of(info: &StreamInfo, epoch: Epoch) -> Self {
        Self {
            epoch,
            length: Count::from(info.length),
            first: info.first.map(CompactId::from),
            last_generated: info.last_generated,
            entries_added: info.entries_added.map(Count::from),
            max_deleted_or_last: info
                .entries_added
                .map_or(info.last, |_| info.max_deleted)
                .map(CompactId::from),
        }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Returns the number of entries ever added; `None` before server 7.0.
    pub(crate) fn entries_added(&self) -> Option<u64> {
        self.entries_added.map(Count::get)
    }

    /// Returns the largest ID removed by XDEL; `None` before server 7.0.
    fn max_deleted(&self) -> Option<CompactId> {
        self.max_deleted_or_last.filter(|_| self.entries_added.is_some())
    }

    /// Returns the number of entries ever removed; 0 before server 7.0.
    pub(crate) fn removed(&self) -> u64 {
        self.entries_added.map_or(0, |added| added.get().saturating_sub(self.length.get()))
    }

    /// Returns true if `added` entries were added from `self` to `now`, and none was removed.
    fn has_only_grown_by(&self, added: u64, now: &Self) -> bool {
        self.length.get().checked_add(added) == Some(now.length.get())
    }

    /// Returns the change from `self` to `now`, a later reading.
    pub(crate) fn change_to(&self, now: &Self) -> StreamChange {
        if self.epoch != now.epoch || self.was_replaced_by(now) {
            return StreamChange::Unknown;
        }
        let (Some(added_before), Some(added), Some(max_deleted)) =
            (self.entries_added, now.entries_added, now.max_deleted())
        else {
            // Server 6.2 has neither counter. An equal number of additions and removals would leave the length as it
            // is, so only "nothing changed at all" can be proved.
            return if self == now {
                StreamChange::Grown { by: 0, intact_from: None }
            } else {
                StreamChange::Unknown
            };
        };
        let by = added.get() - added_before.get();
        let is_clean = self.has_only_grown_by(by, now);
        // Trimming removes from the front, up to `first`; XDEL removes nothing above max-deleted-entry-id. If the
        // stream is empty, everything was removed.
        let removed_up_to = now.first.map_or(StreamId::MAX, |first| first.max(max_deleted).get());
        StreamChange::Grown { by, intact_from: (!is_clean).then_some(removed_up_to) }
    }

    /// Returns true if `now` cannot have developed from `self`: the key holds another stream, or the server was
    /// restarted from an older file (which also starts another connection).
    pub(crate) fn was_replaced_by(&self, now: &Self) -> bool {
        let has_gone_back = now.last_generated < self.last_generated;
        if has_gone_back || (now.first.is_some() && now.first < self.first) {
            return true;
        }
        let (Some(added_before), Some(added)) = (self.entries_added, now.entries_added) else { return false };
        if added < added_before || now.max_deleted() < self.max_deleted() {
            return true;
        }
        // By the counters nothing was removed, and yet the first entry is another one.
        let is_clean = self.has_only_grown_by(added.get() - added_before.get(), now);
        is_clean && self.first.is_some() && self.first != now.first
    }

    /// Returns true if entries were certainly trimmed between `self` and `now`, a later reading of the same stream: the
    /// first entry is gone, and max-deleted-entry-id shows that XDEL did not remove it. Always false before server 7.0.
    pub(crate) fn was_trimmed_by(&self, now: &Self) -> bool {
        match (self.first, now.max_deleted()) {
            (Some(first), Some(max_deleted)) => now.first != Some(first) && first > max_deleted,
            _ => false,
        }
    }

    /// Returns true if entries were certainly trimmed at some time: some are gone, and XDEL never removed any.
    pub(crate) fn was_ever_trimmed(&self) -> bool {
        self.max_deleted() == Some(CompactId::from(StreamId::MIN))
            && self.entries_added.is_some_and(|added| added > self.length)
    }
}

/// The change of a stream between two readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamChange {
    /// The readings cannot be compared: other connection, other stream, or counters that prove nothing.
    Unknown,
    /// The same stream; entries were added and possibly removed.
    Grown {
        /// Number of entries added, all of them above the previous last-generated-id.
        by: u64,
        /// No entry above this ID was removed; `None` if no entry was removed at all.
        ///
        /// An unchanged max-deleted-entry-id is not enough to conclude that nothing was deleted: an XDEL below it does
        /// not change it. Only the growth of entries-added and length together proves that.
        intact_from: Option<StreamId>,
    },
}

impl StreamChange {
    /// Extends the range in which entries may have been removed, if any were, up to `id`.
    pub(crate) fn with_removed_up_to(self, id: StreamId) -> Self {
        match self {
            Self::Grown { by, intact_from } => {
                Self::Grown { by, intact_from: intact_from.map(|from| from.max(id)) }
            }
            Self::Unknown => self,
        }
    }

    /// Returns true if certainly no entry was removed.
    pub(crate) fn is_clean(&self) -> bool {
        matches!(self, Self::Grown { intact_from: None, .. })
    }

    /// Returns true if certainly no entry above `id` was removed.
    pub(crate) fn is_intact_above(&self, id: StreamId) -> bool {
        match self {
            Self::Unknown => false,
            Self::Grown { intact_from, .. } => intact_from.is_none_or(|from| from <= id),
        }
    }

    /// Returns true if certainly neither the entry `id` nor any entry above it was removed.
    pub(crate) fn is_intact_at(&self, id: StreamId, now: &StreamBounds) -> bool {
        match self {
            Self::Unknown => false,
            Self::Grown { intact_from, .. } => intact_from.is_none_or(|from| {
                from < id || now.first == Some(CompactId::from(id)) && now.max_deleted() < now.first
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> StreamId {
        StreamId::new(ms, 0)
    }

    /// Returns a stream with entries from `first` to `last`, of which `removed` in between are gone.
    fn bounds(first: u64, last: u64, removed: u64, added: u64, max_deleted: u64) -> StreamBounds {
        StreamBounds {
            epoch: Epoch(1),
            length: Count::from(last + 1 - first - removed),
            first: Some(CompactId::from(id(first))),
            last_generated: id(last),
            entries_added: Some(Count::from(added)),
            max_deleted_or_last: Some(CompactId::from(id(max_deleted))),
        }
    }

    fn grown(by: u64, intact_from: Option<u64>) -> StreamChange {
        StreamChange::Grown { by, intact_from: intact_from.map(id) }
    }

    #[test]
    fn a_change_counts_additions_and_bounds_removals() {
        let before = bounds(1, 10, 0, 10, 0);
        let empty = StreamBounds { first: None, length: Count::from(0), ..bounds(1, 12, 0, 12, 0) };
        for (now, expected, case) in [
            (before, grown(0, None), "nothing happened"),
            (bounds(1, 15, 0, 15, 0), grown(5, None), "five were added"),
            (bounds(4, 15, 0, 15, 0), grown(5, Some(4)), "five were added and three trimmed"),
            (bounds(1, 15, 1, 15, 7), grown(5, Some(7)), "five were added and one deleted"),
            (
                empty,
                StreamChange::Grown { by: 2, intact_from: Some(StreamId::MAX) },
                "everything was trimmed",
            ),
            (bounds(1, 9, 0, 10, 0), StreamChange::Unknown, "last-generated-id went back"),
            (bounds(1, 15, 0, 9, 0), StreamChange::Unknown, "entries-added went back"),
            (bounds(0, 15, 0, 16, 0), StreamChange::Unknown, "the first entry went back"),
            (bounds(11, 20, 0, 10, 0), StreamChange::Unknown, "a new stream that looks clean"),
            (StreamBounds { epoch: Epoch(2), ..before }, StreamChange::Unknown, "another connection"),
        ] {
            assert_eq!(before.change_to(&now), expected, "{case}");
        }
    }

    #[test]
    fn after_any_removal_entries_further_up_may_be_gone_too() {
        assert_eq!(grown(5, Some(4)).with_removed_up_to(id(9)), grown(5, Some(9)));
        assert_eq!(grown(5, Some(12)).with_removed_up_to(id(9)), grown(5, Some(12)));
        assert_eq!(grown(5, None).with_removed_up_to(id(9)), grown(5, None));
    }

    #[test]
    fn on_server_6_2_only_an_unchanged_stream_can_be_proved() {
        let read = |last, generated| {
            let info = StreamInfo::of_ids(9, Some(id(1)), Some(id(last)), id(generated));
            StreamBounds::of(&info, Epoch(1))
        };
        let before = read(9, 10);
        assert_eq!(before.change_to(&before), grown(0, None));
        for now in [read(11, 11), read(8, 10)] {
            assert_eq!(before.change_to(&now), StreamChange::Unknown);
        }
        assert!(!before.was_trimmed_by(&before) && !before.was_ever_trimmed());
    }

    #[test]
    fn trimming_is_distinguished_from_deleting() {
        let before = bounds(5, 10, 0, 10, 0);
        for (now, expected, case) in [
            (before, false, "nothing happened"),
            (bounds(8, 10, 0, 10, 0), true, "trimmed"),
            (bounds(8, 10, 0, 10, 7), false, "all missing entries may have been deleted"),
            (bounds(8, 12, 0, 12, 4), true, "XDEL removed none of the missing entries"),
            (StreamBounds { first: None, ..bounds(5, 10, 0, 10, 0) }, true, "everything was trimmed"),
        ] {
            assert_eq!(before.was_trimmed_by(&now), expected, "{case}");
        }
    }
}
