//! Questions that are asked seldom, each in its turn: those that were asked longest ago come first.

use std::time::Duration;

/// The last answer to such a question.
#[derive(Debug)]
pub(crate) struct SeldomAsked<T> {
    /// Time of the poll that asked last, by the caller's clock.
    asked_at: Option<Duration>,
    answer: Option<T>,
}

impl<T> SeldomAsked<T> {
    /// Returns true if it is to be asked again, `interval` after it was asked last.
    pub(crate) fn is_due(&self, at: Duration, interval: Duration) -> bool {
        self.asked_at.is_none_or(|asked| at.saturating_sub(asked) >= interval)
    }

    /// Returns the time when it was asked last.
    pub(crate) fn asked_at(&self) -> Option<Duration> {
        self.asked_at
    }

    /// Notes that it is asked at `at`.
    pub(crate) fn note_asked(&mut self, at: Duration) {
        self.asked_at = Some(at);
    }

    /// Notes the answer; `None` if there was none, such as from a server that refuses the command.
    pub(crate) fn note(&mut self, answer: Option<T>) {
        self.answer = answer;
    }

    /// Notes that there was no answer in time, so that it is asked first in the next poll.
    pub(crate) fn note_late(&mut self) {
        self.asked_at = None;
    }
}

impl<T: Copy> SeldomAsked<T> {
    /// Returns the last answer.
    pub(crate) fn answer(&self) -> Option<T> {
        self.answer
    }
}

impl<T> Default for SeldomAsked<T> {
    fn default() -> Self {
        Self { asked_at: None, answer: None }
    }
}
