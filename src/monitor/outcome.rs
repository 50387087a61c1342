//! What comes of a poll.

use std::sync::Arc;

use crate::poller::error::PollError;
use crate::self_metrics::labels::PollResult;
use redis_stream_lag::report::Report;

/// What came of a poll.
pub(super) type Outcome = Result<Polled, PollError>;

/// What came of a poll that read anything.
pub(super) struct Polled {
    pub(super) report: Arc<Report>,
    /// What cut it off, if anything did.
    pub(super) cut_off_by: Option<PollError>,
    /// Whether each node answered all the time that the poll had.
    pub(super) has_answered: bool,
    /// Whether the report shows every stream there is.
    pub(super) is_whole: bool,
}

/// How a poll ended, for counters, and what was wrong.
pub(super) fn result_and_error(outcome: &Outcome) -> (PollResult, Option<&PollError>) {
    match outcome {
        Ok(Polled { cut_off_by: None, .. }) => (PollResult::Ok, None),
        Ok(Polled { cut_off_by: Some(error), .. }) => (PollResult::Partial, Some(error)),
        Err(error) => (PollResult::Failed, Some(error)),
    }
}

/// Whether the target answered all the time that the poll had.
pub(super) fn has_answered(outcome: &Outcome) -> bool {
    outcome.as_ref().is_ok_and(|polled| polled.has_answered)
}
