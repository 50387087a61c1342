//! Finds the group that needs the oldest entry of a stream, and the ID below which no group needs anything.
//!
//! A group needs the entries above its last-delivered-id, and its pending entries. The result is known only if both
//! are known for every group of the stream, including groups that are not reported, since it becomes a command that
//! trims the stream.

use std::time::Duration;

use crate::compact::{Count, Millis48};
use crate::report::{HeldFor, SafeTrim, StreamHolder};
use crate::retention::WasTrimmed;
use crate::snapshot::{GroupInfo, StreamInfo};
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;

/// Number of entries by which a stream may exceed the length to which it was trimmed before it is taken for one that is
/// not trimmed any more: an approximate trim waits until a node of the stream (100 entries by default) can go.
const UNTRIMMED_ENTRIES: u64 = 200;

/// The oldest pending entry of a group that is not below the first entry of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OldestNeeded {
    #[default]
    Unknown,
    Nothing,
    Entry(StreamId),
}

/// The ID from which on a group needs entries, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Need {
    from: StreamId,
    held_for: HeldFor,
}

/// The ID below which entries can be trimmed, and the index of the group that needs the oldest entry, if any does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TrimBound {
    pub(crate) min_id: StreamId,
    holder: Option<(usize, HeldFor)>,
}

/// Returns the bound; `None` if the stream has no group, or if it is not known what every group needs. `pending` has the
/// oldest pending entry of each reported group.
pub(crate) fn trim_bound(
    info: &StreamInfo,
    pending: impl Iterator<Item = OldestNeeded>,
) -> Option<TrimBound> {
    if info.groups.is_empty() || info.group_count != info.groups.len() as u64 {
        return None;
    }
    let needs: Option<Vec<_>> =
        info.groups.iter().zip(pending).map(|(group, pending)| need(group, pending)).collect();
    let (at, least) = needs?.into_iter().enumerate().min_by_key(|(_, need)| need.from)?;
    // An ID that was not generated yet may be any group's.
    let end = info.last_generated.successor().unwrap_or(StreamId::MAX);
    let needs_any = info.last.is_some_and(|last| least.from <= last);
    Some(TrimBound { min_id: least.from.min(end), holder: needs_any.then_some((at, least.held_for)) })
}

fn need(group: &GroupInfo, pending: OldestNeeded) -> Option<Need> {
    let undelivered = group.last_delivered.successor().unwrap_or(StreamId::MAX);
    let undelivered = Need { from: undelivered, held_for: HeldFor::Delivery };
    match pending {
        _ if group.pending == 0 => Some(undelivered),
        OldestNeeded::Unknown => None,
        OldestNeeded::Entry(id) if id < undelivered.from => {
            Some(Need { from: id, held_for: HeldFor::Acknowledgement })
        }
        OldestNeeded::Nothing | OldestNeeded::Entry(_) => Some(undelivered),
    }
}

impl TrimBound {
    /// Returns the position above which the entries have to be counted; `None` if the bounds of the stream suffice.
    pub(crate) fn counted_from(&self, info: &StreamInfo) -> Option<StreamId> {
        let (first, last) = (info.first?, info.last?);
        (first < self.min_id && self.min_id <= last).then(|| self.min_id.predecessor()).flatten()
    }

    /// Returns the number of entries below the bound. `lag_at` returns the number of entries above a position, once it
    /// is known.
    pub(crate) fn entries(&self, info: &StreamInfo, lag_at: impl Fn(StreamId) -> Option<u64>) -> Option<u64> {
        match self.counted_from(info) {
            Some(position) => info.length.checked_sub(lag_at(position)?),
            None if info.first.is_some_and(|first| first >= self.min_id) => Some(0),
            None => Some(info.length),
        }
    }
}

/// The group that holds a stream, over polls.
#[derive(Clone, Debug, Default)]
pub(crate) struct HolderHistory(Option<(Name, Millis48)>);

impl HolderHistory {
    /// Takes the bound of a reading at `time`, by the node's clock, and returns it for the report. What is not known
    /// changes nothing.
    pub(crate) fn note(&mut self, bound: TrimBound, entries: Option<u64>, info: &StreamInfo) -> SafeTrim {
        let holder = bound.holder.map(|(at, held_for)| {
            let group = &info.groups[at].name;
            let since = match &self.0 {
                Some((before, since)) if before == group => info.time.min(since.get()),
                _ => info.time,
            };
            StreamHolder { group: group.clone(), since: since.into(), held_for }
        });
        self.0 = holder.as_ref().map(|holder| (holder.group.clone(), holder.since));
        SafeTrim { min_id: bound.min_id, entries: entries.map(Count::from), holder }
    }
}

