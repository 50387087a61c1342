//! The time for which a stream needs no derivation.

use std::time::Duration;

/// A stream that needs no derivation while its readings repeat the last one that was derived.
#[derive(Clone, Copy, Debug)]
pub struct Settled {
    /// Time at which it is derived again at the latest, by the clocks of the caller and of the node.
    pub(crate) until: (Duration, Duration),
    /// The last derivation, by the same clocks.
    pub(crate) derived_at: (Duration, Duration),
    pub(crate) window: Duration,
}

impl Settled {
    /// Returns true if a reading at `now` needs no derivation, if it and all since the last derivation repeat the reading
    /// that was derived. `confirmed_at` is the last of them. Times are by the clocks of the caller and of the node.
    #[must_use]
    pub fn holds_at(&self, (at, time): (Duration, Duration), confirmed_at: (Duration, Duration)) -> bool {
        // Without readings for as long as that, what held before and holds now may not have held in between.
        let has_gap = at.saturating_sub(confirmed_at.0) > self.window / 2;
        at < self.until.0 && (confirmed_at.1..self.until.1).contains(&time) && !has_gap
    }
}
