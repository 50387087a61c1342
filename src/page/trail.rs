//! The recent past of a target's groups, for charts: a few numbers of each group at each of some moments. Bounded,
//! and small.
//!
//! A poll adds one column with a point for each group, and shares all earlier ones with the trail before it: what
//! readers hold never changes, and nothing is copied. A group keeps its place in the columns, its slot, as long as it
//! is there; a slot that has become free goes to another group, which remembers since when it is its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use redis_stream_core::name::Name;
use redis_stream_lag::report::{GroupReport, Report};

/// Moments that are kept.
const COLUMNS: usize = 60;
/// Least time from one to the next; of polls that follow each other more closely the newest stays. A little less
/// than the usual interval, as polls come a little early or late.
const SPACING: Duration = Duration::from_secs(9);

/// The recent past of the groups of one target, as of its last report.
#[derive(Clone, Debug, Default)]
pub struct Trail {
    /// The oldest first.
    columns: VecDeque<Column>,
    /// One for each group of the report, in its order.
    rows: Arc<[Row]>,
    /// Number of the next column.
    next: u64,
}

/// One moment.
#[derive(Clone, Debug)]
struct Column {
    /// Since the Unix epoch.
    at: Duration,
    /// Columns are counted.
    number: u64,
    /// By slot; none where nothing was read.
    points: Arc<[Point]>,
}

/// Where a group is found in the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    slot: u32,
    /// Number of the first column in which the slot is this group's.
    since: u64,
}

/// What is kept of a group at one moment. Numbers too large for 32 bits are the largest there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Certain minimum of the lag.
    pub lag_min: u32,
    /// Certain maximum of the lag; the same where it is exact.
    pub lag_max: u32,
    /// Entries delivered and not acknowledged.
    pub messages_pending: u32,
}

/// A group at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Since the Unix epoch.
    pub at: Duration,
    /// `None` where it was not read.
    pub point: Option<Point>,
}

impl Point {
    /// In place of a point where there is none: no lag is less than its own minimum.
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

impl Trail {
    /// The trail after a poll. `previous` is the report that this trail is as of.
    #[must_use]
    pub fn after(&self, at: Duration, report: &Report, previous: Option<&Report>) -> Self {
        let rows = self.seated(report, previous);
        let slots = rows.iter().map(|row| row.slot as usize + 1).max().unwrap_or(0);
        let mut points = vec![Point::NONE; slots];
        for (row, (_, group)) in rows.iter().zip(groups(report)) {
            points[row.slot as usize] = Point::of(group);
        }
        self.with(at, points.into(), rows.into())
    }

    /// The trail after a poll that read nothing.
    #[must_use]
    pub fn after_failure(&self, at: Duration) -> Self {
        self.with(at, Arc::default(), Arc::clone(&self.rows))
    }

    fn with(&self, at: Duration, points: Arc<[Point]>, rows: Arc<[Row]>) -> Self {
        let mut columns = self.columns.clone();
        // The clock may have been set back: time goes from left to right.
        columns.retain(|column| column.at < at);
        let newest_two =
            columns.len().checked_sub(2).map(|before| (columns[before].at, columns[before + 1].at));
        if newest_two.is_some_and(|(before, newest)| newest - before < SPACING) {
            columns.pop_back();
        }
        if columns.len() == COLUMNS {
            columns.pop_front();
        }
        columns.push_back(Column { at, number: self.next, points });
        Self { columns, rows, next: self.next + 1 }
    }

    /// A row for each group of a report: the one it had, or a free slot.
    fn seated(&self, report: &Report, previous: Option<&Report>) -> Vec<Row> {
        let mut before = previous.into_iter().flat_map(groups).zip(self.rows.iter()).peekable();
        let kept = groups(report).map(|(key, group)| {
            let name = (key, &group.name);
            while before.next_if(|((key, group), _)| (*key, &group.name) < name).is_some() {}
            before.next_if(|((key, group), _)| (*key, &group.name) == name).map(|(_, row)| *row)
        });
        let kept: Vec<_> = kept.collect();
        let mut taken = vec![false; self.rows.len().max(kept.len())];
        for row in kept.iter().flatten() {
            let slot = row.slot as usize;
            if slot >= taken.len() {
                taken.resize(slot + 1, false);
            }
            taken[slot] = true;
        }
        let mut free = (0..).filter(|slot: &u32| !taken.get(*slot as usize).copied().unwrap_or(false));
        let mut seat =
            || Row { slot: free.next().expect("there are more numbers than groups"), since: self.next };
        kept.into_iter().map(|row| row.unwrap_or_else(&mut seat)).collect()
    }