/// The growth of a stream without groups that is not trimmed; `None` of a stream with groups.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnreadGrowth(Option<Box<Growth>>);

#[derive(Clone, Copy, Debug, Default)]
struct Growth {
    first: Option<StreamId>,
    /// The length after the last trim that was seen; `None` if none was.
    trimmed_to: Option<u64>,
    /// The reading that the growth is measured from.
    base: Option<(Duration, u64)>,
    /// The reading that will replace it a window later.
    next: Option<(Duration, u64)>,
}

impl UnreadGrowth {
    /// Returns true if the length was the same at each reading that growth is measured from.
    pub(crate) fn is_constant(&self) -> bool {
        let length = |reading: Option<(Duration, u64)>| reading.map(|(_, length)| length);
        self.0.as_ref().is_none_or(|growth| length(growth.base) == length(growth.next))
    }

    /// Takes the readings of the last windows for those of later ones, of the same length.
    pub(crate) fn repeat(&mut self, later: Duration) {
        if let Some(growth) = &mut self.0 {
            growth.repeat(later);
        }
    }

    /// Takes a reading. Returns true if the stream has no group, has become longer over one to two windows, and is not
    /// trimmed as far as that was seen.
    pub(crate) fn note(
        &mut self,
        info: &StreamInfo,
        was_trimmed: WasTrimmed,
        at: Duration,
        window: Duration,
    ) -> bool {
        if info.group_count > 0 {
            self.0 = None;
            return false;
        }
        self.0.get_or_insert_default().note(info, was_trimmed, at, window)
    }
}

impl Growth {
    fn repeat(&mut self, later: Duration) {
        for (at, _) in [&mut self.base, &mut self.next].into_iter().flatten() {
            *at += later;
        }
    }

