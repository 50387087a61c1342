//! Entries from lines of JSON: an object, or a list of pairs for names that occur twice, as the consumer writes fields.

use std::fmt;
use std::io::{BufRead, Read as _};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::entry::Fields;
use crate::error::InvalidConfig;
use redis_stream_core::escape::unescape;

/// Lines that were read ahead.
const READ_AHEAD: usize = 32;
const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

/// Entries read from lines, or the error of the line that is no entry, which is the last.
pub type EntryLines = mpsc::Receiver<Result<Fields, InvalidConfig>>;

/// Reads lines on a thread, until the end of the input, the first error, or the end of the receiver.
///
/// # Errors
///
/// The system cannot start a thread.
pub fn read_lines(input: impl BufRead + Send + 'static) -> std::io::Result<EntryLines> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    thread::Builder::new().name("lines".to_owned()).spawn(move || send_lines(input, &sender))?;
    Ok(receiver)
}

fn send_lines(mut input: impl BufRead, sender: &mpsc::Sender<Result<Fields, InvalidConfig>>) {
    for number in 1_u64.. {
        let mut line = Vec::new();
        let read = input.by_ref().take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', &mut line);
        let entry = match read {
            Ok(0) => return,
            Ok(_) if line.len() > MAX_LINE_BYTES => Err(format!("it has more than {MAX_LINE_BYTES} bytes")),
            Ok(_) if line.trim_ascii().is_empty() => continue,
            Ok(_) => parse(&line),
            Err(error) => Err(format!("cannot read it: {error}")),
        };
        let entry = entry.map_err(|why| InvalidConfig::new(format!("line {number} of the input: {why}")));
        let is_last = entry.is_err();
        if sender.blocking_send(entry).is_err() || is_last {
            return;
        }
    }
}

/// Parses one line.
fn parse(line: &[u8]) -> Result<Fields, String> {
    const EXPECTED: &str =
        "expected a JSON object, such as {\"user\":\"ann\"}, or a list of pairs [[\"user\",\"ann\"]]";
    let text = std::str::from_utf8(line).map_err(|_| format!("not UTF-8; {EXPECTED}"))?;
    let pairs: Result<Vec<(String, Box<RawValue>)>, _> = if text.trim_start().starts_with('[') {
        serde_json::from_str(text)
    } else {
        serde_json::from_str::<Pairs>(text).map(|pairs| pairs.0)
    };
    // The parser's message may quote the line.
    let pairs = pairs.map_err(|error| format!("not an entry, at column {}; {EXPECTED}", error.column()))?;
    if pairs.is_empty() {
        return Err("an entry has at least one field".to_owned());
    }
    pairs.into_iter().map(|(name, value)| Ok((unescape(&name), bytes(&value)?))).collect()
}

/// Returns a string as it is, `{"base64": "..."}` as its bytes, and any other value as its JSON.
fn bytes(json: &RawValue) -> Result<Vec<u8>, String> {
    let as_written = || json.get().as_bytes().to_vec();
    Ok(match serde_json::from_str(json.get()) {
        Ok(Value::String(text)) => text.into_bytes(),
        Ok(Value::Object(object)) if object.len() == 1 => {
            if object.get("omitted_bytes").is_some_and(Value::is_u64) {
                return Err("a value was left out for its length (omitted_bytes)".to_owned());
            }
            let encoded = object.get("base64").and_then(Value::as_str);
            encoded.and_then(|text| STANDARD.decode(text).ok()).unwrap_or_else(as_written)
        }
        _ => as_written(),
    })
}

/// The fields of an object in their order, with repeated names.
struct Pairs(Vec<(String, Box<RawValue>)>);

impl<'de> serde::Deserialize<'de> for Pairs {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn fields(pairs: &[(&str, &[u8])]) -> Fields {
        pairs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect()
    }

    #[test]
    fn a_line_is_an_entry_with_its_fields_in_order() {
        for (line, expected) in [
            (r#"{"z":"1","a":"say \"hi\""}"#, fields(&[("z", b"1"), ("a", b"say \"hi\"")])),
            (r#" {"n":1.50,"b":true,"x":null} "#, fields(&[("n", b"1.50"), ("b", b"true"), ("x", b"null")])),
            (r#"{"o":{"b":1,"a":[ 2 ]}}"#, fields(&[("o", br#"{"b":1,"a":[ 2 ]}"#)])),
            (r#"{"v":{"base64":"/wA="}}"#, fields(&[("v", b"\xff\0")])),
            (r#"{"v":{"base64":"?"}}"#, fields(&[("v", br#"{"base64":"?"}"#)])),
            (r#"[["n","1"],["n","2"]]"#, fields(&[("n", b"1"), ("n", b"2")])),
            (r#"{"n":"1","n":"2"}"#, fields(&[("n", b"1"), ("n", b"2")])),
            (r#"{"":""}"#, fields(&[("", b"")])),
        ] {
            assert_eq!(parse(line.as_bytes()), Ok(expected), "{line}");
        }
        assert_eq!(parse(br#"{"\\xff":"1"}"#).unwrap()[0].0, b"\xff");
        let left_out = parse(br#"[["n","1"],["m",{"omitted_bytes":2000}]]"#);
        assert_eq!(left_out, Err("a value was left out for its length (omitted_bytes)".to_owned()));
    }

    #[test]
    fn another_line_is_refused_without_being_shown() {
        for line in ["{", "5", "\"secret\"", "[1]", "[[\"a\"]]", "{\"a\":\"1\"} x", "{\"a\":secret}"] {
            let error = parse(line.as_bytes()).unwrap_err();
            assert!(
                error.starts_with("not an entry, at column ") && !error.contains("secret"),
                "{line}: {error}"
            );
        }
        assert_eq!(parse(b"{}").unwrap_err(), "an entry has at least one field");
        assert!(parse(b"{\"a\":\"\xff\"}").unwrap_err().starts_with("not UTF-8"));
    }

    #[test]
    fn reading_ends_at_the_first_wrong_line_which_is_named() {
        let mut lines =
            read_lines(Cursor::new("{\"a\":\"1\"}\n\n{\"a\":\"2\"}\nx\n{\"a\":\"3\"}\n")).unwrap();
        let mut read = Vec::new();
        while let Some(line) = lines.blocking_recv() {
            read.push(line);
        }
        assert_eq!(read.len(), 3);
        let error = read.pop().unwrap().unwrap_err().to_string();
        assert!(error.starts_with("line 4 of the input: not an entry, at column 1; "), "{error}");
        assert!(read.iter().all(Result::is_ok));
    }
}
