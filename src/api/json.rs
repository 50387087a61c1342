//! JSON that is also safe on a terminal: all invisible characters are escaped, not only those that JSON requires.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

use crate::format::unicode::printable_json;

/// Writes a value on one line.
///
/// # Errors
///
/// Those of `out`.
pub fn write<T: Serialize + ?Sized>(value: &T, out: &mut dyn Write) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, EscapeInvisible)).map_err(Into::into)
}

struct EscapeInvisible;

impl Formatter for EscapeInvisible {
    fn write_string_fragment<W: Write + ?Sized>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        out.write_all(printable_json(fragment).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_comes_through_and_none_is_lost() {
        let name = "a\u{1b}[2J\u{7f}\u{9b}31m\u{202e} \"gr\u{fc}n\" \n";
        let mut written = Vec::new();
        write(name, &mut written).unwrap();
        let text = String::from_utf8(written).unwrap();
        assert_eq!(text, r#""a\u001b[2J\u007f\u009b31m\u202e \"grün\" \n""#);
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), name);
    }
}
