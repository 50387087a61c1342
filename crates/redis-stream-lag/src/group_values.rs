//! The values of a group: each with its unit, its source and the meaning of its absence; how their ages grow, whether two
//! readings differ in more than that, and how the values of a family's streams become one.
//!
//! A family has sums, and maxima of ages, as the rows of the exporter's table of values state. A value that one stream does
//! not know is not known of the family, except where the largest or smallest of the others is a bound that holds in any case.

use std::num::{NonZeroU32, NonZeroU64};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::compact::{ConstDefault, Count, Micros, Millis, Millis48, MostlyDefault, SmallCount, millis};
use crate::condition::{ConditionSet, GroupStatus, HistoryCoverage};
use crate::fold::{largest, longest, longest_of_all, sum, sum_of_all, sum_of_known};
use crate::question::{FATAL_DELIVERIES, is_fatal};
use crate::snapshot::ConsumerInfo;
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;

/// Difference by which an age that the server reports may miss the one that it should have grown to: the server reads its
/// clock a little before it reads the stream.
pub(crate) const TOLERANCE: Duration = Duration::from_millis(20);

/// The same of times since a poll, by the caller's clock: a stream is read sooner or later in a poll.
const POLL_TOLERANCE: Duration = Duration::from_secs(1);

/// The same of an age by an ID.
const EXACT: Duration = Duration::ZERO;
/// The time in which a family's rate is expressed: long enough for six digits after the point.
const RATE_TIME: Duration = Duration::from_secs(1_000_000);

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
    /// Time since a reading in which last-delivered-id had advanced, by the server's clock. `None` until one was seen.
    pub last_delivery_age: Option<Age>,
    /// The server's own counter. Source: XINFO GROUPS entries-read. `None` before server 7.0, usually on replicas
    /// before 7.4, and where the server itself does not know it. It may be wrong; see [`lag`](Self::lag).
    pub entries_read: Option<Count>,
    /// Number of entries delivered and not acknowledged. Source: XINFO GROUPS pending.
    pub messages_pending: u64,
    /// Number of pending entries that were released by XNACK and belong to no consumer: pending less the sum of the
    /// consumers' pending, the smaller of this and the last reading, since an entry that is acknowledged between the two
    /// replies looks released. `None` before server 8.8, and where consumers are not read. Source: XINFO CONSUMERS.
    pub messages_released: Option<Count>,
    /// The pending entry with the smallest ID. `None` if it is not known. Source: XPENDING.
    pub oldest_pending: Option<OldestPending>,
    /// Number of pending IDs whose entries were trimmed or deleted, so that they can no longer be processed. More than 1,000
    /// below the first entry are as of the last census. `None` until it has counted so many, and if entries were deleted
    /// above the oldest pending one and the pending IDs are too many to look up. Source: XPENDING, XRANGE.
    pub pending_orphaned: Option<Count>,
    /// The last census of the pending entries. `None` until one has ended, and if nothing is pending. Source: XPENDING.
    pub pending_census: Option<PendingCensusReading>,
    /// Number of consumers. Source: XINFO GROUPS consumers.
    pub consumers: u64,
    /// Consumers by which the group has grown since a day before; 0 if it has not. Not known until the group was observed
    /// for a day.
    pub consumers_growth: SmallCount,
    /// Consumers that are idle for longer than [`max_idle`](crate::snapshot::ConsumerLimit::max_idle). `None` where
    /// consumers are not read.
    pub silent_consumers: Option<SilentConsumers>,
    /// Number of entries removed from the stream before they were delivered to the group, since the group was first
    /// seen. `None` before server 7.0, and while a loss is seen that cannot be confirmed. A lower bound: a loss that the
    /// group has read past by the next reading leaves no evidence.
    pub entries_lost: Option<Count>,
    /// Number of entries that the group moved past since it was first seen, less [those known to be
    /// lost](Self::entries_lost). What it skips by XGROUP SETID counts too, and what it is delivered again counts again.
    /// `None` while the lag is not known exactly, and before server 7.0.
    pub entries_delivered: Option<Count>,
    /// [Entries delivered](Self::entries_delivered), less the growth of the pending ones: those acknowledged, delivered
    /// with NOACK, or dropped with their consumer. `None` as for that.
    pub entries_acknowledged: Option<Count>,
    /// Time until the lag is gone if it goes on shrinking as over the [window](crate::snapshot::StreamReading::window). Zero
    /// if there is none; `None` while it does not shrink or is not known exactly, and in the first quarter of a window.
    pub drain_time: Option<Millis>,
    /// The rate at which entries were added to the stream over the window. `None` as for `drain_time`, and before server 7.0.
    pub added_rate: Option<EntryRate>,
    /// The rate at which entries were delivered to the group over the window. `None` as for `added_rate`.
    pub delivered_rate: Option<EntryRate>,
    /// The group's conditions over the [window](crate::snapshot::StreamReading::window).
    pub status: GroupStatus,
    /// True if the caller asked for this group by name; false if it was found by a pattern.
    pub named: bool,
    /// The values that most groups lack.
    pub seldom: MostlyDefault<SeldomGroupValues>,
}

