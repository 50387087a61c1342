//! Counts entries that were removed from the stream before they were delivered to a group.
//!
//! Every entry has a *rank*: the number of entries ever added up to and including it. If no entry above the first one
//! was deleted, all entries with a rank up to entries-added − length are gone. A group whose position has a lower
//! rank has lost the entries in between: they will never be delivered to it. A watermark, the rank up to which losses
//! were counted, prevents that a loss is counted twice.
//!
//! The rank of a group's position is known
//!
//! * from its exact lag, while the group stands within the stream: entries-added − lag;
//! * from an earlier reading, while the group does not move;
//! * from entries-read, on servers that correct it whenever they deliver entries to a group that was overtaken by
//!   trimming (Redis 8.0, Valkey 8.1). Older servers count deliveries only. There, entries-added − entries-read − lag
//!   is the number of entries that the group ever missed, and its growth is what was lost.
//!
//! The result is a minimum: entries that the group lost and then read past between two readings are not seen.
//!
//! A loss may be spurious, because the numbers come from two commands: an entry that is read, acknowledged and deleted
//! between the two looks the same as a lost one. So a loss counts only once it is confirmed: by an atomic reading (XINFO
//! STREAM FULL), or by a second reading of the group's position, taken after the stream was read, that shows the
//! group where it stood.
//!
//! If a group reads often, most of its losses are not seen. That it loses entries still shows in its position: while
//! trimming goes on, it is before or at the first entry in one reading after another, and never has most of the
//! stream behind it.

use crate::compact::{CompactId, Count, MostlyDefault};
use crate::from_bounds;
use crate::loss_share::{GroupProgress, ShareReading};
use crate::snapshot::{EntriesReadMeaning, GroupInfo, StreamInfo};
use redis_stream_core::id::StreamId;

/// Smallest length of a stream in which a group at the first entry is about to lose entries. A healthy group stands there
/// too in a stream that is trimmed to a few entries.
const MIN_LENGTH: u64 = 20;

/// Number of readings at the front of the stream, with no other between, that show nothing.
const FIRST_AT_FRONT: u8 = 3;

/// The numbers of one reading from which a group's losses are derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LossReading {
    position: StreamId,
    entries_read: Option<u64>,
    added: u64,
    lag: u64,
    /// Number of entries that were removed, wherever they stood.
    removed: u64,
    /// All entries up to this rank are gone. `None` if entries above the first one were deleted.
    removed_to: Option<u64>,
    /// The rank of the position by the group's lag. `None` if the group stands before the first entry, or if entries
    /// above its position were deleted.
    rank: Option<u64>,
    /// True if the group stands before the first entry: on the next delivery, a server that corrects entries-read
    /// does so.
    is_overtaken: bool,
    /// True if it stands before the first entry, or at it.
    is_at_front: bool,
    first: Option<StreamId>,
    max_deleted: StreamId,
    meaning: EntriesReadMeaning,
}

/// Returns the number of entries ever added that are not ahead of a group with this lag.
fn not_ahead(added: u64, lag: u64) -> i64 {
    let number = i128::from(added) - i128::from(lag);
    i64::try_from(number).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX })
}

/// The losses of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    last: Option<LastReading>,
    found: MostlyDefault<FoundLosses>,
}

/// The findings about a group that loses entries, or seems to. Most groups have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct FoundLosses {
    /// Number of entries lost since the group was first seen, at least.
    entries: u64,
    /// A reading that shows a loss and waits to be confirmed.
    unconfirmed: Option<Box<LossReading>>,
    /// True if a loss was seen that could not be confirmed, and no reading since was certain.
    is_uncertain: bool,
    /// Number of certain readings in which the group stood before or at the first entry and trimming had gone on, beyond
    /// the first of those since it had most of the stream behind it.
    readings_at_front: u64,
    /// The number of those first ones.
    first_at_front: u8,
    /// The highest position since the basis, in readings that show no losses.
    furthest: Option<CompactId>,
    /// The ranks of the basis; `None` if they are those of [a group that has not missed any entry](Ranks::of_all_read).
    ranks: Option<Ranks>,
}

/// The state that later readings are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LossBasis {
    last: LastReading,
    ranks: Ranks,
}

/// The values of the last reading that later ones are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LastReading {
    position: StreamId,
    first: Option<CompactId>,
    /// Number of entries ever added that are not ahead of the group.
    not_ahead: i64,
    removed: u64,
    /// True if no entry above the first one was deleted.
    is_removed_to: bool,
    is_overtaken: bool,
    /// True if entries-read is known to equal the rank.
    entries_read_is_rank: bool,
}

