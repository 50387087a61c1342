//! The state of a poll while questions are open. [Derivation](crate::derivation), [plan](crate::plan) and
//! [report](crate::derive) share it.

use std::time::Duration;

use triomphe::Arc;

use crate::audit::DueAudit;
use crate::budget::Budget;
use crate::census::Census;
use crate::compact::{MostlyDefault, SmallCount};
use crate::count_scan::CountScan;
use crate::deleted_pending::{self, DeletedPending};
use crate::from_bounds;
use crate::holder::{self, OldestNeeded, TrimBound};
use crate::later_pages::LaterPage;
use crate::loss::{self, LossReading};
use crate::pending_cache::{CachedOldestPending, PelHead};
use crate::question::EntryRange;
use crate::snapshot::{ConsumerInfo, ConsumersReading, GroupInfo, NodeInfo, StreamInfo};
use crate::state::{GroupCache, KnownPending, LagState, StreamCache};
use crate::worklist::Worklists;
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;

/// Maximum size of the entries of a stream of which it is counted what can be trimmed.
const MAX_COUNTED_BYTES: u64 = 2_048;

/// One poll of one target.
#[derive(Debug)]
pub(super) struct PollState<'a> {
    pub(super) state: &'a mut LagState,
    pub(super) budget: Budget,
    /// The streams that were read and that there may be questions about; others have no state here.
    pub(super) streams: Vec<StreamState>,
    pub(super) round: u32,
    pub(super) worklists: Worklists,
    pub(super) audits_were_asked: bool,
    pub(super) memory_was_asked: bool,
    pub(super) many_consumers_were_asked: bool,
    /// All lags are counted, as far as the budget allows, and what can be trimmed is being counted.
    pub(super) counts_trimmable: bool,
    /// Number of pending IDs that may still be looked up.
    pub(super) look_ups_left: u32,
    /// Number of pending entries that a census may still list.
    pub(super) census_left: u32,
    /// Pages of long lists, which are left until the report is published.
    pub(super) later_pages: Vec<LaterPage>,
    pub(super) counted_entries: u64,
    /// Start of the poll, by the caller's monotonic clock.
    pub(super) at: Duration,
    /// Time since the previous poll.
    pub(super) gap: Duration,
}

impl PollState<'_> {
    /// Returns the streams with counts that are not finished and have their turn, in ascending order.
    pub(super) fn unfinished_counts(&self) -> Vec<usize> {
        let streams = self.streams.iter().enumerate();
        let unfinished = streams.filter(|(_, stream)| stream.wants_counts(self.counts_trimmable));
        unfinished.map(|(at, _)| at).collect()
    }
}

/// The value that a question resolves. A `usize` is the index of the group in its stream.
#[derive(Clone, Copy, Debug)]
pub(super) enum QuestionPurpose {
    OldestPending(usize),
    Orphans(usize),
    /// The oldest pending entry that is not below the first entry of the stream.
    OldestNeeded(usize),
    /// The pending IDs that may have been deleted.
    DeletedPending(usize),
    /// One of these IDs in the stream.
    LookUp(usize),
    Consumers(usize),
    /// The consumers of a group that has too many of them to be read in every poll.
    ManyConsumers(usize),
    /// A page of the pending entries.
    Census {
        group: usize,
        at_most: u32,
    },
    /// The next chunk of the scan that began at `start`.
    CountScan {
        start: StreamId,
        after: StreamId,
        until: StreamId,
        at_most: u32,
    },
    /// The oldest entry above an ID.
    NextEntry(StreamId),
    Audit {
        due: DueAudit,
        at_most: u32,
    },
    Loss,
    Memory,
}

/// A stream that was read, until its report is derived.
#[derive(Debug)]
pub(super) struct StreamState {
    /// See [`PollReadings::add_node`](crate::poll_readings::PollReadings::add_node).
    node_number: u32,
    /// Its place among the streams of the poll.
    place: u32,
    pub(super) node: Arc<NodeInfo>,
    pub(super) key: Name,
    pub(super) family: Option<Name>,
    /// See [`StreamReading::missing_groups`](crate::snapshot::StreamReading::missing_groups).
    pub(super) missing_groups: Box<[Name]>,
    /// See [`StreamReading::window`](crate::snapshot::StreamReading::window).
    pub(super) window: Duration,
    pub(super) info: Box<StreamInfo>,
    /// Moved out of `LagState` until the stream's report is derived.
    pub(super) cache: Box<StreamCache>,
    /// Parallel to `info.groups`.
    pub(super) groups: Box<[GroupState]>,
    /// A question about its entries was not answered, so none is asked again in this poll.
    pub(super) entries_unavailable: bool,
    pub(super) loss_question: LossQuestion,
    /// An audit found a wrong count.
    pub(super) is_invalid: bool,
    /// A question about its values was answered too late.
    pub(super) is_late: bool,
    /// Nothing is known from earlier polls.
    pub(super) is_first_reading: bool,
    /// It has no group, grows and is not trimmed.
    pub(super) is_unread: bool,
    /// A question about its values was asked in this poll.
    pub(super) was_asked: bool,
    /// One of its counts was audited in this poll.
    pub(super) was_audited: bool,
    /// It has its turn to have counted what can be trimmed, or there are other questions about it.
    pub(super) counts_trimmable: bool,
}

