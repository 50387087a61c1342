//! The report of one poll: plain values. Each states its unit, its source, and the meaning of its absence.

use std::cmp::Reverse;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::compact::{
    CompactId, ConstDefault, Count, EntryId, Micros, Millis48, MostlyDefault, SmallCount, millis,
};
pub use crate::condition::{ConditionSet, GroupStatus, HistoryCoverage, Status};
pub use crate::group_values::{
    Age, CensusView, ConsumerCensus, EntryRate, FamilyAges, GroupValues, GroupView, Lag, LossEstimate,
    NewPosition, OldestPending, PendingCensus, PendingCensusReading, PendingReport, Recreation, Retention,
    SeldomGroupValues, SilentConsumers,
};
use crate::snapshot::{Idmp, RadixTree};
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
    /// Returns all groups, each with its stream.
    pub fn groups(&self) -> impl Iterator<Item = (&ReportedStream, &GroupReport)> {
        self.streams.iter().flat_map(|stream| stream.groups.iter().map(move |group| (stream, group)))
    }

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

    /// Returns the number of groups that have been abandoned for a day; `None` while it is not known of one.
    #[must_use]
    pub fn groups_abandoned(&self) -> Option<u64> {
        self.streams.iter().try_fold(0, |sum, stream| match &stream.values {
            Some(values) => Some(sum + values.groups_abandoned.get()?),
            None => (!stream.refused).then_some(sum),
        })
    }

    /// Returns the streams with groups that have been abandoned for a day, with their number, those with the most first.
    #[must_use]
    pub fn streams_with_groups_abandoned(&self) -> Vec<(&StreamReport, u64)> {
        let abandoned = |stream: &StreamReport| stream.values.as_ref()?.groups_abandoned.get();
        let known = self.streams.iter().filter_map(|stream| Some((&**stream, abandoned(stream)?)));
        let mut known: Vec<_> = known.filter(|(_, groups)| *groups > 0).collect();
        known.sort_by_key(|(_, groups)| std::cmp::Reverse(*groups));
        known
    }

    /// Returns the streams that are known to take the most memory, at most `count` of them, the largest first, with the
    /// bytes that they take.
    #[must_use]
    pub fn largest_streams(&self, count: usize) -> Vec<(&StreamReport, u64)> {
        let bytes = |stream: &StreamReport| Some(stream.values.as_ref()?.memory_bytes?.get());
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
    report: triomphe::Arc<StreamReport>,
    /// Time by the server's clock from the reading that the values were derived from to the last one, which showed the same.
    unchanged_for: Micros,
}

impl ReportedStream {
    /// Returns the same values as of a later reading, by the server's clock, in which nothing but ages has changed.
    #[must_use]
    pub fn unchanged_at(&self, time: Duration) -> Self {
        let unchanged_for = time.saturating_sub(self.report.read_at.get()).into();
        Self { report: triomphe::Arc::clone(&self.report), unchanged_for }
    }

    /// Returns the time of the last reading, by the server's clock, since the Unix epoch.
    pub(crate) fn read_at(&self) -> Duration {
        self.report.read_at.get().saturating_add(self.unchanged_for.get())
    }

    /// Returns true if these are the values of the report before but for ages, which have grown, and for what a census has
    /// read.
    pub(crate) fn is_unchanged_but_for_census(&self, before: &Self) -> bool {
        triomphe::Arc::ptr_eq(&self.report, &before.report)
            || self.report.is_unchanged_but_for_census(&before.report)
    }

    /// Returns true if both are the same values in memory.
    #[cfg(test)]
    pub(crate) fn shares_values_with(&self, other: &Self) -> bool {
        triomphe::Arc::ptr_eq(&self.report, &other.report)
    }

    /// Returns the same values as of a stream of another family.
    pub(crate) fn in_family(&self, family: Option<Name>) -> Self {
        let report = StreamReport { family, ..(*self.report).clone() };
        Self { report: triomphe::Arc::new(report), unchanged_for: self.unchanged_for }
    }

