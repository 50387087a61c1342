//! Reading: TIME, and XINFO GROUPS then XINFO STREAM of every stream that is due, and XINFO CONSUMERS of the
//! groups that it had before: while the server has the stream in its processor's cache, that costs it less.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use std::vec;

use redis::{Pipeline, Value};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::clock::unix_time;
use crate::config::Target;
use crate::poller::catalogue::{Catalogue, ReplyBytes, Watched};
use crate::poller::decode::{self, XinfoGroup};
use crate::poller::error::{KeyError, PollError, concern};
use crate::poller::exchange::{batches, command, exchange};
use crate::poller::names::Names;
use crate::poller::node::Node;
use crate::poller::selection::{self, Selection};
use crate::self_metrics::TargetMetrics;
use crate::self_metrics::labels::{Command, Reason};
use crate::snapshot::facts::{
    ConsumerFacts, ConsumersReading, GroupFacts, Outcome, StreamFacts, StreamReading,
};
use crate::snapshot::name::Name;

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
    pub(super) node: &'a Node,
    pub(super) target: &'a Target,
    pub(super) catalogue: &'a mut Catalogue,
    pub(super) metrics: &'a TargetMetrics,
    pub(super) names: &'a mut Names,
    /// Whether the node's word on consumers can be trusted: a replica's cannot.
    pub(super) has_true_consumers: bool,
    /// Whether its word on entries-read can be.
    pub(super) has_true_entries_read: bool,
    pub(super) poll_number: u64,
    /// Bytes of entries that may be read of streams whose size is not known yet.
    pub(super) payload_left: u64,
    pub(super) deadline: Instant,
}

/// What became of reading.
pub(super) struct Read {
    /// One for each watched stream, in the order of their keys.
    pub(super) streams: Vec<StreamReading>,
    /// Bytes of entries that came with it.
    pub(super) payload_bytes: u64,
    /// Why it ended early, if it did; what was read by then stands.
    pub(super) cut_off_by: Option<PollError>,
}

/// Reads the streams at the positions in `due`, in that order.
pub(super) async fn read(reading: Reading<'_>, due: &[usize]) -> Read {
    let Reading { node, deadline, metrics, .. } = reading;
    let watched = &reading.catalogue.watched;
    let asked: Vec<_> = due.iter().map(|&at| Asked::of(&watched[at])).collect();
    let expected =
        due.iter().map(|&at| watched[at].reply_bytes.map_or(UNKNOWN_REPLY_BYTES, |bytes| bytes.total));
    let batches = batches(expected);
    let mut outcomes = vec![(Outcome::Deferred, Vec::new()); watched.len()];
    let is_unknown: Vec<_> = due.iter().map(|&at| watched[at].reply_bytes.is_none()).collect();
    let (payload_bytes, payload_left) = (AtomicU64::new(0), reading.payload_left);
    let mut reading = reading;
    let ended = exchange(
        &node.connection,
        &node.address,
        deadline,
        batches,
        |batch| {
            // Streams that were never read come first, a few at a time; should their entries turn out to be
            // large, the rest of them waits for the next poll.
            let is_spent = is_unknown[batch.start] && payload_bytes.load(Relaxed) >= payload_left;
            (!is_spent).then(|| pipeline(&asked[batch], metrics))
        },
        |batch, replies| {
            let mut replies = replies.into_iter();
            let time = node_time(replies.next(), &node.address, metrics)?;
            for (&at, asked) in due[batch.clone()].iter().zip(&asked[batch]) {
                let said = facts(replies.next(), replies.next(), &node.address, time)?;
                let consumers = reading.consumers(asked, &mut replies)?;
                payload_bytes.fetch_add(said.as_ref().map_or(0, |said| said.payload_bytes), Relaxed);
                outcomes[at] = reading.take(at, said, consumers);
            }
            Ok(())
        },
    )
    .await;
    let Catalogue { watched, rules, .. } = &*reading.catalogue;
    let streams = watched
        .iter()
        .zip(outcomes)
        .filter_map(|(watched, outcome)| stream_reading(watched, outcome, rules[watched.rule.0].window));
    let streams = streams.collect();
    Read { streams, payload_bytes: payload_bytes.into_inner(), cut_off_by: ended.err() }
}

/// A stream that is read, and groups of it whose consumers are read along.
struct Asked {
    key: Name,
    groups: Arc<[Name]>,
}

impl Asked {
    fn of(watched: &Watched) -> Self {
        Self { key: watched.key.clone(), groups: Arc::clone(&watched.groups_with_consumers) }
    }
}

