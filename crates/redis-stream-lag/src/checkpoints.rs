//! Checkpoints: positions in a stream above which the number of entries is known.
//!
//! A lag depends only on the stream and on a position, not on a group. So checkpoints are kept per stream, and any
//! group may use any checkpoint: its lag is the number of entries from its position to a checkpoint above, plus the
//! checkpoint's own number. Each reading of the stream advances all checkpoints or drops them, so that they always
//! belong to the reading that they are used with.

use std::time::Duration;

use crate::compact::Micros;
use crate::stream_change::StreamChange;
use redis_stream_core::id::StreamId;

/// Minimum number of entries between checkpoints at which no group stands. One command reads this many entries, so a
/// group that moves reaches the next checkpoint within one command. Small in tests, so that short streams have spare
/// checkpoints.
const SPACING: u64 = if cfg!(test) { 3 } else { 1_000 };
/// Maximum number of checkpoints at which no group stands; in a longer stream they are further apart.
const MAX_SPARE_CHECKPOINTS: usize = 1_024;
/// Number of checkpoints up to which there is space for no more than there are: at the end of the stream, and where one or
/// two groups stand.
const FEW: usize = 3;

/// A position and the number of entries above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) id: StreamId,
    /// Number of entries with an ID above `id`.
    pub(crate) entries_above: u64,
    /// Time at which the entries from here to the next checkpoint were last counted, by the node's clock.
    pub(crate) counted_at: Micros,
}

/// The checkpoints of one stream, all valid for the same reading, sorted by ID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checkpoints(Vec<Checkpoint>);

impl Checkpoints {
    /// Advances the checkpoints over a change of the stream. New entries are above every checkpoint; a checkpoint above
    /// which entries may have been removed is dropped.
    pub(crate) fn advance(&mut self, change: &StreamChange) {
        let StreamChange::Grown { by, .. } = *change else { return self.clear() };
        self.0.retain_mut(|checkpoint| {
            checkpoint.entries_above += by;
            change.is_intact_above(checkpoint.id)
        });
    }

    /// Records that `entries_above` entries have an ID above `id`. `id` must not exceed last-generated-id, since
    /// [`advance`](Self::advance) counts every new entry as above it.
    pub(crate) fn put(&mut self, id: StreamId, entries_above: u64, counted_at: Duration) {
        let checkpoint = Checkpoint { id, entries_above, counted_at: Micros::from(counted_at) };
        match self.0.binary_search_by_key(&id, |checkpoint| checkpoint.id) {
            Ok(at) => self.0[at] = checkpoint,
            Err(at) => {
                if self.0.len() < FEW {
                    self.0.reserve_exact(1);
                }
                self.0.insert(at, checkpoint);
            }
        }
    }

    /// Gives back the space that is left, of a stream that stays as it is.
    pub(crate) fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the checkpoint at exactly `id`.
    pub(crate) fn at(&self, id: StreamId) -> Option<&Checkpoint> {
        self.0.binary_search_by_key(&id, |checkpoint| checkpoint.id).ok().map(|at| &self.0[at])
    }

    /// Returns the nearest checkpoint above `id`.
    pub(crate) fn above(&self, id: StreamId) -> Option<&Checkpoint> {
        self.0.get(self.0.partition_point(|checkpoint| checkpoint.id <= id))
    }

    /// Returns the nearest checkpoint at or above `id`.
    pub(crate) fn at_or_above(&self, id: StreamId) -> Option<&Checkpoint> {
        self.0.get(self.0.partition_point(|checkpoint| checkpoint.id < id))
    }

    /// Returns the nearest checkpoint below `id`.
    pub(crate) fn below(&self, id: StreamId) -> Option<&Checkpoint> {
        self.0[..self.0.partition_point(|checkpoint| checkpoint.id < id)].last()
    }

    /// Returns each checkpoint with the next one above it.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&Checkpoint, &Checkpoint)> {
        self.0.iter().zip(self.0.iter().skip(1))
    }

    /// Drops checkpoints that no group can use, because they are below every position in `used` (sorted), and
    /// checkpoints that are close to the next one, unless they are at one of these positions.
    pub(crate) fn prune(&mut self, used: &[StreamId]) {
        let Some(lowest) = used.first() else { return self.clear() };
        self.0.retain(|checkpoint| checkpoint.id >= *lowest);
        let mut spacing = SPACING;
        self.thin(used, spacing);
        while self.0.len() > used.len() + MAX_SPARE_CHECKPOINTS {
            spacing *= 2;
            self.thin(used, spacing);
        }
        self.0.shrink_to(self.0.len() + 4);
    }

    fn thin(&mut self, used: &[StreamId], spacing: u64) {
        let mut above = None;
        self.0.reverse();
        self.0.retain(|checkpoint| {
            let is_apart =
                above.is_none_or(|above| checkpoint.entries_above.saturating_sub(above) >= spacing);
            let is_kept = is_apart || used.binary_search(&checkpoint.id).is_ok();
            if is_kept {
                above = Some(checkpoint.entries_above);
            }
            is_kept
        });
        self.0.reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> StreamId {
        StreamId::new(ms, 0)
    }

    fn checkpoints(positions: impl IntoIterator<Item = (u64, u64)>) -> Checkpoints {
        let mut checkpoints = Checkpoints::default();
        positions
            .into_iter()
            .for_each(|(ms, entries_above)| checkpoints.put(id(ms), entries_above, Duration::ZERO));
        checkpoints
    }

    fn positions(checkpoints: &Checkpoints) -> Vec<u64> {
        checkpoints.0.iter().map(|checkpoint| checkpoint.id.ms).collect()
    }

    #[test]
    fn checkpoints_below_every_group_and_close_to_the_next_are_dropped() {
        let mut checkpoints = checkpoints([(10, 12), (20, 10), (30, 9), (40, 8), (50, 4), (60, 0)]);
        checkpoints.prune(&[id(20), id(40)]);
        assert_eq!(positions(&checkpoints), [20, 40, 50, 60]);
        checkpoints.prune(&[]);
        assert_eq!(positions(&checkpoints), [] as [u64; 0]);
    }

    #[test]
    fn a_long_stream_has_a_bounded_number_of_checkpoints() {
        let mut checkpoints = checkpoints((0..10_000).map(|n| (n, (9_999 - n) * SPACING)));
        checkpoints.prune(&[id(0), id(1)]);
        assert!(
            positions(&checkpoints).len() <= MAX_SPARE_CHECKPOINTS + 2,
            "{}",
            positions(&checkpoints).len()
        );
        assert!(positions(&checkpoints).len() > MAX_SPARE_CHECKPOINTS / 2);
        assert_eq!((checkpoints.at(id(0)).is_some(), checkpoints.at(id(9_999)).is_some()), (true, true));
    }
}
