//! Reports for tests of pages.
#![cfg(test)]

use std::sync::Arc;
use std::time::Duration;

use crate::alert::test_support;
use crate::api::groups::TargetSnapshot;
use crate::page::model::TargetModel;
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;
use redis_stream_lag::report::{GroupReport, GroupValues, StreamIds, StreamReport, StreamValues};

pub(super) use crate::alert::test_support::{group, report};

/// Time of the reading of each stream.
pub(super) const READ_AT: Duration = Duration::from_secs(1_700_000_000);

/// Returns the values of a group that is caught up; everything that may be unknown is.
pub(super) fn values() -> GroupValues {
    GroupValues {
        last_delivered_id: StreamId::new(1_700_000_000_000, 1),
        consumers: 1,
        ..test_support::values()
    }
}

/// Returns a stream that was read. `groups` must be sorted by name.
pub(super) fn stream(key: impl Into<Name>, groups: Vec<GroupReport>) -> StreamReport {
    let values = StreamValues {
        length: 4_000,
        groups: groups.len() as u64,
        ids: StreamIds {
            first: Some(StreamId::new(1_699_990_000_000, 0)).into(),
            last_generated: StreamId::new(1_700_000_000_000, 0),
            ..StreamIds::default()
        },
        is_first_timestamp: true,
        is_last_generated_timestamp: true,
        ..StreamValues::default()
    };
    let read_at = READ_AT.into();
    StreamReport { values: Some(values), read_at, ..test_support::stream(key, groups) }
}

/// Returns a target in this state, without a past.
pub(super) fn target(snapshot: TargetSnapshot) -> TargetModel {
    let words = ["redis-cli", "-h", "cache", "-p", "6379"].map(str::to_owned);
    TargetModel {
        old_report: snapshot.report.clone(),
        snapshot: TargetSnapshot { redis_cli: Arc::new(words), ..snapshot },
        server: None,
        history: Arc::default(),
        events: Arc::default(),
        active: Arc::default(),
    }
}
