//! State that is kept from one poll to the next.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::audit::PartialAudit;
use crate::census::Census;
use crate::checkpoints::Checkpoints;
use crate::compact::{CompactId, Micros, MostlyDefault, SmallCount};
use crate::consumer_growth::{ConsumerCounts, SteadyCount};
use crate::count_scan::CountScans;
use crate::deleted_pending::CachedDeletedPending;
use crate::flow::Flow;
use crate::from_bounds;
use crate::from_counters::TrustedCounters;
use crate::group_changes::{GroupChanges, KeptCounters};
pub use crate::history::DatedStatus;
use crate::history::{History, NodeClock};
use crate::holder::{HolderHistory, UnreadGrowth};
use crate::later_pages::{LaterPage, LaterPages};
use crate::loss::{LossReading, Losses};
use crate::loss_share::LossShare;
use crate::notable::{Notable, NotableStreams};
use crate::pending_cache::CachedOldestPending;
use crate::question::{Answer, Question};
use crate::report::{Recreation, Report, SilentConsumers};
use crate::retention::{TrimEvidence, TrimPace, WasTrimmed};
use crate::rhythm::Rhythm;
use crate::seldom::SeldomAsked;
use crate::settled::Settled;
use crate::snapshot::{EntriesReadMeaning, Epoch, GroupInfo, LossSample, NodeInfo, StreamInfo};
use crate::stream_change::{StreamBounds, StreamChange};
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;

/// Largest decrease of entries-added over a new connection, as a part of its value, that is taken for a failover to a
/// replica that had not received everything.
const MAX_FAILOVER_DECREASE_RATIO: f64 = 0.01;
/// Decrease that is taken for a failover in any case.
const MAX_FAILOVER_DECREASE: u64 = 100;

/// State of the streams of one target. Keep one per target and pass it to every
/// [`PollReadings::begin`](crate::poll_readings::PollReadings::begin); it holds what was counted, so that most lags cost no
/// command. Starting with an empty one is always correct.
#[derive(Debug, Default)]
pub struct LagState {
    pub(super) streams: HashMap<Name, Box<StreamCache>>,
    /// Index of the scan to serve first, so that a budget too small for all scans serves them in turn.
    pub(super) next_scan: usize,
    /// The place of the stream whose turn comes first to have counted what can be trimmed.
    pub(super) next_trim: usize,
    /// Start of the previous poll, by the caller's monotonic clock.
    pub(super) polled_at: Option<Duration>,
    pub(super) notable: NotableStreams,
    /// Groups that were known before and were not read since, by stream.
    restored: HashMap<Name, Vec<RestoredGroup>>,
    /// Number of times that a stream was settled, which spreads their next derivations.
    pub(super) settled_streams: u32,
    /// False if no stream is settled at present.
    pub(super) has_settled: bool,
    pub(super) later_pages: LaterPages,
    /// The memory of streams, where it is asked for.
    pub(super) memory: HashMap<Name, SeldomAsked<u64>>,
}

/// The state of a group before a restart.
#[derive(Clone, Debug)]
pub(super) struct RestoredGroup {
    pub(super) name: Name,
    pub(super) rhythm: Rhythm,
    pub(super) status: Option<DatedStatus>,
    pub(super) consumers: ConsumerCounts,
}

/// A group as its history knows it, to be kept over a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RememberedGroup {
    /// Key of the stream.
    pub stream: Name,
    /// Name of the group.
    pub group: Name,
    /// The pause between deliveries that it usually makes.
    pub pause: Option<LearnedPause>,
    /// Its status, if that is a condition.
    pub status: Option<DatedStatus>,
    /// Its consumers over the last day, if their number has changed; empty otherwise.
    pub consumers: ConsumerCounts,
}

impl RememberedGroup {
    /// Returns all groups of which anything is known: those of which [more](LagState::remembered_beyond_report) is known than the last
    /// report shows, and the others that it shows in a condition.
    pub fn all<'a>(beyond_report: &'a [Self], report: Option<&'a Report>) -> impl Iterator<Item = Self> + 'a {
        let known: HashSet<_> = beyond_report.iter().map(|known| (&known.stream, &known.group)).collect();
        let groups = report.into_iter().flat_map(Report::groups);
        let shown = groups.filter(move |(stream, group)| !known.contains(&(&stream.key, &group.name)));
        let shown = shown.filter_map(|(stream, group)| {
            let shown = group.values.as_ref()?.status;
            let since = shown.since.filter(|_| shown.status().is_condition())?;
            Some(Self {
                stream: stream.key.clone(),
                group: group.name.clone(),
                pause: None,
                status: Some(DatedStatus { status: shown.status(), since: since.into() }),
                consumers: ConsumerCounts::default(),
            })
        });
        beyond_report.iter().cloned().chain(shown)
    }
}

