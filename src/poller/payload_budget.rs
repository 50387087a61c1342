//! Selects the streams that a poll reads, within the budget for payload.
//!
//! XINFO STREAM returns the first and the last entry with their payload, so a stream with entries of 1 MB costs 2 MB
//! each time. Streams with small entries are read in every poll, and cost nothing of the budget, so that many of them
//! leave it to lags that have to be counted; those with large ones take turns, so that the budget holds on average.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::poller::streams::{ReplyBytes, TrackedStream};

/// Entries up to this size are read in every poll, however many streams there are.
const SMALL_PAYLOAD: u64 = 2 * 1024;

/// The most streams that were never read and are asked for at a time.
const MAX_WINDOW: usize = 64;

#[derive(Debug)]
pub(super) struct PayloadBudget {
    per_poll: u64,
    /// Bytes that may be read now; negative after a stream that costs more than one poll's budget.
    balance: i128,
}

impl PayloadBudget {
    pub(super) fn new(per_poll: u64) -> Self {
        Self { per_poll, balance: 0 }
    }

    /// Adds one poll's budget. Unspent bytes do not accumulate.
    pub(super) fn begin_poll(&mut self) {
        let per_poll = i128::from(self.per_poll);
        self.balance = (self.balance + per_poll).min(per_poll);
    }

    /// Returns the bytes of one poll.
    pub(super) fn per_poll(&self) -> u64 {
        self.per_poll
    }

    /// Returns the bytes that are left.
    pub(super) fn left(&self) -> u64 {
        u64::try_from(self.balance.max(0)).unwrap_or(u64::MAX)
    }

    /// Subtracts bytes that were read.
    pub(super) fn spend(&mut self, bytes: u64) {
        self.balance -= i128::from(bytes);
    }

    /// Returns the positions of the streams to read in this poll, those that waited longest first.
    /// Streams with very many groups are left out of most polls.
    pub(super) fn select(&self, tracked: &[TrackedStream], poll_number: u64) -> Vec<usize> {
        // A stream that was never read is assumed to be of average size.
        let known = tracked.iter().filter_map(|stream| stream.reply_bytes.map(ReplyBytes::payload));
        let likely = known.clone().sum::<u64>() / known.count().max(1) as u64;
        let payload = |at: usize| tracked[at].reply_bytes.map_or(likely, ReplyBytes::payload);
        let mut order: Vec<usize> =
            (0..tracked.len()).filter(|at| !tracked[*at].waits(poll_number)).collect();
        // Stable, so that streams of equal rank stay ordered by their keys.
        order.sort_by_key(|&at| tracked[at].last_read);
        let mut balance = self.balance;
        order.retain(|&at| {
            let payload = payload(at);
            if payload <= SMALL_PAYLOAD {
                return true;
            }
            let affordable = balance > 0;
            if affordable {
                balance -= i128::from(payload);
            }
            affordable
        });
        order
    }
}

/// Paces the reading of streams that were never read, as their entries may be large. The more small ones were read, the
/// more are asked for at a time; a large one ends that.
#[derive(Debug)]
pub(super) struct UnknownStreams {
    /// Bytes that may be read.
    left: u64,
    spent: AtomicU64,
    /// Streams that may be asked for at a time.
    window: AtomicUsize,
}

/// The decision about a stream that was never read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnknownTurn {
    Read,
    /// Waits for a stream that is being read.
    Wait,
    /// Waits for the next poll.
    Defer,
}

impl UnknownStreams {
    pub(super) fn new(left: u64) -> Self {
        Self { left, spent: AtomicU64::new(0), window: AtomicUsize::new(1) }
    }

    /// Decides on the next stream, while `in_flight` are being read.
    pub(super) fn turn(&self, in_flight: usize) -> UnknownTurn {
        match in_flight {
            _ if self.payload() >= self.left => UnknownTurn::Defer,
            0 => UnknownTurn::Read,
            _ if in_flight < self.window.load(Relaxed) => UnknownTurn::Read,
            _ => UnknownTurn::Wait,
        }
    }

