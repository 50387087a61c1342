//! Compares derived values with a [model](crate::tests::model) that counts entries one by one. Random operations run
//! between polls, and between the commands of a poll.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::budget::Budget;
use crate::compact::Count;
use crate::deleted_pending::LOOK_UPS_PER_POLL;
use crate::derivation::Derivation;
use crate::question::{Answer, Question, QuestionKind};
use crate::report::{
    Age, ConsumerView, GroupReport, GroupValues, GroupView, HistoryCoverage, Lag, OldestPending, Report,
    ReportedStream, Status, StreamReport,
};
use crate::settled::Settled;
use crate::snapshot::{
    ConsumerLimit, ConsumersReading, Epoch, GroupInfo, LossSample, NodeInfo, NodeReading, ReadOutcome,
    Snapshot, StreamInfo, StreamReading,
};
use crate::state::{LagState, RememberedGroup};
use crate::tests::model::{Counters, ModelGroup, StreamModel};
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;

/// Polls one model and keeps the state and the last report.
pub(crate) struct Watcher {
    pub(crate) state: LagState,
    report: Option<Report>,
    pub(crate) epoch: u64,
    /// True if no question is answered in time.
    pub(crate) is_late: bool,
    /// True if the report may have the values of the one before, since no question was answered in time.
    shows_those_before: bool,
    /// Number of pending entries that the last poll asked the census for, with a cost of one for each command.
    pub(crate) listed: u64,
    /// The last reading that was derived.
    read: Option<StreamInfo>,
    /// The last reading that repeated it.
    confirmed_at: (Duration, Duration),
}

/// Returns the number of pending entries that are asked for, with a cost of one for each command.
fn listed(questions: &[Question]) -> u64 {
    let pages = questions.iter().filter_map(|question| match question.kind {
        QuestionKind::PendingPage { at_most, .. } => Some(u64::from(at_most) + 1),
        _ => None,
    });
    pages.sum()
}

/// The true state of the model during a poll.
pub(crate) struct Truth {
    /// The model when XINFO STREAM was answered.
    read: StreamModel,
    /// The model at the end of the poll.
    after: StreamModel,
    groups: Vec<GroupInfo>,
    is_busy: bool,
}

impl Watcher {
    pub(crate) fn new() -> Self {
        Self {
            state: LagState::default(),
            report: None,
            epoch: 1,
            is_late: false,
            shows_those_before: false,
            listed: 0,
            read: None,
            confirmed_at: Default::default(),
        }
    }

    /// Polls the model, which keeps changing during the poll if `is_busy`.
    pub(crate) fn poll(&mut self, model: &mut StreamModel, budget: Budget, is_busy: bool) -> Truth {
        let meanwhile = |model: &mut StreamModel| {
            while is_busy && fastrand::u32(..3) == 0 {
                model.disturb();
            }
        };
        let groups = model.group_info();
        // A trim with ACKED just here, of what was delivered and acknowledged just here too, leaves no trace.
        while is_busy && fastrand::u32(..3) == 0 {
            model.disturb_without_options();
        }
        let read = model.clone();
        let mut info = model.info(groups.clone());
        for group in &mut info.groups {
            meanwhile(model);
            let consumers = model.consumers(&group.name).filter(|consumers| !consumers.is_empty());
            if let (true, Some(consumers)) = (fastrand::bool(), consumers) {
                group.each_consumer = ConsumersReading::Read(consumers.into());
            }
        }
        (self.read, self.confirmed_at) = (Some(info.clone()), (model.at(), info.time));
        let snapshot = self.snapshot(model, ReadOutcome::Read(Box::new(info)));
        let mut derivation =
            Derivation::open(snapshot, &mut self.state, budget, model.at(), self.report.as_ref());
        self.listed = 0;
        for _ in 0..10_000 {
            let questions = derivation.questions();
            self.listed += listed(&questions);
            if questions.is_empty() {
                let report = derivation.close();
                (self.report, self.shows_those_before) = (Some(report), self.is_late);
                self.check_notable(model.at());
                self.read_later_pages(model, &meanwhile);
                return Truth { read, after: model.clone(), groups, is_busy };
            }
            let mut answer = |question: &Question| {
                meanwhile(model);
                model.answer(&question.kind)
            };
            let answers = match self.is_late {
                true => vec![Answer::Late; questions.len()],
                false => questions.iter().map(&mut answer).collect(),
            };
            derivation.answer(answers);
        }
        panic!("questions without end");
    }

