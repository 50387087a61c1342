//! What was delivered before: own unfinished entries, those of consumers that are silent, and retries.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, RedisResult, cmd};
use tokio::time::Instant;
use tracing::info;

use super::claims::{LOOK_IDS, decode_pending};
use super::consumer::{Consumer, MOST_WAITING};
use super::in_flight::{RetryEntry, batches};
use crate::entry::{Entry, IdArg, StreamId, decode_entries, decode_taken};
use redis_stream_core::backoff::Backoff;
use redis_stream_core::clock::now;

/// IDs that one step looks at.
const STEP_IDS: usize = 100;
/// Entries that one XCLAIM delivers with their payload, so that even large ones arrive in time.
const CLAIM_IDS: usize = 10;
/// From one step of a takeover to the next, while there is more to take.
const STEP_PAUSE: Duration = Duration::from_millis(5);
/// Shortest time from a failure to the next attempt, so that nothing goes round without a pause.
const SHORTEST_RETRY: Duration = Duration::from_millis(10);
/// Longest time from a failure to the next attempt.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// How long a command may lie in front of a server that did not look at it, beyond the time that it blocks.
const ARREARS: Duration = Duration::from_secs(1);

/// When what is due.
#[derive(Debug)]
pub(super) struct Timers {
    /// Where the look at what is pending for us goes on; `None` while there is none. It begins at the start.
    look: Option<StreamId>,
    /// A server that stood still may take up, after the first look, what lay in front of it: one more.
    second_look: Option<Instant>,
    /// The next heartbeat.
    pub(super) keep: Instant,
    /// The next step of taking over,
    pub(super) takeover: Instant,
    /// and where it goes on.
    cursor: StreamId,
    /// The reader found the group gone.
    pub(super) recreate: bool,
}

impl Timers {
    pub(super) fn new(now: Instant) -> Self {
        let cursor = StreamId::default();
        let look = Some(StreamId::default());
        Self { look, second_look: None, keep: now, takeover: now, cursor, recreate: false }
    }

    /// A connection was lost: something may be pending for us that we do not know of.
    pub(super) fn look_again(&mut self, now: Instant, block: Duration) {
        self.look = Some(StreamId::default());
        self.second_look = Some(now + block + ARREARS);
    }

    /// There is a connection again, and a server that takes up now what lay in front of it.
    pub(super) fn connected(&mut self, now: Instant, block: Duration) {
        self.second_look = self.second_look.map(|_| now + block + ARREARS);
    }

    /// Whether a look is under way or due: nothing is read meanwhile, or it would find what is on its way here.
    pub(super) fn is_looking(&self) -> bool {
        self.look.is_some() || self.recreate
    }

    /// When a look begins that is not under way.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.second_look.filter(|_| self.look.is_none())
    }

    /// Whether no read can be under way that we do not know of.
    pub(super) fn is_settled(&self, now: Instant) -> bool {
        self.second_look.is_none_or(|at| at <= now)
    }
}

