//! The first page: what is wrong, the alerts, every group with the worst first, and the targets.

use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::alert::active::Shown;
use crate::alert::state::State;
use crate::lag::status::Status;
use crate::page::frame::{Frame, Grade, status_name, status_of};
use crate::page::overview::groups::Groups;
use crate::page::overview::query::{Query, StatusFilter};
use crate::page::units::{ago, count, counted};
use crate::page::view::{TargetView, View};
use crate::page::{alert_list, label};

mod groups;
pub mod query;

/// Alerts of a state that are listed; the rest is counted.
const ALERTS: usize = 10;
/// Streams of a target that could not be read, likewise.
const STREAMS: usize = 10;

/// The first page.
#[must_use]
pub fn render(view: &View, query: &Query) -> String {
    let content = html! {
        (summary(view))
        (alerts(view))
        (Groups::of(view, query).section())
        (targets(view))
    };
    let title = title(view);
    Frame { title: &title, root: "./", interval: view.interval }.around(&content).into_string()
}

/// What a tab shows among many.
fn title(view: &View) -> String {
    match view.rows().filter(|row| StatusFilter::Trouble.takes(status_of(row.group))).count() {
        0 => "Consumer groups".to_owned(),
        some => format!("{} in trouble", counted(some, "group", "groups")),
    }
}

fn summary(view: &View) -> Markup {
    let mut by_status = BTreeMap::<_, (Option<Status>, usize)>::new();
    for row in view.rows() {
        let status = status_of(row.group);
        by_status.entry(place(status)).or_insert((status, 0)).1 += 1;
    }
    let groups: usize = by_status.values().map(|(_, groups)| groups).sum();
    let trouble: usize = by_status
        .values()
        .filter(|(status, _)| StatusFilter::Trouble.takes(*status))
        .map(|(_, groups)| groups)
        .sum();
    let firing: usize = view.targets.iter().map(|target| target.active.count_of(State::Firing)).sum();
    let down: Vec<_> = view.targets.iter().filter(|target| health(target).0 != Grade::Good).collect();
    html! {
        section #summary data-live {
            h1 {
                @if trouble > 0 { (counted(trouble, "group needs", "groups need")) " a look" }
                @else if groups > 0 && down.is_empty() { "No group is in trouble" }
                @else { "Consumer groups" }
            }
            p.lead {
                (counted(groups, "group", "groups")) " on " (counted(view.targets.len(), "target", "targets")) ", "
                a href="#alerts" { (counted(firing, "alert fires", "alerts fire")) }
            }
            @for target in down.iter().take(STREAMS) {
                p.callout { (trouble_of(target, view)) }
            }
            @if down.len() > STREAMS {
                p.callout { "and " a href="#targets" { (count((down.len() - STREAMS) as u64)) " more targets" } }
            }
            ul.counts aria-label="Groups by status" {
                @for (status, groups) in by_status.values() {
                    li {
                        a href=(by_status_link(StatusFilter::One(*status))) {
                            (Grade::of(*status).badge(status_name(*status))) " " (count(*groups as u64))
                        }
                    }
                }
            }
        }
    }
}

/// The place of a status among all, that of a missing group first.
fn place(status: Option<Status>) -> usize {
    status.map_or(0, |status| 1 + Status::ALL.iter().position(|one| *one == status).unwrap_or_default())
}

fn by_status_link(status: StatusFilter) -> String {
    let link = Query { status, ..Query::default() }.link();
    format!("./{link}#groups")
}

/// How a target is, in a word.
fn health(target: &TargetView) -> (Grade, &'static str) {
    let seen = &target.seen;
    match (seen.is_up, &seen.report) {
        (_, None) if seen.last_read.is_none() && seen.error.is_none() => (Grade::Unknown, "not polled yet"),
        (true, Some(_)) if seen.error.is_none() => (Grade::Good, "up"),
        (true, Some(_)) => (Grade::Poor, "read in part"),
        (true, None) => (Grade::Poor, "too old"),
        (false, _) => (Grade::Bad, "down"),
    }
}

