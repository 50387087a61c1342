//! Finds out whether a stream's values equal those of the report before, apart from ages, so that both reports can
//! share them.
//!
//! An age grows by the time between the readings, but ages that the server reports, or that are measured by the
//! caller's clock, differ from that by a little. So they are compared with the reading from which the shared values
//! were derived: small differences do not add up.

use std::time::Duration;

use crate::group_values::{ButFor, Readings, TOLERANCE};
use crate::report::{ConsumerReport, GroupReport, StreamReport};

/// Returns true if all of two lists correspond.
fn all<T>(before: &[T], now: &[T], is_same: impl Fn(&T, &T) -> bool) -> bool {
    before.len() == now.len() && before.iter().zip(now).all(|(before, now)| is_same(before, now))
}

impl StreamReport {
    /// Returns true if these are the values of the report before but for ages, which have grown.
    pub(crate) fn is_unchanged_since(&self, before: &Self) -> bool {
        self.is_same_but_for(ButFor::Ages, before)
    }

    /// The same where a census may have read the same list of pending entries again.
    pub(crate) fn is_unchanged_but_for_census(&self, before: &Self) -> bool {
        self.is_same_but_for(ButFor::AgesAndCensus, before)
    }

    fn is_same_but_for(&self, but_for: ButFor, before: &Self) -> bool {
        let Self { key, family, values, refused, groups, read_at } = self;
        // The server's clock may have been set back.
        let readings = Readings { before: before.read_at.get(), now: read_at.get(), but_for };
        readings.before <= readings.now
            && (key, family, refused) == (&before.key, &before.family, &before.refused)
            && all(&before.groups, groups, |before, now| now.is_unchanged_since(before, readings))
            && *values == before.values
    }
}

impl GroupReport {
    fn is_unchanged_since(&self, before: &Self, readings: Readings) -> bool {
        let are_values_unchanged = match (&before.values, &self.values) {
            (Some(before), Some(now)) => now.is_unchanged_since(before, readings),
            (before, now) => before == now,
        };
        let are_consumers_unchanged = || match (before.consumers(), self.consumers()) {
            (Some(before), Some(now)) => {
                std::ptr::eq(before, now)
                    || all(before, now, |before, now| now.is_unchanged_since(before, readings.now))
            }
            (before, now) => before == now,
        };
        (&self.name, self.fold()) == (&before.name, before.fold())
            && are_values_unchanged
            && are_consumers_unchanged()
    }
}

impl ConsumerReport {
    /// Returns true if these are the values of the report before, with ages as of the reading at `now`.
    fn is_unchanged_since(&self, before: &Self, now: Duration) -> bool {
        let (idle, inactive) = (self.idle(now), self.inactive(now));
        self.name == before.name && before.shows(self.messages_pending(), (idle, inactive), now)
    }