    /// Returns the same values with only some of the groups.
    #[must_use]
    pub fn with_groups(&self, is_kept: impl Fn(&GroupReport) -> bool) -> Self {
        let groups = self.groups.iter().filter(|group| is_kept(group)).cloned().collect();
        let report = StreamReport { groups, ..(*self.report).clone() };
        Self { report: triomphe::Arc::new(report), unchanged_for: self.unchanged_for }
    }

    /// Returns the stream as one that cannot be read, with the groups that the configuration names.
    #[must_use]
    pub fn unread(&self) -> Self {
        let StreamReport { key, family, groups, .. } = &*self.report;
        let named = groups.iter().filter(|group| group.is_named());
        let groups = named.map(|group| GroupReport::missing(group.name.clone()));
        let report = StreamReport::new(key.clone(), None, groups.collect());
        StreamReport { family: family.clone(), refused: true, ..report }.into()
    }

    /// Returns the values of one of its groups as of the last reading; `None` if the stream does not have it.
    #[must_use]
    pub fn view<'a>(&self, group: &'a GroupReport) -> Option<GroupView<'a>> {
        let values = group.values.as_ref()?;
        // The first entries of the streams of a family are not those of one stream.
        let stream = self.report.values.as_ref().filter(|_| group.fold().is_none());
        let first_entry = stream.and_then(|stream| stream.ids.first.get());
        let view = GroupView::later(values, self.report.read_at.get(), self.unchanged_for.get());
        Some(view.with_first_entry(first_entry))
    }

    /// Returns the consumers of one of its groups as of the last reading; `None` as for [`GroupReport::consumers`].
    #[must_use]
    pub fn consumers<'a>(
        &self,
        group: &'a GroupReport,
    ) -> Option<impl Iterator<Item = ConsumerView<'a>> + use<'a>> {
        let now = self.read_at();
        Some(group.consumers()?.iter().map(move |consumer| ConsumerView { consumer, now }))
    }

    /// Returns the report before if a new one differs from it in nothing but ages, which have grown by the time between the
    /// readings.
    pub(crate) fn or_unchanged(report: StreamReport, before: Option<&Self>) -> Self {
        match before.filter(|before| report.is_unchanged_since(&before.report)) {
            Some(before) => before.unchanged_at(report.read_at.get()),
            None => report.into(),
        }
    }
}

impl From<StreamReport> for ReportedStream {
    /// Returns values that were just derived.
    fn from(report: StreamReport) -> Self {
        Self { report: triomphe::Arc::new(report), unchanged_for: Micros::ZERO }
    }
}

impl Deref for ReportedStream {
    type Target = StreamReport;

    fn deref(&self) -> &StreamReport {
        &self.report
    }
}

/// A consumer as of the last reading of its stream.
#[derive(Clone, Copy, Debug)]
pub struct ConsumerView<'a> {
    consumer: &'a ConsumerReport,
    /// Time of that reading, by the server's clock, since the Unix epoch.
    now: Duration,
}

impl<'a> ConsumerView<'a> {
    /// Returns a consumer as of a reading at `now`, by the server's clock, since the Unix epoch.
    #[must_use]
    pub fn at(consumer: &'a ConsumerReport, now: Duration) -> Self {
        Self { consumer, now }
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &'a Name {
        &self.consumer.name
    }

    /// Returns the number of its pending entries: see [`ConsumerReport::messages_pending`].
    #[must_use]
    pub fn messages_pending(&self) -> u64 {
        self.consumer.messages_pending()
    }

    /// Returns the time since its last attempt to read: see [`ConsumerReport::idle`].
    #[must_use]
    pub fn idle(&self) -> Duration {
        self.consumer.idle(self.now)
    }

    /// Returns a copy whose ages are as of the last reading.
    #[cfg(test)]
    pub(crate) fn to_report(self) -> ConsumerReport {
        let (name, pending) = (self.name().clone(), self.messages_pending());
        ConsumerReport::new(name, pending, self.idle(), self.inactive(), self.now)
    }

