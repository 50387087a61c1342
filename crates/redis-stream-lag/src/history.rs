//! The history of a group: since when each condition has held, and how the lag developed.
//!
//! It is small and bounded: one timestamp per condition, and a few lags per window, however often the target is
//! polled. Timestamps come from the caller's monotonic clock, so that a jump of the server's clock makes no condition
//! look older than it is.

use std::num::{NonZeroI64, NonZeroU64};
use std::time::Duration;

use crate::compact::{Flagged, Micros, Millis, MostlyDefault, millis};
use crate::pending_cache::PelHead;
use crate::question::PendingEntry;
use crate::report::{GroupStatus, HistoryCoverage, Lag, Status};
use crate::rhythm::Rhythm;
use crate::timeline::Timeline;
use redis_stream_core::id::StreamId;

/// Number of lags kept per window, evenly spaced.
const POINTS_PER_WINDOW: u32 = 12;
/// Number of gaps between the lags that are kept: at most 13 lags of a window, since a lag may be a tenth early, and the
/// one before it.
const GAPS: usize = POINTS_PER_WINDOW as usize + 1;
/// The part of a window (one twentieth) by which a condition may fall short of it. Polls come a little early or late;
/// without a tolerance, a dead group would be noticed one poll later half of the time.
const TOLERANCE: u32 = 20;

/// The values of a group in one poll.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Start of the poll, by the caller's monotonic clock.
    pub(super) at: Duration,
    /// The node's clock at the same time.
    pub(super) node_time: Duration,
    pub(super) lag: Lag,
    /// last-delivered-id.
    pub(super) position: StreamId,
    /// ID of the last entry of the stream; `0-0` if it is empty.
    pub(super) newest: StreamId,
    /// entries-added; `None` before server 7.0.
    pub(super) added: Option<u64>,
    pub(super) activity: ConsumerActivity,
    /// Number of consumers.
    pub(super) consumers: u64,
    /// Time for which entries have waited without a delivery, as far as this reading alone proves it.
    pub(super) proven_wait: Duration,
    /// Size of the PEL.
    pub(super) pending: u64,
    /// Number of pending entries that went with their consumers since the previous poll; `None` if that is not known.
    pub(super) dropped: Option<u64>,
    pub(super) oldest_pending: PelHead,
    /// The longest time for which any pending entry was certainly not delivered again, by the census.
    pub(super) longest_pending_idle: Option<Duration>,
    /// A number that rises whenever the group loses entries.
    pub(super) lost: u64,
    /// The time by which the node's clock was set ahead within the window.
    pub(super) clock_jump: Duration,
}

/// The node's clock, compared with the caller's over a window.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NodeClock {
    /// The time at which the node's clock had not jumped ahead, within the window.
    basis_at: Option<Millis>,
    /// Its offset then: the time by which it was ahead of the caller's clock.
    offset_ms: u64,
}

impl NodeClock {
    /// Takes a reading.
    pub(super) fn note(&mut self, node_time: Duration, at: Duration, window: Duration) {
        let offset = node_time.saturating_sub(at);
        let is_basis_old = self.basis_at.is_none_or(|basis| at.saturating_sub(basis.get()) >= window);
        if is_basis_old || offset <= Duration::from_millis(self.offset_ms) + window / 4 {
            (self.basis_at, self.offset_ms) = (Some(at.into()), millis(offset));
        }
    }

    /// Returns the time by which it was set ahead within the window, as of a reading.
    pub(super) fn jump(&self, node_time: Duration, at: Duration) -> Duration {
        let offset = self.basis_at.map(|_| Duration::from_millis(self.offset_ms));
        offset.map_or(Duration::ZERO, |offset| node_time.saturating_sub(at).saturating_sub(offset))
    }
}

impl Sample {
    /// Returns true if entries certainly wait for the group.
    fn is_behind(&self) -> bool {
        self.lag.min() > 0
    }

    /// Returns true if the group has consumers or pending entries, which are lost when a group is deleted.
    fn is_in_use(&self) -> bool {
        self.activity != ConsumerActivity::NoConsumers || self.pending > 0
    }

    /// Returns true if the PEL has become smaller than `pending`, and not because XGROUP DELCONSUMER dropped entries.
    fn shows_acknowledgement(&self, pending: u32, consumers: u32) -> bool {
        match self.dropped {
            Some(dropped) => self.pending.saturating_add(dropped) < pending.into(),
            None => self.pending < pending.into() && self.consumer_count() >= consumers,
        }
    }

    /// Returns the size of the PEL. It takes more memory than there is to exceed this.
    fn pending_count(&self) -> u32 {
        u32::try_from(self.pending).unwrap_or(u32::MAX)
    }

    fn consumer_count(&self) -> u32 {
        u32::try_from(self.consumers).unwrap_or(u32::MAX)
    }

