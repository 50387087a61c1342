//! Groups that were read and then vanished: destroyed, or deleted with their stream. A group counts as gone for an
//! [hour](MEMORY), if it was delivered to in the hour before, or until it is back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redis_stream_core::name::Name;
use redis_stream_core::wall_clock::ClockShift;
use redis_stream_lag::compact::Micros;
use redis_stream_lag::report::{GroupReport, Report, ReportedStream};

/// Time for which a delivery, and a group that is gone, are remembered.
pub const MEMORY: Duration = Duration::from_secs(3600);

/// The groups of a target when they were last read, and those that are gone.
#[derive(Clone, Debug, Default)]
pub struct GoneGroups {
    /// Sorted by key.
    streams: Vec<SeenStream>,
    /// Key and group, and the time since which it is known to be gone.
    gone: BTreeMap<(Name, Name), Duration>,
}

/// A stream in the last report that could read it. It shares its values with that report.
#[derive(Clone, Debug)]
struct SeenStream {
    stream: ReportedStream,
    /// Time of the report.
    at: Micros,
}

impl SeenStream {
    /// Returns the groups that the stream had.
    fn groups(&self) -> impl Iterator<Item = &GroupReport> {
        self.stream.groups.iter().filter(|group| group.values.is_some())
    }

    /// Returns true if a group was delivered to within the last hour, as far as that was seen.
    fn was_delivered_to(&self, group: &GroupReport, now: Duration) -> bool {
        let age = self.stream.view(group).and_then(|view| view.last_delivery_age());
        age.is_some_and(|age| now < self.at.get().saturating_sub(age) + MEMORY)
    }

    /// Returns true if one of its groups would count as gone.
    fn is_remembered(&self, now: Duration) -> bool {
        self.groups().any(|group| self.was_delivered_to(group, now))
    }
}

/// A report, and what its limits and gaps hide.
#[derive(Clone, Copy, Debug)]
pub(super) struct CoveredReport<'r> {
    pub(super) report: &'r Report,
    pub(super) streams: Coverage,
    pub(super) groups: Coverage,
}

/// Tells if something that a report does not contain is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coverage {
    Complete,
    /// It may exist.
    Partial,
}

impl GoneGroups {
    /// Takes a report of the time `now`.
    pub(super) fn note(&mut self, covered: CoveredReport<'_>, now: Duration) {
        let mut before = std::mem::take(&mut self.streams).into_iter().peekable();
        let mut streams = Vec::with_capacity(covered.report.streams.len());
        for stream in &covered.report.streams {
            while let Some(earlier) = before.next_if(|seen| seen.stream.key < stream.key) {
                self.note_absent(earlier, covered.streams, now, &mut streams);
            }
            let seen = before.next_if(|seen| seen.stream.key == stream.key);
            if let Some(seen) = seen {
                if stream.refused {
                    self.note_absent(seen, Coverage::Partial, now, &mut streams);
                    continue;
                }
                self.note_vanished(&seen, stream, covered.groups, now);
            }
            self.note_present(stream);
            streams.push(SeenStream { stream: stream.clone(), at: now.into() });
        }
        for seen in before {
            self.note_absent(seen, covered.streams, now, &mut streams);
        }
        self.streams = streams;
    }

    /// Drops groups that have been gone for long enough.
    pub(super) fn expire(&mut self, now: Duration) {
        self.gone.retain(|_, since| now < *since + MEMORY);
    }

    /// Adapts the times to a wall clock that was set.
    pub(super) fn shift_times(&mut self, shift: ClockShift) {
        self.streams.iter_mut().for_each(|seen| seen.at = shift.apply(seen.at.get()).into());
        self.gone.values_mut().for_each(|time| *time = shift.apply(*time));
    }

    fn note_absent(
        &mut self,
        seen: SeenStream,
        coverage: Coverage,
        now: Duration,
        streams: &mut Vec<SeenStream>,
    ) {
        match coverage {
            Coverage::Partial => streams.extend(Some(seen).filter(|seen| seen.is_remembered(now))),
            Coverage::Complete => {
                seen.groups().for_each(|group| self.note_gone(&seen, group, now));
            }
        }
    }

    fn note_gone(&mut self, seen: &SeenStream, group: &GroupReport, now: Duration) {
        if seen.was_delivered_to(group, now) {
            self.gone.insert((seen.stream.key.clone(), group.name.clone()), now);
        }
    }

    /// Notes the groups that the stream does not have any more, unless a limit may hide them.
    fn note_vanished(
        &mut self,
        seen: &SeenStream,
        stream: &ReportedStream,
        coverage: Coverage,
        now: Duration,
    ) {
        let mut present = stream.groups.iter().filter(|group| group.values.is_some()).peekable();
        let groups = stream.values.as_ref().map_or(0, |values| values.groups);
        if coverage == Coverage::Partial && groups > present.clone().count() as u64 {
            return;
        }
        for group in seen.groups() {
            while present.next_if(|other| other.name < group.name).is_some() {}
            if present.next_if(|other| other.name == group.name).is_none() {
                self.note_gone(seen, group, now);
            }
        }
    }

