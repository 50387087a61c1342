//! Holds lag against counting by hand: random operations on a [model](crate::tests::model), with polls between
//! them and in the median of them.

use std::sync::Arc;
use std::time::Duration;

use crate::budget::Budget;
use crate::derivation::Derivation;
use crate::question::Question;
use crate::report::{GroupValues, Lag, OldestPending, Report};
use crate::snapshot::{
    ConsumersReading, Epoch, GroupInfo, NodeReading, ReadOutcome, Snapshot, StreamReading,
};
use crate::state::LagState;
use crate::tests::model::{Counters, Model};
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;

/// What is remembered between the polls of one model.
pub(crate) struct Watcher {
    memory: LagState,
    report: Option<Report>,
    pub(crate) epoch: u64,
}

/// What the poll is to be held against.
pub(crate) struct Truth {
    /// The stream when XINFO STREAM was answered, and when all was over.
    read: Model,
    over: Model,
    groups: Vec<GroupInfo>,
}

impl Watcher {
    pub(crate) fn new() -> Self {
        Self { memory: LagState::default(), report: None, epoch: 1 }
    }

    /// One poll of the model, which goes on changing while it is polled if `is_busy`.
    pub(crate) fn poll(&mut self, model: &mut Model, budget: Budget, is_busy: bool) -> Truth {
        let meanwhile = |model: &mut Model| {
            while is_busy && fastrand::u32(..3) == 0 {
                model.disturb();
            }
        };
        let groups = model.group_info();
        meanwhile(model);
        let read = model.clone();
        let mut info = model.info(groups.clone());
        for group in &mut info.groups {
            meanwhile(model);
            if let (true, Some(consumers)) = (fastrand::bool(), model.consumers(&group.name)) {
                group.each_consumer = ConsumersReading::Read(consumers);
            }
        }
        let streams = vec![StreamReading {
            key: Name::from("s"),
            outcome: ReadOutcome::Read(info),
            missing_groups: Vec::new(),
            window: WINDOW,
        }];
        let node = NodeReading { address: Arc::from("h:1"), epoch: Epoch(self.epoch), streams };
        let snapshot = Snapshot { nodes: vec![node] };
        let mut derivation = Derivation::open(&snapshot, &mut self.memory, budget, model.at());
        for _ in 0..10_000 {
            let questions = derivation.questions();
            if questions.is_empty() {
                let report = derivation.close(self.report.as_ref());
                self.report = Some(report);
                return Truth { read, over: model.clone(), groups };
            }
            let mut answer = |question: &Question| {
                meanwhile(model);
                model.answer(&question.kind)
            };
            let answers = questions.iter().map(&mut answer).collect();
            derivation.answer(answers);
        }
        panic!("questions without end");
    }

