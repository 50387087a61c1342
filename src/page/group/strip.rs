//! The numbers of a group that answer the first questions, in one strip.

use maud::{Markup, html};

use crate::diagnosis::{WorstPending, oldest_pending, trend};
use crate::format::trend::Trend;
use crate::format::units::{count, rate_number, span};
use crate::page::cells::drained_text;
use crate::page::label;
use crate::page::layout::unknown;
use crate::values::family::{Family, Number};
use crate::values::table::{
    ADDED_PER_SECOND, DELIVERED_PER_SECOND, LAG_SECONDS, MESSAGES_PENDING, OLDEST_PENDING_AGE_SECONDS,
    SECONDS_TO_LOSS,
};
use redis_stream_lag::report::{GroupView, Lag, Status};

/// Bytes of a note that gets more room.
const WIDE_NOTE: usize = 30;

pub(super) fn of_group(values: GroupView<'_>) -> Markup {
    html! {
        dl.strip {
            (item("Lag", &lag(values.lag), &lag_note(values)))
            (item("Behind", &of_family(&LAG_SECONDS, values), &html! {}))
            (item("In", &of_family(&ADDED_PER_SECOND, values), &html! {}))
            (item("Out", &of_family(&DELIVERED_PER_SECOND, values), &html! {}))
            (drained_in(values))
            (item("Pending", &of_family(&MESSAGES_PENDING, values), &html! {}))
            @if values.messages_pending > 0 {
                (item(
                    "Oldest pending entry",
                    &of_family(&OLDEST_PENDING_AGE_SECONDS, values),
                    &html! { @if let Some(entry) = oldest_pending(values) { (entry_note(&entry)) } },
                ))
            }
            (time_to_loss(values))
        }
    }
}

fn item(name: &str, value: &Markup, note: &Markup) -> Markup {
    // A note with an ID takes more room than a number.
    let class = (note.0.len() > WIDE_NOTE).then_some("wide");
    html! { div class=[class] { dt { (name) } dd { span.value { (value) } @if !note.0.is_empty() { span.dim { (note) } } } } }
}

fn of_family(family: &Family, values: GroupView<'_>) -> Markup {
    match family.of_group_values(values).known() {
        Some(Number::Count(number)) => html! { (count(number)) },
        Some(Number::Seconds(time)) => html! { (span(time)) },
        Some(Number::Ratio(ratio)) => html! { (format!("{:.0} %", ratio * 100.0)) },
        Some(Number::PerSecond(rate)) => html! { (rate_number(rate)) "/s" },
        None => unknown(family.label.map_or("", |label| (label.why_unknown)(values.values()))),
    }
}

fn lag(lag: Lag) -> Markup {
    match lag {
        Lag::Exact(entries) => html! { (count(entries)) },
        Lag::Between { min, max: u64::MAX } => html! { "at least " (count(min.get())) },
        Lag::Between { min, max } => html! { (count(min.get())) " to " (count(max)) },
    }
}

fn lag_note(values: GroupView<'_>) -> Markup {
    match trend(values) {
        Trend::Steady if values.lag.max() == 0 => html! {},
        trend => html! { (trend.to_string()) },
    }
}

fn drained_in(values: GroupView<'_>) -> Markup {
    let trend = trend(values);
    let note = match (values.lag, trend) {
        (Lag::Exact(0), _) => "nothing waits",
        (_, Trend::Grows(_)) => "the lag grows",
        (_, Trend::Steady) => "the lag stays",
        (_, Trend::Shrinks(..) | Trend::Unknown) => "",
    };
    let drained = trend.drained(values.lag == Lag::Exact(0));
    item("Drained in", &drained_text(drained), &html! { (note) })
}

fn time_to_loss(values: GroupView<'_>) -> Markup {
    let is_losing = values.status.conditions.contains(Status::Losing);
    let (value, note) = match (values.seldom.time_to_loss, values.entries_lost.map(u64::from)) {
        _ if is_losing => (html! { "none left" }, "entries are being lost"),
        (None, Some(0)) => (html! { "none" }, "no trimming seen that takes what is not read"),
        _ => (of_family(&SECONDS_TO_LOSS, values), ""),
    };
    item("Time to loss", &value, &html! { (note) })
}

