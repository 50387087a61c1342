//! The plan of one reading: which node is asked for which streams, and what became of each stream.

use std::sync::Arc;

use tokio::time::Instant;

use crate::poller::error::PollError;
use crate::poller::node::Identity;
use crate::poller::node_reader::Asking;
use crate::poller::nodes::Nodes;
use crate::poller::pipeline::deadline_share;
use crate::poller::read::{Outcomes, stream_reading};
use crate::poller::streams::{StreamRegistry, TrackedStream};
use redis_stream_core::cluster::{Redirect, RedirectKind};
use redis_stream_lag::snapshot::{ConsumerLimit, EntriesReadMeaning, Epoch, NodeReading, ReadOutcome};

/// The streams that one node is asked for.
pub(super) struct NodeReads {
    /// Position in [`Nodes::handles`].
    pub(super) node: usize,
    pub(super) asking: Asking,
    /// Positions in [`StreamRegistry::tracked`], in the order of reading.
    pub(super) due: Vec<usize>,
    /// The error that cut the reading short.
    pub(super) ended: Option<PollError>,
}

pub(super) struct ReadPlan {
    pub(super) node_reads: Vec<NodeReads>,
    /// For each tracked stream, the position in `node_reads` that holds it; `None` if no such node is connected.
    read_by: Vec<Option<usize>>,
    /// For each tracked stream, the result of reading it.
    pub(super) outcomes: Outcomes,
}

#[expect(clippy::cast_precision_loss, reason = "a ratio is good to some digits")]
pub(super) fn ratio(all: usize, part: usize) -> f64 {
    all.max(1) as f64 / part.max(1) as f64
}

impl NodeReads {
    fn new(node: usize, asking: Asking) -> Self {
        Self { node, asking, due: Vec::new(), ended: None }
    }
}

impl ReadPlan {
    /// Assigns each stream that is due to the node that owns its slot.
    pub(super) fn new(nodes: &Nodes, tracked: &[TrackedStream], due: &[usize]) -> Self {
        let mut node_reads: Vec<_> =
            nodes.connected().map(|(node, ..)| NodeReads::new(node, Asking::None)).collect();
        let mut numbers = vec![None; nodes.handles.len()];
        for (number, reads) in node_reads.iter().enumerate() {
            numbers[reads.node] = Some(number);
        }
        let owner = |stream: &TrackedStream| nodes.owner(stream.slot).and_then(|node| numbers[node]);
        let read_by: Vec<_> = tracked.iter().map(owner).collect();
        for &at in due {
            if let Some(number) = read_by[at] {
                node_reads[number].due.push(at);
            }
        }
        Self { node_reads, read_by, outcomes: vec![(ReadOutcome::Deferred, Vec::new()); tracked.len()] }
    }

    /// Assigns redirected streams to the nodes that the redirects name. Returns the position of the first of these in
    /// `node_reads`, and the first error of a node that could not be connected. A redirect to another host that is not
    /// followed is no error, but a warning of the node that sent it.
    pub(super) async fn follow(
        &mut self,
        redirected: Vec<(usize, usize, Redirect)>,
        nodes: &mut Nodes,
        deadline: Instant,
    ) -> (usize, Option<PollError>) {
        let first = self.node_reads.len();
        let mut failed = None;
        // Each unreachable node is tried once; its streams wait for the next poll.
        let mut unreachable = Vec::new();
        for (at, by, redirect) in redirected {
            let by = self.node_reads[by].node;
            if unreachable.contains(&redirect.node) {
                self.read_by[at] = None;
                continue;
            }
            match nodes.redirected(&redirect, by, deadline_share(deadline, 3)).await {
                Ok(node) => self.add(first, node, redirect.kind, at),
                Err(error) => {
                    unreachable.push(redirect.node);
                    self.read_by[at] = None;
                    if !matches!(error, PollError::OtherHost { .. }) {
                        failed.get_or_insert(error);
                    }
                }
            }
        }
        (first, failed)
    }