/// A [reading](crate::snapshot::StreamReading) of a stream that was read.
#[derive(Debug)]
pub(super) struct ReadStream {
    pub(super) key: Name,
    pub(super) family: Option<Name>,
    pub(super) missing_groups: Box<[Name]>,
    pub(super) window: Duration,
    pub(super) info: Box<StreamInfo>,
}

/// The question by which losses are confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LossQuestion {
    NotAsked,
    /// For an atomic reading of the stream and all its groups and consumers.
    Atomic,
    /// For the positions of its groups alone, which confirm the losses of groups that do not move.
    Positions,
}

/// The answers about a group, beside what was read of it.
#[derive(Debug)]
pub(super) struct GroupState {
    pub(super) cache: Box<GroupCache>,
    /// An atomic reading in this poll has counted the group's losses.
    pub(super) losses_are_counted: bool,
    pub(super) is_losing: bool,
    pub(super) pel_head: PelHeadState,
    pub(super) oldest_pending_was_asked: bool,
    /// The round in which its consumers were asked for.
    pub(super) consumers_asked_in: SmallCount,
    pub(super) orphans_were_asked: bool,
    pub(super) deleted_pending: DeletedPending,
    /// Number of pending entries that went with their consumers since the previous poll.
    pub(super) dropped: SmallCount,
    /// Of a group whose oldest pending entry is below the first entry of the stream.
    pub(super) below_first: MostlyDefault<PendingBelowFirst>,
    pub(super) oldest_needed_was_asked: bool,
    pub(super) census_turn: CensusTurn,
    /// The entry after its position was asked for.
    pub(super) next_was_asked: bool,
}

/// The answers about the pending entries below the first entry of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PendingBelowFirst {
    /// Their number.
    pub(super) count: Option<u32>,
    /// The oldest pending entry that is not one of them.
    pub(super) oldest_needed: OldestNeeded,
}

/// The turn of a group's census in this poll, by what it waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum CensusTurn {
    /// For its turn.
    #[default]
    Open,
    /// For the answer to a question.
    Asked,
    /// For nothing.
    Over,
}

impl QuestionPurpose {
    /// Returns true if no value of this poll waits for the answer.
    pub(super) fn is_for_later(self) -> bool {
        matches!(self, Self::Audit { .. } | Self::Census { .. } | Self::Memory | Self::ManyConsumers(_))
    }
}

/// What this poll knows of the oldest pending entry of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum PelHeadState {
    #[default]
    Unknown,
    /// Nothing is pending.
    Empty,
    /// It is the one in the cache.
    Cached,
}

impl GroupState {
    /// Returns the oldest pending entry, as far as it is known, at `now` by the node's clock.
    pub(super) fn oldest_pending(&self, now: Duration) -> PelHead {
        match self.pel_head {
            PelHeadState::Unknown => PelHead::Unknown,
            PelHeadState::Empty => PelHead::Empty,
            PelHeadState::Cached => {
                self.cache.oldest_pending().map_or(PelHead::Unknown, |cached| PelHead::Entry(cached.at(now)))
            }
        }
    }

    /// Returns true if it is known which pending entry is the oldest, or that none is pending.
    pub(super) fn knows_oldest_pending(&self, group: &GroupInfo) -> bool {
        group.pending == 0 || self.pel_head != PelHeadState::Unknown
    }

    /// Returns the time of the last turn of its census; zero before the first.
    pub(super) fn census_served_at(&self) -> Duration {
        self.cache.census().map_or(Duration::ZERO, Census::served_at)
    }

    /// Returns true if the oldest pending entry is known to be below this ID.
    pub(super) fn has_pending_below(&self, id: StreamId) -> bool {
        self.pel_head == PelHeadState::Cached
            && self.cache.oldest_pending().is_some_and(|cached| cached.id() < id)
    }

