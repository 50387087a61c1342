//! What is remembered from poll to poll.

use std::collections::HashMap;
use std::time::Duration;

use crate::audit::PartialAudit;
use crate::checkpoints::Checkpoints;
use crate::count_scan::CountScans;
use crate::from_counters::TrustedCounters;
use crate::history::History;
use crate::loss::MissingEntries;
use crate::pending_cache::CachedOldestPending;
use crate::snapshot::{Epoch, GroupInfo, StreamInfo};
use crate::stream_change::{StreamBounds, StreamChange};
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;

/// A step back of entries-added over a new connection is held if it is at most this part of it: a replica
/// that became the master had not received all.
const HELD_STEP_BACK: f64 = 0.01;
/// Or at most this many.
const HELD_STEP_BACK_MIN: u64 = 100;

/// What is remembered of the streams of one target.
#[derive(Debug, Default)]
pub struct LagState {
    pub(super) streams: HashMap<Name, StreamCache>,
    /// Which scan goes first, so that a budget too small for all serves them in turn.
    pub(super) turn: usize,
    /// When the last poll was, by the exporter's clock.
    pub(super) polled_at: Option<Duration>,
}

/// What is remembered of one stream.
#[derive(Debug, Default)]
pub(super) struct StreamCache {
    bounds: Option<StreamBounds>,
    /// Places from which the entries to the end are counted.
    pub(super) checkpoints: Checkpoints,
    /// Unfinished counts.
    pub(super) scans: CountScans,
    /// What was counted again in the last poll, as far as that went.
    pub(super) audited: Option<PartialAudit>,
    /// For positions where a group stands: the oldest entry above.
    next: Vec<(StreamId, StreamId)>,
    /// In the order of their names.
    groups: Vec<(Name, GroupCache)>,
    /// Whether entries of this stream, or of one of the same key before, were ever seen to be trimmed away.
    pub(super) was_trimmed: bool,
    entries_added: Option<EntriesAdded>,
    /// Longest time from one poll of the target to the next since the stream was read.
    pub(super) gap: Duration,
}

/// What is remembered of one group.
#[derive(Debug, Default)]
pub(super) struct GroupCache {
    /// Where it stood, if its counters were trusted_counters.
    pub(super) trusted_counters: Option<TrustedCounters>,
    /// What was missing ahead of it.
    pub(super) missing: Option<MissingEntries>,
    /// Entries lost since it was first seen.
    pub(super) lost: u64,
    /// Its oldest pending entry.
    pub(super) pending: Option<CachedOldestPending>,
    /// What its status is told from.
    pub(super) history: Option<History>,
}

impl GroupCache {
    /// The lag by the server's counters and when its basis was counted, where the counters are trusted.
    pub(super) fn lag_from_counters(
        &self,
        info: &StreamInfo,
        group: &GroupInfo,
        checkpoints: &Checkpoints,
    ) -> Option<(u64, Duration)> {
        self.trusted_counters?.lag(info, group, checkpoints)
    }

    /// How many entries more are missing ahead of the group now; `None` where that cannot be told.
    pub(super) fn increase_to(&self, missing: &MissingEntries) -> Option<u64> {
        self.missing.and_then(|before| missing.increase_since(&before))
    }
}

impl StreamCache {
    /// Brings what is remembered up to a new reading of the stream, and drops what does not hold for it.
    /// `used` are the positions where groups stand, sorted.
    pub(super) fn advance(&mut self, info: &StreamInfo, epoch: Epoch, used: &[StreamId]) {
        let now = StreamBounds::of(info, epoch);
        let change = self.bounds.map_or(StreamChange::Unknown, |before| before.change_to(&now));
        let change = change.with_removed_up_to(used.first().copied());
        let is_same = change != StreamChange::Unknown;
        self.was_trimmed |= now.was_ever_trimmed()
            || (is_same && self.bounds.is_some_and(|before| before.was_trimmed_by(&now)));
        // A history says where the group stood and when, and that is as true over another connection: there it
        // shows a server that was restarted from an older file. It ends with the stream, and on the same
        // connection a stream does not go back.
        let is_replaced =
            self.bounds.is_some_and(|before| before.epoch() == epoch && before.was_replaced_by(&now));
        self.bounds = Some(now);
        if let Some(part) = self.audited.take() {
            part.note(&mut self.checkpoints, &change);
        }
        self.checkpoints.advance(&change);
        self.scans.advance(&change, used.first().copied());
        self.next
            .retain(|(after, next)| change.is_intact_at(*next, &now) && used.binary_search(after).is_ok());
        if info.length > 0 {
            self.checkpoints.put(info.last_generated, 0, info.time);
        }
        if !is_same {
            self.forget_groups();
        }
        if is_replaced {
            self.groups.iter_mut().for_each(|(_, group)| group.history = None);
        }
    }

