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
        last_delivered_id: StreamId::MIN,
        last_delivered_id_age: None,
        entries_read: None,
        messages_pending: 0,
        oldest_pending: None,
        pending_orphaned: None,
        consumers: 0,
        entries_lost: None,
        retention_used: None,
        status: Status::Ok,
    }
}

/// The same with a lag.
pub(super) fn lagging(lag: u64) -> GroupValues {
    GroupValues { lag: Lag::Exact(lag), ..values() }
}

/// A group that a glob found.
pub(super) fn group(name: &str, values: GroupValues) -> GroupReport {
    GroupReport { name: Name::from(name), named: false, values: Some(values), consumers: None }
}

/// A group that the configuration names and that is not there.
pub(super) fn missing_group(name: &str) -> GroupReport {
    GroupReport { name: Name::from(name), named: true, values: None, consumers: None }
}

/// A stream that was read.
pub(super) fn stream(key: &str, groups: Vec<GroupReport>) -> StreamReport {
    let values = StreamValues {
        length: 40,
        groups: groups.len() as u64,
        entries_added: None,
        first_entry: None,
        last_generated: Some(Duration::from_secs(1_700_000_000)),
        ids: StreamIds::default(),
        radix_tree: RadixTree::default(),
    };
    StreamReport { key: Name::from(key), values: Some(values), refused: false, groups }
}

/// A report of streams, which are in order.
pub(super) fn report(streams: Vec<StreamReport>) -> Report {
    Report { streams: streams.into_iter().map(Arc::new).collect(), counted_entries: 0 }
}
