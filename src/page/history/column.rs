//! The samples of one group in little space: each is the difference from the one before, and equal ones are counted.
//!
//! A sample is a variable-length number, of which the two lowest bits say what follows: `RUN`, so many more like the last
//! one; `LAG`, the change of an exact lag; `BOTH`, that and the change of the pending entries; `OTHER`, a gap or bounds.

use crate::page::history::sample::SampledValues;

const RUN: u64 = 0;
const LAG: u64 = 1;
const BOTH: u64 = 2;
const OTHER: u64 = 3;
/// Numbers that follow `OTHER`.
const GAP: u64 = 0;
const BOUNDS: u64 = 1;

/// Bytes by which the space grows.
const GROWTH: usize = 48;

/// The samples of one group at consecutive times; `None` if it was not read.
#[derive(Clone, Debug, Default)]
pub(super) struct Column {
    bytes: Vec<u8>,
    /// Samples after those in `bytes` that are like the last of them.
    run: u32,
    len: u32,
    state: LastSample,
}

/// The sample that the next difference is from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct LastSample {
    known: SampledValues,
    /// True if there was a sample.
    has_begun: bool,
    is_gap: bool,
}

impl LastSample {
    fn sample(&self) -> Option<SampledValues> {
        (!self.is_gap).then_some(self.known)
    }
}

impl Column {
    /// Returns the samples, the oldest first.
    pub(super) fn samples(&self) -> impl Iterator<Item = Option<SampledValues>> + '_ {
        let mut reader =
            SampleReader { bytes: &self.bytes, state: LastSample::default(), run: 0, tail: self.run };
        std::iter::from_fn(move || reader.next())
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// Returns the bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.capacity()
    }

    pub(super) fn push(&mut self, sample: Option<SampledValues>) {
        self.len += 1;
        if self.state.has_begun && sample == self.state.sample() {
            self.run += 1;
            return;
        }
        if self.bytes.capacity() - self.bytes.len() < 16 {
            self.bytes.reserve_exact(GROWTH);
        }
        if self.run > 0 {
            write(&mut self.bytes, u64::from(self.run) << 2 | RUN);
            self.run = 0;
        }
        let before = self.state.known;
        match sample {
            None => write(&mut self.bytes, GAP << 2 | OTHER),
            Some(values) if values.lag_min != values.lag_max => {
                write(&mut self.bytes, BOUNDS << 2 | OTHER);
                for number in [values.lag_min, values.lag_max, values.messages_pending] {
                    write(&mut self.bytes, number.into());
                }
            }
            Some(values) => {
                let lag = zigzag(before.lag_max, values.lag_max) << 2;
                let pending = zigzag(before.messages_pending, values.messages_pending);
                write(&mut self.bytes, lag | if pending == 0 { LAG } else { BOTH });
                if pending > 0 {
                    write(&mut self.bytes, pending);
                }
            }
        }
        let known = sample.unwrap_or(before);
        self.state = LastSample { known, has_begun: true, is_gap: sample.is_none() };
    }

    /// Returns what a text needs to hold: the samples that are written out, and the number of those like the last.
    pub(super) fn parts(&self) -> (&[u8], u32) {
        (&self.bytes, self.run)
    }

    /// Reads at most `number` samples of these parts; what is damaged is left out.
    pub(super) fn of_parts(bytes: &[u8], run: u32, number: usize) -> Self {
        let mut reader = SampleReader { bytes, state: LastSample::default(), run: 0, tail: run };
        let mut column = Self::default();
        for sample in std::iter::from_fn(|| reader.next()).take(number) {
            column.push(sample);
        }
        column
    }

    /// Leaves out the oldest samples.
    pub(super) fn drop_front(&mut self, number: usize) {
        let mut rest = Self::default();
        for sample in self.samples().skip(number) {
            rest.push(sample);
        }
        rest.bytes.shrink_to_fit();
        *self = rest;
    }
}

