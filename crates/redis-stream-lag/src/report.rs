//! The report of one poll: plain values. Each states its unit, its source, and the meaning of its absence.

use std::cmp::Reverse;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

pub use crate::condition::{ConditionSet, GroupStatus, HistoryCoverage, Status};
use crate::question::is_fatal;
use crate::snapshot::{ConsumerInfo, Idmp, RadixTree};
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;

/// All values derived for one target in one poll.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The watched streams, sorted by key.
    pub streams: Vec<ReportedStream>,
    /// Number of entries read in this poll to count or audit lags.
    pub counted_entries: u64,
    /// Numbers of what the report lacks because of limits. The reader of the streams sets them.
    pub limited: LimitedCounts,
}

impl Report {
    /// Returns the stream with this key.
    #[must_use]
    pub fn stream(&self, key: &Name) -> Option<&ReportedStream> {
        let at = self.streams.binary_search_by(|stream| stream.key.cmp(key)).ok()?;
        Some(&self.streams[at])
    }

    /// Returns the streams that grow, have no group, and are not trimmed as far as that was seen.
    pub fn unread_streams(&self) -> impl Iterator<Item = (&StreamReport, &StreamValues)> {
        let read = self.streams.iter().filter_map(|stream| Some((&**stream, stream.values.as_ref()?)));
        read.filter(|(_, values)| values.is_unread)
    }

    /// Returns the streams that are known to take the most memory, at most `count` of them, the largest first, with the
    /// bytes that they take.
    #[must_use]
    pub fn largest_streams(&self, count: usize) -> Vec<(&StreamReport, u64)> {
        let bytes = |stream: &StreamReport| stream.values.as_ref()?.memory_bytes;
        let known = self.streams.iter().filter_map(|stream| Some((&**stream, bytes(stream)?)));
        let mut known: Vec<_> = known.collect();
        known.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        known.truncate(count);
        known
    }
}

/// Numbers of what limits leave out of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitedCounts {
    /// Streams beyond the limit of streams.
    pub streams: usize,
    /// Groups of the report's streams beyond the limit of groups.
    pub groups: usize,
    /// Consumers of the report's groups beyond the limit of consumers.
    pub consumers: usize,
}

/// A stream in a report. While nothing but time changes, one report shares the values with the next, so a clone is cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedStream {
    report: Arc<StreamReport>,
    /// Time by the server's clock from the reading that the values were derived from to the last one, which showed the same.
    unchanged_for: Duration,
}

impl ReportedStream {
    /// Returns the same values as of a later reading, by the server's clock, in which nothing but ages has changed.
    #[must_use]
    pub fn unchanged_at(&self, time: Duration) -> Self {
        Self { report: Arc::clone(&self.report), unchanged_for: time.saturating_sub(self.report.read_at) }
    }

    /// Returns the time of the last reading, by the server's clock, since the Unix epoch.
    #[cfg(test)]
    pub(crate) fn read_at(&self) -> Duration {
        self.report.read_at.saturating_add(self.unchanged_for)
    }

    /// Returns true if both are the same values in memory.
    #[cfg(test)]
    pub(crate) fn shares_values_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.report, &other.report)
    }

    /// Returns the same values as of a stream of another family.
    pub(crate) fn in_family(&self, family: Option<Name>) -> Self {
        let report = StreamReport { family, ..(*self.report).clone() };
        Self { report: Arc::new(report), unchanged_for: self.unchanged_for }
    }

    /// Returns the stream as one that cannot be read, with the groups that the configuration names.
    #[must_use]
    pub fn unread(&self) -> Self {
        let StreamReport { key, family, groups, .. } = &*self.report;
        let named = groups.iter().filter(|group| group.named);
        let groups = named.map(|group| GroupReport::missing(group.name.clone()));
        let report = StreamReport::new(key.clone(), None, groups.collect());
        StreamReport { family: family.clone(), refused: true, ..report }.into()
    }

    /// Returns the values of one of its groups as of the last reading; `None` if the stream does not have it.
    #[must_use]
    pub fn view<'a>(&self, group: &'a GroupReport) -> Option<GroupView<'a>> {
        let values = group.values.as_ref()?;
        Some(GroupView { values, read_at: self.report.read_at, unchanged_for: self.unchanged_for })
    }

    /// Returns the consumers of one of its groups as of the last reading; `None` as for [`GroupReport::consumers`].
    #[must_use]
    pub fn consumers<'a>(
        &self,
        group: &'a GroupReport,
    ) -> Option<impl Iterator<Item = ConsumerView<'a>> + use<'a>> {
        let unchanged_for = self.unchanged_for;
        let consumers = group.consumers.as_ref()?.iter();
        Some(consumers.map(move |consumer| ConsumerView { consumer, unchanged_for }))
    }

    /// Returns the report before if a new one differs from it in nothing but ages, which have grown by the time between the
    /// readings.
    pub(crate) fn or_unchanged(report: StreamReport, before: Option<&Self>) -> Self {
        match before.filter(|before| report.is_unchanged_since(&before.report)) {
            Some(before) => before.unchanged_at(report.read_at),
            None => report.into(),
        }
    }
}

