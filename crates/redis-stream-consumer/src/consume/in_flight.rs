//! Entries in flight, by ID: those buffered or being handled, and those waiting for their next delivery. Pure: the
//! time is a parameter.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::entry::StreamId;

/// While so many entries wait for their next delivery, no new ones are read.
const MAX_WAITING: usize = 1_000;
/// Most IDs in one XCLAIM that returns no payload.
pub(super) const CLAIM_IDS: usize = 500;

/// An entry whose fields are in this process: queued, being handled, or not acknowledged yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Buffered {
    /// Upper bound of the server's delivery time.
    touched: Instant,
    deliveries: u64,
    history: History,
}

/// The attempts of this process at an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct History {
    /// Number of deliveries that do not count.
    uncounted: u64,
    /// Number of failures with a success of another entry between each two, and the consumer's successes at the last.
    separate_failures: u32,
    successes: u64,
}

/// An entry known by its ID only, which waits for its next delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RetryEntry {
    pub(super) due: Instant,
    /// Upper bound of the server's delivery time.
    pub(super) touched: Instant,
    /// Number of deliveries so far that count.
    pub(super) deliveries: u64,
    history: History,
    /// Reason of the last failure; `None` if the entry was not handled by this process.
    pub(super) error: Option<String>,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Retry,
    /// The handler rejected the entry: it moves to the dead-letter stream whatever its deliveries are.
    Rejected,
}

impl RetryEntry {
    /// Returns an entry that this process has not handled.
    pub(super) fn new(due: Instant, touched: Instant, deliveries: u64) -> Self {
        Self { due, touched, deliveries, history: History::default(), error: None, verdict: Verdict::Retry }
    }

    fn is_exhausted(&self, max_deliveries: u64) -> bool {
        self.verdict == Verdict::Rejected || (max_deliveries > 0 && self.deliveries >= max_deliveries)
    }
}

/// All entries that are pending for this consumer, as far as it knows.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    buffered: HashMap<StreamId, Buffered>,
    waiting: BTreeMap<StreamId, RetryEntry>,
    next_due: Option<Instant>,
}

/// Entries whose retry is due.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct DueRetries {
    /// Entries that used up their deliveries.
    pub(super) exhausted: Vec<(StreamId, RetryEntry)>,
    pub(super) ready: Vec<(StreamId, RetryEntry)>,
}

/// The entries whose claims are renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RenewalScope {
    All,
    /// Not those that wait for their next delivery: other consumers may claim them.
    Buffered,
}

/// IDs that can share one XCLAIM.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClaimBatch {
    pub(super) ids: Vec<StreamId>,
    /// The latest of the times at which they were touched.
    touched: Instant,
}

impl ClaimBatch {
    /// Returns the idle time that these entries have at least unless another consumer claimed them, so that an XCLAIM
    /// with it takes nothing away. It is a little less than by this clock, since the server's may be slower.
    pub(super) fn min_idle(&self, now: Instant) -> Duration {
        let elapsed = now.saturating_duration_since(self.touched);
        elapsed.mul_f64(0.99).saturating_sub(Duration::from_millis(2))
    }
}

impl InFlight {
    pub(super) fn len(&self) -> usize {
        self.buffered.len() + self.waiting.len()
    }

    pub(super) fn buffered(&self) -> usize {
        self.buffered.len()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_WAITING
    }

    pub(super) fn contains(&self, id: StreamId) -> bool {
        self.is_buffered(id) || self.waiting.contains_key(&id)
    }

    pub(super) fn is_buffered(&self, id: StreamId) -> bool {
        self.buffered.contains_key(&id)
    }

    /// Corrects the deliveries of an entry that waits.
    pub(super) fn set_deliveries(&mut self, id: StreamId, deliveries: u64) {
        if let Some(entry) = self.waiting.get_mut(&id) {
            entry.deliveries = deliveries;
        }
    }

    /// Adds an entry that was delivered. Returns false if it is buffered already and must not be handled twice: a
    /// group that was created again delivers everything again.
    pub(super) fn buffer(&mut self, id: StreamId, deliveries: u64, touched: Instant) -> bool {
        let history = self.waiting.get(&id).map(|entry| entry.history).unwrap_or_default();
        self.stop_waiting(id);
        self.buffered.insert(id, Buffered { touched, deliveries, history }).is_none()
    }

    /// Adds an entry that waits for its next delivery.
    pub(super) fn wait(&mut self, id: StreamId, entry: RetryEntry) {
        self.next_due = Some(self.next_due.map_or(entry.due, |next| next.min(entry.due)));
        self.waiting.insert(id, entry);
    }

    pub(super) fn postpone(&mut self, id: StreamId, due: Instant) {
        if let Some(entry) = self.waiting.get_mut(&id) {
            entry.due = due;
            self.update_next_due();
        }
    }

