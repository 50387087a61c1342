//! The cells of a group's numbers in a table, and of its status.

use std::time::Duration;

use maud::{Markup, html};

use crate::diagnosis::trend;
use crate::format::trend::Drained;
use crate::format::units::{clock, count, rate_number, span};
use crate::page::layout::{old_badge, status_badge, unknown};
use crate::page::model::GroupRow;
use crate::values::family::{Family, Number};
use crate::values::table::{
    ADDED_PER_SECOND, DELIVERED_PER_SECOND, LAG_SECONDS, MESSAGES_PENDING, OLDEST_PENDING_AGE_SECONDS,
};
use redis_stream_lag::report::{GroupView, Lag, Status};

/// Renders what holds for a group, and since when; for one that is not read any more, grey and with the time.
pub(super) fn status_cell(row: &GroupRow<'_>, now: Duration) -> Markup {
    let status = row.status();
    html! {
        @if let Some(at) = row.target.old_since() {
            @for status in row.shown_statuses() { (old_badge(status)) " " }
            div.dim { "as of " (clock(at, now)) }
        } @else {
            @for status in row.shown_statuses() { (status_badge(status)) " " }
            @if let Some(since) = row.since(now) {
                @if status == Some(Status::Unknown) { div.dim { (since) } }
                @else if let Some(at) = row.began().filter(|_| status != Some(Status::Ok)) {
                    div.dim title=(since) { "since " (clock(at, now)) }
                }
            }
        }
    }
}

/// Renders the cells of a group's numbers.
pub(super) fn numbers(values: GroupView<'_>) -> Markup {
    let oldest = values.messages_pending > 0;
    let silent = values.silent_consumers.unwrap_or_default();
    let active = values.consumers.saturating_sub(u64::from(silent.idle()) + u64::from(silent.stranded()));
    html! {
        td.number role="cell" data-label="Lag" {
            (lag(values.lag))
            @if values.lag.max() > 0 { div.dim { (trend(values).to_string()) } }
        }
        (cell("Behind", &value(&LAG_SECONDS, values)))
        (cell("In", &value(&ADDED_PER_SECOND, values)))
        (cell("Out", &value(&DELIVERED_PER_SECOND, values)))
        (cell("Drained in", &drained_in(values)))
        td.number role="cell" data-label="Pending" {
            (value(&MESSAGES_PENDING, values))
            @if oldest { div.dim { "oldest " (value(&OLDEST_PENDING_AGE_SECONDS, values)) } }
        }
        td.number role="cell" data-label="Consumers" {
            @if active < values.consumers { (count(active)) " of " }
            (count(values.consumers))
        }
    }
}

/// Renders when the lag is gone; and when entries are lost, if that comes first.
/// Returns the time until the lag of a group is gone.
pub(super) fn drained_of(values: GroupView<'_>) -> Drained {
    trend(values).drained(values.lag == Lag::Exact(0))
}

/// Renders it for a cell.
pub(super) fn drained_cell(drained: Drained) -> Markup {
    match drained {
        Drained::In(Duration::ZERO) => html! { span.dim { "0 s" } },
        drained => drained_text(drained),
    }
}

fn drained_in(values: GroupView<'_>) -> Markup {
    let drained = drained_cell(drained_of(values));
    let loss = values.seldom.time_to_loss.filter(|time| values.drain_time.is_none_or(|drain| *time < drain));
    html! {
        (drained)
        @if let Some(time) = loss { div.loss { "loss in " (span(time.get())) } }
    }
}

pub(super) fn drained_text(drained: Drained) -> Markup {
    match drained {
        Drained::In(Duration::ZERO) => html! { "0 s" },
        Drained::In(time) => html! { (span(time)) },
        Drained::Never => html! { "never" },
        Drained::Unknown => unknown("the rates are not known, or entries are lost"),
    }
}

pub(super) fn cell(heading: &str, content: &Markup) -> Markup {
    html! { td.number role="cell" data-label=(heading) { (content) } }
}

pub(super) fn number(number: u64) -> Markup {
    if number > 0 {
        html! { (count(number)) }
    } else {
        html! { span.dim { "0" } }
    }
}

pub(super) fn value(family: &Family, values: GroupView<'_>) -> Markup {
    if family.counts_nothing_in(values) {
        return html! { span.dim { "none" } };
    }
    match family.of_group_values(values).known() {
        Some(Number::Count(count)) => number(count),
        Some(Number::Seconds(time)) if time.is_zero() => html! { span.dim { "0 s" } },
        Some(Number::Seconds(time)) => html! { (span(time)) },
        Some(Number::Ratio(ratio)) => html! { (format!("{:.0} %", ratio * 100.0)) },
        Some(Number::PerSecond(rate)) => html! { (rate_number(rate)) "/s" },
        None => unknown(family.label.map_or("", |label| (label.why_unknown)(values.values()))),
    }
}

pub(super) fn lag(lag: Lag) -> Markup {
    html! {
        @match lag {
            Lag::Exact(0) => { span.dim { "0" } }
            Lag::Exact(entries) => (count(entries)),
            Lag::Between { min, max } => {
                span title="being counted; these bounds are certain" { (count(min.get())) " to " (count(max)) }
            }
        }
    }
}