    fn note_present(&mut self, stream: &ReportedStream) {
        if self.gone.is_empty() {
            return;
        }
        for group in stream.groups.iter().filter(|group| group.values.is_some()) {
            self.gone.remove(&(stream.key.clone(), group.name.clone()));
        }
    }

    /// Restores a group that is gone since `since`.
    pub(super) fn restore(&mut self, stream: Name, group: Name, since: Duration) {
        self.gone.insert((stream, group), since);
    }

    /// Forgets groups that the configuration does not select any more.
    pub(super) fn retain(&mut self, is_selected: &dyn Fn(&Name, Option<&Name>) -> bool) {
        self.gone.retain(|(stream, group), _| is_selected(stream, Some(group)));
        for SeenStream { stream, .. } in &mut self.streams {
            let is_kept = |group: &GroupReport| is_selected(&stream.key, Some(&group.name));
            if !stream.groups.iter().all(is_kept) {
                *stream = stream.with_groups(is_kept);
            }
        }
    }

    /// Returns key and name of each group that is gone, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &Name)> {
        self.gone.keys().map(|(stream, group)| (stream, group))
    }

    /// Returns true if the last report contained the group.
    pub(super) fn is_there(&self, stream: &Name, group: &Name) -> bool {
        let at = self.streams.binary_search_by(|seen| seen.stream.key.cmp(stream));
        let found = at.ok().and_then(|at| self.streams[at].stream.group(group));
        found.is_some_and(|group| group.values.is_some())
    }
}

