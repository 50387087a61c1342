//! How alerts are written as JSON, the same for all receivers.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use serde::Serialize;

/// What is sent. All keys are text and all values are finite, so that nothing can fail.
pub(super) fn write(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("maps of text, times and whole numbers can be written").into()
}

/// A time since the Unix epoch as `2026-11-22T12:00:00.000Z`.
pub(super) fn rfc3339(time: Duration) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_to_the_millisecond() {
        assert_eq!(rfc3339(Duration::from_millis(1_795_378_608_218)), "2026-11-22T20:16:48.218Z");
    }
}