    /// One poll in which it is not the stream's turn.
    pub(crate) fn defer(&mut self, model: &Model) {
        let stream = StreamReading {
            key: Name::from("s"),
            outcome: ReadOutcome::Deferred,
            missing_groups: Vec::new(),
            window: WINDOW,
        };
        let node = NodeReading { address: Arc::from("h:1"), epoch: Epoch(self.epoch), streams: vec![stream] };
        let snapshot = Snapshot { nodes: vec![node] };
        let report =
            Derivation::open(&snapshot, &mut self.memory, PLENTY, model.at()).close(self.report.as_ref());
        self.report = Some(report);
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &GroupValues> {
        let streams = self.report.iter().flat_map(|report| &report.streams);
        streams.flat_map(|stream| &stream.groups).filter_map(|group| group.values.as_ref())
    }
}

impl Truth {
    /// Holds a report against counting by hand. While clients go on, a value may be as of any moment from the
    /// reading of the stream to the end of the poll; entries added after that reading do not count.
    fn hold(&self, watch: &Watcher) -> (usize, usize) {
        let (mut exact, mut all) = (0, 0);
        for (group, values) in self.groups.iter().zip(watch.values()) {
            let position = group.last_delivered;
            let until = self.read.last_generated;
            let ahead = |model: &Model| {
                if model.last_generated < until {
                    return 0;
                }
                model.above(position).filter(|id| *id <= until).count() as u64
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
            if self.read.entries == self.over.entries && self.groups == self.over.group_info() {
                self.hold_pending(group, values, &context);
            }
        }
        self.hold_losses(watch);
        (exact, all)
    }

    /// A loss may go unseen, but none is ever made up; nor is trimming.
    fn hold_losses(&self, watch: &Watcher) {
        for (group, values) in self.groups.iter().zip(watch.values()) {
            let lost = self.over.lost.get(&group.name).copied().unwrap_or(0);
            assert!(values.entries_lost.unwrap_or(0) <= lost, "{lost} lost: {values:?}\n{:?}", self.read);
            assert!(values.retention_used.is_none() || self.over.was_trimmed, "{values:?}\n{:?}", self.read);
        }
    }

    fn hold_age(&self, group: &GroupInfo, values: &GroupValues, context: &dyn Fn() -> String) {
        let Some(age) = values.lag_seconds else {
            let is_still = self.read.entries == self.over.entries;
            assert!(!is_still || values.lag.exact().is_none(), "an exact lag has an age: {}", context());
            return;
        };
        let now = Duration::from_millis(self.read.clock_ms + 1_000);
        let until = self.read.last_generated;
        let next = |model: &Model| model.above(group.last_delivered).next().filter(|id| *id <= until);
        let age_of = |id: Option<StreamId>| {
            id.map_or(Duration::ZERO, |id| now.saturating_sub(Duration::from_millis(id.ms)))
        };
        let (oldest, youngest) = (age_of(next(&self.read)), age_of(next(&self.over)));
        assert!(youngest <= age && age <= oldest, "{age:?}, not {youngest:?} to {oldest:?}: {}", context());
    }

    fn hold_pending(&self, group: &GroupInfo, values: &GroupValues, context: &dyn Fn() -> String) {
        let Some(now) = self.over.groups.get(&group.name) else { return };
        let orphans =
            now.pending.keys().filter(|id| self.read.entries.first().is_none_or(|first| *id < first));
        assert_eq!(values.pending_orphaned, Some(orphans.count() as u64), "{}", context());
        let shown = match values.oldest_pending {
            Some(OldestPending::Entry { idle, deliveries, .. }) => Some((idle, deliveries)),
            Some(OldestPending::Nothing) => None,
            None => panic!("the oldest pending entry was not asked for: {}", context()),
        };
        let is_still = self.read.groups.get(&group.name).is_some_and(|read| read.pending == now.pending);
        if !is_still {
            return;
        }
        let truth = now.oldest_pending(self.read.now_ms());
        let truth = truth.map(|entry| (entry.idle_ms.map(Duration::from_millis), entry.deliveries));
        // The clock went on until it was asked for, if it was.
        let idle = |shown: Option<(Option<Duration>, u64)>| shown.and_then(|(idle, _)| idle);
        let is_later = idle(shown).zip(idle(truth)).is_some_and(|(shown, truth)| shown >= truth);
        let is_same = shown.map(|(_, deliveries)| deliveries) == truth.map(|(_, deliveries)| deliveries);
        let is_true = is_same && (is_later || idle(shown) == idle(truth));
        assert!(is_true, "{shown:?}, not {truth:?}: {}", context());
    }
}

/// Runs random operations with polls in between; the number of lags seen, and of exact ones.
fn run(seed: u64, counters: Counters, budget: Budget, is_busy: bool) -> (usize, usize) {
    fastrand::seed(seed);
    let mut model = Model::new(counters);
    let mut watch = Watcher::new();
    let mut saved = model.clone();
    let (mut exact, mut all) = (0, 0);
    for _ in 0..300 {
        for _ in 0..fastrand::u32(..6) {
            model.disturb();
        }
        match fastrand::u32(..60) {
            // Long enough for an audit now and then.
            3..=8 => model.clock_ms += 200_000,
            0 => watch.epoch += 1,
            1 => saved = model.clone(),
            2 => {
                // A restart from an older file: another connection.
                let (clock_ms, was_trimmed) = (model.clock_ms, model.was_trimmed);
                model = Model { clock_ms, was_trimmed, lost: model.lost.clone(), ..saved.clone() };
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
    let runs = if cfg!(debug_assertions) { 220 } else { 3_000 };
    for seed in 0..runs {
        for counters in [Counters::None, Counters::Original, Counters::Fixed] {
            let held = std::panic::catch_unwind(|| run(seed, counters, budget, is_busy));
            let held = held.unwrap_or_else(|_| panic!("seed {seed}, counters {counters:?}, busy {is_busy}"));
            (exact, all) = (exact + held.0, all + held.1);
        }
    }
    assert!(all > 100_000, "{all}");
    exact as f64 / all as f64
}

pub(crate) const WINDOW: Duration = Duration::from_secs(120);

pub(crate) const PLENTY: Budget = Budget {
    entries: 20_000,
    audit_entries: 5,
    audit_period: Duration::from_secs(600),
    payload_bytes: 16 << 20,
    timeout: Duration::from_millis(500),
};

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
    let small = Budget { entries: 3, ..PLENTY };
    assert!(run_many(small, false) > 0.5);
    assert!(run_many(small, true) > 0.5);
}