/// The longest pause that ended with a group catching up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearnedPause {
    /// Its length.
    pub length: Duration,
    /// Time until it is forgotten.
    pub remembered_for: Duration,
}

/// State of one stream.
#[derive(Debug, Default)]
pub(super) struct StreamCache {
    bounds: Option<StreamBounds>,
    pub(super) checkpoints: Checkpoints,
    pub(super) scans: CountScans,
    /// An audit of the previous poll that was cut short. It is applied once the next reading proves it valid.
    pub(super) partial_audit: Option<Box<PartialAudit>>,
    /// Pairs of a last-delivered-id and the oldest entry above it.
    next: Box<[(StreamId, StreamId)]>,
    /// Sorted by name. `None` while a poll has [taken](Self::take_group) the state.
    groups: Box<[(Name, Option<Box<GroupCache>>)]>,
    pub(super) trims: TrimEvidence,
    pub(super) clock: NodeClock,
    pub(super) holder: HolderHistory,
    pub(super) changes: GroupChanges,
    pub(super) continuity: StreamContinuity,
    pub(super) unread: UnreadGrowth,
    /// The position above which the entries that a group holds were counted or are being counted.
    held_from: Option<CompactId>,
    pub(super) trim_pace: TrimPace,
    /// The number by which entries-added, as it is reported, exceeds what was read.
    hidden_decrease: u64,
    /// Longest interval between polls of the target since the stream was last read, up to 49 days.
    gap_ms: u32,
    /// Time of the first of the reports in a row that show nothing but ages grown, by the caller's clock.
    pub(super) unchanged_since: Option<Micros>,
    /// Set if the stream needs no derivation while its readings stay the same.
    pub(super) settled: Option<Box<Settled>>,
}

/// State of one group.
#[derive(Debug, Default)]
pub(super) struct GroupCache {
    /// Set if the server's counters agreed with the exact lag at the previous poll.
    pub(super) trusted_counters: Option<TrustedCounters>,
    pub(super) losses: Losses,
    /// Of a group with pending entries.
    pub(super) pending: Option<Box<KnownPending>>,
    /// Pending entries that belonged to no consumer in the last reading.
    pub(super) unowned: SmallCount,
    pub(super) history: Option<History>,
    pub(super) flow: Flow,
    /// The number of its consumers, unless it has [changed](RareGroup::consumer_counts).
    pub(super) steady_count: SteadyCount,
    pub(super) rare: MostlyDefault<RareGroup>,
}

/// The state of the pending entries of a group.
#[derive(Debug, Default)]
pub(super) struct KnownPending {
    pub(super) oldest: Option<CachedOldestPending>,
    /// Name of the consumer of `oldest`.
    pub(super) oldest_consumer: Option<Name>,
    /// Of a group whose pending entries may have been deleted from within the stream.
    pub(super) deleted: Option<Box<CachedDeletedPending>>,
    pub(super) census: Option<Box<Census>>,
}

/// The state that few groups have.
#[derive(Debug, Default, PartialEq)]
pub(super) struct RareGroup {
    /// True if trimming is about to overtake the group, or has done so, and the group still reads.
    pub(super) is_in_danger: bool,
    /// `None` if the group is not in danger and loses nothing.
    pub(super) loss_share: Option<Box<LossShare>>,
    /// Number of pending entries that went with their consumers.
    pub(super) pending_dropped: u64,
    pub(super) recreation: Option<Recreation>,
    /// Of a group with too many consumers to be read in every poll.
    pub(super) many_consumers: Option<Box<SeldomAsked<SilentConsumers>>>,
    /// The numbers of its consumers over the last day, if they have changed.
    consumer_counts: Option<Box<ConsumerCounts>>,
}

/// The relation of a reading of a stream to the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum StreamContinuity {
    /// It was not read before, or on another connection.
    #[default]
    Unknown,
    Same,
    /// The stream was deleted, and another one created under its key.
    Replaced,
}

impl LagState {
    /// Replaces the pages that are left of the poll before.
    pub(crate) fn set_later_pages(&mut self, due: Vec<LaterPage>, left: u32) {
        self.later_pages = LaterPages { due, asked: Vec::new(), left };
    }

