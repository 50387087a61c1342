//! The format of dead letters, and of the entries that replays make of them. Pure.

use std::time::Duration;

use crate::entry::{Fields, StreamId};

/// The fields with which a letter of [`consume`](crate::consume) begins, in this order.
pub(crate) const LETTER_FIELDS: [&str; 6] = [
    "streamgauge-stream",
    "streamgauge-group",
    "streamgauge-consumer",
    "streamgauge-id",
    "streamgauge-deliveries",
    "streamgauge-error",
];

/// The start of the names of the fields with which a replayed entry begins.
const REPLAY: &[u8] = b"streamgauge-replay-";

/// Names of the fields in which the letters of another program hold what is known of the entry. A letter of
/// [`consume`](crate::consume) is recognized by its first fields, and read without them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldNames {
    /// Field with the key of the entry's stream.
    pub stream: Option<Vec<u8>>,
    /// Field with the name of the group.
    pub group: Option<Vec<u8>>,
    /// Field with the name of the consumer.
    pub consumer: Option<Vec<u8>>,
    /// Field with the entry's ID in its stream.
    pub id: Option<Vec<u8>>,
    /// Field with the number of deliveries.
    pub deliveries: Option<Vec<u8>>,
    /// Field with the error.
    pub error: Option<Vec<u8>>,
}

/// A dead letter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Letter {
    /// ID of the letter in the dead-letter stream.
    pub id: StreamId,
    /// Key of the stream that the entry was in. What the letter does not hold is `None`, here and below.
    pub stream: Option<Vec<u8>>,
    /// The group that could not handle it.
    pub group: Option<Vec<u8>>,
    /// The last consumer that it was delivered to.
    pub consumer: Option<Vec<u8>>,
    /// The entry's ID in its stream.
    pub entry_id: Option<Vec<u8>>,
    /// Number of deliveries, as text; `fatal` if XNACK FATAL marked the entry as failed.
    pub deliveries: Option<Vec<u8>>,
    /// The last error.
    pub error: Option<Vec<u8>>,
    /// Replays so far.
    pub replays: u64,
    /// ID that the entry had before its first replay; `None` if it was never replayed.
    pub first_id: Option<Vec<u8>>,
    /// The entry's own fields.
    pub fields: Fields,
}

impl Letter {
    /// Reads an entry of a dead-letter stream.
    #[must_use]
    pub fn read(id: StreamId, mut fields: Fields, names: &FieldNames) -> Self {
        let mut letter = Self { id, ..Self::default() };
        if is_own(&fields) {
            let mut values = fields.drain(..LETTER_FIELDS.len()).map(|(_, value)| value);
            letter.stream = values.next();
            letter.group = values.next();
            letter.consumer = values.next();
            letter.entry_id = values.next();
            letter.deliveries = values.next();
            letter.error = values.next();
        } else {
            let mut take = |name: &Option<Vec<u8>>| {
                let at = fields.iter().position(|(found, _)| Some(found) == name.as_ref())?;
                Some(fields.remove(at).1)
            };
            letter.stream = take(&names.stream);
            letter.group = take(&names.group);
            letter.consumer = take(&names.consumer);
            letter.entry_id = take(&names.id);
            letter.deliveries = take(&names.deliveries);
            letter.error = take(&names.error);
        }
        for (name, value) in &fields {
            match name.strip_prefix(REPLAY) {
                Some(b"attempt") => letter.replays = number(value),
                Some(b"first-id") => letter.first_id = Some(value.clone()),
                _ => {}
            }
        }
        fields.retain(|(name, _)| !name.starts_with(REPLAY));
        letter.fields = fields;
        letter
    }

    /// Returns the fields of the entry that a replay adds: those of the replay, then the entry's own. `time` is the
    /// server's.
    pub(crate) fn replayed(&self, dead_letter_stream: &[u8], time: Option<Duration>) -> Fields {
        let field = |name: &[u8], value: &[u8]| ([REPLAY, name].concat(), value.to_vec());
        let mut fields = vec![
            field(b"stream", dead_letter_stream),
            field(b"id", self.id.to_string().as_bytes()),
            field(b"attempt", self.replays.saturating_add(1).to_string().as_bytes()),
        ];
        fields.extend(time.map(|time| field(b"time", time.as_millis().to_string().as_bytes())));
        let first_id = self.first_id.as_ref().or(self.entry_id.as_ref());
        fields.extend(first_id.map(|id| field(b"first-id", id)));
        fields.extend(self.fields.iter().cloned());
        fields
    }
}

