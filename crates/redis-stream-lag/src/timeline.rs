//! A time series of values that needs little memory while they repeat: most groups of a large server have the same
//! values for a whole window.

use std::time::Duration;

use crate::compact::millis;

/// Values at up to `GAPS` + 1 points in time, the oldest first, to the millisecond. A point takes four bytes, and points in
/// a row that have the same value share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Timeline<T, const GAPS: usize>(Option<Box<Points<T, GAPS>>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Points<T, const GAPS: usize> {
    /// Time of the first point.
    first_ms: u64,
    /// Time from each point to the next. A longer one than 49 days is cut short.
    gaps_ms: [u32; GAPS],
    /// Number of gaps that are used.
    gaps: u8,
    /// A bit for each gap, the lowest for the first: set if the point after it has another value than the one before.
    changes: u16,
    first: T,
    /// The value after each change.
    later: Option<Box<LaterValues<T>>>,
}

/// A list behind a single pointer, since most timelines have none.
#[derive(Clone, Debug, PartialEq, Eq)]
struct LaterValues<T>(Vec<T>);

impl<T, const GAPS: usize> Default for Timeline<T, GAPS> {
    fn default() -> Self {
        const { assert!(GAPS > 0 && GAPS <= u16::BITS as usize) };
        Self(None)
    }
}

impl<T: Copy + PartialEq, const GAPS: usize> Timeline<T, GAPS> {
    /// Number of values by which the space for them grows.
    const STEP: usize = 4;

    /// Adds a point, which must be later than the others. Of a full timeline the first point goes.
    pub(crate) fn push(&mut self, at: Duration, value: T) {
        let at_ms = millis(at);
        let Some(points) = &mut self.0 else {
            let (gaps_ms, gaps, changes) = ([0; GAPS], 0, 0);
            let points = Points { first_ms: at_ms, gaps_ms, gaps, changes, first: value, later: None };
            self.0 = Some(Box::new(points));
            return;
        };
        if usize::from(points.gaps) == GAPS {
            points.drop_first();
        }
        let gap = usize::from(points.gaps);
        points.gaps_ms[gap] = u32::try_from(at_ms.saturating_sub(points.last_ms())).unwrap_or(u32::MAX);
        points.gaps += 1;
        if value != points.last() {
            points.changes |= 1 << gap;
            let LaterValues(later) =
                &mut **points.later.get_or_insert_with(|| Box::new(LaterValues(Vec::new())));
            if later.len() == later.capacity() {
                later.reserve_exact(Self::STEP.min(GAPS - later.len()));
            }
            later.push(value);
        }
    }

    /// Drops the first points.
    pub(crate) fn drop_first(&mut self, points: usize) {
        for _ in 0..points {
            match &mut self.0 {
                Some(points) if points.gaps > 0 => points.drop_first(),
                _ => return self.clear(),
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }

    /// Makes all points later by `time`.
    pub(crate) fn shift(&mut self, time: Duration) {
        if let Some(points) = &mut self.0 {
            points.first_ms = points.first_ms.saturating_add(millis(time));
        }
    }

    /// Returns true if all points have the same value.
    pub(crate) fn is_constant(&self) -> bool {
        self.0.as_ref().is_none_or(|points| points.changes == 0)
    }

    /// Returns the number of points.
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |points| usize::from(points.gaps) + 1)
    }

    /// Returns the first point.
    pub(crate) fn first(&self) -> Option<(Duration, T)> {
        self.0.as_ref().map(|points| (Duration::from_millis(points.first_ms), points.first))
    }

    /// Returns the last point.
    pub(crate) fn last(&self) -> Option<(Duration, T)> {
        self.0.as_ref().map(|points| (Duration::from_millis(points.last_ms()), points.last()))
    }

    /// Returns the time of each point.
    pub(crate) fn times(&self) -> impl Iterator<Item = Duration> {
        let all = self.0.iter().flat_map(|points| {
            let later = points.used_gaps().iter().scan(points.first_ms, |at_ms, gap| {
                *at_ms += u64::from(*gap);
                Some(*at_ms)
            });
            std::iter::once(points.first_ms).chain(later)
        });
        all.map(Duration::from_millis)
    }

    /// Returns the value of each point.
    pub(crate) fn values(&self) -> impl Iterator<Item = T> {
        self.0.iter().flat_map(|points| {
            let mut later = points.later_values().iter();
            let mut value = points.first;
            let others = (0..points.gaps).map(move |gap| {
                if points.changes & (1 << gap) != 0 {
                    value = *later.next().expect("there is a value for each change");
                }
                value
            });
            std::iter::once(points.first).chain(others)
        })
    }
}