    /// Returns the time since it last got an entry: see [`ConsumerReport::inactive`].
    #[must_use]
    pub fn inactive(&self) -> Option<Duration> {
        self.consumer.inactive(self.now)
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
    pub groups: Box<[GroupReport]>,
    /// Time of the reading, by the server's clock, since the Unix epoch.
    pub read_at: Micros,
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
        let groups = groups.into_boxed_slice();
        Self { key, family: None, values, refused: false, groups, read_at: Micros::ZERO }
    }
}

/// The values of a stream. The default is an empty stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamValues {
    /// Number of entries in the stream. Source: XINFO STREAM length.
    pub length: u64,
    /// Number of consumer groups. Source: XINFO STREAM groups.
    pub groups: u64,
    /// Number of reported groups that have been [`Abandoned`](Status::Abandoned), and were delivered nothing, for a day.
    /// `None` if that is not known of one of them.
    pub groups_abandoned: SmallCount,
    /// Number of entries ever added. Source: XINFO STREAM entries-added; `None` before server 7.0. After a failover to
    /// a replica that lagged slightly behind, the larger value is kept until the new master exceeds it, so that the
    /// counter does not look reset.
    pub entries_added: Option<Count>,
    /// The IDs that bound the stream.
    pub ids: StreamIds,
    /// True if the ID of the first entry was a timestamp when it was read.
    pub is_first_timestamp: bool,
    /// True if last-generated-id was a timestamp when it was read.
    pub is_last_generated_timestamp: bool,
    /// Size of the server's data structure.
    pub radix_tree: RadixTree,
    /// What can be trimmed without taking anything from a group. `None` if the stream has no group, and while it is not
    /// known what every group needs, those that are not reported included.
    pub safe_trim: Option<SafeTrim>,
    /// Memory that it takes, in bytes, as of the last time it was asked for. Source: MEMORY USAGE. `None` if that is not
    /// asked for, was refused, or would walk too many groups and consumers.
    pub memory_bytes: Option<Count>,
    /// True if the stream has no group, grows, and was not seen to be trimmed. Readers without a group are not seen.
    pub is_unread: bool,
    /// The values that most streams lack.
    pub seldom: MostlyDefault<SeldomStreamValues>,
}

impl StreamValues {
    /// Returns the time at which the first entry was added, since the Unix epoch. `None` if the stream is empty or the ID
    /// is not a timestamp. Source: the ID of XINFO STREAM first-entry.
    #[must_use]
    pub fn first_entry(&self) -> Option<Duration> {
        match &self.seldom.fold {
            Some(fold) => fold.first_entry,
            None => self.ids.first.get().filter(|_| self.is_first_timestamp).map(StreamId::time),
        }
    }

    /// Returns the time at which the newest ID was generated, since the Unix epoch. `None` if the ID is not a timestamp.
    /// Source: XINFO STREAM last-generated-id.
    #[must_use]
    pub fn last_generated(&self) -> Option<Duration> {
        match &self.seldom.fold {
            Some(fold) => fold.last_generated,
            None => self.is_last_generated_timestamp.then(|| self.ids.last_generated.time()),
        }
    }
}

/// The values of a stream that most streams lack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeldomStreamValues {
    /// Changes of its reported groups, since the stream was first read.
    pub group_changes: GroupChangeCounts,
    /// Idempotent production. Source: XINFO STREAM. `None` before server 8.6, and if it was never used on this stream.
    pub idmp: Option<Idmp>,
    /// The streams that these are the values of, if they are those of a [family](crate::family).
    pub fold: Option<StreamFold>,
}

impl ConstDefault for SeldomStreamValues {
    const DEFAULT: &'static Self = &Self {
        group_changes: GroupChangeCounts { created: 0, destroyed: 0, recreated: 0 },
        idmp: None,
        fold: None,
    };
}

