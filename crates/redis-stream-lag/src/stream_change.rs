//! What a reading says of a stream's bounds, and what happened to the stream from one reading to the next.

use crate::snapshot::{Epoch, StreamInfo};
use redis_stream_core::id::StreamId;

/// What a reading of a stream said of its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamBounds {
    epoch: Epoch,
    length: u64,
    first: Option<StreamId>,
    last: Option<StreamId>,
    last_generated: StreamId,
    entries_added: Option<u64>,
    max_deleted: Option<StreamId>,
}

impl StreamBounds {
    /// The bounds of a stream as read on the connection `epoch`.
    pub(crate) fn of(info: &StreamInfo, epoch: Epoch) -> Self {
        Self {
            epoch,
            length: info.length,
            first: info.first,
            last: info.last,
            last_generated: info.last_generated,
            entries_added: info.entries_added,
            max_deleted: info.max_deleted,
        }
    }

    /// The connection that it was read on.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What happened to the stream from `self` to `now`.
    pub(crate) fn change_to(&self, now: &Self) -> StreamChange {
        if self.epoch != now.epoch || self.was_replaced_by(now) {
            return StreamChange::Unknown;
        }
        let (Some(added_before), Some(added), Some(max_deleted)) =
            (self.entries_added, now.entries_added, now.max_deleted)
        else {
            // Server 6.2 tells neither what was added nor what was deleted: only stillness can be seen.
            return if self == now {
                StreamChange::Grown { by: 0, intact_from: None }
            } else {
                StreamChange::Unknown
            };
        };
        let by = added - added_before;
        let is_clean = self.length.checked_add(by) == Some(now.length);
        // In an empty stream nothing is left to be intact.
        let removed_up_to = now.first.map_or(StreamId::MAX, |first| first.max(max_deleted));
        StreamChange::Grown { by, intact_from: (!is_clean).then_some(removed_up_to) }
    }

    /// Whether `now` shows another stream of that name, as it cannot have come to be from `self`; or the same one
    /// from an older file, which takes another connection.
    pub(crate) fn was_replaced_by(&self, now: &Self) -> bool {
        let has_gone_back = now.last_generated < self.last_generated;
        if has_gone_back || (now.first.is_some() && now.first < self.first) {
            return true;
        }
        let (Some(added_before), Some(added)) = (self.entries_added, now.entries_added) else { return false };
        if added < added_before || now.max_deleted < self.max_deleted {
            return true;
        }
        // Nothing can have been removed, and yet the first entry is another.
        let is_clean = self.length.checked_add(added - added_before) == Some(now.length);
        is_clean && self.first.is_some() && self.first != now.first
    }

    /// Whether entries were certainly trimmed away from `self` to `now`, a later reading of the same stream:
    /// the first entry is gone, and XDEL would have left a trace of it. Never seen before server 7.0.
    pub(crate) fn was_trimmed_by(&self, now: &Self) -> bool {
        match (self.first, now.max_deleted) {
            (Some(first), Some(max_deleted)) => now.first != Some(first) && first > max_deleted,
            _ => false,
        }
    }

    /// Whether entries were certainly trimmed away at some time: some are gone, and XDEL never removed any.
    pub(crate) fn was_ever_trimmed(&self) -> bool {
        self.max_deleted == Some(StreamId::MIN) && self.entries_added.is_some_and(|added| added > self.length)
    }
}

/// What happened to a stream between two readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamChange {
    /// Nothing can be said: another connection, or another stream of the same name.
    Unknown,
    /// Entries were added, and perhaps some removed.
    Grown {
        /// How many were added, all of them above the old last-generated-id.
        by: u64,
        /// Nothing was removed above this ID; `None` if nothing was removed at all.
        ///
        /// That max-deleted-entry-id did not move proves nothing: an XDEL below it leaves it as it is.
        intact_from: Option<StreamId>,
    },
}

impl StreamChange {
    /// The same, where entries up to `position` may have been removed besides: XTRIM with ACKED (server 8.2) removes
    /// what every group has acknowledged, in the midst of the stream, and moves no counter but the length.
    pub(crate) fn with_removed_up_to(self, position: Option<StreamId>) -> Self {
        match self {
            Self::Grown { by, intact_from } => Self::Grown {
                by,
                intact_from: intact_from.map(|from| position.map_or(from, |position| from.max(position))),
            },
            Self::Unknown => self,
        }
    }

