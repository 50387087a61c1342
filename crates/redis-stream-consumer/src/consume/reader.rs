//! The connection that reads: XREADGROUP may block on the server without holding up other commands.

use std::time::Duration;

use redis::{Cmd, RedisError, cmd};
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
    /// An error that ends the run.
    Failed(RunError),
}

/// A reader, and the task of its open request, which ends with this value.
pub(super) struct ReaderHandle {
    /// Entries of one XREADGROUP.
    batch: usize,
    /// Entries that may be buffered or being handled.
    capacity: usize,
    /// `None` while a request is open.
    idle: Option<Reader>,
    request: JoinSet<(Reader, ReadResult)>,
}

impl ReaderHandle {
    pub(super) fn new(
        config: &ConsumerConfig,
        connection: Connection,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> Self {
        let batch = config.batch as usize;
        let capacity = batch + config.concurrency as usize;
        let reader = Reader { block: config.block, member: config.member(), connection, metrics, stop };
        Self { batch, capacity, idle: Some(reader), request: JoinSet::new() }
    }

    pub(super) fn is_reading(&self) -> bool {
        self.idle.is_none()
    }

    /// Begins a request if there is room for entries, and no request is open.
    pub(super) fn request(&mut self, in_flight: &InFlight) {
        let room = self.batch.min(self.capacity.saturating_sub(in_flight.buffered()));
        // Waits for room for half a batch, since reading single entries costs the server more than it gains.
        if room * 2 >= self.batch
            && room > 0
            && let Some(mut reader) = self.idle.take()
        {
            let read = async move {
                let result = reader.read(room).await;
                (reader, result)
            };
            self.request.spawn(read.in_current_span());
        }
    }

    /// Waits for the result of the open request. Cancel safe. Returns `None` if there is none.
    pub(super) async fn result(&mut self) -> Option<ReadResult> {
        let (reader, result) = self.request.join_next().await?.expect("a read does not panic");
        self.idle = Some(reader);
        Some(result)
    }
}

struct Reader {
    member: GroupMember,
    block: Duration,
    connection: Connection,
    metrics: Metrics,
    stop: CancellationToken,
}

impl Reader {
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
        let GroupMember { stream, group, consumer } = &self.member;
        let block = u64::try_from(self.block.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(group).arg(consumer).arg("COUNT").arg(count);
        read.arg("BLOCK").arg(block).arg("STREAMS").arg(stream).arg(">");
        read
    }
}