impl From<StreamReport> for ReportedStream {
    /// Returns values that were just derived.
    fn from(report: StreamReport) -> Self {
        Self { report: Arc::new(report), unchanged_for: Duration::ZERO }
    }
}

impl Deref for ReportedStream {
    type Target = StreamReport;

    fn deref(&self) -> &StreamReport {
        &self.report
    }
}

/// An age as of the reading that a stream's values were derived from. [`GroupView`] and [`ConsumerView`] return it as of the
/// last reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age(pub Duration);

/// The values of a group as of the last reading of its stream.
#[derive(Clone, Copy, Debug)]
pub struct GroupView<'a> {
    values: &'a GroupValues,
    read_at: Duration,
    unchanged_for: Duration,
}

impl<'a> GroupView<'a> {
    /// Returns an age as of the last reading.
    #[must_use]
    pub fn age(&self, age: Age) -> Duration {
        age.0.saturating_add(self.unchanged_for)
    }

    /// Returns the age of the oldest undelivered entry: see [`GroupValues::lag_seconds`].
    #[must_use]
    pub fn lag_seconds(&self) -> Option<Duration> {
        let age = self.values.lag_seconds?;
        // Without lag, no entry waits at any time.
        Some(if self.values.lag.max() == 0 { age.0 } else { self.age(age) })
    }

    /// Returns the age of last-delivered-id: see [`GroupValues::last_delivered_id_age`].
    #[must_use]
    pub fn last_delivered_id_age(&self) -> Option<Duration> {
        self.values.last_delivered_id_age.map(|age| self.age(age))
    }

    /// Returns the time since the last delivery that was seen: see [`GroupValues::last_delivery_age`].
    #[must_use]
    pub fn last_delivery_age(&self) -> Option<Duration> {
        self.values.last_delivery_age.map(|age| self.age(age))
    }

    /// Returns the last census of the pending entries: see [`GroupValues::pending_census`].
    #[must_use]
    pub fn pending_census(&self) -> Option<CensusView<'a>> {
        let PendingCensusReading { census, age, unchanged_until } = self.values.pending_census.as_ref()?;
        // As long as the stream does not change, its lists of pending entries do not either.
        let is_unchanged = *unchanged_until == Some(self.read_at);
        let grown = if is_unchanged { Duration::ZERO } else { self.unchanged_for };
        Some(CensusView {
            census,
            age: age.0.saturating_add(grown),
            unchanged_until: unchanged_until.map(|until| until + (self.unchanged_for - grown)),
        })
    }

    /// Returns the values, whose ages may be as of an earlier reading.
    #[must_use]
    pub fn values(&self) -> &'a GroupValues {
        self.values
    }

    /// Returns the time until the status is known, if it is `unknown`; `None` if it is not, or if that cannot be told.
    #[must_use]
    pub fn unknown_for(&self) -> Option<Duration> {
        self.values.status.unknown_for(self.unchanged_for)
    }

    /// Returns a copy of the values whose ages are as of the last reading.
    pub(crate) fn to_values(self) -> GroupValues {
        let grown = |age: Option<Age>| age.map(|age| Age(self.age(age)));
        let mut values = self.values.clone();
        values.lag_seconds = self.lag_seconds().map(Age);
        values.last_delivered_id_age = grown(values.last_delivered_id_age);
        values.last_delivery_age = grown(values.last_delivery_age);
        if let Some(OldestPending::Entry { age, idle, .. }) = &mut values.oldest_pending {
            (*age, *idle) = (grown(*age), grown(*idle));
        }
        values.pending_census = self.pending_census().map(|shown| PendingCensusReading {
            census: Arc::clone(shown.census),
            age: Age(shown.age),
            unchanged_until: shown.unchanged_until,
        });
        if let HistoryCoverage::Partial { remaining: Some(remaining) } = &mut values.status.coverage {
            *remaining = remaining.saturating_sub(self.unchanged_for);
        }
        values
    }
}

