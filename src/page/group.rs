//! The page of one group: its numbers, its recent past, its consumers, its alerts, what its status means and what to
//! try.

use maud::{Markup, html};

use crate::format::units::{ago, count, span};
use crate::page::frame::{Frame, Grade, status_name, status_of, unknown};
use crate::page::group::advice::{Effect, Word};
use crate::page::view::{Row, TargetView, View};
use crate::page::{alert_list, chart, label};
use redis_stream_core::name::Name;
use redis_stream_lag::report::{ConsumerReport, GroupValues};

mod advice;
mod numbers;
mod redis_cli;

/// Why consumers of a group are not known.
const NOT_READ: &str = "they are not read (consumers: false, more of them than limits.consumers_per_group, or a replica), or the last poll did not get to them";

/// What leads from the page of a group to the first page.
const ROOT: &str = "../../../../";

/// Where a group is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of the target.
    pub target: Name,
    /// `db0`, `db1` and so on.
    pub db: Name,
    /// Key of the stream.
    pub stream: Name,
    /// Name of the group.
    pub group: Name,
}

impl Place {
    /// Reads the four parts of a path, as [`link`](crate::alert::link) writes them; bytes that are no text stand for
    /// themselves.
    #[must_use]
    pub fn read(parts: &[Vec<u8>]) -> Option<Self> {
        let name = |part: &Vec<u8>| match std::str::from_utf8(part) {
            Ok(text) => Name::from_text(text),
            Err(_) => Name::from(part.clone()),
        };
        let [target, db, stream, group] = parts else { return None };
        Some(Self { target: name(target), db: name(db), stream: name(stream), group: name(group) })
    }
}

/// Whether there is a group at this place, or may be one, as nobody knows; else its page says that there is none.
#[must_use]
pub fn may_be_there(view: &View, place: &Place) -> bool {
    let target = view.target(&place.target, &place.db);
    target.is_some_and(|target| {
        target.seen.report.is_none() || Row::find(target, &place.stream, &place.group).is_some()
    })
}

/// The page of the group at this place.
#[must_use]
pub fn render(view: &View, place: &Place) -> String {
    let target = view.target(&place.target, &place.db);
    let row = target.and_then(|target| Row::find(target, &place.stream, &place.group));
    let content = match (target, row) {
        (_, Some(row)) => group_page(view, &row),
        (Some(target), None) if target.seen.report.is_none() => in_the_dark(view, target, place),
        _ => not_found(place),
    };
    let title = format!("{} of {}", label::plain(&place.group.text()), label::plain(&place.stream.text()));
    let frame = Frame { title: &title, root: ROOT, interval: view.interval };
    frame.around(&content).into_string()
}

fn not_found(place: &Place) -> Markup {
    html! {
        h1 { "There is no such group" }
        p {
            "The last poll found no group " strong { (label::long(&place.group.text())) } " of the stream "
            strong { (label::long(&place.stream.text())) } " on the target "
            strong { (label::long(&place.target.text())) } ", " (label::long(&place.db.text())) ". It may have been destroyed, or it is not selected by the configuration."
        }
        p { a href=(ROOT) { "All groups" } }
    }
}

/// The target cannot be read, so nobody knows whether there is such a group.
fn in_the_dark(view: &View, target: &TargetView, place: &Place) -> Markup {
    html! {
        div #group data-live {
            (crumbs(target))
            h1 { (label::long(&place.group.text())) }
            p.lead { "a consumer group of the stream " strong { (label::long(&place.stream.text())) } }
            p.callout {
                "Nothing is known of this group at present, because the target could not be read"
                @if let Some(at) = target.seen.last_read { " since " (ago(at, view.now)) }
                @if let Some(error) = &target.seen.error { ": " (error) }
                "."
            }
        }
    }
}

fn group_page(view: &View, row: &Row<'_>) -> Markup {
    let status = status_of(row.group);
    let (name, key) = (row.group.name.text(), row.stream.key.text());
    let moments = row.moments();
    html! {
        div #group data-live {
            (crumbs(row.target))
            h1 { (label::long(&name)) " " (Grade::of(status).badge(status_name(status))) }
            p.lead { "a consumer group of the stream " strong { (label::long(&key)) } }
            @if let Some(all) = label::rest(&name) { details #whole-name { summary { "The whole name" } (all) } }
            @if let Some(all) = label::rest(&key) { details #whole-key { summary { "The whole key" } (all) } }
            (age(view, row.target))
        }
        @if row.group.values.is_some() || moments.iter().any(|moment| moment.point.is_some()) {
            section #history data-live {
                h2 { "Lately" }
                div.charts { (chart::of_lag(&moments)) (chart::of_pending(&moments)) }
            }
        }
        (what_to_try(row))
        @if let Some(values) = &row.group.values {
            section #numbers data-live { h2 { "Numbers" } (numbers::of_group(values)) }
            (consumers(row, values))
        }
        (alerts(view, row))
        section #stream data-live {
            h2 { "The stream" }
            @match &row.stream.values {
                Some(values) => (numbers::of_stream(values, view.now)),
                None => { p { "Nothing is known of it, because it could not be read in the last poll." } }
            }
        }
    }
}

