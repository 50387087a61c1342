//! Counts the entries that were delivered to a group and that it has acknowledged, and measures the rates at which
//! entries are added and delivered.
//!
//! Every entry ever added is either above the group's position, and counts as lag, or was delivered, or was lost. So
//! the number of delivered entries grows by the growth of *entries-added − lag* minus the known losses, and the
//! number of acknowledged entries by that minus the growth of the pending entries list (PEL). A reading without an
//! exact lag adds nothing; the next reading with one adds what is missing.
//!
//! While trimming overtakes a group, most losses may be unseen, between two readings. Then the estimated share is
//! subtracted; until there is an estimate, a reading in which the group has moved adds nothing.

use std::time::Duration;

use crate::compact::{Count, Flagged, MostlyDefault, millis};
use crate::report::{EntryRate, LossEstimate};
use crate::timeline::Timeline;
use redis_stream_core::id::StreamId;

/// Number of points in a window from which rates are measured.
const POINTS_PER_WINDOW: u32 = 4;
/// Number of gaps between the points that are kept: those of a window, the one before it, and the present one.
const GAPS: usize = POINTS_PER_WINDOW as usize;

/// A group in one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlowReading {
    /// Time of the poll, by the caller's monotonic clock.
    pub(crate) at: Duration,
    /// last-delivered-id.
    pub(crate) position: StreamId,
    /// True if the position was set above the last ID, so that the group skips what is added below it.
    pub(crate) is_beyond_end: bool,
    /// entries-added; `None` before server 7.0.
    pub(crate) added: Option<u64>,
    /// `None` if the lag is not known exactly.
    pub(crate) lag: Option<u64>,
    /// Number of entries that the group lost since it was first seen, at least.
    pub(crate) lost: u64,
    /// Entries that it lost besides since the reading before.
    pub(crate) unseen_loss: UnseenLoss,
    /// The number of entries ever added up to the last of those that are all gone; `None` if that is not known.
    pub(crate) removed_to: Option<u64>,
    /// Size of the PEL.
    pub(crate) pending: u64,
}

impl FlowReading {
    /// Returns the time since `at`, in whole milliseconds.
    fn since(&self, at: Duration) -> Duration {
        Duration::from_millis(millis(self.at).saturating_sub(millis(at)))
    }
}

/// The entries that a group may lose between two readings that show no loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnseenLoss {
    /// None: trimming does not overtake the group, or the server counts what is lost.
    None,
    /// This share of the entries added.
    Share(LossEstimate),
    /// Some, and how many is not known yet.
    Unknown,
}

/// The entries that came and went since a group was first seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flow {
    /// The number of entries that were not ahead in the last reading that was counted.
    not_ahead: Option<Count>,
    /// The size of the PEL in that reading, and whether the group stood elsewhere in that reading, or has moved since.
    pending_and_move: Flagged,
    /// Number of entries delivered, as it was reported: what was counted too early is made up for, and never taken back.
    delivered: u64,
    /// The same for entries acknowledged.
    acknowledged: u64,
    rare: MostlyDefault<RareFlow>,
    /// Readings with an exact lag, the oldest first: one a window ago or, at first, the oldest, and those since.
    points: Timeline<FlowPoint, GAPS>,
}

/// The numbers that few groups have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct RareFlow {
    /// Numbers of entries delivered and acknowledged that were counted too early.
    too_early: Excess,
    /// The estimated loss less the known one, since trimming overtakes the group.
    unknown_loss: i64,
    /// Number of entries that it had lost in the last reading that was counted.
    lost: u64,
}

/// The entries by which reported counts exceed the present ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Excess {
    delivered: i64,
    acknowledged: i64,
}

/// Adds to a count of which the highest value is reported. `excess` is what the reported one has more than the present one.
fn add(reported: &mut u64, excess: &mut i64, growth: i64) {
    let present = reported.cast_signed().saturating_sub(*excess).saturating_add(growth);
    *reported = (*reported).max(u64::try_from(present).unwrap_or(0));
    *excess = reported.cast_signed().saturating_sub(present);
}

