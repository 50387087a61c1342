//! The recent history of a target's groups, for charts: a sample of each group per poll, bounded in number and small.
//!
//! A poll adds the samples of all groups, and shares the earlier ones with the history before it: readers hold a
//! history that never changes, and no sample is copied.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use redis_stream_core::name::Name;
use redis_stream_lag::report::{GroupReport, Report};

/// Polls that are kept.
const POLLS: usize = 60;
/// Least time between two kept polls; of polls in quicker succession the newest is kept. A little less than the usual
/// interval, since polls may be early or late.
const SPACING: Duration = Duration::from_secs(9);

/// The history of the groups of one target, as of its last report.
#[derive(Clone, Debug, Default)]
pub struct GroupHistory {
    /// The oldest first.
    polls: VecDeque<PollSamples>,
    /// An ID for each group of the report, in its order.
    ids: Arc<[u32]>,
    next_id: u32,
}

#[derive(Clone, Debug)]
struct PollSamples {
    /// Since the Unix epoch.
    at: Duration,
    /// By ID, sorted.
    values: Arc<[(u32, SampledValues)]>,
}

/// The sampled values of a group. Numbers too large for 32 bits are the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampledValues {
    /// Certain minimum of the lag.
    pub lag_min: u32,
    /// Certain maximum of the lag; the same if it is exact.
    pub lag_max: u32,
    /// Entries delivered and not acknowledged.
    pub messages_pending: u32,
}

/// A group at the time of a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupSample {
    /// Since the Unix epoch.
    pub at: Duration,
    /// `None` if the group was not read.
    pub values: Option<SampledValues>,
}

impl SampledValues {
    /// Stands for a group that is missing, without the space that an `Option` takes.
    const NONE: Self = Self { lag_min: 1, lag_max: 0, messages_pending: 0 };

    fn of(group: &GroupReport) -> Self {
        let short = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        group.values.as_ref().map_or(Self::NONE, |values| Self {
            lag_min: short(values.lag.min()),
            lag_max: short(values.lag.max()),
            messages_pending: short(values.messages_pending),
        })
    }
}

impl GroupHistory {
    /// Returns the history after a poll. `previous` is the report that this history is as of.
    pub fn after(&self, at: Duration, report: &Report, previous: Option<&Report>) -> Self {
        let (ids, next_id) = self.ids_of(report, previous);
        let groups = ids.iter().zip(groups(report));
        let mut values: Vec<_> = groups.map(|(id, (_, group))| (*id, SampledValues::of(group))).collect();
        values.sort_unstable_by_key(|(id, _)| *id);
        Self { polls: self.polls_with(at, values.into()), ids, next_id }
    }

    /// Makes this the history as of a part of the report that it is as of.
    pub fn follow(&mut self, part: &Report, report: &Report) {
        (self.ids, self.next_id) = self.ids_of(part, Some(report));
    }

    /// Returns an ID for each group of a report, and the ID after the last new one.
    fn ids_of(&self, report: &Report, previous: Option<&Report>) -> (Arc<[u32]>, u32) {
        let mut next_id = self.next_id;
        let mut new_id = || {
            let id = next_id;
            next_id = next_id.wrapping_add(1);
            id
        };
        let known = self.known_ids(report, previous);
        (known.into_iter().map(|id| id.unwrap_or_else(&mut new_id)).collect(), next_id)
    }

    /// Returns the history after a poll that read nothing.
    pub fn after_failure(&self, at: Duration) -> Self {
        Self { polls: self.polls_with(at, Arc::default()), ..self.clone() }
    }

    fn polls_with(&self, at: Duration, values: Arc<[(u32, SampledValues)]>) -> VecDeque<PollSamples> {
        let mut polls = self.polls.clone();
        // The clock may have been set back.
        polls.retain(|poll| poll.at < at);
        let newest_two = polls.len().checked_sub(2).map(|index| (polls[index].at, polls[index + 1].at));
        if newest_two.is_some_and(|(before, newest)| newest - before < SPACING) {
            polls.pop_back();
        }
        if polls.len() == POLLS {
            polls.pop_front();
        }
        polls.push_back(PollSamples { at, values });
        polls
    }

    /// Returns for each group of a report its ID in the previous one, if it had any.
    fn known_ids(&self, report: &Report, previous: Option<&Report>) -> Vec<Option<u32>> {
        let mut before = previous.into_iter().flat_map(groups).zip(self.ids.iter()).peekable();
        let known = groups(report).map(|(key, group)| {
            let name = (key, &group.name);
            while before.next_if(|((key, group), _)| (*key, &group.name) < name).is_some() {}
            before.next_if(|((key, group), _)| (*key, &group.name) == name).map(|(_, id)| *id)
        });
        known.collect()
    }

