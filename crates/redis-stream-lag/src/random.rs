//! Random values for tests of folds: small numbers, of which many are unknown.

use std::time::Duration;

use fastrand::Rng;

pub(crate) fn maybe<T>(rng: &mut Rng, value: T) -> Option<T> {
    (rng.u8(0..4) > 0).then_some(value)
}

pub(crate) fn count(rng: &mut Rng) -> u64 {
    rng.u64(0..5)
}

pub(crate) fn span(rng: &mut Rng) -> Duration {
    Duration::from_secs(rng.u64(0..4))
}

pub(crate) fn maybe_span(rng: &mut Rng) -> Option<Duration> {
    let span = span(rng);
    maybe(rng, span)
}

pub(crate) fn maybe_count(rng: &mut Rng) -> Option<u64> {
    let count = count(rng);
    maybe(rng, count)
}
