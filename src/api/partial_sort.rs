//! A range of a sorted list, without sorting the rest.

use std::cmp::Ordering;
use std::ops::Range;

/// Returns the items at these indices of the sorted list; indices beyond its end are ignored.
pub(crate) fn sorted_range<T>(
    mut items: Vec<T>,
    range: Range<usize>,
    compare: impl Fn(&T, &T) -> Ordering,
) -> Vec<T> {
    let end = range.end.min(items.len());
    let start = range.start.min(end);
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
                assert_eq!(sorted_range(items.clone(), start..end, Ord::cmp), expected, "{start}..{end}");
            }
        }
        assert_eq!(sorted_range(Vec::<u32>::new(), 0..50, Ord::cmp), [0; 0]);
        assert_eq!(sorted_range(items, 0..usize::MAX, Ord::cmp), sorted);
    }
}
