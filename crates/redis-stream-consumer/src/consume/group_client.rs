//! The commands of one member of a group, over one connection.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Pipeline, RedisResult, Value, cmd};
use tokio::time::Instant;
use tracing::{error, info};

use super::in_flight::ClaimBatch;
use super::{ConsumerConfig, GroupCreation};
use crate::connection::{Connection, server_clock};
use crate::entry::{
    Fields, GroupMember, RedisId, StreamId, decode, decode_autoclaim, decode_entries, decode_ids, id_args,
};
use crate::error::is_group_gone;
use redis_stream_core::clock::now;
use redis_stream_core::server_clock::ServerClock;

/// Entries that one pipeline reads with their payload, so that even large ones arrive in time.
pub(super) const READ_IDS: usize = 8;

/// A row of XPENDING.
pub(super) struct PendingRow {
    pub(super) id: StreamId,
    pub(super) consumer: Vec<u8>,
    /// Time since the entry was delivered or claimed.
    pub(super) idle: Duration,
    /// The number of deliveries, unless it [is fatal](is_fatal).
    pub(super) deliveries: u64,
}

/// Returns true for the number of deliveries of an entry that XNACK FATAL marked as failed, which replaces it by the largest
/// one there is. A later XNACK SILENT takes one off it.
pub(super) fn is_fatal(deliveries: u64) -> bool {
    deliveries > i64::MAX.unsigned_abs() / 2
}

impl PendingRow {
    /// Returns when the entry was delivered or claimed, for a reply that arrived at `now`.
    pub(super) fn touched(&self, now: Instant) -> Instant {
        now.checked_sub(self.idle).unwrap_or(now)
    }
}

/// Mode of XNACK: its effect on the number of deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReleaseMode {
    /// The last delivery does not count: the entry was not handled.
    NotCounted,
    /// The last delivery counts: the entry was handled, and failed or did not finish.
    Counted,
}

impl ReleaseMode {
    fn as_str(self) -> &'static str {
        match self {
            Self::NotCounted => "SILENT",
            Self::Counted => "FAIL",
        }
    }
}

/// The reply of XAUTOCLAIM.
pub(super) struct Autoclaimed {
    /// Where the next call continues; `0-0` after the end of the pending list.
    pub(super) cursor: StreamId,
    pub(super) claimed: Vec<StreamId>,
    /// Entries that were pending and are not in the stream any more. Always empty before Redis 7.0.
    pub(super) deleted: Vec<StreamId>,
}

pub(super) struct GroupClient {
    connection: Connection,
    member: Arc<GroupMember>,
    /// Position at which the group is created. `$` is replaced by an ID once the group exists, so that a group that is
    /// lost later is created again without skipping the entries between.
    start_id: String,
    creation: GroupCreation,
    /// `None` if the server refuses TIME.
    clock: Option<ServerClock>,
}

impl GroupClient {
    pub(super) fn new(connection: Connection, config: &ConsumerConfig) -> Self {
        let (member, start_id) = (Arc::new(config.member()), config.start_id.clone());
        Self { connection, member, start_id, creation: config.creation, clock: None }
    }

    pub(super) fn creates_group(&self) -> bool {
        self.creation == GroupCreation::IfMissing
    }

    pub(super) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    pub(super) fn member(&self) -> &Arc<GroupMember> {
        &self.member
    }

    pub(super) fn is_own(&self, row: &PendingRow) -> bool {
        row.consumer == self.member.consumer
    }

    /// Returns the time since an entry was added, by the server's clock; `None` if the ID is no time, or the clock is
    /// not known.
    pub(super) fn age(&self, id: StreamId, now: Instant) -> Option<Duration> {
        id.age(self.clock?.time_at(now.into_std()))
    }

    pub(super) async fn read_clock(&mut self) -> RedisResult<()> {
        self.clock = match self.query(&cmd("TIME")).await {
            Ok(time) => server_clock(time, now()).ok(),
            Err(error) if error.is_io_error() => return Err(error),
            // An ACL may refuse it; then there is no end-to-end latency.
            Err(_) => None,
        };
        Ok(())
    }

