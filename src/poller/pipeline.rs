//! Sends many commands in few round trips, with a bound on the replies that wait in the server's output buffers.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::OnceLock;
use std::time::Duration;

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
/// The same of the first, so that a slow server is known before it has much to do.
const FIRST_BATCH_BYTES: u64 = 4 * 1024;
/// The least, however slow the server.
const LEAST_BATCH_BYTES: u64 = 1024;
/// A pipeline takes at most this part of the time, inverted.
const PIPELINES_IN_TIME: f64 = 20.0;
/// Pipelines in flight on one connection. With the size of each, this bounds the server's output buffer.
const IN_FLIGHT: usize = 12;
/// The same before any of them is answered; each answer adds one.
const FIRST_IN_FLIGHT: usize = 2;
/// The most jobs in one pipeline, so that it does not block the server's other clients for long.
const BATCH_JOBS: usize = 125;

/// Returns the jobs of the pipeline that begins with the job at `start`, given the expected sizes of their replies.
fn batch(reply_bytes: &[u64], start: usize, at_most_bytes: u64) -> Range<usize> {
    let mut bytes = 0;
    let sizes = reply_bytes[start..].iter().take(BATCH_JOBS);
    let fitting = sizes.take_while(|size| {
        bytes += **size;
        bytes <= at_most_bytes
    });
    let jobs = fitting.count().max(1);
    start..(start + jobs).min(reply_bytes.len())
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
    /// The expected size of the reply to each job.
    pub(super) reply_bytes: Vec<u64>,
}

/// The decision about a batch when its turn comes.
pub(super) enum Turn {
    Send(Pipeline),
    /// Waits until a batch in flight is answered. Ignored if there is none.
    Wait,
    Skip,
}

/// The time until which batches are waited for.
struct Deadline {
    began: Instant,
    /// Batches that would be answered later are not sent.
    send_until: Instant,
    at: Instant,
    /// An earlier one, once it is known.
    shortened: OnceLock<Instant>,
}

impl Deadline {
    fn get(&self) -> Instant {
        self.shortened.get().copied().unwrap_or(self.at)
    }

    fn left_to_send(&self, now: Instant) -> Duration {
        self.get().min(self.send_until).saturating_duration_since(now)
    }
}

/// A batch whose turn has come.
struct SentBatch {
    jobs: Range<usize>,
    /// Number of its replies; `None` if it was skipped.
    replies: Option<usize>,
    at: Instant,
    /// Expected size of its replies.
    bytes: u64,
    /// The same of all batches in flight, itself included.
    bytes_in_flight: u64,
}

/// Limits of the batches in flight, which grow with each answer as far as the server is quick.
struct Window {
    batches: usize,
    batch_bytes: u64,
    /// Time that the last answer took, in seconds for each byte that was in flight; `None` before the first.
    byte_time: Option<f64>,
}

#[expect(clippy::cast_precision_loss, reason = "an estimate is good to some digits")]
impl Window {
    /// Returns true if this many bytes are likely to be answered within `time`.
    fn is_in_time(&self, bytes: u64, time: Duration) -> bool {
        self.byte_time.is_none_or(|byte_time| byte_time * bytes as f64 <= time.as_secs_f64())
    }

    /// Notes how long an answer took, of the time that there is for all.
    fn note_answer(&mut self, sent: &SentBatch, took: Duration, time: Duration) {
        let byte_time = took.as_secs_f64() / sent.bytes_in_flight.max(1) as f64;
        let is_slow = byte_time * sent.bytes as f64 * PIPELINES_IN_TIME > time.as_secs_f64();
        self.byte_time = Some(byte_time);
        self.batches = (self.batches + 1).min(IN_FLIGHT);
        self.batch_bytes = match is_slow {
            true => (self.batch_bytes / 2).max(LEAST_BATCH_BYTES),
            false => (self.batch_bytes * 2).min(BATCH_BYTES),
        };
    }
}

/// The batches of one connection that are in flight.
struct Lane<'a, F> {
    number: usize,
    node: &'a NodePipeline<'a>,
    connection: Option<MutexGuard<'a, NodeConnection>>,
    deadline: &'a Deadline,
    /// The job that is sent next.
    next: usize,
    in_flight: VecDeque<SentBatch>,
    window: Window,
    turn: F,
}

enum LaneEvent {
    Answered(Range<usize>, Result<Replies, ConnectionError>),
    Skipped(Range<usize>),
    /// The remaining batches would not be answered in time.
    OutOfTime,
}

