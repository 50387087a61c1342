//! The connection that reads: it may wait on the server in XREADGROUP without holding up anything else.

use std::sync::Arc;

use redis::{Cmd, RedisError, cmd};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::ConsumerConfig;
use super::metrics::Metrics;
use crate::connection::{Connection, Progress};
use crate::entry::{Fields, GroupMember, StreamId, decode_read};
use crate::error::{WorkloadError, is_group_gone};
use redis_stream_core::clock::now;
use tokio_util::sync::CancellationToken;

/// What came of one request to read. Each request has exactly one.
#[derive(Debug)]
pub(super) enum Read {
    /// Entries, delivered not later than this; none where BLOCK ran out.
    Entries(Vec<(StreamId, Fields)>, Instant),
    /// Nothing was asked of the server.
    Nothing,
    /// The stream or the group is gone: nothing was delivered.
    Gone(RedisError),
    /// The connection was lost: entries may have been delivered, or may be within a moment.
    Lost,
    /// Reading is over.
    Failed(WorkloadError),
}

/// Reads when it is asked to.
pub(super) struct Reader {
    pub(super) membership: ConsumerConfig,
    pub(super) member: Arc<GroupMember>,
    pub(super) connection: Connection,
    pub(super) metrics: Metrics,
    pub(super) stop: CancellationToken,
}

impl Reader {
    /// Answers each request, for so many entries at most, until there can be no more.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<usize>, reads: mpsc::Sender<Read>) {
        while let Some(count) = requests.recv().await {
            let read = self.read(count).await;
            let is_over = matches!(read, Read::Failed(_));
            if reads.send(read).await.is_err() || is_over {
                return;
            }
        }
    }

    async fn read(&mut self, count: usize) -> Read {
        let stop = self.stop.clone();
        let connected = tokio::select! {
            connected = self.connection.connect() => connected,
            () = stop.cancelled() => return Read::Nothing,
        };
        match connected {
            Ok(Progress::Ready) if !stop.is_cancelled() => {}
            Ok(_) => return Read::Nothing,
            Err(error) => return Read::Failed(error),
        }
        // From here to the reply nothing but the deadline may interrupt: an entry that is delivered into a reply
        // that nobody takes is found late.
        let reply = self.connection.query(&self.command(count), self.membership.block).await;
        match reply.and_then(decode_read) {
            Ok(entries) => {
                self.connection.works();
                Read::Entries(entries, now())
            }
            Err(error) if is_group_gone(&error) => Read::Gone(error),
            Err(error) => match self.connection.lost(error) {
                Ok(()) => {
                    self.metrics.reconnects.inc();
                    Read::Lost
                }
                Err(error) => Read::Failed(error),
            },
        }
    }

    fn command(&self, count: usize) -> Cmd {
        let GroupMember { stream, group, consumer } = &*self.member;
        let block = u64::try_from(self.membership.block.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(group).arg(consumer).arg("COUNT").arg(count);
        read.arg("BLOCK").arg(block).arg("STREAMS").arg(stream).arg(">");
        read
    }
}
