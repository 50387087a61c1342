//! Derives the reports of streams about which a poll has no questions left.

use std::collections::HashSet;
use std::time::Duration;

use triomphe::Arc;

use crate::abandoned::{ReadPause, is_abandoned_for_a_day};
use crate::census::Census;
use crate::compact::{Count, Micros, Millis};
use crate::deleted_pending::{self, CachedDeletedPending};
use crate::flow::{FlowReading, UnseenLoss};
use crate::from_bounds::MAX_ORPHANS;
use crate::from_counters::TrustedCounters;
use crate::group_changes::{KeptCounters, was_recreated};
use crate::history::{ConsumerActivity, History, HistoryWindow, Sample};
use crate::loss_share::LossShare;
use crate::many_consumers::MAX_LISTED;
use crate::notable::Notable;
use crate::open::{GroupState, LossQuestion, PollState, StreamState, used_positions};
use crate::pending_cache::PelHead;
use crate::report::{
    Age, ConsumerReport, GroupReport, GroupStatus, GroupValues, Lag, NewPosition, OldestPending, Recreation,
    Report, ReportedStream, Retention, SafeTrim, SeldomGroupValues, SeldomStreamValues, SilentConsumers,
    StreamIds, StreamReport, StreamValues,
};
use crate::retention::{RetentionReading, WasTrimmed};
use crate::seldom::SeldomAsked;
use crate::snapshot::{
    ConsumerInfo, ConsumerLimit, ConsumersReading, EntriesReadMeaning, GroupInfo, ReadOutcome, StreamInfo,
    StreamReading,
};
use crate::state::{GroupCache, LagState, RestoredGroup, StreamCache, StreamContinuity};
use crate::status;
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;

/// Number of streams whose space is given back at once.
const GIVEN_BACK: usize = if cfg!(test) { 2 } else { 1_024 };

/// Derives the reports of the streams that are still open, and returns the whole report.
pub(super) fn report(mut poll: PollState<'_>, mut reports: StreamReports<'_>) -> Report {
    let streams = std::mem::take(&mut poll.streams);
    let (later_pages, census_left) = (std::mem::take(&mut poll.later_pages), poll.census_left);
    let (state, counted_entries) = (&mut *poll.state, poll.counted_entries);
    state.set_later_pages(later_pages, census_left);
    // The states of the streams that are still open were moved out before. Of the others, those that are not kept go.
    if state.streams.len() > reports.kept {
        let shown = reports.streams.iter().flatten().map(|stream| &stream.key);
        let open = streams.iter().map(|stream| &stream.key);
        let present: HashSet<_> = shown.chain(open).chain(&reports.not_shown).collect();
        state.retain(|key| present.contains(key));
    }
    for stream in draining(streams) {
        reports.derive(stream, state);
    }
    state.has_settled = reports.has_settled;
    state.memory.retain(|key, _| state.streams.contains_key(key));
    let streams = reports.streams.into_iter().flatten().collect();
    Report { streams, counted_entries, ..Report::default() }
}

/// Gives the states of streams back that were still open when the poll ended without a report.
impl Drop for PollState<'_> {
    fn drop(&mut self) {
        for stream in std::mem::take(&mut self.streams) {
            self.state.streams.insert(stream.key.clone(), next_cache(stream));
        }
    }
}

/// The reports of the streams of one poll, while they are derived.
#[derive(Debug)]
pub(super) struct StreamReports<'a> {
    /// By the place of each stream in the poll.
    streams: Vec<Option<ReportedStream>>,
    /// Streams that the poll has and the report does not.
    not_shown: Vec<Name>,
    /// Number of streams whose state is kept for the next poll, without those that are still open.
    kept: usize,
    /// True if any stream is settled.
    has_settled: bool,
    last: LastReport<'a>,
    /// Start of the poll, by the caller's monotonic clock.
    at: Duration,
    audit_period: Duration,
    /// Of the groups of one stream; kept for its space.
    statuses: Vec<GroupStatus>,
}

impl<'a> StreamReports<'a> {
    /// Returns the reports of a poll that began at `at`. None is derived yet.
    pub(super) fn new(previous: Option<&'a Report>, (at, audit_period): (Duration, Duration)) -> Self {
        Self {
            streams: Vec::new(),
            not_shown: Vec::new(),
            kept: 0,
            has_settled: false,
            last: LastReport { streams: previous.map_or(&[], |report| &report.streams), shift: 0 },
            at,
            audit_period,
            statuses: Vec::new(),
        }
    }

    /// Makes room for the reports of so many streams.
    pub(super) fn reserve(&mut self, streams: usize) {
        if streams > self.streams.len() {
            self.streams.reserve_exact(streams - self.streams.len());
            self.streams.resize(streams, None);
        }
    }

    /// Adds a stream that was not read, or whose replies are those of the poll before.
    pub(super) fn add_unread(&mut self, place: usize, reading: &StreamReading, poll: &mut PollState<'_>) {
        let (state, at, gap) = (&mut *poll.state, poll.at, poll.gap);
        let last = |reports: &mut Self| reports.last.of(place, &reading.key, reading.family.as_ref());
        let shown = match reading.outcome {
            ReadOutcome::Unchanged { time } => {
                self.has_settled = true;
                self.kept += 1;
                let shown = last(self).map(|stream| stream.unchanged_at(time));
                return self.show(place, &reading.key, shown);
            }
            ReadOutcome::Refused => {
                state.streams.remove(&reading.key);
                state.notable.forget(&reading.key);
                Some(unread(reading).into())
            }
            ReadOutcome::Missing | ReadOutcome::WrongType => {
                state.memory.remove(&reading.key);
                if let Some(cache) = state.streams.get_mut(&reading.key) {
                    **cache = std::mem::take(&mut **cache).without_stream(at);
                }
                Some(unread(reading).into())
            }
            ReadOutcome::Unreachable => Some(unread(reading).into()),
            // What a family has is not known before each of its streams was read.
            ReadOutcome::Read(_) | ReadOutcome::Deferred => last(self).or_else(|| not_yet_read(reading)),
        };
        self.show(place, &reading.key, shown);
        let Some(cache) = state.streams.get_mut(&reading.key) else { return };
        self.kept += 1;
        if matches!(reading.outcome, ReadOutcome::Unreachable | ReadOutcome::Deferred) {
            cache.resume(at.saturating_sub(gap));
            cache.note_gap(gap);
            // The report may lack its values, or show them until they are too old.
            state.notable.set(&reading.key, Notable::BeyondReport, true);
        }
    }

    fn show(&mut self, place: usize, key: &Name, shown: Option<ReportedStream>) {
        if shown.is_none() {
            self.not_shown.push(key.clone());
        }
        self.reserve(place + 1);
        self.streams[place] = shown;
    }