    fn note(&mut self, info: &StreamInfo, was_trimmed: WasTrimmed, at: Duration, window: Duration) -> bool {
        let front_is_gone = self.first.is_some() && self.first != info.first;
        if was_trimmed == WasTrimmed::Yes || front_is_gone {
            *self = Self { trimmed_to: Some(info.length), ..Self::default() };
        }
        self.first = info.first;
        if self.next.is_none_or(|(then, _)| at.saturating_sub(then) >= window) {
            self.base = self.next.replace((at, info.length));
        }
        let grows = self.base.is_some_and(|(_, length)| info.length > length);
        grows
            && self.trimmed_to.is_none_or(|length| info.length > length + UNTRIMMED_ENTRIES.max(length / 10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::ConsumersReading;

    fn id(ms: u64) -> StreamId {
        StreamId::new(ms, 0)
    }

    /// A stream of the entries `first-0` to `last-0` with groups of this position and number of pending entries.
    fn info(first: u64, last: u64, groups: &[(u64, u64)]) -> StreamInfo {
        let group = |(at, (position, pending)): (usize, &(u64, u64))| GroupInfo {
            name: Name::from(format!("g{at}").into_bytes()),
            named: false,
            consumers: 0,
            pending: *pending,
            last_delivered: id(*position),
            entries_read: None,
            each_consumer: ConsumersReading::Open,
        };
        let groups: Vec<_> = groups.iter().enumerate().map(group).collect();
        let ends = (first <= last).then_some((id(first), id(last)));
        let info = StreamInfo::of_ids(
            (last + 1).saturating_sub(first),
            ends.map(|ends| ends.0),
            ends.map(|ends| ends.1),
            id(last),
        );
        StreamInfo { group_count: groups.len() as u64, groups: groups.into(), ..info }
    }

    #[test]
    fn the_oldest_need_of_all_groups_bounds_trimming() {
        use OldestNeeded::{Entry, Nothing, Unknown};
        let after = |ms| StreamId::new(ms, 1);
        let (delivery, acknowledgement) = (HeldFor::Delivery, HeldFor::Acknowledgement);
        for (info, pending, min_id, holder, case) in [
            (info(1, 9, &[(4, 0), (6, 0)]), [Unknown; 2], Some(after(4)), Some((0, delivery)), "undelivered"),
            (
                info(1, 9, &[(4, 0), (6, 2)]),
                [Unknown, Entry(id(3))],
                Some(id(3)),
                Some((1, acknowledgement)),
                "pending",
            ),
            (
                info(1, 9, &[(4, 0), (6, 2)]),
                [Unknown, Entry(id(6))],
                Some(after(4)),
                Some((0, delivery)),
                "pending above",
            ),
            (info(1, 9, &[(4, 0), (6, 2)]), [Unknown; 2], None, None, "pending, and not known since when"),
            (
                info(5, 9, &[(4, 9), (6, 2)]),
                [Nothing, Nothing],
                Some(after(4)),
                Some((0, delivery)),
                "what is pending is gone",
            ),
            (info(1, 9, &[(9, 0), (9, 0)]), [Unknown; 2], Some(after(9)), None, "nothing is needed"),
            (info(1, 9, &[(99, 0), (99, 0)]), [Unknown; 2], Some(after(9)), None, "set above the last ID"),
            (info(1, 0, &[(0, 0), (0, 0)]), [Unknown; 2], Some(after(0)), None, "empty"),
            (info(1, 9, &[]), [Unknown; 2], None, None, "no group"),
        ] {
            let bound = trim_bound(&info, pending.into_iter());
            assert_eq!(bound.map(|bound| bound.min_id), min_id, "{case}");
            assert_eq!(bound.and_then(|bound| bound.holder), holder, "{case}");
        }
        let others = StreamInfo { group_count: 3, ..info(1, 9, &[(4, 0), (6, 0)]) };
        assert_eq!(trim_bound(&others, [Unknown; 2].into_iter()), None, "a group that is not reported");
    }

    #[test]
    fn what_can_be_trimmed_is_counted_only_where_the_bounds_do_not_tell() {
        let entries = |first, position, pending| {
            let info = info(first, 9, &[(position, u64::from(pending > 0))]);
            let bound = trim_bound(&info, std::iter::once(OldestNeeded::Entry(id(pending)))).unwrap();
            let lag_at = |at: StreamId| Some((first..=9).filter(|ms| id(*ms) > at).count() as u64);
            let counted = bound.counted_from(&info).is_some();
            (bound.entries(&info, lag_at), counted)
        };
        for (first, position, pending, expected) in [
            (1, 4, 0, (Some(4), true)),
            (1, 4, 3, (Some(2), true)),
            (1, 9, 0, (Some(9), false)),
            (5, 3, 0, (Some(0), false)),
            (5, 9, 5, (Some(0), false)),
        ] {
            assert_eq!(entries(first, position, pending), expected, "{first}, {position}, {pending}");
        }
    }

    #[test]
    fn a_holder_is_one_since_it_was_first_seen() {
        let mut history = HolderHistory::default();
        let mut seen = |seconds, groups: &[(u64, u64)]| {
            let info = StreamInfo { time: Duration::from_secs(seconds), ..info(1, 9, groups) };
            let bound = trim_bound(&info, std::iter::repeat(OldestNeeded::Unknown)).unwrap();
            let holder = history.note(bound, None, &info).holder;
            holder.map(|holder| (holder.group.to_string(), holder.since.get().as_secs()))
        };
        assert_eq!(seen(10, &[(3, 0), (5, 0)]), Some(("g0".to_owned(), 10)));
        assert_eq!(seen(20, &[(4, 0), (5, 0)]), Some(("g0".to_owned(), 10)));
        assert_eq!(seen(30, &[(6, 0), (5, 0)]), Some(("g1".to_owned(), 30)));
        assert_eq!(seen(40, &[(9, 0), (9, 0)]), None);
        assert_eq!(seen(50, &[(9, 0), (8, 0)]), Some(("g1".to_owned(), 50)));
    }

    #[test]
    fn a_stream_without_groups_that_grows_and_is_not_trimmed_is_unread() {
        let window = Duration::from_secs(120);
        let run = |first: fn(u64) -> u64, last: fn(u64) -> u64, groups: &[(u64, u64)]| {
            let mut growth = UnreadGrowth::default();
            let unread = (0..40).map(|n| {
                let at = Duration::from_secs(10 * n);
                growth.note(&info(first(n), last(n), groups), WasTrimmed::No, at, window)
            });
            unread.collect::<Vec<_>>()
        };
        let grows = run(|_| 1, |n| 10 + n, &[]);
        assert_eq!(grows.iter().position(|unread| *unread), Some(12), "after a window");
        assert!(grows[12..].iter().all(|unread| *unread));
        assert!(!run(|_| 1, |_| 10, &[]).contains(&true), "it does not grow");
        assert!(!run(|_| 1, |n| 10 + n, &[(0, 0)]).contains(&true), "it has a group");
        assert!(!run(|n| 1 + n, |n| 100 + n, &[]).contains(&true), "it is trimmed");
        assert!(!run(|n| 1 + n / 10 * 50, |n| 500 + 5 * n, &[]).contains(&true), "now and then");
        assert!(run(|n| n.min(3) + 1, |n| 500 + 50 * n, &[]).contains(&true), "it was, and is not any more");
    }
}
