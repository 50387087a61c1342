//! Distinguishes trims that can overtake a group from trims that stop at the slowest group.
//!
//! `lag / length` shows how close a group is to losing entries only if trimming does not wait for it. XTRIM MINID up to
//! the last-delivered-id of the slowest group and trims with ACKED do wait. So the ratio is reported only once a trim
//! was seen that did not: it removed entries that some group lacked, or it left entries that every group was done with.

use std::time::Duration;

use crate::compact::{CompactId, Micros, MostlyDefault};
use redis_stream_core::id::StreamId;

/// Number of entries that an approximate trim may leave: as many as a node of the stream holds by default.
const NODE_ENTRIES: u64 = 100;
/// Number of trims to the same length that show MAXLEN.
const SAME_LENGTHS: u32 = 2;
/// Number of trims without a loss, while a group lacked all entries, that show that trimming waits for groups.
const HARMLESS_TRIMS: u32 = 3;

/// A stream and its groups in one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetentionReading {
    pub(crate) length: u64,
    pub(crate) first: Option<StreamId>,
    pub(crate) added: Option<u64>,
    /// Every group was delivered and has acknowledged the entries below this ID; `None` if that is not known.
    pub(crate) done_below: Option<StreamId>,
    /// The largest lag of a group; `None` if a lag is not known.
    pub(crate) max_lag: Option<u64>,
    /// True if the stream has groups that are not reported.
    pub(crate) has_other_groups: bool,
    /// Number of entries that its groups ever lost.
    pub(crate) lost: u64,
}

/// The evidence of how a stream is trimmed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TrimEvidence {
    before: Option<DoneBefore>,
    trims: MostlyDefault<SeenTrims>,
}

/// The entries that every group was done with in the reading before, with which the next trim is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DoneBefore {
    /// `0-0` if that is not known, as if there were none.
    below: CompactId,
    max_lag: u64,
    added: u64,
}

/// The trims that were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct SeenTrims {
    /// True once a trim was seen that does not wait for groups.
    overtakes: bool,
    /// Number of entries that the groups had ever lost in the reading before.
    lost: u64,
    /// Time of the last poll that saw entries being trimmed, by the caller's clock.
    last_at: Option<Micros>,
    /// Number of entries removed since the poll before. The whole length at the first poll of a stream that was trimmed.
    removed_since_poll: u64,
    /// The length after the last trim, and the number of trims before it that left the same.
    last_length: Option<(u64, u32)>,
    harmless_trims: u32,
}

impl TrimEvidence {
    /// Returns true if trims do not wait for the slowest group.
    pub(crate) fn overtakes_groups(&self) -> bool {
        self.trims.get().is_some_and(|trims| trims.overtakes)
    }

    /// Takes the number of entries removed since the poll before, and whether they were certainly trimmed, by a poll at `at`.
    pub(crate) fn note_removed(&mut self, removed: u64, was_trimmed: WasTrimmed, at: Duration) {
        let was_trimmed = was_trimmed == WasTrimmed::Yes;
        if was_trimmed || self.trims.get().is_some() {
            self.trims.change(|trims| {
                trims.removed_since_poll = removed;
                if was_trimmed {
                    trims.last_at = Some(Micros::from(at));
                }
            });
        }
    }

    /// Returns the time of the last poll that saw entries being trimmed, by the caller's clock.
    pub(crate) fn trimmed_at(&self) -> Option<Micros> {
        self.trims.get()?.last_at
    }

    /// Returns the number of entries removed since the poll before; 0 of a stream that was never seen to be trimmed.
    pub(crate) fn removed_since_poll(&self) -> u64 {
        self.trims.get().map_or(0, |trims| trims.removed_since_poll)
    }

    /// Takes a reading after which nothing can be compared with earlier ones.
    pub(crate) fn restart(&mut self) {
        self.before = None;
        if self.trims.get().is_some() {
            self.trims.change(|trims| (trims.last_length, trims.harmless_trims) = (None, 0));
        }
    }

