//! From an ID to a time, where the ID is one.
//!
//! IDs that the server makes (`*`) begin with its clock in milliseconds. IDs given by the producer may begin
//! with anything: a counter, nanoseconds, a year far ahead. Those have no age, and saying one would be a lie.

use std::time::Duration;

use redis_stream_core::id::StreamId;

/// 2010-01-01: before it there was no Redis worth the name, and no stream at all.
const EARLIEST: Duration = Duration::from_secs(1_262_304_000);
/// How far ahead of the node's clock an ID may be and still be taken for a time stamp.
const MAX_AHEAD: Duration = Duration::from_secs(86_400);

/// The time that an ID stands for, since the Unix epoch; `None` if it is no time stamp.
#[must_use]
pub fn timestamp(id: StreamId, now: Duration) -> Option<Duration> {
    let time = Duration::from_millis(id.ms);
    (EARLIEST..=now.saturating_add(MAX_AHEAD)).contains(&time).then_some(time)
}

/// The age of an ID; zero if it is ahead of `now`, `None` if it is no time stamp.
#[must_use]
pub fn age(id: StreamId, now: Duration) -> Option<Duration> {
    timestamp(id, now).map(|time| now.saturating_sub(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_millis(1_700_000_000_500);

    #[test]
    fn ids_that_are_time_stamps_have_an_age_and_others_have_none() {
        let day_ms = 86_400_000;
        for (ms, expected) in [
            (1_700_000_000_000, Some(Duration::from_millis(500))),
            (1_700_000_000_500, Some(Duration::ZERO)),
            (1_700_000_060_000, Some(Duration::ZERO)),
            (1_700_000_000_500 + day_ms, Some(Duration::ZERO)),
            (1_700_000_000_501 + day_ms, None),
            (1_262_304_000_000, Some(NOW - EARLIEST)),
            (1_262_303_999_999, None),
            (0, None),
            (1, None),
            (1_700_000_000, None),
            (1_700_000_000_000_000, None),
            (1_700_000_000_000_000_000, None),
            (u64::MAX, None),
        ] {
            assert_eq!(age(StreamId::new(ms, 3), NOW), expected, "{ms}");
        }
    }
}
