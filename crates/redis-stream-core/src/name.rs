//! Names of keys, groups and consumers: bytes, not text.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::sync::Arc;

/// Name of a key, a group or a consumer. Cheap to clone.
///
/// Its [`Display`](fmt::Display) is how names are written everywhere outside Redis: a byte that is not part
/// of valid UTF-8 becomes `\xHH`, and a backslash that would read as such an escape becomes `\x5c`, so that
/// two names never become one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<[u8]>);

impl Name {
    /// The bytes as Redis has them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether there are clones of it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// The name that is written as this [text](Self::text).
    #[must_use]
    pub fn read(text: &str) -> Self {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let [first, tail @ ..] = rest {
            match escaped(rest) {
                Some(byte) => {
                    bytes.push(byte);
                    rest = &rest[4..];
                }
                None => {
                    bytes.push(*first);
                    rest = tail;
                }
            }
        }
        bytes.into()
    }

    /// The name as text; see [`Name`].
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        text(&self.0)
    }
}

impl From<&[u8]> for Name {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<Vec<u8>> for Name {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text(), f)
    }
}

/// Bytes of a name as text; see [`Name`].
#[must_use]
pub fn text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !bytes.contains(&b'\\') || !text.contains("\\x") => Cow::Borrowed(text),
        _ => Cow::Owned(escape(bytes)),
    }
}

fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 16);
    let mut rest = bytes;
    for chunk in bytes.utf8_chunks() {
        let (valid, invalid) = (chunk.valid(), chunk.invalid());
        for (at, character) in valid.char_indices() {
            if character == '\\' && reads_as_escape(&rest[at..]) {
                out.push_str("\\x5c");
            } else {
                out.push(character);
            }
        }
        for byte in invalid {
            out.push_str(&format!("\\x{byte:02x}"));
        }
        rest = &rest[valid.len() + invalid.len()..];
    }
    out
}

fn reads_as_escape(bytes: &[u8]) -> bool {
    escaped(bytes).is_some()
}

/// The byte of the escape that the text starts with.
fn escaped(text: &[u8]) -> Option<u8> {
    let [b'\\', b'x', high, low, ..] = text else { return None };
    let digit = |hex: u8| char::from(hex).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(*high)? << 4 | digit(*low)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_written_so_that_two_never_become_one() {
        for (bytes, expected) in [
            (&b"orders"[..], "orders"),
            ("gr\u{fc}n".as_bytes(), "gr\u{fc}n"),
            (b"a\xffb", "a\\xffb"),
            (b"a\\xffb", "a\\x5cxffb"),
            (b"a\\xfg", "a\\xfg"),
            (b"C:\\temp", "C:\\temp"),
            (b"\\\\xff", "\\\\x5cxff"),
            (b"\xe2\x82", "\\xe2\\x82"),
            (b"\\x\xff", "\\x\\xff"),
            (b"a\nb", "a\nb"),
            (b"", ""),
        ] {
            assert_eq!(text(bytes), expected, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn every_name_can_be_read_back(bytes in proptest::collection::vec(
            prop_oneof![Just(b'\\'), Just(b'x'), Just(b'5'), Just(b'c'), any::<u8>()], 0..24)) {
            prop_assert_eq!(Name::read(&text(&bytes)), Name::from(bytes));
        }
    }
}