    /// Derives the report of a stream about which no question is open, and gives its state back to `state`.
    pub(super) fn derive(&mut self, mut stream: StreamState, state: &mut LagState) {
        let at = self.at;
        let before = self.last.of(stream.place(), &stream.key, stream.family.as_ref());
        note_group_changes(&mut stream, before.as_deref(), at);
        note_losses(&mut stream, at);
        note_retention(&mut stream, at);
        let kept = before.clone().filter(|_| stream.is_late);
        if let (Some(before), None) = (&before, &kept) {
            note_dropped_pending(&mut stream, before);
        }
        note_histories(&mut stream, state, at, &mut self.statuses);
        let memory = state.memory.get(&stream.key).and_then(SeldomAsked::answer);
        let shown = kept.unwrap_or_else(|| {
            let report = read(&mut stream, &self.statuses, (memory, before.as_deref()), at);
            ReportedStream::or_unchanged(report, before.as_ref())
        });
        let is_unchanged = before.is_some_and(|before| shown.is_unchanged_but_for_census(&before));
        stream.note_shown(is_unchanged, at, self.audit_period, &mut state.settled_streams);
        self.show(stream.place(), &stream.key, Some(shown));
        self.kept += 1;
        let (key, is_late) = (stream.key.clone(), stream.is_late);
        let cache = next_cache(stream);
        self.has_settled |= cache.settled.is_some();
        let is_beyond_report = is_late || cache.knows_more_than_statuses();
        state.notable.set(&key, Notable::BeyondReport, is_beyond_report);
        state.notable.set(&key, Notable::InDanger, cache.is_in_danger());
        state.streams.insert(key, cache);
    }
}

/// Returns the items in order, and gives back the space of those that were taken: the report grows meanwhile.
fn draining<T>(mut items: Vec<T>) -> impl Iterator<Item = T> {
    items.reverse();
    std::iter::from_fn(move || {
        if items.len().is_multiple_of(GIVEN_BACK) {
            items.shrink_to_fit();
        }
        items.pop()
    })
}

/// Notices groups that were created, destroyed, or created again, which are other groups than before.
fn note_group_changes(stream: &mut StreamState, before: Option<&StreamReport>, at: Duration) {
    let info = &stream.info;
    let known = stream.cache.take_groups();
    let mut changes = std::mem::take(&mut stream.cache.changes);
    let is_listed = |name: &Name| info.groups.binary_search_by(|group| group.name.cmp(name)).is_ok();
    let names: Vec<_> = known.iter().map(|(name, _)| name.clone()).collect();
    let absent = known.into_iter().filter(|(name, _)| !is_listed(name)).map(|(name, group)| {
        let mut group = group.unwrap_or_default();
        (name, group.position(), group.end())
    });
    changes.note_absent(absent, Some(info), at);
    for (number, group) in info.groups.iter().enumerate() {
        let open = &mut stream.groups[number];
        if names.binary_search(&group.name).is_err() {
            let Some(gone) = changes.note_new(&group.name, info) else { continue };
            let recreation = Some(gone.recreation(group, info.time));
            let pending = open.take_pending();
            let counters = KeptCounters { recreation, ..gone.counters };
            *open.cache = GroupCache { pending, ..GroupCache::with(counters) };
        } else if let Some(position) = new_position(stream.cache.continuity, before, group, info) {
            changes.note_recreated();
            let pending = open.take_pending();
            open.cache.restart();
            open.cache.rare.change(|rare| rare.recreation = Some(Recreation { at: info.time, position }));
            open.cache.pending = pending;
            if let Some(census) = open.cache.census_mut() {
                census.restart(info.time);
            }
        }
    }
    changes.end(info);
    stream.cache.changes = changes;
}

/// Returns the position of a group that was destroyed and created again since the reading before.
fn new_position(
    continuity: StreamContinuity,
    before: Option<&StreamReport>,
    group: &GroupInfo,
    info: &StreamInfo,
) -> Option<NewPosition> {
    let groups = &before?.groups;
    let earlier = &groups[groups.binary_search_by(|earlier| earlier.name.cmp(&group.name)).ok()?];
    let earlier_position = earlier.values.as_ref()?.last_delivered_id;
    match continuity {
        StreamContinuity::Replaced => Some(NewPosition::OtherStream),
        StreamContinuity::Same if was_recreated(earlier, group, group.each_consumer.consumers(), info) => {
            Some(NewPosition::of(group.last_delivered, earlier_position))
        }
        StreamContinuity::Same | StreamContinuity::Unknown => None,
    }
}

/// Returns the state of a stream for the next poll.
fn next_cache(mut stream: StreamState) -> Box<StreamCache> {
    let groups = stream.info.groups.iter().zip(std::mem::take(&mut stream.groups));
    let groups = groups.map(|(group, open)| (group.name.clone(), Some(group_cache(&stream, group, open))));
    let groups = groups.collect();
    stream.cache.set_groups(groups);
    stream.cache.end_gap();
    stream.cache.checkpoints.prune(&used_positions(&stream.info, &stream.cache));
    if stream.is_invalid {
        stream.cache.invalidate();
    }
    stream.cache
}

fn group_cache(stream: &StreamState, group: &GroupInfo, mut open: GroupState) -> Box<GroupCache> {
    let position = group.last_delivered;
    let checkpoint = stream.cache.checkpoints.at(position);
    let counted_at = checkpoint.map_or(stream.info.time, |checkpoint| checkpoint.counted_at.get());
    let lag = stream.lag(position);
    let trusted_counters = lag.and_then(|lag| TrustedCounters::check(&stream.info, group, lag, counted_at));
    let deleted_pending = match (open.oldest_pending(stream.info.time), open.deleted_pending.known()) {
        (PelHead::Entry(oldest), Some(deleted)) => {
            let new = || Box::new(CachedDeletedPending::new(&stream.info, group, &oldest, deleted));
            deleted_pending::range(&stream.info, &oldest).map(|_| new())
        }
        _ => None,
    };
    open.cache.unowned = unowned(group).into();
    open.cache.trusted_counters = trusted_counters;
    let is_new = open.cache.recreation().is_some_and(|recreation| recreation.at == stream.info.time);
    match &mut open.cache.pending {
        pending if group.pending == 0 => *pending = None,
        Some(known) => {
            known.deleted = deleted_pending;
            if is_new {
                (known.oldest, known.oldest_consumer) = (None, None);
                open.cache.pending.take_if(|known| known.census.is_none() && known.deleted.is_none());
            }
        }
        None => {}
    }
    open.cache
}

/// A group is in danger if less than this part of the stream lies between it and the entries that were trimmed, or fewer
/// entries than are trimmed from one poll to the next: it may lose entries and read on before the next poll.
const DANGER_RATIO: u64 = 10;