    /// Returns the samples of the group with this index among all groups of the report that this history is as of,
    /// from the oldest one that has the group.
    pub fn of(&self, index: usize) -> Vec<GroupSample> {
        let Some(id) = self.ids.get(index) else { return Vec::new() };
        let values = |poll: &PollSamples| {
            let index = poll.values.binary_search_by_key(id, |(id, _)| *id).ok()?;
            Some(poll.values[index].1)
        };
        let polls = self.polls.iter().skip_while(|poll| values(poll).is_none());
        let is_known = |values: &SampledValues| *values != SampledValues::NONE;
        polls.map(|poll| GroupSample { at: poll.at, values: values(poll).filter(is_known) }).collect()
    }
}

/// Returns the groups of a report with the keys of their streams, in its order.
fn groups(report: &Report) -> impl Iterator<Item = (&Name, &GroupReport)> {
    report.streams.iter().flat_map(|stream| stream.groups.iter().map(move |group| (&stream.key, group)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::test_support::{group, report, stream, values};
    use redis_stream_lag::report::Lag;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(1_700_000_000 + seconds)
    }

    /// A report of the stream `s` with these groups and their lags.
    fn lags(lags: &[(&str, u64)]) -> Report {
        let groups = lags.iter().map(|(name, lag)| {
            let mut values = values();
            values.lag = Lag::Exact(*lag);
            group(*name, values)
        });
        report(vec![stream("s", groups.collect())])
    }

    /// The history of these reports, ten seconds apart, and the last of them.
    fn history(reports: Vec<Report>) -> (GroupHistory, Report) {
        let (mut history, mut previous) = (GroupHistory::default(), None);
        for (at, report) in (0..).zip(reports) {
            history = history.after(s(at * 10), &report, previous.as_ref());
            previous = Some(report);
        }
        (history, previous.unwrap())
    }

    fn shown(history: &GroupHistory, report: &Report, name: &str) -> Vec<Option<u32>> {
        let index = groups(report).position(|(_, group)| group.name == Name::from(name));
        let samples = index.map_or_else(Vec::new, |index| history.of(index));
        samples.iter().map(|sample| sample.values.map(|values| values.lag_max)).collect()
    }

    #[test]
    fn each_group_has_its_own_past() {
        let (history, last) = history(vec![
            lags(&[("b", 1), ("d", 2)]),
            lags(&[("a", 3), ("b", 4), ("d", 5)]),
            lags(&[("a", 6), ("c", 7), ("d", 8)]),
        ]);
        assert_eq!(shown(&history, &last, "a"), [Some(3), Some(6)]);
        assert_eq!(shown(&history, &last, "c"), [Some(7)], "it is new");
        assert_eq!(shown(&history, &last, "d"), [Some(2), Some(5), Some(8)]);
        assert_eq!(shown(&history, &last, "b"), []);
    }

    #[test]
    fn what_was_not_read_is_a_gap() {
        let missing = report(vec![stream("s", vec![GroupReport { values: None, ..group("a", values()) }])]);
        let (history, last) = history(vec![lags(&[("a", 1)]), missing, lags(&[("a", 2)])]);
        let history = history.after_failure(s(30)).after(s(40), &lags(&[("a", 3)]), Some(&last));
        assert_eq!(shown(&history, &last, "a"), [Some(1), None, Some(2), None, Some(3)]);
    }

    #[test]
    fn a_history_is_bounded_in_moments_and_keeps_some_time_between_them() {
        let report = lags(&[("a", 1)]);
        for interval_ms in [500, 2_000, 10_000, 60_000] {
            let (mut history, mut previous) = (GroupHistory::default(), None);
            for poll in 0..2_000 {
                history = history.after(s(0) + Duration::from_millis(interval_ms * poll), &report, previous);
                previous = Some(&report);
            }
            let samples = history.of(0);
            assert_eq!(samples.len(), POLLS, "{interval_ms}");
            assert_eq!(samples[POLLS - 1].at, s(0) + Duration::from_millis(interval_ms * 1_999));
            let least = samples.windows(2).rev().skip(1).map(|pair| pair[1].at - pair[0].at).min();
            assert!(least >= Some(SPACING), "{interval_ms}: {least:?}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_begins_anew_from_there() {
        let report = lags(&[("a", 1)]);
        let history =
            GroupHistory::default().after(s(100), &report, None).after(s(50), &report, Some(&report));
        assert_eq!(shown(&history, &report, "a").len(), 1);
    }

    #[test]
    fn ten_thousand_groups_take_less_than_10_mib_whoever_comes_and_goes() {
        let report_of = |poll: usize| {
            let groups = (0..10_000).map(|n| group(format!("{:06}", n + poll * 100).as_str(), values()));
            report(vec![stream("s", groups.collect())])
        };
        let (mut history, mut previous) = (GroupHistory::default(), None::<Report>);
        for poll in 0..70 {
            let report = report_of(poll);
            history = history.after(s(poll as u64 * 10), &report, previous.as_ref());
            previous = Some(report);
        }
        let samples: usize = history.polls.iter().map(|poll| poll.values.len()).sum();
        let bytes = samples * size_of::<(u32, SampledValues)>() + history.ids.len() * size_of::<u32>();
        assert_eq!(history.polls.len(), POLLS);
        assert!(bytes < 10 << 20, "{bytes} bytes");
    }
}
