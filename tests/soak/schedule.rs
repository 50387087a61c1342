//! How long, by which seed, and what comes next.

use std::env;
use std::ops::Range;
use std::time::Duration;

use fastrand::Rng;
use redis_stream_core::clock::now;
use tokio::time::{Instant, sleep};

/// The duration in CI.
const DEFAULT: Duration = Duration::from_secs(75);

/// Duration and seed of the faults.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Time in which faults are injected.
    pub(crate) trouble: Duration,
    /// Seed of all random choices.
    pub(crate) seed: u64,
}

impl Plan {
    /// Reads a duration from `STREAMGAUGE_SOAK` and a number from `STREAMGAUGE_SOAK_SEED`.
    pub(crate) fn from_environment() -> Self {
        let named = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let trouble = named("STREAMGAUGE_SOAK").map_or(DEFAULT, |text| {
            humantime::parse_duration(&text)
                .unwrap_or_else(|error| panic!("STREAMGAUGE_SOAK: {text:?} is no duration: {error}"))
        });
        let seed = named("STREAMGAUGE_SOAK_SEED").map_or_else(
            || fastrand::u64(..1_000_000),
            |text| text.parse().unwrap_or_else(|_| panic!("STREAMGAUGE_SOAK_SEED: {text:?} is no number")),
        );
        Self { trouble, seed }
    }
}

impl Plan {
    /// The first third, in which all that is kept for good comes to be, and the rest, which must leave nothing.
    pub(crate) fn parts(self) -> [Self; 2] {
        let warm_up = self.trouble / 3;
        [
            Self { trouble: warm_up, ..self },
            Self { trouble: self.trouble - warm_up, seed: self.seed.wrapping_add(1 << 32) },
        ]
    }
}

/// Deals all kinds of something in an order of chance, then all of them again, until the time is over.
pub(crate) struct Deck<T: 'static> {
    kinds: &'static [T],
    left: Vec<T>,
    until: Instant,
    /// For all else that is left to chance.
    pub(crate) chance: Rng,
}

impl<T: Copy> Deck<T> {
    /// Decks of one plan differ by their number.
    pub(crate) fn new(kinds: &'static [T], plan: Plan, number: u64) -> Self {
        let chance = Rng::with_seed(plan.seed.wrapping_mul(31).wrapping_add(number));
        Self { kinds, left: Vec::new(), until: now() + plan.trouble, chance }
    }

    /// The next, after a pause of so many milliseconds; `None` once the time is over.
    pub(crate) async fn deal(&mut self, pause_ms: Range<u64>) -> Option<T> {
        let pause = Duration::from_millis(self.chance.u64(pause_ms));
        if now() + pause >= self.until {
            return None;
        }
        sleep(pause).await;
        if self.left.is_empty() {
            self.left = self.kinds.to_vec();
            self.chance.shuffle(&mut self.left);
        }
        self.left.pop()
    }
}