    /// Returns true if pages of long lists of pending entries are left to be read after the last poll.
    #[must_use]
    pub fn has_later_pages(&self) -> bool {
        !self.later_pages.due.is_empty()
    }

    /// Returns the questions for the next pages of long lists of pending entries, about the streams of the
    /// last poll. Empty once none is left, or the budget is used up.
    pub fn later_questions(&mut self) -> Vec<Question> {
        let pages = &mut self.later_pages;
        pages.asked = std::mem::take(&mut pages.due);
        pages.asked.iter().map(LaterPage::question).collect()
    }

    /// Takes the answers to the questions that were returned last: one for each, in the same order.
    pub fn answer_later(&mut self, answers: Vec<Answer>) {
        let Self { later_pages: LaterPages { due, asked, left }, streams, .. } = self;
        for (page, answer) in asked.drain(..).zip(answers) {
            let Answer::PendingPage(entries) = answer else { continue };
            let Some(stream) = streams.get_mut(&page.key) else { continue };
            let clock = stream.clock;
            let census = stream.group_mut(&page.group).and_then(GroupCache::census_mut);
            let Some(census) = census else { continue };
            due.extend(page.note(&entries, census, clock, left));
        }
    }

    /// Returns the groups of whose histories more is known than the last report shows, with all that is known, at `now` by
    /// the caller's monotonic clock. [`RememberedGroup::all`] adds the others.
    pub fn remembered_beyond_report(&self, now: Duration) -> impl Iterator<Item = RememberedGroup> {
        let streams = self.notable.of(Notable::BeyondReport);
        let streams = streams.filter_map(|key| self.streams.get_key_value(key));
        self.remembered_of(streams, now)
    }

