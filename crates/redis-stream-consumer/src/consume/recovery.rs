//! Recovers entries that are pending for this consumer, but unknown to it: from an earlier run, or delivered by a reply
//! that never arrived.

use std::time::Duration;

use redis::RedisResult;
use tokio::time::Instant;
use tracing::info;

use super::group_client::GroupClient;
use super::in_flight::{InFlight, RetryEntry};
use crate::entry::StreamId;
use redis_stream_core::clock::now;

const PAGE_IDS: usize = 100;
/// Time after BLOCK within which a stalled server may still execute a buffered XREADGROUP.
const STALLED_READ_MARGIN: Duration = Duration::from_secs(1);

/// A scan of the entries pending for this consumer. While one runs, nothing is read, since the scan would find entries
/// that are on their way here.
pub(super) struct Recovery {
    block: Duration,
    /// Where the scan continues; `None` while there is none.
    position: Option<StreamId>,
    /// Time of a second scan, since a stalled server may execute a lost XREADGROUP after the first scan.
    second_scan: Option<Instant>,
    /// The reader found the group gone: scan as soon as it has no open request.
    is_group_gone: bool,
}

impl Recovery {
    /// Begins with a scan. `block` is the BLOCK time of the reader.
    pub(super) fn new(block: Duration) -> Self {
        Self { block, position: Some(StreamId::MIN), second_scan: None, is_group_gone: false }
    }

    /// Scans again after a connection was lost.
    pub(super) fn restart(&mut self, now: Instant) {
        self.position = Some(StreamId::MIN);
        self.second_scan = Some(now + self.block + STALLED_READ_MARGIN);
    }

    /// Postpones the second scan after a connection was made: the server may have been stalled until now.
    pub(super) fn connected(&mut self, now: Instant) {
        self.second_scan = self.second_scan.map(|_| now + self.block + STALLED_READ_MARGIN);
    }

    /// Scans again as soon as the reader is idle, which fails if the group is still missing.
    pub(super) fn group_gone(&mut self) {
        self.is_group_gone = true;
    }

    /// Returns whether a scan runs, or waits for the reader.
    pub(super) fn is_active(&self) -> bool {
        self.position.is_some() || self.is_group_gone
    }

    /// Returns when the next scan begins; `None` if none is planned, or one runs.
    pub(super) fn next_scan(&self) -> Option<Instant> {
        self.second_scan.filter(|_| self.position.is_none())
    }

    /// Returns whether the server can no longer execute a read whose reply was lost.
    pub(super) fn is_complete(&self, now: Instant) -> bool {
        self.second_scan.is_none_or(|at| at <= now)
    }

    /// Begins a scan if one is due.
    pub(super) fn begin_if_due(&mut self, now: Instant) {
        if self.next_scan().is_some_and(|at| at <= now) {
            self.second_scan = None;
            self.position = Some(StreamId::MIN);
        }
    }

    /// Scans until the end, or until too many entries wait. The reader must have no open request. Entries found are
    /// retried at once.
    pub(super) async fn scan(
        &mut self,
        client: &mut GroupClient,
        in_flight: &mut InFlight,
    ) -> RedisResult<()> {
        if std::mem::take(&mut self.is_group_gone) {
            self.position = Some(StreamId::MIN);
        }
        while let Some(after) = self.position
            && !in_flight.is_full()
        {
            let rows = client.own_pending(after, PAGE_IDS).await?;
            let at = now();
            self.position = rows.last().filter(|_| rows.len() == PAGE_IDS).map(|row| row.id);
            let mut found = 0;
            for row in rows {
                if in_flight.contains(row.id) {
                    // An XCLAIM whose reply never arrived has counted a delivery.
                    in_flight.set_deliveries(row.id, row.deliveries);
                } else {
                    found += 1;
                    in_flight.wait(row.id, RetryEntry::new(at, row.touched(at), row.deliveries));
                }
            }
            if found > 0 {
                info!(entries = found, "retrying unfinished entries of this consumer");
            }
        }
        Ok(())
    }
}
