//! The page of a stream: all its groups on one axis and in one table, what holds it, and how far back it reaches.

use maud::{Markup, html};

use crate::format::units::{ago, clock, count, counted, rate_number};
use crate::page::cells::{numbers, status_cell};
use crate::page::chart::{self, Series};
use crate::page::events::{self, Event};
use crate::page::group::{details, event_list};
use crate::page::layout::PageLayout;
use crate::page::model::{GroupRow, PageModel, TargetModel};
use crate::page::{alert_list, held, label, links};
use redis_stream_core::name::Name;
use redis_stream_lag::report::{EntryRate, ReportedStream, StreamReport};

/// The relative path from the page of a stream to the first page.
const ROOT: &str = "../../../";
/// Groups whose lags are drawn.
const DRAWN: usize = 6;
/// Groups that are listed.
const LISTED: usize = 100;

/// The names of a stream in the URL of its page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamPath {
    /// Name of the target.
    pub target: Name,
    /// `db0`, `db1` and so on.
    pub db: Name,
    /// Key of the stream.
    pub stream: Name,
}

impl StreamPath {
    /// Reads the three parts of a path as [`link`](crate::alert::link) writes them; bytes that are not UTF-8 are kept.
    pub fn read(parts: &[Vec<u8>]) -> Option<Self> {
        let [target, db, stream] = parts else { return None };
        let [target, db, stream] = [target, db, stream].map(|part| label::of_path(part));
        Some(Self { target, db, stream })
    }
}

/// Returns true if the stream exists, or if the target was not read and the stream may exist.
pub fn may_exist(model: &PageModel, path: &StreamPath) -> bool {
    let target = model.target(&path.target, &path.db);
    target.is_some_and(|target| target.report().is_none() || target.stream(&path.stream).is_some())
}

/// Renders the page of a stream.
pub fn render(model: &PageModel, path: &StreamPath) -> String {
    let target = model.target(&path.target, &path.db);
    let stream = target.and_then(|target| Some((target, target.stream(&path.stream)?)));
    let content = match (target, stream) {
        (_, Some((target, stream))) => stream_page(model, target, stream),
        (Some(target), None) if target.report().is_none() => not_read(target, path),
        _ => not_found(path),
    };
    let title = label::plain(&path.stream.text());
    PageLayout { title: &title, root: ROOT, interval: model.interval }.around(&content).into_string()
}

fn not_found(path: &StreamPath) -> Markup {
    html! {
        h1 { "There is no such stream" }
        p {
            "The last poll found no stream " strong { (label::long(&path.stream.text())) } " on the target "
            strong { (label::long(&path.target.text())) } ", " (label::long(&path.db.text())) ". It may have been deleted, or it is not selected by the configuration."
        }
        p { a href=(ROOT) { "All groups" } }
    }
}

fn not_read(target: &TargetModel, path: &StreamPath) -> Markup {
    html! {
        div #stream data-live {
            (links::crumbs(ROOT, target))
            h1 { (label::long(&path.stream.text())) }
            p.callout {
                "Nothing is known of this stream, because the target could not be read yet"
                @if let Some(error) = &target.snapshot.error { ": " (label::long(error)) }
                "."
            }
        }
    }
}

fn stream_page(model: &PageModel, target: &TargetModel, stream: &ReportedStream) -> Markup {
    let mut rows = GroupRow::all_of(target, &stream.key);
    rows.sort_by(|one, other| {
        one.group.badness().cmp(&other.group.badness()).then_with(|| one.name().cmp(&other.name()))
    });
    let alerts = target.active.about(stream.name_in_series(), None);
    let events = events::of_stream(&target.events, &stream.key);
    html! {
        div #stream data-live class=[target.is_old().then_some("old")] {
            (links::crumbs(ROOT, target))
            h1 { (label::long(&stream.key.text())) }
            p.lead {
                "a stream with " (counted(rows.len(), "group", "groups"))
                @if let Some(rate) = added_to(stream) { ", " (rate_number(rate)) " entries added per second" }
                @if let Some(at) = target.old_since() { ", as of " (clock(at, model.now)) }
                @else if let Some(at) = target.snapshot.last_read { ", updated " (ago(at, model.now)) }
            }
            @if let Some(all) = label::rest(&stream.key.text()) { details #whole-key { summary { "The whole key" } (all) } }
            (links::of_page(model, target, stream.name_in_series(), None))
        }
        @if !rows.is_empty() { (lags(&rows, &events)) (groups(model, &rows)) }
        section #extent data-live {
            h2 { "The stream" }
            @match &stream.values {
                Some(values) => {
                    (details::of_stream(values, model.now))
                    @if let Some(trim) = &values.safe_trim { (held::held(model, target, &stream.key, trim)) }
                    @if rows.is_empty() && values.groups == 0 {
                        p { "No group reads it. Readers without a group (XREAD, XRANGE) are not seen." }
                    }
                }
                None if stream.refused => { p { "It could not be read: access is denied, or its node does not answer." } }
                None => { p { "There is no such key, or it is not a stream." } }
            }
        }
        (event_list(model, &events))
        (alert_list::section(model, ROOT, &alerts))
    }
}

/// Returns the rate at which entries are added to a stream, as its groups know it.
pub(super) fn added_to(stream: &StreamReport) -> Option<f64> {
    let mut rates = stream.groups.iter().filter_map(|group| group.values.as_ref()?.added_rate);
    rates.next().map(EntryRate::per_second)
}

