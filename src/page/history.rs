//! The recent history of a target's groups, for charts: an hour with each poll and a day in steps of a quarter of an hour,
//! bounded in number and bytes. The hour of many groups has fewer polls, and above a number of groups there is no day.
//!
//! All histories of a target share one store, which each poll adds to. Readers hold the IDs of the groups of their report,
//! and look at the store only for the groups that they show.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis_stream_core::name::Name;
use redis_stream_lag::report::{GroupReport, Report};

use crate::page::history::column::Column;
pub use crate::page::history::sample::{GroupSample, SampledValues};
use crate::page::history::saved_tier::SavedTier;

mod column;
mod sample;
pub(super) mod saved_tier;

/// Least time between two kept polls where groups are few; of polls in quicker succession the newest is kept. A little less
/// than the usual interval, since polls may be early or late.
const SPACING: Duration = Duration::from_secs(9);
/// A step of the day.
const STEP: Duration = Duration::from_secs(15 * 60);

/// The polls of an hour: at most so many, so old, and so many bytes for a group; of all groups, and at least of one.
const HOUR: TierLimits =
    TierLimits { samples: 400, age: Duration::from_secs(3_600), all_bytes: 1_900_000, group_bytes: 48 };
/// The steps of a day.
const DAY: TierLimits =
    TierLimits { samples: 96, age: Duration::from_secs(24 * 3_600), all_bytes: 1_000_000, group_bytes: 48 };
/// Bytes that a group takes at most where there are few.
const MOST_BYTES: usize = 8 << 10;
/// Bytes of a change of the lag and of the pending entries of an ordinary group from one kept poll to the next.
const ORDINARY_CHANGE: usize = 3;
/// Kept polls of an hour where groups are many.
const LEAST_SAMPLES: u32 = 20;
/// Groups above which no day is kept.
const DAY_GROUPS: usize = 50_000;
/// Samples that a column may have more than its tier, so that not every poll shortens it.
const SLACK: u32 = 40;

#[derive(Clone, Copy, Debug)]
struct TierLimits {
    samples: usize,
    age: Duration,
    all_bytes: usize,
    group_bytes: usize,
}

impl TierLimits {
    /// Returns the bytes that each of so many groups may take.
    fn bytes_for_each(&self, groups: usize) -> usize {
        (self.all_bytes / groups.max(1)).clamp(self.group_bytes, MOST_BYTES)
    }
}

/// Returns the least time between two kept polls of so many groups: the hour of an ordinary group that changes all the time
/// has its space.
fn spacing(groups: usize) -> Duration {
    let samples = u32::try_from(HOUR.bytes_for_each(groups) / ORDINARY_CHANGE).unwrap_or(u32::MAX);
    SPACING.max(HOUR.age / samples.max(LEAST_SAMPLES))
}

/// The history of the groups of one target, as of its last report. The default is empty.
#[derive(Clone, Debug, Default)]
pub struct GroupHistory {
    /// An ID for each group of the report, in its order.
    ids: Arc<[u32]>,
    next_id: u32,
    store: Arc<Mutex<Store>>,
    /// The IDs that groups had before a restart, until the first report.
    names: Arc<HashMap<(Name, Name), u32>>,
}

/// The samples of all groups.
#[derive(Debug, Default)]
struct Store {
    /// The last poll, which a later one replaces if it comes soon.
    newest: Option<(Duration, Vec<(u32, SampledValues)>)>,
    hour: Tier,
    day: Tier,
    /// The step of the day that has begun, with the largest lag of each group, sorted by ID.
    step: Option<(Duration, Vec<(u32, SampledValues)>)>,
}

/// The samples of all groups at some times.
#[derive(Debug, Default)]
struct Tier {
    /// The oldest first.
    times: VecDeque<Duration>,
    /// The number of the first of them, counted from the beginning.
    first: u32,
    /// Sorted by ID.
    columns: Vec<GroupColumn>,
}

