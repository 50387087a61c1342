//! Counts what XINFO does not show of the pending entries list (PEL) of a group: a census reads all of it, in pages.
//!
//! Pages are paid from a budget of each poll, and groups take turns: the group whose last turn is the longest ago is
//! next. A pass over a long list takes many polls; its result is published when it ends, so its pages are read [after
//! the report](crate::later_pages). A list is not read again while its consumers prove that it has not changed: see
//! [`pending_cache`](crate::pending_cache).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::compact::Micros;
use crate::question::PendingEntry;
use crate::report::{ConsumerCensus, PendingCensus, PendingCensusReading, PendingReport};
use crate::snapshot::{GroupInfo, StreamInfo};
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;

/// Maximum number of entries that one command lists, which takes about 0.2 ms of the server's time. Small in tests, so
/// that lists have several pages.
const PAGE: u32 = if cfg!(test) { 3 } else { 1_000 };
/// Cost of a command beside the entries that it lists, in entries.
const COMMAND_COST: u32 = if cfg!(test) { 1 } else { 10 };
/// Minimum number of entries for which a page of a longer list is worth a command.
const MIN_PAGE: u32 = if cfg!(test) { 1 } else { 100 };
/// Number of entries, with the cost of commands, that one poll may list. They take about 0.4 ms of the server's time.
pub(crate) const ENTRIES_PER_POLL: u32 = if cfg!(test) { 10 } else { 2_100 };
/// Number of entries by which a list may grow until it is read and still fit in one page.
const GROWTH: u64 = if cfg!(test) { 1 } else { 5 };

/// Maximum number of entries that are published for each of two reasons: they were delivered most often, or not for the
/// longest time.
const MAX_LISTED: usize = 5;
/// Maximum number of consumers whose entries are counted.
const MAX_COUNTED_CONSUMERS: usize = 100;
/// Maximum number of consumers that are published.
const MAX_LISTED_CONSUMERS: usize = 10;
/// Maximum number of entries that are followed from one pass to the next because they were given back by XNACK and have
/// no idle time: those with the smallest IDs.
const MAX_FOLLOWED: usize = 10;

/// The census of one group.
#[derive(Debug, Default)]
pub(crate) struct Census {
    /// Start of the poll in which a page was last asked for, by the caller's clock.
    served_at: Micros,
    /// On the heap only until it has ended.
    pass: Option<Box<Pass>>,
    finished: Option<FinishedPass>,
}

/// A reading of one page: the state of the poll that asked for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageReading {
    /// Number of entries that were asked for.
    pub(crate) at_most: u32,
    /// The node's clock.
    pub(crate) time: Duration,
    /// The caller's clock.
    pub(crate) at: Duration,
    /// Time by which idle times may be too long, since the node's clock was set.
    pub(crate) clock_jump: Duration,
    /// ID of the first entry of the stream; `None` if it is empty.
    pub(crate) first: Option<StreamId>,
}

/// The pending entries list (PEL) of a group in the reading of a poll.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PelReading {
    /// The node's clock.
    pub(crate) time: Duration,
    /// The group's last-delivered-id.
    pub(crate) position: StreamId,
    /// Number of entries.
    pub(crate) pending: u64,
}

impl PelReading {
    pub(crate) fn of(info: &StreamInfo, group: &GroupInfo) -> Self {
        Self { time: info.time, position: group.last_delivered, pending: group.pending }
    }
}

/// A page of the list that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DuePage {
    /// The ID above which it begins; `None` for the first page.
    pub(crate) after: Option<StreamId>,
    /// Maximum number of entries.
    pub(crate) at_most: u32,
}

/// A pass that has not ended.
#[derive(Debug)]
struct Pass {
    /// The node's clock when it began.
    began: Duration,
    /// The group's last-delivered-id then.
    position: StreamId,
    /// ID of the last entry that was read.
    cursor: Option<StreamId>,
    tally: CensusTally,
}

