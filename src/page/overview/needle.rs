//! What is searched for in names, whatever the case of letters.

/// A text to be found in names.
pub(super) struct Needle(String);

impl Needle {
    /// What a reader has typed.
    pub(super) fn new(text: &str) -> Self {
        Self(text.to_lowercase())
    }

    /// Whether a name contains it.
    pub(super) fn is_in(&self, name: &str) -> bool {
        let needle = self.0.as_bytes();
        if needle.is_empty() {
            return true;
        }
        if name.is_ascii() {
            // Nearly all names are: thousands of them are searched for each letter that is typed, and none is copied.
            return name.as_bytes().windows(needle.len()).any(|part| part.eq_ignore_ascii_case(needle));
        }
        name.to_lowercase().contains(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_searched_whatever_the_case() {
        for (text, name, is_in) in [
            ("", "", true),
            ("", "orders", true),
            ("ORD", "orders", true),
            ("ders", "ORDERS", true),
            ("orders:", "orders", false),
            ("x", "orders", false),
            ("x", "", false),
            ("GR\u{dc}N", "gr\u{fc}n", true),
            ("gr\u{fc}n", "GR\u{dc}N", true),
            ("n", "GR\u{dc}N", true),
            ("\u{fc}", "orders", false),
            // The sign of kelvins is a k in lower case.
            ("\u{212a}", "back", true),
            ("k", "\u{212a}", true),
        ] {
            assert_eq!(Needle::new(text).is_in(name), is_in, "{text:?} in {name:?}");
        }
    }
}