/// The ranks of the last reading, and the losses that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ranks {
    /// The rank of the position.
    position: Option<Count>,
    entries_read: Option<Count>,
    /// Losses up to this rank are counted.
    counted_to: u64,
    /// Number of entries with higher ranks that were gone already, or are counted.
    counted_above: u64,
    /// The entries missing above the position when losses were last counted, if that is known.
    missing: Option<i64>,
}

impl LastReading {
    fn of(reading: &LossReading, entries_read_is_rank: bool) -> Self {
        let &LossReading { position, added, lag, removed, is_overtaken, .. } = reading;
        Self {
            position,
            first: reading.first.map(CompactId::from),
            not_ahead: not_ahead(added, lag),
            removed,
            is_removed_to: reading.removed_to.is_some(),
            is_overtaken,
            entries_read_is_rank,
        }
    }

    /// Returns the rank up to which all entries are gone.
    fn removed_to(&self) -> Option<u64> {
        self.is_removed_to.then_some(self.removed)
    }
}

impl Ranks {
    /// Returns those of a group that was delivered every entry up to its position, by the server's counters as well, in a
    /// stream from which nothing was deleted: most groups are like that.
    fn of_all_read(last: &LastReading) -> Self {
        let rank = u64::try_from(last.not_ahead).ok().map(Count::from);
        let (counted_to, counted_above) = (last.removed, 0);
        Self { position: rank, entries_read: rank, counted_to, counted_above, missing: Some(0) }
    }
}

impl LossReading {
    /// Returns the reading of a group with the exact lag `lag`. `None` before server 7.0, and for a group whose
    /// position was set above the last ID: entries added below it are skipped on purpose, not lost.
    pub(crate) fn of(
        info: &StreamInfo,
        group: &GroupInfo,
        lag: u64,
        meaning: EntriesReadMeaning,
    ) -> Option<Self> {
        let (added, max_deleted) = (info.entries_added?, info.max_deleted?);
        let position = group.last_delivered;
        if position > info.last_generated {
            return None;
        }
        let removed = added.checked_sub(info.length)?;
        let is_overtaken = match info.first {
            Some(first) => position < first,
            None => position < info.last_generated,
        };
        let is_intact_above = position >= max_deleted || info.first.is_none();
        let rank = match position {
            StreamId::MIN => Some(0),
            _ if !is_overtaken && is_intact_above => added.checked_sub(lag),
            _ => None,
        };
        // For a group that was created at 0 and never read, the server reports entries-read as nil rather than 0.
        let entries_read = group.entries_read.map(Count::get).or((position == StreamId::MIN).then_some(0));
        Some(Self {
            position,
            entries_read,
            added,
            lag,
            removed,
            removed_to: info.removed_to(),
            rank,
            is_overtaken,
            is_at_front: is_overtaken || info.length >= MIN_LENGTH && info.first == Some(position),
            first: info.first,
            max_deleted,
            meaning,
        })
    }

    /// Returns true if at most half of the stream waits for the group.
    fn has_read_most(&self) -> bool {
        self.lag <= (self.added - self.removed) / 2
    }

    /// Returns true if entries were certainly trimmed since `before`: its first entry is gone, and XDEL did not remove it.
    fn was_trimmed_since(&self, before: &LastReading) -> bool {
        match before.first {
            Some(first) => {
                self.first.map(CompactId::from) != Some(first) && first > CompactId::from(self.max_deleted)
            }
            None => self.removed > before.removed && self.max_deleted == StreamId::MIN,
        }
    }

    /// Returns true if this can be a later reading of the same life of the same group: it did not go back, and it moved
    /// exactly if it read.
    fn continues(&self, before: &LossBasis) -> bool {
        let position_before = before.last.position;
        let has_moved = self.position > position_before;
        match (before.ranks.entries_read, self.entries_read.map(Count::from)) {
            (Some(read_before), Some(read)) => {
                self.position >= position_before
                    && if has_moved { read > read_before } else { read == read_before }
            }
            (None, None) => self.position == position_before || self.rank.is_some() && has_moved,
            (None, Some(_)) => has_moved,
            (Some(_), None) => false,
        }
    }
}