    /// Returns all that is known of the groups of some streams, and of those that were not read yet.
    fn remembered_of<'a>(
        &'a self,
        streams: impl Iterator<Item = (&'a Name, &'a Box<StreamCache>)>,
        now: Duration,
    ) -> impl Iterator<Item = RememberedGroup> {
        let read = streams.flat_map(|(key, stream)| {
            let groups = stream.groups.iter();
            groups.filter_map(move |(name, group)| {
                let group = group.as_ref()?;
                let history = group.history.as_ref()?;
                Some((key, name, history.rhythm(), history.condition(), group.changed_consumer_counts()))
            })
        });
        let not_read = self.restored.iter().flat_map(|(key, groups)| {
            groups.iter().map(move |group| {
                let consumers = Some(&group.consumers).filter(|consumers| consumers.has_changed());
                (key, &group.name, group.rhythm, group.status, consumers)
            })
        });
        read.chain(not_read).filter_map(move |(stream, group, rhythm, status, consumers)| {
            let pause = rhythm.learned(now);
            let pause = pause.map(|(length, remembered_for)| LearnedPause { length, remembered_for });
            let is_known = pause.is_some() || status.is_some() || consumers.is_some();
            is_known.then(|| RememberedGroup {
                stream: stream.clone(),
                group: group.clone(),
                pause,
                status,
                consumers: consumers.cloned().unwrap_or_default(),
            })
        })
    }

    /// Returns all that is known of all groups.
    #[cfg(test)]
    pub(super) fn remembered_of_all(&self, now: Duration) -> impl Iterator<Item = RememberedGroup> {
        self.remembered_of(self.streams.iter(), now)
    }

    /// Drops the states of other streams.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&Name) -> bool) {
        self.streams.retain(|key, _| is_kept(key));
        self.notable.retain(is_kept);
    }

    /// Adds what was known before, so that a group that pauses is not taken for a dead one after a restart, and a
    /// condition that goes on has not just begun.
    pub fn restore(&mut self, groups: impl IntoIterator<Item = RememberedGroup>, now: Duration) {
        for RememberedGroup { stream, group: name, pause, status, consumers } in groups {
            let known = |pause: LearnedPause| Rhythm::known(pause.length, pause.remembered_for, now);
            let rhythm = pause.map(known).unwrap_or_default();
            self.restored.entry(stream).or_default().push(RestoredGroup { name, rhythm, status, consumers });
        }
    }

    /// Removes and returns what was known of a group before.
    pub(super) fn take_restored(&mut self, stream: &Name, group: &Name) -> Option<RestoredGroup> {
        let groups = self.restored.get_mut(stream)?;
        let at = groups.iter().position(|known| known.name == *group)?;
        let known = groups.swap_remove(at);
        if groups.is_empty() {
            self.restored.remove(stream);
        }
        Some(known)
    }

    /// See [`PollReadings::settled`](crate::poll_readings::PollReadings::settled).
    pub(crate) fn settled(&self, key: &Name, epoch: Epoch) -> Option<Settled> {
        let known = self.has_settled.then(|| self.streams.get(key)).flatten();
        let stream = known.filter(|stream| stream.epoch() == Some(epoch))?;
        stream.settled.as_deref().copied()
    }

    /// Returns the streams with a group in danger of losing entries. Between polls, each of them is worth a sample about
    /// four times a second.
    pub fn streams_in_danger(&self) -> impl Iterator<Item = StreamInDanger<'_>> {
        let streams = self.notable.of(Notable::InDanger);
        let streams = streams.filter_map(|key| self.streams.get_key_value(key));
        streams.filter_map(|(key, stream)| {
            let groups = stream.groups.iter().filter_map(|(_, group)| group.as_ref());
            let in_danger = groups.filter_map(|group| group.rare.get()).filter(|rare| rare.is_in_danger);
            let shares: Vec<_> = in_danger.filter_map(|rare| rare.loss_share.as_deref()).collect();
            (!shares.is_empty()).then(|| StreamInDanger {
                key,
                group_count: stream.groups.len() as u64 + stream.changes.others(),
                is_overtaken: shares.iter().any(|share| share.is_overtaken()),
                needs_bursts: shares.iter().any(|share| share.needs_bursts()),
            })
        })
    }

    /// Notes the losses that a sample shows. A loss counts only if the group's position was the same before and after
    /// the stream was read.
    pub fn note_sample(&mut self, sample: &LossSample<'_>) {
        let Some(stream) = self.streams.get_mut(sample.key) else { return };
        let now = StreamBounds::of(sample.info, sample.epoch);
        let is_same = stream.bounds.is_some_and(|before| {
            before.epoch() == sample.epoch && before.change_to(&now) != StreamChange::Unknown
        });
        if !is_same {
            return;
        }
        for (name, cache) in &mut stream.groups {
            let Some(cache) = cache.as_mut().filter(|cache| cache.is_in_danger()) else { continue };
            let group = sample.info.groups.iter().find(|group| group.name == *name);
            let after = sample.groups_after.iter().find(|group| group.name == *name);
            let (Some(group), Some(after)) = (group, after) else { continue };
            // A group within the stream has lost nothing since it was delivered its position.
            let lag = from_bounds::lag_from_bounds(sample.info, group.last_delivered);
            let reading = lag.and_then(|lag| LossReading::of(sample.info, group, lag, sample.entries_read));
            let has_stood = after.last_delivered == group.last_delivered;
            match reading {
                Some(reading) if has_stood => cache.losses.count(&reading),
                Some(reading) => drop(cache.losses.note(&reading)),
                None => cache.losses.note_position(group.last_delivered),
            }
            if has_stood {
                cache.note_share(sample.info, group, sample.entries_read);
            }
        }
    }
}

/// A stream with a group in danger of losing entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamInDanger<'a> {
    /// Key of the stream.
    pub key: &'a Name,
    /// Number of its groups, to which the cost of a sample is proportional.
    pub group_count: u64,
    /// True if trimming has overtaken one of the groups in danger lately.
    pub is_overtaken: bool,
    /// True if one of the groups in danger reads so often that only samples a few milliseconds apart see its single
    /// reads.
    pub needs_bursts: bool,
}

impl GroupCache {
    /// Returns the state of a group of which nothing but earlier counts is known.
    pub(super) fn with(counters: KeptCounters) -> Self {
        let KeptCounters { losses, flow, pending_dropped, recreation } = counters;
        let mut cache = Self { losses, flow, ..Self::default() };
        cache.rare.change(|rare| (rare.pending_dropped, rare.recreation) = (pending_dropped, recreation));
        cache
    }

    /// Removes and returns what is counted, without what it was counted from.
    pub(super) fn take_counters(&mut self) -> KeptCounters {
        KeptCounters {
            losses: self.losses.restarted(),
            flow: std::mem::take(&mut self.flow),
            pending_dropped: self.pending_dropped(),
            recreation: self.recreation(),
        }
    }

    /// Returns the counts that go on if a group of the same name follows.
    pub(super) fn end(&mut self) -> KeptCounters {
        let mut counters = self.take_counters();
        counters.flow.restart();
        counters
    }