#[derive(Debug)]
struct GroupColumn {
    id: u32,
    /// The number of the time of the first sample.
    first: u32,
    samples: Column,
}

impl Store {
    /// Returns an empty list for the values of so many groups in the next poll: that of the last one if it is not kept.
    fn take_space(&mut self, at: Duration, groups: usize) -> Vec<(u32, SampledValues)> {
        let spare = self.newest.take_if(|(before, _)| {
            let last = self.hour.times.back().copied();
            !is_apart(last, *before, spacing(groups.max(self.hour.columns.len()))) || *before >= at
        });
        let mut values = spare.map(|(_, values)| values).unwrap_or_default();
        values.clear();
        values
    }

    fn add(&mut self, at: Duration, values: Vec<(u32, SampledValues)>) {
        let last = self.hour.times.back().copied();
        // The clock may have been set back.
        if last.is_some_and(|last| at <= last) {
            *self = Self::default();
        }
        let spacing = spacing(values.len().max(self.hour.columns.len()));
        if values.len() > DAY_GROUPS {
            (self.day, self.step) = (Tier::default(), None);
        } else {
            self.add_to_step(at, &values);
        }
        let newest = self.newest.replace((at, values));
        if let Some((before, values)) = newest
            && is_apart(last, before, spacing)
            && before < at
        {
            self.hour.add(before, &values, &HOUR);
        }
    }

    /// Keeps the sample with the largest lag of each step, so that no peak is missed.
    fn add_to_step(&mut self, at: Duration, values: &[(u32, SampledValues)]) {
        let begin = Duration::from_secs(at.as_secs() / STEP.as_secs() * STEP.as_secs());
        let is_same = self.step.as_ref().is_some_and(|(present, _)| *present == begin);
        if !is_same {
            let done = self.step.replace((begin, values.to_vec()));
            if let Some((begin, values)) = done.filter(|(done, _)| *done < begin) {
                self.day.add(begin, &values, &DAY);
            }
            return;
        }
        let Some((_, step)) = &mut self.step else { return };
        let mut more = Vec::new();
        let mut at = 0;
        for (id, values) in values {
            while step.get(at).is_some_and(|(other, _)| other < id) {
                at += 1;
            }
            match step.get_mut(at).filter(|(other, _)| other == id) {
                Some((_, largest))
                    if *largest != SampledValues::NONE && largest.lag_max >= values.lag_max => {}
                Some((_, largest)) => *largest = *values,
                None => more.push((*id, *values)),
            }
        }
        if !more.is_empty() {
            step.append(&mut more);
            step.sort_unstable_by_key(|(id, _)| *id);
        }
    }

    fn hour_of(&self, id: u32) -> Vec<GroupSample> {
        self.hour.of(id).chain(self.newest_of(id)).skip_while(|sample| sample.values.is_none()).collect()
    }

    fn day_of(&self, id: u32) -> Vec<GroupSample> {
        let step = self.step.as_ref().map(|(begin, values)| sample_of(*begin, values, id));
        let day = self.day.of(id).chain(step).chain(self.newest_of(id));
        let mut day: Vec<_> = day.skip_while(|sample| sample.values.is_none()).collect();
        day.dedup_by_key(|sample| sample.at);
        day
    }

    fn newest_of(&self, id: u32) -> Option<GroupSample> {
        self.newest.as_ref().map(|(at, values)| sample_of(*at, values, id))
    }

    /// Returns the bytes that it takes.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        let lists =
            [&self.newest, &self.step].map(|list| list.as_ref().map_or(0, |(_, list)| list.capacity()));
        let tiers = [&self.hour, &self.day].map(|tier| {
            let columns: usize =
                tier.columns.iter().map(|column| column.samples.bytes().next_multiple_of(16)).sum();
            columns + tier.columns.capacity() * size_of::<GroupColumn>()
        });
        lists.iter().sum::<usize>() * size_of::<(u32, SampledValues)>() + tiers.iter().sum::<usize>()
    }
}