    /// Takes a reading. `was_trimmed` states whether entries were trimmed since the one before.
    pub(crate) fn note(&mut self, now: RetentionReading, was_trimmed: WasTrimmed) {
        let before = self.before.replace(DoneBefore::of(&now));
        let lost_before = self.trims.get().map_or(0, |trims| trims.lost);
        if now.lost != lost_before {
            self.trims.change(|trims| trims.lost = now.lost);
        }
        let (WasTrimmed::Yes, Some(before)) = (was_trimmed, before) else { return };
        self.trims.change(|trims| {
            let repeats = match trims.last_length {
                Some((length, repeats)) if now.has_kept(length) => repeats + 1,
                _ => 0,
            };
            trims.last_length = Some((now.length, repeats));
            // Without a trim, entries are lost to XDEL.
            if now.lost > lost_before {
                (trims.overtakes, trims.harmless_trims) = (true, 0);
                return;
            }
            let left = now.left_behind(&before);
            let is_far = left.is_some_and(|left| left > NODE_ENTRIES) && !now.has_other_groups;
            if is_far || repeats >= SAME_LENGTHS {
                (trims.overtakes, trims.harmless_trims) = (true, 0);
            } else if now.max_lag.is_some_and(|lag| lag + 1 >= now.length) {
                trims.harmless_trims += 1;
                trims.overtakes &= trims.harmless_trims < HARMLESS_TRIMS;
            }
        });
    }
}

impl DoneBefore {
    fn of(reading: &RetentionReading) -> Self {
        let &RetentionReading { done_below, max_lag, added, .. } = reading;
        match (done_below, max_lag, added) {
            (Some(below), Some(max_lag), Some(added)) => Self { below: below.into(), max_lag, added },
            _ => Self { below: StreamId::MIN.into(), max_lag: 0, added: 0 },
        }
    }
}

/// The pace at which trimming moves the first entry of a stream, over one to two windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TrimPace {
    /// The reading that the pace is measured from.
    base: Option<FirstEntry>,
    /// The reading that will replace it a window later.
    next: Option<FirstEntry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FirstEntry {
    at: Micros,
    /// The first part of its ID.
    id_ms: u64,
}

impl TrimPace {
    /// Takes the first entry of a reading.
    pub(crate) fn note(&mut self, first: Option<StreamId>, at: Duration, window: Duration) {
        let id_ms = first.map(|first| first.ms);
        let Some(id_ms) = id_ms.filter(|id_ms| self.base.is_none_or(|base| base.id_ms <= *id_ms)) else {
            *self = Self::default();
            return;
        };
        if self.next.is_none_or(|next| at.saturating_sub(next.at.get()) >= window) {
            self.base = self.next.replace(FirstEntry { at: Micros::from(at), id_ms });
        }
    }

    /// Returns true if the first entry was the same at each reading that the pace is measured from.
    pub(crate) fn is_constant(&self) -> bool {
        self.base.map(|entry| entry.id_ms) == self.next.map(|entry| entry.id_ms)
    }

    /// Takes the readings of the last windows for those of later ones, of the same first entry.
    pub(crate) fn repeat(&mut self, later: Duration) {
        for entry in [&mut self.base, &mut self.next].into_iter().flatten() {
            entry.at = Micros::from(entry.at.get() + later);
        }
    }

    /// Returns the time until the first entry, now `first`, is `needed`. `None` if it does not move, or is not known to.
    pub(crate) fn time_to(self, needed: StreamId, first: StreamId, at: Duration) -> Option<Duration> {
        let base = self.base?;
        // The IDs need not be times: only their differences count.
        let moved = u128::from(first.ms.saturating_sub(base.id_ms));
        let left = u128::from(needed.ms.saturating_sub(first.ms));
        let ms = (left * at.saturating_sub(base.at.get()).as_millis()).checked_div(moved)?;
        Some(Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX)))
    }
}

/// The result of comparing two readings of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WasTrimmed {
    Yes,
    No,
}

impl RetentionReading {
    /// Returns true if a trim left as many entries as the one before, which left `length`, and more than the groups lack:
    /// a trim that waits for the slowest group leaves a few more than that, which vary with the lag.
    fn has_kept(&self, length: u64) -> bool {
        let Some(spare) = self.max_lag.and_then(|lag| self.length.checked_sub(lag)) else { return false };
        let is_close = self.length.abs_diff(length) <= (length / 10).min(NODE_ENTRIES);
        let is_same = self.length == length;
        is_same && spare > (length / 10).max(1) || is_close && spare > length / 10 + NODE_ENTRIES
    }