#[derive(Debug)]
struct FinishedPass {
    /// The node's clock when it began.
    began: Micros,
    /// Start of the poll in which it ended, by the caller's clock. The census has the node's.
    ended: Micros,
    /// The clocks until which the list is known to be unchanged since the pass began.
    unchanged_until: Option<Clocks>,
    census: Arc<PendingCensus>,
    certain_idle: Option<Micros>,
    followed: Box<[FollowedEntry]>,
}

/// The clocks of the node and of the caller in one poll.
#[derive(Clone, Copy, Debug)]
struct Clocks {
    node: Micros,
    caller: Micros,
}

impl Clocks {
    fn of((node, caller): (Duration, Duration)) -> Self {
        Self { node: Micros::from(node), caller: Micros::from(caller) }
    }
}

/// The counts of a pass so far.
#[derive(Debug, Default)]
struct CensusTally {
    census: PendingCensus,
    consumers: BTreeMap<Name, ConsumerCensus>,
    most_delivered: Vec<PendingReport>,
    longest_idle: Vec<PendingReport>,
    /// The longest time for which an entry was certainly not delivered again.
    certain_idle: Option<Duration>,
    followed: Vec<FollowedEntry>,
}

/// An entry that was given back, and the time since which it has been so, by the caller's clock.
#[derive(Clone, Copy, Debug)]
struct FollowedEntry {
    id: StreamId,
    deliveries: u64,
    since: Micros,
}

/// Takes the entries of one page from the budget of a poll. `expected` is the number of entries that are left to read.
fn take(budget: &mut u32, expected: u64) -> Option<u32> {
    let left = budget.checked_sub(COMMAND_COST)?;
    let wanted = u32::try_from(expected.saturating_add(GROWTH)).unwrap_or(u32::MAX).min(PAGE);
    if left < wanted.min(MIN_PAGE) {
        return None;
    }
    let at_most = wanted.min(left);
    *budget = left - at_most;
    Some(at_most)
}

impl Census {
    /// Drops what was read before a time by the node's clock, since the group is another one of the same name.
    pub(crate) fn restart(&mut self, time: Duration) {
        self.pass.take_if(|pass| pass.began < time);
        self.finished.take_if(|finished| finished.began.get() < time);
    }

    /// Returns the time of the last turn of the group.
    pub(crate) fn served_at(&self) -> Duration {
        self.served_at.get()
    }

    /// Returns true if one page reads the whole list, so that the report of the same poll has the result.
    pub(crate) fn fits_in_a_page(&self, pending: u64) -> bool {
        self.pass.is_none() && pending.saturating_add(GROWTH) <= PAGE.into()
    }

    /// Takes the next page from the budget, and begins a pass if there is none. Returns `None` if the budget is used up.
    pub(crate) fn next_page(&mut self, list: PelReading, at: Duration, budget: &mut u32) -> Option<DuePage> {
        let read = self.pass.as_ref().map_or(0, |pass| pass.tally.census.entries);
        // What was read and acknowledged since counts as read, but is not pending any more.
        let expected = match list.pending.saturating_sub(read) {
            0 if self.pass.is_some() => PAGE.into(),
            expected => expected,
        };
        let at_most = take(budget, expected)?;
        self.served_at = at.into();
        let pass = self.pass.get_or_insert_with(|| {
            let (cursor, tally) = (None, CensusTally::default());
            Box::new(Pass { began: list.time, position: list.position, cursor, tally })
        });
        Some(DuePage { after: pass.cursor, at_most })
    }

    /// Adds the entries of a page. Returns true if the pass has ended.
    pub(crate) fn note_page(&mut self, entries: &[(PendingEntry, Name)], reading: &PageReading) -> bool {
        let Some(pass) = &mut self.pass else { return true };
        let before = self.finished.as_ref().map_or(&[][..], |finished| &finished.followed);
        for (entry, consumer) in entries {
            pass.tally.note(entry, consumer, before, reading);
        }
        pass.cursor = entries.last().map(|(entry, _)| entry.id).or(pass.cursor);
        let has_ended = entries.len() < reading.at_most as usize
            || pass.cursor == Some(StreamId::MAX)
            || pass.is_past_the_end(entries, reading.time);
        if let Some(pass) = self.pass.take_if(|_| has_ended) {
            self.finished = Some(pass.finish(reading));
        }
        has_ended
    }

