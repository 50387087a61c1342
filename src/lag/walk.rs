//! Walks: counting the entries above a place by reading them, in chunks, over several polls if need be.

use crate::lag::marks::{Change, Marks};
use crate::snapshot::id::StreamId;
use crate::snapshot::question::Entries;

/// An unfinished count of the entries above `start`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Where the walk began.
    pub start: StreamId,
    /// How far it came: the entries above `start`, up to and including this ID, are counted.
    pub cursor: StreamId,
    /// How many there were.
    pub counted: u64,
    /// What was counted when each chunk ended: marks to be, once the walk arrives.
    milestones: Vec<(StreamId, u64)>,
}

/// The unfinished walks of one stream, in the order of their starts.
///
/// A walk goes up to the nearest mark, or to the start of the next walk, whichever comes first: no entry is
/// read twice, whichever groups need it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walks(Vec<Walk>);

impl Walks {
    /// Drops the walks whose counted part may have changed, and those that start where no group stands.
    pub fn carry(&mut self, change: &Change, used: &[StreamId]) {
        self.0.retain(|walk| change.is_intact_above(walk.start) && used.binary_search(&walk.start).is_ok());
    }

    /// Begins a walk above `start`, if there is none.
    pub fn begin(&mut self, start: StreamId) {
        if let Err(at) = self.0.binary_search_by_key(&start, |walk| walk.start) {
            self.0.insert(at, Walk { start, cursor: start, counted: 0, milestones: Vec::new() });
        }
    }

    /// The walk that began at `start`.
    #[must_use]
    pub fn from(&self, start: StreamId) -> Option<&Walk> {
        self.0.binary_search_by_key(&start, |walk| walk.start).ok().map(|at| &self.0[at])
    }

    /// The walks, from the lowest start up.
    pub fn iter(&self) -> impl Iterator<Item = &Walk> {
        self.0.iter()
    }

    /// What is still to be read for a walk: the entries above the first ID, up to and including the second.
    /// `None` if it only waits for a walk above it.
    #[must_use]
    pub fn stretch(&self, walk: &Walk, marks: &Marks) -> Option<(StreamId, StreamId)> {
        let mark = marks.at_or_above(walk.cursor).map(|mark| mark.0);
        let next = self.0.iter().map(|other| other.start).find(|start| *start > walk.start);
        let until = mark.into_iter().chain(next).min()?;
        (until > walk.cursor).then_some((walk.cursor, until))
    }

    /// The start of the walk whose [stretch](Self::stretch) this is.
    #[must_use]
    pub fn over(&self, stretch: (StreamId, StreamId), marks: &Marks) -> Option<StreamId> {
        self.0.iter().find(|walk| self.stretch(walk, marks) == Some(stretch)).map(|walk| walk.start)
    }

    /// Takes what was read of a stretch for the walk that began at `start`: `entries` above its cursor, at
    /// most `at_most` of them, none beyond `until`.
    pub fn advance(&mut self, start: StreamId, until: StreamId, at_most: u32, entries: &Entries) {
        let Ok(at) = self.0.binary_search_by_key(&start, |walk| walk.start) else { return };
        let walk = &mut self.0[at];
        walk.counted += u64::from(entries.count);
        walk.cursor = match entries.ends {
            Some((_, last)) if entries.count >= at_most => last,
            _ => until,
        };
        walk.milestones.push((walk.cursor, walk.counted));
    }

    /// Turns the walks that arrived at a mark into marks, from the top down, so that one can end the next.
    pub fn arrive(&mut self, marks: &mut Marks) {
        for at in (0..self.0.len()).rev() {
            let Some(ahead) = marks.ahead_of(self.0[at].cursor) else { continue };
            let walk = self.0.remove(at);
            for (id, counted) in walk.milestones {
                marks.put(id, walk.counted - counted + ahead);
            }
            marks.put(walk.start, walk.counted + ahead);
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

    fn id(ms: u64) -> StreamId {
        StreamId::new(ms, 0)
    }

    fn read(from: u64, to: u64) -> Entries {
        Entries { count: u32::try_from(to - from + 1).unwrap(), ends: Some((id(from), id(to))) }
    }

    #[test]
    fn two_walks_share_what_lies_above_both() {
        let (mut walks, mut marks) = (Walks::default(), Marks::default());
        marks.put(id(100), 0);
        walks.begin(id(10));
        walks.begin(id(40));
        let stretches: Vec<_> = walks.iter().map(|walk| walks.stretch(walk, &marks)).collect();
        assert_eq!(stretches, [Some((id(10), id(40))), Some((id(40), id(100)))]);

        walks.advance(id(10), id(40), 1_000, &read(11, 40));
        walks.arrive(&mut marks);
        assert_eq!(marks.ahead_of(id(10)), None, "the walk above has not arrived");
        assert_eq!(walks.from(id(10)).and_then(|walk| walks.stretch(walk, &marks)), None, "it waits");

        walks.advance(id(40), id(100), 50, &read(41, 90));
        walks.arrive(&mut marks);
        assert_eq!(walks.from(id(40)).and_then(|walk| walks.stretch(walk, &marks)), Some((id(90), id(100))));

        walks.advance(id(40), id(100), 50, &read(91, 100));
        walks.arrive(&mut marks);
        assert_eq!(marks.ahead_of(id(10)), Some(90));
        assert_eq!(marks.ahead_of(id(40)), Some(60));
        assert_eq!(marks.ahead_of(id(90)), Some(10), "the end of the chunk is a mark as well");
        assert_eq!(walks, Walks::default());
    }

    #[test]
    fn a_walk_that_finds_fewer_entries_than_it_may_read_has_reached_its_end() {
        let (mut walks, mut marks) = (Walks::default(), Marks::default());
        marks.put(id(100), 7);
        walks.begin(id(10));
        walks.advance(id(10), id(100), 1_000, &Entries { count: 0, ends: None });
        walks.arrive(&mut marks);
        assert_eq!(marks.ahead_of(id(10)), Some(7));
    }
}
