//! Entries that groups lost recently: the increases of `entries_lost` within the [window](LOSS_WINDOW), as Prometheus'
//! `increase()` computes them with one sample per report, in a time that excludes its beginning. Only groups that lost
//! entries take memory.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::alert::fact::{LOSS_MEMORY, LOSS_WINDOW};
use redis_stream_core::name::Name;
use redis_stream_core::wall_clock::ClockShift;
use redis_stream_lag::report::{GroupReport, Report};

/// The recent losses of all groups of a target.
#[derive(Clone, Debug, Default)]
pub struct LossWindow {
    /// By key and group.
    streams: BTreeMap<Name, BTreeMap<Name, GroupLosses>>,
    /// Time of the last report.
    reported_at: Option<Duration>,
}

#[derive(Clone, Debug, Default)]
struct GroupLosses {
    /// Value of the counter in the last report that contained the group.
    total: u64,
    /// Time of that report.
    seen_at: Duration,
    increases: Vec<Increase>,
    /// Time of the last report before the newest increase.
    lost_after: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Increase {
    /// Time of the last report before the increase.
    after: Duration,
    entries: u64,
}

impl LossWindow {
    /// Adds a report of the time `now`.
    pub fn note(&mut self, report: &Report, now: Duration) {
        let before = self.reported_at.replace(now);
        for stream in &report.streams {
            for group in &stream.groups {
                let total = group.values.as_ref().and_then(|values| values.entries_lost);
                let Some(total) = total.map(u64::from) else { continue };
                if let Some(lost) =
                    self.groups_mut(&stream.key).and_then(|groups| groups.get_mut(&group.name))
                {
                    lost.note(total, now);
                } else if total > 0 {
                    // The group had lost nothing when it was first seen, so its counter was 0 in the previous report.
                    let mut lost = GroupLosses { seen_at: before.unwrap_or(now), ..GroupLosses::default() };
                    lost.note(if before.is_some() { total } else { 0 }, now);
                    lost.total = total;
                    self.streams.entry(stream.key.clone()).or_default().insert(group.name.clone(), lost);
                }
            }
        }
        self.forget(now);
    }

    /// Forgets what the last report contained: the next one may have groups for other reasons than that they are new, such
    /// as a family that was made of streams.
    pub fn forget_last_report(&mut self) {
        self.reported_at = None;
    }

    /// Adapts the times to a wall clock that was set.
    pub fn shift_times(&mut self, shift: ClockShift) {
        let groups = self.streams.values_mut().flat_map(BTreeMap::values_mut);
        let times = groups.flat_map(|lost| {
            let increases = lost.increases.iter_mut().map(|increase| &mut increase.after);
            increases.chain(&mut lost.lost_after).chain([&mut lost.seen_at])
        });
        times.chain(&mut self.reported_at).for_each(|time| *time = shift.apply(*time));
    }

    fn groups_mut(&mut self, stream: &Name) -> Option<&mut BTreeMap<Name, GroupLosses>> {
        // Usually no group has lost anything, which saves the comparisons of a lookup.
        if self.streams.is_empty() { None } else { self.streams.get_mut(stream) }
    }

    fn forget(&mut self, now: Duration) {
        let is_within = |span, at: Duration| now < at.saturating_add(span);
        self.streams.retain(|_, groups| {
            groups.retain(|_, lost| {
                lost.increases.retain(|increase| is_within(LOSS_WINDOW, increase.after));
                lost.lost_after = lost.lost_after.filter(|after| is_within(LOSS_MEMORY, *after));
                is_within(LOSS_MEMORY, lost.seen_at)
            });
            !groups.is_empty()
        });
    }

    /// Returns the number of entries that a group lost within the window. `None` if the group does not exist or its
    /// losses are not known (before server 7.0).
    pub fn of(&self, stream: &Name, group: &GroupReport) -> Option<u64> {
        group.values.as_ref()?.entries_lost?;
        if self.streams.is_empty() {
            return Some(0);
        }
        let lost = self.get(stream, &group.name);
        Some(lost.map_or(0, |lost| lost.increases.iter().map(|increase| increase.entries).sum()))
    }

