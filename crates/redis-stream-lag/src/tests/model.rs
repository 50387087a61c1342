//! A small stream in memory that answers questions: the other half of a property test of the pure code.
//!
//! It is no mock of Redis. It keeps the counters as the servers do, so that long runs of random operations,
//! between the polls and in the median of them, can be held against counting by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::question::{Answer, Entries, PendingEntry, QuestionKind};
use crate::snapshot::{ConsumerInfo, ConsumersReading, GroupInfo, RadixTree, StreamInfo};
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;

/// How the server keeps its counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counters {
    /// Not at all: server 6.2.
    None,
    /// As first released: 7.0 to 7.4. entries-read drifts once a group was overtaken by a trim.
    Original,
    /// As fixed: 8.x.
    Fixed,
}

const GROUPS: [&str; 3] = ["a", "b", "c"];

pub(crate) const EPOCH_MS: u64 = 1_700_000_000_000;

#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) counters: Counters,
    pub(crate) entries: BTreeSet<StreamId>,
    pub(crate) last_generated: StreamId,
    pub(crate) added: u64,
    pub(crate) max_deleted: StreamId,
    pub(crate) groups: BTreeMap<Name, Group>,
    pub(crate) clock_ms: u64,
    /// Entries that were removed before the group of this name got them, ever.
    pub(crate) lost: BTreeMap<Name, u64>,
    /// Whether a stream of this key was ever trimmed.
    pub(crate) was_trimmed: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    pub(crate) last_delivered: StreamId,
    pub(crate) entries_read: Option<u64>,
    pub(crate) pending: BTreeMap<StreamId, Delivery>,
    /// When each consumer was last active.
    pub(crate) consumers: BTreeMap<&'static str, u64>,
}

/// A pending entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// `None`: it was given back.
    pub(crate) consumer: Option<&'static str>,
    pub(crate) at_ms: u64,
    pub(crate) count: u64,
}

impl Group {
    fn some_pending(&self) -> Option<StreamId> {
        self.pending.keys().nth(fastrand::usize(..self.pending.len().max(1))).copied()
    }

    fn deliver(&mut self, id: StreamId, consumer: &'static str, at_ms: u64) {
        let count = self.pending.get(&id).map_or(0, |delivery| delivery.count) + 1;
        self.pending.insert(id, Delivery { consumer: Some(consumer), at_ms, count });
    }

    /// The oldest pending entry as XPENDING shows it.
    pub(crate) fn oldest_pending(&self, now_ms: u64) -> Option<PendingEntry> {
        let (id, delivery) = self.pending.first_key_value()?;
        let idle_ms = delivery.consumer.map(|_| now_ms - delivery.at_ms);
        Some(PendingEntry { id: *id, idle_ms, deliveries: delivery.count })
    }
}

impl Model {
    pub(crate) fn new(counters: Counters) -> Self {
        Self {
            counters,
            entries: BTreeSet::new(),
            last_generated: StreamId::MIN,
            added: 0,
            max_deleted: StreamId::MIN,
            groups: BTreeMap::new(),
            clock_ms: EPOCH_MS,
            lost: BTreeMap::new(),
            was_trimmed: false,
        }
    }

    pub(crate) fn first(&self) -> StreamId {
        self.entries.first().copied().unwrap_or(StreamId::MIN)
    }

