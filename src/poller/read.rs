//! Reads TIME, and XINFO GROUPS, XINFO STREAM and XINFO CONSUMERS of every stream that is due. The consumers of groups
//! known from the last poll are asked for together with the stream: while the server has the stream in its CPU cache,
//! that costs it less.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::Pipeline;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::config::{StreamRule, Target};
use crate::poller::decode;
use crate::poller::decode::xinfo::XinfoGroup;
use crate::poller::error::{KeyError, PollError, classify_reply};
use crate::poller::interner::NameInterner;
use crate::poller::node_reader::NodeReader;
use crate::poller::payload_budget::{UnknownStreams, UnknownTurn};
use crate::poller::pipeline::{NodePipeline, Turn, command, run_pipelines};
use crate::poller::repeated::StreamReplies;
use crate::poller::resp::Value;
use crate::poller::selection::{self, Selection, SelectionInput};
use crate::poller::slots::redirect;
use crate::poller::streams::{NameList, ReplyBytes, StreamRegistry, TrackedStream};
use crate::self_metrics::labels::{Command, Reason};
use crate::self_metrics::target::TargetMetrics;
use redis_stream_core::clock::{now, unix_time};
use redis_stream_core::cluster::Redirect;
use redis_stream_core::name::Name;
use redis_stream_lag::poll_readings::PollReadings;
use redis_stream_lag::snapshot::{
    ConsumerInfo, ConsumerLimit, ConsumersReading, Epoch, GroupInfo, ReadOutcome, StreamInfo, StreamReading,
};

/// Assumed size of the replies about a stream that was never read: its entries may be large.
const UNKNOWN_REPLY_BYTES: u64 = 64 * 1024;
/// Size of the replies about a stream without its entries and groups.
const STREAM_BYTES: u64 = 300;
/// Size of the reply about one group.
const GROUP_BYTES: u64 = 150;
/// Size of the reply about one consumer.
const CONSUMER_BYTES: u64 = 110;

/// The inputs of a reading, and the state that it updates.
pub(super) struct ReadRequest<'a, 'r> {
    pub(super) target: &'a Target,
    pub(super) streams: &'a mut StreamRegistry,
    pub(super) metrics: &'a TargetMetrics,
    pub(super) names: &'a mut NameInterner,
    pub(super) poll_number: u64,
    /// Bytes of entries that may be read from streams of unknown size.
    pub(super) payload_left: u64,
    pub(super) consumer_limit: ConsumerLimit,
    /// Bytes of entries that each poll may read.
    pub(super) payload_budget: u64,
    /// The time until which streams are asked for, and the deadline of their replies.
    pub(super) until: (Instant, Instant),
    /// Takes what is read.
    pub(super) readings: &'a mut PollReadings<'r>,
    /// What was read of the present batch of streams, and the groups that are named and missing.
    pub(super) read: Vec<(usize, (ReadOutcome, Vec<Name>))>,
    /// Number of nodes in `readings` before those that are read from.
    pub(super) nodes_before: usize,
    /// Start of the poll, by the clock of `readings`.
    pub(super) at: Duration,
}

/// The result of reading from some nodes.
pub(super) struct Read {
    /// Bytes of large entries in the replies.
    pub(super) payload_bytes: u64,
    pub(super) is_time_refused: bool,
    /// For each node, the error that cut its reading short; what was read before that is kept.
    pub(super) ended: Vec<Option<PollError>>,
    /// Streams that a node redirected: the stream's position, the node's, and the redirect.
    pub(super) redirected: Vec<(usize, usize, Redirect)>,
}

