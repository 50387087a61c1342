//! Reading: TIME, and XINFO GROUPS then XINFO STREAM of every stream that is due, and XINFO CONSUMERS of the
//! groups that it had before: while the server has the stream in its processor's cache, that costs it less.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use redis::{Pipeline, Value};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::config::Target;
use crate::poller::catalogue::{Catalogue, ReplyBytes, Watched};
use crate::poller::decode;
use crate::poller::decode::xinfo::XinfoGroup;
use crate::poller::error::{KeyError, PollError, concern};
use crate::poller::exchange::{Lane, batches, command, exchange};
use crate::poller::names::Names;
use crate::poller::selection::{self, Selection};
use crate::poller::slots::redirect;
use crate::poller::source::Source;
use crate::self_metrics::labels::{Command, Reason};
use crate::self_metrics::target::TargetMetrics;
use redis_stream_core::clock::unix_time;
use redis_stream_core::cluster::Redirect;
use redis_stream_core::name::Name;
use redis_stream_lag::snapshot::{
    ConsumerInfo, ConsumersReading, GroupInfo, ReadOutcome, StreamInfo, StreamReading,
};

/// Expected size of the replies about a stream that was never read: its entries may be large.
const UNKNOWN_REPLY_BYTES: u64 = 64 * 1024;
/// Size of the replies about a stream, besides its entries and its groups.
const STREAM_BYTES: u64 = 300;
/// Size of the reply about one group.
const GROUP_BYTES: u64 = 150;
/// Size of the reply about one consumer.
const CONSUMER_BYTES: u64 = 110;

/// What reading needs to know and may change.
pub(super) struct Reading<'a> {
    pub(super) target: &'a Target,
    pub(super) catalogue: &'a mut Catalogue,
    pub(super) metrics: &'a TargetMetrics,
    pub(super) names: &'a mut Names,
    pub(super) poll_number: u64,
    /// Bytes of entries that may be read of streams whose size is not known yet.
    pub(super) payload_left: u64,
    pub(super) deadline: Instant,
}

/// What became of each watched stream, in their order.
pub(super) type Outcomes = Vec<(ReadOutcome, Vec<Name>)>;

/// What became of reading from some nodes.
pub(super) struct Read {
    /// Bytes of entries that came with it.
    pub(super) payload_bytes: u64,
    /// Whether a node refuses TIME.
    pub(super) is_time_refused: bool,
    /// Why each node ended early, if it did; what was read by then stands.
    pub(super) ended: Vec<Option<PollError>>,
    /// Streams that a node does not hold, by their positions, with the number of the node that said so, and where
    /// to ask for them.
    pub(super) redirected: Vec<(usize, usize, Redirect)>,
}

impl Reading<'_> {
    /// Reads from each node the streams at the positions in its list, in that order.
    pub(super) async fn read(&mut self, sources: &[(Source<'_>, &[usize])], outcomes: &mut Outcomes) -> Read {
        let (deadline, metrics, payload_left) = (self.deadline, self.metrics, self.payload_left);
        let watched = &self.catalogue.watched;
        let asked: Vec<Vec<_>> =
            sources.iter().map(|(_, due)| due.iter().map(|&at| Asked::of(&watched[at])).collect()).collect();
        let lanes: Vec<_> = sources.iter().map(|(source, due)| lane(source, due, watched)).collect();
        let (payload_bytes, mut redirected) = (AtomicU64::new(0), Vec::new());
        let mut is_time_refused = false;
        let ended = exchange(
            &lanes,
            deadline,
            |number, batch| {
                // Streams that were never read come first, a few at a time; should their entries turn out to be
                // large, the rest of them waits for the next poll.
                let asked = &asked[number][batch];
                let is_unknown = asked.first().is_some_and(|first| first.is_unknown);
                let is_spent = is_unknown && payload_bytes.load(Relaxed) >= payload_left;
                (!is_spent).then(|| pipeline(&sources[number].0, asked, metrics))
            },
            |number, batch, mut replies| {
                let (source, due) = &sources[number];
                let rest = replies.split_off(replies.len().min(1));
                let time = replies.pop();
                is_time_refused |= matches!(time, Some(Value::ServerError(_)));
                let time = node_time(time, &source.node.address, metrics)?;
                let mut replies = source.without_asking(rest);
                for (&at, asked) in due[batch.clone()].iter().zip(&asked[number][batch]) {
                    let (groups, stream) = (replies.next(), replies.next());
                    if let Some(redirect) = redirect(groups.as_ref()).or_else(|| redirect(stream.as_ref())) {
                        replies.by_ref().take(asked.groups.len()).for_each(drop);
                        redirected.push((at, number, redirect));
                        continue;
                    }
                    let said = facts(groups, stream, &source.node.address, time)?;
                    let consumers = self.consumers(&source.node.address, asked, &mut replies)?;
                    payload_bytes.fetch_add(said.as_ref().map_or(0, |said| said.payload_bytes), Relaxed);
                    outcomes[at] = self.take(source, at, said, consumers);
                }
                Ok(())
            },
        )
        .await;
        Read { payload_bytes: payload_bytes.into_inner(), is_time_refused, ended, redirected }
    }
}

fn lane<'a>(source: &Source<'a>, due: &[usize], watched: &[Watched]) -> Lane<'a> {
    let expected =
        due.iter().map(|&at| watched[at].reply_bytes.map_or(UNKNOWN_REPLY_BYTES, |bytes| bytes.total));
    Lane { connection: &source.node.connection, address: &source.node.address, batches: batches(expected) }
}

