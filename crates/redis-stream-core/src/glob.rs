//! Redis' glob dialect, as used by `SCAN ... MATCH` and `KEYS`, over bytes.
//!
//! It behaves as `stringmatchlen` in the servers' `util.c` does (Redis 6.2 to 8 and Valkey up to 9.1 agree;
//! `tests/glob.rs` compares it with a real server):
//!
//! | pattern | matches |
//! | --- | --- |
//! | `*` | any bytes, also none |
//! | `?` | one byte |
//! | `[abc]`, `[a-z]`, `[z-a]` | one of these bytes; a range may be written from either end |
//! | `[^a]` | one byte other than these; `!` does not negate |
//! | `\x` | the byte `x`, also inside a class; at the end of the pattern the backslash itself |
//! | `[abc` | a class without a closing bracket ends with the pattern |
//!
//! Surprising cases: `[a-]` is the unclosed range from `]` to `a`, `[]` matches nothing and `[^]` any byte. The empty
//! key is matched by `*` and by the empty pattern, but not by `**`. Bytes in a range are compared as signed, as servers
//! on x86-64 do. Servers built where C's `char` is unsigned (Linux on ARM) differ only in ranges from ASCII to beyond
//! it, such as `[a-\xff]`.

use std::fmt;

use crate::escape::escape;

pub mod regex;

/// A parsed pattern. Patterns are equal if their bytes are.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Glob {
    pattern: Vec<u8>,
    tokens: Vec<Token>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Token {
    /// Any bytes. Never two in succession.
    Star,
    One(u8),
    Class(ByteSet),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct ByteSet([u128; 2]);

impl Glob {
    /// Parses a pattern. Every sequence of bytes is a valid pattern.
    pub fn new(pattern: impl Into<Vec<u8>>) -> Self {
        let pattern = pattern.into();
        let tokens = parse(&pattern);
        Self { pattern, tokens }
    }

    /// Returns the bytes of the pattern, to be sent to Redis.
    pub fn pattern(&self) -> &[u8] {
        &self.pattern
    }

    /// Returns the only key that the pattern matches, if it contains no glob characters other than escaped ones; `None`
    /// if it may match several keys.
    pub fn literal(&self) -> Option<Vec<u8>> {
        let byte = |token: &Token| match token {
            Token::One(byte) => Some(*byte),
            Token::Star | Token::Class(_) => None,
        };
        self.tokens.iter().map(byte).collect()
    }

    /// Returns true if a class in the pattern has no closing bracket. It ends with the pattern then, which is rarely
    /// meant.
    pub fn has_unclosed_class(&self) -> bool {
        let mut rest = &self.pattern[..];
        loop {
            rest = match rest {
                [] => return false,
                [b'[', tail @ ..] => match parse_class(tail) {
                    (_, Some(after)) => after,
                    (_, None) => return true,
                },
                [b'\\', _, tail @ ..] | [_, tail @ ..] => tail,
            };
        }
    }

    /// Returns true if the pattern matches all of `name`.
    ///
    /// The worst case takes time proportional to the product of both lengths, since a mismatch backtracks to the last
    /// star only: a longer match for an earlier star leaves less of the name for the same rest of the pattern.
    pub fn matches(&self, name: &[u8]) -> bool {
        if name.is_empty() {
            // The servers' loop does not run for an empty name; a single star is handled before it.
            return self.pattern.is_empty() || self.pattern == b"*";
        }
        let (mut token, mut at) = (0, 0);
        let mut retry = None;
        while at < name.len() {
            match self.tokens.get(token) {
                Some(Token::Star) => {
                    token += 1;
                    retry = Some((token, at));
                }
                Some(one) if one.takes(name[at]) => {
                    token += 1;
                    at += 1;
                }
                _ => {
                    let Some((after_star, from)) = retry else { return false };
                    retry = Some((after_star, from + 1));
                    (token, at) = (after_star, from + 1);
                }
            }
        }
        matches!(self.tokens[token..], [] | [Token::Star])
    }
}

impl Token {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Star => false,
            Self::One(one) => *one == byte,
            Self::Class(set) => set.contains(byte),
        }
    }
}

impl ByteSet {
    const NONE: Self = Self([0, 0]);
    const ALL: Self = Self([u128::MAX, u128::MAX]);

    fn contains(self, byte: u8) -> bool {
        self.0[usize::from(byte >> 7)] >> (byte & 0x7f) & 1 == 1
    }

    fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte >> 7)] |= 1 << (byte & 0x7f);
    }

    /// Compares bytes as signed; see the module's documentation.
    fn insert_range(&mut self, start: u8, end: u8) {
        let (start, end) = (start.cast_signed(), end.cast_signed());
        for byte in start.min(end)..=start.max(end) {
            self.insert(byte.cast_unsigned());
        }
    }

    fn inverted(self) -> Self {
        Self(self.0.map(|half| !half))
    }
}

