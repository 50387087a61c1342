//! A stream in memory that answers questions, for property tests.
//!
//! It maintains entries-read and the other counters as the servers do, including their errors, so that the derived
//! values of long random runs can be compared with the entries themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::question::{Answer, EntryRange, FATAL_DELIVERIES, PendingEntry, QuestionKind};
use crate::snapshot::{ConsumerInfo, ConsumersReading, EntriesReadMeaning, GroupInfo, RadixTree, StreamInfo};
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;

/// The counters that the modelled server maintains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counters {
    /// None of them: server 6.2.
    None,
    /// As first released, in 7.0 to 7.4: entries-read drifts once a trim has overtaken the group.
    Original,
    /// As fixed in 8.x.
    Fixed,
}

impl StreamModel {
    /// Returns the meaning of entries-read on this server.
    pub(crate) fn meaning(&self) -> EntriesReadMeaning {
        match self.counters {
            Counters::None | Counters::Original => EntriesReadMeaning::Deliveries,
            Counters::Fixed => EntriesReadMeaning::Rank,
        }
    }
}

const GROUPS: [&str; 3] = ["a", "b", "c"];

pub(crate) const EPOCH_MS: u64 = 1_700_000_000_000;

#[derive(Clone, Debug)]
pub(crate) struct StreamModel {
    pub(crate) counters: Counters,
    pub(crate) entries: BTreeSet<StreamId>,
    /// The entries that were removed.
    pub(crate) removed: BTreeSet<StreamId>,
    pub(crate) last_generated: StreamId,
    pub(crate) added: u64,
    pub(crate) max_deleted: StreamId,
    pub(crate) groups: BTreeMap<Name, ModelGroup>,
    pub(crate) clock_ms: u64,
    /// Number of consumers of groups that are not reported.
    pub(crate) other_consumers: u64,
    /// Number of entries ever removed before they were delivered to the group.
    pub(crate) lost: BTreeMap<Name, u64>,
    /// last-generated-id when a group was destroyed.
    pub(crate) destroyed_at: BTreeMap<Name, StreamId>,
    /// Size of each entry. Large entries are counted a few at a time, which leaves checkpoints in short streams.
    pub(crate) entry_bytes: u64,
    /// True once a stream at this key was trimmed.
    pub(crate) was_trimmed: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct ModelGroup {
    pub(crate) last_delivered: StreamId,
    pub(crate) entries_read: Option<u64>,
    pub(crate) pending: BTreeMap<StreamId, Delivery>,
    /// Time of the last activity of each consumer.
    pub(crate) consumers: BTreeMap<&'static str, u64>,
}

/// A pending entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// `None` if it was released.
    pub(crate) consumer: Option<&'static str>,
    pub(crate) at_ms: u64,
    pub(crate) count: u64,
}

impl Delivery {
    /// Returns the entry in a reply to XPENDING.
    pub(crate) fn listed(&self, id: StreamId, now_ms: u64) -> (PendingEntry, Name) {
        let idle_ms = self.consumer.map(|_| now_ms - self.at_ms);
        (PendingEntry { id, idle_ms, deliveries: self.count }, Name::from(self.consumer.unwrap_or_default()))
    }
}

impl ModelGroup {
    fn some_pending(&self) -> Option<StreamId> {
        self.pending.keys().nth(fastrand::usize(..self.pending.len().max(1))).copied()
    }

    fn deliver(&mut self, id: StreamId, consumer: &'static str, at_ms: u64) {
        let count = self.pending.get(&id).map_or(0, |delivery| delivery.count) + 1;
        let count = count.min(FATAL_DELIVERIES);
        self.pending.insert(id, Delivery { consumer: Some(consumer), at_ms, count });
    }

    /// Returns the reply to XPENDING.
    pub(crate) fn oldest_pending(&self, now_ms: u64) -> Option<(PendingEntry, Name)> {
        let (id, delivery) = self.pending.first_key_value()?;
        Some(delivery.listed(*id, now_ms))
    }
}

