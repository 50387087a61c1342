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

/// The questions that wait for their turn in many streams, and that a poll asks about few of them: those that come first.
/// A stream that is not among the first when it is opened gets no turn in this poll.
///
/// Only streams that are complete otherwise take places here. The others stay open in any case, so a place is never taken
/// from a stream that would get its turn.
pub(super) struct Turns {
    /// Time of the count to audit; the stream.
    audits: Smallest<(Duration, usize)>,
    /// Time of the group's last turn; the stream and the group.
    census: Smallest<(Duration, usize, usize)>,
    /// Time when its memory was asked for last; the stream.
    memory: Smallest<(Option<Duration>, usize)>,
}

impl Turns {
    pub(super) fn new(budget: &Budget) -> Self {
        Self {
            // An audit and a page each take at least one entry of their budgets.
            audits: Smallest::new(budget.audit_entries as usize),
            census: Smallest::new(ENTRIES_PER_POLL as usize),
            memory: Smallest::new(memory::streams_per_poll()),
        }
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

impl StreamState<'_> {
    /// Returns true if the poll has no question about the stream, or none that it gets a turn for. Then all that its report
    /// needs is stored with its groups. `memory` is set if the question for its memory is due.
    pub(super) fn is_complete(
        &mut self,
        (at, budget): (Duration, &Budget),
        memory: Option<MemoryTurn>,
        turns: &mut Turns,
    ) -> bool {
        #[cfg(test)]
        if KEEPS_ALL_OPEN.get() {
            return false;
        }
        let knows_entries = |group: &GroupInfo| self.knows_next_entry(group.last_delivered);
        // What can be trimmed depends on what is known of the groups, and `Turns` on all that comes before it.
        self.cache.has_nothing_to_count()
            && self.info.groups.iter().all(knows_entries)
            && self.knows_groups()
            && self.uncounted_trim_position().is_none()
            && !self.has_losses_to_confirm()
            && !self.has_turn((at, budget.audit_period), memory, turns)
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
        let (info, ordinal) = (&self.info, self.ordinal());
        let audit = audit::oldest_due(&self.cache.checkpoints, info.time, audit_period);
        let mut has_turn = audit.is_some_and(|due| turns.audits.push((due.counted_at, ordinal)));
        has_turn |= memory.is_some_and(|MemoryTurn { asked_at }| turns.memory.push((asked_at, ordinal)));
        for (number, (group, open)) in info.groups.iter().zip(&mut self.groups).enumerate() {
            if open.wants_census(group, (info.time, at)) {
                has_turn |= turns.census.push((open.census_served_at(), ordinal, number));
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