fn parse(mut rest: &[u8]) -> Vec<Token> {
    let mut tokens = Vec::new();
    loop {
        let token;
        (token, rest) = match rest {
            [] => return tokens,
            [b'*', tail @ ..] => (Token::Star, tail),
            [b'?', tail @ ..] => (Token::Class(ByteSet::ALL), tail),
            [b'[', tail @ ..] => {
                let (class, after) = parse_class(tail);
                (class, after.unwrap_or_default())
            }
            [b'\\', byte, tail @ ..] | [byte, tail @ ..] => (Token::One(*byte), tail),
        };
        if token != Token::Star || tokens.last() != Some(&Token::Star) {
            tokens.push(token);
        }
    }
}

/// Parses a class after its `[`. Returns it and the rest of the pattern after its `]`; `None` if that is missing.
fn parse_class(inside: &[u8]) -> (Token, Option<&[u8]>) {
    let (negated, mut rest) = match inside {
        [b'^', tail @ ..] => (true, tail),
        _ => (false, inside),
    };
    let mut set = ByteSet::NONE;
    // The order of these arms is the servers': an escape first, then the end, then a range.
    let after = loop {
        rest = match rest {
            [] => break None,
            [b'\\', byte, tail @ ..] => {
                set.insert(*byte);
                tail
            }
            [b']', tail @ ..] => break Some(tail),
            [start, b'-', end, tail @ ..] => {
                set.insert_range(*start, *end);
                tail
            }
            [byte, tail @ ..] => {
                set.insert(*byte);
                tail
            }
        };
    };
    (Token::Class(if negated { set.inverted() } else { set }), after)
}

