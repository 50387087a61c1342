//! Pending entries as a table and as JSON.

use serde::Serialize;

use crate::format::unicode::printable;
use crate::format::units::count;
use crate::terminal::fields::ListedField;
use crate::terminal::layout::{Align, Cut, Heading, TextTable, WHERE_WIDE};
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
    /// Its fields, if they were read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fields: Option<ListedFields>,
}

/// The fields of a pending entry.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum ListedFields {
    /// As in the entry: names may repeat.
    Found(Vec<ListedField>),
    /// The entry is not in the stream any more: null.
    Gone,
}

const HEADINGS: [Heading; 5] = [
    Heading { title: "ID", align: Align::Left, expendable: None, cut: Cut::Never },
    Heading { title: "CONSUMER", align: Align::Left, expendable: None, cut: Cut::Middle(8) },
    Heading { title: "AGE", align: Align::Right, expendable: Some(WHERE_WIDE), cut: Cut::Never },
    Heading { title: "IDLE", align: Align::Right, expendable: None, cut: Cut::Never },
    Heading { title: "DELIVERIES", align: Align::Right, expendable: Some(WHERE_WIDE + 1), cut: Cut::Never },
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
    let mut lines = TextTable::new(HEADINGS.to_vec(), entries.iter().map(row).collect(), room).lines();
    // From the last entry up, so that the positions of those above stay the same. The first line has the headings.
    for (at, entry) in entries.iter().enumerate().rev() {
        let fields = entry.fields.as_ref().map(|fields| format!("  {}", field_line(fields)));
        fields.into_iter().for_each(|line| lines.insert(at + 2, line));
    }
    lines
}

/// Returns fields on one line. A value is quoted where it has a space or another character that would mislead.
fn field_line(fields: &ListedFields) -> String {
    let quoted = |text: String| {
        let is_bare = |one: char| !one.is_whitespace() && !matches!(one, '"' | '=');
        if !text.is_empty() && text.chars().all(is_bare) {
            text
        } else {
            format!("\"{}\"", text.replace('"', "\\\""))
        }
    };
    match fields {
        ListedFields::Gone => "(not in the stream any more)".to_owned(),
        ListedFields::Found(fields) => {
            let pairs = fields.iter().map(ListedField::texts);
            let pairs = pairs.map(|(name, value)| format!("{}={}", quoted(name), quoted(value)));
            pairs.collect::<Vec<_>>().join(" ")
        }
    }
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
            fields: None,
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
        let pair = |name: &str, value: &str| ListedField::new(name.as_bytes(), value.as_bytes());
        let of_fields = [
            Some(ListedFields::Found(vec![pair("n", "1"), pair("n", "a b"), pair("k\n", "")])),
            None,
            Some(ListedFields::Gone),
        ];
        let entries =
            entries.into_iter().zip(of_fields).map(|(entry, fields)| ListedEntry { fields, ..entry });
        insta::assert_snapshot!(table(&entries.collect::<Vec<_>>(), None).join("\n"), @r#"
        ID                CONSUMER     AGE    IDLE  DELIVERIES
        1795378721680-0   worker-1  1h 01m  1m 01s       1,000
          n=1 n="a b" k\x0a=""
        1795378721680-12  w\x1b[2J     12s   200ms       1,000
        7-1               -              ?       -       fatal
          (not in the stream any more)
        "#);
    }
}