    /// Returns the deliveries of a buffered entry; `None` if another consumer claimed it.
    pub(super) fn deliveries(&self, id: StreamId) -> Option<u64> {
        self.buffered.get(&id).map(|entry| entry.deliveries)
    }

    /// Returns how often a buffered entry was delivered, including deliveries that do not count; `None` if another
    /// consumer claimed it.
    pub(super) fn attempts(&self, id: StreamId) -> Option<u64> {
        self.buffered.get(&id).map(|entry| entry.deliveries.saturating_add(entry.history.uncounted))
    }

    /// Notes the failure of a buffered entry, given how many entries the consumer has handled. Returns how often it failed,
    /// counting failures without a success between them once.
    pub(super) fn note_failure(&mut self, id: StreamId, successes: u64) -> u32 {
        let Some(Buffered { history, .. }) = self.buffered.get_mut(&id) else { return 1 };
        if history.separate_failures == 0 || history.successes != successes {
            history.separate_failures = history.separate_failures.saturating_add(1);
            history.successes = successes;
        }
        history.separate_failures
    }

    /// Moves a buffered entry to those that wait.
    pub(super) fn fail(&mut self, id: StreamId, due: Instant, error: String) {
        self.stop_handling(id, due, error, Verdict::Retry);
    }

    /// Moves a buffered entry that was not started to those that wait.
    pub(super) fn put_back(&mut self, id: StreamId, due: Instant) {
        if let Some(Buffered { touched, deliveries, history }) = self.buffered.remove(&id) {
            self.wait(id, RetryEntry { history, ..RetryEntry::new(due, touched, deliveries) });
        }
    }

    /// Moves a buffered entry to those that wait, due for the dead-letter stream.
    pub(super) fn reject(&mut self, id: StreamId, at: Instant, error: String) {
        self.stop_handling(id, at, error, Verdict::Rejected);
    }

    fn stop_handling(&mut self, id: StreamId, due: Instant, error: String, verdict: Verdict) {
        if let Some(Buffered { touched, deliveries, history }) = self.buffered.remove(&id) {
            self.wait(id, RetryEntry { due, touched, deliveries, history, error: Some(error), verdict });
        }
    }

    /// Takes back deliveries of an entry that waits. Returns how many are left; `None` if it does not wait.
    pub(super) fn uncount(&mut self, id: StreamId, deliveries: u64) -> Option<u64> {
        let entry = self.waiting.get_mut(&id)?;
        entry.history.uncounted += deliveries;
        entry.deliveries = entry.deliveries.saturating_sub(deliveries);
        Some(entry.deliveries)
    }

    pub(super) fn last_touch(&self, id: StreamId) -> Option<Instant> {
        let buffered = self.buffered.get(&id).map(|entry| entry.touched);
        buffered.or_else(|| self.waiting.get(&id).map(|entry| entry.touched))
    }

    /// Returns all entries with the time at which each was last touched.
    pub(super) fn touched(&self) -> Vec<(StreamId, Instant)> {
        let buffered = self.buffered.iter().map(|(id, entry)| (*id, entry.touched));
        buffered.chain(self.waiting.iter().map(|(id, entry)| (*id, entry.touched))).collect()
    }

    pub(super) fn remove(&mut self, id: StreamId) {
        self.buffered.remove(&id);
        self.stop_waiting(id);
    }

    fn stop_waiting(&mut self, id: StreamId) {
        if self.waiting.remove(&id).is_some() {
            self.update_next_due();
        }
    }

    fn update_next_due(&mut self) {
        self.next_due = self.waiting.values().map(|entry| entry.due).min();
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next_due.is_some_and(|due| due <= now)
    }