/// The keys and names of the groups that are gone, for readers.
pub type GoneList = Arc<[(Name, Name)]>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::test_support::{group, missing_group, report, stream, values};
    use redis_stream_lag::report::{Age, GroupReport, GroupValues, StreamReport};

    /// Returns a group that was delivered entries so many minutes ago.
    fn read(minutes_ago: u64) -> GroupReport {
        let last_delivery_age = Some(Duration::from_secs(60 * minutes_ago));
        group("g", GroupValues { last_delivery_age: last_delivery_age.map(Age::of), ..values() })
    }

    /// Returns a group of which no delivery was seen.
    fn unread() -> GroupReport {
        group("g", values())
    }

    fn with(found: GroupReport) -> Report {
        report(vec![stream("s", vec![found])])
    }

    fn without_stream() -> Report {
        report(vec![stream("a", Vec::new()), stream("z", Vec::new())])
    }

    fn refused() -> Report {
        let refused = StreamReport { values: None, refused: true, ..stream("s", Vec::new()) };
        report(vec![refused])
    }

    fn missing() -> Report {
        report(vec![StreamReport { values: None, ..stream("s", Vec::new()) }])
    }

    /// Takes a report every ten minutes, and returns after which of them the group is gone.
    fn gone_after(reports: &[Report]) -> Vec<usize> {
        let mut groups = GoneGroups::default();
        let mut gone = Vec::new();
        for (poll, report) in reports.iter().enumerate() {
            let now = Duration::from_secs(1_000_000 + 600 * poll as u64);
            let covered = CoveredReport { report, streams: Coverage::Complete, groups: Coverage::Complete };
            groups.note(covered, now);
            groups.expire(now);
            if groups.iter().next().is_some() {
                gone.push(poll);
            }
        }
        gone
    }

    #[test]
    fn a_group_that_was_read_is_gone_for_an_hour() {
        let of = |last: Report| {
            let mut reports = vec![with(unread()), with(read(0))];
            reports.extend(std::iter::repeat_n(last, 8));
            gone_after(&reports)
        };
        // Destroyed; named and destroyed; deleted with its stream; with a stream that is named.
        for last in
            [report(vec![stream("s", Vec::new())]), with(missing_group("g")), without_stream(), missing()]
        {
            assert_eq!(of(last.clone()), [2, 3, 4, 5, 6, 7], "{last:?}");
        }
        assert_eq!(of(refused()), [] as [usize; 0]);
        assert_eq!(of(with(read(10))), [] as [usize; 0]);
    }

    #[test]
    fn a_group_that_was_not_read_for_an_hour_is_not_missed() {
        let gone = || report(vec![stream("s", Vec::new())]);
        assert_eq!(gone_after(&[with(unread()), gone()]), [] as [usize; 0]);
        assert_eq!(gone_after(&[with(read(50)), gone()]), [] as [usize; 0]);
        assert_eq!(gone_after(&[with(read(49)), gone()]), [1]);
    }

    #[test]
    fn a_group_is_not_gone_when_it_is_back_nor_while_that_is_not_known() {
        let gone = || report(vec![stream("s", Vec::new())]);
        let reports = [with(unread()), with(read(0)), gone(), gone(), with(unread()), gone()];
        assert_eq!(gone_after(&reports), [2, 3]);
        let reports = [with(unread()), with(read(0)), refused(), gone(), gone()];
        assert_eq!(gone_after(&reports), [3, 4]);

        let mut groups = GoneGroups::default();
        let mut note = |report: &Report, streams, hidden, poll| {
            groups.note(CoveredReport { report, streams, groups: hidden }, Duration::from_secs(poll));
            groups.iter().count()
        };
        note(&with(unread()), Coverage::Complete, Coverage::Complete, 1);
        note(&with(read(0)), Coverage::Complete, Coverage::Complete, 2);
        assert_eq!(note(&without_stream(), Coverage::Partial, Coverage::Complete, 3), 0);
        // Others are left out by a limit.
        let mut limited = stream("s", Vec::new());
        limited.values.as_mut().unwrap().groups = 7;
        assert_eq!(note(&report(vec![limited]), Coverage::Complete, Coverage::Partial, 4), 0);
    }

    #[test]
    fn a_stream_that_may_exist_is_remembered_for_an_hour() {
        for (report, streams) in [(without_stream(), Coverage::Partial), (refused(), Coverage::Complete)] {
            let mut groups = GoneGroups::default();
            let start = Duration::from_secs(1_000_000);
            let mut note = |report: &Report, streams, minutes: u32| {
                let covered = CoveredReport { report, streams, groups: Coverage::Complete };
                groups.note(covered, start + minutes * Duration::from_secs(60));
                groups.streams.iter().any(|seen| seen.groups().count() > 0)
            };
            assert!(note(&with(read(10)), Coverage::Complete, 0));
            assert_eq!([1, 49, 50, 51].map(|at| note(&report, streams, at)), [true, true, false, false]);
        }
    }

    #[test]
    fn a_wall_clock_that_is_set_makes_a_group_neither_be_gone_for_longer_nor_forgotten_sooner() {
        let (start, s) = (Duration::from_secs(1_700_000_000), Duration::from_secs);
        let gone = report(vec![stream("s", Vec::new())]);
        for shift in [ClockShift::Forward(s(7_200)), ClockShift::Backward(s(7_200))] {
            for set_after in [1, 5] {
                let (mut groups, mut now, mut gone_at) = (GoneGroups::default(), start, Vec::new());
                for poll in 0..10 {
                    let report = if poll < 2 { &with(read(0)) } else { &gone };
                    let (streams, hidden) = (Coverage::Complete, Coverage::Complete);
                    groups.note(CoveredReport { report, streams, groups: hidden }, now);
                    groups.expire(now);
                    if groups.iter().next().is_some() {
                        gone_at.push(poll);
                    }
                    now += s(600);
                    if poll == set_after {
                        groups.shift_times(shift);
                        now = shift.apply(now);
                    }
                }
                assert_eq!(gone_at, [2, 3, 4, 5, 6, 7], "{shift:?} after {set_after}");
            }
        }
    }

    #[test]
    fn of_the_groups_of_a_stream_only_those_that_are_not_selected_are_forgotten() {
        let mut groups = GoneGroups::default();
        let at = Duration::from_secs;
        let note = |groups: &mut GoneGroups, streams, poll| {
            let covered = CoveredReport {
                report: &report(streams),
                streams: Coverage::Complete,
                groups: Coverage::Complete,
            };
            groups.note(covered, at(poll));
        };
        let both = ["a", "b"].map(|name| GroupReport::new(name.into(), read(0).values));
        note(&mut groups, vec![stream("s", both.to_vec())], 1);
        groups.retain(&|_, group| group != Some(&Name::from("a")));
        let names = ["a", "b"].map(Name::from);
        assert_eq!(names.each_ref().map(|name| groups.is_there(&Name::from("s"), name)), [false, true]);
        note(&mut groups, vec![stream("s", Vec::new())], 2);
        assert_eq!(groups.iter().collect::<Vec<_>>(), [(&Name::from("s"), &names[1])]);
    }

    #[test]
    fn a_group_that_is_not_selected_any_more_is_not_gone() {
        let mut groups = GoneGroups::default();
        let note = |groups: &mut GoneGroups, report: &Report, poll| {
            let covered = CoveredReport { report, streams: Coverage::Complete, groups: Coverage::Complete };
            groups.note(covered, Duration::from_secs(poll));
        };
        note(&mut groups, &with(unread()), 1);
        note(&mut groups, &with(read(0)), 2);
        groups.retain(&|key, _| *key != Name::from("s"));
        note(&mut groups, &without_stream(), 3);
        assert_eq!(groups.iter().count(), 0);
    }
}
