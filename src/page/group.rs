//! The page of one group: what is wrong in one sentence, the numbers for it, charts, consumers, pending entries, events and
//! alerts, and what to try.

use std::time::Duration;

use maud::{Markup, html};

use crate::diagnosis::{self, Diagnosis, GonePending, WorstPending, worst_first, worst_pending};
use crate::format::redis_cli;
use crate::format::severity::Severity;
use crate::format::units::{ago, clock, count, span};
use crate::page::advice::{self, CommandEffect};
use crate::page::events::{self, Event};
use crate::page::group::consumers::LastEntry;
use crate::page::history::GroupSample;
use crate::page::layout::{PageLayout, event_sign, old_badge, severity_class, status_badge, unknown};
use crate::page::model::{GroupRow, PageModel, TargetModel, status_name};
use crate::page::{alert_list, chart, held, label, links};
use redis_stream_core::name::Name;
use redis_stream_lag::report::{CensusView, GroupView, NewPosition, Recreation, Status};

mod consumers;
pub(super) mod details;
mod strip;

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
        let [target, db, stream, group] = parts else { return None };
        let [target, db, stream, group] = [target, db, stream, group].map(|part| label::of_path(part));
        Some(Self { target, db, stream, group })
    }
}

/// Returns true if the group exists, or if the target was not read and the group may exist.
pub fn may_exist(model: &PageModel, path: &GroupPath) -> bool {
    let target = model.target(&path.target, &path.db);
    target.is_some_and(|target| {
        target.report().is_none() || GroupRow::find(target, &path.stream, &path.group).is_some()
    })
}

/// Renders the page of a group.
pub fn render(model: &PageModel, path: &GroupPath) -> String {
    let target = model.target(&path.target, &path.db);
    let row = target.and_then(|target| GroupRow::find(target, &path.stream, &path.group));
    let content = match (target, row) {
        (_, Some(row)) => group_page(model, &row),
        (Some(target), None) if target.report().is_none() => not_read(model, target, path),
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
            (links::crumbs(ROOT, target))
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
    let (name, key) = (row.group.name.text(), row.stream.key.text());
    let samples = row.samples(chart::LARGE_SAMPLES);
    let day = row.day();
    let alerts = row.target.active.about(row.stream.name_in_series(), Some(&row.group.name));
    let read_at = row.target.snapshot.last_read.unwrap_or(model.now);
    let logged = row.target.events.about(&row.stream.key, &row.group.name);
    let events = events::of_group(row.view(), read_at, &alerts, &samples, logged);
    html! {
        div #group data-live class=[row.target.is_old().then_some("old")] {
            (links::crumbs(ROOT, row.target))
            h1 {
                (label::long(&name))
                @for status in row.statuses() { " " @if row.target.is_old() { (old_badge(status)) } @else { (status_badge(status)) } }
            }
            p.lead {
                "a consumer group of the stream "
                @match row.stream_path() {
                    Some(path) => { a href={ (ROOT) (path) } { strong { (label::long(&key)) } } }
                    None => { strong { (label::long(&key)) } }
                }
                @if let Some(at) = row.target.old_since() { ", as of " (clock(at, model.now)) }
                @else if let Some(since) = row.since(model.now) { ", " (status_name(row.status())) " " (since) }
            }
            (links::of_page(model, row.target, row.stream.name_in_series(), Some(&row.group.name)))
            @if let Some(all) = label::rest(&name) { details #whole-name { summary { "The whole name" } (all) } }
            @if let Some(all) = label::rest(&key) { details #whole-key { summary { "The whole key" } (all) } }
            (diagnoses(row, read_at))
            (age(model, row.target))
            @if let Some(recreation) = row.group.values.as_ref().and_then(|values| values.seldom.recreation) {
                (recreated(model, recreation))
            }
            @if let Some(values) = row.view() { (strip::of_group(values)) }
        }
        @if row.group.values.is_some() || samples.iter().any(|sample| sample.values.is_some()) {
            section #history data-live { h2 { (history_title(&samples)) } (chart::of_group(&samples, &events)) }
        }
        @if duration(&day) > MORE_THAN_AN_HOUR {
            section #day data-live {
                details #whole-day {
                    summary { h2 { (history_title(&day)) } }
                    p.dim { "Of each quarter of an hour, the poll with the largest lag." }
                    (chart::of_group(&day, &events))
                }
            }
        }
        @if let Some(values) = row.view() {
            (consumers(row, values))
            (pending(model, values, read_at))
        }
        (event_list(model, &events))
        (alert_list::section(model, ROOT, &alerts))
        (what_to_try(row, read_at))
        @if let Some(values) = row.view() {
            section #numbers data-live { h2 { "All numbers" } (details::of_group(values)) }
        }
        section #stream data-live {
            h2 { "The stream" }
            @match &row.stream.values {
                Some(values) => {
                    (details::of_stream(values, model.now))
                    @if let Some(trim) = &values.safe_trim { (held::held(model, row.target, &row.stream.key, trim)) }
                }
                None => { p { "Nothing is known of it, because it could not be read in the last poll." } }
            }
        }
    }
}