impl FoundLosses {
    /// A healthy group that reads a short stream to the end is at the front too, when most of that was replaced, and then
    /// reads it to the end again. One that loses entries stays near the front.
    fn note_front(&mut self, is_at_front: bool) {
        if is_at_front && self.first_at_front < FIRST_AT_FRONT {
            self.first_at_front += 1;
        } else {
            self.readings_at_front += u64::from(is_at_front);
        }
    }
}

impl Losses {
    fn basis(&self) -> Option<LossBasis> {
        let last = self.last?;
        let ranks = self.found.get().and_then(|found| found.ranks);
        Some(LossBasis { last, ranks: ranks.unwrap_or_else(|| Ranks::of_all_read(&last)) })
    }

    fn set_basis(&mut self, basis: Option<LossBasis>) {
        self.last = basis.map(|basis| basis.last);
        let ranks = basis.filter(|basis| basis.ranks != Ranks::of_all_read(&basis.last));
        if ranks.is_some() || self.found.get().is_some() {
            self.found.change(|found| found.ranks = ranks.map(|basis| basis.ranks));
        }
    }

    /// Returns the number of entries lost since the group was first seen, at least.
    pub(crate) fn entries(&self) -> u64 {
        self.found.get().map_or(0, |found| found.entries)
    }

    /// Returns true if a loss was seen that could not be confirmed, and no reading since was certain.
    pub(crate) fn is_uncertain(&self) -> bool {
        self.found.get().is_some_and(|found| found.is_uncertain)
    }

    /// Notes that a loss was seen that could not be confirmed.
    pub(crate) fn note_uncertain(&mut self) {
        self.found.change(|found| found.is_uncertain = true);
    }

    /// Takes a reading. Returns true if it shows a loss that is not confirmed yet.
    pub(crate) fn note(&mut self, reading: &LossReading) -> bool {
        let suspect = self.found.get().and_then(|found| found.unconfirmed.as_deref().copied());
        let is_same = |suspect: &LossReading| {
            (suspect.position, suspect.entries_read) == (reading.position, reading.entries_read)
        };
        match suspect {
            // The group stands where it stood before the stream was read that time.
            Some(suspect) if is_same(&suspect) => self.count(&suspect),
            Some(_) => self.found.change(|found| found.unconfirmed = None),
            None => {}
        }
        if self.shows_loss(reading) {
            self.found.change(|found| found.unconfirmed = Some(Box::new(*reading)));
            return true;
        }
        self.advance(reading);
        false
    }

    /// Takes a reading that is certain, and counts the loss that it shows.
    pub(crate) fn count(&mut self, reading: &LossReading) {
        let was_trimmed = self.last.is_some_and(|last| reading.was_trimmed_since(&last));
        let is_at_front = was_trimmed && reading.is_at_front;
        if is_at_front || self.found.get().is_some() {
            self.found.change(|found| {
                (found.unconfirmed, found.is_uncertain) = (None, false);
                found.note_front(is_at_front);
            });
        }
        self.advance(reading);
    }

    fn advance(&mut self, reading: &LossReading) {
        let (basis, lost) = match self.basis() {
            Some(basis) if is_continued(&basis, self.found.get(), reading) => {
                let lost = basis.lost_at(reading);
                (basis.advanced(reading, lost), lost)
            }
            _ => (LossBasis::begin(reading), None),
        };
        self.set_basis(Some(basis));
        if lost.is_some_and(|lost| lost > 0) || self.found.get().is_some() {
            self.found.change(|found| {
                found.entries += lost.unwrap_or(0);
                found.furthest = None;
                if reading.has_read_most() {
                    found.first_at_front = 0;
                }
            });
        }
    }

    /// Takes the position of a group in a reading that shows no losses, since its lag or the server's counters are unknown.
    pub(crate) fn note_position(&mut self, position: StreamId) {
        let found = self.found.get();
        if self.last.is_some_and(|last| furthest(&last, found) > CompactId::from(position)) {
            self.set_basis(None);
        }
        let is_ahead = self.last.filter(|last| last.position < position).map(|_| CompactId::from(position));
        if is_ahead.is_some() || self.found.get().is_some() {
            self.found.change(|found| {
                drop(found.unconfirmed.take_if(|suspect| suspect.position != position));
                found.furthest = is_ahead;
            });
        }
    }

    /// Returns true if a reading shows a loss.
    pub(crate) fn shows_loss(&self, reading: &LossReading) -> bool {
        let basis = self.basis().filter(|basis| is_continued(basis, self.found.get(), reading));
        basis.and_then(|basis| basis.lost_at(reading)).is_some_and(|lost| lost > 0)
    }

