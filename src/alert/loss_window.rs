//! What groups lost lately: the increases of their counters within the [window](LOSS_WINDOW), as `increase()` sees them
//! with a sample at each reading. Only groups that ever lost something take memory.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::alert::fact::LOSS_WINDOW;
use redis_stream_core::name::Name;
use redis_stream_lag::report::{GroupReport, Report};

/// What groups lost lately.
#[derive(Clone, Debug, Default)]
pub struct Losses {
    /// By key and group.
    streams: BTreeMap<Name, BTreeMap<Name, Lost>>,
    /// When the reading before this one was taken.
    read_at: Option<Duration>,
}

/// What one group lost.
#[derive(Clone, Debug, Default)]
struct Lost {
    total: u64,
    /// The last reading that showed the group.
    seen_at: Duration,
    increases: Vec<Increase>,
}

#[derive(Clone, Copy, Debug)]
struct Increase {
    /// The last reading before it.
    after: Duration,
    entries: u64,
}

impl Losses {
    /// Takes a reading.
    pub fn note(&mut self, report: &Report, now: Duration) {
        let before = self.read_at.replace(now);
        for stream in &report.streams {
            for group in &stream.groups {
                let total = group.values.as_ref().and_then(|values| values.entries_lost);
                let Some(total) = total else { continue };
                if let Some(lost) =
                    self.groups_mut(&stream.key).and_then(|groups| groups.get_mut(&group.name))
                {
                    lost.note(total, now);
                } else if total > 0 {
                    // It was 0 when the group was seen for the first time.
                    let mut lost = Lost { seen_at: before.unwrap_or(now), ..Lost::default() };
                    lost.note(if before.is_some() { total } else { 0 }, now);
                    lost.total = total;
                    self.streams.entry(stream.key.clone()).or_default().insert(group.name.clone(), lost);
                }
            }
        }
        self.forget(now.saturating_sub(LOSS_WINDOW));
    }

    fn groups_mut(&mut self, stream: &Name) -> Option<&mut BTreeMap<Name, Lost>> {
        // Mostly nobody has lost anything, and there is nothing to look up.
        if self.streams.is_empty() { None } else { self.streams.get_mut(stream) }
    }

    /// Forgets what was before the window.
    fn forget(&mut self, begin: Duration) {
        self.streams.retain(|_, groups| {
            groups.retain(|_, lost| {
                lost.increases.retain(|increase| increase.after >= begin);
                lost.seen_at >= begin
            });
            !groups.is_empty()
        });
    }

    /// Entries that a group lost within the window. `None` where the server does not tell of losses, or the group
    /// is not there.
    #[must_use]
    pub fn of(&self, stream: &Name, group: &GroupReport) -> Option<u64> {
        group.values.as_ref()?.entries_lost?;
        if self.streams.is_empty() {
            return Some(0);
        }
        let lost = self.streams.get(stream).and_then(|groups| groups.get(&group.name));
        Some(lost.map_or(0, |lost| lost.increases.iter().map(|increase| increase.entries).sum()))
    }
}

impl Lost {
    fn note(&mut self, total: u64, now: Duration) {
        // A counter that fell began anew.
        let entries = total.checked_sub(self.total).unwrap_or(total);
        if entries > 0 {
            self.increases.push(Increase { after: self.seen_at, entries });
        }
        (self.total, self.seen_at) = (total, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::test_support::{group, missing_group, report, stream, values};
    use redis_stream_lag::report::GroupValues;

    /// Notes what the counter of one group showed, one reading each minute, and tells what is in the window after
    /// each. `None` is a reading without the group.
    fn seen(totals: &[Option<u64>]) -> Vec<Option<u64>> {
        let (mut losses, key) = (Losses::default(), Name::from("s"));
        let readings = totals.iter().enumerate().map(|(at, total)| {
            let found = match total {
                Some(total) => group("g", GroupValues { entries_lost: Some(*total), ..values() }),
                None => missing_group("g"),
            };
            let report = report(vec![stream("s", vec![found])]);
            losses.note(&report, Duration::from_secs(1_000_000 + 60 * at as u64));
            losses.of(&key, &report.streams[0].groups[0])
        });
        readings.collect()
    }

    #[test]
    fn rises_count_as_long_as_both_readings_are_in_the_window() {
        let totals = [0, 0, 3, 3, 5, 5, 5, 5, 5, 5, 5].map(Some);
        assert_eq!(seen(&totals), [0, 0, 3, 3, 5, 5, 5, 2, 2, 0, 0].map(Some));
    }

    #[test]
    fn a_counter_that_falls_began_anew() {
        assert_eq!(seen(&[5, 5, 2, 2, 0, 4].map(Some)), [0, 0, 2, 2, 2, 6].map(Some));
        assert_eq!(
            seen(&[Some(0), Some(9), None, Some(0), Some(1)]),
            [Some(0), Some(9), None, Some(9), Some(10)]
        );
    }

    #[test]
    fn servers_that_do_not_tell_of_losses_have_none() {
        let losses = Losses::default();
        assert_eq!(losses.of(&Name::from("s"), &group("g", values())), None);
    }

    #[test]
    fn groups_that_lost_nothing_take_no_memory() {
        let mut losses = Losses::default();
        let groups = vec![group("g", GroupValues { entries_lost: Some(0), ..values() })];
        losses.note(&report(vec![stream("s", groups)]), Duration::from_secs(1));
        assert!(losses.streams.is_empty());
    }
}
