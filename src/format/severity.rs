//! The severity of a group's status or of an event, for badges and colours.

use serde::{Deserialize, Serialize};

use redis_stream_lag::report::Status;

/// The severity of a condition, an event or an alert. In JSON it has the words of alerts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Severity {
    /// Entries are not processed, or are lost.
    #[serde(rename = "critical")]
    Bad,
    /// Needs a look.
    #[serde(rename = "warning")]
    Poor,
    /// Not known, or neither good nor bad.
    #[default]
    #[serde(rename = "info")]
    Unknown,
    /// All is well, or well again.
    #[serde(rename = "ok")]
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

    /// Returns the severity that an alert's label of that name stands for.
    pub(crate) fn of_label(label: &str) -> Self {
        match label {
            "critical" | "error" | "page" => Self::Bad,
            "" | "warning" => Self::Poor,
            _ => Self::Unknown,
        }
    }
}
