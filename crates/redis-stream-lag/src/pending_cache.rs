//! Caches the oldest pending entry of a group for as long as nothing can have changed it.
//!
//! Every change of a pending entries list (PEL) has a side effect that XINFO shows: a delivery or a claim resets the
//! idle time of the consumer, an acknowledgement makes the PEL smaller, and an entry released by XNACK belongs to no
//! consumer. So if the PEL is as large as before, its consumers hold all of it, and each of them has been idle since,
//! then XPENDING would return the same entry and is not sent. Most groups of a large server are idle from one poll to
//! the next, stuck ones included.

use std::time::Duration;

use crate::compact::{Micros, Millis, millis};
use crate::holder::OldestNeeded;
use crate::question::PendingEntry;
use crate::snapshot::{ConsumerInfo, ConsumersReading, GroupInfo};
use redis_stream_core::id::StreamId;

/// Age at which the cached entry is asked for again in any case, spread up to twice this time: a server's clock that
/// was set may have made the idle times wrong.
const MAX_AGE: Duration = Duration::from_secs(600);
/// Number of parts of [`MAX_AGE`] over which entries that were cached in the same poll expire.
const SPREAD: u32 = 60;

/// The pending entry with the smallest ID, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum PelHead {
    #[default]
    Unknown,
    Empty,
    Entry(PendingEntry),
}

/// The oldest pending entry of a group when it was last asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CachedOldestPending {
    id: StreamId,
    deliveries: u64,
    idle: Option<Millis>,
    /// Size of the PEL.
    pending: u64,
    /// The node's clock before XPENDING was sent.
    at: Micros,
    /// Of a group whose oldest pending entry is not in the stream any more.
    trimmed: Option<Box<TrimmedPending>>,
}

/// The pending entries that are below the first entry of the stream, and the oldest that is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TrimmedPending {
    first: StreamId,
    below: Option<u32>,
    needed: Option<OldestNeeded>,
}

impl CachedOldestPending {
    /// `at` is the node's clock before XPENDING was sent.
    pub(super) fn new(oldest: PendingEntry, group: &GroupInfo, at: Duration) -> Self {
        let PendingEntry { id, idle_ms, deliveries } = oldest;
        let idle = idle_ms.map(|idle| Duration::from_millis(idle).into());
        Self { id, deliveries, idle, pending: group.pending, at: Micros::from(at), trimmed: None }
    }

    pub(super) fn id(&self) -> StreamId {
        self.id
    }

    /// Returns the node's clock before XPENDING was sent.
    pub(super) fn asked_at(&self) -> Duration {
        self.at.get()
    }

    /// Returns the number of pending entries below `first`, if that was counted.
    pub(super) fn below(&self, first: StreamId) -> Option<u32> {
        self.trimmed.as_ref().filter(|trimmed| trimmed.first == first)?.below
    }

    /// Records that `count` pending entries lie below `first`.
    pub(super) fn note_below(&mut self, first: StreamId, count: u32) {
        self.trimmed_to(first).below = Some(count);
    }

    /// Returns the oldest pending entry that is not below `first`, if that was asked for.
    pub(super) fn needed(&self, first: StreamId) -> Option<OldestNeeded> {
        self.trimmed.as_ref().filter(|trimmed| trimmed.first == first)?.needed
    }

    /// Records the oldest pending entry that is not below `first`.
    pub(super) fn note_needed(&mut self, first: StreamId, needed: OldestNeeded) {
        self.trimmed_to(first).needed = Some(needed);
    }

    /// Returns what is known of the entries below `first`.
    fn trimmed_to(&mut self, first: StreamId) -> &mut TrimmedPending {
        let known = self.trimmed.take().filter(|trimmed| trimmed.first == first);
        let none = || Box::new(TrimmedPending { first, below: None, needed: None });
        self.trimmed.insert(known.unwrap_or_else(none))
    }

