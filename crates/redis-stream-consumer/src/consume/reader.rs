//! The connection that reads: XREADGROUP may block on the server without holding up other commands.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, RedisError, cmd};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::ConsumerConfig;
use super::in_flight::InFlight;
use super::metrics::Metrics;
use crate::connection::{Connection, Progress};
use crate::entry::{Fields, GroupMember, StreamId, decode_read};
use crate::error::{RunError, is_group_gone};
use redis_stream_core::clock::now;
use tokio_util::sync::CancellationToken;

/// The result of one request to read.
#[derive(Debug)]
pub(super) enum ReadResult {
    /// Entries with an upper bound of their delivery time; none if BLOCK ran out.
    Entries(Vec<(StreamId, Fields)>, Instant),
    /// Nothing was sent to the server.
    Skipped,
    /// The stream or the group is gone, and nothing was delivered.
    GroupGone(RedisError),
    /// The connection was lost: entries may have been delivered, or may be in a moment.
    ConnectionLost,
    /// The reader ended.
    Failed(RunError),
}

/// The reader's task. It answers each request with one result, and ends with this value.
pub(super) struct ReaderHandle {
    /// Entries of one XREADGROUP.
    batch: usize,
    /// Entries that may be buffered or being handled.
    capacity: usize,
    requests: mpsc::Sender<usize>,
    results: mpsc::Receiver<ReadResult>,
    is_reading: bool,
    _task: JoinSet<()>,
}

impl ReaderHandle {
    pub(super) fn start(
        config: &ConsumerConfig,
        member: Arc<GroupMember>,
        connection: Connection,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> Self {
        let (requests, requested) = mpsc::channel(1);
        let (answered, results) = mpsc::channel(1);
        let reader = Reader { block: config.block, member, connection, metrics, stop };
        let mut task = JoinSet::new();
        task.spawn(reader.run(requested, answered).in_current_span());
        let batch = config.batch as usize;
        let capacity = batch + config.concurrency as usize;
        Self { batch, capacity, requests, results, is_reading: false, _task: task }
    }

    /// Returns whether a request has no result yet.
    pub(super) fn is_reading(&self) -> bool {
        self.is_reading
    }

    /// Requests entries if there is room for them, and no request is open.
    pub(super) fn request(&mut self, in_flight: &InFlight) {
        let room = self.batch.min(self.capacity.saturating_sub(in_flight.buffered()));
        // Waits for room for half a batch, since reading single entries costs the server more than it gains.
        let is_worth_it = room * 2 >= self.batch && room > 0;
        if !self.is_reading && is_worth_it && self.requests.try_send(room).is_ok() {
            self.is_reading = true;
        }
    }

    /// Waits for the next result. Cancel safe. Returns `None` once the reader has ended.
    pub(super) async fn result(&mut self) -> Option<ReadResult> {
        let result = self.results.recv().await;
        self.is_reading &= result.is_none();
        result
    }
}

struct Reader {
    member: Arc<GroupMember>,
    block: Duration,
    connection: Connection,
    metrics: Metrics,
    stop: CancellationToken,
}

impl Reader {
    async fn run(mut self, mut requests: mpsc::Receiver<usize>, results: mpsc::Sender<ReadResult>) {
        while let Some(count) = requests.recv().await {
            let result = self.read(count).await;
            let is_over = matches!(result, ReadResult::Failed(_));
            if results.send(result).await.is_err() || is_over {
                return;
            }
        }
    }

    async fn read(&mut self, count: usize) -> ReadResult {
        let stop = self.stop.clone();
        let connected = tokio::select! {
            connected = self.connection.connect() => connected,
            () = stop.cancelled() => return ReadResult::Skipped,
        };
        match connected {
            Ok(Progress::Ready) if !stop.is_cancelled() => {}
            Ok(_) => return ReadResult::Skipped,
            Err(error) => return ReadResult::Failed(error),
        }
        // Only the deadline may interrupt from here to the reply: an entry delivered into a reply that is dropped is
        // only found after `claim_min_idle`.
        let reply = self.connection.query(&self.xreadgroup(count), self.block).await;
        match reply.and_then(decode_read) {
            Ok(entries) => {
                self.connection.works();
                ReadResult::Entries(entries, now())
            }
            Err(error) if is_group_gone(&error) => ReadResult::GroupGone(error),
            Err(error) => match self.connection.lost(error) {
                Ok(()) => {
                    self.metrics.reconnects.inc();
                    ReadResult::ConnectionLost
                }
                Err(error) => ReadResult::Failed(error),
            },
        }
    }

    fn xreadgroup(&self, count: usize) -> Cmd {
        let GroupMember { stream, group, consumer } = &*self.member;
        let block = u64::try_from(self.block.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(group).arg(consumer).arg("COUNT").arg(count);
        read.arg("BLOCK").arg(block).arg("STREAMS").arg(stream).arg(">");
        read
    }
}