    /// Notes the payload of a stream that was read.
    pub(super) fn note(&self, payload: u64) {
        if payload <= SMALL_PAYLOAD {
            let window = self.window.load(Relaxed);
            self.window.store((2 * window).min(MAX_WINDOW), Relaxed);
        } else {
            self.spent.fetch_add(payload, Relaxed);
            self.window.store(1, Relaxed);
        }
    }

    /// Returns the bytes of large entries that were read.
    pub(super) fn payload(&self) -> u64 {
        self.spent.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poller::selection::RuleIndex;
    use redis_stream_core::name::Name;

    fn tracked(payloads: &[u64]) -> Vec<TrackedStream> {
        let stream = |(at, payload): (usize, &u64)| TrackedStream {
            reply_bytes: Some(ReplyBytes::new(payload + 500, *payload)),
            ..TrackedStream::new(Name::from(format!("{at:04}").as_str()), RuleIndex::new(0), false)
        };
        payloads.iter().enumerate().map(stream).collect()
    }

    fn poll(budget: &mut PayloadBudget, tracked: &mut [TrackedStream], number: u64) -> (Vec<usize>, u64) {
        budget.begin_poll();
        let selected = budget.select(tracked, number);
        let mut spent = 0;
        for &at in &selected {
            tracked[at].last_read = number;
            spent += tracked[at].reply_bytes.unwrap().payload();
        }
        budget.spend(spent);
        (selected, spent)
    }

    #[test]
    fn small_entries_are_read_in_every_poll() {
        let mut streams = tracked(&[200; 100_000]);
        let mut budget = PayloadBudget::new(1 << 20);
        for number in 1..4 {
            assert_eq!(poll(&mut budget, &mut streams, number).0.len(), 100_000);
        }
    }

    #[test]
    fn small_entries_cost_nothing_of_the_budget_and_large_ones_all_they_take() {
        let unknown = UnknownStreams::new(1 << 20);
        (0..100_000).for_each(|_| unknown.note(SMALL_PAYLOAD));
        assert_eq!((unknown.payload(), unknown.turn(0)), (0, UnknownTurn::Read));
        unknown.note(SMALL_PAYLOAD + 1);
        assert_eq!((unknown.payload(), unknown.turn(1)), (SMALL_PAYLOAD + 1, UnknownTurn::Wait));
        unknown.note(1 << 20);
        assert_eq!(unknown.turn(0), UnknownTurn::Defer);
    }

    #[test]
    fn large_entries_take_turns_within_the_budget_on_average_and_none_waits_for_ever() {
        let mib = 1 << 20;
        let mut streams = tracked(&[2 * mib; 100]);
        streams.extend(tracked(&[100; 5]));
        let mut budget = PayloadBudget::new(16 * mib);
        let (mut spent, mut longest_wait) = (0, 0);
        for number in 1..=50 {
            let (selected, bytes) = poll(&mut budget, &mut streams, number);
            spent += bytes;
            assert!(selected.iter().filter(|at| **at >= 100).count() == 5, "small entries wait for nobody");
            longest_wait =
                longest_wait.max(streams.iter().map(|stream| number - stream.last_read).max().unwrap());
        }
        assert!(spent <= 50 * 16 * mib + 2 * mib, "{spent}");
        // 100 streams of 2 MiB within 16 MiB: each has its turn in every 13th poll.
        assert!(longest_wait <= 13, "{longest_wait}");
    }

    #[test]
    fn a_stream_with_very_many_groups_is_read_less_often() {
        for (groups, expected) in [(1_000, 30), (2_500, 15), (10_000, 3)] {
            let mut streams = tracked(&[100]);
            streams[0].group_count = groups;
            let mut budget = PayloadBudget::new(1_000_000);
            let reads =
                (1..=30).filter(|number| !poll(&mut budget, &mut streams, *number).0.is_empty()).count();
            assert_eq!(reads, expected, "{groups} groups");
        }
    }

    #[test]
    fn a_stream_that_costs_more_than_the_budget_is_read_all_the_same_and_then_waits() {
        let mut streams = tracked(&[10_000_000]);
        let mut budget = PayloadBudget::new(1_000_000);
        let reads = (1..=30).filter(|number| !poll(&mut budget, &mut streams, *number).0.is_empty()).count();
        assert_eq!(reads, 3);
    }
}
