//! Reading: TIME, and XINFO GROUPS then XINFO STREAM of every stream that is due.

use std::ops::Range;
use std::time::Duration;

use redis::{Pipeline, Value};
use tokio::time::Instant;

use crate::config::Target;
use crate::poller::catalogue::{Catalogue, ReplyBytes, Watched};
use crate::poller::decode;
use crate::poller::error::{KeyError, PollError, concern};
use crate::poller::exchange::{batches, exchange};
use crate::poller::node::Node;
use crate::poller::selection::{self, Selection};
use crate::self_metrics::{Command, TargetMetrics};
use crate::snapshot::facts::{Outcome, StreamFacts, StreamReading};

/// Expected size of the replies about a stream that was never read: its entries may be large.
const UNKNOWN_REPLY_BYTES: u64 = 16 * 1024;
/// Size of the replies about a stream, besides its entries and its groups.
const STREAM_BYTES: u64 = 300;
/// Size of the reply about one group.
const GROUP_BYTES: u64 = 150;

/// What reading needs to know and may change.
pub(super) struct Reading<'a> {
    pub(super) node: &'a Node,
    pub(super) target: &'a Target,
    pub(super) catalogue: &'a mut Catalogue,
    pub(super) metrics: &'a TargetMetrics,
    /// Whether the node's word on consumers can be trusted: a replica's cannot.
    pub(super) has_true_consumers: bool,
    pub(super) poll_number: u64,
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
    let Reading { node, target, catalogue, metrics, has_true_consumers, poll_number, deadline } = reading;
    let keys: Vec<_> = due.iter().map(|&at| catalogue.watched[at].key.clone()).collect();
    let expected = due.iter().map(|&at| {
        catalogue.watched[at].reply_bytes.map_or(UNKNOWN_REPLY_BYTES, |bytes| bytes.total)
    });
    let batches = batches(expected);
    let mut outcomes: Vec<Option<(Outcome, Vec<_>)>> = catalogue.watched.iter().map(|_| None).collect();
    let mut payload_bytes = 0;
    let pipeline = |batch: Range<usize>| {
        let mut pipeline = Pipeline::with_capacity(1 + 2 * batch.len());
        pipeline.cmd("TIME");
        for key in &keys[batch.clone()] {
            pipeline.cmd("XINFO").arg("GROUPS").arg(key.as_bytes());
            pipeline.cmd("XINFO").arg("STREAM").arg(key.as_bytes());
        }
        metrics.count_commands(Command::Time, 1);
        metrics.count_commands(Command::XinfoGroups, batch.len() as u64);
        metrics.count_commands(Command::XinfoStream, batch.len() as u64);
        pipeline
    };
    let ended = exchange(&node.connection, &node.address, deadline, batches, pipeline, |batch, replies| {
        let mut replies = replies.into_iter();
        let time = node_time(replies.next(), &node.address)?;
        for at in batch {
            let (groups, stream) = (replies.next(), replies.next());
            let at = due[at];
            let wants_consumers = has_true_consumers && catalogue.rule(&catalogue.watched[at]).consumers;
            let found = facts(groups, stream, &node.address, time)?;
            let (rule, watched) = (catalogue.rule(&catalogue.watched[at]).clone(), &mut catalogue.watched[at]);
            watched.last_read = poll_number;
            let select = |groups| selection::select(&rule, &target.limits, wants_consumers, &watched.groups, groups);
            let outcome = match found {
                Ok((facts, groups, payload)) => {
                    payload_bytes += payload;
                    let selection = select(groups);
                    note_reading(watched, payload, &selection, metrics, &target.name);
                    let facts = StreamFacts { groups: selection.groups, ..facts };
                    (Outcome::Read(facts), selection.missing)
                }
                Err(error) => {
                    note_problem(watched, Some(error), metrics, &target.name);
                    unread(error, &rule)
                }
            };
            outcomes[at] = Some(outcome);
        }
        Ok(())
    })
    .await;
    let streams = catalogue.watched.iter().zip(outcomes).filter_map(|(watched, outcome)| {
        stream_reading(watched, outcome.unwrap_or((Outcome::Deferred, Vec::new())))
    });
    Read { streams: streams.collect(), payload_bytes, cut_off_by: ended.err() }
}

/// A key that a glob had found and that is gone leaves nothing behind; one that is named is reported.
fn stream_reading(watched: &Watched, (outcome, missing_groups): (Outcome, Vec<crate::snapshot::name::Name>)) -> Option<StreamReading> {
    let is_gone = matches!(outcome, Outcome::Missing | Outcome::WrongType) && !watched.named;
    (!is_gone).then(|| StreamReading { key: watched.key.clone(), outcome, missing_groups })
}
