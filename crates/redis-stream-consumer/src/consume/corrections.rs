//! Takes back deliveries that the server counted, but that were no attempts at the entry.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::RedisResult;

use super::group_client::GroupClient;
use super::in_flight::{CLAIM_IDS, InFlight, claim_batches};
use crate::entry::StreamId;
use redis_stream_core::clock::now;

/// Entries whose deliveries are too high on the server, with the right number. They outlast a lost connection.
pub(super) struct DeliveryCorrections {
    deliveries: BTreeMap<StreamId, u64>,
    /// The longest time between the last touches of entries in one XCLAIM.
    spread: Duration,
}

impl DeliveryCorrections {
    pub(super) fn new(spread: Duration) -> Self {
        Self { deliveries: BTreeMap::new(), spread }
    }

    pub(super) fn add(&mut self, id: StreamId, deliveries: u64) {
        self.deliveries.insert(id, deliveries);
    }

    /// Sets the numbers on the server (XCLAIM with RETRYCOUNT), for those entries that this consumer still has.
    pub(super) async fn send(
        &mut self,
        client: &mut GroupClient,
        in_flight: &mut InFlight,
    ) -> RedisResult<()> {
        while let Some(deliveries) = self.deliveries.values().next().copied() {
            let ids = self.deliveries.iter().filter(|(_, other)| **other == deliveries).map(|(id, _)| *id);
            let touched = ids.filter_map(|id| Some((id, in_flight.last_touch(id)?))).collect();
            for batch in claim_batches(touched, self.spread, CLAIM_IDS) {
                client.set_deliveries(&batch, deliveries).await?;
                let at = now();
                for id in batch.ids {
                    in_flight.set_deliveries(id, deliveries);
                    in_flight.touch(id, at);
                }
            }
            self.deliveries.retain(|_, other| *other != deliveries);
        }
        Ok(())
    }
}
