//! A small stream in memory that answers questions: the other half of a property test of the pure code.
//!
//! It is no mock of Redis. It keeps the counters as the servers do, so that long runs of random operations,
//! between the polls and in the middle of them, can be held against counting by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::lag::budget::Budget;
use crate::lag::inquiry::Inquiry;
use crate::lag::memory::Memory;
use crate::lag::report::{GroupValues, Lag, OldestPending, Report};
use crate::snapshot::facts::{Epoch, GroupFacts, NodeReading, Outcome, Snapshot, StreamFacts, StreamReading};
use crate::snapshot::id::StreamId;
use crate::snapshot::name::Name;
use crate::snapshot::question::{Answer, Ask, Entries, PendingEntry, Question};

/// How the server keeps its counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counters {
    /// Not at all: server 6.2.
    None,
    /// As first released: 7.0 to 7.4. entries-read drifts once a group was overtaken by a trim.
    Original,
    /// As mended: 8.x.
    Mended,
}

const EPOCH_MS: u64 = 1_700_000_000_000;

#[derive(Clone, Debug)]
struct Model {
    counters: Counters,
    entries: BTreeSet<StreamId>,
    last_generated: StreamId,
    added: u64,
    max_deleted: StreamId,
    groups: BTreeMap<Name, Group>,
    clock_ms: u64,
}

#[derive(Clone, Debug, Default)]
struct Group {
    last_delivered: StreamId,
    entries_read: Option<u64>,
    pending: BTreeSet<StreamId>,
}

impl Model {
    fn new(counters: Counters) -> Self {
        Self {
            counters,
            entries: BTreeSet::new(),
            last_generated: StreamId::MIN,
            added: 0,
            max_deleted: StreamId::MIN,
            groups: BTreeMap::new(),
            clock_ms: EPOCH_MS,
        }
    }

    fn first(&self) -> StreamId {
        self.entries.first().copied().unwrap_or(StreamId::MIN)
    }