    /// Returns true if it shows that a pause was ended by a read, not by XGROUP SETID, which resets no idle time.
    fn shows_read_after(&self, pause: Duration) -> bool {
        match self.activity {
            ConsumerActivity::IdleFor(idle) => idle < pause,
            ConsumerActivity::NoConsumers | ConsumerActivity::Unknown => true,
        }
    }
}

/// Activity of the consumers of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConsumerActivity {
    NoConsumers,
    /// Idle time of the most recently active consumer, by the node's clock.
    IdleFor(Duration),
    /// There are consumers with unknown idle times.
    Unknown,
}

/// The activity of consumers when it was last known, in four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NotedActivity(
    /// Idle time in milliseconds if it is shorter than [`LONG`](Self::LONG), otherwise in seconds and added to `LONG`. The
    /// two largest numbers are the activities without one.
    u32,
);

impl NotedActivity {
    /// 24 days.
    const LONG: u32 = 1 << 31;
    const UNKNOWN: u32 = u32::MAX;
    const NO_CONSUMERS: u32 = u32::MAX - 1;

    fn of(activity: ConsumerActivity) -> Self {
        let stored = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).min(Self::NO_CONSUMERS - 1);
        Self(match activity {
            ConsumerActivity::NoConsumers => Self::NO_CONSUMERS,
            ConsumerActivity::IdleFor(idle) => match millis(idle) {
                idle_ms if idle_ms < Self::LONG.into() => stored(idle_ms),
                idle_ms => stored(u64::from(Self::LONG) + idle_ms / 1_000),
            },
            ConsumerActivity::Unknown => Self::UNKNOWN,
        })
    }

    fn get(self) -> ConsumerActivity {
        match self.0 {
            Self::NO_CONSUMERS => ConsumerActivity::NoConsumers,
            Self::UNKNOWN => ConsumerActivity::Unknown,
            Self::LONG.. => ConsumerActivity::IdleFor(Duration::from_secs((self.0 - Self::LONG).into())),
            idle_ms => ConsumerActivity::IdleFor(Duration::from_millis(idle_ms.into())),
        }
    }
}

/// The time for which entries have waited and the group has not moved, in eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wait(
    /// In microseconds: one more than the time since which, by the caller's clock, or negative, one more than the time for
    /// which they had waited when the history began.
    NonZeroI64,
);

impl Wait {
    fn since(at: Duration) -> Self {
        Self(Self::stored(at))
    }

    fn before_history(time: Duration) -> Self {
        Self(-Self::stored(time))
    }

    fn stored(time: Duration) -> NonZeroI64 {
        let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        NonZeroI64::new(micros.saturating_add(1)).expect("it is positive")
    }

    /// Returns the time since which, and for how long they had waited before, given the time at which the history began.
    fn get(self, began: Micros) -> (Duration, Duration) {
        let time = Duration::from_micros(self.0.get().unsigned_abs() - 1);
        if self.0.is_positive() { (time, Duration::ZERO) } else { (began.get(), time) }
    }
}

/// The history of one group, by the caller's monotonic clock.
#[derive(Clone, Debug)]
pub(super) struct History {
    began: Micros,
    position: StreamId,
    /// Time at which the group was last seen to have been delivered entries, by the second reading at the earliest.
    delivered_at: Option<Micros>,
    /// The wait of entries, while there are any and the group has not moved.
    wait: Option<Wait>,
    /// True if the group appeared, in a stream that was known before, when the history began.
    has_appeared: bool,
    /// True once the group was seen with nothing to read.
    was_caught_up: bool,
    /// True once the group was seen with nothing pending.
    had_nothing_pending: bool,
    status: Status,
    consumers: u32,
    pending: u32,
    /// Last time at which the PEL had become smaller.
    acknowledged_at: Option<Micros>,
    /// Time at which the status began, by the node's clock.
    status_since_ms: u64,
    /// The oldest pending entry when it was last known.
    oldest_pending: Option<Box<TrackedPending>>,
    /// The activity when it was last known.
    activity: NotedActivity,
    /// Lags since the group was last caught up, the oldest first. All but the first are within the window; the first
    /// is the last one before it.
    points: Timeline<LagPoint, GAPS>,
    rare: MostlyDefault<RareHistory>,
}

/// The parts that the histories of few groups have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct RareHistory {
    /// Pauses that the group usually makes.
    rhythm: Rhythm,
    /// The status before a restart, until it is there again or is known to have ended.
    restored: Option<DatedStatus>,
    /// A number that rises whenever the group loses entries.
    lost: u64,
    /// Last time at which entries were lost.
    lost_at: Option<Micros>,
    /// Last time at which last-delivered-id moved backwards.
    rewound_at: Option<Micros>,
}

/// A condition that is the status of a group, and the time at which it began, by the node's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatedStatus {
    /// The condition.
    pub status: Status,
    /// Time since the Unix epoch.
    pub since: Duration,
}