    /// Notes that the list has not changed from `since` by the node's clock until now by the clocks of the node and of the
    /// caller. Returns true if the last pass has read it as it is.
    pub(crate) fn note_unchanged(&mut self, since: Duration, now: (Duration, Duration)) -> bool {
        let Some(finished) = self.finished.as_mut().filter(|finished| since <= finished.began.get()) else {
            return false;
        };
        finished.unchanged_until = Some(Clocks::of(now));
        true
    }

    /// Returns true if time alone does not change the result: no pass is in progress, none has ended at `at` by the
    /// caller's clock, and the group does not become stuck by waiting longer.
    pub(crate) fn stays_the_same(&self, at: Duration, window: Duration) -> bool {
        self.pass.is_none()
            && self.finished.as_ref().is_none_or(|finished| finished.ended != Micros::from(at))
            && self.certain_idle().is_none_or(|idle| idle >= window)
    }

    /// Notes that the list has not changed until `now`, by the clocks of the node and of the caller, if it was known
    /// to be unchanged before.
    pub(crate) fn repeat(&mut self, now: (Duration, Duration)) {
        if let Some(until) = self.finished.as_mut().and_then(|finished| finished.unchanged_until.as_mut()) {
            *until = Clocks::of(now);
        }
    }

    /// Returns the result of the last pass that has ended.
    pub(crate) fn reading(&self) -> Option<PendingCensusReading> {
        let finished = self.finished.as_ref()?;
        Some(PendingCensusReading {
            census: Arc::clone(&finished.census),
            unchanged_until: finished.unchanged_until.map(|until| until.node),
        })
    }

    /// Returns the number of entries below the first entry of the stream, by the last pass that has ended.
    pub(crate) fn trimmed(&self) -> Option<u64> {
        Some(self.finished.as_ref()?.census.trimmed)
    }

    /// Returns the longest time for which a pending entry was certainly not delivered again, by the last pass that has
    /// ended and the present one.
    pub(crate) fn certain_idle(&self) -> Option<Duration> {
        let finished = self.finished.as_ref().and_then(|finished| {
            let until = finished.unchanged_until.map_or(finished.ended, |until| until.caller);
            Some(finished.certain_idle?.get() + finished.ended.until(until.get()))
        });
        finished.max(self.pass.as_ref().and_then(|pass| pass.tally.certain_idle))
    }
}

impl Pass {
    /// Returns true if all entries of the page were delivered for the first time since the pass began. A group that is
    /// delivered entries faster than they are read here always has more of them, so a pass would not end.
    fn is_past_the_end(&self, entries: &[(PendingEntry, Name)], now: Duration) -> bool {
        let since_began = now.saturating_sub(self.began);
        entries.iter().all(|(entry, _)| {
            let idle = entry.idle_ms.map(Duration::from_millis);
            entry.id > self.position && idle.is_none_or(|idle| idle < since_began)
        })
    }

    fn finish(self, reading: &PageReading) -> FinishedPass {
        let CensusTally { mut census, consumers, most_delivered, longest_idle, certain_idle, followed } =
            self.tally;
        let mut worst = most_delivered;
        worst.extend(longest_idle);
        worst.sort_by_key(|entry| (std::cmp::Reverse(entry.deliveries), entry.id));
        worst.dedup_by_key(|entry| entry.id);
        census.worst = worst.into();
        let mut consumers: Vec<_> = consumers.into_values().collect();
        consumers.sort_by_key(|consumer| std::cmp::Reverse(consumer.entries));
        consumers.truncate(MAX_LISTED_CONSUMERS);
        census.consumers = consumers.into();
        census.ended = reading.time.into();
        FinishedPass {
            began: Micros::from(self.began),
            ended: reading.at.into(),
            unchanged_until: None,
            census: Arc::new(census),
            certain_idle: certain_idle.map(Micros::from),
            followed: followed.into(),
        }
    }
}

