//! Walks: counting the entries above a place by reading them, in chunks, over several polls if need be.

use std::time::Duration;

use crate::extent::Change;
use crate::marks::Marks;
use crate::question::Entries;
use redis_stream_core::id::StreamId;

/// Milestones of a walk are at least so many entries apart.
const SPACING: u64 = 250;

/// A stretch of a stream that is being counted, upwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Where it begins.
    pub start: StreamId,
    /// How far it came: the entries above `start`, up to and including this ID, are counted.
    pub cursor: StreamId,
    /// How many there were.
    pub counted: u64,
    /// Places on the way and what was counted by then: marks to be, and places where a walk can be parted.
    milestones: Vec<(StreamId, u64)>,
}

impl Walk {
    fn new(start: StreamId) -> Self {
        Self { start, cursor: start, counted: 0, milestones: Vec::new() }
    }

    /// Parts the walk at its milestones next to `place`, which must lie between its start and its cursor: what was counted below, and what was counted from there on. Only the one chunk around `place`
    /// is lost.
    fn part(self, place: StreamId) -> (Self, Self) {
        let split = self.milestones.partition_point(|milestone| milestone.0 < place);
        let (start, counted) = self.milestones.get(split).copied().unwrap_or((self.cursor, self.counted));
        let upper_milestones =
            self.milestones.iter().skip(split + 1).map(|(id, by_then)| (*id, by_then - counted));
        let upper = Self {
            start,
            cursor: self.cursor,
            counted: self.counted - counted,
            milestones: upper_milestones.collect(),
        };
        let below = self.milestones[..split].last().copied().unwrap_or((self.start, 0));
        let lower = Self {
            start: self.start,
            cursor: below.0,
            counted: below.1,
            milestones: self.milestones[..split.saturating_sub(1)].to_vec(),
        };
        (lower, upper)
    }

    fn has_passed(&self, place: StreamId) -> bool {
        self.start < place && place < self.cursor
    }
}

/// The unfinished walks of one stream, in the order of their starts; no two of them cover the same entries.
///
/// A walk goes up to the nearest mark, or to the start of the next walk, whichever comes first: no entry is
/// read twice, whichever groups need it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walks(Vec<Walk>);

impl Walks {
    /// Brings the walks over a change of the stream: what was counted where entries may have been removed
    /// since is dropped, and what lies below the lowest place where a group stands.
    pub fn carry(&mut self, change: &Change, lowest: Option<StreamId>) {
        let (Change::Grown { intact_from, .. }, Some(lowest)) = (*change, lowest) else {
            return self.clear();
        };
        let floor = intact_from.map_or(lowest, |from| from.max(lowest));
        let walks = std::mem::take(&mut self.0);
        self.0.extend(walks.into_iter().filter_map(|walk| match walk {
            walk if walk.start >= floor => Some(walk),
            walk if walk.has_passed(floor) => Some(walk.part(floor).1),
            _ => None,
        }));
        self.0.retain(|walk| walk.counted > 0);
    }

    /// Parts the walk that passed `place`, if there is one, so that it can end there.
    pub fn part_at(&mut self, place: StreamId) {
        if let Some(at) = self.0.iter().position(|walk| walk.has_passed(place)) {
            let (lower, upper) = self.0.remove(at).part(place);
            // Of an upper part in which nothing was counted there is no need.
            self.0.splice(at..at, std::iter::once(lower).chain((upper.counted > 0).then_some(upper)));
        }
    }

    /// Begins a walk above `start`, if there is none. A walk that passed there already is parted.
    pub fn begin(&mut self, start: StreamId) {
        self.part_at(start);
        if let Err(at) = self.0.binary_search_by_key(&start, |walk| walk.start) {
            self.0.insert(at, Walk::new(start));
        }
    }

    /// Drops all of them.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The walks, from the lowest start up.
    pub fn iter(&self) -> impl Iterator<Item = &Walk> {
        self.0.iter()
    }

    /// What is still to be read for a walk: the entries above the first ID, up to and including the second.
    /// `None` if it only waits for a walk above it.
    #[must_use]
    pub fn stretch(&self, walk: &Walk, marks: &Marks) -> Option<(StreamId, StreamId)> {
        let mark = marks.at_or_above(walk.cursor).map(|mark| mark.id);
        let next = self.0.iter().map(|other| other.start).find(|start| *start > walk.start);
        let until = mark.into_iter().chain(next).min()?;
        (until > walk.cursor).then_some((walk.cursor, until))
    }

    /// Takes what was read of a stretch for the walk that began at `start`: `entries` above its cursor, at
    /// most `at_most` of them, none beyond `until`.
    pub fn advance(&mut self, start: StreamId, until: StreamId, at_most: u32, entries: &Entries) {
        let Ok(at) = self.0.binary_search_by_key(&start, |walk| walk.start) else { return };
        let walk = &mut self.0[at];
        if walk.counted >= walk.milestones.last().map_or(0, |last| last.1) + SPACING {
            walk.milestones.push((walk.cursor, walk.counted));
        }
        walk.counted += u64::from(entries.count);
        walk.cursor = match entries.ends {
            Some((_, last)) if entries.count >= at_most => last,
            _ => until,
        };
    }

    /// The audit puts marks where it stops, in the middle of walks too: what lies above one is known twice then.
    fn part_at_marks(&mut self, marks: &Marks) {
        let passed = |walk: &Walk| marks.above(walk.start).filter(|mark| mark.id < walk.cursor);
        while let Some(mark) = self.0.iter().find_map(passed) {
            self.part_at(mark.id);
        }
    }

