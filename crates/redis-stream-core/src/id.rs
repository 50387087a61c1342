//! Entry IDs: two numbers, ordered first by milliseconds, then by sequence.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// 2010-01-01. An ID from before the first Redis is no time.
const EARLIEST: Duration = Duration::from_secs(1_262_304_000);
/// The furthest that an ID may be ahead of the server's clock and still be a time.
const MAX_AHEAD: Duration = Duration::from_secs(86_400);

/// ID of an entry, or a position between entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// First part: milliseconds since the Unix epoch where the server made the ID, any number otherwise.
    pub ms: u64,
    /// Second part: tells IDs of the same millisecond apart.
    pub seq: u64,
}

impl StreamId {
    /// `0-0`: below every entry. A group created at `0` stands here.
    pub const MIN: Self = Self { ms: 0, seq: 0 };
    /// The largest ID there can be.
    pub const MAX: Self = Self { ms: u64::MAX, seq: u64::MAX };

    /// The ID `ms-seq`.
    #[must_use]
    pub const fn new(ms: u64, seq: u64) -> Self {
        Self { ms, seq }
    }

    /// Returns the time at which the entry was added, since the Unix epoch; `now` is the server's time.
    ///
    /// IDs that a server makes (`*`) begin with its clock in milliseconds. Those that a producer makes may begin with
    /// anything: a counter, nanoseconds. `None` for these, since a wrong time is worse than none.
    #[must_use]
    pub fn timestamp(self, now: Duration) -> Option<Duration> {
        let time = Duration::from_millis(self.ms);
        (EARLIEST..=now.saturating_add(MAX_AHEAD)).contains(&time).then_some(time)
    }

    /// Returns the time since the entry was added; zero if its ID is ahead of `now`, `None` if the ID is no time.
    #[must_use]
    pub fn age(self, now: Duration) -> Option<Duration> {
        self.timestamp(now).map(|time| now.saturating_sub(time))
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// The text is not of the form `ms-seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseStreamIdError;

impl fmt::Display for ParseStreamIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a stream ID; expected two numbers such as 1700000000000-0")
    }
}

impl std::error::Error for ParseStreamIdError {}

impl FromStr for StreamId {
    type Err = ParseStreamIdError;

    fn from_str(text: &str) -> Result<Self, ParseStreamIdError> {
        let (ms, seq) = text.split_once('-').ok_or(ParseStreamIdError)?;
        let number = |part: &str| part.parse().map_err(|_| ParseStreamIdError);
        Ok(Self { ms: number(ms)?, seq: number(seq)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_millis(1_700_000_000_500);

    #[test]
    fn ids_are_ordered_by_milliseconds_then_sequence() {
        assert!(StreamId::new(1, 9) < StreamId::new(2, 0));
        assert!(StreamId::new(2, 0) < StreamId::new(2, 1));
        assert!(StreamId::MIN < StreamId::MAX);
    }

    #[test]
    fn text_and_back() {
        for text in ["0-0", "1700000000000-7", "18446744073709551615-18446744073709551615"] {
            assert_eq!(text.parse::<StreamId>().unwrap().to_string(), text);
        }
        for text in ["", "1", "1-", "-1", "a-0", "1-0-0", "18446744073709551616-0"] {
            assert_eq!(text.parse::<StreamId>(), Err(ParseStreamIdError), "{text}");
        }
    }

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
            assert_eq!(StreamId::new(ms, 3).age(NOW), expected, "{ms}");
        }
    }
}