fn lags(rows: &[GroupRow<'_>], events: &[Event]) -> Markup {
    let series = |row: &GroupRow<'_>| Series {
        name: row.group.name.text().into_owned().into(),
        samples: row.samples(chart::LARGE_SAMPLES),
    };
    let series: Vec<_> = rows.iter().take(DRAWN).map(series).collect();
    html! {
        section #history data-live {
            h2 { "Lag" }
            (chart::of_stream(&series, events))
            @if rows.len() > DRAWN { p.dim { "The " (DRAWN) " groups that need a look first, of " (count(rows.len() as u64)) "." } }
        }
    }
}

fn groups(model: &PageModel, rows: &[GroupRow<'_>]) -> Markup {
    html! {
        section #groups data-live {
            h2 { "Groups" }
            table.groups.of-stream role="table" {
                caption.unseen { "Groups of the stream" }
                thead role="rowgroup" { tr role="row" {
                    @for heading in ["Status", "Group", "Lag", "Behind", "In", "Out", "Drained in", "Pending", "Consumers", "Trend (1 h)"] {
                        th scope="col" role="columnheader" { (heading) }
                    }
                } }
                tbody role="rowgroup" { @for row in rows.iter().take(LISTED) { (group_row(model, row)) } }
            }
            @if rows.len() > LISTED { p.dim { "and " (count((rows.len() - LISTED) as u64)) " more" } }
        }
    }
}

fn group_row(model: &PageModel, row: &GroupRow<'_>) -> Markup {
    let name = row.group.name.text();
    html! {
        tr role="row" class=[row.target.is_old().then_some("old")] {
            td role="cell" data-label="Status" { (status_cell(row, model.now)) }
            th scope="row" role="rowheader" {
                @match row.path() {
                    Some(path) => { a href={ (ROOT) (path) } { (label::short(&name)) } }
                    None => { (label::short(&name)) }
                }
            }
            @match row.view() {
                Some(values) => { (numbers(values)) },
                None => { td.dim role="cell" colspan="7" data-label="" { "the stream has no such group" } }
            }
            td role="cell" data-label="Trend (1 h)" { (chart::small(&row.samples(chart::SMALL_SAMPLES))) }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::alert::rule::TargetLabels;
    use crate::alert::web_link::WebLink;
    use crate::api::groups::TargetSnapshot;
    use crate::page::history::GroupHistory;
    use crate::page::test_support::{group, report, stream, target, values};
    use redis_stream_lag::report::{GroupValues, Lag, Report, Status};

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(1_700_000_000 + seconds)
    }

    fn reading(poll: u64) -> Report {
        let with =
            |lag, status: Status| GroupValues { lag: Lag::Exact(lag), status: status.into(), ..values() };
        let groups = (0..8).map(|n| {
            let values = if n == 5 { with(poll * 100, Status::Stalled) } else { with(n, Status::Ok) };
            group(format!("<g{n}>").as_str(), values)
        });
        report(vec![stream("<orders>", groups.collect()), stream("unread", Vec::new())])
    }

    fn model() -> PageModel {
        let (mut history, mut previous) = (GroupHistory::default(), None::<Report>);
        for poll in 0..5 {
            let report = reading(poll);
            history = history.after(s(poll * 10), &report, previous.as_ref());
            previous = Some(report);
        }
        let labels =
            TargetLabels { name: "shop".to_owned(), db: "db0".to_owned(), configured: BTreeMap::new() };
        let snapshot = TargetSnapshot {
            labels: Arc::new(labels),
            is_up: true,
            last_read: Some(s(40)),
            error: None,
            report: previous.map(Arc::new),
            redis_cli: Arc::default(),
        };
        let target = TargetModel { history: Arc::new(history), ..target(snapshot) };
        let links =
            [("Grafana", "https://g.example.com/{{stream}}"), ("Group", "https://g.example.com/{{group}}")];
        let links = links.map(|(name, url)| WebLink::new(name.to_owned(), url).unwrap());
        PageModel {
            targets: vec![target],
            now: s(41),
            interval: Duration::from_secs(10),
            links: links.into(),
        }
    }

    fn page(model: &PageModel, stream: &str) -> String {
        let path = StreamPath { target: "shop".into(), db: "db0".into(), stream: stream.into() };
        render(model, &path)
    }

    #[test]
    fn the_groups_of_a_stream_are_on_one_axis_the_worst_first() {
        let html = page(&model(), "<orders>");
        assert!(html.contains("Lag of each group: &lt;g5&gt; last 400, &lt;g7&gt; last 7"), "{html}");
        assert!(html.contains("class=\"line-5\"") && !html.contains("class=\"line-6\""), "{html}");
        assert!(html.contains("The 6 groups that need a look first, of 8."), "{html}");
        assert_eq!(html.matches("href=\"../../../groups/shop/db0/%3Corders%3E/%3Cg").count(), 8);
        assert!(html.contains("href=\"https://g.example.com/%3Corders%3E\""), "{html}");
        assert!(!html.contains("<orders>") && !html.contains(">Group</a>"), "{html}");
    }

    #[test]
    fn a_stream_without_groups_says_so_and_one_that_is_not_there_too() {
        assert!(page(&model(), "unread").contains("No group reads it."));
        let path =
            |stream: &str| StreamPath { target: "shop".into(), db: "db0".into(), stream: stream.into() };
        assert!(may_exist(&model(), &path("unread")) && !may_exist(&model(), &path("nothing")));
        assert!(page(&model(), "nothing").contains("There is no such stream"));
    }

    #[test]
    fn the_last_values_of_a_target_that_is_away_have_their_time() {
        let mut model = model();
        (model.targets[0].snapshot.report, model.targets[0].snapshot.is_up) = (None, false);
        let html = page(&model, "<orders>");
        assert!(html.contains("as of 22:14 UTC") && html.contains("class=\"old\""), "{html}");
        model.targets[0].old_report = None;
        assert!(page(&model, "<orders>").contains("the target could not be read yet"));
    }
}
