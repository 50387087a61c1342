//! All that is known of a group and its stream, and of what is not known the reason.

use std::time::Duration;

use maud::{Markup, html};

use crate::format::units::{ago, count, span};
use redis_stream_core::id::StreamId;
use redis_stream_lag::report::{GroupValues, Lag, OldestPending, StreamValues};

/// A number with its name; or why it is not known.
struct Number {
    name: &'static str,
    value: Result<String, &'static str>,
    /// What it says, where the name does not.
    note: &'static str,
}

const NO_TIME: &str = "the ID does not tell the time: the server did not make it";
const OLD_SERVER: &str = "the server does not tell before version 7.0";

fn number(name: &'static str, value: Result<String, &'static str>, note: &'static str) -> Number {
    Number { name, value, note }
}

fn known(name: &'static str, value: u64, note: &'static str) -> Number {
    number(name, Ok(count(value)), note)
}

fn maybe(name: &'static str, value: Option<u64>, why_not: &'static str, note: &'static str) -> Number {
    number(name, value.map(count).ok_or(why_not), note)
}

fn time(name: &'static str, value: Option<Duration>, why_not: &'static str, note: &'static str) -> Number {
    number(name, value.map(span).ok_or(why_not), note)
}

/// The numbers of a group.
pub(super) fn of_group(values: &GroupValues) -> Markup {
    let lag = match values.lag {
        Lag::Exact(entries) => {
            known("Lag", entries, "entries in the stream that the group was not delivered")
        }
        Lag::Between { min, max } => number(
            "Lag",
            Ok(format!("{} to {}", count(min), count(max))),
            "not known exactly, because it takes more counting than one poll may do; these bounds are certain",
        ),
    };
    let mut numbers = vec![
        lag,
        time(
            "Behind",
            values.lag_seconds,
            "the oldest entry that waits is not known yet, or its ID does not tell the time",
            "age of the oldest entry that waits",
        ),
        known("Pending", values.messages_pending, "delivered and not acknowledged"),
    ];
    numbers.extend(oldest_pending(values.oldest_pending));
    numbers.extend([
        maybe(
            "Pending and gone",
            values.pending_orphaned,
            "they are more than 1,000, or the last poll did not find out",
            "pending entries that are not in the stream any more",
        ),
        known("Consumers", values.consumers, ""),
        maybe(
            "Lost",
            values.entries_lost,
            OLD_SERVER,
            "removed before the group got them, since streamgauge looks",
        ),
        number(
            "Retention used",
            values
                .retention_used
                .map(|used| format!("{:.0} %", used.ratio() * 100.0))
                .ok_or(why_no_retention(values)),
            "lag by length of the stream: at 100 % the next trim loses entries",
        ),
        number("Last delivered ID", Ok(values.last_delivered_id.to_string()), ""),
        time(
            "Age of that ID",
            values.last_delivered_id_age,
            if values.last_delivered_id == StreamId::MIN {
                "it is where a stream begins, and tells no time"
            } else {
                NO_TIME
            },
            "",
        ),
        maybe(
            "Entries read",
            values.entries_read,
            // Since version 7.0 losses are known.
            if values.entries_lost.is_none() {
                OLD_SERVER
            } else {
                "the server has lost count, or is a replica before 7.4"
            },
            "as the server counts",
        ),
    ]);
    list(&numbers)
}

fn why_no_retention(values: &GroupValues) -> &'static str {
    match (values.entries_lost, values.lag.exact()) {
        (None, _) => OLD_SERVER,
        (Some(_), None) => "the lag is not known exactly",
        (Some(_), Some(_)) => "no trimming of the stream was seen yet",
    }
}

fn oldest_pending(oldest: Option<OldestPending>) -> Vec<Number> {
    match oldest {
        None => vec![number("Oldest pending", Err("the last poll did not find out"), "")],
        Some(OldestPending::Nothing) => vec![number("Oldest pending", Ok("none".to_owned()), "")],
        Some(OldestPending::Entry { age, idle, deliveries }) => vec![
            time("Oldest pending", age, NO_TIME, "age by its ID"),
            time(
                "Untouched for",
                idle,
                "it was given back and waits for a new reader",
                "since its last delivery",
            ),
            known("Delivered", deliveries, if deliveries == 1 { "time" } else { "times" }),
        ],
    }
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