    /// Reads the pages that are left until the report is published.
    fn read_later_pages(&mut self, model: &mut StreamModel, meanwhile: &dyn Fn(&mut StreamModel)) {
        while self.state.has_later_pages() {
            let questions = self.state.later_questions();
            self.listed += listed(&questions);
            let mut answer = |question: &Question| {
                meanwhile(model);
                model.answer(&question.kind)
            };
            let answers = match self.is_late {
                true => vec![Answer::Late; questions.len()],
                false => questions.iter().map(&mut answer).collect(),
            };
            self.state.answer_later(answers);
        }
    }

    /// Samples the model between two polls.
    fn sample(&mut self, model: &mut StreamModel, is_busy: bool) {
        let meanwhile = |model: &mut StreamModel| {
            while is_busy && fastrand::u32(..3) == 0 {
                model.disturb();
            }
        };
        let groups = model.group_info();
        meanwhile(model);
        let info = model.info(groups);
        meanwhile(model);
        self.state.note_sample(&LossSample {
            key: &Name::from("s"),
            epoch: Epoch(self.epoch),
            entries_read: model.meaning(),
            info: &info,
            groups_after: &model.group_info(),
        });
    }

    /// A poll in which the stream is deferred.
    pub(crate) fn defer(&mut self, model: &StreamModel) {
        self.pass_over(model, ReadOutcome::Deferred);
    }

    /// A poll whose reading repeats the one before, if it does and the stream is settled. Returns false otherwise.
    fn repeat(&mut self, model: &StreamModel) -> bool {
        let mut info = model.info(model.group_info());
        let now = (model.at(), info.time);
        let settled = self.state.settled(&Name::from("s"), Epoch(self.epoch));
        let holds = |settled: Settled| settled.holds_at(now, self.confirmed_at);
        if !settled.is_some_and(holds) {
            return false;
        }
        for group in &mut info.groups {
            let consumers = model.consumers(&group.name).filter(|consumers| !consumers.is_empty());
            group.each_consumer =
                consumers.map_or(ConsumersReading::Open, |all| ConsumersReading::Read(all.into()));
        }
        let is_same = self.read.as_ref().is_some_and(|read| without_ages(read) == without_ages(&info));
        if is_same {
            self.confirmed_at = now;
            self.pass_over(model, ReadOutcome::Unchanged { time: info.time });
        }
        is_same
    }

    /// A poll in which the stream is not derived.
    fn pass_over(&mut self, model: &StreamModel, outcome: ReadOutcome) {
        let snapshot = self.snapshot(model, outcome);
        let report =
            Derivation::open(snapshot, &mut self.state, PLENTY, model.at(), self.report.as_ref()).close();
        self.report = Some(report);
        self.check_notable(model.at());
    }

    fn snapshot(&self, model: &StreamModel, outcome: ReadOutcome) -> Snapshot {
        let stream = StreamReading {
            key: Name::from("s"),
            family: None,
            outcome,
            missing_groups: Box::default(),
            window: WINDOW,
        };
        let node = NodeReading {
            node: NodeInfo {
                epoch: Epoch(self.epoch),
                entries_read: model.meaning(),
                has_acked_trimming: model.has_acked_trimming(),
                has_xnack: true,
                consumer_limit: ConsumerLimit { at_most: 100, max_idle: WINDOW },
            },
            streams: vec![stream],
        };
        Snapshot { nodes: vec![node] }
    }