    /// Drops all but the counts, since the group is another one of the same name.
    pub(super) fn restart(&mut self) {
        *self = Self::with(self.end());
    }

    /// Returns the position in the last reading; `0-0` if there was none.
    pub(super) fn position(&self) -> StreamId {
        self.history.as_ref().map_or(StreamId::MIN, History::position)
    }

    /// Adds a reading to the estimated share of lost entries, of a group that may lose some.
    pub(super) fn note_share(&mut self, info: &StreamInfo, group: &GroupInfo, meaning: EntriesReadMeaning) {
        if self.loss_share().is_none() {
            return;
        }
        let reading = self.losses.share_reading(info, group, meaning);
        self.rare.change(|rare| match (&mut rare.loss_share, reading) {
            (Some(share), Some(reading)) => share.note(reading),
            (Some(share), None) => share.interrupt(),
            (None, _) => {}
        });
    }

    /// Notes if the group is in danger of losing entries. The share that it loses is estimated while it is, and while it
    /// has lost some within the window.
    pub(super) fn note_danger(&mut self, is_in_danger: bool, has_lost: bool) {
        let is_estimated = is_in_danger || has_lost;
        if !is_estimated && self.rare.get().is_none() {
            return;
        }
        self.rare.change(|rare| {
            rare.is_in_danger = is_in_danger;
            match is_estimated {
                true => drop(rare.loss_share.get_or_insert_default()),
                false => rare.loss_share = None,
            }
        });
    }

    /// Returns true if the group is in danger of losing entries.
    pub(super) fn is_in_danger(&self) -> bool {
        self.rare.get().is_some_and(|rare| rare.is_in_danger)
    }

    pub(super) fn loss_share(&self) -> Option<&LossShare> {
        self.rare.get()?.loss_share.as_deref()
    }

    pub(super) fn pending_dropped(&self) -> u64 {
        self.rare.get().map_or(0, |rare| rare.pending_dropped)
    }

    pub(super) fn recreation(&self) -> Option<Recreation> {
        self.rare.get()?.recreation
    }

    pub(super) fn many_consumers(&self) -> Option<&SeldomAsked<SilentConsumers>> {
        self.rare.get()?.many_consumers.as_deref()
    }

    /// Changes what is known of the consumers of a group that has too many to be read in every poll.
    pub(super) fn update_many_consumers(&mut self, change: impl FnOnce(&mut SeldomAsked<SilentConsumers>)) {
        self.rare.change(|rare| change(rare.many_consumers.get_or_insert_default()));
    }

    /// Returns the numbers of its consumers over the last day, if they have changed.
    fn changed_consumer_counts(&self) -> Option<&ConsumerCounts> {
        self.rare.get()?.consumer_counts.as_deref()
    }

    /// Notes the number of its consumers, at `time` by the node's clock.
    pub(super) fn note_consumer_count(&mut self, time: Duration, consumers: u64) {
        let mut counts = match self.changed_consumer_counts() {
            Some(counts) if counts.is_recent(time) => return,
            None if self.steady_count.is_recent(time) => return,
            Some(counts) => counts.clone(),
            None => self.steady_count.counts(),
        };
        counts.note(time, consumers);
        self.set_consumer_counts(counts);
    }

    pub(super) fn set_consumer_counts(&mut self, counts: ConsumerCounts) {
        let steady = SteadyCount::of(&counts);
        self.steady_count = steady.unwrap_or_default();
        if steady.is_none() || self.changed_consumer_counts().is_some() {
            self.rare.change(|rare| rare.consumer_counts = steady.is_none().then(|| Box::new(counts)));
        }
    }

    /// Returns how many more consumers it has than a day ago; `None` if it was not observed for so long.
    pub(super) fn consumers_growth(&self, time: Duration, consumers: u64) -> Option<u64> {
        match self.changed_consumer_counts() {
            Some(counts) => counts.growth(time, consumers),
            None => self.steady_count.growth(time, consumers),
        }
    }

    /// Returns the oldest pending entry when it was last asked for.
    pub(super) fn oldest_pending(&self) -> Option<&CachedOldestPending> {
        self.pending.as_ref()?.oldest.as_ref()
    }

    pub(super) fn oldest_pending_mut(&mut self) -> Option<&mut CachedOldestPending> {
        self.pending.as_mut()?.oldest.as_mut()
    }

    pub(super) fn census(&self) -> Option<&Census> {
        self.pending.as_ref()?.census.as_deref()
    }

