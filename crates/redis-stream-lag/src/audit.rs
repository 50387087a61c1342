//! The audit: slowly verifies the counts that were made longest ago.
//!
//! A few operations change a group or a stream without a trace in any counter: XCLAIM with LASTID, a false ENTRIESREAD
//! or ENTRIESADDED, RENAME or RESTORE over a key. Lags that are derived from counters afterwards are wrong, and XINFO
//! cannot reveal it. So the entries between neighbouring checkpoints are counted again once in a while. If their
//! number is not the difference of the two checkpoints, the state of the stream is dropped and counted from scratch.

use std::cmp::Reverse;
use std::time::Duration;

use crate::checkpoints::{Checkpoint, Checkpoints};
use crate::compact::Micros;
use crate::question::EntryRange;
use crate::stream_change::StreamChange;
use redis_stream_core::id::StreamId;

/// A range between two neighbouring checkpoints that is due to be verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DueAudit {
    pub(super) counted_at: Duration,
    /// Lower end of the range, exclusive.
    pub(super) from: StreamId,
    /// Upper end of the range, inclusive.
    pub(super) until: StreamId,
    /// Number of entries in the range if the checkpoints are right.
    pub(super) expected: u64,
}

/// Returns the range that was counted longest ago, if that is at least `period` before `now`, or after it, since the
/// node's clock was set back. Of several it returns the uppermost: the position at which a group stands now is above those that it has left.
pub(super) fn oldest_due(checkpoints: &Checkpoints, now: Duration, period: Duration) -> Option<DueAudit> {
    due(checkpoints, now, period).min_by_key(|due| (due.counted_at, Reverse(due.from)))
}

fn due(checkpoints: &Checkpoints, now: Duration, period: Duration) -> impl Iterator<Item = DueAudit> + '_ {
    let is_due = move |checkpoint: &Checkpoint| now.abs_diff(checkpoint.counted_at.get()) >= period;
    checkpoints.pairs().filter(move |(checkpoint, _)| is_due(checkpoint)).map(|(checkpoint, next)| DueAudit {
        counted_at: checkpoint.counted_at.get(),
        from: checkpoint.id,
        until: next.id,
        // Never below 0 if the checkpoints are right. If they are not, the count will differ.
        expected: checkpoint.entries_above.saturating_sub(next.entries_above),
    })
}

/// A verified part of a range, where the budget did not reach for all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartialAudit {
    from: StreamId,
    checked_at: Duration,
    /// Checkpoint at the upper end of the part. It keeps the old count's age, so the rest of the range is due next.
    end: Checkpoint,
}

impl PartialAudit {
    /// Adds the verified part to `checkpoints`, unless entries above its start may have been removed since. If an
    /// entry was removed just before the part was counted, the same number of entries reached too far up, and the
    /// checkpoint at its end would stay wrong.
    pub(super) fn apply(&self, checkpoints: &mut Checkpoints, since: &StreamChange) {
        let Some(checkpoint) = checkpoints.at(self.from).copied() else { return };
        if since.is_intact_above(self.from) {
            checkpoints.put(self.from, checkpoint.entries_above, self.checked_at);
            checkpoints.put(self.end.id, self.end.entries_above, self.end.counted_at.get());
        }
    }
}

/// The result of an audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuditResult {
    /// The whole range has the expected number of entries.
    Holds,
    /// The counted part does not contradict the checkpoints. Only the next reading shows if the stream stayed unchanged
    /// meanwhile, so the part is applied then.
    HoldsSoFar(PartialAudit),
    /// The number of entries is not the expected one.
    Broken,
}

