//! Characters that are invisible or change the text around them: a name with one of them looks like another name.

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory, GeneralCategoryGroup};
use icu_properties::{CodePointMapData, CodePointSetData};

/// Blank, although Unicode lists it among the symbols.
const BLANK_BRAILLE: char = '\u{2800}';

/// Returns true if a character must be escaped to be seen: control and format characters, fillers, variation selectors,
/// tags, line and paragraph separators, and every space other than U+0020.
#[must_use]
pub fn is_invisible(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_control();
    }
    let category = CodePointMapData::<GeneralCategory>::new().get(character);
    let unseen = GeneralCategoryGroup::Control
        .union(GeneralCategoryGroup::Format)
        .union(GeneralCategoryGroup::Separator);
    unseen.contains(category)
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character)
        || character == BLANK_BRAILLE
}

#[cfg(test)]
mod tests {
    use super::*;

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
