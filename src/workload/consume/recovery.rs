//! What was delivered before: own unfinished entries, those of consumers that are silent, retries; and the
//! heartbeat that keeps others from taking over what is in hand.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Pipeline, RedisResult, Value, cmd};
use tokio::time::Instant;
use tracing::{info, warn};

use super::engine::{Engine, MOST_WAITING};
use super::hand::{Batch, Waiting, batches};
use crate::clock::now;
use crate::workload::entry::{
    Entry, EntryId, decode_entries, decode_id, decode_ids, decode_taken, unexpected,
};

/// IDs that one step looks at.
const STEP_IDS: usize = 100;
/// From one step of a takeover to the next, while there is more to take.
const STEP_PAUSE: Duration = Duration::from_millis(5);
/// Longest time from a failure to the next attempt.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// How long a command may lie in front of a server that did not look at it, beyond the time that it blocks.
const ARREARS: Duration = Duration::from_secs(1);

/// When what is due.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Where the look at what is pending for us goes on; `None` while there is none. It begins at the start.
    look: Option<EntryId>,
    /// A server that stood still may take up, after the first look, what lay in front of it: one more.
    pub(super) second_look: Option<Instant>,
    /// The next heartbeat.
    pub(super) keep: Instant,
    /// The next step of taking over,
    pub(super) takeover: Instant,
    /// and where it goes on.
    cursor: EntryId,
    /// The reader found the group gone.
    pub(super) recreate: bool,
}

impl Schedule {
    pub(super) fn new(now: Instant) -> Self {
        let cursor = EntryId::default();
        let look = Some(EntryId::default());
        Self { look, second_look: None, keep: now, takeover: now, cursor, recreate: false }
    }

    /// A connection was lost: something may be pending for us that we do not know of.
    pub(super) fn look_again(&mut self, now: Instant, block: Duration) {
        self.look = Some(EntryId::default());
        self.second_look = Some(now + block + ARREARS);
    }

    /// Whether a look is under way or due: nothing is read meanwhile, or it would find what is on its way here.
    pub(super) fn is_looking(&self) -> bool {
        self.look.is_some() || self.recreate
    }

    /// Whether no read can be under way that we do not know of.
    pub(super) fn is_settled(&self, now: Instant) -> bool {
        self.second_look.is_none_or(|at| at <= now)
    }
}

/// A row of XPENDING.
struct Pending {
    id: EntryId,
    consumer: Vec<u8>,
    idle: Duration,
    deliveries: u64,
}

impl Engine {
    /// Looks up what is pending for this consumer and not known here, page by page; all of it is tried again.
    pub(super) async fn look_for_own(&mut self) -> RedisResult<()> {
        if self.schedule.recreate && !self.is_reading {
            self.schedule.recreate = false;
            // XPENDING says so if it is true still.
            self.schedule.look = Some(EntryId::default());
        }
        if self.schedule.look.is_none() && self.schedule.second_look.is_some_and(|at| at <= now()) {
            self.schedule.second_look = None;
            self.schedule.look = Some(EntryId::default());
        }
        while let Some(after) = self.schedule.look
            && !self.is_reading
            && self.hand.waiting() < MOST_WAITING
        {
            let mut pending = self.command("XPENDING");
            pending.arg(format!("({after}")).arg("+").arg(STEP_IDS).arg(&self.place.consumer);
            let rows = decode_pending(self.connection.query(&pending, Duration::ZERO).await?)?;
            let at = now();
            self.schedule.look = rows.last().filter(|_| rows.len() == STEP_IDS).map(|row| row.id);
            let mut found = 0;
            for row in rows.iter().filter(|row| !self.hand.knows(row.id)).collect::<Vec<_>>() {
                found += 1;
                let touched = at.checked_sub(row.idle).unwrap_or(at);
                let (deliveries, error) = (row.deliveries, None);
                self.hand.wait(row.id, Waiting { due: at, touched, deliveries, error });
            }
            if found > 0 {
                info!(entries = found, "unfinished entries of this consumer are taken up again");
            }
        }
        Ok(())
    }