/// The oldest pending entry, and the time since which it has been that without another delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TrackedPending {
    id: StreamId,
    /// The number of deliveries, and whether it was idle for the window when it was last known.
    deliveries_and_idle: Flagged,
    pub(super) since: Micros,
}

impl TrackedPending {
    fn of(entry: PendingEntry, at: Duration, window: Duration) -> Self {
        // An entry that was released by XNACK has no idle time.
        let is_idle = entry.idle_ms.is_none_or(|idle| is_long(Duration::from_millis(idle), window));
        let deliveries_and_idle = Flagged::new(entry.deliveries, is_idle);
        Self { id: entry.id, deliveries_and_idle, since: at.into() }
    }

    /// Returns true if it was idle for the window when it was last known, or belongs to no consumer.
    pub(super) fn is_idle(&self) -> bool {
        self.deliveries_and_idle.flag()
    }

    fn is_same_delivery(&self, other: &Self) -> bool {
        let deliveries = |tracked: &Self| tracked.deliveries_and_idle.number();
        (self.id, deliveries(self)) == (other.id, deliveries(other))
    }
}

/// The lag at one time, and what it is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LagPoint {
    /// The lag, if it is known exactly. Never 0, as `added`.
    lag: Option<NonZeroU64>,
    newest: StreamId,
    /// entries-added. Never 0, since a point is kept only while entries wait.
    added: Option<NonZeroU64>,
}

impl LagPoint {
    fn of(sample: &Sample) -> Self {
        let lag = sample.lag.exact().and_then(NonZeroU64::new);
        Self { lag, newest: sample.newest, added: sample.added.and_then(NonZeroU64::new) }
    }
}

impl History {
    pub(super) fn begin(sample: &Sample, window: Duration) -> Self {
        let mut history = Self {
            began: Micros::from(sample.at),
            position: sample.position,
            delivered_at: None,
            wait: None,
            has_appeared: false,
            was_caught_up: false,
            had_nothing_pending: false,
            status: Status::Unknown,
            consumers: sample.consumer_count(),
            pending: sample.pending_count(),
            acknowledged_at: None,
            status_since_ms: millis(sample.node_time),
            oldest_pending: None,
            activity: NotedActivity::of(sample.activity),
            points: Timeline::default(),
            rare: MostlyDefault::default(),
        };
        history.rare.change(|rare| rare.lost = sample.lost);
        history.note(sample, window);
        if history.wait.is_some() && !sample.proven_wait.is_zero() {
            history.wait = Some(Wait::before_history(sample.proven_wait));
        }
        if sample.pending > 0 && sample.activity != ConsumerActivity::NoConsumers {
            // The consumers may have acknowledged until now.
            history.acknowledged_at = Some(Micros::from(sample.at));
        }
        history
    }

    pub(super) fn note(&mut self, sample: &Sample, window: Duration) {
        let now = sample.at;
        let was_rewound = sample.position < self.position;
        if was_rewound && self.was_in_use() && !sample.is_in_use() {
            // Its consumers and pending entries are gone too, so the group was deleted and created again.
            *self = Self::begin(sample, window);
            self.note_appearance();
            return;
        }
        // The node's clock may have been set back.
        self.status_since_ms = self.status_since_ms.min(millis(sample.node_time));
        if sample.shows_acknowledgement(self.pending, self.consumers) {
            self.acknowledged_at = Some(Micros::from(now));
        }
        self.note_rare(sample, was_rewound, window);
        if sample.position > self.position {
            self.delivered_at = Some(Micros::from(now));
        }
        self.wait = match self.wait {
            _ if !sample.is_behind() => None,
            Some(wait) if sample.position == self.position => Some(wait),
            _ => Some(Wait::since(now)),
        };
        self.was_caught_up |= sample.lag == Lag::Exact(0);
        self.had_nothing_pending |= sample.pending == 0;
        self.note_oldest_pending(sample, window);
        self.note_activity(sample.activity);
        self.note_point(sample, window);
        (self.position, self.pending, self.consumers) =
            (sample.position, sample.pending_count(), sample.consumer_count());
    }

    /// Returns true if the samples of the last window show the same.
    pub(super) fn is_constant(&self) -> bool {
        self.points.is_constant()
    }

    /// Takes the samples of the last window for those of a later one, of the same values.
    pub(super) fn repeat(&mut self, later: Duration) {
        self.points.shift(later);
    }

    /// Returns true if a condition may begin or end while nothing but time changes, after nothing has changed for more than
    /// a window.
    pub(super) fn waits_for_time(&self, now: Duration, window: Duration) -> bool {
        let rare = self.rare.value();
        let pause = rare.rhythm.longest_pause(now);
        let is_in_rhythm = !pause.is_zero() && self.waited(now) <= 2 * pause;
        // Consumers that are not reported may have been active.
        let is_active = match self.activity() {
            ConsumerActivity::IdleFor(idle) => idle < window + window / 4,
            ConsumerActivity::NoConsumers | ConsumerActivity::Unknown => false,
        };
        rare.restored.is_some() || self.wait.is_some() && (is_in_rhythm || is_active)
    }

