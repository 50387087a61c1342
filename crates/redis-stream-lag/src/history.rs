//! What is remembered of a group over time: enough to tell for how long something has been so, and how its lag
//! went. Bounded, and small: of the lags a few points per window stay, however often is polled; all else is
//! one moment for each thing that lasts.
//!
//! Moments are by the exporter's own clock, which never goes back: a server's clock that jumps makes nothing
//! look older than it is.

use std::num::NonZeroU64;
use std::time::Duration;

use crate::pending_cache::PelHead;
use crate::question::PendingEntry;
use crate::report::Lag;
use redis_stream_core::id::StreamId;

/// Parts of a window, each of which has a point.
const PARTS: u32 = 12;
/// A poll comes a little early or late. What has lasted but for this part of a window has lasted for it, or a
/// dead group would be seen a poll later half of the time.
const TOLERANCE: u32 = 20;

/// What one poll says of a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// When, by the exporter's clock.
    pub(super) at: Duration,
    /// The node's clock then.
    pub(super) node_time: Duration,
    pub(super) lag: Lag,
    /// last-delivered-id.
    pub(super) position: StreamId,
    /// ID of the last entry of the stream; `0-0` if it is empty.
    pub(super) newest: StreamId,
    /// entries-added; `None` before server 7.0.
    pub(super) added: Option<u64>,
    pub(super) activity: ConsumerActivity,
    /// Size of the PEL.
    pub(super) pending: u64,
    pub(super) oldest_pending: PelHead,
    /// Entries lost since the group was first seen.
    pub(super) lost: u64,
}

impl Sample {
    /// Whether entries wait for the group, certainly.
    fn is_behind(&self) -> bool {
        self.lag.min() > 0
    }

    /// Whether there is anything that ends with the life of a group.
    fn is_in_use(&self) -> bool {
        self.activity != ConsumerActivity::NoConsumers || self.pending > 0
    }
}

/// The consumers of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConsumerActivity {
    /// There are none.
    NoConsumers,
    /// Each has been silent for so long, by the node's clock.
    IdleFor(Duration),
    /// There are some, and how long they have been silent is not known.
    Unknown,
}

/// What is remembered of one group.
#[derive(Clone, Debug)]
pub(super) struct History {
    began: Duration,
    position: StreamId,
    /// Since when it has stood at this position while entries waited.
    pub(super) waiting_since: Option<Duration>,
    /// Its oldest pending entry, as known last.
    pub(super) oldest_pending: Option<TrackedPending>,
    /// As known last.
    pub(super) activity: ConsumerActivity,
    was_in_use: bool,
    lost: u64,
    /// How far the node's clock is ahead of the exporter's.
    clock_offset: Duration,
    /// When last-delivered-id went back.
    pub(super) rewound_at: Option<Duration>,
    /// When entries were lost.
    pub(super) lost_at: Option<Duration>,
    /// When the node's clock jumped ahead: what it calls silence may be its jump.
    pub(super) clock_jumped_at: Option<Duration>,
    /// Of the time since the group was last caught up, the oldest first. All but the first are of the window.
    points: Vec<Point>,
}

/// A pending entry that is the oldest, and since when it has been so without being delivered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TrackedPending {
    pub(super) entry: PendingEntry,
    pub(super) since: Duration,
}

/// A lag at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Point {
    /// Milliseconds, as half of a [`Duration`]'s size.
    at_ms: u64,
    lag: Lag,
    newest: StreamId,
    /// entries-added, which is not 0 where an entry waits.
    added: Option<NonZeroU64>,
}

impl Point {
    fn of(sample: &Sample) -> Self {
        Self {
            at_ms: u64::try_from(sample.at.as_millis()).unwrap_or(u64::MAX),
            lag: sample.lag,
            newest: sample.newest,
            added: sample.added.and_then(NonZeroU64::new),
        }
    }

    fn at(&self) -> Duration {
        Duration::from_millis(self.at_ms)
    }
}

