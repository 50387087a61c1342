//! Delivers entries again after failures, and moves those that used up their deliveries to the dead-letter stream.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use redis::RedisResult;
use tokio::time::Instant;
use tracing::{error, warn};

use super::ConsumerConfig;
use super::breaker::Counting;
use super::claims::ClaimKeeper;
use super::corrections::DeliveryCorrections;
use super::dead_letter::{DeadLetterStream, DetectError, WriteResult, error_text};
use super::group_client::{GroupClient, READ_IDS};
use super::in_flight::{CLAIM_IDS, DueRetries, InFlight, RetryEntry, claim_batches};
use super::metrics::Metrics;
use super::worker_pool::WorkQueue;
use crate::entry::{Entry, StreamId};
use crate::error::Refusal;
use redis_stream_core::backoff::Backoff;
use redis_stream_core::clock::now;
use redis_stream_core::escape::escape;

/// Entries that one XCLAIM delivers with their payload, so that even large ones arrive in time.
const DELIVERY_IDS: usize = 10;
/// Least delay of a retry, so that an entry does not go around without a pause.
const MIN_DELAY: Duration = Duration::from_millis(10);

/// A delivery whose handler failed.
pub(super) struct Failure {
    pub(super) id: StreamId,
    pub(super) finished: Instant,
    pub(super) reason: String,
    /// Least delay of the next attempt.
    pub(super) delay: Duration,
    pub(super) counting: Counting,
}

/// The entries that are delivered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryMode {
    /// All that are due.
    Due,
    /// One, for the circuit breaker.
    Trial,
    /// None, since the circuit breaker is open.
    Paused,
}

pub(super) struct Retries {
    concurrency: usize,
    /// 0: no limit.
    max_deliveries: u64,
    backoff: Backoff,
    dead_letter_key: Option<Vec<u8>>,
    /// `None` until it is detected.
    dead_letters: Option<DeadLetterStream>,
    metrics: Metrics,
    /// The failure that was logged last, so that only changes are logged.
    logged: Option<String>,
}

/// Returns the bounds of the delays between attempts.
pub(super) fn backoff(config: &ConsumerConfig) -> Backoff {
    let first = config.retry_delay.max(MIN_DELAY);
    Backoff::new(first, config.max_retry_delay.max(first))
}

impl Retries {
    pub(super) fn new(config: &ConsumerConfig, metrics: Metrics) -> Self {
        Self {
            concurrency: config.concurrency as usize,
            max_deliveries: config.max_deliveries,
            backoff: backoff(config),
            dead_letter_key: config.dead_letter.clone(),
            dead_letters: None,
            metrics,
            logged: None,
        }
    }

    /// Detects the dead-letter stream, once.
    pub(super) async fn detect_dead_letters(&mut self, client: &mut GroupClient) -> Result<(), DetectError> {
        if self.dead_letters.is_none() {
            let stream = DeadLetterStream::detect(client, self.dead_letter_key.as_deref()).await?;
            self.dead_letters = Some(stream);
        }
        Ok(())
    }

    /// Schedules the next delivery of an entry whose handler failed.
    pub(super) fn failed(
        &mut self,
        failure: Failure,
        in_flight: &mut InFlight,
        corrections: &mut DeliveryCorrections,
    ) {
        let Failure { id, finished, reason, delay, counting } = failure;
        self.metrics.failed.inc();
        if self.logged.as_ref() != Some(&reason) {
            warn!(entry = %id, error = reason, "handler failed, retrying the entry");
            self.logged = Some(reason.clone());
        }
        let attempts = in_flight.attempts(id).unwrap_or(1);
        let deliveries = in_flight.deliveries(id).unwrap_or(1);
        let is_exhausted = self.max_deliveries > 0 && deliveries >= self.max_deliveries;
        let delay = match counting {
            Counting::Counted if is_exhausted => Duration::ZERO,
            _ => self.delay(attempts).max(delay),
        };
        in_flight.fail(id, finished + delay, reason);
        if counting == Counting::NotCounted {
            take_back(id, 1, in_flight, corrections);
        }
    }

    /// Schedules the move of an entry that the handler rejected.
    pub(super) fn rejected(
        &mut self,
        id: StreamId,
        finished: Instant,
        reason: String,
        in_flight: &mut InFlight,
    ) {
        self.metrics.failed.inc();
        in_flight.reject(id, finished, reason);
    }

    /// Returns the bound to a quarter more, so that many consumers do not act at once, and the sum of all delays is at
    /// least that of the bounds.
    fn delay(&self, attempts: u64) -> Duration {
        let failures = u32::try_from(attempts).unwrap_or(u32::MAX);
        self.backoff.delay(failures, 1.0 + fastrand::f64() / 4.0)
    }

    /// Returns how many entries can be delivered and handled at once. Entries that are claimed, but not started, would lose
    /// an attempt if the process is killed.
    pub(super) fn free_workers(&self, queue: &WorkQueue) -> usize {
        self.concurrency.saturating_sub(queue.occupied_workers())
    }

    /// Returns when an entry is due; `None` while there is none, or no worker is free.
    pub(super) fn next_due(&self, in_flight: &InFlight, queue: &WorkQueue) -> Option<Instant> {
        in_flight.next_due().filter(|_| self.free_workers(queue) > 0)
    }

