//! Reads streams with a group in danger of losing entries, between polls: TIME, and for each stream XINFO GROUPS, XINFO
//! STREAM and XINFO GROUPS again. A group whose position is the same in both is certain to have stood there when the
//! stream was read.
//!
//! A stream with a group that reads often is also sampled in bursts, whose samples are so close together that they see
//! its single reads.

use std::time::Duration;

use redis::Pipeline;
use tokio::time::Instant;

use crate::poller::decode;
use crate::poller::node_reader::NodeReader;
use crate::poller::pipeline::{Turn, command, run_pipelines};
use crate::poller::resp::Value;
use crate::self_metrics::labels::Command;
use crate::self_metrics::target::TargetMetrics;
use redis_stream_core::clock::{now, unix_time};
use redis_stream_core::name::Name;
use redis_stream_lag::snapshot::{
    ConsumersReading, EntriesReadMeaning, Epoch, GroupInfo, LossSample, StreamInfo,
};
use redis_stream_lag::state::StreamInDanger;

/// Assumed size of the three replies about one stream, in bytes.
const EXPECTED_BYTES: u64 = 2_048;
const COMMANDS: usize = 3;

/// Average time from one regular sample to the next, in milliseconds.
const INTERVAL_MS: u64 = 250;
/// Intervals of a burst, in milliseconds. The rest until the next regular sample is one more.
const BURST_MS: [u64; 8] = [12, 12, 12, 12, 12, 24, 24, 50];
/// The most streams in a burst.
const BURST_STREAMS: usize = 10;
/// The most groups of all streams in a regular sample, and in a sample of a burst: XINFO GROUPS lists all groups of a
/// stream, reported or not.
const SAMPLE_GROUPS: u64 = 1_000;
const BURST_GROUPS: u64 = 100;
/// One in so many regular samples is not followed by a burst. It shows if bursts are still needed.
const REGULAR_ONLY: u8 = 4;

/// The schedule of samples. All intervals are random, so that they do not run in step with the reads of a group.
#[derive(Debug, Default)]
pub(super) struct SampleSchedule {
    /// Time at which the next sample is due; `None` while no stream is in danger.
    pub(super) due: Option<Instant>,
    /// Intervals from the next samples of the burst to the following ones.
    intervals: Vec<Duration>,
    burst: Vec<Name>,
}

/// The most streams to sample at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct SampleLimits {
    pub(super) streams: usize,
    pub(super) burst_streams: usize,
}

impl SampleLimits {
    pub(super) fn new(streams: usize, can_afford_bursts: bool) -> Self {
        Self { streams, burst_streams: if can_afford_bursts { BURST_STREAMS.min(streams) } else { 0 } }
    }
}

impl SampleSchedule {
    /// Begins with a regular sample.
    pub(super) fn begin(&mut self, is_any_in_danger: bool) {
        self.intervals.clear();
        self.due = is_any_in_danger.then(|| now() + Duration::from_millis(INTERVAL_MS));
    }

    /// Returns the streams to sample now, and schedules the next sample.
    pub(super) fn next<'a>(
        &mut self,
        in_danger: impl Iterator<Item = StreamInDanger<'a>>,
        limits: SampleLimits,
    ) -> Vec<Name> {
        let keys = if self.intervals.is_empty() {
            self.next_regular(in_danger.collect(), limits)
        } else {
            self.burst.clone()
        };
        self.due = self.intervals.pop().filter(|_| !keys.is_empty()).map(|interval| now() + interval);
        keys
    }

    fn next_regular(&mut self, mut in_danger: Vec<StreamInDanger<'_>>, limits: SampleLimits) -> Vec<Name> {
        // If there are more than may be sampled at a time, they take turns at random: first those that lose entries.
        fastrand::shuffle(&mut in_danger);
        in_danger.sort_by_key(|stream| !stream.is_overtaken);
        let keys = within(in_danger.iter(), limits.streams, SAMPLE_GROUPS);
        let has_burst = fastrand::u8(..REGULAR_ONLY) > 0;
        let burst = in_danger.iter().filter(|stream| stream.needs_bursts && has_burst);
        self.burst = within(burst, limits.burst_streams, BURST_GROUPS);
        self.burst.retain(|key| keys.contains(key));
        let burst_ms = if self.burst.is_empty() { &[][..] } else { &BURST_MS };
        let rest_ms = fastrand::u64(INTERVAL_MS * 4 / 5..INTERVAL_MS * 6 / 5) - burst_ms.iter().sum::<u64>();
        let interval = |ms: u64| Duration::from_millis(ms).mul_f64(0.8 + 0.4 * fastrand::f64());
        self.intervals = burst_ms.iter().copied().chain([rest_ms]).map(interval).collect();
        fastrand::shuffle(&mut self.intervals);
        keys
    }
}

/// Returns streams up to a number of streams and of groups.
fn within<'a>(
    streams: impl Iterator<Item = &'a StreamInDanger<'a>>,
    at_most: usize,
    mut groups: u64,
) -> Vec<Name> {
    let affordable = streams.filter(|stream| {
        let left = groups.checked_sub(stream.group_count);
        groups = left.unwrap_or(groups);
        left.is_some()
    });
    affordable.take(at_most).map(|stream| stream.key.clone()).collect()
}

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
        (deadline, deadline),
        |number, batch, _| {
            let keys = &readers[number].1[batch];
            let mut pipeline = Pipeline::with_capacity(1 + COMMANDS * keys.len());
            pipeline.cmd("TIME");
            for key in keys {
                pipeline.add_command(command([b"XINFO", b"GROUPS", key.as_bytes()]));
                pipeline.add_command(command([b"XINFO", b"STREAM", key.as_bytes()]));
                pipeline.add_command(command([b"XINFO", b"GROUPS", key.as_bytes()]));
            }
            metrics.count_commands(Command::Time, 1);
            metrics.count_commands(Command::XinfoGroups, 2 * keys.len() as u64);
            metrics.count_commands(Command::XinfoStream, keys.len() as u64);
            Turn::Send(pipeline)
        },
        |number, batch, mut replies| {
            let (reader, keys) = &readers[number];
            // Where TIME is refused, this machine's clock is used.
            let time = replies.next().and_then(|reply| decode::time(reply).ok()).unwrap_or_else(unix_time);
            for key in &keys[batch] {
                let three = (replies.next(), replies.next(), replies.next());
                samples.extend(decoded(reader, key, time, three));
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
    time: Duration,
    replies: (Option<Value<'_>>, Option<Value<'_>>, Option<Value<'_>>),
) -> Option<StreamSample> {
    let (before, stream, after) = replies;
    let groups = groups(reader, before?)?;
    let info = decode::xinfo_stream(stream?).ok()?.facts(time);
    Some(StreamSample {
        key: key.clone(),
        epoch: reader.node.epoch,
        entries_read: reader.entries_read,
        info: StreamInfo { groups: groups.into(), ..info },
        groups_after: self::groups(reader, after?)?,
    })
}

fn groups(reader: &NodeReader<'_>, reply: Value<'_>) -> Option<Vec<GroupInfo>> {
    let groups = decode::xinfo_groups(reply).ok()?.into_iter();
    let facts = groups.map(|mut group| {
        group.entries_read = group.entries_read.filter(|_| reader.has_true_entries_read);
        group.facts(group.name.into(), false, ConsumersReading::NotWanted)
    });
    Some(facts.collect())
}