    /// Returns the number of entries that a trim since the reading before left although every group was done with them
    /// before; `None` if there are none, or it is not known.
    fn left_behind(&self, before: &DoneBefore) -> Option<u64> {
        let done_below = before.below.get().min(self.done_below?);
        if self.first? >= done_below {
            return None;
        }
        let undelivered = before.max_lag + self.added?.checked_sub(before.added)?;
        // One is the last delivered entry itself, at which MINID stops.
        self.length.checked_sub(undelivered).filter(|left| *left > 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream of counted IDs, `length` entries up to `added`, with one group.
    fn reading(length: u64, added: u64, delivered: u64, lost: u64) -> RetentionReading {
        let first = added - length + 1;
        RetentionReading {
            length,
            first: Some(StreamId::new(first, 0)),
            added: Some(added),
            done_below: Some(StreamId::new(delivered, 0)),
            max_lag: Some(added - delivered.max(first - 1)),
            has_other_groups: false,
            lost,
        }
    }

    fn overtakes(readings: &[RetentionReading]) -> bool {
        let mut evidence = TrimEvidence::default();
        readings.iter().for_each(|reading| evidence.note(*reading, WasTrimmed::Yes));
        evidence.overtakes_groups()
    }

    #[test]
    fn the_time_that_is_left_rests_on_the_pace_of_one_to_two_windows() {
        let (window, second) = (Duration::from_secs(120), Duration::from_secs(1));
        let id = |ms| StreamId::new(ms, 0);
        let mut pace = TrimPace::default();
        // IDs that advance by 500 a second, whatever they count.
        for seconds in (0..=300).step_by(10) {
            pace.note(Some(id(500 * seconds)), second * u32::try_from(seconds).unwrap(), window);
            let (first, now) = (id(500 * seconds), second * u32::try_from(seconds).unwrap());
            let left = |ahead| pace.time_to(id(500 * seconds + ahead), first, now);
            let expected = (seconds >= 120).then_some(second * 60);
            assert_eq!(left(30_000), expected, "{seconds}");
            assert_eq!(left(0), expected.map(|_| Duration::ZERO), "{seconds}");
        }
        for at in [400, 500, 600] {
            pace.note(Some(id(150_000)), second * at, window);
        }
        assert_eq!(pace.time_to(id(999_999), id(150_000), second * 700), None, "trimming has stopped");
        pace.note(Some(id(5)), second * 710, window);
        assert_eq!(pace, TrimPace::default(), "another stream");
    }

    #[test]
    fn a_trim_that_leaves_what_every_group_has_overtakes() {
        // MAXLEN 1000, and a group that keeps up.
        assert!(overtakes(&[reading(1_000, 5_000, 4_990, 0), reading(1_000, 5_100, 5_090, 0)]));
        // MAXLEN 10, of which nothing is left at the next poll, but the same length again and again.
        let small: Vec<_> = (10..15).map(|n| reading(10, 10 * n, 10 * n - 2, 0)).collect();
        let evidence = |upto: usize| overtakes(&small[..upto]);
        assert_eq!([2, 3, 4].map(evidence), [false, false, true]);
        let about: Vec<_> = (10..15).map(|n| reading(1_000 + n, 10_000 * n, 10_000 * n - 9, 0)).collect();
        assert!(overtakes(&about), "MAXLEN ~ 1000");
        assert!(overtakes(&[reading(10, 100, 91, 0), reading(10, 120, 91, 19)]), "entries were lost");
    }

    #[test]
    fn a_trim_up_to_the_slowest_group_does_not() {
        // XTRIM MINID <last-delivered-id>, the group reads on until the next poll.
        let bounded = |n: u64| reading(50 + n % 7, 100 * n, 100 * n - 49 - n % 7 + 10, 0);
        assert!(!overtakes(&(5..30).map(bounded).collect::<Vec<_>>()));
        let caught_up = |n: u64| reading(1, 100 * n, 100 * n, 0);
        assert!(!overtakes(&(5..30).map(caught_up).collect::<Vec<_>>()));
    }

    #[test]
    fn trims_that_take_nothing_from_a_group_that_lacks_all_disprove_it() {
        let mut readings = vec![reading(1_000, 5_000, 4_990, 0), reading(1_000, 5_100, 5_090, 0)];
        assert!(overtakes(&readings));
        readings.extend((0..3).map(|n| reading(40 + n, 6_000 + n * 100, 5_961 + n * 99, 0)));
        assert!(!overtakes(&readings));
    }
}
