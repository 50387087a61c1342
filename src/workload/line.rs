//! An entry as one JSON line:
//! `{"id":"1-0","stream":"orders","group":"g","consumer":"c","fields":{"n":"1"}}`.
//!
//! Redis' names and values are bytes and JSON's are text: a byte that is not UTF-8 is written `\xHH` (lower
//! case), and a backslash that is followed by `x` and two hex digits is written `\x5c`, so two values never
//! become one. Fields keep the entry's order; a name that occurs twice in the entry does so in the line.

use std::borrow::Cow;

/// What all lines of one consumer have in common, written once.
#[derive(Clone, Debug)]
pub struct LineFormat {
    membership: String,
}

impl LineFormat {
    /// For a consumer of a group of a stream.
    pub fn new(stream: &[u8], group: &[u8], consumer: &[u8]) -> Self {
        let [stream, group, consumer] = [stream, group, consumer].map(quote);
        let membership = format!(r#","stream":{stream},"group":{group},"consumer":{consumer},"fields":{{"#);
        Self { membership }
    }

    /// Appends the line of an entry, with its newline.
    pub fn write(&self, id: &str, fields: &[(Vec<u8>, Vec<u8>)], out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"id":"#);
        out.extend_from_slice(quote(id.as_bytes()).as_bytes());
        out.extend_from_slice(self.membership.as_bytes());
        for (index, (name, value)) in fields.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(quote(name).as_bytes());
            out.push(b':');
            out.extend_from_slice(quote(value).as_bytes());
        }
        out.extend_from_slice(b"}}\n");
    }
}

/// Bytes as a JSON string with its quotes.
fn quote(bytes: &[u8]) -> String {
    serde_json::Value::from(escape(bytes)).to_string()
}

/// Bytes as text that says which bytes they were.
pub(super) fn escape(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.contains("\\x")
    {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        escape_text(chunk.valid(), &mut out);
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    Cow::Owned(out)
}

/// Text in which nothing may be taken for an escaped byte.
fn escape_text(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let looks_escaped =
            matches!(from.as_bytes(), [_, b'x', a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
        out.push_str(if looks_escaped { "\\x5c" } else { "\\" });
        rest = &from[1..];
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_line_with_its_fields_in_order() {
        let format = LineFormat::new(b"orders", b"billing", b"c-1");
        let fields = [("z", "1"), ("a", "say \"hi\"\n"), ("z", "2")]
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        let mut out = Vec::new();
        format.write("1-0", &fields, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                r#"{"id":"1-0","stream":"orders","group":"billing","consumer":"c-1","#,
                r#""fields":{"z":"1","a":"say \"hi\"\n","z":"2"}}"#,
                "\n"
            )
        );
    }

    #[test]
    fn bytes_that_are_not_text_are_escaped_and_no_two_values_become_one() {
        for (bytes, text) in [
            (&b"plain"[..], "plain"),
            ("größe".as_bytes(), "größe"),
            (b"\xff\x00a", "\\xff\0a"),
            (b"\\xff", "\\x5cxff"),
            (b"\\xFF", "\\x5cxFF"),
            (b"\\x5c", "\\x5cx5c"),
            (b"\\\xff", "\\\\xff"),
            (b"\\\\xff", "\\\\x5cxff"),
            (b"\\x", "\\x"),
            (b"\\xg0 \\n", "\\xg0 \\n"),
        ] {
            assert_eq!(escape(bytes), text);
        }
    }
}