impl<T: Copy, const GAPS: usize> Points<T, GAPS> {
    fn used_gaps(&self) -> &[u32] {
        &self.gaps_ms[..usize::from(self.gaps)]
    }

    fn later_values(&self) -> &[T] {
        self.later.as_ref().map_or(&[], |later| &later.0)
    }

    fn last_ms(&self) -> u64 {
        self.used_gaps().iter().fold(self.first_ms, |at_ms, gap| at_ms + u64::from(*gap))
    }

    fn last(&self) -> T {
        self.later_values().last().copied().unwrap_or(self.first)
    }

    /// Drops the first point. There must be another.
    fn drop_first(&mut self) {
        self.first_ms += u64::from(self.gaps_ms[0]);
        self.gaps_ms.rotate_left(1);
        self.gaps -= 1;
        if self.changes & 1 != 0 {
            let LaterValues(later) = &mut **self.later.as_mut().expect("there is a value for each change");
            self.first = later.remove(0);
            if later.is_empty() {
                self.later = None;
            }
        }
        self.changes >>= 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any};
    use proptest::prop_oneof;

    use super::*;

    const GAPS: usize = 5;

    #[derive(Clone, Copy, Debug)]
    enum Change {
        Push { after_ms: u64, value: u8 },
        DropFirst(usize),
        Shift(u64),
        Clear,
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            12 => (0_u64..90_000, 0_u8..3).prop_map(|(after_ms, value)| Change::Push { after_ms, value }),
            3 => (0_usize..3).prop_map(Change::DropFirst),
            1 => any::<u32>().prop_map(|ms| Change::Shift(ms.into())),
            1 => Just(Change::Clear),
        ]
    }

    proptest::proptest! {
        #[test]
        fn it_has_what_a_list_of_all_points_has(changes in proptest::collection::vec(change(), 0..60)) {
            let (mut timeline, mut list) = (Timeline::<u8, GAPS>::default(), Vec::<(Duration, u8)>::new());
            let mut now = Duration::from_secs(7);
            for change in changes {
                match change {
                    Change::Push { after_ms, value } => {
                        now += Duration::from_millis(after_ms);
                        timeline.push(now, value);
                        list.push((now, value));
                        list.drain(..list.len().saturating_sub(GAPS + 1));
                    }
                    Change::DropFirst(points) => {
                        timeline.drop_first(points);
                        list.drain(..points.min(list.len()));
                    }
                    Change::Shift(ms) => {
                        let time = Duration::from_millis(ms);
                        timeline.shift(time);
                        list.iter_mut().for_each(|(at, _)| *at += time);
                        now += time;
                    }
                    Change::Clear => {
                        timeline.clear();
                        list.clear();
                    }
                }
                let points: Vec<_> = timeline.times().zip(timeline.values()).collect();
                proptest::prop_assert_eq!(&points, &list);
                proptest::prop_assert_eq!(timeline.values().count(), list.len());
                proptest::prop_assert_eq!(timeline.len(), list.len());
                proptest::prop_assert_eq!(timeline.first(), list.first().copied());
                proptest::prop_assert_eq!(timeline.last(), list.last().copied());
                let is_constant = list.windows(2).all(|pair| pair[0].1 == pair[1].1);
                proptest::prop_assert_eq!(timeline.is_constant(), is_constant);
            }
        }
    }

    #[test]
    fn a_value_that_repeats_takes_one_allocation_and_an_empty_timeline_none() {
        let mut timeline = Timeline::<[u64; 6], 13>::default();
        assert_eq!(size_of_val(&timeline), 8);
        (0..100).for_each(|n| timeline.push(Duration::from_secs(n), [5; 6]));
        let points = timeline.0.as_deref().unwrap();
        assert_eq!((timeline.len(), points.later.is_some(), size_of_val(points)), (14, false, 120));
        timeline.push(Duration::from_secs(200), [6; 6]);
        assert!(!timeline.is_constant());
        timeline.drop_first(13);
        assert!(timeline.is_constant() && timeline.0.as_deref().unwrap().later.is_none());
        timeline.drop_first(1);
        assert_eq!(timeline, Timeline::default());
    }

    #[test]
    fn a_gap_of_more_than_49_days_is_cut_short() {
        let mut timeline = Timeline::<u8, 2>::default();
        let day = Duration::from_secs(86_400);
        for days in [0, 49, 200] {
            timeline.push(day * days, 1);
        }
        let times: Vec<_> = timeline.times().collect();
        assert_eq!(times, [Duration::ZERO, day * 49, day * 49 + Duration::from_millis(u32::MAX.into())]);
    }
}
