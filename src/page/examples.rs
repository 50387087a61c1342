//! Reports for tests.
#![cfg(test)]

use std::sync::Arc;
use std::time::Duration;

use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;
use redis_stream_lag::report::Status;
use redis_stream_lag::report::{
    GroupReport, GroupValues, Lag, Report, StreamIds, StreamReport, StreamValues,
};
use redis_stream_lag::snapshot::RadixTree;

/// Values of a group that has read all there is; what may be unknown is.
pub(super) fn values() -> GroupValues {
    GroupValues {
        lag: Lag::Exact(0),
        lag_seconds: None,
        last_delivered_id: StreamId::new(1_700_000_000_000, 1),
        last_delivered_id_age: None,
        entries_read: None,
        messages_pending: 0,
        oldest_pending: None,
        pending_orphaned: None,
        consumers: 1,
        entries_lost: None,
        retention_used: None,
        status: Status::Ok,
    }
}

/// A group that a glob found.
pub(super) fn group(name: impl Into<Name>, values: GroupValues) -> GroupReport {
    GroupReport { name: name.into(), named: false, values: Some(values), consumers: None }
}

/// A stream that was read; its groups are in order.
pub(super) fn stream(key: impl Into<Name>, groups: Vec<GroupReport>) -> StreamReport {
    let values = StreamValues {
        length: 4_000,
        groups: groups.len() as u64,
        entries_added: None,
        first_entry: Some(Duration::from_secs(1_699_990_000)),
        last_generated: Some(Duration::from_secs(1_700_000_000)),
        ids: StreamIds::default(),
        radix_tree: RadixTree::default(),
    };
    StreamReport { key: key.into(), values: Some(values), refused: false, groups }
}

/// A report of streams, which are in order.
pub(super) fn report(streams: Vec<StreamReport>) -> Report {
    Report { streams: streams.into_iter().map(Arc::new).collect(), counted_entries: 0 }
}
