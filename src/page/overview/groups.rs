//! The table of groups: searched, sorted, and split into pages.

use maud::{Markup, html};

use crate::api::partial_sort::sorted_range;
use crate::format::units::{count, counted, per_second, span};
use crate::page::layout::{status_badge, unknown};
use crate::page::model::{GroupRow, PageModel, status_name};
use crate::page::overview::query::{
    ColumnContent, Direction, OverviewColumn, OverviewQuery, OverviewSort, StatusFilter,
};
use crate::page::{chart, label};
use crate::values::family::{Family, Number};
use crate::values::table::CONSUMERS;
use redis_stream_lag::report::{GroupView, Lag, Status};

/// Groups on one page.
const PAGE: usize = 50;

/// The groups that the query selects.
pub(super) struct GroupTable<'a> {
    model: &'a PageModel,
    query: &'a OverviewQuery,
    /// The groups of this page.
    rows: Vec<GroupRow<'a>>,
    /// Number of groups on all pages.
    found: usize,
    /// This page, from 0; the last one if the query asks for a later one.
    page: usize,
}

impl<'a> GroupTable<'a> {
    pub(super) fn of(model: &'a PageModel, query: &'a OverviewQuery) -> Self {
        let rows = query.select(model);
        let found = rows.len();
        let page = query.page.min(found.saturating_sub(1) / PAGE);
        let first = page * PAGE;
        let rows = sorted_range(rows, first..first + PAGE, |one, other| query.compare(one, other));
        Self { model, query, rows, found, page }
    }

    pub(super) fn section(&self) -> Markup {
        html! {
            section #groups {
                h2 { "Groups" }
                (self.form())
                div #groups-list data-live {
                    p.dim role="status" { (self.description()) }
                    @if self.found > 0 { (self.table()) (self.pager()) }
                }
            }
        }
    }

    /// Describes the rows that are shown.
    fn description(&self) -> String {
        let (first, last) = (self.page * PAGE + 1, self.page * PAGE + self.rows.len());
        match self.found {
            0 if self.model.targets.iter().any(|target| target.snapshot.report.is_none())
                && self.query.is_open() =>
            {
                "There is no group to show.".to_owned()
            }
            0 if self.query.is_open() => {
                "No consumer group was found. A new one is shown after the next poll.".to_owned()
            }
            0 => "No group is like this.".to_owned(),
            found if found == self.rows.len() => counted(found, "group", "groups"),
            found => {
                format!("{} to {} of {} groups", count(first as u64), count(last as u64), count(found as u64))
            }
        }
    }

    fn form(&self) -> Markup {
        let query = self.query;
        html! {
            form #filter method="get" action="./" role="search" {
                label { span { "Search" } input #q type="search" name="q" value=(query.search)
                    placeholder="group, stream or target" autocomplete="off"; }
                label { span { "Status" } select #status name="status" {
                    @for filter in StatusFilter::all() {
                        option value=(filter.name()) selected[filter == query.status] {
                            (match filter {
                                StatusFilter::Any => "any",
                                StatusFilter::Trouble => "with problems",
                                StatusFilter::One(status) => status_name(status),
                            })
                        }
                    }
                } }
                @if self.model.targets.len() > 1 {
                    label { span { "Target" } select #target name="target" {
                        option value="" { "all" }
                        @for target in &self.model.targets {
                            @let name = &target.snapshot.labels.name;
                            option value=(name) selected[query.target.as_ref() == Some(name)] { (label::plain(name)) }
                        }
                    } }
                }
                label { span { "Order" } select #sort name="sort" {
                    option value="" selected[query.sort == OverviewSort::Worst] { "worst first" }
                    @for column in OverviewColumn::ALL {
                        option value=(column.name)
                            selected[matches!(query.sort, OverviewSort::By(by, _) if by == column)] {
                            (column.heading())
                        }
                    }
                } }
                @if let OverviewSort::By(column, direction) = query.sort {
                    @if direction != column.direction() {
                        input type="hidden" name="order"
                            value=(if direction == Direction::Up { "asc" } else { "desc" });
                    }
                }
                button type="submit" { "Show" }
                @if !query.is_open() { a href="./#groups" { "Show all" } }
            }
        }
    }

    fn table(&self) -> Markup {
        html! {
            table.groups role="table" {
                caption.unseen { "Consumer groups" }
                thead role="rowgroup" { tr role="row" {
                    th scope="col" role="columnheader" { "Status" }
                    @for column in OverviewColumn::ALL { (self.heading(column)) }
                    th scope="col" role="columnheader" { "Trend (10 min)" }
                } }
                tbody role="rowgroup" { @for row in &self.rows { (self.row(row)) } }
            }
        }
    }

    fn heading(&self, column: OverviewColumn) -> Markup {
        let sort = self.query.sort;
        let present = match sort {
            OverviewSort::By(by, direction) if by == column => Some(direction),
            _ => None,
        };
        let (aria, sign) = match present {
            Some(Direction::Up) => (Some("ascending"), " \u{25b2}"),
            Some(Direction::Down) => (Some("descending"), " \u{25bc}"),
            None => (None, ""),
        };
        let link = OverviewQuery { sort: sort.after_click(column), page: 0, ..self.query.clone() }.link();
        html! {
            th scope="col" role="columnheader" aria-sort=[aria] {
                a #{ "by-" (column.name) } href={ "./" (link) "#groups" } {
                    (column.heading()) span aria-hidden="true" { (sign) }
                }
            }
        }
    }

    fn row(&self, row: &GroupRow<'_>) -> Markup {
        let status = row.status();
        let labels = &row.target.snapshot.labels;
        let name = row.group.name.text();
        html! {
            tr role="row" {
                @let since = row.since(self.model.now);
                td role="cell" data-label="Status" title=[since.as_ref().map(|since| format!("{} {since}", status_name(status)))] {
                    @for status in row.statuses() { (status_badge(status)) " " }
                    @if status == Some(Status::Unknown) { @if let Some(since) = &since { span.dim { (since) } } }
                }
                th scope="row" role="rowheader" {
                    @match row.path() {
                        Some(path) => { a href=(path) { (label::short(&name)) } }
                        None => { (label::short(&name)) }
                    }
                }
                td role="cell" data-label="Stream" {
                    (label::short(&row.stream.key.text()))
                    @if self.model.targets.len() > 1 { " " span.dim { "on " (label::short(&labels.name)) } }
                    @if labels.db != "db0" { " " span.dim { (labels.db) } }
                }
                @match row.view() {
                    Some(values) => { @for column in OverviewColumn::ALL { (cell(column, values)) } },
                    None => { td.dim role="cell" colspan="5" data-label="" { "the stream has no such group" } }
                }
                @let samples = row.samples();
                @if status.is_none() && samples.iter().all(|sample| sample.values.is_none()) {
                    td role="cell" data-label="" {}
                } @else {
                    td role="cell" data-label="Trend (10 min)" { (chart::small(&samples)) }
                }
            }
        }
    }

    fn pager(&self) -> Markup {
        let last = (self.found - 1) / PAGE;
        let link = |page: usize| format!("./{}#groups", OverviewQuery { page, ..self.query.clone() }.link());
        html! {
            @if last > 0 {
                nav.pager aria-label="Pages of groups" {
                    @if self.page > 0 {
                        a #first-page href=(link(0)) { "First" }
                        a #previous-page rel="prev" href=(link(self.page - 1)) { "Previous" }
                    }
                    span aria-current="page" { "Page " (self.page + 1) " of " (last + 1) }
                    @if self.page < last { a #next-page rel="next" href=(link(self.page + 1)) { "Next" } }
                }
            }
        }
    }
}

