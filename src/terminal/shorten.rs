//! Shortens names so that different names stay different. Names of consumers and pods often differ only at the end, or
//! only in the middle; cut at the end, they would all look the same.

use std::collections::{BTreeMap, HashMap, HashSet};

use unicode_truncate::UnicodeTruncateStr as _;

use crate::terminal::text::{elide, width};

/// The share of a shortened name that its beginning gets, in quarters, in the order of preference.
const SHARES: [usize; 5] = [2, 1, 3, 0, 4];

/// Returns the text for each of these names: at most `columns` wide, and no two the same if there are at least 8 columns
/// and fewer than 10,000 names. A name that fits is its own text.
///
/// The texts depend on the set of names only, not on their order.
pub(crate) fn shortened<'n>(
    names: impl IntoIterator<Item = &'n str>,
    columns: usize,
) -> HashMap<&'n str, String> {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    names.dedup();
    let (whole, long): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| width(name) <= columns);
    let mut texts: HashMap<_, _> = whole.iter().map(|name| (*name, (*name).to_owned())).collect();
    let mut taken: HashSet<_> = texts.values().cloned().collect();
    let mut groups = best_groups(&long, columns);
    let mut same = Vec::new();
    while let Some((text, names)) = groups.pop() {
        if let [name] = *names {
            if taken.insert(text.clone()) {
                texts.insert(name, text);
            } else {
                same.push(name);
            }
            continue;
        }
        // Names that look the same are split by what follows their common beginning.
        let start = common_prefix(&names);
        let split = by_text(&names, |name| cut_around(name, start, columns));
        if split.len() > 1 {
            groups.extend(split);
        } else {
            same.extend(names);
        }
    }
    same.sort_unstable();
    let mut numbers = 2..;
    for name in same {
        let mut texts_of = numbers.by_ref().map(|number| numbered(name, number, columns));
        let free = texts_of.find(|text| columns < 8 || taken.insert(text.clone()));
        texts.extend(free.map(|text| (name, text)));
    }
    texts
}

/// Returns the names by their texts, with the ends cut so that as many as possible differ.
fn best_groups<'n>(names: &[&'n str], columns: usize) -> Vec<(String, Vec<&'n str>)> {
    let mut best = Vec::new();
    for share in SHARES {
        let groups = by_text(names, |name| cut_middle(name, columns.saturating_sub(1) * share / 4, columns));
        if groups.len() > best.len() {
            best = groups;
        }
        if best.len() == names.len() {
            break;
        }
    }
    best
}

fn by_text<'n>(names: &[&'n str], text: impl Fn(&str) -> String) -> Vec<(String, Vec<&'n str>)> {
    let mut groups = BTreeMap::<_, Vec<_>>::new();
    for name in names {
        groups.entry(text(name)).or_default().push(*name);
    }
    groups.into_iter().collect()
}

/// Returns the length in bytes of what all names begin with; they are sorted.
fn common_prefix(names: &[&str]) -> usize {
    let (Some(first), Some(last)) = (names.first(), names.last()) else { return 0 };
    let same = first.chars().zip(last.chars()).take_while(|(one, other)| one == other);
    same.map(|(one, _)| one.len_utf8()).sum()
}

/// Cuts a name in the middle, with `head` columns before the ellipsis.
fn cut_middle(name: &str, head: usize, columns: usize) -> String {
    let Some(rest) = columns.checked_sub(head + 1) else { return elide(name, columns).into_owned() };
    if width(name) <= columns {
        return name.to_owned();
    }
    format!("{}…{}", name.unicode_truncate(head).0, name.unicode_truncate_start(rest).0)
}

/// Cuts a name so that what is at the byte `start` is shown.
fn cut_around(name: &str, start: usize, columns: usize) -> String {
    let (before, after) = name.split_at(start);
    let head = before.unicode_truncate(columns / 4).0;
    let room = columns.saturating_sub(width(head) + 1);
    format!("{head}…{}", cut_middle(after, room.saturating_sub(1) * 2 / 3, room))
}