    /// Delivers due entries to free workers, and moves exhausted ones to the dead-letter stream.
    pub(super) async fn run(
        &mut self,
        client: &mut GroupClient,
        in_flight: &mut InFlight,
        queue: &WorkQueue,
        claims: &ClaimKeeper,
        mode: RetryMode,
    ) -> RedisResult<()> {
        let at = now();
        let due = self.due(at, mode, in_flight, queue);
        if !due.exhausted.is_empty() {
            self.move_to_dead_letters(due.exhausted, client, in_flight, queue, claims).await?;
        }
        let mut delivered = Vec::new();
        let claimed = deliver(due.ready, &mut delivered, client, in_flight, queue, claims).await;
        // Even if the rest failed: entries that were delivered belong to this consumer, and must be handled here.
        // Batches are ordered by the last touch; workers go by the stream.
        delivered.sort_unstable_by_key(|entry: &Entry| entry.id);
        queue.add_redelivered(delivered);
        claimed?;
        // The next free worker is for an entry that is still due.
        if mode == RetryMode::Due && in_flight.is_due(at) {
            queue.hold_new();
        } else {
            queue.release_new();
        }
        Ok(())
    }

    fn due(&self, at: Instant, mode: RetryMode, in_flight: &InFlight, queue: &WorkQueue) -> DueRetries {
        let free = self.free_workers(queue);
        if mode == RetryMode::Due {
            return in_flight.due(at, self.max_deliveries, READ_IDS, free);
        }
        // The others used up their deliveries before the breaker opened, and wait until it closes.
        let exhausted = in_flight.rejected(READ_IDS);
        let is_wanted = mode == RetryMode::Trial && free > 0;
        let trial = is_wanted.then(|| in_flight.longest_due(at, self.max_deliveries)).flatten();
        DueRetries { exhausted, ready: trial.into_iter().collect() }
    }

    async fn move_to_dead_letters(
        &mut self,
        exhausted: Vec<(StreamId, RetryEntry)>,
        client: &mut GroupClient,
        in_flight: &mut InFlight,
        queue: &WorkQueue,
        claims: &ClaimKeeper,
    ) -> RedisResult<()> {
        let Some(stream) = &self.dead_letters else { return Ok(()) };
        let touched = exhausted.iter().map(|(id, entry)| (*id, entry.touched)).collect();
        let batches = claim_batches(touched, claims.spread(), CLAIM_IDS);
        let owned = claims.reclaim(batches, client, in_flight, queue).await?;
        let exhausted: Vec<_> = exhausted.into_iter().filter(|(id, _)| owned.contains(id)).collect();
        let ids: Vec<_> = exhausted.iter().map(|(id, _)| *id).collect();
        let Some(found) = stream.read_entries(client, &ids).await? else {
            self.postpone(&ids, "the key holds another type, or its type is not readable", in_flight);
            return Ok(());
        };
        let mut deleted = HashSet::new();
        for ((id, entry), fields) in exhausted.into_iter().zip(found) {
            let Some(fields) = fields else {
                deleted.insert(id);
                continue;
            };
            match stream.write(client, id, &entry, &fields).await? {
                WriteResult::Refused(error) => {
                    self.postpone(&[id], &Refusal::new(error).to_string(), in_flight);
                }
                WriteResult::Added => {
                    warn!(
                        entry = %id,
                        deliveries = entry.deliveries,
                        dead_letter = %escape(stream.key()),
                        error = error_text(&entry),
                        "moved entry to the dead-letter stream"
                    );
                    in_flight.remove(id);
                    self.metrics.dead_lettered.inc();
                }
            }
        }
        claims.release_lost(deleted, client, in_flight, queue).await
    }

    /// Keeps entries that could not be moved.
    fn postpone(&self, ids: &[StreamId], reason: &str, in_flight: &mut InFlight) {
        let key = self.dead_letters.as_ref().map_or(&b""[..], DeadLetterStream::key);
        if let Some(id) = ids.first() {
            error!(entry = %id, dead_letter = %escape(key), error = reason, "cannot write to the dead-letter stream, trying again");
        }
        let due = now() + self.delay(u64::MAX);
        ids.iter().for_each(|id| in_flight.postpone(*id, due));
    }
}

/// Takes back deliveries of an entry that waits.
pub(super) fn take_back(
    id: StreamId,
    deliveries: u64,
    in_flight: &mut InFlight,
    corrections: &mut DeliveryCorrections,
) {
    if deliveries > 0
        && let Some(left) = in_flight.uncount(id, deliveries)
    {
        corrections.add(id, left);
    }
}

/// Claims entries, which delivers them. Those that were delivered are in `delivered` even after an error.
async fn deliver(
    ready: Vec<(StreamId, RetryEntry)>,
    delivered: &mut Vec<Entry>,
    client: &mut GroupClient,
    in_flight: &mut InFlight,
    queue: &WorkQueue,
    claims: &ClaimKeeper,
) -> RedisResult<()> {
    let before: HashMap<_, _> = ready.iter().map(|(id, entry)| (*id, entry.deliveries)).collect();
    let touched = ready.into_iter().map(|(id, entry)| (id, entry.touched)).collect();
    for batch in claim_batches(touched, claims.spread(), DELIVERY_IDS) {
        let entries = client.claim(&batch).await?;
        let at = now();
        let mut missing: HashSet<_> = batch.ids.into_iter().collect();
        for (id, fields) in entries {
            missing.remove(&id);
            let deliveries = before.get(&id).map_or(0, |before| *before) + 1;
            in_flight.buffer(id, deliveries, at);
            delivered.push(Entry { id, fields, deliveries, member: Arc::clone(client.member()) });
        }
        claims.release_lost(missing, client, in_flight, queue).await?;
    }
    Ok(())
}
