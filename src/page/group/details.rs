//! The values of a group and its stream; for a value that is not known, the reason.

use std::time::Duration;

use bytesize::ByteSize;
use maud::{Markup, html};

use crate::format::units::{ago, count, per_second, span};
use crate::values::family::{Family, Number};
use crate::values::table::{GROUP_VALUES, LAST_DELIVERED_ID_AGE_SECONDS, NO_TIME, OLD_SERVER};
use redis_stream_core::id::StreamId;
use redis_stream_lag::report::{GroupView, Lag, StreamValues};

const NOT_FOR_A_DAY: &str =
    "a group was not observed for a day, and nothing shows for how long it was not read before";

struct Detail {
    name: &'static str,
    /// The value, or why it is not known.
    value: Result<String, &'static str>,
    note: &'static str,
}

fn detail(name: &'static str, value: Result<String, &'static str>, note: &'static str) -> Detail {
    Detail { name, value, note }
}

pub(super) fn of_group(values: GroupView<'_>) -> Markup {
    let mut details = vec![lag(values)];
    for family in GROUP_VALUES.iter() {
        if **family == LAST_DELIVERED_ID_AGE_SECONDS {
            details.push(detail("Last delivered ID", Ok(values.last_delivered_id.to_string()), ""));
        }
        details.extend(of_family(family, values));
    }
    list(&details)
}

fn lag(values: GroupView<'_>) -> Detail {
    let (value, note) = match values.lag {
        Lag::Exact(entries) => (count(entries), "entries in the stream that the group was not delivered"),
        Lag::Between { min, max } => (
            format!("{} to {}", count(min.get()), count(max)),
            "not known exactly, because it takes more counting than one poll may do; these bounds are certain",
        ),
    };
    detail("Lag", Ok(value), note)
}

fn of_family(family: &Family, values: GroupView<'_>) -> Option<Detail> {
    let label = family.label?;
    if family.counts_nothing_in(values) {
        return None;
    }
    let value = match family.of_group_values(values).known() {
        Some(Number::Count(number)) => Ok(count(number)),
        Some(Number::Seconds(time)) => Ok(span(time)),
        Some(Number::Ratio(ratio)) => Ok(format!("{:.0} %", ratio * 100.0)),
        Some(Number::PerSecond(number)) => Ok(per_second(number)),
        None => match (label.why_unknown)(values.values()) {
            // There is nothing to know.
            "" => return None,
            why => Err(why),
        },
    };
    Some(detail(label.name, value, label.note))
}

pub(in crate::page) fn of_stream(values: &StreamValues, now: Duration) -> Markup {
    let ago_or = |time: Option<Duration>, why_unknown| time.map(|time| ago(time, now)).ok_or(why_unknown);
    let newest_id = ago_or(
        values.last_generated(),
        if values.ids.last_generated == StreamId::MIN { "nothing was ever added" } else { NO_TIME },
    );
    let oldest_entry =
        ago_or(values.first_entry(), "the stream is empty, or the ID is not a time, or one in the future");
    let mut details = vec![
        detail("Length", Ok(count(values.length)), "entries in the stream"),
        detail("Groups", Ok(count(values.groups)), ""),
        detail(
            "Groups abandoned",
            values.groups_abandoned.get().map(count).ok_or(NOT_FOR_A_DAY),
            "for a day or longer",
        ),
        detail("Entries added", values.entries_added.map(u64::from).map(count).ok_or(OLD_SERVER), "ever"),
        detail("Oldest entry", oldest_entry, "how far back the stream reaches"),
        detail("Newest ID", newest_id, "how long the producers have been idle"),
    ];
    let memory = values.memory_bytes.map(|bytes| ByteSize(bytes.get()).to_string());
    details.extend(memory.map(|memory| detail("Memory", Ok(memory), "as the server estimates it")));
    list(&details)
}

fn list(details: &[Detail]) -> Markup {
    html! {
        dl.numbers {
            @for Detail { name, value, note } in details {
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
    use crate::page::test_support::values;
    use redis_stream_lag::report::GroupValues;

    #[test]
    fn what_is_not_known_has_a_reason_and_is_never_0() {
        let shown = of_group((&GroupValues { messages_pending: 1, ..values() }).into()).into_string();
        for (name, why) in [
            ("Behind", "the oldest undelivered entry is not known yet"),
            ("Oldest pending entry", "the last poll did not find out"),
            ("Pending, but trimmed away", "they are more than 1,000"),
            ("Delivered again", "not all pending entries were read yet"),
            ("Most deliveries", "not all pending entries were read yet"),
            ("Longest idle time", "not all pending entries were read yet"),
            ("Age of the census", "not all pending entries were read yet"),
            ("Lost", "the server does not report it before version 7.0"),
            ("Retention used", "the server does not report it before version 7.0"),
            ("Age of last delivered ID", "the ID is not a time, or one in the future"),
            ("Entries read", "the server does not report it"),
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
        let known = GroupValues { entries_lost: Some(0.into()), ..values() };
        let lag = Lag::Between { min: 3.into(), max: 4 };
        let counting = GroupValues { lag, entries_lost: Some(0.into()), ..values() };
        let at_the_beginning = GroupValues { last_delivered_id: StreamId::MIN, ..values() };
        for (values, why) in [
            (&known, "because no trimming was seen that does not wait for the slowest group"),
            (&known, "because the server has lost count, or is a replica before 7.4"),
            (&counting, "because the lag is not known exactly"),
            (&at_the_beginning, "because it is 0-0, which is not a time"),
        ] {
            let shown = of_group((values).into()).into_string();
            assert!(shown.contains(why), "{why}: {shown}");
        }
    }

    #[test]
    fn no_reason_is_empty() {
        for messages_pending in [0, 7] {
            let shown = of_group((&GroupValues { messages_pending, ..values() }).into()).into_string();
            assert!(shown.contains("because ") && !shown.contains("because <"), "{shown}");
        }
    }

    #[test]
    fn of_no_pending_entry_nothing_is_shown() {
        let shown = |messages_pending| {
            of_group((&GroupValues { messages_pending, ..values() }).into())
                .into_string()
                .matches("ldest pending")
                .count()
        };
        assert_eq!([shown(0), shown(1)], [0, 1]);
    }

    #[test]
    fn a_lag_that_is_being_counted_is_shown_by_its_bounds() {
        let between = GroupValues { lag: Lag::Between { min: 3.into(), max: 4_000 }, ..values() };
        assert!(
            of_group((&between).into()).into_string().contains(r#"<span class="value">3 to 4,000</span>"#)
        );
    }
}
