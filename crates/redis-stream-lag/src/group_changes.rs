//! Notices groups that were created, destroyed, or destroyed and created again.
//!
//! A group that was destroyed and created again between two readings has the same name. It is recognized because all
//! its consumers and pending entries are gone, and its position is lower or it has lost its entries-read. XGROUP
//! SETID leaves consumers and pending entries as they are.

use std::time::Duration;

use crate::compact::MostlyDefault;
use crate::flow::Flow;
use crate::loss::Losses;
use crate::report::{GroupChangeCounts, GroupReport, NewPosition, Recreation};
use crate::snapshot::{ConsumerInfo, GroupInfo, StreamInfo};
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;

/// Time for which a destroyed group is remembered.
const MEMORY: Duration = Duration::from_secs(3_600);
/// Maximum number of destroyed groups of a stream that are remembered.
const MAX_GONE: usize = 1_000;

/// Counters of a group, which go on when it is created again.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct KeptCounters {
    pub(crate) losses: Losses,
    pub(crate) flow: Flow,
    /// Number of pending entries that went with their consumers.
    pub(crate) pending_dropped: u64,
    pub(crate) recreation: Option<Recreation>,
}

/// A group that was there in an earlier reading.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GoneGroup {
    pub(crate) name: Name,
    /// Its last position that was seen.
    position: StreamId,
    pub(crate) counters: KeptCounters,
    /// Time of the reading that found it gone, by the caller's clock.
    gone_at: Duration,
}

/// The groups that came and went, of one stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupChanges {
    /// True once the stream was read, so that a group that appears is new.
    has_read: bool,
    seen: MostlyDefault<SeenChanges>,
}

/// The changes of the groups of a stream; most streams have seen none.
#[derive(Clone, Debug, Default, PartialEq)]
struct SeenChanges {
    counts: GroupChangeCounts,
    /// Number of groups that are not reported, in the last reading.
    others: u64,
    gone: Vec<GoneGroup>,
}

impl GroupChanges {
    pub(crate) fn counts(&self) -> GroupChangeCounts {
        self.seen.get().map_or_else(GroupChangeCounts::default, |seen| seen.counts)
    }

    /// Returns the number of groups that are not reported, in the last reading.
    pub(crate) fn others(&self) -> u64 {
        self.seen.get().map_or(0, |seen| seen.others)
    }

    /// Counts a group that was destroyed and created again between two readings.
    pub(crate) fn note_recreated(&mut self) {
        self.seen.change(|seen| seen.counts.recreated += 1);
    }

    /// Takes the groups that are not reported any more, each with its last position. They were destroyed, unless they may
    /// be among those that a limit or the configuration leaves out.
    pub(crate) fn note_absent(
        &mut self,
        absent: impl Iterator<Item = (Name, StreamId, KeptCounters)>,
        info: Option<&StreamInfo>,
        at: Duration,
    ) {
        let others = info.map_or(0, |info| info.group_count.saturating_sub(info.groups.len() as u64));
        let mut absent = absent.peekable();
        if self.seen.get().is_none() && absent.peek().is_none() {
            return;
        }
        self.seen.change(|seen| {
            seen.gone.retain(|gone| at.saturating_sub(gone.gone_at) < MEMORY);
            if others > seen.others {
                return;
            }
            for (name, position, counters) in absent {
                seen.counts.destroyed += 1;
                if seen.gone.len() < MAX_GONE {
                    seen.gone.push(GoneGroup { name, position, counters, gone_at: at });
                }
            }
        });
    }

    /// Takes a group that was not reported before. Returns it as it was, if it was destroyed.
    pub(crate) fn note_new(&mut self, name: &Name, info: &StreamInfo) -> Option<GoneGroup> {
        let others = info.group_count.saturating_sub(info.groups.len() as u64);
        self.seen.change(|seen| {
            let found = seen.gone.iter().position(|gone| gone.name == *name);
            let gone = found.map(|at| seen.gone.swap_remove(at));
            match gone {
                Some(_) => seen.counts.recreated += 1,
                // It may have been left out before.
                None if !self.has_read || others < seen.others => {}
                None => seen.counts.created += 1,
            }
            gone
        })
    }

    /// Ends a reading.
    pub(crate) fn end(&mut self, info: &StreamInfo) {
        self.has_read = true;
        let others = info.group_count.saturating_sub(info.groups.len() as u64);
        if self.others() != others {
            self.seen.change(|seen| seen.others = others);
        }
    }
}

impl GoneGroup {
    /// Returns how the group came back, at `time` by the node's clock.
    pub(crate) fn recreation(&self, group: &GroupInfo, time: Duration) -> Recreation {
        Recreation { at: time, position: NewPosition::of(group.last_delivered, self.position) }
    }
}

impl NewPosition {
    pub(crate) fn of(now: StreamId, before: StreamId) -> Self {
        match now.cmp(&before) {
            std::cmp::Ordering::Less => Self::FurtherBack,
            std::cmp::Ordering::Equal => Self::Same,
            std::cmp::Ordering::Greater => Self::Ahead,
        }
    }
}