fn entry_note(entry: &WorstPending<'_>) -> Markup {
    html! {
        span.id { (entry.id) }
        @if let Some(consumer) = entry.consumer { " with " (label::short(&consumer.text())) }
        @match entry.deliveries {
            Some(1) => { ", delivered once" }
            Some(deliveries) => { ", delivered " (count(deliveries)) " times" }
            None => { ", marked as failed" }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::page::test_support::values;
    use redis_stream_core::id::StreamId;
    use redis_stream_core::name::Name;
    use redis_stream_lag::report::{
        Age, EntryRate, GroupStatus, GroupValues, OldestPending, SeldomGroupValues,
    };

    /// 864 s after the pending entry was added.
    const AT: Duration = Duration::from_millis(1_795_896_390_988);

    /// The texts between tags, a line for each item.
    fn shown(values: &GroupValues) -> String {
        let html = of_group(GroupView::at(values, AT)).into_string();
        let words = |item: &str| {
            let texts = item.split('<').filter_map(|part| part.split_once('>')).map(|(_, text)| text.trim());
            texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
        };
        html.split("<dt").skip(1).map(|item| words(&format!("<dt{item}"))).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_group_that_blocks_is_seen_in_one_strip() {
        let rate = |entries| Some(EntryRate::new(entries, Duration::from_secs(1)));
        let entry = OldestPending::Entry {
            id: StreamId::new(1_795_895_526_988, 1),
            consumer: Some(Name::from("<fraud-1>")),
            idle: Some(Duration::from_millis(200).into()),
            deliveries: 217,
        };
        let blocked = GroupValues {
            lag: Lag::Exact(16_538),
            lag_seconds: Some(Age::of(Duration::from_secs(840))),
            added_rate: rate(20),
            delivered_rate: rate(0),
            messages_pending: 1,
            oldest_pending: Some(entry),
            seldom: SeldomGroupValues {
                time_to_loss: Some(Duration::from_secs(1_200).into()),
                ..SeldomGroupValues::default()
            }
            .into(),
            ..values()
        };
        insta::assert_snapshot!(shown(&blocked), @"
        Lag 16,538 ▲ 20.0/s
        Behind 14 min
        In 20.0/s
        Out 0/s
        Drained in never the lag grows
        Pending 1
        Oldest pending entry 14 min 24 s 1795895526988-1 with &lt;fraud-1&gt; , delivered 217 times
        Time to loss 20 min
        ");
        let draining = GroupValues {
            added_rate: rate(20),
            delivered_rate: rate(38),
            drain_time: Some(Duration::from_secs(240).into()),
            oldest_pending: Some(OldestPending::Nothing),
            messages_pending: 0,
            ..blocked
        };
        let draining = shown(&draining);
        assert!(
            draining.contains("Lag 16,538 ▼ 18.0/s\n") && draining.contains("Drained in 4 min\n"),
            "{draining}"
        );
        assert!(!draining.contains("Oldest pending"), "{draining}");
    }

    #[test]
    fn what_is_not_known_is_no_number() {
        let unknown = shown(&GroupValues { lag: Lag::Between { min: 3.into(), max: u64::MAX }, ..values() });
        insta::assert_snapshot!(unknown, @"
        Lag at least 3
        Behind ? not known
        In ? not known
        Out ? not known
        Drained in ? not known
        Pending 0
        Time to loss ? not known
        ");
        let watched = shown(&GroupValues { entries_lost: Some(0.into()), ..values() });
        assert!(
            watched.ends_with("Time to loss none no trimming seen that takes what is not read"),
            "{watched}"
        );
    }

    #[test]
    fn a_group_that_loses_entries_has_no_time_left() {
        let conditions = [Status::Losing].into_iter().collect();
        let status = GroupStatus { conditions, ..values().status };
        for time_to_loss in [None, Some(Duration::ZERO.into())] {
            let seldom = SeldomGroupValues { time_to_loss, ..SeldomGroupValues::default() }.into();
            let losing = GroupValues { status, entries_lost: Some(0.into()), seldom, ..values() };
            let text = shown(&losing);
            assert!(text.ends_with("Time to loss none left entries are being lost"), "{text}");
        }
    }
}