/// Returns true if a poll may be kept after the last kept one.
fn is_apart(last: Option<Duration>, at: Duration, spacing: Duration) -> bool {
    last.is_none_or(|last| at.saturating_sub(last) >= spacing)
}

fn sample_of(at: Duration, values: &[(u32, SampledValues)], id: u32) -> GroupSample {
    let index = values.binary_search_by_key(&id, |(id, _)| *id).ok();
    let values = index.map(|index| values[index].1).filter(|values| *values != SampledValues::NONE);
    GroupSample { at, values }
}

impl Tier {
    /// Returns the number of the time after the last.
    fn end(&self) -> u32 {
        self.first + u32::try_from(self.times.len()).unwrap_or(u32::MAX)
    }

    /// Adds the values of some groups, sorted by ID.
    fn add(&mut self, at: Duration, values: &[(u32, SampledValues)], limits: &TierLimits) {
        self.times.push_back(at);
        let number = self.end() - 1;
        while self.times.len() > limits.samples
            || self.times.front().is_some_and(|first| *first + limits.age < at)
        {
            self.times.pop_front();
            self.first += 1;
        }
        let most = limits.bytes_for_each(values.len());
        let known = self.columns.len();
        self.columns.reserve_exact(values.len().saturating_sub(known));
        let mut index = 0;
        for (id, values) in values {
            while self.columns[index..known].first().is_some_and(|column| column.id < *id) {
                index += 1;
            }
            let sample = Some(*values).filter(|values| *values != SampledValues::NONE);
            match self.columns[index..known].first_mut().filter(|column| column.id == *id) {
                Some(column) => column.push(number, sample, most),
                None => {
                    let mut column = GroupColumn { id: *id, first: number, samples: Column::default() };
                    column.push(number, sample, most);
                    self.columns.push(column);
                }
            }
        }
        if self.columns.len() > known {
            self.columns.sort_unstable_by_key(|column| column.id);
        }
        self.shorten();
    }

    /// Returns the samples of these groups, with some that were not added yet.
    fn saved(&self, ids: &[u32], more: &[(Duration, &[(u32, SampledValues)])]) -> SavedTier {
        let times = self.times.iter().copied().chain(more.iter().map(|(at, _)| *at));
        let samples = ids.iter().map(|id| {
            let more = more.iter().map(|(at, values)| sample_of(*at, values, *id));
            let column: Column = self.of(*id).chain(more).map(|sample| sample.values).collect();
            let (bytes, run) = column.parts();
            SavedTier::samples(&bytes, run)
        });
        let millis = |at: Duration| u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        SavedTier { times: times.map(millis).collect(), samples: samples.collect() }
    }

    /// Reads what was saved of so many groups.
    fn restored(saved: &SavedTier, groups: usize, samples: usize) -> Self {
        let times: VecDeque<_> =
            saved.times.iter().take(samples + 1).map(|at| Duration::from_millis(*at)).collect();
        if !times.iter().is_sorted() {
            return Self::default();
        }
        let column = |(id, (text, run)): (u32, &(String, u32))| GroupColumn {
            id,
            first: 0,
            samples: Column::of_parts(&SavedTier::bytes(text), *run, times.len()),
        };
        let columns = (0..).zip(&saved.samples).take(groups).map(column);
        Self { columns: columns.filter(|column| column.samples.len() > 0).collect(), times, first: 0 }
    }

    /// Leaves out what is older than the tier; of each column not at each poll.
    fn shorten(&mut self) {
        let first = self.first;
        self.columns.retain_mut(|column| {
            let old = first.saturating_sub(column.first);
            let is_gone = old >= column.len();
            if !is_gone && old >= SLACK + column.id % SLACK {
                column.samples.drop_front(usize::try_from(old).unwrap_or(usize::MAX));
                column.first = first;
            }
            !is_gone
        });
        if self.columns.capacity() > self.columns.len() * 3 / 2 {
            self.columns.shrink_to_fit();
        }
    }

