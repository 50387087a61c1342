//! The severity of a group's status, for badges and colours.

use redis_stream_lag::report::Status;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// Entries are not processed, or are lost.
    Bad,
    /// Needs a look.
    Poor,
    Unknown,
    Good,
}

impl Severity {
    /// Returns the severity of a status; `None` is a group that is missing.
    pub(crate) fn of(status: Option<Status>) -> Self {
        match status {
            None | Some(Status::Losing | Status::Abandoned | Status::Stalled) => Self::Bad,
            Some(Status::Rewound | Status::Stuck | Status::Lagging) => Self::Poor,
            Some(Status::Unknown) => Self::Unknown,
            Some(Status::Ok) => Self::Good,
        }
    }
}
