//! The page of one group: its values, recent history, consumers and alerts, and advice on its status.

use maud::{Markup, html};

use crate::format::redis_cli;
use crate::format::units::{ago, count, lasting, span};
use crate::page::group::advice::CommandEffect;
use crate::page::layout::{PageLayout, status_badge, unknown};
use crate::page::model::{GroupRow, PageModel, TargetModel, status_name};
use crate::page::{alert_list, chart, label};
use redis_stream_core::name::Name;
use redis_stream_lag::report::{
    ConsumerReport, GroupValues, HeldFor, NewPosition, Recreation, SafeTrim, StreamHolder,
};

mod advice;
mod details;

/// Why consumers of a group are not known.
const NOT_READ: &str = "they are not read (consumers: false, more than limits.consumers_per_group of them are active, more than 5,000 exist, or a replica), or the last poll did not get to them";

/// The relative path from the page of a group to the first page.
const ROOT: &str = "../../../../";

/// The names of a group in the URL of its page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPath {
    /// Name of the target.
    pub target: Name,
    /// `db0`, `db1` and so on.
    pub db: Name,
    /// Key of the stream.
    pub stream: Name,
    /// Name of the group.
    pub group: Name,
}

impl GroupPath {
    /// Reads the four parts of a path as [`link`](crate::alert::link) writes them; bytes that are not UTF-8 are kept.
    pub fn read(parts: &[Vec<u8>]) -> Option<Self> {
        let name = |part: &Vec<u8>| match std::str::from_utf8(part) {
            Ok(text) => Name::from_text(text),
            Err(_) => Name::from(part.clone()),
        };
        let [target, db, stream, group] = parts else { return None };
        Some(Self { target: name(target), db: name(db), stream: name(stream), group: name(group) })
    }
}

/// Returns true if the group exists, or if the target was not read and the group may exist.
pub fn may_exist(model: &PageModel, path: &GroupPath) -> bool {
    let target = model.target(&path.target, &path.db);
    target.is_some_and(|target| {
        target.snapshot.report.is_none() || GroupRow::find(target, &path.stream, &path.group).is_some()
    })
}

/// Renders the page of a group.
pub fn render(model: &PageModel, path: &GroupPath) -> String {
    let target = model.target(&path.target, &path.db);
    let row = target.and_then(|target| GroupRow::find(target, &path.stream, &path.group));
    let content = match (target, row) {
        (_, Some(row)) => group_page(model, &row),
        (Some(target), None) if target.snapshot.report.is_none() => not_read(model, target, path),
        _ => not_found(path),
    };
    let title = format!("{} of {}", label::plain(&path.group.text()), label::plain(&path.stream.text()));
    let layout = PageLayout { title: &title, root: ROOT, interval: model.interval };
    layout.around(&content).into_string()
}

fn not_found(path: &GroupPath) -> Markup {
    html! {
        h1 { "There is no such group" }
        p {
            "The last poll found no group " strong { (label::long(&path.group.text())) } " of the stream "
            strong { (label::long(&path.stream.text())) } " on the target "
            strong { (label::long(&path.target.text())) } ", " (label::long(&path.db.text())) ". It may have been destroyed, or it is not selected by the configuration."
        }
        p { a href=(ROOT) { "All groups" } }
    }
}

/// Renders the page if the target was not read, so that the group may exist.
fn not_read(model: &PageModel, target: &TargetModel, path: &GroupPath) -> Markup {
    html! {
        div #group data-live {
            (crumbs(target))
            h1 { (label::long(&path.group.text())) }
            p.lead { "a consumer group of the stream " strong { (label::long(&path.stream.text())) } }
            p.callout {
                "Nothing is known of this group at present, because the target could not be read"
                @if let Some(at) = target.snapshot.last_read { " since " (ago(at, model.now)) }
                @if let Some(error) = &target.snapshot.error { ": " (label::long(error)) }
                "."
            }
        }
    }
}

fn group_page(model: &PageModel, row: &GroupRow<'_>) -> Markup {
    let status = row.status();
    let (name, key) = (row.group.name.text(), row.stream.key.text());
    let samples = row.samples();
    html! {
        div #group data-live {
            (crumbs(row.target))
            h1 { (label::long(&name)) @for status in row.statuses() { " " (status_badge(status)) } }
            p.lead {
                "a consumer group of the stream " strong { (label::long(&key)) }
                @if let Some(since) = row.since(model.now) { ", " (status_name(status)) " " (since) }
            }
            @if let Some(all) = label::rest(&name) { details #whole-name { summary { "The whole name" } (all) } }
            @if let Some(all) = label::rest(&key) { details #whole-key { summary { "The whole key" } (all) } }
            (age(model, row.target))
            @if let Some(recreation) = row.group.values.as_ref().and_then(|values| values.recreation) {
                (recreated(model, recreation))
            }
        }
        @if row.group.values.is_some() || samples.iter().any(|sample| sample.values.is_some()) {
            section #history data-live {
                h2 { "Lately" }
                div.charts { (chart::of_lag(&samples)) (chart::of_pending(&samples)) }
            }
        }
        (what_to_try(row))
        @if let Some(values) = &row.group.values {
            section #numbers data-live { h2 { "Numbers" } (details::of_group(values)) }
            (consumers(row, values))
        }
        (alerts(model, row))
        section #stream data-live {
            h2 { "The stream" }
            @match &row.stream.values {
                Some(values) => {
                    (details::of_stream(values, model.now))
                    @if let Some(trim) = &values.safe_trim { (safe_trim(model, row, trim)) }
                }
                None => { p { "Nothing is known of it, because it could not be read in the last poll." } }
            }
        }
    }
}