    /// Returns the number of consumers in the last reading.
    pub(super) fn consumers(&self) -> u64 {
        self.consumers.into()
    }

    /// Restarts all conditions after a long time without polls: what held before and holds now may not have held in
    /// between, and while the server was away no consumer could read. The position of the group and the events that
    /// were seen stay valid.
    pub(super) fn interrupt(&mut self, now: Duration) {
        self.began = Micros::from(now);
        (self.wait, self.oldest_pending) = (None, None);
        (self.was_caught_up, self.had_nothing_pending, self.has_appeared) = (false, false, false);
        self.rare.change(|rare| rare.rhythm.interrupt());
        self.activity = NotedActivity::of(ConsumerActivity::Unknown);
        self.points.clear();
    }

    /// Returns true if the group had consumers or pending entries in the last reading.
    fn was_in_use(&self) -> bool {
        self.consumers > 0 || self.pending > 0
    }

    /// Returns the position in the last reading.
    pub(super) fn position(&self) -> StreamId {
        self.position
    }

    /// Drops the lags, after an audit found them wrong.
    pub(super) fn forget_lags(&mut self) {
        self.points.clear();
    }

    /// Returns the status with the time since which it has been the group's.
    pub(super) fn dated(&mut self, status: GroupStatus, node_time: Duration) -> GroupStatus {
        let is_known = status.coverage == HistoryCoverage::Complete;
        if self.status != status.status() {
            self.status = status.status();
            let restored = self.rare.value().restored.filter(|before| before.status == self.status);
            self.status_since_ms = millis(restored.map_or(node_time, |before| before.since.min(node_time)));
            if restored.is_some() {
                self.rare.change(|rare| rare.restored = None);
            }
        }
        // A lesser condition may be known sooner than the one before the restart.
        if is_known && self.rare.get().is_some() {
            self.rare.change(|rare| rare.restored = None);
        }
        GroupStatus { since: Some(Duration::from_millis(self.status_since_ms).into()), ..status }
    }

    /// Returns the status if it is a condition: the present one, or while that is not known, the one before a restart.
    pub(super) fn condition(&self) -> Option<DatedStatus> {
        let present = DatedStatus { status: self.status, since: Duration::from_millis(self.status_since_ms) };
        let status = self.rare.value().restored.unwrap_or(present);
        status.status.is_condition().then_some(status)
    }

    /// Returns true if it knows of pauses, or of a condition before a restart that is not known to have ended.
    pub(super) fn knows_more_than_status(&self) -> bool {
        self.rare.get().is_some_and(|rare| rare.rhythm != Rhythm::default() || rare.restored.is_some())
    }

    /// Takes what was known before a restart: the pauses that the group makes, and its status if that was a condition.
    pub(super) fn restore(&mut self, rhythm: Rhythm, status: Option<DatedStatus>) {
        self.rare.change(|rare| (rare.rhythm, rare.restored) = (rhythm, status));
    }

    /// Returns the pauses that the group usually makes.
    pub(super) fn rhythm(&self) -> Rhythm {
        self.rare.value().rhythm
    }

    /// Returns the time since which entries have waited and the group has not moved.
    pub(super) fn waiting_since(&self) -> Option<Duration> {
        self.wait.map(|wait| wait.get(self.began).0)
    }

    /// Returns the last time at which the PEL had become smaller.
    pub(super) fn acknowledged_at(&self) -> Option<Duration> {
        self.acknowledged_at.map(Micros::get)
    }

    /// Returns the last time at which last-delivered-id moved backwards.
    pub(super) fn rewound_at(&self) -> Option<Duration> {
        self.rare.get()?.rewound_at.map(Micros::get)
    }

    /// Returns the last time at which entries were lost.
    pub(super) fn lost_at(&self) -> Option<Duration> {
        self.rare.get()?.lost_at.map(Micros::get)
    }

    /// Returns the oldest pending entry when it was last known.
    pub(super) fn oldest_pending(&self) -> Option<&TrackedPending> {
        self.oldest_pending.as_deref()
    }

    /// Returns the activity when it was last known.
    pub(super) fn activity(&self) -> ConsumerActivity {
        self.activity.get()
    }

    /// Returns the time since the last delivery that was seen, at `now`.
    pub(super) fn last_delivery_age(&self, now: Duration) -> Option<Duration> {
        self.delivered_at.map(|at| at.until(now))
    }

    /// Notes that the group appeared in a stream that was known before.
    pub(super) fn note_appearance(&mut self) {
        self.has_appeared = true;
    }

    /// Returns the time since the group appeared, at `now`; `None` if it was there at the first reading, or if polls were
    /// interrupted since.
    pub(super) fn time_since_appearance(&self, now: Duration) -> Option<Duration> {
        self.has_appeared.then(|| self.began.until(now))
    }

