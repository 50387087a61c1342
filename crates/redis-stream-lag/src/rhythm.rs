//! Learns the longest regular pause of a group: the time between two deliveries while entries wait.
//!
//! A batch job that reads everything every half hour is healthy, although entries wait and no consumer is active most
//! of the time. A pause is learned only if the group catches up after it, so an outage that leaves a backlog does not
//! count.

use std::num::NonZeroU32;
use std::time::Duration;

use redis_stream_core::id::StreamId;

/// Length of a period. A pause is remembered in its period and in the next, so for three to six hours: a job that runs
/// every hour is known over several runs, and an outage is forgotten within the day.
const PERIOD: Duration = Duration::from_secs(3 * 60 * 60);

/// The longest pauses of two periods. Bounded: a few numbers, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rhythm {
    /// Start of the current period, by the caller's clock; negative if it was before the clock's origin.
    period_began_ms: i64,
    current_ms: u32,
    previous_ms: u32,
    ended: Option<EndedPause>,
}

/// A pause after which the group has not caught up yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct EndedPause {
    pause_ms: NonZeroU32,
    /// ID of the last entry in the pause.
    newest: StreamId,
}

impl Rhythm {
    /// Returns a rhythm with a pause that was learned before, and the time until it is forgotten.
    pub(super) fn known(pause: Duration, remembered_for: Duration, now: Duration) -> Self {
        let (pause, remembered_for) = (pause.min(PERIOD), remembered_for.min(2 * PERIOD));
        Self {
            period_began_ms: millis(now) + millis(remembered_for) - millis(2 * PERIOD),
            current_ms: u32::try_from(pause.as_millis()).unwrap_or(u32::MAX),
            ..Self::default()
        }
    }

    /// Returns the longest pause of the last hours and the time until it is forgotten; `None` if there was none.
    pub(super) fn learned(&self, now: Duration) -> Option<(Duration, Duration)> {
        let (current_ms, previous_ms) = self.periods(now);
        let periods = match self.age(now) {
            age if age < PERIOD && previous_ms > current_ms => 1,
            _ => 2,
        };
        let remembered_for = (periods * PERIOD).saturating_sub(self.age(now));
        Some((self.longest_pause(now), remembered_for)).filter(|(pause, _)| !pause.is_zero())
    }

    /// Notes that a pause was ended by a delivery. `newest` is the last entry that waited meanwhile. Of several pauses before the
    /// group has caught up, the longest counts.
    pub(super) fn note_pause(&mut self, pause: Duration, newest: StreamId) {
        let before = self.ended.map(|ended| ended.pause_ms);
        let pause_ms = NonZeroU32::new(u32::try_from(pause.as_millis()).unwrap_or(u32::MAX));
        self.ended = pause_ms.max(before).map(|pause_ms| EndedPause { pause_ms, newest });
    }

    /// Learns the last pause if the group has caught up since.
    pub(super) fn note_position(&mut self, position: StreamId, now: Duration) {
        if let Some(ended) = self.ended.take_if(|ended| position >= ended.newest) {
            self.learn(Duration::from_millis(u64::from(ended.pause_ms.get())), now);
        }
    }

    /// Forgets a pause after which the group has not caught up.
    pub(super) fn interrupt(&mut self) {
        self.ended = None;
    }

    /// Returns the longest pause of the last hours; zero if there was none.
    pub(super) fn longest_pause(&self, now: Duration) -> Duration {
        let (current_ms, previous_ms) = self.periods(now);
        Duration::from_millis(u64::from(current_ms.max(previous_ms)))
    }

    /// A pause of more than a period would be forgotten before the next one ends, so it is not learned.
    fn learn(&mut self, pause: Duration, now: Duration) {
        if pause > PERIOD {
            return;
        }
        (self.current_ms, self.previous_ms) = self.periods(now);
        match self.age(now) {
            age if age < PERIOD => {}
            age if age < 2 * PERIOD => self.period_began_ms += millis(PERIOD),
            _ => self.period_began_ms = millis(now),
        }
        self.current_ms = self.current_ms.max(u32::try_from(pause.as_millis()).unwrap_or(u32::MAX));
    }

