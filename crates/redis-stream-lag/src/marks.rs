//! Marks: places in a stream from which the entries to its end are counted.
//!
//! Memory belongs to the stream, not to a group: any group may use any mark. A mark says "so many entries
//! have an ID above this one", as of one reading of the stream; the next reading either carries it or drops
//! it, so a mark is never older than the stream it is used with.

use std::time::Duration;

use crate::extent::Change;
use redis_stream_core::id::StreamId;

/// Spare marks are at least so many entries apart: one command reads from one to the next.
const SPACING: u64 = 1_000;
/// Most marks that are kept beside those where a group stands; a deeper stream has them further apart.
const MAX_SPARE_MARKS: usize = 1_024;

/// A place from which the entries to the end are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The place.
    pub id: StreamId,
    /// How many entries have an ID above it.
    pub ahead: u64,
    /// When the entries from here to the next mark were counted last, by the node's clock, since the Unix epoch.
    pub counted_at: Duration,
}

/// The marks of one stream, all as of the same reading, in the order of their IDs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks(Vec<Mark>);

impl Marks {
    /// Brings the marks over a change of the stream; those that cannot be carried are dropped.
    pub fn carry(&mut self, change: &Change) {
        let Change::Grown { by, .. } = *change else { return self.clear() };
        self.0.retain_mut(|mark| {
            mark.ahead += by;
            change.is_intact_above(mark.id)
        });
    }

    /// Notes that `ahead` entries have an ID above `id`. `id` must not be above last-generated-id: what is
    /// added later at or below `id` would never be above it.
    pub fn put(&mut self, id: StreamId, ahead: u64, counted_at: Duration) {
        let mark = Mark { id, ahead, counted_at };
        match self.0.binary_search_by_key(&id, |mark| mark.id) {
            Ok(at) => self.0[at] = mark,
            Err(at) => self.0.insert(at, mark),
        }
    }

    /// Drops all of them.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The mark at `id`.
    #[must_use]
    pub fn at(&self, id: StreamId) -> Option<&Mark> {
        self.0.binary_search_by_key(&id, |mark| mark.id).ok().map(|at| &self.0[at])
    }

    /// The nearest mark above `id`.
    #[must_use]
    pub fn above(&self, id: StreamId) -> Option<&Mark> {
        self.0.get(self.0.partition_point(|mark| mark.id <= id))
    }

    /// The nearest mark at or above `id`.
    #[must_use]
    pub fn at_or_above(&self, id: StreamId) -> Option<&Mark> {
        self.0.get(self.0.partition_point(|mark| mark.id < id))
    }

    /// The nearest mark below `id`.
    #[must_use]
    pub fn below(&self, id: StreamId) -> Option<&Mark> {
        self.0[..self.0.partition_point(|mark| mark.id < id)].last()
    }

    /// Each mark with the next one above it.
    pub fn pairs(&self) -> impl Iterator<Item = (&Mark, &Mark)> {
        self.0.iter().zip(self.0.iter().skip(1))
    }

    /// Drops what no group can use: marks below all the places in `used` (sorted), and spare ones that lie
    /// close to the next.
    pub fn prune(&mut self, used: &[StreamId]) {
        let Some(lowest) = used.first() else { return self.clear() };
        self.0.retain(|mark| mark.id >= *lowest);
        let mut spacing = SPACING;
        self.thin(used, spacing);
        while self.0.len() > used.len() + MAX_SPARE_MARKS {
            spacing *= 2;
            self.thin(used, spacing);
        }
        self.0.shrink_to(self.0.len() + 4);
    }

    fn thin(&mut self, used: &[StreamId], spacing: u64) {
        let mut above = None;
        self.0.reverse();
        self.0.retain(|mark| {
            let is_apart = above.is_none_or(|above| mark.ahead.saturating_sub(above) >= spacing);
            let is_kept = is_apart || used.binary_search(&mark.id).is_ok();
            if is_kept {
                above = Some(mark.ahead);
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

    fn marks(places: impl IntoIterator<Item = (u64, u64)>) -> Marks {
        let mut marks = Marks::default();
        places.into_iter().for_each(|(ms, ahead)| marks.put(id(ms), ahead, Duration::ZERO));
        marks
    }

    fn places(marks: &Marks) -> Vec<u64> {
        marks.0.iter().map(|mark| mark.id.ms).collect()
    }

    #[test]
    fn marks_below_every_group_and_close_to_the_next_are_dropped() {
        let mut marks = marks([(10, 5_000), (20, 4_000), (30, 3_900), (40, 3_500), (50, 2_800), (60, 0)]);
        marks.prune(&[id(20), id(40)]);
        assert_eq!(places(&marks), [20, 40, 50, 60]);
        marks.prune(&[]);
        assert_eq!(places(&marks), [] as [u64; 0]);
    }

    #[test]
    fn a_deep_stream_has_a_bounded_number_of_marks() {
        let mut marks = marks((0..10_000).map(|n| (n, (9_999 - n) * 1_000)));
        marks.prune(&[id(0), id(1)]);
        assert!(places(&marks).len() <= MAX_SPARE_MARKS + 2, "{}", places(&marks).len());
        assert!(places(&marks).len() > MAX_SPARE_MARKS / 2);
        assert_eq!((marks.at(id(0)).is_some(), marks.at(id(9_999)).is_some()), (true, true));
    }
}
