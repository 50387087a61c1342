//! The recent history of a target's groups, for charts: a sample of each group per poll, bounded in number and small.
//!
//! A poll adds the samples of all groups, and shares the earlier ones with the history before it: readers hold a
//! history that never changes, and no sample is copied. Of groups whose values are as in the poll before, a few at a time
//! are shared too.

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

/// Number of neighbouring IDs whose samples are shared with the poll before if none has changed.
const SHARED_IDS: u32 = 16;

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
    /// Sorted by ID.
    parts: Arc<[SampleBlock]>,
}

/// The values of the groups with neighbouring IDs, sorted by ID. Never empty.
type SampleBlock = Arc<[(u32, SampledValues)]>;

/// Returns the number of the part that an ID belongs to.
fn part_of(id: u32) -> u32 {
    id / SHARED_IDS
}

impl PollSamples {
    /// Takes values that are sorted by ID.
    fn new(at: Duration, values: &[(u32, SampledValues)], before: Option<&Self>) -> Self {
        let parts = values.chunk_by(|(id, _), (next, _)| part_of(*id) == part_of(*next)).map(|part| {
            let same = before.and_then(|before| before.part(part[0].0)).filter(|same| same[..] == *part);
            same.map_or_else(|| part.into(), Arc::clone)
        });
        Self { at, parts: parts.collect() }
    }

    fn part(&self, id: u32) -> Option<&SampleBlock> {
        let index = self.parts.binary_search_by_key(&part_of(id), |part| part_of(part[0].0)).ok()?;
        Some(&self.parts[index])
    }

    fn of(&self, id: u32) -> Option<SampledValues> {
        let part = self.part(id)?;
        let index = part.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(part[index].1)
    }
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
        Self { polls: self.polls_with(at, &values), ids, next_id }
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
        Self { polls: self.polls_with(at, &[]), ..self.clone() }
    }

    fn polls_with(&self, at: Duration, values: &[(u32, SampledValues)]) -> VecDeque<PollSamples> {
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
        let samples = PollSamples::new(at, values, self.polls.back());
        polls.push_back(samples);
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
        let polls = self.polls.iter().skip_while(|poll| poll.of(*id).is_none());
        let is_known = |values: &SampledValues| *values != SampledValues::NONE;
        polls.map(|poll| GroupSample { at: poll.at, values: poll.of(*id).filter(is_known) }).collect()
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
    use redis_stream_lag::report::{GroupValues, Lag};
    use std::collections::HashSet;

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

    /// Returns the bytes that a history takes, of what is shared once.
    fn bytes(history: &GroupHistory) -> usize {
        let parts: HashSet<_> =
            history.polls.iter().flat_map(|poll| poll.parts.iter()).map(Arc::as_ptr).collect();
        let samples: usize = parts.iter().map(|part| part.len()).sum();
        let pointers: usize = history.polls.iter().map(|poll| poll.parts.len()).sum();
        samples * size_of::<(u32, SampledValues)>()
            + parts.len() * 2 * size_of::<usize>()
            + pointers * size_of::<SampleBlock>()
            + history.ids.len() * size_of::<u32>()
    }

    #[test]
    fn groups_that_do_not_change_take_little_and_show_all_their_past() {
        let report_of = |poll: u64| {
            let lag = |n: u64| if n % 1_000 == 7 { poll } else { n };
            let group = |n: u64| {
                group(format!("{n:06}").as_str(), GroupValues { lag: Lag::Exact(lag(n)), ..values() })
            };
            report(vec![stream("s", (0..10_000).map(group).collect())])
        };
        let (history, last) = history((0..POLLS as u64 + 5).map(report_of).collect());
        assert!(bytes(&history) < 1_500_000, "{} bytes", bytes(&history));
        assert_eq!(shown(&history, &last, "005006"), vec![Some(5_006); POLLS]);
        let moving: Vec<_> = (5..).take(POLLS).map(Some).collect();
        assert_eq!(shown(&history, &last, "005007"), moving);
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
        assert_eq!(history.polls.len(), POLLS);
        assert!(bytes(&history) < 10 << 20, "{} bytes", bytes(&history));
    }
}
