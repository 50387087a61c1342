//! Schedules questions that are asked rarely: those that were asked the longest ago come first.

use std::time::Duration;

/// The last answer to such a question.
#[derive(Debug, PartialEq)]
pub(crate) struct SeldomAsked<T> {
    /// Time of the poll that asked last, by the caller's clock.
    asked_at: Option<Duration>,
    /// True if there was no answer in time.
    was_late: bool,
    answer: Option<T>,
}

impl<T> SeldomAsked<T> {
    /// Returns true if it is to be asked again: `interval` after it was asked last, or if there was no answer in time.
    pub(crate) fn is_due(&self, at: Duration, interval: Duration) -> bool {
        self.was_late || self.asked_at.is_none_or(|asked| at.saturating_sub(asked) >= interval)
    }

    /// Returns the time when it was asked last.
    pub(crate) fn asked_at(&self) -> Option<Duration> {
        self.asked_at
    }

    /// Notes that it is asked at `at`.
    pub(crate) fn note_asked(&mut self, at: Duration) {
        (self.asked_at, self.was_late) = (Some(at), false);
    }

    /// Notes the answer; `None` if there was none, such as from a server that refuses the command.
    pub(crate) fn note(&mut self, answer: Option<T>) {
        self.answer = answer;
    }

    /// Notes that there was no answer in time, so that it is asked again in its next turn, after those that were asked
    /// longer ago.
    pub(crate) fn note_late(&mut self) {
        self.was_late = true;
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
        Self { asked_at: None, was_late: false, answer: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks one question in each poll, as a plan does: of those that are due, the one that was asked longest ago.
    fn turns(late: [bool; 3], polls: u64, interval: Duration) -> String {
        let mut all: [SeldomAsked<u64>; 3] = Default::default();
        let mut order = String::new();
        for poll in 1..=polls {
            let at = Duration::from_secs(poll);
            let due = (0..3).filter(|one| all[*one].is_due(at, interval));
            let Some(next) = due.min_by_key(|one| all[*one].asked_at()) else {
                order.push('-');
                continue;
            };
            all[next].note_asked(at);
            match late[next] {
                true => all[next].note_late(),
                false => all[next].note(Some(poll)),
            }
            order.push(char::from(b'a' + u8::try_from(next).unwrap()));
        }
        order
    }

    #[test]
    fn a_question_that_is_never_answered_in_time_keeps_no_other_from_its_turn() {
        let interval = Duration::from_secs(6);
        assert_eq!(turns([false; 3], 9, interval), "abc---abc");
        assert_eq!(turns([true, false, false], 9, interval), "abcaaaabc");
        assert_eq!(turns([true; 3], 9, interval), "abcabcabc");
    }
}
