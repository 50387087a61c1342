//! The events of the targets, for the JSON API and the terminal.

use crate::api::events::{EventListing, EventOf, EventQuery};
use crate::commands::target_snapshots::TargetHandle;
use crate::page::event_log::LoggedEvent;

/// Returns the events of the last day that the query selects.
pub(super) fn target_events(targets: &[TargetHandle], query: &EventQuery) -> EventListing {
    let mut listing = EventListing::default();
    for (labels, state) in targets {
        listing.add(labels, state.borrow().events.newest().map(event), query);
    }
    listing.finish(query)
}

fn event(event: &LoggedEvent) -> EventOf<'_> {
    EventOf {
        at: event.at,
        severity: event.severity,
        stream: event.stream.as_ref(),
        group: event.group.as_ref(),
        text: &event.text,
    }
}