    /// Returns true if the number of pending entries below the stream's first entry is known, or is 0. Takes a number that is
    /// known from an earlier poll.
    pub(super) fn knows_pending_below(&mut self, first: StreamId) -> bool {
        if !self.has_pending_below(first) {
            return true;
        }
        let count = self.cache.oldest_pending().and_then(|cached| cached.below(first));
        if count.is_some() {
            self.below_first.change(|known| known.count = count);
        }
        count.is_some()
    }

    /// Returns true if the oldest pending entry is known that is not below the stream's first entry. Takes one that is known
    /// from an earlier poll.
    pub(super) fn knows_oldest_needed(&mut self, first: StreamId) -> bool {
        if !self.has_pending_below(first) {
            return true;
        }
        let needed = self.cache.oldest_pending().and_then(|cached| cached.needed(first));
        if let Some(needed) = needed {
            self.below_first.change(|known| known.oldest_needed = needed);
        }
        needed.is_some()
    }

    /// Returns the range of IDs whose pending entries have to be listed, to find those that were deleted; `None` if their
    /// number is known, or cannot be found now. Takes a number that is known from an earlier poll.
    pub(super) fn unknown_deleted_pending(
        &mut self,
        info: &StreamInfo,
        group: &GroupInfo,
    ) -> Option<(StreamId, StreamId)> {
        let PelHead::Entry(oldest) = self.oldest_pending(info.time) else { return None };
        if self.deleted_pending != DeletedPending::Open {
            return None;
        }
        let range = deleted_pending::range(info, &oldest);
        let cached = || self.cache.pending.as_ref()?.deleted.as_deref()?.current(info, group, &oldest);
        let known = if range.is_none() { Some(0) } else { cached() };
        if let Some(known) = known {
            self.deleted_pending = DeletedPending::Known(known);
        }
        range.filter(|_| known.is_none())
    }

    /// Removes and returns what is known of the pending entries of a group that was created again: the census, and the
    /// oldest pending entry if this poll knows it.
    pub(super) fn take_pending(&mut self) -> Option<Box<KnownPending>> {
        let is_known = self.pel_head == PelHeadState::Cached;
        let mut known = self.cache.pending.take()?;
        known.deleted = None;
        if !is_known {
            (known.oldest, known.oldest_consumer) = (None, None);
        }
        (known.census.is_some() || is_known).then_some(known)
    }

    /// Returns true if the pending entries are to be read in this poll, as far as the budget reaches. That is known once it
    /// is known if they have changed, and if XPENDING is answered at all.
    /// `now` is the time by the clocks of the node and of the caller.
    pub(super) fn wants_census(&mut self, group: &GroupInfo, now: (Duration, Duration)) -> bool {
        if group.pending == 0 || self.census_turn != CensusTurn::Open {
            return false;
        }
        let asked_at = self.cache.oldest_pending().map(CachedOldestPending::asked_at);
        match (self.pel_head, asked_at) {
            (PelHeadState::Cached, Some(asked_at)) if !self.oldest_pending_was_asked => {
                let census = self.cache.census_mut();
                if census.is_some_and(|census| census.note_unchanged(asked_at, now)) {
                    self.census_turn = CensusTurn::Over;
                }
                self.census_turn == CensusTurn::Open
            }
            (PelHeadState::Cached, _) => true,
            // The question for it is under way, and was answered before.
            (PelHeadState::Unknown, Some(_)) => self.oldest_pending_was_asked,
            (PelHeadState::Unknown | PelHeadState::Empty, _) => false,
        }
    }

    /// Returns the state of a group about which nothing is known yet but its cache.
    fn of(cache: Box<GroupCache>) -> Self {
        Self {
            cache,
            losses_are_counted: false,
            is_losing: false,
            pel_head: PelHeadState::Unknown,
            oldest_pending_was_asked: false,
            consumers_asked_in: SmallCount::default(),
            orphans_were_asked: false,
            deleted_pending: DeletedPending::Open,
            dropped: SmallCount::default(),
            below_first: MostlyDefault::default(),
            oldest_needed_was_asked: false,
            next_was_asked: false,
            census_turn: CensusTurn::Open,
        }
    }

    /// Reuses the cached oldest pending entry if the consumers prove that it is current and it was not asked for.
    pub(super) fn note_consumers(
        &mut self,
        group: &GroupInfo,
        consumers: &[ConsumerInfo],
        now: Duration,
        timeout: Duration,
    ) {
        if let Some(known) = self.cache.pending.as_ref().filter(|_| !self.oldest_pending_was_asked) {
            let Some(cached) = &known.oldest else { return };
            let is_current = cached.is_current(group, consumers, now, timeout);
            self.pel_head = if is_current { PelHeadState::Cached } else { PelHeadState::Unknown };
        }
    }
}