fn crumbs(target: &TargetView) -> Markup {
    html! {
        nav aria-label="Path" {
            a href=(ROOT) { "All groups" } " / " (label::short(&target.seen.labels.name))
            @if target.seen.labels.db != "db0" { " " (target.seen.labels.db) }
        }
    }
}

/// How old the numbers are, and whether there will be newer ones.
fn age(view: &View, target: &TargetView) -> Markup {
    let seen = &target.seen;
    let read = seen.last_read.map(|at| ago(at, view.now));
    html! {
        @if !seen.is_up || seen.error.is_some() {
            p.callout {
                "The target could not be read in the last poll"
                @if let Some(error) = &seen.error { ": " (error) }
                ". " @if let Some(read) = read { "What is shown was read " (read) "." }
            }
        } @else if let Some(read) = read {
            p.dim { "Read " (read) }
        }
    }
}

fn what_to_try(row: &Row<'_>) -> Markup {
    let advice = advice::on(status_of(row.group));
    let line = |words: &[Word]| {
        let arguments: Vec<&[u8]> = words
            .iter()
            .map(|word| match word {
                Word::Text(text) => text.as_bytes(),
                Word::Stream => row.stream.key.as_bytes(),
                Word::Group => row.group.name.as_bytes(),
            })
            .collect();
        redis_cli::line(&row.target.redis_cli, &arguments)
    };
    html! {
        section #advice data-live {
            h2 { "What it means, and what to try" }
            p { (advice.meaning) }
            ol.steps {
                @for step in advice.steps {
                    li {
                        (step.what)
                        @if let Some(command) = &step.command {
                            @if command.effect == Effect::Writes { " " strong.writes { "This changes data." } }
                            pre tabindex="0" { code { (line(command.words)) } }
                        }
                    }
                }
            }
        }
    }
}

fn consumers(row: &Row<'_>, values: &GroupValues) -> Markup {
    html! {
        section #consumers data-live {
            h2 { "Consumers" }
            @match &row.group.consumers {
                None if values.consumers == 0 => { p { "There are none." } }
                None => { p { "Not known, because " (NOT_READ) "." } }
                Some(consumers) if consumers.is_empty() => { p { "There are none." } }
                Some(consumers) => (consumer_table(consumers)),
            }
        }
    }
}

fn consumer_table(consumers: &[ConsumerReport]) -> Markup {
    html! {
        table role="table" {
            caption.unseen { "Consumers of the group" }
            thead role="rowgroup" { tr role="row" {
                th scope="col" role="columnheader" { "Consumer" }
                th scope="col" role="columnheader" { "Pending" }
                th scope="col" role="columnheader" title="since its last attempt to read; before server 7.2, since its last success" { "Idle" }
                th scope="col" role="columnheader" title="since it last got an entry" { "Got nothing for" }
            } }
            tbody role="rowgroup" {
                @for consumer in consumers {
                    tr role="row" {
                        th scope="row" role="rowheader" { (label::short(&consumer.name.text())) }
                        td.number role="cell" data-label="Pending" { (count(consumer.messages_pending)) }
                        td.number role="cell" data-label="Idle" { (span(consumer.idle)) }
                        td.number role="cell" data-label="Got nothing for" {
                            @match consumer.inactive {
                                Some(time) => (span(time)),
                                None => (unknown("it never got an entry, or the server is older than 7.2")),
                            }
                        }
                    }
                }
            }
        }
    }
}

fn alerts(view: &View, row: &Row<'_>) -> Markup {
    let alerts: Vec<_> = row.target.active.about(&row.stream.key, &row.group.name).collect();
    html! {
        section #alerts data-live {
            h2 { "Alerts" }
            @if alerts.is_empty() { p.dim { "Nothing fires or is pending for it, its stream or its target." } }
            @else { (alert_list::list_from(ROOT, &alerts, view.now)) }
        }
    }
}
