//! The cost of polling a target: managed servers have limits on commands and traffic, or charge for them.

use std::time::Duration;

use bytesize::ByteSize;

use super::Lines;
use crate::commands::poll_cost::{self, PollCost};
use crate::format::units::{counted, span};
use crate::poller::poll::Poller;

const DAY: Duration = Duration::from_secs(86_400);

/// Polls once more, as the first poll also connects and looks for streams, and adds a line about what that took. Without
/// an answer there is no line.
pub(super) async fn describe(poller: &mut Poller, interval: Duration, lines: &mut Lines) {
    let (PollCost { commands, reply_bytes: bytes, .. }, outcome) = poll_cost::measure(poller).await;
    if outcome.is_err() {
        return;
    }
    lines.add(
        "cost",
        &format!(
            "{}, or {} at an interval of {}, not counting SCAN",
            traffic(commands, bytes, "a poll"),
            traffic(a_day(commands, interval), a_day(bytes, interval), "a day"),
            span(interval)
        ),
    );
}

fn traffic(commands: u64, bytes: u64, time: &str) -> String {
    let commands = counted(usize::try_from(commands).unwrap_or(usize::MAX), "command", "commands");
    format!("{commands} and {} of replies {time}", ByteSize(bytes))
}

/// Returns what an amount at each interval sums up to in a day.
fn a_day(amount: u64, interval: Duration) -> u64 {
    let total = u128::from(amount) * DAY.as_millis() / interval.as_millis().max(1);
    u64::try_from(total).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_command_is_not_many() {
        assert_eq!(traffic(1, 217, "a poll"), "1 command and 217 B of replies a poll");
        assert_eq!(traffic(8_640, 2_048, "a day"), "8,640 commands and 2.0 KiB of replies a day");
    }

    #[test]
    fn a_day_has_as_many_polls_as_intervals() {
        let s = Duration::from_secs;
        for (amount, interval, expected) in
            [(5, s(10), 43_200), (5, s(86_400), 5), (0, s(1), 0), (3, Duration::from_millis(400), 648_000)]
        {
            assert_eq!(a_day(amount, interval), expected);
        }
        assert_eq!(a_day(u64::MAX, s(1)), u64::MAX);
    }
}