impl StreamModel {
    pub(crate) fn new(counters: Counters) -> Self {
        Self {
            counters,
            entries: BTreeSet::new(),
            removed: BTreeSet::new(),
            last_generated: StreamId::MIN,
            added: 0,
            max_deleted: StreamId::MIN,
            groups: BTreeMap::new(),
            clock_ms: EPOCH_MS,
            other_consumers: 0,
            lost: BTreeMap::new(),
            destroyed_at: BTreeMap::new(),
            entry_bytes: 100,
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

    /// Returns the true lag of a group.
    pub(crate) fn lag(&self, group: &Name) -> u64 {
        self.above(self.groups[group].last_delivered).count() as u64
    }

    pub(crate) fn trim_to(&mut self, length: usize) {
        while self.entries.len() > length {
            let Some(id) = self.entries.pop_first() else { return };
            self.note_removed(id);
            self.was_trimmed = true;
        }
    }

    /// Returns true if the server has the options KEEPREF, DELREF and ACKED.
    pub(crate) fn has_acked_trimming(&self) -> bool {
        self.counters == Counters::Fixed
    }

    /// Trims to a length as XTRIM with ACKED does: entries that any group has not been delivered, or has not
    /// acknowledged, stay wherever they are.
    pub(crate) fn trim_acknowledged_to(&mut self, length: usize) {
        for id in self.entries.clone() {
            if self.entries.len() <= length {
                return;
            }
            if !self.is_referenced(id) {
                self.entries.remove(&id);
                self.note_removed(id);
                self.was_trimmed = true;
            }
        }
    }

    fn is_referenced(&self, id: StreamId) -> bool {
        self.groups.values().any(|group| group.last_delivered < id || group.pending.contains_key(&id))
    }

    /// Removes an ID from the pending entries of every group, as DELREF does.
    fn drop_references(&mut self, id: StreamId) {
        for group in self.groups.values_mut() {
            group.pending.remove(&id);
        }
    }

    /// Runs XTRIM or XADD with one of the options of server 8.2.
    fn trim_with_option(&mut self) {
        let length = fastrand::usize(..self.entries.len() + 1);
        match fastrand::u32(..4) {
            0 => {
                let kept = self.entries.len().min(length);
                let removed: Vec<_> = self.entries.iter().take(self.entries.len() - kept).copied().collect();
                removed.into_iter().for_each(|id| self.drop_references(id));
                self.trim_to(length);
            }
            1 => {
                self.add();
                self.trim_acknowledged_to(fastrand::usize(1..4));
            }
            _ => self.trim_acknowledged_to(length),
        }
    }

    /// Reads and acknowledges all but a few entries, trims what was acknowledged, and then moves, creates or destroys
    /// groups.
    fn make_hole(&mut self, name: &Name) {
        (0..fastrand::u32(..12)).for_each(|_| self.add());
        self.read(name, fastrand::usize(1..16), false);
        if let Some(group) = self.groups.get_mut(name) {
            group.pending.retain(|_, _| fastrand::u32(..4) == 0);
        }
        self.trim_acknowledged_to(fastrand::usize(1..6));
        for _ in 0..fastrand::u32(..4) {
            let name = &some_group();
            match fastrand::u32(..4) {
                0 => self.create_group(name),
                1 => self.set_back(name),
                2 => self.destroy_group(name),
                _ => self.read(name, fastrand::usize(1..6), fastrand::bool()),
            }
        }
    }

    fn create_group(&mut self, name: &Name) {
        let from = [StreamId::MIN, self.last_generated, some_entry(&self.entries).unwrap_or(StreamId::MIN)];
        let last_delivered = from[fastrand::usize(..from.len())];
        if self.groups.contains_key(name) {
            return;
        }
        self.groups.insert(name.clone(), ModelGroup { last_delivered, ..ModelGroup::default() });
        self.note_set_back(name, last_delivered);
        if let Some(since) = self.destroyed_at.remove(name) {
            // It never gets what was added while it was gone.
            let skipped = self.entries.iter().filter(|id| **id > since && **id <= last_delivered).count();
            *self.lost.entry(name.clone()).or_default() += skipped as u64;
        }
    }

    /// Restarts the server from an older file.
    pub(crate) fn restart_from(&mut self, saved: &Self) {
        let (clock_ms, was_trimmed, lost) = (self.clock_ms, self.was_trimmed, self.lost.clone());
        let known = self.groups.keys().chain(self.destroyed_at.keys());
        let gone = known.filter(|name| !saved.groups.contains_key(*name)).cloned();
        let mut destroyed_at: BTreeMap<_, _> = gone.map(|name| (name, saved.last_generated)).collect();
        destroyed_at.extend(saved.destroyed_at.clone());
        *self = Self { clock_ms, was_trimmed, lost, destroyed_at, ..saved.clone() };
    }

    fn destroy_group(&mut self, name: &Name) {
        if self.groups.remove(name).is_some() {
            self.destroyed_at.insert(name.clone(), self.last_generated);
        }
    }

    /// Counts what is gone above the position of a group as lost: for a group that comes back to where it was, it looks
    /// like that.
    fn note_set_back(&mut self, name: &Name, position: StreamId) {
        let gone = self.removed.iter().filter(|removed| **removed > position).count();
        *self.lost.entry(name.clone()).or_default() += gone as u64;
    }

    /// Moves a group to an entry or to the start, as XGROUP SETID does.
    fn set_back(&mut self, name: &Name) {
        let from = [some_entry(&self.entries), Some(StreamId::MIN)][fastrand::usize(..2)];
        if let (Some(group), Some(id)) = (self.groups.get_mut(name), from) {
            (group.last_delivered, group.entries_read) = (id, None);
            self.note_set_back(name, id);
        }
    }

    /// Runs XDELEX, or XACKDEL for a group, with one of its options.
    fn delete_with_option(&mut self, id: StreamId, group: Option<&Name>) {
        if let Some(group) = group.and_then(|name| self.groups.get_mut(name)) {
            group.pending.remove(&id);
        }
        match fastrand::u32(..3) {
            0 => self.delete(id),
            1 => {
                self.drop_references(id);
                self.delete(id);
            }
            _ if !self.is_referenced(id) => self.delete(id),
            _ => {}
        }
    }

    /// A group that does not exist counts as having lost the entry too, since it may be created again before the next
    /// poll, at the position where it was.
    fn note_removed(&mut self, id: StreamId) {
        self.removed.insert(id);
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

    /// Runs one random operation of a client.
    pub(crate) fn disturb(&mut self) {
        if !self.has_acked_trimming() || fastrand::u32(..8) > 0 {
            return self.disturb_without_options();
        }
        let name = &some_group();
        let pending = self.groups.get(name).and_then(ModelGroup::some_pending);
        match (fastrand::u32(..8), some_entry(&self.entries), pending) {
            (0, Some(id), _) => self.delete_with_option(id, None),
            (1, _, Some(id)) => self.delete_with_option(id, Some(name)),
            (2..=4, ..) => self.make_hole(name),
            _ => self.trim_with_option(),
        }
    }

    /// The same, with operations of every server version only.
    pub(crate) fn disturb_without_options(&mut self) {
        let name = &some_group();
        match fastrand::u32(..100) {
            0..=34 => (0..fastrand::u32(1..8)).for_each(|_| self.add()),
            35..=54 => self.read(name, fastrand::usize(1..6), fastrand::bool()),
            55..=59 => self.claim_or_release(name),
            60..=66 => {
                self.add();
                self.trim_to(fastrand::usize(1..20));
            }
            67..=69 => self.trim_to(fastrand::usize(..self.entries.len() + 1)),
            70..=76 => some_entry(&self.entries).into_iter().for_each(|id| self.delete(id)),
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
            87..=93 => self.create_group(name),
            94..=95 => self.set_back(name),
            96..=97 => self.destroy_group(name),
            98 => {
                let beyond = StreamId::new(self.last_generated.ms + 5, 0);
                if let Some(group) = self.groups.get_mut(name) {
                    (group.last_delivered, group.entries_read) = (beyond, None);
                }
            }
            _ => {
                // DEL, and a new stream with the same key. Its IDs are later, since they are generated from the clock.
                let clock_ms = self.clock_ms.max(self.last_generated.ms) + 1;
                self.groups
                    .keys()
                    .cloned()
                    .collect::<Vec<_>>()
                    .iter()
                    .for_each(|name| self.destroy_group(name));
                let destroyed_at = std::mem::take(&mut self.destroyed_at);
                let (lost, was_trimmed, entry_bytes) =
                    (self.lost.clone(), self.was_trimmed, self.entry_bytes);
                *self = Self {
                    clock_ms,
                    lost,
                    destroyed_at,
                    was_trimmed,
                    entry_bytes,
                    ..Self::new(self.counters)
                };
            }
        }
    }

    /// Claims (XCLAIM) or releases (XNACK) one pending entry.
    fn claim_or_release(&mut self, name: &Name) {
        let now = self.now_ms();
        let Some(group) = self.groups.get_mut(name) else { return };
        let Some(id) = group.some_pending() else { return };
        if fastrand::u8(..4) == 0 {
            let how = fastrand::u32(..3);
            group.pending.entry(id).and_modify(|delivery| {
                delivery.consumer = None;
                delivery.count = match how {
                    0 => delivery.count,
                    1 => delivery.count.saturating_sub(1),
                    _ => FATAL_DELIVERIES,
                };
            });
            return;
        }
        let consumer = some_consumer();
        group.consumers.insert(consumer, now);
        group.deliver(id, consumer, now);
    }

    /// Returns the server's clock.
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock_ms + 1_000
    }

    /// Returns the monotonic clock of the caller.
    pub(crate) fn at(&self) -> Duration {
        Duration::from_millis(self.clock_ms - EPOCH_MS)
    }

    pub(crate) fn group_info(&self) -> Vec<GroupInfo> {
        let info = |(name, group): (&Name, &ModelGroup)| GroupInfo {
            name: name.clone(),
            named: false,
            consumers: group.consumers.len() as u64,
            pending: group.pending.len() as u64,
            last_delivered: group.last_delivered,
            entries_read: group.entries_read.map(Into::into),
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
            consumer_count: groups.iter().map(|group| group.consumers).sum::<u64>() + self.other_consumers,
            entry_bytes: self.entry_bytes,
            radix_tree: RadixTree::default(),
            idmp: None,
            groups: groups.into(),
        }
    }

    /// Returns the reply to XINFO CONSUMERS.
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
            QuestionKind::PendingIds { group, from, until, at_most } => {
                pending(group).map_or(Answer::Gone, |pending| {
                    let ids = pending.range(from..=until).map(|(id, _)| *id);
                    Answer::PendingIds(ids.take(*at_most as usize).collect())
                })
            }
            QuestionKind::PendingPage { group, after, at_most } => {
                let now = self.now_ms();
                pending(group).map_or(Answer::Gone, |pending| {
                    let page = pending.iter().filter(|(id, _)| after.is_none_or(|after| **id > after));
                    let page = page.take(*at_most as usize).map(|(id, delivery)| delivery.listed(*id, now));
                    Answer::PendingPage(page.collect())
                })
            }
            QuestionKind::Entry { id } => {
                let ends = self.entries.get(id).map(|id| (*id, *id));
                Answer::Entries(EntryRange { count: u32::from(ends.is_some()), ends })
            }
            QuestionKind::FullStream => {
                assert!(self.other_consumers < 5_000, "the reply would list all consumers");
                let info = self.info(self.group_info());
                let last = info.first.map(|_| info.last_generated);
                Answer::FullStream(Box::new(StreamInfo { last, ..info }))
            }
            QuestionKind::Groups => Answer::Groups(self.group_info()),
            QuestionKind::Memory { .. } => Answer::Memory(1_000 * self.entries.len() as u64),
            QuestionKind::Consumers { group } => {
                self.consumers(group).map_or(Answer::Gone, Answer::Consumers)
            }
            QuestionKind::Entries { after, until, at_most } => {
                let found: Vec<_> =
                    self.above(*after).take_while(|id| id <= until).take(*at_most as usize).collect();
                let ends = found.first().copied().zip(found.last().copied());
                Answer::Entries(EntryRange { count: u32::try_from(found.len()).unwrap(), ends })
            }
        }
    }
}

fn some_consumer() -> &'static str {
    ["x", "y"][fastrand::usize(..2)]
}

fn some_group() -> Name {
    Name::from(GROUPS[fastrand::usize(..GROUPS.len())])
}

fn some_entry(entries: &BTreeSet<StreamId>) -> Option<StreamId> {
    entries.iter().nth(fastrand::usize(..entries.len().max(1))).copied()
}