impl Consumer {
    /// Looks up what is pending for this consumer and not known here, page by page; all of it is tried again.
    pub(super) async fn look_for_own(&mut self) -> RedisResult<()> {
        if self.schedule.recreate && !self.is_reading {
            self.schedule.recreate = false;
            // XPENDING says so if it is true still.
            self.schedule.look = Some(StreamId::default());
        }
        if self.schedule.look.is_none() && self.schedule.second_look.is_some_and(|at| at <= now()) {
            self.schedule.second_look = None;
            self.schedule.look = Some(StreamId::default());
        }
        while let Some(after) = self.schedule.look
            && !self.is_reading
            && self.hand.waiting() < MOST_WAITING
        {
            let mut pending = self.command("XPENDING");
            pending.arg(format!("({after}")).arg("+").arg(STEP_IDS).arg(&self.member.consumer);
            let rows = decode_pending(self.connection.query(&pending, Duration::ZERO).await?)?;
            let at = now();
            self.schedule.look = rows.last().filter(|_| rows.len() == STEP_IDS).map(|row| row.id);
            // A reply to XCLAIM that never arrived counted a delivery.
            rows.iter().for_each(|row| self.hand.note_deliveries(row.id, row.deliveries));
            let mut found = 0;
            for row in rows.iter().filter(|row| !self.hand.knows(row.id)).collect::<Vec<_>>() {
                found += 1;
                let touched = at.checked_sub(row.idle).unwrap_or(at);
                let (deliveries, error) = (row.deliveries, None);
                self.hand.wait(row.id, RetryEntry { due: at, touched, deliveries, error });
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
        take.arg(&self.member.consumer).arg(millis(min_idle)).arg(IdArg(self.schedule.cursor));
        take.arg("COUNT").arg(room).arg("JUSTID");
        let (cursor, taken, deleted) = decode_taken(self.connection.query(&take, Duration::ZERO).await?)?;
        let at = now();
        self.schedule.cursor = cursor;
        self.schedule.takeover = at
            + match cursor {
                StreamId { ms: 0, seq: 0 } => jittered(min_idle / 2),
                _ => STEP_PAUSE,
            };
        // Whoever holds it here handles it all the same.
        let deleted: Vec<_> = deleted.into_iter().filter(|id| !self.hand.is_held(*id)).collect();
        if !deleted.is_empty() {
            self.count_deleted(deleted.len());
            deleted.into_iter().for_each(|id| self.hand.forget(id));
        }
        let (known, new): (Vec<_>, Vec<_>) = taken.into_iter().partition(|id| self.hand.knows(*id));
        known.into_iter().for_each(|id| self.hand.touch(id, at));
        self.learn(new, at).await
    }

    /// Learns how often what was taken over was delivered, and tries it again.
    async fn learn(&mut self, ids: Vec<StreamId>, at: Instant) -> RedisResult<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut taken = 0;
        let rows = self.rows(&ids).await?;
        for row in rows.into_iter().filter(|row| row.consumer == self.member.consumer) {
            taken += 1;
            let (deliveries, error) = (row.deliveries, None);
            self.hand.wait(row.id, RetryEntry { due: at, touched: at, deliveries, error });
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
        let due = self.hand.due(at, self.membership.max_deliveries, LOOK_IDS, room);
        // Until it is claimed, it waits: a reply that is lost must not make it forgotten.
        for (id, waiting) in due.ready.iter().chain(&due.exhausted) {
            self.hand.wait(*id, waiting.clone());
        }
        if !due.exhausted.is_empty() {
            self.bury(due.exhausted).await?;
        }
        let mut delivered = Vec::new();
        let claimed = self.claim_all(due.ready, &mut delivered).await;
        // Whatever became of the rest: what is delivered is in hand, and nobody else may handle it.
        // Batches go by the time of the last touch; workers go by the stream.
        delivered.sort_unstable_by_key(|entry| entry.id);
        delivered.into_iter().for_each(|entry| self.queue.add_again(entry));
        claimed?;
        // The next worker that gets free is for what is due still.
        if self.hand.is_due(at) {
            self.queue.hold_fresh();
        } else {
            self.queue.release();
        }
        Ok(())
    }

    /// Claims entries that wait, which delivers them; what was delivered is added to `delivered`, whatever the
    /// result is.
    async fn claim_all(
        &mut self,
        ready: Vec<(StreamId, RetryEntry)>,
        delivered: &mut Vec<Entry>,
    ) -> RedisResult<()> {
        let deliveries: HashMap<_, _> = ready.iter().map(|(id, waiting)| (*id, waiting.deliveries)).collect();
        let touched = ready.into_iter().map(|(id, waiting)| (id, waiting.touched)).collect();
        for batch in batches(touched, self.spread(), CLAIM_IDS) {
            let reply = self.connection.query(&self.claim(&batch), Duration::ZERO).await?;
            let at = now();
            let mut missing: HashSet<_> = batch.ids.into_iter().collect();
            for (id, fields) in decode_entries(reply)? {
                missing.remove(&id);
                let count = deliveries.get(&id).map_or(0, |before| *before) + 1;
                self.hand.hold(id, count, at);
                delivered.push(Entry { id, fields, deliveries: count, member: Arc::clone(&self.member) });
            }
            self.give_up(missing).await?;
        }
        Ok(())
    }

    /// A command on the group.
    pub(super) fn command(&self, name: &str) -> Cmd {
        let mut command = cmd(name);
        command.arg(&self.member.stream).arg(&self.member.group);
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
        let longest = LONGEST_RETRY.min(self.membership.claim_min_idle / 2);
        let backoff = Backoff::new(self.membership.retry_delay.max(SHORTEST_RETRY), longest);
        jittered(backoff.bound(u32::try_from(deliveries).unwrap_or(u32::MAX)))
    }
}

/// Half of it to all of it, so that many consumers do not act at once.
fn jittered(time: Duration) -> Duration {
    time.mul_f64(0.5 + fastrand::f64() / 2.0)
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