/// Returns the distinct positions that counts are needed for, sorted.
pub(super) fn used_positions(info: &StreamInfo, cache: &StreamCache) -> Vec<StreamId> {
    let mut positions = Vec::with_capacity(info.groups.len() + 1);
    positions.extend(info.groups.iter().map(|group| group.last_delivered));
    positions.extend(cache.held_from());
    positions.sort_unstable();
    positions.dedup();
    positions
}

impl StreamState {
    /// Advances the cache of a stream to its reading and resolves each lag that needs no question, in this order: from
    /// the stream's bounds, from a checkpoint at last-delivered-id, from the server's counters where they are trusted.
    /// For each remaining lag it begins a scan.
    pub(super) fn open(
        (node_number, node): (usize, &Arc<NodeInfo>),
        place: usize,
        read: ReadStream,
        mut cache: Box<StreamCache>,
        (at, timeout): (Duration, Duration),
    ) -> Self {
        let ReadStream { key, family, missing_groups, window, info } = read;
        let positions = used_positions(&info, &cache);
        let is_first_reading = cache.is_new();
        cache.advance(&info, node, &positions, at);
        let mut groups: Box<[_]> =
            info.groups.iter().map(|group| GroupState::of(cache.take_group(&group.name))).collect();
        for (group, open) in info.groups.iter().zip(&mut groups) {
            if let ConsumersReading::Read(consumers) = &group.each_consumer {
                open.note_consumers(group, consumers, info.time, timeout);
            }
            let position = group.last_delivered;
            match from_bounds::lag_from_bounds(&info, position) {
                // A checkpoint here makes later polls free: lag grows by what is added, as long as the group stays.
                // Not above last-generated-id: entries may still be added below such a position.
                Some(lag) if info.first <= Some(position) && position <= info.last_generated => {
                    cache.checkpoints.put(position, lag, info.time);
                }
                Some(_) => {}
                None if cache.checkpoints.at(position).is_some() => {}
                None => match open.cache.lag_from_counters(&info, group) {
                    Some((lag, counted_at)) => cache.checkpoints.put(position, lag, counted_at),
                    None => cache.scans.begin(position),
                },
            }
            if cache.checkpoints.at(position).is_some() {
                cache.scans.split_at(position);
            }
        }
        cache.scans.finish(&mut cache.checkpoints, info.time);
        let narrow = |index| u32::try_from(index).expect("a poll has fewer than 2^32 streams");
        Self {
            node_number: narrow(node_number),
            place: narrow(place),
            node: Arc::clone(node),
            key,
            family,
            missing_groups,
            window,
            info,
            cache,
            groups,
            entries_unavailable: false,
            loss_question: LossQuestion::NotAsked,
            is_invalid: false,
            is_late: false,
            is_first_reading,
            is_unread: false,
            was_asked: false,
            was_audited: false,
            counts_trimmable: true,
        }
    }

    pub(super) fn node_number(&self) -> usize {
        self.node_number as usize
    }

    pub(super) fn place(&self) -> usize {
        self.place as usize
    }

    /// Returns true if a count is not finished, and entries can be read. Counts of what can be trimmed come after those of
    /// lags.
    pub(super) fn wants_counts(&self, counts_trimmable: bool) -> bool {
        let is_wanted = |scan: &CountScan| counts_trimmable || !self.is_for_trimming(scan.start);
        !self.entries_unavailable && self.cache.scans.iter().any(is_wanted)
    }

    /// Returns the lag at `last_delivered`, once it is known.
    pub(super) fn lag(&self, last_delivered: StreamId) -> Option<u64> {
        from_bounds::lag_from_bounds(&self.info, last_delivered)
            .or_else(|| self.cache.checkpoints.at(last_delivered).map(|checkpoint| checkpoint.entries_above))
    }

    /// Returns the oldest entry above `last_delivered`, once it is known.
    pub(super) fn next_entry(&self, last_delivered: StreamId) -> Option<StreamId> {
        from_bounds::next_entry(&self.info, last_delivered).or_else(|| self.cache.next_entry(last_delivered))
    }

    /// Returns true if the oldest entry above a position is known, or there is none.
    pub(super) fn knows_next_entry(&self, position: StreamId) -> bool {
        self.lag(position) == Some(0) || self.next_entry(position).is_some()
    }

