//! Numbers and times whose `Option` takes eight bytes, or four, and IDs whose `Option` takes sixteen: a report and the
//! state between polls have dozens of them for each group.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use redis_stream_core::id::StreamId;

/// A count. An `Option` of it takes no more space than the count. `u64::MAX` is kept as one less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(Stored);

/// A time in microseconds, the unit of the server's clock. An `Option` of it takes no more space. A time of more than
/// half a million years is kept as the longest possible one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(Stored);

/// The same in milliseconds, for times of millions of years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(Stored);

/// A time in milliseconds, in six bytes. An `Option` of it takes eight, with room for the states of an enum. A time of more
/// than 8,900 years is kept as the longest possible one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis48(
    /// The most significant part first, so that the order is that of the times.
    [u16; 3],
);

/// An ID. An `Option` of it takes no more space. A first part of `u64::MAX` is kept as one less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CompactId {
    ms: Stored,
    seq: u64,
}

/// One more than a number, so that 0 is left for an absent one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stored(NonZeroU64);

impl Stored {
    const fn of(number: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(number))
    }

    const fn get(self) -> u64 {
        self.0.get() - 1
    }
}

impl Count {
    /// Returns the count.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl From<u64> for Count {
    fn from(count: u64) -> Self {
        Self(Stored::of(count))
    }
}

impl From<Count> for u64 {
    fn from(count: Count) -> Self {
        count.get()
    }
}

impl Micros {
    /// No time.
    pub const ZERO: Self = Self(Stored::of(0));

    /// Returns the time.
    #[must_use]
    pub const fn get(self) -> Duration {
        Duration::from_micros(self.0.get())
    }

    /// Returns the time from here to `now`; zero if that is earlier.
    pub(crate) fn until(self, now: Duration) -> Duration {
        now.saturating_sub(self.get())
    }
}

