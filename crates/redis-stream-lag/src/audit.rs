//! The audit: counts again, slowly, what was counted longest ago.
//!
//! A few operations move a group or a stream without a trace in any counter (see the documentation): what is
//! concluded from counters is wrong from then on, and nothing in the info tells. Between each checkpoint and the
//! next there must be just as many entries as the difference of the two; where there are not, everything that
//! is remembered of the stream is forgotten, and counted anew.

use std::cmp::Reverse;
use std::time::Duration;

use crate::checkpoints::{Checkpoint, Checkpoints};
use crate::question::Entries;
use crate::stream_change::StreamChange;
use redis_stream_core::id::StreamId;

/// A range between two checkpoints that is due to be counted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DueAudit {
    pub(super) counted_at: Duration,
    /// Where it begins.
    pub(super) from: StreamId,
    /// The next checkpoint above.
    pub(super) until: StreamId,
    /// How many entries there must be.
    pub(super) expected: u64,
}

/// The range that is due at `now`, `period` after it was counted, and was counted longest ago; of several the uppermost, since the positions
/// that a group has just left lie below the one where it stands.
pub(super) fn oldest_due(checkpoints: &Checkpoints, now: Duration, period: Duration) -> Option<DueAudit> {
    due(checkpoints, now, period).min_by_key(|due| (due.counted_at, Reverse(due.from)))
}

fn due(checkpoints: &Checkpoints, now: Duration, period: Duration) -> impl Iterator<Item = DueAudit> + '_ {
    let is_due = move |checkpoint: &Checkpoint| now.saturating_sub(checkpoint.counted_at) >= period;
    checkpoints.pairs().filter(move |(checkpoint, _)| is_due(checkpoint)).map(|(checkpoint, next)| DueAudit {
        counted_at: checkpoint.counted_at,
        from: checkpoint.id,
        until: next.id,
        // Never less in a true memory; and if it were, counting finds it out.
        expected: checkpoint.entries_above.saturating_sub(next.entries_above),
    })
}

/// The part of a range that was counted again, where a budget did not reach for all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartialAudit {
    from: StreamId,
    checked_at: Duration,
    /// Where it ends. The rest is as old as it was, so it comes next.
    end: Checkpoint,
}

impl PartialAudit {
    /// Notes it in `checkpoints` if nothing was removed above its start since: with an entry removed while it was
    /// counted, the count reached too far, and its end would be wrong for good.
    pub(super) fn note(&self, checkpoints: &mut Checkpoints, since: &StreamChange) {
        let Some(checkpoint) = checkpoints.at(self.from).copied() else { return };
        if since.is_intact_above(self.from) {
            checkpoints.put(self.from, checkpoint.entries_above, self.checked_at);
            checkpoints.put(self.end.id, self.end.entries_above, self.end.counted_at);
        }
    }
}

/// What counting again has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuditResult {
    /// There were as many as there must be.
    Holds,
    /// So far as the count went; the next reading tells whether that can be relied on.
    HoldsSoFar(PartialAudit),
    /// There were not.
    Broken,
}

/// Judges a count of at most `at_most` entries, and notes in `checkpoints` that all of it holds.
pub(super) fn check(
    checkpoints: &mut Checkpoints,
    due: &DueAudit,
    at_most: u32,
    entries: &Entries,
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
            counted_at: due.counted_at,
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

    fn entries(count: u32, last: u64) -> Entries {
        Entries { count, ends: (count > 0).then_some((id(11), id(last))) }
    }

    #[test]
    fn what_was_counted_long_ago_is_due_once_it_is_old_enough() {
        let checkpoints = checkpoints();
        let positions = |now| {
            due(&checkpoints, now, PERIOD)
                .map(|due| (due.from.ms, due.until.ms, due.expected))
                .collect::<Vec<_>>()
        };
        assert_eq!(positions(NOW), [(10, 60, 50)]);
        assert_eq!(positions(THEN + PERIOD - Duration::from_millis(1)), []);
        assert_eq!(positions(NOW + PERIOD), [(10, 60, 50), (60, 100, 40)]);
        assert_eq!(positions(Duration::ZERO), [], "the clock went back");
    }

    #[test]
    fn a_count_that_is_right_holds_for_a_while_and_a_wrong_one_is_found_out() {
        let checkpoints = checkpoints();
        let due = due(&checkpoints, NOW, PERIOD).next().unwrap();
        for (at_most, count, expected) in [
            (51, 50, AuditResult::Holds),
            (51, 51, AuditResult::Broken),
            (51, 49, AuditResult::Broken),
            (51, 0, AuditResult::Broken),
        ] {
            let mut checkpoints = checkpoints.clone();
            let verdict = check(&mut checkpoints, &due, at_most, &entries(count, 60), NOW);
            assert_eq!(verdict, expected, "{count} of at most {at_most}");
            assert_eq!(checkpoints.at(id(10)).unwrap().counted_at == NOW, verdict == AuditResult::Holds);
        }
    }

    #[test]
    fn a_count_that_was_cut_short_goes_on_where_it_stopped() {
        let mut checkpoints = checkpoints();
        let first = due(&checkpoints, NOW, PERIOD).next().unwrap();
        let AuditResult::HoldsSoFar(part) = check(&mut checkpoints, &first, 20, &entries(20, 30), NOW) else {
            panic!("there is more to count");
        };
        part.note(&mut checkpoints, &StreamChange::Grown { by: 3, intact_from: Some(id(10)) });
        let rest: Vec<_> = due(&checkpoints, NOW, PERIOD).collect();
        assert_eq!(rest, [DueAudit { counted_at: THEN, from: id(30), until: id(60), expected: 30 }]);
        assert_eq!(check(&mut checkpoints, &rest[0], 20, &entries(19, 60), NOW), AuditResult::Broken);
    }
    #[test]
    fn a_part_is_not_relied_on_if_something_above_its_start_was_removed_meanwhile() {
        let mut checkpoints = checkpoints();
        let first = due(&checkpoints, NOW, PERIOD).next().unwrap();
        let AuditResult::HoldsSoFar(part) = check(&mut checkpoints, &first, 20, &entries(20, 31), NOW) else {
            panic!("there is more to count");
        };
        let before = checkpoints.clone();
        part.note(&mut checkpoints, &StreamChange::Grown { by: 0, intact_from: Some(id(11)) });
        assert_eq!(checkpoints, before);
    }
}