    /// Creates the group if it is missing, or returns the server's error for it if it is not to be created.
    pub(super) async fn create_group(&mut self) -> RedisResult<()> {
        if !self.creates_group() {
            let summary = self.command("XPENDING");
            return self.query(&summary).await.map(drop);
        }
        let mut create = cmd("XGROUP");
        create.arg("CREATE").arg(&self.member.stream).arg(&self.member.group);
        create.arg(&self.start_id).arg("MKSTREAM");
        match self.query(&create).await {
            // It exists already: the usual case.
            Err(error) if error.code() == Some("BUSYGROUP") => {}
            created => drop(created?),
        }
        if self.start_id == "$"
            && let Some(position) = self.acknowledged_position().await?
        {
            self.start_id = position.to_string();
        }
        Ok(())
    }

    /// Returns the ID up to which all is acknowledged: before the oldest pending entry, or the last delivered one.
    async fn acknowledged_position(&mut self) -> RedisResult<Option<StreamId>> {
        let summary = self.command("XPENDING");
        let (_, oldest, _, _): (Value, Option<RedisId>, Value, Value) = decode(self.query(&summary).await?)?;
        if let Some(RedisId(oldest)) = oldest {
            return Ok(Some(before(oldest)));
        }
        let mut info = cmd("XINFO");
        info.arg("GROUPS").arg(&self.member.stream);
        let groups: Vec<HashMap<String, Value>> = decode(self.query(&info).await?)?;
        for mut group in groups {
            if group.get("name") == Some(&Value::BulkString(self.member.group.clone()))
                && let Some(delivered) = group.remove("last-delivered-id")
            {
                return decode(delivered).map(|RedisId(id)| Some(id));
            }
        }
        Ok(None)
    }

    /// Returns up to `count` entries that are pending for this member, after an ID.
    pub(super) async fn own_pending(
        &mut self,
        after: StreamId,
        count: usize,
    ) -> RedisResult<Vec<PendingRow>> {
        let mut pending = self.command("XPENDING");
        pending.arg(format!("({after}")).arg("+").arg(count).arg(&self.member.consumer);
        decode_pending(self.query(&pending).await?)
    }

    /// Returns the rows of those entries that are pending for any member.
    pub(super) async fn pending_rows(&mut self, ids: &[StreamId]) -> RedisResult<Vec<PendingRow>> {
        let mut pipeline = Pipeline::new();
        for id in ids {
            let mut pending = self.command("XPENDING");
            pending.arg(RedisId(*id)).arg(RedisId(*id)).arg(1);
            pipeline.add_command(pending);
        }
        let mut rows = Vec::new();
        for reply in self.connection.query_all(&pipeline).await? {
            rows.extend(decode_pending(reply?)?);
        }
        Ok(rows)
    }

    /// Adds XRANGE of single entries to a pipeline; [`decode_entries`] reads each reply.
    pub(super) fn add_reads(&self, pipeline: &mut Pipeline, ids: &[StreamId]) {
        for id in ids {
            pipeline.cmd("XRANGE").arg(&self.member.stream).arg(RedisId(*id)).arg(RedisId(*id));
        }
    }

    /// Returns those of the entries that are not in the stream any more.
    pub(super) async fn deleted(&mut self, ids: &[StreamId]) -> RedisResult<Vec<StreamId>> {
        let mut deleted = Vec::new();
        for ids in ids.chunks(READ_IDS) {
            let mut pipeline = Pipeline::new();
            self.add_reads(&mut pipeline, ids);
            for (id, found) in ids.iter().zip(self.connection.query_all(&pipeline).await?) {
                if decode_entries(found?)?.is_empty() {
                    deleted.push(*id);
                }
            }
        }
        Ok(deleted)
    }

    /// Claims entries of this member, which counts as a delivery. An entry that was deleted, or that another member
    /// claimed, is missing in the reply.
    pub(super) async fn claim(&mut self, batch: &ClaimBatch) -> RedisResult<Vec<(StreamId, Fields)>> {
        decode_entries(self.query(&self.xclaim(batch)).await?)
    }

    /// Claims entries of this member without counting a delivery. Missing in the reply are those that another member
    /// claimed, and from Redis 7.0 on those that were deleted.
    pub(super) async fn renew(&mut self, batch: &ClaimBatch) -> RedisResult<Vec<StreamId>> {
        let mut xclaim = self.xclaim(batch);
        xclaim.arg("JUSTID");
        decode_ids(self.query(&xclaim).await?)
    }

    /// Sets the number of deliveries of entries of this member.
    pub(super) async fn set_deliveries(&mut self, batch: &ClaimBatch, deliveries: u64) -> RedisResult<()> {
        let mut xclaim = self.xclaim(batch);
        xclaim.arg("RETRYCOUNT").arg(deliveries).arg("JUSTID");
        self.query(&xclaim).await.map(drop)
    }

