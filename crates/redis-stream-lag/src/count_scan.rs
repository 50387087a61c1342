//! CountScans: counting the entries above a position by reading them, in chunks, over several polls if need be.

use std::time::Duration;

use crate::checkpoints::Checkpoints;
use crate::question::Entries;
use crate::stream_change::StreamChange;
use redis_stream_core::id::StreamId;

/// Milestones of a scan are at least so many entries apart.
const SPACING: u64 = 250;

/// A range of a stream that is being counted, upwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CountScan {
    /// Where it begins.
    pub(crate) start: StreamId,
    /// How far it came: the entries above `start`, up to and including this ID, are counted.
    pub(crate) cursor: StreamId,
    /// How many there were.
    pub(crate) counted: u64,
    /// Places on the way and what was counted by then: checkpoints to be, and positions where a scan can be parted.
    milestones: Vec<(StreamId, u64)>,
}

impl CountScan {
    fn new(start: StreamId) -> Self {
        Self { start, cursor: start, counted: 0, milestones: Vec::new() }
    }

    /// Parts the scan at its milestones next to `position`, which must lie between its start and its cursor: what was counted below, and what was counted from there on. Only the one chunk around `position`
    /// is lost.
    fn split(self, position: StreamId) -> (Self, Self) {
        let split = self.milestones.partition_point(|milestone| milestone.0 < position);
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

    fn has_passed(&self, position: StreamId) -> bool {
        self.start < position && position < self.cursor
    }
}

/// The unfinished scans of one stream, in the order of their starts; no two of them cover the same entries.
///
/// A scan goes up to the nearest checkpoint, or to the start of the next scan, whichever comes first: no entry is
/// read twice, whichever groups need it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CountScans(Vec<CountScan>);

impl CountScans {
    /// Brings the scans over a change of the stream: what was counted where entries may have been removed
    /// since is dropped, and what lies below the lowest position where a group stands.
    pub(crate) fn advance(&mut self, change: &StreamChange, lowest: Option<StreamId>) {
        let (StreamChange::Grown { intact_from, .. }, Some(lowest)) = (*change, lowest) else {
            return self.clear();
        };
        let floor = intact_from.map_or(lowest, |from| from.max(lowest));
        let scans = std::mem::take(&mut self.0);
        self.0.extend(scans.into_iter().filter_map(|scan| match scan {
            scan if scan.start >= floor => Some(scan),
            scan if scan.has_passed(floor) => Some(scan.split(floor).1),
            _ => None,
        }));
        self.0.retain(|scan| scan.counted > 0);
    }

    /// Parts the scan that passed `position`, if there is one, so that it can end there.
    pub(crate) fn split_at(&mut self, position: StreamId) {
        if let Some(at) = self.0.iter().position(|scan| scan.has_passed(position)) {
            let (lower, upper) = self.0.remove(at).split(position);
            // Of an upper part in which nothing was counted there is no need.
            self.0.splice(at..at, std::iter::once(lower).chain((upper.counted > 0).then_some(upper)));
        }
    }

    /// Begins a scan above `start`, if there is none. A scan that passed there already is parted.
    pub(crate) fn begin(&mut self, start: StreamId) {
        self.split_at(start);
        if let Err(at) = self.0.binary_search_by_key(&start, |scan| scan.start) {
            self.0.insert(at, CountScan::new(start));
        }
    }

    /// Drops all of them.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The scans, from the lowest start up.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &CountScan> {
        self.0.iter()
    }

    /// What is still to be read for a scan: the entries above the first ID, up to and including the second.
    /// `None` if it only waits for a scan above it.
    pub(crate) fn range(&self, scan: &CountScan, checkpoints: &Checkpoints) -> Option<(StreamId, StreamId)> {
        let checkpoint = checkpoints.at_or_above(scan.cursor).map(|checkpoint| checkpoint.id);
        let next = self.0.iter().map(|other| other.start).find(|start| *start > scan.start);
        let until = checkpoint.into_iter().chain(next).min()?;
        (until > scan.cursor).then_some((scan.cursor, until))
    }

    /// Takes what was read of a range for the scan that began at `start`: `entries` above its cursor, at
    /// most `at_most` of them, none beyond `until`.
    pub(crate) fn record(&mut self, start: StreamId, until: StreamId, at_most: u32, entries: &Entries) {
        let Ok(at) = self.0.binary_search_by_key(&start, |scan| scan.start) else { return };
        let scan = &mut self.0[at];
        if scan.counted >= scan.milestones.last().map_or(0, |last| last.1) + SPACING {
            scan.milestones.push((scan.cursor, scan.counted));
        }
        scan.counted += u64::from(entries.count);
        scan.cursor = match entries.ends {
            Some((_, last)) if entries.count >= at_most => last,
            _ => until,
        };
    }

    /// The audit puts checkpoints where it stops, in the median of scans too: what lies above one is known twice then.
    fn split_at_checkpoints(&mut self, checkpoints: &Checkpoints) {
        let passed =
            |scan: &CountScan| checkpoints.above(scan.start).filter(|checkpoint| checkpoint.id < scan.cursor);
        while let Some(checkpoint) = self.0.iter().find_map(passed) {
            self.split_at(checkpoint.id);
        }
    }

