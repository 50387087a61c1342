//! Takes the readings of one poll stream by stream, in any order, as the replies come. A stream about which nothing has to
//! be asked is derived at once, while what is known of it is in the processor's cache; only the others take memory until
//! the answers come.

use std::time::Duration;

use triomphe::Arc;

use crate::budget::Budget;
use crate::census::ENTRIES_PER_POLL;
use crate::complete::{MemoryTurn, Turns};
use crate::deleted_pending::LOOK_UPS_PER_POLL;
use crate::derivation::Derivation;
use crate::derive::StreamReports;
use crate::memory;
use crate::open::{PollState, ReadStream, StreamState};
use crate::report::Report;
use crate::settled::Settled;
use crate::snapshot::{Epoch, NodeInfo, NodeReading, ReadOutcome, Snapshot, StreamReading};
use crate::state::LagState;
use crate::worklist::Worklists;
use redis_stream_core::name::Name;

/// The readings of one poll, while the streams are read. If it is dropped before the [derivation](Self::derivation), no
/// state is lost; the poll counts as one that read what was added.
#[derive(Debug)]
pub struct PollReadings<'a> {
    poll: PollState<'a>,
    reports: StreamReports<'a>,
    turns: Turns,
    nodes: Vec<Arc<NodeInfo>>,
    counts: ReadCounts,
}

/// Numbers of streams in a poll.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadCounts {
    /// All streams, read or not.
    pub streams: usize,
    /// Streams whose readings repeat those of the poll before.
    pub unchanged: usize,
}

impl<'a> PollReadings<'a> {
    /// Begins a poll. `at` is the time at which it began, by a monotonic clock of the caller's; its origin does not matter.
    /// `previous` is the report of the previous poll: a stream that is deferred or late keeps its values from there.
    pub fn begin(
        state: &'a mut LagState,
        budget: Budget,
        at: Duration,
        previous: Option<&'a Report>,
    ) -> Self {
        let gap = state.polled_at.map_or(Duration::ZERO, |before| at.saturating_sub(before));
        if budget.memory_interval.is_none() {
            state.memory.clear();
        }
        let (turns, reports) =
            (Turns::new(&budget, state.next_trim), StreamReports::new(previous, (at, budget.audit_period)));
        let poll = PollState {
            state,
            budget,
            streams: Vec::new(),
            round: 0,
            worklists: Worklists::default(),
            audits_were_asked: false,
            memory_was_asked: false,
            many_consumers_were_asked: false,
            counts_trimmable: false,
            look_ups_left: LOOK_UPS_PER_POLL,
            census_left: ENTRIES_PER_POLL,
            later_pages: Vec::new(),
            counted_entries: 0,
            at,
            gap,
        };
        Self { poll, reports, turns, nodes: Vec::new(), counts: ReadCounts::default() }
    }

    /// Adds a node. Returns its number, by which questions name it.
    pub fn add_node(&mut self, node: NodeInfo) -> usize {
        self.nodes.push(Arc::new(node));
        self.nodes.len() - 1
    }

    /// Makes room for so many streams.
    pub fn reserve(&mut self, streams: usize) {
        self.reports.reserve(streams);
    }

    /// Returns `Some` if a stream needs no derivation while readings repeat the last one but for ages. They are then to be
    /// added as [`ReadOutcome::Unchanged`]. To be asked before the stream is added.
    #[must_use]
    pub fn settled(&self, key: &Name, epoch: Epoch) -> Option<Settled> {
        self.poll.state.settled(key, epoch)
    }

    /// Adds a stream, read or not. `place` is its place among the streams of the poll, sorted by key; each stream has its own,
    /// and some may be left out. `node` is the number of the node that it was read from; it does not matter for a stream that
    /// was not read.
    ///
    /// # Panics
    ///
    /// The stream was read, and no node has this number.
    pub fn add(&mut self, place: usize, node: usize, reading: StreamReading) {
        self.counts.streams += 1;
        let StreamReading { key, family, outcome, missing_groups, window } = reading;
        match outcome {
            ReadOutcome::Read(info) => {
                self.open(place, node, ReadStream { key, family, missing_groups, window, info });
            }
            outcome => {
                self.counts.unchanged += usize::from(matches!(outcome, ReadOutcome::Unchanged { .. }));
                let reading = StreamReading { key, family, outcome, missing_groups, window };
                self.reports.add_unread(place, &reading, &mut self.poll);
            }
        }
    }

    /// Opens a stream, and derives its report if nothing has to be asked about it.
    fn open(&mut self, place: usize, node: usize, read: ReadStream) {
        let PollState { state, budget, at, gap, streams, .. } = &mut self.poll;
        let mut cache = state.streams.remove(&read.key).unwrap_or_default();
        cache.resume(at.saturating_sub(*gap));
        cache.note_gap(*gap);
        let mut stream =
            StreamState::open((node, &self.nodes[node]), place, read, cache, (*at, budget.timeout));
        let memory = budget.memory_interval.and_then(|interval| {
            let known = state.memory.entry(stream.key.clone()).or_default();
            memory::lines_due(known, &stream.info, *at, interval)?;
            Some(MemoryTurn { asked_at: known.asked_at() })
        });
        if stream.is_complete((*at, budget), memory, &mut self.turns) {
            self.reports.derive(stream, state);
            return;
        }
        if streams.len() == streams.capacity() {
            // By an eighth rather than to twice the size: in the first polls, all streams may be here.
            streams.reserve_exact(streams.len() / 8 + 16);
        }
        streams.push(stream);
    }

    /// Returns the numbers of streams that were added.
    #[must_use]
    pub fn counts(&self) -> ReadCounts {
        self.counts
    }

    /// Ends the readings. `payload_bytes` is the number of payload bytes that may still be read, in place of what the budget
    /// had at the beginning.
    #[must_use]
    pub fn derivation(self, payload_bytes: u64) -> Derivation<'a> {
        let Self { mut poll, reports, turns, .. } = self;
        poll.state.polled_at = Some(poll.at);
        poll.state.next_trim = turns.next_trim();
        poll.budget.payload_bytes = payload_bytes;
        // In the order of their keys, so that ties are decided alike however the streams were read.
        poll.streams.sort_unstable_by_key(StreamState::place);
        poll.worklists.scans = poll.unfinished_counts();
        Derivation::new(poll, reports)
    }
}

impl<'a> Derivation<'a> {
    /// Begins a poll of which everything was read already. See [`PollReadings::begin`] for `at` and `previous`.
    pub fn open(
        snapshot: Snapshot,
        state: &'a mut LagState,
        budget: Budget,
        at: Duration,
        previous: Option<&'a Report>,
    ) -> Self {
        let mut readings = PollReadings::begin(state, budget, at, previous);
        let mut streams = Vec::new();
        for NodeReading { node, streams: of_node } in snapshot.nodes {
            let node = readings.add_node(node);
            streams.extend(of_node.into_iter().map(|reading| (node, reading)));
        }
        streams.sort_by(|(_, one), (_, other)| one.key.cmp(&other.key));
        for (place, (node, reading)) in streams.into_iter().enumerate() {
            readings.add(place, node, reading);
        }
        readings.derivation(budget.payload_bytes)
    }
}