/// A consumer as of the last reading of its stream.
#[derive(Clone, Copy, Debug)]
pub struct ConsumerView<'a> {
    consumer: &'a ConsumerReport,
    unchanged_for: Duration,
}

impl<'a> ConsumerView<'a> {
    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &'a Name {
        &self.consumer.name
    }

    /// Returns the number of its pending entries: see [`ConsumerReport::messages_pending`].
    #[must_use]
    pub fn messages_pending(&self) -> u64 {
        self.consumer.messages_pending
    }

    /// Returns the time since its last attempt to read: see [`ConsumerReport::idle`].
    #[must_use]
    pub fn idle(&self) -> Duration {
        self.consumer.idle.0.saturating_add(self.unchanged_for)
    }

    /// Returns a copy whose ages are as of the last reading.
    #[cfg(test)]
    pub(crate) fn to_report(self) -> ConsumerReport {
        ConsumerReport { idle: Age(self.idle()), inactive: self.inactive().map(Age), ..self.consumer.clone() }
    }

    /// Returns the time since it last got an entry: see [`ConsumerReport::inactive`].
    #[must_use]
    pub fn inactive(&self) -> Option<Duration> {
        self.consumer.inactive.map(|age| age.0.saturating_add(self.unchanged_for))
    }
}

impl<'a> From<&'a ConsumerReport> for ConsumerView<'a> {
    /// Returns a consumer that was just read.
    fn from(consumer: &'a ConsumerReport) -> Self {
        Self { consumer, unchanged_for: Duration::ZERO }
    }
}

impl<'a> From<&'a GroupValues> for GroupView<'a> {
    /// Returns values that were just derived.
    fn from(values: &'a GroupValues) -> Self {
        Self { values, read_at: Duration::ZERO, unchanged_for: Duration::ZERO }
    }
}

impl Deref for GroupView<'_> {
    type Target = GroupValues;

    fn deref(&self) -> &GroupValues {
        self.values
    }
}

/// The values of one stream and its groups, as of the reading that they were derived from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamReport {
    /// Key of the stream.
    pub key: Name,
    /// The family that the stream belongs to; `None` if it stands for itself.
    pub family: Option<Name>,
    /// The stream's values; `None` if it could not be read (key missing or of another type, access denied, node
    /// unreachable).
    pub values: Option<StreamValues>,
    /// True if access to the key was denied or its node is unreachable. Nothing is known about its groups then either,
    /// so a group that is not listed may well exist.
    pub refused: bool,
    /// The stream's groups, sorted by name.
    pub groups: Vec<GroupReport>,
    /// Time of the reading, by the server's clock, since the Unix epoch.
    pub read_at: Duration,
}

impl StreamReport {
    /// Returns the label `stream` of its series and alerts: the name of its family, or its key.
    #[must_use]
    pub fn name_in_series(&self) -> &Name {
        self.family.as_ref().unwrap_or(&self.key)
    }

    /// Returns the report of a stream that was read, or does not exist.
    #[must_use]
    pub fn new(key: Name, values: Option<StreamValues>, groups: Vec<GroupReport>) -> Self {
        Self { key, family: None, values, refused: false, groups, read_at: Duration::ZERO }
    }
}