/// The values of a group that most groups lack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeldomGroupValues {
    /// The estimated share of the entries added at present that the group loses. `None` unless it is losing, until a loss
    /// was observed, while there are too few readings, and if the group reads too often to be observed.
    pub loss_estimate: Option<LossEstimate>,
    /// The part of the retained entries that the group has not been delivered. `None` while the lag is not known, and
    /// until this stream was seen to be trimmed without regard to its slowest group, which needs server 7.0.
    pub retention_used: Option<Retention>,
    /// Time until trimming reaches the oldest entry that the group was not delivered, or has not acknowledged, at the pace
    /// at which the first entry moves. `None` where trims were not seen to disregard the slowest group, and for the first
    /// [window](crate::snapshot::StreamReading::window). Pending entries that are gone already do not count.
    pub time_to_loss: Option<Millis>,
    /// Number of pending entries, at most, that were dropped with their consumers by XGROUP DELCONSUMER, since the group
    /// was first seen: entries of consumers that are gone, as far as the PEL has become smaller. The server does not tell
    /// them from entries acknowledged just before. Source: XINFO CONSUMERS.
    pub pending_dropped: u64,
    /// The last time that the group was seen to have been destroyed and created again.
    pub recreation: Option<Recreation>,
    /// Ages by IDs, if these are the values of a group of a family. Those of one group follow from its IDs.
    pub family_ages: Option<FamilyAges>,
}

/// Ages by the IDs of the groups of a family: the largest of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FamilyAges {
    /// See [`GroupView::last_delivered_id_age`].
    pub last_delivered_id: Option<Age>,
    /// See [`GroupView::oldest_pending_age`]. Zero if nothing is pending.
    pub oldest_pending: Option<Age>,
}

impl ConstDefault for SeldomGroupValues {
    const DEFAULT: &'static Self = &Self {
        loss_estimate: None,
        retention_used: None,
        time_to_loss: None,
        pending_dropped: 0,
        recreation: None,
        family_ages: None,
    };
}

impl GroupValues {
    /// Returns the re-creation of the group since an earlier report; `None` if it is the same group. `before` is `None` if it
    /// was not in that report.
    #[must_use]
    pub fn recreated_since(&self, before: Option<&Self>) -> Option<Recreation> {
        let known = before.and_then(|before| before.seldom.recreation);
        self.seldom.recreation.filter(|now| known != Some(*now))
    }

    /// Returns the values of a family's group, from those of each stream.
    pub(crate) fn of_family(members: &[GroupView<'_>], read_at: Duration) -> Self {
        let silent = || members.iter().map(|values| values.silent_consumers);
        let short = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            lag: lag(members),
            lag_seconds: longest(members.iter().map(GroupView::lag_seconds)).map(Age::of),
            last_delivered_id: members
                .iter()
                .map(|values| values.last_delivered_id)
                .min()
                .unwrap_or_default(),
            last_delivery_age: members.iter().filter_map(GroupView::last_delivery_age).min().map(Age::of),
            entries_read: sum_of_all(members.iter().map(|values| values.entries_read)).map(Count::from),
            messages_pending: sum(members.iter().map(|values| values.messages_pending)),
            messages_released: sum_of_all(members.iter().map(|values| values.messages_released))
                .map(Count::from),
            oldest_pending: oldest_pending(members),
            pending_orphaned: sum_of_all(members.iter().map(|values| values.pending_orphaned))
                .map(Count::from),
            pending_census: census(members, read_at),
            consumers: sum(members.iter().map(|values| values.consumers)),
            consumers_growth: sum_of_known(members.iter().map(|values| values.consumers_growth.get())).into(),
            silent_consumers: sum_of_all(silent().map(|silent| Some(silent?.idle())))
                .zip(sum_of_all(silent().map(|silent| Some(silent?.stranded()))))
                .map(|(idle, stranded)| SilentConsumers::new(short(idle), short(stranded))),
            entries_lost: sum_of_known(members.iter().map(|values| values.entries_lost)).map(Count::from),
            entries_delivered: sum_of_known(members.iter().map(|values| values.entries_delivered))
                .map(Count::from),
            entries_acknowledged: sum_of_known(members.iter().map(|values| values.entries_acknowledged))
                .map(Count::from),
            drain_time: longest_of_all(members.iter().map(|values| values.drain_time)),
            added_rate: rate(members.iter().map(|values| values.added_rate)),
            delivered_rate: rate(members.iter().map(|values| values.delivered_rate)),
            status: status(members),
            named: members.iter().any(|values| values.named),
            seldom: SeldomGroupValues::of_family(members).into(),
        }
    }

