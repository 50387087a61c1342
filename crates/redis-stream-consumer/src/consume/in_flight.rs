//! What a consumer has in hand, by ID: what is being handled, what waits to be tried again, what is done and
//! not acknowledged. Pure: the time is a parameter.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::entry::StreamId;

/// An entry whose fields are here: queued, being handled, or done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Buffered {
    /// The server's delivery time is not later than this.
    touched: Instant,
    deliveries: u64,
}

/// An entry of which only the ID is here: it waits to be delivered again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RetryEntry {
    /// Not before this.
    pub(super) due: Instant,
    /// The server's delivery time is not later than this.
    pub(super) touched: Instant,
    /// How often it was delivered so far.
    pub(super) deliveries: u64,
    /// Why its handler failed; `None` where that is not known.
    pub(super) error: Option<String>,
}

/// All that a consumer has in hand.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    held: HashMap<StreamId, Buffered>,
    waiting: BTreeMap<StreamId, RetryEntry>,
    /// Handled, in the order in which they were: to be acknowledged.
    done: Vec<(StreamId, Instant)>,
    /// Nothing that waits is due before.
    next_due: Option<Instant>,
}

/// What is due to be tried again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct DueRetries {
    /// Delivered often enough.
    pub(super) exhausted: Vec<(StreamId, RetryEntry)>,
    /// To be delivered again.
    pub(super) ready: Vec<(StreamId, RetryEntry)>,
}

/// IDs that can share one XCLAIM.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClaimBatch {
    pub(super) ids: Vec<StreamId>,
    /// When the one was touched that was touched last.
    touched: Instant,
}

impl ClaimBatch {
    /// The idle time that these entries have at least, unless somebody else took them: XCLAIM with it takes
    /// nothing away from anybody. A little less than by our clock, for the server's may go slower.
    pub(super) fn min_idle(&self, now: Instant) -> Duration {
        let elapsed = now.saturating_duration_since(self.touched);
        elapsed.mul_f64(0.99).saturating_sub(Duration::from_millis(2))
    }
}

impl InFlight {
    /// How many entries have their fields here.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// How many wait to be tried again.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether it is known here in any state.
    pub(super) fn knows(&self, id: StreamId) -> bool {
        self.held.contains_key(&id) || self.waiting.contains_key(&id)
    }

    /// Whether its fields are here.
    pub(super) fn is_held(&self, id: StreamId) -> bool {
        self.held.contains_key(&id)
    }

    /// The server says how often an entry that waits was delivered.
    pub(super) fn note_deliveries(&mut self, id: StreamId, deliveries: u64) {
        if let Some(waiting) = self.waiting.get_mut(&id) {
            waiting.deliveries = deliveries;
        }
    }

    /// Notes an entry that was delivered. False: it is held already, and not to be handled twice; a group that was
    /// made anew delivers again.
    pub(super) fn hold(&mut self, id: StreamId, deliveries: u64, touched: Instant) -> bool {
        self.stop_waiting(id);
        self.held.insert(id, Buffered { touched, deliveries }).is_none()
    }

    /// Notes an entry that is to be delivered again.
    pub(super) fn wait(&mut self, id: StreamId, waiting: RetryEntry) {
        self.next_due = Some(self.next_due.map_or(waiting.due, |next| next.min(waiting.due)));
        self.waiting.insert(id, waiting);
    }

    /// It waits for longer.
    pub(super) fn postpone(&mut self, id: StreamId, due: Instant) {
        if let Some(waiting) = self.waiting.get_mut(&id) {
            waiting.due = due;
            self.next_due = self.waiting.values().map(|waiting| waiting.due).min();
        }
    }

    /// An entry was handled.
    pub(super) fn done(&mut self, id: StreamId, finished: Instant) {
        self.done.push((id, finished));
    }

    /// Whether it was handled, and is to be acknowledged.
    pub(super) fn is_done(&self, id: StreamId) -> bool {
        self.done.iter().any(|(done, _)| *done == id)
    }