    /// Returns when the next retry is due; `None` while no entry waits.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.next_due
    }

    /// Returns due entries in the order of the stream: up to `max_exhausted` with `max_deliveries` deliveries or more
    /// (0: no limit) or that were rejected, and up to `max_ready` others. They wait until they are claimed, since the
    /// reply may be lost.
    pub(super) fn due(
        &self,
        now: Instant,
        max_deliveries: u64,
        max_exhausted: usize,
        max_ready: usize,
    ) -> DueRetries {
        let mut due = DueRetries::default();
        if !self.is_due(now) {
            return due;
        }
        for (id, entry) in self.waiting.iter().filter(|(_, entry)| entry.due <= now) {
            let (list, max) = match entry.is_exhausted(max_deliveries) {
                true => (&mut due.exhausted, max_exhausted),
                false => (&mut due.ready, max_ready),
            };
            if list.len() < max {
                list.push((*id, entry.clone()));
            }
        }
        due
    }

    /// Returns up to `max_rejected` rejected entries.
    pub(super) fn rejected(&self, max_rejected: usize) -> Vec<(StreamId, RetryEntry)> {
        let rejected = self.waiting.iter().filter(|(_, entry)| entry.verdict == Verdict::Rejected);
        rejected.take(max_rejected).map(|(id, entry)| (*id, entry.clone())).collect()
    }

    /// Returns the entry that is due for the longest time, without those that used up their deliveries.
    pub(super) fn longest_due(&self, now: Instant, max_deliveries: u64) -> Option<(StreamId, RetryEntry)> {
        let is_ready =
            |entry: &&(&StreamId, &RetryEntry)| entry.1.due <= now && !entry.1.is_exhausted(max_deliveries);
        let longest =
            self.waiting.iter().filter(|entry| is_ready(&entry)).min_by_key(|(_, entry)| entry.due)?;
        Some((*longest.0, longest.1.clone()))
    }

    /// Returns the entries that were last touched at least `age` ago, in batches for XCLAIM.
    pub(super) fn untouched(
        &self,
        now: Instant,
        age: Duration,
        spread: Duration,
        scope: RenewalScope,
    ) -> Vec<ClaimBatch> {
        let mut touched = self.touched();
        touched.retain(|(id, touched)| {
            let is_in_scope = scope == RenewalScope::All || self.is_buffered(*id);
            is_in_scope && now.saturating_duration_since(*touched) >= age
        });
        claim_batches(touched, spread, CLAIM_IDS)
    }

    pub(super) fn touch(&mut self, id: StreamId, at: Instant) {
        if let Some(entry) = self.buffered.get_mut(&id) {
            entry.touched = at;
        } else if let Some(entry) = self.waiting.get_mut(&id) {
            entry.touched = at;
        }
    }
}

