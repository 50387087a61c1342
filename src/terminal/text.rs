//! Names, numbers and times as people read them. What is not known is `?`.

use std::borrow::Cow;

use redis_stream_core::escape::escape_chars;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::format::unicode::is_invisible;
use crate::format::units::count;

/// What stands for a value that is not known.
pub const UNKNOWN: &str = "?";

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Text of a server, safe to print: what would move the cursor, colour the screen, turn the direction of writing or not
/// be seen is written `\xHH`, byte by byte. Names are written that way elsewhere where they are not UTF-8, and read back alike.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    escape_chars(text, is_invisible)
}

/// How many columns of a terminal the text takes.
#[must_use]
pub fn width(text: &str) -> usize {
    text.width()
}

/// The text, cut to so many columns; what is cut shows.
#[must_use]
pub fn elide(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let mut cut = String::new();
    let mut left = columns.saturating_sub(1);
    for character in text.chars() {
        let wide = character.width().unwrap_or(0);
        if wide > left {
            break;
        }
        left -= wide;
        cut.push(character);
    }
    if columns > 0 {
        cut.push('…');
    }
    Cow::Owned(cut)
}

/// A number that may not be known.
#[must_use]
pub fn count_or_unknown(number: Option<u64>) -> String {
    number.map_or_else(|| UNKNOWN.to_owned(), count)
}

/// A lag: exact, between certain bounds, or not known.
#[must_use]
pub fn lag(exact: Option<u64>, min: Option<u64>, max: Option<u64>) -> String {
    match (exact, min, max) {
        (Some(lag), ..) => count(lag),
        (None, Some(min), Some(max)) => format!("{}..{}", count(min), count(max)),
        _ => UNKNOWN.to_owned(),
    }
}

/// A time in its two largest units.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped first")]
pub fn span(seconds: f64) -> String {
    let millis = (seconds * 1_000.0).round().clamp(0.0, 1e15) as u64;
    let whole = millis / 1_000;
    match whole {
        0 if millis == 0 => "0s".to_owned(),
        0 => format!("{millis}ms"),
        1..10 => format!("{whole}.{}s", millis % 1_000 / 100),
        10..MINUTE => format!("{whole}s"),
        MINUTE..HOUR => format!("{}m {:02}s", whole / MINUTE, whole % MINUTE),
        HOUR..DAY => format!("{}h {:02}m", whole / HOUR, whole % HOUR / MINUTE),
        _ => format!("{}d {:02}h", whole / DAY, whole % DAY / HOUR),
    }
}

/// A time that may not be known.
#[must_use]
pub fn span_or_unknown(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| UNKNOWN.to_owned(), span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_touch_the_terminal() {
        for (name, shown) in [
            ("orders", "orders"),
            ("grün 注文", "grün 注文"),
            ("\x1b[2Jgone\x07", "\\x1b[2Jgone\\x07"),
            ("a\nb\tc\r", "a\\x0ab\\x09c\\x0d"),
            ("\u{9b}31m\u{7f}", "\\xc2\\x9b31m\\x7f"),
            ("abc\u{202e}cba\u{feff}", "abc\\xe2\\x80\\xaecba\\xef\\xbb\\xbf"),
            ("a\u{ad}b\u{a0}c", "a\\xc2\\xadb\\xc2\\xa0c"),
        ] {
            assert_eq!(printable(name), shown);
        }
    }

    #[test]
    fn numbers_and_times_read_easily() {
        for (number, shown) in
            [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567"), (100_000, "100,000")]
        {
            assert_eq!(count(number), shown);
        }
        for (seconds, shown) in [
            (0.0, "0s"),
            (0.000_4, "0s"),
            (0.25, "250ms"),
            (1.49, "1.4s"),
            (59.9, "59s"),
            (61.0, "1m 01s"),
            (7_265.0, "2h 01m"),
            (90_000.0, "1d 01h"),
            (f64::MAX, "11574074d 01h"),
            (-1.0, "0s"),
        ] {
            assert_eq!(span(seconds), shown, "{seconds}");
        }
    }

    #[test]
    fn a_lag_that_is_not_known_is_never_0() {
        assert_eq!(lag(Some(1_213), Some(1_213), Some(1_213)), "1,213");
        assert_eq!(lag(None, Some(0), Some(5_000)), "0..5,000");
        assert_eq!(lag(None, None, None), "?");
        assert_eq!(span_or_unknown(None), "?");
    }

    #[test]
    fn what_is_cut_shows() {
        for (text, columns, shown) in [
            ("orders", 6, "orders"),
            ("orders", 5, "orde…"),
            ("注文注文", 8, "注文注文"),
            ("注文注文", 6, "注文…"),
            ("注文注文", 1, "…"),
            ("ab", 0, ""),
        ] {
            assert_eq!(elide(text, columns), shown);
            assert!(width(&elide(text, columns)) <= columns);
        }
    }
}
