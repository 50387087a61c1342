//! The lags that were seen since the view was opened, as a chart of one line. Bounded: some readings of each group.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use crate::api::groups::{ListedGroup, Listing};
use crate::terminal::group_name::GroupName;
use crate::values::table::LAG;

/// Readings of a group that are kept.
const READINGS: usize = 40;
/// From an empty one to a full one.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The lags by group, oldest first; `None` where one was not known.
#[derive(Clone, Debug, Default)]
pub(crate) struct LagHistory {
    lags: HashMap<GroupName, VecDeque<Option<u64>>>,
    /// Times of the readings of each target, as Unix time.
    read_at: HashMap<String, VecDeque<f64>>,
}

impl LagHistory {
    /// Adds the lags of the targets that were read since the last listing, and forgets groups that are gone.
    pub(crate) fn add(&mut self, listing: &Listing) {
        let mut was_read = HashSet::new();
        for target in &listing.targets {
            let Some(at) = target.last_successful_poll_timestamp_seconds else { continue };
            let times = self.read_at.entry(target.target.clone()).or_default();
            if times.back() != Some(&at) {
                push(times, at);
                was_read.insert(target.target.as_str());
            }
        }
        let mut before = std::mem::take(&mut self.lags);
        for group in &listing.groups {
            let name = GroupName::of(group);
            let mut lags = before.remove(&name).unwrap_or_default();
            if was_read.contains(group.target.as_str()) {
                push(&mut lags, group.count(&LAG));
            }
            self.lags.insert(name, lags);
        }
    }

    /// Returns a chart of the last lags of a group, as wide as that many readings; empty before the second.
    pub(crate) fn chart(&self, group: &ListedGroup, readings: usize) -> String {
        let Some(lags) = self.lags.get(&GroupName::of(group)).filter(|lags| lags.len() > 1) else {
            return String::new();
        };
        let last: Vec<_> = lags.iter().copied().skip(lags.len().saturating_sub(readings)).collect();
        chart(&last)
    }

    /// Returns the time that the chart of a group spans, and the least and greatest lag in it.
    pub(crate) fn range(&self, group: &ListedGroup) -> Option<(Duration, u64, u64)> {
        let lags = self.lags.get(&GroupName::of(group)).filter(|lags| lags.len() > 1)?;
        let times = self.read_at.get(&group.target)?;
        let first = times.get(times.len().checked_sub(lags.len())?)?;
        let time = Duration::try_from_secs_f64(times.back()? - first).ok()?;
        let known = || lags.iter().flatten().copied();
        Some((time, known().min()?, known().max()?))
    }
}

fn push<T>(values: &mut VecDeque<T>, value: T) {
    if values.len() == READINGS {
        values.pop_front();
    }
    values.push_back(value);
}

/// Draws values from 0 to the greatest as bars; a space is a value that is not known.
fn chart(values: &[Option<u64>]) -> String {
    let greatest = values.iter().flatten().copied().max().unwrap_or(0).max(1);
    let bar = |value: u64| {
        let eighth = u128::from(value) * (BARS.len() as u128 - 1) / u128::from(greatest);
        BARS[usize::try_from(eighth).unwrap_or_default()]
    };
    values.iter().map(|value| value.map_or(' ', bar)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::test_support::{group, listing};

    #[test]
    fn bars_stand_on_0() {
        for (values, shown) in [
            (&[Some(0), Some(1), Some(7), Some(14)][..], "▁▁▄█"),
            (&[Some(0), None, Some(0)], "▁ ▁"),
            (&[Some(29), Some(29)], "██"),
            (&[Some(u64::MAX), Some(u64::MAX / 2)], "█▄"),
            (&[], ""),
        ] {
            assert_eq!(chart(values), shown);
        }
    }

    #[test]
    fn a_reading_counts_once_and_groups_that_are_gone_are_forgotten() {
        let mut history = LagHistory::default();
        let read = |at: f64, groups: &[(&str, u64)]| {
            let groups = groups.iter().map(|(name, lag)| group(name, *lag, 0)).collect();
            let mut listing = listing(groups);
            listing.targets[0].last_successful_poll_timestamp_seconds = Some(at);
            listing
        };
        let mail = group("mail", 0, 0);
        history.add(&read(10.0, &[("mail", 10), ("audit", 1)]));
        assert_eq!((history.chart(&mail, 9), history.range(&mail)), (String::new(), None));
        history.add(&read(10.0, &[("mail", 10), ("audit", 1)]));
        history.add(&read(12.0, &[("mail", 70), ("audit", 1)]));
        assert_eq!(history.chart(&mail, 9), "▂█");
        history.add(&read(14.0, &[("mail", 0), ("stock", 1)]));
        assert_eq!(history.chart(&mail, 2), "█▁");
        assert_eq!(history.range(&mail), Some((Duration::from_secs(4), 0, 70)));
        assert_eq!(history.lags.len(), 2);
        for at in 0..200 {
            history.add(&read(20.0 + f64::from(at), &[("mail", 1)]));
        }
        assert_eq!(history.chart(&mail, 1_000).chars().count(), READINGS);
        assert_eq!(history.range(&mail), Some((Duration::from_secs(39), 1, 1)));
    }
}