    /// Releases entries, which any member may claim then at once.
    pub(super) async fn release(&mut self, ids: &[StreamId], mode: ReleaseMode) -> RedisResult<()> {
        let mut xnack = self.command("XNACK");
        xnack.arg(mode.as_str()).arg("IDS").arg(ids.len()).arg(id_args(ids));
        self.query(&xnack).await.map(drop)
    }

    fn xclaim(&self, batch: &ClaimBatch) -> Cmd {
        let mut xclaim = self.command("XCLAIM");
        xclaim.arg(&self.member.consumer).arg(millis(batch.min_idle(now()))).arg(id_args(&batch.ids));
        xclaim
    }

    /// Claims up to `count` pending entries of any member, without counting a delivery.
    pub(super) async fn autoclaim(
        &mut self,
        min_idle: Duration,
        cursor: StreamId,
        count: usize,
    ) -> RedisResult<Autoclaimed> {
        let mut autoclaim = self.command("XAUTOCLAIM");
        autoclaim.arg(&self.member.consumer).arg(millis(min_idle)).arg(RedisId(cursor));
        autoclaim.arg("COUNT").arg(count).arg("JUSTID");
        let (cursor, claimed, deleted) = decode_autoclaim(self.query(&autoclaim).await?)?;
        Ok(Autoclaimed { cursor, claimed, deleted })
    }

    pub(super) fn xack(&self, ids: &[StreamId]) -> Cmd {
        let mut xack = self.command("XACK");
        xack.arg(id_args(ids));
        xack
    }

    /// Acknowledges entries. Returns how many of them were pending.
    pub(super) async fn acknowledge(&mut self, ids: &[StreamId]) -> RedisResult<u64> {
        let count: i64 = decode(self.query(&self.xack(ids)).await?)?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Deletes the consumer's name if nothing is pending for it, since XGROUP DELCONSUMER drops pending entries.
    pub(super) async fn deregister(&mut self) -> RedisResult<()> {
        match self.own_pending(StreamId::MIN, 1).await {
            Err(error) if is_group_gone(&error) => return Ok(()),
            Err(error) => return Err(error),
            Ok(rows) if rows.is_empty() => {}
            Ok(_) => {
                info!("entries are still pending, keeping the consumer's name");
                return Ok(());
            }
        }
        let GroupMember { stream, group, consumer } = &*self.member;
        let mut delete = cmd("XGROUP");
        delete.arg("DELCONSUMER").arg(stream).arg(group).arg(consumer);
        match self.query(&delete).await {
            Err(error) if is_group_gone(&error) => {}
            Err(error) => return Err(error),
            Ok(Value::Int(0)) => {}
            Ok(lost) => error!(
                ?lost,
                "deleted consumer had pending entries; check that no other process uses its name"
            ),
        }
        Ok(())
    }

    /// Begins a command on the group.
    fn command(&self, name: &str) -> Cmd {
        let mut command = cmd(name);
        command.arg(&self.member.stream).arg(&self.member.group);
        command
    }

    async fn query(&mut self, command: &Cmd) -> RedisResult<Value> {
        self.connection.query(command, Duration::ZERO).await
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn decode_pending(reply: Value) -> RedisResult<Vec<PendingRow>> {
    let rows: Vec<(RedisId, Vec<u8>, i64, i64)> = decode(reply)?;
    let positive = |number| u64::try_from(number).unwrap_or(0);
    let row = |(RedisId(id), consumer, idle, deliveries)| PendingRow {
        id,
        consumer,
        idle: Duration::from_millis(positive(idle)),
        deliveries: positive(deliveries),
    };
    Ok(rows.into_iter().map(row).collect())
}

/// Returns the greatest ID that is less; `0-0` for itself.
fn before(id: StreamId) -> StreamId {
    match id {
        StreamId { ms: 0, seq: 0 } => id,
        StreamId { ms, seq: 0 } => StreamId { ms: ms - 1, seq: u64::MAX },
        StreamId { ms, seq } => StreamId { ms, seq: seq - 1 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_before_another_is_the_greatest_that_is_less() {
        for (id, expected) in [("0-0", "0-0"), ("5-3", "5-2"), ("5-0", "4-18446744073709551615")] {
            assert_eq!(before(id.parse().unwrap()).to_string(), expected);
        }
    }
}