impl ReadRequest<'_, '_> {
    /// Reads from each node the streams at the positions in its list, in that order.
    pub(super) async fn read(&mut self, readers: &[(NodeReader<'_>, &[usize])]) -> Read {
        let (until, metrics, payload_left) = (self.until, self.metrics, self.payload_left);
        let tracked = &self.streams.tracked;
        let pipelines: Vec<_> =
            readers.iter().map(|(source, due)| node_pipeline(source, due, tracked)).collect();
        // Both closures need it, one after the other; a `Mutex`, since the future moves between threads.
        let request = Mutex::new(self);
        let lock = || request.lock().unwrap_or_else(PoisonError::into_inner);
        let (unknown, mut redirected) = (UnknownStreams::new(payload_left), Vec::new());
        let mut is_time_refused = false;
        let ended = run_pipelines(
            &pipelines,
            until,
            |number, batch, in_flight| {
                // Streams that were never read come first, a few at a time; if their entries turn out to be large,
                // the rest waits for the next poll.
                let ((source, due), request) = (&readers[number], lock());
                let asked = due[batch].iter().map(|&at| &request.streams.tracked[at]);
                let is_known = asked.clone().next().is_none_or(|first| first.reply_bytes.is_some());
                let turn = if is_known { UnknownTurn::Read } else { unknown.turn(in_flight) };
                match turn {
                    UnknownTurn::Read => Turn::Send(pipeline(source, asked, metrics)),
                    UnknownTurn::Wait => Turn::Wait,
                    UnknownTurn::Defer => Turn::Skip,
                }
            },
            |number, batch, mut replies| {
                let ((source, due), mut request) = (&readers[number], lock());
                let time = replies.next().unwrap_or_default();
                is_time_refused |= matches!(time, Value::Error(_));
                let time = node_time(time, &source.node.address, metrics)?;
                let batch = Batch { number, streams: &due[batch], time };
                let replies = source.without_asking(replies);
                let taken = request.take_batch(source, &batch, replies, (&unknown, &mut redirected));
                request.add_read(number);
                taken
            },
        )
        .await;
        Read { payload_bytes: unknown.payload(), is_time_refused, ended, redirected }
    }
}

/// The streams whose replies came together.
struct Batch<'a> {
    /// Number of the node, of those that are read from.
    number: usize,
    /// Positions of the streams.
    streams: &'a [usize],
    /// The node's clock just before.
    time: Duration,
}

fn node_pipeline<'a>(source: &NodeReader<'a>, due: &[usize], tracked: &[TrackedStream]) -> NodePipeline<'a> {
    let expected =
        due.iter().map(|&at| tracked[at].reply_bytes.map_or(UNKNOWN_REPLY_BYTES, ReplyBytes::total));
    source.node.pipelines(expected)
}

/// Returns the commands about these streams, and about the consumers of their groups.
fn pipeline<'a>(
    source: &NodeReader<'_>,
    streams: impl ExactSizeIterator<Item = &'a TrackedStream> + Clone,
    metrics: &TargetMetrics,
) -> Pipeline {
    let count = streams.len();
    let groups: usize = streams.clone().map(|stream| stream.groups_with_consumers.len()).sum();
    let mut pipeline = Pipeline::with_capacity(1 + 2 * count + groups);
    pipeline.cmd("TIME");
    for TrackedStream { key, groups_with_consumers: groups, .. } in streams {
        source.add(&mut pipeline, command([b"XINFO", b"GROUPS", key.as_bytes()]), metrics);
        source.add(&mut pipeline, command([b"XINFO", b"STREAM", key.as_bytes()]), metrics);
        for group in groups.iter() {
            let consumers = command([b"XINFO", b"CONSUMERS", key.as_bytes(), group.as_bytes()]);
            source.add(&mut pipeline, consumers, metrics);
        }
    }
    metrics.count_commands(Command::Time, 1);
    metrics.count_commands(Command::XinfoGroups, count as u64);
    metrics.count_commands(Command::XinfoStream, count as u64);
    metrics.count_commands(Command::XinfoConsumers, groups as u64);
    pipeline
}

/// Returns `None` for a key that a glob had found and that is gone; a key that is named is reported as missing.
/// `missing_groups` are the groups that are named and that the stream does not have.
pub(super) fn stream_reading(
    tracked: &TrackedStream,
    (outcome, missing_groups): (ReadOutcome, Vec<Name>),
    rules: &[StreamRule],
) -> Option<StreamReading> {
    let is_gone = matches!(outcome, ReadOutcome::Missing | ReadOutcome::WrongType) && !tracked.named;
    (!is_gone).then(|| StreamReading {
        key: tracked.key.clone(),
        family: tracked.family.clone(),
        outcome,
        missing_groups: missing_groups.into(),
        window: rules[tracked.rule.get()].window,
    })
}