impl<F: Fn(usize, Range<usize>, usize) -> Turn> Lane<'_, F> {
    async fn next(&mut self) -> Option<LaneEvent> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                let connection = none.insert(self.node.connection.lock().await);
                if let Err(error) = connection.skip_outstanding().await {
                    self.next = self.node.reply_bytes.len();
                    return Some(LaneEvent::Answered(0..0, Err(error)));
                }
                connection
            }
        };
        while self.in_flight.len() < self.window.batches {
            let batch = batch(&self.node.reply_bytes, self.next, self.window.batch_bytes);
            if batch.is_empty() {
                break;
            }
            let bytes = self.node.reply_bytes[batch.clone()].iter().sum();
            let bytes_in_flight = self.in_flight.iter().map(|sent| sent.bytes).sum::<u64>() + bytes;
            let at = now();
            // What is not answered in time would be read in vain by the next poll.
            if !self.window.is_in_time(bytes_in_flight, self.deadline.left_to_send(at)) {
                if self.in_flight.is_empty() {
                    self.next = self.node.reply_bytes.len();
                    return Some(LaneEvent::OutOfTime);
                }
                break;
            }
            let replies = match (self.turn)(self.number, batch.clone(), self.in_flight.len()) {
                Turn::Send(pipeline) => {
                    connection.send(&pipeline.get_packed_pipeline(), pipeline.len());
                    Some(pipeline.len())
                }
                Turn::Wait => break,
                Turn::Skip => None,
            };
            self.next = batch.end;
            self.in_flight.push_back(SentBatch { jobs: batch, replies, at, bytes, bytes_in_flight });
        }
        let sent = self.in_flight.pop_front()?;
        let Some(count) = sent.replies else { return Some(LaneEvent::Skipped(sent.jobs)) };
        let replies = connection.read(count).await;
        self.window.note_answer(&sent, now() - sent.at, self.deadline.at - self.deadline.began);
        Some(LaneEvent::Answered(sent.jobs, replies))
    }
}

fn lane<'a>(
    number: usize,
    node: &'a NodePipeline<'a>,
    deadline: &'a Deadline,
    turn: impl Fn(usize, Range<usize>, usize) -> Turn + 'a,
) -> impl Stream<Item = (usize, LaneEvent)> + 'a {
    let lane = Lane {
        number,
        node,
        connection: None,
        deadline,
        next: 0,
        in_flight: VecDeque::new(),
        window: Window { batches: FIRST_IN_FLIGHT, batch_bytes: FIRST_BATCH_BYTES, byte_time: None },
        turn,
    };
    stream::unfold(lane, |mut lane| async move { Some(((lane.number, lane.next().await?), lane)) })
}

/// Sends each node's batches, a few at a time, and hands their replies to `take` as they arrive. `turn` decides on a
/// batch when its turn comes, given the number of batches in flight. A batch that would not be answered until
/// `send_until` is not sent; those in flight are waited for until the deadline. Returns for each node the error that cut it short; the other nodes go on. Once one node has answered
/// everything, the others get half of the time that is left, so that a node that hangs leaves time for the questions.
pub(super) async fn run_pipelines(
    pipelines: &[NodePipeline<'_>],
    (send_until, deadline): (Instant, Instant),
    turn: impl Fn(usize, Range<usize>, usize) -> Turn,
    mut take: impl FnMut(usize, Range<usize>, Values<'_>) -> Result<(), PollError>,
) -> Vec<Option<PollError>> {
    let (turn, began) = (&turn, now());
    let deadline = &Deadline { began, send_until, at: deadline, shortened: OnceLock::new() };
    let mut ended: Vec<_> = pipelines.iter().map(|_| None).collect();
    let mut waiting: Vec<_> = pipelines.iter().map(|lane| lane.reply_bytes.len()).collect();
    let mut answered_at = vec![began; pipelines.len()];
    let lanes = pipelines.iter().enumerate().filter(|(_, node)| !node.reply_bytes.is_empty());
    let mut events = select_all(lanes.map(|(number, node)| Box::pin(lane(number, node, deadline, turn))));
    while waiting.iter().zip(&ended).any(|(waiting, ended)| *waiting > 0 && ended.is_none()) {
        let Ok(Some((number, event))) = timeout_at(deadline.get(), events.next()).await else { break };
        let (batch, reply) = match event {
            LaneEvent::OutOfTime => {
                ended[number].get_or_insert(PollError::OutOfTime);
                continue;
            }
            LaneEvent::Skipped(jobs) => {
                waiting[number] -= jobs.len();
                continue;
            }
            LaneEvent::Answered(batch, reply) => (batch, reply),
        };
        waiting[number] -= batch.len();
        answered_at[number] = now();
        if ended[number].is_some() {
            continue;
        }
        let taken = reply
            .map_err(|error| PollError::from_connection(pipelines[number].address, error))
            .and_then(|replies| take(number, batch, replies.values()));
        ended[number] = taken.err();
        if waiting[number] == 0 && ended[number].is_none() {
            deadline.shortened.get_or_init(|| deadline_share(deadline.at, 1));
        }
    }
    for (number, lane) in pipelines.iter().enumerate().filter(|(number, _)| waiting[*number] > 0) {
        // A node that answered lately is slow; one that has ceased to answer hangs.
        let is_slow = answered_at[number] > began + deadline.get().saturating_duration_since(began) / 2;
        ended[number].get_or_insert_with(|| match is_slow {
            true => PollError::OutOfTime,
            false => PollError::Timeout { address: lane.address.to_owned() },
        });
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the ends of the batches.
    fn ends(reply_bytes: &[u64]) -> Vec<usize> {
        let mut ends = vec![0];
        while ends.last() < Some(&reply_bytes.len()) {
            ends.push(batch(reply_bytes, ends[ends.len() - 1], BATCH_BYTES).end);
        }
        ends.split_off(1)
    }

    #[test]
    fn jobs_are_cut_by_bytes_and_by_number_and_none_is_lost() {
        let kib = 256;
        assert_eq!(batch(&[], 0, BATCH_BYTES), 0..0);
        assert_eq!(ends(&[1, 2]), [2]);
        assert_eq!(ends(&[100 * kib, 100 * kib, 100 * kib]), [2, 3]);
        assert_eq!(ends(&[9_000 * kib, 1, 9_000 * kib]), [1, 2, 3]);
        assert_eq!(ends(&[1; 300]), [125, 250, 300]);
    }
}