impl UnseenLoss {
    /// Returns the estimated number of entries that were lost of those that left the part ahead of the group.
    fn of(self, passed: i64) -> Option<i64> {
        match self {
            Self::None => None,
            Self::Unknown => Some(0),
            Self::Share(LossEstimate { lost, added }) => {
                let lost = i128::from(passed) * i128::from(lost.min(added)) / i128::from(added.max(1));
                Some(i64::try_from(lost).unwrap_or(passed))
            }
        }
    }
}

impl RareFlow {
    /// Returns by how much the loss that is estimated and not known has grown, given the estimate for one reading and the
    /// loss that is known from it. One reading may show a loss that others estimate, so the two are compared over all
    /// readings in which trimming overtakes the group.
    fn unseen_growth(&mut self, estimated: Option<i64>, known_loss: i64) -> i64 {
        let Some(estimated) = estimated else {
            self.unknown_loss = 0;
            return 0;
        };
        let before = self.unknown_loss;
        self.unknown_loss = before.saturating_add(estimated).saturating_sub(known_loss);
        self.unknown_loss.max(0) - before.max(0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FlowPoint {
    /// 0 on server 6.2, which does not report it.
    added: u64,
    delivered: u64,
    lag: u64,
}

impl Flow {
    /// Takes a reading. `position_before` is the position in the reading before; `0-0` if there was none.
    pub(crate) fn note(&mut self, reading: &FlowReading, position_before: StreamId, window: Duration) {
        if reading.position != position_before {
            self.pending_and_move = Flagged::new(self.pending_and_move.number(), true);
        }
        if reading.position < position_before {
            // What it is delivered again counts again; what it was delivered since it was set back is not known.
            self.not_ahead = None;
            self.points.clear();
        }
        let Some(lag) = reading.lag else { return };
        if let Some(not_ahead) = reading.added.and_then(|added| added.checked_sub(lag)) {
            self.count(reading, not_ahead);
        }
        if reading.added.is_none() || self.shows(reading) {
            self.note_point(reading, lag, window);
        }
    }

    fn count(&mut self, reading: &FlowReading, not_ahead: u64) {
        let &FlowReading { lost, unseen_loss, pending, .. } = reading;
        let growth = |now: u64, before: u64| now.cast_signed().saturating_sub(before.cast_signed());
        // What the group has passed and is still in the stream was delivered.
        let at_most = self.not_ahead.map_or(0, |before| {
            growth(reading.removed_to.unwrap_or(not_ahead).min(not_ahead), before.get()).max(0)
        });
        let has_moved = self.pending_and_move.flag();
        if has_moved && unseen_loss == UnseenLoss::Unknown && at_most > 0 {
            return;
        }
        let pending_before = self.pending_and_move.number();
        self.pending_and_move = Flagged::new(pending, false);
        let lost_before = self.rare.get().map_or(0, |rare| rare.lost);
        if lost != lost_before {
            self.rare.change(|rare| rare.lost = lost);
        }
        let Some(before) = self.not_ahead.replace(not_ahead.into()) else { return };
        let passed = growth(not_ahead, before.get());
        // After a failover the server may have forgotten entries.
        if reading.is_beyond_end || passed < 0 {
            return;
        }
        let known_loss = growth(lost, lost_before);
        let estimated = unseen_loss.of(passed).map(|lost| lost.min(at_most));
        let Self { delivered, acknowledged, rare, .. } = self;
        rare.change(|rare| {
            let unseen_loss = rare.unseen_growth(estimated, known_loss);
            let growth_delivered = passed.saturating_sub(known_loss).saturating_sub(unseen_loss);
            // A loss may be known only after the group has passed it.
            let growth_delivered = growth_delivered.min(if has_moved { i64::MAX } else { 0 });
            add(delivered, &mut rare.too_early.delivered, growth_delivered);
            let growth_acknowledged = growth_delivered.saturating_sub(growth(pending, pending_before));
            add(acknowledged, &mut rare.too_early.acknowledged, growth_acknowledged);
        });
    }

    fn note_point(&mut self, reading: &FlowReading, lag: u64, window: Duration) {
        let point = FlowPoint { added: reading.added.unwrap_or(0), delivered: self.delivered, lag };
        if self.points.last().is_some_and(|(_, last)| point.added < last.added) {
            self.points.clear();
        }
        let is_old = |at: &Duration| reading.since(*at) >= window;
        let old = self.points.times().skip(1).take_while(is_old).count();
        self.points.drop_first(old);
        if self.points.last().is_none_or(|(last, _)| reading.since(last) >= window / POINTS_PER_WINDOW) {
            self.points.push(reading.at, point);
        }
    }

    /// Returns true if several readings of the last window show the same.
    pub(crate) fn is_constant(&self) -> bool {
        self.points.len() > 1 && self.points.is_constant()
    }

    /// Takes the readings of the last window for those of a later one, of the same values.
    pub(crate) fn repeat(&mut self, later: Duration) {
        self.points.shift(later);
    }

    /// Restarts the rates after a time without readings.
    pub(crate) fn interrupt(&mut self) {
        self.points.clear();
    }

    /// Takes the next reading for the first one of another stream or group. The counts are kept.
    pub(crate) fn restart(&mut self) {
        let Self { delivered, acknowledged, mut rare, .. } = std::mem::take(self);
        rare.change(|rare| (rare.unknown_loss, rare.lost) = (0, 0));
        *self = Self { delivered, acknowledged, rare, ..Self::default() };
    }

    /// Returns the number of entries delivered; `None` if this reading does not show it.
    pub(crate) fn delivered(&self, reading: &FlowReading) -> Option<u64> {
        self.shows(reading).then_some(self.delivered)
    }

    /// Returns the number of entries acknowledged; `None` if this reading does not show it.
    pub(crate) fn acknowledged(&self, reading: &FlowReading) -> Option<u64> {
        self.shows(reading).then_some(self.acknowledged)
    }

    /// Returns true if the counts are those up to this reading, which was noted last.
    fn shows(&self, reading: &FlowReading) -> bool {
        let is_counted = self.not_ahead.is_some() && !self.pending_and_move.flag();
        is_counted && reading.lag.is_some() && reading.added.is_some()
    }

    /// Returns the rate at which entries were added over the window.
    pub(crate) fn added_rate(&self, reading: &FlowReading, window: Duration) -> Option<EntryRate> {
        let (base, time) = self.base(reading, window)?;
        Some(EntryRate::new(reading.added?.checked_sub(base.added)?, time))
    }

    /// Returns the rate at which entries were delivered over the window.
    pub(crate) fn delivered_rate(&self, reading: &FlowReading, window: Duration) -> Option<EntryRate> {
        let (base, time) = self.base(reading, window)?;
        Some(EntryRate::new(self.delivered(reading)?.checked_sub(base.delivered)?, time))
    }

    /// Returns the time until the lag is gone if it goes on shrinking as over the window; `None` if it does not shrink.
    pub(crate) fn drain_time(&self, reading: &FlowReading, window: Duration) -> Option<Duration> {
        let lag = reading.lag?;
        if lag == 0 {
            return Some(Duration::ZERO);
        }
        let (base, time) = self.base(reading, window)?;
        let shrunk_by = base.lag.checked_sub(lag)?;
        let ms = (u128::from(lag) * time.as_millis()).checked_div(u128::from(shrunk_by))?;
        Some(Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX)))
    }

    /// Returns the point that rates are measured from, and the time since. A quarter of a window is enough at first.
    fn base(&self, reading: &FlowReading, window: Duration) -> Option<(FlowPoint, Duration)> {
        let (at, base) = self.points.first()?;
        let time = reading.since(at);
        (time >= window / POINTS_PER_WINDOW && !time.is_zero()).then_some((base, time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(120);

    proptest::proptest! {
        #[test]
        fn a_reported_count_is_the_highest_of_all_sums(
            growths in proptest::collection::vec(-9_i64..12, 0..40),
            large in proptest::option::of(proptest::num::i64::ANY),
        ) {
            let (mut reported, mut excess) = (0, 0);
            let (mut sum, mut highest) = (0_i64, 0);
            for growth in growths.into_iter().chain(large) {
                add(&mut reported, &mut excess, growth);
                sum = sum.saturating_add(growth);
                highest = highest.max(u64::try_from(sum).unwrap_or(0));
                proptest::prop_assert_eq!((reported, excess), (highest, highest.cast_signed().saturating_sub(sum)));
            }
        }
    }

    /// A reading at a number of seconds, of a group at this rank.
    fn at(seconds: u64, rank: u64, added: u64, lost: u64, pending: u64) -> FlowReading {
        FlowReading {
            at: Duration::from_secs(seconds),
            position: StreamId::new(rank, 0),
            is_beyond_end: false,
            added: Some(added),
            lag: Some(added - rank),
            lost,
            unseen_loss: UnseenLoss::None,
            removed_to: None,
            pending,
        }
    }

    #[test]
    fn what_is_not_ahead_any_more_was_delivered_unless_it_was_lost() {
        let unknown = FlowReading { lag: None, ..at(30, 25, 40, 0, 5) };
        let beyond =
            FlowReading { position: StreamId::new(900, 0), is_beyond_end: true, ..at(80, 60, 60, 10, 0) };
        let (mut flow, mut before) = (Flow::default(), StreamId::MIN);
        for (reading, delivered, acknowledged, case) in [
            (at(0, 10, 20, 0, 3), Some(0), Some(0), "first seen, with some pending"),
            (at(10, 15, 20, 0, 3), Some(5), Some(5), "as many acknowledged as delivered"),
            (at(20, 20, 20, 0, 8), Some(10), Some(5), "none of five was acknowledged"),
            (unknown, None, None, "not known"),
            (at(40, 30, 40, 0, 0), Some(20), Some(23), "made up for, and the pending ones too"),
            (at(50, 40, 60, 10, 0), Some(20), Some(23), "ten were removed ahead of it"),
            (at(60, 20, 60, 10, 0), Some(20), Some(23), "set back: nothing falls"),
            (at(70, 60, 60, 10, 0), Some(60), Some(63), "delivered again"),
            (beyond, Some(60), Some(63), "set above the last ID"),
            (at(90, 70, 70, 10, 0), Some(60), Some(63), "and back"),
            (at(95, 72, 72, 10, 9), Some(62), Some(63), "entries that XCLAIM FORCE made pending"),
            (at(99, 72, 72, 10, 0), Some(62), Some(65), "and were acknowledged: nine less seven"),
        ] {
            flow.note(&reading, before, WINDOW);
            before = reading.position;
            assert_eq!(
                (flow.delivered(&reading), flow.acknowledged(&reading)),
                (delivered, acknowledged),
                "{case}"
            );
        }
    }

    #[test]
    fn what_was_counted_too_early_is_made_up_for() {
        let mut flow = Flow::default();
        flow.note(&at(0, 0, 100, 0, 0), StreamId::MIN, WINDOW);
        // Thirty were removed ahead of it, which is confirmed a poll later.
        for (reading, delivered) in [
            (at(10, 40, 100, 0, 0), 40),
            (at(20, 45, 100, 30, 0), 40),
            (at(30, 60, 100, 30, 0), 40),
            (at(40, 80, 100, 30, 0), 50),
        ] {
            flow.note(&reading, StreamId::MIN, WINDOW);
            assert_eq!(flow.delivered(&reading), Some(delivered));
        }
        flow.restart();
        flow.note(&at(50, 0, 5, 30, 0), StreamId::MIN, WINDOW);
        let reading = at(60, 3, 5, 30, 0);
        flow.note(&reading, StreamId::MIN, WINDOW);
        assert_eq!(flow.delivered(&reading), Some(53), "another stream under the key");
    }

    #[test]
    fn what_a_group_loses_unseen_is_subtracted_once_its_share_is_known() {
        let share = |lost, added| UnseenLoss::Share(LossEstimate { lost, added });
        let (mut flow, mut before) = (Flow::default(), StreamId::MIN);
        for (seconds, rank, known_loss, pending, unseen_loss, expected, case) in [
            (0, 100, 0, 0, UnseenLoss::None, Some((0, 0)), "first seen"),
            (10, 200, 0, 100, UnseenLoss::None, Some((100, 0)), "nothing is lost"),
            (20, 300, 0, 140, UnseenLoss::Unknown, None, "the share is not known yet"),
            (30, 300, 0, 130, UnseenLoss::Unknown, None, "nor from a group that stands"),
            (40, 500, 0, 220, share(60, 100), Some((220, 0)), "made up for: 60 of 100 were lost of 300"),
            (
                50,
                500,
                0,
                200,
                UnseenLoss::Unknown,
                Some((220, 20)),
                "a group that stands is delivered nothing",
            ),
            (
                60,
                600,
                90,
                240,
                share(60, 100),
                Some((260, 20)),
                "90 were seen of 180 in all, and 90 as before",
            ),
            (70, 700, 390, 240, share(60, 100), Some((260, 20)), "more were seen than estimated"),
            (80, 700, 390, 240, share(60, 100), Some((260, 20)), "nothing happens"),
            (90, 800, 390, 300, UnseenLoss::None, Some((310, 20)), "the loss is over"),
        ] {
            let reading = FlowReading { unseen_loss, ..at(seconds, rank, 1_000, known_loss, pending) };
            flow.note(&reading, before, WINDOW);
            before = reading.position;
            let shown = flow.delivered(&reading).zip(flow.acknowledged(&reading));
            assert_eq!(shown, expected, "{case}");
        }
        let reading = FlowReading {
            unseen_loss: share(60, 100),
            removed_to: Some(810),
            ..at(100, 900, 1_000, 390, 300)
        };
        flow.note(&reading, StreamId::MIN, WINDOW);
        assert_eq!(
            flow.delivered(&reading),
            Some(400),
            "of those that it passed, 90 are still in the stream"
        );
        assert_eq!(share(u64::MAX, u64::MAX).of(i64::MAX), Some(i64::MAX));
        assert_eq!(share(5, 0).of(3), Some(0), "no division by 0");
    }

    #[test]
    fn rates_are_those_of_the_window() {
        let mut flow = Flow::default();
        let rate = |rate: Option<EntryRate>| rate.map(EntryRate::per_second);
        for seconds in (0..=600).step_by(10) {
            // 5 are added and 3 delivered each second, then 8.
            let late = u64::saturating_sub(seconds, 300);
            let reading = at(seconds, 3 * seconds + 5 * late, 10_000 + 5 * seconds, 0, 0);
            flow.note(&reading, StreamId::MIN, WINDOW);
            let (added, delivered) =
                (flow.added_rate(&reading, WINDOW), flow.delivered_rate(&reading, WINDOW));
            assert_eq!(rate(added), (seconds >= 30).then_some(5.0), "{seconds}");
            match seconds {
                0..30 => assert_eq!(delivered, None),
                30..=300 => assert_eq!(rate(delivered), Some(3.0), "{seconds}"),
                450.. => assert_eq!(rate(delivered), Some(8.0), "{seconds}"),
                _ => {}
            }
            let lag = reading.lag.unwrap();
            let drain = flow.drain_time(&reading, WINDOW);
            match seconds {
                0..=300 => assert_eq!(drain, None, "{seconds}: it grows"),
                450.. => assert_eq!(drain, Some(Duration::from_millis(lag * 1_000 / 3)), "{seconds}"),
                _ => {}
            }
            assert!(flow.points.len() <= 7, "{}", flow.points.len());
        }
        let caught_up = at(610, 13_050, 13_050, 0, 0);
        flow.note(&caught_up, StreamId::MIN, WINDOW);
        assert_eq!(flow.drain_time(&caught_up, WINDOW), Some(Duration::ZERO));
        flow.interrupt();
        let later = at(2_000, 13_050, 13_060, 0, 0);
        flow.note(&later, StreamId::MIN, WINDOW);
        assert_eq!((flow.added_rate(&later, WINDOW), flow.drain_time(&later, WINDOW)), (None, None));
    }

    #[test]
    fn before_server_7_only_the_lag_is_known() {
        let mut flow = Flow::default();
        let old = |seconds, rank, added| FlowReading { added: None, ..at(seconds, rank, added, 0, 0) };
        (0..=12).for_each(|n| flow.note(&old(10 * n, 20 * n, 1_000), StreamId::MIN, WINDOW));
        let reading = old(120, 240, 1_000);
        assert_eq!(flow.drain_time(&reading, WINDOW), Some(Duration::from_secs(380)));
        assert_eq!((flow.delivered(&reading), flow.added_rate(&reading, WINDOW)), (None, None));
    }
}
