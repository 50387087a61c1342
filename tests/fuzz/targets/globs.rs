//! Globs: a pattern, NUL, and names that are held against it, with a NUL between them.

use redis_stream_core::escape::escape;
use redis_stream_core::glob::Glob;
use redis_stream_core::name::Name;
use regex::Regex;

pub fn run(data: &[u8]) {
    let mut parts = super::parts(data);
    let pattern = parts.next().unwrap_or_default();
    let glob = Glob::new(pattern);
    let pieces = pieces(pattern);
    check_how_it_is_shown(&glob);
    let regex = Regex::new(&format!("^(?:{})$", glob.regex())).expect("it is a regular expression");
    let literal = glob.literal();
    for name in parts.chain(literal.as_deref()) {
        let matches = glob.matches(name);
        assert_eq!(matches, matches_plainly(pattern, &pieces, name), "{glob:?} {:?}", Name::from(name));
        if let Some(literal) = &literal {
            assert_eq!(matches, name == literal, "{glob:?} is one name, {:?}", Name::from(name));
        }
        if let Some(text) = plain_text(name) {
            assert_eq!(regex.is_match(text), matches, "{regex} of {glob:?}: {text:?}");
        }
    }
    assert!(!glob.matches_all() || glob.matches(b"") && glob.matches(pattern));
}

/// It is shown as a name of these bytes is, and reads back.
fn check_how_it_is_shown(glob: &Glob) {
    let shown = glob.to_string();
    assert_eq!(shown, escape(glob.pattern()), "a pattern is shown as a name is");
    assert_eq!(Name::from_text(&shown).as_bytes(), glob.pattern(), "{shown:?} reads back");
}

/// A name of which a glob and its regular expression must say the same: for others that is not promised.
fn plain_text(name: &[u8]) -> Option<&str> {
    let is_plain = |byte: &u8| byte.is_ascii() && !b"\\\n".contains(byte);
    std::str::from_utf8(name).ok().filter(|_| !name.is_empty() && name.iter().all(is_plain))
}

/// A part of a pattern.
enum Piece {
    /// Any bytes.
    Star,
    /// One byte, of those that are true here.
    One(Box<[bool; 256]>),
}

/// The dialect, straight from its description.
fn pieces(pattern: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(byte) = pattern.get(at) {
        let next = pattern.get(at + 1);
        let (piece, length) = match (byte, next) {
            (b'*', _) => (Piece::Star, 1),
            (b'?', _) => (Piece::One(Box::new([true; 256])), 1),
            (b'[', _) => {
                let (members, length) = class(&pattern[at..]);
                (Piece::One(members), length)
            }
            (b'\\', Some(escaped)) => (Piece::One(only(*escaped)), 2),
            (byte, _) => (Piece::One(only(*byte)), 1),
        };
        pieces.push(piece);
        at += length;
    }
    pieces
}

fn only(byte: u8) -> Box<[bool; 256]> {
    let mut members = Box::new([false; 256]);
    members[usize::from(byte)] = true;
    members
}

/// The members of the class that a pattern begins with, and its length.
fn class(pattern: &[u8]) -> (Box<[bool; 256]>, usize) {
    let is_negated = pattern.get(1) == Some(&b'^');
    let mut members = Box::new([false; 256]);
    let mut at = if is_negated { 2 } else { 1 };
    while at < pattern.len() && pattern[at] != b']' {
        let left = pattern.len() - at;
        if pattern[at] == b'\\' && left >= 2 {
            members[usize::from(pattern[at + 1])] = true;
            at += 2;
        } else if left >= 3 && pattern[at + 1] == b'-' {
            let mut ends = [pattern[at].cast_signed(), pattern[at + 2].cast_signed()];
            ends.sort_unstable();
            for byte in ends[0]..=ends[1] {
                members[usize::from(byte.cast_unsigned())] = true;
            }
            at += 3;
        } else {
            members[usize::from(pattern[at])] = true;
            at += 1;
        }
    }
    if is_negated {
        members.iter_mut().for_each(|member| *member = !*member);
    }
    (members, pattern.len().min(at + 1))
}

/// Every place that each piece can lead to, one piece after the other.
fn matches_plainly(pattern: &[u8], pieces: &[Piece], name: &[u8]) -> bool {
    if name.is_empty() {
        return pattern.is_empty() || pattern == b"*";
    }
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for piece in pieces {
        let mut next = vec![false; name.len() + 1];
        for from in (0..=name.len()).filter(|from| reached[*from]) {
            match piece {
                Piece::Star => {
                    next[from..].fill(true);
                    break;
                }
                Piece::One(members) => {
                    if name.get(from).is_some_and(|byte| members[usize::from(*byte)]) {
                        next[from + 1] = true;
                    }
                }
            }
        }
        reached = next;
    }
    reached[name.len()]
}