/// A stream that is read, and groups of it whose consumers are read along.
struct Asked {
    key: Name,
    groups: Arc<[Name]>,
    /// It was never read.
    is_unknown: bool,
}

impl Asked {
    fn of(watched: &Watched) -> Self {
        Self {
            key: watched.key.clone(),
            groups: Arc::clone(&watched.groups_with_consumers),
            is_unknown: watched.reply_bytes.is_none(),
        }
    }
}

fn pipeline(source: &Source<'_>, streams: &[Asked], metrics: &TargetMetrics) -> Pipeline {
    let groups: usize = streams.iter().map(|asked| asked.groups.len()).sum();
    let mut pipeline = Pipeline::with_capacity(1 + 2 * streams.len() + groups);
    pipeline.cmd("TIME");
    for Asked { key, groups, .. } in streams {
        source.add(&mut pipeline, command([b"XINFO", b"GROUPS", key.as_bytes()]), metrics);
        source.add(&mut pipeline, command([b"XINFO", b"STREAM", key.as_bytes()]), metrics);
        for group in groups.iter() {
            let consumers = command([b"XINFO", b"CONSUMERS", key.as_bytes(), group.as_bytes()]);
            source.add(&mut pipeline, consumers, metrics);
        }
    }
    metrics.count_commands(Command::Time, 1);
    metrics.count_commands(Command::XinfoGroups, streams.len() as u64);
    metrics.count_commands(Command::XinfoStream, streams.len() as u64);
    metrics.count_commands(Command::XinfoConsumers, groups as u64);
    pipeline
}

/// A key that a glob had found and that is gone leaves nothing behind; one that is named is reported.
pub(super) fn stream_reading(
    watched: &Watched,
    (outcome, missing_groups): (ReadOutcome, Vec<Name>),
    window: Duration,
) -> Option<StreamReading> {
    let is_gone = matches!(outcome, ReadOutcome::Missing | ReadOutcome::WrongType) && !watched.named;
    (!is_gone).then(|| StreamReading { key: watched.key.clone(), outcome, missing_groups, window })
}

/// What the server said of one stream.
struct Said {
    facts: StreamInfo,
    groups: Vec<XinfoGroup>,
    payload_bytes: u64,
}

impl Reading<'_> {
    /// The consumers that were read along, by group; without the groups of which there is no word: they are
    /// gone, or have to be asked for.
    fn consumers(
        &mut self,
        address: &str,
        asked: &Asked,
        replies: &mut impl Iterator<Item = Value>,
    ) -> Result<Vec<(Name, Vec<ConsumerInfo>)>, PollError> {
        let mut consumers = Vec::with_capacity(asked.groups.len());
        for group in asked.groups.iter() {
            match replies.next().unwrap_or_default() {
                // What it says of the group alone is said again when it is asked for.
                Value::ServerError(error) => drop(concern(address, &error)?),
                reply => {
                    let found = decode::xinfo_consumers(reply, self.names).ok();
                    consumers.extend(found.map(|found| (group.clone(), found)));
                }
            }
        }
        Ok(consumers)
    }

    /// Takes what was said of the stream at `at`: what it means for the snapshot, and which groups that the
    /// configuration names are missing.
    fn take(
        &mut self,
        source: &Source<'_>,
        at: usize,
        said: Result<Said, KeyError>,
        consumers: Vec<(Name, Vec<ConsumerInfo>)>,
    ) -> (ReadOutcome, Vec<Name>) {
        let Catalogue { watched, rules, .. } = &mut *self.catalogue;
        let watched = &mut watched[at];
        let rule = &rules[watched.rule.0];
        watched.last_read = self.poll_number;
        match said {
            Ok(Said { facts, mut groups, payload_bytes }) => {
                if !source.has_true_entries_read {
                    groups.iter_mut().for_each(|group| group.entries_read = None);
                }
                let wants_consumers = source.has_true_consumers && rule.consumers;
                let limits = &self.target.limits;
                let mut selection = selection::select(rule, limits, wants_consumers, &watched.groups, groups);
                for (group, consumers) in consumers {
                    selection.add_consumers(&group, consumers);
                }
                note_groups(watched, &selection, &self.target.name);
                note_problem(watched, None, self.metrics, &self.target.name);
                self.metrics.count_errors(Reason::MissingGroup, selection.missing.len() as u64);
                let wanted = |group: &&GroupInfo| group.each_consumer != ConsumersReading::NotWanted;
                let read_along: u64 =
                    selection.groups.iter().filter(wanted).map(|group| group.consumers).sum();
                let total = STREAM_BYTES
                    + payload_bytes
                    + GROUP_BYTES * facts.group_count
                    + CONSUMER_BYTES * read_along;
                watched.reply_bytes = Some(ReplyBytes { total, payload: payload_bytes });
                (ReadOutcome::Read(StreamInfo { groups: selection.groups, ..facts }), selection.missing)
            }
            Err(error) => {
                note_problem(watched, Some(error), self.metrics, &self.target.name);
                watched.reply_bytes = Some(ReplyBytes { total: STREAM_BYTES, payload: 0 });
                match error {
                    KeyError::Missing => (ReadOutcome::Missing, selection::named_groups(rule)),
                    KeyError::WrongType => (ReadOutcome::WrongType, selection::named_groups(rule)),
                    _ => (ReadOutcome::Refused, Vec::new()),
                }
            }
        }
    }
}

