//! The events of the last day, on all targets.

use std::cmp::Reverse;

use maud::{Markup, html};

use crate::alert::link::{group_path, stream_path};
use crate::format::units::{ago, clock, counted};
use crate::page::event_log::LoggedEvent;
use crate::page::label;
use crate::page::layout::event_sign;
use crate::page::model::{PageModel, TargetModel};
use redis_stream_core::name::Name;

/// Events that are shown without a click, and with one.
const SHOWN: usize = 10;
const LISTED: usize = 100;

pub(super) fn of_last_day(model: &PageModel) -> Markup {
    let targets = model.targets.iter();
    let mut events: Vec<_> = targets
        .flat_map(|target| target.events.newest().take(LISTED).map(move |event| (target, event)))
        .collect();
    events.sort_by_key(|(_, event)| Reverse(event.at));
    events.truncate(LISTED);
    let (first, more) = events.split_at(events.len().min(SHOWN));
    html! {
        section #events data-live {
            h2 { "Events of the last day" }
            @if events.is_empty() { p.dim { "None." } }
            (list(model, first))
            @if !more.is_empty() {
                details #more-events {
                    summary { (counted(more.len(), "earlier event", "earlier events")) }
                    (list(model, more))
                }
            }
        }
    }
}

fn list(model: &PageModel, events: &[(&TargetModel, &LoggedEvent)]) -> Markup {
    html! { ul.events { @for (target, event) in events { (item(model, target, event)) } } }
}

fn item(model: &PageModel, target: &TargetModel, event: &LoggedEvent) -> Markup {
    let labels = &target.snapshot.labels;
    let text = |name: &Option<Name>| name.as_ref().map(|name| name.text().into_owned());
    let (stream, group) = (text(&event.stream), text(&event.group));
    let path = match (&stream, &group) {
        (Some(stream), Some(group)) => group_path(&labels.name, &labels.db, stream, group),
        (Some(stream), None) => stream_path(&labels.name, &labels.db, stream),
        (None, _) => None,
    };
    html! {
        li {
            span.time { (clock(event.at, model.now)) } " " (event_sign(event.severity)) " "
            @let names = html! {
                @if let Some(group) = &group { (label::short(group)) " of " }
                @if let Some(stream) = &stream { (label::short(stream)) }
            };
            @match &path {
                Some(path) => { a href=(path) { (names) } ": " }
                None if stream.is_some() => { (names) ": " }
                None => {}
            }
            (label::long(&event.text)) " "
            span.dim {
                @if model.targets.len() > 1 || stream.is_none() { "on " (label::short(&labels.name)) ", " }
                (ago(event.at, model.now))
            }
        }
    }
}