    /// Returns a number that rises with each loss, and with each reading in which the group stood where it loses entries.
    pub(crate) fn evidence(&self) -> u64 {
        self.found.get().map_or(0, |found| found.entries + found.readings_at_front)
    }

    /// Returns the reading from which the share of entries that the group loses is estimated; `None` if its rank or that
    /// of the removed entries is unknown.
    pub(crate) fn share_reading(
        &self,
        info: &StreamInfo,
        group: &GroupInfo,
        meaning: EntriesReadMeaning,
    ) -> Option<ShareReading> {
        let added = info.entries_added?;
        let progress = match meaning {
            EntriesReadMeaning::Deliveries => GroupProgress::Lost(self.entries()),
            EntriesReadMeaning::Rank => {
                let removed_to = info.removed_to()?;
                GroupProgress::Ranks { position: self.basis()?.rank_of(group)?, removed_to }
            }
        };
        Some(ShareReading { at: info.time, added, progress })
    }

    /// Returns the same count without a basis, for readings of another stream or server.
    pub(crate) fn restarted(&self) -> Self {
        let mut restarted = Self::default();
        if let Some(&FoundLosses { entries, readings_at_front, .. }) = self.found.get() {
            restarted
                .found
                .change(|found| (found.entries, found.readings_at_front) = (entries, readings_at_front));
        }
        restarted
    }

    /// Returns the distance between the group and the entries that were removed, in entries; `None` if it is unknown.
    pub(crate) fn headroom(&self) -> Option<u64> {
        let LossBasis { last, ranks } = self.basis()?;
        Some(ranks.position?.get().saturating_sub(last.removed_to()?))
    }
}

/// Returns the highest position since the basis. A group that was seen there and stands lower again was set back.
fn furthest(last: &LastReading, found: Option<&FoundLosses>) -> CompactId {
    let position = CompactId::from(last.position);
    found.and_then(|found| found.furthest).map_or(position, |furthest| furthest.max(position))
}

/// Returns true if a reading can be a later one of the same life of the group that the basis is of.
fn is_continued(basis: &LossBasis, found: Option<&FoundLosses>, reading: &LossReading) -> bool {
    CompactId::from(reading.position) >= furthest(&basis.last, found) && reading.continues(basis)
}

impl LossBasis {
    fn begin(reading: &LossReading) -> Self {
        let is_rank = reading.rank.is_some() && reading.rank == reading.entries_read;
        let is_rank = is_rank && reading.meaning == EntriesReadMeaning::Rank;
        let ranks = Ranks {
            position: reading.rank.map(Count::from),
            entries_read: reading.entries_read.map(Count::from),
            counted_to: reading.removed_to.unwrap_or(0),
            // If it is not known which ranks are gone, any of them may be among those that later turn out to be.
            counted_above: if reading.removed_to.is_some() { 0 } else { reading.removed },
            missing: None,
        };
        let basis = Self { last: LastReading::of(reading, is_rank), ranks };
        let missing = basis.missing_at(reading);
        Self { ranks: Ranks { missing, ..ranks }, ..basis }
    }

    fn rank(&self) -> Option<u64> {
        self.ranks.position.map(Count::get)
    }

    /// Returns the rank of the reading's position, and whether its entries-read is known to be that rank.
    fn rank_at(&self, reading: &LossReading) -> (Option<u64>, bool) {
        let has_moved = reading.position != self.last.position;
        let corrects = reading.meaning == EntriesReadMeaning::Rank;
        let is_rank = match (reading.rank, reading.entries_read) {
            (_, None) => false,
            (Some(rank), Some(read)) => corrects && rank == read,
            (None, Some(_)) if has_moved && self.last.is_overtaken => corrects,
            (None, Some(_)) => corrects && self.last.entries_read_is_rank,
        };
        let kept = self.rank().filter(|_| !has_moved);
        (reading.rank.or(kept).or(reading.entries_read.filter(|_| is_rank)), is_rank)
    }

    /// Returns the rank of the group's position in a reading without its lag.
    fn rank_of(&self, group: &GroupInfo) -> Option<u64> {
        if group.last_delivered == self.last.position {
            return self.rank();
        }
        let is_rank = self.last.entries_read_is_rank || self.last.is_overtaken;
        group.entries_read.map(Count::get).filter(|_| is_rank)
    }