    fn of(&self, id: u32) -> impl Iterator<Item = GroupSample> + '_ {
        let column =
            self.columns.binary_search_by_key(&id, |column| column.id).ok().map(|at| &self.columns[at]);
        let begins = column.map_or(u32::MAX, |column| column.first);
        let mut samples = column.map(|column| column.samples.samples());
        if let Some(samples) = &mut samples {
            // What is older than the tier.
            for _ in begins..self.first {
                samples.next();
            }
        }
        (self.first..).zip(&self.times).map(move |(number, at)| {
            let sample =
                if number < begins { None } else { samples.as_mut().and_then(|samples| samples.next()) };
            GroupSample { at: *at, values: sample.flatten() }
        })
    }
}

impl GroupColumn {
    fn len(&self) -> u32 {
        u32::try_from(self.samples.len()).unwrap_or(u32::MAX)
    }

    /// Adds a sample; those since the last one are gaps. Leaves out the oldest ones if they take more than `most` bytes.
    fn push(&mut self, number: u32, sample: Option<SampledValues>, most: usize) {
        while self.first + self.len() < number {
            self.samples.push(None);
        }
        self.samples.push(sample);
        if self.samples.bytes() > most {
            let oldest = self.len() / 4;
            self.samples.drop_front(usize::try_from(oldest).unwrap_or(usize::MAX));
            self.first += oldest;
        }
    }
}