/// Notes the losses that this poll shows and no other reading has counted.
fn note_losses(stream: &mut StreamState, at: Duration) {
    let window = stream.window;
    let is_recent = |time: Option<Duration>| time.is_some_and(|time| at.saturating_sub(time) < window);
    let is_trimming = is_recent(stream.cache.trims.trimmed_at().map(Micros::get));
    for (number, group) in stream.info.groups.iter().enumerate() {
        let reading = stream.loss_reading(group);
        let open = &mut stream.groups[number];
        let Some(reading) = reading else {
            open.cache.losses.note_position(group.last_delivered);
            continue;
        };
        if !open.losses_are_counted {
            let is_unconfirmed = open.cache.losses.note(&reading);
            if is_unconfirmed && stream.loss_question != LossQuestion::Atomic {
                open.cache.losses.note_uncertain();
            }
        }
        let GroupCache { losses, history, .. } = &*open.cache;
        let margin = stream.cache.trims.removed_since_poll().max(stream.info.length / DANGER_RATIO);
        let is_close = losses.headroom().is_none_or(|headroom| headroom < margin);
        let has_lost = history.as_ref().is_some_and(|history| is_recent(history.lost_at()));
        let waiting_since = history.as_ref().and_then(History::waiting_since);
        let reads = waiting_since.is_none() || is_recent(waiting_since);
        open.cache.note_danger(is_trimming && (is_close || has_lost) && reads, has_lost);
        open.cache.note_share(&stream.info, group, stream.node.entries_read);
    }
}

/// Notes whether trims wait for the slowest group.
fn note_retention(stream: &mut StreamState, at: Duration) {
    let info = &stream.info;
    let done_below = |(group, open): (&GroupInfo, &GroupState)| match open.oldest_pending(info.time) {
        _ if group.pending == 0 => Some(group.last_delivered),
        PelHead::Unknown => None,
        PelHead::Empty => Some(group.last_delivered),
        PelHead::Entry(entry) => Some(entry.id.min(group.last_delivered)),
    };
    let groups = || info.groups.iter().zip(&stream.groups);
    let min = |all: Option<Vec<StreamId>>| all?.into_iter().min();
    let lags: Option<Vec<u64>> = info.groups.iter().map(|group| stream.lag(group.last_delivered)).collect();
    let reading = RetentionReading {
        length: info.length,
        first: info.first,
        added: info.entries_added,
        done_below: min(groups().map(done_below).collect()),
        max_lag: lags.and_then(|lags| lags.into_iter().max()),
        has_other_groups: info.group_count > info.groups.len() as u64,
        lost: stream.groups.iter().map(|open| open.cache.losses.entries()).sum(),
    };
    let is_trimmed = stream.cache.trims.trimmed_at() == Some(Micros::from(at));
    let was_trimmed = if is_trimmed { WasTrimmed::Yes } else { WasTrimmed::No };
    stream.cache.trims.note(reading, was_trimmed);
    stream.cache.trim_pace.note(info.first, at, stream.window);
    stream.is_unread = stream.cache.unread.note(info, was_trimmed, at, stream.window);
}

/// Returns what can be trimmed, and keeps the position from which it was counted for the next poll.
fn safe_trim(stream: &mut StreamState) -> Option<SafeTrim> {
    let bound = stream.trim_bound()?;
    let entries = bound.entries(&stream.info, |position| stream.lag(position));
    stream.cache.set_held_from(bound.counted_from(&stream.info));
    Some(stream.cache.holder.note(bound, entries, &stream.info))
}

/// Counts the pending entries of consumers that are gone, as far as the PEL has become smaller: XGROUP DELCONSUMER drops
/// them, unless they were acknowledged or claimed before. Not known if consumers were not read.
fn note_dropped_pending(stream: &mut StreamState, before: &StreamReport) {
    for (group, open) in stream.info.groups.iter().zip(&mut stream.groups) {
        let found = before.groups.binary_search_by(|earlier| earlier.name.cmp(&group.name));
        let Some(before) = found.ok().map(|at| &before.groups[at]) else { continue };
        let (Some(values), Some(earlier)) = (&before.values, before.consumers()) else { continue };
        let fall = values.messages_pending.saturating_sub(group.pending);
        let Some(now) = group.each_consumer.consumers() else { continue };
        let is_gone = |(at, held): &(usize, &ConsumerReport)| {
            let is_same = |consumer: &ConsumerInfo| consumer.name == held.name;
            held.messages_pending() > 0 && !now.get(*at).is_some_and(is_same) && !now.iter().any(is_same)
        };
        let gone = earlier.iter().enumerate().filter(is_gone).map(|(_, held)| held.messages_pending());
        let dropped = fall.min(gone.sum());
        open.dropped = Some(dropped).into();
        if dropped > 0 {
            open.cache.rare.change(|rare| rare.pending_dropped += dropped);
        }
    }
}

/// Adds this poll to the history of each group, and counts what it was delivered. `statuses` becomes those of the groups.
fn note_histories(
    stream: &mut StreamState,
    state: &mut LagState,
    at: Duration,
    statuses: &mut Vec<GroupStatus>,
) {
    statuses.clear();
    stream.cache.clock.note(stream.info.time, at, stream.window);
    for number in 0..stream.groups.len() {
        let position_before = stream.groups[number].cache.position();
        statuses.push(note_history(stream, number, state, at));
        note_flow(stream, number, position_before, at);
    }
}

fn note_history(stream: &mut StreamState, number: usize, state: &mut LagState, at: Duration) -> GroupStatus {
    let (window, info, group) = (stream.window, &stream.info, &stream.info.groups[number]);
    let sample = sample(stream, group, &stream.groups[number], at);
    let open = &mut stream.groups[number];
    let history = match open.cache.history.take() {
        None => {
            let mut history = History::begin(&sample, window);
            if !stream.is_first_reading {
                history.note_appearance();
            }
            if let Some(RestoredGroup { rhythm, status, consumers, .. }) =
                state.take_restored(&stream.key, &group.name)
            {
                history.restore(rhythm, status);
                open.cache.set_consumer_counts(consumers);
            }
            history
        }
        Some(mut history) => {
            if stream.cache.gap() > window / 2 {
                history.interrupt(at);
            }
            history.note(&sample, window);
            history
        }
    };
    open.cache.note_consumer_count(info.time, group.consumers);
    let history = open.cache.history.insert(history);
    let view = HistoryWindow { history, sample: &sample, window };
    open.is_losing = view.is_recent(view.history.lost_at());
    let status = status::evaluate(&view);
    history.dated(status, info.time)
}