/// The values of a stream. The default is an empty stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamValues {
    /// Number of entries in the stream. Source: XINFO STREAM length.
    pub length: u64,
    /// Number of consumer groups. Source: XINFO STREAM groups.
    pub groups: u64,
    /// Number of entries ever added. Source: XINFO STREAM entries-added; `None` before server 7.0. After a failover to
    /// a replica that lagged slightly behind, the larger value is kept until the new master exceeds it, so that the
    /// counter does not look reset.
    pub entries_added: Option<u64>,
    /// Time at which the first entry was added, since the Unix epoch. `None` if the stream is empty or the ID is not a
    /// timestamp. Source: the ID of XINFO STREAM first-entry.
    pub first_entry: Option<Duration>,
    /// Time at which the newest ID was generated, since the Unix epoch. `None` if the ID is not a timestamp. Source:
    /// XINFO STREAM last-generated-id.
    pub last_generated: Option<Duration>,
    /// The IDs that bound the stream.
    pub ids: StreamIds,
    /// Size of the server's data structure.
    pub radix_tree: RadixTree,
    /// What can be trimmed without taking anything from a group. `None` if the stream has no group, and while it is not
    /// known what every group needs, those that are not reported included.
    pub safe_trim: Option<SafeTrim>,
    /// Memory that it takes, in bytes, as of the last time it was asked for. Source: MEMORY USAGE. `None` if that is not
    /// asked for, was refused, or would walk too many groups and consumers.
    pub memory_bytes: Option<u64>,
    /// Changes of its reported groups, since the stream was first read.
    pub group_changes: GroupChangeCounts,
    /// True if the stream has no group, grows, and was not seen to be trimmed. Readers without a group are not seen.
    pub is_unread: bool,
    /// Idempotent production. Source: XINFO STREAM. `None` before server 8.6, and if it was never used on this stream.
    pub idmp: Option<Idmp>,
    /// The streams that these are the values of, if they are those of a [family](crate::family).
    pub fold: Option<Box<StreamFold>>,
}

/// The streams of a family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamFold {
    /// Number of streams.
    pub streams: u64,
    /// Number of those that could not be read.
    pub unread: u64,
}

/// Numbers of the changes of a stream's groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupChangeCounts {
    /// Groups that appeared under a name that was not there before.
    pub created: u64,
    /// Groups that were found gone.
    pub destroyed: u64,
    /// Groups that were created again after they were destroyed, whether or not a reading found them gone.
    pub recreated: u64,
}

/// A group that was created again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recreation {
    /// Time of the reading that found it, by the server's clock, since the Unix epoch.
    pub at: Duration,
    /// Its position then.
    pub position: NewPosition,
}

impl GroupChangeCounts {
    /// Returns each number with the name of the change.
    #[must_use]
    pub fn by_change(self) -> [(&'static str, u64); 3] {
        let Self { created, destroyed, recreated } = self;
        [("created", created), ("destroyed", destroyed), ("recreated", recreated)]
    }
}

/// The position of a group that was created again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewPosition {
    /// Below the one that it had: entries are delivered again.
    FurtherBack,
    /// The one that it had.
    Same,
    /// Above the one that it had: what it was not delivered in between is skipped.
    Ahead,
    /// The stream was deleted and created again too.
    OtherStream,
}

/// A trim of a stream that takes only what every group was delivered and has acknowledged, as of the reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SafeTrim {
    /// No group needs an entry below this ID. At most the ID after last-generated-id.
    pub min_id: StreamId,
    /// Number of entries below it; `None` while they are being counted.
    pub entries: Option<u64>,
    /// The group that needs the oldest entry; `None` if no group needs any.
    pub holder: Option<StreamHolder>,
}

/// A group that needs the oldest entry of all that a stream's groups need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamHolder {
    /// Name of the group.
    pub group: Name,
    /// Time of the reading since which it is the one, by the server's clock, since the Unix epoch.
    pub since: Duration,
    /// Why it needs the entry.
    pub held_for: HeldFor,
}

/// Why a group needs an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldFor {
    /// It was not delivered to the group.
    Delivery,
    /// It was delivered and not acknowledged.
    Acknowledgement,
}

impl HeldFor {
    /// Returns its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivery => "delivery",
            Self::Acknowledgement => "acknowledgement",
        }
    }
}