impl GroupHistory {
    /// Returns the history after a poll. `previous` is the report that this history is as of.
    pub fn after(&self, at: Duration, report: &Report, previous: Option<&Report>) -> Self {
        let (ids, next_id) = self.ids_of(report, previous);
        let mut store = self.store();
        let mut values = store.take_space(at, ids.len());
        values.reserve_exact(ids.len());
        let groups = ids.iter().zip(groups(report));
        values.extend(groups.map(|(id, (_, group))| (*id, SampledValues::of(group))));
        values.sort_unstable_by_key(|(id, _)| *id);
        store.add(at, values);
        drop(store);
        Self { ids, next_id, store: Arc::clone(&self.store), names: Arc::default() }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the samples of the groups of the report that this history is as of, of the hour and of the day.
    pub(super) fn saved(&self) -> (SavedTier, SavedTier) {
        let store = self.store();
        let newest = store.newest.iter().map(|(at, values)| (*at, &values[..]));
        let step = store.step.iter().map(|(at, values)| (*at, &values[..]));
        (
            store.hour.saved(&self.ids, &newest.collect::<Vec<_>>()),
            store.day.saved(&self.ids, &step.collect::<Vec<_>>()),
        )
    }

    /// Returns the history of groups with these names, with a gap from `saved_at` on.
    pub(super) fn restored(
        names: Vec<(Name, Name)>,
        (hour, day): (&SavedTier, &SavedTier),
        saved_at: Duration,
    ) -> Self {
        let mut store = Store {
            hour: Tier::restored(hour, names.len(), HOUR.samples),
            day: Tier::restored(day, names.len(), DAY.samples),
            ..Store::default()
        };
        if store.hour.times.back().is_some_and(|last| *last < saved_at) {
            store.hour.add(saved_at, &[], &HOUR);
        }
        let next_id = u32::try_from(names.len()).unwrap_or(u32::MAX);
        let names = names.into_iter().zip(0..).collect();
        Self { next_id, store: Arc::new(Mutex::new(store)), names: Arc::new(names), ..Self::default() }
    }

    /// Makes this the history as of a part of the report that it is as of.
    pub fn follow(&mut self, part: &Report, report: &Report) {
        (self.ids, self.next_id) = self.ids_of(part, Some(report));
    }

    /// Returns an ID for each group of a report, and the ID after the last new one.
    fn ids_of(&self, report: &Report, previous: Option<&Report>) -> (Arc<[u32]>, u32) {
        let names = |report| groups(report).map(|(key, group)| (key, &group.name));
        if previous.is_some_and(|previous| names(previous).eq(names(report))) {
            return (Arc::clone(&self.ids), self.next_id);
        }
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
        self.store().add(at, Vec::new());
        self.clone()
    }

    /// Returns for each group of a report its ID in the previous one, if it had any.
    fn known_ids(&self, report: &Report, previous: Option<&Report>) -> Vec<Option<u32>> {
        if previous.is_none() {
            let of_name = |(key, group): (&Name, &GroupReport)| {
                self.names.get(&(key.clone(), group.name.clone())).copied()
            };
            return groups(report).map(of_name).collect();
        }
        let mut before = previous.into_iter().flat_map(groups).zip(self.ids.iter()).peekable();
        let known = groups(report).map(|(key, group)| {
            let name = (key, &group.name);
            while before.next_if(|((key, group), _)| (*key, &group.name) < name).is_some() {}
            before.next_if(|((key, group), _)| (*key, &group.name) == name).map(|(_, id)| *id)
        });
        known.collect()
    }

    /// Returns the samples of the last hour of the group with this index among all groups of the report that this history
    /// is as of, from the oldest one that has the group.
    pub fn of(&self, index: usize) -> Vec<GroupSample> {
        self.ids.get(index).map_or_else(Vec::new, |id| self.store().hour_of(*id))
    }

    /// Returns the samples of the last day: of each quarter of an hour the one with the largest lag, and the last one.
    pub fn day_of(&self, index: usize) -> Vec<GroupSample> {
        self.ids.get(index).map_or_else(Vec::new, |id| self.store().day_of(*id))
    }
}

/// Returns at most `number` samples: of neighbouring ones the one with the largest lag, and always the last one.
pub(super) fn thinned(samples: &[GroupSample], number: usize) -> Vec<GroupSample> {
    let size = samples.len().saturating_sub(1).div_ceil(number.saturating_sub(1).max(1)).max(1);
    let Some((last, before)) = samples.split_last() else { return Vec::new() };
    let largest = |part: &[GroupSample]| {
        part.iter().copied().max_by_key(|sample| sample.values.map(|values| values.lag_max)).unwrap_or(*last)
    };
    before.chunks(size).map(largest).chain([*last]).collect()
}

/// Returns the groups of a report with the keys of their streams, in its order.
fn groups(report: &Report) -> impl Iterator<Item = (&Name, &GroupReport)> {
    report.groups().map(|(stream, group)| (&stream.key, group))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::test_support::{group, report, stream, values};
    use redis_stream_lag::report::{GroupValues, Lag};

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
        let missing = report(vec![stream("s", vec![GroupReport::missing("a".into())])]);
        let (history, last) = history(vec![lags(&[("a", 1)]), missing, lags(&[("a", 2)])]);
        let history = history.after_failure(s(30)).after(s(40), &lags(&[("a", 3)]), Some(&last));
        assert_eq!(shown(&history, &last, "a"), [Some(1), None, Some(2), None, Some(3)]);
    }

    #[test]
    fn an_hour_is_kept_with_some_time_between_polls_and_a_day_in_steps() {
        for interval in [2_000, 10_000, 60_000].map(Duration::from_millis) {
            let (mut history, mut previous) = (GroupHistory::default(), None);
            let polls = 26 * 3_600_000 / interval.as_millis();
            for poll in 0..u32::try_from(polls).unwrap() {
                let report = lags(&[("a", if poll % 400 == 0 { 1_000 } else { 5 })]);
                history = history.after(s(0) + interval * poll, &report, previous.as_ref());
                previous = Some(report);
            }
            let hour = history.of(0);
            let spaced = SPACING.max(interval);
            let lasted = hour[hour.len() - 1].at - hour[0].at;
            assert!(
                lasted <= HOUR.age + 2 * spaced && lasted + 2 * spaced >= HOUR.age,
                "{interval:?}: {lasted:?}"
            );
            let least = hour.windows(2).rev().skip(1).map(|pair| pair[1].at - pair[0].at).min();
            assert!(least >= Some(spaced) && hour.len() <= HOUR.samples + 1, "{interval:?}: {least:?}");
            let day = history.day_of(0);
            let lasted = day[day.len() - 1].at - day[0].at;
            assert!(lasted <= DAY.age + 2 * STEP && lasted + STEP >= DAY.age, "{interval:?}: {lasted:?}");
            assert!(day.len() <= DAY.samples + 2 && day.windows(2).all(|pair| pair[0].at < pair[1].at));
            if interval <= Duration::from_secs(2) {
                let peaks =
                    day.iter().filter(|sample| sample.values.is_some_and(|values| values.lag_max == 1_000));
                assert!(peaks.count() >= 90, "each quarter of an hour has a peak");
            }
        }
    }