/// Counts what was delivered to a group, less what is known by now to be lost.
fn note_flow(stream: &mut StreamState, number: usize, position_before: StreamId, at: Duration) {
    let window = stream.window;
    let reading = flow_reading(stream, &stream.info.groups[number], &stream.groups[number], at);
    let flow = &mut stream.groups[number].cache.flow;
    if stream.cache.gap() > window / 2 {
        flow.interrupt();
    }
    flow.note(&reading, position_before, window);
}

fn flow_reading(stream: &StreamState, group: &GroupInfo, open: &GroupState, at: Duration) -> FlowReading {
    FlowReading {
        at,
        position: group.last_delivered,
        is_beyond_end: group.last_delivered > stream.info.last_generated,
        added: stream.info.entries_added,
        lag: stream.lag(group.last_delivered),
        lost: open.cache.losses.entries(),
        unseen_loss: unseen_loss(stream, open),
        removed_to: stream.info.removed_to(),
        pending: group.pending,
    }
}

fn unseen_loss(stream: &StreamState, open: &GroupState) -> UnseenLoss {
    let share = open.cache.loss_share().filter(|share| open.is_losing && share.is_overtaken());
    match (share, stream.node.entries_read) {
        (Some(share), EntriesReadMeaning::Rank) => {
            share.estimate().map_or(UnseenLoss::Unknown, UnseenLoss::Share)
        }
        _ => UnseenLoss::None,
    }
}

fn sample(stream: &StreamState, group: &GroupInfo, open: &GroupState, at: Duration) -> Sample {
    let info = &stream.info;
    let idle_ms = group.each_consumer.consumers().and_then(|all| all.iter().map(|one| one.idle_ms).min());
    let activity = match idle_ms {
        _ if group.consumers == 0 => ConsumerActivity::NoConsumers,
        Some(idle_ms) => ConsumerActivity::IdleFor(Duration::from_millis(idle_ms)),
        None => ConsumerActivity::Unknown,
    };
    Sample {
        at,
        node_time: info.time,
        lag: lag(stream, group),
        position: group.last_delivered,
        newest: info.last.unwrap_or(StreamId::MIN),
        added: info.entries_added,
        activity,
        consumers: group.consumers,
        proven_wait: proven_wait(stream, group),
        pending: group.pending,
        dropped: open.dropped.get(),
        oldest_pending: if group.pending == 0 { PelHead::Empty } else { open.oldest_pending(info.time) },
        longest_pending_idle: census(group, open).and_then(Census::certain_idle),
        lost: open.cache.losses.evidence(),
        clock_jump: stream.cache.clock.jump(info.time, at),
    }
}

/// Returns the time for which entries have waited without a delivery, by a first reading alone: the oldest
/// one has been there for so long, and no consumer got any. One that got some and was deleted shows nowhere, so this
/// decides only what a status is until polls have seen more. Zero for a group that appeared in a known stream, since it
/// may be a moment old.
fn proven_wait(stream: &StreamState, group: &GroupInfo) -> Duration {
    if !stream.is_first_reading {
        return Duration::ZERO;
    }
    let without_delivery = match group.each_consumer.consumers() {
        _ if group.consumers == 0 => Some(Duration::MAX),
        Some(all) => all
            .iter()
            .map(|one| one.inactive_ms.map_or(one.idle_ms, Count::get))
            .min()
            .map(Duration::from_millis),
        None => None,
    };
    let age = stream.next_entry(group.last_delivered).and_then(|next| next.age(stream.info.time));
    age.zip(without_delivery).map_or(Duration::ZERO, |(age, time)| age.min(time))
}

/// The report of the poll before.
#[derive(Debug)]
struct LastReport<'a> {
    streams: &'a [ReportedStream],
    /// The difference between the position of the stream found last and its place in this poll: most of the others have the
    /// same.
    shift: usize,
}

impl LastReport<'_> {
    /// Returns a stream of the last report, with the family that it belongs to now.
    fn of(&mut self, place: usize, key: &Name, family: Option<&Name>) -> Option<ReportedStream> {
        let expected = place.wrapping_add(self.shift);
        let is_there = self.streams.get(expected).is_some_and(|stream| stream.key == *key);
        let found = || self.streams.binary_search_by(|stream| stream.key.cmp(key)).ok();
        let at = if is_there { expected } else { found()? };
        self.shift = at.wrapping_sub(place);
        let last = &self.streams[at];
        Some(if last.family.as_ref() == family { last.clone() } else { last.in_family(family.cloned()) })
    }
}

fn not_yet_read(reading: &StreamReading) -> Option<ReportedStream> {
    reading.family.as_ref()?;
    Some(StreamReport { refused: true, ..unread(reading) }.into())
}

fn unread(reading: &StreamReading) -> StreamReport {
    let refused = matches!(reading.outcome, ReadOutcome::Refused | ReadOutcome::Unreachable);
    let groups = missing_groups(&reading.missing_groups).collect();
    let family = reading.family.clone();
    StreamReport { family, refused, ..StreamReport::new(reading.key.clone(), None, groups) }
}

fn missing_groups(names: &[Name]) -> impl Iterator<Item = GroupReport> {
    names.iter().cloned().map(GroupReport::missing)
}

fn read(
    stream: &mut StreamState,
    statuses: &[GroupStatus],
    (memory_bytes, before): (Option<u64>, Option<&StreamReport>),
    at: Duration,
) -> StreamReport {
    let safe_trim = safe_trim(stream);
    let info = &stream.info;
    let entries_added = stream.cache.entries_added(info);
    let values = StreamValues {
        length: info.length,
        groups: info.group_count,
        groups_abandoned: groups_abandoned(stream, statuses, at).into(),
        entries_added: entries_added.map(Count::from),
        is_first_timestamp: info.first.is_some_and(|id| id.timestamp(info.time).is_some()),
        is_last_generated_timestamp: info.last_generated.timestamp(info.time).is_some(),
        ids: StreamIds {
            first: info.first.into(),
            last: info.last.into(),
            last_generated: info.last_generated,
            max_deleted: info.max_deleted.map(Into::into),
        },
        radix_tree: info.radix_tree,
        safe_trim,
        memory_bytes: memory_bytes.map(Count::from),
        is_unread: stream.is_unread,
        seldom: SeldomStreamValues {
            group_changes: stream.cache.changes.counts(),
            idmp: info.idmp.as_deref().filter(|idmp| idmp.was_used()).copied(),
            fold: None,
        }
        .into(),
    };
    let mut groups: Vec<_> = info
        .groups
        .iter()
        .zip(&stream.groups)
        .zip(statuses)
        .map(|((group, open), status)| {
            let values = group_values(stream, group, open, *status, at);
            let consumers = group.each_consumer.consumers().and_then(|all| {
                let known = before.and_then(|before| consumers_in(before, &group.name));
                reported_consumers(all, &stream.node.consumer_limit, known, info.time)
            });
            GroupReport::new(group.name.clone(), Some(values)).with_shared_consumers(consumers)
        })
        .chain(missing_groups(&stream.missing_groups))
        .collect();
    groups.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let (family, read_at) = (stream.family.clone(), info.time.into());
    StreamReport { family, read_at, ..StreamReport::new(stream.key.clone(), Some(values), groups) }
}

