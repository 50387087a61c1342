//! Names from Redis on a page. They may be hostile: the templates escape markup, and this module makes characters
//! visible that would be invisible or change the text around them.

use std::ops::Range;

use maud::{Markup, html};

use crate::format::unicode::is_invisible;
use redis_stream_core::name::Name;

/// Characters that are kept of a name in a table, at its start and end.
const SHORT: (usize, usize) = (48, 15);
/// Characters that are kept of a name in a list of names.
const TINY: (usize, usize) = (12, 8);
/// Characters that are kept of a name in a heading.
const LONG: (usize, usize) = (300, 60);

/// Reads a name in a part of a path, as [`link`](crate::alert::link) writes it; bytes that are not UTF-8 are kept.
pub(super) fn of_path(part: &[u8]) -> Name {
    match std::str::from_utf8(part) {
        Ok(text) => Name::from_text(text),
        Err(_) => Name::from(part.to_vec()),
    }
}

/// Renders a name in a table; a long one is cut in the middle.
pub(super) fn short(name: &str) -> Markup {
    shown(name, SHORT)
}

/// Renders a name in a list of names; a long one is cut in the middle.
pub(super) fn tiny(name: &str) -> Markup {
    shown(name, TINY)
}

/// Renders a name in a heading; a very long one is cut in the middle.
pub(super) fn long(name: &str) -> Markup {
    shown(name, LONG)
}

/// Renders a text that is bounded and may contain names.
pub(super) fn whole(text: &str) -> Markup {
    html! { bdi { (visible(text)) } }
}

/// Renders the whole name if [`long`] cuts it.
pub(super) fn rest(name: &str) -> Option<Markup> {
    let chars = name.chars().count();
    (chars > LONG.0 + LONG.1 + 1).then(|| html! { bdi { (visible(name)) } })
}

/// Returns a name as plain text, for titles, cut as in a table.
pub(super) fn plain(name: &str) -> String {
    let mut text = String::new();
    for (part, is_odd) in parts(&cut(name, SHORT)) {
        if is_odd { text.extend(part.chars().flat_map(char::escape_default)) } else { text.push_str(part) }
    }
    if text.is_empty() { "(empty name)".to_owned() } else { text }
}

fn shown(name: &str, limits: (usize, usize)) -> Markup {
    html! {
        @if name.is_empty() {
            em { "(empty name)" }
        } @else {
            bdi { (visible(&cut(name, limits))) }
        }
    }
}

/// Replaces the middle of a long name with an ellipsis.
fn cut(name: &str, (start, end): (usize, usize)) -> String {
    let offset = |nth: usize| name.char_indices().nth(nth).map(|(offset, _)| offset);
    let chars = name.chars().count();
    if chars <= start + end + 1 {
        return name.to_owned();
    }
    let (Some(from), Some(to)) = (offset(start), offset(chars - end)) else { return name.to_owned() };
    format!("{}\u{2026}{}", &name[..from], &name[to..])
}

fn visible(name: &str) -> Markup {
    html! {
        @for (part, is_odd) in parts(name) {
            @if is_odd {
                span.odd { (part.chars().flat_map(char::escape_default).collect::<String>()) }
            } @else {
                (part)
            }
        }
    }
}

/// Splits a text into runs, each with true if its characters must be escaped.
fn parts(text: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = &text[at..];
        let is_odd = is_invisible(rest.chars().next()?);
        let Range { start, end } = at..at + rest.find(|c| is_invisible(c) != is_odd).unwrap_or(rest.len());
        at = end;
        Some((&text[start..end], is_odd))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_is_shown_as_what_it_is() {
        for (name, shown) in [
            ("orders", "<bdi>orders</bdi>"),
            ("<script>alert(1)</script>", "<bdi>&lt;script&gt;alert(1)&lt;/script&gt;</bdi>"),
            ("a\"b'c&d", "<bdi>a&quot;b'c&amp;d</bdi>"),
            (
                "a\nb\u{1b}[31m",
                r#"<bdi>a<span class="odd">\n</span>b<span class="odd">\u{1b}</span>[31m</bdi>"#,
            ),
            ("abc\u{202e}\u{200b}fed", r#"<bdi>abc<span class="odd">\u{202e}\u{200b}</span>fed</bdi>"#),
            ("\u{645}\u{631}", "<bdi>\u{645}\u{631}</bdi>"),
            ("", "<em>(empty name)</em>"),
        ] {
            assert_eq!(short(name).into_string(), shown);
        }
        assert_eq!(plain("a\nb<"), "a\\nb<");
    }

    #[test]
    fn a_long_name_is_cut_in_the_middle() {
        let name = format!("{}{}", "a".repeat(5_000), "\u{fc}".repeat(5_000));
        let expected = format!("<bdi>{}\u{2026}{}</bdi>", "a".repeat(48), "\u{fc}".repeat(15));
        assert_eq!(short(&name).into_string(), expected);
        assert_eq!(rest("short").map(maud::PreEscaped::into_string), None);
        assert!(rest(&name).is_some_and(|all| all.into_string().len() > 15_000));
        let fits = "x".repeat(64);
        assert_eq!(short(&fits).into_string(), format!("<bdi>{fits}</bdi>"));
    }
}