    /// Returns true if the consumers may prove the entry current at `now`; otherwise it has to be asked for.
    pub(super) fn may_be_current(&self, group: &GroupInfo, now: Duration) -> bool {
        let part = u32::try_from(self.id.ms % u64::from(SPREAD)).unwrap_or(0);
        let max_age = MAX_AGE + MAX_AGE * part / SPREAD;
        let age = now.checked_sub(self.at.get());
        let shows_consumers =
            !matches!(group.each_consumer, ConsumersReading::NotWanted | ConsumersReading::TooMany);
        shows_consumers && group.pending == self.pending && age.is_some_and(|age| age < max_age)
    }

    /// Returns true if the oldest pending entry must still be the same, and belongs to a consumer. `consumers` were read
    /// within `uncertainty` after the node's clock was at `now`.
    pub(super) fn is_current(
        &self,
        group: &GroupInfo,
        consumers: &[ConsumerInfo],
        now: Duration,
        uncertainty: Duration,
    ) -> bool {
        if !self.may_be_current(group, now) || self.idle.is_none() {
            return false;
        }
        let since = millis(self.at.until(now));
        let are_idle = consumers.iter().all(|consumer| consumer.idle_ms >= since + millis(uncertainty));
        let held: u64 = consumers.iter().map(|consumer| consumer.pending).sum();
        are_idle && held == self.pending
    }

    /// Returns the entry with its idle time at `now` by the node's clock.
    pub(super) fn at(&self, now: Duration) -> PendingEntry {
        let &Self { id, deliveries, idle, .. } = self;
        let idle_ms = idle.map(|idle| millis(idle.get()).saturating_add(millis(self.at.until(now))));
        PendingEntry { id, idle_ms, deliveries }
    }
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
            entries_read: Some(1.into()),
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

    const OLDEST: PendingEntry =
        PendingEntry { id: StreamId::new(60, 0), idle_ms: Some(5_000), deliveries: 3 };

    fn cached() -> CachedOldestPending {
        CachedOldestPending::new(OLDEST, &group(4), ASKED)
    }

    #[test]
    fn the_entry_is_current_while_the_consumers_that_hold_the_pel_are_idle() {
        for (text, later_s, pending, of, holds) in [
            ("idle", 10, 4, [(1, 100), (3, 18)], true),
            ("one may have read since", 10, 4, [(1, 100), (3, 17)], false),
            ("one reads, and has nothing pending", 10, 4, [(0, 1), (4, 100)], false),
            ("an acknowledgement", 10, 3, [(1, 100), (2, 100)], false),
            ("an entry was released", 10, 4, [(1, 100), (2, 100)], false),
            ("long ago", 600, 4, [(1, 1_000), (3, 1_000)], false),
        ] {
            let now = ASKED + Duration::from_secs(later_s);
            assert_eq!(cached().is_current(&group(pending), &consumers(of), now, POLL), holds, "{text}");
        }
    }

    #[test]
    fn the_idle_time_advances() {
        let now = ASKED + Duration::from_secs(10);
        assert_eq!(cached().at(ASKED), OLDEST);
        assert_eq!(cached().at(now), PendingEntry { idle_ms: Some(15_000), ..OLDEST });
    }

    #[test]
    fn a_released_entry_is_never_current_and_has_no_idle_time() {
        let released = PendingEntry { idle_ms: None, ..OLDEST };
        let (cached, now) =
            (CachedOldestPending::new(released, &group(4), ASKED), ASKED + Duration::from_secs(10));
        assert!(!cached.is_current(&group(4), &consumers([(1, 100), (3, 100)]), now, POLL));
        assert_eq!(cached.at(now), released);
    }

    #[test]
    fn the_entry_is_not_current_once_the_clock_was_set_back() {
        let now = ASKED - Duration::from_secs(1);
        assert!(!cached().is_current(&group(4), &consumers([(1, 100), (3, 100)]), now, POLL));
    }

    #[test]
    fn the_entry_is_asked_for_where_consumers_are_not_read() {
        let without = GroupInfo { each_consumer: ConsumersReading::NotWanted, ..group(4) };
        assert!(!cached().may_be_current(&without, ASKED));
    }
}