impl History {
    /// A history of one sample.
    pub(super) fn begin(sample: &Sample, window: Duration) -> Self {
        let mut history = Self {
            began: sample.at,
            position: sample.position,
            waiting_since: None,
            oldest_pending: None,
            activity: sample.activity,
            was_in_use: sample.is_in_use(),
            lost: sample.lost,
            clock_offset: sample.node_time.saturating_sub(sample.at),
            rewound_at: None,
            lost_at: None,
            clock_jumped_at: None,
            points: Vec::new(),
        };
        history.note(sample, window);
        history
    }

    /// Adds the next sample.
    pub(super) fn note(&mut self, sample: &Sample, window: Duration) {
        let now = sample.at;
        let has_gone_back = sample.position < self.position;
        if has_gone_back && self.was_in_use && !sample.is_in_use() {
            // Consumers and pending entries went with it: another group of that name.
            *self = Self::begin(sample, window);
            return;
        }
        let clock_offset = sample.node_time.saturating_sub(now);
        let has_jumped = clock_offset > self.clock_offset + window / 4;
        for (what, moment) in [
            (has_gone_back, &mut self.rewound_at),
            (sample.lost > self.lost, &mut self.lost_at),
            (has_jumped, &mut self.clock_jumped_at),
        ] {
            *moment = if what { Some(now) } else { *moment };
        }
        self.waiting_since = match self.waiting_since {
            _ if !sample.is_behind() => None,
            Some(since) if sample.position == self.position => Some(since),
            _ => Some(now),
        };
        self.note_oldest_pending(sample);
        self.note_activity(sample.activity);
        self.note_point(sample, window);
        (self.position, self.lost, self.clock_offset) = (sample.position, sample.lost, clock_offset);
        self.was_in_use = sample.is_in_use();
    }

    /// Polls were missed for long: what was so before and is so now may have been otherwise meanwhile, and while
    /// the server was away nobody could read. Where the group stood, and what was found of it, is still true.
    pub(super) fn interrupt(&mut self, now: Duration) {
        self.began = now;
        (self.waiting_since, self.oldest_pending) = (None, None);
        self.activity = ConsumerActivity::Unknown;
        self.points.clear();
    }

    /// The lags have turned out to be wrong.
    pub(super) fn forget_lags(&mut self) {
        self.points.clear();
    }

    fn note_oldest_pending(&mut self, sample: &Sample) {
        self.oldest_pending = match sample.oldest_pending {
            PelHead::Unknown => return,
            PelHead::Empty => None,
            PelHead::Entry(entry) => {
                let is_same = |tracked: &TrackedPending| {
                    (tracked.entry.id, tracked.entry.deliveries) == (entry.id, entry.deliveries)
                };
                let since = self.oldest_pending.filter(is_same).map_or(sample.at, |tracked| tracked.since);
                Some(TrackedPending { entry, since })
            }
        };
    }

    /// A poll that was cut off does not tell of the silence: the last word on it holds.
    fn note_activity(&mut self, activity: ConsumerActivity) {
        if activity != ConsumerActivity::Unknown || self.activity == ConsumerActivity::NoConsumers {
            self.activity = activity;
        }
    }

    fn note_point(&mut self, sample: &Sample, window: Duration) {
        let now = sample.at;
        if !sample.is_behind() {
            return self.points.clear();
        }
        let is_old = |point: &&Point| now.saturating_sub(point.at()) >= with_tolerance(window);
        let old = self.points.iter().take_while(is_old).count();
        self.points.drain(..old.saturating_sub(1));
        let is_due = |last: &Point| now.saturating_sub(last.at()) >= window / PARTS * 9 / 10;
        if self.points.last().is_none_or(is_due) {
            if self.points.capacity() == 0 {
                // As many as there are where polls and parts fall together.
                self.points.reserve_exact(PARTS as usize + 1);
            }
            self.points.push(Point::of(sample));
        }
    }
}

fn with_tolerance(window: Duration) -> Duration {
    window - window / TOLERANCE
}

/// A history right after a sample was noted, over a window: what the rules look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct HistoryWindow<'a> {
    pub(super) history: &'a History,
    pub(super) sample: &'a Sample,
    pub(super) window: Duration,
}

