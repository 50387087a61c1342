//! Reads streams with a group in danger of losing entries, between polls: XINFO GROUPS, XINFO STREAM and XINFO GROUPS
//! again. A group whose position is the same in both is certain to have stood there when the stream was read.

use std::time::Duration;

use redis::{Pipeline, Value};
use tokio::time::Instant;

use crate::poller::decode;
use crate::poller::node_reader::NodeReader;
use crate::poller::pipeline::{command, run_pipelines};
use crate::self_metrics::labels::Command;
use crate::self_metrics::target::TargetMetrics;
use redis_stream_core::name::Name;
use redis_stream_lag::snapshot::{
    ConsumersReading, EntriesReadMeaning, Epoch, GroupInfo, LossSample, StreamInfo,
};

/// Assumed size of the three replies about one stream, in bytes.
const EXPECTED_BYTES: u64 = 2_048;
const COMMANDS: usize = 3;

/// The replies about one stream.
pub(super) struct StreamSample {
    key: Name,
    epoch: Epoch,
    entries_read: EntriesReadMeaning,
    info: StreamInfo,
    groups_after: Vec<GroupInfo>,
}

impl StreamSample {
    pub(super) fn as_loss_sample(&self) -> LossSample<'_> {
        LossSample {
            key: &self.key,
            epoch: self.epoch,
            entries_read: self.entries_read,
            info: &self.info,
            groups_after: &self.groups_after,
        }
    }
}

/// Samples each stream from its node. What cannot be read is left out: the next poll reports it.
pub(super) async fn sample(
    readers: &[(NodeReader<'_>, &[Name])],
    metrics: &TargetMetrics,
    deadline: Instant,
) -> Vec<StreamSample> {
    let pipelines: Vec<_> = readers
        .iter()
        .map(|(reader, keys)| reader.node.pipelines(keys.iter().map(|_| EXPECTED_BYTES)))
        .collect();
    let mut samples = Vec::new();
    run_pipelines(
        &pipelines,
        deadline,
        |number, batch| {
            let keys = &readers[number].1[batch];
            let mut pipeline = Pipeline::with_capacity(COMMANDS * keys.len());
            for key in keys {
                pipeline.add_command(command([b"XINFO", b"GROUPS", key.as_bytes()]));
                pipeline.add_command(command([b"XINFO", b"STREAM", key.as_bytes()]));
                pipeline.add_command(command([b"XINFO", b"GROUPS", key.as_bytes()]));
            }
            metrics.count_commands(Command::XinfoGroups, 2 * keys.len() as u64);
            metrics.count_commands(Command::XinfoStream, keys.len() as u64);
            Some(pipeline)
        },
        |number, batch, replies| {
            let (reader, keys) = &readers[number];
            let mut replies = replies.into_iter();
            for key in &keys[batch] {
                let three = (replies.next(), replies.next(), replies.next());
                samples.extend(decoded(reader, key, three));
            }
            Ok(())
        },
    )
    .await;
    samples
}

fn decoded(
    reader: &NodeReader<'_>,
    key: &Name,
    replies: (Option<Value>, Option<Value>, Option<Value>),
) -> Option<StreamSample> {
    let (before, stream, after) = replies;
    let groups = groups(reader, before?)?;
    let info = decode::xinfo_stream(stream?).ok()?.facts(Duration::ZERO);
    Some(StreamSample {
        key: key.clone(),
        epoch: reader.node.epoch,
        entries_read: reader.entries_read,
        info: StreamInfo { groups, ..info },
        groups_after: self::groups(reader, after?)?,
    })
}

fn groups(reader: &NodeReader<'_>, reply: Value) -> Option<Vec<GroupInfo>> {
    let groups = decode::xinfo_groups(reply).ok()?.into_iter();
    let facts = groups.map(|mut group| {
        let name = Name::from(std::mem::take(&mut group.name));
        group.entries_read = group.entries_read.filter(|_| reader.has_true_entries_read);
        group.facts(name, false, ConsumersReading::NotWanted)
    });
    Some(facts.collect())
}
