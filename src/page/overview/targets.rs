//! The targets in a strip: health, server, age of the data, entries per second in and out, and what each has.

use std::cmp::Reverse;

use maud::{Markup, html};

use crate::alert::link::stream_path;
use crate::alert::state::Phase;
use crate::format::severity::Severity;
use crate::format::units::{ago, count, counted, rate_number};
use crate::page::label;
use crate::page::layout::{badge, unknown};
use crate::page::model::{PageModel, TargetModel, health};
use crate::page::overview::query::OverviewQuery;
use crate::page::stream::added_to;
use redis_stream_lag::report::Report;

/// Targets that are shown without a click.
const SHOWN: usize = 12;
/// Streams of a target that could not be read, or have abandoned groups, and are listed.
const UNREAD: usize = 10;

pub(super) fn strip(model: &PageModel) -> Markup {
    let mut targets: Vec<_> = model.targets.iter().collect();
    // The order of the configuration, but with those in trouble among those that are shown at once.
    if targets.len() > SHOWN {
        targets.sort_by_key(|target| Reverse(health(target).0 != Severity::Good));
    }
    let (first, more) = targets.split_at(targets.len().min(SHOWN));
    let list =
        |targets: &[&TargetModel]| html! { ul.targets { @for target in targets { (card(target, model)) } } };
    html! {
        section #targets data-live {
            h2 { "Targets" }
            (list(first))
            @if !more.is_empty() {
                details #more-targets {
                    summary { (counted(more.len(), "more target", "more targets")) }
                    (list(more))
                }
            }
        }
    }
}

fn card(target: &TargetModel, model: &PageModel) -> Markup {
    let snapshot = &target.snapshot;
    let (severity, word) = health(target);
    let only = OverviewQuery { target: Some(snapshot.labels.name.clone()), ..OverviewQuery::default() };
    let report = target.report();
    let number = |number: Option<usize>| match number {
        Some(number) => html! { (count(number as u64)) },
        None => unknown("the target was not read yet"),
    };
    let groups = report.map(|report| report.streams.iter().map(|stream| stream.groups.len()).sum());
    let firing = target.active.count_of(Phase::Firing);
    html! {
        li class=[target.is_old().then_some("old")] {
            div.head {
                (badge(severity, word)) " "
                a href={ "./" (only.link()) "#groups" } { (label::short(&snapshot.labels.name)) }
                " " span.dim { (snapshot.labels.db) }
                @for (name, value) in &snapshot.labels.configured { " " span.dim { (name) "=" (label::short(value)) } }
            }
            div.dim {
                @if let Some(server) = &target.server { (label::short(server)) ", " }
                @match snapshot.last_read { Some(at) => { "updated " (ago(at, model.now)) }, None => "never read" }
            }
            dl {
                (rate("In", report.and_then(added)))
                (rate("Out", report.and_then(delivered)))
                (item("Streams", &number(report.map(|report| report.streams.len()))))
                (item("Groups", &number(groups)))
                (item("Firing", &html! { @if firing > 0 { strong { (count(firing as u64)) } } @else { "0" } }))
            }
            @if let Some(report) = report { (unread(target, report)) (abandoned(target, report)) }
        }
    }
}

fn item(name: &str, value: &Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

fn rate(name: &str, rate: Option<f64>) -> Markup {
    let value = match rate {
        Some(rate) => html! { (rate_number(rate)) "/s" },
        None => {
            unknown("known after a quarter of the status window, on server 7.0 or later, if a group exists")
        }
    };
    item(name, &value)
}

fn added(report: &Report) -> Option<f64> {
    sum(report.streams.iter().filter_map(|stream| added_to(stream)))
}

fn delivered(report: &Report) -> Option<f64> {
    let groups = report.streams.iter().flat_map(|stream| &stream.groups);
    sum(groups.filter_map(|group| Some(group.values.as_ref()?.delivered_rate?.per_second())))
}

/// Returns the sum of what is known; `None` if nothing is.
fn sum(rates: impl Iterator<Item = f64>) -> Option<f64> {
    rates.fold(None, |sum, rate| Some(sum.unwrap_or(0.0) + rate))
}

/// Renders the streams with groups that have been abandoned for a day, those with the most first.
fn abandoned(target: &TargetModel, report: &Report) -> Markup {
    let labels = &target.snapshot.labels;
    let streams = report.streams_with_groups_abandoned();
    let groups: u64 = streams.iter().map(|(_, groups)| groups).sum();
    html! {
        @if !streams.is_empty() {
            details id={ "abandoned-" (labels.name) "-" (labels.db) } {
                summary { (count(groups)) @if groups == 1 { " group" } @else { " groups" } " abandoned for a day" }
                ul {
                    @for (stream, groups) in streams.iter().take(UNREAD) {
                        @let name = stream.key.text();
                        li {
                            @match stream_path(&labels.name, &labels.db, &name) {
                                Some(path) => { a href=(path) { (label::short(&name)) } }
                                None => { (label::short(&name)) }
                            }
                            " " (count(*groups))
                        }
                    }
                    @if streams.len() > UNREAD { li { "and " (count((streams.len() - UNREAD) as u64)) " more streams" } }
                }
            }
        }
    }
}

/// Renders the streams that could not be read.
fn unread(target: &TargetModel, report: &Report) -> Markup {
    let unread: Vec<_> = report.streams.iter().filter(|stream| stream.values.is_none()).collect();
    html! {
        @if !unread.is_empty() {
            details id={ "unread-" (target.snapshot.labels.name) "-" (target.snapshot.labels.db) } {
                summary { (counted(unread.len(), "stream", "streams")) " not read" }
                ul {
                    @for stream in unread.iter().take(UNREAD) {
                        li {
                            (label::short(&stream.key.text()))
                            @if stream.refused { ": access denied, or its node does not answer" } @else { ": missing, or not a stream" }
                        }
                    }
                    @if unread.len() > UNREAD { li { "and " (count((unread.len() - UNREAD) as u64)) " more" } }
                }
            }
        }
    }
}
