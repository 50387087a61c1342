//! Counts the entries above a position by reading them in chunks, over several polls if the budget requires it.

use std::time::Duration;

use crate::checkpoints::Checkpoints;
use crate::compact::MostlyDefault;
use crate::question::EntryRange;
use crate::stream_change::StreamChange;
use redis_stream_core::id::StreamId;

/// Minimum number of entries between the milestones of a scan. Small in tests, as the spacing of checkpoints.
const SPACING: u64 = if cfg!(test) { 1 } else { 250 };

/// A range of a stream that is being counted, from its start upwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CountScan {
    /// Lower end of the range, exclusive.
    pub(crate) start: StreamId,
    /// Upper end of the counted part, inclusive.
    pub(crate) cursor: StreamId,
    /// Number of entries above `start`, up to and including `cursor`.
    pub(crate) counted: u64,
    /// IDs between `start` and `cursor`, each with the number of entries counted up to it. A scan can be split there,
    /// and they become checkpoints once it is finished.
    milestones: Vec<(StreamId, u64)>,
}

impl CountScan {
    fn new(start: StreamId) -> Self {
        Self { start, cursor: start, counted: 0, milestones: Vec::new() }
    }

    /// Splits the scan at `position`, which must lie between its start and its cursor. The lower part ends at the
    /// milestone below `position`, the upper part starts at the milestone at or above it. The count of the chunk in
    /// between is dropped, since it is not known how many of its entries lie on either side.
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

/// The unfinished scans of one stream, sorted by start; no two of them cover the same entries.
///
/// A scan ends at the nearest checkpoint or at the start of the next scan, whichever comes first, so that an entry
/// needed by several groups is read once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CountScans(
    /// Most streams have none.
    MostlyDefault<Vec<CountScan>>,
);

impl CountScans {
    /// Advances the scans over a change of the stream. Drops counts of ranges in which entries may have been removed,
    /// and those below `lowest`, the lowest position of a group.
    pub(crate) fn advance(&mut self, change: &StreamChange, lowest: Option<StreamId>) {
        let (StreamChange::Grown { intact_from, .. }, Some(lowest)) = (*change, lowest) else {
            return self.clear();
        };
        let floor = intact_from.map_or(lowest, |from| from.max(lowest));
        if self.0.get().is_none() {
            return;
        }
        self.0.change(|scans| {
            let all = std::mem::take(scans).into_iter();
            let valid = all.filter_map(|scan| match scan {
                scan if scan.start >= floor => Some(scan),
                scan if scan.has_passed(floor) => Some(scan.split(floor).1),
                _ => None,
            });
            *scans = valid.filter(|scan| scan.counted > 0).collect();
        });
    }

    fn list(&self) -> &[CountScan] {
        self.0.get().map_or(&[], Vec::as_slice)
    }

    /// Splits the scan that has counted past `position`, if there is one.
    pub(crate) fn split_at(&mut self, position: StreamId) {
        let Some(at) = self.list().iter().position(|scan| scan.has_passed(position)) else { return };
        self.0.change(|scans| {
            let (lower, upper) = scans.remove(at).split(position);
            scans.splice(at..at, std::iter::once(lower).chain((upper.counted > 0).then_some(upper)));
        });
    }

    /// Begins a scan at `start` unless there is one. A scan that has counted past `start` is split, so that its upper
    /// part is reused.
    pub(crate) fn begin(&mut self, start: StreamId) {
        self.split_at(start);
        if let Err(at) = self.list().binary_search_by_key(&start, |scan| scan.start) {
            self.0.change(|scans| {
                // One or two, in each of many streams at once.
                scans.reserve_exact(1);
                scans.insert(at, CountScan::new(start));
            });
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0 = MostlyDefault::default();
    }

    /// Returns true if every count is finished.
    pub(crate) fn is_empty(&self) -> bool {
        self.list().is_empty()
    }

    /// Returns the scans, from the lowest start up.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &CountScan> {
        self.list().iter()
    }

    /// Returns the range still to be read for a scan: above the first ID, up to and including the second. `None` if the
    /// scan has reached its end and waits for a scan above it.
    pub(crate) fn range(&self, scan: &CountScan, checkpoints: &Checkpoints) -> Option<(StreamId, StreamId)> {
        let checkpoint = checkpoints.at_or_above(scan.cursor).map(|checkpoint| checkpoint.id);
        let next = self.list().iter().map(|other| other.start).find(|start| *start > scan.start);
        let until = checkpoint.into_iter().chain(next).min()?;
        (until > scan.cursor).then_some((scan.cursor, until))
    }

    /// Records a reply for the scan that began at `start`: `entries` above its cursor, at most `at_most` of them, none
    /// beyond `until`. Fewer than `at_most` entries mean that the range is exhausted.
    pub(crate) fn record(&mut self, start: StreamId, until: StreamId, at_most: u32, entries: &EntryRange) {
        let Ok(at) = self.list().binary_search_by_key(&start, |scan| scan.start) else { return };
        self.0.change(|scans| {
            let scan = &mut scans[at];
            if scan.counted >= scan.milestones.last().map_or(0, |last| last.1) + SPACING {
                scan.milestones.push((scan.cursor, scan.counted));
            }
            scan.counted += u64::from(entries.count);
            scan.cursor = match entries.ends {
                Some((_, last)) if entries.count >= at_most => last,
                _ => until,
            };
        });
    }

    /// Splits scans at checkpoints between their start and cursor, which an audit may have put there. The entries above
    /// such a checkpoint would otherwise be counted twice.
    fn split_at_checkpoints(&mut self, checkpoints: &Checkpoints) {
        let inside =
            |scan: &CountScan| checkpoints.above(scan.start).filter(|checkpoint| checkpoint.id < scan.cursor);
        while let Some(checkpoint) = self.list().iter().find_map(inside) {
            self.split_at(checkpoint.id);
        }
    }

