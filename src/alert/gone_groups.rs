//! Groups that were read and then vanished: destroyed, or deleted with their stream. A group counts as gone for an
//! [hour](MEMORY), if it was delivered to in the hour before, or until it is back.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::Arc;
use std::time::Duration;

use redis_stream_core::name::Name;
use redis_stream_core::wall_clock::ClockShift;
use redis_stream_lag::report::{Report, ReportedStream};

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

#[derive(Clone, Debug)]
struct SeenStream {
    key: Name,
    /// Sorted by name.
    groups: Vec<SeenGroup>,
}

#[derive(Clone, Debug)]
struct SeenGroup {
    name: Name,
    /// Time of its last delivery.
    delivered_at: Option<Duration>,
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
            while let Some(earlier) = before.next_if(|seen| seen.key < stream.key) {
                self.note_absent(earlier, covered.streams, now, &mut streams);
            }
            let seen = before.next_if(|seen| seen.key == stream.key);
            match seen {
                Some(seen) if stream.refused => streams.push(seen),
                seen => streams.push(self.note_stream(stream, seen, covered.groups, now)),
            }
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
        let groups = self.streams.iter_mut().flat_map(|seen| &mut seen.groups);
        let delivered = groups.filter_map(|group| group.delivered_at.as_mut());
        delivered.chain(self.gone.values_mut()).for_each(|time| *time = shift.apply(*time));
    }

    fn note_absent(
        &mut self,
        seen: SeenStream,
        coverage: Coverage,
        now: Duration,
        streams: &mut Vec<SeenStream>,
    ) {
        match coverage {
            Coverage::Partial => streams.push(seen),
            Coverage::Complete => {
                seen.groups.iter().for_each(|group| self.note_gone(&seen.key, group, now));
            }
        }
    }

    fn note_gone(&mut self, key: &Name, group: &SeenGroup, now: Duration) {
        if group.delivered_at.is_some_and(|at| now < at + MEMORY) {
            self.gone.insert((key.clone(), group.name.clone()), now);
        }
    }

    fn note_stream(
        &mut self,
        stream: &ReportedStream,
        seen: Option<SeenStream>,
        coverage: Coverage,
        now: Duration,
    ) -> SeenStream {
        let mut before = seen.map(|seen| seen.groups).unwrap_or_default().into_iter().peekable();
        let mut groups = Vec::with_capacity(stream.groups.len());
        let present = stream.groups.iter().filter_map(|group| Some((&group.name, stream.view(group)?)));
        let hidden =
            stream.values.as_ref().map_or(0, |values| values.groups) > present.clone().count() as u64;
        let is_complete = coverage == Coverage::Complete || !hidden;
        for (name, values) in present {
            self.pass(&stream.key, name, &mut before, is_complete, now);
            if !self.gone.is_empty() {
                self.gone.remove(&(stream.key.clone(), name.clone()));
            }
            let delivered_at = values.last_delivery_age().map(|age| now.saturating_sub(age));
            groups.push(SeenGroup { name: name.clone(), delivered_at });
        }
        for group in before.filter(|_| is_complete) {
            self.note_gone(&stream.key, &group, now);
        }
        SeenStream { key: stream.key.clone(), groups }
    }

    /// Passes the group in those that were seen before. Groups before it in the order of names have vanished.
    fn pass(
        &mut self,
        key: &Name,
        name: &Name,
        before: &mut Peekable<impl Iterator<Item = SeenGroup>>,
        is_complete: bool,
        now: Duration,
    ) {
        while let Some(vanished) = before.next_if(|seen| seen.name < *name) {
            if is_complete {
                self.note_gone(key, &vanished, now);
            }
        }
        before.next_if(|seen| seen.name == *name);
    }

    /// Restores a group that is gone since `since`.
    pub(super) fn restore(&mut self, stream: Name, group: Name, since: Duration) {
        self.gone.insert((stream, group), since);
    }

    /// Forgets groups that the configuration does not select any more.
    pub(super) fn retain(&mut self, is_selected: &dyn Fn(&Name, Option<&Name>) -> bool) {
        self.gone.retain(|(stream, group), _| is_selected(stream, Some(group)));
        for seen in &mut self.streams {
            seen.groups.retain(|group| is_selected(&seen.key, Some(&group.name)));
        }
    }

    /// Returns key and name of each group that is gone, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &Name)> {
        self.gone.keys().map(|(stream, group)| (stream, group))
    }

    /// Returns true if the last report contained the group.
    pub(super) fn is_there(&self, stream: &Name, group: &Name) -> bool {
        let stream = self.streams.binary_search_by(|seen| seen.key.cmp(stream)).map(|at| &self.streams[at]);
        stream.is_ok_and(|seen| seen.groups.binary_search_by(|seen| seen.name.cmp(group)).is_ok())
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