/// The IDs in a reply to XINFO STREAM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamIds {
    /// ID of the first entry; `None` if the stream is empty.
    pub first: Option<StreamId>,
    /// ID of the last entry; `None` if the stream is empty.
    pub last: Option<StreamId>,
    /// last-generated-id: the largest ID ever added. Its entry may have been removed since.
    pub last_generated: StreamId,
    /// max-deleted-entry-id: the largest ID removed by XDEL, `0-0` if there is none; `None` before server 7.0.
    pub max_deleted: Option<StreamId>,
}

/// The values of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupReport {
    /// Name of the group.
    pub name: Name,
    /// True if the caller asked for this group by name; false if it was found by a pattern.
    pub named: bool,
    /// The group's values; `None` if the stream does not have this group.
    pub values: Option<GroupValues>,
    /// The group's consumers, sorted by name; `None` if they were not requested, the request failed, or there are more
    /// than the [limit](crate::snapshot::ConsumerLimit).
    pub consumers: Option<Vec<ConsumerReport>>,
}

/// The values of a group. The default is a group about which nothing is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupValues {
    /// Number of entries in the stream with an ID above last-delivered-id. Derived as described in the
    /// [crate documentation](crate); never the server's own `lag`.
    pub lag: Lag,
    /// Age of the oldest undelivered entry, by its ID and the server's clock. Zero if every entry was delivered; `None`
    /// while that entry is not known, or if its ID is not a timestamp.
    pub lag_seconds: Option<Age>,
    /// The ID up to which entries were delivered to the group. Source: XINFO GROUPS last-delivered-id.
    pub last_delivered_id: StreamId,
    /// Age of last-delivered-id, by the server's clock. `None` if the ID is not a timestamp, such as `0-0`.
    pub last_delivered_id_age: Option<Age>,
    /// Time since a reading in which last-delivered-id had advanced, by the server's clock. `None` until one was seen.
    pub last_delivery_age: Option<Age>,
    /// The server's own counter. Source: XINFO GROUPS entries-read. `None` before server 7.0, usually on replicas
    /// before 7.4, and where the server itself does not know it. It may be wrong; see [`lag`](Self::lag).
    pub entries_read: Option<u64>,
    /// Number of entries delivered and not acknowledged. Source: XINFO GROUPS pending.
    pub messages_pending: u64,
    /// Number of pending entries that were released by XNACK and belong to no consumer: pending less the sum of the
    /// consumers' pending, the smaller of this and the last reading, since an entry that is acknowledged between the two
    /// replies looks released. `None` before server 8.8, and where consumers are not read. Source: XINFO CONSUMERS.
    pub messages_released: Option<u64>,
    /// The pending entry with the smallest ID. `None` if it is not known. Source: XPENDING.
    pub oldest_pending: Option<OldestPending>,
    /// Number of pending IDs whose entries were trimmed or deleted, so that they can no longer be processed. More than 1,000
    /// below the first entry are as of the last census. `None` until it has counted so many, and if entries were deleted
    /// above the oldest pending one and the pending IDs are too many to look up. Source: XPENDING, XRANGE.
    pub pending_orphaned: Option<u64>,
    /// The last census of the pending entries. `None` until one has ended, and if nothing is pending. Source: XPENDING.
    pub pending_census: Option<PendingCensusReading>,
    /// Number of consumers. Source: XINFO GROUPS consumers.
    pub consumers: u64,
    /// Consumers by which the group has grown since a day before; 0 if it has not. `None` until the group was observed
    /// for a day.
    pub consumers_growth: Option<u64>,
    /// Consumers that are idle for longer than [`max_idle`](crate::snapshot::ConsumerLimit::max_idle). `None` where
    /// consumers are not read.
    pub silent_consumers: Option<SilentConsumers>,
    /// Number of entries removed from the stream before they were delivered to the group, since the group was first
    /// seen. `None` before server 7.0, and while a loss is seen that cannot be confirmed. A lower bound: a loss that the
    /// group has read past by the next reading leaves no evidence.
    pub entries_lost: Option<u64>,
    /// The estimated share of the entries added at present that the group loses. `None` unless it is losing, until a loss
    /// was observed, while there are too few readings, and if the group reads too often to be observed.
    pub loss_estimate: Option<LossEstimate>,
    /// The part of the retained entries that the group has not been delivered. `None` while the lag is not known, and
    /// until this stream was seen to be trimmed without regard to its slowest group, which needs server 7.0.
    pub retention_used: Option<Retention>,
    /// Time until trimming reaches the oldest entry that the group was not delivered, or has not acknowledged, at the pace
    /// at which the first entry moves. `None` where trims were not seen to disregard the slowest group, and for the first
    /// [window](crate::snapshot::StreamReading::window). Pending entries that are gone already do not count.
    pub time_to_loss: Option<Duration>,
    /// Number of entries that the group moved past since it was first seen, less [those known to be
    /// lost](Self::entries_lost). What it skips by XGROUP SETID counts too, and what it is delivered again counts again.
    /// `None` while the lag is not known exactly, and before server 7.0.
    pub entries_delivered: Option<u64>,
    /// [Entries delivered](Self::entries_delivered), less the growth of the pending ones: those acknowledged, delivered
    /// with NOACK, or dropped with their consumer. `None` as for that.
    pub entries_acknowledged: Option<u64>,
    /// Time until the lag is gone if it goes on shrinking as over the [window](crate::snapshot::StreamReading::window). Zero
    /// if there is none; `None` while it does not shrink or is not known exactly, and in the first quarter of a window.
    pub drain_time: Option<Duration>,
    /// The rate at which entries were added to the stream over the window. `None` as for `drain_time`, and before server 7.0.
    pub added_rate: Option<EntryRate>,
    /// The rate at which entries were delivered to the group over the window. `None` as for `added_rate`.
    pub delivered_rate: Option<EntryRate>,
    /// Number of pending entries, at most, that were dropped with their consumers by XGROUP DELCONSUMER, since the group
    /// was first seen: entries of consumers that are gone, as far as the PEL has become smaller. The server does not tell
    /// them from entries acknowledged just before. Source: XINFO CONSUMERS.
    pub pending_dropped: u64,
    /// The last time that the group was seen to have been destroyed and created again.
    pub recreation: Option<Recreation>,
    /// The group's conditions over the [window](crate::snapshot::StreamReading::window).
    pub status: GroupStatus,
    /// The groups that these are the values of, if they are those of a [family](crate::family).
    pub fold: Option<Arc<GroupFold>>,
}