    /// Returns the time for which entries have waited at `now` without a delivery; zero if none wait.
    pub(super) fn waited(&self, now: Duration) -> Duration {
        let wait = self.wait.map(|wait| wait.get(self.began));
        wait.map_or(Duration::ZERO, |(since, before)| now.saturating_sub(since) + before)
    }

    /// Notes what happens to few groups.
    fn note_rare(&mut self, sample: &Sample, was_rewound: bool, window: Duration) {
        let (mut rare, now) = (std::mem::take(&mut self.rare), Micros::from(sample.at));
        rare.change(|rare| {
            if was_rewound {
                rare.rewound_at = Some(now);
            }
            if sample.lost > rare.lost {
                rare.lost_at = Some(now);
            }
            rare.lost = sample.lost;
            self.note_pause(&mut rare.rhythm, sample, window);
        });
        self.rare = rare;
    }

    /// Learns from a delivery that ends a pause. Shorter pauses than half the window make no difference. The group
    /// catches up when it reaches what waited last, since more may have been added after the read.
    fn note_pause(&self, rhythm: &mut Rhythm, sample: &Sample, window: Duration) {
        let pause = self.waited(sample.at);
        if sample.position > self.position && pause > window / 2 && sample.shows_read_after(pause) {
            rhythm.note_pause(pause, self.points.last().map_or(sample.newest, |(_, last)| last.newest));
        }
        rhythm.note_position(sample.position, sample.at);
    }

    fn note_oldest_pending(&mut self, sample: &Sample, window: Duration) {
        let entry = match sample.oldest_pending {
            PelHead::Unknown => return,
            PelHead::Empty => {
                self.oldest_pending = None;
                return;
            }
            PelHead::Entry(entry) => entry,
        };
        let new = TrackedPending::of(entry, sample.at, window);
        match &mut self.oldest_pending {
            Some(tracked) => {
                let is_same = tracked.is_same_delivery(&new);
                **tracked = if is_same { TrackedPending { since: tracked.since, ..new } } else { new };
            }
            None => self.oldest_pending = Some(Box::new(new)),
        }
    }

    /// Unknown activity, as after a poll that timed out, keeps the last known one, if that can still hold.
    fn note_activity(&mut self, activity: ConsumerActivity) {
        if activity != ConsumerActivity::Unknown || self.activity() == ConsumerActivity::NoConsumers {
            self.activity = NotedActivity::of(activity);
        }
    }

    fn note_point(&mut self, sample: &Sample, window: Duration) {
        let now = sample.at;
        if !sample.is_behind() {
            return self.points.clear();
        }
        let is_old = |at: &Duration| now.saturating_sub(*at) >= with_tolerance(window);
        let old = self.points.times().take_while(is_old).count();
        self.points.drop_first(old.saturating_sub(1));
        let is_due = |(last, _)| now.saturating_sub(last) >= window / POINTS_PER_WINDOW * 9 / 10;
        if self.points.last().is_none_or(is_due) {
            self.points.push(now, LagPoint::of(sample));
        }
    }
}

fn with_tolerance(window: Duration) -> Duration {
    window - window / TOLERANCE
}

fn is_long(time: Duration, window: Duration) -> bool {
    time >= with_tolerance(window)
}

/// A history right after a sample was added, over a window: the input of the status rules.
#[derive(Clone, Copy, Debug)]
pub(super) struct HistoryWindow<'a> {
    pub(super) history: &'a History,
    pub(super) sample: &'a Sample,
    pub(super) window: Duration,
}