fn pipeline(streams: &[Asked], metrics: &TargetMetrics) -> Pipeline {
    let groups: usize = streams.iter().map(|asked| asked.groups.len()).sum();
    let mut pipeline = Pipeline::with_capacity(1 + 2 * streams.len() + groups);
    pipeline.cmd("TIME");
    for Asked { key, groups } in streams {
        pipeline.add_command(command([b"XINFO", b"GROUPS", key.as_bytes()]));
        pipeline.add_command(command([b"XINFO", b"STREAM", key.as_bytes()]));
        for group in groups.iter() {
            pipeline.add_command(command([b"XINFO", b"CONSUMERS", key.as_bytes(), group.as_bytes()]));
        }
    }
    metrics.count_commands(Command::Time, 1);
    metrics.count_commands(Command::XinfoGroups, streams.len() as u64);
    metrics.count_commands(Command::XinfoStream, streams.len() as u64);
    metrics.count_commands(Command::XinfoConsumers, groups as u64);
    pipeline
}

/// A key that a glob had found and that is gone leaves nothing behind; one that is named is reported.
fn stream_reading(
    watched: &Watched,
    (outcome, missing_groups): (Outcome, Vec<Name>),
    window: Duration,
) -> Option<StreamReading> {
    let is_gone = matches!(outcome, Outcome::Missing | Outcome::WrongType) && !watched.named;
    (!is_gone).then(|| StreamReading { key: watched.key.clone(), outcome, missing_groups, window })
}

/// What the server said of one stream.
struct Said {
    facts: StreamFacts,
    groups: Vec<XinfoGroup>,
    payload_bytes: u64,
}

impl Reading<'_> {
    /// The consumers that were read along, by group; without the groups of which there is no word: they are
    /// gone, or have to be asked for.
    fn consumers(
        &mut self,
        asked: &Asked,
        replies: &mut vec::IntoIter<Value>,
    ) -> Result<Vec<(Name, Vec<ConsumerFacts>)>, PollError> {
        let mut consumers = Vec::with_capacity(asked.groups.len());
        for group in asked.groups.iter() {
            match replies.next().unwrap_or_default() {
                // What it says of the group alone is said again when it is asked for.
                Value::ServerError(error) => drop(concern(&self.node.address, &error)?),
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
        at: usize,
        said: Result<Said, KeyError>,
        consumers: Vec<(Name, Vec<ConsumerFacts>)>,
    ) -> (Outcome, Vec<Name>) {
        let Catalogue { watched, rules, .. } = &mut *self.catalogue;
        let watched = &mut watched[at];
        let rule = &rules[watched.rule.0];
        watched.last_read = self.poll_number;
        match said {
            Ok(Said { facts, mut groups, payload_bytes }) => {
                if !self.has_true_entries_read {
                    groups.iter_mut().for_each(|group| group.entries_read = None);
                }
                let wants_consumers = self.has_true_consumers && rule.consumers;
                let limits = &self.target.limits;
                let mut selection = selection::select(rule, limits, wants_consumers, &watched.groups, groups);
                for (group, consumers) in consumers {
                    selection.add_consumers(&group, consumers);
                }
                note_groups(watched, &selection, &self.target.name);
                note_problem(watched, None, self.metrics, &self.target.name);
                self.metrics.count_errors(Reason::MissingGroup, selection.missing.len() as u64);
                let wanted = |group: &&GroupFacts| group.each_consumer != ConsumersReading::NotWanted;
                let read_along: u64 =
                    selection.groups.iter().filter(wanted).map(|group| group.consumers).sum();
                let total = STREAM_BYTES
                    + payload_bytes
                    + GROUP_BYTES * facts.group_count
                    + CONSUMER_BYTES * read_along;
                watched.reply_bytes = Some(ReplyBytes { total, payload: payload_bytes });
                (Outcome::Read(StreamFacts { groups: selection.groups, ..facts }), selection.missing)
            }
            Err(error) => {
                note_problem(watched, Some(error), self.metrics, &self.target.name);
                watched.reply_bytes = Some(ReplyBytes { total: STREAM_BYTES, payload: 0 });
                match error {
                    KeyError::Missing => (Outcome::Missing, selection::named_groups(rule)),
                    KeyError::WrongType => (Outcome::WrongType, selection::named_groups(rule)),
                    _ => (Outcome::Refused, Vec::new()),
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
    let facts = StreamFacts {
        time,
        length: stream.length,
        first: stream.first,
        last: stream.last,
        last_generated: stream.last_generated,
        entries_added: stream.entries_added,
        max_deleted: stream.max_deleted,
        group_count: stream.groups,
        entry_bytes: stream.entry_bytes,
        radix_tree: stream.radix_tree,
        groups: Vec::new(),
    };
    Ok(Ok(Said { facts, groups, payload_bytes: stream.payload_bytes }))
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
