//! Entry IDs: two numbers, ordered first by milliseconds, then by sequence.

use std::fmt;
use std::str::FromStr;

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
}
