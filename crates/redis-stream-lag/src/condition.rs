//! The conditions of a group, and the status that sums them up.

use std::time::Duration;

use crate::compact::Millis48;

/// A condition of a group (something that is wrong with it, independently of other conditions), or `unknown` or `ok`
/// if no condition holds.
///
/// Earlier variants are worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Entries wait, none was delivered over the window, and there is no consumer, or none that gave a sign of life.
    Abandoned,
    /// Entries were removed before delivery within the window.
    Losing,
    /// last-delivered-id moved backwards within the window.
    Rewound,
    /// Entries wait and none was delivered over the window, although a consumer gave signs of life.
    Stalled,
    /// The oldest pending entry is the same as a window ago and was not delivered again.
    Stuck,
    /// The group was behind throughout the window, and its lag grows.
    Lagging,
    /// No condition holds, but the history is shorter than the window or has too few exact lags to evaluate all.
    #[default]
    Unknown,
    /// No condition holds.
    Ok,
}

impl Status {
    /// All statuses, the worst first.
    pub const ALL: [Self; 8] = [
        Self::Abandoned,
        Self::Losing,
        Self::Rewound,
        Self::Stalled,
        Self::Stuck,
        Self::Lagging,
        Self::Unknown,
        Self::Ok,
    ];

    /// Returns the status' name, as used in metric labels, JSON and alerts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Abandoned => "abandoned",
            Self::Losing => "losing",
            Self::Rewound => "rewound",
            Self::Stalled => "stalled",
            Self::Stuck => "stuck",
            Self::Lagging => "lagging",
            Self::Unknown => "unknown",
            Self::Ok => "ok",
        }
    }

    /// Returns the status with this [name](Self::as_str), or `None` if there is none.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// Returns true if it is a condition, not `unknown` or `ok`.
    #[must_use]
    pub fn is_condition(self) -> bool {
        self < Self::Unknown
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of conditions. The default is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConditionSet(u8);

impl ConditionSet {
    /// Returns true if the condition is in the set.
    #[must_use]
    pub fn contains(self, condition: Status) -> bool {
        self.0 & condition.bit() != 0
    }

    /// Returns true if the set has no condition.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the worst condition, or `None` if the set is empty.
    #[must_use]
    pub fn worst(self) -> Option<Status> {
        self.iter().next()
    }

    /// Returns the conditions, the worst first.
    pub fn iter(self) -> impl Iterator<Item = Status> {
        Status::ALL.into_iter().filter(move |condition| self.contains(*condition))
    }
}

impl FromIterator<Status> for ConditionSet {
    /// Leaves out `unknown` and `ok`.
    fn from_iter<I: IntoIterator<Item = Status>>(conditions: I) -> Self {
        let conditions = conditions.into_iter().filter(|status| status.is_condition());
        Self(conditions.fold(0, |bits, condition| bits | condition.bit()))
    }
}

/// Whether there is enough history to evaluate every condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryCoverage {
    /// A condition that is not in the set does not hold.
    Complete,
    /// A condition that is not in the set may hold all the same.
    Partial {
        /// Time until there is enough history, if nothing changes. `None` if that cannot be told, as for a group with
        /// too few exact lags.
        remaining: Option<Millis48>,
    },
}

/// The conditions of a group, and its status. The default is a group about which nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// The conditions that hold.
    pub conditions: ConditionSet,
    /// If the other conditions are known not to hold.
    pub coverage: HistoryCoverage,
    /// Time at which the [status](Self::status) began, since the Unix epoch, by the server's clock. `None` if it is not
    /// known.
    pub since: Option<Millis48>,
}

impl GroupStatus {
    /// Returns the worst condition; if none holds, `ok` or `unknown`.
    #[must_use]
    pub fn status(&self) -> Status {
        match (self.conditions.worst(), self.coverage) {
            (Some(condition), _) => condition,
            (None, HistoryCoverage::Complete) => Status::Ok,
            (None, HistoryCoverage::Partial { .. }) => Status::Unknown,
        }
    }