    /// How many entries may be taken over now.
    pub(super) fn takeover_room(&self) -> usize {
        STEP_IDS.min((self.membership.batch as usize).max(STEP_IDS).saturating_sub(self.hand.waiting()))
    }

    /// One step through the PEL of the group, if one is due.
    pub(super) async fn take_over(&mut self) -> RedisResult<()> {
        let room = self.takeover_room();
        if self.schedule.is_looking() || room == 0 || now() < self.schedule.takeover {
            return Ok(());
        }
        let min_idle = self.membership.claim_min_idle;
        let mut take = self.command("XAUTOCLAIM");
        take.arg(&self.place.consumer).arg(millis(min_idle)).arg(self.schedule.cursor);
        take.arg("COUNT").arg(room).arg("JUSTID");
        let (cursor, taken, deleted) = decode_taken(self.connection.query(&take, Duration::ZERO).await?)?;
        let at = now();
        self.schedule.cursor = cursor;
        self.schedule.takeover = at
            + match cursor {
                EntryId { ms: 0, seq: 0 } => jittered(min_idle / 2),
                _ => STEP_PAUSE,
            };
        if !deleted.is_empty() {
            self.count_deleted(deleted.len());
        }
        let (known, new): (Vec<_>, Vec<_>) = taken.into_iter().partition(|id| self.hand.knows(*id));
        known.into_iter().for_each(|id| self.hand.touch(id, at));
        self.learn(new, at).await
    }