/// Compares a count of at most `at_most` entries with the checkpoints. If all of the range holds, its checkpoint is
/// marked as counted at `now`.
pub(super) fn check(
    checkpoints: &mut Checkpoints,
    due: &DueAudit,
    at_most: u32,
    entries: &EntryRange,
    now: Duration,
) -> AuditResult {
    let Some(checkpoint) = checkpoints.at(due.from).copied() else { return AuditResult::Holds };
    let count = u64::from(entries.count);
    let was_cut_short = entries.count >= at_most && count < due.expected;
    if !was_cut_short && count != due.expected {
        return AuditResult::Broken;
    }
    if let (true, Some((_, last))) = (was_cut_short, entries.ends) {
        let end = Checkpoint {
            id: last,
            entries_above: checkpoint.entries_above.saturating_sub(count),
            counted_at: Micros::from(due.counted_at),
        };
        return AuditResult::HoldsSoFar(PartialAudit { from: checkpoint.id, checked_at: now, end });
    }
    checkpoints.put(checkpoint.id, checkpoint.entries_above, now);
    AuditResult::Holds
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: Duration = Duration::from_secs(1_000);
    const NOW: Duration = Duration::from_secs(2_000);
    const PERIOD: Duration = Duration::from_secs(600);

    fn id(ms: u64) -> StreamId {
        StreamId::new(ms, 0)
    }

    fn checkpoints() -> Checkpoints {
        let mut checkpoints = Checkpoints::default();
        checkpoints.put(id(10), 90, THEN);
        checkpoints.put(id(60), 40, NOW);
        checkpoints.put(id(100), 0, THEN);
        checkpoints
    }

    fn entries(count: u32, last: u64) -> EntryRange {
        EntryRange { count, ends: (count > 0).then_some((id(11), id(last))) }
    }

    #[test]
    fn a_count_is_due_once_it_is_old_enough() {
        let checkpoints = checkpoints();
        let positions = |now| {
            due(&checkpoints, now, PERIOD)
                .map(|due| (due.from.ms, due.until.ms, due.expected))
                .collect::<Vec<_>>()
        };
        assert_eq!(positions(NOW), [(10, 60, 50)]);
        assert_eq!(positions(THEN + PERIOD - Duration::from_millis(1)), []);
        assert_eq!(positions(NOW + PERIOD), [(10, 60, 50), (60, 100, 40)]);
        // The clock went back: a little, and by more than the period.
        assert_eq!(positions(THEN - PERIOD + Duration::from_millis(1)), [(60, 100, 40)]);
        assert_eq!(positions(Duration::ZERO), [(10, 60, 50), (60, 100, 40)]);
    }

    #[test]
    fn a_right_count_holds_and_a_wrong_one_is_broken() {
        let checkpoints = checkpoints();
        let due = due(&checkpoints, NOW, PERIOD).next().unwrap();
        for (at_most, count, expected) in [
            (51, 50, AuditResult::Holds),
            (51, 51, AuditResult::Broken),
            (51, 49, AuditResult::Broken),
            (51, 0, AuditResult::Broken),
        ] {
            let mut checkpoints = checkpoints.clone();
            let result = check(&mut checkpoints, &due, at_most, &entries(count, 60), NOW);
            assert_eq!(result, expected, "{count} of at most {at_most}");
            assert_eq!(checkpoints.at(id(10)).unwrap().counted_at.get() == NOW, result == AuditResult::Holds);
        }
    }

    #[test]
    fn a_count_that_was_cut_short_continues_where_it_stopped() {
        let mut checkpoints = checkpoints();
        let first = due(&checkpoints, NOW, PERIOD).next().unwrap();
        let AuditResult::HoldsSoFar(part) = check(&mut checkpoints, &first, 20, &entries(20, 30), NOW) else {
            panic!("there is more to count");
        };
        part.apply(&mut checkpoints, &StreamChange::Grown { by: 3, intact_from: Some(id(10)) });
        let rest: Vec<_> = due(&checkpoints, NOW, PERIOD).collect();
        assert_eq!(rest, [DueAudit { counted_at: THEN, from: id(30), until: id(60), expected: 30 }]);
        assert_eq!(check(&mut checkpoints, &rest[0], 20, &entries(19, 60), NOW), AuditResult::Broken);
    }

    #[test]
    fn a_part_is_dropped_if_entries_above_its_start_were_removed_meanwhile() {
        let mut checkpoints = checkpoints();
        let first = due(&checkpoints, NOW, PERIOD).next().unwrap();
        let AuditResult::HoldsSoFar(part) = check(&mut checkpoints, &first, 20, &entries(20, 31), NOW) else {
            panic!("there is more to count");
        };
        let before = checkpoints.clone();
        part.apply(&mut checkpoints, &StreamChange::Grown { by: 0, intact_from: Some(id(11)) });
        assert_eq!(checkpoints, before);
    }
}