    /// Keeps the next report from sharing values with the last one, which stay the same.
    fn forget_sharing(&mut self) {
        for stream in self.report.iter_mut().flat_map(|report| &mut report.streams) {
            // What was refused is not what is read.
            *stream = StreamReport { refused: true, ..as_just_derived(stream) }.into();
        }
    }

    /// Returns what is known of groups, to be kept over a restart.
    pub(crate) fn remembered(&self, now: Duration) -> Vec<RememberedGroup> {
        let beyond_report: Vec<_> = self.state.remembered_beyond_report(now).collect();
        RememberedGroup::all(&beyond_report, self.report.as_ref()).collect()
    }

    /// Checks that what is looked for in few streams is all that there is.
    fn check_notable(&self, now: Duration) {
        let known: Vec<_> = self.state.remembered_of_all(now).collect();
        let is_known = |group: &Name| known.iter().any(|known| known.group == *group);
        let mut remembered = self.remembered(now);
        // A report with the values of the one before shows groups that are gone.
        remembered.retain(|remembered| !self.shows_those_before || is_known(&remembered.group));
        remembered.sort_by(|one, other| one.group.cmp(&other.group));
        assert_eq!(remembered, known);
        let is_in_danger = self.state.streams.values().any(|stream| stream.is_in_danger());
        assert_eq!(self.state.streams_in_danger().next().is_some(), is_in_danger);
    }

    /// Returns the values of each group, with ages as of the last reading.
    pub(crate) fn values(&self) -> impl Iterator<Item = GroupValues> {
        self.views().map(GroupView::to_values)
    }

    pub(crate) fn views(&self) -> impl Iterator<Item = GroupView<'_>> {
        let groups = self.report.iter().flat_map(|report| report.groups());
        groups.filter_map(|(stream, group)| stream.view(group))
    }
}

impl Truth {
    /// Checks a report against the model. Returns the number of exact lags and of all lags. If the model changed during
    /// the poll, a value may be as of any time from the reading of the stream to the end of the poll; entries added
    /// after that reading do not count.
    fn check(&self, watch: &Watcher) -> (usize, usize) {
        let (mut exact, mut all) = (0, 0);
        for (group, values) in self.groups.iter().zip(watch.values()) {
            let position = group.last_delivered;
            let until = self.read.last_generated;
            let ahead = |model: &StreamModel| {
                if model.last_generated < until {
                    return 0;
                }
                model.above(position).filter(|id| *id <= until).count() as u64
            };
            let (most, least) = (ahead(&self.read), ahead(&self.after));
            let context = || format!("{group:?}\n{values:?}\nread {:?}\nafter {:?}", self.read, self.after);
            all += 1;
            match values.lag {
                Lag::Exact(lag) => {
                    exact += 1;
                    assert!(least <= lag && lag <= most, "lag {lag}, not {least} to {most}: {}", context());
                }
                Lag::Between { min, max } => {
                    let min = min.get();
                    assert!(min <= most && max >= least && min <= max, "{min} to {max}: {}", context());
                }
            }
            self.check_age(group, &values, &context);
            if self.read.entries == self.after.entries && self.groups == self.after.group_info() {
                self.check_pending(group, &values, &context);
            }
        }
        self.check_losses(watch);
        self.check_flow(watch);
        if !self.is_busy {
            self.check_trim(watch);
        }
        (exact, all)
    }

    /// A loss may be missed, but neither a loss nor trimming is reported that did not happen.
    fn check_losses(&self, watch: &Watcher) {
        for (group, values) in self.groups.iter().zip(watch.values()) {
            let lost = self.after.lost.get(&group.name).copied().unwrap_or(0);
            assert!(
                values.entries_lost.map_or(0, Count::get) <= lost,
                "{lost} lost: {values:?}\n{:?}",
                self.read
            );
            assert!(
                values.seldom.retention_used.is_none() || self.after.was_trimmed,
                "{values:?}\n{:?}",
                self.read
            );
        }
    }