    /// Forgets everything that was counted or concluded: it turned out not to be true.
    pub(super) fn invalidate(&mut self) {
        self.checkpoints.clear();
        self.scans.clear();
        self.audited = None;
        self.next.clear();
        self.forget_groups();
        self.groups.iter_mut().filter_map(|(_, group)| group.history.as_mut()).for_each(History::forget_lags);
    }

    fn forget_groups(&mut self) {
        for (_, group) in &mut self.groups {
            let history = group.history.take();
            *group = GroupCache { lost: group.lost, history, ..GroupCache::default() };
        }
    }

    /// Takes out what is remembered of a group.
    pub(super) fn take_group(&mut self, name: &Name) -> GroupCache {
        let found = self.groups.binary_search_by(|(other, _)| other.cmp(name));
        found.map_or_else(|_| GroupCache::default(), |at| std::mem::take(&mut self.groups[at].1))
    }

    /// Remembers the groups that there are, in the order of their names; forgets all others.
    pub(super) fn set_groups(&mut self, groups: Vec<(Name, GroupCache)>) {
        self.groups = groups;
    }

    /// The oldest entry above `after`, where it is remembered.
    pub(super) fn next_entry(&self, after: StreamId) -> Option<StreamId> {
        self.next.iter().find(|(position, _)| *position == after).map(|(_, next)| *next)
    }

    /// Remembers that `next` is the oldest entry above `after`.
    pub(super) fn note_next_entry(&mut self, after: StreamId, next: StreamId) {
        if self.next_entry(after).is_none() {
            self.next.push((after, next));
        }
    }

    /// entries-added as a counter: a small step back over a new connection is held until it is made up for.
    pub(super) fn entries_added(&mut self, info: &StreamInfo, epoch: Epoch) -> Option<u64> {
        let read = info.entries_added?;
        let shown = match self.entries_added {
            Some(before) if read >= before.read => before.shown.max(read),
            Some(before) if before.epoch != epoch && is_small(before.shown - read, before.shown) => {
                before.shown
            }
            _ => read,
        };
        self.entries_added = Some(EntriesAdded { epoch, read, shown });
        Some(shown)
    }
}

/// entries-added as it was read and shown last.
#[derive(Clone, Copy, Debug)]
struct EntriesAdded {
    epoch: Epoch,
    read: u64,
    shown: u64,
}

#[expect(clippy::cast_precision_loss, reason = "a part of a count need not be exact")]
fn is_small(step_back: u64, shown: u64) -> bool {
    step_back <= HELD_STEP_BACK_MIN || step_back as f64 <= shown as f64 * HELD_STEP_BACK
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::RadixTree;

    #[test]
    fn only_a_small_step_back_over_a_new_connection_is_held() {
        let mut memory = StreamCache::default();
        for (epoch, read, expected) in [
            (1, 100_000, 100_000),
            (1, 100_500, 100_500),
            (2, 99_900, 100_500),
            (2, 100_100, 100_500),
            (2, 100_600, 100_600),
            (2, 100_590, 100_590),
            (3, 90_000, 90_000),
            (3, 5, 5),
        ] {
            let info = StreamInfo {
                time: Duration::ZERO,
                length: 0,
                first: None,
                last: None,
                last_generated: StreamId::MIN,
                entries_added: Some(read),
                max_deleted: None,
                group_count: 0,
                entry_bytes: 0,
                radix_tree: RadixTree::default(),
                groups: Vec::new(),
            };
            assert_eq!(memory.entries_added(&info, Epoch(epoch)), Some(expected), "{read} on {epoch}");
        }
    }
}