impl CensusTally {
    fn note(
        &mut self,
        entry: &PendingEntry,
        consumer: &Name,
        before: &[FollowedEntry],
        reading: &PageReading,
    ) {
        let PendingEntry { id, idle_ms, deliveries } = *entry;
        let idle = idle_ms.map(Duration::from_millis);
        let census = &mut self.census;
        census.entries += 1;
        census.trimmed += u64::from(reading.first.is_none_or(|first| id < first));
        let is_failed = entry.is_failed();
        census.failed += u64::from(is_failed);
        let is_redelivered = deliveries > 1 && !is_failed;
        census.redelivered += u64::from(is_redelivered);
        if !is_failed {
            census.max_deliveries = census.max_deliveries.max(Some(deliveries.into()));
        }
        census.max_idle = census.max_idle.max(idle.map(Micros::from));
        let delivered_at = idle.map(|idle| Micros::from(reading.time.saturating_sub(idle)));
        census.oldest_delivery = match (census.oldest_delivery, delivered_at) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let certain_idle = match idle {
            Some(idle) => idle.saturating_sub(reading.clock_jump),
            None => reading.at.saturating_sub(self.follow(id, deliveries, before, reading.at)),
        };
        self.certain_idle = self.certain_idle.max(Some(certain_idle));
        // An entry without an idle time belongs to no consumer.
        if let Some((idle, delivered_at)) = idle.zip(delivered_at) {
            self.note_consumer(consumer, idle.into(), delivered_at, is_redelivered);
        }
        let row = || PendingReport {
            id,
            consumer: consumer.clone(),
            deliveries,
            idle: idle.map(Micros::from),
            read_at: reading.time.into(),
        };
        if deliveries > 1 {
            keep_largest(&mut self.most_delivered, row, |row| (row.deliveries, row.idle));
        }
        keep_largest(&mut self.longest_idle, row, |row| row.idle);
    }

    /// Returns the time since which an entry has been given back, and follows it if there is room.
    fn follow(&mut self, id: StreamId, deliveries: u64, before: &[FollowedEntry], at: Duration) -> Duration {
        let is_same = |entry: &&FollowedEntry| (entry.id, entry.deliveries) == (id, deliveries);
        let since = before.iter().find(is_same).map_or(Micros::from(at), |entry| entry.since);
        if self.followed.len() < MAX_FOLLOWED {
            self.followed.push(FollowedEntry { id, deliveries, since });
        }
        since.get()
    }

    fn note_consumer(&mut self, name: &Name, idle: Micros, delivered_at: Micros, is_redelivered: bool) {
        let is_full = self.consumers.len() >= MAX_COUNTED_CONSUMERS;
        if is_full && !self.consumers.contains_key(name) {
            return;
        }
        let empty = || ConsumerCensus {
            name: name.clone(),
            entries: 0,
            redelivered: 0,
            max_idle: idle,
            oldest_delivery: delivered_at,
        };
        let consumer = self.consumers.entry(name.clone()).or_insert_with(empty);
        consumer.entries += 1;
        consumer.redelivered += u64::from(is_redelivered);
        consumer.max_idle = consumer.max_idle.max(idle);
        consumer.oldest_delivery = consumer.oldest_delivery.min(delivered_at);
    }
}

/// Adds a row to those with the largest keys, the largest first, if it is one of them.
fn keep_largest<K: Ord>(
    rows: &mut Vec<PendingReport>,
    row: impl FnOnce() -> PendingReport,
    key: impl Fn(&PendingReport) -> K,
) {
    let row = row();
    let at = rows.partition_point(|kept| key(kept) >= key(&row));
    if at < MAX_LISTED {
        rows.truncate(MAX_LISTED - 1);
        rows.insert(at, row);
    }
}