    pub(super) fn census_mut(&mut self) -> Option<&mut Census> {
        self.pending.as_mut()?.census.as_deref_mut()
    }

    /// Returns the lag by the server's counters and the time at which its basis was counted, if the counters are
    /// trusted.
    pub(super) fn lag_from_counters(&self, info: &StreamInfo, group: &GroupInfo) -> Option<(u64, Duration)> {
        self.trusted_counters?.lag(info, group, self.history.as_ref()?.position())
    }
}

impl StreamCache {
    /// Returns the connection of the last reading; `None` if there was none.
    pub(super) fn epoch(&self) -> Option<Epoch> {
        self.bounds.map(|bounds| bounds.epoch())
    }

    /// Ends the time without derivations: the histories go on as if each reading until `at`, by the caller's clock, had been
    /// derived.
    pub(super) fn resume(&mut self, at: Duration) {
        let Some(settled) = self.settled.take() else { return };
        let (derived_at, derived_time) = settled.derived_at();
        let later = at.saturating_sub(derived_at);
        let time = derived_time.saturating_add(later);
        self.trim_pace.repeat(later);
        self.unread.repeat(later);
        for group in self.groups_mut() {
            group.flow.repeat(later);
            if let Some(history) = &mut group.history {
                history.repeat(later);
                let consumers = history.consumers();
                group.note_consumer_count(time, consumers);
            }
            if let Some(census) = group.census_mut() {
                census.repeat((time, at));
            }
        }
    }

    /// Returns true if more is to be remembered of its groups than their statuses.
    pub(super) fn knows_more_than_statuses(&self) -> bool {
        let mut groups = self.groups.iter().filter_map(|(_, group)| group.as_deref());
        groups.any(|group| {
            group.changed_consumer_counts().is_some()
                || group.history.as_ref().is_some_and(History::knows_more_than_status)
        })
    }

    /// Returns true if a group is in danger of losing entries.
    pub(super) fn is_in_danger(&self) -> bool {
        self.groups.iter().filter_map(|(_, group)| group.as_deref()).any(GroupCache::is_in_danger)
    }

    /// Returns true if no count has begun that is not finished.
    pub(super) fn has_nothing_to_count(&self) -> bool {
        self.scans.is_empty() && self.partial_audit.is_none()
    }

    /// Returns the position above which the entries that a group holds were counted or are being counted.
    pub(super) fn held_from(&self) -> Option<StreamId> {
        self.held_from.map(CompactId::get)
    }

    pub(super) fn set_held_from(&mut self, position: Option<StreamId>) {
        self.held_from = position.map(CompactId::from);
    }

    /// Returns the longest interval between polls of the target since the stream was last read.
    pub(super) fn gap(&self) -> Duration {
        Duration::from_millis(self.gap_ms.into())
    }

    /// Notes an interval between polls of the target.
    pub(super) fn note_gap(&mut self, gap: Duration) {
        self.gap_ms = self.gap_ms.max(u32::try_from(gap.as_millis()).unwrap_or(u32::MAX));
    }

    /// Ends the interval since the stream was last read.
    pub(super) fn end_gap(&mut self) {
        self.gap_ms = 0;
    }

    /// Returns true if the stream was not read before.
    pub(super) fn is_new(&self) -> bool {
        self.bounds.is_none()
    }

