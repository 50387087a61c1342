//! Rows of one kind as one line that opens: 24 pods that read one stream are not 24 lines. Pages and the terminal fold
//! alike.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

/// Number of rows of one kind from which on they are one line.
pub const FOLDED: usize = 4;

/// The groups that are one line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Folding {
    /// Those of one stream, or family of streams, and status.
    #[default]
    ByStream,
    Off,
}

/// A line of a list: one row, or some of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoldedLine<T> {
    /// The row that comes first, of which the line has its place.
    pub first: T,
    /// The others, in no order; empty for a row that is a line of its own.
    pub others: Vec<T>,
}

impl<T> FoldedLine<T> {
    /// Returns a line with one row.
    pub fn one(first: T) -> Self {
        Self { first, others: Vec::new() }
    }

    /// Returns all its rows, the first one first.
    pub fn rows(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Returns the number of its rows.
    #[expect(clippy::len_without_is_empty, reason = "it has one row at least")]
    pub fn len(&self) -> usize {
        1 + self.others.len()
    }
}

/// Folds rows that have the same key, if they are at least [`FOLDED`]. The lines are in no order.
pub fn folded<T, K: Eq + Hash>(
    rows: Vec<T>,
    key: impl Fn(&T) -> K,
    compare: impl Fn(&T, &T) -> Ordering,
) -> Vec<FoldedLine<T>> {
    let mut index_of = HashMap::new();
    let mut lines: Vec<FoldedLine<T>> = Vec::new();
    for mut row in rows {
        match index_of.entry(key(&row)) {
            Entry::Vacant(vacant) => {
                vacant.insert(lines.len());
                lines.push(FoldedLine::one(row));
            }
            Entry::Occupied(index) => {
                let line = &mut lines[*index.get()];
                if compare(&row, &line.first).is_lt() {
                    std::mem::swap(&mut row, &mut line.first);
                }
                line.others.push(row);
            }
        }
    }
    let mut few = Vec::new();
    for line in &mut lines {
        if line.len() < FOLDED {
            few.append(&mut line.others);
        }
    }
    lines.extend(few.into_iter().map(FoldedLine::one));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Folds words by their first letter, and sorts the lines.
    fn lines(words: &[&'static str]) -> Vec<(&'static str, usize)> {
        let mut lines = folded(words.to_vec(), |word| word.chars().next(), Ord::cmp);
        lines.sort_by_key(|line| line.first);
        lines.iter().map(|line| (line.first, line.len())).collect()
    }

    #[test]
    fn rows_of_one_kind_are_one_line_from_four_on_at_the_place_of_the_first() {
        assert_eq!(lines(&[]), []);
        assert_eq!(lines(&["b", "a3", "a1", "a2"]), [("a1", 1), ("a2", 1), ("a3", 1), ("b", 1)]);
        assert_eq!(lines(&["b", "a3", "a1", "c", "a4", "a2"]), [("a1", 4), ("b", 1), ("c", 1)]);
        assert_eq!(lines(&["d1", "a1", "a2", "a2", "d0", "d2", "a0", "d3"]), [("a0", 4), ("d0", 4)]);
    }

    #[test]
    fn no_row_is_left_out_and_none_is_shown_twice() {
        let rows: Vec<u32> = (0..1_000).map(|n| n * 7_919 % 1_009).collect();
        let lines = folded(rows.clone(), |n| n % 300, Ord::cmp);
        let mut shown: Vec<_> = lines.iter().flat_map(FoldedLine::rows).copied().collect();
        assert!(lines.iter().all(|line| line.others.iter().all(|other| *other >= line.first)));
        assert!(lines.iter().all(|line| line.len() == 1 || line.len() >= FOLDED));
        shown.sort_unstable();
        let mut all = rows;
        all.sort_unstable();
        assert_eq!(shown, all);
    }
}