/// Tells names apart that cannot be by their characters.
fn numbered(name: &str, number: usize, columns: usize) -> String {
    let number = format!("…#{number}");
    let head = columns.saturating_sub(number.len() - "…".len() + 1);
    elide(&format!("{}{number}", name.unicode_truncate(head).0), columns).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;

    fn texts(names: &[&str], columns: usize) -> Vec<String> {
        let texts = shortened(names.iter().copied(), columns);
        names.iter().map(|name| texts[name].clone()).collect()
    }

    #[test]
    fn what_differs_is_what_is_shown() {
        for (names, columns, shown) in [
            (&["orders", "mail"][..], 6, &["orders", "mail"][..]),
            (
                &["cache-pod-6c8d7f9b54-2xkqp", "cache-pod-6c8d7f9b54-9lmtz"],
                12,
                &["cache…-2xkqp", "cache…-9lmtz"],
            ),
            (&["a-very-long-name", "b-very-long-name"], 9, &["a-ve…name", "b-ve…name"]),
            (
                &["eu-orders-of-1-shop", "eu-orders-of-2-shop", "mail"],
                11,
                &["eu…f-1-shop", "eu…f-2-shop", "mail"],
            ),
            (
                &["the-billing-aaaa-nightly-x", "the-billing-bbbb-nightly-x"],
                10,
                &["th…aaaa…-x", "th…bbbb…-x"],
            ),
            // Where the beginning says more than the end.
            (&["aaaa1-shared-suffix", "aaaa2-shared-suffix"], 8, &["aaaa1…ix", "aaaa2…ix"]),
            (&["注文注文注文一", "注文注文注文二"], 9, &["注文…文一", "注文…文二"]),
            // A short name that looks like a shortened one.
            (&["aaaa…zzzz", "aaaabbbbzzzz"], 9, &["aaaa…zzzz", "aaaabb…#2"]),
        ] {
            assert_eq!(texts(names, columns), shown, "{names:?}");
        }
    }

    proptest! {
        #[test]
        fn different_names_stay_different(
            (prefix, suffix) in ("[a-c-]{0,20}", "[a-c-]{0,20}"),
            parts in btree_set("[ab]{0,3}[a-z0-9:.-]{0,12}", 1..60),
            columns in 8_usize..40,
        ) {
            holds(parts.iter().map(|part| format!("{prefix}{part}{suffix}")).collect(), columns)?;
        }

        #[test]
        fn names_of_any_characters_stay_different(
            prefix in "\\PC{0,12}",
            parts in btree_set("[注文é\u{301}a…#1]{0,9}", 1..40),
            suffix in "[^\\p{C}\\p{Z}]{0,12}",
            columns in 8_usize..30,
        ) {
            let names = parts.iter().map(|part| format!("{prefix}{part}{suffix}"));
            let shown: Vec<_> = names.map(|name| crate::format::unicode::printable(&name).into_owned()).collect();
            holds(shown, columns)?;
        }

        #[test]
        fn no_width_is_too_small(names in btree_set("[a-c注]{0,9}", 1..9), columns in 0_usize..8) {
            let texts = shortened(names.iter().map(String::as_str), columns);
            prop_assert!(names.iter().all(|name| width(&texts[name.as_str()]) <= columns), "{texts:?}");
        }
    }

    fn holds(mut names: Vec<String>, columns: usize) -> Result<(), TestCaseError> {
        names.sort();
        names.dedup();
        let texts = shortened(names.iter().map(String::as_str), columns);
        let different: HashSet<_> = names.iter().map(|name| &texts[name.as_str()]).collect();
        prop_assert_eq!(different.len(), names.len(), "{:?}", texts);
        for name in &names {
            let text = &texts[name.as_str()];
            prop_assert!(width(text) <= columns, "{} is wider than {}", text, columns);
            prop_assert!(width(name) > columns || name == text);
        }
        let backwards = shortened(names.iter().rev().map(String::as_str), columns);
        prop_assert_eq!(&backwards, &texts);
        Ok(())
    }
}
