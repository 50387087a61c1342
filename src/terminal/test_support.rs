//! Listings and events for tests.

use crate::api::events::ListedEvent;
use crate::api::groups::{ListedGroup, ListedTarget, ListedValues, Listing};
use crate::format::severity::Severity;
use redis_stream_lag::report::{GroupValues, Lag, Status};

/// Returns a group of the stream `orders` on the target `t`, stalled if its lag is above 5.
pub(crate) fn group(name: &str, lag: u64, pending: u64) -> ListedGroup {
    ListedGroup {
        target: "t".to_owned(),
        stream: "orders".to_owned(),
        group: name.to_owned(),
        up: true,
        status: Some(if lag > 5 { Status::Stalled } else { Status::Ok }),
        values: ListedValues::of(
            (&GroupValues { lag: Lag::Exact(lag), messages_pending: pending, ..GroupValues::default() })
                .into(),
        ),
        ..ListedGroup::default()
    }
}

/// Returns an event of the target `t`.
pub(crate) fn event(text: &str) -> ListedEvent {
    ListedEvent {
        timestamp_seconds: 1_700_000_000,
        at: String::new(),
        severity: Severity::Unknown,
        target: "t".to_owned(),
        db: "db0".to_owned(),
        stream: None,
        group: None,
        text: text.to_owned(),
    }
}

/// Returns a listing of groups of the target `t`, which was read.
pub(crate) fn listing(groups: Vec<ListedGroup>) -> Listing {
    let target = ListedTarget {
        target: "t".to_owned(),
        up: true,
        streams: Some(1),
        last_successful_poll_timestamp_seconds: Some(1_700_000_000.0),
        ..ListedTarget::default()
    };
    Listing { matched: groups.len(), groups, targets: vec![target] }
}