    pub(crate) fn above(&self, id: StreamId) -> impl Iterator<Item = StreamId> + '_ {
        self.entries.iter().copied().filter(move |entry| *entry > id)
    }

    pub(crate) fn add(&mut self) {
        self.clock_ms += fastrand::u64(0..3);
        let id = if self.clock_ms > self.last_generated.ms {
            StreamId::new(self.clock_ms, 0)
        } else {
            StreamId::new(self.last_generated.ms, self.last_generated.seq + 1)
        };
        self.add_at(id);
    }

    pub(crate) fn add_at(&mut self, id: StreamId) {
        self.entries.insert(id);
        (self.last_generated, self.added) = (id, self.added + 1);
    }

    /// The true lag of a group.
    pub(crate) fn ahead(&self, group: &Name) -> u64 {
        self.above(self.groups[group].last_delivered).count() as u64
    }

    pub(crate) fn trim_to(&mut self, length: usize) {
        while self.entries.len() > length {
            let Some(id) = self.entries.pop_first() else { return };
            self.note_removed(id);
            self.was_trimmed = true;
        }
    }

    /// Whoever is not there, and comes back before a poll at the position where it was, has lost it too.
    fn note_removed(&mut self, id: StreamId) {
        for name in GROUPS.map(Name::from) {
            if self.groups.get(&name).is_none_or(|group| id > group.last_delivered) {
                *self.lost.entry(name).or_default() += 1;
            }
        }
    }

    pub(crate) fn delete(&mut self, id: StreamId) {
        if self.entries.remove(&id) {
            self.note_removed(id);
            self.max_deleted = self.max_deleted.max(id);
        }
    }

    fn has_tombstones(&self, start: StreamId) -> bool {
        let behind_first = self.counters == Counters::Original && self.first() > self.max_deleted;
        !self.entries.is_empty()
            && self.max_deleted != StreamId::MIN
            && start <= self.max_deleted
            && !behind_first
    }

    fn estimate(&self, id: StreamId) -> Option<u64> {
        let (length, first) = (self.entries.len() as u64, self.first());
        if self.added == 0 {
            return Some(0);
        }
        if length == 0 && id <= self.last_generated {
            return Some(self.added);
        }
        if self.counters == Counters::Fixed && id != StreamId::MIN && id < self.max_deleted {
            return None;
        }
        if id == self.last_generated {
            return Some(self.added);
        }
        if id > self.last_generated || (self.max_deleted != StreamId::MIN && self.max_deleted >= first) {
            return None;
        }
        match id.cmp(&first) {
            std::cmp::Ordering::Less => Some(self.added - length),
            std::cmp::Ordering::Equal => Some(self.added - length + 1),
            std::cmp::Ordering::Greater => None,
        }
    }

    pub(crate) fn read(&mut self, name: &Name, count: usize, acknowledge: bool) {
        let Some(group) = self.groups.get(name).cloned() else { return };
        let mut group = group;
        let (consumer, now) = (some_consumer(), self.now_ms());
        group.consumers.insert(consumer, now);
        for id in self.above(group.last_delivered).take(count).collect::<Vec<_>>() {
            let is_known = match self.counters {
                Counters::None => false,
                Counters::Original => group.entries_read.is_some() && !self.has_tombstones(id),
                Counters::Fixed => {
                    group.entries_read.is_some()
                        && !self.has_tombstones(group.last_delivered)
                        && group.last_delivered >= self.first()
                }
            };
            group.entries_read = if is_known { group.entries_read.map(|n| n + 1) } else { self.estimate(id) };
            if self.counters == Counters::None {
                group.entries_read = None;
            }
            group.last_delivered = id;
            if !acknowledge {
                group.deliver(id, consumer, now);
            }
        }
        self.groups.insert(name.clone(), group);
    }

    /// One random thing that clients do.
    pub(crate) fn disturb(&mut self) {
        let name = &Name::from(GROUPS[fastrand::usize(..GROUPS.len())]);
        let some = |entries: &BTreeSet<StreamId>| {
            entries.iter().nth(fastrand::usize(..entries.len().max(1))).copied()
        };
        match fastrand::u32(..100) {
            0..=34 => (0..fastrand::u32(1..8)).for_each(|_| self.add()),
            35..=54 => self.read(name, fastrand::usize(1..6), fastrand::bool()),
            55..=59 => self.hand_over(name),
            60..=66 => {
                self.add();
                self.trim_to(fastrand::usize(1..20));
            }
            67..=69 => self.trim_to(fastrand::usize(..self.entries.len() + 1)),
            70..=76 => some(&self.entries).into_iter().for_each(|id| self.delete(id)),
            77..=79 => self
                .groups
                .get(name)
                .map(|group| group.last_delivered)
                .into_iter()
                .for_each(|id| self.delete(id)),
            80..=81 => self.entries.last().copied().into_iter().for_each(|id| self.delete(id)),
            82..=86 => {
                let Some(group) = self.groups.get_mut(name) else { return };
                if let Some(id) = group.some_pending() {
                    group.pending.remove(&id);
                    if fastrand::bool() {
                        self.delete(id);
                    }
                }
            }
            87..=93 => {
                let ids = [StreamId::MIN, self.last_generated, some(&self.entries).unwrap_or(StreamId::MIN)];
                let last_delivered = ids[fastrand::usize(..ids.len())];
                self.groups
                    .entry(name.clone())
                    .or_insert_with(|| Group { last_delivered, ..Group::default() });
            }
            94..=95 => {
                if let (Some(group), Some(id)) = (self.groups.get_mut(name), some(&self.entries)) {
                    (group.last_delivered, group.entries_read) = (id, None);
                }
            }
            96..=97 => drop(self.groups.remove(name)),
            98 => {
                let beyond = StreamId::new(self.last_generated.ms + 5, 0);
                if let Some(group) = self.groups.get_mut(name) {
                    (group.last_delivered, group.entries_read) = (beyond, None);
                }
            }
            _ => {
                // DEL, and a new stream of that name; a moment later, as the IDs are made by the clock.
                let clock_ms = self.clock_ms.max(self.last_generated.ms) + 1;
                let (lost, was_trimmed) = (self.lost.clone(), self.was_trimmed);
                *self = Self { clock_ms, lost, was_trimmed, ..Self::new(self.counters) };
            }
        }
    }

    /// XCLAIM of one pending entry, or giving it back.
    fn hand_over(&mut self, name: &Name) {
        let now = self.now_ms();
        let Some(group) = self.groups.get_mut(name) else { return };
        let Some(id) = group.some_pending() else { return };
        if fastrand::u8(..4) == 0 {
            group.pending.entry(id).and_modify(|delivery| delivery.consumer = None);
            return;
        }
        let consumer = some_consumer();
        group.consumers.insert(consumer, now);
        group.deliver(id, consumer, now);
    }

    /// TIME.
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock_ms + 1_000
    }

    /// The clock of who polls.
    pub(crate) fn at(&self) -> Duration {
        Duration::from_millis(self.clock_ms - EPOCH_MS)
    }

    pub(crate) fn group_info(&self) -> Vec<GroupInfo> {
        let info = |(name, group): (&Name, &Group)| GroupInfo {
            name: name.clone(),
            named: false,
            consumers: group.consumers.len() as u64,
            pending: group.pending.len() as u64,
            last_delivered: group.last_delivered,
            entries_read: group.entries_read,
            each_consumer: ConsumersReading::Open,
        };
        self.groups.iter().map(info).collect()
    }

    pub(crate) fn info(&self, groups: Vec<GroupInfo>) -> StreamInfo {
        let counted = self.counters != Counters::None;
        StreamInfo {
            time: Duration::from_millis(self.now_ms()),
            length: self.entries.len() as u64,
            first: self.entries.first().copied(),
            last: self.entries.last().copied(),
            last_generated: self.last_generated,
            entries_added: counted.then_some(self.added),
            max_deleted: counted.then_some(self.max_deleted),
            group_count: groups.len() as u64,
            entry_bytes: 100,
            radix_tree: RadixTree::default(),
            groups,
        }
    }

    /// XINFO CONSUMERS.
    pub(crate) fn consumers(&self, group: &Name) -> Option<Vec<ConsumerInfo>> {
        let group = self.groups.get(group)?;
        let held = |name| group.pending.values().filter(|held| held.consumer == Some(name)).count();
        let consumer = |(name, active_ms): (&&'static str, &u64)| ConsumerInfo {
            name: Name::from(*name),
            pending: held(*name) as u64,
            idle_ms: self.now_ms() - active_ms,
            inactive_ms: None,
        };
        Some(group.consumers.iter().map(consumer).collect())
    }

    pub(crate) fn answer(&self, ask: &QuestionKind) -> Answer {
        let pending = |group: &Name| self.groups.get(group).map(|group| &group.pending);
        match ask {
            QuestionKind::OldestPending { group } => self
                .groups
                .get(group)
                .map_or(Answer::Gone, |group| Answer::OldestPending(group.oldest_pending(self.now_ms()))),
            QuestionKind::PendingBelow { group, below, at_most } => {
                pending(group).map_or(Answer::Gone, |pending| {
                    let count = pending.range(..below).take(*at_most as usize).count();
                    Answer::PendingBelow(u32::try_from(count).unwrap())
                })
            }
            QuestionKind::FullStream => {
                let info = self.info(self.group_info());
                let last = info.first.map(|_| info.last_generated);
                Answer::FullStream(Box::new(StreamInfo { last, ..info }))
            }
            QuestionKind::Consumers { group } => {
                self.consumers(group).map_or(Answer::Gone, Answer::Consumers)
            }
            QuestionKind::Entries { after, until, at_most } => {
                let found: Vec<_> =
                    self.above(*after).take_while(|id| id <= until).take(*at_most as usize).collect();
                let ends = found.first().copied().zip(found.last().copied());
                Answer::Entries(Entries { count: u32::try_from(found.len()).unwrap(), ends })
            }
        }
    }
}

fn some_consumer() -> &'static str {
    ["x", "y"][fastrand::usize(..2)]
}