/// Renders the diagnosis of the worst condition, and below it those of the others.
fn diagnoses(row: &GroupRow<'_>, read_at: Duration) -> Markup {
    let of = |status: Option<Status>| match (row.view(), status) {
        (Some(values), Some(status)) => diagnosis::of_status(status, values, read_at),
        (values, _) => diagnosis::of_group(values, read_at),
    };
    let class = |status| if row.target.is_old() { Severity::Unknown } else { Severity::of(status) };
    html! {
        @for (number, status) in row.shown_statuses().enumerate() {
            @let Diagnosis { sentence, advice } = of(status);
            p class={ "diagnosis " (severity_class(class(status))) } {
                @if number == 0 { strong { (label::whole(&sentence)) "." } } @else { (label::whole(&sentence)) "." }
                @if !advice.is_empty() { " " a href="#advice" { (advice) } "." }
            }
        }
    }
}

/// The history above which the day has a chart of its own.
const MORE_THAN_AN_HOUR: Duration = Duration::from_secs(3_900);

fn duration(samples: &[GroupSample]) -> Duration {
    let ends = samples.first().zip(samples.last());
    ends.map_or(Duration::ZERO, |(first, last)| last.at.saturating_sub(first.at))
}

fn history_title(samples: &[GroupSample]) -> String {
    match duration(samples) {
        Duration::ZERO => "History".to_owned(),
        time => format!("Last {}", span(time)),
    }
}

/// Pending entries that are listed.
const WORST: usize = 20;

/// Renders the pending entries that need a look first: the oldest one, and those that stand out in the last census.
fn pending(model: &PageModel, values: GroupView<'_>, read_at: Duration) -> Markup {
    let census = values.pending_census();
    let worst: Vec<_> = worst_first(values, read_at).into_iter().take(WORST).collect();
    html! {
        @if values.messages_pending > 0 {
            section #pending data-live {
                h2 { "Worst pending entries" }
                @if worst.is_empty() {
                    p { "Not known: the last poll did not find out." }
                } @else {
                    p.dim {
                        @match census {
                            Some(shown) => {
                                "The oldest of " (count(values.messages_pending)) ", and those delivered most often, or not for the longest time, of "
                                (count(shown.census.entries)) " that were read " (ago(model.now.saturating_sub(shown.age), model.now)) "."
                            }
                            None => { "The oldest of " (count(values.messages_pending)) "." }
                        }
                    }
                    (worst_table(model, &worst, read_at))
                }
                @if let Some(shown) = census.filter(|shown| !shown.census.consumers.is_empty()) {
                    (holdings_table(shown))
                }
            }
        }
    }
}

