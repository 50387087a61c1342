//! Characters that are invisible or change the text around them: a name with one of them looks like another name, and
//! may act on the terminal that it is printed to. Text is escaped for people here; labels and JSON values are not.

use std::borrow::Cow;

use redis_stream_core::escape::escape_chars;

/// The format characters of Unicode 16 and its characters that are ignored by default, assigned or not, in order; and the
/// blank Braille pattern, which Unicode lists among the symbols. A test compares them with Unicode's own properties.
const UNSEEN: [(char, char); 26] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{202a}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    (BLANK_BRAILLE, BLANK_BRAILLE),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

const BLANK_BRAILLE: char = '\u{2800}';

/// Returns true if a character must be escaped to be seen: control and format characters, fillers, variation selectors,
/// tags, line and paragraph separators, and every space other than U+0020.
pub fn is_invisible(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_control();
    }
    let next = UNSEEN.partition_point(|&(_, last)| last < character);
    character.is_control()
        || character.is_whitespace()
        || UNSEEN.get(next).is_some_and(|&(first, _)| first <= character)
}

/// Cuts a text off after a number of characters, with an ellipsis in place of the rest.
pub(crate) fn shortened(text: &str, chars: usize) -> Cow<'_, str> {
    match text.char_indices().nth(chars) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// Returns text for one line: invisible characters, and line breaks, are written `\xHH`, byte by byte.
pub fn printable(text: &str) -> Cow<'_, str> {
    escape_chars(text, is_invisible)
}

/// Returns text for a terminal as [`printable`] does, except that it keeps line breaks and colours.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    if !text.contains(|character| character != '\n' && is_invisible(character)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for line in text.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        let mut parts = line.split("\x1b[");
        out.push_str(&printable(parts.next().unwrap_or_default()));
        for part in parts {
            let parameters =
                part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').len();
            let is_colour = part[parameters..].starts_with('m');
            out.push_str(if is_colour { "\x1b[" } else { "\\x1b[" });
            out.push_str(&printable(part));
        }
        out.push_str(end);
    }
    Cow::Owned(out)
}

/// Returns JSON with the invisible characters in its strings written `\uHHHH`, which is the same JSON. JSON itself only
/// requires that for some of the control characters.
pub fn printable_json(json: &str) -> Cow<'_, str> {
    let is_unsafe = |character: char| character != '\n' && is_invisible(character);
    if !json.contains(is_unsafe) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        if is_unsafe(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_touch_the_terminal() {
        for (name, shown) in [
            ("orders", "orders"),
            ("grün 注文", "grün 注文"),
            ("\x1b[2Jgone\x07", "\\x1b[2Jgone\\x07"),
            ("a\nb\tc\r", "a\\x0ab\\x09c\\x0d"),
            ("\u{9b}31m\u{7f}", "\\xc2\\x9b31m\\x7f"),
            ("abc\u{202e}cba\u{feff}", "abc\\xe2\\x80\\xaecba\\xef\\xbb\\xbf"),
            ("a\u{ad}b\u{a0}c", "a\\xc2\\xadb\\xc2\\xa0c"),
        ] {
            assert_eq!(printable(name), shown);
        }
    }

    #[test]
    fn lines_keep_colours_and_breaks_and_nothing_else() {
        for (text, shown) in [
            ("a\nb\n", "a\nb\n"),
            ("\x1b[1;31mred\x1b[0m\n", "\x1b[1;31mred\x1b[0m\n"),
            ("\x1b[m\x1b[2J\x1b]0;owned\x07\n\x1b[", "\x1b[m\\x1b[2J\\x1b]0;owned\\x07\n\\x1b["),
            ("a\rb\u{9b}0m\u{202e}", "a\\x0db\\xc2\\x9b0m\\xe2\\x80\\xae"),
        ] {
            assert_eq!(printable_lines(text), shown);
        }
    }

    #[test]
    fn json_stays_the_same_json() {
        let json = "{\"a\u{7f}\u{9b}\":\"\u{202e}\u{e0041}\\n\"}\n";
        let printed = printable_json(json);
        assert_eq!(printed, "{\"a\\u007f\\u009b\":\"\\u202e\\udb40\\udc41\\n\"}\n");
        let parsed = |json: &str| serde_json::from_str::<serde_json::Value>(json).unwrap();
        assert_eq!(parsed(&printed), parsed(json));
    }

    #[test]
    fn invisible_characters_are_those_of_unicode() {
        let properties = r"[\p{Cc}\p{Cf}\p{Z}\p{Default_Ignorable_Code_Point}\x{2800}--\x20]";
        let invisible = regex::Regex::new(properties).unwrap();
        for character in '\0'..=char::MAX {
            let is_listed = invisible.is_match(character.encode_utf8(&mut [0; 4]));
            assert_eq!(is_invisible(character), is_listed, "{}", character.escape_unicode());
        }
    }

    #[test]
    fn what_is_seen_is_left_as_it_is() {
        for character in "aZ9 ~-_:./\\\"<&\u{e9}\u{df}\u{142}\u{3b1}\u{436}\u{5d0}\u{645}\u{e01}\u{6ce8}\u{304b}\u{ac00}\u{1f600}\u{301}\u{fffd}".chars() {
            assert!(!is_invisible(character), "{}", character.escape_unicode());
        }
    }

    #[test]
    fn what_is_not_seen_is_known_of_each_kind() {
        for (kind, characters) in [
            ("controls", "\0\u{1b}\n\t\u{7f}\u{85}\u{9b}"),
            ("marks of direction", "\u{61c}\u{200e}\u{200f}\u{202a}\u{202e}\u{2066}\u{2069}"),
            ("joiners and shy hyphens", "\u{ad}\u{34f}\u{200b}\u{200c}\u{200d}\u{2060}\u{2064}\u{feff}"),
            ("fillers", "\u{115f}\u{1160}\u{3164}\u{ffa0}\u{2800}"),
            ("vowels of no sound", "\u{17b4}\u{17b5}\u{180e}"),
            ("selectors of variants", "\u{180b}\u{fe00}\u{fe0f}\u{e0100}\u{e01ef}"),
            ("separators", "\u{2028}\u{2029}"),
            ("spaces", "\u{a0}\u{1680}\u{2000}\u{2009}\u{202f}\u{205f}\u{3000}"),
            ("annotations", "\u{fff9}\u{fffb}\u{206a}\u{206f}"),
            ("music and shorthand", "\u{1d173}\u{1d17a}\u{1bca0}"),
            ("tags", "\u{e0001}\u{e0041}\u{e007f}\u{e0fff}"),
        ] {
            for character in characters.chars() {
                assert!(is_invisible(character), "{kind}: {}", character.escape_unicode());
            }
        }
    }
}
