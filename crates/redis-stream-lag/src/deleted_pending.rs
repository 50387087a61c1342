//! Counts pending entries that were deleted from within the stream.
//!
//! Neither XDEL nor XACKDEL with KEEPREF removes an ID from the pending entries lists (PEL). XINFO shows where that cannot
//! have happened: nothing was deleted at or above the oldest pending entry. Elsewhere the pending IDs are listed and
//! looked up one by one, if they are few. The count is kept until the PEL, the group or the stream has changed.

use crate::question::PendingEntry;
use crate::snapshot::{GroupInfo, StreamInfo};
use redis_stream_core::id::StreamId;

/// Maximum number of pending IDs of a group that are looked up.
pub(crate) const MAX_LOOKED_UP: u32 = 250;
/// Maximum number of pending IDs that one poll looks up. Small in tests, so that polls run out of it.
pub(crate) const LOOK_UPS_PER_POLL: u32 = if cfg!(test) { 12 } else { 2_000 };

/// The number of pending entries of a group that were deleted from within the stream, while it is being found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum DeletedPending {
    #[default]
    Open,
    /// The pending IDs were asked for.
    Listing,
    LookingUp(Box<LookUp>),
    Known(u32),
    /// There are too many pending IDs, or a question was not answered.
    Unknown,
}

/// Pending IDs that are being looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LookUp {
    /// IDs that were not asked for yet.
    left: Vec<StreamId>,
    unanswered: u32,
    deleted: u32,
}

/// A count, and the state of the group and the stream that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CachedDeletedPending {
    basis: Basis,
    deleted: u32,
}

/// The state in which a count holds: the group was delivered nothing, nothing was acknowledged, and nothing was
/// removed from the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Basis {
    pending: u64,
    last_delivered: StreamId,
    oldest: StreamId,
    stream: StreamBasis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamBasis {
    Removed(u64),
    /// Before server 7.0, only an unchanged stream proves that nothing was removed.
    Unchanged {
        length: u64,
        last_generated: StreamId,
    },
}

impl Basis {
    fn of(info: &StreamInfo, group: &GroupInfo, oldest: &PendingEntry) -> Self {
        let removed = info.entries_added.and_then(|added| added.checked_sub(info.length));
        let unchanged = StreamBasis::Unchanged { length: info.length, last_generated: info.last_generated };
        Self {
            pending: group.pending,
            last_delivered: group.last_delivered,
            oldest: oldest.id,
            stream: removed.map_or(unchanged, StreamBasis::Removed),
        }
    }
}

/// Returns the range of IDs within the stream, both ends inclusive, in which pending entries may have been deleted; `None`
/// if none were.
pub(crate) fn range(info: &StreamInfo, oldest: &PendingEntry) -> Option<(StreamId, StreamId)> {
    let first = info.first?;
    if info.entries_added == Some(info.length) {
        return None;
    }
    let (from, until) = (first.max(oldest.id), info.max_deleted.unwrap_or(info.last_generated));
    (from <= until).then_some((from, until))
}

impl DeletedPending {
    /// Records the pending IDs of the range.
    pub(crate) fn note_listed(&mut self, ids: Vec<StreamId>, info: &StreamInfo) {
        if ids.len() > MAX_LOOKED_UP as usize {
            *self = Self::Unknown;
            return;
        }
        let left: Vec<_> =
            ids.into_iter().filter(|id| Some(*id) != info.first && Some(*id) != info.last).collect();
        *self = match left.is_empty() {
            true => Self::Known(0),
            false => Self::LookingUp(Box::new(LookUp { left, ..LookUp::default() })),
        };
    }

    /// Returns the next ID to look up.
    pub(crate) fn next_look_up(&mut self) -> Option<StreamId> {
        let Self::LookingUp(look_up) = self else { return None };
        let id = look_up.left.pop()?;
        look_up.unanswered += 1;
        Some(id)
    }

    /// Records that an ID was looked up.
    pub(crate) fn note_looked_up(&mut self, is_there: IsInStream) {
        let Self::LookingUp(look_up) = self else { return };
        look_up.unanswered -= 1;
        look_up.deleted += u32::from(is_there == IsInStream::No);
        if look_up.left.is_empty() && look_up.unanswered == 0 {
            *self = Self::Known(look_up.deleted);
        }
    }

    /// Returns the number of deleted entries; `None` if it is not known.
    pub(crate) fn known(&self) -> Option<u32> {
        match self {
            Self::Known(deleted) => Some(*deleted),
            _ => None,
        }
    }
}

/// The result of looking up one ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IsInStream {
    Yes,
    No,
}

impl CachedDeletedPending {
    pub(crate) fn new(info: &StreamInfo, group: &GroupInfo, oldest: &PendingEntry, deleted: u32) -> Self {
        Self { basis: Basis::of(info, group, oldest), deleted }
    }

    /// Returns the count, if nothing that it depends on has changed.
    pub(crate) fn current(&self, info: &StreamInfo, group: &GroupInfo, oldest: &PendingEntry) -> Option<u32> {
        (self.basis == Basis::of(info, group, oldest)).then_some(self.deleted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> StreamId {
        StreamId::new(ms, 0)
    }

    fn info(length: u64, first: u64, added: Option<u64>, max_deleted: Option<u64>) -> StreamInfo {
        let max_deleted = max_deleted.map(id);
        let info = StreamInfo::of_ids(length, Some(id(first)), Some(id(20)), id(20));
        StreamInfo { entries_added: added, max_deleted, ..info }
    }

    #[test]
    fn pending_ids_are_looked_up_only_where_entries_may_have_been_deleted() {
        for (info, oldest, expected, case) in [
            (info(20, 1, Some(20), Some(0)), 3, None, "nothing was removed"),
            (info(10, 11, Some(20), Some(0)), 3, None, "trimmed only"),
            (info(10, 9, Some(20), Some(5)), 3, None, "deleted below the first entry"),
            (info(10, 1, Some(20), Some(5)), 6, None, "deleted below the oldest pending entry"),
            (info(10, 1, Some(20), Some(8)), 6, Some((6, 8)), "deleted above it"),
            (info(10, 7, Some(20), Some(8)), 3, Some((7, 8)), "trimmed and deleted"),
            (info(10, 7, None, None), 3, Some((7, 20)), "server 6.2"),
        ] {
            let oldest = PendingEntry { id: id(oldest), idle_ms: None, deliveries: 1 };
            let expected = expected.map(|(from, until)| (id(from), id(until)));
            assert_eq!(range(&info, &oldest), expected, "{case}");
        }
    }

    #[test]
    fn a_count_is_known_once_every_id_was_looked_up() {
        let mut deleted = DeletedPending::Listing;
        deleted.note_listed(vec![id(1), id(2), id(3), id(20)], &info(10, 1, None, None));
        assert_eq!((deleted.next_look_up(), deleted.next_look_up()), (Some(id(3)), Some(id(2))));
        assert_eq!(deleted.next_look_up(), None, "the first and the last entry are there");
        deleted.note_looked_up(IsInStream::No);
        assert_eq!(deleted.known(), None);
        deleted.note_looked_up(IsInStream::Yes);
        assert_eq!(deleted.known(), Some(1));
        deleted.note_listed(vec![id(5); MAX_LOOKED_UP as usize + 1], &info(10, 1, None, None));
        assert_eq!(deleted, DeletedPending::Unknown);
    }
}
