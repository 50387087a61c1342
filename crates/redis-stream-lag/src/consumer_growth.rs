//! The growth of the number of consumers of a group over a day: a program that chooses a new consumer name at each
//! start and deletes none makes it grow.

use std::time::Duration;

use crate::compact::Micros;

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Time without a reading after which nothing is known of the time before.
const MAX_GAP: Duration = Duration::from_secs(6 * 60 * 60);

/// The number of consumers of a group over the last day, once an hour. Only changes are kept, so it is a few numbers for
/// most groups and 26 pairs at most. Times are by the server's clock, since the Unix epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerCounts {
    /// `None` before the first one was noted.
    noted_at: Micros,
    /// The oldest first. All but the first are younger than a day. Not a `Vec`, since it changes once an hour at most.
    changes: Box<[ConsumerCount]>,
}

/// The number of consumers of a group that has had it for the last day, or for as long as it was observed. Times are in
/// whole seconds, as in a state file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SteadyCount {
    /// 0 before the first reading.
    noted_at_s: u32,
    since_s: u32,
    consumers: u32,
}

impl SteadyCount {
    /// Returns the count; `None` if it has changed.
    pub(crate) fn of(counts: &ConsumerCounts) -> Option<Self> {
        let seconds = |time: Micros| u32::try_from(time.get().as_secs()).unwrap_or(u32::MAX);
        match *counts.changes {
            [] => Some(Self::default()),
            [ConsumerCount { since, consumers }] => Some(Self {
                noted_at_s: seconds(counts.noted_at),
                since_s: seconds(since),
                consumers: u32::try_from(consumers).unwrap_or(u32::MAX),
            }),
            _ => None,
        }
    }

    fn noted_at(self) -> Duration {
        Duration::from_secs(self.noted_at_s.into())
    }

    fn since(self) -> Duration {
        Duration::from_secs(self.since_s.into())
    }

    /// Returns the same as a list.
    pub(crate) fn counts(self) -> ConsumerCounts {
        let count = (self.noted_at_s > 0).then_some((self.since(), self.consumers.into()));
        ConsumerCounts::known(self.noted_at(), count)
    }

    /// Returns true if the last reading that was noted is not an hour old yet, so that no other is to be noted.
    pub(crate) fn is_recent(self, now: Duration) -> bool {
        self.noted_at_s > 0 && is_within(HOUR, self.noted_at(), now)
    }

    /// Returns how many more consumers there are now than a day ago; `None` if the group was not observed for so long.
    pub(crate) fn growth(self, now: Duration, consumers: u64) -> Option<u64> {
        let is_known = self.noted_at_s > 0 && now.saturating_sub(self.since()) >= DAY;
        is_known.then(|| consumers.saturating_sub(self.consumers.into()))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ConsumerCount {
    since: Micros,
    consumers: u64,
}

impl ConsumerCount {
    /// Returns true if the number was counted a day ago or earlier.
    fn is_old(&self, now: Duration) -> bool {
        self.since.until(now) >= DAY
    }
}

impl ConsumerCounts {
    /// Returns what was known before: the time of the last reading that was noted, and numbers of consumers with the times
    /// since which they were found, the oldest first.
    pub fn known(noted_at: Duration, changes: impl IntoIterator<Item = (Duration, u64)>) -> Self {
        let count = |(since, consumers)| ConsumerCount { since: Micros::from(since), consumers };
        Self { noted_at: noted_at.into(), changes: changes.into_iter().map(count).collect() }
    }

    /// Returns the time of the last reading that was noted; zero if none was.
    #[must_use]
    pub fn noted_at(&self) -> Duration {
        self.noted_at.get()
    }

    /// Returns numbers of consumers and the times since which they were found, the oldest first. All but the first are
    /// younger than a day.
    pub fn changes(&self) -> impl Iterator<Item = (Duration, u64)> {
        self.changes.iter().map(|count| (count.since.get(), count.consumers))
    }

    /// Returns true if the last reading that was noted is not an hour old yet, so that no other is to be noted.
    pub(crate) fn is_recent(&self, now: Duration) -> bool {
        !self.changes.is_empty() && is_within(HOUR, self.noted_at(), now)
    }

    /// Notes a reading, unless there is a [recent](Self::is_recent) one.
    pub(crate) fn note(&mut self, now: Duration, consumers: u64) {
        if self.is_recent(now) {
            return;
        }
        let noted_at = self.noted_at();
        let is_continued = noted_at <= now && now - noted_at <= MAX_GAP;
        self.noted_at = now.into();
        let known = if is_continued { &*self.changes } else { &[] };
        let old = known.iter().filter(|count| count.is_old(now)).count();
        let known = &known[old.saturating_sub(1)..];
        let is_new = known.last().is_none_or(|last| last.consumers != consumers);
        if is_new || known.len() < self.changes.len() {
            let new = is_new.then_some(ConsumerCount { since: Micros::from(now), consumers });
            self.changes = known.iter().copied().chain(new).collect();
        }
    }

    /// Returns how many more consumers there are now than a day ago; `None` if the group was not observed for so long.
    pub(crate) fn growth(&self, now: Duration, consumers: u64) -> Option<u64> {
        let before = self.changes.iter().rev().find(|count| count.is_old(now))?;
        Some(consumers.saturating_sub(before.consumers))
    }

    /// Returns true if the number has changed within the day.
    pub(crate) fn has_changed(&self) -> bool {
        self.changes.len() > 1
    }
}

/// Returns true if less than `time` has passed since `at`, by a clock that may have been set back.
fn is_within(time: Duration, at: Duration, now: Duration) -> bool {
    now.checked_sub(at).is_some_and(|age| age < time)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1_700_000_000);

    /// Notes a reading each ten minutes from an hour to another, with the consumers by the hour.
    fn observe(counts: &mut ConsumerCounts, hours: std::ops::Range<u32>, consumers: impl Fn(u32) -> u64) {
        for ten_minutes in hours.start * 6..hours.end * 6 {
            counts.note(START + HOUR / 6 * ten_minutes, consumers(ten_minutes / 6));
        }
    }

    #[test]
    fn it_is_known_after_a_day_and_follows_the_day() {
        let mut counts = ConsumerCounts::default();
        observe(&mut counts, 0..24, |hour| 10 + u64::from(hour));
        assert_eq!(counts.growth(START + HOUR * 24 - HOUR / 6, 33), None);
        observe(&mut counts, 24..25, |_| 34);
        assert_eq!(counts.growth(START + HOUR * 24, 34), Some(24));
        observe(&mut counts, 25..100, |hour| 10 + u64::from(hour));
        assert_eq!(counts.growth(START + HOUR * 99, 109), Some(24));
        assert!(counts.changes.len() <= 26, "{}", counts.changes.len());
        // None is added any more.
        observe(&mut counts, 100..130, |_| 109);
        assert_eq!(counts.growth(START + HOUR * 130, 109), Some(0));
        assert_eq!((counts.changes.len(), counts.has_changed()), (1, false));
        assert_eq!(counts.growth(START + HOUR * 130, 20), Some(0), "fewer are no growth");
    }

    #[test]
    fn a_long_gap_and_a_clock_that_is_set_back_begin_it_again() {
        for (later, is_known) in [(HOUR * 29, true), (HOUR * 31, false), (HOUR * 23, false)] {
            let mut counts = ConsumerCounts::default();
            observe(&mut counts, 0..25, |_| 5);
            counts.note(START + later, 7);
            assert_eq!(counts.growth(START + later, 7), is_known.then_some(2), "{later:?}");
        }
    }
}
