//! The table of groups: searched, sorted, and split into pages.

use maud::{Markup, html};

use crate::api::fold::{FoldedLine, Folding, folded};
use crate::api::partial_sort::sorted_range;
use crate::format::trend::Drained;
use crate::format::units::{count, counted, rate_number, span};
use crate::page::cells::{cell, drained_cell, drained_of, lag, number, numbers, status_cell, value};
use crate::page::layout::unknown;
use crate::page::model::{GroupRow, PageModel, status_name};
use crate::page::overview::query::{Direction, OverviewColumn, OverviewQuery, OverviewSort, StatusFilter};
use crate::page::{chart, label};
use crate::values::table::ADDED_PER_SECOND;
use redis_stream_core::name::Name;
use redis_stream_lag::report::{EntryRate, GroupValues};

/// The name of the column that is part of [`PENDING`].
const OLDEST: &str = "oldest";
const PENDING: &str = "pending";
/// Groups of a folded line that are named.
const NAMED: usize = 3;
/// Lines on one page, and groups of an open line.
const PAGE: usize = 50;

/// The groups that the query selects.
pub(super) struct GroupTable<'a> {
    model: &'a PageModel,
    query: &'a OverviewQuery,
    /// The lines of this page.
    lines: Vec<FoldedLine<GroupRow<'a>>>,
    /// Number of groups on all pages.
    found: usize,
    /// Number of lines on all pages.
    all_lines: usize,
    /// This page, from 0; the last one if the query asks for a later one.
    page: usize,
}

