//! An entry as one JSON line:
//! `{"id":"1-0","stream":"orders","group":"g","consumer":"c","fields":{"n":"1"}}`.
//!
//! Names and values are bytes in Redis, and text in JSON. A value that is not UTF-8 is an object with the key `base64`:
//! `{"n":{"base64":"/wA="}}`. In names (of fields, stream, group and consumer), a byte that is not UTF-8 is written `\xHH`
//! in lower case, and a backslash before `x` and two hex digits `\x5c`, so that different names stay different. Fields
//! keep the entry's order; a name that occurs twice in the entry occurs twice in the line.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use redis_stream_core::escape::escape;

use super::entry::{GroupMember, StreamId};

/// The format of the lines of one consumer.
#[derive(Clone, Debug)]
pub struct LineFormat {
    /// The text between ID and fields.
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
        let middle = format!(r#"","stream":{stream},"group":{group},"consumer":{consumer},"fields":{{"#);
        Self { middle }
    }

    /// Appends the line of an entry, with its newline.
    pub fn write(&self, id: StreamId, fields: &[(Vec<u8>, Vec<u8>)], out: &mut Vec<u8>) {
        write!(out, r#"{{"id":"{id}"#).expect("writing to memory succeeds");
        out.extend_from_slice(self.middle.as_bytes());
        for (index, (name, value)) in fields.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            quote(&escape(name), out);
            out.push(b':');
            write_value(value, out);
        }
        out.extend_from_slice(b"}}\n");
    }
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
    use super::*;

    #[test]
    fn an_entry_is_one_line_with_its_fields_in_order() {
        let [stream, group, consumer] = ["orders", "billing", "c-1"].map(|name| name.as_bytes().to_vec());
        let format = LineFormat::new(&GroupMember { stream, group, consumer });
        let fields =
            [(&b"z"[..], &b"1"[..]), (b"a", b"say \"hi\"\n\\x41"), (b"\xff", b"\xff\0"), (b"z", b"2")]
                .map(|(name, value)| (name.to_vec(), value.to_vec()));
        let mut out = Vec::new();
        format.write(StreamId { ms: 1, seq: 0 }, &fields, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                r#"{"id":"1-0","stream":"orders","group":"billing","consumer":"c-1","#,
                r#""fields":{"z":"1","a":"say \"hi\"\n\\x41","\\xff":{"base64":"/wA="},"z":"2"}}"#,
                "\n"
            )
        );
    }
}
