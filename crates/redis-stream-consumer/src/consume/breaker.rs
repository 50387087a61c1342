//! A circuit breaker: it opens when different entries fail one after the other and none succeeds, since then the
//! cause is the handler, or a service that it depends on, and not an entry. Pure: time and randomness are parameters.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use crate::entry::StreamId;
use redis_stream_core::backoff::Backoff;

/// An entry that failed so often, with successes of other entries between, is itself the cause. It does not open the
/// breaker, or else entries that always fail would open it again and again, and never come to an end.
const SUSPECT_FAILURES: u32 = 3;

pub(super) struct Breaker {
    /// Number of different entries that must fail in a row; 0: it never opens.
    threshold: usize,
    /// Delays between trials.
    backoff: Backoff,
    state: State,
}

enum State {
    /// The entries that failed since the last success, with the number of their failed deliveries that counted.
    Closed(BTreeMap<StreamId, u64>),
    /// Entries are tried one by one. The next trial begins at this time, after so many that failed, with these entries.
    Open { next_trial: Instant, failed_trials: u32, tried: BTreeSet<StreamId> },
}

/// The effect of a failed delivery on the number of an entry's deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counting {
    Counted,
    NotCounted,
}

impl Breaker {
    pub(super) fn new(threshold: usize, backoff: Backoff) -> Self {
        Self { threshold, backoff, state: State::Closed(BTreeMap::new()) }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Returns when the next entry is to be tried; `None` while the breaker is closed.
    pub(super) fn next_trial(&self) -> Option<Instant> {
        match self.state {
            State::Closed(_) => None,
            State::Open { next_trial, .. } => Some(next_trial),
        }
    }

    /// Notes a success, which closes the breaker. If it was open, returns the entries whose trials failed.
    pub(super) fn succeeded(&mut self) -> Option<BTreeSet<StreamId>> {
        match &mut self.state {
            State::Closed(failed) => {
                failed.clear();
                None
            }
            State::Open { tried, .. } => {
                let tried = std::mem::take(tried);
                self.state = State::Closed(BTreeMap::new());
                Some(tried)
            }
        }
    }

    /// Notes a failed delivery of an entry that failed `separate_failures` times, counting failures without a success
    /// between them once. If it opens the breaker, returns the entries that failed, each with the number of deliveries to
    /// take back.
    pub(super) fn failed(
        &mut self,
        id: StreamId,
        separate_failures: u32,
        counting: Counting,
        at: Instant,
    ) -> Option<BTreeMap<StreamId, u64>> {
        let State::Closed(failed) = &mut self.state else { return None };
        if self.threshold == 0 || separate_failures >= SUSPECT_FAILURES {
            return None;
        }
        *failed.entry(id).or_default() += u64::from(counting == Counting::Counted);
        if failed.len() < self.threshold {
            return None;
        }
        let failed = std::mem::take(failed);
        let next_trial = at + self.backoff.bound(1);
        self.state = State::Open { next_trial, failed_trials: 0, tried: BTreeSet::new() };
        Some(failed)
    }

    /// Notes a failed trial, which delays the next one; `random` is from 0 to 1.
    pub(super) fn trial_failed(&mut self, id: StreamId, at: Instant, random: f64) {
        if let State::Open { next_trial, failed_trials, tried } = &mut self.state {
            tried.insert(id);
            *failed_trials = failed_trials.saturating_add(1);
            // From three quarters of the bound on, so that many consumers do not act at once.
            *next_trial = at + self.backoff.delay(failed_trials.saturating_add(1), 0.75 + random / 4.0);
        }
    }

    /// Notes a trial that proves nothing, since the entry was rejected or is gone: the next one begins at once.
    pub(super) fn trial_inconclusive(&mut self, at: Instant) {
        if let State::Open { next_trial, .. } = &mut self.state {
            *next_trial = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Counting::{Counted, NotCounted};
    use super::*;
    use redis_stream_core::clock::now;

    const SECOND: Duration = Duration::from_secs(1);

    fn id(ms: u64) -> StreamId {
        StreamId { ms, seq: 0 }
    }

    fn breaker(threshold: usize) -> Breaker {
        Breaker::new(threshold, Backoff::new(SECOND, SECOND * 60))
    }

    /// A success, or a failure of the entry with this number.
    enum Event {
        Success,
        Failure(u64),
    }
    use Event::{Failure, Success};

    #[test]
    fn it_opens_after_different_entries_in_a_row_without_a_success() {
        let start = now();
        for (threshold, events, is_open) in [
            (3, vec![Failure(1), Failure(2)], false),
            (3, vec![Failure(1), Failure(2), Failure(3)], true),
            (3, vec![Failure(1), Failure(2), Success, Failure(3)], false),
            (3, vec![Failure(1), Failure(1), Failure(1), Failure(1)], false),
            (3, vec![Failure(1), Failure(2), Failure(1), Failure(3)], true),
            (3, vec![Failure(1), Failure(2), Failure(3), Success], false),
            (1, vec![Failure(1)], true),
            (0, vec![Failure(1), Failure(2), Failure(3)], false),
        ] {
            let mut breaker = breaker(threshold);
            for event in &events {
                match event {
                    Success => drop(breaker.succeeded()),
                    Failure(ms) => drop(breaker.failed(id(*ms), 1, Counted, start)),
                }
            }
            assert_eq!(breaker.is_open(), is_open, "{threshold} {}", events.len());
            assert_eq!(breaker.next_trial().is_some(), is_open);
        }
    }

    #[test]
    fn deliveries_that_counted_are_taken_back_when_it_opens() {
        let (mut breaker, start) = (breaker(3), now());
        for (ms, counting) in [(1, Counted), (2, NotCounted), (1, Counted)] {
            assert_eq!(breaker.failed(id(ms), 1, counting, start), None);
        }
        let expected = BTreeMap::from([(id(1), 2), (id(2), 0), (id(3), 1)]);
        assert_eq!(breaker.failed(id(3), 1, Counted, start), Some(expected));
        assert_eq!(breaker.failed(id(4), 1, Counted, start), None, "it is open");
    }

    #[test]
    fn entries_that_fail_between_successes_of_others_do_not_open_it() {
        let (mut breaker, start) = (breaker(2), now());
        for (ms, separate_failures, is_open) in [(1, 1, false), (2, 3, false), (3, 4, false), (4, 2, true)] {
            breaker.failed(id(ms), separate_failures, Counted, start);
            assert_eq!(breaker.is_open(), is_open, "{ms}");
        }
    }

    #[test]
    fn trials_come_less_and_less_often_up_to_once_a_minute() {
        let (mut breaker, start) = (breaker(1), now());
        breaker.failed(id(1), 1, Counted, start);
        let mut delays = vec![breaker.next_trial().unwrap() - start];
        for _ in 0..7 {
            breaker.trial_failed(id(1), start, 1.0);
            delays.push(breaker.next_trial().unwrap() - start);
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60].map(Duration::from_secs));
        breaker.trial_failed(id(2), start, 0.0);
        assert_eq!(breaker.next_trial().unwrap() - start, Duration::from_secs(45));
        breaker.trial_inconclusive(start);
        assert_eq!(breaker.next_trial(), Some(start));
        assert_eq!(breaker.succeeded(), Some(BTreeSet::from([id(1), id(2)])));
        assert_eq!(breaker.succeeded(), None);
        breaker.failed(id(2), 1, Counted, start);
        assert_eq!(breaker.next_trial().unwrap() - start, SECOND, "it begins from the start");
    }
}
