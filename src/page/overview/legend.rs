//! The meaning of the words on the page.

use maud::{Markup, html};

use crate::page::advice;
use crate::page::layout::status_badge;
use redis_stream_lag::report::Status;

/// The columns whose headings do not explain themselves.
const WORDS: [(&str, &str); 8] = [
    ("Lag", "Entries in the stream that were not delivered to the group yet. The arrow is its trend."),
    ("Behind", "Age of the oldest of them."),
    (
        "In, Out",
        "Entries added to the stream, and delivered to the group, per second over the window of the status (2 minutes unless configured).",
    ),
    (
        "Drained in",
        "Time until the lag is gone at these rates. Loss in: time until trimming reaches entries that were not read or not acknowledged.",
    ),
    ("Pending", "Entries delivered and not acknowledged yet. Oldest: age of the oldest of them."),
    ("Consumers", "Consumers that tried to read lately or have pending entries, out of all."),
    ("?", "Not known, which is not 0. Point at it to see why."),
    ("Grey rows", "The last values of a target that cannot be read, with their time."),
];

pub(super) fn section() -> Markup {
    let statuses = std::iter::once(None).chain(Status::ALL.map(Some));
    html! {
        section #words {
            details #legend {
                summary { h2 { "What the words mean" } }
                dl.legend {
                    @for status in statuses {
                        dt { (status_badge(status)) }
                        dd { (advice::meaning(status)) }
                    }
                    @for (word, meaning) in WORDS { dt { (word) } dd { (meaning) } }
                }
            }
        }
    }
}
