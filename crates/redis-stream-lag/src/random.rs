//! Random values for tests of folds: small numbers, of which many are unknown.

use std::time::Duration;

use fastrand::Rng;

use redis_stream_core::id::StreamId;

/// Time of the reading that they are of, since the Unix epoch.
pub(crate) const READ_AT: Duration = Duration::from_secs(1_700_000_000);

/// Returns an ID some seconds before the reading, or one that is no time.
pub(crate) fn id(rng: &mut Rng) -> StreamId {
    let ms = maybe_span(rng).map(|span| crate::compact::millis(READ_AT - span));
    StreamId::new(ms.unwrap_or_else(|| count(rng)), 0)
}

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
