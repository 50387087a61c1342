//! Pending entries as a table and as JSON: what was read and not acknowledged.

use serde::Serialize;

use crate::format::units::count;
use crate::terminal::layout::{Align, Heading, lines};
use crate::terminal::text::{UNKNOWN, printable, span};

/// A pending entry. `None` is not known.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Its ID.
    pub id: String,
    /// Consumer that it was delivered to, as text; empty if it was given back.
    pub consumer: String,
    /// Its age by its ID and the server's clock; `None` if the ID is no time stamp.
    pub age_seconds: Option<f64>,
    /// Since it was last delivered; `None` if it was given back and waits for a new reader.
    pub idle_seconds: Option<f64>,
    /// How often it was delivered.
    pub deliveries: u64,
}

const HEADINGS: [Heading; 5] = [
    Heading { title: "ID", align: Align::Left, expendable: None, shrinks_to: None },
    Heading { title: "CONSUMER", align: Align::Left, expendable: None, shrinks_to: Some(8) },
    Heading { title: "AGE", align: Align::Right, expendable: Some(0), shrinks_to: None },
    Heading { title: "IDLE", align: Align::Right, expendable: None, shrinks_to: None },
    Heading { title: "DELIVERIES", align: Align::Right, expendable: Some(1), shrinks_to: None },
];

/// The lines of a table of entries, its heading first.
#[must_use]
pub fn table(entries: &[Entry], room: Option<usize>) -> Vec<String> {
    let row = |entry: &Entry| {
        let consumer =
            if entry.consumer.is_empty() { "-".to_owned() } else { printable(&entry.consumer).into_owned() };
        let idle = entry.idle_seconds.map_or_else(|| "-".to_owned(), span);
        let age = entry.age_seconds.map_or_else(|| UNKNOWN.to_owned(), span);
        vec![printable(&entry.id).into_owned(), consumer, age, idle, count(entry.deliveries)]
    };
    lines(&HEADINGS, &entries.iter().map(row).collect::<Vec<_>>(), room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_read_easily() {
        let entry = |id: &str, consumer: &str, seconds: Option<f64>| Entry {
            id: id.to_owned(),
            consumer: consumer.to_owned(),
            age_seconds: seconds.map(|seconds| seconds * 60.0),
            idle_seconds: seconds,
            deliveries: 1_000,
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
        7-1               -              ?       -       1,000
        ");
        insta::assert_snapshot!(table(&entries, Some(40)).join("\n"), @r"
        ID                CONSUMER    IDLE
        1795378721680-0   worker-1  1m 01s
        1795378721680-12  w\x1b[2J   200ms
        7-1               -              -
        ");
    }
}
