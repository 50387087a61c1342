//! Pending entries as a table and as JSON.

use serde::Serialize;

use crate::format::unicode::printable;
use crate::format::units::count;
use crate::terminal::layout::{Align, Heading, TextTable};
use crate::terminal::text::{span, span_or_unknown};

/// A pending entry.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ListedEntry {
    pub(crate) id: String,
    /// The consumer that owns it, as text; empty if it was released.
    pub(crate) consumer: String,
    /// Age by its ID and the server's clock; `None` if the ID is not a time.
    pub(crate) age_seconds: Option<f64>,
    /// Time since its last delivery; `None` if it was released.
    pub(crate) idle_seconds: Option<f64>,
    /// `None` if XNACK FATAL marked it as failed.
    pub(crate) deliveries: Option<u64>,
}

const HEADINGS: [Heading; 5] = [
    Heading { title: "ID", align: Align::Left, expendable: None, shrinks_to: None },
    Heading { title: "CONSUMER", align: Align::Left, expendable: None, shrinks_to: Some(8) },
    Heading { title: "AGE", align: Align::Right, expendable: Some(3), shrinks_to: None },
    Heading { title: "IDLE", align: Align::Right, expendable: None, shrinks_to: None },
    Heading { title: "DELIVERIES", align: Align::Right, expendable: Some(4), shrinks_to: None },
];

/// Returns the lines of a table of entries.
pub(crate) fn table(entries: &[ListedEntry], room: Option<usize>) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let row = |entry: &ListedEntry| {
        let consumer = Some(&entry.consumer).filter(|name| !name.is_empty());
        vec![
            printable(&entry.id).into_owned(),
            or_dash(consumer.map(|name| printable(name).into_owned())),
            span_or_unknown(entry.age_seconds),
            or_dash(entry.idle_seconds.map(span)),
            entry.deliveries.map_or_else(|| "fatal".to_owned(), count),
        ]
    };
    TextTable::new(HEADINGS.to_vec(), entries.iter().map(row).collect(), room).lines()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_read_easily() {
        let entry = |id: &str, consumer: &str, seconds: Option<f64>| ListedEntry {
            id: id.to_owned(),
            consumer: consumer.to_owned(),
            age_seconds: seconds.map(|seconds| seconds * 60.0),
            idle_seconds: seconds,
            deliveries: consumer.bytes().next().map(|_| 1_000),
        };
        let entries = [
            entry("1795378721680-0", "worker-1", Some(61.5)),
            entry("1795378721680-12", "w\x1b[2J", Some(0.2)),
            entry("7-1", "", None),
        ];
        insta::assert_snapshot!(table(&entries, None).join("\n"), @r"
        ID                CONSUMER     AGE    IDLE  DELIVERIES
        1795378721680-0   worker-1  1h 01m  1m 01s       1,000
        1795378721680-12  w\x1b[2J     12s   200ms       1,000
        7-1               -              ?       -       fatal
        ");
        insta::assert_snapshot!(table(&entries, Some(40)).join("\n"), @r"
        ID                CONSUMER    IDLE
        1795378721680-0   worker-1  1m 01s
        1795378721680-12  w\x1b[2J   200ms
        7-1               -              -
        ");
    }
}