/// The replies about one stream.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, on the stack")]
enum StreamReply<'r> {
    Read(StreamRead<'r>),
    Failed(KeyError),
}

struct StreamRead<'r> {
    info: StreamInfo,
    groups: Vec<XinfoGroup<'r>>,
    /// Size of the first and the last entry.
    payload_bytes: u64,
}

impl ReadRequest<'_, '_> {
    /// Decodes the replies about a batch of streams.
    fn take_batch<'r>(
        &mut self,
        source: &NodeReader<'_>,
        batch: &Batch<'_>,
        mut replies: impl Iterator<Item = Value<'r>>,
        (unknown, redirected): (&UnknownStreams, &mut Vec<(usize, usize, Redirect)>),
    ) -> Result<(), PollError> {
        let (time, address) = (batch.time, &source.node.address);
        let (read_at, mut of_consumers) = (self.streams.time_of(now()), Vec::new());
        for &at in batch.streams {
            let asked = Arc::clone(&self.streams.tracked[at].groups_with_consumers);
            let (groups, stream) = (replies.next().unwrap_or_default(), replies.next().unwrap_or_default());
            of_consumers.clear();
            of_consumers.extend(replies.by_ref().take(asked.len()));
            if let Some(redirect) = redirect(groups).or_else(|| redirect(stream)) {
                redirected.push((at, batch.number, redirect));
                continue;
            }
            let read = if self.repeats(source.node.epoch, at, time, (groups, stream), &of_consumers) {
                let stream = &self.streams.tracked[at];
                unknown.note(stream.reply_bytes.map_or(0, ReplyBytes::payload));
                self.metrics.count_errors(Reason::MissingGroup, stream.missing_groups.into());
                (ReadOutcome::Unchanged { time }, Vec::new())
            } else {
                let reply = stream_reply(groups, stream, address, time)?;
                let consumers = self.consumers(address, &asked, &of_consumers)?;
                if let StreamReply::Read(read) = &reply {
                    unknown.note(read.payload_bytes);
                }
                self.take(source, at, reply, consumers)
            };
            self.streams.tracked[at].read_at = Some(read_at);
            self.read.push((at, read));
        }
        Ok(())
    }

    /// Adds what was read from the node of this number: batch by batch, as replies are decoded faster from the processor's
    /// cache.
    fn add_read(&mut self, number: usize) {
        let StreamRegistry { tracked, rules, .. } = &*self.streams;
        for (at, read) in self.read.drain(..) {
            if let Some(reading) = stream_reading(&tracked[at], read, rules) {
                self.readings.add(at, self.nodes_before + number, reading);
            }
        }
    }

    /// Returns true if the stream at position `at` is settled, and these replies about it repeat those of the poll before.
    /// Keeps the replies about a settled stream.
    fn repeats(
        &mut self,
        epoch: Epoch,
        at: usize,
        time: Duration,
        of_stream: (Value<'_>, Value<'_>),
        of_consumers: &[Value<'_>],
    ) -> bool {
        let (stream, now) = (&mut self.streams.tracked[at], (self.at, time));
        let was_read = stream.last_read + 1 == self.poll_number;
        let key = &stream.key;
        let mut known = stream.replies.take().filter(|_| was_read);
        let is_settled =
            known.as_mut().is_some_and(|known| known.are_settled(self.readings, key, epoch, now));
        if !is_settled && self.readings.settled(key, epoch).is_none() {
            return false;
        }
        let Some(replies) = StreamReplies::of(epoch, now, of_stream, of_consumers) else { return false };
        if let Some(mut known) = known.filter(|_| is_settled)
            && known.confirm(&replies)
        {
            (stream.replies, stream.last_read) = (Some(known), self.poll_number);
            return true;
        }
        stream.replies = Some(Box::new(replies));
        false
    }

    /// Decodes the replies about consumers, by group. A group whose reply is an error is left out: it is gone, or asked
    /// for again by itself.
    fn consumers<'r>(
        &mut self,
        address: &str,
        asked: &[Name],
        replies: &[Value<'r>],
    ) -> Result<Vec<(Name, Vec<ConsumerInfo>)>, PollError> {
        let mut consumers = Vec::with_capacity(asked.len());
        let mut replies = replies.iter();
        for group in asked {
            match replies.next().copied().unwrap_or_default() {
                Value::Error(error) => drop(classify_reply(address, error)?),
                reply => {
                    let found = decode::xinfo_consumers(reply, self.names).ok();
                    consumers.extend(found.map(|found| (group.clone(), found)));
                }
            }
        }
        Ok(consumers)
    }

    /// Notes the replies about the stream at position `at`. Returns the stream's outcome, and the groups that the
    /// configuration names and the stream does not have.
    fn take(
        &mut self,
        source: &NodeReader<'_>,
        at: usize,
        reply: StreamReply<'_>,
        consumers: Vec<(Name, Vec<ConsumerInfo>)>,
    ) -> (ReadOutcome, Vec<Name>) {
        let StreamRegistry { tracked, rules, last_groups, .. } = &mut *self.streams;
        let stream = &mut tracked[at];
        let rule = &rules[stream.rule.get()];
        stream.last_read = self.poll_number;
        let StreamRead { info, mut groups, payload_bytes } = match reply {
            StreamReply::Read(read) => read,
            StreamReply::Failed(error) => {
                note_problem(stream, Some(error), self.metrics, &self.target.name);
                stream.reply_bytes = Some(ReplyBytes::new(STREAM_BYTES, 0));
                return match error {
                    KeyError::Missing => (ReadOutcome::Missing, selection::named_groups(rule)),
                    KeyError::WrongType => (ReadOutcome::WrongType, selection::named_groups(rule)),
                    _ => (ReadOutcome::Refused, Vec::new()),
                };
            }
        };
        if !source.has_true_entries_read {
            groups.iter_mut().for_each(|group| group.entries_read = None);
        }
        let wants_consumers = source.has_true_consumers && rule.consumers;
        note_large_entries(stream, info.entry_bytes, self.payload_budget, &self.target.name);
        let input = SelectionInput {
            rule,
            limits: &self.target.limits,
            wants_consumers,
            shown: &stream.groups,
            last_generated: info.last_generated,
        };
        (stream.has_groups, stream.group_count) = (Some(info.group_count > 0), info.group_count);
        let mut selection = selection::select(input, groups);
        for (group, consumers) in consumers {
            selection.add_consumers(&group, consumers, &self.consumer_limit);
        }
        note_groups(stream, &selection, last_groups);
        note_problem(stream, None, self.metrics, &self.target.name);
        stream.missing_groups = selection::at_most_u32(selection.missing.len());
        self.metrics.count_errors(Reason::MissingGroup, stream.missing_groups.into());
        let wanted = |group: &&GroupInfo| {
            matches!(group.each_consumer, ConsumersReading::Open | ConsumersReading::Read(_))
        };
        let read_along: u64 = selection.groups.iter().filter(wanted).map(|group| group.consumers).sum();
        let total =
            STREAM_BYTES + payload_bytes + GROUP_BYTES * info.group_count + CONSUMER_BYTES * read_along;
        stream.reply_bytes = Some(ReplyBytes::new(total, payload_bytes));
        (
            ReadOutcome::Read(Box::new(StreamInfo { groups: selection.groups.into(), ..info })),
            selection.missing,
        )
    }
}