/// Writes the [escaped](crate::escape) pattern, so that different patterns never look the same.
impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.pattern))
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Glob({self})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{ProptestConfig, any, proptest};
    use proptest::sample::select;
    use proptest::{prop_assert, prop_assert_eq};

    use super::Glob;

    #[track_caller]
    fn check(pattern: &[u8], matching: &[&[u8]], others: &[&[u8]]) {
        let glob = Glob::new(pattern);
        for name in matching {
            assert!(glob.matches(name), "{glob} does not match {:?}", Glob::new(*name));
        }
        for name in others {
            assert!(!glob.matches(name), "{glob} matches {:?}", Glob::new(*name));
        }
    }

    #[test]
    fn a_class_without_its_bracket_is_noticed() {
        for (pattern, is_unclosed) in [
            ("orders[*", true),
            ("[", true),
            ("a[b]c[d", true),
            ("a[a-]", true),
            ("[\\]", true),
            ("orders*", false),
            ("a[bc]", false),
            ("[]", false),
            ("\\[a", false),
            ("]", false),
            ("[a-c]\\", false),
        ] {
            assert_eq!(Glob::new(pattern).has_unclosed_class(), is_unclosed, "{pattern}");
        }
    }

    #[test]
    fn stars_and_question_marks() {
        check(b"", &[b""], &[b"a"]);
        check(b"*", &[b"", b"a", b"ab", b"*"], &[]);
        check(b"**", &[b"a", b"ab"], &[b""]);
        check(b"a*", &[b"a", b"ab"], &[b"", b"ba"]);
        check(b"*a", &[b"a", b"ba", b"aa"], &[b"", b"ab"]);
        check(b"a*b*c", &[b"abc", b"aXbXc", b"abcbc"], &[b"acb", b"ab"]);
        check(b"?", &[b"a", b"?", b"\xff"], &[b"", b"ab"]);
        check(b"a?*", &[b"ab", b"abc"], &[b"a"]);
        check(b"orders:*", &[b"orders:", b"orders:eu"], &[b"order", b"Orders:eu"]);
    }

    #[test]
    fn classes() {
        check(b"[abc]", &[b"a", b"c"], &[b"", b"d", b"ab"]);
        check(b"[^abc]", &[b"d", b"^", b"\xff"], &[b"", b"a", b"dd"]);
        check(b"[!a]", &[b"!", b"a"], &[b"b"]);
        check(b"[a^]", &[b"a", b"^"], &[b"b"]);
        check(b"[a-c]x", &[b"ax", b"bx", b"cx"], &[b"dx", b"-x", b"Ax"]);
        check(b"[c-a]", &[b"a", b"b", b"c"], &[b"d", b"-"]);
        check(b"[^c-a]", &[b"d", b"-"], &[b"b"]);
        check(b"[\\]]", &[b"]"], &[b"\\", b"\\]"]);
        check(b"[\\a-c]", &[b"a", b"-", b"c"], &[b"b", b"\\"]);
        check(b"*[x-z]*", &[b"aya", b"z"], &[b"abc"]);
    }

    #[test]
    fn unusual_classes() {
        check(b"[]", &[], &[b"", b"]", b"a"]);
        check(b"[]]", &[], &[b"]", b"a]"]);
        check(b"[^]", &[b"a", b"]"], &[b""]);
        check(b"[", &[], &[b"["]);
        check(b"[^", &[b"a"], &[b"", b"ab"]);
        check(b"x[ab", &[b"xa", b"xb"], &[b"x", b"x[ab"]);
        check(b"[ab\\", &[b"a", b"\\"], &[b"["]);
        check(b"[a-", &[b"a", b"-"], &[b"b"]);
        check(b"[a-]", &[b"a", b"]", b"^"], &[b"-", b"b"]);
        check(b"[a-\\]]", &[b"a]", b"\\]"], &[b"a", b"]"]);
    }

    #[test]
    fn escapes() {
        check(b"\\*", &[b"*"], &[b"a", b"\\*"]);
        check(b"a\\", &[b"a\\"], &[b"a"]);
        check(b"\\\\", &[b"\\"], &[b"\\\\"]);
        check(b"\\a", &[b"a"], &[b"\\a"]);
        check(b"\\[a]", &[b"[a]"], &[b"a"]);
    }

    #[test]
    fn names_are_bytes() {
        check(b"\xff*", &[b"\xff", b"\xff\x00"], &[b"\xfe"]);
        check("?".as_bytes(), &[], &["ü".as_bytes()]);
        check(b"[\x80-\xff]", &[b"\x80", b"\xfe"], &[b"a"]);
    }

    #[test]
    fn ranges_compare_signed_bytes_as_the_servers_do_on_x86() {
        check(b"[a-\xff]", &[b"a", b"\xff", b"A"], &[b"b", b"\xfe"]);
    }

    #[test]
    fn many_stars_do_not_take_exponential_time() {
        check(&[b"a*".repeat(200), b"b".to_vec()].concat(), &[], &[&b"a".repeat(5000)]);
    }

    #[test]
    fn a_pattern_without_glob_characters_is_a_literal() {
        let literal = |pattern: &[u8]| Glob::new(pattern).literal();
        assert_eq!(literal(b"orders:eu"), Some(b"orders:eu".to_vec()));
        assert_eq!(literal(b"a\\*b\\"), Some(b"a*b\\".to_vec()));
        assert_eq!(literal(b"\xff]"), Some(b"\xff]".to_vec()));
        assert_eq!(literal(b""), Some(Vec::new()));
        for several in [&b"a*"[..], b"?", b"[a]", b"["] {
            assert_eq!(literal(several), None);
        }
    }

    #[test]
    fn a_pattern_is_shown_without_ambiguity() {
        let shown = |pattern: &[u8]| Glob::new(pattern).to_string();
        assert_eq!(shown("grün:*".as_bytes()), "grün:*");
        assert_eq!(shown(b"a\xffb\xfe"), "a\\xffb\\xfe");
        assert_eq!(shown(b"a\\xFFb"), "a\\x5cxFFb");
        assert_eq!(shown(b"\\*\\xg\\"), "\\*\\xg\\");
        assert_eq!(format!("{:?}", Glob::new("a*")), "Glob(a*)");
    }

    /// A direct implementation of the dialect, regardless of speed.
    fn naive(pattern: &[u8], name: &[u8]) -> bool {
        match pattern {
            [] => name.is_empty(),
            [b'*', rest @ ..] => naive(rest, name) || (!name.is_empty() && naive(pattern, &name[1..])),
            _ => {
                let Some((byte, tail)) = name.split_first() else { return false };
                let (taken, rest) = naive_one(pattern, *byte);
                taken && naive(rest, tail)
            }
        }
    }

    fn naive_one(pattern: &[u8], byte: u8) -> (bool, &[u8]) {
        match pattern[0] {
            b'?' => (true, &pattern[1..]),
            b'[' => {
                let negated = pattern.get(1) == Some(&b'^');
                let (mut at, mut found) = (if negated { 2 } else { 1 }, false);
                while at < pattern.len() && (pattern[at] != b']') {
                    let left = pattern.len() - at;
                    if pattern[at] == b'\\' && left >= 2 {
                        found |= pattern[at + 1] == byte;
                        at += 2;
                    } else if left >= 3 && pattern[at + 1] == b'-' {
                        let mut ends = [pattern[at].cast_signed(), pattern[at + 2].cast_signed()];
                        ends.sort_unstable();
                        found |= ends[0] <= byte.cast_signed() && byte.cast_signed() <= ends[1];
                        at += 3;
                    } else {
                        found |= pattern[at] == byte;
                        at += 1;
                    }
                }
                (found != negated, &pattern[pattern.len().min(at + 1)..])
            }
            b'\\' if pattern.len() > 1 => (pattern[1] == byte, &pattern[2..]),
            literal => (literal == byte, &pattern[1..]),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn matches_as_the_naive_reference_does(
            pattern in vec(select(&b"ab-^[]\\*?\xff"[..]), 0..10),
            name in vec(select(&b"ab-^[]\\*?\xff"[..]), 1..8),
        ) {
            prop_assert_eq!(Glob::new(pattern.clone()).matches(&name), naive(&pattern, &name));
        }

        #[test]
        fn a_literal_matches_itself_alone(pattern in vec(any::<u8>(), 0..10), other in vec(any::<u8>(), 0..3)) {
            let glob = Glob::new(pattern);
            if let Some(literal) = glob.literal() {
                prop_assert!(glob.matches(&literal));
                prop_assert_eq!(glob.matches(&other), other == literal);
            }
        }
    }
}