/// The node's clock. Where TIME is refused, this machine's clock has to serve.
fn node_time(reply: Option<Value>, address: &str, metrics: &TargetMetrics) -> Result<Duration, PollError> {
    match reply {
        Some(Value::ServerError(error)) => {
            let error = concern(address, &error)?;
            metrics.count_errors(error.reason(), 1);
            Ok(unix_time())
        }
        reply => decode::time(reply.unwrap_or_default()).map_err(|error| protocol(address, error)),
    }
}

/// The facts of one stream from its two replies.
fn facts(
    groups: Option<Value>,
    stream: Option<Value>,
    address: &str,
    time: Duration,
) -> Result<Result<Said, KeyError>, PollError> {
    for reply in [&groups, &stream] {
        if let Some(Value::ServerError(error)) = reply {
            return concern(address, error).map(Err);
        }
    }
    let (Ok(groups), Ok(stream)) =
        (decode::xinfo_groups(groups.unwrap_or_default()), decode::xinfo_stream(stream.unwrap_or_default()))
    else {
        return Ok(Err(KeyError::Protocol));
    };
    Ok(Ok(Said { facts: stream.facts(time), groups, payload_bytes: stream.payload_bytes }))
}

fn protocol(address: &str, error: decode::DecodeError) -> PollError {
    PollError::Protocol { address: address.to_owned(), detail: error.to_string() }
}

/// Remembers what is reported of a stream; logs what the limits leave out when that begins or ends.
fn note_groups(watched: &mut Watched, selection: &Selection, target_name: &str) {
    let (before, now) = (watched.left_out, selection.left_out);
    if (before.groups > 0) != (now.groups > 0) || (before.consumers > 0) != (now.consumers > 0) {
        warn!(
            target_name,
            stream = %watched.key,
            groups_left_out = now.groups,
            consumers_left_out = now.consumers,
            "limits of the target leave out groups or consumers of this stream"
        );
    }
    watched.left_out = now;
    let is_same = watched.groups.len() == selection.groups.len()
        && watched.groups.iter().zip(&selection.groups).all(|(shown, group)| *shown == group.name);
    if !is_same {
        watched.groups = selection.groups.iter().map(|group| group.name.clone()).collect();
    }
    note_groups_with_consumers(watched, selection);
}

/// Whose consumers are read along in the next poll. Where that was of no use, because the server refuses it,
/// they are asked for alone, for a poll.
fn note_groups_with_consumers(watched: &mut Watched, selection: &Selection) {
    let asked = &watched.groups_with_consumers;
    let with_consumers = || {
        let groups = selection.groups.iter().filter(|group| match group.each_consumer {
            ConsumersReading::NotWanted => false,
            ConsumersReading::Open => group.consumers > 0 && asked.binary_search(&group.name).is_err(),
            ConsumersReading::Read(_) => group.consumers > 0,
        });
        groups.map(|group| &group.name)
    };
    if !asked.iter().eq(with_consumers()) {
        watched.groups_with_consumers = with_consumers().cloned().collect();
    }
}

/// Counts what is wrong with a stream, and logs it when it changes.
fn note_problem(
    watched: &mut Watched,
    problem: Option<KeyError>,
    metrics: &TargetMetrics,
    target_name: &str,
) {
    if let Some(error) = problem {
        metrics.count_errors(error.reason(), 1);
    }
    let before = std::mem::replace(&mut watched.problem, problem);
    match problem {
        _ if before == problem => {}
        None => info!(target_name, stream = %watched.key, "stream can be read again"),
        Some(KeyError::Missing) if !watched.named => {
            debug!(target_name, stream = %watched.key, "stream is gone");
        }
        Some(error) => {
            warn!(target_name, stream = %watched.key, reason = error.reason().as_str(), "stream cannot be read");
        }
    }
}
