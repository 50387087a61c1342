//! What groups lost lately: the rises of their counters within the [window](LOSS_WINDOW), as `increase()` sees them
//! with a sample at each reading. Only groups that ever lost something take memory.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::alert::fact::LOSS_WINDOW;
use crate::lag::report::{GroupReport, Report};
use crate::snapshot::name::Name;

/// What groups lost lately.
#[derive(Clone, Debug, Default)]
pub struct Losses {
    /// By key and group.
    groups: BTreeMap<(Name, Name), Lost>,
    /// When the reading before this one was taken.
    read_at: Option<Duration>,
}

/// What one group lost.
#[derive(Clone, Debug, Default)]
struct Lost {
    total: u64,
    rises: Vec<Rise>,
    /// The reading that last showed the group.
    seen_at: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Rise {
    /// The last reading before it.
    after: Duration,
    entries: u64,
}

impl Losses {
    /// Takes a reading. What it does not show any more is forgotten.
    pub fn note(&mut self, report: &Report, now: Duration) {
        let Some(after) = self.read_at.replace(now) else {
            self.note_totals(report, None, now);
            return;
        };
        self.note_totals(report, Some(after), now);
        let begin = now.saturating_sub(LOSS_WINDOW);
        self.groups.retain(|_, lost| {
            lost.rises.retain(|rise| rise.after >= begin);
            lost.seen_at == now
        });
    }

    fn note_totals(&mut self, report: &Report, after: Option<Duration>, now: Duration) {
        for stream in &report.streams {
            for group in &stream.groups {
                let total = group.values.as_ref().and_then(|values| values.entries_lost);
                let Some(total) = total.filter(|total| *total > 0) else { continue };
                let lost = self.groups.entry((stream.key.clone(), group.name.clone())).or_default();
                // A counter that fell began anew.
                let entries = total.checked_sub(lost.total).unwrap_or(total);
                if let Some(after) = after.filter(|_| entries > 0) {
                    lost.rises.push(Rise { after, entries });
                }
                (lost.total, lost.seen_at) = (total, now);
            }
        }
    }

    /// Entries that a group lost within the window. `None` where the server does not tell of losses, or the group
    /// is not there.
    #[must_use]
    pub fn of(&self, stream: &Name, group: &GroupReport) -> Option<u64> {
        let total = group.values.as_ref()?.entries_lost?;
        if total == 0 {
            return Some(0);
        }
        let lost = self.groups.get(&(stream.clone(), group.name.clone()));
        Some(lost.map_or(0, |lost| lost.rises.iter().map(|rise| rise.entries).sum()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::fixture::{group, missing_group, report, stream, values};
    use crate::lag::report::GroupValues;

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
        assert_eq!(seen(&[5, 5, 2, 2, 0, 4].map(Some)), [0, 0, 2, 2, 0, 4].map(Some));
        assert_eq!(
            seen(&[Some(0), Some(9), None, Some(0), Some(1)]),
            [Some(0), Some(9), None, Some(0), Some(1)]
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
        assert!(losses.groups.is_empty());
    }
}
