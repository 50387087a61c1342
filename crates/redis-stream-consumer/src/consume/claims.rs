//! Whose a pending entry is: the heartbeat that keeps others from taking over what is in hand, and what becomes of
//! entries that could not be kept.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use redis::{Cmd, Pipeline, RedisResult, Value};
use tracing::warn;

use super::consumer::Consumer;
use super::in_flight::ClaimBatch;
use super::recovery::millis;
use crate::entry::{IdArg, StreamId, decode_entries, decode_id, decode_ids, id_args, unexpected};
use redis_stream_core::clock::now;

/// Entries that one pipeline looks at with their payload, so that even large ones arrive in time.
pub(super) const LOOK_IDS: usize = 8;

/// A row of XPENDING.
pub(super) struct Pending {
    pub(super) id: StreamId,
    pub(super) consumer: Vec<u8>,
    /// Since it was delivered or claimed.
    pub(super) idle: Duration,
    pub(super) deliveries: u64,
}

impl Consumer {
    /// Those of the entries that are pending, for whomever.
    pub(super) async fn rows(&mut self, ids: &[StreamId]) -> RedisResult<Vec<Pending>> {
        let mut look = Pipeline::new();
        for id in ids {
            let mut row = self.command("XPENDING");
            row.arg(IdArg(*id)).arg(IdArg(*id)).arg(1);
            look.add_command(row);
        }
        let mut rows = Vec::new();
        for reply in self.connection.query_all(&look).await? {
            rows.extend(decode_pending(reply?)?);
        }
        Ok(rows)
    }

    /// What could not be claimed, and why. Somebody else's is forgotten. What was deleted is dropped, unless its
    /// fields are here: then it is handled all the same. And what was touched in our own name after all, by a command
    /// that a server took up late whose reply nobody waited for, stays.
    pub(super) async fn give_up(&mut self, ids: HashSet<StreamId>) -> RedisResult<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let ids: Vec<_> = ids.into_iter().collect();
        let rows: HashMap<_, _> = self.rows(&ids).await?.into_iter().map(|row| (row.id, row)).collect();
        let absent = self.absent(&ids).await?;
        let at = now();
        let (mut deleted, mut theirs) = (Vec::new(), HashSet::new());
        for id in ids {
            let is_absent = absent.contains(&id);
            match rows.get(&id) {
                Some(row) if row.consumer != self.member.consumer => drop(theirs.insert(id)),
                None if !is_absent => drop(theirs.insert(id)),
                _ if is_absent && !self.hand.is_held(id) => deleted.push(id),
                Some(row) => {
                    self.hand.touch(id, at.checked_sub(row.idle).unwrap_or(at));
                    self.hand.note_deliveries(id, row.deliveries);
                }
                None => self.hand.touch(id, at),
            }
        }
        if !deleted.is_empty() {
            // From Redis 7.0 on XCLAIM has dropped it from the PEL already.
            let mut ack = self.command("XACK");
            ack.arg(id_args(&deleted));
            self.connection.query(&ack, Duration::ZERO).await?;
            self.count_deleted(deleted.len());
        }
        self.queue.remove(&theirs);
        deleted.into_iter().chain(theirs).for_each(|id| self.hand.forget(id));
        Ok(())
    }

    /// Those of the entries that are not in the stream any more.
    async fn absent(&mut self, ids: &[StreamId]) -> RedisResult<HashSet<StreamId>> {
        let mut absent = HashSet::new();
        for ids in ids.chunks(LOOK_IDS) {
            let mut look = Pipeline::new();
            for id in ids {
                look.cmd("XRANGE").arg(&self.member.stream).arg(IdArg(*id)).arg(IdArg(*id));
            }
            for (id, found) in ids.iter().zip(self.connection.query_all(&look).await?) {
                if decode_entries(found?)?.is_empty() {
                    absent.insert(*id);
                }
            }
        }
        Ok(absent)
    }

    pub(super) fn count_deleted(&mut self, count: usize) {
        warn!(deleted = count, "pending entries were deleted from the stream before they were handled");
        self.consumed.deleted += count as u64;
        self.metrics.deleted.inc_by(count as u64);
    }

    /// Tells the server that we are at it, so that nobody takes over what is in hand.
    pub(super) async fn keep(&mut self) -> RedisResult<()> {
        let at = now();
        if at < self.schedule.keep {
            return Ok(());
        }
        let min_idle = self.membership.claim_min_idle;
        self.schedule.keep = at + min_idle / 4;
        let untouched = self.hand.untouched(at, min_idle / 8, self.spread());
        self.confirm(untouched).await?;
        Ok(())
    }

    /// Claims without counting a delivery. Gives what is ours still, and forgets the rest.
    pub(super) async fn confirm(&mut self, untouched: Vec<ClaimBatch>) -> RedisResult<Vec<StreamId>> {
        let mut ours = Vec::new();
        for batch in untouched {
            let mut claim = self.claim(&batch);
            claim.arg("JUSTID");
            let kept = decode_ids(self.connection.query(&claim, Duration::ZERO).await?)?;
            let at = now();
            kept.iter().for_each(|id| self.hand.touch(*id, at));
            let kept_ids: HashSet<_> = kept.iter().copied().collect();
            let mut lost: HashSet<_> = batch.ids.into_iter().filter(|id| !kept_ids.contains(id)).collect();
            if !lost.is_empty() {
                // What was done meanwhile is no longer pending either.
                self.take_outcomes();
                lost.retain(|id| !self.hand.is_done(*id));
            }
            self.give_up(lost).await?;
            ours.extend(kept);
        }
        Ok(ours)
    }

    pub(super) fn claim(&self, batch: &ClaimBatch) -> Cmd {
        let mut claim = self.command("XCLAIM");
        claim.arg(&self.member.consumer).arg(millis(batch.min_idle(now()))).arg(id_args(&batch.ids));
        claim
    }
}

/// `[[id, consumer, idle, deliveries], ...]`.
pub(super) fn decode_pending(reply: Value) -> RedisResult<Vec<Pending>> {
    let Value::Array(rows) = reply else { return Err(unexpected()) };
    rows.into_iter().map(decode_row).collect()
}

fn decode_row(row: Value) -> RedisResult<Pending> {
    let Value::Array(parts) = row else { return Err(unexpected()) };
    let Ok([id, Value::BulkString(consumer), Value::Int(idle), Value::Int(deliveries)]) =
        <[Value; 4]>::try_from(parts)
    else {
        return Err(unexpected());
    };
    Ok(Pending {
        id: decode_id(id)?,
        consumer,
        // The server's clock may have been set back.
        idle: Duration::from_millis(u64::try_from(idle).unwrap_or(0)),
        deliveries: u64::try_from(deliveries).unwrap_or(0),
    })
}
