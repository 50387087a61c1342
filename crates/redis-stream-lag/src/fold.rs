//! Folds of values that may not be known.

use std::time::Duration;

pub(crate) fn sum(values: impl Iterator<Item = u64>) -> u64 {
    values.fold(0, u64::saturating_add)
}

/// Returns the sum; `None` if one value is not known.
pub(crate) fn sum_of_all<T: Into<u64>>(mut values: impl Iterator<Item = Option<T>>) -> Option<u64> {
    values.try_fold(0, |sum: u64, value| Some(sum.saturating_add(value?.into())))
}

/// Returns the sum of those that are known; `None` if there is none.
pub(crate) fn sum_of_known<T: Into<u64>>(values: impl Iterator<Item = Option<T>>) -> Option<u64> {
    values.flatten().map(Into::into).reduce(u64::saturating_add)
}

/// Returns the longest time; `None` if one is not known.
pub(crate) fn longest_of_all<T: Ord>(values: impl Iterator<Item = Option<T>>) -> Option<T> {
    values.collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// Returns the longest time that is known. `None` if there is none, or if it is 0 while another is not known.
pub(crate) fn longest(values: impl Iterator<Item = Option<Duration>>) -> Option<Duration> {
    largest(values, |time| time.as_secs_f64())
}

/// Returns the value with the largest number of those that are known. `None` as for [`longest`].
pub(crate) fn largest<T: Copy>(
    values: impl Iterator<Item = Option<T>>,
    number: impl Fn(T) -> f64,
) -> Option<T> {
    let (mut best, mut is_unknown) = (None, false);
    for value in values {
        match value {
            None => is_unknown = true,
            Some(value) if best.is_none_or(|best| number(best) < number(value)) => best = Some(value),
            Some(_) => {}
        }
    }
    best.filter(|best| !is_unknown || number(*best) > 0.0)
}
