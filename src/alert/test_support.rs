//! Reports for tests, also of other modules.
#![cfg(test)]

use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;
use redis_stream_lag::report::{
    GroupReport, GroupValues, Lag, Report, Status, StreamIds, StreamReport, StreamValues,
};

/// Returns the values of a group that is caught up; everything that may be unknown is.
pub(crate) fn values() -> GroupValues {
    GroupValues { lag: Lag::Exact(0), status: Status::Ok.into(), ..GroupValues::default() }
}

/// Returns the values of a group with this lag.
pub(crate) fn lagging(lag: u64) -> GroupValues {
    GroupValues { lag: Lag::Exact(lag), ..values() }
}

/// Returns a group that was found by a pattern.
pub(crate) fn group(name: impl Into<Name>, values: GroupValues) -> GroupReport {
    GroupReport::new(name.into(), Some(values))
}

/// Returns a group that the configuration names and that does not exist.
pub(crate) fn missing_group(name: &str) -> GroupReport {
    GroupReport::missing(Name::from(name))
}

/// Returns a stream that was read. `groups` must be sorted by name.
pub(crate) fn stream(key: impl Into<Name>, groups: Vec<GroupReport>) -> StreamReport {
    let values = StreamValues {
        length: 40,
        groups: groups.len() as u64,
        ids: StreamIds { last_generated: StreamId::new(1_700_000_000_000, 0), ..StreamIds::default() },
        is_last_generated_timestamp: true,
        ..StreamValues::default()
    };
    StreamReport::new(key.into(), Some(values), groups)
}

/// Returns a report. `streams` must be sorted by key.
pub(crate) fn report(streams: Vec<StreamReport>) -> Report {
    Report { streams: streams.into_iter().map(Into::into).collect(), ..Report::default() }
}
