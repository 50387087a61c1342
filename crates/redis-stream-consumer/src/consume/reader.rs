//! The connection that reads: XREADGROUP may block on the server without holding up other commands.

use std::time::Duration;

use redis::{Cmd, RedisError, cmd};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{Instrument as _, debug};

use super::ConsumerConfig;
use super::autoclaim::max_waiting;
use super::group_client::millis;
use super::in_flight::InFlight;
use super::metrics::Metrics;
use crate::connection::{Connection, Progress};
use crate::entry::{GroupMember, ReadEntries, decode_read};
use crate::error::{RunError, is_group_gone};
use redis_stream_core::clock::now;
use tokio_util::sync::CancellationToken;

/// The result of one request to read.
#[derive(Debug)]
pub(super) enum ReadResult {
    /// Entries with an upper bound of their delivery time; none if BLOCK ran out.
    Entries(ReadEntries, Instant),
    /// Nothing was delivered: nothing was sent to the server, or it does not know CLAIM.
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
    claim_min_idle: Duration,
    /// No pending entries are claimed while so many wait for their next delivery.
    max_waiting: usize,
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
        let reader = Reader {
            block: config.block,
            claim: ClaimOption::Tried,
            member: config.member(),
            connection,
            metrics,
            stop,
        };
        let (claim_min_idle, max_waiting) = (config.claim_min_idle, max_waiting(config));
        Self { batch, capacity, claim_min_idle, max_waiting, idle: Some(reader), request: JoinSet::new() }
    }

    pub(super) fn is_reading(&self) -> bool {
        self.idle.is_none()
    }

    /// Returns false if the server is known not to have CLAIM.
    pub(super) fn may_claim(&self) -> bool {
        self.idle.as_ref().is_none_or(|reader| reader.claim == ClaimOption::Tried)
    }

    /// Begins a request if there is room for entries, and no request is open.
    pub(super) fn request(&mut self, in_flight: &InFlight) {
        let room = self.batch.min(self.capacity.saturating_sub(in_flight.buffered()));
        // Waits for room for half a batch, since reading single entries costs the server more than it gains.
        if room * 2 >= self.batch && room > 0 {
            let claim = (in_flight.waiting() < self.max_waiting).then_some(self.claim_min_idle);
            self.read(room, claim);
        }
    }

    /// Begins a request for one new entry if no request is open.
    pub(super) fn request_one(&mut self) {
        self.read(1, None);
    }

    fn read(&mut self, count: usize, claim: Option<Duration>) {
        if let Some(mut reader) = self.idle.take() {
            let read = async move {
                let result = reader.read(count, claim).await;
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

/// CLAIM of XREADGROUP, which servers have from Redis 8.4 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClaimOption {
    Tried,
    /// A syntax error to the server, until the next connection.
    Unknown,
}

struct Reader {
    member: GroupMember,
    block: Duration,
    claim: ClaimOption,
    connection: Connection,
    metrics: Metrics,
    stop: CancellationToken,
}

impl Reader {
    /// Reads up to `count` entries: first pending ones that were idle for the time in `claim`, then new ones.
    async fn read(&mut self, count: usize, claim: Option<Duration>) -> ReadResult {
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
        let claim = claim.filter(|_| self.claim == ClaimOption::Tried);
        let reply = self.connection.query(&self.xreadgroup(count, claim), self.block).await;
        match reply.and_then(decode_read) {
            Ok(entries) => {
                self.connection.works();
                ReadResult::Entries(entries, now())
            }
            Err(error) if is_group_gone(&error) => ReadResult::GroupGone(error),
            Err(error) if claim.is_some() && error.code() == Some("ERR") => {
                debug!(error = error.detail(), "server does not know CLAIM");
                self.claim = ClaimOption::Unknown;
                ReadResult::Skipped
            }
            Err(error) => match self.connection.lost(error) {
                Ok(()) => {
                    self.claim = ClaimOption::Tried;
                    self.metrics.reconnects.inc();
                    ReadResult::ConnectionLost
                }
                Err(error) => ReadResult::Failed(error),
            },
        }
    }

    fn xreadgroup(&self, count: usize, claim: Option<Duration>) -> Cmd {
        let GroupMember { stream, group, consumer } = &self.member;
        let block = millis(self.block).max(1);
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(group).arg(consumer).arg("COUNT").arg(count);
        read.arg("BLOCK").arg(block);
        if let Some(min_idle) = claim {
            read.arg("CLAIM").arg(millis(min_idle));
        }
        read.arg("STREAMS").arg(stream).arg(">");
        read
    }
}