    /// How often an entry that is held was delivered; `None` if it belongs to somebody else by now.
    pub(super) fn deliveries(&self, id: StreamId) -> Option<u64> {
        self.held.get(&id).map(|held| held.deliveries)
    }

    /// An entry that is held failed, and waits.
    pub(super) fn fail(&mut self, id: StreamId, due: Instant, error: String) {
        if let Some(Buffered { touched, deliveries }) = self.held.remove(&id) {
            self.wait(id, RetryEntry { due, touched, deliveries, error: Some(error) });
        }
    }

    /// It is somebody else's now, or gone.
    pub(super) fn forget(&mut self, id: StreamId) {
        self.held.remove(&id);
        self.stop_waiting(id);
    }

    fn stop_waiting(&mut self, id: StreamId) {
        if self.waiting.remove(&id).is_some() {
            self.next_due = self.waiting.values().map(|waiting| waiting.due).min();
        }
    }

    /// What was handled and is not acknowledged, the first of it.
    pub(super) fn to_acknowledge(&self, most: usize) -> &[(StreamId, Instant)] {
        &self.done[..self.done.len().min(most)]
    }

    /// The first so many were acknowledged.
    pub(super) fn acknowledged(&mut self, count: usize) {
        for (id, _) in self.done.drain(..count) {
            self.held.remove(&id);
        }
    }

    /// Whether something waits that is due.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next_due.is_some_and(|due| due <= now)
    }

    /// When the next look is worth it; `None` while nothing waits.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.next_due
    }

    /// Takes out what is due, in order: up to `most` that were delivered `max_deliveries` times (0: never), up
    /// to `room` of the others.
    pub(super) fn due(&mut self, now: Instant, max_deliveries: u64, most: usize, room: usize) -> DueRetries {
        let mut due = DueRetries::default();
        if !self.is_due(now) {
            return due;
        }
        let mut taken = Vec::new();
        for (id, waiting) in self.waiting.iter().filter(|(_, waiting)| waiting.due <= now) {
            let is_exhausted = max_deliveries > 0 && waiting.deliveries >= max_deliveries;
            let (list, most) = if is_exhausted { (&mut due.exhausted, most) } else { (&mut due.ready, room) };
            if list.len() < most {
                list.push((*id, waiting.clone()));
                taken.push(*id);
            }
        }
        for id in taken {
            self.waiting.remove(&id);
        }
        self.next_due = self.waiting.values().map(|waiting| waiting.due).min();
        due
    }

    /// Everything that was not touched for so long, in batches for XCLAIM.
    pub(super) fn untouched(&self, now: Instant, since: Duration, spread: Duration) -> Vec<ClaimBatch> {
        let held = self.held.iter().map(|(id, held)| (*id, held.touched));
        let waiting = self.waiting.iter().map(|(id, waiting)| (*id, waiting.touched));
        let is_old = |(_, touched): &(StreamId, Instant)| now.saturating_duration_since(*touched) >= since;
        batches(held.chain(waiting).filter(is_old).collect(), spread, BATCH_IDS)
    }

    /// The server's delivery time of an entry is now.
    pub(super) fn touch(&mut self, id: StreamId, at: Instant) {
        if let Some(held) = self.held.get_mut(&id) {
            held.touched = at;
        } else if let Some(waiting) = self.waiting.get_mut(&id) {
            waiting.touched = at;
        }
    }
}

/// Most IDs in one XCLAIM that gives no payload.
pub(super) const BATCH_IDS: usize = 500;