    /// Returns true if a group lost entries within the [hour](LOSS_MEMORY). `None` as for [`of`](Self::of).
    pub fn has_lost(&self, stream: &Name, group: &GroupReport) -> Option<bool> {
        group.values.as_ref()?.entries_lost?;
        Some(self.get(stream, &group.name).is_some_and(|lost| lost.lost_after.is_some()))
    }

    fn get(&self, stream: &Name, group: &Name) -> Option<&GroupLosses> {
        self.streams.get(stream).and_then(|groups| groups.get(group))
    }
}

impl GroupLosses {
    fn note(&mut self, total: u64, now: Duration) {
        // A counter that fell was reset to 0 in between.
        let entries = total.checked_sub(self.total).unwrap_or(total);
        if entries > 0 {
            self.increases.push(Increase { after: self.seen_at, entries });
            self.lost_after = Some(self.seen_at);
        }
        (self.total, self.seen_at) = (total, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::test_support::{group, missing_group, report, stream, values};
    use redis_stream_lag::report::GroupValues;

    /// Adds one report per minute with the counter of one group, and returns the losses in the window after each.
    /// `None` is a report without the group.
    fn losses_after_each(totals: &[Option<u64>]) -> Vec<Option<u64>> {
        let (mut losses, key) = (LossWindow::default(), Name::from("s"));
        let readings = totals.iter().enumerate().map(|(at, total)| {
            let found = match total {
                Some(total) => group("g", GroupValues { entries_lost: Some((*total).into()), ..values() }),
                None => missing_group("g"),
            };
            let report = report(vec![stream("s", vec![found])]);
            losses.note(&report, Duration::from_secs(1_000_000 + 60 * at as u64));
            losses.of(&key, &report.streams[0].groups[0])
        });
        readings.collect()
    }

    #[test]
    fn increases_count_while_both_reports_are_in_the_window() {
        let totals = [0, 0, 3, 3, 5, 5, 5, 5, 5, 5, 5].map(Some);
        assert_eq!(losses_after_each(&totals), [0, 0, 3, 3, 5, 5, 2, 2, 0, 0, 0].map(Some));
    }

    #[test]
    fn a_wall_clock_that_is_set_makes_losses_end_neither_sooner_nor_later() {
        let (key, minutes) = (Name::from("s"), |minutes: u64| Duration::from_secs(60 * minutes));
        for shift in [ClockShift::Forward(minutes(100)), ClockShift::Backward(minutes(100))] {
            for set_after in 0..8 {
                let (mut losses, mut now) = (LossWindow::default(), minutes(1_000));
                let readings = (0..10).map(|poll| {
                    let total = if poll < 2 { 0 } else { 3 };
                    let found = group("g", GroupValues { entries_lost: Some(total.into()), ..values() });
                    let report = report(vec![stream("s", vec![found])]);
                    losses.note(&report, now);
                    now += minutes(1);
                    let lost = losses.of(&key, &report.streams[0].groups[0]);
                    if poll == set_after {
                        losses.shift_times(shift);
                        now = shift.apply(now);
                    }
                    lost
                });
                let readings: Vec<_> = readings.collect();
                assert_eq!(readings, [0, 0, 3, 3, 3, 3, 0, 0, 0, 0].map(Some), "{shift:?} after {set_after}");
            }
        }
    }

    #[test]
    fn a_counter_that_falls_was_reset() {
        assert_eq!(losses_after_each(&[5, 5, 2, 2, 0, 4].map(Some)), [0, 0, 2, 2, 2, 6].map(Some));
        assert_eq!(
            losses_after_each(&[Some(0), Some(9), None, Some(0), Some(1)]),
            [Some(0), Some(9), None, Some(9), Some(10)]
        );
    }

    #[test]
    fn losses_are_unknown_before_server_7_0() {
        let losses = LossWindow::default();
        assert_eq!(losses.of(&Name::from("s"), &group("g", values())), None);
    }

    #[test]
    fn groups_that_lost_nothing_take_no_memory() {
        let mut losses = LossWindow::default();
        let groups = vec![group("g", GroupValues { entries_lost: Some(0.into()), ..values() })];
        losses.note(&report(vec![stream("s", groups)]), Duration::from_secs(1));
        assert!(losses.streams.is_empty());
    }
}