impl From<Duration> for Micros {
    fn from(time: Duration) -> Self {
        Self(Stored::of(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl From<Micros> for Duration {
    fn from(time: Micros) -> Self {
        time.get()
    }
}

impl Default for Micros {
    fn default() -> Self {
        Self::ZERO
    }
}

impl Millis {
    /// Returns the time.
    #[must_use]
    pub const fn get(self) -> Duration {
        Duration::from_millis(self.0.get())
    }
}

impl From<Duration> for Millis {
    fn from(time: Duration) -> Self {
        Self(Stored::of(millis(time)))
    }
}

impl From<Millis> for Duration {
    fn from(time: Millis) -> Self {
        time.get()
    }
}

impl Millis48 {
    /// The longest time.
    const MAX: u64 = (1 << 48) - 1;

    /// Returns the time.
    #[must_use]
    pub fn get(self) -> Duration {
        Duration::from_millis(self.0.into_iter().fold(0, |ms, part| (ms << 16) | u64::from(part)))
    }
}

impl From<Duration> for Millis48 {
    fn from(time: Duration) -> Self {
        let [_, _, parts @ ..] = millis(time).min(Self::MAX).to_be_bytes();
        let [a, b, c, d, e, f] = parts;
        Self([[a, b], [c, d], [e, f]].map(u16::from_be_bytes))
    }
}

impl From<Millis48> for Duration {
    fn from(time: Millis48) -> Self {
        time.get()
    }
}

/// A number below 4 billion that may be unknown, in four bytes. The default is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SmallCount(Option<NonZeroU32>);

impl SmallCount {
    /// Returns the number; `None` if it is not known.
    #[must_use]
    pub fn get(self) -> Option<u64> {
        // One more than the number, so that an unknown one takes no space.
        self.0.map(|stored| u64::from(stored.get() - 1))
    }
}

impl From<Option<u64>> for SmallCount {
    fn from(number: Option<u64>) -> Self {
        let stored = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).saturating_add(1);
        Self(number.and_then(|number| NonZeroU32::new(stored(number))))
    }
}

/// A number below 2^63 and a flag, in eight bytes. A larger number is kept as the largest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flagged(u64);

impl Flagged {
    pub(crate) fn new(number: u64, flag: bool) -> Self {
        Self(number.min(u64::MAX >> 1) << 1 | u64::from(flag))
    }

    pub(crate) fn number(self) -> u64 {
        self.0 >> 1
    }

    pub(crate) fn flag(self) -> bool {
        self.0 & 1 == 1
    }
}

/// Returns a time in milliseconds; the largest number if it is longer.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The ID of an entry, or none. It takes no more space than an ID, since no entry has the ID `0-0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryId(StreamId);

impl EntryId {
    /// Returns the ID; `None` if there is no entry.
    #[must_use]
    pub fn get(self) -> Option<StreamId> {
        Some(self.0).filter(|id| *id != StreamId::MIN)
    }
}

impl From<Option<StreamId>> for EntryId {
    fn from(id: Option<StreamId>) -> Self {
        Self(id.unwrap_or(StreamId::MIN))
    }
}

impl CompactId {
    /// Returns the ID.
    #[must_use]
    pub const fn get(self) -> StreamId {
        StreamId { ms: self.ms.get(), seq: self.seq }
    }
}

impl From<StreamId> for CompactId {
    fn from(id: StreamId) -> Self {
        Self { ms: Stored::of(id.ms), seq: id.seq }
    }
}

/// A value that is its default in most streams or groups, and takes eight bytes there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MostlyDefault<T>(Option<Box<T>>);

/// A type whose default is known at compile time, so that a [`MostlyDefault`] can refer to it.
pub trait ConstDefault: PartialEq + Sized + 'static {
    /// The default.
    const DEFAULT: &'static Self;
}

impl<T: ConstDefault> From<T> for MostlyDefault<T> {
    fn from(value: T) -> Self {
        Self((value != *T::DEFAULT).then(|| Box::new(value)))
    }
}

impl<T: Default + PartialEq> MostlyDefault<T> {
    /// Returns the value; `None` if it is the default.
    pub fn get(&self) -> Option<&T> {
        self.0.as_deref()
    }

    /// Changes the value.
    pub fn change<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> R {
        if let Some(value) = &mut self.0 {
            let result = change(value);
            self.0.take_if(|value| **value == T::default());
            return result;
        }
        let mut value = T::default();
        let result = change(&mut value);
        if value != T::default() {
            self.0 = Some(Box::new(value));
        }
        result
    }
}

impl<T: Default + Copy> MostlyDefault<T> {
    /// Returns a copy of the value.
    pub fn value(&self) -> T {
        self.0.as_deref().copied().unwrap_or_default()
    }
}

impl<T> Default for MostlyDefault<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: ConstDefault> std::ops::Deref for MostlyDefault<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_take_eight_bytes_and_come_back() {
        let sizes = [size_of::<Option<Count>>(), size_of::<Option<Micros>>(), size_of::<Option<Millis>>()];
        assert_eq!(sizes, [8; 3]);
        for number in [0, 1, 4_294_967_296, u64::MAX - 1] {
            assert_eq!(Count::from(number).get(), number);
            let (micros, millis) = (Duration::from_micros(number), Duration::from_millis(number));
            assert_eq!((Micros::from(micros).get(), Millis::from(millis).get()), (micros, millis));
        }
        assert!(Some(Count::from(0)) > None && Count::from(1) > Count::from(0));
        assert_eq!(Micros::default().get(), Duration::ZERO);
    }

    #[test]
    fn a_time_in_six_bytes_comes_back_in_order_and_leaves_room_for_states() {
        type Nested = Option<Option<Option<Millis48>>>;
        assert_eq!([size_of::<Millis48>(), size_of::<Option<Millis48>>(), size_of::<Nested>()], [6, 8, 8]);
        let ms = Duration::from_millis;
        let times = [0, 1, 65_535, 65_536, u64::from(u32::MAX), 1_800_000_000_000, (1 << 48) - 1].map(ms);
        let kept = times.map(Millis48::from);
        assert_eq!(kept.map(Millis48::get), times);
        assert!(kept.is_sorted() && kept[1..] != kept[..6]);
        assert_eq!(Millis48::from(Duration::MAX).get(), ms((1 << 48) - 1));
        assert_eq!(Millis48::from(Duration::from_micros(1_999)).get(), ms(1));
    }

    #[test]
    fn a_small_count_takes_four_bytes_and_may_be_unknown() {
        assert_eq!((size_of::<SmallCount>(), SmallCount::default().get()), (4, None));
        let largest = u64::from(u32::MAX) - 1;
        for (count, kept) in [(0, 0), (1, 1), (largest, largest), (largest + 1, largest), (u64::MAX, largest)]
        {
            assert_eq!(SmallCount::from(Some(count)).get(), Some(kept));
        }
    }

    #[test]
    fn a_number_and_a_flag_take_eight_bytes() {
        assert_eq!((size_of::<Flagged>(), Flagged::default()), (8, Flagged::new(0, false)));
        let largest = u64::MAX >> 1;
        for (number, kept) in
            [(0, 0), (1, 1), (largest, largest), (largest + 1, largest), (u64::MAX, largest)]
        {
            for flag in [false, true] {
                let flagged = Flagged::new(number, flag);
                assert_eq!((flagged.number(), flagged.flag()), (kept, flag));
            }
        }
    }

    #[test]
    fn an_entry_has_an_id_and_no_entry_has_none() {
        assert_eq!((size_of::<EntryId>(), EntryId::default().get()), (16, None));
        for id in [None, Some(StreamId::new(0, 1)), Some(StreamId::new(1, 0)), Some(StreamId::MAX)] {
            assert_eq!(EntryId::from(id).get(), id);
        }
        assert_eq!(EntryId::from(Some(StreamId::MIN)).get(), None);
    }

    #[test]
    fn what_is_too_large_is_the_largest() {
        assert_eq!(Count::from(u64::MAX).get(), u64::MAX - 1);
        assert_eq!(Micros::from(Duration::MAX).get(), Duration::from_micros(u64::MAX - 1));
        assert_eq!(Millis::from(Duration::MAX).get(), Duration::from_millis(u64::MAX - 1));
        assert_eq!(Micros::from(Duration::from_nanos(1_999)).get(), Duration::from_micros(1));
    }

    #[test]
    fn times_are_compared_and_ids_come_back() {
        let second = Duration::from_secs(1);
        let time = Micros::from(second * 5);
        assert_eq!((time.until(second * 7), time.until(second)), (second * 2, Duration::ZERO));
        let largest = u64::MAX;
        for (id, kept) in [
            (StreamId::MIN, StreamId::MIN),
            (StreamId::new(0, largest), StreamId::new(0, largest)),
            (StreamId::new(largest - 1, largest), StreamId::new(largest - 1, largest)),
            (StreamId::new(largest, 7), StreamId::new(largest - 1, 7)),
            (StreamId::MAX, StreamId::new(largest - 1, largest)),
        ] {
            assert_eq!(CompactId::from(id).get(), kept, "{id}");
        }
        assert!(CompactId::from(StreamId::new(1, 9)) < CompactId::from(StreamId::new(2, 0)));
        assert_eq!(size_of::<Option<CompactId>>(), 16);
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Pair(u64, u64);

    impl ConstDefault for Pair {
        const DEFAULT: &'static Self = &Self(0, 7);
    }

    impl Default for Pair {
        fn default() -> Self {
            *Self::DEFAULT
        }
    }

    #[test]
    fn a_default_takes_no_memory_and_reads_as_it_is() {
        let value = |first, second| MostlyDefault::from(Pair(first, second));
        assert_eq!(size_of::<MostlyDefault<Pair>>(), 8);
        assert_eq!((value(0, 7), value(0, 7).0.is_none()), (MostlyDefault::default(), true));
        assert_eq!((*MostlyDefault::<Pair>::default(), *value(1, 7)), (Pair(0, 7), Pair(1, 7)));
        assert_ne!(value(1, 7), MostlyDefault::default());
        let mut changed = value(1, 7);
        assert_eq!(changed.change(|pair| std::mem::replace(&mut pair.0, 5)), 1);
        assert_eq!((changed.get(), changed.value()), (Some(&Pair(5, 7)), Pair(5, 7)));
        changed.change(|pair| pair.0 = 0);
        assert_eq!((&changed, changed.get(), changed.value()), (&MostlyDefault::default(), None, Pair(0, 7)));
        changed.change(|pair| pair.1 += 0);
        assert_eq!(changed.get(), None);
        changed.change(|pair| pair.1 += 1);
        assert_eq!(changed, value(0, 8));
    }
}