/// Reads the samples of a column.
struct SampleReader<'a> {
    bytes: &'a [u8],
    state: LastSample,
    run: u64,
    tail: u32,
}

impl SampleReader<'_> {
    fn next(&mut self) -> Option<Option<SampledValues>> {
        if self.run > 0 {
            self.run -= 1;
            return Some(self.state.sample());
        }
        if self.bytes.is_empty() {
            self.tail = self.tail.checked_sub(1)?;
            return Some(self.state.sample());
        }
        let first = read(&mut self.bytes)?;
        match (first & 3, first >> 2) {
            (RUN, number) => self.run = number.checked_sub(1)?,
            (OTHER, GAP) => self.state.is_gap = true,
            (OTHER, _) => {
                let mut number = || u32::try_from(read(&mut self.bytes)?).ok();
                let (lag_min, lag_max, messages_pending) = (number()?, number()?, number()?);
                (self.state.known, self.state.is_gap) =
                    (SampledValues { lag_min, lag_max, messages_pending }, false);
            }
            (kind, lag) => {
                let pending = if kind == BOTH { read(&mut self.bytes)? } else { 0 };
                let known = self.state.known;
                let lag = changed(known.lag_max, lag);
                let messages_pending = changed(known.messages_pending, pending);
                self.state.known = SampledValues { lag_min: lag, lag_max: lag, messages_pending };
                self.state.is_gap = false;
            }
        }
        Some(self.state.sample())
    }
}

/// Returns the change from one number to the next, small for small changes in both directions.
fn zigzag(before: u32, after: u32) -> u64 {
    let change = i64::from(after) - i64::from(before);
    let double = change.unsigned_abs() << 1;
    if change < 0 { double - 1 } else { double }
}

fn changed(before: u32, zigzag: u64) -> u32 {
    let (size, is_less) = (zigzag.div_ceil(2), zigzag % 2 == 1);
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    if is_less { before.saturating_sub(size) } else { before.saturating_add(size) }
}

#[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
fn write(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn read(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> impl Strategy<Value = Option<SampledValues>> {
        let number = || prop_oneof![0..4_u32, any::<u32>(), Just(u32::MAX)];
        prop_oneof![
            Just(None),
            Just(Some(SampledValues::default())),
            (number(), number()).prop_map(|(lag, messages_pending)| {
                Some(SampledValues { lag_min: lag, lag_max: lag, messages_pending })
            }),
            (number(), number(), number()).prop_map(|(one, other, messages_pending)| {
                let (lag_min, lag_max) = (one.min(other), one.max(other));
                Some(SampledValues { lag_min, lag_max, messages_pending })
            }),
        ]
    }

    proptest! {
        #[test]
        fn samples_are_read_as_they_were_written(
            samples in proptest::collection::vec(sample(), 0..60), repeats in 1..4_usize, dropped in 0..70_usize,
        ) {
            let samples: Vec<_> = samples.into_iter().flat_map(|one| std::iter::repeat_n(one, repeats)).collect();
            let mut column = Column::default();
            for sample in &samples {
                column.push(*sample);
            }
            prop_assert_eq!(&column.samples().collect::<Vec<_>>(), &samples);
            prop_assert_eq!(column.len(), samples.len());
            column.drop_front(dropped);
            let rest: Vec<_> = samples.into_iter().skip(dropped).collect();
            prop_assert_eq!(&column.samples().collect::<Vec<_>>(), &rest);
            prop_assert_eq!(column.len(), rest.len());
        }
    }

    #[test]
    fn a_sample_takes_a_byte_or_two_and_a_pause_nothing() {
        let mut column = Column::default();
        for n in 0..360 {
            column.push(Some(SampledValues { lag_min: n * 10, lag_max: n * 10, messages_pending: 3 }));
        }
        assert!(column.bytes.len() < 2 * 360, "{}", column.bytes.len());
        let bytes = column.bytes.len();
        for _ in 0..360 {
            column.push(None);
        }
        assert!(column.bytes.len() <= bytes + 1);
    }
}
