//! The oldest pending entry of a group, remembered for as long as nothing can have changed it.
//!
//! Whatever changes a PEL shows elsewhere: with a delivery or a claim the idle time of the consumer begins
//! anew, an acknowledgement makes the PEL smaller, and an entry that was given back is held by no consumer. So
//! where the PEL is as large as it was, its consumers hold all of it, and each of them has been silent since,
//! XPENDING has nothing new to tell and is not sent. Most groups of a large server are silent from one poll to
//! the next, the stuck ones among them.

use std::time::Duration;

use crate::question::PendingEntry;
use crate::snapshot::{ConsumerInfo, ConsumersReading, GroupInfo};
use redis_stream_core::id::StreamId;

/// It is asked for again after this time, or up to twice of it, whatever it looks like: the server's clock may
/// have been set back, and with it the idle times.
const MAX_AGE: Duration = Duration::from_secs(600);
/// Parts of [`MAX_AGE`] over which what was asked in one poll is spread when it is asked again.
const SPREAD: u32 = 60;

/// The pending entry with the smallest ID, as far as it is known in a poll.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum PelHead {
    #[default]
    Unknown,
    Empty,
    Entry(PendingEntry),
}

/// What XPENDING told of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CachedOldestPending {
    oldest: PendingEntry,
    /// Size of the PEL.
    pending: u64,
    /// The node's clock before it was asked.
    at: Duration,
    /// How many pending entries lie below this ID.
    below: Option<(StreamId, u32)>,
}

impl CachedOldestPending {
    /// What was told of a group, asked after the node's clock showed `at`.
    pub(super) fn new(oldest: PendingEntry, group: &GroupInfo, at: Duration) -> Self {
        Self { oldest, pending: group.pending, at, below: None }
    }

    /// How many pending entries lie below `first`, if that was counted.
    pub(super) fn below(&self, first: StreamId) -> Option<u32> {
        self.below.filter(|(id, _)| *id == first).map(|(_, count)| count)
    }

    /// Remembers that `count` pending entries lie below `first`.
    pub(super) fn note_below(&mut self, first: StreamId, count: u32) {
        self.below = Some((first, count));
    }

    /// Whether the consumers may show that it still holds at `now`; otherwise it has to be asked for.
    pub(super) fn may_be_current(&self, group: &GroupInfo, now: Duration) -> bool {
        let part = u32::try_from(self.oldest.id.ms % u64::from(SPREAD)).unwrap_or(0);
        let max_age = MAX_AGE + MAX_AGE * part / SPREAD;
        let age = now.checked_sub(self.at);
        let shows_consumers = group.each_consumer != ConsumersReading::NotWanted;
        shows_consumers && group.pending == self.pending && age.is_some_and(|age| age < max_age)
    }

    /// The oldest pending entry, if it must still be the same. `consumers` were read within `uncertainty` after
    /// the node's clock showed `now`.
    pub(super) fn current(
        &self,
        group: &GroupInfo,
        consumers: &[ConsumerInfo],
        now: Duration,
        uncertainty: Duration,
    ) -> Option<PendingEntry> {
        if !self.may_be_current(group, now) {
            return None;
        }
        let since = millis(now.checked_sub(self.at)?);
        let are_idle = consumers.iter().all(|consumer| consumer.idle_ms >= since + millis(uncertainty));
        let held: u64 = consumers.iter().map(|consumer| consumer.pending).sum();
        let idle_ms = self.oldest.idle_ms?.checked_add(since)?;
        (are_idle && held == self.pending).then_some(PendingEntry { idle_ms: Some(idle_ms), ..self.oldest })
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis_stream_core::name::Name;

    const ASKED: Duration = Duration::from_secs(1_700_000_000);
    const POLL: Duration = Duration::from_secs(8);

    fn group(pending: u64) -> GroupInfo {
        GroupInfo {
            name: Name::from("g"),
            named: false,
            consumers: 2,
            pending,
            last_delivered: StreamId::new(1, 0),
            entries_read: Some(1),
            each_consumer: ConsumersReading::Open,
        }
    }

    fn consumers(of: [(u64, u64); 2]) -> Vec<ConsumerInfo> {
        let consumer = |(pending, idle_s): (u64, u64)| ConsumerInfo {
            name: Name::from("c"),
            pending,
            idle_ms: idle_s * 1_000,
            inactive_ms: None,
        };
        of.map(consumer).into()
    }

    fn seen() -> CachedOldestPending {
        let oldest = PendingEntry { id: StreamId::new(60, 0), idle_ms: Some(5_000), deliveries: 3 };
        CachedOldestPending::new(oldest, &group(4), ASKED)
    }

    #[test]
    fn it_holds_while_the_consumers_that_hold_all_of_it_are_silent() {
        for (text, later_s, pending, of, holds) in [
            ("silent", 10, 4, [(1, 100), (3, 18)], true),
            ("one may have read since", 10, 4, [(1, 100), (3, 17)], false),
            ("one reads, and has nothing pending", 10, 4, [(0, 1), (4, 100)], false),
            ("an acknowledgement", 10, 3, [(1, 100), (2, 100)], false),
            ("an entry given back", 10, 4, [(1, 100), (2, 100)], false),
            ("long ago", 600, 4, [(1, 1_000), (3, 1_000)], false),
        ] {
            let now = ASKED + Duration::from_secs(later_s);
            let still = seen().current(&group(pending), &consumers(of), now, POLL);
            assert_eq!(still.is_some(), holds, "{text}");
        }
    }

    #[test]
    fn its_idle_time_goes_on() {
        let now = ASKED + Duration::from_secs(10);
        let still = seen().current(&group(4), &consumers([(1, 100), (3, 100)]), now, POLL).unwrap();
        assert_eq!(still, PendingEntry { idle_ms: Some(15_000), ..seen().oldest });
    }

    #[test]
    fn it_does_not_hold_once_the_clock_was_set_back_behind_it() {
        let now = ASKED - Duration::from_secs(1);
        assert_eq!(seen().current(&group(4), &consumers([(1, 100), (3, 100)]), now, POLL), None);
    }

    #[test]
    fn without_consumers_to_look_at_it_is_asked_for() {
        let without = GroupInfo { each_consumer: ConsumersReading::NotWanted, ..group(4) };
        assert!(!seen().may_be_current(&without, ASKED));
    }
}