/// Groups IDs that were touched at about the same time, so that one least idle time fits all of a batch of `most`.
pub(super) fn batches(
    mut touched: Vec<(StreamId, Instant)>,
    spread: Duration,
    most: usize,
) -> Vec<ClaimBatch> {
    touched.sort_unstable_by_key(|(id, touched)| (*touched, *id));
    let mut batches: Vec<ClaimBatch> = Vec::new();
    let mut first = None;
    for (id, at) in touched {
        match (batches.last_mut(), first) {
            (Some(batch), Some(first)) if batch.ids.len() < most && at - first <= spread => {
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

    fn waiting(due: Instant, deliveries: u64) -> RetryEntry {
        RetryEntry { due, touched: due, deliveries, error: None }
    }

    fn ids(due: &[(StreamId, RetryEntry)]) -> Vec<u64> {
        due.iter().map(|(id, _)| id.ms).collect()
    }

    #[test]
    fn an_entry_is_held_until_it_is_acknowledged_and_is_not_handled_twice() {
        let (mut hand, start) = (InFlight::default(), now());
        assert!(hand.hold(id(1), 1, start));
        assert!(hand.hold(id(2), 1, start));
        hand.done(id(1), start);
        assert!(!hand.hold(id(1), 1, start), "a group that was made anew delivers it again");
        assert_eq!(hand.to_acknowledge(10), [(id(1), start)]);
        hand.acknowledged(1);
        assert_eq!((hand.held(), hand.knows(id(1)), hand.knows(id(2))), (1, false, true));
    }

    #[test]
    fn what_is_due_comes_in_order_within_the_room_and_apart_from_what_is_exhausted() {
        let (mut hand, start) = (InFlight::default(), now());
        for (ms, deliveries) in [(5, 1), (1, 3), (4, 2), (3, 1), (2, 4)] {
            hand.wait(id(ms), waiting(start, deliveries));
        }
        hand.wait(id(9), waiting(start + SECOND, 1));
        let due = hand.due(start, 3, 10, 2);
        assert_eq!((ids(&due.exhausted), ids(&due.ready)), (vec![1, 2], vec![3, 4]));
        assert!(hand.is_due(start), "5 is left");
        assert_eq!(ids(&hand.due(start, 0, 10, 10).ready), [5]);
        assert_eq!((hand.is_due(start), hand.next_due()), (false, Some(start + SECOND)));
        assert_eq!(ids(&hand.due(start + SECOND, 0, 10, 10).ready), [9]);
        assert_eq!(hand.next_due(), None);
    }

    #[test]
    fn a_failure_waits_with_its_deliveries_and_what_was_taken_away_is_forgotten() {
        let (mut hand, start) = (InFlight::default(), now());
        hand.hold(id(1), 2, start);
        hand.hold(id(2), 1, start);
        hand.forget(id(2));
        hand.fail(id(2), start, "late".to_owned());
        hand.fail(id(1), start + SECOND, "no".to_owned());
        let due = hand.due(start + SECOND, 0, 10, 10);
        let expected =
            RetryEntry { due: start + SECOND, touched: start, deliveries: 2, error: Some("no".to_owned()) };
        assert_eq!(due.ready, [(id(1), expected)]);
    }

    #[test]
    fn a_batch_takes_nothing_from_anybody_who_took_one_of_it() {
        let start = now();
        let touched = vec![
            (id(3), start),
            (id(1), start + SECOND / 10),
            (id(2), start + SECOND),
            (id(4), start + SECOND * 2),
        ];
        let batches = batches(touched, SECOND / 5, BATCH_IDS);
        let ids: Vec<Vec<u64>> = batches.iter().map(|b| b.ids.iter().map(|id| id.ms).collect()).collect();
        assert_eq!(ids, [vec![1, 3], vec![2], vec![4]]);
        let idle: Vec<u128> = batches.iter().map(|b| b.min_idle(start + SECOND * 2).as_millis()).collect();
        assert_eq!(idle, [1_879, 988, 0]);
    }

    #[test]
    fn only_what_was_not_touched_for_long_is_touched_again() {
        let (mut hand, start) = (InFlight::default(), now());
        hand.hold(id(1), 1, start);
        hand.hold(id(2), 1, start + SECOND);
        hand.wait(id(3), waiting(start, 1));
        let batches = hand.untouched(start + SECOND, SECOND, Duration::ZERO);
        assert_eq!(batches, [ClaimBatch { ids: vec![id(1), id(3)], touched: start }]);
        hand.touch(id(1), start + SECOND);
        hand.touch(id(3), start + SECOND);
        assert_eq!(hand.untouched(start + SECOND, SECOND, Duration::ZERO), []);
    }
}