fn crumbs(target: &TargetModel) -> Markup {
    html! {
        nav aria-label="Path" {
            a href=(ROOT) { "All groups" } " / " (label::short(&target.snapshot.labels.name))
            @if target.snapshot.labels.db != "db0" { " " (target.snapshot.labels.db) }
        }
    }
}

/// Renders the age of the values, and the error that keeps them from being newer.
fn age(model: &PageModel, target: &TargetModel) -> Markup {
    let snapshot = &target.snapshot;
    let read = snapshot.last_read.map(|at| ago(at, model.now));
    html! {
        @if !snapshot.is_up || snapshot.error.is_some() {
            p.callout {
                "The target could not be read in the last poll"
                @if let Some(error) = &snapshot.error { ": " (label::long(error)) }
                ". " @if let Some(read) = read { "What is shown was read " (read) "." }
            }
        } @else if let Some(read) = read {
            p.dim { "Read " (read) }
        }
    }
}

fn recreated(model: &PageModel, recreation: Recreation) -> Markup {
    html! {
        p.callout {
            "It was destroyed and created again, as was seen " (ago(recreation.at, model.now)) ", "
            @match recreation.position {
                NewPosition::FurtherBack => "further back: entries are delivered again.",
                NewPosition::Same => "where it was.",
                NewPosition::Ahead => "ahead of where it was: what it was not delivered in between is skipped.",
                NewPosition::OtherStream => "with its stream.",
            }
        }
    }
}

/// Renders what holds the stream, and the command that trims the rest.
fn safe_trim(model: &PageModel, row: &GroupRow<'_>, trim: &SafeTrim) -> Markup {
    let (key, min_id) = (row.stream.key.as_bytes(), trim.min_id.to_string());
    let arguments = [b"XTRIM", key, b"MINID", b"~", min_id.as_bytes()];
    html! {
        div #held {
            p {
                @match &trim.holder {
                    Some(StreamHolder { group, since, held_for }) => {
                        "Of all its groups, " strong { (label::short(&group.text())) }
                        @match held_for {
                            HeldFor::Delivery => " needs the oldest entry: it was not delivered that yet",
                            HeldFor::Acknowledgement => " needs the oldest entry: it has not acknowledged that yet",
                        }
                        ". It has been the one " (lasting(*since, model.now)) "."
                    }
                    None => "No group needs any of its entries.",
                }
                @if trim.entries != Some(0) {
                    " Below that, "
                    @match trim.entries {
                        Some(entries) => { strong { (count(entries)) } " entries" }
                        None => "entries (being counted)",
                    }
                    " were delivered to every group and acknowledged, as of this reading, and can be trimmed. Readers without a group are not seen."
                }
            }
            @if trim.entries != Some(0) {
                p { strong.writes { "This changes data." } }
                pre tabindex="0" { code { (redis_cli::line(&row.target.redis_cli, &arguments)) } }
            }
        }
    }
}

fn what_to_try(row: &GroupRow<'_>) -> Markup {
    let line = |words: &'static str| {
        let word = |word: &'static str| match word {
            "{stream}" => row.stream.key.as_bytes(),
            "{group}" => row.group.name.as_bytes(),
            word => word.as_bytes(),
        };
        let arguments: Vec<_> = words.split(' ').map(word).collect();
        redis_cli::line(&row.target.redis_cli, &arguments)
    };
    let several = row.statuses().count() > 1;
    html! {
        section #advice data-live {
            h2 { "What it means, and what to try" }
            @for (status, advice) in row.statuses().map(|status| (status, advice::on(status))) {
                p { @if several { (status_badge(status)) " " } (advice.meaning) }
                ol.steps {
                    @for step in advice.steps {
                        li {
                            (step.text)
                            @if let Some(command) = &step.command {
                                @if command.effect == CommandEffect::Writes { " " strong.writes { "This changes data." } }
                                pre tabindex="0" { code { (line(command.words)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn consumers(row: &GroupRow<'_>, values: &GroupValues) -> Markup {
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

fn alerts(model: &PageModel, row: &GroupRow<'_>) -> Markup {
    let alerts: Vec<_> = row.target.active.about(&row.stream.key, &row.group.name).collect();
    html! {
        section #alerts data-live {
            h2 { "Alerts" }
            @if alerts.is_empty() { p.dim { "Nothing fires or is pending for it, its stream or its target." } }
            @else { (alert_list::list(ROOT, &alerts, model.now)) }
        }
    }
}