    /// Turns the walks that arrived at a mark into marks, from the top down, so that one can end the next.
    pub fn arrive(&mut self, marks: &mut Marks, now: Duration) {
        self.part_at_marks(marks);
        for at in (0..self.0.len()).rev() {
            let Some(ahead) = marks.at(self.0[at].cursor).map(|mark| mark.ahead) else { continue };
            let walk = self.0.remove(at);
            for (id, counted) in walk.milestones {
                marks.put(id, walk.counted - counted + ahead, now);
            }
            marks.put(walk.start, walk.counted + ahead, now);
        }
        if self.0.is_empty() {
            // Most streams are counted once, and never need a walk again.
            self.0 = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    fn id(ms: u64) -> StreamId {
        StreamId::new(ms, 0)
    }

    fn read(from: u64, to: u64) -> Entries {
        Entries { count: u32::try_from(to - from + 1).unwrap(), ends: Some((id(from), id(to))) }
    }

    fn ahead(marks: &Marks, ms: u64) -> Option<u64> {
        marks.at(id(ms)).map(|mark| mark.ahead)
    }

    fn stretches(walks: &Walks, marks: &Marks) -> Vec<(u64, u64)> {
        walks.iter().filter_map(|walk| walks.stretch(walk, marks)).map(|(a, b)| (a.ms, b.ms)).collect()
    }

    /// A stream of entries 1 to 10,000, a walk from 0 that came as far as 3,000, in chunks of 500.
    fn half_way() -> (Walks, Marks) {
        let (mut walks, mut marks) = (Walks::default(), Marks::default());
        marks.put(id(10_000), 0, NOW);
        walks.begin(id(0));
        for chunk in 0..6 {
            walks.advance(id(0), id(10_000), 500, &read(chunk * 500 + 1, chunk * 500 + 500));
        }
        (walks, marks)
    }

    #[test]
    fn two_walks_share_what_lies_above_both() {
        let (mut walks, mut marks) = (Walks::default(), Marks::default());
        marks.put(id(100), 0, NOW);
        walks.begin(id(10));
        walks.begin(id(40));
        assert_eq!(stretches(&walks, &marks), [(10, 40), (40, 100)]);

        walks.advance(id(10), id(40), 1_000, &read(11, 40));
        walks.arrive(&mut marks, NOW);
        assert_eq!(ahead(&marks, 10), None, "the walk above has not arrived");
        assert_eq!(stretches(&walks, &marks), [(40, 100)], "the one below waits");

        walks.advance(id(40), id(100), 50, &read(41, 90));
        walks.advance(id(40), id(100), 50, &read(91, 100));
        walks.arrive(&mut marks, NOW);
        assert_eq!((ahead(&marks, 10), ahead(&marks, 40)), (Some(90), Some(60)));
        assert_eq!(walks, Walks::default());
    }

    #[test]
    fn a_walk_that_finds_fewer_entries_than_it_may_read_has_reached_its_end() {
        let (mut walks, mut marks) = (Walks::default(), Marks::default());
        marks.put(id(100), 7, NOW);
        walks.begin(id(10));
        walks.advance(id(10), id(100), 1_000, &Entries { count: 0, ends: None });
        walks.arrive(&mut marks, NOW);
        assert_eq!(ahead(&marks, 10), Some(7));
    }

    #[test]
    fn what_was_counted_serves_a_group_that_moved_on() {
        let (mut walks, marks) = half_way();
        walks.carry(&Change::Grown { by: 0, intact_from: None }, Some(id(1_200)));
        walks.begin(id(1_200));
        assert_eq!(stretches(&walks, &marks), [(1_200, 1_500), (3_000, 10_000)]);
    }

    #[test]
    fn what_was_counted_serves_a_second_group() {
        let (mut walks, mut marks) = half_way();
        walks.begin(id(1_200));
        assert_eq!(stretches(&walks, &marks), [(1_000, 1_200), (1_200, 1_500), (3_000, 10_000)]);
        walks.advance(id(0), id(1_200), 1_000, &read(1_001, 1_200));
        walks.advance(id(1_200), id(1_500), 1_000, &read(1_201, 1_500));
        walks.advance(id(1_500), id(10_000), 7_000, &read(3_001, 10_000));
        walks.arrive(&mut marks, NOW);
        assert_eq!((ahead(&marks, 0), ahead(&marks, 1_200)), (Some(10_000), Some(8_800)));
        assert_eq!(walks, Walks::default());
    }

    #[test]
    fn nothing_is_known_twice_where_a_mark_came_to_be_in_the_middle_of_a_walk() {
        let (mut walks, mut marks) = half_way();
        marks.put(id(1_200), 8_800, NOW);
        walks.arrive(&mut marks, NOW);
        assert_eq!(stretches(&walks, &marks), [(1_000, 1_200), (3_000, 10_000)]);
        let counted: u64 = walks.iter().map(|walk| walk.counted).sum();
        assert_eq!(counted, 2_500);
    }

    #[test]
    fn only_what_may_have_changed_is_counted_again() {
        let (mut walks, marks) = half_way();
        walks.carry(&Change::Grown { by: 5, intact_from: Some(id(700)) }, Some(id(0)));
        walks.begin(id(0));
        assert_eq!(stretches(&walks, &marks), [(0, 1_000), (3_000, 10_000)]);
        walks.carry(&Change::Grown { by: 5, intact_from: Some(id(3_500)) }, Some(id(0)));
        assert_eq!(walks, Walks::default());
    }
}