/// The streams of a family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamFold {
    /// Number of streams.
    pub streams: u64,
    /// Number of those that could not be read.
    pub unread: u64,
    /// The earliest [`first_entry`](StreamValues::first_entry) that is known of one.
    pub first_entry: Option<Duration>,
    /// The latest [`last_generated`](StreamValues::last_generated) that is known of one.
    pub last_generated: Option<Duration>,
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

impl GroupChangeCounts {
    /// Returns each number with the name of the change.
    #[must_use]
    pub fn by_change(self) -> [(&'static str, u64); 3] {
        let Self { created, destroyed, recreated } = self;
        [("created", created), ("destroyed", destroyed), ("recreated", recreated)]
    }
}

/// A trim of a stream that takes only what every group was delivered and has acknowledged, as of the reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SafeTrim {
    /// No group needs an entry below this ID. At most the ID after last-generated-id.
    pub min_id: StreamId,
    /// Number of entries below it; `None` while they are being counted.
    pub entries: Option<Count>,
    /// The group that needs the oldest entry; `None` if no group needs any.
    pub holder: Option<StreamHolder>,
}

/// A group that needs the oldest entry of all that a stream's groups need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamHolder {
    /// Name of the group.
    pub group: Name,
    /// Time of the reading since which it is the one, by the server's clock, since the Unix epoch.
    pub since: Millis48,
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
    pub first: EntryId,
    /// ID of the last entry; `None` if the stream is empty.
    pub last: EntryId,
    /// last-generated-id: the largest ID ever added. Its entry may have been removed since.
    pub last_generated: StreamId,
    /// max-deleted-entry-id: the largest ID removed by XDEL, `0-0` if there is none; `None` before server 7.0.
    pub max_deleted: Option<CompactId>,
}

/// The values of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupReport {
    /// Name of the group.
    pub name: Name,
    /// The group's values; `None` if the stream does not have this group.
    pub values: Option<GroupValues>,
    members: GroupMembers,
}

/// The members of a group. The variants share 16 bytes: a family has no consumers.
#[derive(Clone, Debug, PartialEq, Eq)]
enum GroupMembers {
    /// Reports share them while they differ in nothing but ages, which have grown.
    Consumers(triomphe::Arc<[ConsumerReport]>),
    /// `None` if nothing is known of the consumers of a group that is not one of a family.
    Family(Option<Arc<GroupFold>>),
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
    /// Returns a group without its consumers.
    #[must_use]
    pub const fn new(name: Name, values: Option<GroupValues>) -> Self {
        Self { name, values, members: GroupMembers::Family(None) }
    }

    /// Returns a group that the configuration names, and of which nothing is known.
    #[must_use]
    pub const fn missing(name: Name) -> Self {
        Self::new(name, None)
    }

    /// Adds the consumers, sorted by name, if they are known.
    #[must_use]
    pub fn with_consumers(self, consumers: Option<Vec<ConsumerReport>>) -> Self {
        self.with_shared_consumers(consumers.map(triomphe::Arc::from))
    }

    /// Adds consumers that another report may have, too.
    pub(crate) fn with_shared_consumers(self, consumers: Option<triomphe::Arc<[ConsumerReport]>>) -> Self {
        Self { members: consumers.map_or(GroupMembers::Family(None), GroupMembers::Consumers), ..self }
    }

    /// Returns the group's consumers, to be shared with another report.
    pub(crate) fn shared_consumers(&self) -> Option<&triomphe::Arc<[ConsumerReport]>> {
        match &self.members {
            GroupMembers::Consumers(consumers) => Some(consumers),
            GroupMembers::Family(_) => None,
        }
    }

    /// Adds the groups of a family that it stands for.
    pub(crate) fn with_fold(self, fold: Option<GroupFold>) -> Self {
        Self { members: GroupMembers::Family(fold.map(Arc::new)), ..self }
    }

    /// Returns true if the caller asked for this group by name; false if it was found by a pattern, as a group that the
    /// stream does not have cannot be.
    #[must_use]
    pub fn is_named(&self) -> bool {
        self.values.as_ref().is_none_or(|values| values.named)
    }

