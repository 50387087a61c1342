//! Dead letters as a table, in detail, and as JSON.

use serde::Serialize;

use crate::format::unicode::printable;
use crate::terminal::fields::ListedField;
use crate::terminal::layout::{Align, Cut, Heading, TextTable, WHERE_WIDE};
use crate::terminal::text::span_or_unknown;

/// A dead letter. Text is that of the letter; what it does not hold is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct ListedLetter {
    pub(crate) id: String,
    /// Age by its ID and the server's clock; `None` if the ID is not a time.
    pub(crate) age_seconds: Option<f64>,
    pub(crate) stream: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) consumer: Option<String>,
    /// The entry's ID in its stream.
    pub(crate) entry_id: Option<String>,
    pub(crate) deliveries: Option<String>,
    pub(crate) error: Option<String>,
    /// Replays of the entry so far.
    pub(crate) replays: u64,
    /// ID of the entry before its first replay.
    pub(crate) first_id: Option<String>,
    /// Names and values of the entry; only where letters are shown in detail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fields: Option<Vec<ListedField>>,
}

const HEADINGS: [Heading; 6] = [
    Heading { title: "ID", align: Align::Left, expendable: None, cut: Cut::Never },
    Heading { title: "AGE", align: Align::Right, expendable: Some(WHERE_WIDE), cut: Cut::Never },
    Heading { title: "STREAM", align: Align::Left, expendable: None, cut: Cut::Middle(8) },
    Heading { title: "GROUP", align: Align::Left, expendable: Some(WHERE_WIDE + 1), cut: Cut::Middle(8) },
    Heading { title: "DELIVERIES", align: Align::Right, expendable: Some(WHERE_WIDE + 2), cut: Cut::Never },
    Heading { title: "ERROR", align: Align::Left, expendable: None, cut: Cut::End(8) },
];

fn or_dash(text: Option<&String>) -> String {
    text.map_or_else(|| "-".to_owned(), |text| printable(text).into_owned())
}

/// Returns the lines of a table of letters.
pub(crate) fn table(letters: &[ListedLetter], room: Option<usize>) -> Vec<String> {
    let row = |letter: &ListedLetter| {
        vec![
            letter.id.clone(),
            span_or_unknown(letter.age_seconds),
            or_dash(letter.stream.as_ref()),
            or_dash(letter.group.as_ref()),
            or_dash(letter.deliveries.as_ref()),
            or_dash(letter.error.as_ref()),
        ]
    };
    TextTable::new(HEADINGS.to_vec(), letters.iter().map(row).collect(), room).lines()
}

/// Returns the lines of one letter with its fields.
pub(crate) fn details(letter: &ListedLetter) -> Vec<String> {
    let mut lines = vec![format!("letter      {}", letter.id)];
    let mut line = |title: &str, text: String| lines.push(format!("{title:<12}{text}"));
    line("age", span_or_unknown(letter.age_seconds));
    line("stream", or_dash(letter.stream.as_ref()));
    line("group", or_dash(letter.group.as_ref()));
    line("consumer", or_dash(letter.consumer.as_ref()));
    line("entry", or_dash(letter.entry_id.as_ref()));
    line("deliveries", or_dash(letter.deliveries.as_ref()));
    line("error", or_dash(letter.error.as_ref()));
    if letter.replays > 0 {
        line("replays", letter.replays.to_string());
        line("first entry", or_dash(letter.first_id.as_ref()));
    }
    for (name, value) in letter.fields.iter().flatten().map(ListedField::texts) {
        lines.push(format!("  {name} = {value}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters() -> [ListedLetter; 2] {
        let some = |text: &str| Some(text.to_owned());
        [
            ListedLetter {
                id: "1795378721680-0".to_owned(),
                age_seconds: Some(3_690.0),
                stream: some("orders"),
                group: some("m\x1b[2Jail"),
                consumer: some("worker-1"),
                entry_id: some("1795378000000-3"),
                deliveries: some("21"),
                error: some("exit code 1:\nno such \u{202e}user"),
                replays: 2,
                first_id: some("1795370000000-0"),
                fields: Some(vec![ListedField::new(b"n", b"1\r2"), ListedField::new(b"n", b"\xff")]),
            },
            ListedLetter { id: "7-1".to_owned(), ..ListedLetter::default() },
        ]
    }

    #[test]
    fn letters_read_easily() {
        insta::assert_snapshot!(table(&letters(), None).join("\n"), @r"
        ID                  AGE  STREAM  GROUP        DELIVERIES  ERROR
        1795378721680-0  1h 01m  orders  m\x1b[2Jail          21  exit code 1:\x0ano such \xe2\x80\xaeuser
        7-1                   ?  -       -                     -  -
        ");
        insta::assert_snapshot!(table(&letters(), Some(48)).join("\n"), @r"
        ID               STREAM  DELIVERIES  ERROR
        1795378721680-0  orders          21  exit code …
        7-1              -                -  -
        ");
        insta::assert_snapshot!(letters().iter().flat_map(details).collect::<Vec<_>>().join("\n"), @r#"
        letter      1795378721680-0
        age         1h 01m
        stream      orders
        group       m\x1b[2Jail
        consumer    worker-1
        entry       1795378000000-3
        deliveries  21
        error       exit code 1:\x0ano such \xe2\x80\xaeuser
        replays     2
        first entry 1795370000000-0
          n = 1\x0d2
          n = \xff
        letter      7-1
        age         ?
        stream      -
        group       -
        consumer    -
        entry       -
        deliveries  -
        error       -
        "#);
    }

    #[test]
    fn json_has_each_key_and_null_for_what_the_letter_does_not_hold() {
        let mut json = Vec::new();
        crate::api::json::write(&letters(), &mut json).unwrap();
        insta::assert_snapshot!(String::from_utf8(json).unwrap(), @r#"[{"id":"1795378721680-0","age_seconds":3690.0,"stream":"orders","group":"m\u001b[2Jail","consumer":"worker-1","entry_id":"1795378000000-3","deliveries":"21","error":"exit code 1:\nno such \u202euser","replays":2,"first_id":"1795370000000-0","fields":[["n","1\r2"],["n",{"base64":"/w=="}]]},{"id":"7-1","age_seconds":null,"stream":null,"group":null,"consumer":null,"entry_id":null,"deliveries":null,"error":null,"replays":0,"first_id":null}]"#);
    }
}
