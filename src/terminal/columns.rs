//! The columns of a table of groups: what each shows, and which of them go first where there is little room.

use std::cmp::{Ordering, Reverse};

use crate::api::groups::{Group, Listing};
use crate::terminal::layout::{Align, Heading};
use crate::terminal::text::{count_or_unknown, lag, printable, span_or_unknown};
use redis_stream_lag::report::Status;

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// What is wrong with the group.
    Status,
    /// Name of the target; only where there are several.
    Target,
    /// Key of the stream.
    Stream,
    /// Name of the group.
    Group,
    /// Entries not delivered.
    Lag,
    /// Age of the oldest of them.
    Behind,
    /// Entries not acknowledged.
    Pending,
    /// Age of the oldest of them.
    OldestPending,
    /// How many consumers there are.
    Consumers,
}

/// What a table is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// As listed: the worst first.
    #[default]
    Worst,
    /// The largest lag first.
    Lag,
    /// The oldest undelivered entry first.
    Behind,
    /// The most pending entries first.
    Pending,
    /// The oldest pending entry first.
    OldestPending,
    /// By target, stream and group.
    Name,
}

/// How bad a status is, in three steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Somebody has to look.
    Bad,
    /// Worth an eye.
    Doubtful,
    /// Nothing to do.
    Fine,
}

impl Column {
    /// The columns of a table of these groups.
    #[must_use]
    pub fn of(listing: &Listing) -> Vec<Self> {
        let all = [
            Self::Status,
            Self::Target,
            Self::Stream,
            Self::Group,
            Self::Lag,
            Self::Behind,
            Self::Pending,
            Self::OldestPending,
            Self::Consumers,
        ];
        let is_shown = |column: &Self| *column != Self::Target || listing.targets.len() > 1;
        all.into_iter().filter(is_shown).collect()
    }

    /// How it is headed and laid out.
    #[must_use]
    pub fn heading(self) -> Heading {
        let heading = |title, align, expendable, shrinks_to| Heading { title, align, expendable, shrinks_to };
        match self {
            Self::Status => heading("STATUS", Align::Left, None, None),
            Self::Target => heading("TARGET", Align::Left, Some(2), Some(10)),
            Self::Stream => heading("STREAM", Align::Left, None, Some(8)),
            Self::Group => heading("GROUP", Align::Left, None, Some(8)),
            Self::Lag => heading("LAG", Align::Right, None, None),
            Self::Behind => heading("BEHIND", Align::Right, Some(4), None),
            Self::Pending => heading("PENDING", Align::Right, Some(3), None),
            Self::OldestPending => heading("OLDEST", Align::Right, Some(1), None),
            Self::Consumers => heading("CONSUMERS", Align::Right, Some(0), None),
        }
    }

    /// What it shows of a group; safe to print.
    #[must_use]
    pub fn cell(self, group: &Group) -> String {
        match self {
            Self::Status => status(group).to_owned(),
            Self::Target => printable(&group.target).into_owned(),
            Self::Stream => printable(&group.stream).into_owned(),
            Self::Group => printable(&group.group).into_owned(),
            Self::Lag => lag(group.lag, group.lag_min, group.lag_max),
            Self::Behind => span_or_unknown(group.lag_seconds),
            Self::Pending => count_or_unknown(group.messages_pending),
            Self::OldestPending => match group.messages_pending {
                // Nothing is pending: there is nothing to be old.
                Some(0) => "-".to_owned(),
                _ => span_or_unknown(group.oldest_pending_age_seconds),
            },
            Self::Consumers => count_or_unknown(group.consumers),
        }
    }
}

/// The status in a word; a group that is not there has none.
#[must_use]
pub fn status(group: &Group) -> &'static str {
    match group.status {
        Some(status) => status.as_str(),
        None if group.up => "?",
        None => "missing",
    }
}

/// How bad it is.
#[must_use]
pub fn severity(group: &Group) -> Severity {
    match group.status {
        Some(Status::Ok) => Severity::Fine,
        Some(Status::Unknown | Status::Lagging) => Severity::Doubtful,
        Some(Status::Rewound | Status::Losing | Status::Abandoned | Status::Stalled | Status::Stuck) => {
            Severity::Bad
        }
        None if group.up => Severity::Doubtful,
        None => Severity::Bad,
    }
}

impl Sort {
    /// The next one.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::Worst => Self::Lag,
            Self::Lag => Self::Behind,
            Self::Behind => Self::Pending,
            Self::Pending => Self::OldestPending,
            Self::OldestPending => Self::Name,
            Self::Name => Self::Worst,
        }
    }

    /// What it is called.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Worst => "worst first",
            Self::Lag => "lag",
            Self::Behind => "behind",
            Self::Pending => "pending",
            Self::OldestPending => "oldest pending",
            Self::Name => "name",
        }
    }

    /// Which of two comes first. What is not known comes last.
    #[must_use]
    pub fn compare(self, one: &Group, other: &Group) -> Ordering {
        let by = |value: fn(&Group) -> Option<f64>| {
            let key = |group: &Group| value(group).unwrap_or(-1.0);
            key(other).total_cmp(&key(one))
        };
        match self {
            Self::Worst => Ordering::Equal,
            Self::Lag => {
                let key = |group: &Group| Reverse((group.lag_min, group.lag_max));
                key(one).cmp(&key(other))
            }
            Self::Behind => by(|group| group.lag_seconds),
            Self::Pending => other.messages_pending.cmp(&one.messages_pending),
            Self::OldestPending => by(|group| group.oldest_pending_age_seconds),
            Self::Name => {
                let (target, stream) = (one.target.cmp(&other.target), one.stream.cmp(&other.stream));
                target.then(stream).then_with(|| one.group.cmp(&other.group))
            }
        }
    }
}