impl HistoryWindow<'_> {
    /// Whether there is as much history as the window is long.
    pub(super) fn is_whole(&self) -> bool {
        self.has_lasted(self.history.began)
    }

    /// Whether what began at `since` has lasted for the window.
    pub(super) fn has_lasted(&self, since: Duration) -> bool {
        self.is_long(self.sample.at.saturating_sub(since))
    }

    /// Whether a time is as long as the window.
    pub(super) fn is_long(&self, time: Duration) -> bool {
        time >= with_tolerance(self.window)
    }

    /// Whether something happened within the window.
    pub(super) fn is_recent(&self, at: Option<Duration>) -> bool {
        at.is_some_and(|at| self.sample.at.saturating_sub(at) < self.window)
    }

    /// Whether the group has been behind for the window: entries waited at each poll, and it has not come as far
    /// as the stream reached a window ago. One that keeps up, and always has some new ones before it, is not.
    pub(super) fn is_behind(&self) -> bool {
        self.base().is_some_and(|base| self.sample.position < base.newest)
    }

    /// The exact lags in the window, the oldest first.
    pub(super) fn exact_lags(&self) -> impl Iterator<Item = u64> {
        let points = self.history.points.iter();
        let is_point = points.clone().next_back().is_some_and(|last| *last == Point::of(self.sample));
        let newest = (!is_point).then_some(self.sample.lag);
        points.map(|point| point.lag).chain(newest).filter_map(Lag::exact)
    }

    /// How many entries were added in the window. `None` before server 7.0, and where the group was not behind all
    /// the time.
    pub(super) fn added(&self) -> Option<u64> {
        self.sample.added?.checked_sub(self.base()?.added?.get())
    }

    /// The point a window ago, if the group has been behind since.
    fn base(&self) -> Option<&Point> {
        self.history.points.first().filter(|point| self.has_lasted(point.at()))
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
            pending: 0,
            oldest_pending: PelHead::Empty,
            lost: 0,
        }
    }

    /// Polls over three windows, the n-th of which finds the lag n.
    fn polled_every(interval: Duration, window: Duration) -> History {
        let mut history = History::begin(&sample(Duration::ZERO, Lag::Exact(1)), window);
        let polls = u32::try_from(window.as_millis() * 3 / interval.as_millis()).unwrap();
        for poll in 1..=polls {
            history.note(&sample(interval * poll, Lag::Exact(u64::from(poll) + 1)), window);
        }
        history
    }

    fn bytes(history: &History) -> usize {
        size_of::<History>() + history.points.capacity() * size_of::<Point>()
    }

    #[test]
    fn ten_thousand_histories_take_less_than_10_mib() {
        let history = polled_every(Duration::from_secs(10), WINDOW);
        assert_eq!(history.points.len(), 13, "each poll of the window, and the one where it begins");
        assert!(bytes(&history) * 10_000 < 10 << 20, "{} bytes", bytes(&history));
    }

    #[test]
    fn a_history_does_not_grow_with_the_number_of_polls() {
        for interval_ms in [10, 700, 1_000, 3_000, 5_000, 7_000, 9_000, 11_000, 20_000] {
            for window in [WINDOW, Duration::from_secs(3_600)] {
                let history = polled_every(Duration::from_millis(interval_ms), window);
                let points = history.points.len();
                assert!((7..=15).contains(&points), "{points} points, {interval_ms} ms, {window:?}");
                assert!(bytes(&history) < 2_000, "{} bytes", bytes(&history));
                let ages = history.points.windows(2).map(|pair| pair[1].at() - pair[0].at());
                assert!(ages.max().unwrap() <= window / 6, "{:?}", history.points);
            }
        }
    }

    #[test]
    fn a_group_that_is_caught_up_has_no_points() {
        let mut history = polled_every(Duration::from_secs(10), WINDOW);
        history.note(&sample(WINDOW * 4, Lag::Exact(0)), WINDOW);
        assert_eq!((history.points.len(), history.waiting_since), (0, None));
    }

    #[test]
    fn the_point_of_a_window_ago_stays_however_long_there_was_none_after_it() {
        let mut history = polled_every(Duration::from_secs(10), WINDOW);
        let last = sample(WINDOW * 9, Lag::Between { min: 1, max: 5 });
        history.note(&last, WINDOW);
        let view = HistoryWindow { history: &history, sample: &last, window: WINDOW };
        assert_eq!(view.exact_lags().collect::<Vec<_>>(), [37], "the last one before");
        assert!(view.is_behind());
    }
}