    /// Returns true if these are the values before but for ages, which have grown.
    pub(crate) fn is_unchanged_since(&self, before: &Self, readings: Readings) -> bool {
        let Self {
            lag,
            lag_seconds,
            last_delivered_id,
            last_delivery_age,
            entries_read,
            messages_pending,
            messages_released,
            oldest_pending,
            pending_orphaned,
            pending_census,
            consumers,
            consumers_growth,
            silent_consumers,
            entries_lost,
            entries_delivered,
            entries_acknowledged,
            drain_time,
            added_rate,
            delivered_rate,
            status,
            named,
            seldom,
        } = self;
        // Of a group without lag, no entry waits at any time.
        let have_ages_grown = (lag.max() == 0 || readings.has_grown(before.lag_seconds, *lag_seconds, EXACT))
            && readings.has_id_grown(before.last_delivered_id, *last_delivered_id)
            && readings.has_grown(before.last_delivery_age, *last_delivery_age, POLL_TOLERANCE)
            && is_oldest_unchanged(before.oldest_pending.as_ref(), oldest_pending.as_ref(), readings)
            && is_census_unchanged(before.pending_census.as_ref(), pending_census.as_ref(), readings)
            && is_status_unchanged(&before.status, status, readings);
        have_ages_grown
            && (*lag, *last_delivered_id, *entries_read)
                == (before.lag, before.last_delivered_id, before.entries_read)
            && (*messages_pending, *messages_released) == (before.messages_pending, before.messages_released)
            && (*pending_orphaned, *consumers) == (before.pending_orphaned, before.consumers)
            && (*consumers_growth, *silent_consumers) == (before.consumers_growth, before.silent_consumers)
            && (*entries_lost, *entries_delivered) == (before.entries_lost, before.entries_delivered)
            && (*entries_acknowledged, *drain_time) == (before.entries_acknowledged, before.drain_time)
            && (*added_rate, *delivered_rate) == (before.added_rate, before.delivered_rate)
            && (*named, seldom) == (before.named, &before.seldom)
    }
}

impl SeldomGroupValues {
    fn of_family(views: &[GroupView<'_>]) -> Self {
        let members = || views.iter().map(|values| &*values.seldom);
        let oldest_pending = views.iter().map(|values| match values.oldest_pending {
            Some(OldestPending::Nothing) => Some(Duration::ZERO),
            Some(OldestPending::Entry { .. }) | None => values.oldest_pending_age(),
        });
        Self {
            loss_estimate: largest(members().map(|values| values.loss_estimate), LossEstimate::ratio),
            retention_used: largest(members().map(|values| values.retention_used), Retention::ratio),
            time_to_loss: members().filter_map(|values| values.time_to_loss).min(),
            pending_dropped: sum(members().map(|values| values.pending_dropped)),
            recreation: None,
            family_ages: Some(FamilyAges {
                last_delivered_id: longest(views.iter().map(GroupView::last_delivered_id_age)).map(Age::of),
                oldest_pending: longest(oldest_pending).map(Age::of),
            }),
        }
    }
}

fn lag(members: &[GroupView<'_>]) -> Lag {
    let min = sum(members.iter().map(|values| values.lag.min()));
    match sum_of_all(members.iter().map(|values| values.lag.exact())) {
        Some(lag) => Lag::Exact(lag),
        None => Lag::Between { min: min.into(), max: sum(members.iter().map(|values| values.lag.max())) },
    }
}

/// Returns the largest of each value of the oldest pending entries.
fn oldest_pending(members: &[GroupView<'_>]) -> Option<OldestPending> {
    let idle = members.iter().map(|values| match &values.oldest_pending {
        Some(OldestPending::Nothing) => Some(Duration::ZERO),
        Some(OldestPending::Entry { idle, .. }) => idle.map(|idle| values.age(idle)),
        None => None,
    });
    let entries = members.iter().filter_map(|values| match &values.oldest_pending {
        Some(OldestPending::Entry { id, deliveries, .. }) => Some((*id, *deliveries)),
        Some(OldestPending::Nothing) | None => None,
    });
    let Some(id) = entries.clone().map(|(id, _)| id).min() else {
        let is_known = members.iter().all(|values| values.oldest_pending.is_some());
        return is_known.then_some(OldestPending::Nothing);
    };
    let deliveries = entries.map(|(_, deliveries)| deliveries);
    Some(OldestPending::Entry {
        id,
        consumer: None,
        idle: longest(idle).map(Millis48::from),
        deliveries: deliveries.filter(|deliveries| !is_fatal(*deliveries)).max().unwrap_or(FATAL_DELIVERIES),
    })
}

/// Returns the sums of all censuses, without their lists. `None` until there is one for each stream with pending entries.
fn census(members: &[GroupView<'_>], read_at: Duration) -> Option<PendingCensusReading> {
    let pending = members.iter().filter(|values| values.messages_pending > 0);
    let shown: Vec<_> = pending.map(GroupView::pending_census).collect::<Option<_>>()?;
    let age = shown.iter().map(|shown| shown.age).max()?;
    let censuses = shown.iter().map(|shown| shown.census);
    let nothing_pending = members.iter().find(|values| values.messages_pending == 0).map(|_| Duration::ZERO);
    let census = PendingCensus {
        entries: sum(censuses.clone().map(|census| census.entries)),
        redelivered: sum(censuses.clone().map(|census| census.redelivered)),
        failed: sum(censuses.clone().map(|census| census.failed)),
        trimmed: sum(censuses.clone().map(|census| census.trimmed)),
        max_deliveries: censuses.filter_map(|census| census.max_deliveries).max(),
        max_idle: shown
            .iter()
            .filter_map(|shown| shown.max_idle())
            .chain(nothing_pending)
            .max()
            .map(Micros::from),
        ended: read_at.saturating_sub(age).into(),
        ..PendingCensus::default()
    };
    Some(PendingCensusReading { census: Arc::new(census), unchanged_until: None })
}

/// Returns the status of a family's group: a condition holds if it does in any stream.
fn status(members: &[GroupView<'_>]) -> GroupStatus {
    let statuses = || members.iter().map(|values| values.status());
    let conditions: ConditionSet = statuses().flat_map(|status| status.conditions.iter()).collect();
    let partial = statuses().filter_map(|status| match status.coverage {
        HistoryCoverage::Complete => None,
        HistoryCoverage::Partial { remaining } => Some(remaining),
    });
    let coverage = partial.reduce(|one, other| one.zip(other).map(|(one, other)| one.max(other)));
    let coverage =
        coverage.map_or(HistoryCoverage::Complete, |remaining| HistoryCoverage::Partial { remaining });
    let folded = GroupStatus { conditions, coverage, since: None };
    let same = statuses().filter(|status| status.status() == folded.status());
    GroupStatus { since: same.filter_map(|status| status.since).min(), ..folded }
}

fn rate(rates: impl Iterator<Item = Option<EntryRate>>) -> Option<EntryRate> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is positive, and far below the largest number"
    )]
    let entries = |rate: EntryRate| (rate.per_second() * RATE_TIME.as_secs_f64()).round() as u64;
    let entries = sum_of_all(rates.map(|rate| rate.map(entries)))?;
    Some(EntryRate::new(entries, RATE_TIME))
}

/// The reading that the values before were derived from, and the present one, by the server's clock.
#[derive(Clone, Copy)]
pub(crate) struct Readings {
    pub(crate) before: Duration,
    pub(crate) now: Duration,
    pub(crate) but_for: ButFor,
}

/// The values that need not be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ButFor {
    Ages,
    /// A census may have read the same list again.
    AgesAndCensus,
}

impl Readings {
    /// Returns true if the ages by two IDs, as of the readings, differ by the time between them or are not known in both.
    fn has_id_grown(self, before: StreamId, now: StreamId) -> bool {
        self.has_grown(before.age(self.before), now.age(self.now), EXACT)
    }