    /// Returns true if its values are those of a reading at `now`: the pending entries and the ages `idle` and `inactive`.
    pub(crate) fn shows(
        &self,
        messages_pending: u64,
        (idle, inactive): (Duration, Option<Duration>),
        now: Duration,
    ) -> bool {
        let is_same = |one: Duration, other: Duration| one.abs_diff(other) <= TOLERANCE;
        let is_same_delivery = match (self.inactive(now), inactive) {
            (Some(before), Some(now)) => is_same(before, now),
            (before, now) => before == now,
        };
        self.messages_pending() == messages_pending && is_same(self.idle(now), idle) && is_same_delivery
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::report::Age;
    use crate::report::{
        EntryRate, GroupStatus, GroupValues, HistoryCoverage, Lag, OldestPending, PendingCensus,
        PendingCensusReading, ReportedStream, Status, StreamValues,
    };
    use redis_stream_core::id::StreamId;
    use redis_stream_core::name::Name;

    const READ_AT: Duration = Duration::from_secs(1_700_000_000);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn age(seconds: u64) -> Option<Age> {
        Some(Age::of(s(seconds)))
    }

    fn census_of(ended: Duration) -> Arc<PendingCensus> {
        Arc::new(PendingCensus { ended: ended.into(), ..PendingCensus::default() })
    }

    /// The values of a group that are `time` older.
    fn values(time: u64) -> GroupValues {
        let coverage = HistoryCoverage::Partial { remaining: Some(s(60 - time).into()) };
        let (id, consumer) = (StreamId::new(1_699_999_960_000, 0), Some(Name::from("c")));
        GroupValues {
            lag: Lag::Exact(5),
            lag_seconds: age(10 + time),
            last_delivered_id: StreamId::new(1_699_999_980_000, 0),
            last_delivery_age: age(30 + time),
            oldest_pending: Some(OldestPending::Entry {
                id,
                consumer,
                idle: Some(s(50 + time).into()),
                deliveries: 1,
            }),
            pending_census: Some(PendingCensusReading {
                census: census_of(READ_AT - s(70)),
                unchanged_until: None,
            }),
            added_rate: Some(EntryRate::new(0, s(30 + time))),
            status: GroupStatus { coverage, ..GroupStatus::default() },
            ..GroupValues::default()
        }
    }

    fn stream(time: u64, values: GroupValues, idle: u64) -> StreamReport {
        let consumer = ConsumerReport::new(Name::from("c"), 1, s(idle), None, READ_AT + s(time));
        let group = GroupReport::new(Name::from("g"), Some(values)).with_consumers(Some(vec![consumer]));
        let groups = vec![group];
        let report = StreamReport::new(Name::from("s"), Some(StreamValues::default()), groups);
        StreamReport { read_at: (READ_AT + s(time)).into(), ..report }
    }

    #[test]
    fn ages_grow_and_all_else_stays() {
        let before = ReportedStream::from(stream(0, values(0), 3));
        let shown = ReportedStream::or_unchanged(stream(7, values(7), 10), Some(&before));
        assert!(shown.shares_values_with(&before));
        let view = shown.view(&shown.groups[0]).unwrap();
        let grown = GroupValues { added_rate: values(0).added_rate, ..values(7) };
        assert_eq!(view.to_values(), grown);
        assert_eq!(shown.consumers(&shown.groups[0]).unwrap().next().unwrap().idle(), s(10));
        let caught_up = |time| GroupValues { lag: Lag::Exact(0), lag_seconds: age(0), ..values(time) };
        let before = ReportedStream::from(stream(0, caught_up(0), 3));
        let shown = ReportedStream::or_unchanged(stream(7, caught_up(7), 10), Some(&before));
        assert!(shown.shares_values_with(&before));
        assert_eq!(shown.view(&shown.groups[0]).unwrap().lag_seconds(), Some(Duration::ZERO));
    }

    #[test]
    fn a_list_of_pending_entries_that_does_not_change_is_known_until_now() {
        let read = |time: u64| {
            let unchanged_until = Some((READ_AT + s(time)).into());
            let census = PendingCensusReading { census: census_of(READ_AT), unchanged_until };
            stream(time, GroupValues { pending_census: Some(census), ..values(time) }, 3 + time)
        };
        let before = ReportedStream::from(read(0));
        let shown = ReportedStream::or_unchanged(read(7), Some(&before));
        assert!(shown.shares_values_with(&before));
        let census = shown.view(&shown.groups[0]).unwrap().pending_census().unwrap();
        assert_eq!((census.age, census.unchanged_until), (Duration::ZERO, Some(READ_AT + s(7))));
        // From here on it is not known to be unchanged.
        let mut later = read(7);
        let shown = later.groups[0].values.as_mut().unwrap().pending_census.as_mut().unwrap();
        shown.unchanged_until = Some(READ_AT.into());
        assert!(!later.is_unchanged_since(&before));
    }

    #[test]
    fn values_that_differ_in_more_than_their_ages_are_not_shared() {
        type Change = fn(&mut GroupValues);
        let changes: [(&str, Change); 14] = [
            ("lag", |values| values.lag = Lag::Exact(6)),
            ("an age that stood still", |values| values.lag_seconds = age(10)),
            ("an ID that is no time", |values| values.last_delivered_id = StreamId::new(7, 0)),
            ("a delivery", |values| values.last_delivery_age = age(0)),
            ("the position", |values| values.last_delivered_id = StreamId::new(1, 1)),
            ("pending", |values| values.messages_pending += 1),
            ("no pending entry", |values| values.oldest_pending = Some(OldestPending::Nothing)),
            ("another delivery of it", |values| {
                let Some(OldestPending::Entry { deliveries, .. }) = &mut values.oldest_pending else {
                    return;
                };
                *deliveries += 1;
            }),
            ("a claim", |values| {
                let Some(OldestPending::Entry { idle, .. }) = &mut values.oldest_pending else { return };
                *idle = Some(s(0).into());
            }),
            ("a census", |values| values.pending_census.as_mut().unwrap().census = census_of(READ_AT)),
            ("a loss", |values| values.entries_lost = Some(1.into())),
            ("a rate", |values| values.added_rate = Some(EntryRate::new(1, s(30)))),
            ("a condition", |values| values.status.conditions = [Status::Stuck].into_iter().collect()),
            ("enough history", |values| values.status.coverage = HistoryCoverage::Complete),
        ];
        let before = stream(0, values(0), 3);
        assert!(stream(7, values(7), 10).is_unchanged_since(&before));
        for (what, change) in changes {
            let mut changed = values(7);
            change(&mut changed);
            assert!(!stream(7, changed, 10).is_unchanged_since(&before), "{what}");
        }
        assert!(!stream(7, values(7), 9).is_unchanged_since(&before), "a consumer that asked");
        let later = stream(7, values(7), 10);
        assert!(!before.is_unchanged_since(&later), "the clock was set back");
        for changed in [
            StreamReport { refused: true, ..later.clone() },
            StreamReport { values: None, ..later.clone() },
            StreamReport { groups: Box::default(), ..later.clone() },
            StreamReport { key: Name::from("other"), ..later },
        ] {
            assert!(!changed.is_unchanged_since(&before), "{changed:?}");
        }
    }
}
