//! Claims pending entries of idle consumers.
//!
//! From Redis 8.4 on, XREADGROUP with CLAIM returns them as soon as they are idle for long enough, or were released.
//! XAUTOCLAIM, step by step through the group's pending list, finds them on every server, and also removes those from
//! the list that were deleted from the stream: CLAIM skips them, but the server looks at them at each read.

use std::time::Duration;

use redis::RedisResult;
use tokio::time::Instant;
use tracing::info;

use super::ConsumerConfig;
use super::claims::drop_deleted;
use super::corrections::DeliveryCorrections;
use super::group_client::{Autoclaimed, GroupClient};
use super::in_flight::{InFlight, RetryEntry};
use super::metrics::Metrics;
use crate::entry::StreamId;
use redis_stream_core::clock::now;

const STEP_IDS: usize = 100;
/// Pause between steps, until the end of the pending list.
const STEP_PAUSE: Duration = Duration::from_millis(5);

pub(super) struct Autoclaim {
    min_idle: Duration,
    max_waiting: usize,
    cursor: StreamId,
    next_step: Instant,
    metrics: Metrics,
}

/// Returns how many entries may wait for their next delivery while others are claimed.
pub(super) fn max_waiting(config: &ConsumerConfig) -> usize {
    (config.batch as usize).max(STEP_IDS)
}

impl Autoclaim {
    pub(super) fn new(config: &ConsumerConfig, now: Instant, metrics: Metrics) -> Self {
        let (min_idle, max_waiting) = (config.claim_min_idle, max_waiting(config));
        Self { min_idle, max_waiting, cursor: StreamId::MIN, next_step: now, metrics }
    }

    /// Returns when the next step is due; `None` while too many entries wait.
    pub(super) fn next_step(&self, in_flight: &InFlight) -> Option<Instant> {
        (self.room(in_flight) > 0).then_some(self.next_step)
    }

    fn room(&self, in_flight: &InFlight) -> usize {
        STEP_IDS.min(self.max_waiting.saturating_sub(in_flight.waiting()))
    }

    /// Adds entries that XREADGROUP claimed, which are handled as retries. Their payload is dropped: they are delivered
    /// one by one as workers become free, and the delivery by CLAIM is taken back. It delivers many entries at once, and
    /// an entry that then kills its process must not cost the others an attempt.
    pub(super) fn add_claimed(
        &mut self,
        claimed: Vec<(StreamId, u64)>,
        at: Instant,
        in_flight: &mut InFlight,
        corrections: &mut DeliveryCorrections,
    ) {
        if claimed.is_empty() {
            return;
        }
        info!(entries = claimed.len(), "claimed pending entries of idle consumers");
        self.metrics.claimed.inc_by(claimed.len() as u64);
        for (id, deliveries) in &claimed {
            if in_flight.contains(*id) {
                in_flight.touch(*id, at);
            } else {
                in_flight.wait(*id, RetryEntry::new(at, at, *deliveries));
            }
        }
        claimed.into_iter().for_each(|(id, deliveries)| corrections.add(id, deliveries));
    }

    /// Takes one step if it is due. Claimed entries are handled as retries.
    pub(super) async fn step(
        &mut self,
        client: &mut GroupClient,
        in_flight: &mut InFlight,
    ) -> RedisResult<()> {
        if self.next_step(in_flight).is_none_or(|at| now() < at) {
            return Ok(());
        }
        let room = self.room(in_flight);
        let Autoclaimed { cursor, claimed, deleted } =
            client.autoclaim(self.min_idle, self.cursor, room).await?;
        let at = now();
        self.cursor = cursor;
        self.next_step = at
            + match cursor {
                // Jitter, so that many consumers do not act at once.
                StreamId::MIN => (self.min_idle / 2).mul_f64(0.5 + fastrand::f64() / 2.0),
                _ => STEP_PAUSE,
            };
        // Entries whose fields are here are handled anyway.
        let deleted: Vec<_> = deleted.into_iter().filter(|id| !in_flight.is_buffered(*id)).collect();
        drop_deleted(&deleted, in_flight, &self.metrics);
        let (known, new): (Vec<_>, Vec<_>) = claimed.into_iter().partition(|id| in_flight.contains(*id));
        known.into_iter().for_each(|id| in_flight.touch(id, at));
        if !new.is_empty() {
            self.add(&new, at, client, in_flight).await?;
        }
        Ok(())
    }

    /// Adds claimed entries, with the number of their deliveries, which XAUTOCLAIM does not return.
    async fn add(
        &self,
        ids: &[StreamId],
        claimed_at: Instant,
        client: &mut GroupClient,
        in_flight: &mut InFlight,
    ) -> RedisResult<()> {
        let mut claimed = 0;
        for row in client.pending_rows(ids).await? {
            if client.is_own(&row) {
                claimed += 1;
                in_flight.wait(row.id, RetryEntry::new(claimed_at, claimed_at, row.deliveries));
            }
        }
        info!(entries = claimed, "claimed pending entries of idle consumers");
        self.metrics.claimed.inc_by(claimed);
        Ok(())
    }
}
