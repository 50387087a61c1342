//! Finds the streams about which a poll has nothing to ask. Most are such: their reports are derived as soon as they are
//! opened, while what is known of them is in the processor's cache. Only the others take memory until the answers come.

use std::time::Duration;

use crate::audit;
use crate::budget::Budget;
use crate::census::ENTRIES_PER_POLL;
use crate::memory;
use crate::open::{GroupState, StreamState};
use crate::smallest::Smallest;
use crate::snapshot::{ConsumersReading, GroupInfo, StreamInfo};

/// Maximum number of streams of which a poll begins to count what can be trimmed, beside those that have other questions.
const TRIMS_PER_POLL: usize = if cfg!(test) { 2 } else { 4_096 };

/// The questions that wait for their turn in many streams, and that a poll asks about few of them: those that come first.
/// A stream that is not among the first when it is opened gets no turn in this poll.
///
/// Only streams that are complete otherwise take places here. The others stay open in any case, so a place is never taken
/// from a stream that would get its turn.
#[derive(Debug)]
pub(super) struct Turns {
    /// Time of the count to audit; the stream.
    audits: Smallest<(Duration, usize)>,
    /// Time of the group's last turn; the stream and the group.
    census: Smallest<(Duration, usize, usize)>,
    /// Time when its memory was asked for last; the stream.
    memory: Smallest<(Option<Duration>, usize)>,
    trims: TrimTurns,
}

/// The turns of the streams of which it is to be counted what can be trimmed. They are served in the order of their places,
/// and the next poll goes on after the last.
#[derive(Debug)]
struct TrimTurns {
    /// Place of the first stream that is served.
    from: usize,
    left: usize,
    /// Where the next poll goes on, if no turn is left.
    next: usize,
}

impl TrimTurns {
    fn new(from: usize) -> Self {
        Self { from, left: TRIMS_PER_POLL, next: from }
    }

    /// Returns true if the stream at this place gets a turn.
    fn take(&mut self, place: usize) -> bool {
        if place < self.from || self.left == 0 {
            return false;
        }
        self.left -= 1;
        self.next = self.next.max(place + 1);
        true
    }

    fn next(&self) -> usize {
        if self.left > 0 { 0 } else { self.next }
    }
}

impl Turns {
    pub(super) fn new(budget: &Budget, trims_from: usize) -> Self {
        Self {
            // An audit and a page each take at least one entry of their budgets.
            audits: Smallest::new(budget.audit_entries as usize),
            census: Smallest::new(ENTRIES_PER_POLL as usize),
            memory: Smallest::new(memory::streams_per_poll()),
            trims: TrimTurns::new(trims_from),
        }
    }

    /// Returns the place of the first stream that the next poll gives a turn to have counted what can be trimmed.
    pub(super) fn next_trim(&self) -> usize {
        self.trims.next()
    }
}

/// A stream is due to be asked for its memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemoryTurn {
    /// Time when it was asked for last; `None` if it never was.
    pub(super) asked_at: Option<Duration>,
}

#[cfg(test)]
thread_local! {
    /// True if no stream is taken for complete.
    pub(crate) static KEEPS_ALL_OPEN: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

impl StreamState {
    /// Returns true if the poll has no question about the stream, or none that it gets a turn for. Then all that its report
    /// needs is stored with its groups. `memory` is set if the question for its memory is due.
    pub(super) fn is_complete(
        &mut self,
        (at, budget): (Duration, &Budget),
        memory: Option<MemoryTurn>,
        turns: &mut Turns,
    ) -> bool {
        let knows_entries = |group: &GroupInfo| self.knows_next_entry(group.last_delivered);
        let is_known = self.cache.has_nothing_to_count()
            && self.info.groups.iter().all(knows_entries)
            && self.knows_groups()
            && !self.has_losses_to_confirm();
        // What can be trimmed depends on what is known of the groups.
        self.counts_trimmable =
            !is_known || self.uncounted_trim_position().is_some() && turns.trims.take(self.place());
        let is_complete =
            is_known && !self.counts_trimmable && !self.has_turn((at, budget.audit_period), memory, turns);
        #[cfg(test)]
        if KEEPS_ALL_OPEN.get() {
            return false;
        }
        is_complete
    }

    /// Returns true if nothing has to be asked about the consumers of its groups and about their pending entries.
    fn knows_groups(&mut self) -> bool {
        let (info, groups) = (&self.info, &mut self.groups);
        info.groups.iter().zip(groups).all(|(group, open)| knows_group(info, group, open))
    }

    /// Returns true if an audit, a page of the pending entries or the question for its memory may get its turn.
    fn has_turn(
        &mut self,
        (at, audit_period): (Duration, Duration),
        memory: Option<MemoryTurn>,
        turns: &mut Turns,
    ) -> bool {
        let place = self.place();
        let info = &self.info;
        let audit = audit::oldest_due(&self.cache.checkpoints, info.time, audit_period);
        let mut has_turn = audit.is_some_and(|due| turns.audits.push((due.counted_at, place)));
        has_turn |= memory.is_some_and(|MemoryTurn { asked_at }| turns.memory.push((asked_at, place)));
        for (number, (group, open)) in info.groups.iter().zip(&mut self.groups).enumerate() {
            if open.wants_census(group, (info.time, at)) {
                has_turn |= turns.census.push((open.census_served_at(), place, number));
            }
        }
        has_turn
    }
}

fn knows_group(info: &StreamInfo, group: &GroupInfo, open: &mut GroupState) -> bool {
    !group.has_unread_consumers()
        && group.each_consumer != ConsumersReading::TooMany
        && open.knows_oldest_pending(group)
        && info.first.is_none_or(|first| {
            open.knows_pending_below(first) && (!info.has_all_groups() || open.knows_oldest_needed(first))
        })
        && open.unknown_deleted_pending(info, group).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stream_gets_its_turn_to_have_counted_what_can_be_trimmed_in_any_order_of_reading() {
        fastrand::seed(1);
        let mut places: Vec<usize> = (0..7).collect();
        let (mut from, mut served) = (0, vec![0; places.len()]);
        for poll in 1..=100 {
            fastrand::shuffle(&mut places);
            let mut turns = TrimTurns::new(from);
            let taken: Vec<_> = places.iter().copied().filter(|place| turns.take(*place)).collect();
            assert!(taken.len() <= TRIMS_PER_POLL, "{taken:?} in poll {poll}");
            taken.into_iter().for_each(|place| served[place] += 1);
            from = turns.next();
        }
        assert!(served.iter().all(|count| *count > 5), "{served:?}");
        // Where there is a turn for each, no stream waits.
        let mut turns = TrimTurns::new(0);
        assert!((0..TRIMS_PER_POLL - 1).all(|place| turns.take(place)));
        assert_eq!(turns.next(), 0);
    }
}
