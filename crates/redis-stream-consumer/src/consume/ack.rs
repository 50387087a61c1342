//! Acknowledges handled entries, up to 1,000 in one XACK.

use redis::RedisResult;
use tokio::time::Instant;

use super::group_client::GroupClient;
use super::in_flight::InFlight;
use super::metrics::Metrics;
use crate::entry::StreamId;
use redis_stream_core::clock::now;

const MAX_IDS: usize = 1_000;

/// Entries that were handled and are not acknowledged yet. They outlast a lost connection.
pub(super) struct Acknowledger {
    /// IDs and when the handler finished, in this order.
    handled: Vec<(StreamId, Instant)>,
    metrics: Metrics,
}

impl Acknowledger {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { handled: Vec::new(), metrics }
    }

    pub(super) fn add(&mut self, id: StreamId, finished: Instant) {
        self.handled.push((id, finished));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.handled.is_empty()
    }

    pub(super) async fn acknowledge(
        &mut self,
        client: &mut GroupClient,
        in_flight: &mut InFlight,
    ) -> RedisResult<()> {
        while !self.handled.is_empty() {
            let count = self.handled.len().min(MAX_IDS);
            let ids: Vec<_> = self.handled[..count].iter().map(|(id, _)| *id).collect();
            self.metrics.acknowledged.inc_by(client.acknowledge(&ids).await?);
            let at = now();
            for (id, finished) in self.handled.drain(..count) {
                in_flight.remove(id);
                self.metrics.acknowledgement_duration.observe((at - finished).as_secs_f64());
                if let Some(latency) = client.age(id, at) {
                    self.metrics.end_to_end_latency.observe(latency.as_secs_f64());
                }
            }
        }
        Ok(())
    }
}