/// Decodes the node's clock. If TIME is refused, this machine's clock is used.
fn node_time(reply: Value<'_>, address: &str, metrics: &TargetMetrics) -> Result<Duration, PollError> {
    match reply {
        Value::Error(error) => {
            let error = classify_reply(address, error)?;
            metrics.count_errors(error.reason(), 1);
            Ok(unix_time())
        }
        reply => decode::time(reply).map_err(|error| PollError::protocol(address, &error)),
    }
}

/// Decodes the two replies about one stream.
fn stream_reply<'r>(
    groups: Value<'r>,
    stream: Value<'r>,
    address: &str,
    time: Duration,
) -> Result<StreamReply<'r>, PollError> {
    for reply in [groups, stream] {
        if let Value::Error(error) = reply {
            return classify_reply(address, error).map(StreamReply::Failed);
        }
    }
    let (Ok(groups), Ok(stream)) = (decode::xinfo_groups(groups), decode::xinfo_stream(stream)) else {
        return Ok(StreamReply::Failed(KeyError::Protocol));
    };
    let payload_bytes = stream.payload_bytes;
    let consumer_count = groups.iter().map(|group| group.consumers).fold(0, u64::saturating_add);
    // Kvrocks has no number of groups in XINFO STREAM.
    let group_count = stream.groups.max(groups.len() as u64);
    let info = StreamInfo { consumer_count, group_count, ..stream.facts(time) };
    Ok(StreamReply::Read(StreamRead { info, groups, payload_bytes }))
}

