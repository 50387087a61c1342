//! Numbers and durations as text for people.

use std::time::{Duration, UNIX_EPOCH};

/// Formats a number with commas: `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The last second of the year 9999: RFC 3339 has no later times, and a server may claim any.
const LATEST: Duration = Duration::from_secs(253_402_300_799);

/// Formats a time since the Unix epoch as `2026-11-22T12:00:00.000Z`.
pub(crate) fn rfc3339(since_epoch: Duration) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + since_epoch.min(LATEST)).to_string()
}

/// Formats a moment as a time of day: `19:52 UTC`; with its date if it is more than 12 hours before or after `now`.
pub(crate) fn clock(moment: Duration, now: Duration) -> String {
    let text = rfc3339(moment);
    let (date, time) = (&text[..10], &text[11..16]);
    if moment.abs_diff(now) < HALF_A_DAY { format!("{time} UTC") } else { format!("{date} {time} UTC") }
}

const HALF_A_DAY: Duration = Duration::from_secs(12 * 3_600);

/// Formats a moment as a time of day to the second: `19:52:07`.
pub(crate) fn clock_seconds(moment: Duration) -> String {
    rfc3339(moment)[11..19].to_owned()
}

/// Formats a number with its noun, singular or plural: `1 group`, `3 groups`.
pub fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{} {}", count(number as u64), if number == 1 { one } else { many })
}

/// Formats a rate: `0.25 per second`, `1,234 per second`.
pub(crate) fn per_second(rate: f64) -> String {
    format!("{} per second", rate_number(rate))
}

/// Formats the number of a rate: `0.25`, `3.4`, `1,234`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is positive, and rounded"
)]
pub(crate) fn rate_number(rate: f64) -> String {
    match rate {
        0.0 => "0".to_owned(),
        ..1.0 => format!("{rate:.2}"),
        ..100.0 => format!("{rate:.1}"),
        _ => count(rate.round() as u64),
    }
}

/// Formats a duration in its two largest units: `0.4 s`, `45 s`, `3 min 12 s`, `2 h 5 min`, `3 d 4 h`.
pub(crate) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match seconds {
        0 if time.as_millis() < 50 => "0 s".to_owned(),
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3_600 => two(minutes, "min", rest, "s"),
        3_600..86_400 => two(hours, "h", minutes, "min"),
        _ => two(days, "d", hours, "h"),
    }
}

fn two(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    match small {
        0 => format!("{} {large_unit}", count(large)),
        _ => format!("{} {large_unit} {small} {small_unit}", count(large)),
    }
}

/// Formats the time since a moment; both are since the Unix epoch. A moment in the future, by another clock, is now.
pub(crate) fn ago(moment: Duration, now: Duration) -> String {
    whole(moment, now).map_or_else(|| "just now".to_owned(), |time| format!("{time} ago"))
}

/// Formats how long a state has lasted, as [`ago`] does.
pub(crate) fn lasting(since: Duration, now: Duration) -> String {
    whole(since, now).map_or_else(|| "just now".to_owned(), |time| format!("for {time}"))
}

/// Formats the time between two moments in whole seconds; `None` if it is less than one.
fn whole(from: Duration, to: Duration) -> Option<String> {
    match to.saturating_sub(from).as_secs() {
        0 => None,
        seconds @ 1..10 => Some(format!("{seconds} s")),
        seconds => Some(span(Duration::from_secs(seconds))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_as_many_digits_as_they_are_good_for() {
        let rates = [0.0, 0.004, 0.25, 3.44, 99.9, 1_234.4];
        assert_eq!(rates.map(rate_number), ["0", "0.00", "0.25", "3.4", "99.9", "1,234"]);
        assert_eq!(per_second(12.0), "12.0 per second");
    }

    #[test]
    fn times_are_utc_to_the_millisecond_and_in_four_digit_years() {
        assert_eq!(rfc3339(Duration::from_millis(1_795_378_608_218)), "2026-11-22T20:16:48.218Z");
        assert_eq!(rfc3339(Duration::MAX), "9999-12-31T23:59:59.000Z");
    }

    #[test]
    fn a_time_of_day_has_its_date_if_that_is_not_clear() {
        let (now, s) = (Duration::from_secs(1_795_378_608), Duration::from_secs);
        assert_eq!(clock(now - s(600), now), "20:06 UTC");
        assert_eq!(clock(now - s(86_400), now), "2026-11-21 20:16 UTC");
        assert_eq!(clock(now + s(60), now), "20:17 UTC");
        assert_eq!(clock(Duration::MAX, now), "9999-12-31 23:59 UTC");
        assert_eq!(clock_seconds(now), "20:16:48");
    }

    #[test]
    fn numbers_have_commas() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (100_000, "100,000"),
            (1_234_567, "1,234,567"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(count(number), text);
        }
        assert_eq!(counted(1, "group", "groups"), "1 group");
        assert_eq!(counted(0, "group", "groups"), "0 groups");
    }

    #[test]
    fn spans_have_two_units_at_most() {
        for (ms, text) in [
            (0, "0 s"),
            (49, "0 s"),
            (449, "0.4 s"),
            (9_940, "9.9 s"),
            (45_900, "45 s"),
            (60_000, "1 min"),
            (192_000, "3 min 12 s"),
            (7_500_000, "2 h 5 min"),
            (86_400_000, "1 d"),
            (273_600_000, "3 d 4 h"),
            (1_700_000_000_000, "19,675 d 22 h"),
        ] {
            assert_eq!(span(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn what_is_to_come_is_now() {
        let s = Duration::from_secs;
        assert_eq!(ago(s(100), s(99)), "just now");
        assert_eq!(ago(s(100), s(175)), "1 min 15 s ago");
        assert_eq!(ago(s(100), Duration::from_millis(104_900)), "4 s ago");
        assert_eq!(lasting(s(100), s(109)), "for 9 s");
        assert_eq!(lasting(s(100), Duration::from_millis(100_900)), "just now");
    }
}