    /// Advances the state to a new reading of the stream and drops what the reading invalidates. `used` holds the
    /// last-delivered-id of each group, sorted.
    pub(super) fn advance(&mut self, info: &StreamInfo, node: &NodeInfo, used: &[StreamId], at: Duration) {
        let epoch = node.epoch;
        let now = StreamBounds::of(info, epoch);
        let mut change = self.bounds.map_or(StreamChange::Unknown, |before| before.change_to(&now));
        if node.has_acked_trimming {
            change = change.with_removed_up_to(self.acked_trimming_bound(info));
        }
        let is_same = change != StreamChange::Unknown;
        // A stream that was trimmed before it was first read may be trimmed right now.
        let is_trimmed = match self.bounds {
            None => now.was_ever_trimmed(),
            Some(before) => {
                let has_shrunk = now.removed() > before.removed();
                is_same && (before.was_trimmed_by(&now) || now.was_ever_trimmed() && has_shrunk)
            }
        };
        let removed = match self.bounds {
            Some(before) => now.removed().saturating_sub(before.removed()),
            None => info.length,
        };
        self.trims.note_removed(removed, if is_trimmed { WasTrimmed::Yes } else { WasTrimmed::No }, at);
        if !is_same {
            self.trims.restart();
        }
        // A history records the group's position over time. Unlike a count, that stays true across connections, and
        // it is what reveals a server restarted from an older file (the group was rewound). It ends only if the
        // stream was replaced by another one. On one connection that is certain where a counter went backwards,
        // since the same stream never does that.
        let has_gone_back = self.bounds.is_some_and(|before| before.was_replaced_by(&now));
        let is_replaced = has_gone_back && self.bounds.is_some_and(|before| before.epoch() == epoch);
        self.continuity = match self.bounds {
            _ if is_replaced => StreamContinuity::Replaced,
            Some(before) if before.epoch() == epoch => StreamContinuity::Same,
            _ => StreamContinuity::Unknown,
        };
        self.hidden_decrease = self.hidden_decrease(&now);
        self.bounds = Some(now);
        if let Some(part) = self.partial_audit.take() {
            part.apply(&mut self.checkpoints, &change);
        }
        self.checkpoints.advance(&change);
        self.scans.advance(&change, used.first().copied());
        let is_valid = |(after, next): &(StreamId, StreamId)| {
            change.is_intact_at(*next, &now) && used.binary_search(after).is_ok()
        };
        if !self.next.iter().all(is_valid) {
            self.next = self.next.iter().copied().filter(is_valid).collect();
        }
        if info.length > 0 {
            self.checkpoints.put(info.last_generated, 0, info.time);
        }
        if !is_same {
            self.reset_groups();
        } else if !change.is_clean() && node.entries_read == EntriesReadMeaning::Deliveries {
            self.groups_mut().for_each(|group| group.trusted_counters = None);
        }
        if has_gone_back {
            self.groups_mut().for_each(|group| group.flow.restart());
        }
        if is_replaced {
            self.groups_mut().for_each(|group| group.history = None);
        }
    }

    /// Returns an ID above which XTRIM and XADD with ACKED certainly removed nothing since the previous poll.
    ///
    /// They remove what every group was delivered and has acknowledged, wherever it stands. The groups of that moment
    /// need not be those of this reading: a group may have been created, destroyed or set back since. But nothing was
    /// removed above a group that has not moved, if its counters still prove its lag.
    fn acked_trimming_bound(&self, info: &StreamInfo) -> StreamId {
        let still = self.groups.iter().filter_map(|(name, cache)| {
            let at = info.groups.binary_search_by(|group| group.name.cmp(name)).ok()?;
            let group = &info.groups[at];
            let cache = cache.as_ref()?;
            let position_before = cache.history.as_ref()?.position();
            let still_holds = cache.trusted_counters?.still_hold(info, group, position_before);
            still_holds.then_some(group.last_delivered)
        });
        still.min().unwrap_or(StreamId::MAX)
    }

    /// Drops everything that was counted or derived from counts, after an audit found a wrong count.
    pub(super) fn invalidate(&mut self) {
        self.checkpoints.clear();
        self.scans.clear();
        self.partial_audit = None;
        self.next = Box::default();
        self.reset_groups();
        self.groups_mut().filter_map(|group| group.history.as_mut()).for_each(History::forget_lags);
    }

    fn reset_groups(&mut self) {
        for group in self.groups_mut() {
            let kept = group.rare.change(|rare| (rare.many_consumers.take(), rare.consumer_counts.take()));
            let (history, steady_count) = (group.history.take(), group.steady_count);
            let counters = GroupCache::with(group.take_counters());
            *group = GroupCache { history, steady_count, ..counters };
            group.rare.change(|rare| (rare.many_consumers, rare.consumer_counts) = kept);
        }
    }

    pub(super) fn groups_mut(&mut self) -> impl Iterator<Item = &mut GroupCache> {
        self.groups.iter_mut().filter_map(|(_, group)| group.as_deref_mut())
    }

    /// Removes and returns the state of a group.
    pub(super) fn take_group(&mut self, name: &Name) -> Box<GroupCache> {
        let found = self.groups.binary_search_by(|(other, _)| other.cmp(name));
        found.ok().and_then(|at| self.groups[at].1.take()).unwrap_or_default()
    }

    /// Returns the state of a group.
    pub(super) fn group_mut(&mut self, name: &Name) -> Option<&mut GroupCache> {
        let at = self.groups.binary_search_by(|(other, _)| other.cmp(name)).ok()?;
        self.groups[at].1.as_deref_mut()
    }