    /// Learns how often what was taken over was delivered, and tries it again.
    async fn learn(&mut self, ids: Vec<EntryId>, at: Instant) -> RedisResult<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut taken = 0;
        for row in self.ours(&ids).await? {
            taken += 1;
            let (deliveries, error) = (row.deliveries, None);
            self.hand.wait(row.id, Waiting { due: at, touched: at, deliveries, error });
        }
        info!(entries = taken, "entries of silent consumers are taken over");
        self.consumed.claimed += taken;
        self.metrics.claimed.inc_by(taken);
        Ok(())
    }

    /// How many entries may be delivered again now: as many as workers are free to begin with. What is delivered
    /// and not begun would have lost an attempt if the process is killed.
    pub(super) fn retry_room(&self) -> usize {
        (self.membership.concurrency as usize).saturating_sub(self.queue.again() + self.at_work())
    }

    /// Delivers again what is due, and buries what was delivered too often.
    pub(super) async fn retry(&mut self) -> RedisResult<()> {
        let (at, room) = (now(), self.retry_room());
        let due = self.hand.due(at, self.membership.max_deliveries, STEP_IDS, room);
        // Until it is claimed, it waits: a reply that is lost must not make it forgotten.
        for (id, waiting) in due.ready.iter().chain(&due.exhausted) {
            self.hand.wait(*id, waiting.clone());
        }
        if !due.exhausted.is_empty() {
            self.bury(due.exhausted).await?;
        }
        let deliveries: Vec<_> = due.ready.iter().map(|(id, waiting)| (*id, waiting.deliveries)).collect();
        let touched = due.ready.into_iter().map(|(id, waiting)| (id, waiting.touched)).collect();
        let mut delivered = Vec::new();
        for batch in batches(touched, self.spread()) {
            let reply = self.connection.query(&self.claim(&batch), Duration::ZERO).await?;
            let at = now();
            let mut missing: HashSet<_> = batch.ids.into_iter().collect();
            for (id, fields) in decode_entries(reply)? {
                missing.remove(&id);
                let before = deliveries.iter().find(|(known, _)| *known == id).map_or(0, |(_, count)| *count);
                self.hand.hold(id, before + 1, at);
                delivered.push(Entry { id, fields, deliveries: before + 1, place: Arc::clone(&self.place) });
            }
            self.give_up(missing).await?;
        }
        // Batches go by the time of the last touch; workers go by the stream.
        delivered.sort_unstable_by_key(|entry| entry.id);
        delivered.into_iter().for_each(|entry| self.queue.add_again(entry));
        // The next worker that gets free is for what is due still.
        if self.hand.is_due(at) {
            self.queue.hold_fresh();
        } else {
            self.queue.release();
        }
        Ok(())
    }

    /// Those of the entries that are pending for this consumer.
    async fn ours(&mut self, ids: &[EntryId]) -> RedisResult<Vec<Pending>> {
        let mut look = Pipeline::new();
        for id in ids {
            let mut row = self.command("XPENDING");
            row.arg(id).arg(id).arg(1);
            look.add_command(row);
        }
        let mut ours = Vec::new();
        for reply in self.connection.query_all(&look).await? {
            let rows = decode_pending(reply?)?;
            ours.extend(rows.into_iter().filter(|row| row.consumer == self.place.consumer));
        }
        Ok(ours)
    }

    /// What could not be claimed is deleted, or somebody else's: then it is forgotten, and returned. Or it was
    /// touched in our own name after all, by a command that a server took up late whose reply nobody waited for.
    pub(super) async fn give_up(&mut self, mut ids: HashSet<EntryId>) -> RedisResult<HashSet<EntryId>> {
        if ids.is_empty() {
            return Ok(ids);
        }
        let mut look = Pipeline::new();
        for id in &ids {
            look.cmd("XRANGE").arg(&self.place.stream).arg(id).arg(id);
        }
        let (mut deleted, mut there) = (Vec::new(), Vec::new());
        for (id, found) in ids.iter().zip(self.connection.query_all(&look).await?) {
            if decode_entries(found?)?.is_empty() { deleted.push(*id) } else { there.push(*id) }
        }
        if !deleted.is_empty() {
            // From Redis 7.0 on XCLAIM has dropped it from the PEL already.
            let mut ack = self.command("XACK");
            ack.arg(&deleted);
            self.connection.query(&ack, Duration::ZERO).await?;
            self.count_deleted(deleted.len());
        }
        if !there.is_empty() {
            let ours = self.ours(&there).await?;
            let at = now();
            for row in ours {
                ids.remove(&row.id);
                self.hand.touch(row.id, at.checked_sub(row.idle).unwrap_or(at));
            }
        }
        ids.iter().for_each(|id| self.hand.forget(*id));
        Ok(ids)
    }

    fn count_deleted(&mut self, count: usize) {
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
    pub(super) async fn confirm(&mut self, untouched: Vec<Batch>) -> RedisResult<Vec<EntryId>> {
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
            let gone = self.give_up(lost).await?;
            if !gone.is_empty() {
                self.queue.remove(&gone);
            }
            ours.extend(kept);
        }
        Ok(ours)
    }

    fn claim(&self, batch: &Batch) -> Cmd {
        let mut claim = self.command("XCLAIM");
        claim.arg(&self.place.consumer).arg(millis(batch.min_idle(now()))).arg(&batch.ids);
        claim
    }

    /// A command on the group.
    pub(super) fn command(&self, name: &str) -> Cmd {
        let mut command = cmd(name);
        command.arg(&self.place.stream).arg(&self.place.group);
        command
    }

    /// How far apart the last touches of a batch may be.
    pub(super) fn spread(&self) -> Duration {
        self.membership.claim_min_idle / 8
    }

    /// The time from a failure to the next attempt, or to the dead-letter stream.
    pub(super) fn retry_after(&self, deliveries: u64) -> Duration {
        let most = self.membership.max_deliveries;
        if most > 0 && deliveries >= most { Duration::ZERO } else { self.backoff(deliveries) }
    }

    /// Doubles with each delivery.
    pub(super) fn backoff(&self, deliveries: u64) -> Duration {
        let doublings = u32::try_from(deliveries.saturating_sub(1)).unwrap_or(u32::MAX).min(30);
        let longest = LONGEST_RETRY.min(self.membership.claim_min_idle / 2);
        jittered(self.membership.retry_delay.saturating_mul(1 << doublings).min(longest))
    }
}

/// Half of it to all of it, so that many consumers do not act at once.
fn jittered(time: Duration) -> Duration {
    time.mul_f64(0.5 + fastrand::f64() / 2.0)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// `[[id, consumer, idle, deliveries], ...]`.
fn decode_pending(reply: Value) -> RedisResult<Vec<Pending>> {
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