    /// Returns the group's consumers, sorted by name; `None` if they were not requested, the request failed, or there are
    /// more than the [limit](crate::snapshot::ConsumerLimit), and of a family.
    #[must_use]
    pub fn consumers(&self) -> Option<&[ConsumerReport]> {
        self.shared_consumers().map(|consumers| &**consumers)
    }

    /// Returns the groups that it stands for, if it is one of a [family](crate::family).
    #[must_use]
    pub fn fold(&self) -> Option<&GroupFold> {
        match &self.members {
            GroupMembers::Family(fold) => fold.as_deref(),
            GroupMembers::Consumers(_) => None,
        }
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

/// The values of one consumer. A [`ConsumerView`] has its ages as of the last reading.
#[derive(Clone, PartialEq, Eq)]
pub struct ConsumerReport {
    /// Name of the consumer.
    pub name: Name,
    /// The time of its last attempt to read, with the lower half of the number of pending entries above it.
    seen_at: u64,
    /// The time at which it last got an entry and one more, or 0, with the upper half of that number above it.
    active_at: u64,
}

/// Bits of each of a consumer's times, which are in milliseconds since the Unix epoch, modulo 557 years.
const TIME_BITS: u32 = 44;
/// The first time in milliseconds that is beyond these bits.
const TIME_SPAN: u64 = 1 << TIME_BITS;
/// The longest age of a consumer, in milliseconds.
const MAX_AGE: u64 = TIME_SPAN / 2;
/// Bits of each half of a consumer's number of pending entries: up to a trillion, more than any server has memory for.
const HALF_BITS: u32 = u64::BITS - TIME_BITS;

/// Returns the milliseconds from one time to a later one, each modulo `span`.
const fn between(earlier: u64, later: u64, span: u64) -> u64 {
    (later % span + span - earlier % span) % span
}

/// Returns the age at `now` of what was at `then`; zero if that is later. No age comes near the span.
fn age_at(now: Duration, then: u64, span: u64) -> Duration {
    let age = between(then, millis(now), span);
    Duration::from_millis(if age > span / 4 * 3 { 0 } else { age })
}

impl ConsumerReport {
    /// Returns a consumer that was read at `read_at`, by the server's clock, since the Unix epoch. A number that does not
    /// fit is kept as the largest one.
    #[must_use]
    pub fn new(
        name: Name,
        messages_pending: u64,
        idle: Duration,
        inactive: Option<Duration>,
        read_at: Duration,
    ) -> Self {
        let pending = messages_pending.min((1 << (2 * HALF_BITS)) - 1);
        let before = |age: Duration, span: u64| between(millis(age).min(MAX_AGE), millis(read_at), span);
        let seen_at = before(idle, TIME_SPAN);
        let active_at = inactive.map_or(0, |inactive| before(inactive, TIME_SPAN - 1) + 1);
        // The shift drops the upper half.
        let (lower, upper) = (pending << TIME_BITS, pending >> HALF_BITS << TIME_BITS);
        Self { name, seen_at: seen_at | lower, active_at: active_at | upper }
    }

    /// Returns the number of entries delivered to the consumer and not acknowledged. Source: XINFO CONSUMERS pending.
    #[must_use]
    pub fn messages_pending(&self) -> u64 {
        self.seen_at >> TIME_BITS | self.active_at >> TIME_BITS << HALF_BITS
    }

    /// Returns the time from its last attempt to read to `now`; before server 7.2, from its last successful read. Source:
    /// XINFO CONSUMERS idle.
    #[must_use]
    pub fn idle(&self, now: Duration) -> Duration {
        age_at(now, self.seen_at % TIME_SPAN, TIME_SPAN)
    }

    /// Returns the time from when an entry was last delivered to it or claimed by it to `now`. `None` before server 7.2, and
    /// if that never happened. Source: XINFO CONSUMERS inactive.
    #[must_use]
    pub fn inactive(&self, now: Duration) -> Option<Duration> {
        let active_at = (self.active_at % TIME_SPAN).checked_sub(1)?;
        Some(age_at(now, active_at, TIME_SPAN - 1))
    }
}

impl fmt::Debug for ConsumerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerReport")
            .field("name", &self.name)
            .field("messages_pending", &self.messages_pending())
            .field("seen_at_ms", &(self.seen_at % TIME_SPAN))
            .field("active_at_ms", &(self.active_at % TIME_SPAN).checked_sub(1))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_consumer_come_back_and_those_too_large_are_the_largest() {
        let ms = Duration::from_millis;
        let numbers = |consumer: &ConsumerReport, now| {
            (consumer.messages_pending(), consumer.idle(now), consumer.inactive(now))
        };
        let (pending, longest) = ((1 << 40) - 1, 1 << 43);
        for read_at in [0, 5, 1_800_000_000_123, 1 << 44, 3 << 44].map(ms) {
            for (count, idle, inactive) in [
                (0, 0, None),
                (0, 0, Some(0)),
                (u64::from(u32::MAX) + 1, 1_800_000_000_000, Some(1_800_000_000_001)),
                (pending, 0, Some(1)),
                (1, longest, None),
                (pending, longest, Some(longest)),
            ] {
                let inactive = inactive.map(ms);
                let consumer = ConsumerReport::new(Name::from("c"), count, ms(idle), inactive, read_at);
                assert_eq!(numbers(&consumer, read_at), (count, ms(idle), inactive), "at {read_at:?}");
                let later = inactive.map(|age| age + ms(10_000));
                assert_eq!(numbers(&consumer, read_at + ms(10_000)), (count, ms(idle + 10_000), later));
                let earlier = inactive.map(|age| age.saturating_sub(ms(5)));
                if let Some(before) = read_at.checked_sub(ms(5)) {
                    assert_eq!(numbers(&consumer, before), (count, ms(idle.saturating_sub(5)), earlier));
                }
            }
            let largest = Some(Duration::MAX);
            let largest = ConsumerReport::new(Name::from("c"), u64::MAX, Duration::MAX, largest, read_at);
            assert_eq!(numbers(&largest, read_at), (pending, ms(longest), Some(ms(longest))));
        }
    }
}

#[cfg(feature = "random")]
mod random {
    use fastrand::Rng;

