//! The table of groups: searched, sorted, and one part of it at a time, however many there are.

use std::time::Duration;

use maud::{Markup, html};

use crate::api::partial_sort::in_order;
use crate::format::units::{count, counted, span};
use crate::page::frame::{Grade, status_name, status_of, unknown};
use crate::page::overview::query::{Column, Direction, Query, Sort, StatusFilter};
use crate::page::view::{Row, View};
use crate::page::{chart, label};
use redis_stream_lag::report::{GroupValues, Lag, OldestPending};

/// Groups on one page.
pub(super) const PAGE: usize = 50;

/// The groups that are asked for.
pub(super) struct Groups<'a> {
    view: &'a View,
    query: &'a Query,
    /// Those of this page.
    rows: Vec<Row<'a>>,
    /// How many there are on all pages.
    found: usize,
    /// This page, from 0; the last one where a later one is asked for.
    page: usize,
}

impl<'a> Groups<'a> {
    pub(super) fn of(view: &'a View, query: &'a Query) -> Self {
        let rows = query.select(view);
        let found = rows.len();
        let page = query.page.min(found.saturating_sub(1) / PAGE);
        let first = page * PAGE;
        let rows = in_order(rows, first..first + PAGE, |one, other| query.compare(one, other));
        Self { view, query, rows, found, page }
    }

    pub(super) fn section(&self) -> Markup {
        html! {
            section #groups {
                h2 { "Groups" }
                (self.form())
                div #groups-list data-live {
                    p.dim role="status" { (self.told()) }
                    @if self.found > 0 { (self.table()) (self.pager()) }
                }
            }
        }
    }

    /// What is shown, in words.
    fn told(&self) -> String {
        let (first, last) = (self.page * PAGE + 1, self.page * PAGE + self.rows.len());
        match self.found {
            0 if self.view.targets.iter().any(|target| target.seen.report.is_none())
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
                                StatusFilter::Trouble => "in trouble",
                                StatusFilter::One(status) => status_name(status),
                            })
                        }
                    }
                } }
                @if self.view.targets.len() > 1 {
                    label { span { "Target" } select #target name="target" {
                        option value="" { "all" }
                        @for target in &self.view.targets {
                            @let name = &target.seen.labels.name;
                            option value=(name) selected[query.target.as_ref() == Some(name)] { (label::plain(name)) }
                        }
                    } }
                }
                label { span { "Order" } select #sort name="sort" {
                    option value="" selected[query.sort == Sort::Worst] { "worst first" }
                    @for column in Column::ALL {
                        option value=(column.name())
                            selected[matches!(query.sort, Sort::By(by, _) if by == column)] {
                            (column.heading())
                        }
                    }
                } }
                @if let Sort::By(column, direction) = query.sort {
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
                    @for column in Column::ALL { (self.heading(column)) }
                    th scope="col" role="columnheader" { "Lag lately" }
                } }
                tbody role="rowgroup" { @for row in &self.rows { (self.row(row)) } }
            }
        }
    }

    fn heading(&self, column: Column) -> Markup {
        let sort = self.query.sort;
        let present = match sort {
            Sort::By(by, direction) if by == column => Some(direction),
            _ => None,
        };
        let (aria, sign) = match present {
            Some(Direction::Up) => (Some("ascending"), " \u{25b2}"),
            Some(Direction::Down) => (Some("descending"), " \u{25bc}"),
            None => (None, ""),
        };
        let link = Query { sort: sort.after_click(column), page: 0, ..self.query.clone() }.link();
        html! {
            th scope="col" role="columnheader" aria-sort=[aria] {
                a #{ "by-" (column.name()) } href={ "./" (link) "#groups" } {
                    (column.heading()) span aria-hidden="true" { (sign) }
                }
            }
        }
    }

    fn row(&self, row: &Row<'_>) -> Markup {
        let status = status_of(row.group);
        let labels = &row.target.seen.labels;
        let name = row.group.name.text();
        html! {
            tr role="row" {
                td role="cell" data-label="Status" { (Grade::of(status).badge(status_name(status))) }
                th scope="row" role="rowheader" {
                    @match row.path() {
                        Some(path) => { a href=(path) { (label::short(&name)) } }
                        None => { (label::short(&name)) }
                    }
                }
                td role="cell" data-label="Stream" {
                    (label::short(&row.stream.key.text()))
                    @if self.view.targets.len() > 1 { " " span.dim { "on " (label::short(&labels.name)) } }
                    @if labels.db != "db0" { " " span.dim { (labels.db) } }
                }
                @match &row.group.values {
                    Some(values) => (cells(values)),
                    None => { td.dim role="cell" colspan="5" data-label="" { "the stream has no such group" } }
                }
                @let moments = row.moments();
                @if status.is_none() && moments.iter().all(|moment| moment.point.is_none()) {
                    td role="cell" data-label="" {}
                } @else {
                    td role="cell" data-label="Lag lately" { (chart::small(&moments)) }
                }
            }
        }
    }

    fn pager(&self) -> Markup {
        let last = (self.found - 1) / PAGE;
        let link = |page: usize| format!("./{}#groups", Query { page, ..self.query.clone() }.link());
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

/// Lag, seconds behind, pending, oldest pending and consumers.
fn cells(values: &GroupValues) -> Markup {
    let time = |time: Option<Duration>, why: &str| {
        html! {
            @match time {
                Some(Duration::ZERO) => { span.dim { "0 s" } }
                Some(time) => (span(time)),
                None => (unknown(why)),
            }
        }
    };
    html! {
        td.number role="cell" data-label="Lag" { (lag(values.lag)) }
        td.number role="cell" data-label="Behind" {
            (time(values.lag_seconds, "the oldest entry that waits is not known yet, or its ID does not tell the time"))
        }
        td.number role="cell" data-label="Pending" { (quiet(values.messages_pending)) }
        td.number role="cell" data-label="Oldest pending" {
            @match values.oldest_pending {
                Some(OldestPending::Nothing) => { span.dim { "none" } }
                Some(OldestPending::Entry { age, .. }) => (time(age, "its ID does not tell the time")),
                None => (unknown("the last poll did not find out")),
            }
        }
        td.number role="cell" data-label="Consumers" { (count(values.consumers)) }
    }
}

/// A number that is nothing to look at if it is 0.
fn quiet(number: u64) -> Markup {
    html! {
        @if number == 0 { span.dim { "0" } } @else { (count(number)) }
    }
}

/// A lag: exact, or its certain bounds.
pub(super) fn lag(lag: Lag) -> Markup {
    html! {
        @match lag {
            Lag::Exact(entries) => (quiet(entries)),
            Lag::Between { min, max } => {
                span title="being counted; these bounds are certain" { (count(min)) " to " (count(max)) }
            }
        }
    }
}