    fn check_flow(&self, watch: &Watcher) {
        for (group, values) in self.groups.iter().zip(watch.values()) {
            let is_known = values.lag.exact().is_some() && self.read.counters != Counters::None;
            let context = || format!("{group:?}\n{values:?}\n{:?}", self.read);
            let is_counted = values.entries_delivered.is_some();
            assert_eq!(values.entries_acknowledged.is_some(), is_counted, "{}", context());
            // What a group loses unseen is not known before its share is.
            let may_wait =
                values.status.conditions.contains(Status::Losing) && values.seldom.loss_estimate.is_none();
            assert!(is_counted == is_known || is_known && may_wait, "{}", context());
            let is_gone = values.lag.exact() == Some(0);
            assert!(!is_gone || values.drain_time == Some(Duration::ZERO.into()), "{}", context());
        }
    }

    /// What is said to be trimmable is needed by no group, and is all of that but for deleted pending entries.
    fn check_trim(&self, watch: &Watcher) {
        let stream = &watch.report.as_ref().unwrap().streams[0];
        let trim = stream.values.as_ref().unwrap().safe_trim.as_ref();
        let model = &self.read;
        let context = || format!("{trim:?}\n{model:?}");
        let needs =
            |group: &ModelGroup, id: StreamId| id > group.last_delivered || group.pending.contains_key(&id);
        let Some(trim) = trim else {
            let is_reported = stream.groups.len() == model.groups.len();
            assert!(model.groups.is_empty() || !is_reported, "{}", context());
            return;
        };
        let below: Vec<_> = model.entries.iter().take_while(|id| **id < trim.min_id).collect();
        for group in model.groups.values() {
            assert!(!below.iter().any(|id| needs(group, **id)), "{}", context());
        }
        assert!(trim.entries.is_none_or(|entries| entries == (below.len() as u64).into()), "{}", context());
        let first_needed =
            model.entries.iter().find(|id| model.groups.values().any(|group| needs(group, **id)));
        let holder = trim.holder.as_ref();
        assert!(first_needed.is_none() || holder.is_some(), "{}", context());
        let deleted = |group: &ModelGroup| group.pending.keys().any(|id| !model.entries.contains(id));
        if !model.groups.values().any(deleted) {
            let entries = model.entries.iter().take_while(|id| Some(*id) != first_needed).count() as u64;
            assert_eq!(below.len() as u64, entries, "{}", context());
            let needed =
                holder.zip(first_needed).map(|(holder, id)| needs(&model.groups[&holder.group], *id));
            assert!(needed != Some(false) && holder.is_some() == first_needed.is_some(), "{}", context());
        }
    }

    /// Counters never fall, whatever happens to a group and its stream, unless it is gone for long.
    fn check_counters(&self, watch: &Watcher, before: &mut BTreeMap<Name, ([u64; 2], u64)>) {
        before.retain(|_, (_, seen_ms)| self.read.clock_ms - *seen_ms < 3_000_000);
        for (group, values) in self.groups.iter().zip(watch.values()) {
            if let Some((_, seen_ms)) = before.get_mut(&group.name) {
                *seen_ms = self.read.clock_ms;
            }
            let now = values.entries_delivered.zip(values.entries_acknowledged);
            let Some(now) = now.map(|(delivered, acknowledged)| [delivered.get(), acknowledged.get()]) else {
                continue;
            };
            let (before, _) =
                before.insert(group.name.clone(), (now, self.read.clock_ms)).unwrap_or_default();
            let fell = before.iter().zip(&now).any(|(before, now)| now < before);
            assert!(!fell, "{before:?}, then {now:?}: {group:?}\n{:?}", self.read);
        }
    }

