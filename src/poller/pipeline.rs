//! Sends many commands in few round trips, with a bound on the replies that wait in the server's output buffers.

use std::collections::VecDeque;
use std::ops::Range;

use futures_util::stream::{self, Stream, StreamExt, select_all};
use redis::{Cmd, Pipeline};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, timeout_at};

use crate::poller::connection::{ConnectionError, NodeConnection, Replies};
use crate::poller::error::PollError;
use crate::poller::resp::{Value, Values};
use redis_stream_core::clock::now;

/// Expected size of the replies to one pipeline: small enough to be decoded from the CPU cache.
const BATCH_BYTES: u64 = 64 * 1024;
/// Pipelines in flight on one connection. With the size of each, this bounds the server's output buffer.
const IN_FLIGHT: usize = 12;
/// The most jobs in one pipeline, so that it does not block the server's other clients for long.
const BATCH_JOBS: usize = 125;

/// Splits jobs, given by the expected sizes of their replies, into pipelines.
pub(super) fn batches(reply_bytes: impl Iterator<Item = u64>) -> Vec<Range<usize>> {
    let mut batches = Vec::new();
    let (mut start, mut bytes, mut end) = (0, 0, 0);
    for (at, size) in reply_bytes.enumerate() {
        if at > start && (bytes + size > BATCH_BYTES || at - start == BATCH_JOBS) {
            batches.push(start..at);
            (start, bytes) = (at, 0);
        }
        bytes += size;
        end = at + 1;
    }
    if end > start {
        batches.push(start..end);
    }
    batches
}

/// Builds a command with two allocations: one for its arguments and one for their bytes.
pub(super) fn command<const N: usize>(parts: [&[u8]; N]) -> Cmd {
    let mut command = Cmd::with_capacity(N, parts.iter().map(|part| part.len()).sum());
    for part in parts {
        command.arg(part);
    }
    command
}

/// Sends one command, and returns its reply, also if that is an error.
pub(super) async fn request(
    connection: &mut NodeConnection,
    address: &str,
    deadline: Instant,
    command: &Cmd,
) -> Result<Replies, PollError> {
    match timeout_at(deadline, connection.request(&command.get_packed_command(), 1)).await {
        Err(_) => Err(PollError::Timeout { address: address.to_owned() }),
        Ok(replies) => replies.map_err(|error| PollError::from_connection(address, error)),
    }
}

/// Sends one command; an error reply is an error of the node.
pub(super) async fn call(
    connection: &mut NodeConnection,
    address: &str,
    deadline: Instant,
    command: &Cmd,
) -> Result<Replies, PollError> {
    without_error(request(connection, address, deadline, command).await?, address)
}

/// Returns the reply, unless it is an error, which is one of the node.
pub(super) fn without_error(reply: Replies, address: &str) -> Result<Replies, PollError> {
    match reply.value() {
        Value::Error(error) => Err(PollError::from_reply(address, error)),
        _ => Ok(reply),
    }
}

/// Returns the deadline of a step that `others` steps follow: an equal share of the time that is left.
pub(super) fn deadline_share(deadline: Instant, others: usize) -> Instant {
    let others = u32::try_from(others).unwrap_or(u32::MAX);
    now() + deadline.saturating_duration_since(now()) / others.saturating_add(1)
}

/// The batches for one connection.
pub(super) struct NodePipeline<'a> {
    pub(super) connection: &'a Mutex<NodeConnection>,
    pub(super) address: &'a str,
    pub(super) batches: Vec<Range<usize>>,
}

/// The decision about a batch when its turn comes.
pub(super) enum Turn {
    Send(Pipeline),
    /// Waits until a batch in flight is answered. Ignored if there is none.
    Wait,
    Skip,
}

/// The batches of one connection that are in flight.
struct Lane<'a, F> {
    number: usize,
    node: &'a NodePipeline<'a>,
    connection: Option<MutexGuard<'a, NodeConnection>>,
    /// The batch that is sent next.
    next: usize,
    /// Batches with their numbers of replies; `None` if a batch was skipped.
    in_flight: VecDeque<(Range<usize>, Option<usize>)>,
    turn: F,
}

type BatchReplies = (usize, Range<usize>, Option<Result<Replies, ConnectionError>>);

