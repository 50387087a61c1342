//! Finds streams that need no derivation, because nothing but their ages has changed for more than a window, and no
//! condition can change before a known time.
//!
//! Most streams of a large server are idle like that. Their last report is shown again, with new ages, until a
//! reading differs from the one before, and for at most a window.

use std::time::Duration;

use crate::audit;
use crate::census::Census;
use crate::compact::Micros;
use crate::open::{GroupState, PelHeadState, StreamState};
use crate::pending_cache::PelHead;
use crate::settled::Settled;
use crate::snapshot::{ConsumerInfo, ConsumersReading, GroupInfo};
use crate::state::GroupCache;
use redis_stream_core::id::StreamId;

/// Number of parts of half a window over which streams that were settled in one poll are derived again.
const SPREAD: u32 = 64;
/// Longest time without a derivation, however long the window is.
const LONGEST: Duration = Duration::from_secs(3_600);

impl StreamState {
    /// Notes whether the report shows the values of the report before, and whether that will stay so while the readings
    /// stay the same.
    pub(super) fn note_shown(
        &mut self,
        is_unchanged: bool,
        at: Duration,
        audit_period: Duration,
        settled_before: &mut u32,
    ) {
        let since = self.cache.unchanged_since.filter(|_| is_unchanged);
        self.cache.unchanged_since = is_unchanged.then(|| since.unwrap_or_else(|| Micros::from(at)));
        let window = self.window;
        let is_long = since.is_some_and(|since| at.saturating_sub(since.get()) > window + window / 4);
        self.cache.settled = (is_long && self.stays_the_same(at) && !self.is_being_audited(audit_period))
            .then(|| {
                *settled_before = settled_before.wrapping_add(1);
                self.cache.checkpoints.shrink();
                let part = *settled_before % SPREAD;
                let latest = (window / 2 + window / 2 * part / SPREAD).min(LONGEST);
                let time = self.info.time;
                let until_time = self.silent_from().into_iter().chain(self.next_timestamp()).min();
                let until = (at + latest, until_time.unwrap_or(Duration::MAX));
                Box::new(Settled::new(until, (at, time), window))
            });
    }

    /// Returns true if a count was audited in this poll, and others are due: each poll audits one of them.
    fn is_being_audited(&self, audit_period: Duration) -> bool {
        let is_due = || audit::oldest_due(&self.cache.checkpoints, self.info.time, audit_period).is_some();
        self.was_audited && is_due()
    }

    fn stays_the_same(&self, at: Duration) -> bool {
        let groups = || self.info.groups.iter().zip(&self.groups);
        !(self.was_asked || self.is_late || self.is_invalid || self.entries_unavailable)
            && self.cache.has_nothing_to_count()
            && self.uncounted_trim_position().is_none()
            && self.cache.trim_pace.is_constant()
            && self.cache.unread.is_constant()
            && groups().all(|(group, open)| {
                self.lag(group.last_delivered).is_some()
                    && shows_every_change(group)
                    && has_known_pending(group, open, (at, self.window))
                    && open.cache.stays_the_same(at, self.window)
            })
    }

    /// Returns the time by the node's clock at which the next of the shown IDs that are ahead of it becomes a timestamp.
    fn next_timestamp(&self) -> Option<Duration> {
        let groups = self.info.groups.iter().zip(&self.groups).flat_map(|(group, open)| {
            let oldest = match open.oldest_pending(self.info.time) {
                PelHead::Entry(entry) => Some(entry.id),
                PelHead::Unknown | PelHead::Empty => None,
            };
            [Some(group.last_delivered), self.next_entry(group.last_delivered), oldest]
        });
        let ids = groups.chain([self.info.first, Some(self.info.last_generated)]).flatten();
        ids.map(StreamId::timestamp_from).filter(|time| *time > self.info.time).min()
    }

    /// Returns the time by the node's clock at which the next consumer will have been idle for so long that it counts as
    /// silent.
    fn silent_from(&self) -> Option<Duration> {
        let max_idle = self.node.consumer_limit.max_idle;
        let left = |consumer: &ConsumerInfo| max_idle.checked_sub(Duration::from_millis(consumer.idle_ms));
        let consumers = self.info.groups.iter().filter_map(|group| group.each_consumer.consumers());
        consumers.flatten().filter_map(left).min().map(|left| self.info.time.saturating_add(left))
    }
}

/// Returns true if every change of the group and of its pending entries changes a reading: a claim changes nothing but its
/// consumers.
fn shows_every_change(group: &GroupInfo) -> bool {
    match group.each_consumer {
        ConsumersReading::Read(_) => true,
        ConsumersReading::Open | ConsumersReading::Answered(_) => group.consumers == 0 && group.pending == 0,
        ConsumersReading::NotWanted => group.pending == 0,
        ConsumersReading::TooMany => false,
    }
}

/// Returns true if the oldest pending entry is known, and time alone changes nothing that the census shows.
fn has_known_pending(group: &GroupInfo, open: &GroupState, (at, window): (Duration, Duration)) -> bool {
    let stays = |census: &Census| census.stays_the_same(at, window);
    group.pending == 0 || open.pel_head == PelHeadState::Cached && open.cache.census().is_none_or(stays)
}

impl GroupCache {
    /// Returns true if time alone changes no condition, after nothing has changed for more than a window.
    fn stays_the_same(&self, at: Duration, window: Duration) -> bool {
        !self.is_in_danger()
            && self.loss_share().is_none()
            && self.flow.is_constant()
            && self
                .history
                .as_ref()
                .is_some_and(|history| history.is_constant() && !history.waits_for_time(at, window))
    }
}
