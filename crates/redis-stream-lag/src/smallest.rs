//! The smallest of many items, for a budget that serves few of them: no list of all is kept.

use std::collections::BinaryHeap;

/// Keeps at most a number of items, the smallest.
#[derive(Debug)]
pub(super) struct Smallest<T> {
    at_most: usize,
    items: BinaryHeap<T>,
}

impl<T: Ord> Smallest<T> {
    pub(super) fn new(at_most: usize) -> Self {
        Self { at_most, items: BinaryHeap::new() }
    }

    /// Returns true if the item is kept, for now.
    pub(super) fn push(&mut self, item: T) -> bool {
        if self.items.len() < self.at_most {
            self.items.push(item);
            return true;
        }
        match self.items.peek_mut() {
            Some(mut largest) if item < *largest => {
                *largest = item;
                true
            }
            _ => false,
        }
    }

    /// Returns them, the smallest first.
    pub(super) fn into_sorted(self) -> Vec<T> {
        self.items.into_sorted_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn it_has_the_first_of_a_sorted_list(
            mut list in proptest::collection::vec(0_u8..50, 0..60),
            at_most in 0_usize..70,
        ) {
            let mut smallest = Smallest::new(at_most);
            for item in &list {
                let was_full = smallest.items.len() == at_most;
                let largest = smallest.items.peek().copied();
                let is_kept = smallest.push(*item);
                proptest::prop_assert_eq!(is_kept, !was_full || largest.is_some_and(|largest| *item < largest));
            }
            list.sort_unstable();
            list.truncate(at_most);
            proptest::prop_assert_eq!(smallest.into_sorted(), list);
        }
    }
}