/// Returns true if a group that is in two readings of one stream was destroyed and created again in between.
pub(crate) fn was_recreated(
    before: &GroupReport,
    now: &GroupInfo,
    consumers: Option<&[ConsumerInfo]>,
    info: &StreamInfo,
) -> bool {
    let Some(values) = &before.values else { return false };
    let was_in_use = values.consumers > 0 || values.messages_pending > 0;
    let all_before = before.consumers().filter(|all| all.len() as u64 == values.consumers);
    let has_lost_consumers = match (all_before, consumers) {
        // Entries that XNACK released stay pending without a consumer.
        _ if now.consumers == 0 => now.pending == 0,
        (Some(before), Some(now)) if !before.is_empty() => {
            !before.iter().any(|one| now.iter().any(|other| other.name == one.name))
        }
        _ => false,
    };
    if !was_in_use || !has_lost_consumers {
        return false;
    }
    // The server loses count also where entries were deleted ahead of the group.
    let is_intact = info.max_deleted.is_some_and(|deleted| {
        deleted <= values.last_delivered_id || info.first.is_none_or(|first| deleted < first)
    });
    let has_lost_count = values.entries_read.is_some() && now.entries_read.is_none() && is_intact;
    now.last_delivered < values.last_delivered_id || has_lost_count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compact::Count;
    use crate::report::{ConsumerReport, GroupValues};
    use crate::snapshot::ConsumersReading;

    fn id(ms: u64) -> StreamId {
        StreamId::new(ms, 0)
    }

    fn group(name: &str, position: u64, consumers: u64, entries_read: Option<u64>) -> GroupInfo {
        GroupInfo {
            name: Name::from(name),
            named: false,
            consumers,
            pending: 0,
            last_delivered: id(position),
            entries_read: entries_read.map(Count::from),
            each_consumer: ConsumersReading::Open,
        }
    }

    /// A stream of the entries `1-0` to `last-0` with these groups of `count`.
    fn info(last: u64, names: &[&str], count: u64) -> StreamInfo {
        let info = StreamInfo::of_ids(last, Some(id(1)), Some(id(last)), id(last));
        let groups = names.iter().map(|name| group(name, 1, 0, None)).collect();
        StreamInfo {
            entries_added: Some(last),
            max_deleted: Some(StreamId::MIN),
            group_count: count,
            groups,
            ..info
        }
    }

    /// Reads the groups of a stream one after another. Returns the counts after each reading.
    fn read(readings: &[(&[&str], u64)]) -> Vec<[u64; 3]> {
        let (mut changes, mut before) = (GroupChanges::default(), Vec::<&str>::new());
        let counts = readings.iter().enumerate().map(|(nth, (names, count))| {
            let (info, at) = (info(9, names, *count), Duration::from_secs(nth as u64));
            let absent = before.iter().filter(|name| !names.contains(name));
            let absent = absent.map(|name| (Name::from(*name), id(1), KeptCounters::default()));
            changes.note_absent(absent, Some(&info), at);
            for name in names.iter().filter(|name| !before.contains(name)) {
                changes.note_new(&Name::from(*name), &info);
            }
            changes.end(&info);
            before = names.to_vec();
            let GroupChangeCounts { created, destroyed, recreated } = changes.counts();
            [created, destroyed, recreated]
        });
        counts.collect()
    }

    #[test]
    fn groups_come_and_go_by_name() {
        let all = read(&[(&["a", "b"], 2), (&["a", "b", "c"], 3), (&["a", "c"], 2), (&["a", "b", "c"], 3)]);
        assert_eq!(all, [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]]);
        let hidden =
            read(&[(&["a", "b"], 5), (&["a", "c"], 5), (&["a"], 5), (&["a", "b"], 5), (&["a", "b"], 3)]);
        assert_eq!(
            hidden,
            [[0, 0, 0], [1, 1, 0], [1, 1, 0], [1, 1, 1], [1, 1, 1]],
            "left out, not destroyed"
        );
        assert_eq!(read(&[(&[], 2), (&["a", "b"], 2)])[1], [0, 0, 0], "selected by now, not created");
    }

    #[test]
    fn a_group_without_its_consumers_that_moved_back_or_lost_count_is_another_one() {
        let named = |names: &[&str]| -> Vec<ConsumerInfo> {
            let info = |name: &&str| ConsumerInfo {
                name: Name::from(*name),
                pending: 0,
                idle_ms: 0,
                inactive_ms: None,
            };
            names.iter().map(info).collect()
        };
        let before = |consumers: &[&str], entries_read: Option<u64>| {
            let report = |name: &&str| {
                let zero = Duration::ZERO;
                ConsumerReport::new(Name::from(*name), 0, zero, None, zero)
            };
            let consumers: Vec<_> = consumers.iter().map(report).collect();
            let values = GroupValues {
                last_delivered_id: id(5),
                entries_read: entries_read.map(Count::from),
                consumers: consumers.len() as u64,
                ..GroupValues::default()
            };
            GroupReport::new(Name::from("g"), Some(values)).with_consumers(Some(consumers))
        };
        for (consumers_before, position, consumers, entries_read, max_deleted, expected, case) in [
            (&["c"][..], 0, &[][..], None, 0, true, "created again at 0"),
            (&["c"], 0, &["d"], Some(3), 0, true, "and read by another consumer"),
            (&["c"], 0, &["c"], None, 0, false, "set back"),
            (&[], 0, &[], None, 0, false, "set back, or created again: it was not in use"),
            (&["c"], 9, &[], None, 0, true, "created again at the end"),
            (&["c"], 9, &[], Some(9), 0, false, "read to the end, and the consumer was deleted"),
            (&["c"], 9, &[], None, 7, false, "the server may have lost count"),
            (&["c"], 9, &[], None, 5, true, "nothing was deleted above its position"),
            (&["c"], 9, &["c"], None, 0, false, "set ahead"),
        ] {
            let info = StreamInfo { max_deleted: Some(id(max_deleted)), ..info(9, &["g"], 1) };
            let now = group("g", position, consumers.len() as u64, entries_read);
            let before = before(consumers_before, Some(5));
            assert_eq!(was_recreated(&before, &now, Some(&named(consumers)), &info), expected, "{case}");
        }
    }
}
