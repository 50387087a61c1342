//! The time until which a stream needs no derivation, because nothing but its ages can change before.

use std::time::Duration;

use crate::compact::Micros;

/// Difference between the times that have passed by two clocks up to which neither was set: a stream is read sooner or later
/// in a poll.
const MAX_DRIFT: Duration = Duration::from_secs(1);

/// A stream that needs no derivation while its readings repeat the last one that was derived.
#[derive(Clone, Copy, Debug)]
pub struct Settled {
    /// The last derivation, by the clocks of the caller and of the node.
    derived_at: (Micros, Micros),
    /// Time from there until it is derived again at the latest, by the same clocks.
    lasts_ms: (u32, u32),
    half_window_ms: u32,
}

impl Settled {
    /// Times are by the clocks of the caller and of the node.
    pub(crate) fn new(
        until: (Duration, Duration),
        derived_at: (Duration, Duration),
        window: Duration,
    ) -> Self {
        // 49 days are far longer than a stream is ever settled.
        let ms = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        let (at, time) = derived_at;
        Self {
            derived_at: (at.into(), time.into()),
            lasts_ms: (ms(until.0.saturating_sub(at)), ms(until.1.saturating_sub(time))),
            half_window_ms: ms(window / 2),
        }
    }

    /// Returns the time of the last derivation, by the clocks of the caller and of the node.
    pub(crate) fn derived_at(&self) -> (Duration, Duration) {
        (self.derived_at.0.get(), self.derived_at.1.get())
    }

    /// Returns true if a reading at this time needs no derivation, provided that it and all readings since the last
    /// derivation repeat the reading that was derived. `confirmed_at` is the time of the last of these readings.
    /// Times are by the clocks of the caller and of the node.
    #[must_use]
    pub fn holds_at(&self, (at, time): (Duration, Duration), confirmed_at: (Duration, Duration)) -> bool {
        // Without readings for as long as that, what held before and holds now may not have held in between.
        let ms = |number: u32| Duration::from_millis(number.into());
        let has_gap = at.saturating_sub(confirmed_at.0) > ms(self.half_window_ms);
        // The node's clock may have been set.
        let (derived_at, derived_time) = self.derived_at();
        let drift = time.saturating_sub(derived_time).abs_diff(at.saturating_sub(derived_at));
        let until = (derived_at + ms(self.lasts_ms.0), derived_time + ms(self.lasts_ms.1));
        drift <= MAX_DRIFT && at < until.0 && (confirmed_at.1..until.1).contains(&time) && !has_gap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_until_its_time_by_either_clock_without_gaps_and_steps() {
        let s = Duration::from_secs;
        let settled = Settled::new((s(100), s(5_000_090)), (s(0), s(5_000_000)), s(120));
        let before = (s(50), s(5_000_050));
        for (case, at, time, holds) in [
            ("ten seconds later", 60, 5_000_060, true),
            ("a poll that reads it later", 60, 5_000_061, true),
            ("after its time by the node's clock", 90, 5_000_090, false),
            ("after its time by the caller's clock", 100, 5_000_089, false),
            ("a clock that was set ahead", 60, 5_000_080, false),
            ("a clock that was set back", 60, 5_000_049, false),
            ("a clock that was set back a little", 60, 5_000_058, false),
        ] {
            assert_eq!(settled.holds_at((s(at), s(time)), before), holds, "{case}");
        }
        let later = Settled::new((s(900), s(5_000_900)), (s(0), s(5_000_000)), s(120));
        assert!(later.holds_at((s(110), s(5_000_110)), before));
        assert!(!later.holds_at((s(111), s(5_000_111)), before), "half a window without a reading");
    }
}