/// The groups of one name in the streams of a family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupFold {
    /// The stream whose group is the worst, by [badness](GroupReport::badness).
    pub worst: ReportedStream,
    /// Numbers of the groups with each status, parallel to [`Status::ALL`]: each condition that holds, or `ok` or
    /// `unknown`.
    pub by_status: [u64; Status::ALL.len()],
    /// True if one of the streams lacks the group, and the caller asked for it by name.
    pub is_missing: bool,
}

/// A key that sorts the worst group to the front: by status, and by what is left to do.
pub type Badness = (Status, Reverse<(u64, u64, u64)>);

impl GroupReport {
    /// Returns a group that the configuration names, and of which nothing is known.
    #[must_use]
    pub const fn missing(name: Name) -> Self {
        Self { name, named: true, values: None, consumers: None }
    }

    /// Returns a key that sorts the worst group to the front. `None` is before all others: the group is missing.
    #[must_use]
    pub fn badness(&self) -> Option<Badness> {
        let GroupValues { status, lag, messages_pending, .. } = self.values.as_ref()?;
        Some((status.status(), Reverse((lag.min(), lag.max(), *messages_pending))))
    }
}

impl StreamReport {
    /// Returns the group of this name.
    #[must_use]
    pub fn group(&self, name: &Name) -> Option<&GroupReport> {
        let at = self.groups.binary_search_by(|group| group.name.cmp(name)).ok()?;
        Some(&self.groups[at])
    }
}

/// Consumers that have not tried to read for long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SilentConsumers {
    /// Number of those without pending entries: names that can be deleted. Source: XINFO CONSUMERS idle, pending.
    pub idle: u64,
    /// Number of those with pending entries, which only another consumer will process.
    pub stranded: u64,
}

impl SilentConsumers {
    /// Counts those that are idle for longer than `max_idle`.
    pub(crate) fn of(consumers: &[ConsumerInfo], max_idle: Duration) -> Self {
        let mut silent = Self::default();
        for consumer in consumers {
            let is_silent = u64::from(Duration::from_millis(consumer.idle_ms) > max_idle);
            match consumer.pending {
                0 => silent.idle += is_silent,
                _ => silent.stranded += is_silent,
            }
        }
        silent
    }
}