fn group_values(
    stream: &StreamState,
    group: &GroupInfo,
    open: &GroupState,
    status: GroupStatus,
    at: Duration,
) -> GroupValues {
    let info = &stream.info;
    let position = group.last_delivered;
    let lag = lag(stream, group);
    let lag_seconds = if lag == Lag::Exact(0) {
        Some(Duration::ZERO)
    } else {
        stream.next_entry(position).and_then(|next| next.age(info.time))
    };
    let (flow, reading) = (&open.cache.flow, flow_reading(stream, group, open, at));
    let window = stream.window;
    let consumers_growth = open.cache.consumers_growth(info.time, group.consumers);
    let entries_lost =
        info.entries_added.filter(|_| !open.cache.losses.is_uncertain()).map(|_| open.cache.losses.entries());
    GroupValues {
        lag,
        lag_seconds: lag_seconds.map(Age::of),
        last_delivered_id: position,
        last_delivery_age: {
            open.cache.history.as_ref().and_then(|history| history.last_delivery_age(at)).map(Age::of)
        },
        entries_read: group.entries_read,
        messages_pending: group.pending,
        messages_released: messages_released(stream, group, open).map(Count::from),
        oldest_pending: oldest_pending(group, open, info.time),
        pending_orphaned: pending_orphaned(group, open, info).map(Count::from),
        pending_census: census(group, open).and_then(Census::reading),
        consumers: group.consumers,
        consumers_growth: consumers_growth.into(),
        silent_consumers: silent_consumers(group, open, stream.node.consumer_limit.max_idle),
        entries_lost: entries_lost.map(Count::from),
        entries_delivered: flow.delivered(&reading).map(Count::from),
        entries_acknowledged: flow.acknowledged(&reading).map(Count::from),
        drain_time: flow.drain_time(&reading, window).map(Millis::from),
        added_rate: flow.added_rate(&reading, window),
        delivered_rate: flow.delivered_rate(&reading, window),
        status,
        named: group.named,
        seldom: seldom_group_values(stream, group, open, lag, at).into(),
    }
}

fn seldom_group_values(
    stream: &StreamState,
    group: &GroupInfo,
    open: &GroupState,
    lag: Lag,
    at: Duration,
) -> SeldomGroupValues {
    let share = open.cache.loss_share().filter(|_| open.is_losing);
    let lag = lag.exact().filter(|_| stream.cache.trims.overtakes_groups());
    SeldomGroupValues {
        loss_estimate: share.and_then(LossShare::estimate),
        retention_used: lag.map(|lag| Retention { lag, length: stream.info.length }),
        time_to_loss: time_to_loss(stream, group, open, at).map(Millis::from),
        pending_dropped: open.cache.pending_dropped(),
        recreation: open.cache.recreation(),
        family_ages: None,
    }
}

/// Returns how many pending entries were released by XNACK: see [`GroupValues::messages_released`].
fn messages_released(stream: &StreamState, group: &GroupInfo, open: &GroupState) -> Option<u64> {
    match unowned(group).filter(|_| stream.node.has_xnack)? {
        0 => Some(0),
        unowned => open.cache.unowned.get().map(|before| before.min(unowned)),
    }
}

/// Returns the time until trimming reaches the group's position, or its oldest pending entry if that is still there.
fn time_to_loss(
    stream: &StreamState,
    group: &GroupInfo,
    open: &GroupState,
    at: Duration,
) -> Option<Duration> {
    let first = stream.info.first.filter(|_| stream.cache.trims.overtakes_groups())?;
    let position = group.last_delivered;
    let needed = match open.oldest_pending(stream.info.time) {
        _ if group.pending == 0 => position,
        PelHead::Unknown => return None,
        PelHead::Entry(entry) if entry.id >= first => entry.id.min(position),
        PelHead::Entry(_) | PelHead::Empty => position,
    };
    stream.cache.trim_pace.time_to(needed, first, at)
}

/// Returns the number of groups that have been abandoned for a day; `None` if it is not known of one.
fn groups_abandoned(stream: &StreamState, statuses: &[GroupStatus], at: Duration) -> Option<u64> {
    let now = stream.info.time;
    let mut groups = stream.info.groups.iter().zip(&stream.groups).zip(statuses);
    groups.try_fold(0, |sum, ((group, open), status)| {
        let is_one = is_abandoned_for_a_day(status, read_pause(stream, group, open, at), now)?;
        Some(sum + u64::from(is_one))
    })
}

/// Returns for how long nothing was read for a group. It cannot have been delivered an entry, nor created at it, before
/// the entry was added. Nor have entries waited for longer than the oldest one, if nothing was ever removed.
fn read_pause(stream: &StreamState, group: &GroupInfo, open: &GroupState, at: Duration) -> ReadPause {
    let history = open.cache.history.as_ref();
    let nothing_waits = (lag(stream, group).max() == 0).then_some(Duration::ZERO);
    let consumers = group.each_consumer.consumers().unwrap_or_default();
    let last_attempt = consumers.iter().map(|one| one.idle_ms).min().map(Duration::from_millis);
    let has_all = stream.info.entries_added == Some(stream.info.length);
    let next_entry_age = stream.next_entry(group.last_delivered).and_then(|next| next.age(stream.info.time));
    let bounds = [
        nothing_waits,
        next_entry_age.filter(|_| has_all),
        last_attempt,
        group.last_delivered.age(stream.info.time),
        history.and_then(|history| history.last_delivery_age(at)),
        history.and_then(|history| history.time_since_appearance(at)),
    ];
    let waiting_since = history.and_then(History::waiting_since);
    ReadPause {
        observed: waiting_since.map_or(Duration::ZERO, |since| at.saturating_sub(since)),
        // A list that was read apart from the group may lack one.
        consumers_idle: last_attempt.filter(|_| consumers.len() as u64 == group.consumers),
        next_entry_age,
        at_most: bounds.into_iter().flatten().min(),
    }
}

fn lag(stream: &StreamState, group: &GroupInfo) -> Lag {
    stream.lag(group.last_delivered).map_or_else(|| bounds(stream, group), Lag::Exact)
}