    /// Whether certainly no entry above `id` was removed.
    pub(crate) fn is_intact_above(&self, id: StreamId) -> bool {
        match self {
            Self::Unknown => false,
            Self::Grown { intact_from, .. } => intact_from.is_none_or(|from| from <= id),
        }
    }

    /// Whether the entry `id` certainly was not removed, nor any above it.
    pub(crate) fn is_intact_at(&self, id: StreamId, now: &StreamBounds) -> bool {
        match self {
            Self::Unknown => false,
            Self::Grown { intact_from: None, .. } => true,
            Self::Grown { .. } => now.first.is_some_and(|first| first <= id) && now.max_deleted < Some(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> StreamId {
        StreamId::new(ms, 0)
    }

    /// A stream with entries from `first` to `last`, of which `removed` between are gone.
    fn bounds(first: u64, last: u64, removed: u64, added: u64, max_deleted: u64) -> StreamBounds {
        StreamBounds {
            epoch: Epoch(1),
            length: last + 1 - first - removed,
            first: Some(id(first)),
            last: Some(id(last)),
            last_generated: id(last),
            entries_added: Some(added),
            max_deleted: Some(id(max_deleted)),
        }
    }

    fn grown(by: u64, intact_from: Option<u64>) -> StreamChange {
        StreamChange::Grown { by, intact_from: intact_from.map(id) }
    }

    #[test]
    fn what_was_added_and_from_where_on_nothing_was_removed() {
        let before = bounds(1, 10, 0, 10, 0);
        let empty = StreamBounds { first: None, last: None, length: 0, ..bounds(1, 12, 0, 12, 0) };
        for (now, expected, case) in [
            (before, grown(0, None), "nothing happened"),
            (bounds(1, 15, 0, 15, 0), grown(5, None), "five were added"),
            (bounds(4, 15, 0, 15, 0), grown(5, Some(4)), "and three trimmed away"),
            (bounds(1, 15, 1, 15, 7), grown(5, Some(7)), "and one deleted"),
            (empty, StreamChange::Grown { by: 2, intact_from: Some(StreamId::MAX) }, "all was trimmed away"),
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
    fn below_every_group_anything_may_have_been_removed_once_something_was() {
        let position = Some(id(9));
        assert_eq!(grown(5, Some(4)).with_removed_up_to(position), grown(5, Some(9)));
        assert_eq!(grown(5, Some(12)).with_removed_up_to(position), grown(5, Some(12)));
        assert_eq!(grown(5, None).with_removed_up_to(position), grown(5, None));
        assert_eq!(grown(5, Some(4)).with_removed_up_to(None), grown(5, Some(4)));
    }

    #[test]
    fn on_server_6_2_only_stillness_can_be_seen() {
        let before = StreamBounds { entries_added: None, max_deleted: None, ..bounds(1, 10, 0, 10, 0) };
        assert_eq!(before.change_to(&before), grown(0, None));
        let now = StreamBounds { entries_added: None, max_deleted: None, ..bounds(1, 11, 0, 11, 0) };
        assert_eq!(before.change_to(&now), StreamChange::Unknown);
    }

    #[test]
    fn trimming_is_told_from_deleting() {
        let before = bounds(5, 10, 0, 10, 0);
        assert!(before.was_ever_trimmed());
        assert!(!bounds(1, 10, 0, 10, 0).was_ever_trimmed());
        assert!(!bounds(5, 10, 0, 10, 4).was_ever_trimmed(), "all of it may have been deleted");
        for (now, expected, case) in [
            (before, false, "nothing happened"),
            (bounds(8, 10, 0, 10, 0), true, "trimmed"),
            (bounds(8, 10, 0, 10, 7), false, "deleted, perhaps all of them"),
            (bounds(8, 12, 0, 12, 4), true, "XDEL removed none of those"),
            (StreamBounds { first: None, ..bounds(5, 10, 0, 10, 0) }, true, "all of it"),
        ] {
            assert_eq!(before.was_trimmed_by(&now), expected, "{case}");
        }
    }
}
