//! Marks: places in a stream from which the entries to its end are counted.
//!
//! Memory belongs to the stream, not to a group: any group may use any mark. A mark says "so many entries
//! have an ID above this one", as of one reading of the stream; the next reading either carries it or drops
//! it, so a mark is never older than the stream it is used with.

use crate::snapshot::facts::{Epoch, StreamFacts};
use crate::snapshot::id::StreamId;

/// Most marks that are kept beside those where a group stands.
const MAX_SPARE_MARKS: usize = 64;

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

    /// What happened to the stream from `self` to `now`.
    #[must_use]
    pub fn until(&self, now: &Self) -> Change {
        if self.epoch != now.epoch || now.length == 0 || now.last_generated < self.last_generated {
            return Change::Unknown;
        }
        if self.first.is_some() && now.first < self.first {
            return Change::Unknown;
        }
        let (Some(added_before), Some(added), Some(max_deleted_before), Some(max_deleted)) =
            (self.entries_added, now.entries_added, self.max_deleted, now.max_deleted)
        else {
            // Server 6.2 tells neither what was added nor what was deleted: only stillness can be seen.
            return if self == now { Change::Grown { by: 0, intact_from: None } } else { Change::Unknown };
        };
        if added < added_before || max_deleted < max_deleted_before {
            return Change::Unknown;
        }
        let by = added - added_before;
        let clean = self.length.checked_add(by) == Some(now.length);
        if clean && self.first.is_some() && self.first != now.first {
            // Nothing can have been removed, and yet the first entry is another: a new stream of that name.
            return Change::Unknown;
        }
        let intact_from = if clean { None } else { now.first.max(Some(max_deleted)) };
        Change::Grown { by, intact_from }
    }
}

/// What happened to a stream between two readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing can be said: another connection, another stream of the same name, or an empty one.
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
            Self::Grown { .. } => now.first <= Some(id) && now.max_deleted < Some(id),
        }
    }
}

/// The marks of one stream, all as of the same reading, in the order of their IDs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks(Vec<(StreamId, u64)>);

impl Marks {
    /// Brings the marks over a change of the stream; those that cannot be carried are dropped.
    pub fn carry(&mut self, change: &Change) {
        let Change::Grown { by, .. } = *change else { return self.0.clear() };
        self.0.retain_mut(|(id, ahead)| {
            *ahead += by;
            change.is_intact_above(*id)
        });
    }

    /// Notes that `ahead` entries have an ID above `id`. `id` must not be above last-generated-id: what is
    /// added later at or below `id` would never be above it.
    pub fn put(&mut self, id: StreamId, ahead: u64) {
        match self.0.binary_search_by_key(&id, |mark| mark.0) {
            Ok(at) => self.0[at].1 = ahead,
            Err(at) => self.0.insert(at, (id, ahead)),
        }
    }

    /// The entries above `id`, where there is a mark.
    #[must_use]
    pub fn ahead_of(&self, id: StreamId) -> Option<u64> {
        self.0.binary_search_by_key(&id, |mark| mark.0).ok().map(|at| self.0[at].1)
    }

    /// The nearest mark at or above `id`.
    #[must_use]
    pub fn at_or_above(&self, id: StreamId) -> Option<(StreamId, u64)> {
        self.0.get(self.0.partition_point(|mark| mark.0 < id)).copied()
    }

    /// The nearest mark below `id`.
    #[must_use]
    pub fn below(&self, id: StreamId) -> Option<(StreamId, u64)> {
        self.0[..self.0.partition_point(|mark| mark.0 < id)].last().copied()
    }

    /// Drops what no group can use: marks below all the places in `used` (sorted), and, of too many between
    /// them, those that lie closest to the next.
    pub fn prune(&mut self, used: &[StreamId]) {
        let lowest = used.first().copied().unwrap_or(StreamId::MAX);
        self.0.retain(|mark| mark.0 >= lowest);
        while self.0.len() > used.len() + MAX_SPARE_MARKS {
            let spare = (0..self.0.len() - 1).filter(|&at| used.binary_search(&self.0[at].0).is_err());
            let Some(at) = spare.min_by_key(|&at| self.0[at].1 - self.0[at + 1].1.min(self.0[at].1)) else {
                break;
            };
            self.0.remove(at);
        }
        self.0.shrink_to(self.0.len() + 4);
    }
}
