//! What a reading says of a stream's extent, and what happened to the stream from one reading to the next.

use crate::facts::{Epoch, StreamFacts};
use redis_stream_core::id::StreamId;

/// What a reading of a stream said of its extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    epoch: Epoch,
    length: u64,
    first: Option<StreamId>,
    last: Option<StreamId>,
    last_generated: StreamId,
    entries_added: Option<u64>,
    max_deleted: Option<StreamId>,
}

impl Extent {
    /// The extent of a stream as read on the connection `epoch`.
    #[must_use]
    pub fn of(facts: &StreamFacts, epoch: Epoch) -> Self {
        Self {
            epoch,
            length: facts.length,
            first: facts.first,
            last: facts.last,
            last_generated: facts.last_generated,
            entries_added: facts.entries_added,
            max_deleted: facts.max_deleted,
        }
    }

    /// The connection that it was read on.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What happened to the stream from `self` to `now`.
    #[must_use]
    pub fn until(&self, now: &Self) -> Change {
        if self.epoch != now.epoch || self.was_replaced_until(now) {
            return Change::Unknown;
        }
        let (Some(added_before), Some(added), Some(max_deleted)) =
            (self.entries_added, now.entries_added, now.max_deleted)
        else {
            // Server 6.2 tells neither what was added nor what was deleted: only stillness can be seen.
            return if self == now { Change::Grown { by: 0, intact_from: None } } else { Change::Unknown };
        };
        let by = added - added_before;
        let is_clean = self.length.checked_add(by) == Some(now.length);
        // In an empty stream nothing is left to be intact.
        let removed_up_to = now.first.map_or(StreamId::MAX, |first| first.max(max_deleted));
        Change::Grown { by, intact_from: (!is_clean).then_some(removed_up_to) }
    }

    /// Whether `now` shows another stream of that name, as it cannot have come to be from `self`; or the same one
    /// from an older file, which takes another connection.
    #[must_use]
    pub fn was_replaced_until(&self, now: &Self) -> bool {
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
    #[must_use]
    pub fn was_trimmed_until(&self, now: &Self) -> bool {
        match (self.first, now.max_deleted) {
            (Some(first), Some(max_deleted)) => now.first != Some(first) && first > max_deleted,
            _ => false,
        }
    }

    /// Whether entries were certainly trimmed away at some time: some are gone, and XDEL never removed any.
    #[must_use]
    pub fn was_ever_trimmed(&self) -> bool {
        self.max_deleted == Some(StreamId::MIN) && self.entries_added.is_some_and(|added| added > self.length)
    }
}

/// What happened to a stream between two readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
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

impl Change {
    /// The same, where entries up to `place` may have been removed besides: XTRIM with ACKED (server 8.2) removes
    /// what every group has acknowledged, in the midst of the stream, and moves no counter but the length.
    #[must_use]
    pub fn with_removed_up_to(self, place: Option<StreamId>) -> Self {
        match self {
            Self::Grown { by, intact_from } => Self::Grown {
                by,
                intact_from: intact_from.map(|from| place.map_or(from, |place| from.max(place))),
            },
            Self::Unknown => self,
        }
    }

    /// Whether certainly no entry above `id` was removed.
    #[must_use]
    pub fn is_intact_above(&self, id: StreamId) -> bool {
        match self {
            Self::Unknown => false,
            Self::Grown { intact_from, .. } => intact_from.is_none_or(|from| from <= id),
        }
    }

    /// Whether the entry `id` certainly was not removed, nor any above it.
    #[must_use]
    pub fn is_intact_at(&self, id: StreamId, now: &Extent) -> bool {
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
    fn extent(first: u64, last: u64, removed: u64, added: u64, max_deleted: u64) -> Extent {
        Extent {
            epoch: Epoch(1),
            length: last + 1 - first - removed,
            first: Some(id(first)),
            last: Some(id(last)),
            last_generated: id(last),
            entries_added: Some(added),
            max_deleted: Some(id(max_deleted)),
        }
    }

    fn grown(by: u64, intact_from: Option<u64>) -> Change {
        Change::Grown { by, intact_from: intact_from.map(id) }
    }

    #[test]
    fn what_was_added_and_from_where_on_nothing_was_removed() {
        let before = extent(1, 10, 0, 10, 0);
        let empty = Extent { first: None, last: None, length: 0, ..extent(1, 12, 0, 12, 0) };
        for (now, expected, case) in [
            (before, grown(0, None), "nothing happened"),
            (extent(1, 15, 0, 15, 0), grown(5, None), "five were added"),
            (extent(4, 15, 0, 15, 0), grown(5, Some(4)), "and three trimmed away"),
            (extent(1, 15, 1, 15, 7), grown(5, Some(7)), "and one deleted"),
            (empty, Change::Grown { by: 2, intact_from: Some(StreamId::MAX) }, "all was trimmed away"),
            (extent(1, 9, 0, 10, 0), Change::Unknown, "last-generated-id went back"),
            (extent(1, 15, 0, 9, 0), Change::Unknown, "entries-added went back"),
            (extent(0, 15, 0, 16, 0), Change::Unknown, "the first entry went back"),
            (extent(11, 20, 0, 10, 0), Change::Unknown, "a new stream that looks clean"),
            (Extent { epoch: Epoch(2), ..before }, Change::Unknown, "another connection"),
        ] {
            assert_eq!(before.until(&now), expected, "{case}");
        }
    }

    #[test]
    fn below_every_group_anything_may_have_been_removed_once_something_was() {
        let place = Some(id(9));
        assert_eq!(grown(5, Some(4)).with_removed_up_to(place), grown(5, Some(9)));
        assert_eq!(grown(5, Some(12)).with_removed_up_to(place), grown(5, Some(12)));
        assert_eq!(grown(5, None).with_removed_up_to(place), grown(5, None));
        assert_eq!(grown(5, Some(4)).with_removed_up_to(None), grown(5, Some(4)));
    }

    #[test]
    fn on_server_6_2_only_stillness_can_be_seen() {
        let before = Extent { entries_added: None, max_deleted: None, ..extent(1, 10, 0, 10, 0) };
        assert_eq!(before.until(&before), grown(0, None));
        let now = Extent { entries_added: None, max_deleted: None, ..extent(1, 11, 0, 11, 0) };
        assert_eq!(before.until(&now), Change::Unknown);
    }

    #[test]
    fn trimming_is_told_from_deleting() {
        let before = extent(5, 10, 0, 10, 0);
        assert!(before.was_ever_trimmed());
        assert!(!extent(1, 10, 0, 10, 0).was_ever_trimmed());
        assert!(!extent(5, 10, 0, 10, 4).was_ever_trimmed(), "all of it may have been deleted");
        for (now, expected, case) in [
            (before, false, "nothing happened"),
            (extent(8, 10, 0, 10, 0), true, "trimmed"),
            (extent(8, 10, 0, 10, 7), false, "deleted, perhaps all of them"),
            (extent(8, 12, 0, 12, 4), true, "XDEL removed none of those"),
            (Extent { first: None, ..extent(5, 10, 0, 10, 0) }, true, "all of it"),
        ] {
            assert_eq!(before.was_trimmed_until(&now), expected, "{case}");
        }
    }
}
