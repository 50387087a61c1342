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

/// Bytes that the next change takes at most: the end of a run, and bounds, after a first sample with bounds.
const MOST_CHANGED: usize = 2 * 16 + 3;

/// The samples of one group at consecutive times; `None` if it was not read. At most 65,535.
#[derive(Clone, Debug, Default)]
pub(super) struct Column {
    /// Empty as long as all samples are the same.
    bytes: Box<[u8]>,
    last: LastSample,
    /// Samples that are like the last one and not in `bytes`.
    run: u16,
    len: u16,
}

/// The sample that the next difference is from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct LastSample {
    known: SampledValues,
    is_gap: bool,
}

impl LastSample {
    fn sample(self) -> Option<SampledValues> {
        (!self.is_gap).then_some(self.known)
    }

    fn followed_by(self, sample: Option<SampledValues>) -> Self {
        Self { known: sample.unwrap_or(self.known), is_gap: sample.is_none() }
    }
}

impl Column {
    /// Returns the samples, the oldest first.
    pub(super) fn samples(&self) -> impl Iterator<Item = Option<SampledValues>> + '_ {
        let begin = if self.bytes.is_empty() { self.last } else { LastSample::default() };
        let mut reader = SampleReader { bytes: &self.bytes, last: begin, run: 0, tail: self.run.into() };
        std::iter::from_fn(move || reader.next())
    }

    pub(super) fn len(&self) -> usize {
        self.len.into()
    }

    /// Returns the bytes that it takes besides its own size.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn push(&mut self, sample: Option<SampledValues>) {
        if self.len == 0 || sample == self.last.sample() {
            self.last = self.last.followed_by(sample);
            (self.len, self.run) = (self.len + 1, self.run + 1);
            return;
        }
        let mut bytes = std::mem::take(&mut self.bytes).into_vec();
        bytes.reserve_exact(MOST_CHANGED);
        let run = self.write_begin(&mut bytes);
        if run > 0 {
            write(&mut bytes, u64::from(run) << 2 | RUN);
        }
        write_sample(&mut bytes, self.last.known, sample);
        *self = Self {
            bytes: bytes.into_boxed_slice(),
            last: self.last.followed_by(sample),
            run: 0,
            len: self.len + 1,
        };
    }

    /// Writes the first sample unless it is written. Returns the number of samples at the end that are not.
    fn write_begin(&self, bytes: &mut Vec<u8>) -> u16 {
        if self.len == 0 || !bytes.is_empty() {
            return self.run;
        }
        write_sample(bytes, SampledValues::default(), self.last.sample());
        self.run - 1
    }

    /// Returns what a text needs to hold: the samples that are written out, and the number of those like the last.
    pub(super) fn parts(&self) -> (Vec<u8>, u32) {
        let mut bytes = self.bytes.to_vec();
        let run = self.write_begin(&mut bytes);
        (bytes, run.into())
    }

    /// Reads at most `number` samples of these parts; what is damaged is left out.
    pub(super) fn of_parts(bytes: &[u8], run: u32, number: usize) -> Self {
        let mut reader = SampleReader { bytes, last: LastSample::default(), run: 0, tail: run };
        std::iter::from_fn(|| reader.next()).take(number).collect()
    }

    /// Leaves out the oldest samples.
    pub(super) fn drop_front(&mut self, number: usize) {
        let rest = self.samples().skip(number).collect();
        *self = rest;
    }
}

impl FromIterator<Option<SampledValues>> for Column {
    fn from_iter<I: IntoIterator<Item = Option<SampledValues>>>(samples: I) -> Self {
        let mut column = Self::default();
        samples.into_iter().for_each(|sample| column.push(sample));
        column
    }
}

/// Writes a sample after one whose last known values are `before`.
fn write_sample(bytes: &mut Vec<u8>, before: SampledValues, sample: Option<SampledValues>) {
    match sample {
        None => write(bytes, GAP << 2 | OTHER),
        Some(values) if values.lag_min != values.lag_max => {
            write(bytes, BOUNDS << 2 | OTHER);
            for number in [values.lag_min, values.lag_max, values.messages_pending] {
                write(bytes, number.into());
            }
        }
        Some(values) => {
            let lag = zigzag(before.lag_max, values.lag_max) << 2;
            let pending = zigzag(before.messages_pending, values.messages_pending);
            write(bytes, lag | if pending == 0 { LAG } else { BOTH });
            if pending > 0 {
                write(bytes, pending);
            }
        }
    }
}

/// Reads the samples of a column.
struct SampleReader<'a> {
    bytes: &'a [u8],
    last: LastSample,
    run: u64,
    tail: u32,
}

impl SampleReader<'_> {
    fn next(&mut self) -> Option<Option<SampledValues>> {
        if self.run > 0 {
            self.run -= 1;
            return Some(self.last.sample());
        }
        if self.bytes.is_empty() {
            self.tail = self.tail.checked_sub(1)?;
            return Some(self.last.sample());
        }
        let first = read(&mut self.bytes)?;
        match (first & 3, first >> 2) {
            (RUN, number) => self.run = number.checked_sub(1)?,
            (OTHER, GAP) => self.last.is_gap = true,
            (OTHER, _) => {
                let mut number = || u32::try_from(read(&mut self.bytes)?).ok();
                let (lag_min, lag_max, messages_pending) = (number()?, number()?, number()?);
                (self.last.known, self.last.is_gap) =
                    (SampledValues { lag_min, lag_max, messages_pending }, false);
            }
            (kind, lag) => {
                let pending = if kind == BOTH { read(&mut self.bytes)? } else { 0 };
                let known = self.last.known;
                let lag = changed(known.lag_max, lag);
                let messages_pending = changed(known.messages_pending, pending);
                self.last.known = SampledValues { lag_min: lag, lag_max: lag, messages_pending };
                self.last.is_gap = false;
            }
        }
        Some(self.last.sample())
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
            let (bytes, run) = column.parts();
            prop_assert_eq!(&Column::of_parts(&bytes, run, 1_000).samples().collect::<Vec<_>>(), &samples);
            column.drop_front(dropped);
            let rest: Vec<_> = samples.into_iter().skip(dropped).collect();
            prop_assert_eq!(&column.samples().collect::<Vec<_>>(), &rest);
            prop_assert_eq!(column.len(), rest.len());
        }
    }

    #[test]
    fn samples_that_are_the_same_take_nothing() {
        let values = SampledValues { lag_min: 3, lag_max: 70_000, messages_pending: 9 };
        for sample in [None, Some(SampledValues::default()), Some(values)] {
            let mut column: Column = std::iter::repeat_n(sample, 300).collect();
            assert_eq!((column.bytes(), column.len(), column.samples().last()), (0, 300, Some(sample)));
            let (bytes, run) = column.parts();
            let read = Column::of_parts(&bytes, run, 400);
            assert_eq!((read.bytes(), read.len(), read.samples().next()), (0, 300, Some(sample)));
            column.push(Some(SampledValues { messages_pending: 1, ..values }));
            assert!((1..20).contains(&column.bytes()) && column.len() == 301, "{column:?}");
        }
        assert_eq!((size_of::<Column>(), Column::default().parts()), (40, (Vec::new(), 0)));
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
        assert_eq!(column.samples().count(), 720);
    }
}