/// Returns the cell of a number; the cells of names are not made of values.
fn cell(column: OverviewColumn, values: GroupView<'_>) -> Markup {
    let content = match column.content {
        ColumnContent::Name(..) => return html! {},
        ColumnContent::Lag => lag(values.lag),
        ColumnContent::Value(family) => value(family, values),
    };
    html! { td.number role="cell" data-label=(column.heading()) { (content) } }
}

fn value(family: &Family, values: GroupView<'_>) -> Markup {
    if family.counts_nothing_in(values) {
        return html! { span.dim { "none" } };
    }
    let is_zero = |text: &str| html! { span.dim { (text) } };
    match family.of_group_values(values).known() {
        // A group without consumers is worth a look.
        Some(Number::Count(number)) if number > 0 || *family == CONSUMERS => html! { (count(number)) },
        Some(Number::Count(_)) => is_zero("0"),
        Some(Number::Seconds(time)) if time.is_zero() => is_zero("0 s"),
        Some(Number::Seconds(time)) => html! { (span(time)) },
        Some(Number::Ratio(ratio)) => html! { (format!("{:.0} %", ratio * 100.0)) },
        Some(Number::PerSecond(number)) => html! { (per_second(number)) },
        None => unknown(family.label.map_or("", |label| (label.why_unknown)(values.values()))),
    }
}

fn lag(lag: Lag) -> Markup {
    html! {
        @match lag {
            Lag::Exact(0) => { span.dim { "0" } }
            Lag::Exact(entries) => (count(entries)),
            Lag::Between { min, max } => {
                span title="being counted; these bounds are certain" { (count(min)) " to " (count(max)) }
            }
        }
    }
}