    fn check_age(&self, group: &GroupInfo, values: &GroupValues, context: &dyn Fn() -> String) {
        let Some(age) = values.lag_seconds.map(Age::get) else {
            let is_unchanged = self.read.entries == self.after.entries;
            assert!(!is_unchanged || values.lag.exact().is_none(), "an exact lag has an age: {}", context());
            return;
        };
        let now = Duration::from_millis(self.read.clock_ms + 1_000);
        let until = self.read.last_generated;
        let next = |model: &StreamModel| model.above(group.last_delivered).next().filter(|id| *id <= until);
        let age_of = |id: Option<StreamId>| {
            id.map_or(Duration::ZERO, |id| now.saturating_sub(Duration::from_millis(id.ms)))
        };
        let (oldest, youngest) = (age_of(next(&self.read)), age_of(next(&self.after)));
        assert!(youngest <= age && age <= oldest, "{age:?}, not {youngest:?} to {oldest:?}: {}", context());
    }

    fn check_pending(&self, group: &GroupInfo, values: &GroupValues, context: &dyn Fn() -> String) {
        let Some(now) = self.after.groups.get(&group.name) else { return };
        let orphans = now.pending.keys().filter(|id| !self.read.entries.contains(id)).count() as u64;
        let pending: usize = self.after.groups.values().map(|group| group.pending.len()).sum();
        // A group may have been deleted and created again while questions about it were open.
        let may_be_unknown = self.is_busy || pending > LOOK_UPS_PER_POLL as usize;
        assert!(values.pending_orphaned.is_some() || may_be_unknown, "{}", context());
        assert_eq!(values.pending_orphaned.map_or(orphans, Count::get), orphans, "{}", context());
        let released = now.pending.values().filter(|held| held.consumer.is_none()).count() as u64;
        if let Some(shown) = values.messages_released.filter(|_| !self.is_busy) {
            assert!(shown.get() <= released, "{shown:?} released: {}", context());
        }
        let shown = match &values.oldest_pending {
            Some(OldestPending::Entry { idle, deliveries, id, consumer, .. }) => {
                Some((idle.map(Duration::from), (*deliveries, *id, consumer.clone())))
            }
            Some(OldestPending::Nothing) => None,
            None if self.is_busy => return,
            None => panic!("the oldest pending entry was not asked for: {}", context()),
        };
        let is_unchanged = self.read.groups.get(&group.name).is_some_and(|read| read.pending == now.pending);
        if !is_unchanged {
            return;
        }
        let truth = now.oldest_pending(self.read.now_ms());
        let truth = truth.map(|(entry, consumer)| {
            let consumer = Some(consumer).filter(|name| !name.as_bytes().is_empty());
            (entry.idle_ms.map(Duration::from_millis), (entry.deliveries, entry.id, consumer))
        });
        // The clock advanced until XPENDING was answered, if it was sent.
        let idle = |entry: &Option<(Option<Duration>, _)>| entry.as_ref().and_then(|(idle, _)| *idle);
        let is_later = idle(&shown).zip(idle(&truth)).is_some_and(|(shown, truth)| shown >= truth);
        let is_same = shown.as_ref().map(|(_, entry)| entry) == truth.as_ref().map(|(_, entry)| entry);
        let is_true = is_same && (is_later || idle(&shown) == idle(&truth));
        assert!(is_true, "{shown:?}, not {truth:?}: {}", context());
    }
}