    fn above(&self, id: StreamId) -> impl Iterator<Item = StreamId> + '_ {
        self.entries.iter().copied().filter(move |entry| *entry > id)
    }

    fn add(&mut self) {
        self.clock_ms += fastrand::u64(0..3);
        let id = if self.clock_ms > self.last_generated.ms {
            StreamId::new(self.clock_ms, 0)
        } else {
            StreamId::new(self.last_generated.ms, self.last_generated.seq + 1)
        };
        self.entries.insert(id);
        (self.last_generated, self.added) = (id, self.added + 1);
    }

    fn trim_to(&mut self, length: usize) {
        while self.entries.len() > length {
            self.entries.pop_first();
        }
    }

    fn delete(&mut self, id: StreamId) {
        if self.entries.remove(&id) {
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
        if self.counters == Counters::Mended && id != StreamId::MIN && id < self.max_deleted {
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

    fn read(&mut self, name: &Name, count: usize, acknowledge: bool) {
        let Some(group) = self.groups.get(name).cloned() else { return };
        let mut group = group;
        for id in self.above(group.last_delivered).take(count).collect::<Vec<_>>() {
            let is_known = match self.counters {
                Counters::None => false,
                Counters::Original => group.entries_read.is_some() && !self.has_tombstones(id),
                Counters::Mended => {
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
                group.pending.insert(id);
            }
        }
        self.groups.insert(name.clone(), group);
    }

    /// One random thing that clients do.
    fn disturb(&mut self) {
        let names: Vec<Name> = ["a", "b", "c"].map(Name::from).into();
        let name = &names[fastrand::usize(..names.len())];
        let some = |entries: &BTreeSet<StreamId>| {
            entries.iter().nth(fastrand::usize(..entries.len().max(1))).copied()
        };
        match fastrand::u32(..100) {
            0..=34 => (0..fastrand::u32(1..8)).for_each(|_| self.add()),
            35..=59 => self.read(name, fastrand::usize(1..6), fastrand::bool()),
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
                if let Some(id) = some(&group.pending) {
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
                *self = Self { clock_ms, ..Self::new(self.counters) };
            }
        }
    }

    fn group_facts(&self) -> Vec<GroupFacts> {
        let facts = |(name, group): (&Name, &Group)| GroupFacts {
            name: name.clone(),
            named: false,
            consumers: 1,
            pending: group.pending.len() as u64,
            last_delivered: group.last_delivered,
            entries_read: group.entries_read,
            wants_consumers: false,
        };
        self.groups.iter().map(facts).collect()
    }

    fn facts(&self, groups: Vec<GroupFacts>) -> StreamFacts {
        let counted = self.counters != Counters::None;
        StreamFacts {
            time: Duration::from_millis(self.clock_ms + 1_000),
            length: self.entries.len() as u64,
            first: self.entries.first().copied(),
            last: self.entries.last().copied(),
            last_generated: self.last_generated,
            entries_added: counted.then_some(self.added),
            max_deleted: counted.then_some(self.max_deleted),
            group_count: groups.len() as u64,
            entry_bytes: 100,
            groups,
        }
    }

    fn answer(&self, ask: &Ask) -> Answer {
        let pending = |group: &Name| self.groups.get(group).map(|group| &group.pending);
        match ask {
            Ask::OldestPending { group } => pending(group).map_or(Answer::Gone, |pending| {
                let entry = |id: &StreamId| PendingEntry { id: *id, idle_ms: Some(1), deliveries: 1 };
                Answer::OldestPending(pending.first().map(entry))
            }),
            Ask::PendingBelow { group, below, at_most } => pending(group).map_or(Answer::Gone, |pending| {
                let count = pending.range(..below).take(*at_most as usize).count();
                Answer::PendingBelow(u32::try_from(count).unwrap())
            }),
            Ask::Consumers { .. } => Answer::Consumers(Vec::new()),
            Ask::Entries { after, until, at_most } => {
                let found: Vec<_> =
                    self.above(*after).take_while(|id| id <= until).take(*at_most as usize).collect();
                let ends = found.first().copied().zip(found.last().copied());
                Answer::Entries(Entries { count: u32::try_from(found.len()).unwrap(), ends })
            }
        }
    }
}

/// What is remembered between the polls of one model.
struct Watch {
    memory: Memory,
    report: Option<Report>,
    epoch: u64,
}

/// What the poll is to be held against.
struct Truth {
    /// The stream when XINFO STREAM was answered, and when all was over.
    read: Model,
    over: Model,
    groups: Vec<GroupFacts>,
}

impl Watch {
    fn new() -> Self {
        Self { memory: Memory::default(), report: None, epoch: 1 }
    }

    /// One poll of the model, which goes on changing while it is polled if `is_busy`.
    fn poll(&mut self, model: &mut Model, budget: Budget, is_busy: bool) -> Truth {
        let meanwhile = |model: &mut Model| {
            while is_busy && fastrand::u32(..3) == 0 {
                model.disturb();
            }
        };
        let groups = model.group_facts();
        meanwhile(model);
        let read = model.clone();
        let streams = vec![StreamReading {
            key: Name::from("s"),
            outcome: Outcome::Read(model.facts(groups.clone())),
            missing_groups: Vec::new(),
        }];
        let node = NodeReading { address: Arc::from("h:1"), epoch: Epoch(self.epoch), streams };
        let snapshot = Snapshot { nodes: vec![node] };
        let mut inquiry = Inquiry::open(&snapshot, &mut self.memory, budget);
        for _ in 0..10_000 {
            let questions = inquiry.questions();
            if questions.is_empty() {
                let report = inquiry.close(self.report.as_ref());
                self.report = Some(report);
                return Truth { read, over: model.clone(), groups };
            }
            let mut answer = |question: &Question| {
                meanwhile(model);
                model.answer(&question.ask)
            };
            let answers = questions.iter().map(&mut answer).collect();
            inquiry.answer(&questions, answers);
        }
        panic!("questions without end");
    }

    fn values(&self) -> impl Iterator<Item = &GroupValues> {
        let streams = self.report.iter().flat_map(|report| &report.streams);
        streams.flat_map(|stream| &stream.groups).filter_map(|group| group.values.as_ref())
    }
}

impl Truth {
    /// Holds a report against counting by hand. While clients go on, a value may be as of any moment from the
    /// reading of the stream to the end of the poll; entries added after that reading do not count.
    fn hold(&self, watch: &Watch) -> (usize, usize) {
        let (mut exact, mut all) = (0, 0);
        for (group, values) in self.groups.iter().zip(watch.values()) {
            let place = group.last_delivered;
            let until = self.read.last_generated;
            let ahead = |model: &Model| {
                if model.last_generated < until {
                    return 0;
                }
                model.above(place).filter(|id| *id <= until).count() as u64
            };
            let (most, least) = (ahead(&self.read), ahead(&self.over));
            let context = || format!("{group:?}\n{values:?}\nread {:?}\nover {:?}", self.read, self.over);
            all += 1;
            match values.lag {
                Lag::Exact(lag) => {
                    exact += 1;
                    assert!(least <= lag && lag <= most, "lag {lag}, not {least} to {most}: {}", context());
                }
                Lag::Between { min, max } => {
                    assert!(min <= most && max >= least && min <= max, "{min} to {max}: {}", context());
                }
            }
            self.hold_age(group, values, &context);
            if self.read.entries == self.over.entries && self.groups == self.over.group_facts() {
                self.hold_pending(group, values, &context);
            }
        }
        (exact, all)
    }

    fn hold_age(&self, group: &GroupFacts, values: &GroupValues, context: &dyn Fn() -> String) {
        let Some(age) = values.lag_seconds else { return };
        let now = Duration::from_millis(self.read.clock_ms + 1_000);
        let until = self.read.last_generated;
        let next = |model: &Model| model.above(group.last_delivered).next().filter(|id| *id <= until);
        let age_of = |id: Option<StreamId>| {
            id.map_or(Duration::ZERO, |id| now.saturating_sub(Duration::from_millis(id.ms)))
        };
        let (oldest, youngest) = (age_of(next(&self.read)), age_of(next(&self.over)));
        assert!(youngest <= age && age <= oldest, "{age:?}, not {youngest:?} to {oldest:?}: {}", context());
    }

    fn hold_pending(&self, group: &GroupFacts, values: &GroupValues, context: &dyn Fn() -> String) {
        let Some(now) = self.over.groups.get(&group.name) else { return };
        let orphans =
            now.pending.iter().filter(|id| self.read.entries.first().is_none_or(|first| *id < first));
        if let Some(counted) = values.pending_orphaned {
            assert_eq!(counted, orphans.count() as u64, "{}", context());
        }
        let has_oldest = matches!(values.oldest_pending, Some(OldestPending::Entry { .. }));
        assert_eq!(has_oldest, !now.pending.is_empty(), "{}", context());
    }
}

/// Runs random operations with polls in between; the number of lags seen, and of exact ones.
fn run(seed: u64, counters: Counters, budget: Budget, is_busy: bool) -> (usize, usize) {
    fastrand::seed(seed);
    let mut model = Model::new(counters);
    let mut watch = Watch::new();
    let mut saved = model.clone();
    let (mut exact, mut all) = (0, 0);
    for _ in 0..300 {
        for _ in 0..fastrand::u32(..6) {
            model.disturb();
        }
        match fastrand::u32(..60) {
            0 => watch.epoch += 1,
            1 => saved = model.clone(),
            2 => {
                // A restart from an older file: another connection.
                model = Model { clock_ms: model.clock_ms, ..saved.clone() };
                watch.epoch += 1;
            }
            _ => {}
        }
        let truth = watch.poll(&mut model, budget, is_busy);
        let held = truth.hold(&watch);
        (exact, all) = (exact + held.0, all + held.1);
    }
    (exact, all)
}

fn run_many(budget: Budget, is_busy: bool) -> f64 {
    let (mut exact, mut all) = (0, 0);
    let runs = if cfg!(debug_assertions) { 150 } else { 3_000 };
    for seed in 0..runs {
        for counters in [Counters::None, Counters::Original, Counters::Mended] {
            let held = std::panic::catch_unwind(|| run(seed, counters, budget, is_busy));
            let held = held.unwrap_or_else(|_| panic!("seed {seed}, counters {counters:?}, busy {is_busy}"));
            (exact, all) = (exact + held.0, all + held.1);
        }
    }
    assert!(all > 100_000, "{all}");
    exact as f64 / all as f64
}

const PLENTY: Budget = Budget { entries: 20_000, payload_bytes: 16 << 20 };

#[test]
fn no_lag_is_ever_wrong_on_a_stream_that_stands_still_while_it_is_polled() {
    assert!(run_many(PLENTY, false) == 1.0, "with a budget for all every lag is exact");
}

#[test]
fn no_lag_is_ever_wrong_on_a_stream_that_changes_while_it_is_polled() {
    assert!(run_many(PLENTY, true) > 0.999);
}

#[test]
fn no_lag_is_ever_wrong_when_the_budget_cuts_walks_short() {
    let small = Budget { entries: 3, payload_bytes: 16 << 20 };
    assert!(run_many(small, false) > 0.5);
    assert!(run_many(small, true) > 0.5);
}
