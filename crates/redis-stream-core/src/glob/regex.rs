//! Converts a glob to a regular expression for Prometheus, which matches the [escaped](crate::escape) names of the keys
//! that the glob matches.
//!
//! The expression is not anchored, since Prometheus anchors it. A glob matches bytes and a regular expression matches
//! characters, so the two differ in some cases: `?` and a negated class match one character rather than one byte, and
//! `*` does not match a line break.

use super::{ByteSet, Glob, Token};

impl Glob {
    /// Returns the glob as a regular expression in RE2 syntax; see the [module](self) for the differences.
    #[must_use]
    pub fn regex(&self) -> String {
        let mut regex = String::new();
        let mut literal = Vec::new();
        for token in &self.tokens {
            if let Token::One(byte) = token {
                literal.push(*byte);
                continue;
            }
            push_literal(&mut regex, &mut literal);
            match token {
                Token::Star => regex.push_str(".*"),
                Token::Class(set) => regex.push_str(&class(*set)),
                Token::One(_) => {}
            }
        }
        push_literal(&mut regex, &mut literal);
        regex
    }

    /// Returns true if the pattern is `*`, which matches every name.
    #[must_use]
    pub fn matches_all(&self) -> bool {
        self.pattern == b"*"
    }
}

fn push_literal(regex: &mut String, literal: &mut Vec<u8>) {
    // Globs are escaped in the same way as names in labels.
    let text = Glob::new(std::mem::take(literal)).to_string();
    text.chars().for_each(|char| push_escaped(regex, char));
}

fn push_escaped(regex: &mut String, char: char) {
    match char {
        '\n' => regex.push_str("\\n"),
        _ => {
            if r"\.+*?()|[]{}^$".contains(char) {
                regex.push('\\');
            }
            regex.push(char);
        }
    }
}

fn class(set: ByteSet) -> String {
    let ascii: Vec<u8> = (0..128).filter(|byte| set.contains(*byte)).collect();
    let beyond: Vec<u8> = (128..=255).filter(|byte| set.contains(*byte)).collect();
    if beyond.len() == 128 {
        let excluded: Vec<u8> = (0..128).filter(|byte| !set.contains(*byte)).collect();
        return if excluded.is_empty() { ".".to_owned() } else { format!("[^{}]", ranges(&excluded)) };
    }
    let ascii = match ascii[..] {
        [] if beyond.is_empty() => return "[^\\x00-\\x{10FFFF}]".to_owned(),
        [] => None,
        [one] => {
            let mut escaped = String::new();
            push_escaped(&mut escaped, char::from(one));
            Some(escaped)
        }
        _ => Some(format!("[{}]", ranges(&ascii))),
    };
    let beyond = beyond.iter().map(|byte| format!("\\\\x{byte:02x}"));
    let alternatives: Vec<_> = ascii.into_iter().chain(beyond).collect();
    match &alternatives[..] {
        [one] => one.clone(),
        _ => format!("(?:{})", alternatives.join("|")),
    }
}

/// Returns the contents of a bracketed class.
fn ranges(bytes: &[u8]) -> String {
    let mut text = String::new();
    for run in bytes.chunk_by(|a, b| a + 1 == *b) {
        match run {
            [first, _, .., last] => {
                push_in_class(&mut text, *first);
                text.push('-');
                push_in_class(&mut text, *last);
            }
            _ => run.iter().for_each(|byte| push_in_class(&mut text, *byte)),
        }
    }
    text
}

fn push_in_class(text: &mut String, byte: u8) {
    if byte.is_ascii_alphanumeric() || b"_:/,.;@ ".contains(&byte) {
        text.push(char::from(byte));
    } else {
        text.push_str(&format!("\\x{byte:02x}"));
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{ProptestConfig, proptest};
    use proptest::prop_assert_eq;
    use proptest::sample::select;

    use crate::glob::Glob;

    #[test]
    fn globs_are_regular_expressions() {
        for (pattern, regex) in [
            (&b"*"[..], ".*"),
            (b"orders:*", "orders:.*"),
            (b"a.b+c|d*", r"a\.b\+c\|d.*"),
            (b"a?c", "a.c"),
            (b"[abc]", "[a-c]"),
            (b"[ab]x", "[ab]x"),
            (b"[^a]", "[^a]"),
            (b"[^a-z_]*", "[^_a-z].*"),
            (b"[.]", r"\."),
            (b"[\\]x]", r"[\x5dx]"),
            (b"[]", "[^\\x00-\\x{10FFFF}]"),
            (b"\\*\\?*", r"\*\?.*"),
            (b"a\xff*", r"a\\xff.*"),
            (b"[a\xff]", r"(?:a|\\xff)"),
            ("gr\u{fc}n:*".as_bytes(), "gr\u{fc}n:.*"),
            (b"a\\\\xff*", r"a\\x5cxff.*"),
            (b"a\n*", "a\\n.*"),
            (b"", ""),
        ] {
            assert_eq!(Glob::new(pattern).regex(), regex, "{pattern:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn a_glob_and_its_regex_match_the_same_ascii_names(
            pattern in vec(select(&b"ab.-^[]*?\\$|"[..]), 0..10),
            names in vec(vec(select(&b"ab.-^[]*?$|"[..]), 1..6), 1..8),
        ) {
            let glob = Glob::new(pattern);
            let regex = regex::Regex::new(&format!("^(?:{})$", glob.regex())).unwrap();
            for name in names {
                let text = std::str::from_utf8(&name).unwrap();
                prop_assert_eq!(regex.is_match(text), glob.matches(&name), "{:?} {}", glob, text);
            }
        }
    }
}
