//! Finds groups that have been abandoned for a day: no consumer reads for them, and entries that they need cannot be
//! trimmed.

use std::time::Duration;

use crate::report::{GroupStatus, Status};

/// Time for which nothing must have been read for a group.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The evidence of the time for which nothing was read for a group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadPause {
    /// The time for which polls have seen entries wait and the group not move.
    pub(crate) observed: Duration,
    /// The shortest time since one of its consumers tried to read; `None` if that is not known, or if it has no consumers.
    /// One that read and was deleted shows nowhere.
    pub(crate) consumers_idle: Option<Duration>,
    /// Time since the next entry was added, by its ID. It alone proves nothing: the group may be reading old entries.
    pub(crate) next_entry_age: Option<Duration>,
    /// The time since the last delivery or attempt to read, or since the group was created, at most; `None` if there is no
    /// bound.
    pub(crate) at_most: Option<Duration>,
}

impl ReadPause {
    /// Returns the time for which certainly nothing was read.
    fn at_least(&self) -> Duration {
        let idle = self.consumers_idle.zip(self.next_entry_age).map(|(idle, age)| idle.min(age));
        idle.unwrap_or_default().max(self.observed)
    }
}

/// Returns true if a group has been abandoned for a day, at `now` by the node's clock; `None` if that is not known.
pub(crate) fn is_abandoned_for_a_day(status: &GroupStatus, pause: ReadPause, now: Duration) -> Option<bool> {
    let is_abandoned = status.holds(Status::Abandoned);
    let since = status.since.filter(|_| status.status() == Status::Abandoned);
    let lasted = since.map_or(Duration::ZERO, |since| now.saturating_sub(since.get()));
    if is_abandoned == Some(false) || pause.at_most.is_some_and(|time| time < DAY) {
        return Some(false);
    }
    is_abandoned.filter(|_| lasted.max(pause.at_least()) >= DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_counts_once_it_is_certain_that_nothing_was_delivered_for_a_day() {
        let (hour, now) = (DAY / 24, Duration::from_secs(1_700_000_000));
        let abandoned =
            |ago: Duration| GroupStatus { since: Some((now - ago).into()), ..Status::Abandoned.into() };
        let unknown = GroupStatus::default();
        for (status, observed, at_most, expected) in [
            (abandoned(hour), DAY, None, Some(true)),
            (abandoned(DAY), hour, None, Some(true)),
            (abandoned(DAY), hour, Some(2 * DAY), Some(true)),
            (abandoned(hour), hour, None, None),
            (abandoned(hour), hour, Some(DAY), None),
            (abandoned(hour), hour, Some(DAY - hour), Some(false)),
            (unknown, 2 * DAY, None, None),
            (unknown, hour, Some(hour), Some(false)),
            (Status::Stalled.into(), 2 * DAY, None, Some(false)),
            (
                GroupStatus { since: Some((now - DAY).into()), ..Status::Ok.into() },
                Duration::ZERO,
                None,
                Some(false),
            ),
        ] {
            let pause = ReadPause { observed, consumers_idle: None, next_entry_age: Some(2 * DAY), at_most };
            assert_eq!(is_abandoned_for_a_day(&status, pause, now), expected, "{status:?}, {pause:?}");
        }
    }

    #[test]
    fn old_entries_prove_nothing_without_consumers_that_have_been_idle_as_long() {
        let (hour, now) = (DAY / 24, Duration::from_secs(1_700_000_000));
        let status = GroupStatus { since: Some(now.into()), ..Status::Abandoned.into() };
        for (consumers_idle, next_entry_age, expected) in [
            (None, Some(2 * DAY), None),
            (None, None, None),
            (Some(2 * DAY), Some(2 * DAY), Some(true)),
            (Some(DAY), Some(DAY), Some(true)),
            // Before server 7.2, a read that returned nothing leaves the idle time as it was.
            (Some(2 * DAY), Some(hour), None),
            (Some(2 * DAY), None, None),
            (Some(hour), Some(2 * DAY), Some(false)),
        ] {
            let pause = ReadPause {
                observed: Duration::ZERO,
                consumers_idle,
                next_entry_age,
                at_most: consumers_idle,
            };
            assert_eq!(is_abandoned_for_a_day(&status, pause, now), expected, "{pause:?}");
        }
    }
}