/// What is wrong with a target, and what is shown of it.
fn trouble_of(target: &TargetView, view: &View) -> Markup {
    let seen = &target.seen;
    let (grade, word) = health(target);
    html! {
        (grade.badge(word)) " " strong { (label::short(&seen.labels.name)) } ": "
        @if let Some(error) = &seen.error { (error) ". " }
        @match (&seen.report, seen.last_read) {
            (Some(_), Some(at)) if !seen.is_up => { "What is shown of it was read " (ago(at, view.now)) "." }
            (None, Some(at)) => { "It was last read " (ago(at, view.now)) ": too long ago to be shown." }
            (None, None) => { "Nothing is known of it yet." }
            _ => {}
        }
    }
}

fn alerts(view: &View) -> Markup {
    let count_of = |state| -> usize { view.targets.iter().map(|target| target.active.count_of(state)).sum() };
    let (firing, pending) = (count_of(State::Firing), count_of(State::Pending));
    let first = |state| -> Vec<Shown> {
        view.targets.iter().flat_map(|target| target.active.of_state(state)).take(ALERTS).collect()
    };
    html! {
        section #alerts data-live {
            h2 { "Alerts" }
            @if firing + pending == 0 {
                p.dim { "Nothing fires, and nothing is pending." }
            } @else {
                (alert_list::list(&first(State::Firing), view.now))
                (more(firing))
                @if pending > 0 {
                    details #pending-alerts open[firing == 0] {
                        summary { (counted(pending, "alert is", "alerts are")) " pending: not for long enough to fire" }
                        (alert_list::list(&first(State::Pending), view.now))
                        (more(pending))
                    }
                }
            }
        }
    }
}

fn more(alerts: usize) -> Markup {
    html! {
        @if alerts > ALERTS {
            p { "and " a href="api/v1/alerts" { (count((alerts - ALERTS) as u64)) " more" } }
        }
    }
}

fn targets(view: &View) -> Markup {
    html! {
        section #targets data-live {
            h2 { "Targets" }
            table role="table" {
                thead role="rowgroup" { tr role="row" {
                    @for heading in ["Target", "Health", "Data", "Streams", "Groups", "Alerts"] {
                        th scope="col" role="columnheader" { (heading) }
                    }
                } }
                tbody role="rowgroup" {
                    @for target in &view.targets { (target_row(target, view)) }
                }
            }
        }
    }
}

fn target_row(target: &TargetView, view: &View) -> Markup {
    let seen = &target.seen;
    let (grade, word) = health(target);
    let streams = seen.report.as_ref().map(|report| &report.streams);
    let groups = streams.map(|streams| streams.iter().map(|stream| stream.groups.len()).sum::<usize>());
    let unread = streams.into_iter().flatten().filter(|stream| stream.values.is_none());
    let unread: Vec<_> = unread.collect();
    let only = Query { target: Some(seen.labels.name.clone()), ..Query::default() };
    let number = |number: Option<usize>| number.map_or_else(|| "?".to_owned(), |number| count(number as u64));
    let firing = target.active.count_of(State::Firing) as u64;
    html! {
        tr role="row" {
            th scope="row" role="rowheader" {
                a href={ "./" (only.link()) "#groups" } { (label::short(&seen.labels.name)) }
                " " span.dim { (seen.labels.db) }
                @for (name, value) in &seen.labels.configured { " " span.dim { (name) "=" (label::short(value)) } }
            }
            td role="cell" data-label="Health" {
                (grade.badge(word))
                @if let Some(error) = &seen.error { div.dim { (error) } }
            }
            td role="cell" data-label="Data" {
                @match seen.last_read { Some(at) => (ago(at, view.now)), None => "never read" }
            }
            td.number role="cell" data-label="Streams" {
                (number(streams.map(Vec::len)))
                @if !unread.is_empty() {
                    details id={ "unread-" (seen.labels.name) } {
                        summary { (count(unread.len() as u64)) " not read" }
                        ul {
                            @for stream in unread.iter().take(STREAMS) {
                                li {
                                    (label::short(&stream.key.text()))
                                    @if stream.refused { ": denied" } @else { ": missing, or no stream" }
                                }
                            }
                            @if unread.len() > STREAMS { li { "and more" } }
                        }
                    }
                }
            }
            td.number role="cell" data-label="Groups" { (number(groups)) }
            td.number role="cell" data-label="Alerts" { (count(firing)) }
        }
    }
}