    #[test]
    fn a_clock_that_is_set_back_begins_anew_from_there() {
        let report = lags(&[("a", 1)]);
        let history =
            GroupHistory::default().after(s(100), &report, None).after(s(50), &report, Some(&report));
        assert_eq!(shown(&history, &report, "a").len(), 1);
    }

    /// Returns the history of ten thousand groups after an hour and a day, with the lag and the pending entries of each at
    /// each poll.
    fn ten_thousand(polls: u64, values_of: impl Fn(u64, u64) -> (u64, u64)) -> GroupHistory {
        let (mut history, mut previous) = (GroupHistory::default(), None::<Report>);
        for poll in 0..polls {
            let group = |n: u64| {
                let (lag, messages_pending) = values_of(poll, n);
                let values = GroupValues { lag: Lag::Exact(lag), messages_pending, ..values() };
                group(format!("{n:06}").as_str(), values)
            };
            let report = report(vec![stream("s", (0..10_000).map(group).collect())]);
            // Both tiers fill at once: a poll in each step.
            let at =
                if poll < 30 { poll * 900 } else { 30 * 900 + (poll - 30) * (spacing(10_000).as_secs() + 1) };
            history = history.after(s(at), &report, previous.as_ref());
            previous = Some(report);
        }
        history
    }

    #[test]
    fn groups_that_do_not_change_take_little_and_show_all_their_past() {
        let history = ten_thousand(110, |poll, n| (if n % 1_000 == 7 { poll } else { n }, 0));
        let bytes = history.store().bytes();
        assert!(bytes < 3 << 19, "{bytes} bytes");
        let hour = history.of(5_006);
        assert!(hour.len() > 60 && hour.iter().all(|sample| sample.values.unwrap().lag_max == 5_006));
        let moving: Vec<_> = history.of(5_007).iter().map(|sample| sample.values.unwrap().lag_max).collect();
        assert!(moving.windows(2).all(|pair| pair[1] == pair[0] + 1), "{moving:?}");
    }

    /// Numbers about which nothing can be compressed.
    fn any(poll: u64, n: u64) -> (u64, u64) {
        let mixed = (poll * 10_000 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 34, mixed & 0x3fff_ffff)
    }

    #[test]
    fn a_day_of_ten_thousand_groups_takes_less_than_5_mib_whatever_they_do() {
        let history = ten_thousand(110, any);
        let bytes = history.store().bytes();
        assert!(bytes < 5 << 20, "{bytes} bytes");
        assert!(history.of(0).len() > 12 && history.day_of(9_999).len() > 6);
    }

    #[test]
    fn ten_thousand_groups_that_read_all_the_time_take_less_than_400_bytes_each_and_show_an_hour() {
        let history = ten_thousand(110, |poll, n| (n % 1_000 + poll * 37 % 50, poll * n % 9));
        let bytes = history.store().bytes();
        assert!(bytes < 400 * 10_000, "{bytes} bytes");
        let (hour, day) = (history.of(77), history.day_of(77));
        assert!(hour[hour.len() - 1].at - hour[0].at > s(3_400) - s(0) && day.len() > 25);
    }

