//! The growth of the number of consumers of a group over a day: a program that makes a new name at each start leaks consumers.

use std::time::Duration;

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Time without a reading after which nothing is known of the time before.
const MAX_GAP: Duration = Duration::from_secs(6 * 60 * 60);

/// The number of consumers of a group over the last day, once an hour. Only changes are kept, so it is a few numbers for
/// most groups and 26 pairs at most. Times are by the server's clock, since the Unix epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerCounts {
    /// Time of the last reading that was noted.
    pub noted_at: Duration,
    /// Numbers of consumers and the times since which they were found, the oldest first. All but the first are younger
    /// than a day.
    pub changes: Vec<(Duration, u64)>,
}

impl ConsumerCounts {
    /// Notes a reading, if the last one that was noted is an hour old.
    pub(crate) fn note(&mut self, now: Duration, consumers: u64) {
        let is_continued = self.noted_at <= now && now - self.noted_at <= MAX_GAP;
        if !is_continued {
            self.changes.clear();
        }
        if !self.changes.is_empty() && now - self.noted_at < HOUR {
            return;
        }
        self.noted_at = now;
        if self.changes.last().is_none_or(|(_, last)| *last != consumers) {
            self.changes.push((now, consumers));
        }
        let old = self.changes.iter().filter(|(since, _)| now.saturating_sub(*since) >= DAY).count();
        self.changes.drain(..old.saturating_sub(1));
    }

    /// Returns how many more consumers there are now than a day ago; `None` if the group was not observed for so long.
    pub(crate) fn growth(&self, now: Duration, consumers: u64) -> Option<u64> {
        let is_old = |(since, _): &&(Duration, u64)| now.saturating_sub(*since) >= DAY;
        let (_, before) = self.changes.iter().rev().find(is_old)?;
        Some(consumers.saturating_sub(*before))
    }

    /// Returns true if the number has changed within the day.
    pub(crate) fn has_changed(&self) -> bool {
        self.changes.len() > 1
    }
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