    /// Returns true if an age has grown by the time between the readings, or is not known in both.
    pub(crate) fn has_grown(
        self,
        before: Option<impl Into<Duration>>,
        now: Option<impl Into<Duration>>,
        tolerance: Duration,
    ) -> bool {
        match (before.map(Into::into), now.map(Into::into)) {
            (Some(before), Some(now)) => {
                before.saturating_add(self.now - self.before).abs_diff(now) <= tolerance
            }
            (before, now) => before == now,
        }
    }
}

fn is_oldest_unchanged(
    before: Option<&OldestPending>,
    now: Option<&OldestPending>,
    readings: Readings,
) -> bool {
    match (before, now) {
        (
            Some(OldestPending::Entry {
                id: id_before,
                consumer: consumer_before,
                idle: idle_before,
                deliveries: deliveries_before,
            }),
            Some(OldestPending::Entry { id, consumer, idle, deliveries }),
        ) => {
            (id, consumer, deliveries) == (id_before, consumer_before, deliveries_before)
                && readings.has_id_grown(*id_before, *id)
                && readings.has_grown(*idle_before, *idle, TOLERANCE)
        }
        (before, now) => before == now,
    }
}

fn is_census_unchanged(
    before: Option<&PendingCensusReading>,
    now: Option<&PendingCensusReading>,
    readings: Readings,
) -> bool {
    if readings.but_for == ButFor::AgesAndCensus {
        return true;
    }
    let (Some(before), Some(now)) = (before, now) else { return before == now };
    let until = [before, now].map(|census| census.unchanged_until.map(Micros::get));
    // The list was unchanged until each of the readings, or until the same time before both.
    let is_current = until == [Some(readings.before), Some(readings.now)];
    let is_past = until[0] == until[1] && until[0] != Some(readings.before);
    (is_current || is_past) && before.census == now.census
}

fn is_status_unchanged(before: &GroupStatus, now: &GroupStatus, readings: Readings) -> bool {
    let GroupStatus { conditions, coverage, since } = now;
    let is_covered = match (before.coverage, *coverage) {
        (
            HistoryCoverage::Partial { remaining: Some(before) },
            HistoryCoverage::Partial { remaining: Some(now) },
        ) => {
            let left = before.get().saturating_sub(readings.now - readings.before);
            left.abs_diff(now.get()) <= POLL_TOLERANCE
        }
        (before, now) => before == now,
    };
    (conditions, since) == (&before.conditions, &before.since) && is_covered
}

/// An age as of the reading that a stream's values were derived from. [`GroupView`] and
/// [`ConsumerView`](crate::report::ConsumerView) return it as of the last reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age(Micros);

impl Age {
    /// Returns an age as of a reading.
    #[must_use]
    pub fn of(age: Duration) -> Self {
        Self(age.into())
    }

    /// Returns the age as of the reading that the values were derived from.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0.get()
    }
}

impl From<Age> for Duration {
    fn from(age: Age) -> Self {
        age.get()
    }
}