fn worst_table(model: &PageModel, worst: &[WorstPending<'_>], read_at: Duration) -> Markup {
    let moment = |age: Duration| {
        let at = read_at.saturating_sub(age);
        html! { (clock(at, model.now)) ", " (ago(at, model.now)) }
    };
    html! {
        table role="table" {
            caption.unseen { "Pending entries that stand out" }
            thead role="rowgroup" { tr role="row" {
                @for heading in ["Entry", "Consumer", "Deliveries", "Last delivered", "Added"] {
                    th scope="col" role="columnheader" { (heading) }
                }
            } }
            tbody role="rowgroup" {
                @for entry in worst {
                    tr role="row" {
                        th scope="row" role="rowheader" { (entry.id) }
                        td role="cell" data-label="Consumer" {
                            @match entry.consumer {
                                Some(consumer) => (label::short(&consumer.text())),
                                None => span.dim { "none: it was given back" },
                            }
                        }
                        td.number role="cell" data-label="Deliveries" {
                            @match entry.deliveries {
                                Some(deliveries) => (count(deliveries)),
                                None => (unknown("XNACK FATAL marked it as failed, and replaced the number")),
                            }
                        }
                        td role="cell" data-label="Last delivered" {
                            @match entry.idle {
                                Some(idle) => (moment(idle)),
                                None => (unknown("it was given back, and has no idle time")),
                            }
                        }
                        td role="cell" data-label="Added" {
                            @match entry.age {
                                Some(age) => (moment(age)),
                                None => (unknown("the ID is not a time, or one in the future")),
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Renders the events of a group or a stream.
pub(super) fn event_list(model: &PageModel, events: &[Event]) -> Markup {
    html! {
        section #events data-live {
            h2 { "Events" }
            @if events.is_empty() { p.dim { "None is known." } }
            @else {
                ul.events {
                    @for event in events {
                        li {
                            span.time { (clock(event.at, model.now)) } " " (event_sign(event.severity)) " "
                            (label::long(&event.text)) " " span.dim { (ago(event.at, model.now)) }
                        }
                    }
                }
            }
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
            p.dim { "Updated " (read) }
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
                NewPosition::Ahead => "ahead of where it was: the entries in between are skipped.",
                NewPosition::OtherStream => "with its stream.",
            }
        }
    }
}

fn what_to_try(row: &GroupRow<'_>, read_at: Duration) -> Markup {
    let worst = row.view().and_then(|values| worst_pending(values, read_at));
    let entry = worst.map(|entry| entry.id.to_string());
    let pending = row.view().map_or(GonePending::None, GonePending::of);
    let gone = row.view().and_then(diagnosis::oldest_gone).map(|id| id.to_string());
    let line = |words: &'static str| {
        let word = |word: &'static str| match word {
            "{stream}" => Some(row.stream.key.as_bytes()),
            "{group}" => Some(row.group.name.as_bytes()),
            "{entry}" => entry.as_deref().map(str::as_bytes),
            "{gone}" => gone.as_deref().map(str::as_bytes),
            word => Some(word.as_bytes()),
        };
        let arguments: Option<Vec<_>> = words.split(' ').map(word).collect();
        arguments.map(|arguments| redis_cli::line(&row.target.snapshot.redis_cli, &arguments))
    };
    let several = row.statuses().count() > 1;
    html! {
        section #advice data-live {
            h2 { "What to try" }
            @for (status, advice) in row.statuses().map(|status| (status, advice::on(status, pending))) {
                p { @if several { (status_badge(status)) " " } (advice.meaning) }
                ol.steps {
                    @for step in advice.steps {
                        @match step.command.as_ref().map(|command| (command, line(command.words))) {
                            None => li { (step.text) },
                            Some((command, Some(line))) => li {
                                (step.text)
                                @if command.effect == CommandEffect::Writes { " " strong.writes { "This changes data." } }
                                pre tabindex="0" { code { (line) } }
                            },
                            // The entry that it is about is not known.
                            Some((_, None)) => {}
                        }
                    }
                }
            }
        }
    }
}

fn holdings_table(shown: CensusView<'_>) -> Markup {
    html! {
        table role="table" {
            caption.unseen { "Pending entries by consumer" }
            thead role="rowgroup" { tr role="row" {
                th scope="col" role="columnheader" { "Consumer" }
                th.number scope="col" role="columnheader" { "Pending" }
                th.number scope="col" role="columnheader" title="delivered more than once" { "Delivered again" }
                th.number scope="col" role="columnheader" title="of any of them, since its last delivery" { "Longest idle time" }
            } }
            tbody role="rowgroup" {
                @for held in &shown.census.consumers {
                    tr role="row" {
                        th scope="row" role="rowheader" { (label::short(&held.name.text())) }
                        td.number role="cell" data-label="Pending" { (count(held.entries)) }
                        td.number role="cell" data-label="Delivered again" { (count(held.redelivered)) }
                        td.number role="cell" data-label="Longest idle time" { (span(shown.max_idle_of(held))) }
                    }
                }
            }
        }
    }
}

fn consumers(row: &GroupRow<'_>, values: GroupView<'_>) -> Markup {
    html! {
        section #consumers data-live {
            h2 { "Consumers" }
            @match row.stream.consumers(row.group).map(Iterator::collect::<Vec<_>>) {
                None if values.consumers == 0 => { p { "There are none." } }
                None => { p { "Not known, because " (NOT_READ) "." } }
                Some(consumers) if consumers.is_empty() => { p { "There are none." } }
                Some(consumers) => {
                    @let report = row.target.report();
                    (consumers::table(&consumers, LastEntry::of(report, values, &consumers)))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::alert::rule::TargetLabels;
    use crate::api::groups::TargetSnapshot;
    use crate::page::test_support::{READ_AT, group, report, stream, target, values};
    use redis_stream_core::id::StreamId;
    use redis_stream_lag::report::{
        ConditionSet, ConsumerReport, GroupReport, GroupStatus, GroupValues, HistoryCoverage, Lag,
        OldestPending,
    };

    fn page_of(group: GroupReport) -> String {
        let path = GroupPath {
            target: Name::from("shop"),
            db: Name::from("db0"),
            stream: Name::from("orders"),
            group: group.name.clone(),
        };
        let labels =
            TargetLabels { name: "shop".to_owned(), db: "db0".to_owned(), configured: BTreeMap::new() };
        let snapshot = TargetSnapshot {
            labels: Arc::new(labels),
            is_up: true,
            last_read: Some(Duration::from_secs(1_700_000_000)),
            error: None,
            report: Some(Arc::new(report(vec![stream("orders", vec![group])]))),
            redis_cli: Arc::default(),
        };
        let now = Duration::from_secs(1_700_000_005);
        render(
            &PageModel {
                targets: vec![target(snapshot)],
                now,
                interval: Duration::from_secs(10),
                links: Arc::default(),
            },
            &path,
        )
    }

    fn with(conditions: &[Status]) -> GroupValues {
        let conditions: ConditionSet = conditions.iter().copied().collect();
        let status = GroupStatus { conditions, coverage: HistoryCoverage::Complete, since: None };
        GroupValues { status, lag: Lag::Exact(4_258), consumers: 1, ..values() }
    }

    fn blocked() -> GroupReport {
        let oldest = OldestPending::Entry {
            id: StreamId::new(1_699_999_000_000, 7),
            consumer: Some(Name::from("<i>fraud-1")),
            idle: Some(Duration::from_secs(3).into()),
            deliveries: 217,
        };
        let values = GroupValues {
            messages_pending: 2,
            oldest_pending: Some(oldest),
            ..with(&[Status::Stalled, Status::Lagging, Status::Losing])
        };
        let (name, idle) = (Name::from("<i>fraud-1"), Duration::from_secs(3));
        let consumer = ConsumerReport::new(name, 2, idle, Some(idle), READ_AT);
        group("fraud", values).with_consumers(Some(vec![consumer]))
    }

    #[test]
    fn the_page_begins_with_what_is_wrong_and_the_evidence_follows() {
        let html = page_of(blocked());
        let parts = [
            "Losing entries: they are removed before the group gets them",
            "Blocked: entry 1699999000000-7 has been delivered 217 times",
            "last to &lt;i&gt;fraud-1 3.0 s ago; 4,258 entries wait behind it",
            "<dl class=\"strip\">",
            "id=\"history\"",
            "id=\"consumers\"",
            "id=\"pending\"",
            "The oldest of 2.",
            "id=\"events\"",
            "id=\"alerts\"",
            "id=\"advice\"",
            "XRANGE orders 1699999000000-7 1699999000000-7",
            "id=\"numbers\"",
        ];
        let places: Vec<_> =
            parts.iter().map(|part| html.find(part).unwrap_or_else(|| panic!("{part}: {html}"))).collect();
        assert!(places.is_sorted(), "{places:?}: {html}");
        assert!(!html.contains("Too slow"), "that it reads nothing is the reason: {html}");
        assert!(!html.contains("<i>"), "{html}");
    }

    #[test]
    fn what_is_not_known_or_not_there_is_no_fact() {
        let unknown = page_of(group("g", GroupValues { messages_pending: 1, ..with(&[Status::Stuck]) }));
        assert!(unknown.contains("Stuck: a pending entry has not been acknowledged"), "{unknown}");
        assert!(unknown.contains("Not known: the last poll did not find out."), "{unknown}");
        assert!(
            unknown.contains("XPENDING orders g - + 10") && !unknown.contains("XRANGE orders"),
            "{unknown}"
        );
        let missing = page_of(GroupReport::missing(Name::from("wanted")));
        assert!(missing.contains("Missing: the stream has no such group"), "{missing}");
        assert!(!missing.contains("class=\"strip\"") && !missing.contains("id=\"pending\""), "{missing}");
        let calm = page_of(group("calm", values()));
        assert!(calm.contains("class=\"diagnosis good\"") && !calm.contains("id=\"pending\""), "{calm}");
    }
}