    use super::{Count, Idmp, SafeTrim, SeldomStreamValues, StreamId, StreamIds, StreamValues};
    use crate::random::{count, maybe, maybe_count};

    impl StreamValues {
        /// Returns random values, for tests of folds: small numbers, of which many are not known.
        #[must_use]
        pub fn random(rng: &mut Rng) -> Self {
            let trim = SafeTrim {
                min_id: StreamId::new(count(rng), 0),
                entries: maybe_count(rng).map(Count::from),
                holder: None,
            };
            let idmp = Idmp {
                duration_seconds: count(rng),
                max_size: 1 + count(rng),
                producer_ids_tracked: count(rng),
                idempotent_ids_tracked: count(rng),
                entries_added: count(rng),
                duplicates: count(rng),
            };
            let groups = rng.u64(0..2);
            Self {
                length: count(rng),
                groups,
                groups_abandoned: maybe_count(rng).into(),
                entries_added: maybe_count(rng).map(Count::from),
                ids: StreamIds {
                    first: Some(StreamId::new(1 + count(rng), 0)).into(),
                    last_generated: StreamId::new(1 + count(rng), 0),
                    ..StreamIds::default()
                },
                is_first_timestamp: rng.bool(),
                is_last_generated_timestamp: rng.bool(),
                safe_trim: maybe(rng, trim).filter(|_| groups > 0),
                seldom: SeldomStreamValues { idmp: maybe(rng, idmp), ..SeldomStreamValues::default() }.into(),
                memory_bytes: maybe_count(rng).map(Count::from),
                ..Self::default()
            }
        }
    }
}