/// The values of a group as of the last reading of its stream.
#[derive(Clone, Copy, Debug)]
pub struct GroupView<'a> {
    values: &'a GroupValues,
    read_at: Duration,
    unchanged_for: Duration,
    first_entry: Option<StreamId>,
}

impl<'a> GroupView<'a> {
    /// Returns values that were just derived from a reading at this time, by the server's clock.
    #[must_use]
    pub fn at(values: &'a GroupValues, read_at: Duration) -> Self {
        Self::later(values, read_at, Duration::ZERO)
    }

    /// Returns values that were derived from an earlier reading, as of the last one.
    pub(crate) fn later(values: &'a GroupValues, read_at: Duration, unchanged_for: Duration) -> Self {
        Self { values, read_at, unchanged_for, first_entry: None }
    }

    /// Adds the ID of the first entry of the stream.
    pub(crate) fn with_first_entry(self, first_entry: Option<StreamId>) -> Self {
        Self { first_entry, ..self }
    }

    /// Returns true if an entry is below the first one of the stream, so that it was removed.
    #[must_use]
    pub fn was_trimmed(&self, id: StreamId) -> bool {
        self.first_entry.is_some_and(|first| id < first)
    }

    /// Returns an age as of the last reading.
    #[must_use]
    pub fn age(&self, age: impl Into<Duration>) -> Duration {
        age.into().saturating_add(self.unchanged_for)
    }

    /// Returns the age of the oldest undelivered entry: see [`GroupValues::lag_seconds`].
    #[must_use]
    pub fn lag_seconds(&self) -> Option<Duration> {
        let age = self.values.lag_seconds?;
        // Without lag, no entry waits at any time.
        Some(if self.values.lag.max() == 0 { age.get() } else { self.age(age) })
    }

    /// Returns the age of last-delivered-id, by the server's clock. `None` if the ID is not a timestamp, such as `0-0`.
    #[must_use]
    pub fn last_delivered_id_age(&self) -> Option<Duration> {
        match self.values.seldom.family_ages {
            Some(ages) => Some(self.age(ages.last_delivered_id?)),
            None => self.age_of(self.values.last_delivered_id),
        }
    }

    /// Returns the time since the oldest pending entry was added, by its ID. `None` if the ID is not a timestamp, and if
    /// there is none or it is not known.
    #[must_use]
    pub fn oldest_pending_age(&self) -> Option<Duration> {
        let Some(OldestPending::Entry { id, .. }) = self.values.oldest_pending else { return None };
        match self.values.seldom.family_ages {
            Some(ages) => Some(self.age(ages.oldest_pending?)),
            None => self.age_of(id),
        }
    }

    /// Returns the age of an ID. It was a timestamp in the reading that the values were derived from, or is none.
    fn age_of(&self, id: StreamId) -> Option<Duration> {
        id.age(self.read_at).map(|age| self.age(age))
    }

    /// Returns the time since the last delivery that was seen: see [`GroupValues::last_delivery_age`].
    #[must_use]
    pub fn last_delivery_age(&self) -> Option<Duration> {
        self.values.last_delivery_age.map(|age| self.age(age))
    }

    /// Returns the last census of the pending entries: see [`GroupValues::pending_census`].
    #[must_use]
    pub fn pending_census(&self) -> Option<CensusView<'a>> {
        let PendingCensusReading { census, unchanged_until } = self.values.pending_census.as_ref()?;
        // As long as the stream does not change, its lists of pending entries do not either.
        let unchanged_until = unchanged_until.map(Micros::get);
        let is_unchanged = unchanged_until == Some(self.read_at);
        let grown = if is_unchanged { Duration::ZERO } else { self.unchanged_for };
        let known_until = unchanged_until.unwrap_or(census.ended.get());
        Some(CensusView {
            census,
            age: self.read_at.saturating_sub(known_until).saturating_add(grown),
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

    /// Returns the status, with the time that is left until there is enough history.
    fn status(&self) -> GroupStatus {
        let mut status = self.values.status;
        if let HistoryCoverage::Partial { remaining: Some(remaining) } = &mut status.coverage {
            *remaining = remaining.get().saturating_sub(self.unchanged_for).into();
        }
        status
    }

    /// Returns a copy of the values whose ages are as of the last reading, but for those by IDs.
    #[cfg(test)]
    pub(crate) fn to_values(self) -> GroupValues {
        let mut values = self.values.clone();
        values.lag_seconds = self.lag_seconds().map(Age::of);
        values.last_delivery_age = self.last_delivery_age().map(Age::of);
        if let Some(OldestPending::Entry { idle, .. }) = &mut values.oldest_pending {
            *idle = idle.map(|idle| self.age(idle).into());
        }
        values.pending_census = self.pending_census().map(|shown| PendingCensusReading {
            census: Arc::clone(shown.census),
            unchanged_until: shown.unchanged_until.map(Micros::from),
        });
        values.status = self.status();
        values
    }
}

impl<'a> From<&'a GroupValues> for GroupView<'a> {
    /// Returns values that were just derived. No ID is a timestamp, since the time of the reading is not known.
    fn from(values: &'a GroupValues) -> Self {
        Self::at(values, Duration::ZERO)
    }
}

impl Deref for GroupView<'_> {
    type Target = GroupValues;