    #[test]
    fn two_hundred_thousand_groups_take_less_than_24_mib_whatever_they_do() {
        let (mut store, groups) = (Store::default(), 200_000);
        for poll in 0..14 {
            let values = (0..groups).map(|id: u32| {
                // The first ones read all the time, the others do anything.
                let (lag, messages_pending) = match id {
                    0..10 => (1_000 + (poll * 37) % 50, poll % 3),
                    _ => any(poll, id.into()),
                };
                let [lag, messages_pending] =
                    [lag, messages_pending].map(|number| u32::try_from(number).unwrap());
                (id, SampledValues { lag_min: lag, lag_max: lag, messages_pending })
            });
            store.add(s(poll * spacing(200_000).as_secs()), values.collect());
        }
        let bytes = store.bytes();
        assert!(bytes < 24 << 20, "{bytes} bytes");
        let steps = store.hour_of(3);
        assert!(steps[steps.len() - 1].at - steps[0].at > s(2_000) - s(0), "{} steps", steps.len());
        assert!(store.hour_of(100_000).len() > 2 && store.day_of(3).len() == 1);
    }

    #[test]
    fn polls_are_kept_less_often_where_groups_are_many() {
        let found = [1, 1_500, 2_000, 10_000, 100_000, 1_000_000].map(|groups| spacing(groups).as_secs());
        assert_eq!(found, [9, 9, 11, 57, 180, 180]);
    }

    #[test]
    fn a_poll_takes_no_new_space_while_the_groups_stay_and_the_one_before_is_not_kept() {
        let report = lags(&[("a", 1), ("b", 2)]);
        let place = |history: &GroupHistory| history.store().newest.as_ref().map(|(_, list)| list.as_ptr());
        let first = GroupHistory::default().after(s(0), &report, None);
        let kept = first.after(s(1), &report, Some(&report));
        let second = kept.after(s(2), &report, Some(&report));
        let (before, after) = (place(&second), place(&second.after(s(3), &report, Some(&report))));
        assert_eq!(before, after);
        assert!(Arc::ptr_eq(&first.ids, &second.ids));
        let other = second.after(s(4), &lags(&[("b", 3)]), Some(&report));
        assert!(!Arc::ptr_eq(&other.ids, &second.ids));
        assert_eq!(shown(&other, &lags(&[("b", 3)]), "b"), [Some(2), Some(3)]);
    }

    #[test]
    fn groups_that_come_and_go_leave_nothing_behind() {
        let (mut history, mut previous) = (GroupHistory::default(), None::<Report>);
        for poll in 0..600_u64 {
            let names: Vec<_> = (0..20).map(|n| format!("{:06}", n + poll * 2)).collect();
            let report = lags(&names.iter().map(|name| (name.as_str(), 1)).collect::<Vec<_>>());
            history = history.after(s(poll * 200), &report, previous.as_ref());
            previous = Some(report);
        }
        let store = history.store();
        let columns = [store.hour.columns.len(), store.day.columns.len()];
        assert!(columns[0] < 100 && columns[1] < 1_200, "{columns:?}");
    }

    #[test]
    fn thinned_samples_keep_the_peaks_and_the_last() {
        let sample = |at: u64, lag: Option<u32>| GroupSample {
            at: s(at),
            values: lag.map(|lag| SampledValues { lag_min: lag, lag_max: lag, messages_pending: 0 }),
        };
        let all: Vec<_> =
            (0..100).map(|n| sample(n, (n != 50).then_some(if n == 33 { 900 } else { 7 }))).collect();
        for number in [2, 10, 60, 99, 100, 101] {
            let few = thinned(&all, number);
            assert!(few.len() <= number.max(2), "{number}: {}", few.len());
            assert!(few.contains(&all[33]) && few.last() == all.last(), "{number}");
            assert!(few.windows(2).all(|pair| pair[0].at < pair[1].at));
        }
        assert_eq!(thinned(&all, 100), all);
        assert_eq!(thinned(&[], 10), []);
        assert_eq!(thinned(&all[..1], 10), all[..1]);
    }
}