impl<'a> GroupTable<'a> {
    pub(super) fn of(model: &'a PageModel, query: &'a OverviewQuery) -> Self {
        let rows = query.select(model);
        let found = rows.len();
        let compare = |one: &GroupRow<'_>, other: &GroupRow<'_>| query.compare(one, other);
        let lines = match query.folding {
            Folding::ByStream => folded(rows, GroupRow::kind, compare),
            Folding::Off => rows.into_iter().map(FoldedLine::one).collect(),
        };
        let all_lines = lines.len();
        let page = query.page.min(all_lines.saturating_sub(1) / PAGE);
        let first = page * PAGE;
        let lines = sorted_range(lines, first..first + PAGE, |one, other| compare(&one.first, &other.first));
        Self { model, query, lines, found, all_lines, page }
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
        let (first, last) = (self.page * PAGE + 1, self.page * PAGE + self.lines.len());
        let groups = counted(self.found, "group", "groups");
        match self.found {
            0 if self.model.targets.iter().any(|target| target.report().is_none())
                && self.query.is_open() =>
            {
                "There is no group to show.".to_owned()
            }
            0 if self.query.is_open() => {
                "No consumer group was found. A new one is shown after the next poll.".to_owned()
            }
            0 => "No group is like this.".to_owned(),
            found => {
                let is_folded = self.all_lines < found;
                let lines = is_folded.then(|| counted(self.all_lines, "line", "lines"));
                let part = (self.all_lines > self.lines.len())
                    .then(|| format!("{} to {} of ", count(first as u64), count(last as u64)));
                let (part, lines) = (part.unwrap_or_default(), lines.map(|lines| format!("{lines} with ")));
                format!("{part}{}{groups}", lines.unwrap_or_default())
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
                label { span { "Fold" } select #fold name="fold" {
                    option value="" selected[query.folding == Folding::ByStream] { "by stream or family, and status" }
                    option value="no" selected[query.folding == Folding::Off] { "no" }
                } }
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
                    @for column in OverviewColumn::ALL.into_iter().filter(|column| column.name != OLDEST) {
                        (self.heading(column))
                    }
                    th scope="col" role="columnheader" { "Trend (1 h)" }
                } }
                tbody role="rowgroup" { @for line in &self.lines { (self.line(line)) } }
            }
        }
    }

    fn heading(&self, column: OverviewColumn) -> Markup {
        let present = match self.query.sort {
            OverviewSort::By(by, direction)
                if by == column || (column.name == PENDING && by.name == OLDEST) =>
            {
                Some(direction)
            }
            _ => None,
        };
        let aria = present.map(|direction| match direction {
            Direction::Up => "ascending",
            Direction::Down => "descending",
        });
        let oldest = OverviewColumn::ALL.into_iter().find(|one| column.name == PENDING && one.name == OLDEST);
        html! {
            th scope="col" role="columnheader" aria-sort=[aria] {
                (self.sort_link(column))
                @if let Some(oldest) = oldest { ", " (self.sort_link(oldest)) }
            }
        }
    }

    fn sort_link(&self, column: OverviewColumn) -> Markup {
        let sort = self.query.sort;
        let sign = match sort {
            OverviewSort::By(by, Direction::Up) if by == column => " \u{25b2}",
            OverviewSort::By(by, Direction::Down) if by == column => " \u{25bc}",
            _ => "",
        };
        let link = OverviewQuery { sort: sort.after_click(column), page: 0, ..self.query.clone() }.link();
        html! {
            a #{ "by-" (column.name) } href={ "./" (link) "#groups" } {
                (column.heading()) span aria-hidden="true" { (sign) }
            }
        }
    }

    fn line(&self, line: &FoldedLine<GroupRow<'_>>) -> Markup {
        if line.others.is_empty() {
            return self.row(&line.first, None);
        }
        let name = line.first.kind_name();
        let is_open = self.query.open.contains(&name);
        html! {
            (self.folded(line, &name, is_open))
            @if is_open {
                @let rows: Vec<_> = line.rows().copied().collect();
                @for row in sorted_range(rows, 0..PAGE, |one, other| self.query.compare(one, other)) {
                    (self.row(&row, Some("part")))
                }
                @if line.len() > PAGE {
                    tr.part role="row" { td.dim role="cell" colspan="11" data-label="" {
                        "and " (count((line.len() - PAGE) as u64)) " more: search for them, or do not fold"
                    } }
                }
            }
        }
    }

    /// Renders the line that stands for several groups of one stream and status.
    fn folded(&self, line: &FoldedLine<GroupRow<'_>>, name: &str, is_open: bool) -> Markup {
        let mut open = self.query.open.clone();
        if is_open {
            open.retain(|one| one != name);
        } else {
            open.push(name.to_owned());
        }
        let link = OverviewQuery { open, ..self.query.clone() }.link();
        let values = || line.rows().filter_map(GroupRow::view);
        let largest = values().max_by_key(|values| (values.lag.min(), values.lag.max()));
        let behind = values().filter_map(|values| values.lag_seconds()).max();
        let rates = values().filter_map(|values| values.delivered_rate).map(EntryRate::per_second);
        let fastest = rates.reduce(f64::max);
        let drained = Drained::worst(values().map(drained_of));
        let sum =
            |number: fn(&GroupValues) -> u64| values().map(|values| number(values.values())).sum::<u64>();
        let names = distinct_names(line.rows().map(|row| &row.group.name));
        html! {
            tr.fold #{ "fold-" (name) } role="row" class=[line.first.target.is_old().then_some("old")] {
                td role="cell" data-label="Status" { (status_cell(&line.first, self.model.now)) }
                th scope="row" role="rowheader" {
                    a #{ "open-" (name) } href={ "./" (link) "#fold-" (name) } aria-expanded=(is_open.to_string()) {
                        (count(line.len() as u64)) " groups"
                    }
                    div.dim { @for (at, name) in names.iter().take(NAMED).enumerate() { @if at > 0 { ", " } (label::tiny(&name.text())) } @if names.len() > NAMED { ", \u{2026}" } }
                }
                @match &line.first.stream.family {
                    Some(family) => {
                        td role="cell" data-label="Stream" {
                            (label::short(&family.text())) div.dim { "family, on " (label::short(&line.first.target.snapshot.labels.name)) }
                        }
                    }
                    None => { (self.stream_cell(&line.first)) }
                }
                @if let Some(values) = largest {
                    td.number role="cell" data-label="Lag" { @if values.lag.max() > 0 { span.dim { "up to " } } (lag(values.lag)) }
                    td.number role="cell" data-label="Behind" {
                        @match behind {
                            Some(time) if time.is_zero() => span.dim { "0 s" },
                            Some(time) => { span.dim { "up to " } (span(time)) },
                            None => (unknown("not known for any of these groups")),
                        }
                    }
                    (cell("In", &value(&ADDED_PER_SECOND, values)))
                    td.number role="cell" data-label="Out" {
                        @match fastest {
                            Some(rate) => { @if rate > 0.0 { span.dim { "up to " } } (rate_number(rate)) "/s" },
                            None => (unknown("not known for any of these groups")),
                        }
                    }
                    (cell("Drained in", &html! { @if let Some(drained) = drained { (drained_cell(drained)) } }))
                    (cell("Pending", &number(sum(|values| values.messages_pending))))
                    (cell("Consumers", &html! { (count(sum(|values| values.consumers))) }))
                } @else {
                    td.dim role="cell" colspan="7" data-label="" { "the stream has no such groups" }
                }
                td role="cell" data-label="" {}
            }
        }
    }

    fn stream_cell(&self, row: &GroupRow<'_>) -> Markup {
        let labels = &row.target.snapshot.labels;
        html! {
            td role="cell" data-label="Stream" {
                @match row.stream_path() {
                    Some(path) => { a href=(path) { (label::short(&row.stream.key.text())) } }
                    None => { (label::short(&row.stream.key.text())) }
                }
                @if self.model.targets.len() > 1 { div.dim { "on " (label::short(&labels.name)) } }
                @if labels.db != "db0" { " " span.dim { (labels.db) } }
            }
        }
    }

    fn row(&self, row: &GroupRow<'_>, class: Option<&str>) -> Markup {
        let name = row.group.name.text();
        let samples = row.samples(chart::SMALL_SAMPLES);
        let old = row.target.is_old().then_some("old");
        let classes: Vec<_> = class.into_iter().chain(old).collect();
        html! {
            tr role="row" class=[(!classes.is_empty()).then(|| classes.join(" "))] {
                td role="cell" data-label="Status" { (status_cell(row, self.model.now)) }
                th scope="row" role="rowheader" {
                    @match row.path() {
                        Some(path) => { a href=(path) { (label::short(&name)) } }
                        None => { (label::short(&name)) }
                    }
                }
                (self.stream_cell(row))
                @match row.view() {
                    Some(values) => { (numbers(values)) },
                    None => { td.dim role="cell" colspan="7" data-label="" { "the stream has no such group" } }
                }
                @if row.status().is_none() && samples.iter().all(|sample| sample.values.is_none()) {
                    td role="cell" data-label="" {}
                } @else {
                    td role="cell" data-label="Trend (1 h)" { (chart::small(&samples)) }
                }
            }
        }
    }

    fn pager(&self) -> Markup {
        let last = (self.all_lines - 1) / PAGE;
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

/// Returns the first distinct names: [`NAMED`] of them, and another if there are more.
fn distinct_names<'n>(all: impl Iterator<Item = &'n Name>) -> Vec<&'n Name> {
    let mut names = Vec::new();
    for name in all {
        if !names.contains(&name) {
            names.push(name);
        }
        if names.len() > NAMED {
            break;
        }
    }
    names
}