impl HistoryWindow<'_> {
    /// Returns true if the history covers the window.
    pub(super) fn is_complete(&self) -> bool {
        self.has_lasted(self.history.began.get())
    }

    /// Returns the time until the history covers the window.
    pub(super) fn remaining(&self) -> Duration {
        let covered = self.history.began.until(self.sample.at);
        with_tolerance(self.window).saturating_sub(covered)
    }

    /// Returns true if no group that has been watched since it had nothing to read and nothing pending could have a
    /// condition that takes the window to arise.
    pub(super) fn covers_all(&self) -> bool {
        self.is_complete() || (self.history.was_caught_up && self.history.had_nothing_pending)
    }

    /// Returns true if entries have waited for the window without a delivery.
    pub(super) fn is_paused(&self) -> bool {
        self.is_long(self.history.waited(self.sample.at))
    }

    /// Returns true if entries have waited for most of the window without a delivery.
    pub(super) fn is_paused_for_most(&self) -> bool {
        2 * self.history.waited(self.sample.at) > self.window
    }

    /// Returns true if the present pause is not much longer than others of this group, which it ended by itself.
    pub(super) fn is_in_rhythm(&self) -> bool {
        self.history.waited(self.sample.at) <= 2 * self.history.rhythm().longest_pause(self.sample.at)
    }

    /// Returns true if a condition that began at `since` has lasted for the window.
    pub(super) fn has_lasted(&self, since: Duration) -> bool {
        self.is_long(self.sample.at.saturating_sub(since))
    }

    /// Returns true if an idle time is as long as the window, whatever the node's clock did meanwhile. A reading that was
    /// late shows the same as a clock that jumped: an idle time that is longer by as much.
    pub(super) fn is_idle_long(&self, idle: Duration) -> bool {
        self.is_long(idle.saturating_sub(self.sample.clock_jump))
    }

    /// Returns true if a time is as long as the window.
    pub(super) fn is_long(&self, time: Duration) -> bool {
        is_long(time, self.window)
    }

    /// Returns true if an event at `at` happened within the window.
    pub(super) fn is_recent(&self, at: Option<Duration>) -> bool {
        at.is_some_and(|at| self.sample.at.saturating_sub(at) < self.window)
    }

    /// Returns true if the group has been behind for the window: entries waited at every poll, and it has not reached
    /// the end that the stream had a window ago. A group that keeps up and always has a few new entries to read is not
    /// behind.
    pub(super) fn is_behind(&self) -> bool {
        self.base().is_some_and(|base| self.sample.position < base.newest)
    }

    /// Returns the exact lags in the window, the oldest first.
    pub(super) fn exact_lags(&self) -> impl Iterator<Item = u64> {
        let points = &self.history.points;
        let at = Duration::from_millis(millis(self.sample.at));
        let is_point = points.last() == Some((at, LagPoint::of(self.sample)));
        let newest = (!is_point).then(|| self.sample.lag.exact());
        points.values().map(|point| point.lag.map(NonZeroU64::get)).chain(newest).flatten()
    }

    /// Returns the number of entries added in the window. `None` before server 7.0, and if the group was not behind all
    /// the time.
    pub(super) fn added(&self) -> Option<u64> {
        self.sample.added?.checked_sub(self.base()?.added?.get())
    }

    /// Returns the lag a window ago, if entries have waited since.
    fn base(&self) -> Option<LagPoint> {
        let (at, point) = self.history.points.first()?;
        self.has_lasted(at).then_some(point)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(120);

    fn sample(at: Duration, lag: Lag) -> Sample {
        Sample {
            at,
            node_time: Duration::from_secs(1_700_000_000) + at,
            lag,
            position: StreamId::new(1, 0),
            newest: StreamId::new(99, 0),
            added: Some(1_000),
            activity: ConsumerActivity::IdleFor(Duration::ZERO),
            consumers: 1,
            proven_wait: Duration::ZERO,
            pending: 0,
            dropped: None,
            oldest_pending: PelHead::Empty,
            longest_pending_idle: None,
            lost: 0,
            clock_jump: Duration::ZERO,
        }
    }

    #[test]
    fn an_activity_takes_four_bytes() {
        let (exact, days) = (Duration::from_millis((1 << 31) - 1), Duration::from_secs(86_400) * 400);
        let longest = Duration::from_secs((1 << 31) - 3);
        for (activity, noted) in [
            (ConsumerActivity::NoConsumers, ConsumerActivity::NoConsumers),
            (ConsumerActivity::Unknown, ConsumerActivity::Unknown),
            (ConsumerActivity::IdleFor(Duration::ZERO), ConsumerActivity::IdleFor(Duration::ZERO)),
            (ConsumerActivity::IdleFor(exact), ConsumerActivity::IdleFor(exact)),
            (
                ConsumerActivity::IdleFor(days + exact / 2),
                ConsumerActivity::IdleFor(days + Duration::from_secs(1_073_741)),
            ),
            (ConsumerActivity::IdleFor(longest), ConsumerActivity::IdleFor(longest)),
            (ConsumerActivity::IdleFor(Duration::MAX), ConsumerActivity::IdleFor(longest)),
        ] {
            assert_eq!(NotedActivity::of(activity).get(), noted);
        }
        assert_eq!(size_of::<NotedActivity>(), 4);
    }

    #[test]
    fn a_wait_takes_eight_bytes_with_what_was_before_the_history() {
        let (began, longest) = (Duration::from_secs(5), Duration::from_micros(i64::MAX.unsigned_abs() - 1));
        assert_eq!(size_of::<Option<Wait>>(), 8);
        for time in [Duration::ZERO, Duration::from_micros(1), Duration::from_secs(1 << 40), Duration::MAX] {
            let kept = time.min(longest);
            assert_eq!(Wait::since(time).get(began.into()), (kept, Duration::ZERO));
            assert_eq!(Wait::before_history(time).get(began.into()), (began, kept));
        }
    }

    /// Returns a history of polls over three windows, the n-th of which found the lag n.
    fn polled_every(interval: Duration, window: Duration) -> History {
        let mut history = History::begin(&sample(Duration::ZERO, Lag::Exact(1)), window);
        let polls = u32::try_from(window.as_millis() * 3 / interval.as_millis()).unwrap();
        for poll in 1..=polls {
            history.note(&sample(interval * poll, Lag::Exact(u64::from(poll) + 1)), window);
        }
        history
    }

    #[test]
    fn a_status_before_a_restart_is_kept_until_it_is_known_again() {
        let (now, before) = (Duration::from_secs(1_700_000_500), Duration::from_secs(1_699_990_000));
        let restored = DatedStatus { status: Status::Stalled, since: before };
        for (known, since) in [(Status::Stalled, before), (Status::Lagging, now), (Status::Ok, now)] {
            let mut history = polled_every(Duration::from_secs(10), WINDOW);
            history.restore(Rhythm::default(), Some(restored));
            let unknown = history.dated(Status::Unknown.into(), now).since;
            assert_eq!(unknown, Some(Duration::from_secs(1_700_000_000).into()), "since the first poll");
            assert_eq!(history.condition(), Some(restored), "another restart");
            assert_eq!(history.dated(known.into(), now).since, Some(since.into()), "{known:?}");
            let later = now + WINDOW;
            assert_eq!(history.dated(Status::Rewound.into(), later).since, Some(later.into()));
        }
    }

    #[test]
    fn a_lesser_condition_that_is_known_sooner_does_not_end_the_one_before_a_restart() {
        let (s, now) = (Duration::from_secs, Duration::from_secs(1_700_000_500));
        let restored = DatedStatus { status: Status::Abandoned, since: now - s(9_000) };
        let partial = GroupStatus {
            coverage: HistoryCoverage::Partial { remaining: Some(s(9).into()) },
            ..Status::Stuck.into()
        };
        for (known, since) in
            [(Status::Abandoned, restored.since), (Status::Stuck, now), (Status::Ok, now + s(9))]
        {
            let mut history = polled_every(s(10), WINDOW);
            history.restore(Rhythm::default(), Some(restored));
            assert_eq!(history.dated(partial, now).since, Some(now.into()));
            assert_eq!(history.condition(), Some(restored), "another restart");
            assert_eq!(history.dated(known.into(), now + s(9)).since, Some(since.into()), "{known:?}");
            let present = known.is_condition().then_some(DatedStatus { status: known, since });
            assert_eq!(history.condition(), present);
        }
    }

    #[test]
    fn a_node_s_clock_that_is_set_changes_no_duration() {
        let (s, start) = (Duration::from_secs, Duration::from_secs(1_700_000_000));
        for (name, node_time) in [
            ("as the caller's", start + s(60)),
            ("ahead by a minute", start + s(120)),
            ("ahead by a year", start + s(86_400 * 365)),
            ("back by a minute", start),
            ("back by a year", start - s(86_400 * 365)),
            ("at the epoch", Duration::ZERO),
        ] {
            let mut clock = NodeClock::default();
            assert_eq!(clock.jump(node_time, s(60)), Duration::ZERO, "{name}: it is not known");
            let mut read = sample(s(30), Lag::Exact(5));
            read.position = StreamId::new(2, 0);
            clock.note(read.node_time, read.at, WINDOW);
            let mut history = History::begin(&sample(Duration::ZERO, Lag::Exact(6)), WINDOW);
            assert_eq!(history.last_delivery_age(Duration::ZERO), None, "{name}");
            history.note(&read, WINDOW);
            clock.note(node_time, s(60), WINDOW);
            let later = Sample { at: s(60), node_time, clock_jump: clock.jump(node_time, s(60)), ..read };
            history.note(&later, WINDOW);
            assert_eq!(history.last_delivery_age(later.at), Some(s(30)), "{name}");
            assert_eq!(history.waited(later.at), s(30), "{name}");
            let since = history.dated(Status::Unknown.into(), node_time).since.unwrap();
            assert_eq!(since, node_time.min(start).into(), "{name}: it is no time in the future");
            let view = HistoryWindow { history: &history, sample: &later, window: WINDOW };
            assert_eq!(view.remaining(), with_tolerance(WINDOW) - s(60), "{name}");
            // Idle times include a jump ahead.
            let jump = node_time.saturating_sub(start + s(60));
            assert!(!view.is_idle_long(s(60) + jump), "{name}");
            assert!(view.is_idle_long(with_tolerance(WINDOW) + jump), "{name}");
        }
    }

    #[test]
    fn a_history_does_not_grow_with_the_number_of_polls() {
        let history = polled_every(Duration::from_secs(10), WINDOW);
        assert_eq!(history.points.len(), 13, "each poll of the window, and the last one before it");
        for interval_ms in [10, 700, 1_000, 3_000, 5_000, 7_000, 9_000, 11_000, 20_000] {
            for window in [WINDOW, Duration::from_secs(3_600)] {
                let history = polled_every(Duration::from_millis(interval_ms), window);
                let points = history.points.len();
                assert!((7..=GAPS + 1).contains(&points), "{points} points, {interval_ms} ms, {window:?}");
                let times: Vec<_> = history.points.times().collect();
                let ages = times.windows(2).map(|pair| pair[1] - pair[0]);
                assert!(ages.max().unwrap() <= window / 6, "{times:?}");
            }
        }
    }

    /// The lags as a list of all points, none of which shares a value or is left out.
    #[derive(Default)]
    struct ListedLags(Vec<(u64, LagPoint)>);

    impl ListedLags {
        fn note(&mut self, sample: &Sample, window: Duration) {
            if !sample.is_behind() {
                return self.0.clear();
            }
            let age = |(at_ms, _): &(u64, LagPoint)| sample.at.saturating_sub(Duration::from_millis(*at_ms));
            let old = self.0.iter().take_while(|point| age(point) >= with_tolerance(window)).count();
            self.0.drain(..old.saturating_sub(1));
            if self.0.last().is_none_or(|last| age(last) >= window / POINTS_PER_WINDOW * 9 / 10) {
                self.0.push((millis(sample.at), LagPoint::of(sample)));
            }
        }

        fn base(&self, sample: &Sample, window: Duration) -> Option<LagPoint> {
            let (at_ms, point) = *self.0.first()?;
            let age = sample.at.saturating_sub(Duration::from_millis(at_ms));
            (age >= with_tolerance(window)).then_some(point)
        }

        fn exact_lags(&self, sample: &Sample) -> Vec<u64> {
            let is_point = self.0.last() == Some(&(millis(sample.at), LagPoint::of(sample)));
            let newest = (!is_point).then(|| sample.lag.exact());
            self.0.iter().map(|(_, point)| point.lag.map(NonZeroU64::get)).chain(newest).flatten().collect()
        }
    }

    /// Returns the lag, the ID of the last entry and entries-added of a reading by a small number.
    fn values(number: u64) -> (Lag, StreamId, Option<u64>) {
        let lag = match number {
            0 => Lag::Exact(0),
            1 => Lag::Between { min: 1.into(), max: 1 },
            _ => Lag::Exact(number),
        };
        (lag, StreamId::new(number, 0), (number != 5).then_some(number))
    }

    proptest::proptest! {
        #[test]
        fn a_history_shows_what_a_list_of_all_lags_shows(
            (window_s, typical_ms) in (10_u64..4_000, 10_u64..60_000),
            polls in proptest::collection::vec((0_u64..6, 0_u64..300, 0_u64..40), 1..150),
        ) {
            let window = Duration::from_secs(window_s);
            let (mut at, mut number) = (Duration::from_nanos(1_234_567), 3);
            let mut listed = ListedLags::default();
            let mut history = History::begin(&sample(at, Lag::Exact(0)), window);
            for (new_number, percent, event) in polls {
                // Mostly regular, of the same values.
                at += Duration::from_micros(typical_ms * 10 * if percent < 100 { 100 } else { percent });
                number = if event < 8 { new_number } else { number };
                if event == 20 {
                    history.interrupt(at);
                    listed.0.clear();
                }
                if event == 21 && history.is_constant() {
                    history.repeat(window);
                    listed.0.iter_mut().for_each(|(at_ms, _)| *at_ms += millis(window));
                    at += window;
                }
                let (lag, newest, added) = values(number);
                let sample = Sample { newest, added, ..sample(at, lag) };
                history.note(&sample, window);
                listed.note(&sample, window);
                let view = HistoryWindow { history: &history, sample: &sample, window };
                let base = listed.base(&sample, window);
                proptest::prop_assert_eq!(view.base(), base);
                proptest::prop_assert_eq!(view.exact_lags().collect::<Vec<_>>(), listed.exact_lags(&sample));
                let added = base.and_then(|base| added?.checked_sub(base.added?.get()));
                proptest::prop_assert_eq!(view.added(), added);
                proptest::prop_assert_eq!(view.is_behind(), base.is_some_and(|base| sample.position < base.newest));
                let is_constant = listed.0.windows(2).all(|pair| pair[0].1 == pair[1].1);
                proptest::prop_assert_eq!(history.is_constant(), is_constant);
            }
        }
    }

    #[test]
    fn a_group_that_is_caught_up_has_no_points() {
        let mut history = polled_every(Duration::from_secs(10), WINDOW);
        history.note(&sample(WINDOW * 4, Lag::Exact(0)), WINDOW);
        assert_eq!((history.points.len(), history.waiting_since()), (0, None));
    }

    #[test]
    fn the_last_point_before_the_window_is_kept_over_a_gap() {
        let mut history = polled_every(Duration::from_secs(10), WINDOW);
        let last = sample(WINDOW * 9, Lag::Between { min: 1.into(), max: 5 });
        history.note(&last, WINDOW);
        let view = HistoryWindow { history: &history, sample: &last, window: WINDOW };
        assert_eq!(view.exact_lags().collect::<Vec<_>>(), [37], "the last one before the gap");
        assert!(view.is_behind());
    }
}