    /// Turns the scans that reached a checkpoint into checkpoints. It goes from the highest scan down, since each new
    /// checkpoint may be the one that the next scan has reached.
    pub(crate) fn finish(&mut self, checkpoints: &mut Checkpoints, now: Duration) {
        self.split_at_checkpoints(checkpoints);
        for at in (0..self.list().len()).rev() {
            let reached = checkpoints.at(self.list()[at].cursor);
            let Some(entries_above) = reached.map(|checkpoint| checkpoint.entries_above) else { continue };
            let scan = self.0.change(|scans| scans.remove(at));
            for (id, counted) in scan.milestones {
                checkpoints.put(id, scan.counted - counted + entries_above, now);
            }
            checkpoints.put(scan.start, scan.counted + entries_above, now);
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

    fn read(from: u64, to: u64) -> EntryRange {
        EntryRange { count: u32::try_from(to - from + 1).unwrap(), ends: Some((id(from), id(to))) }
    }

    fn entries_above(checkpoints: &Checkpoints, ms: u64) -> Option<u64> {
        checkpoints.at(id(ms)).map(|checkpoint| checkpoint.entries_above)
    }

    fn ranges(scans: &CountScans, checkpoints: &Checkpoints) -> Vec<(u64, u64)> {
        scans.iter().filter_map(|scan| scans.range(scan, checkpoints)).map(|(a, b)| (a.ms, b.ms)).collect()
    }

    /// Returns a scan from 0 that reached 3,000 in chunks of 500, in a stream of entries 1 to 10,000.
    fn unfinished_scan() -> (CountScans, Checkpoints) {
        let (mut scans, mut checkpoints) = (CountScans::default(), Checkpoints::default());
        checkpoints.put(id(10_000), 0, NOW);
        scans.begin(id(0));
        for chunk in 0..6 {
            scans.record(id(0), id(10_000), 500, &read(chunk * 500 + 1, chunk * 500 + 500));
        }
        (scans, checkpoints)
    }

    #[test]
    fn two_scans_share_the_count_above_both() {
        let (mut scans, mut checkpoints) = (CountScans::default(), Checkpoints::default());
        checkpoints.put(id(100), 0, NOW);
        scans.begin(id(10));
        scans.begin(id(40));
        assert_eq!(ranges(&scans, &checkpoints), [(10, 40), (40, 100)]);

        scans.record(id(10), id(40), 1_000, &read(11, 40));
        scans.finish(&mut checkpoints, NOW);
        assert_eq!(entries_above(&checkpoints, 10), None, "the upper scan has not reached its end");
        assert_eq!(ranges(&scans, &checkpoints), [(40, 100)], "the lower scan waits");

        scans.record(id(40), id(100), 50, &read(41, 90));
        scans.record(id(40), id(100), 50, &read(91, 100));
        scans.finish(&mut checkpoints, NOW);
        assert_eq!((entries_above(&checkpoints, 10), entries_above(&checkpoints, 40)), (Some(90), Some(60)));
        assert_eq!(scans, CountScans::default());
    }

    #[test]
    fn scans_take_no_spare_memory() {
        let mut scans = CountScans::default();
        for begun in 1..=3 {
            scans.begin(id(begun));
            assert_eq!(scans.0.get().map(Vec::capacity), usize::try_from(begun).ok());
        }
    }

    #[test]
    fn a_scan_that_reads_fewer_entries_than_it_asked_for_has_reached_its_end() {
        let (mut scans, mut checkpoints) = (CountScans::default(), Checkpoints::default());
        checkpoints.put(id(100), 7, NOW);
        scans.begin(id(10));
        scans.record(id(10), id(100), 1_000, &EntryRange { count: 0, ends: None });
        scans.finish(&mut checkpoints, NOW);
        assert_eq!(entries_above(&checkpoints, 10), Some(7));
    }

    #[test]
    fn a_group_that_moved_on_reuses_the_count() {
        let (mut scans, checkpoints) = unfinished_scan();
        scans.advance(&StreamChange::Grown { by: 0, intact_from: None }, Some(id(1_200)));
        scans.begin(id(1_200));
        assert_eq!(ranges(&scans, &checkpoints), [(1_200, 1_500), (3_000, 10_000)]);
    }

    #[test]
    fn a_second_group_reuses_the_count() {
        let (mut scans, mut checkpoints) = unfinished_scan();
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
    fn a_checkpoint_inside_a_scan_does_not_count_entries_twice() {
        let (mut scans, mut checkpoints) = unfinished_scan();
        checkpoints.put(id(1_200), 8_800, NOW);
        scans.finish(&mut checkpoints, NOW);
        assert_eq!(ranges(&scans, &checkpoints), [(1_000, 1_200), (3_000, 10_000)]);
        let counted: u64 = scans.iter().map(|scan| scan.counted).sum();
        assert_eq!(counted, 2_500);
    }

    #[test]
    fn only_ranges_that_may_have_changed_are_counted_again() {
        let (mut scans, checkpoints) = unfinished_scan();
        scans.advance(&StreamChange::Grown { by: 5, intact_from: Some(id(700)) }, Some(id(0)));
        scans.begin(id(0));
        assert_eq!(ranges(&scans, &checkpoints), [(0, 1_000), (3_000, 10_000)]);
        scans.advance(&StreamChange::Grown { by: 5, intact_from: Some(id(3_500)) }, Some(id(0)));
        assert_eq!(scans, CountScans::default());
    }
}
