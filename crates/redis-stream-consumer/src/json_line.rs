//! An entry as one JSON line:
//! `{"id":"1-0","stream":"orders","group":"g","consumer":"c","deliveries":1,"fields":{"n":"1"}}`.
//!
//! `deliveries` is the number of deliveries of the entry to any consumer, including this one, without those that do not
//! count.
//!
//! Names and values are bytes in Redis, and text in JSON. A value that is not UTF-8 is an object with the key `base64`:
//! `{"n":{"base64":"/wA="}}`. In names (of fields, stream, group and consumer), a byte that is not UTF-8 is written `\xHH`
//! in lower case, and a backslash before `x` and two hex digits `\x5c`, so that different names stay different. Fields
//! keep the entry's order. If a name occurs twice in the entry, they are a list of pairs: `[["n","1"],["n","2"]]`.

use std::collections::HashSet;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use redis_stream_core::escape::escape;

use super::entry::{Entry, Fields, GroupMember};

/// The format of the lines of one consumer.
#[derive(Clone, Debug)]
pub struct LineFormat {
    /// The text between ID and deliveries.
    middle: String,
}

impl LineFormat {
    /// Returns the format for a consumer.
    #[must_use]
    pub fn new(member: &GroupMember) -> Self {
        let [stream, group, consumer] = [&member.stream, &member.group, &member.consumer].map(|name| {
            let mut quoted = Vec::new();
            quote(&escape(name), &mut quoted);
            String::from_utf8_lossy(&quoted).into_owned()
        });
        let middle = format!(r#"","stream":{stream},"group":{group},"consumer":{consumer},"deliveries":"#);
        Self { middle }
    }

    /// Appends the line of an entry, with its newline.
    pub fn write(&self, entry: &Entry, out: &mut Vec<u8>) {
        write!(out, r#"{{"id":"{}"#, entry.id).expect("writing to memory succeeds");
        out.extend_from_slice(self.middle.as_bytes());
        write!(out, r#"{},"fields":"#, entry.deliveries).expect("writing to memory succeeds");
        // A JSON object with a repeated name would lose all values but the last in most parsers.
        let parts =
            if has_repeated_name(&entry.fields) { ["[[", "],[", ",", "]]"] } else { ["{", ",", ":", "}"] };
        let [open, next, middle, close] = parts.map(str::as_bytes);
        out.extend_from_slice(open);
        for (index, (name, value)) in entry.fields.iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(next);
            }
            quote(&escape(name), out);
            out.extend_from_slice(middle);
            write_value(value, out);
        }
        out.extend_from_slice(close);
        out.extend_from_slice(b"}\n");
    }
}

fn has_repeated_name(fields: &Fields) -> bool {
    // Most entries have few fields, for which comparing all of them is the quickest way.
    if let [rest @ .., _] = &fields[..]
        && fields.len() <= 8
    {
        return rest
            .iter()
            .enumerate()
            .any(|(at, (name, _))| fields[at + 1..].iter().any(|(other, _)| other == name));
    }
    let mut names = HashSet::new();
    !fields.iter().all(|(name, _)| names.insert(name))
}

fn write_value(value: &[u8], out: &mut Vec<u8>) {
    match std::str::from_utf8(value) {
        Ok(text) => quote(text, out),
        Err(_) => {
            out.extend_from_slice(br#"{"base64":""#);
            out.extend_from_slice(STANDARD.encode(value).as_bytes());
            out.extend_from_slice(br#""}"#);
        }
    }
}

fn quote(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a string is valid JSON, and writing to memory succeeds");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::entry::StreamId;

    fn line(fields: &[(&[u8], &[u8])]) -> String {
        let [stream, group, consumer] = ["orders", "billing", "c-1"].map(|name| name.as_bytes().to_vec());
        let member = GroupMember { stream, group, consumer };
        let format = LineFormat::new(&member);
        let fields = fields.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        let entry = Entry { id: StreamId { ms: 1, seq: 0 }, fields, deliveries: 2, member: Arc::new(member) };
        let mut out = Vec::new();
        format.write(&entry, &mut out);
        String::from_utf8(out).unwrap()
    }

    const START: &str = r#"{"id":"1-0","stream":"orders","group":"billing","consumer":"c-1","deliveries":2,"#;

    #[test]
    fn an_entry_is_one_line_with_its_fields_in_order() {
        assert_eq!(
            line(&[(b"z", b"1"), (b"a", b"say \"hi\"\n\\x41"), (b"\xff", b"\xff\0")]),
            format!(r#"{START}"fields":{{"z":"1","a":"say \"hi\"\n\\x41","\\xff":{{"base64":"/wA="}}}}}}"#)
                + "\n"
        );
        assert_eq!(line(&[]), format!("{START}\"fields\":{{}}}}\n"));
    }

    #[test]
    fn fields_of_one_name_are_a_list_of_pairs() {
        assert_eq!(
            line(&[(b"a", b"1"), (b"b", b"\xff"), (b"a", b"2")]),
            format!(r#"{START}"fields":[["a","1"],["b",{{"base64":"/w=="}}],["a","2"]]}}"#) + "\n"
        );
        let names: Vec<_> = (0..20).map(|n| [n % 19]).collect();
        let fields: Vec<(&[u8], &[u8])> = names.iter().map(|name| (&name[..], &b"1"[..])).collect();
        assert!(line(&fields).contains(r#""fields":[["#));
        assert!(line(&fields[..19]).contains(r#""fields":{"#));
    }
}