/// Groups IDs that were touched within `spread`, so that one idle time fits all of a batch; `max` in each.
pub(super) fn claim_batches(
    mut touched: Vec<(StreamId, Instant)>,
    spread: Duration,
    max: usize,
) -> Vec<ClaimBatch> {
    touched.sort_unstable_by_key(|(id, touched)| (*touched, *id));
    let mut batches: Vec<ClaimBatch> = Vec::new();
    let mut first = None;
    for (id, at) in touched {
        match (batches.last_mut(), first) {
            (Some(batch), Some(first)) if batch.ids.len() < max && at - first <= spread => {
                batch.ids.push(id);
                batch.touched = at;
            }
            _ => {
                first = Some(at);
                batches.push(ClaimBatch { ids: vec![id], touched: at });
            }
        }
    }
    batches.iter_mut().for_each(|batch| batch.ids.sort_unstable());
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis_stream_core::clock::now;

    const SECOND: Duration = Duration::from_secs(1);

    fn id(ms: u64) -> StreamId {
        StreamId { ms, seq: 0 }
    }

    fn entry(due: Instant, deliveries: u64) -> RetryEntry {
        RetryEntry::new(due, due, deliveries)
    }

    fn ids(due: &[(StreamId, RetryEntry)]) -> Vec<u64> {
        due.iter().map(|(id, _)| id.ms).collect()
    }

    #[test]
    fn an_entry_is_buffered_until_it_is_acknowledged_and_is_not_handled_twice() {
        let (mut in_flight, start) = (InFlight::default(), now());
        assert!(in_flight.buffer(id(1), 1, start));
        assert!(in_flight.buffer(id(2), 1, start));
        assert!(!in_flight.buffer(id(1), 1, start), "a group that was created again delivers it again");
        in_flight.remove(id(1));
        let is_known = |ms| in_flight.contains(id(ms));
        assert_eq!((in_flight.buffered(), is_known(1), is_known(2)), (1, false, true));
    }

    #[test]
    fn due_retries_come_in_order_within_the_limit_and_apart_from_the_exhausted() {
        let (mut in_flight, start) = (InFlight::default(), now());
        for (ms, deliveries) in [(5, 1), (1, 3), (4, 2), (3, 1), (2, 4)] {
            in_flight.wait(id(ms), entry(start, deliveries));
        }
        in_flight.wait(id(9), entry(start + SECOND, 1));
        let due = in_flight.due(start, 3, 10, 2);
        assert_eq!((ids(&due.exhausted), ids(&due.ready)), (vec![1, 2], vec![3, 4]));
        (1..=4).for_each(|ms| in_flight.remove(id(ms)));
        assert!(in_flight.is_due(start), "5 is left");
        assert_eq!(ids(&in_flight.due(start, 0, 10, 10).ready), [5]);
        in_flight.remove(id(5));
        assert_eq!((in_flight.is_due(start), in_flight.next_due()), (false, Some(start + SECOND)));
        assert_eq!(ids(&in_flight.due(start + SECOND, 0, 10, 10).ready), [9]);
        in_flight.remove(id(9));
        assert_eq!(in_flight.next_due(), None);
    }

    #[test]
    fn a_failed_entry_waits_with_its_deliveries_unless_another_consumer_claimed_it() {
        let (mut in_flight, start) = (InFlight::default(), now());
        in_flight.buffer(id(1), 2, start);
        in_flight.buffer(id(2), 1, start);
        in_flight.remove(id(2));
        in_flight.fail(id(2), start, "late".to_owned());
        in_flight.fail(id(1), start + SECOND, "no".to_owned());
        let due = in_flight.due(start + SECOND, 0, 10, 10);
        let error = Some("no".to_owned());
        let expected = RetryEntry { error, ..RetryEntry::new(start + SECOND, start, 2) };
        assert_eq!(due.ready, [(id(1), expected)]);
    }

    #[test]
    fn a_delivery_that_is_taken_back_still_delays_the_next_attempt() {
        let (mut in_flight, start) = (InFlight::default(), now());
        in_flight.buffer(id(1), 1, start);
        assert_eq!(in_flight.uncount(id(1), 1), None, "it is being handled");
        in_flight.fail(id(1), start, "later".to_owned());
        assert_eq!(in_flight.uncount(id(1), 1), Some(0));
        in_flight.buffer(id(1), 1, start);
        assert_eq!((in_flight.deliveries(id(1)), in_flight.attempts(id(1))), (Some(1), Some(2)));
    }

    #[test]
    fn failures_are_separate_with_a_success_between_them() {
        let (mut in_flight, start) = (InFlight::default(), now());
        let mut failures = Vec::new();
        for successes in [7, 7, 8, 8, 20] {
            in_flight.buffer(id(1), 1, start);
            failures.push(in_flight.note_failure(id(1), successes));
            in_flight.fail(id(1), start, "no".to_owned());
        }
        assert_eq!(failures, [1, 1, 2, 2, 3]);
        assert_eq!(in_flight.note_failure(id(2), 20), 1, "another consumer claimed it");
    }

    #[test]
    fn a_rejected_entry_is_exhausted_at_once_and_no_entry_for_a_trial() {
        let (mut in_flight, start) = (InFlight::default(), now());
        for ms in [1, 2, 3] {
            in_flight.buffer(id(ms), 1, start);
        }
        in_flight.reject(id(1), start, "never".to_owned());
        in_flight.fail(id(2), start + SECOND, "later".to_owned());
        in_flight.fail(id(3), start, "now".to_owned());
        assert_eq!(ids(&in_flight.due(start, 0, 10, 10).exhausted), [1]);
        assert_eq!(ids(&in_flight.rejected(10)), [1]);
        let longest = |at| in_flight.longest_due(at, 2).map(|(id, _)| id.ms);
        assert_eq!((longest(start), longest(start + SECOND)), (Some(3), Some(3)));
        assert_eq!(in_flight.longest_due(start, 1), None, "all used up their deliveries");
    }

    #[test]
    fn a_batch_takes_no_entry_that_another_consumer_claimed() {
        let start = now();
        let touched = vec![
            (id(3), start),
            (id(1), start + SECOND / 10),
            (id(2), start + SECOND),
            (id(4), start + SECOND * 2),
        ];
        let batches = claim_batches(touched, SECOND / 5, CLAIM_IDS);
        let ids: Vec<Vec<u64>> = batches.iter().map(|b| b.ids.iter().map(|id| id.ms).collect()).collect();
        assert_eq!(ids, [vec![1, 3], vec![2], vec![4]]);
        let idle: Vec<u128> = batches.iter().map(|b| b.min_idle(start + SECOND * 2).as_millis()).collect();
        assert_eq!(idle, [1_879, 988, 0]);
    }

    #[test]
    fn only_entries_untouched_for_long_are_touched_again() {
        let (mut in_flight, start) = (InFlight::default(), now());
        in_flight.buffer(id(1), 1, start);
        in_flight.buffer(id(2), 1, start + SECOND);
        in_flight.wait(id(3), entry(start, 1));
        let untouched = |in_flight: &InFlight, scope| {
            let batches = in_flight.untouched(start + SECOND, SECOND, Duration::ZERO, scope);
            batches.into_iter().flat_map(|batch| batch.ids).map(|id| id.ms).collect::<Vec<_>>()
        };
        assert_eq!(untouched(&in_flight, RenewalScope::All), [1, 3]);
        assert_eq!(untouched(&in_flight, RenewalScope::Buffered), [1]);
        in_flight.touch(id(1), start + SECOND);
        in_flight.touch(id(3), start + SECOND);
        assert_eq!(untouched(&in_flight, RenewalScope::All), [0; 0]);
    }
}