/// Runs random operations with polls in between. Returns the number of exact lags and of all lags.
fn run(seed: u64, counters: Counters, budget: Budget, is_busy: bool) -> (usize, usize) {
    fastrand::seed(seed);
    let mut model = StreamModel::new(counters);
    model.entry_bytes = [100, 64 * 1024][fastrand::usize(..2)];
    let mut watch = Watcher::new();
    let mut saved = model.clone();
    let (mut exact, mut all) = (0, 0);
    let mut counters_before = BTreeMap::new();
    for _ in 0..300 {
        for _ in 0..fastrand::u32(..6) {
            model.disturb();
            if fastrand::bool() {
                watch.sample(&mut model, is_busy);
            }
        }
        match fastrand::u32(..60) {
            // Long enough for occasional audits.
            3..=8 => model.clock_ms += 200_000,
            0 => watch.epoch += 1,
            1 => saved = model.clone(),
            2 => {
                // Which also starts another connection.
                model.restart_from(&saved);
                watch.epoch += 1;
            }
            _ => {}
        }
        let truth = watch.poll(&mut model, budget, is_busy);
        let checked = truth.check(&watch);
        truth.check_counters(&watch, &mut counters_before);
        (exact, all) = (exact + checked.0, all + checked.1);
    }
    (exact, all)
}

