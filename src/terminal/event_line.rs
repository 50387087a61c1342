//! An event as a line.

use std::time::Duration;

use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use crate::api::events::ListedEvent;
use crate::format::severity::Severity;
use crate::format::unicode::printable;
use crate::format::units::clock;
use crate::terminal::colour::colour;
use crate::terminal::layout::GAP;
use crate::terminal::status_view::StatusView;

/// Renders an event: its time, what it is about, what happened, and the target if there are several.
pub(super) fn event_line(view: &StatusView, event: &ListedEvent) -> Line<'static> {
    let at = Duration::from_secs(event.timestamp_seconds);
    let names = match (&event.stream, &event.group) {
        (Some(stream), Some(group)) => format!("{} of {}: ", printable(group), printable(stream)),
        (Some(stream), None) => format!("{}: ", printable(stream)),
        (None, _) => String::new(),
    };
    let target = match view.listing.targets.len() {
        0 | 1 => String::new(),
        _ => format!(" on {}", printable(&event.target)),
    };
    let style = match event.severity {
        Severity::Unknown => Style::default(),
        severity => colour(severity),
    };
    Line::from(vec![
        Span::styled(format!("{}{GAP}", clock(at, view.now)), Modifier::DIM),
        Span::raw(names),
        Span::styled(printable(&event.text).into_owned(), style),
        Span::styled(target, Modifier::DIM),
    ])
}
