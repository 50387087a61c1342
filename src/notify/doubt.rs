//! What a receiver did not answer it may still take up, after what it was told later: its last word would be an old
//! one. So what it is told instead it is told once more, when what was on its way has most likely arrived or is lost.
//! That is after as long again as it has been on its way by then: how slow the receiver is is only known to be more
//! than it was waited for. Its requests are not left open to find out: a connection that is closed is what makes many
//! receivers drop a request that they have not begun with. Pure.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::alert::notification::Alert;
use crate::notify::backlog::{Identity, is_same_news};

/// Shortest time before something is told once more.
const SHORTEST: Duration = Duration::from_secs(5);
/// Longest time.
const LONGEST: Duration = Duration::from_secs(5 * 60);
/// What was not answered for this time is lost, or was taken up.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(15 * 60);

/// What may still be on its way to one receiver.
#[derive(Debug, Default)]
pub(super) struct Doubts(HashMap<Identity, Doubt>);

#[derive(Debug)]
struct Doubt {
    /// When the first request that was not answered began, and the last; since the Unix epoch.
    since: Duration,
    last: Duration,
    /// The state that those told of; `None` where they told of several.
    unanswered: Option<Arc<Alert>>,
    /// When what was told meanwhile is to be told once more. Likewise.
    again: Option<(Duration, Arc<Alert>)>,
}

impl Doubts {
    /// Notes that a request with this state of an alert, begun at this time, was not answered.
    pub(super) fn note(&mut self, sent: &Arc<Alert>, began: Duration) {
        let first = || Doubt { since: began, last: began, unanswered: Some(Arc::clone(sent)), again: None };
        let doubt = self.0.entry(Identity(Arc::clone(sent))).or_insert_with(first);
        doubt.last = began;
        doubt.unanswered = doubt.unanswered.take().filter(|other| is_same_news(other, sent));
    }

    /// Notes that a state of an alert was taken.
    pub(super) fn note_told(&mut self, told: &Arc<Alert>, now: Duration) {
        let identity = Identity(Arc::clone(told));
        let Some(doubt) = self.0.get_mut(&identity) else { return };
        if doubt.unanswered.as_ref().is_some_and(|unanswered| is_same_news(unanswered, told)) {
            self.0.remove(&identity);
            return;
        }
        let wait = now.saturating_sub(doubt.since).clamp(SHORTEST, LONGEST);
        let at = match &doubt.again {
            Some((at, same)) if is_same_news(same, told) => *at,
            _ => now + wait,
        };
        doubt.again = Some((at, Arc::clone(told)));
    }

    /// Takes out what is to be told once more by now, unless another state of it waits to be told.
    pub(super) fn take_due(&mut self, now: Duration, waits: impl Fn(&Identity) -> bool) -> Vec<Arc<Alert>> {
        let mut due = Vec::new();
        self.0.retain(|identity, doubt| {
            // A clock that was set back must not hold it back.
            let is_due = |at: Duration| at <= now || at > now + LONGEST;
            match doubt.again.take_if(|(at, _)| is_due(*at)) {
                Some(_) if waits(identity) => true,
                Some((_, alert)) => {
                    due.push(alert);
                    false
                }
                None => doubt.again.is_some() || now < doubt.last + FORGOTTEN_AFTER,
            }
        });
        due
    }

    /// When the next is due; `None` if there is none.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.0.values().filter_map(|doubt| Some(doubt.again.as_ref()?.0)).min()
    }

    /// What is to be told once more.
    pub(super) fn pending(&self) -> impl Iterator<Item = (&Identity, &Arc<Alert>)> {
        self.0.iter().filter_map(|(identity, doubt)| Some((identity, &doubt.again.as_ref()?.1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::examples::{at, firing, names, resolved};

    fn alert(alert: Alert) -> Arc<Alert> {
        Arc::new(alert)
    }

    #[test]
    fn what_contradicts_something_that_was_not_answered_is_told_once_more_after_as_long_again() {
        let mut doubts = Doubts::default();
        doubts.note(&alert(firing("A", "x")), at(0));
        doubts.note(&alert(firing("A", "x")), at(12));
        doubts.note(&alert(firing("A", "same")), at(0));
        doubts.note_told(&alert(resolved("A", "x", 20)), at(25));
        doubts.note_told(&alert(firing("A", "same")), at(25));
        doubts.note_told(&alert(resolved("A", "other", 20)), at(25));
        assert_eq!(doubts.next_due(), Some(at(50)));
        // A reminder does not put it off.
        doubts.note_told(&alert(resolved("A", "x", 20)), at(40));
        assert_eq!(names(&doubts.take_due(at(49), |_| false)), [] as [String; 0]);
        assert_eq!(names(&doubts.take_due(at(50), |_| false)), ["-x"]);
        assert_eq!((doubts.next_due(), doubts.0.len()), (None, 0));
    }

    #[test]
    fn what_is_told_after_several_states_without_an_answer_is_told_once_more_too() {
        let mut doubts = Doubts::default();
        let anew = alert(Alert { starts_at: at(30), ..firing("A", "x") });
        doubts.note(&alert(firing("A", "x")), at(0));
        doubts.note(&alert(resolved("A", "x", 20)), at(20));
        doubts.note(&anew, at(30));
        doubts.note_told(&anew, at(31));
        assert_eq!(doubts.next_due(), Some(at(62)));
    }

    #[test]
    fn what_is_old_by_now_is_not_told_again_but_what_is_told_instead() {
        let mut doubts = Doubts::default();
        let anew = alert(Alert { starts_at: at(3), ..firing("A", "x") });
        doubts.note(&alert(firing("A", "x")), at(0));
        doubts.note_told(&alert(resolved("A", "x", 1)), at(2));
        assert_eq!(names(&doubts.take_due(at(7), |_| true)), [] as [String; 0]);
        assert_eq!(doubts.next_due(), None);
        doubts.note_told(&anew, at(8));
        assert_eq!(doubts.next_due(), Some(at(16)));
        assert_eq!(doubts.take_due(at(16), |_| false), [anew]);
    }

    #[test]
    fn times_are_bounded_and_a_clock_that_is_set_back_holds_nothing_back() {
        let mut doubts = Doubts::default();
        doubts.note(&alert(firing("A", "x")), at(0));
        doubts.note_told(&alert(resolved("A", "x", 1)), at(1));
        assert_eq!(doubts.next_due(), Some(at(1) + SHORTEST));
        doubts.take_due(at(6), |_| false);
        doubts.note(&alert(firing("A", "x")), at(0));
        doubts.note_told(&alert(resolved("A", "x", 1)), at(36_000));
        assert_eq!(doubts.next_due(), Some(at(36_000) + LONGEST));
        assert_eq!(names(&doubts.take_due(at(600), |_| false)), ["-x"]);
        doubts.note(&alert(firing("A", "gone")), at(0));
        doubts.take_due(at(0) + FORGOTTEN_AFTER, |_| false);
        assert_eq!(doubts.0.len(), 0);
    }
}