    /// Returns the entries that are missing above the position: by its rank, or on servers that count deliveries, since
    /// the group exists.
    fn missing_at(&self, reading: &LossReading) -> Option<i64> {
        let passed = match reading.meaning {
            EntriesReadMeaning::Rank => self.rank_at(reading).0?,
            EntriesReadMeaning::Deliveries => reading.entries_read.or(self.rank_at(reading).0)?,
        };
        i64::try_from(i128::from(not_ahead(reading.added, reading.lag)) - i128::from(passed)).ok()
    }

    /// Returns the number of entries lost since losses were last counted; `None` if it cannot be told. The reading must
    /// continue the basis.
    fn lost_at(&self, reading: &LossReading) -> Option<u64> {
        let growth = if reading.position == self.last.position {
            // Exact: what was added above the position and is not ahead was removed.
            Some(i128::from(not_ahead(reading.added, reading.lag)) - i128::from(self.last.not_ahead))
        } else {
            let missing = self.missing_at(reading).zip(self.ranks.missing);
            missing.map(|(missing, before)| i128::from(missing) - i128::from(before))
        };
        let growth = growth.map(|growth| u64::try_from(growth).unwrap_or(0));
        let (rank, _) = self.rank_at(reading);
        let overtaken = match (reading.meaning, reading.removed_to, rank) {
            (EntriesReadMeaning::Rank, Some(removed), Some(rank)) => {
                let new = removed.saturating_sub(rank.max(self.ranks.counted_to));
                Some(new.saturating_sub(self.ranks.counted_above))
            }
            _ => None,
        };
        // Both are certain minima.
        growth.max(overtaken)
    }

    fn advanced(&self, reading: &LossReading, lost: Option<u64>) -> Self {
        let (rank, is_rank) = self.rank_at(reading);
        let Ranks { counted_to, counted_above, missing, .. } = self.ranks;
        let (counted_to, counted_above) = match (lost, reading.removed_to) {
            (None, _) => (counted_to, counted_above),
            (Some(_), Some(removed)) => (counted_to.max(removed), 0),
            (Some(lost), None) => (counted_to, counted_above + lost),
        };
        let ranks = Ranks {
            position: rank.map(Count::from),
            entries_read: reading.entries_read.map(Count::from),
            counted_to,
            counted_above,
            // What is not known any more is kept.
            missing: self.missing_at(reading).or(missing),
        };
        Self { last: LastReading::of(reading, is_rank), ranks }
    }
}

/// Returns the lag of a group in `full`, an atomic reading taken after `info`: from the stream's bounds, or from its
/// lag in `info` if the group did not move and nothing was removed in between.
pub(crate) fn lag_in(full: &StreamInfo, info: &StreamInfo, group: &GroupInfo, lag: u64) -> Option<u64> {
    let in_full = full.groups.iter().find(|other| other.name == group.name)?;
    if let Some(lag) = from_bounds::lag_from_bounds(full, in_full.last_delivered) {
        return Some(lag);
    }
    let grown = full.entries_added?.checked_sub(info.entries_added?)?;
    let is_clean = info.length.checked_add(grown) == Some(full.length);
    // An entry that is added with an ID below the group's position does not wait for it.
    let is_above = group.last_delivered <= info.last_generated;
    (is_clean && is_above && in_full.last_delivered == group.last_delivered).then(|| lag + grown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_take_space_only_where_entries_are_missing() {
        let reading = |removed_to, rank, entries_read| LossReading {
            position: StreamId::new(7, 0),
            entries_read,
            added: 30,
            lag: 5,
            removed: 9,
            removed_to,
            rank,
            is_overtaken: false,
            is_at_front: false,
            first: Some(StreamId::new(3, 0)),
            max_deleted: StreamId::MIN,
            meaning: EntriesReadMeaning::Rank,
        };
        let mut losses = Losses::default();
        for (reading, has_read_all, case) in [
            (reading(Some(9), Some(25), Some(25)), true, "the server's counters agree"),
            (reading(None, Some(25), Some(25)), false, "some entry above the first one was deleted"),
            (reading(Some(9), None, Some(25)), false, "the rank is not known"),
            (reading(Some(9), Some(25), Some(24)), false, "the group has missed an entry"),
            (reading(Some(9), Some(25), Some(25)), true, "they agree again"),
        ] {
            let basis = LossBasis::begin(&reading);
            losses.set_basis(Some(basis));
            assert_eq!((losses.basis(), losses.found.get().is_none()), (Some(basis), has_read_all), "{case}");
        }
        losses.set_basis(None);
        assert_eq!((losses.basis(), losses), (None, Losses::default()));
    }
}