    /// Turns the scans that arrived at a checkpoint into checkpoints, from the top down, so that one can end the next.
    pub(crate) fn finish(&mut self, checkpoints: &mut Checkpoints, now: Duration) {
        self.split_at_checkpoints(checkpoints);
        for at in (0..self.0.len()).rev() {
            let Some(entries_above) =
                checkpoints.at(self.0[at].cursor).map(|checkpoint| checkpoint.entries_above)
            else {
                continue;
            };
            let scan = self.0.remove(at);
            for (id, counted) in scan.milestones {
                checkpoints.put(id, scan.counted - counted + entries_above, now);
            }
            checkpoints.put(scan.start, scan.counted + entries_above, now);
        }
        if self.0.is_empty() {
            // Most streams are counted once, and never need a scan again.
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

    fn entries_above(checkpoints: &Checkpoints, ms: u64) -> Option<u64> {
        checkpoints.at(id(ms)).map(|checkpoint| checkpoint.entries_above)
    }

    fn ranges(scans: &CountScans, checkpoints: &Checkpoints) -> Vec<(u64, u64)> {
        scans.iter().filter_map(|scan| scans.range(scan, checkpoints)).map(|(a, b)| (a.ms, b.ms)).collect()
    }

    /// A stream of entries 1 to 10,000, a scan from 0 that came as far as 3,000, in chunks of 500.
    fn half_way() -> (CountScans, Checkpoints) {
        let (mut scans, mut checkpoints) = (CountScans::default(), Checkpoints::default());
        checkpoints.put(id(10_000), 0, NOW);
        scans.begin(id(0));
        for chunk in 0..6 {
            scans.record(id(0), id(10_000), 500, &read(chunk * 500 + 1, chunk * 500 + 500));
        }
        (scans, checkpoints)
    }

    #[test]
    fn two_walks_share_what_lies_above_both() {
        let (mut scans, mut checkpoints) = (CountScans::default(), Checkpoints::default());
        checkpoints.put(id(100), 0, NOW);
        scans.begin(id(10));
        scans.begin(id(40));
        assert_eq!(ranges(&scans, &checkpoints), [(10, 40), (40, 100)]);

        scans.record(id(10), id(40), 1_000, &read(11, 40));
        scans.finish(&mut checkpoints, NOW);
        assert_eq!(entries_above(&checkpoints, 10), None, "the scan above has not arrived");
        assert_eq!(ranges(&scans, &checkpoints), [(40, 100)], "the one below waits");

        scans.record(id(40), id(100), 50, &read(41, 90));
        scans.record(id(40), id(100), 50, &read(91, 100));
        scans.finish(&mut checkpoints, NOW);
        assert_eq!((entries_above(&checkpoints, 10), entries_above(&checkpoints, 40)), (Some(90), Some(60)));
        assert_eq!(scans, CountScans::default());
    }

    #[test]
    fn a_walk_that_finds_fewer_entries_than_it_may_read_has_reached_its_end() {
        let (mut scans, mut checkpoints) = (CountScans::default(), Checkpoints::default());
        checkpoints.put(id(100), 7, NOW);
        scans.begin(id(10));
        scans.record(id(10), id(100), 1_000, &Entries { count: 0, ends: None });
        scans.finish(&mut checkpoints, NOW);
        assert_eq!(entries_above(&checkpoints, 10), Some(7));
    }

    #[test]
    fn what_was_counted_serves_a_group_that_moved_on() {
        let (mut scans, checkpoints) = half_way();
        scans.advance(&StreamChange::Grown { by: 0, intact_from: None }, Some(id(1_200)));
        scans.begin(id(1_200));
        assert_eq!(ranges(&scans, &checkpoints), [(1_200, 1_500), (3_000, 10_000)]);
    }

    #[test]
    fn what_was_counted_serves_a_second_group() {
        let (mut scans, mut checkpoints) = half_way();
        scans.begin(id(1_200));
        assert_eq!(ranges(&scans, &checkpoints), [(1_000, 1_200), (1_200, 1_500), (3_000, 10_000)]);
        scans.record(id(0), id(1_200), 1_000, &read(1_001, 1_200));
        scans.record(id(1_200), id(1_500), 1_000, &read(1_201, 1_500));
        scans.record(id(1_500), id(10_000), 7_000, &read(3_001, 10_000));
        scans.finish(&mut checkpoints, NOW);
        assert_eq!(
            (entries_above(&checkpoints, 0), entries_above(&checkpoints, 1_200)),
            (Some(10_000), Some(8_800))
        );
        assert_eq!(scans, CountScans::default());
    }

    #[test]
    fn nothing_is_known_twice_where_a_mark_came_to_be_in_the_middle_of_a_walk() {
        let (mut scans, mut checkpoints) = half_way();
        checkpoints.put(id(1_200), 8_800, NOW);
        scans.finish(&mut checkpoints, NOW);
        assert_eq!(ranges(&scans, &checkpoints), [(1_000, 1_200), (3_000, 10_000)]);
        let counted: u64 = scans.iter().map(|scan| scan.counted).sum();
        assert_eq!(counted, 2_500);
    }

    #[test]
    fn only_what_may_have_changed_is_counted_again() {
        let (mut scans, checkpoints) = half_way();
        scans.advance(&StreamChange::Grown { by: 5, intact_from: Some(id(700)) }, Some(id(0)));
        scans.begin(id(0));
        assert_eq!(ranges(&scans, &checkpoints), [(0, 1_000), (3_000, 10_000)]);
        scans.advance(&StreamChange::Grown { by: 5, intact_from: Some(id(3_500)) }, Some(id(0)));
        assert_eq!(scans, CountScans::default());
    }
}