/// Returns true for a letter of [`consume`](crate::consume).
fn is_own(fields: &Fields) -> bool {
    let names = fields.iter().map(|(name, _)| name.as_slice());
    names.take(LETTER_FIELDS.len()).eq(LETTER_FIELDS.iter().map(|name| name.as_bytes()))
}

fn number(text: &[u8]) -> u64 {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: StreamId = StreamId::new(9, 1);

    fn fields(text: &str) -> Fields {
        let pair = |word: &str| {
            let (name, value) = word.split_once('=').unwrap();
            (name.as_bytes().to_vec(), value.as_bytes().to_vec())
        };
        text.split_whitespace().map(pair).collect()
    }

    fn text(fields: &Fields) -> String {
        let pair = |(name, value): &(Vec<u8>, Vec<u8>)| {
            format!("{}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
        };
        fields.iter().map(pair).collect::<Vec<_>>().join(" ")
    }

    fn read(letter: &str, names: &FieldNames) -> Letter {
        Letter::read(ID, fields(letter), names)
    }

    const OWN: &str = "streamgauge-stream=orders streamgauge-group=mail streamgauge-consumer=c streamgauge-id=5-0 \
                       streamgauge-deliveries=21 streamgauge-error=refused";

    #[test]
    fn a_letter_of_the_consumer_is_read_without_its_six_fields_and_keeps_repeated_ones() {
        let letter = read(&format!("{OWN} n=1 n=2 streamgauge-stream=mine"), &FieldNames::default());
        let some = |text: &str| Some(text.as_bytes().to_vec());
        assert_eq!((letter.stream.clone(), letter.group.clone()), (some("orders"), some("mail")));
        assert_eq!((letter.consumer.clone(), letter.entry_id.clone()), (some("c"), some("5-0")));
        assert_eq!((letter.deliveries.clone(), letter.error.clone()), (some("21"), some("refused")));
        assert_eq!(text(&letter.fields), "n=1 n=2 streamgauge-stream=mine");
        assert_eq!(
            text(&letter.replayed(b"orders:dead", Some(Duration::from_millis(1_700_000_000_123)))),
            "streamgauge-replay-stream=orders:dead streamgauge-replay-id=9-1 streamgauge-replay-attempt=1 \
             streamgauge-replay-time=1700000000123 streamgauge-replay-first-id=5-0 n=1 n=2 streamgauge-stream=mine"
        );
    }

    #[test]
    fn an_entry_that_failed_again_is_counted_and_keeps_its_first_id() {
        let replayed = "streamgauge-replay-stream=orders:dead streamgauge-replay-id=7-0 \
                        streamgauge-replay-attempt=2 streamgauge-replay-first-id=1-0 n=1";
        let letter = read(&format!("{OWN} {replayed}"), &FieldNames::default());
        assert_eq!((letter.replays, text(&letter.fields).as_str()), (2, "n=1"));
        assert_eq!(
            text(&letter.replayed(b"d", None)),
            "streamgauge-replay-stream=d streamgauge-replay-id=9-1 streamgauge-replay-attempt=3 \
             streamgauge-replay-first-id=1-0 n=1"
        );
    }

    #[test]
    fn the_fields_of_another_program_are_read_by_their_names() {
        let name = |text: &str| Some(text.as_bytes().to_vec());
        let names = FieldNames { stream: name("from"), error: name("why"), ..FieldNames::default() };
        for (letter, stream, error, rest) in [
            ("n=1 from=orders why=broken from=home", name("orders"), name("broken"), "n=1 from=home"),
            ("n=1 n=2", None, None, "n=1 n=2"),
            ("", None, None, ""),
            // Not all six, or not in order: no letter of the consumer.
            ("streamgauge-stream=a n=1", None, None, "streamgauge-stream=a n=1"),
        ] {
            let read = read(letter, &names);
            assert_eq!(
                (read.stream, read.error, text(&read.fields).as_str()),
                (stream, error, rest),
                "{letter}"
            );
        }
        assert_eq!(
            text(&read("n=1", &names).replayed(b"d", None)),
            "streamgauge-replay-stream=d streamgauge-replay-id=9-1 streamgauge-replay-attempt=1 n=1"
        );
    }
}
