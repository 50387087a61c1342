//! All that is known of a group and its stream, and of what is not known the reason.

use std::time::Duration;

use maud::{Markup, html};

use crate::format::units::{ago, count, span};
use crate::values::family::{self, Family};
use crate::values::table::{
    CONSUMERS, ENTRIES_LOST_TOTAL, ENTRIES_READ, LAG_SECONDS, LAST_DELIVERED_ID_AGE_SECONDS,
    MESSAGES_PENDING, NO_TIME, OLD_SERVER, OLDEST_PENDING_AGE_SECONDS, OLDEST_PENDING_IDLE_SECONDS,
    PENDING_ORPHANED, RETENTION_USED_RATIO,
};
use redis_stream_core::id::StreamId;
use redis_stream_lag::report::{GroupValues, Lag, OldestPending, StreamValues};

/// A number with its name; or why it is not known.
struct Number {
    name: &'static str,
    value: Result<String, &'static str>,
    /// What it says, where the name does not.
    note: &'static str,
}

fn number(name: &'static str, value: Result<String, &'static str>, note: &'static str) -> Number {
    Number { name, value, note }
}

fn known(name: &'static str, value: u64, note: &'static str) -> Number {
    number(name, Ok(count(value)), note)
}

fn maybe(name: &'static str, value: Option<u64>, why_not: &'static str, note: &'static str) -> Number {
    number(name, value.map(count).ok_or(why_not), note)
}

/// The numbers of a group.
pub(super) fn of_group(values: &GroupValues) -> Markup {
    let rows = |families: &[&Family]| -> Vec<Number> {
        families.iter().filter_map(|family| row(family, values)).collect()
    };
    let mut numbers = vec![lag(values)];
    numbers.extend(rows(&[&LAG_SECONDS, &MESSAGES_PENDING]));
    match values.oldest_pending {
        None => numbers.extend(rows(&[&OLDEST_PENDING_AGE_SECONDS])),
        Some(OldestPending::Nothing) => numbers.push(number("Oldest pending", Ok("none".to_owned()), "")),
        Some(OldestPending::Entry { deliveries, .. }) => {
            numbers.extend(rows(&[&OLDEST_PENDING_AGE_SECONDS, &OLDEST_PENDING_IDLE_SECONDS]));
            numbers.push(known("Delivered", deliveries, if deliveries == 1 { "time" } else { "times" }));
        }
    }
    numbers.extend(rows(&[&PENDING_ORPHANED, &CONSUMERS, &ENTRIES_LOST_TOTAL, &RETENTION_USED_RATIO]));
    numbers.push(number("Last delivered ID", Ok(values.last_delivered_id.to_string()), ""));
    numbers.extend(rows(&[&LAST_DELIVERED_ID_AGE_SECONDS, &ENTRIES_READ]));
    list(&numbers)
}

fn lag(values: &GroupValues) -> Number {
    match values.lag {
        Lag::Exact(entries) => {
            known("Lag", entries, "entries in the stream that the group was not delivered")
        }
        Lag::Between { min, max } => number(
            "Lag",
            Ok(format!("{} to {}", count(min), count(max))),
            "not known exactly, because it takes more counting than one poll may do; these bounds are certain",
        ),
    }
}

/// Returns the row of a value of a group as the table describes it.
fn row(family: &Family, values: &GroupValues) -> Option<Number> {
    let label = family.label?;
    let value = match family.of_group_values(values).known() {
        Some(family::Number::Count(number)) => Ok(count(number)),
        Some(family::Number::Seconds(time)) => Ok(span(time)),
        Some(family::Number::Ratio(ratio)) => Ok(format!("{:.0} %", ratio * 100.0)),
        None => Err((label.why_unknown)(values)),
    };
    Some(number(label.name, value, label.note))
}

/// The numbers of a stream.
pub(super) fn of_stream(values: &StreamValues, now: Duration) -> Markup {
    let ago_or = |moment: Option<Duration>, why_not| moment.map(|moment| ago(moment, now)).ok_or(why_not);
    list(&[
        known("Length", values.length, "entries in the stream"),
        known("Groups", values.groups, ""),
        maybe("Entries added", values.entries_added, OLD_SERVER, "ever"),
        number(
            "Oldest entry",
            ago_or(values.first_entry, "the stream is empty, or the ID does not tell the time"),
            "how far back the stream reaches",
        ),
        number(
            "Newest ID",
            ago_or(
                values.last_generated,
                if values.ids.last_generated == StreamId::MIN { "nothing was ever added" } else { NO_TIME },
            ),
            "how long the producers have been silent",
        ),
    ])
}

fn list(numbers: &[Number]) -> Markup {
    html! {
        dl.numbers {
            @for Number { name, value, note } in numbers {
                div {
                    dt { (name) }
                    dd {
                        @match value {
                            Ok(value) => {
                                span.value { (value) }
                                @if !note.is_empty() { " " span.dim { (note) } }
                            }
                            Err(why) => { span.value.dim { "not known" } " " span.dim { "because " (why) } }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::examples::values;

    #[test]
    fn what_is_not_known_has_a_reason_and_is_never_0() {
        let shown = of_group(&values()).into_string();
        for (name, why) in [
            ("Behind", "the oldest entry that waits is not known yet"),
            ("Oldest pending", "the last poll did not find out"),
            ("Pending and gone", "they are more than 1,000"),
            ("Lost", "the server does not tell before version 7.0"),
            ("Retention used", "the server does not tell before version 7.0"),
            ("Age of that ID", "the ID does not tell the time"),
            ("Entries read", "the server does not tell"),
        ] {
            let expected = format!(
                r#"<dt>{name}</dt><dd><span class="value dim">not known</span> <span class="dim">because {why}"#
            );
            assert!(shown.contains(&expected), "{name}: {shown}");
        }
        assert!(shown.contains(r#"<dt>Lag</dt><dd><span class="value">0</span>"#), "{shown}");
    }

    #[test]
    fn the_reason_why_something_is_not_known_is_the_one_that_holds() {
        let known = GroupValues { entries_lost: Some(0), ..values() };
        let lag = Lag::Between { min: 3, max: 4 };
        let counting = GroupValues { lag, entries_lost: Some(0), ..values() };
        let at_the_beginning = GroupValues { last_delivered_id: StreamId::MIN, ..values() };
        for (values, why) in [
            (&known, "because no trimming of the stream was seen yet"),
            (&known, "because the server has lost count, or is a replica before 7.4"),
            (&counting, "because the lag is not known exactly"),
            (&at_the_beginning, "because it is where a stream begins, and tells no time"),
        ] {
            let shown = of_group(values).into_string();
            assert!(shown.contains(why), "{why}: {shown}");
        }
    }

    #[test]
    fn a_lag_that_is_being_counted_is_shown_by_its_bounds() {
        let between = GroupValues { lag: Lag::Between { min: 3, max: 4_000 }, ..values() };
        assert!(of_group(&between).into_string().contains(r#"<span class="value">3 to 4,000</span>"#));
    }
}