/// The part of a stream that a group has not been delivered. At a ratio of 1 the next trim loses entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Number of undelivered entries.
    pub lag: u64,
    /// Number of entries in the stream.
    pub length: u64,
}

impl Retention {
    /// Returns `lag / length`, from 0 to 1; 0 for an empty stream.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio is good to some digits")]
    pub fn ratio(self) -> f64 {
        if self.length == 0 { 0.0 } else { (self.lag as f64 / self.length as f64).min(1.0) }
    }
}

/// The rate of entries over some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRate {
    /// Number of entries.
    pub entries: u64,
    /// The time, not zero.
    pub time: Duration,
}

impl EntryRate {
    /// Returns the number of entries per second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a rate is good to some digits")]
    pub fn per_second(self) -> f64 {
        self.entries as f64 / self.time.as_secs_f64()
    }
}

/// An estimate of what a group loses at present: of the entries added in about the last minute, weighted by their age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossEstimate {
    /// Number of entries that the group lost.
    pub lost: u64,
    /// Number of entries added.
    pub added: u64,
}

impl LossEstimate {
    /// Returns `lost / added`, from 0 to 1; 0 if no entry was added.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio is good to some digits")]
    pub fn ratio(self) -> f64 {
        if self.added == 0 { 0.0 } else { (self.lost as f64 / self.added as f64).min(1.0) }
    }
}

/// The number of entries a group is behind, as exactly as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lag {
    /// The lag in entries.
    Exact(u64),
    /// The lag is not known yet, but certainly lies from `min` to `max`, both inclusive.
    Between {
        /// Smallest possible lag.
        min: u64,
        /// Largest possible lag.
        max: u64,
    },
}

impl Default for Lag {
    /// Returns a lag about which nothing is known.
    fn default() -> Self {
        Self::Between { min: 0, max: u64::MAX }
    }
}

impl Lag {
    /// Returns the exact lag, or `None` if only bounds are known.
    #[must_use]
    pub fn exact(self) -> Option<u64> {
        match self {
            Self::Exact(entries) => Some(entries),
            Self::Between { .. } => None,
        }
    }

    /// Returns the smallest possible lag.
    #[must_use]
    pub fn min(self) -> u64 {
        match self {
            Self::Exact(entries) => entries,
            Self::Between { min, .. } => min,
        }
    }

    /// Returns the largest possible lag.
    #[must_use]
    pub fn max(self) -> u64 {
        match self {
            Self::Exact(entries) => entries,
            Self::Between { max, .. } => max,
        }
    }
}

/// The pending entry with the smallest ID, or the fact that there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OldestPending {
    /// No entry is pending.
    Nothing,
    /// The pending entry with the smallest ID.
    Entry {
        /// Its ID.
        id: StreamId,
        /// Name of its consumer; `None` if it was released by XNACK, and if the name is empty.
        consumer: Option<Name>,
        /// Time since the entry was added, by its ID; `None` if the ID is not a timestamp.
        age: Option<Age>,
        /// Time since it was last delivered; `None` if it was released by XNACK and belongs to no consumer.
        idle: Option<Age>,
        /// Number of deliveries, or [`FATAL_DELIVERIES`](crate::question::FATAL_DELIVERIES).
        deliveries: u64,
    },
}