    /// Returns true if `status` holds: a condition, whatever else holds; `ok` and `unknown` if they are the status.
    /// `None` if that is not known.
    #[must_use]
    pub fn holds(&self, status: Status) -> Option<bool> {
        let holds =
            if status.is_condition() { self.conditions.contains(status) } else { self.status() == status };
        let is_known = holds
            || status == Status::Unknown
            || self.coverage == HistoryCoverage::Complete
            // A group with a condition is not ok, whatever else is not known.
            || (status == Status::Ok && !self.conditions.is_empty());
        is_known.then_some(holds)
    }

    /// Returns the time until the status is known, if it is `unknown`; `None` if it is not, or if that cannot be told.
    /// `unchanged_for` is the time since the reading that it was derived from.
    #[must_use]
    pub fn unknown_for(&self, unchanged_for: Duration) -> Option<Duration> {
        match self.coverage {
            HistoryCoverage::Partial { remaining } if self.conditions.is_empty() => {
                remaining.map(|remaining| remaining.get().saturating_sub(unchanged_for))
            }
            HistoryCoverage::Partial { .. } | HistoryCoverage::Complete => None,
        }
    }

    /// Returns the statuses that hold: each condition, or `ok` or `unknown`.
    pub fn iter(&self) -> impl Iterator<Item = Status> {
        let none = self.conditions.is_empty().then(|| self.status());
        self.conditions.iter().chain(none)
    }
}

impl Default for GroupStatus {
    fn default() -> Self {
        Self {
            conditions: ConditionSet::default(),
            coverage: HistoryCoverage::Partial { remaining: None },
            since: None,
        }
    }
}

impl From<ConditionSet> for GroupStatus {
    /// Returns the status of a group with these conditions and no other.
    fn from(conditions: ConditionSet) -> Self {
        Self { conditions, coverage: HistoryCoverage::Complete, since: None }
    }
}

impl From<Status> for GroupStatus {
    /// Returns the status of a group with at most this condition.
    fn from(status: Status) -> Self {
        match status {
            Status::Unknown => Self::default(),
            _ => ConditionSet::from_iter([status]).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_statuses_are_listed_in_order_and_a_set_has_conditions_only() {
        assert_eq!(Status::ALL.map(|status| status as usize), [0, 1, 2, 3, 4, 5, 6, 7]);
        let all: ConditionSet = Status::ALL.into_iter().collect();
        assert_eq!(all.iter().collect::<Vec<_>>(), Status::ALL[..6]);
    }

    #[test]
    fn a_status_takes_eighteen_bytes() {
        assert_eq!((size_of::<HistoryCoverage>(), size_of::<GroupStatus>()), (8, 18));
    }

    #[test]
    fn a_condition_that_does_not_hold_is_known_only_with_enough_history() {
        let partial = HistoryCoverage::Partial { remaining: Some(Duration::from_secs(9).into()) };
        let stuck: GroupStatus = Status::Stuck.into();
        for (status, stuck_holds, stalled_holds, unknown_holds, ok_holds) in [
            (Status::Ok.into(), Some(false), Some(false), Some(false), Some(true)),
            (stuck, Some(true), Some(false), Some(false), Some(false)),
            (GroupStatus { coverage: partial, ..stuck }, Some(true), None, Some(false), Some(false)),
            (GroupStatus::default(), None, None, Some(true), None),
        ] {
            let found =
                [Status::Stuck, Status::Stalled, Status::Unknown, Status::Ok].map(|one| status.holds(one));
            assert_eq!(found, [stuck_holds, stalled_holds, unknown_holds, ok_holds], "{status:?}");
        }
        assert_eq!(
            GroupStatus { coverage: partial, ..GroupStatus::default() }.unknown_for(Duration::from_secs(2)),
            Some(Duration::from_secs(7))
        );
        assert_eq!(GroupStatus { coverage: partial, ..stuck }.unknown_for(Duration::ZERO), None);
    }
}