    /// Removes and returns the names of all groups, with the states of those that were not [taken](Self::take_group).
    pub(super) fn take_groups(&mut self) -> Vec<(Name, Option<Box<GroupCache>>)> {
        std::mem::take(&mut self.groups).into_vec()
    }

    /// Returns the state of a key at which no stream is, after a poll at `at`: its groups were destroyed with it.
    pub(super) fn without_stream(mut self, at: Duration) -> Self {
        let groups = self.take_groups().into_iter().map(|(name, group)| {
            let mut group = group.unwrap_or_default();
            (name, group.position(), group.end())
        });
        let mut changes = self.changes;
        changes.note_absent(groups, None, at);
        Self { changes, ..Self::default() }
    }

    /// Replaces the state of all groups. `groups` must be sorted by name.
    pub(super) fn set_groups(&mut self, groups: Vec<(Name, Option<Box<GroupCache>>)>) {
        self.groups = groups.into();
    }

    /// Returns the oldest entry above `after`, if it is known.
    pub(super) fn next_entry(&self, after: StreamId) -> Option<StreamId> {
        self.next.iter().find(|(position, _)| *position == after).map(|(_, next)| *next)
    }

    /// Records that `next` is the oldest entry above `after`.
    pub(super) fn note_next_entry(&mut self, after: StreamId, next: StreamId) {
        if self.next_entry(after).is_none() {
            // Few streams have more than one group that is behind.
            self.next = self.next.iter().copied().chain([(after, next)]).collect();
        }
    }

    /// Returns entries-added as a counter: a small decrease over a new connection is hidden until the server has caught
    /// up with the value that was reported before.
    pub(super) fn entries_added(&self, info: &StreamInfo) -> Option<u64> {
        Some(info.entries_added?.saturating_add(self.hidden_decrease))
    }

    /// Returns the number by which entries-added was higher when it was last reported.
    fn hidden_decrease(&self, now: &StreamBounds) -> u64 {
        let before = self.bounds.and_then(|before| Some((before.epoch(), before.entries_added()?)));
        let (Some((epoch, before)), Some(read)) = (before, now.entries_added()) else { return 0 };
        let reported = before.saturating_add(self.hidden_decrease);
        let decrease = reported.saturating_sub(read);
        let is_hidden = read >= before || epoch != now.epoch() && is_failover(decrease, reported);
        if is_hidden { decrease } else { 0 }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a part of a count need not be exact")]
fn is_failover(decrease: u64, reported: u64) -> bool {
    decrease <= MAX_FAILOVER_DECREASE || decrease as f64 <= reported as f64 * MAX_FAILOVER_DECREASE_RATIO
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_number_of_consumers_that_does_not_change_needs_no_list(
            polls in proptest::collection::vec((0_u64..30_000, 1_u64..3, -1_i64..20), 1..60),
        ) {
            let (mut counts, mut cache) = (ConsumerCounts::default(), GroupCache::default());
            let mut now = 1_700_000_000;
            for (later, consumers, jump) in polls {
                // The clock is set back now and then.
                now = if jump < 0 { now - later } else { now + later };
                let time = Duration::from_secs(now);
                counts.note(time, consumers);
                cache.note_consumer_count(time, consumers);
                proptest::prop_assert_eq!(
                    cache.changed_consumer_counts(),
                    Some(&counts).filter(|counts| counts.has_changed())
                );
                for consumers in [0, 5] {
                    proptest::prop_assert_eq!(
                        cache.consumers_growth(time, consumers),
                        counts.growth(time, consumers)
                    );
                }
                proptest::prop_assert_eq!(cache.rare.get().is_some(), counts.has_changed());
            }
        }
    }

    #[test]
    fn only_a_small_decrease_over_a_new_connection_is_hidden() {
        let mut cache = StreamCache::default();
        for (epoch, read, expected) in [
            (1, 100_000, 100_000),
            (1, 100_500, 100_500),
            (2, 99_900, 100_500),
            (2, 100_100, 100_500),
            (2, 100_600, 100_600),
            (2, 100_590, 100_590),
            (3, 90_000, 90_000),
            (3, 5, 5),
        ] {
            let info = StreamInfo::of_ids(0, None, None, StreamId::MIN);
            let info = StreamInfo { entries_added: Some(read), ..info };
            let now = StreamBounds::of(&info, Epoch(epoch));
            cache.hidden_decrease = cache.hidden_decrease(&now);
            cache.bounds = Some(now);
            assert_eq!(cache.entries_added(&info), Some(expected), "{read} on {epoch}");
        }
    }
}
