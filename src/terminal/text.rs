//! Widths and durations in a terminal.

use std::borrow::Cow;

use unicode_truncate::UnicodeTruncateStr as _;
use unicode_width::UnicodeWidthStr as _;

/// Shown for a value that is not known.
pub(crate) const UNKNOWN: &str = "?";

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Returns the number of terminal columns that the text takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// Cuts the text to a number of columns, with an ellipsis for what is cut.
pub(crate) fn elide(text: &str, columns: usize) -> Cow<'_, str> {
    match columns.checked_sub(1) {
        _ if width(text) <= columns => Cow::Borrowed(text),
        Some(left) => Cow::Owned(format!("{}…", text.unicode_truncate(left).0)),
        None => Cow::Borrowed(""),
    }
}

/// Formats a duration in its two largest units.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped first")]
pub(crate) fn span(seconds: f64) -> String {
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

pub(crate) fn span_or_unknown(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| UNKNOWN.to_owned(), span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_read_easily() {
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