    /// The moments of the group at this place among all groups of the report that this trail is as of, the oldest
    /// first: those since it is known.
    #[must_use]
    pub fn of(&self, place: usize) -> Vec<Moment> {
        self.rows.get(place).map_or_else(Vec::new, |row| self.moments(*row))
    }

    fn moments(&self, row: Row) -> Vec<Moment> {
        let columns = self.columns.iter().filter(|column| column.number >= row.since);
        let moment = |column: &Column| {
            let point = column.points.get(row.slot as usize).copied();
            Moment { at: column.at, point: point.filter(|point| *point != Point::NONE) }
        };
        columns.map(moment).collect()
    }
}

/// The groups of a report with the keys of their streams, in its order.
fn groups(report: &Report) -> impl Iterator<Item = (&Name, &GroupReport)> {
    report.streams.iter().flat_map(|stream| stream.groups.iter().map(move |group| (&stream.key, group)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::examples::{group, report, stream, values};
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

    /// The trail of these reports, ten seconds apart, and the last of them.
    fn trail(reports: Vec<Report>) -> (Trail, Report) {
        let (mut trail, mut previous) = (Trail::default(), None);
        for (at, report) in (0..).zip(reports) {
            trail = trail.after(s(at * 10), &report, previous.as_ref());
            previous = Some(report);
        }
        (trail, previous.unwrap())
    }

    fn shown(trail: &Trail, report: &Report, name: &str) -> Vec<Option<u32>> {
        let place = groups(report).position(|(_, group)| group.name == Name::from(name));
        let moments = place.map_or_else(Vec::new, |place| trail.of(place));
        moments.iter().map(|moment| moment.point.map(|point| point.lag_max)).collect()
    }

    #[test]
    fn each_group_has_its_own_past() {
        let (trail, last) = trail(vec![
            lags(&[("b", 1), ("d", 2)]),
            lags(&[("a", 3), ("b", 4), ("d", 5)]),
            lags(&[("a", 6), ("c", 7), ("d", 8)]),
        ]);
        assert_eq!(shown(&trail, &last, "a"), [Some(3), Some(6)]);
        assert_eq!(shown(&trail, &last, "c"), [Some(7)], "it sits where b sat");
        assert_eq!(shown(&trail, &last, "d"), [Some(2), Some(5), Some(8)]);
        assert_eq!(shown(&trail, &last, "b"), []);
    }

    #[test]
    fn what_was_not_read_is_a_gap() {
        let missing = report(vec![stream("s", vec![GroupReport { values: None, ..group("a", values()) }])]);
        let (trail, last) = trail(vec![lags(&[("a", 1)]), missing, lags(&[("a", 2)])]);
        let trail = trail.after_failure(s(30)).after(s(40), &lags(&[("a", 3)]), Some(&last));
        assert_eq!(shown(&trail, &last, "a"), [Some(1), None, Some(2), None, Some(3)]);
    }

    #[test]
    fn a_trail_is_bounded_in_moments_and_keeps_some_time_between_them() {
        let report = lags(&[("a", 1)]);
        for interval_ms in [500, 2_000, 10_000, 60_000] {
            let (mut trail, mut previous) = (Trail::default(), None);
            for poll in 0..2_000 {
                trail = trail.after(s(0) + Duration::from_millis(interval_ms * poll), &report, previous);
                previous = Some(&report);
            }
            let moments = trail.of(0);
            assert_eq!(moments.len(), COLUMNS, "{interval_ms}");
            assert_eq!(moments[COLUMNS - 1].at, s(0) + Duration::from_millis(interval_ms * 1_999));
            let least = moments.windows(2).rev().skip(1).map(|pair| pair[1].at - pair[0].at).min();
            assert!(least >= Some(SPACING), "{interval_ms}: {least:?}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_begins_anew_from_there() {
        let report = lags(&[("a", 1)]);
        let trail = Trail::default().after(s(100), &report, None).after(s(50), &report, Some(&report));
        assert_eq!(shown(&trail, &report, "a").len(), 1);
    }

    #[test]
    fn ten_thousand_groups_take_less_than_10_mib_whoever_comes_and_goes() {
        let report_of = |poll: usize| {
            let groups = (0..10_000).map(|n| group(format!("{:06}", n + poll * 100).as_str(), values()));
            report(vec![stream("s", groups.collect())])
        };
        let (mut trail, mut previous) = (Trail::default(), None::<Report>);
        for poll in 0..70 {
            let report = report_of(poll);
            trail = trail.after(s(poll as u64 * 10), &report, previous.as_ref());
            previous = Some(report);
        }
        let points: usize = trail.columns.iter().map(|column| column.points.len()).sum();
        let bytes = points * size_of::<Point>() + trail.rows.len() * size_of::<Row>();
        assert_eq!(trail.columns.len(), COLUMNS);
        assert!(bytes < 10 << 20, "{bytes} bytes");
    }
}