    fn deref(&self) -> &GroupValues {
        self.values
    }
}

/// A group that was created again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recreation {
    /// Time of the reading that found it, by the server's clock, since the Unix epoch.
    pub at: Duration,
    /// Its position then.
    pub position: NewPosition,
}

/// The position of a group that was created again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// Consumers that have not tried to read for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SilentConsumers {
    /// One more than the number of those without pending entries, so that an `Option` takes no more space.
    idle: NonZeroU32,
    stranded: u32,
}

impl SilentConsumers {
    /// Returns these numbers of consumers without and with pending entries.
    #[must_use]
    pub fn new(idle: u32, stranded: u32) -> Self {
        Self { idle: NonZeroU32::MIN.saturating_add(idle), stranded }
    }

    /// Returns the number of those without pending entries: names that can be deleted. Source: XINFO CONSUMERS idle,
    /// pending.
    #[must_use]
    pub fn idle(self) -> u32 {
        self.idle.get() - 1
    }

    /// Returns the number of those with pending entries, which only another consumer will process.
    #[must_use]
    pub fn stranded(self) -> u32 {
        self.stranded
    }

    /// Counts those that are idle for longer than `max_idle`.
    pub(crate) fn of(consumers: &[ConsumerInfo], max_idle: Duration) -> Self {
        let (mut idle, mut stranded) = (0, 0);
        for consumer in consumers {
            let is_silent = u32::from(Duration::from_millis(consumer.idle_ms) > max_idle);
            match consumer.pending {
                0 => idle += is_silent,
                _ => stranded += is_silent,
            }
        }
        Self::new(idle, stranded)
    }
}

impl Default for SilentConsumers {
    /// Returns that there are none.
    fn default() -> Self {
        Self::new(0, 0)
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

/// The rate of entries over some time. An `Option` of it takes no more space than the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRate(
    /// The inverted bits of the number of entries per second, which is finite: they are never 0.
    NonZeroU64,
);

impl EntryRate {
    /// Returns the rate of so many entries in a time, in whole milliseconds and at least one.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a rate is good to some digits")]
    pub fn new(entries: u64, time: Duration) -> Self {
        let time = Duration::from_millis(millis(time).max(1));
        let per_second = entries as f64 / time.as_secs_f64();
        Self(NonZeroU64::new(!per_second.to_bits()).expect("all bits are set in no finite number"))
    }

    /// Returns the number of entries per second.
    #[must_use]
    pub fn per_second(self) -> f64 {
        f64::from_bits(!self.0.get())
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
        /// Smallest possible lag. As a [`Count`], it leaves room for telling the variants apart.
        min: Count,
        /// Largest possible lag.
        max: u64,
    },
}

impl Default for Lag {
    /// Returns a lag about which nothing is known.
    fn default() -> Self {
        Self::Between { min: 0.into(), max: u64::MAX }
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
            Self::Between { min, .. } => min.get(),
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
        /// Time from when it was last delivered to the reading; `None` if it was released by XNACK and belongs to no
        /// consumer.
        idle: Option<Millis48>,
        /// Number of deliveries, or [`FATAL_DELIVERIES`].
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
    pub max_deliveries: Option<Count>,
    /// Longest time since a delivery when the entry was read; `None` if there is no entry that belongs to a consumer.
    pub max_idle: Option<Micros>,
    /// Time of the delivery that is the longest ago, by the server's clock, since the Unix epoch. `None` as for
    /// `max_idle`.
    pub oldest_delivery: Option<Micros>,
    /// Time at which the pass ended, by the server's clock, since the Unix epoch.
    pub ended: Micros,
    /// The entries that were delivered most often, five at most, and those that were not delivered for the longest time,
    /// five at most. In the order of the number of deliveries, the largest first.
    pub worst: Box<[PendingReport]>,
    /// The consumers with the most entries, ten at most; of a group in which more than 100 have entries, those that come
    /// first in the list.
    pub consumers: Box<[ConsumerCensus]>,
}

/// A pending entry in a census.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingReport {
    /// Its ID.
    pub id: StreamId,
    /// Name of the consumer; empty if it was given back by XNACK.
    pub consumer: Name,
    /// Number of deliveries, or [`FATAL_DELIVERIES`].
    pub deliveries: u64,
    /// Time since it was last delivered, when it was read; `None` if it was given back by XNACK.
    pub idle: Option<Micros>,
    /// Time when it was read, by the server's clock, since the Unix epoch.
    pub read_at: Micros,
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
    pub max_idle: Micros,
    /// Time of the delivery that is the longest ago, by the server's clock, since the Unix epoch.
    pub oldest_delivery: Micros,
}

/// The last census of a group that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingCensusReading {
    /// Its result.
    pub census: Arc<PendingCensus>,
    /// Time until which the list is known to be as it was read, by the server's clock, since the Unix epoch. `None` if it
    /// may have changed since.
    pub unchanged_until: Option<Micros>,
}