/// Returns certain bounds for the lag of a group that is still being counted.
///
/// At least what the scans have counted from the group's position up to the next checkpoint, plus the entries above
/// that. At most the entries above the next lower checkpoint, and less than all: the group stands between the first
/// and the last entry, so it was delivered one and lacks one.
fn bounds(stream: &StreamState, group: &GroupInfo) -> Lag {
    let (info, cache, position) = (&stream.info, &stream.cache, group.last_delivered);
    let below = cache.checkpoints.below(position).map_or(u64::MAX, |checkpoint| checkpoint.entries_above);
    let max = below.min(info.length.saturating_sub(1));
    let checkpoint = cache.checkpoints.at_or_above(position);
    let (end, above) =
        checkpoint.map_or((StreamId::MAX, 0), |checkpoint| (checkpoint.id, checkpoint.entries_above));
    let scanned = cache.scans.iter().filter(|scan| scan.start >= position && scan.start < end);
    let counted: u64 = scanned.map(|scan| scan.counted).sum();
    Lag::Between { min: (counted + above).max(1).min(max).into(), max }
}

fn oldest_pending(group: &GroupInfo, open: &GroupState, now: Duration) -> Option<OldestPending> {
    if group.pending == 0 {
        return Some(OldestPending::Nothing);
    }
    match open.oldest_pending(now) {
        PelHead::Unknown => None,
        PelHead::Empty => Some(OldestPending::Nothing),
        PelHead::Entry(entry) => Some(OldestPending::Entry {
            id: entry.id,
            consumer: open.cache.pending.as_ref().and_then(|known| known.oldest_consumer.clone()),
            idle: entry.idle_ms.map(|ms| Duration::from_millis(ms).into()),
            deliveries: entry.deliveries,
        }),
    }
}

/// Returns the census of the pending entries, if there are any.
fn census<'a>(group: &GroupInfo, open: &'a GroupState) -> Option<&'a Census> {
    open.cache.census().filter(|_| group.pending > 0)
}

/// Returns the number of pending IDs whose entries are not in the stream any more: those below the first entry, which were
/// trimmed, and those that were deleted above it. In an empty stream these are all. More than 1,000 below the first entry
/// are counted by the census.
fn pending_orphaned(group: &GroupInfo, open: &GroupState, info: &StreamInfo) -> Option<u64> {
    let Some(first) = info.first else { return Some(group.pending) };
    if group.pending == 0 {
        return Some(0);
    }
    let below = match open.oldest_pending(info.time) {
        PelHead::Unknown => None,
        PelHead::Empty => return Some(0),
        PelHead::Entry(entry) if entry.id < first => match open.below_first.value().count? {
            below if below <= MAX_ORPHANS => Some(u64::from(below)),
            more => census(group, open).and_then(Census::trimmed).filter(|trimmed| *trimmed >= more.into()),
        },
        PelHead::Entry(_) => Some(0),
    };
    // What the census has counted may be acknowledged by now.
    Some((below? + u64::from(open.deleted_pending.known()?)).min(group.pending))
}

fn silent_consumers(group: &GroupInfo, open: &GroupState, max_idle: Duration) -> Option<SilentConsumers> {
    match group.each_consumer {
        ConsumersReading::TooMany => {
            let many = open.cache.many_consumers().filter(|_| group.consumers <= MAX_LISTED);
            many.and_then(SeldomAsked::answer)
        }
        ConsumersReading::Open | ConsumersReading::Read(_) if group.consumers == 0 => {
            Some(SilentConsumers::default())
        }
        _ => Some(SilentConsumers::of(group.each_consumer.consumers()?, max_idle)),
    }
}

/// Returns how many pending entries belong to no consumer; `None` if consumers were not read.
fn unowned(group: &GroupInfo) -> Option<u64> {
    let owned = match group.each_consumer.consumers() {
        Some(consumers) => consumers.iter().map(|consumer| consumer.pending).sum(),
        None if group.consumers == 0 => 0,
        None => return None,
    };
    Some(group.pending.saturating_sub(owned))
}

/// Returns the consumers of a group in a report.
fn consumers_in<'a>(report: &'a StreamReport, group: &Name) -> Option<&'a Arc<[ConsumerReport]>> {
    let at = report.groups.binary_search_by(|known| known.name.cmp(group)).ok()?;
    report.groups[at].shared_consumers()
}

/// Returns all consumers, or the live ones if these are too many; `None` if those are too many as well. They are the known
/// ones if nothing but their ages differs.
fn reported_consumers(
    info: &[ConsumerInfo],
    limit: &ConsumerLimit,
    known: Option<&Arc<[ConsumerReport]>>,
    read_at: Duration,
) -> Option<Arc<[ConsumerReport]>> {
    let is_all = info.len() <= limit.at_most;
    if !is_all && limit.left_out(info) > 0 {
        return None;
    }
    let reported = || info.iter().filter(|consumer| is_all || limit.is_live(consumer));
    let is_known = |known: &&Arc<[ConsumerReport]>| {
        let mut rest = known.iter();
        reported().all(|now| rest.next().is_some_and(|known| shows(known, now, read_at)))
            && rest.next().is_none()
    };
    let known = known.filter(is_known).cloned();
    Some(known.unwrap_or_else(|| consumers(reported(), read_at).into()))
}

fn shows(known: &ConsumerReport, now: &ConsumerInfo, read_at: Duration) -> bool {
    known.name == now.name && known.shows(now.pending, ages(now), read_at)
}

fn ages(consumer: &ConsumerInfo) -> (Duration, Option<Duration>) {
    let inactive = consumer.inactive_ms.map(|ms| Duration::from_millis(ms.get()));
    (Duration::from_millis(consumer.idle_ms), inactive)
}

