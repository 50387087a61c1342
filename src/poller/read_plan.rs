//! The plan of one reading: which node is asked for which streams, and which streams were not read.

use tokio::time::Instant;

use crate::poller::error::PollError;
use crate::poller::node_reader::Asking;
use crate::poller::nodes::Nodes;
use crate::poller::pipeline::deadline_share;
use crate::poller::read::stream_reading;
use crate::poller::streams::{StreamRegistry, TrackedStream};
use redis_stream_core::cluster::{Redirect, RedirectKind};
use redis_stream_lag::poll_readings::PollReadings;
use redis_stream_lag::snapshot::ReadOutcome;

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
        Self { node_reads, read_by }
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

    /// Returns for each node whether it failed without any reply.
    pub(super) fn got_no_reply(&self, tracked: &[TrackedStream], poll_number: u64) -> Vec<bool> {
        let has_replied =
            |reads: &NodeReads| reads.due.iter().any(|at| tracked[*at].last_read == poll_number);
        self.node_reads.iter().map(|reads| reads.ended.is_some() && !has_replied(reads)).collect()
    }

    /// Adds the streams that were not read. A stream is unreachable if no node could be asked for it, or that got no reply.
    pub(super) fn add_unread(
        &self,
        got_no_reply: &[bool],
        streams: &StreamRegistry,
        poll_number: u64,
        readings: &mut PollReadings<'_>,
    ) {
        for (at, (stream, read_by)) in streams.tracked.iter().zip(&self.read_by).enumerate() {
            if stream.last_read == poll_number {
                continue;
            }
            let is_unreachable = read_by.is_none_or(|by| got_no_reply[by]);
            let outcome = if is_unreachable { ReadOutcome::Unreachable } else { ReadOutcome::Deferred };
            let reading = stream_reading(stream, (outcome, Vec::new()), &streams.rules);
            if let Some(reading) = reading {
                readings.add(at, read_by.unwrap_or_default(), reading);
            }
        }
    }
}