/// The last census of a group as of the last reading of its stream.
#[derive(Clone, Copy, Debug)]
pub struct CensusView<'a> {
    /// Its result.
    pub census: &'a Arc<PendingCensus>,
    /// Time since it ended, or since the list was last known to be as it was read, by the server's clock.
    pub age: Duration,
    /// See [`PendingCensusReading::unchanged_until`].
    pub unchanged_until: Option<Duration>,
}

impl CensusView<'_> {
    /// Returns the longest time for which a pending entry was not delivered again: when it was read, or
    /// while the list was last known to be unchanged. `None` if there is no entry that belongs to a consumer.
    #[must_use]
    pub fn max_idle(&self) -> Option<Duration> {
        let delivered = self.census.oldest_delivery;
        let since = delivered.and_then(|delivered| self.time_since(delivered));
        since.max(self.census.max_idle.map(Micros::get))
    }

    /// Returns [`max_idle`](Self::max_idle) of the entries of one consumer.
    #[must_use]
    pub fn max_idle_of(&self, held: &ConsumerCensus) -> Duration {
        self.time_since(held.oldest_delivery).unwrap_or_default().max(held.max_idle.get())
    }

    /// Returns the time from then until the list was last known to be unchanged; `None` if it may have changed.
    fn time_since(&self, then: Micros) -> Option<Duration> {
        self.unchanged_until.map(|until| then.until(until))
    }

    /// Returns the time since an entry was last delivered: when it was read, or while the list was last known to be
    /// unchanged. `None` if it was given back by XNACK.
    #[must_use]
    pub fn idle(&self, entry: &PendingReport) -> Option<Duration> {
        Some(entry.idle?.get() + self.time_since(entry.read_at).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_takes_eight_bytes_and_none_is_the_same_over_any_time() {
        assert_eq!((size_of::<EntryRate>(), size_of::<Option<EntryRate>>()), (8, 8));
        let rate = |entries, ms| EntryRate::new(entries, Duration::from_millis(ms));
        for (entries, ms, per_second) in [(0, 5, 0.0), (1, 1_000, 1.0), (7, 0, 7_000.0), (3, 8_000, 0.375)] {
            assert_eq!(rate(entries, ms).per_second().to_bits(), f64::to_bits(per_second));
        }
        assert!(rate(u64::MAX, 0).per_second().is_finite() && rate(1, u64::MAX).per_second() > 0.0);
        assert_eq!(rate(0, 5), rate(0, 7));
        assert_ne!(rate(1, 5), rate(1, 7));
    }

    #[test]
    fn the_age_of_an_id_is_as_of_the_reading_and_grows_while_nothing_changes() {
        const READ_AT: Duration = Duration::from_micros(1_700_000_000_000_250);
        let (s, micros) = (Duration::from_secs, Duration::from_micros);
        for (ms, age) in [
            (1_699_999_990_000, Some(micros(10_000_250))),
            (1_700_000_000_000, Some(micros(250))),
            // Ahead of the clock: by a little, and by more than five seconds, after which it is no time later either.
            (1_700_000_003_000, Some(s(0))),
            (1_700_000_006_000, None),
            (5, None),
            (0, None),
            (u64::MAX, None),
        ] {
            let id = StreamId::new(ms, 1);
            let oldest = OldestPending::Entry { id, consumer: None, idle: Some(s(2).into()), deliveries: 1 };
            let values =
                GroupValues { last_delivered_id: id, oldest_pending: Some(oldest), ..GroupValues::default() };
            let ages = |view: GroupView<'_>| [view.last_delivered_id_age(), view.oldest_pending_age()];
            assert_eq!(ages(GroupView::at(&values, READ_AT)), [age; 2], "{ms}");
            let later = GroupView::later(&values, READ_AT, s(30));
            assert_eq!(ages(later), [age.map(|age| age + s(30)); 2], "{ms}");
        }
        for oldest_pending in [None, Some(OldestPending::Nothing)] {
            let values = GroupValues { oldest_pending, ..GroupValues::default() };
            assert_eq!(GroupView::at(&values, READ_AT).oldest_pending_age(), None);
        }
        assert_eq!(size_of::<Option<OldestPending>>(), 40);
    }

    #[test]
    fn a_family_has_the_largest_age_although_it_has_the_smallest_id() {
        const READ_AT: Duration = Duration::from_secs(1_700_000_000);
        let s = Duration::from_secs;
        let of = |ms| {
            let id = StreamId::new(ms, 0);
            let oldest = OldestPending::Entry { id, consumer: None, idle: None, deliveries: 1 };
            GroupValues { last_delivered_id: id, oldest_pending: Some(oldest), ..GroupValues::default() }
        };
        // The smallest ID is no time, and each stream was read at a time of its own.
        let members = [of(7), of(1_699_999_900_000), of(1_699_999_950_000)];
        let [one, two, three] = members.each_ref();
        let views = [
            GroupView::at(one, READ_AT),
            GroupView::later(two, READ_AT - s(60), s(2)),
            GroupView::at(three, READ_AT - s(1)),
        ];
        let family = GroupValues::of_family(&views, READ_AT);
        let shown = GroupView::at(&family, READ_AT);
        assert_eq!(shown.last_delivered_id, StreamId::new(7, 0));
        assert_eq!([shown.last_delivered_id_age(), shown.oldest_pending_age()], [Some(s(49)); 2]);
    }

    #[test]
    fn a_lag_takes_sixteen_bytes_and_has_its_bounds() {
        assert_eq!(size_of::<Lag>(), 16);
        let bounds = |lag: Lag| (lag.exact(), lag.min(), lag.max());
        for lag in [0, 1, u64::MAX] {
            assert_eq!(bounds(Lag::Exact(lag)), (Some(lag), lag, lag));
        }
        for (min, max) in [(0, 0), (0, u64::MAX), (u64::MAX - 1, u64::MAX)] {
            assert_eq!(bounds(Lag::Between { min: min.into(), max }), (None, min, max));
        }
        assert_ne!(Lag::Between { min: 5.into(), max: 5 }, Lag::Exact(5));
    }
}

#[cfg(feature = "random")]
mod random {
    use fastrand::Rng;

    use super::{
        Age, Arc, ConditionSet, Count, Duration, EntryRate, FATAL_DELIVERIES, GroupStatus, GroupValues,
        HistoryCoverage, Lag, LossEstimate, OldestPending, PendingCensus, PendingCensusReading, Retention,
        SeldomGroupValues, SilentConsumers,
    };
    use crate::condition::Status;
    use crate::random::{READ_AT, count, id, maybe, maybe_count, maybe_span, span};

    fn status(rng: &mut Rng) -> GroupStatus {
        let held = Status::ALL.into_iter().filter(|_| rng.u8(0..8) == 0).collect::<ConditionSet>();
        let coverage = match rng.bool() {
            true => HistoryCoverage::Complete,
            false => HistoryCoverage::Partial { remaining: maybe_span(rng).map(Into::into) },
        };
        GroupStatus { conditions: held, coverage, since: maybe_span(rng).map(Into::into) }
    }

    fn oldest_pending(rng: &mut Rng) -> Option<OldestPending> {
        let entry = OldestPending::Entry {
            id: id(rng),
            consumer: None,
            idle: maybe_span(rng).map(Into::into),
            deliveries: if rng.u8(0..4) == 0 { FATAL_DELIVERIES } else { 1 + count(rng) },
        };
        match rng.u8(0..3) {
            0 => None,
            1 => Some(OldestPending::Nothing),
            _ => Some(entry),
        }
    }

    fn census(rng: &mut Rng) -> Option<PendingCensusReading> {
        let census = PendingCensus {
            entries: count(rng),
            redelivered: count(rng),
            failed: rng.u64(0..2),
            max_deliveries: maybe_count(rng).map(Into::into),
            max_idle: maybe_span(rng).map(Into::into),
            oldest_delivery: maybe_span(rng).map(|span| (READ_AT - span).into()),
            ended: (READ_AT - span(rng)).into(),
            ..PendingCensus::default()
        };
        let unchanged_until = maybe_span(rng).map(|span| (READ_AT - span).into());
        let reading = PendingCensusReading { census: Arc::new(census), unchanged_until };
        maybe(rng, reading)
    }

    impl GroupValues {
        /// Returns random values.
        #[must_use]
        pub fn random(rng: &mut Rng) -> Self {
            let (min, more) = (count(rng), count(rng));
            let rate = |rng: &mut Rng| {
                let rate = EntryRate::new(count(rng), Duration::from_secs(1 + rng.u64(0..9)));
                maybe(rng, rate)
            };
            let silent = SilentConsumers::new(rng.u32(0..5), rng.u32(0..5));
            let (loss, retention) =
                (LossEstimate { lost: count(rng), added: 9 }, Retention { lag: count(rng), length: 9 });
            Self {
                lag: if rng.bool() {
                    Lag::Exact(min)
                } else {
                    Lag::Between { min: min.into(), max: min + more }
                },
                lag_seconds: maybe_span(rng).map(Age::of),
                last_delivered_id: id(rng),
                last_delivery_age: maybe_span(rng).map(Age::of),
                entries_read: maybe_count(rng).map(Count::from),
                messages_pending: rng.u64(0..2),
                messages_released: maybe_count(rng).map(Count::from),
                oldest_pending: oldest_pending(rng),
                pending_orphaned: maybe_count(rng).map(Count::from),
                pending_census: census(rng),
                consumers: count(rng),
                consumers_growth: maybe_count(rng).into(),
                silent_consumers: maybe(rng, silent),
                entries_lost: maybe_count(rng).map(Count::from),
                entries_delivered: maybe_count(rng).map(Count::from),
                entries_acknowledged: maybe_count(rng).map(Count::from),
                drain_time: maybe_span(rng).map(Into::into),
                added_rate: rate(rng),
                delivered_rate: rate(rng),
                status: status(rng),
                named: rng.bool(),
                seldom: SeldomGroupValues {
                    loss_estimate: maybe(rng, loss),
                    retention_used: maybe(rng, retention),
                    time_to_loss: maybe_span(rng).map(Into::into),
                    pending_dropped: rng.u64(0..2),
                    ..SeldomGroupValues::default()
                }
                .into(),
            }
        }
    }
}
