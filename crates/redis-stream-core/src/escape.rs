//! Converts bytes to text and back. Names, patterns and values in Redis are bytes, and not always UTF-8.
//!
//! A byte that is not part of valid UTF-8 becomes `\xHH`. A backslash that would read as such an escape becomes `\x5c`.
//! So different bytes never become the same text, and [`unescape`] returns the original bytes.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Returns the bytes as text, escaped as described in the [module](self).
#[must_use]
pub fn escape(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains("\\x") => Cow::Borrowed(text),
        _ => Cow::Owned(escaped(bytes)),
    }
}

fn escaped(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid();
        for (at, character) in valid.char_indices() {
            if character == '\\' && first_escape(&valid.as_bytes()[at..]).is_some() {
                push_byte(&mut out, b'\\');
            } else {
                out.push(character);
            }
        }
        for byte in chunk.invalid() {
            push_byte(&mut out, *byte);
        }
    }
    out
}

/// Returns the bytes of an [escaped](escape) text. Text that is not an escape is returned as it is.
#[must_use]
pub fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        match first_escape(rest) {
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
    bytes
}

/// Returns the text with each character for which `is_unsafe` returns true escaped byte by byte.
///
/// Use it for an output in which some characters have a meaning, such as control characters in a terminal.
#[must_use]
pub fn escape_chars(text: &str, is_unsafe: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_unsafe(character) {
            character.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| push_byte(&mut out, byte));
        } else {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

/// Appends a byte as `\xHH`.
pub fn push_byte(out: &mut String, byte: u8) {
    write!(out, "\\x{byte:02x}").expect("a string takes any text");
}

/// Returns the byte of the escape at the start of the text, if there is one.
fn first_escape(text: &[u8]) -> Option<u8> {
    let [b'\\', b'x', high, low, ..] = text else { return None };
    let digit = |hex: u8| char::from(hex).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(*high)? << 4 | digit(*low)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn different_bytes_never_become_the_same_text() {
        for (bytes, expected) in [
            (&b"orders"[..], "orders"),
            ("gr\u{fc}n".as_bytes(), "gr\u{fc}n"),
            (b"a\xffb", "a\\xffb"),
            (b"a\\xffb", "a\\x5cxffb"),
            (b"a\\xFFb", "a\\x5cxFFb"),
            (b"a\\xfg", "a\\xfg"),
            (b"C:\\temp", "C:\\temp"),
            (b"\\\\xff", "\\\\x5cxff"),
            (b"\\\xff", "\\\\xff"),
            (b"\xe2\x82", "\\xe2\\x82"),
            (b"\\x\xff", "\\x\\xff"),
            (b"a\nb", "a\nb"),
            (b"\xff\x00a", "\\xff\0a"),
            (b"\\xff", "\\x5cxff"),
            (b"\\xFF", "\\x5cxFF"),
            (b"\\x5c", "\\x5cx5c"),
            (b"\\x", "\\x"),
            (b"\\xg0 \\n", "\\xg0 \\n"),
            (b"", ""),
        ] {
            assert_eq!(escape(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn escapes_are_unescaped_and_other_text_is_kept() {
        for (text, bytes) in [
            ("orders", &b"orders"[..]),
            ("a\\xffb", b"a\xffb"),
            ("\\xFf\\x00", b"\xff\x00"),
            ("\\x5cx41", b"\\x41"),
            ("\\*\\xg0\\x4", b"\\*\\xg0\\x4"),
            ("gr\u{fc}n", "gr\u{fc}n".as_bytes()),
        ] {
            assert_eq!(unescape(text), bytes, "{text}");
        }
    }

    #[test]
    fn unsafe_characters_are_escaped_byte_by_byte() {
        assert_eq!(escape_chars("a\u{1b}\u{202e}b", |c| !c.is_ascii_graphic()), "a\\x1b\\xe2\\x80\\xaeb");
        assert!(matches!(escape_chars("ab", |c| !c.is_ascii_graphic()), Cow::Borrowed("ab")));
    }

    proptest! {
        #[test]
        fn unescape_inverts_escape(bytes in proptest::collection::vec(
            prop_oneof![Just(b'\\'), Just(b'x'), Just(b'5'), Just(b'c'), any::<u8>()], 0..24)) {
            prop_assert_eq!(unescape(&escape(&bytes)), bytes);
        }
    }
}
