//! The part of a list that a page shows, in order, while the rest is never sorted.

use std::cmp::Ordering;
use std::ops::Range;

/// What stands at these places once the items are in order; places beyond the end are none. The rest is dropped.
pub(crate) fn in_order<T>(
    mut items: Vec<T>,
    places: Range<usize>,
    compare: impl Fn(&T, &T) -> Ordering,
) -> Vec<T> {
    let end = places.end.min(items.len());
    let start = places.start.min(end);
    if end < items.len() {
        items.select_nth_unstable_by(end, &compare);
        items.truncate(end);
    }
    if 0 < start && start < end {
        items.select_nth_unstable_by(start, &compare);
    }
    items.drain(..start);
    items.sort_unstable_by(compare);
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_that_of_the_sorted_whole() {
        let items: Vec<u32> = (0..40).map(|n| n * 17 % 23).collect();
        let mut sorted = items.clone();
        sorted.sort_unstable();
        for start in 0..45 {
            for end in start..50 {
                let expected: Vec<_> = sorted.iter().copied().take(end).skip(start).collect();
                assert_eq!(in_order(items.clone(), start..end, Ord::cmp), expected, "{start}..{end}");
            }
        }
        assert_eq!(in_order(Vec::<u32>::new(), 0..50, Ord::cmp), [0; 0]);
        assert_eq!(in_order(items, 0..usize::MAX, Ord::cmp), sorted);
    }
}