impl<F: Fn(usize, Range<usize>, usize) -> Turn> Lane<'_, F> {
    async fn next(&mut self) -> Option<BatchReplies> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                let connection = none.insert(self.node.connection.lock().await);
                if let Err(error) = connection.skip_outstanding().await {
                    self.next = self.node.batches.len();
                    return Some((self.number, 0..0, Some(Err(error))));
                }
                connection
            }
        };
        while self.in_flight.len() < IN_FLIGHT {
            let Some(batch) = self.node.batches.get(self.next) else { break };
            let count = match (self.turn)(self.number, batch.clone(), self.in_flight.len()) {
                Turn::Send(pipeline) => {
                    connection.send(&pipeline.get_packed_pipeline(), pipeline.len());
                    Some(pipeline.len())
                }
                Turn::Wait => break,
                Turn::Skip => None,
            };
            self.in_flight.push_back((batch.clone(), count));
            self.next += 1;
        }
        let (batch, count) = self.in_flight.pop_front()?;
        let Some(count) = count else { return Some((self.number, batch, None)) };
        Some((self.number, batch, Some(connection.read(count).await)))
    }
}

fn lane<'a>(
    number: usize,
    node: &'a NodePipeline<'a>,
    turn: impl Fn(usize, Range<usize>, usize) -> Turn + 'a,
) -> impl Stream<Item = BatchReplies> + 'a {
    let lane = Lane { number, node, connection: None, next: 0, in_flight: VecDeque::new(), turn };
    stream::unfold(lane, |mut lane| async move { Some((lane.next().await?, lane)) })
}

/// Sends each node's batches, a few at a time, and hands their replies to `take` as they arrive. `turn` decides on a
/// batch when its turn comes, given the number of batches in flight. Returns for each node the error that cut it
/// short; the other nodes go on. Once one node has answered everything, the others get half of the time that is left,
/// so that a node that hangs leaves time for the questions.
pub(super) async fn run_pipelines(
    pipelines: &[NodePipeline<'_>],
    deadline: Instant,
    turn: impl Fn(usize, Range<usize>, usize) -> Turn,
    mut take: impl FnMut(usize, Range<usize>, Values<'_>) -> Result<(), PollError>,
) -> Vec<Option<PollError>> {
    let turn = &turn;
    let mut ended: Vec<_> = pipelines.iter().map(|_| None).collect();
    let mut waiting: Vec<_> = pipelines.iter().map(|lane| lane.batches.len()).collect();
    let lanes = pipelines.iter().enumerate().filter(|(_, node)| !node.batches.is_empty());
    let mut replies = select_all(lanes.map(|(number, node)| Box::pin(lane(number, node, turn))));
    let (mut until, mut has_any_told_all) = (deadline, false);
    while waiting.iter().zip(&ended).any(|(waiting, ended)| *waiting > 0 && ended.is_none()) {
        let Ok(next) = timeout_at(until, replies.next()).await else {
            for (number, lane) in pipelines.iter().enumerate().filter(|(number, _)| waiting[*number] > 0) {
                let timed_out = || PollError::Timeout { address: lane.address.to_owned() };
                ended[number].get_or_insert_with(timed_out);
            }
            break;
        };
        let Some((number, batch, reply)) = next else { break };
        waiting[number] -= 1;
        let Some(reply) = reply.filter(|_| ended[number].is_none()) else { continue };
        let taken = reply
            .map_err(|error| PollError::from_connection(pipelines[number].address, error))
            .and_then(|replies| take(number, batch, replies.values()));
        ended[number] = taken.err();
        if waiting[number] == 0 && ended[number].is_none() && !has_any_told_all {
            has_any_told_all = true;
            until = deadline_share(deadline, 1);
        }
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_cut_by_bytes_and_by_number_and_none_is_lost() {
        let kib = 256;
        assert_eq!(batches([].into_iter()), [] as [std::ops::Range<usize>; 0]);
        assert_eq!(batches([1, 2].into_iter()), [Range { start: 0, end: 2 }]);
        assert_eq!(batches([100 * kib, 100 * kib, 100 * kib].into_iter()), [0..2, 2..3]);
        assert_eq!(batches([9_000 * kib, 1, 9_000 * kib].into_iter()), [0..1, 1..2, 2..3]);
        assert_eq!(batches(std::iter::repeat_n(1, 300)), [0..125, 125..250, 250..300]);
    }
}