    fn add(&mut self, first: usize, node: usize, kind: RedirectKind, at: usize) {
        let asking = Asking::after(kind);
        let is_same = |reads: &NodeReads| (reads.node, reads.asking) == (node, asking);
        let known = self.node_reads[first..].iter().position(is_same);
        let number = known.map_or(self.node_reads.len(), |at| first + at);
        if known.is_none() {
            self.node_reads.push(NodeReads::new(node, asking));
        }
        self.node_reads[number].due.push(at);
        self.read_by[at] = Some(number);
    }

    /// Returns the number of streams that are due for each that was read, of the node where that is the most. A node that
    /// read none is left out.
    pub(super) fn due_per_read(&self, tracked: &[TrackedStream], poll_number: u64) -> f64 {
        let of_node = |reads: &NodeReads| {
            let read = reads.due.iter().filter(|at| tracked[**at].last_read == poll_number).count();
            if read == 0 { 1.0 } else { ratio(reads.due.len(), read) }
        };
        self.node_reads.iter().map(of_node).fold(1.0, f64::max)
    }

    /// Returns the number of streams of each of the nodes.
    fn streams_by_node(&self) -> Vec<usize> {
        let mut counts = vec![0; self.node_reads.len()];
        self.read_by.iter().flatten().for_each(|number| counts[*number] += 1);
        counts
    }

    /// Returns the readings by node, and for each node whether it failed without any reply. If no node could be asked
    /// for some streams, these follow in a reading without an address.
    pub(super) fn readings(
        &mut self,
        nodes: &Nodes,
        streams: &StreamRegistry,
        poll_number: u64,
        consumer_limit: ConsumerLimit,
    ) -> (Vec<NodeReading>, Vec<bool>) {
        let StreamRegistry { tracked, rules, .. } = streams;
        let (mut readings, mut got_no_reply) = (Vec::new(), Vec::new());
        for (reads, streams) in self.node_reads.iter().zip(self.streams_by_node()) {
            let handle = &nodes.handles[reads.node];
            let epoch = handle.node.as_ref().map_or(Epoch(0), |node| node.epoch);
            let entries_read =
                handle.identity.as_ref().map(Identity::entries_read_meaning).unwrap_or_default();
            let address = Arc::clone(&handle.address);
            let has_acked_trimming = handle.identity.as_ref().is_none_or(Identity::may_have_acked_trimming);
            readings.push(NodeReading {
                address,
                epoch,
                entries_read,
                has_acked_trimming,
                has_xnack: handle.identity.as_ref().is_some_and(Identity::has_xnack),
                consumer_limit,
                streams: Vec::with_capacity(streams),
            });
            let has_replied = reads.due.iter().any(|at| tracked[*at].last_read == poll_number);
            got_no_reply.push(reads.ended.is_some() && !has_replied);
        }
        let mut unreachable = Vec::new();
        for ((stream, outcome), read_by) in tracked.iter().zip(self.outcomes.drain(..)).zip(&self.read_by) {
            let is_unreachable = read_by.is_none_or(|by| got_no_reply[by]);
            let outcome = match outcome {
                (ReadOutcome::Deferred, groups) if is_unreachable => (ReadOutcome::Unreachable, groups),
                outcome => outcome,
            };
            let readings = read_by.map_or(&mut unreachable, |by| &mut readings[by].streams);
            readings.extend(stream_reading(stream, outcome, rules[stream.rule.get()].window));
        }
        if !unreachable.is_empty() {
            let entries_read = EntriesReadMeaning::default();
            readings.push(NodeReading {
                address: "".into(),
                epoch: Epoch(0),
                entries_read,
                has_acked_trimming: true,
                has_xnack: false,
                consumer_limit,
                streams: unreachable,
            });
        }
        (readings, got_no_reply)
    }
}
