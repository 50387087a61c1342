//! The audit: counts again, slowly, what was counted longest ago.
//!
//! A few operations move a group or a stream without a trace in any counter (see the documentation): what is
//! concluded from counters is wrong from then on, and nothing in the facts tells. Between each mark and the
//! next there must be just as many entries as the difference of the two; where there are not, everything that
//! is remembered of the stream is forgotten, and counted anew.

use std::cmp::Reverse;
use std::time::Duration;

use crate::extent::Change;
use crate::marks::{Mark, Marks};
use crate::question::Entries;
use redis_stream_core::id::StreamId;

/// A stretch between two marks that is due to be counted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) counted_at: Duration,
    /// Where it begins.
    pub(super) from: StreamId,
    /// The next mark above.
    pub(super) until: StreamId,
    /// How many entries there must be.
    pub(super) expected: u64,
}

/// The stretch that is due at `now`, `period` after it was counted, and was counted longest ago; of several the uppermost, since the places
/// that a group has just left lie below the one where it stands.
pub(super) fn oldest_due(marks: &Marks, now: Duration, period: Duration) -> Option<Due> {
    due(marks, now, period).min_by_key(|due| (due.counted_at, Reverse(due.from)))
}

fn due(marks: &Marks, now: Duration, period: Duration) -> impl Iterator<Item = Due> + '_ {
    let is_due = move |mark: &Mark| now.saturating_sub(mark.counted_at) >= period;
    marks.pairs().filter(move |(mark, _)| is_due(mark)).map(|(mark, next)| Due {
        counted_at: mark.counted_at,
        from: mark.id,
        until: next.id,
        // Never less in a true memory; and if it were, counting finds it out.
        expected: mark.ahead.saturating_sub(next.ahead),
    })
}

/// The part of a stretch that was counted again, where a budget did not reach for all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    from: StreamId,
    checked_at: Duration,
    /// Where it ends. The rest is as old as it was, so it comes next.
    end: Mark,
}

impl Part {
    /// Notes it in `marks` if nothing was removed above its start since: with an entry removed while it was
    /// counted, the count reached too far, and its end would be wrong for good.
    pub(super) fn note(&self, marks: &mut Marks, since: &Change) {
        let Some(mark) = marks.at(self.from).copied() else { return };
        if since.is_intact_above(self.from) {
            marks.put(self.from, mark.ahead, self.checked_at);
            marks.put(self.end.id, self.end.ahead, self.end.counted_at);
        }
    }
}

/// What counting again has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There were as many as there must be.
    Holds,
    /// So far as the count went; the next reading tells whether that can be relied on.
    HoldsSoFar(Part),
    /// There were not.
    Broken,
}

/// Judges a count of at most `at_most` entries, and notes in `marks` that all of it holds.
pub(super) fn judge(marks: &mut Marks, due: &Due, at_most: u32, entries: &Entries, now: Duration) -> Verdict {
    let Some(mark) = marks.at(due.from).copied() else { return Verdict::Holds };
    let count = u64::from(entries.count);
    let was_cut_short = entries.count >= at_most && count < due.expected;
    if !was_cut_short && count != due.expected {
        return Verdict::Broken;
    }
    if let (true, Some((_, last))) = (was_cut_short, entries.ends) {
        let end = Mark { id: last, ahead: mark.ahead.saturating_sub(count), counted_at: due.counted_at };
        return Verdict::HoldsSoFar(Part { from: mark.id, checked_at: now, end });
    }
    marks.put(mark.id, mark.ahead, now);
    Verdict::Holds
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

    fn marks() -> Marks {
        let mut marks = Marks::default();
        marks.put(id(10), 90, THEN);
        marks.put(id(60), 40, NOW);
        marks.put(id(100), 0, THEN);
        marks
    }

    fn entries(count: u32, last: u64) -> Entries {
        Entries { count, ends: (count > 0).then_some((id(11), id(last))) }
    }

    #[test]
    fn what_was_counted_long_ago_is_due_once_it_is_old_enough() {
        let marks = marks();
        let places = |now| {
            due(&marks, now, PERIOD).map(|due| (due.from.ms, due.until.ms, due.expected)).collect::<Vec<_>>()
        };
        assert_eq!(places(NOW), [(10, 60, 50)]);
        assert_eq!(places(THEN + PERIOD - Duration::from_millis(1)), []);
        assert_eq!(places(NOW + PERIOD), [(10, 60, 50), (60, 100, 40)]);
        assert_eq!(places(Duration::ZERO), [], "the clock went back");
    }

    #[test]
    fn a_count_that_is_right_holds_for_a_while_and_a_wrong_one_is_found_out() {
        let marks = marks();
        let due = due(&marks, NOW, PERIOD).next().unwrap();
        for (at_most, count, expected) in [
            (51, 50, Verdict::Holds),
            (51, 51, Verdict::Broken),
            (51, 49, Verdict::Broken),
            (51, 0, Verdict::Broken),
        ] {
            let mut marks = marks.clone();
            let verdict = judge(&mut marks, &due, at_most, &entries(count, 60), NOW);
            assert_eq!(verdict, expected, "{count} of at most {at_most}");
            assert_eq!(marks.at(id(10)).unwrap().counted_at == NOW, verdict == Verdict::Holds);
        }
    }

    #[test]
    fn a_count_that_was_cut_short_goes_on_where_it_stopped() {
        let mut marks = marks();
        let first = due(&marks, NOW, PERIOD).next().unwrap();
        let Verdict::HoldsSoFar(part) = judge(&mut marks, &first, 20, &entries(20, 30), NOW) else {
            panic!("there is more to count");
        };
        part.note(&mut marks, &Change::Grown { by: 3, intact_from: Some(id(10)) });
        let rest: Vec<_> = due(&marks, NOW, PERIOD).collect();
        assert_eq!(rest, [Due { counted_at: THEN, from: id(30), until: id(60), expected: 30 }]);
        assert_eq!(judge(&mut marks, &rest[0], 20, &entries(19, 60), NOW), Verdict::Broken);
    }
    #[test]
    fn a_part_is_not_relied_on_if_something_above_its_start_was_removed_meanwhile() {
        let mut marks = marks();
        let first = due(&marks, NOW, PERIOD).next().unwrap();
        let Verdict::HoldsSoFar(part) = judge(&mut marks, &first, 20, &entries(20, 31), NOW) else {
            panic!("there is more to count");
        };
        let before = marks.clone();
        part.note(&mut marks, &Change::Grown { by: 0, intact_from: Some(id(11)) });
        assert_eq!(marks, before);
    }
}