fn consumers<'a>(info: impl Iterator<Item = &'a ConsumerInfo>, read_at: Duration) -> Vec<ConsumerReport> {
    let mut consumers: Vec<_> = info
        .map(|consumer| {
            let (idle, inactive) = ages(consumer);
            ConsumerReport::new(consumer.name.clone(), consumer.pending, idle, inactive, read_at)
        })
        .collect();
    consumers.sort_by(|a, b| a.name.cmp(&b.name));
    // A server lists each consumer once. A proxy or clone that does not must not cause duplicate series.
    consumers.dedup_by(|second, first| second.name == first.name);
    consumers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Status;
    use crate::state::RememberedGroup;
    use crate::tests::model::{Counters, StreamModel};
    use crate::tests::properties::{PLENTY, Watcher};

    const POLL_MS: u64 = 10_000;
    /// Number of polls in a window.
    const POLLS: usize = 12;

    fn group() -> Name {
        Name::from("g")
    }

    /// Polls and returns the status of the group.
    fn poll(model: &mut StreamModel, watch: &mut Watcher) -> Status {
        model.clock_ms += POLL_MS;
        watch.poll(model, PLENTY, false);
        watch.values().next().unwrap().status.status()
    }

    /// Returns a group that keeps up, polled for longer than a window.
    fn healthy(counters: Counters) -> (StreamModel, Watcher) {
        let (mut model, mut watch) = (StreamModel::new(counters), Watcher::new());
        (0..100).for_each(|_| model.add());
        model.groups.insert(group(), Default::default());
        let mut last = Status::Unknown;
        for _ in 0..2 * POLLS {
            (0..5).for_each(|_| model.add());
            model.read(&group(), 60, true);
            model.trim_to(200);
            last = poll(&mut model, &mut watch);
        }
        assert_eq!(last, Status::Ok, "{counters:?}");
        (model, watch)
    }

    #[test]
    fn a_consumer_that_is_listed_twice_is_reported_once() {
        let listed = |name: &str, pending| ConsumerInfo {
            name: Name::from(name),
            pending,
            idle_ms: 0,
            inactive_ms: None,
        };
        let consumers = consumers([listed("b", 1), listed("a", 2), listed("b", 3)].iter(), Duration::ZERO);
        let names: Vec<_> = consumers.iter().map(|consumer| consumer.name.to_string()).collect();
        assert_eq!((names.join(" "), consumers[1].messages_pending()), ("a b".to_owned(), 1));
    }

    #[test]
    fn of_many_consumers_the_live_ones_are_reported() {
        let consumer = |name: &str, pending, idle_ms| ConsumerInfo {
            name: Name::from(name),
            pending,
            idle_ms,
            inactive_ms: None,
        };
        let all = [consumer("busy", 0, 5), consumer("dead", 0, 9_000), consumer("holds", 1, 9_000)];
        let reported = |at_most| {
            let limit = ConsumerLimit { at_most, max_idle: Duration::from_secs(1) };
            let consumers = reported_consumers(&all, &limit, None, Duration::ZERO)?;
            Some(consumers.iter().map(|one| one.name.to_string()).collect::<Vec<_>>().join(" "))
        };
        let expected = [(3, Some("busy dead holds")), (2, Some("busy holds")), (1, None)];
        assert_eq!(
            expected.map(|(at_most, _)| reported(at_most)),
            expected.map(|(_, names)| names.map(str::to_owned))
        );
    }

    #[test]
    fn reports_share_consumers_of_which_only_ages_differ() {
        type Change = fn(&mut Vec<ConsumerInfo>);
        let read_at = Duration::from_secs(1_700_000_000);
        let consumer = |name: &str, idle_ms: u64, inactive_ms: Option<u64>| ConsumerInfo {
            name: Name::from(name),
            pending: 2,
            idle_ms,
            inactive_ms: inactive_ms.map(Count::from),
        };
        let read = |later_ms: u64| {
            let inactive_ms = Some(70_000 + later_ms);
            vec![consumer("a", 5_000 + later_ms, inactive_ms), consumer("b", 9_000 + later_ms, None)]
        };
        let limit = ConsumerLimit { at_most: 3, max_idle: Duration::from_secs(3_600) };
        let known = reported_consumers(&read(0), &limit, None, read_at).unwrap();
        let later = |all: &[ConsumerInfo]| {
            let read_at = read_at + Duration::from_secs(10);
            reported_consumers(all, &limit, Some(&known), read_at).unwrap()
        };
        for later_ms in [9_985, 10_000, 10_015] {
            assert!(Arc::ptr_eq(&known, &later(&read(later_ms))), "{later_ms}");
        }
        let changes: [(&str, Change); 8] = [
            ("an attempt to read", |all| all[1].idle_ms = 0),
            ("a delivery", |all| all[0].inactive_ms = Some(0.into())),
            ("the first delivery", |all| all[1].inactive_ms = Some(19_000.into())),
            ("no delivery any more", |all| all[0].inactive_ms = None),
            ("an acknowledgement", |all| all[1].pending = 1),
            ("another name", |all| all[1].name = Name::from("c")),
            ("one consumer less", |all| drop(all.pop())),
            ("one consumer more", |all| all.extend_from_within(1..)),
        ];
        for (what, change) in changes {
            let mut now = read(10_000);
            change(&mut now);
            assert!(!Arc::ptr_eq(&known, &later(&now)), "{what}");
        }
    }

    #[test]
    fn a_history_continues_over_a_new_connection() {
        for counters in [Counters::None, Counters::Original, Counters::Fixed] {
            let (mut model, mut watch) = healthy(counters);
            watch.epoch += 1;
            assert_eq!(poll(&mut model, &mut watch), Status::Ok, "{counters:?}");
            let saved = model.clone();
            model.add();
            model.read(&group(), 60, true);
            poll(&mut model, &mut watch);
            model = StreamModel { clock_ms: model.clock_ms, ..saved };
            watch.epoch += 1;
            assert_eq!(
                poll(&mut model, &mut watch),
                Status::Rewound,
                "{counters:?}: restarted from an older file"
            );
        }
    }

    #[test]
    fn a_history_ends_when_its_stream_or_group_is_deleted() {
        for counters in [Counters::Original, Counters::Fixed] {
            let (model, mut watch) = healthy(counters);
            let mut another = StreamModel { clock_ms: model.clock_ms, ..StreamModel::new(counters) };
            (0..5).for_each(|_| another.add());
            another.groups.insert(group(), Default::default());
            assert_eq!(poll(&mut another, &mut watch), Status::Unknown, "{counters:?}");
        }
        let (mut model, mut watch) = healthy(Counters::Fixed);
        let missing = model.groups.remove(&group()).unwrap();
        model.clock_ms += POLL_MS;
        watch.poll(&mut model, PLENTY, false);
        model.groups.insert(group(), missing);
        model.add();
        assert_eq!(poll(&mut model, &mut watch), Status::Unknown);
    }

    #[test]
    fn a_history_ends_with_an_outage_but_not_while_its_stream_is_deferred() {
        for misses in [3, 4, 8, 40] {
            // An entry that waits at the first poll of a history may have waited for long.
            let (mut model, mut watch) = healthy(Counters::Fixed);
            model.add();
            model.clock_ms += POLL_MS * misses;
            let expected = if misses > 5 { Status::Unknown } else { Status::Ok };
            assert_eq!(poll(&mut model, &mut watch), expected, "{misses} polls were missed");

            let (mut model, mut watch) = healthy(Counters::Fixed);
            for _ in 0..misses {
                model.clock_ms += POLL_MS;
                watch.defer(&model);
            }
            assert_eq!(poll(&mut model, &mut watch), Status::Ok, "{misses} polls read other streams");

            let (mut model, mut watch) = healthy(Counters::Fixed);
            model.add();
            model.clock_ms += POLL_MS * misses;
            watch.defer(&model);
            assert_eq!(
                poll(&mut model, &mut watch),
                expected,
                "{misses} polls were missed, then one deferred it"
            );
        }
    }

    #[test]
    fn what_was_learned_of_a_group_is_known_to_another_state() {
        let (mut model, mut watch) = healthy(Counters::Fixed);
        for _ in 0..30 {
            model.add();
            poll(&mut model, &mut watch);
        }
        model.read(&group(), 60, true);
        poll(&mut model, &mut watch);
        let learned = watch.remembered(model.at());
        let [RememberedGroup { pause: Some(pause), status: None, .. }] = &learned[..] else {
            panic!("{learned:?}")
        };
        assert!((290..=310).contains(&pause.length.as_secs()), "{pause:?}");

        let mut later = Watcher::new();
        later.state.restore(learned.clone(), model.at());
        assert_eq!(later.remembered(model.at()), learned, "not read yet");
        let statuses: Vec<_> = (0..4 * POLLS)
            .map(|_| {
                model.add();
                poll(&mut model, &mut later)
            })
            .collect();
        assert_eq!(later.remembered(model.at()).len(), 1);
        assert!(statuses.iter().all(|status| *status >= Status::Unknown), "{statuses:?}");
        assert_eq!(statuses.last(), Some(&Status::Ok));
    }

    #[test]
    fn a_condition_that_goes_on_over_a_restart_has_begun_before_it() {
        let (mut model, mut watch) = healthy(Counters::Fixed);
        let until_dead = |model: &mut StreamModel, watch: &mut Watcher| {
            (0..8 * POLLS).any(|_| {
                model.add();
                poll(model, watch) == Status::Abandoned
            })
        };
        let since = |watch: &Watcher| watch.values().next().unwrap().status.since;
        assert!(until_dead(&mut model, &mut watch));
        let (died, mut later) = (since(&watch), Watcher::new());
        later.state.restore(watch.remembered(model.at()), model.at());
        assert!(until_dead(&mut model, &mut later));
        assert_eq!(since(&later), died);
        // Another one has just begun.
        model.read(&group(), 60, true);
        assert_ne!(poll(&mut model, &mut later), Status::Abandoned);
        assert!(until_dead(&mut model, &mut later));
        assert!(since(&later) > died);
    }

    #[test]
    fn pending_entries_of_consumers_that_are_gone_were_dropped_at_most() {
        // Each read is by a random consumer, and here both read.
        fastrand::seed(1);
        let (mut model, mut watch) = healthy(Counters::Fixed);
        let dropped = |watch: &Watcher| watch.values().next().unwrap().seldom.pending_dropped;
        let of = |model: &StreamModel, name| {
            model.groups[&group()].pending.values().filter(|held| held.consumer == Some(name)).count() as u64
        };
        // A random consumer reads.
        while of(&model, "x") == 0 || of(&model, "y") == 0 {
            (0..20).for_each(|_| model.add());
            model.read(&group(), 20, false);
            poll(&mut model, &mut watch);
        }
        assert_eq!(dropped(&watch), 0);
        let (x, y) = (of(&model, "x"), of(&model, "y"));
        // One acknowledges, the other is deleted with what it has.
        let group_of = |model: &mut StreamModel| model.groups.remove(&group()).unwrap();
        let mut changed = group_of(&mut model);
        changed.pending.pop_first();
        changed.pending.retain(|_, held| held.consumer != Some("y"));
        changed.consumers.remove("y");
        let acknowledged = x - changed.pending.len() as u64;
        model.groups.insert(group(), changed);
        poll(&mut model, &mut watch);
        assert_eq!(dropped(&watch), y);
        assert!(acknowledged <= 1);
        // Its entries are claimed before it is deleted, and acknowledgements alone drop nothing.
        let mut changed = group_of(&mut model);
        changed.pending.values_mut().for_each(|held| held.consumer = Some("z"));
        changed.consumers.remove("x");
        changed.consumers.insert("z", model.now_ms());
        model.groups.insert(group(), changed);
        poll(&mut model, &mut watch);
        model.groups.get_mut(&group()).unwrap().pending.clear();
        poll(&mut model, &mut watch);
        assert_eq!(dropped(&watch), y);
    }

    #[test]
    fn a_stream_whose_questions_are_answered_too_late_keeps_its_values() {
        let (mut model, mut watch) = healthy(Counters::Fixed);
        let shown = |watch: &Watcher| watch.values().next().unwrap();
        (0..20).for_each(|_| model.add());
        model.read(&group(), 20, false);
        let now_ms = model.now_ms();
        let mut held = model.groups.remove(&group()).unwrap();
        for (held, consumer) in held.pending.values_mut().zip(["x", "y"].into_iter().cycle()) {
            held.consumer = Some(consumer);
        }
        held.consumers = [("x", now_ms), ("y", now_ms)].into();
        model.groups.insert(group(), held);
        poll(&mut model, &mut watch);
        let before = shown(&watch);
        assert_eq!(before.messages_pending, 20);
        // One acknowledges, the other is deleted with what it has.
        let mut changed = model.groups.remove(&group()).unwrap();
        changed.pending.pop_first();
        changed.pending.retain(|_, held| held.consumer != Some("y"));
        changed.consumers.remove("y");
        model.groups.insert(group(), changed);
        watch.is_late = true;
        for _ in 0..3 {
            poll(&mut model, &mut watch);
            assert_eq!(shown(&watch), before);
        }
        watch.is_late = false;
        poll(&mut model, &mut watch);
        let after = shown(&watch);
        assert_eq!((after.messages_pending, after.seldom.pending_dropped), (9, 10), "counted once");
    }

    #[test]
    fn a_condition_begins_in_time_while_nothing_but_time_changes() {
        for counters in [Counters::None, Counters::Original, Counters::Fixed] {
            let (mut model, mut watch) = healthy(counters);
            model.add();
            poll(&mut model, &mut watch);
            let ages = |watch: &Watcher| {
                let view = watch.views().next().unwrap();
                [view.lag_seconds(), view.last_delivered_id_age(), view.last_delivery_age()]
            };
            let at_first = ages(&watch);
            let mut polls = 1;
            while poll(&mut model, &mut watch) == Status::Ok {
                polls += 1;
                let waited = Duration::from_millis(POLL_MS) * (polls - 1);
                let grown = at_first.map(|age| Some(age? + waited));
                assert_eq!(ages(&watch), grown, "{counters:?}");
            }
            let status = watch.values().next().unwrap().status.status();
            assert_eq!((status, polls as usize), (Status::Abandoned, POLLS), "{counters:?}");
        }
    }

    #[test]
    fn a_group_without_consumers_becomes_abandoned_after_a_window() {
        for counters in [Counters::None, Counters::Original, Counters::Fixed] {
            let (mut model, mut watch) = healthy(counters);
            let mut polls = 0;
            let dead = loop {
                model.add();
                polls += 1;
                match poll(&mut model, &mut watch) {
                    Status::Ok => {}
                    other => break other,
                }
            };
            assert_eq!((dead, polls), (Status::Abandoned, POLLS + 1), "{counters:?}");
        }
    }
}