    /// Returns the longest pauses of the current and of the previous period.
    fn periods(&self, now: Duration) -> (u32, u32) {
        match self.age(now) {
            age if age < PERIOD => (self.current_ms, self.previous_ms),
            age if age < 2 * PERIOD => (0, self.current_ms),
            _ => (0, 0),
        }
    }

    fn age(&self, now: Duration) -> Duration {
        Duration::from_millis(u64::try_from(millis(now) - self.period_began_ms).unwrap_or(0))
    }
}

fn millis(time: Duration) -> i64 {
    // Far beyond any time, and small enough to add.
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3_600);

    fn id(ms: u64) -> StreamId {
        StreamId::new(ms, 0)
    }

    #[test]
    fn a_pause_counts_once_the_group_has_caught_up() {
        let mut rhythm = Rhythm::default();
        rhythm.note_pause(5 * MINUTE, id(100));
        rhythm.note_position(id(99), HOUR);
        assert_eq!(rhythm.longest_pause(HOUR), Duration::ZERO, "the last entry is not delivered yet");
        rhythm.note_pause(2 * MINUTE, id(200));
        rhythm.note_position(id(150), HOUR);
        assert_eq!(rhythm.longest_pause(HOUR), Duration::ZERO, "it paused again before");
        rhythm.note_position(id(200), HOUR);
        assert_eq!(rhythm.longest_pause(HOUR), 5 * MINUTE);
        rhythm.note_pause(9 * MINUTE, id(300));
        rhythm.interrupt();
        rhythm.note_position(id(300), HOUR);
        assert_eq!(rhythm.longest_pause(HOUR), 5 * MINUTE, "polls were missed meanwhile");
    }

    #[test]
    fn the_longest_pause_of_the_last_three_to_six_hours_counts() {
        let mut rhythm = Rhythm::default();
        for (at, pause, expected) in [
            (HOUR, 5 * MINUTE, 5 * MINUTE),
            (HOUR + MINUTE, 3 * MINUTE, 5 * MINUTE),
            (2 * HOUR, HOUR, HOUR),
            (3 * HOUR, 5 * MINUTE, HOUR),
            (5 * HOUR, 5 * MINUTE, HOUR),
            (6 * HOUR, 4 * MINUTE, 5 * MINUTE),
            (20 * HOUR, MINUTE, MINUTE),
            (20 * HOUR, 4 * HOUR, MINUTE),
        ] {
            rhythm.note_pause(pause, id(1));
            rhythm.note_position(id(1), at);
            assert_eq!(rhythm.longest_pause(at), expected, "{pause:?} at {at:?}");
        }
        assert_eq!(rhythm.longest_pause(22 * HOUR), MINUTE);
        assert_eq!(rhythm.longest_pause(26 * HOUR), Duration::ZERO);
    }

    #[test]
    fn a_pause_that_was_learned_before_is_forgotten_when_it_would_have_been() {
        for (remembered_for, now) in
            [(6 * HOUR, Duration::ZERO), (2 * HOUR, Duration::ZERO), (HOUR, 100 * HOUR)]
        {
            let rhythm = Rhythm::known(30 * MINUTE, remembered_for, now);
            assert_eq!(rhythm.learned(now), Some((30 * MINUTE, remembered_for)));
            assert_eq!(rhythm.longest_pause(now + remembered_for - MINUTE), 30 * MINUTE);
            assert_eq!(rhythm.learned(now + remembered_for), None);
        }
        let mut rhythm = Rhythm::known(30 * MINUTE, 2 * HOUR, Duration::ZERO);
        rhythm.note_pause(5 * MINUTE, id(1));
        rhythm.note_position(id(1), HOUR);
        assert_eq!(rhythm.learned(HOUR), Some((30 * MINUTE, HOUR)));
        assert_eq!(rhythm.longest_pause(3 * HOUR), 5 * MINUTE);
        assert_eq!(Rhythm::default().learned(HOUR), None);
    }
}
