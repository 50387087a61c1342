//! The idle consumers of groups that have too many consumers to be read in every poll. No command lists a part of a
//! group's consumers, so such a group is read whole, one group in a poll, and each once an hour.

use std::time::Duration;

use crate::report::SilentConsumers;

/// Number of consumers above which a group is not read at all: listing as many takes about 5 ms of the server's time.
pub const MAX_LISTED: u64 = 20_000;
/// Time after which a group is read again.
const PERIOD: Duration = Duration::from_secs(60 * 60);

/// What was found at the last reading.
#[derive(Debug, Default)]
pub(crate) struct ManyConsumers {
    /// Time of the poll that asked last, by the caller's clock.
    asked_at: Option<Duration>,
    silent: Option<SilentConsumers>,
}

impl ManyConsumers {
    /// Returns true if the group is to be read in its turn.
    pub(crate) fn is_due(&self, at: Duration) -> bool {
        self.asked_at.is_none_or(|asked| at.saturating_sub(asked) >= PERIOD)
    }

    /// Returns the time of the last question.
    pub(crate) fn asked_at(&self) -> Option<Duration> {
        self.asked_at
    }

    /// Notes that the group is asked for at `at`.
    pub(crate) fn note_asked(&mut self, at: Duration) {
        self.asked_at = Some(at);
    }

    /// Notes the answer; `None` if there was none.
    pub(crate) fn note(&mut self, silent: Option<SilentConsumers>) {
        self.silent = silent;
    }

    /// Notes that there was no answer in time, so that the group is asked for first in the next poll.
    pub(crate) fn note_late(&mut self) {
        self.asked_at = None;
    }

    /// Returns the last answer.
    pub(crate) fn silent(&self) -> Option<SilentConsumers> {
        self.silent
    }
}