fn run_many(budget: Budget, is_busy: bool) -> f64 {
    let (mut exact, mut all) = (0, 0);
    let runs = if cfg!(debug_assertions) { 220 } else { 3_000 };
    for seed in 0..runs {
        for counters in [Counters::None, Counters::Original, Counters::Fixed] {
            let lags = std::panic::catch_unwind(|| run(seed, counters, budget, is_busy));
            let lags = lags.unwrap_or_else(|_| panic!("seed {seed}, counters {counters:?}, busy {is_busy}"));
            (exact, all) = (exact + lags.0, all + lags.1);
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
    payload_bytes: 1 << 30,
    memory_interval: None,
    timeout: Duration::from_millis(500),
};

#[test]
fn every_lag_is_exact_on_a_stream_that_does_not_change_during_a_poll() {
    assert!(run_many(PLENTY, false) == 1.0, "every lag is exact if the budget suffices");
}

#[test]
fn no_lag_is_wrong_on_a_stream_that_changes_during_a_poll() {
    assert!(run_many(PLENTY, true) > 0.999);
}

#[test]
fn no_lag_is_wrong_when_the_budget_cuts_scans_short() {
    let small = Budget { entries: 3, ..PLENTY };
    assert!(run_many(small, false) > 0.5);
    assert!(run_many(small, true) > 0.5);
}

/// Returns the values of a stream with all ages as of the last reading.
fn as_just_derived(stream: &ReportedStream) -> StreamReport {
    let group = |group: &GroupReport| {
        let consumers = stream.consumers(group).map(|all| all.map(ConsumerView::to_report).collect());
        GroupReport::new(group.name.clone(), stream.view(group).map(GroupView::to_values))
            .with_consumers(consumers)
    };
    StreamReport {
        groups: stream.groups.iter().map(group).collect(),
        read_at: stream.read_at().into(),
        ..(**stream).clone()
    }
}

/// Lets one of some times pass, in milliseconds, and changes something in one of so many polls.
fn change_now_and_then(
    (watch, model, saved): (&mut Watcher, &mut StreamModel, &mut StreamModel),
    times: [u64; 7],
    (polls_per_change, polls_per_trouble): (u32, u32),
) {
    if fastrand::u32(..polls_per_change) == 0 {
        (0..fastrand::u32(1..8)).for_each(|_| model.disturb());
    }
    model.clock_ms += times[fastrand::usize(..times.len())];
    match fastrand::u32(..6 * polls_per_trouble) {
        0 => watch.epoch += 1,
        1 => *saved = model.clone(),
        2 => {
            model.restart_from(saved);
            watch.epoch += 1;
        }
        3 => watch.is_late = true,
        4 => model.clock_ms += 100_000,
        5 => model.clock_ms += 4_000_000,
        _ => watch.is_late = false,
    }
}

/// Returns seeds, each with each kind of counters.
fn seeds(count: u64) -> impl Iterator<Item = (u64, Counters)> {
    (0..count).flat_map(|seed| [Counters::None, Counters::Original, Counters::Fixed].map(|of| (seed, of)))
}

#[test]
fn a_report_that_shares_values_with_the_one_before_is_the_one_that_does_not() {
    let (mut polls, mut shared) = (0, 0);
    let runs = if cfg!(debug_assertions) { 60 } else { 1_000 };
    for (seed, counters) in seeds(runs) {
        fastrand::seed(seed);
        let mut model = StreamModel::new(counters);
        let mut saved = model.clone();
        let (mut sharing, mut deriving) = (Watcher::new(), Watcher::new());
        for _ in 0..150 {
            let times = [0, 1_000, 10_000, 10_000, 10_000, 30_000, 100_000];
            change_now_and_then((&mut sharing, &mut model, &mut saved), times, (12, 13));
            (deriving.epoch, deriving.is_late) = (sharing.epoch, sharing.is_late);
            let (mut same, random, is_busy) = (model.clone(), fastrand::u64(..), fastrand::u32(..8) == 0);
            let before = sharing.report.clone();
            fastrand::seed(random);
            sharing.poll(&mut model, PLENTY, is_busy);
            fastrand::seed(random);
            deriving.poll(&mut same, PLENTY, is_busy);
            let [shown, derived] = [&sharing, &deriving]
                .map(|watch| as_just_derived(&watch.report.as_ref().unwrap().streams[0]));
            let derived = StreamReport { refused: false, ..derived };
            // But for what the ages that are read miss.
            assert!(
                derived.is_unchanged_since(&shown),
                "seed {seed}, {counters:?}:\n{shown:#?}\nnot\n{derived:#?}"
            );
            polls += 1;
            let stream = &sharing.report.as_ref().unwrap().streams[0];
            shared += u32::from(before.is_some_and(|before| before.streams[0].shares_values_with(stream)));
            deriving.forget_sharing();
        }
    }
    assert!(shared > polls / 3, "{shared} of {polls}");
}

/// Returns a reading in which each age is the time from which it counts.
fn without_ages(info: &StreamInfo) -> StreamInfo {
    let now = u64::try_from(info.time.as_millis()).unwrap();
    let mut info = StreamInfo { time: Duration::ZERO, ..info.clone() };
    for group in &mut info.groups {
        let ConsumersReading::Read(consumers) = &mut group.each_consumer else { continue };
        for consumer in consumers {
            consumer.idle_ms = now - consumer.idle_ms;
            consumer.inactive_ms = consumer.inactive_ms.map(|ms| (now - ms.get()).into());
        }
    }
    info
}

/// Drops what is measured from one of several polls in the last two windows: any of them would do.
fn forget_paces(stream: &mut StreamReport) {
    stream.values.iter_mut().for_each(|values| values.is_unread = false);
    for values in stream.groups.iter_mut().filter_map(|group| group.values.as_mut()) {
        (values.added_rate, values.delivered_rate) = (None, None);
        values.drain_time = None;
        values.seldom.change(|seldom| seldom.time_to_loss = None);
        let conditions = values.status.conditions.iter().filter(|condition| *condition != Status::Lagging);
        values.status.conditions = conditions.collect();
        // It may have been lagging until then.
        values.status.since = values.status.since.filter(|_| !values.status.conditions.is_empty());
    }
}

/// Drops what depends on the times of the polls in the last windows: a census reads a list again now and then that has
/// not changed, and seldom polls give too few lags for a trend.
fn forget_times_of_polls(stream: &mut StreamReport) {
    for group in &mut stream.groups {
        let Some(values) = &mut group.values else { continue };
        values.pending_census = None;
        if values.status.coverage == (HistoryCoverage::Partial { remaining: None }) {
            values.status.coverage = HistoryCoverage::Complete;
        }
    }
}

#[test]
fn a_stream_that_is_not_derived_while_it_repeats_itself_shows_what_a_derivation_would() {
    let (mut polls, mut repeated) = (0, 0);
    let runs = if cfg!(debug_assertions) { 40 } else { 1_000 };
    for (seed, counters) in seeds(runs) {
        fastrand::seed(seed);
        let mut model = StreamModel::new(counters);
        let mut saved = model.clone();
        let (mut resting, mut deriving) = (Watcher::new(), Watcher::new());
        for poll in 0..400 {
            let times = [5_000, 5_000, 10_000, 10_000, 10_000, 30_000, 30_000];
            change_now_and_then((&mut resting, &mut model, &mut saved), times, (60, 50));
            (deriving.epoch, deriving.is_late) = (resting.epoch, resting.is_late);
            let random = fastrand::u64(..);
            fastrand::seed(random);
            deriving.poll(&mut model, PLENTY, false);
            polls += 1;
            let is_repeated = resting.repeat(&model);
            if is_repeated {
                repeated += 1;
            } else {
                fastrand::seed(random);
                resting.poll(&mut model, PLENTY, false);
            }
            // A derivation may ask again what it has asked long ago, and keeps the last values while that is not answered.
            if deriving.is_late {
                continue;
            }
            let [mut shown, mut derived] = [&resting, &deriving]
                .map(|watch| as_just_derived(&watch.report.as_ref().unwrap().streams[0]));
            for stream in [&mut shown, &mut derived] {
                forget_times_of_polls(stream);
                if !is_repeated {
                    forget_paces(stream);
                }
            }
            assert!(
                derived.is_unchanged_since(&shown),
                "seed {seed}, {counters:?}, poll {poll}, repeated {is_repeated}:\n{shown:#?}\nnot\n{derived:#?}"
            );
        }
    }
    assert!(repeated > polls / 8, "{repeated} of {polls}");
}

/// Polls a stream with groups at many positions, in which an entry has moved over the position of one of them without a
/// trace. Returns the number of polls until every lag is right.
fn polls_until_audited(repeats: bool, moved_over: usize) -> usize {
    let budget = Budget { audit_entries: 100_000, ..PLENTY };
    let (mut model, mut watch) = (StreamModel::new(Counters::Fixed), Watcher::new());
    (0..400).for_each(|_| model.add());
    for n in 0..20 {
        let name = Name::from(format!("g{n:02}").as_str());
        model.groups.insert(name.clone(), ModelGroup::default());
        model.read(&name, 20 * n + 10, true);
        model.groups.values_mut().for_each(|group| group.consumers.clear());
    }
    let mut poll = |model: &mut StreamModel| {
        model.clock_ms += 10_000;
        if !(repeats && watch.repeat(model)) {
            watch.poll(model, budget, false);
        }
        let report = watch.report.as_ref().unwrap();
        report.streams[0]
            .groups
            .iter()
            .all(|group| group.values.as_ref().unwrap().lag == Lag::Exact(model.lag(&group.name)))
    };
    assert!((0..90).all(|_| poll(&mut model)));
    // As if another stream had been renamed to this key.
    let ids: Vec<_> = model.entries.iter().copied().collect();
    let position = 20 * moved_over + 10;
    model.entries.remove(&ids[position + 5]);
    model.entries.insert(StreamId::new(ids[position - 5].ms, ids[position - 5].seq + 1));
    let right: Vec<_> = (0..300).map(|_| poll(&mut model)).collect();
    assert!(right[299] && !right[0]);
    right.iter().rposition(|is_right| !is_right).unwrap()
}

#[test]
fn an_audit_goes_on_while_a_stream_repeats_itself() {
    let worst = |repeats| (1..20).step_by(3).map(|group| polls_until_audited(repeats, group)).max().unwrap();
    let (repeating, deriving) = (worst(true), worst(false));
    let polls_per_window = 12;
    assert!(
        repeating <= deriving + 2 * polls_per_window,
        "{repeating} polls, and {deriving} if each derives"
    );
}
