//! Renews claims on in-flight entries so that other consumers do not claim them, and handles entries whose claim was
//! lost.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use redis::RedisResult;
use tokio::time::Instant;
use tracing::warn;

use super::group_client::GroupClient;
use super::in_flight::{ClaimBatch, InFlight, RenewalScope};
use super::metrics::Metrics;
use super::worker_pool::WorkQueue;
use crate::entry::StreamId;
use redis_stream_core::clock::now;

pub(super) struct ClaimKeeper {
    min_idle: Duration,
    next_renewal: Instant,
    metrics: Metrics,
}

impl ClaimKeeper {
    pub(super) fn new(min_idle: Duration, now: Instant, metrics: Metrics) -> Self {
        Self { min_idle, next_renewal: now, metrics }
    }

    pub(super) fn min_idle(&self) -> Duration {
        self.min_idle
    }

    pub(super) fn next_renewal(&self) -> Instant {
        self.next_renewal
    }

    /// Returns how far apart the last touches of one batch may be.
    pub(super) fn spread(&self) -> Duration {
        self.min_idle / 8
    }

    /// Renews, if it is due, the claims on entries in flight.
    pub(super) async fn renew(
        &mut self,
        client: &mut GroupClient,
        in_flight: &mut InFlight,
        queue: &WorkQueue,
        scope: RenewalScope,
    ) -> RedisResult<()> {
        let at = now();
        if at >= self.next_renewal {
            self.next_renewal = at + self.min_idle / 4;
            let batches = in_flight.untouched(at, self.min_idle / 8, self.spread(), scope);
            self.reclaim(batches, client, in_flight, queue).await?;
        }
        Ok(())
    }

    /// Claims entries without counting a delivery. Returns those that still belong to this consumer, and releases the
    /// others.
    pub(super) async fn reclaim(
        &self,
        batches: Vec<ClaimBatch>,
        client: &mut GroupClient,
        in_flight: &mut InFlight,
        queue: &WorkQueue,
    ) -> RedisResult<HashSet<StreamId>> {
        let mut owned = HashSet::new();
        for batch in batches {
            let kept = client.renew(&batch).await?;
            let at = now();
            kept.iter().for_each(|id| in_flight.touch(*id, at));
            owned.extend(kept);
            let mut lost: HashSet<_> = batch.ids.into_iter().filter(|id| !owned.contains(id)).collect();
            if !lost.is_empty() {
                // Entries handled meanwhile are acknowledged in any case.
                let handled = queue.handled_ids();
                lost.retain(|id| !handled.contains(id));
            }
            self.release_lost(lost, client, in_flight, queue).await?;
        }
        Ok(owned)
    }

    /// Finds out why entries could not be claimed. Those of another consumer are dropped. Those that were deleted are
    /// dropped and counted, unless their fields are here: then they are handled anyway. And those that this consumer
    /// has touched, with a command that a stalled server executed after its reply was given up, are kept.
    pub(super) async fn release_lost(
        &self,
        lost: HashSet<StreamId>,
        client: &mut GroupClient,
        in_flight: &mut InFlight,
        queue: &WorkQueue,
    ) -> RedisResult<()> {
        if lost.is_empty() {
            return Ok(());
        }
        let ids: Vec<_> = lost.into_iter().collect();
        let rows: HashMap<_, _> =
            client.pending_rows(&ids).await?.into_iter().map(|row| (row.id, row)).collect();
        let absent: HashSet<_> = client.deleted(&ids).await?.into_iter().collect();
        let at = now();
        let (mut deleted, mut released) = (Vec::new(), HashSet::new());
        for id in ids {
            let is_absent = absent.contains(&id);
            match rows.get(&id) {
                Some(row) if !client.is_own(row) => drop(released.insert(id)),
                None if !is_absent => drop(released.insert(id)),
                _ if is_absent && !in_flight.is_buffered(id) => deleted.push(id),
                Some(row) => {
                    in_flight.touch(id, row.touched(at));
                    in_flight.set_deliveries(id, row.deliveries);
                }
                None => in_flight.touch(id, at),
            }
        }
        if !deleted.is_empty() {
            // From Redis 7.0 on, XCLAIM has removed them from the pending list already.
            client.acknowledge(&deleted).await?;
            drop_deleted(&deleted, in_flight, &self.metrics);
        }
        queue.remove(&released);
        released.into_iter().for_each(|id| in_flight.remove(id));
        Ok(())
    }
}

/// Drops and counts entries that were deleted from the stream while they were pending.
pub(super) fn drop_deleted(ids: &[StreamId], in_flight: &mut InFlight, metrics: &Metrics) {
    if !ids.is_empty() {
        warn!(deleted = ids.len(), "pending entries were deleted from the stream before they were handled");
        metrics.deleted.inc_by(ids.len() as u64);
        ids.iter().for_each(|id| in_flight.remove(*id));
    }
}
