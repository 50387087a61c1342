//! The fields of an entry: as text, and as JSON that `produce --json-lines` reads.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};
use serde_json::json;

use crate::format::unicode::printable;
use crate::format::units::count;
use redis_stream_core::escape::escape;

/// A field. In JSON a list of name and value: text, `{"base64": …}` for a value that is not UTF-8, or
/// `{"omitted_bytes": …}` for one that was not read, which `produce` refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedField {
    pub(crate) name: Vec<u8>,
    pub(crate) value: FieldValue,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FieldValue {
    Known(Vec<u8>),
    /// It has so many bytes, and is not shown.
    Omitted(u64),
}

impl ListedField {
    pub(crate) fn new(name: &[u8], value: &[u8]) -> Self {
        Self { name: name.to_vec(), value: FieldValue::Known(value.to_vec()) }
    }

    /// Returns the name and the value as text, with control characters and bytes that are not UTF-8 as `\xHH`.
    pub(crate) fn texts(&self) -> (String, String) {
        let value = match &self.value {
            FieldValue::Known(bytes) => escape(bytes),
            FieldValue::Omitted(length) => Cow::Owned(format!("({} bytes)", count(*length))),
        };
        (printable(&escape(&self.name)).into_owned(), printable(&value).into_owned())
    }
}

impl Serialize for ListedField {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value = match &self.value {
            FieldValue::Omitted(length) => json!({"omitted_bytes": length}),
            FieldValue::Known(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => text.into(),
                Err(_) => json!({"base64": STANDARD.encode(bytes)}),
            },
        };
        (escape(&self.name), value).serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_text_for_people_and_exact_in_json() {
        for (name, value, texts, json) in [
            (&b"n"[..], &b"1\r2"[..], ("n", "1\\x0d2"), r#"["n","1\r2"]"#),
            (b"\xff\n", b"\xff", ("\\xff\\x0a", "\\xff"), r#"["\\xff\n",{"base64":"/w=="}]"#),
            (b"\\x41", b"\\x41", ("\\x5cx41", "\\x5cx41"), r#"["\\x5cx41","\\x41"]"#),
        ] {
            let field = ListedField::new(name, value);
            assert_eq!(field.texts(), (texts.0.to_owned(), texts.1.to_owned()));
            assert_eq!(serde_json::to_string(&field).unwrap(), json);
        }
        let long = ListedField { name: b"n".to_vec(), value: FieldValue::Omitted(2_000) };
        assert_eq!(long.texts().1, "(2,000 bytes)");
        assert_eq!(serde_json::to_string(&long).unwrap(), r#"["n",{"omitted_bytes":2000}]"#);
    }
}