    /// Returns true if the entry after this position was asked for in this poll.
    pub(super) fn next_was_asked(&self, position: StreamId) -> bool {
        let mut groups = self.info.groups.iter().zip(&self.groups);
        groups.any(|(group, open)| open.next_was_asked && group.last_delivered == position)
    }

    /// Returns the reading from which the losses of a group are derived, once its lag is known.
    pub(super) fn loss_reading(&self, group: &GroupInfo) -> Option<LossReading> {
        LossReading::of(&self.info, group, self.lag(group.last_delivered)?, self.node.entries_read)
    }

    /// Returns true if a certain reading is needed to count losses: any group seems to have lost entries since that was
    /// done last, or a loss could not be confirmed then.
    pub(super) fn has_losses_to_confirm(&self) -> bool {
        let is_uncertain = self.groups.iter().any(|open| open.cache.losses.is_uncertain());
        is_uncertain || self.seems_to_have_lost()
    }

    fn seems_to_have_lost(&self) -> bool {
        self.info.groups.iter().zip(&self.groups).any(|(group, open)| {
            self.loss_reading(group).is_some_and(|reading| open.cache.losses.shows_loss(&reading))
        })
    }

    /// Returns the ID below which no group needs anything, once that is known.
    pub(super) fn trim_bound(&self) -> Option<TrimBound> {
        let oldest = |open: &GroupState| match (open.oldest_pending(self.info.time), self.info.first) {
            (PelHead::Unknown, _) => OldestNeeded::Unknown,
            (PelHead::Empty, _) | (PelHead::Entry(_), None) => OldestNeeded::Nothing,
            (PelHead::Entry(entry), Some(first)) if entry.id < first => {
                open.below_first.value().oldest_needed
            }
            (PelHead::Entry(entry), _) => OldestNeeded::Entry(entry.id),
        };
        holder::trim_bound(&self.info, self.groups.iter().map(oldest))
    }

    /// Returns true if only the number of entries that can be trimmed is counted from this position, and no group's lag.
    pub(super) fn is_for_trimming(&self, position: StreamId) -> bool {
        self.cache.held_from() == Some(position)
            && self.info.groups.iter().all(|group| group.last_delivered != position)
    }

    /// Returns the position from which it has to be counted what can be trimmed; `None` if that is known, or cannot be
    /// counted now.
    pub(super) fn uncounted_trim_position(&self) -> Option<StreamId> {
        if self.info.entry_bytes > MAX_COUNTED_BYTES {
            return None;
        }
        let counted_from = self.trim_bound().and_then(|bound| bound.counted_from(&self.info));
        counted_from.filter(|position| self.lag(*position).is_none())
    }

    /// Begins to count what can be trimmed, if that is not known.
    pub(super) fn count_trimmable(&mut self) {
        let Some(position) = self.uncounted_trim_position().filter(|_| self.counts_trimmable) else { return };
        self.cache.set_held_from(Some(position));
        self.cache.scans.begin(position);
    }

    pub(super) fn note_next_entry(&mut self, position: StreamId, entries: &EntryRange) {
        if let Some((first, _)) = entries.ends {
            self.cache.note_next_entry(position, first);
        }
    }

    /// Counts the losses of groups whose position after the stream was read is the same as before.
    pub(super) fn confirm_losses(&mut self, groups_after: &[GroupInfo]) {
        for at in 0..self.groups.len() {
            let group = &self.info.groups[at];
            let after = groups_after.iter().find(|other| other.name == group.name);
            let has_stood = after.is_some_and(|after| after.last_delivered == group.last_delivered);
            let Some(reading) = self.loss_reading(group).filter(|_| has_stood) else { continue };
            let open = &mut self.groups[at];
            open.cache.losses.count(&reading);
            open.losses_are_counted = true;
        }
    }

    /// Counts losses by an atomic reading.
    pub(super) fn count_losses(&mut self, full: &StreamInfo) {
        for at in 0..self.groups.len() {
            let group = &self.info.groups[at];
            let Some(lag) = self.lag(group.last_delivered) else { continue };
            let Some(in_full) = full.groups.iter().find(|other| other.name == group.name) else { continue };
            let lag = loss::lag_in(full, &self.info, group, lag);
            // The caller leaves out an entries-read that a replica does not keep up to date; so does this.
            let entries_read = group.entries_read.and(in_full.entries_read);
            let in_full = GroupInfo { entries_read, ..in_full.clone() };
            let reading = lag.and_then(|lag| LossReading::of(full, &in_full, lag, self.node.entries_read));
            let Some(reading) = reading else { continue };
            let open = &mut self.groups[at];
            open.cache.losses.count(&reading);
            open.losses_are_counted = true;
        }
    }
}