/// Logs once that the entries of a stream are too large for their number to be counted.
fn note_large_entries(tracked: &mut TrackedStream, entry_bytes: u64, budget: u64, target_name: &str) {
    let exceeds_budget = entry_bytes > budget;
    if exceeds_budget && !tracked.exceeds_budget {
        warn!(
            target_name,
            stream = %tracked.key,
            entry_bytes,
            payload_budget = budget,
            "an entry is larger than poll.payload_budget: a lag that must be counted has only bounds; raise the budget"
        );
    }
    tracked.exceeds_budget = exceeds_budget;
}

/// Stores the selected groups. `last` is the list that was stored last, of any stream.
fn note_groups(tracked: &mut TrackedStream, selection: &Selection, last: &mut NameList) {
    tracked.left_out = selection.left_out;
    let names = || selection.groups.iter().map(|group| &group.name);
    if !tracked.groups.iter().eq(names()) {
        if !last.iter().eq(names()) {
            *last = Arc::new(names().cloned().collect());
        }
        tracked.groups = Arc::clone(last);
    }
    note_groups_with_consumers(tracked, selection);
}

/// Stores the groups whose consumers the next poll asks for together with the stream. If the server refused that, they
/// are asked for separately for one poll.
fn note_groups_with_consumers(tracked: &mut TrackedStream, selection: &Selection) {
    let asked = &tracked.groups_with_consumers;
    let with_consumers = || {
        let groups = selection.groups.iter().filter(|group| match group.each_consumer {
            ConsumersReading::NotWanted | ConsumersReading::TooMany => false,
            ConsumersReading::Open => group.consumers > 0 && asked.binary_search(&group.name).is_err(),
            ConsumersReading::Read(_) | ConsumersReading::Answered(_) => group.consumers > 0,
        });
        groups.map(|group| &group.name)
    };
    if asked.iter().eq(with_consumers()) {
        return;
    }
    tracked.groups_with_consumers = if tracked.groups.iter().eq(with_consumers()) {
        Arc::clone(&tracked.groups)
    } else {
        Arc::new(with_consumers().cloned().collect())
    };
}

/// Counts a stream's problem, and logs it when it changes. A stream that a glob found and that is gone, as streams that
/// expire are, is not a problem.
fn note_problem(
    tracked: &mut TrackedStream,
    problem: Option<KeyError>,
    metrics: &TargetMetrics,
    target_name: &str,
) {
    let is_gone = problem == Some(KeyError::Missing) && !tracked.named;
    if let Some(error) = problem.filter(|_| !is_gone) {
        metrics.count_errors(error.reason(), 1);
    }
    let before = std::mem::replace(&mut tracked.problem, problem);
    match problem {
        _ if before == problem => {}
        None => info!(target_name, stream = %tracked.key, "stream can be read again"),
        Some(_) if is_gone => {
            debug!(target_name, stream = %tracked.key, "stream is gone");
        }
        Some(error) => {
            warn!(target_name, stream = %tracked.key, reason = error.reason().as_str(), "stream cannot be read");
        }
    }
}