/// The result of a census of a group's pending entries: a pass over all of them, by XPENDING. A pass over a long list takes
/// many polls, so each entry counts as it was when it was read; entries that were first delivered after the pass began may
/// be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PendingCensus {
    /// Number of entries.
    pub entries: u64,
    /// Number of entries that were delivered more than once, without those that [failed](Self::failed).
    pub redelivered: u64,
    /// Number of entries that XNACK FATAL marked as failed, which replaces their number of deliveries.
    pub failed: u64,
    /// Number of entries with an ID below the first entry of the stream when they were read: they were trimmed or
    /// deleted.
    pub trimmed: u64,
    /// Largest number of deliveries of an entry that did not fail; `None` if there is none.
    pub max_deliveries: Option<u64>,
    /// Longest time since a delivery when the entry was read; `None` if there is no entry that belongs to a consumer.
    pub max_idle: Option<Duration>,
    /// Time of the delivery that is the longest ago, by the server's clock, since the Unix epoch. `None` as for
    /// `max_idle`.
    pub oldest_delivery: Option<Duration>,
    /// The entries that were delivered most often, five at most, and those that were not delivered for the longest time,
    /// five at most. In the order of the number of deliveries, the largest first.
    pub worst: Vec<PendingReport>,
    /// The consumers with the most entries, ten at most; of a group in which more than 100 have entries, those that come
    /// first in the list.
    pub consumers: Vec<ConsumerCensus>,
}

/// A pending entry in a census.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingReport {
    /// Its ID.
    pub id: StreamId,
    /// Name of the consumer; empty if it was given back by XNACK.
    pub consumer: Name,
    /// Number of deliveries, or [`FATAL_DELIVERIES`](crate::question::FATAL_DELIVERIES).
    pub deliveries: u64,
    /// Time since it was last delivered, when it was read; `None` if it was given back by XNACK.
    pub idle: Option<Duration>,
    /// Time when it was read, by the server's clock, since the Unix epoch.
    pub read_at: Duration,
}

impl PendingReport {
    /// Returns the number of deliveries; `None` if XNACK FATAL replaced it.
    #[must_use]
    pub fn known_deliveries(&self) -> Option<u64> {
        Some(self.deliveries).filter(|deliveries| !is_fatal(*deliveries))
    }
}

/// The pending entries of one consumer in a census.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerCensus {
    /// Name of the consumer.
    pub name: Name,
    /// Number of its entries.
    pub entries: u64,
    /// Number of those that were delivered more than once.
    pub redelivered: u64,
    /// Longest time since one of them was delivered, when it was read.
    pub max_idle: Duration,
}

/// The last census of a group that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingCensusReading {
    /// Its result.
    pub census: Arc<PendingCensus>,
    /// Time since it ended, or since the list was last known to be as it was read, by the server's clock.
    pub age: Age,
    /// Time until which the list is known to be as it was read, by the server's clock, since the Unix epoch. `None` if it
    /// may have changed since.
    pub unchanged_until: Option<Duration>,
}

/// The last census of a group as of the last reading of its stream.
#[derive(Clone, Copy, Debug)]
pub struct CensusView<'a> {
    /// Its result.
    pub census: &'a Arc<PendingCensus>,
    /// See [`PendingCensusReading::age`].
    pub age: Duration,
    /// See [`PendingCensusReading::unchanged_until`].
    pub unchanged_until: Option<Duration>,
}

impl CensusView<'_> {
    /// Returns the longest time for which a pending entry was not delivered again: when it was read, or
    /// while the list was last known to be unchanged. `None` if there is no entry that belongs to a consumer.
    #[must_use]
    pub fn max_idle(&self) -> Option<Duration> {
        let (until, delivered) = (self.unchanged_until, self.census.oldest_delivery);
        let now = until.zip(delivered).map(|(until, delivered)| until.saturating_sub(delivered));
        now.max(self.census.max_idle)
    }

    /// Returns the time since an entry was last delivered: when it was read, or while the list was last known to be
    /// unchanged. `None` if it was given back by XNACK.
    #[must_use]
    pub fn idle(&self, entry: &PendingReport) -> Option<Duration> {
        let since = self.unchanged_until.map_or(Duration::ZERO, |until| until.saturating_sub(entry.read_at));
        Some(entry.idle? + since)
    }
}

/// The values of one consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerReport {
    /// Name of the consumer.
    pub name: Name,
    /// Number of entries delivered to the consumer and not acknowledged. Source: XINFO CONSUMERS pending.
    pub messages_pending: u64,
    /// Time since its last attempt to read; before server 7.2, since its last successful read. Source: XINFO CONSUMERS
    /// idle.
    pub idle: Age,
    /// Time since an entry was last delivered to it or claimed by it. `None` before server 7.2, and if that never
    /// happened. Source: XINFO CONSUMERS inactive.
    pub inactive: Option<Age>,
}
